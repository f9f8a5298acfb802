//! Reads one HTTP request and sends one answer: enough for a program that scrapes metrics, and no more (RFC 9112).
//!
//! It is meant to run as a handler of oxinetd itself. It asks the daemon before it reads any byte from the client,
//! and then drops the privilege that this needed, so that the process that reads a client's bytes has none.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, geteuid, setgid, setgroups, setuid};

use crate::api::{Request, Snapshot};
use crate::ctl::connection::DaemonClient;
use crate::ctl::failure::Failure;
use crate::ctl::output::Output;
use crate::ctl::render::metrics::{MetricsFormat, render_metrics};
use crate::exit;

/// The longest head of a request, in bytes.
const HEAD_LEN_MAX: usize = 8192;

/// A client has this long to send the head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The user id and group id of nobody (`/proc/sys/kernel/overflowuid`).
const NOBODY_ID: u32 = 65_534;

/// An answer to be sent.
struct HttpAnswer {
    status: &'static str,
    media_type: &'static str,
    body: String,
    /// Another line of the head, with its end; may be empty.
    extra: &'static str,
}

impl HttpAnswer {
    fn plain(status: &'static str, text: &str) -> Self {
        Self { status, media_type: "text/plain; charset=utf-8", body: format!("{text}\n"), extra: "" }
    }
}

pub(super) fn answer_request(daemon: &DaemonClient, output: &mut Output) -> Result<(), Failure> {
    let snapshot = daemon.request_as(&Request::Status {});
    drop_privilege().map_err(|error| Failure::new(exit::SYSTEM, format!("setuid: {error}")))?;
    let head = read_head(io::stdin().lock());
    let (answer, with_body) = match &head {
        Ok(head) => (choose_answer(head, &snapshot), !head.starts_with(b"HEAD ")),
        Err(answer) => (HttpAnswer::plain(answer, answer), true),
    };
    send_answer(output, &answer, with_body)?;
    // The reason of a failure goes to standard error, not to the client.
    snapshot.map(|_| ())
}

/// Root changes to the user nobody. Any other user keeps its privileges.
fn drop_privilege() -> nix::Result<()> {
    if geteuid().is_root() {
        setgroups(&[])?;
        setgid(Gid::from_raw(NOBODY_ID))?;
        setuid(Uid::from_raw(NOBODY_ID))?;
    }
    Ok(())
}

/// Reads a head up to its empty line. The error is the status for the answer.
fn read_head(mut input: impl Read + std::os::fd::AsFd) -> Result<Vec<u8>, &'static str> {
    let end = Instant::now() + HEAD_TIMEOUT;
    let mut head = Vec::new();
    while !is_complete(&head) {
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
        if head.len() > HEAD_LEN_MAX {
            return Err("431 Request Header Fields Too Large");
        }
    }
    Ok(head)
}

/// Whether there is an empty line. A line end without a carriage return is accepted too (RFC 9112 §2.2).
fn is_complete(head: &[u8]) -> bool {
    let is = |end: &[u8]| head.windows(end.len()).any(|window| window == end);
    is(b"\r\n\r\n") || is(b"\n\n")
}

fn choose_answer(head: &[u8], snapshot: &Result<Snapshot, Failure>) -> HttpAnswer {
    let Ok(head) = std::str::from_utf8(head) else { return HttpAnswer::plain("400 Bad Request", "400 Bad Request") };
    let mut lines = head.lines();
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let &[method, target, "HTTP/1.0" | "HTTP/1.1"] = words.as_slice() else {
        return HttpAnswer::plain("400 Bad Request", "400 Bad Request");
    };
    if !matches!(method, "GET" | "HEAD") {
        let answer = HttpAnswer::plain("405 Method Not Allowed", "405 Method Not Allowed");
        return HttpAnswer { extra: "Allow: GET, HEAD\r\n", ..answer };
    }
    if target.split('?').next() != Some("/metrics") {
        return HttpAnswer::plain("404 Not Found", "404 Not Found: the metrics are at /metrics");
    }
    match snapshot {
        Ok(snapshot) => {
            let format = accepted_format(lines);
            let (media_type, body) = (format.media_type(), render_metrics(snapshot, format));
            HttpAnswer { status: "200 OK", media_type, body, extra: "" }
        }
        Err(_) => HttpAnswer::plain("503 Service Unavailable", "503 Service Unavailable: the daemon does not answer"),
    }
}

/// OpenMetrics if the client asks for it, else the older format.
fn accepted_format<'a>(fields: impl Iterator<Item = &'a str>) -> MetricsFormat {
    let accepts = |line: &str| {
        let (name, value) = line.split_once(':').unwrap_or_default();
        name.eq_ignore_ascii_case("accept") && value.to_ascii_lowercase().contains("application/openmetrics-text")
    };
    if fields.into_iter().any(accepts) { MetricsFormat::OpenMetrics } else { MetricsFormat::Prometheus }
}

fn send_answer(output: &mut Output, answer: &HttpAnswer, with_body: bool) -> io::Result<()> {
    let HttpAnswer { status, media_type, body, extra } = answer;
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

/// Checks for [`crate::fuzzed`] that any bytes get an answer, and panics if not.
#[cfg(any(test, fuzzing))]
pub(crate) fn check_head(bytes: &[u8]) {
    let answer = choose_answer(bytes, &Err(Failure::new(1, "")));
    assert!(answer.status.starts_with(['4', '5']), "{}", answer.status);
    let _ = is_complete(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(request: &str) -> &'static str {
        choose_answer(request.as_bytes(), &Err(Failure::new(1, ""))).status
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
        assert!(is_complete(b"GET / HTTP/1.1\r\n\r\n") && is_complete(b"GET / HTTP/1.1\n\n"));
        assert!(!is_complete(b"GET / HTTP/1.1\r\nHost: x\r\n") && !is_complete(b""));
    }

    #[test]
    fn the_client_chooses_the_format() {
        assert_eq!(accepted_format(["Host: x", "Accept: */*"].into_iter()), MetricsFormat::Prometheus);
        let accept = "accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3";
        assert_eq!(accepted_format([accept].into_iter()), MetricsFormat::OpenMetrics);
    }
}
