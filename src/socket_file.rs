//! The files of Unix sockets: made with the right mode, told from what others put in their place, removed at the end.
//!
//! The listeners and the control socket bind by this. A file that nobody listens on any more is taken away first;
//! whatever else stands at the path is left there, and is in the way. Errors are those of the system.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::socket::{self as net, SockType, UnixAddr};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, fchownat};
use serde::{Deserialize, Serialize};

use crate::sys::socket;

/// The file of a socket that this process has bound. Nobody can connect to a socket that is gone: when this is dropped
/// the file goes too, if it is still ours.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// The same, as an upgrade hands it to the next program: nothing becomes of the file when this is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct Carried {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// For the program that goes on with the socket.
    #[must_use]
    pub fn carry(&self) -> Carried {
        Carried { path: self.path.clone(), device: self.device, inode: self.inode }
    }

    /// That of the program before this one.
    #[must_use]
    pub fn from_carried(Carried { path, device, inode }: Carried) -> Self {
        Self { path, device, inode }
    }

    /// Binds `socket`, of type `kind`, to `path`. The file has its mode from the start, in place of being mended after
    /// others could connect.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody listens there or it is no socket; those of bind(2).
    pub fn bind(socket: &OwnedFd, kind: SockType, path: &Path, mode: u32) -> nix::Result<Self> {
        let address = UnixAddr::new(path)?;
        remove_stale(path, &address, kind)?;
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let bound = net::bind(socket.as_raw_fd(), &address);
        umask(before);
        bound?;
        let (_, device, inode) = open(path)?;
        Ok(Self { path: path.to_owned(), device, inode })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Is the file still where it was made?
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode))
    }

    /// Gives the file to another user, another group, or both.
    ///
    /// # Errors
    /// `ESTALE` if something else stands there by now; those of chown(2).
    pub fn give(&self, user: Option<u32>, group: Option<u32>) -> nix::Result<()> {
        let file = self.file()?;
        fchownat(&file, c"", user.map(Uid::from_raw), group.map(Gid::from_raw), AtFlags::AT_EMPTY_PATH)
    }

    /// Changes the file's mode.
    ///
    /// # Errors
    /// `ESTALE` if something else stands there by now; those of chmod(2).
    pub fn change_mode(&self, mode: u32) -> nix::Result<()> {
        let file = self.file()?;
        // fchmod(2) does not take an O_PATH descriptor.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(errno)
    }

    /// By this descriptor one changes what one has looked at: where others may write to the directory, the path can be
    /// something else a moment later.
    fn file(&self) -> nix::Result<OwnedFd> {
        let (file, device, inode) = open(&self.path)?;
        if (device, inode) == (self.device, self.inode) { Ok(file) } else { Err(Errno::ESTALE) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the file of a socket that nobody listens on any more.
fn remove_stale(path: &Path, address: &UnixAddr, kind: SockType) -> nix::Result<()> {
    let Ok(file) = fs::symlink_metadata(path) else { return Ok(()) };
    if !file.file_type().is_socket() {
        return Err(Errno::EADDRINUSE);
    }
    let probe = socket::create(libc::AF_UNIX, kind as i32, 0).map_err(errno)?;
    match net::connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => fs::remove_file(path).map_err(errno),
        _ => Err(Errno::EADDRINUSE),
    }
}

/// The file of a socket, with its device and inode.
fn open(path: &Path) -> nix::Result<(OwnedFd, u64, u64)> {
    let mut options = fs::File::options();
    options.read(true).custom_flags(libc::O_PATH | libc::O_NOFOLLOW);
    let file = options.open(path).map_err(errno)?;
    let found = file.metadata().map_err(errno)?;
    if !found.file_type().is_socket() {
        return Err(Errno::ENOTSOCK);
    }
    Ok((file.into(), found.dev(), found.ino()))
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}
