//! distccd: `stream nowait`, needs SIGCHLD at its default, and a peer of the family AF_INET even on a dual-stack port.

use std::fs;
use std::process::Command;

use super::support::{free_port, is_root};
use super::{all_gone, books, client, give_to, have, path_of, serve, succeed};

const PROGRAM: &str = "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", 6 * 7); return 0; }\n";

#[test]
fn distcc_compiles_on_the_server() {
    if !have(&["distccd", "distcc", "gcc"]) {
        return;
    }
    let port = free_port();
    let user = if is_root() { "user: nobody, " } else { "" };
    let daemon = serve(&format!(
        "  distcc: {{ listen: {port}, {user}env: {{ TMPDIR: FOLDER/work, {}: FOLDER }}, program: [{}, --inetd, --allow, \
         127.0.0.1, --enable-tcp-insecure, --log-file=FOLDER/work/log, --log-level=info] }}",
        super::MARK,
        path_of("distccd")
    ));
    fs::create_dir(daemon.path("work")).unwrap();
    give_to("nobody", &daemon.path("work"));
    fs::write(daemon.path("answer.c"), PROGRAM).unwrap();

    let mut compile = client(&daemon, "distcc");
    compile.env("DISTCC_HOSTS", format!("127.0.0.1:{port}")).env("DISTCC_DIR", daemon.path("home"));
    compile.env("DISTCC_FALLBACK", "0").env("DISTCC_BACKOFF_PERIOD", "0");
    succeed(compile.args(["gcc", "-c", "answer.c", "-o", "answer.o"]));

    all_gone(&daemon);

    // It was there that the compiler ran, and what came back is a program.
    let log = fs::read_to_string(daemon.path("work/log")).unwrap();
    assert!(log.lines().any(|line| line.contains("COMPILE_OK") && line.contains("answer.c")), "{log}");
    assert_eq!(books(&daemon, "distcc")["accepted"], 1);
    succeed(client(&daemon, "gcc").args(["answer.o", "-o", "answer"]));
    assert_eq!(succeed(&mut Command::new(daemon.path("answer"))), b"42\n");
}
