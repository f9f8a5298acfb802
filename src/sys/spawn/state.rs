//! What a child inherits from the daemon: limits, priority, mask, directory, ids, signals. Read when the daemon starts;
//! [`super::plan`] leaves out the steps that would change nothing of it.
//!
//! What can't be read is unknown, and then its steps stay in every plan. So reading never fails, and a step is left out only
//! where the process certainly is what the step would make it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::c_int;
use std::fs;
use std::mem;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::ptr;

use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid};

use super::step::ChildStep;
use crate::sys::signals;

/// The state of this process, as far as a child may be told to change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    /// Soft and hard limit of each resource that is known.
    rlimits: BTreeMap<c_int, [u64; 2]>,
    nice: Option<i32>,
    umask: Option<u32>,
    /// Is the working directory certainly the root directory?
    in_root: bool,
    /// Real, effective and saved user id.
    uids: Option<[u32; 3]>,
    /// Real, effective and saved group id.
    gids: Option<[u32; 3]>,
    /// The supplementary groups.
    groups: Option<BTreeSet<u32>>,
    /// The signals that are ignored or caught.
    signals: Vec<c_int>,
}

impl ProcessState {
    /// That of this process. Changes the mask for a moment, so call it while there is one thread, and after signals have
    /// been given their handlers.
    #[must_use]
    pub fn read() -> Self {
        let uids = getresuid().ok().map(|ids| [ids.real, ids.effective, ids.saved].map(Uid::as_raw));
        let gids = getresgid().ok().map(|ids| [ids.real, ids.effective, ids.saved].map(Gid::as_raw));
        let groups = getgroups().ok().map(|groups| groups.into_iter().map(Gid::as_raw).collect());
        let mut state = Self {
            umask: Some(read_umask()),
            in_root: is_in_root(),
            uids: uids.filter(|ids| Namespace::of("uid").knows(ids)),
            gids: gids.filter(|ids| Namespace::of("gid").knows(ids)),
            groups: groups.filter(|ids: &BTreeSet<u32>| Namespace::of("gid").knows(ids)),
            signals: signals::not_default(),
            ..Self::unknown()
        };
        state.refresh();
        state
    }

    /// Reads again what somebody else may have changed meanwhile: limits (prlimit(1)) and priority (renice(1)).
    pub fn refresh(&mut self) {
        self.nice = read_nice();
        self.rlimits = (0..RESOURCES).filter_map(|resource| Some((resource, read_rlimit(resource)?))).collect();
    }

    /// A process of which nothing is known.
    #[must_use]
    pub fn unknown() -> Self {
        Self {
            rlimits: BTreeMap::new(),
            nice: None,
            umask: None,
            in_root: false,
            uids: None,
            gids: None,
            groups: None,
            signals: signals::all_that_can_be_caught().collect(),
        }
    }

    /// The signals that are not, or may not be, at their default.
    pub(super) fn signals(&self) -> &[c_int] {
        &self.signals
    }

    /// May it be that this process is root, as far as the kernel asks for the effective id?
    pub(super) fn may_be_root(&self) -> bool {
        self.uids.is_none_or(|[_, effective, _]| effective == 0)
    }

    /// Is the process in exactly these groups, if its group will be `gid`? The list may name the process's own group where
    /// the process has no such supplementary group: it is in that group by its group id. The other way round, a
    /// supplementary group that the list lacks would outlive a change of the group id.
    pub(super) fn is_in_groups(&self, list: &[u32], gid: Option<u32>) -> bool {
        let (Some(own), Some([real, effective, saved])) = (&self.groups, self.gids) else { return false };
        let stays = real == effective && effective == saved && gid.is_none_or(|gid| gid == real);
        let wish: BTreeSet<u32> = list.iter().copied().collect();
        own.is_subset(&wish) && wish.difference(own).all(|group| stays && *group == real)
    }

    /// Takes over what `step` makes of the process. Says whether that is, or may be, a change.
    pub(super) fn change(&mut self, step: &ChildStep) -> bool {
        match step {
            ChildStep::SetRlimit { resource, value } => self.rlimits.insert(*resource, *value) != Some(*value),
            ChildStep::SetNice(nice) => self.nice.replace(*nice) != Some(*nice),
            ChildStep::SetUmask(mask) => self.umask.replace(*mask) != Some(*mask),
            // Of all paths this one alone can't come to mean another directory.
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
            _ => true,
        }
    }
}

/// So many resources have limits.
const RESOURCES: c_int = 16;

fn read_rlimit(resource: c_int) -> Option<[u64; 2]> {
    let mut value = [0_u64; 2];
    let nothing = ptr::null::<u64>();
    // SAFETY: the kernel's struct rlimit64 is two numbers of 64 bits; nothing is set.
    let result = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, nothing, value.as_mut_ptr()) };
    (result == 0).then_some(value)
}

fn read_nice() -> Option<i32> {
    // SAFETY: no memory is involved. The system call gives 20 less the priority, so that no result looks like an error.
    let result = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    i32::try_from(result).ok().filter(|result| *result > 0).map(|result| 20 - result)
}

/// There is no other way to ask for it but /proc. Nobody else can open what is made in that moment.
fn read_umask() -> u32 {
    let mask = umask(Mode::from_bits_truncate(0o777));
    umask(mask);
    mask.bits()
}

/// By path and by number: a directory that is mounted twice has the number alone, one that lies below a later mount the
/// path alone.
fn is_in_root() -> bool {
    let number = |path| fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    let same = number(".").is_some_and(|own| number("/") == Some(own));
    same && std::env::current_dir().is_ok_and(|path| path == Path::new("/"))
}

/// The ids of a user namespace.
struct Namespace {
    /// All ids that are not mapped into it read as this one.
    overflow: Option<u32>,
}

impl Namespace {
    fn of(kind: &str) -> Self {
        /// Of the kernel, unless it has been told otherwise.
        const USUAL: u32 = 65534;
        let read = |path: String| fs::read_to_string(path).unwrap_or_default();
        let has_all = read(format!("/proc/self/{kind}_map")).split_whitespace().eq(["0", "0", "4294967295"]);
        let overflow = read(format!("/proc/sys/kernel/overflow{kind}")).trim().parse().unwrap_or(USUAL);
        Self { overflow: (!has_all).then_some(overflow) }
    }

    /// Does each of these numbers stand for one id?
    fn knows<'a>(&self, ids: impl IntoIterator<Item = &'a u32>) -> bool {
        ids.into_iter().all(|id| Some(*id) != self.overflow)
    }
}
