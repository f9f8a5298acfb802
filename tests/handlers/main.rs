//! What a handler is given and what its client gets: environment, sockets that are lent, banners, lifetimes, logs of
//! services, and the services that need no program.

#[path = "../support/mod.rs"]
mod support;

mod banner;
mod builtin;
mod builtin_udp;
mod connection_variables;
mod handler_environment;
mod lifetime;
mod per_service_log;
mod redirect;
mod tcpmux;
mod unix_socket;
mod wait;
