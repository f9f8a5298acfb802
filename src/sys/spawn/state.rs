//! The state that a child inherits from the daemon: limits, priority, mask, directory, ids, signals. The daemon
//! reads it when it starts; [`super::plan`] leaves out the steps that would not change it.
//!
//! Reading never fails: what can't be read is unknown, and its steps stay in every plan.

use std::collections::BTreeSet;
use std::ffi::c_int;
use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid};

use super::step::{ChildStep, Rlimit};
use crate::sys::signals;

/// The state of a process, as far as steps can change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// Soft and hard limit of each resource, by its number.
    rlimits: [Option<[u64; 2]>; RESOURCE_COUNT],
    nice: Option<i32>,
    umask: Option<u32>,
    /// The working directory is certainly the root directory.
    in_root: bool,
    /// Real, effective and saved user id.
    uids: Option<[u32; 3]>,
    /// Real, effective and saved group id.
    gids: Option<[u32; 3]>,
    groups: Option<BTreeSet<u32>>,
    /// Whether setgroups(2) can succeed.
    may_set_groups: bool,
    /// The signals that are ignored or caught.
    signals: Vec<c_int>,
}

impl ProcessState {
    /// The state of this process. Changes the mask for a moment, so call it while there is one thread, and after
    /// the signal handlers are installed.
    pub fn read_own() -> Self {
        let uids = getresuid().ok().map(|ids| [ids.real, ids.effective, ids.saved].map(Uid::as_raw));
        let gids = getresgid().ok().map(|ids| [ids.real, ids.effective, ids.saved].map(Gid::as_raw));
        let groups = getgroups().ok().map(|groups| groups.into_iter().map(Gid::as_raw).collect());
        let mut state = Self {
            umask: Some(read_umask()),
            in_root: is_in_root(),
            uids: uids.filter(|ids| are_known(ids, overflow_id("uid"))),
            gids: gids.filter(|ids| are_known(ids, overflow_id("gid"))),
            groups: groups.filter(|ids: &BTreeSet<u32>| are_known(ids, overflow_id("gid"))),
            may_set_groups: may_set_groups(),
            signals: signals::not_default(),
            ..Self::unknown()
        };
        state.refresh();
        state
    }

    /// Reads again what other programs may have changed: limits (prlimit(1)) and priority (renice(1)).
    pub fn refresh(&mut self) {
        self.nice = read_nice();
        self.rlimits = std::array::from_fn(read_rlimit);
    }

    /// A process of which nothing is known.
    pub fn unknown() -> Self {
        Self {
            rlimits: [None; RESOURCE_COUNT],
            nice: None,
            umask: None,
            in_root: false,
            uids: None,
            gids: None,
            groups: None,
            may_set_groups: false,
            signals: signals::all_that_can_be_caught().collect(),
        }
    }

    /// The signals that are not, or may not be, at their default.
    pub(super) fn signals(&self) -> &[c_int] {
        &self.signals
    }

    /// Whether the effective user may be root.
    pub(super) fn may_be_root(&self) -> bool {
        self.uids.is_none_or(|[_, effective, _]| effective == 0)
    }

    /// Whether the process is in exactly these groups, if its group will be `gid`. Where the groups cannot be set, the
    /// list may also name the process's own group although the process has no such supplementary group: it is in that
    /// group by its group id. But a supplementary group that the list lacks would stay after a change of the group id.
    pub(super) fn is_in_groups(&self, list: &[u32], gid: Option<u32>) -> bool {
        let Some(own) = &self.groups else { return false };
        let stays = |group: &u32| self.gids == Some([*group; 3]) && gid.is_none_or(|gid| gid == *group);
        let wish: BTreeSet<u32> = list.iter().copied().collect();
        *own == wish || !self.may_set_groups && own.is_subset(&wish) && wish.difference(own).all(stays)
    }

    /// Notes what `step` changes. Returns whether it changes, or may change, anything.
    pub(super) fn apply_step(&mut self, step: &ChildStep) -> bool {
        match step {
            ChildStep::SetRlimit(Rlimit { resource, value }) => {
                let place = usize::try_from(*resource).ok().and_then(|resource| self.rlimits.get_mut(resource));
                place.is_none_or(|place| place.replace(*value) != Some(*value))
            }
            ChildStep::SetNice(nice) => self.nice.replace(*nice) != Some(*nice),
            ChildStep::SetUmask(mask) => self.umask.replace(*mask) != Some(*mask),
            // Only this path always means the same directory.
            ChildStep::ChangeRoot(path) if path.as_c_str() == c"/" => false,
            ChildStep::ChangeDirectory(path) if path.as_c_str() == c"/" => !mem::replace(&mut self.in_root, true),
            ChildStep::EnterRoot => !mem::replace(&mut self.in_root, true),
            ChildStep::ChangeRoot(_) | ChildStep::ChangeDirectory(_) => {
                self.in_root = false;
                true
            }
            ChildStep::SetGroups(groups) => {
                let groups: BTreeSet<u32> = groups.iter().copied().collect();
                self.groups.replace(groups.clone()) != Some(groups)
            }
            ChildStep::SetGid(gid) => self.gids.replace([*gid; 3]) != Some([*gid; 3]),
            ChildStep::SetUid(uid) => self.uids.replace([*uid; 3]) != Some([*uid; 3]),
            ChildStep::ResetSignal(signal) => {
                let count = self.signals.len();
                self.signals.retain(|other| other != signal);
                self.signals.len() < count
            }
            _ => true,
        }
    }
}

/// The kernel's number of resources with limits.
const RESOURCE_COUNT: usize = 16;

fn read_rlimit(resource: usize) -> Option<[u64; 2]> {
    let mut value = [0_u64; 2];
    let nothing = ptr::null::<u64>();
    // SAFETY: the kernel's struct rlimit64 is two numbers of 64 bits; nothing is set.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, nothing, value.as_mut_ptr()) };
    (result == 0).then_some(value)
}

fn read_nice() -> Option<i32> {
    // SAFETY: no memory is involved. The system call gives 20 less the priority, so that no result looks like an
    // error.
    let result = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    i32::try_from(result).ok().filter(|result| *result > 0).map(|result| 20 - result)
}

/// Without /proc the mask can only be read by setting it. Meanwhile no other user can open a new file.
fn read_umask() -> u32 {
    let mask = umask(Mode::from_bits_truncate(0o777));
    umask(mask);
    mask.bits()
}

/// Compares by path and by inode: a directory that is mounted twice has the same inode under another path, and a
/// directory under a later mount has the same path with another inode.
/// setgroups(2) needs CAP_SETGID, and in a user namespace that /proc/PID/setgroups does not deny it
/// (user_namespaces(7)). Where either can't be read, it is tried.
fn may_set_groups() -> bool {
    /// Its bit (linux/capability.h).
    const CAP_SETGID: u64 = 1 << 6;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capable = effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let denied = fs::read_to_string("/proc/self/setgroups").is_ok_and(|word| word.trim() == "deny");
    !denied && capable.is_none_or(|mask| mask & CAP_SETGID != 0)
}

fn is_in_root() -> bool {
    let number = |path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let same = number(".").is_some_and(|own| number("/") == Some(own));
    same && std::env::current_dir().is_ok_and(|path| path == Path::new("/"))
}

/// The id that all ids without a mapping in this user namespace read as; none if all are mapped.
fn overflow_id(kind: &str) -> Option<u32> {
    /// The kernel's default.
    const USUAL: u32 = 65534;
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let has_all = read(format!("/proc/self/{kind}_map")).split_whitespace().eq(["0", "0", "4294967295"]);
    let overflow = read(format!("/proc/sys/kernel/overflow{kind}")).trim().parse().unwrap_or(USUAL);
    (!has_all).then_some(overflow)
}

/// Whether each of these numbers stands for one id.
fn are_known<'a>(ids: impl IntoIterator<Item = &'a u32>, overflow: Option<u32>) -> bool {
    ids.into_iter().all(|id| Some(*id) != overflow)
}

#[cfg(test)]
mod tests {
    use nix::sys::resource::{Resource, getrlimit};

    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "asks the kernel for what Miri has not")]
    fn limits_and_priority_are_the_processes_own() {
        let mut state = ProcessState::unknown();
        state.refresh();
        for (resource, number) in
            [(Resource::RLIMIT_NOFILE, libc::RLIMIT_NOFILE), (Resource::RLIMIT_CORE, libc::RLIMIT_CORE)]
        {
            let (soft, hard) = getrlimit(resource).unwrap();
            assert_eq!(state.rlimits[number as usize], Some([soft, hard]), "{resource:?}");
        }
        // Field 19 of proc_pid_stat(5), counted from the one after the name, which is the third.
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let nice = stat.rsplit(") ").next().unwrap().split(' ').nth(19 - 3).unwrap().parse().unwrap();
        assert_eq!(state.nice, Some(nice));
    }

    #[test]
    fn ids_that_may_stand_for_others_are_not_known() {
        assert!(are_known(&[65534, 0], None) && are_known(&[0, 1000], Some(65534)));
        assert!(!are_known(&[0, 65534], Some(65534)));
    }

    fn state(own: &[u32], gid: u32) -> ProcessState {
        let mut state = ProcessState::unknown();
        state.apply_step(&ChildStep::SetGroups(own.into()));
        state.apply_step(&ChildStep::SetGid(gid));
        state
    }

    #[test]
    fn a_list_of_groups_may_name_the_processes_own_group_and_nothing_else_may_differ() {
        for (own, gid, list, becomes, expected) in [
            (&[4, 5][..], 5, &[5, 4][..], Some(5), true),
            (&[4], 5, &[4, 5], Some(5), true),
            (&[4], 5, &[4, 5], None, true),
            (&[], 0, &[0], Some(0), true),
            (&[], 0, &[], Some(0), true),
            // It would be in that group no more.
            (&[4], 5, &[4, 5], Some(6), false),
            // Membership beyond the list, if only behind a change of the group id.
            (&[0], 0, &[], Some(0), false),
            (&[4, 5], 5, &[4], Some(5), false),
            (&[4, 6], 5, &[4, 5], Some(5), false),
            (&[4], 5, &[4, 6], Some(5), false),
        ] {
            let found = state(own, gid).is_in_groups(list, becomes);
            assert_eq!(found, expected, "{own:?} with {gid}, to be {list:?} with {becomes:?}");
        }
        assert!(!ProcessState::unknown().is_in_groups(&[], None));
    }

    #[test]
    fn groups_that_can_be_set_must_be_the_same() {
        let mut able = state(&[4], 5);
        able.may_set_groups = true;
        assert!(able.is_in_groups(&[4], Some(5)) && !able.is_in_groups(&[4, 5], Some(5)));
    }

    #[test]
    fn one_group_id_that_differs_is_enough() {
        let mut state = ProcessState::unknown();
        state.apply_step(&ChildStep::SetGroups([].into()));
        for gids in [[0, 5, 0], [5, 0, 0], [0, 0, 5]] {
            state.gids = Some(gids);
            assert!(!state.is_in_groups(&[0], Some(0)), "{gids:?}");
            assert!(state.clone().apply_step(&ChildStep::SetGid(0)), "{gids:?}");
            state.uids = Some(gids);
            assert!(state.clone().apply_step(&ChildStep::SetUid(0)), "{gids:?}");
        }
    }
}
