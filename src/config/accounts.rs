//! Users and groups by name or number, each looked up once.
//!
//! [`super::check`] keeps one [`Accounts`] while a table is loaded, so that a thousand services of one user cost
//! one look-up of the [`Machine`]. Errors are messages for the key that named the account.

use std::collections::{BTreeSet, HashMap};

use super::Credentials;
use super::keys::ServiceSpec;
use super::location::Spanned;
use super::machine::{Account, Identity, Machine};
use super::problem::Problem;
use super::units::parse_digits;
use super::values::Groups;

/// The accounts asked for so far.
pub(crate) struct Accounts<'a> {
    machine: &'a dyn Machine,
    daemon: Identity,
    users: HashMap<String, Result<Account, String>>,
    groups: HashMap<String, Result<u32, String>>,
    lists: HashMap<(String, u32), Vec<u32>>,
}

impl<'a> Accounts<'a> {
    pub(crate) fn new(machine: &'a dyn Machine) -> Self {
        Self { machine, daemon: machine.daemon(), users: HashMap::new(), groups: HashMap::new(), lists: HashMap::new() }
    }

    /// User and groups of the handlers of a service; `None` is the daemon's own.
    ///
    /// Without `user` it is the daemon's own user; without `group` the user's primary group; without `groups` the
    /// groups that initgroups(3) would give. A daemon that is not root can only be itself.
    pub(crate) fn resolve_credentials(&mut self, spec: &ServiceSpec) -> Result<Option<Credentials>, Problem> {
        if spec.user.is_none() && spec.group.is_none() && spec.groups.is_none() {
            return Ok(None);
        }
        let mut account = look_up(&spec.user, |name| self.look_up_user(name))?.unwrap_or_else(|| self.daemon_account());
        if spec.user.is_none() {
            account.gid = Some(self.daemon.gid);
        }
        if !self.daemon.is_root() && account.uid == self.daemon.uid && spec.group.is_none() && spec.groups.is_none() {
            return Ok(None);
        }
        let gid = look_up(&spec.group, |name| self.look_up_group(name))?.or(account.gid);
        let gid = match (gid, &spec.user) {
            (Some(gid), _) => gid,
            (None, Some(user)) => {
                return Err(user
                    .at
                    .problem(format!("user {} has no entry in the user database; add group", user.value)));
            }
            (None, None) => self.daemon.gid,
        };
        let groups = self.resolve_groups(&account, gid, &spec.groups)?;
        let Account { name: user, uid, .. } = account;
        let credentials = Credentials { user, uid, gid, groups };
        if self.daemon.is_root() { Ok(Some(credentials)) } else { self.check_own_identity(spec, credentials).map(Some) }
    }

    /// `USER` or `USER:GROUP`, as user and group id.
    pub(crate) fn resolve_owner(&mut self, text: &str) -> Result<(u32, u32), String> {
        let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
        let account = self.look_up_user(user)?;
        match (group, account.gid) {
            (Some(group), _) => Ok((account.uid, self.look_up_group(group)?)),
            (None, Some(gid)) => Ok((account.uid, gid)),
            (None, None) => Err(format!("user {user} has no entry in the user database; write USER:GROUP")),
        }
    }

    fn resolve_groups(
        &mut self,
        account: &Account,
        gid: u32,
        written: &Option<Spanned<Groups>>,
    ) -> Result<Vec<u32>, Problem> {
        match written {
            Some(Spanned { value: Groups::These(names), at }) => {
                let ids = names.iter().map(|name| self.look_up_group(name)).collect::<Result<Vec<_>, _>>();
                ids.map_err(|message| at.problem(message))
            }
            // Only root can change them, so anybody else keeps its own.
            None if !self.daemon.is_root() => Ok(self.daemon.groups.clone()),
            _ => Ok(self.login_groups(account, gid)),
        }
    }

    fn login_groups(&mut self, account: &Account, gid: u32) -> Vec<u32> {
        let known = self.lists.entry((account.name.clone(), gid));
        known.or_insert_with(|| self.machine.groups(&account.name, gid)).clone()
    }

    pub(crate) fn look_up_user(&mut self, name: &str) -> Result<Account, String> {
        if let Some(known) = self.users.get(name) {
            return known.clone();
        }
        let found = self.find_user(name);
        self.users.insert(name.to_owned(), found.clone());
        found
    }

    /// The number of a group by name or number.
    pub(crate) fn look_up_group(&mut self, name: &str) -> Result<u32, String> {
        if let Some(known) = self.groups.get(name) {
            return known.clone();
        }
        let found = self.find_group(name);
        self.groups.insert(name.to_owned(), found.clone());
        found
    }

    /// A name first, as some names are all digits; then a number, which needs no entry.
    fn find_user(&self, name: &str) -> Result<Account, String> {
        if let Some(account) = self.machine.user(name)? {
            return Ok(account);
        }
        let uid = parse_id(name).ok_or_else(|| format!("there is no user {name:?}"))?;
        Ok(self.machine.user_of(uid)?.unwrap_or_else(|| unknown_account(uid)))
    }

    fn find_group(&self, name: &str) -> Result<u32, String> {
        if let Some(gid) = self.machine.group(name)? {
            return Ok(gid);
        }
        parse_id(name).ok_or_else(|| format!("there is no group {name:?}"))
    }

    fn daemon_account(&self) -> Account {
        let uid = self.daemon.uid;
        self.machine.user_of(uid).ok().flatten().unwrap_or_else(|| unknown_account(uid))
    }

    /// Lets credentials pass that a daemon without privileges has anyway.
    fn check_own_identity(&self, spec: &ServiceSpec, credentials: Credentials) -> Result<Credentials, Problem> {
        let set = |groups: &[u32]| groups.iter().copied().chain([credentials.gid]).collect::<BTreeSet<u32>>();
        let me = self.daemon_account().name;
        let refuse = |what: String| format!("{what}: the daemon runs as {me}, and only root can change that");
        match spec {
            ServiceSpec { user: Some(user), .. } if credentials.uid != self.daemon.uid => {
                Err(user.at.problem(refuse(format!("handlers cannot run as {}", user.value))))
            }
            ServiceSpec { group: Some(group), .. } if credentials.gid != self.daemon.gid => {
                Err(group.at.problem(refuse(format!("handlers cannot run with group {}", group.value))))
            }
            ServiceSpec { groups: Some(groups), .. } if set(&credentials.groups) != set(&self.daemon.groups) => {
                Err(groups.at.problem(refuse("handlers cannot run with other groups".to_owned())))
            }
            _ => Ok(credentials),
        }
    }
}

/// Looks up what a key names, if it is there.
fn look_up<T>(
    key: &Option<Spanned<String>>,
    find: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Problem> {
    let Some(Spanned { value, at }) = key else { return Ok(None) };
    find(value).map(Some).map_err(|message| at.problem(message))
}

/// A user or group id; the highest number means "leave as it is" to the system's calls.
fn parse_id(text: &str) -> Option<u32> {
    u32::try_from(parse_digits(text)?).ok().filter(|id| *id != u32::MAX)
}

fn unknown_account(uid: u32) -> Account {
    Account { name: uid.to_string(), uid, gid: None }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Local;
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let mut accounts = Accounts::new(&Local);
        for text in ["root", "0"] {
            let root = accounts.look_up_user(text).unwrap();
            assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, Some(0)));
        }
        assert_eq!(accounts.look_up_user("no-such-user").unwrap_err(), "there is no user \"no-such-user\"");
        assert!(accounts.look_up_user("-1").is_err() && accounts.look_up_user("4294967295").is_err());
    }

    #[test]
    fn a_number_needs_no_entry_but_then_has_no_group() {
        let mut accounts = Accounts::new(&Local);
        let stranger = accounts.look_up_user("3999999999").unwrap();
        assert_eq!((stranger.uid, stranger.gid), (3_999_999_999, None));
        assert_eq!(accounts.resolve_owner("3999999999:7"), Ok((3_999_999_999, 7)));
        assert!(accounts.resolve_owner("3999999999").unwrap_err().ends_with("write USER:GROUP"));
    }

    #[test]
    fn an_owner_has_the_users_group_unless_one_is_named() {
        let mut accounts = Accounts::new(&Local);
        assert_eq!(accounts.resolve_owner("root"), Ok((0, 0)));
        assert_eq!(accounts.resolve_owner("root:12"), Ok((0, 12)));
        assert!(accounts.resolve_owner("root:no-such-group").is_err());
    }
}
