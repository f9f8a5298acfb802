//! What goes over the control socket: requests, answers and the status, as the daemon writes and oxinetctl reads them.
//!
//! A leaf: both programs use it, and it uses nothing of either.

mod protocol;
mod status;

pub use protocol::*;
pub use status::*;
