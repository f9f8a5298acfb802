//! The file that holds the daemon's process id (`--pid-file`), locked for as long as the daemon lives.
//!
//! The server writes it once, before it reports that it is ready, and dropping it removes the file. It never overwrites a
//! file that is not this user's own. It fails if another daemon has locked the file, which is the case while that one lives.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;

use crate::sys::descriptor;

/// The locked file of this daemon.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    /// Keeps the file locked until it is dropped.
    _lock: Flock<File>,
}

impl PidFile {
    /// Writes this process's id into `path`, which is made if it does not exist. It follows no symbolic link. It leaves a
    /// file of another user alone, because that user could write any process id into it later, and a file with a hard link.
    ///
    /// # Errors
    /// The file can't be written, another daemon holds it (`EWOULDBLOCK`), or it is not ours.
    pub(super) fn write(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = File::from(descriptor::move_high(options.open(path)?.into())?);
        let found = file.metadata()?;
        if found.uid() != geteuid().as_raw() || found.nlink() != 1 || !found.is_file() {
            let message = "the file belongs to another user, has a hard link, or is not a regular file; remove it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| lock_error(errno))?;
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

fn lock_error(errno: Errno) -> io::Error {
    match errno {
        Errno::EWOULDBLOCK => {
            io::Error::new(io::ErrorKind::WouldBlock, "another oxinetd is running and has locked this file")
        }
        errno => errno.into(),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn write_leaves_a_linked_or_foreign_file_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (other, path) = (folder.path().join("other"), folder.path().join("pid"));
        fs::write(&other, "precious").unwrap();
        fs::hard_link(&other, &path).unwrap();
        assert_eq!(PidFile::write(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
        fs::remove_file(&other).unwrap();
        if geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1), None).unwrap();
            assert_eq!(PidFile::write(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            std::os::unix::fs::chown(&path, Some(0), None).unwrap();
        }
        drop(PidFile::write(&path).unwrap());
        assert!(!path.exists());
    }
}
