//! Services on Unix sockets: the socket file, and the uid as the source.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};

use nix::sys::signal::Signal;

use crate::support::{Daemon, Setup, is_root, read_all, stop_listening, wait_until};

#[test]
fn socket_file_has_mode_and_owner_and_is_removed_at_stop() {
    let owner = if is_root() { ", owner: '4711:4712'" } else { "" };
    let socket = format!("socket: {{ mode: '0620'{owner} }}");
    let table = format!("services: {{ cat: {{ listen: 'unix:FOLDER/socket', program: /bin/cat, {socket} }} }}");
    let mut daemon = Daemon::start(&table);
    let path = daemon.path("socket");
    let file = fs::metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o7777, 0o620);
    if is_root() {
        assert_eq!((file.uid(), file.gid()), (4711, 4712));
    }
    let answer = |word: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        std::io::Write::write_all(&mut stream, word).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        read_all(stream)
    };
    assert_eq!(answer(b"one"), b"one");
    daemon.signal(Signal::SIGTERM);
    assert!(daemon.wait_end().success());
    assert!(!path.exists());
}

#[test]
fn stale_socket_file_is_replaced_and_a_live_one_is_not() {
    const TABLE: &str = "services: { cat: { listen: 'unix:FOLDER/socket', program: /bin/cat } }";
    let setup = Setup::new(TABLE);
    stop_listening(UnixListener::bind(setup.folder.path().join("socket")).unwrap());
    let daemon = setup.start();
    drop(UnixStream::connect(daemon.path("socket")).unwrap());

    let setup = Setup::new(TABLE);
    let path = setup.folder.path().join("socket");
    let live = UnixListener::bind(&path).unwrap();
    let inode = fs::metadata(&path).unwrap().ino();
    // The folder is gone after `fail`.
    let alive = std::thread::spawn(move || live.accept().map(|_| fs::metadata(path).map(|file| file.ino()).ok()));
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(69), "{stderr}");
    assert!(stderr.contains("services.cat.listen: unix:") && stderr.contains("in use"), "{stderr}");
    assert!(alive.join().unwrap().unwrap().is_none_or(|now| now == inode));

    let setup = Setup::new(TABLE);
    fs::write(setup.folder.path().join("socket"), "precious").unwrap();
    let (status, stderr) = setup.fail();
    assert_eq!(status.code(), Some(69), "{stderr}");
}

#[test]
fn uid_is_the_source_of_a_unix_client() {
    let keys = "program: /bin/cat, per_source: { instances: 1 }, refuse: close";
    let daemon = Daemon::start(&format!("services: {{ cat: {{ listen: 'unix:FOLDER/socket', {keys} }} }}"));
    let first = UnixStream::connect(daemon.path("socket")).unwrap();
    wait_until("the handler", || daemon.count("cat") == 1);
    let source = daemon.status()["sources"][0]["source"].clone();
    assert_eq!(source, format!("uid:{}", nix::unistd::geteuid()));
    assert_eq!(read_all(UnixStream::connect(daemon.path("socket")).unwrap()), b"");
    drop(first);
    daemon.wait_idle();
}
