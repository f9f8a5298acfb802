//! A `stream wait` service: the handler is lent the listening socket and accepts for itself. There is no small program
//! that does it, so a few words of Perl stand for the large ones (Xvnc, and what was written for systemd).

use super::support::{ask_text, free_port, wait_until};
use super::{all_gone, have, left_over, listener, only_handler, path_of, serve};

/// Serves two clients and leaves.
const SERVER: &str =
    r#"for (1..2) { accept(my $c, *STDIN) or die; my $word = <$c>; syswrite($c, "$$ $word"); close($c) }"#;

#[test]
fn wait_handler_accepts_and_serves_several_clients() {
    if !have(&["perl"]) {
        return;
    }
    let port = free_port();
    let daemon =
        serve(&format!("  server: {{ listen: {port}, wait: true, program: [{}, -e, '{SERVER}'] }}", path_of("perl")));
    // Asks, and gives the handler's process id.
    let ask = |word: &str| -> i32 {
        let answer = ask_text(port, &format!("{word}\n"));
        let (pid, rest) = answer.split_once(' ').unwrap();
        assert_eq!(rest, format!("{word}\n"));
        pid.parse().unwrap()
    };
    let first = ask("one");
    assert_eq!(only_handler(&daemon), first);
    assert_eq!(listener(&daemon, "server"), "lent");
    assert_eq!(left_over(&daemon), [first.to_string()]);
    assert_eq!(ask("two"), first);
    wait_until("the socket to be given back", || listener(&daemon, "server") == "listening");

    let second = ask("three");
    assert_ne!(second, first);
    assert_eq!(ask("four"), second);
    all_gone(&daemon);
    assert_eq!(daemon.status()["services"]["server"]["accepted"], 2);
}
