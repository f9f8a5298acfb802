//! What the kernel says of processes, and programs that tests write.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Puts a program at `place`. Another process writes it: the kernel runs no file that a process could still write to, as a
/// program could that another thread of ours starts in that moment, until its execve(2).
pub fn put_program(place: &Path, content: impl AsRef<[u8]>) {
    let mut shell = Command::new("/bin/sh");
    let mut writer =
        shell.args(["-c", r#"cat > "$0" && chmod 755 "$0""#]).arg(place).stdin(Stdio::piped()).spawn().unwrap();
    writer.stdin.take().unwrap().write_all(content.as_ref()).unwrap();
    assert!(writer.wait().unwrap().success());
}

/// All children of a process, zombies included.
pub fn children_of(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>()).collect()
}

/// The state letter of a process, as ps(1) shows it.
pub fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 2..].chars().next()
}

/// A field of a `/proc/PID/status`, without its name.
pub fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status:?}")).trim()
}

/// The ids of the user and group `nobody`, which owns nothing.
pub fn nobody() -> (u32, u32) {
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    (user.uid.as_raw(), user.gid.as_raw())
}
