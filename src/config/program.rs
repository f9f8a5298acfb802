//! Looks for programs when the table is loaded, so that a misspelt path is an error with a line number and not
//! a failure at the first connection.
//!
//! [`super::machine::Local`] asks it. A path is looked up as the handler will see it: inside `chroot`, symbolic
//! links included (openat2(2), `RESOLVE_IN_ROOT`). Nothing is read or run.

use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, fstat};

/// Why `path` cannot be run inside `root`; `None` if it can, as far as one can see beforehand.
pub(crate) fn program_fault(root: Option<&str>, path: &str) -> Option<String> {
    let inside = root.map_or_else(String::new, |root| format!(" inside {root}"));
    let mode = match file_mode(root, path) {
        Ok(mode) => mode,
        Err(Errno::ENOENT) => return Some(format!("there is no program {path}{inside}")),
        Err(errno) => return Some(format!("cannot run {path}{inside}: {}", errno.desc())),
    };
    match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
        SFlag::S_IFREG if mode & 0o111 == 0 => Some(format!("{path}{inside} is not executable; see chmod(1)")),
        SFlag::S_IFREG => None,
        SFlag::S_IFDIR => Some(format!("{path}{inside} is a directory, not a program")),
        _ => Some(format!("{path}{inside} is not a regular file, and so no program")),
    }
}

/// Why handlers cannot start in the directory `path` inside `root`.
pub(crate) fn directory_fault(root: Option<&str>, path: &str) -> Option<String> {
    let inside = root.map_or_else(String::new, |root| format!(" inside {root}"));
    match file_mode(root, path) {
        Ok(mode) if SFlag::from_bits_truncate(mode) & SFlag::S_IFMT == SFlag::S_IFDIR => None,
        Ok(_) => Some(format!("{path}{inside} is not a directory")),
        Err(errno) => Some(format!("cannot use the directory {path}{inside}: {}", errno.desc())),
    }
}

fn file_mode(root: Option<&str>, path: &str) -> nix::Result<u32> {
    let fd = match root {
        None => open_path(path)?,
        Some(root) => open_inside(&open_path(root)?, root, path)?,
    };
    fstat(fd).map(|stat| stat.st_mode)
}

fn open_path(path: &str) -> nix::Result<OwnedFd> {
    open(Path::new(path), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
}

fn open_inside(root: &OwnedFd, name: &str, path: &str) -> nix::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    match openat2(root, path, how) {
        // Some containers know no openat2; this differs only where a symbolic link starts at the root.
        Err(Errno::ENOSYS | Errno::EPERM) => open_path(&format!("{name}{path}")),
        result => result,
    }
}

/// The last component of a path, which inetd gives a program as its name.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_an_executable_regular_file() {
        assert_eq!(program_fault(None, "/bin/cat"), None);
        assert_eq!(program_fault(None, "/no/such/file").unwrap(), "there is no program /no/such/file");
        assert_eq!(program_fault(None, "/etc").unwrap(), "/etc is a directory, not a program");
        assert_eq!(program_fault(None, "/etc/passwd").unwrap(), "/etc/passwd is not executable; see chmod(1)");
        assert_eq!(program_fault(None, "/dev/null").unwrap(), "/dev/null is not a regular file, and so no program");
        assert_eq!(program_fault(None, "/etc/passwd/x").unwrap(), "cannot run /etc/passwd/x: Not a directory");
    }

    #[test]
    fn inside_a_root_links_start_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().to_str().unwrap();
        std::fs::copy("/bin/cat", root.path().join("real")).unwrap();
        symlink("/real", root.path().join("link")).unwrap();
        symlink("/bin/cat", root.path().join("outside")).unwrap();
        assert_eq!(program_fault(Some(path), "/link"), None);
        assert_eq!(
            program_fault(Some(path), "/outside").unwrap(),
            format!("there is no program /outside inside {path}")
        );
        assert_eq!(directory_fault(Some(path), "/"), None);
        assert_eq!(directory_fault(Some(path), "/real").unwrap(), format!("/real inside {path} is not a directory"));
    }
}
