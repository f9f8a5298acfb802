//! Plans: their order, and what is not in them.

use proptest::prelude::*;

use super::ChildStep::*;
use super::*;
use crate::sys::spawn::{Rlimit, StderrTo, Step};

const NULL_TO_STDERR: ChildStep = SetStderr(StderrTo::Null);
const CONNECTION_TO_STDERR: ChildStep = SetStderr(StderrTo::Connection);

const SIGNALS: [i32; 2] = [libc::SIGHUP, libc::SIGPIPE];

fn limit(resource: i32, value: [u64; 2]) -> ChildStep {
    SetRlimit(Rlimit { resource, value })
}

fn apply(steps: impl IntoIterator<Item = ChildStep>, state: &mut ProcessState) {
    for step in steps {
        state.apply_step(&step);
    }
}

/// A process that is root in the root directory, with these two signals not at their default.
fn root() -> ProcessState {
    let mut state = ProcessState::unknown();
    let signals = state.signals().to_vec();
    let others = signals.into_iter().filter(|signal| !SIGNALS.contains(signal)).map(ResetSignal);
    let known =
        [limit(7, [1024, 4096]), SetNice(0), SetUmask(0o022), EnterRoot, SetGroups([].into()), SetGid(0), SetUid(0)];
    apply(others.chain(known), &mut state);
    state
}

/// The same for an ordinary user.
fn user(uid: u32, gid: u32, groups: &[u32]) -> ProcessState {
    let mut state = root();
    apply(credentials(uid, gid, groups), &mut state);
    state
}

fn compile(wishes: impl Into<Vec<ChildStep>>, process: &ProcessState) -> Result<Vec<ChildStep>, PlanError> {
    let plan = ExecPlan::compile(wishes.into(), process, CString::from(c"/bin/true"), Strings::default())?;
    Ok(plan.steps().to_vec())
}

/// The steps of a plan that its wishes add.
fn beyond_the_frame(wishes: impl Into<Vec<ChildStep>>, process: &ProcessState) -> Vec<ChildStep> {
    let frame = compile([], process).unwrap();
    compile(wishes, process).unwrap().into_iter().filter(|step| !frame.contains(step)).collect()
}

fn credentials(uid: u32, gid: u32, groups: &[u32]) -> [ChildStep; 3] {
    [SetGroups(groups.into()), SetGid(gid), SetUid(uid)]
}

fn path(path: &str) -> CString {
    CString::new(path).unwrap()
}

#[test]
fn the_frame_is_what_every_child_needs() {
    let signals = SIGNALS.map(ResetSignal);
    let descriptors = [UnshareDescriptors, SetStdin, SetStdout, CloseOthers];
    let frame = [&descriptors[..], &[StartSession], &signals, &[UnblockSignals]].concat();
    assert_eq!(compile([], &root()).unwrap(), frame);
    assert_eq!(compile([], &ProcessState::unknown()).unwrap().len(), frame.len() - 2 + 62, "every signal but two");
}

#[test]
fn wishes_that_the_process_has_already_are_not_in_the_plan() {
    let wishes =
        [limit(7, [1024, 4096]), SetNice(0), SetUmask(0o022), ChangeRoot(path("/")), ChangeDirectory(path("/"))];
    let with = |who: [ChildStep; 3]| [&wishes[..], &who].concat();
    assert_eq!(beyond_the_frame(with(credentials(0, 0, &[])), &root()), []);
    assert_eq!(beyond_the_frame(with(credentials(0, 0, &[0])), &root()), []);
    assert_eq!(beyond_the_frame(with(credentials(1000, 100, &[4, 100])), &user(1000, 100, &[100, 4])), []);
    // Only the root of an unknown process is known, and it may be the superuser.
    let unknown = beyond_the_frame(with(credentials(1000, 0, &[])), &ProcessState::unknown());
    let identity = [SetGroups([].into()), SetGid(0), KeepCapabilities, SetUid(1000), ForbidDump];
    assert_eq!(unknown, [&wishes[..3], &[EnterRoot], &identity].concat());
}

#[test]
fn each_wish_that_differs_is_in_the_plan() {
    let limits = [limit(7, [1023, 4096]), limit(7, [1024, 4095]), limit(8, [1024, 4096])];
    let others = [CONNECTION_TO_STDERR, NULL_TO_STDERR, SetNice(1), SetUmask(0), ChangeDirectory(path("/."))];
    for wish in limits.into_iter().chain(others).chain([SetGroups([4].into()), SetGid(1)]) {
        assert_eq!(beyond_the_frame([wish.clone()], &root()), [wish]);
    }
}

#[test]
fn a_child_that_changes_its_user_cannot_reach_the_daemons_memory() {
    let expected = [SetGroups([].into()), SetGid(65534), KeepCapabilities, SetUid(65534), ForbidDump];
    assert_eq!(beyond_the_frame(credentials(65534, 65534, &[]), &user(0, 0, &[0])), expected);
    assert_eq!(beyond_the_frame(credentials(65534, 65534, &[]), &root()), expected[1..], "it is in no group already");
}

#[test]
fn rights_beyond_the_wish_are_always_given_up() {
    for (groups, wish, expected) in [
        (&[4, 5][..], credentials(1000, 100, &[4]), SetGroups([4].into())),
        (&[100], credentials(1000, 100, &[]), SetGroups([].into())),
        (&[], credentials(1000, 101, &[]), SetGid(101)),
        (&[], credentials(1001, 100, &[]), SetUid(1001)),
    ] {
        assert_eq!(beyond_the_frame(wish, &user(1000, 100, groups)), [expected]);
    }
}

#[test]
fn a_new_root_is_entered_and_then_its_directory() {
    let (root_path, directory) = (ChangeRoot(path("/srv")), ChangeDirectory(path("/inner")));
    let plan = beyond_the_frame([directory.clone(), root_path.clone()], &root());
    assert_eq!(plan, [root_path.clone(), EnterRoot, directory]);
    assert_eq!(
        plan.iter().map(|step| step.kind().reported_as()).collect::<Vec<_>>(),
        [Step::Chroot, Step::Chroot, Step::Directory]
    );
    let plan = beyond_the_frame([ChangeDirectory(path("/")), root_path.clone()], &root());
    assert_eq!(plan, [root_path, EnterRoot], "it is there already");
}

#[test]
fn steps_that_contradict_each_other_are_no_plan() {
    let limit = |soft| limit(7, [soft, 4096]);
    for (wishes, kind) in [
        (vec![SetUid(1), SetUid(1)], StepKind::SetUid),
        (vec![NULL_TO_STDERR, CONNECTION_TO_STDERR], StepKind::SetStderr),
        (vec![limit(1), limit(2)], StepKind::SetRlimit),
        (vec![SetStdin], StepKind::SetStdin),
        (vec![ResetSignal(libc::SIGHUP)], StepKind::ResetSignal),
    ] {
        assert_eq!(compile(wishes, &root()), Err(PlanError::Repeated(kind)));
    }
}

#[test]
fn a_plan_without_a_needed_step_is_refused() {
    let whole = compile(credentials(1, 1, &[1]), &root()).unwrap();
    let whole: Vec<_> = [whole, vec![ChangeRoot(path("/srv")), EnterRoot]].concat();
    let sorted = |without: StepKind| {
        let mut steps: Vec<_> = whole.iter().filter(|step| step.kind() != without).cloned().collect();
        steps.sort_by_key(ChildStep::kind);
        steps
    };
    for kind in FRAME.map(|step| step.kind()).into_iter().chain(TOGETHER.map(|(_, other)| other)) {
        assert_eq!(check_order(&sorted(kind)), Err(PlanError::Missing(kind)));
    }
    for kind in [StepKind::SetGroups, StepKind::SetGid, StepKind::ResetSignal] {
        assert_eq!(check_order(&sorted(kind)), Ok(()));
    }
}

/// The rows of the table in a section of SECURITY.md: their first cells.
fn rows(section: &str) -> Vec<String> {
    let page = include_str!("../../../../SECURITY.md");
    let (_, rest) = page.split_once(section).unwrap();
    let table = rest.split("\n\n").find(|part| part.starts_with("| ")).unwrap();
    let cells = table.lines().skip(2).map(|line| line.split('|').nth(1).unwrap().trim());
    cells.map(|cell| cell.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_order_in_the_page_on_security_is_that_of_the_plan() {
    let expected: Vec<String> =
        StepKind::ALL.iter().map(|kind| kind.call_text().to_owned()).chain(["execve".to_owned()]).collect();
    assert_eq!(rows("## What a child does before execve"), expected);
}

fn any_wish() -> impl Strategy<Value = ChildStep> {
    let name = prop_oneof![Just("/"), Just("/srv"), Just("/srv/inner")];
    let groups = proptest::collection::vec(0..3_u32, 0..3);
    prop_oneof![
        Just(NULL_TO_STDERR),
        Just(CONNECTION_TO_STDERR),
        (0..4, 0..2_u64).prop_map(|(resource, soft)| limit(resource, [soft, 2])),
        (0..2).prop_map(SetNice),
        (0..2_u32).prop_map(SetUmask),
        name.clone().prop_map(|name| ChangeRoot(path(name))),
        name.prop_map(|name| ChangeDirectory(path(name))),
        groups.prop_map(|groups| SetGroups(groups.into())),
        (0..2_u32).prop_map(SetGid),
        (0..2_u32).prop_map(SetUid),
    ]
}

/// Wishes that don't contradict each other, in any order.
fn any_wishes() -> impl Strategy<Value = Vec<ChildStep>> {
    proptest::collection::vec(any_wish(), 0..16).prop_map(|all| {
        let mut wishes: Vec<ChildStep> = Vec::new();
        for wish in all {
            if !wishes.iter().any(|other| other.sets_same(&wish)) {
                wishes.push(wish);
            }
        }
        wishes
    })
}

/// A process in any state that wishes can describe.
fn any_process() -> impl Strategy<Value = ProcessState> {
    (any::<bool>(), any_wishes()).prop_map(|(known, wishes)| {
        let mut state = if known { root() } else { ProcessState::unknown() };
        apply(wishes, &mut state);
        state
    })
}

/// The state of a process after these steps. It is in its own group in any case.
fn outcome(steps: &[ChildStep], process: &ProcessState) -> ProcessState {
    let mut state = process.clone();
    let gid = steps.iter().find_map(|step| if let SetGid(gid) = step { Some(*gid) } else { None });
    for step in steps {
        match step {
            SetGroups(groups) if state.is_in_groups(groups, gid) => {}
            step => apply([step.clone()], &mut state),
        }
    }
    state
}

proptest! {
    #[test]
    fn every_plan_is_in_order_and_passes_the_check(wishes in any_wishes(), process in any_process()) {
        let steps = compile(wishes, &process).unwrap();
        prop_assert!(steps.is_sorted_by_key(ChildStep::kind));
        prop_assert_eq!(check_order(&steps), Ok(()));
        prop_assert_eq!(&steps[0], &UnshareDescriptors);
        prop_assert_eq!(steps.last(), Some(&UnblockSignals));
    }

    #[test]
    fn steps_in_another_order_do_not_pass(
        wishes in any_wishes(),
        process in any_process(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
    ) {
        let mut steps = compile(wishes, &process).unwrap();
        let moved = steps.remove(from.index(steps.len()));
        steps.insert(to.index(steps.len() + 1), moved);
        let sorted = steps.is_sorted_by_key(ChildStep::kind);
        prop_assert_eq!(check_order(&steps).is_ok(), sorted, "{:?}", steps);
    }

    #[test]
    fn the_order_of_wishes_does_not_matter(wishes in any_wishes(), process in any_process(), turn in 0..16_usize) {
        let mut turned = wishes.clone();
        turned.rotate_left(turn % wishes.len().max(1));
        let differ = |step: &ChildStep| if let SetRlimit(limit) = step { limit.resource } else { -1 };
        let canonical = |wishes| {
            let mut steps = compile(wishes, &process).unwrap();
            steps.sort_by_key(|step| (step.kind(), differ(step)));
            steps
        };
        prop_assert_eq!(canonical(wishes), canonical(turned));
    }

    #[test]
    fn steps_that_are_left_out_would_change_nothing(wishes in any_wishes(), process in any_process()) {
        let whole = compile(wishes.clone(), &ProcessState::unknown()).unwrap();
        let steps = compile(wishes, &process).unwrap();
        prop_assert_eq!(outcome(&steps, &process), outcome(&whole, &process));
    }

    #[test]
    fn a_second_plan_after_a_plan_is_empty(wishes in any_wishes(), process in any_process()) {
        let after = outcome(&compile(wishes.clone(), &process).unwrap(), &process);
        let stays = |step: &ChildStep| {
            let descriptors = step.kind() == StepKind::SetStderr;
            // These mean a directory by a path, which may be another by then.
            let path = matches!(step, ChangeRoot(_) | ChangeDirectory(_) | EnterRoot);
            !descriptors && !path && step.kind() != StepKind::ResetSignal
        };
        let again: Vec<_> = beyond_the_frame(wishes, &after).into_iter().filter(stays).collect();
        prop_assert!(again.is_empty(), "{:?}", again);
    }
}
