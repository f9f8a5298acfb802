//! What goes over the control socket: requests, answers and the status, as the daemon writes and oxinetctl reads them.
//!
//! A leaf: both programs use it, and it uses nothing of either.

mod path;
mod protocol;
mod status;

pub(crate) use path::{default_socket_path, system_socket_path};
pub use protocol::*;
pub use status::*;
