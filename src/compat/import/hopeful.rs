//! A machine on which every user, every group and every program is, and all else as on another.

use crate::config::machine::{Account, Identity, Machine};

/// Another machine, with every user, group and program that a table names.
pub(super) struct Hopeful<'a>(pub &'a dyn Machine);

/// The id of an account that is not on the machine.
const ABSENT_ID: u32 = 65_534;

/// Can it be a name?
fn is_name(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
    !text.is_empty() && text.chars().all(fits) && !text.bytes().all(|byte| byte.is_ascii_digit())
}

impl Machine for Hopeful<'_> {
    fn user(&self, user: &str) -> Result<Option<Account>, String> {
        let absent = || Account { name: user.to_owned(), uid: ABSENT_ID, gid: Some(ABSENT_ID) };
        Ok(self.0.user(user)?.or_else(|| is_name(user).then(absent)))
    }

    fn user_of(&self, uid: u32) -> Result<Option<Account>, String> {
        self.0.user_of(uid)
    }

    fn daemon(&self) -> Identity {
        self.0.daemon()
    }

    fn group(&self, group: &str) -> Result<Option<u32>, String> {
        Ok(self.0.group(group)?.or_else(|| is_name(group).then_some(ABSENT_ID)))
    }

    fn groups(&self, user: &str, gid: u32) -> Vec<u32> {
        self.0.groups(user, gid)
    }

    fn program_fault(&self, _: Option<&str>, _: &str) -> Option<String> {
        None
    }

    fn directory_fault(&self, root: Option<&str>, path: &str) -> Option<String> {
        self.0.directory_fault(root, path)
    }

    fn interface(&self, name: &str) -> Option<u32> {
        self.0.interface(name)
    }

    fn content(&self, path: &str) -> Result<Vec<u8>, String> {
        self.0.content(path)
    }
}
