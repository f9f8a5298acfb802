//! The file that holds the daemon's process id (`--pid-file`), locked for as long as the daemon lives.
//!
//! The daemon makes it once, when it is ready, and removes it at its end. A second daemon with the same file is told so.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::sys::descriptor;

/// The file, while the daemon lives.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    /// Unlocked when it is dropped.
    _lock: Flock<File>,
}

impl PidFile {
    /// Writes this process's id into `path`, which is made if it does not exist. Follows no symbolic link.
    ///
    /// # Errors
    /// The file can't be written, or another daemon holds it (`EWOULDBLOCK`).
    pub fn write(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.write(true).create(true).truncate(false).mode(0o644).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
        let file = File::from(descriptor::high(options.open(path)?.into())?);
        let mut lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| held(errno))?;
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }
}

fn held(errno: Errno) -> io::Error {
    match errno {
        Errno::EWOULDBLOCK => io::Error::new(io::ErrorKind::WouldBlock, "another oxinetd runs and holds this file"),
        errno => errno.into(),
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}
