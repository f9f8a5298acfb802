//! Network addresses as the program uses them: peers, the sources under which they are counted, endpoints, and the files of
//! Unix sockets.
//!
//! Every module above `sys` may use these types. Only [`socket_file`] makes system calls, and only it can fail.

pub mod endpoint;
pub mod socket_file;
mod source;

pub use endpoint::{Endpoint, Transport};
pub use source::*;
