//! The interface of the control socket: its default path, and the requests, answers and status that go over it.
//!
//! Both programs use it: the daemon writes what oxinetctl reads. It uses no other room, and opens nothing; a line
//! that cannot be read is an error.

mod path;
mod protocol;
mod status;

pub(crate) use path::{default_socket_path, system_socket_path};
pub(crate) use protocol::*;
pub(crate) use status::*;
