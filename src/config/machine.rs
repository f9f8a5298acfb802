//! The machine that a table is for: its accounts, programs, directories and interfaces, and the lists of names
//! in /etc.
//!
//! `load_table` is given the machine that it runs on, [`Local`]. A caller that checks a table for another machine
//! gives a [`Machine`] of its own. Answers may be slow, as a name service may be remote. Errors are messages for
//! the place that named the thing.

use std::collections::HashMap;
use std::ffi::CString;
use std::path::Path;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::unistd::{Gid, Group, Uid, User, getegid, geteuid, getgrouplist, getgroups};

use super::{file, program};

/// A user, as far as a table needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name; the number as text where there is none.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// The primary group, where there is one.
    pub gid: Option<u32>,
}

/// User and groups of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

impl Identity {
    /// That of this process. Miri has no groups to ask for.
    #[must_use]
    pub fn of_process() -> Self {
        let groups = if cfg!(miri) { Vec::new() } else { getgroups().unwrap_or_default() };
        let groups = groups.into_iter().map(Gid::as_raw).collect();
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), groups }
    }

    /// Can it run handlers as other users? Miri's user is not root, and can.
    #[must_use]
    pub fn is_root(&self) -> bool {
        cfg!(miri) || self.uid == 0
    }
}

/// A machine, as far as a table needs to know.
pub trait Machine {
    /// The user of this login name, if there is one.
    ///
    /// # Errors
    ///
    /// The reason why the user database could not be read.
    fn user(&self, name: &str) -> Result<Option<Account>, String>;

    /// The user of this number, if there is one.
    ///
    /// # Errors
    ///
    /// The reason why the user database could not be read.
    fn user_of(&self, uid: u32) -> Result<Option<Account>, String>;

    /// User and groups of the daemon that the table is for.
    fn daemon(&self) -> Identity {
        Identity::of_process()
    }

    /// The number of the group of this name, if there is one.
    ///
    /// # Errors
    ///
    /// The reason why the group database could not be read.
    fn group(&self, name: &str) -> Result<Option<u32>, String>;

    /// The groups that initgroups(3) gives a user.
    fn groups(&self, user: &str, gid: u32) -> Vec<u32>;

    /// Why the program `path` cannot be run inside `root`; `None` if it can.
    fn program_fault(&self, root: Option<&str>, path: &str) -> Option<String>;

    /// Why handlers cannot start in the directory `path` inside `root`; `None` if they can.
    fn directory_fault(&self, root: Option<&str>, path: &str) -> Option<String>;

    /// The number of a network interface, if there is one of this name.
    fn interface(&self, name: &str) -> Option<u32>;

    /// The content of a file: of a list such as /etc/services, or of a banner.
    ///
    /// # Errors
    ///
    /// The reason why it cannot be read.
    fn content(&self, path: &str) -> Result<Vec<u8>, String>;
}

/// A list of names in /etc as text; an empty one if it cannot be read.
pub(crate) fn read_list(machine: &dyn Machine, path: &str) -> String {
    String::from_utf8_lossy(&machine.content(path).unwrap_or_default()).into_owned()
}

/// Reads hosts(5): `ADDRESS NAME…  # comment`. Gives hosts by name in lower case, with the addresses that `parse` reads.
pub(crate) fn parse_hosts<T: PartialEq>(text: &str, parse: impl Fn(&str) -> Option<T>) -> HashMap<String, Vec<T>> {
    let mut hosts: HashMap<String, Vec<T>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(address) = words.next() else { continue };
        for name in words {
            let known = hosts.entry(name.to_ascii_lowercase()).or_default();
            known.extend(parse(address).filter(|address| !known.contains(address)));
        }
    }
    hosts.retain(|_, addresses| !addresses.is_empty());
    hosts
}

/// The machine that this runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Local;

impl Machine for Local {
    fn user(&self, name: &str) -> Result<Option<Account>, String> {
        let user = User::from_name(name).map_err(|errno| look_up_error("user", name, errno))?;
        Ok(user.map(to_account))
    }

    fn user_of(&self, uid: u32) -> Result<Option<Account>, String> {
        let user =
            User::from_uid(Uid::from_raw(uid)).map_err(|errno| look_up_error("user", &uid.to_string(), errno))?;
        Ok(user.map(to_account))
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        let group = Group::from_name(name).map_err(|errno| look_up_error("group", name, errno))?;
        Ok(group.map(|group| group.gid.as_raw()))
    }

    fn groups(&self, user: &str, gid: u32) -> Vec<u32> {
        let groups = CString::new(user).ok().and_then(|name| getgrouplist(&name, Gid::from_raw(gid)).ok());
        groups.map_or_else(|| vec![gid], |groups| groups.into_iter().map(Gid::as_raw).collect())
    }

    fn program_fault(&self, root: Option<&str>, path: &str) -> Option<String> {
        program::program_fault(root, path)
    }

    fn directory_fault(&self, root: Option<&str>, path: &str) -> Option<String> {
        program::directory_fault(root, path)
    }

    fn interface(&self, name: &str) -> Option<u32> {
        if_nametoindex(name).ok()
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, String> {
        let (file, _) = file::open_file(Path::new(path))?;
        file::read_bytes(file, Path::new(path))
    }
}

fn to_account(user: User) -> Account {
    Account { name: user.name, uid: user.uid.as_raw(), gid: Some(user.gid.as_raw()) }
}

fn look_up_error(kind: &str, name: &str, errno: Errno) -> String {
    format!("cannot look up {kind} {name:?}: {}", errno.desc())
}
