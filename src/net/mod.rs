//! The network as the program speaks of it: peers and the sources that they are accounted under, endpoints, and the files
//! of Unix sockets.

pub mod endpoint;
pub mod socket_file;
mod source;

pub use endpoint::{Endpoint, Transport};
pub use source::*;
