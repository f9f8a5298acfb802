//! The service manager: what it is told, the watchdog, and the sockets that it passes.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;

use nix::sys::signal::Signal;

use crate::support::{self, Daemon, OXINETD, Setup, ask_text, connect, free_port, listening, services, wait_until};

#[test]
fn notify_socket_gets_every_change_of_state() {
    let ([_], table) = services([("cat", "program: /bin/cat")]);
    let mut daemon = Daemon::start(&table);
    daemon.notified();
    let before = nix::time::ClockId::CLOCK_MONOTONIC.now().unwrap();
    daemon.signal(Signal::SIGHUP);
    let mut messages = Vec::new();
    wait_until("the end of the reload", || {
        messages.extend(daemon.notified());
        messages.iter().any(|message| message.starts_with("READY=1"))
    });
    assert_eq!(messages.len(), 2, "{messages:?}");
    let lines: Vec<_> = messages[0].lines().collect();
    assert!(lines.contains(&"RELOADING=1"), "{lines:?}");
    // sd_notify(3): a time between the signal and now.
    let time = lines.iter().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap().parse::<i64>().unwrap();
    let micros = |time: nix::sys::time::TimeSpec| time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000;
    let after = nix::time::ClockId::CLOCK_MONOTONIC.now().unwrap();
    assert!((micros(before)..=micros(after)).contains(&time));
    assert!(messages[1].lines().any(|line| line.starts_with("STATUS=") && line.contains('1')), "{messages:?}");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_end();
    assert!(daemon.notified().iter().any(|message| message.lines().any(|line| line == "STOPPING=1")));
}

#[test]
fn watchdog_is_notified_if_it_is_ours() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let mut setup = Setup::new(&table);
    setup.command.env("WATCHDOG_USEC", "100000");
    let daemon = setup.start();
    let mut pings = 0;
    wait_until("ten pings", || {
        pings += daemon.notified().iter().filter(|message| *message == "WATCHDOG=1").count();
        pings >= 10
    });

    let mut setup = Setup::new(&table.replace(&port.to_string(), &free_port().to_string()));
    setup.command.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let daemon = setup.start();
    // Each reload is a turn, and takes longer than a millisecond.
    let mut messages = Vec::new();
    for number in 1..=10 {
        daemon.signal(Signal::SIGHUP);
        wait_until("the reload", || {
            messages.extend(daemon.notified());
            messages.iter().filter(|message| message.starts_with("READY=1")).count() == number
        });
    }
    assert!(!messages.contains(&"WATCHDOG=1".to_owned()), "the watchdog is another process's");
}

/// A daemon that is passed sockets as descriptors 3 and up. The shell in between knows the process id beforehand.
fn start_with(table: &str, sockets: Vec<TcpListener>) -> Daemon {
    let count = sockets.len();
    let script = format!("LISTEN_PID=$$ LISTEN_FDS={count} exec \"$0\" \"$@\"");
    let mut setup = Setup::run_by(&["/bin/sh", "-c", &script, OXINETD], table);
    let pass = move || {
        for (number, socket) in (3..).zip(&sockets) {
            // SAFETY: the numbers are those that sd_listen_fds(3) demands; dup2 also clears close-on-exec, except
            // where the socket has that number already.
            unsafe {
                if socket.as_raw_fd() == number {
                    libc::fcntl(number, libc::F_SETFD, 0);
                } else {
                    libc::dup2(socket.as_raw_fd(), number);
                }
            }
        }
        Ok(())
    };
    // SAFETY: system calls and nothing else.
    unsafe { setup.command.pre_exec(pass) };
    setup.start()
}

#[test]
fn passed_sockets_are_adopted() {
    let (adopted, own) = (free_port(), free_port());
    // Numbers far above 3 and 4, so that none is overwritten while it is moved.
    let high = |listener: TcpListener| {
        let number = nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_DUPFD_CLOEXEC(100)).unwrap();
        // SAFETY: the descriptor is new and nobody else's.
        unsafe { <TcpListener as std::os::fd::FromRawFd>::from_raw_fd(number) }
    };
    let passed = high(TcpListener::bind(("127.0.0.1", adopted)).unwrap());
    let stranger = high(TcpListener::bind("127.0.0.1:0").unwrap());
    let before = listening(adopted);
    let table = |more: &str| {
        format!("services: {{ cat: {{ listen: ['127.0.0.1:{adopted}', {own}], program: /bin/cat{more} }} }}")
    };
    let client = connect(adopted);
    let unwanted = stranger.local_addr().unwrap().port();
    let daemon = start_with(&table(""), vec![passed, stranger]);
    assert_eq!(listening(adopted), before, "another socket than the one that was passed");
    assert_eq!(support::ask(client, b"from before").unwrap(), b"from before");
    assert_eq!(ask_text(own, "x"), "x");
    assert_eq!(listening(unwanted), [], "a socket that no service wants is closed");
    daemon.change(&table(", nice: 1"));
    assert_eq!((listening(adopted), ask_text(adopted, "x")), (before, "x".to_owned()));
}

#[test]
fn sockets_passed_to_another_process_are_ignored() {
    let ([port], table) = services([("cat", "program: /bin/cat")]);
    let mut setup = Setup::new(&table);
    setup.command.env("LISTEN_PID", "1").env("LISTEN_FDS", "5");
    let _daemon = setup.start();
    assert_eq!(ask_text(port, "x"), "x");
}
