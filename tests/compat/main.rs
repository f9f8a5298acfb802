//! Files of inetd and xinetd: how they are read, translated and served.

#[path = "../support/mod.rs"]
mod support;

mod corpus_inetd;
mod corpus_xinetd;
mod import;
mod inetd_conf;
mod inetd_scenarios;
mod xinetd_conf;
