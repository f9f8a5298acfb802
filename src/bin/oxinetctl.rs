//! oxinetctl: arguments → one subcommand → exit status. All of it is in [`oxinetd::ctl`].

#![deny(unsafe_code)]
#![warn(clippy::unwrap_used)]

use std::process::ExitCode;

fn main() -> ExitCode {
    oxinetd::ctl::main()
}
