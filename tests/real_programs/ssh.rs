//! sshd -i: `stream nowait`, must be root, and wants /run/sshd.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::support::{Daemon, free_port};
use super::{all_gone, client, have_as_root, path_of, random, serve, succeed};

/// Keys for the host and the user, and the files that make each known to the other.
fn prepare(daemon: &Daemon, port: u16) {
    fs::create_dir_all("/run/sshd").unwrap();
    for key in ["host", "user"] {
        succeed(client(daemon, "ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", key, "-f", key]));
    }
    fs::copy(daemon.path("user.pub"), daemon.path("authorized_keys")).unwrap();
    let host = fs::read_to_string(daemon.path("host.pub")).unwrap();
    fs::write(daemon.path("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
    let folder = daemon.folder.path().display();
    fs::write(
        daemon.path("sshd_config"),
        format!(
            "HostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        ),
    )
    .unwrap();
}

fn ssh(daemon: &Daemon, port: u16, remote: &str) -> Command {
    let mut command = client(daemon, "ssh");
    command.args(["-F", "none", "-i", "user", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
    command.args(["-o", "StrictHostKeyChecking=yes", "-o", "UserKnownHostsFile=known_hosts"]);
    command.args(["-p", &port.to_string(), "root@127.0.0.1", remote]);
    command
}

#[test]
fn ssh_logs_in_and_runs_a_command() {
    if !have_as_root(&["sshd", "ssh", "ssh-keygen"]) {
        return;
    }
    let port = free_port();
    let daemon =
        serve(&format!("  ssh: {{ listen: {port}, program: [{}, -i, -e, -f, FOLDER/sshd_config] }}", path_of("sshd")));
    prepare(&daemon, port);

    // What sshd tells the session of the connection is the client's address as an IPv4 address.
    let told = String::from_utf8(succeed(&mut ssh(&daemon, port, "echo $SSH_CONNECTION"))).unwrap();
    let words: Vec<_> = told.split_whitespace().collect();
    assert_eq!([words[0], words[2], words[3]], ["127.0.0.1", "127.0.0.1", &port.to_string()]);

    let bytes = random(1_000_000);
    let mut cat = ssh(&daemon, port, "cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = cat.stdin.take().unwrap();
    let to_send = bytes.clone();
    let sender = std::thread::spawn(move || input.write_all(&to_send).unwrap());
    let output = cat.wait_with_output().unwrap();
    sender.join().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{} of {} bytes", output.stdout.len(), bytes.len());

    assert_eq!(ssh(&daemon, port, "exit 7").status().unwrap().code(), Some(7));
    all_gone(&daemon);
}
