//! rsync: `stream nowait`, needs a socket as descriptor 0 and a working directory that exists.

use std::fs;

use super::support::{free_port, is_root};
use super::{all_gone, assert_file, client, have, have_ipv6, path_of, random_file, serve, succeed};

#[test]
fn rsync_uploads_and_downloads_a_hundred_megabytes() {
    if !have(&["rsync"]) {
        return;
    }
    let port = free_port();
    let daemon = serve(&format!(
        "  rsync: {{ listen: {port}, program: [{}, --daemon, --config=FOLDER/rsyncd.conf] }}",
        path_of("rsync")
    ));
    let (folder, user) = (daemon.folder.path().display(), if is_root() { "uid = root\ngid = root\n" } else { "" });
    fs::create_dir(daemon.path("srv")).unwrap();
    fs::write(
        daemon.path("rsyncd.conf"),
        format!(
            "use chroot = no\nlog file = {folder}/rsyncd.log\n{user}[files]\n\
             path = {folder}/srv\nread only = no\ncomment = of the test\n"
        ),
    )
    .unwrap();
    let bytes = random_file(&daemon, "original", 100_000_000);
    let v4 = format!("rsync://127.0.0.1:{port}/files");
    let v6 = if have_ipv6() { format!("rsync://[::1]:{port}/files") } else { v4.clone() };

    succeed(client(&daemon, "rsync").args(["original", &format!("{v4}/copy")]));
    assert_file(&daemon.path("srv/copy"), &bytes);
    succeed(client(&daemon, "rsync").args([&format!("{v6}/copy"), "back"]));
    assert_file(&daemon.path("back"), &bytes);
    let modules = succeed(client(&daemon, "rsync").arg(format!("rsync://127.0.0.1:{port}/")));
    assert_eq!(String::from_utf8(modules).unwrap(), "files          \tof the test\n");
    all_gone(&daemon);
}
