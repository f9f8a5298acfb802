//! vsftpd: `stream nowait`, needs a blocking socket, root, and both addresses of the connection.

use std::fs;
use std::process::Command;

use super::support::{Daemon, free_port};
use super::{all_gone, assert_file, client, give_to, have_as_root, path_of, random_file, serve, succeed};

fn prepare(daemon: &Daemon, passive: u16) {
    let folder = daemon.folder.path().display();
    for name in ["empty", "ftp", "ftp/incoming"] {
        fs::create_dir(daemon.path(name)).unwrap();
    }
    // vsftpd wants a user whose home exists; the one of `nobody` does not everywhere.
    give_to("daemon", &daemon.path("ftp/incoming"));
    fs::write(
        daemon.path("vsftpd.conf"),
        format!(
            "listen=NO\nanonymous_enable=YES\nlocal_enable=NO\nno_anon_password=YES\nftp_username=daemon\n\
             nopriv_user=nobody\nanon_root={folder}/ftp\nsecure_chroot_dir={folder}/empty\n\
             write_enable=YES\nanon_upload_enable=YES\nanon_umask=022\nxferlog_enable=NO\nconnect_from_port_20=NO\n\
             pasv_min_port={passive}\npasv_max_port={passive}\npasv_address=127.0.0.1\n"
        ),
    )
    .unwrap();
}

fn curl(daemon: &Daemon) -> Command {
    let mut command = client(daemon, "curl");
    command.args(["-q", "--silent", "--show-error"]);
    command
}

#[test]
fn ftp_uploads_and_downloads() {
    if !have_as_root(&["vsftpd", "curl"]) {
        return;
    }
    let (port, passive) = (free_port(), free_port());
    let daemon = serve(&format!("  ftp: {{ listen: {port}, program: [{}, FOLDER/vsftpd.conf] }}", path_of("vsftpd")));
    prepare(&daemon, passive);
    let bytes = random_file(&daemon, "ftp/file", 1_000_000);
    let there = format!("ftp://127.0.0.1:{port}");

    let ways: [&[&str]; 2] = [&["--ftp-pasv", "--disable-epsv"], &["--ftp-port", "127.0.0.1", "--disable-eprt"]];
    for (number, way) in ways.into_iter().enumerate() {
        let (back, up) = (format!("back{number}"), format!("incoming/up{number}"));
        succeed(curl(&daemon).args(way).args(["-o", &back, &format!("{there}/file")]));
        assert_file(&daemon.path(&back), &bytes);
        succeed(curl(&daemon).args(way).args(["--upload-file", "ftp/file", &format!("{there}/{up}")]));
        assert_file(&daemon.path(&format!("ftp/{up}")), &bytes);
    }
    all_gone(&daemon);
}
