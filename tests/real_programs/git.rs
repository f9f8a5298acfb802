//! git-daemon: `stream nowait`, needs SIGCHLD at its default, a PATH, and a repository of its own user.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::support::{Daemon, free_port, installed, is_root, skip};
use super::{all_gone, assert_file, client, give_to, have, have_ipv6, path_of, random_file, serve, succeed};

/// Some systems have git-daemon in a package of its own.
fn have_git() -> bool {
    let folder = || succeed(Command::new(installed("git").unwrap()).arg("--exec-path"));
    let have = have(&["git"]) && Path::new(String::from_utf8(folder()).unwrap().trim()).join("git-daemon").exists();
    if !have {
        skip("no git-daemon");
    }
    have
}

fn git(daemon: &Daemon, arguments: &[&str]) -> String {
    let mut command = client(daemon, "git");
    command.args(["-c", "user.name=Test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]);
    String::from_utf8(succeed(command.env("GIT_CONFIG_NOSYSTEM", "1").args(arguments))).unwrap()
}

#[test]
fn git_clones_and_pushes() {
    if !have_git() {
        return;
    }
    let port = free_port();
    let user = if is_root() { "user: nobody, " } else { "" };
    let daemon = serve(&format!(
        "  git: {{ listen: {port}, {user}program: [{}, daemon, --inetd, --export-all, --enable=receive-pack, \
         --base-path=FOLDER/srv, FOLDER/srv] }}",
        path_of("git")
    ));
    fs::create_dir(daemon.path("srv")).unwrap();
    git(&daemon, &["init", "-q", "--bare", "-b", "main", "srv/project.git"]);
    give_to("nobody", &daemon.path("srv/project.git"));
    let v4 = format!("git://127.0.0.1:{port}/project.git");
    let v6 = if have_ipv6() { format!("git://[::1]:{port}/project.git") } else { v4.clone() };

    git(&daemon, &["init", "-q", "-b", "main", "one"]);
    let bytes = random_file(&daemon, "one/data", 3_000_000);
    git(&daemon, &["-C", "one", "add", "data"]);
    git(&daemon, &["-C", "one", "commit", "-q", "-m", "First"]);
    git(&daemon, &["-C", "one", "push", "-q", &v4, "main"]);
    let first = git(&daemon, &["-C", "one", "rev-parse", "main"]);
    assert_eq!(git(&daemon, &["ls-remote", &v6, "refs/heads/main"]), format!("{}\trefs/heads/main\n", first.trim()));

    // And back over the other family, with a change on top.
    git(&daemon, &["clone", "-q", &v6, "two"]);
    assert_file(&daemon.path("two/data"), &bytes);
    let more = random_file(&daemon, "two/more", 500_000);
    git(&daemon, &["-C", "two", "add", "more"]);
    git(&daemon, &["-C", "two", "commit", "-q", "-m", "Second"]);
    git(&daemon, &["-C", "two", "push", "-q", &v6, "main"]);
    git(&daemon, &["clone", "-q", &v4, "three"]);
    assert_file(&daemon.path("three/data"), &bytes);
    assert_file(&daemon.path("three/more"), &more);
    all_gone(&daemon);
}
