//! Bugs planted on purpose: the model must find each of them, so that a model that finds nothing in the program means
//! something.
//!
//! Each file of `tests/model/bugs/` is a patch against `src/`. Its first line says what the bug is; a line `Found by:
//! TEST` before the diff names a unit test that finds it in place of the model. For each patch a copy of the checkout
//! is patched and built, and the test must fail there. A patch that no longer applies or builds is an error, too:
//! whoever changes the code that it is about writes it anew (`git diff -- src`). All copies are one folder below the
//! target directory, with a target directory of its own, so that each build is one step from the last.
//!
//! That takes minutes, so an ordinary run only sees that the patches apply. `.ci/run` does all of it, as does:
//!
//! ```sh
//! cargo test --test planted_bugs -- --ignored --nocapture
//! OXINETD_PLANTED=charged_for_owing cargo test --test planted_bugs -- --ignored --nocapture   # one of them
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The test that must fail, unless a patch names another.
const MODEL: &str = "model::counts_are_exact_in_every_history";

/// What the library and its unit tests are built from.
const COPIED: [&str; 6] = ["Cargo.toml", "Cargo.lock", "SECURITY.md", "src", "tests", "benches"];

/// A test that takes longer hangs.
const TEST_TIMEOUT: Duration = Duration::from_secs(180);

struct Bug {
    name: String,
    patch: PathBuf,
    /// What the patch says before its diff.
    description: String,
    found_by: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read_bug(patch: PathBuf) -> Bug {
    let text = fs::read_to_string(&patch).unwrap();
    let head: Vec<&str> = text.lines().take_while(|line| !line.starts_with("diff ")).collect();
    let found_by = head.iter().find_map(|line| line.strip_prefix("Found by: ")).unwrap_or(MODEL);
    Bug {
        name: patch.file_stem().unwrap().to_str().unwrap().to_owned(),
        description: head.first().copied().unwrap_or_default().to_owned(),
        found_by: found_by.to_owned(),
        patch,
    }
}

/// All planted bugs, in the order of their names.
fn bugs() -> Vec<Bug> {
    let mut patches: Vec<_> =
        fs::read_dir(root().join("tests/model/bugs")).unwrap().map(|one| one.unwrap().path()).collect();
    patches.sort();
    patches.into_iter().map(read_bug).collect()
}

/// Makes `to` equal `from`. A file that is equal already is left alone, so that cargo does not build it again.
fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        let content = fs::read(from).unwrap();
        if fs::read(to).ok().as_ref() != Some(&content) {
            fs::write(to, content).unwrap();
        }
        return;
    }
    fs::create_dir_all(to).unwrap();
    let names = |folder: &Path| -> BTreeSet<_> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    };
    for gone in names(to).difference(&names(from)) {
        let gone = to.join(gone);
        if gone.is_dir() { fs::remove_dir_all(gone).unwrap() } else { fs::remove_file(gone).unwrap() }
    }
    names(from).iter().for_each(|name| copy(&from.join(name), &to.join(name)));
}

/// A copy of the checkout that can be patched, built and restored.
struct Copy {
    checkout: PathBuf,
    target: PathBuf,
}

impl Copy {
    /// Copies of different names may be used at the same time.
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let copy = Self { checkout: folder.join("checkout"), target: folder.join("target") };
        copy.restore();
        copy
    }

    fn restore(&self) {
        fs::create_dir_all(&self.checkout).unwrap();
        COPIED.iter().for_each(|name| copy(&root().join(name), &self.checkout.join(name)));
    }

    /// Applies a patch, or only looks whether it can be applied.
    fn apply(&self, patch: &Path, options: &[&str]) -> Result<(), String> {
        let mut git = Command::new("git");
        // The copy lies within the checkout, and is not of its repository.
        git.current_dir(&self.checkout).env("GIT_CEILING_DIRECTORIES", self.checkout.parent().unwrap());
        let output = git.arg("apply").args(options).arg(patch).output().unwrap();
        let complaint = || format!("does not apply: {}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(()) } else { Err(complaint()) }
    }

    /// Builds the unit tests and gives their program.
    fn build(&self) -> Result<PathBuf, String> {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.current_dir(&self.checkout).args(["test", "--locked", "--offline", "--lib", "--no-run", "--quiet"]);
        cargo.arg("--message-format=json-render-diagnostics").arg("--target-dir").arg(&self.target);
        cargo.envs([("CARGO_INCREMENTAL", "1"), ("CARGO_PROFILE_DEV_DEBUG", "0"), ("CARGO_PROFILE_TEST_DEBUG", "0")]);
        let output = cargo.output().unwrap();
        let messages = String::from_utf8_lossy(&output.stdout);
        let mut programs = messages.lines().filter_map(|line| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(PathBuf::from(message["executable"].as_str()?))
        });
        let program = programs.next_back().filter(|_| output.status.success());
        program.ok_or_else(|| format!("does not build: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// Whether a unit test passes. The first history that is wrong will do: it is not cut down.
    fn passes(&self, program: &Path, test: &str) -> Result<bool, String> {
        let mut run = Command::new(program);
        run.current_dir(&self.checkout).args([test, "--exact"]).env("PROPTEST_MAX_SHRINK_ITERS", "0");
        let mut child = run.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while began.elapsed() < TEST_TIMEOUT {
            if let Some(status) = child.try_wait().unwrap() {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        Err(format!("{test} hangs"))
    }

    /// Plants a bug.
    ///
    /// # Errors
    /// It was not found, or could not be planted.
    fn plant(&self, bug: &Bug) -> Result<(), String> {
        self.restore();
        self.apply(&bug.patch, &[])?;
        let found = !self.passes(&self.build()?, &bug.found_by)?;
        if found { Ok(()) } else { Err(format!("is not found by {}", bug.found_by)) }
    }
}

fn has_git() -> bool {
    let found = Command::new("git").arg("--version").output().is_ok();
    if !found {
        println!("skipped: needs git, to apply patches");
    }
    found
}

#[test]
fn each_patch_says_what_it_is_and_applies() {
    if !has_git() {
        return;
    }
    let (copy, bugs) = (Copy::new("planted_bugs_checked"), bugs());
    assert!(!bugs.is_empty());
    for Bug { name, patch, description, .. } in bugs {
        assert!(description.ends_with('.'), "{name}: its first line is no sentence: {description:?}");
        copy.apply(&patch, &["--check"]).unwrap_or_else(|error| panic!("{name} {error}"));
    }
}

#[test]
#[ignore = "takes minutes: a build for each bug"]
fn each_planted_bug_is_found() {
    if !has_git() {
        return;
    }
    let only = std::env::var("OXINETD_PLANTED").ok();
    let bugs: Vec<_> = bugs().into_iter().filter(|bug| only.as_ref().is_none_or(|only| *only == bug.name)).collect();
    assert!(!bugs.is_empty(), "there is no {only:?}");
    let copy = Copy::new("planted_bugs");
    let program = copy.build().unwrap();
    // Without a bug, none is found.
    for test in bugs.iter().map(|bug| bug.found_by.as_str()).collect::<BTreeSet<_>>() {
        assert_eq!(copy.passes(&program, test), Ok(true), "{test}, without any bug");
    }
    let mut missed = Vec::new();
    for bug in bugs {
        let (began, result) = (Instant::now(), copy.plant(&bug));
        println!("{} ({}) after {} s: {result:?}", bug.name, bug.description, began.elapsed().as_secs());
        missed.extend(result.err().map(|error| format!("{} {error}", bug.name)));
    }
    copy.restore();
    assert!(missed.is_empty(), "\n{}", missed.join("\n"));
}
