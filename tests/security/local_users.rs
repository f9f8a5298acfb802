//! What users of this machine may try: those as whom handlers run, and those that connect to a Unix socket.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use crate::support::{
    Daemon, OXINETD, Setup, children_of, connect, field, free_port, installed, is_root, nobody, skip, wait_for,
};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect as connect_socket, socket};

/// Whether `nobody` may read a file of /proc, of which a part is asked for.
fn nobody_may_read(path: &Path) -> bool {
    let (uid, gid) = nobody();
    let mut head = Command::new("/usr/bin/setpriv");
    head.args([format!("--reuid={uid}"), format!("--regid={gid}"), "--clear-groups".to_owned()]);
    head.args(["/usr/bin/head", "-c", "1"]).arg(path);
    head.output().is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
}

#[test]
fn child_that_shares_memory_cannot_be_read_by_its_new_user() {
    // strace(1) keeps the child where it has its user already, and still the daemon's memory: before execve(2).
    let tools = ["strace", "setpriv", "head"].iter().all(|tool| installed(tool).is_some());
    if !tools || !is_root() {
        return skip("needs root, strace, setpriv and head");
    }
    let port = free_port();
    let table = format!("services: {{ wait: {{ listen: {port}, program: [/bin/sleep, '100'], user: nobody }} }}");
    // The start of the daemon itself is delayed, too.
    let strace =
        ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=execve", "-e", "inject=execve:delay_enter=4000000"];
    let mut daemon = Setup::run_by(&[&strace[..], &[OXINETD]].concat(), &table).start();
    daemon.pid = wait_for("the daemon itself", || children_of(daemon.pid).first().copied());
    let _client = connect(port);
    let (uid, _) = nobody();
    let child = wait_for("a child that runs as nobody", || {
        let child = *children_of(daemon.pid).first()?;
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        (field(&status, "Uid") == format!("{uid}\t{uid}\t{uid}\t{uid}")).then_some(child)
    });
    let proc = Path::new("/proc").join(child.to_string());
    let status = fs::read_to_string(proc.join("status")).unwrap();
    if field(&status, "Name") != "oxinetd" {
        return skip("the child was too fast");
    }
    // None in effect, and yet held: a process that lacks them is kept off, whatever fs.suid_dumpable says.
    assert_eq!(field(&status, "CapEff"), "0000000000000000");
    assert_ne!(field(&status, "CapPrm"), "0000000000000000");
    assert!(!nobody_may_read(&proc.join("maps")) && !nobody_may_read(&proc.join("environ")));
    let handler = wait_for("the handler", || {
        let status = fs::read_to_string(proc.join("status")).ok()?;
        (field(&status, "Name") == "sleep").then_some(status)
    });
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(&handler, set), "0000000000000000", "{set} of the handler");
    }
}

#[test]
fn path_of_a_unix_client_cannot_inject_a_variable() {
    let port = installed("env").unwrap();
    let daemon =
        Daemon::start(&format!("services: {{ env: {{ listen: 'unix:FOLDER/socket', program: {} }} }}", port.display()));
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    // By hand: the types of every library refuse such a path.
    let mut address: libc::sockaddr_un = libc::sockaddr_un { sun_family: libc::AF_UNIX as u16, sun_path: [0; 108] };
    let path = format!("{}\0LD_PRELOAD=/tmp/evil.so", daemon.path("own").display());
    for (place, byte) in address.sun_path.iter_mut().zip(path.bytes()) {
        *place = byte as libc::c_char;
    }
    let length = (2 + path.len()) as libc::socklen_t;
    // SAFETY: the address is a sockaddr_un of which `length` bytes are filled in.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    assert_eq!(bound, 0);
    let to = nix::sys::socket::UnixAddr::new(&daemon.path("socket")).unwrap();
    connect_socket(socket.as_raw_fd(), &to).unwrap();
    let mut text = String::new();
    UnixStream::from(socket).read_to_string(&mut text).unwrap();
    assert!(text.contains("IPCREMOTEEUID="), "{text}");
    assert!(!text.contains("LD_PRELOAD"), "{text}");
}
