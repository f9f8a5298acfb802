//! One HTTP request in, one answer out: enough for who scrapes metrics, and for nothing else (RFC 9112).
//!
//! Meant as a handler of oxinetd itself. The daemon is asked before the first byte of the client is read, and what
//! privilege was needed for that is given up then: whatever a client sends, it is read by a process that may do nothing.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use crate::api::Snapshot;
use crate::ctl::connection::Daemon;
use crate::ctl::output::Output;
use crate::ctl::render::metrics::{Format, metrics};
use crate::ctl::{Failure, Request};
use crate::exit;

/// The longest head of a request that is read.
const HEAD: usize = 8192;

/// How long a client has to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The user and group of what has no owner (`/proc/sys/kernel/overflowuid`).
const NOBODY: u32 = 65_534;

/// An answer in the making.
struct Answer {
    status: &'static str,
    media_type: &'static str,
    body: String,
    /// Another field of the head.
    extra: &'static str,
}

impl Answer {
    fn plain(status: &'static str, text: &str) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: format!("{text}\n"), extra: "" }
    }
}

pub(super) fn answer(daemon: &Daemon, output: &mut Output) -> Result<(), Failure> {
    let snapshot = daemon.ask_for(&Request::Status {});
    give_up_privilege().map_err(|error| Failure::new(exit::SYSTEM, format!("setuid: {error}")))?;
    let head = read_head(io::stdin().lock());
    let (answer, with_body) = match &head {
        Ok(head) => (decide(head, &snapshot), !head.starts_with(b"HEAD ")),
        Err(answer) => (Answer::plain(answer, answer), true),
    };
    send(output, &answer, with_body)?;
    // The daemon's log is the place for the reason, not the client.
    snapshot.map(|_| ())
}

/// Root becomes nobody. Anybody else has nothing to give.
fn give_up_privilege() -> nix::Result<()> {
    if geteuid().is_root() {
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY))?;
        setuid(Uid::from_raw(NOBODY))?;
    }
    Ok(())
}

/// Reads until the empty line. The error is the status line that it deserves.
fn read_head(mut input: impl Read + std::os::fd::AsFd) -> Result<Vec<u8>, &'static str> {
    let end = Instant::now() + PATIENCE;
    let mut head = Vec::new();
    while !is_whole(&head) {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], timeout);
        if left.is_zero() || !matches!(ready, Ok(1..)) {
            return Err("408 Request Timeout");
        }
        let mut bytes = [0; 1024];
        match input.read(&mut bytes) {
            Ok(size @ 1..) => head.extend_from_slice(&bytes[..size]),
            _ => return Err("400 Bad Request"),
        }
        if head.len() > HEAD {
            return Err("431 Request Header Fields Too Large");
        }
    }
    Ok(head)
}

/// Is there an empty line? Ends of lines without a carriage return are taken as well (RFC 9112 §2.2).
fn is_whole(head: &[u8]) -> bool {
    let is = |end: &[u8]| head.windows(end.len()).any(|window| window == end);
    is(b"\r\n\r\n") || is(b"\n\n")
}

fn decide(head: &[u8], snapshot: &Result<Snapshot, Failure>) -> Answer {
    let Ok(head) = std::str::from_utf8(head) else { return Answer::plain("400 Bad Request", "400 Bad Request") };
    let mut lines = head.lines();
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let &[method, target, "HTTP/1.0" | "HTTP/1.1"] = words.as_slice() else {
        return Answer::plain("400 Bad Request", "400 Bad Request");
    };
    if !matches!(method, "GET" | "HEAD") {
        let answer = Answer::plain("405 Method Not Allowed", "405 Method Not Allowed");
        return Answer { extra: "Allow: GET, HEAD\r\n", ..answer };
    }
    if target.split('?').next() != Some("/metrics") {
        return Answer::plain("404 Not Found", "404 Not Found: the metrics are at /metrics");
    }
    match snapshot {
        Ok(snapshot) => {
            let format = format(lines);
            let (media_type, body) = (format.media_type(), metrics(snapshot, format));
            Answer { status: "200 OK", media_type, body, extra: "" }
        }
        Err(_) => Answer::plain("503 Service Unavailable", "503 Service Unavailable: the daemon does not answer"),
    }
}

/// OpenMetrics for who asks for it, the older format for everybody else.
fn format<'a>(fields: impl Iterator<Item = &'a str>) -> Format {
    let accepts = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("accept") && value.to_ascii_lowercase().contains("application/openmetrics-text")
    };
    if fields.into_iter().any(accepts) { Format::OpenMetrics } else { Format::Prometheus }
}

fn send(output: &mut Output, answer: &Answer, with_body: bool) -> io::Result<()> {
    let Answer { status, media_type, body, extra } = answer;
    let length = body.len();
    write!(
        output,
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {length}\r\n{extra}Connection: close\r\n\r\n"
    )?;
    if with_body {
        output.write_all(body.as_bytes())?;
    }
    output.flush()
}

/// Reads a head from `bytes`, for [`crate::fuzzed`]: whatever it is, it deserves some answer.
///
/// # Panics
/// If it gets none.
#[cfg(any(test, fuzzing))]
pub fn any_head(bytes: &[u8]) {
    let answer = decide(bytes, &Err(Failure::new(1, "")));
    assert!(answer.status.starts_with(['4', '5']), "{}", answer.status);
    let _ = is_whole(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> &'static str {
        decide(request.as_bytes(), &Err(Failure::new(1, ""))).status
    }

    #[test]
    fn one_path_and_two_methods() {
        assert_eq!(status("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"), "503 Service Unavailable");
        assert_eq!(status("HEAD /metrics?x=1 HTTP/1.0\r\n\r\n"), "503 Service Unavailable");
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(status("GET /metricsX HTTP/1.1\r\n\r\n"), "404 Not Found");
        assert_eq!(status("POST /metrics HTTP/1.1\r\n\r\n"), "405 Method Not Allowed");
        for bad in
            ["", "\r\n\r\n", "GET /metrics\r\n\r\n", "GET  /metrics HTTP/1.1\r\n\r\n", "GET /metrics HTTP/2\r\n\r\n"]
        {
            assert_eq!(status(bad), "400 Bad Request", "{bad:?}");
        }
    }

    #[test]
    fn a_head_ends_with_an_empty_line() {
        assert!(is_whole(b"GET / HTTP/1.1\r\n\r\n") && is_whole(b"GET / HTTP/1.1\n\n"));
        assert!(!is_whole(b"GET / HTTP/1.1\r\nHost: x\r\n") && !is_whole(b""));
    }

    #[test]
    fn the_client_chooses_the_format() {
        assert_eq!(format(["Host: x", "Accept: */*"].into_iter()), Format::Prometheus);
        let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(format([accept].into_iter()), Format::OpenMetrics);
    }
}
