//! What a child does between clone(2) and execve(2): a list of steps that is made when a table is loaded.
//!
//! The caller names the wanted steps in any order ([`ExecPlan::compile`]). The plan adds the steps that every child
//! needs and those that follow from others, sorts all into the order of [`StepKind`], and leaves out the steps that
//! would change nothing. A check refuses a plan that is out of order or incomplete. Nothing here makes a system
//! call.

use std::ffi::CString;

use super::state::ProcessState;
use super::step::{ChildStep, StepKind};
use super::strings::Strings;

#[cfg(test)]
mod tests;

/// A child's steps, in order, and the program that it executes after them.
#[derive(Debug)]
pub struct ExecPlan {
    steps: Box<[ChildStep]>,
    pub(super) path: CString,
    pub(super) argv: Strings,
}

impl ExecPlan {
    /// The plan of a child that takes all steps of `wishes` and executes `path`, started by a process in the state
    /// `process`. The plan itself adds those for descriptors 0 and 1, the session and the signals. Without a step
    /// for descriptor 2 the child has the daemon's.
    ///
    /// # Errors
    /// Two wishes contradict each other, or the plan adds one of them itself.
    pub fn compile(
        wishes: Vec<ChildStep>,
        process: &ProcessState,
        path: CString,
        argv: Strings,
    ) -> Result<Self, PlanError> {
        let mut steps = wishes;
        add_companions(&mut steps, process);
        add_frame(&mut steps, process);
        let mut steps = put_in_order(&steps);
        check_order(&steps)?;
        leave_out_unneeded(&mut steps, process.clone());
        check_order(&steps)?;
        Ok(Self { steps: steps.into_boxed_slice(), path, argv })
    }

    /// The steps before execve(2), in order.
    pub fn steps(&self) -> &[ChildStep] {
        &self.steps
    }
}

/// Adds the steps that follow from others. A root process that becomes another user keeps its capabilities until
/// execve(2), without effect: a process without them may not trace it or open its memory, which is still the
/// daemon's (ptrace(2), "Ptrace access mode checking"). The kernel itself ensures that only where
/// `fs.suid_dumpable` is 0. The child leaves no core either: before Linux 5.16 a dump ended every process that
/// shared the memory.
fn add_companions(steps: &mut Vec<ChildStep>, process: &ProcessState) {
    if steps.iter().any(|step| matches!(step, ChildStep::ChangeRoot(_))) {
        steps.push(ChildStep::EnterRoot);
    }
    let leaves_root = |step: &ChildStep| matches!(step, ChildStep::SetUid(uid) if *uid != 0) && process.may_be_root();
    if steps.iter().any(leaves_root) {
        steps.extend([ChildStep::KeepCapabilities, ChildStep::ForbidDump]);
    }
}

/// Adds the steps of every child. Ignored signals stay ignored over execve(2), and caught ones could run the
/// daemon's handler in the child once they are unblocked: both get their default back. Then the child unblocks all.
fn add_frame(steps: &mut Vec<ChildStep>, process: &ProcessState) {
    steps.extend(FRAME);
    steps.extend(process.signals().iter().map(|signal| ChildStep::ResetSignal(*signal)));
}

/// Sorts the steps by kind; those of one kind keep their order. A call of sort() would be more code than this file.
fn put_in_order(steps: &[ChildStep]) -> Vec<ChildStep> {
    let of_kind = |kind: &StepKind| steps.iter().filter(|step| step.kind() == *kind).cloned().collect::<Vec<_>>();
    StepKind::ALL.iter().flat_map(of_kind).collect()
}

/// Leaves out the steps that would change nothing in the state that the steps before them lead to.
fn leave_out_unneeded(steps: &mut Vec<ChildStep>, mut process: ProcessState) {
    let gid = steps.iter().find_map(|step| if let ChildStep::SetGid(gid) = step { Some(*gid) } else { None });
    steps.retain(|step| match step {
        ChildStep::SetGroups(groups) => !process.is_in_groups(groups, gid),
        step => process.apply_step(step),
    });
}

/// Why a plan can't be built. That is a mistake of the caller: there is a plan for every valid table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The first would be taken before the second, which belongs before it.
    Misplaced(StepKind, StepKind),
    /// Two steps would set the same thing.
    Repeated(StepKind),
    /// Every child needs it, or another step of the plan does.
    Missing(StepKind),
}

/// The steps that every child needs.
const FRAME: [ChildStep; 6] = [
    ChildStep::UnshareDescriptors,
    ChildStep::SetStdin,
    ChildStep::SetStdout,
    ChildStep::CloseOthers,
    ChildStep::StartSession,
    ChildStep::UnblockSignals,
];

/// Pairs of which a plan with the first needs the second.
const TOGETHER: [(StepKind, StepKind); 3] = [
    (StepKind::ChangeRoot, StepKind::EnterRoot),
    (StepKind::KeepCapabilities, StepKind::ForbidDump),
    (StepKind::ForbidDump, StepKind::KeepCapabilities),
];

/// Checks that the steps are complete, and in the order of [`StepKind`].
fn check_order(steps: &[ChildStep]) -> Result<(), PlanError> {
    for (place, step) in steps.iter().enumerate() {
        let kind = step.kind();
        let before = &steps[..place];
        if let Some(previous) = before.last().map(ChildStep::kind).filter(|previous| *previous > kind) {
            return Err(PlanError::Misplaced(previous, kind));
        }
        if before.iter().any(|other| other.sets_same(step)) {
            return Err(PlanError::Repeated(kind));
        }
    }
    let has = |kind: &StepKind| steps.iter().any(|step| step.kind() == *kind);
    let lacking = TOGETHER.iter().filter(|(one, _)| has(one)).map(|(_, other)| other);
    let mut needed = FRAME.map(|step| step.kind()).into_iter().chain(lacking.copied());
    needed.find(|kind| !has(kind)).map_or(Ok(()), |kind| Err(PlanError::Missing(kind)))
}
