//! The files of Unix sockets: made with the right mode, recognised again later, and removed at the end.
//!
//! The listeners and the control socket bind with this. It first removes the file of a socket on which no process listens
//! any more. It never removes anything else; then the path is in use, which is an error. Errors are those of the system.
//!
//! The directory may belong to another user, who can replace the file at any moment. So this module changes or removes only
//! a socket in the directory that it has opened, and only after a check that it is the right one.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::socket::{self as net, SockType, UnixAddr};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, umask};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, unlinkat};
use serde::{Deserialize, Serialize};

use crate::sys::{errno_of, socket};

/// The path and inode of a socket file. A plain value: dropping it does nothing to the file.
#[derive(Debug, Serialize, Deserialize)]
pub struct FileIdentity {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// The file of a socket that this process has bound. Dropping it removes the file, if it is still ours, because no client
/// can connect to a closed socket. An upgrade hands it over as its [`FileIdentity`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SocketFile(FileIdentity);

impl SocketFile {
    /// Binds `socket`, of type `kind`, to `path`. The file has its mode from the start, so no other user can connect before
    /// it is set.
    ///
    /// # Errors
    /// `EADDRINUSE` if a process listens there or the file is no socket; those of bind(2).
    pub fn bind(socket: &OwnedFd, kind: SockType, path: &Path, mode: u32) -> nix::Result<Self> {
        let address = UnixAddr::new(path)?;
        let entry = DirectoryEntry::open_parent(path)?;
        entry.remove_stale(kind)?;
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let bound = net::bind(socket.as_raw_fd(), &address);
        umask(before);
        bound?;
        // If the path leads to another directory by now, this one has no such file, or the file is not ours.
        let (_, found) = entry.open_socket_file()?;
        Ok(Self(FileIdentity { path: path.to_owned(), device: found.st_dev, inode: found.st_ino }))
    }

    /// The path that the socket was bound to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Is the file still at its path?
    #[must_use]
    pub fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.0.path).is_ok_and(|now| (now.dev(), now.ino()) == (self.0.device, self.0.inode))
    }

    /// Gives the file to another user, another group, or both.
    ///
    /// # Errors
    /// `ESTALE` if another file is at the path by now; those of chown(2).
    pub fn change_owner(&self, user: Option<u32>, group: Option<u32>) -> nix::Result<()> {
        let file = self.open_own_file()?;
        fchownat(&file, c"", user.map(Uid::from_raw), group.map(Gid::from_raw), AtFlags::AT_EMPTY_PATH)
    }

    /// Changes the file's mode.
    ///
    /// # Errors
    /// `ESTALE` if another file is at the path by now; those of chmod(2).
    pub fn change_mode(&self, mode: u32) -> nix::Result<()> {
        let file = self.open_own_file()?;
        // fchmod(2) does not take an O_PATH descriptor.
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(|error| errno_of(&error))
    }

    /// Opens the file and checks that it is ours. A change through this descriptor reaches the file that was checked, also
    /// if another user replaces the path a moment later.
    fn open_own_file(&self) -> nix::Result<OwnedFd> {
        let (file, found) = DirectoryEntry::open_parent(&self.0.path)?.open_socket_file()?;
        if self.is_same_file(&found) { Ok(file) } else { Err(Errno::ESTALE) }
    }

    fn is_same_file(&self, found: &FileStat) -> bool {
        (found.st_dev, found.st_ino) == (self.0.device, self.0.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let Ok(entry) = DirectoryEntry::open_parent(&self.0.path) else { return };
        if entry.read_status().is_ok_and(|found| self.is_same_file(&found)) {
            let _ = entry.remove();
        }
    }
}

/// A name in a directory that is held open. Another user may change where the path leads; this stays in the same directory.
struct DirectoryEntry {
    directory: OwnedFd,
    name: OsString,
}

impl DirectoryEntry {
    fn open_parent(path: &Path) -> nix::Result<Self> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = nix::fcntl::open(parent, flags, Mode::empty())?;
        Ok(Self { directory, name: name.to_owned() })
    }

    /// The status of the file with this name.
    fn read_status(&self) -> nix::Result<FileStat> {
        fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW)
    }

    fn remove(&self) -> nix::Result<()> {
        unlinkat(&self.directory, self.name.as_os_str(), UnlinkatFlags::NoRemoveDir)
    }

    /// Opens the file, which must be that of a socket, and reads its status.
    fn open_socket_file(&self) -> nix::Result<(OwnedFd, FileStat)> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file = openat(&self.directory, self.name.as_os_str(), flags, Mode::empty())?;
        let found = fstat(&file)?;
        if is_socket(&found) { Ok((file, found)) } else { Err(Errno::ENOTSOCK) }
    }

    /// Removes the file of a socket on which no process listens any more.
    fn remove_stale(&self, kind: SockType) -> nix::Result<()> {
        let Ok(found) = self.read_status() else { return Ok(()) };
        if !is_socket(&found) {
            return Err(Errno::EADDRINUSE);
        }
        let here = Path::new("/proc/self/fd").join(self.directory.as_raw_fd().to_string()).join(&self.name);
        let probe = socket::create(libc::AF_UNIX, kind as i32, 0).map_err(|error| errno_of(&error))?;
        match net::connect(probe.as_raw_fd(), &UnixAddr::new(&here)?) {
            Err(Errno::ECONNREFUSED) => self.remove(),
            _ => Err(Errno::EADDRINUSE),
        }
    }
}

fn is_socket(found: &FileStat) -> bool {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFSOCK
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
        assert_eq!(file.change_owner(Some(1), None), Err(Errno::ESTALE));
        drop(file);
        let after = fs::symlink_metadata(&victim).expect("it is still there");
        assert_eq!((after.mode(), after.uid()), (before.mode(), before.uid()));
    }

    #[test]
    fn a_directory_that_was_looked_at_is_the_one_that_is_changed() {
        let (folder, way, victim) = two_directories();
        drop(UnixListener::bind(folder.path().join("ours/socket")).unwrap());
        let place = DirectoryEntry::open_parent(&way.join("socket")).unwrap();
        lead_elsewhere(&way);
        let (_, found) = place.open_socket_file().unwrap();
        assert_ne!(found.st_ino, fs::symlink_metadata(&victim).unwrap().ino());
        place.remove_stale(SockType::Stream).unwrap();
        assert!(victim.exists() && !folder.path().join("ours/socket").exists());
    }

    #[test]
    fn bind_leaves_a_live_socket_and_other_files_alone() {
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
