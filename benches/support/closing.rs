//! The loop that refusals are measured against: nothing but accept and close. Runs in a process of its own, until it is
//! killed.

use std::ffi::CStr;
use std::io::Result;
use std::net::TcpListener;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Resets each connection, as a refusal does.
pub(crate) fn serve(listener: TcpListener, _handler: &CStr) -> Result<()> {
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        // One that is gone already needs no reset.
        let _ = setsockopt(&stream, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    }
}
