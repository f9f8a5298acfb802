//! Where the control socket is, unless the table or `--socket` says otherwise: the daemon listens there, and
//! oxinetctl connects to it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, geteuid};

/// The directory for files that live as long as a daemon of the system (hier(7)).
const SYSTEM_DIRECTORY: &str = "/run/oxinetd";

/// The name of the socket, both there and in the directory of an ordinary user.
const SOCKET_NAME: &str = "control.sock";

/// The control socket of the daemon that root runs.
#[must_use]
pub(crate) fn system_socket_path() -> PathBuf {
    Path::new(SYSTEM_DIRECTORY).join(SOCKET_NAME)
}

/// The control socket of this user's daemon: in `/run/oxinetd` if the user can write there, else in
/// `$XDG_RUNTIME_DIR/oxinetd`. `None` if the user has neither.
#[must_use]
pub(crate) fn default_socket_path() -> Option<PathBuf> {
    let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    if geteuid().is_root() || writable(Path::new(SYSTEM_DIRECTORY)) {
        return Some(system_socket_path());
    }
    let own = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let is_owned = own.is_absolute() && fs::metadata(&own).is_ok_and(|found| found.uid() == geteuid().as_raw());
    is_owned.then(|| own.join("oxinetd").join(SOCKET_NAME))
}
