//! From an entry to a specification: which keys its fields mean.
//!
//! [`super::read_table`] calls [`Reading::make_spec`] for the entries that have a socket. It looks up the user, the
//! group and the program, since an entry whose user is missing was never served, and one whose program is missing
//! is off until it comes.

use std::time::Duration;

use super::entry::{Entry, Place};
use super::lints::is_tcpd_of_itself;
use super::reading::Reading;
use crate::config::Stderr;
use crate::config::dialect::Dialect;
use crate::config::keys::{ServiceSpec, SourceSpec};
use crate::config::location::{Location, Spanned};
use crate::config::units::Rate;

/// More in a minute is no limit.
const MAX_STARTS_PER_MINUTE: u32 = 1_000_000;
/// The window of all limits.
const MINUTE: Duration = Duration::from_secs(60);

/// The defaults of the daemon of a dialect. `at` is the file.
pub(super) fn base_spec(dialect: Dialect, at: &Location) -> ServiceSpec {
    let mut base = ServiceSpec { stderr: Some(at.spanned(Stderr::Connection)), ..ServiceSpec::default() };
    base.instances = Some(at.spanned(None));
    base.per_source = dialect.starts_per_minute().map_or_else(SourceSpec::default, |number| per_minute(number, at));
    base
}

fn per_minute(number: u32, at: &Location) -> SourceSpec {
    let rate = Rate { events: number, per: MINUTE };
    SourceSpec { rate: Some(at.spanned(rate)), burst: Some(at.spanned(number)), ..SourceSpec::default() }
}

impl Reading<'_> {
    /// The service of an entry; `None` if there can be none, which has been said then.
    pub(super) fn make_spec(&mut self, entry: &Entry) -> Option<ServiceSpec> {
        let mut spec = ServiceSpec { listen: Some(listen_sockets(entry)), ..ServiceSpec::default() };
        if entry.program.value == "internal" {
            spec.builtin = Some(entry.program.at.spanned(entry.service.clone()));
        } else {
            self.put_program(entry, &mut spec)?;
        }
        self.check_accounts(entry)?;
        // No daemon looks at the user of an internal service.
        if spec.builtin.is_none() {
            spec.user.clone_from(&entry.user);
            spec.group.clone_from(&entry.group);
        }
        self.put_wait(entry, &mut spec)?;
        put_limits(entry, self.dialect, &mut spec);
        spec.socket.send_buffer.clone_from(&entry.send_buffer);
        spec.socket.receive_buffer.clone_from(&entry.receive_buffer);
        self.put_unix_socket(entry, &mut spec)?;
        if entry.off {
            spec.enabled = Some(entry.at.spanned(false));
        }
        Some(spec)
    }

    /// Is an internal service one that there is? Asked before the entry may take a port.
    pub(super) fn check_internal(&mut self, entry: &Entry) -> Option<()> {
        let (name, at) = (entry.service.as_str(), &entry.program.at);
        if entry.program.value != "internal" {
            return Some(());
        }
        if !self.dialect.has_internal(name, entry.datagram) {
            let kind = if entry.datagram { "datagrams" } else { "streams" };
            return self.skip(at, format!("{} has no internal service {name:?} for {kind}", self.daemon_name()));
        }
        if name == "auth" {
            return self
                .refuse(at, "there is no internal auth service here; run an ident daemon such as nullidentd(8)");
        }
        Some(())
    }

    fn put_program(&mut self, entry: &Entry, spec: &mut ServiceSpec) -> Option<()> {
        let at = &entry.program.at;
        let path = match entry.program.value.as_str() {
            path if path.starts_with('/') => path.to_owned(),
            path => self.find_relative(path, at)?,
        };
        if is_tcpd_of_itself(entry) {
            return self
                .skip(at, "tcpd is told to run tcpd, and would start itself for ever; name the program behind it");
        }
        if self.machine.program_fault(None, &path).is_some() {
            let message = format!("there is no program {path}; the service is off until there is");
            self.warn(at, message);
            spec.enabled = Some(at.spanned(false));
        }
        let meant = self.lint_arguments(entry);
        let arguments = meant.unwrap_or_else(|| entry.arguments.iter().map(|set| set.value.clone()).collect());
        if let Some((name, rest)) = arguments.split_first() {
            let name_differs = crate::config::program::base_name(&path) != name;
            spec.argv0 = name_differs.then(|| at.spanned(name.clone()));
            let words = std::iter::once(path).chain(rest.iter().cloned()).collect();
            spec.program = Some(at.spanned(words));
        }
        Some(())
    }

    /// Where the daemon looks for a program without a path: BusyBox in `PATH`, the others where they are, in `/`.
    fn find_relative(&mut self, path: &str, at: &Location) -> Option<String> {
        if path.is_empty() {
            return self.skip(at, "the program is missing");
        }
        let root = format!("/{path}");
        if self.dialect != Dialect::Busybox {
            self.warn(at, format!("{path:?} is no absolute path; inetd, whose directory is /, runs {root}"));
            return Some(root);
        }
        let folders = ["/sbin", "/usr/sbin", "/bin", "/usr/bin"];
        let mut paths = folders.iter().map(|folder| format!("{folder}/{path}"));
        let found = paths.find(|path| self.machine.program_fault(None, path).is_none());
        found.or_else(|| self.skip(at, format!("there is no program {path:?} in {}", folders.join(", "))))
    }

    /// Entries of unknown users are turned away, by GNU when they are read, by the others when a client comes.
    fn check_accounts(&mut self, entry: &Entry) -> Option<()> {
        for (key, group) in [(&entry.user, false), (&entry.group, true)] {
            let Some(Spanned { value: name, at }) = key else { continue };
            let kind = if group { "group" } else { "user" };
            let known = match group {
                true => self.machine.group(name).map(|found| found.is_some()),
                false => self.machine.user(name).map(|found| found.is_some()),
            };
            match known {
                Ok(true) => {}
                Ok(false) => {
                    return self.skip(at, format!("there is no {kind} {name:?}{}", self.dotted_user_hint(entry)));
                }
                Err(message) => return self.refuse(at, message),
            }
        }
        Some(())
    }

    /// A user whose name holds a dot.
    fn dotted_user_hint(&self, entry: &Entry) -> String {
        let (Some(user), Some(group)) = (&entry.user, &entry.group) else { return String::new() };
        let whole = format!("{}.{}", user.value, group.value);
        match self.machine.user(&whole) {
            Ok(Some(_)) => format!(" ({} takes {whole} for a user and a group)", self.daemon_name()),
            _ => String::new(),
        }
    }

    /// Streams wait if told so, datagrams always.
    fn put_wait(&mut self, entry: &Entry, spec: &mut ServiceSpec) -> Option<()> {
        let Spanned { value: wait, at } = &entry.wait;
        let internal = spec.builtin.is_some();
        match (entry.datagram, *wait) {
            (false, true) if internal => {
                self.warn(at, "internal services for streams do not wait, whatever the entry says");
            }
            (false, true) => spec.wait = Some(at.spanned(true)),
            (true, false) if internal => {}
            (true, false) if self.dialect == Dialect::Busybox => {
                let message = "BusyBox connects the socket to the client for whom it starts a program, with what others \
                               have sent to it meanwhile, and no datagram can be moved to a socket of his own; write \
                               wait if the program takes datagrams itself";
                return self.refuse(at, message);
            }
            (true, false) => {
                let message = "without waiting, inetd starts program after program until one has taken the datagram; \
                               oxinetd waits, and starts the next when one has ended";
                self.warn(at, message);
            }
            _ => {}
        }
        Some(())
    }

    /// The file of a Unix socket, which others than root may use if the daemon lets them.
    fn put_unix_socket(&mut self, entry: &Entry, spec: &mut ServiceSpec) -> Option<()> {
        if entry.protocol.base.is_some() {
            return Some(());
        }
        let (mut path, mut mode) = (
            entry.service.as_str(),
            match self.dialect {
                // OpenBSD binds under umask 0111; the others under their own, 022.
                Dialect::Debian | Dialect::Openbsd => None,
                Dialect::Freebsd => Some(0o200),
                _ => Some(0o755),
            },
        );
        if let (Dialect::Freebsd, Some(fields)) = (self.dialect, path.strip_prefix(':')) {
            let mut fields = fields.splitn(4, ':');
            let mut next = || fields.next().unwrap_or_default();
            let (user, group, written, file) = (next(), next(), next(), next());
            let Some(bits) = u32::from_str_radix(written, 8).ok().filter(|bits| *bits <= 0o777) else {
                return self.skip(&entry.at, "expected :USER:GROUP:MODE:/PATH");
            };
            let group = if group.is_empty() { user } else { group };
            let owner = if user.is_empty() { None } else { Some(entry.at.spanned(format!("{user}:{group}"))) };
            (spec.socket.owner, mode, path) = (owner, Some(bits), file);
        }
        if !path.starts_with('/') {
            return self.skip(&entry.at, format!("expected the absolute path of a Unix socket, not {path:?}"));
        }
        let kind = if entry.datagram { "unix-dgram" } else { "unix" };
        let listen = entry.at.spanned(format!("{kind}:{path}"));
        spec.listen = Some(entry.at.spanned(vec![listen]));
        spec.socket.mode = mode.map(|mode| entry.at.spanned(mode));
        Some(())
    }
}

/// The sockets of an entry, in the grammar of `listen`.
fn listen_sockets(entry: &Entry) -> Spanned<Vec<Spanned<String>>> {
    let at = &entry.at;
    if let [Place { key, address: Some(name), .. }] = &entry.places[..] {
        if key == "tcpmux" {
            return at.spanned(vec![at.spanned(name.clone())]);
        }
    }
    let kind = if entry.datagram { "udp" } else { "tcp" };
    // The name of a port is that of its protocol, which may be another than is served.
    let number = entry.port.filter(|_| entry.protocol.base != Some(kind)).map(|port| port.to_string());
    let port = number.unwrap_or_else(|| entry.service.clone());
    let every = |v6: bool| entry.places.iter().any(|place| place.v6 == v6 && place.address.is_none());
    let mut texts = Vec::new();
    match (every(false), every(true)) {
        (true, true) => texts.push(format!("{kind}/{port}")),
        (true, false) => texts.push(format!("{kind}4/{port}")),
        (false, true) => texts.push(format!("{kind}6/{port}")),
        (false, false) => {}
    }
    let one = |place: &Place| {
        let address = place.address.as_ref()?;
        Some(if place.v6 { format!("{kind}/[{address}]:{port}") } else { format!("{kind}/{address}:{port}") })
    };
    texts.extend(entry.places.iter().filter_map(one));
    at.spanned(texts.into_iter().map(|text| at.spanned(text)).collect())
}

fn put_limits(entry: &Entry, dialect: Dialect, spec: &mut ServiceSpec) {
    let limits = &entry.limits;
    if let Some(Spanned { value: starts, at }) = limits.starts.as_ref().filter(|set| set.value <= MAX_STARTS_PER_MINUTE)
    {
        spec.rate = Some(at.spanned(Rate { events: *starts, per: MINUTE }));
        spec.burst = Some(at.spanned(*starts));
    }
    // Where a service may be started more often, so may one source start it.
    let more = limits.starts.as_ref().filter(|set| dialect.starts_per_minute().is_some_and(|usual| set.value > usual));
    let source = limits.source_starts.as_ref().or(more);
    let udp = entry.datagram && entry.protocol.base.is_some();
    if let Some(Spanned { value, at }) = source.filter(|_| udp || !entry.wait.value) {
        spec.per_source = per_minute((*value).min(MAX_STARTS_PER_MINUTE), at);
    }
    if !entry.wait.value && !entry.datagram {
        spec.instances = limits.instances.as_ref().map(|limit| limit.at.spanned(Some(limit.value)));
        spec.per_source.instances = limits.source_instances.as_ref().map(|limit| limit.at.spanned(Some(limit.value)));
    }
}
