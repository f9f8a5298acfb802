//! How each server is told what to serve and whom to refuse: its words and its table.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{Error, Result};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::Place;
use super::kind::{Kind, find};
use super::visits::BAD;

/// What a server is told to keep its clients to. Each hears of that which it can do.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    /// Nobody from [`BAD`].
    pub(crate) deny: bool,
    /// Live handlers of one source.
    pub(crate) per_source: Option<u32>,
    /// Connections a minute: of one source with oxinetd, of all together with the others.
    pub(crate) per_minute: Option<u32>,
    /// Live handlers of a service.
    pub(crate) total: Option<u32>,
}

impl Limits {
    pub(crate) const NONE: Self = Self { deny: false, per_source: None, per_minute: None, total: None };
}

/// More than any run needs, where a server wants a number.
const PLENTY: u32 = 20_000;

/// The rate of an inetd that no run reaches; busybox knows it as 0.
const NO_RATE: u32 = 2_000_000_000;

/// The words that follow the program. The first that have `files` in them name what [`write_table`] wrote.
pub(crate) fn words(kind: Kind, limits: &Limits, place: &Place, files: &Path, port: u16) -> Result<Vec<OsString>> {
    let [table, log, pid] = ["table", "log", "pid"].map(|suffix| files.with_extension(suffix).display().to_string());
    let total = limits.total.unwrap_or(PLENTY);
    let rate = limits.per_minute.unwrap_or(NO_RATE);
    let text = match kind {
        Kind::Oxinetd => format!("-c {table} --log {log}"),
        Kind::Xinetd => format!("-dontfork -f {table} -filelog {log} -pidfile {pid}"),
        Kind::OpenbsdInetd => format!("-i -R {rate} {table}"),
        Kind::InetutilsInetd => format!("-R {rate} --pidfile={pid} {table}"),
        Kind::BusyboxInetd => format!("-f -R {} {table}", limits.per_minute.unwrap_or(0)),
        // No look-ups of names and users; that would be measured.
        Kind::Tcpserver => format!("-R -H -l localhost -b 1024 -c {total}{} 127.0.0.1 {port}", rules(limits, files)?),
        Kind::Tcpsvd => format!("-l localhost -b 1024 -c {total}{} 127.0.0.1 {port}", instructions(limits, files)?),
        Kind::Minimal | Kind::Session | Kind::Design | Kind::Closing => port.to_string(),
    };
    let handler = (!kind.serves_many()).then(|| place.handler.clone().into());
    Ok(text.split_whitespace().map(OsString::from).chain(handler).collect())
}

/// tcpserver's rules, compiled.
fn rules(limits: &Limits, files: &Path) -> Result<String> {
    if !limits.deny {
        return Ok(String::new());
    }
    let [rules, compiled, scratch] = ["rules", "cdb", "scratch"].map(|suffix| files.with_extension(suffix));
    fs::write(&rules, format!("{BAD}:deny\n:allow\n"))?;
    let compiler = find("tcprules").ok_or_else(|| Error::other("tcprules is not on this machine"))?;
    let input = Stdio::from(fs::File::open(rules)?);
    let status = Command::new(&compiler[0]).arg(&compiled).arg(scratch).stdin(input).status()?;
    if status.success() { Ok(format!(" -x {}", compiled.display())) } else { Err(Error::other("tcprules failed")) }
}

/// tcpsvd's instructions: a file that may be neither read nor run denies.
fn instructions(limits: &Limits, files: &Path) -> Result<String> {
    let per_source = limits.per_source.map(|most| format!(" -C {most}")).unwrap_or_default();
    if !limits.deny {
        return Ok(per_source);
    }
    let folder = files.with_extension("instructions");
    fs::create_dir_all(&folder)?;
    let denied = folder.join(BAD.to_string());
    fs::write(&denied, "")?;
    fs::set_permissions(denied, fs::Permissions::from_mode(0o0))?;
    Ok(format!("{per_source} -i {}", folder.display()))
}

/// Writes a service for each of `ports`, the last of which holds its clients.
pub(crate) fn write_table(kind: Kind, limits: &Limits, place: &Place, files: &Path, ports: &[u16]) -> Result<()> {
    let handler = place.handler.display();
    let mut text = match kind {
        Kind::Oxinetd => oxinetd_defaults(limits),
        Kind::Xinetd => xinetd_defaults(limits),
        kind if kind.serves_many() => String::new(),
        _ => return Ok(()),
    };
    for (index, port) in ports.iter().enumerate() {
        let hold = if index + 1 == ports.len() { "hold" } else { "" };
        match kind {
            Kind::Oxinetd => {
                writeln!(text, "  s{index}: {{ listen: \"tcp/127.0.0.1:{port}\", program: {handler} {hold} }}")
            }
            Kind::Xinetd => writeln!(
                text,
                "service s{index}\n{{\ntype = UNLISTED\nsocket_type = stream\nprotocol = tcp\nwait = no\nuser = root\n\
                 bind = 127.0.0.1\nport = {port}\nserver = {handler}\n{}}}",
                if hold.is_empty() { "" } else { "server_args = hold\n" }
            ),
            _ => writeln!(text, "127.0.0.1:{port} stream tcp nowait root {handler} handler {hold}"),
        }
        .map_err(Error::other)?;
    }
    fs::write(files.with_extension("table"), text)
}

fn oxinetd_defaults(limits: &Limits) -> String {
    let instances = limits.per_source.unwrap_or(PLENTY);
    let rate = limits.per_minute.map(|rate| format!(", rate: {rate}/min, burst: {}", rate.min(20))).unwrap_or_default();
    let deny = if limits.deny { format!("deny: {BAD}, ") } else { String::new() };
    format!(
        "daemon: {{ instances: {PLENTY} }}\n\
         defaults: {{ instances: unlimited, {deny}per_source: {{ instances: {instances}{rate} }} }}\nservices:\n"
    )
}

/// Its rate, for one second of which it has a number, is over after as many seconds; then all wait for ten.
fn xinetd_defaults(limits: &Limits) -> String {
    let per_source = limits.per_source.map_or_else(|| "UNLIMITED".to_owned(), |most| most.to_string());
    let rate = limits.per_minute.map_or(NO_RATE, |rate| rate / 60);
    let deny = if limits.deny { format!("no_access = {BAD}\n") } else { String::new() };
    format!("defaults\n{{\ninstances = UNLIMITED\nper_source = {per_source}\ncps = {rate} 10\n{deny}}}\n")
}
