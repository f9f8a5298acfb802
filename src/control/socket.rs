//! Opens the file of the control socket, and sets its group.
//!
//! Only [`super::ControlServer`] calls this. Preparing changes nothing; an error from opening a socket that the
//! table names is returned, and a missing default place is only a warning.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockType, listen};

use serde::{Deserialize, Serialize};

use crate::api::default_socket_path;
use crate::config::{self, ControlPlace};
use crate::net::socket_file::SocketFile;
use crate::sys::descriptor::{self, Inheritable};
use crate::sys::errno_of;
use crate::sys::socket;

/// The open socket. An upgrade hands it over as it is; `D` and `F` are plain values if the state is only checked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OpenSocket<D = Inheritable, F = SocketFile> {
    pub(super) socket: D,
    pub(super) group: Option<u32>,
    pub(super) file: F,
}

/// The change that a new table makes to the control socket. If it is dropped, nothing has changed.
#[derive(Debug)]
pub(crate) struct PreparedSocket {
    pub(super) change: SocketChange,
    pub(super) group: Option<u32>,
    /// Why there is no control socket although the table asks for one.
    pub warning: Option<String>,
}

#[derive(Debug)]
pub(super) enum SocketChange {
    Keep,
    Replace(Option<OpenSocket>),
}

impl PreparedSocket {
    /// Opens the socket that `wanted` names, unless it is `current`.
    ///
    /// # Errors
    /// A socket that the table names cannot be opened: a message, and the cause. If the default socket cannot be
    /// opened, there is a warning and no socket.
    pub(super) fn new(current: Option<&OpenSocket>, wanted: &config::Control) -> Result<Self, (String, Errno)> {
        let group = wanted.group;
        let (path, must) = match &wanted.place {
            ControlPlace::None => (None, false),
            ControlPlace::At(path) => (Some(path.clone()), true),
            ControlPlace::Default => (default_socket_path(), false),
        };
        let Some(path) = path else {
            let none = "no control socket: this user can't write to /run/oxinetd and has no XDG_RUNTIME_DIR; \
                        daemon.control names a place for it, or none";
            let warning = (wanted.place == ControlPlace::Default).then(|| none.to_owned());
            return Ok(Self { change: SocketChange::Replace(None), group, warning });
        };
        if current.is_some_and(|open| open.file.path() == path && open.file.is_there()) {
            return Ok(Self { change: SocketChange::Keep, group, warning: None });
        }
        match open_socket(&path, group) {
            Ok(open) => Ok(Self { change: SocketChange::Replace(Some(open)), group, warning: None }),
            Err(errno) => {
                let message = format!("daemon.control: {}: {}", path.display(), explain_error(errno));
                if must { Err((message, errno)) } else { Ok(no_socket(group, &message)) }
            }
        }
    }

    /// A change that leaves the `current` socket as it is.
    pub(super) fn keep(current: Option<&OpenSocket>) -> Self {
        Self { change: SocketChange::Keep, group: current.and_then(|open| open.group), warning: None }
    }
}

impl OpenSocket {
    /// Gives the socket to another group, or to its owner alone. Returns a warning if that fails.
    pub(super) fn change_group(&mut self, group: Option<u32>) -> Option<String> {
        if self.group != group {
            if let Err(errno) = set_group(&self.file, group) {
                return Some(format!("daemon.control.group: {}", errno.desc()));
            }
            self.group = group;
        }
        None
    }
}

fn no_socket(group: Option<u32>, message: &str) -> PreparedSocket {
    let warning = Some(format!("{message}; there is no control socket"));
    PreparedSocket { change: SocketChange::Replace(None), group, warning }
}

fn open_socket(path: &Path, group: Option<u32>) -> nix::Result<OpenSocket> {
    if let Some(folder) = path.parent() {
        // If the directory exists or cannot be made, the next step reports a better error.
        let _ = DirBuilder::new().mode(0o755).create(folder);
    }
    let socket = socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0)
        .and_then(descriptor::move_high)
        .map_err(|error| errno_of(&error))?;
    let file = SocketFile::bind(&socket, SockType::Stream, path, 0o600)?;
    if group.is_some() {
        set_group(&file, group)?;
    }
    listen(&socket, Backlog::new(128).unwrap_or(Backlog::MAXCONN))?;
    Ok(OpenSocket { socket: Inheritable(socket), group, file })
}

/// Opens the socket's file to the members of a group, or to its owner alone.
fn set_group(file: &SocketFile, group: Option<u32>) -> nix::Result<()> {
    match group {
        // The group first, so that the file's old group has no access for a moment.
        Some(_) => file.change_owner(None, group).and_then(|()| file.change_mode(0o660)),
        None => file.change_mode(0o600),
    }
}

fn explain_error(errno: Errno) -> String {
    let hint = match errno {
        Errno::EADDRINUSE => "another daemon listens there, or it is no socket",
        Errno::ENOENT => "the directory does not exist",
        Errno::EPERM => "only root or a member may give it to a group",
        _ => return errno.desc().to_owned(),
    };
    format!("{} ({hint})", errno.desc())
}
