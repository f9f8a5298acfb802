//! The files of Unix sockets: made with the right mode, told from what others put in their place, removed at the end.
//!
//! The listeners and the control socket bind by this. A file that nobody listens on any more is taken away first;
//! whatever else stands at the path is left there, and is in the way. Errors are those of the system.
//!
//! The directory may be somebody else's, who can put what he likes at the path, at any moment. So nothing is changed or
//! removed but a socket in the directory that was opened, once it is known for the right one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::{self as net, SockType, UnixAddr};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, umask};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::sys::socket;

/// Which file it is. A plain value: nothing becomes of the file when this is dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// The file of a socket that this process has bound. Nobody can connect to a socket that is gone: when this is dropped
/// the file goes too, if it is still ours. An upgrade hands it over as its [`FileIdentity`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SocketFile(FileIdentity);

impl SocketFile {
    /// Binds `socket`, of type `kind`, to `path`. The file has its mode from the start, in place of being mended after
    /// others could connect.
    ///
    /// # Errors
    /// `EADDRINUSE` if somebody listens there or it is no socket; those of bind(2).
    pub fn bind(socket: &OwnedFd, kind: SockType, path: &Path, mode: u32) -> nix::Result<Self> {
        let address = UnixAddr::new(path)?;
        let folder = Folder::of(path)?;
        folder.remove_stale(kind)?;
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let bound = net::bind(socket.as_raw_fd(), &address);
        umask(before);
        bound?;
        // If the path has come to lead elsewhere there is no such file here, or it is not ours to give away.
        let (_, found) = folder.open()?;
        Ok(Self(FileIdentity { path: path.to_owned(), device: found.st_dev, inode: found.st_ino }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Is the file still where it was made?
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.0.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.0.device, self.0.inode))
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
        let (file, found) = Folder::of(&self.0.path)?.open()?;
        if self.is(&found) { Ok(file) } else { Err(Errno::ESTALE) }
    }

    fn is(&self, found: &FileStat) -> bool {
        (found.st_dev, found.st_ino) == (self.0.device, self.0.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Ok(folder) = Folder::of(&self.0.path) else { return };
        if folder.look().is_ok_and(|found| self.is(&found)) {
            let _ = folder.remove();
        }
    }
}

/// A name in a directory that is held open: where others may write to a directory above it, the path can lead elsewhere
/// a moment later, but this can't.
struct Folder {
    directory: OwnedFd,
    name: OsString,
}

impl Folder {
    fn of(path: &Path) -> nix::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(parent, flags, Mode::empty())?;
        Ok(Self { directory, name: name.to_owned() })
    }

    /// What has the name.
    fn look(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// The file of a socket, and what it is.
    fn open(&self) -> nix::Result<(OwnedFd, FileStat)> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())?;
        let found = fstat(&file)?;
        if is_socket(&found) { Ok((file, found)) } else { Err(Errno::ENOTSOCK) }
    }

    /// Removes the file of a socket that nobody listens on any more.
    fn remove_stale(&self, kind: SockType) -> nix::Result<()> {
        let Ok(found) = self.look() else { return Ok(()) };
        if !is_socket(&found) {
            return Err(Errno::EADDRINUSE);
        }
        let here = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name);
        let probe = socket::create(libc::AF_UNIX, kind as i32, 0).map_err(errno)?;
        match net::connect(probe.as_raw_fd(), &UnixAddr::new(&here)?) {
            Err(Errno::ECONNREFUSED) => self.remove(),
            _ => Err(Errno::EADDRINUSE),
        }
    }
}

fn is_socket(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    fn unbound() -> OwnedFd {
        socket::create(libc::AF_UNIX, SockType::Stream as i32, 0).unwrap()
    }

    /// Two directories, `ours` and `theirs`, with a dead socket in the second, and a path to the first.
    fn two_directories() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ours", "theirs"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let (way, victim) = (folder.path().join("way"), folder.path().join("theirs/socket"));
        drop(UnixListener::bind(&victim).unwrap());
        symlink("ours", &way).unwrap();
        (folder, way, victim)
    }

    fn lead_elsewhere(way: &Path) {
        fs::remove_file(way).unwrap();
        symlink("theirs", way).unwrap();
    }

    #[test]
    fn a_path_that_comes_to_lead_elsewhere_does_no_harm_there() {
        let (_folder, way, victim) = two_directories();
        let socket = unbound();
        let file = SocketFile::bind(&socket, SockType::Stream, &way.join("socket"), 0o600).unwrap();
        let before = fs::symlink_metadata(&victim).unwrap();
        lead_elsewhere(&way);
        assert!(!file.is_there());
        assert_eq!(file.change_mode(0o666), Err(Errno::ESTALE));
        assert_eq!(file.give(Some(1), None), Err(Errno::ESTALE));
        drop(file);
        let after = fs::symlink_metadata(&victim).expect("it is still there");
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    }

    #[test]
    fn a_directory_that_was_looked_at_is_the_one_that_is_changed() {
        let (folder, way, victim) = two_directories();
        drop(UnixListener::bind(folder.path().join("ours/socket")).unwrap());
        let place = Folder::of(&way.join("socket")).unwrap();
        lead_elsewhere(&way);
        let (_, found) = place.open().unwrap();
        assert_ne!(found.st_ino, fs::symlink_metadata(&victim).unwrap().ino());
        place.remove_stale(SockType::Stream).unwrap();
        assert!(victim.exists() && !folder.path().join("ours/socket").exists());
    }

    #[test]
    fn who_listens_is_left_alone_and_so_is_what_is_no_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let bind = || SocketFile::bind(&unbound(), SockType::Stream, &path, 0o600).map(drop);
        assert_eq!(bind(), Err(Errno::EADDRINUSE));
        drop(listener);
        assert_eq!(bind(), Ok(()));
        fs::write(&path, "").unwrap();
        assert_eq!(bind(), Err(Errno::EADDRINUSE));
        assert!(path.exists());
    }
}
