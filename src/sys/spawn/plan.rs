//! What a child does between clone(2) and execve(2), as a list of steps that is made when a table is loaded.
//!
//! Whoever wants a child says what its world shall be, as steps in any order ([`ExecPlan::compile`]). To these come the
//! steps that every child needs and those that follow from others; all are put in the order of [`StepKind`], and what would
//! change nothing of the process is left out. A plan that is not in order, or lacks something, can't be built: its steps
//! are looked at once more, and its fields are nobody else's. Nothing here makes a system call.

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
    /// The plan of a child that shall have all of `wishes` and execute `path`, made by a process in the state `process`.
    /// Descriptors 0 and 1, the session and the signals need no wish; without one for descriptor 2 it stays the daemon's.
    ///
    /// # Errors
    /// Two wishes contradict each other, or one of them is the plan's own affair.
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
    #[must_use]
    pub fn steps(&self) -> &[ChildStep] {
        &self.steps
    }
}

/// Steps that follow from others. Root who becomes another user keeps its capabilities until execve(2), without effect:
/// whoever lacks them may not trace it or open its memory, which is the daemon's still (ptrace(2), "Ptrace access mode
/// checking"). By itself the kernel sees to that only where `fs.suid_dumpable` is 0. And it leaves no core: before Linux
/// 5.16 a dump ended every process that shared the memory.
fn add_companions(steps: &mut Vec<ChildStep>, process: &ProcessState) {
    if steps.iter().any(|step| matches!(step, ChildStep::ChangeRoot(_))) {
        steps.push(ChildStep::EnterRoot);
    }
    let leaves_root = |step: &ChildStep| matches!(step, ChildStep::SetUid(uid) if *uid != 0) && process.may_be_root();
    if steps.iter().any(leaves_root) {
        steps.extend([ChildStep::KeepCapabilities, ChildStep::ForbidDump]);
    }
}

/// Steps of every child. Ignored signals stay ignored over execve(2), and caught ones could run the daemon's handler in the
/// child once they are unblocked: both go back to their default. Then nothing is blocked any more.
fn add_frame(steps: &mut Vec<ChildStep>, process: &ProcessState) {
    steps.extend([
        ChildStep::UnshareDescriptors,
        ChildStep::SetStdin,
        ChildStep::SetStdout,
        ChildStep::CloseOthers,
        ChildStep::StartSession,
        ChildStep::UnblockSignals,
    ]);
    steps.extend(process.signals().iter().map(|signal| ChildStep::ResetSignal(*signal)));
}

/// Steps of one kind stay in the order of the wishes. A call of sort() would be more code than all the rest of this file.
fn put_in_order(steps: &[ChildStep]) -> Vec<ChildStep> {
    let of_kind = |kind: &StepKind| steps.iter().filter(|step| step.kind() == *kind).cloned().collect::<Vec<_>>();
    StepKind::ALL.iter().flat_map(of_kind).collect()
}

/// Leaves out the steps that would change nothing. Each is judged by what those before it have made of the process.
fn leave_out_unneeded(steps: &mut Vec<ChildStep>, mut process: ProcessState) {
    let gid = steps.iter().find_map(|step| if let ChildStep::SetGid(gid) = step { Some(*gid) } else { None });
    steps.retain(|step| match step {
        ChildStep::SetGroups(groups) => !process.is_in_groups(groups, gid),
        step => process.change(step),
    });
}

/// Why a plan can't be built: a mistake of whoever wanted it, since every table can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    /// The second would be done after the first.
    Misplaced(StepKind, StepKind),
    /// One thing would be done twice.
    Repeated(StepKind),
    /// Every child needs it, or another step of the plan does.
    Missing(StepKind),
}

/// What no plan can be without.
const NEEDED: [StepKind; 6] = [
    StepKind::UnshareDescriptors,
    StepKind::SetStdin,
    StepKind::SetStdout,
    StepKind::CloseOthers,
    StepKind::StartSession,
    StepKind::UnblockSignals,
];

/// What no plan can have the first of without the second.
const TOGETHER: [(StepKind, StepKind); 3] = [
    (StepKind::ChangeRoot, StepKind::EnterRoot),
    (StepKind::KeepCapabilities, StepKind::ForbidDump),
    (StepKind::ForbidDump, StepKind::KeepCapabilities),
];

/// Are the steps complete, and in the order of [`StepKind`]?
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
    match NEEDED.iter().chain(lacking).find(|kind| !has(kind)) {
        Some(kind) => Err(PlanError::Missing(*kind)),
        None => Ok(()),
    }
}
