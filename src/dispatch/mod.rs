//! The way of a connection: listeners, acceptor, spawner, reaper.

pub mod acceptor;
pub mod listeners;
pub mod packet_filter;
pub mod reaper;
pub mod spawner;
