//! A machine that is not there: what tables mean on it does not depend on what the tests run on, or as whom.
//!
//! Every program, user and group exists but those whose names begin with `no-such` or stand in a template; `/etc/services`
//! and `/etc/hosts` are given, there are two banners in /etc, and the TCP wrappers have a rule about in.wrapped. The daemon
//! is root's. The unit tests and the fuzz targets include this file too.

use oxinetd::config::machine::{Account, Identity, Machine};

/// Ports that the tests name.
pub const SERVICES: &str = "\
tcpmux 1/tcp\necho 7/tcp\necho 7/udp\ndiscard 9/tcp sink null\ndiscard 9/udp sink null\nsystat 11/tcp users
daytime 13/tcp\ndaytime 13/udp\nchargen 19/tcp ttytst\nchargen 19/udp ttytst\nftp 21/tcp\nssh 22/tcp\ntelnet 23/tcp
time 37/tcp timserver\ntime 37/udp timserver\ngopher 70/tcp\nfinger 79/tcp\nhttp 80/tcp www\nident 113/tcp auth
tftp 69/udp\nntalk 518/udp\nrsync 873/tcp\nrsync 873/udp\nswat 901/tcp\namanda 10080/tcp\n";

/// Hosts that the tests name.
pub const HOSTS: &str = "127.0.0.1 localhost\n::1 localhost ip6-localhost # comment\n192.0.2.7 gate gate.example\n";

/// The machine.
pub struct FakeMachine {
    pub services: String,
    pub hosts: String,
    /// As whom the daemon runs.
    pub daemon: Identity,
    /// Is there whatever is named at all?
    pub has_everything: bool,
}

impl Default for FakeMachine {
    fn default() -> Self {
        let root = Identity { uid: 0, gid: 0, groups: vec![0] };
        Self { services: SERVICES.to_owned(), hosts: HOSTS.to_owned(), daemon: root, has_everything: false }
    }
}

impl FakeMachine {
    /// A machine where every name means something.
    pub fn with_everything() -> Self {
        Self { has_everything: true, ..Self::default() }
    }

    fn exists(&self, name: &str) -> bool {
        if self.has_everything { name.starts_with(|first: char| first.is_ascii_alphabetic()) } else { exists(name) }
    }
}

/// The number of an account: its own for root, one made of the name for others.
pub fn number(name: &str) -> u32 {
    let sum = name.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    if name == "root" { 0 } else { 1000 + sum % 50_000 }
}

fn exists(name: &str) -> bool {
    let number = name.bytes().all(|byte| byte.is_ascii_digit());
    let template = name.contains(['@', '<', '>', '$', '{', '%']);
    !name.is_empty() && !number && !template && !name.starts_with("no-such")
}

impl Machine for FakeMachine {
    fn user(&self, name: &str) -> Result<Option<Account>, String> {
        let account = || Account { name: name.to_owned(), uid: number(name), gid: Some(number(name)) };
        Ok(self.exists(name).then(account))
    }

    fn user_of(&self, uid: u32) -> Result<Option<Account>, String> {
        Ok((uid == 0).then(|| Account { name: "root".to_owned(), uid, gid: Some(0) }))
    }

    fn daemon(&self) -> Identity {
        self.daemon.clone()
    }

    fn group(&self, name: &str) -> Result<Option<u32>, String> {
        Ok(self.exists(name).then(|| number(name)))
    }

    fn groups(&self, _user: &str, gid: u32) -> Vec<u32> {
        vec![gid]
    }

    fn program_fault(&self, _root: Option<&str>, path: &str) -> Option<String> {
        let name = path.rsplit('/').next().unwrap_or_default();
        let absent = !self.has_everything && (name.starts_with("no-such") || path.contains(['@', '<', '$']));
        absent.then(|| format!("there is no program {path}"))
    }

    fn directory_fault(&self, _root: Option<&str>, _path: &str) -> Option<String> {
        None
    }

    fn interface(&self, name: &str) -> Option<u32> {
        match name {
            "lo" => Some(1),
            "eth0" => Some(2),
            _ => self.exists(name).then_some(2).filter(|_| self.has_everything),
        }
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "/etc/services" => Ok(self.services.clone().into_bytes()),
            "/etc/hosts" => Ok(self.hosts.clone().into_bytes()),
            "/etc/hosts.deny" => Ok(b"in.wrapped: ALL\n".to_vec()),
            "/etc/hostname" => Ok(b"fake\n".to_vec()),
            "/etc/banner" => Ok(b"Welcome.\n".to_vec()),
            "/etc/go-away" => Ok(b"Go away.\n".to_vec()),
            _ => Err(format!("cannot read {path}: No such file or directory")),
        }
    }
}
