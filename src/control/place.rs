//! Where the control socket is: opened, moved by a reload, given to its group.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::socket::{Backlog, SockType, listen};
use nix::unistd::{AccessFlags, access, geteuid};

use serde::{Deserialize, Serialize};

use super::{Control, FIRST};
use crate::config::{self, ControlPlace};
use crate::net::socket_file::SocketFile;
use crate::sys::descriptor::{self, Inheritable};
use crate::sys::poll::Poll;
use crate::sys::socket;

/// Where the system keeps what lives as long as a daemon (hier(7)).
const SYSTEM: &str = "/run/oxinetd";

/// The file in it, and in the directory of an ordinary user.
const NAME: &str = "control.sock";

/// The open socket. An upgrade hands it over as it is; `D` and `F` are plain values where it is only to be looked at.
#[derive(Debug, Serialize, Deserialize)]
pub struct Open<D = Inheritable, F = SocketFile> {
    pub(super) socket: D,
    pub(super) group: Option<u32>,
    pub(super) file: F,
}

/// What a table makes of the control socket; dropped, nothing has changed.
#[derive(Debug)]
pub struct Prepared {
    change: Change,
    group: Option<u32>,
    /// Why there is none, where there might be.
    pub warning: Option<String>,
}

#[derive(Debug)]
enum Change {
    Keep,
    Replace(Option<Open>),
}

/// Where the control socket of this user's daemon is, unless its table says otherwise: in /run/oxinetd if he can write
/// there, else in `$XDG_RUNTIME_DIR/oxinetd`. `None` if he has neither.
#[must_use]
pub fn default_place() -> Option<PathBuf> {
    let root = geteuid().is_root();
    let writable = |path: &Path| access(path, AccessFlags::W_OK).is_ok();
    if root || writable(Path::new(SYSTEM)) {
        return Some(Path::new(SYSTEM).join(NAME));
    }
    let own = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    let is_his = own.is_absolute() && fs::metadata(&own).is_ok_and(|found| found.uid() == geteuid().as_raw());
    is_his.then(|| own.join("oxinetd").join(NAME))
}

impl Control {
    /// Opens the socket that `wanted` names, if it is not open already. Changes nothing yet.
    ///
    /// # Errors
    /// A socket that the table names can't be opened: what is wrong, and the reason. Where the default can't be had
    /// there is none, and a warning.
    pub fn prepare(&self, wanted: &config::Control) -> Result<Prepared, (String, Errno)> {
        let group = wanted.group;
        let (path, must) = match &wanted.place {
            ControlPlace::None => (None, false),
            ControlPlace::At(path) => (Some(path.clone()), true),
            ControlPlace::Default => (default_place(), false),
        };
        let Some(path) = path else {
            let none = "no control socket: this user can't write to /run/oxinetd and has no XDG_RUNTIME_DIR; \
                        daemon.control names a place for it, or none";
            let warning = (wanted.place == ControlPlace::Default).then(|| none.to_owned());
            return Ok(Prepared { change: Change::Replace(None), group, warning });
        };
        if self.open.as_ref().is_some_and(|open| open.file.path() == path && open.file.is_there()) {
            return Ok(Prepared { change: Change::Keep, group, warning: None });
        }
        match open(&path, group) {
            Ok(open) => Ok(Prepared { change: Change::Replace(Some(open)), group, warning: None }),
            Err(errno) => {
                let message = format!("daemon.control: {}: {}", path.display(), explain(errno));
                if must { Err((message, errno)) } else { Ok(without(group, &message)) }
            }
        }
    }

    /// What leaves everything as it is.
    #[must_use]
    pub fn as_it_is(&self) -> Prepared {
        Prepared { change: Change::Keep, group: self.open.as_ref().and_then(|open| open.group), warning: None }
    }

    /// Puts it in force. Clients keep their connections. Gives a warning if the group can't be changed.
    pub fn commit(&mut self, poll: &Poll, prepared: Prepared) -> Option<String> {
        match prepared.change {
            Change::Keep => self.change_group(prepared.group),
            Change::Replace(open) => {
                if let Some(old) = self.open.take() {
                    let _ = poll.remove(&old.socket);
                }
                self.paused = None;
                let watched = open.as_ref().map_or(Ok(()), |open| poll.add(&open.socket, FIRST));
                self.open = open;
                watched.err().map(|error| format!("daemon.control: {error}"))
            }
        }
    }

    fn change_group(&mut self, group: Option<u32>) -> Option<String> {
        let open = self.open.as_mut().filter(|open| open.group != group)?;
        match give(&open.file, group) {
            Ok(()) => open.group = group,
            Err(errno) => return Some(format!("daemon.control.group: {}", errno.desc())),
        }
        None
    }

    /// Closes the socket, and removes its file. Clients get the answers that they wait for.
    pub fn close(&mut self, poll: &Poll) {
        if let Some(old) = self.open.take() {
            let _ = poll.remove(&old.socket);
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.open.as_ref().map(|open| open.file.path())
    }
}

fn without(group: Option<u32>, message: &str) -> Prepared {
    let warning = Some(format!("{message}; there is no control socket"));
    Prepared { change: Change::Replace(None), group, warning }
}

fn open(path: &Path, group: Option<u32>) -> nix::Result<Open> {
    if let Some(folder) = path.parent() {
        // If it is there, or can't be made, the next step has more to say.
        let _ = DirBuilder::new().mode(0o755).create(folder);
    }
    let socket = socket::create(libc::AF_UNIX, libc::SOCK_STREAM, 0).and_then(descriptor::move_high).map_err(errno)?;
    let file = SocketFile::bind(&socket, SockType::Stream, path, 0o600)?;
    if group.is_some() {
        give(&file, group)?;
    }
    listen(&socket, Backlog::new(128).unwrap_or(Backlog::MAXCONN))?;
    Ok(Open { socket: Inheritable(socket), group, file })
}

/// Lets the members of a group in, or keeps all but the owner out.
fn give(file: &SocketFile, group: Option<u32>) -> nix::Result<()> {
    match group {
        // The group first: the file's old one is not to get in for a moment.
        Some(_) => file.change_owner(None, group).and_then(|()| file.change_mode(0o660)),
        None => file.change_mode(0o600),
    }
}

fn explain(errno: Errno) -> String {
    let hint = match errno {
        Errno::EADDRINUSE => "another daemon listens there, or it is no socket",
        Errno::ENOENT => "the directory does not exist",
        Errno::EPERM => "only root or a member may give it to a group",
        _ => return errno.desc().to_owned(),
    };
    format!("{} ({hint})", errno.desc())
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
