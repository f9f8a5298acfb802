//! Services that need no program: what their keys mean, and the command line that becomes of them.
//!
//! Steps of [`super`]: each notes its problems and goes on. A builtin is this program itself, started by the name
//! that the kernel has for it ([`SELF`]): the very file that the daemon runs, even if another has taken its place
//! on the disk since. Where the daemon is root, a builtin without `user` runs as [`NOBODY`], since none needs any
//! rights.

use std::ffi::CString;
use std::time::Duration;

use super::super::keys::ServiceSpec;
use super::super::location::{Location, Spanned, value_or};
use super::super::{Endpoint, MuxName, Program, Service, Transport};
use super::checker::Checker;
use crate::builtin::{Builtin, BuiltinContext, BuiltinKind, RedirectTarget};

/// The executable of the process that looks (proc(5)); after the fork that is a child of the daemon.
const SELF: &str = "/proc/self/exe";

/// The user of a builtin, and its number where there is no such account (that of all distributions, and of the
/// kernel's own `overflowuid`).
const NOBODY: (&str, &str) = ("nobody", "65534");

/// How long a redirected connection may be idle by default: no shorter than translators of addresses must allow
/// (RFC 5382, REQ-5).
const REDIRECT_IDLE_TIMEOUT: Duration = Duration::from_secs((2 * 60 + 4) * 60);
/// The same for the small services, which have no use for idle connections.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long a client of `tcpmux` has to name a service, and how long a handler of datagrams waits for one more.
const SHORT_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long each address of a `redirect` has to answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest name that clients of `tcpmux` can ask for: that of a service.
const MAX_MUX_NAME_BYTES: usize = 64;

impl Checker<'_> {
    pub(crate) fn mux_names(&mut self, spec: &ServiceSpec, listen: &[Endpoint]) -> Vec<MuxName> {
        let entries = spec.listen.iter().flat_map(|set| &set.value);
        let mut found = Vec::new();
        for Spanned { value: text, at } in entries {
            let Some(name) = text.strip_prefix(MuxName::PREFIX) else { continue };
            match mux_name(name) {
                Ok(name) => {
                    if spec.enabled() {
                        self.claim_mux_name(&name, at);
                    }
                    found.push(name);
                }
                Err(message) => self.problems.push(at.problem(message)),
            }
        }
        let waits = value_or(&spec.wait, false) || listen.iter().any(Endpoint::is_datagram);
        if let Some(Spanned { at, .. }) = spec.listen.as_ref().filter(|_| waits && !found.is_empty()) {
            self.problems
                .push(at.problem("tcpmux hands over connections; with wait or datagrams make it two services"));
        }
        found
    }

    fn claim_mux_name(&mut self, name: &MuxName, at: &Location) {
        if let Some(first) = self.muxes.names.get(&name.name) {
            let message = format!("tcpmux/{} is taken by the service at {}", name.name, first);
            self.problems.push(at.problem(message));
        }
        self.muxes.names.entry(name.name.clone()).or_insert_with(|| at.clone());
    }

    /// Makes a program of `builtin` and the keys that belong to it.
    pub(crate) fn check_builtin(
        &mut self,
        spec: &ServiceSpec,
        listen: &[Endpoint],
        mux: &[MuxName],
    ) -> Option<Program> {
        let Spanned { value: name, at: place } = spec.builtin.as_ref()?;
        if spec.program.is_some() {
            self.problems.push(place.problem("a service has either program or builtin, not both"));
        }
        if let Some(argv0) = &spec.argv0 {
            self.problems.push(argv0.at.problem("a builtin has a name of its own; argv0 is for programs"));
        }
        if let Some(chroot) = spec.chroot.as_ref().filter(|chroot| chroot.value != "/") {
            let message = "a builtin is this program itself, which is not in there; it opens no files, so leave it \
                           out, or write chroot: / where defaults have another";
            self.problems.push(chroot.at.problem(message));
        }
        if let Some(fault) = self.machine.program_fault(None, SELF) {
            self.problems.push(place.problem(format!("{fault}; builtins need /proc")));
        }
        let what = match &spec.to {
            Some(Spanned { value: (host, port), .. }) if name == "redirect" => {
                let connect_timeout = value_or(&spec.connect_timeout, CONNECT_TIMEOUT);
                Some(BuiltinKind::Redirect(RedirectTarget { host: host.clone(), port: *port, connect_timeout }))
            }
            _ => BuiltinKind::without_target(name),
        };
        self.builtin_endpoints(spec, name, listen, mux, place);
        let what = what?;
        self.muxes.served |= what == BuiltinKind::Tcpmux && spec.enabled();
        let datagrams = listen.iter().any(Endpoint::is_datagram);
        let idle_timeout = value_or(&spec.idle_timeout, idle_timeout(&what, datagrams));
        let builtin = Builtin { kind: what, idle_timeout };
        let argv = command_words(&builtin, &BuiltinContext::default())?;
        Some(Program { path: CString::new(SELF).ok()?, argv, builtin: Some(builtin) })
    }

    /// Keys that stand beside something that they do not belong to.
    pub(crate) fn check_misplaced_keys(&mut self, spec: &ServiceSpec) {
        let name = spec.builtin.as_ref().map(|set| set.value.as_str());
        if name != Some("redirect") {
            let places = [spec.to.as_ref().map(|set| &set.at), spec.connect_timeout.as_ref().map(|set| &set.at)];
            let message = "this is for builtin: redirect only";
            self.problems.extend(places.into_iter().flatten().map(|at| at.problem(message)));
        }
        if let Some(Spanned { at, .. }) = spec.idle_timeout.as_ref().filter(|_| name.is_none()) {
            self.problems.push(at.problem("this is for builtins; see lifetime for programs"));
        }
    }

    /// Not every builtin can do its work on every socket.
    fn builtin_endpoints(
        &mut self,
        spec: &ServiceSpec,
        name: &str,
        listen: &[Endpoint],
        mux: &[MuxName],
        at: &Location,
    ) {
        let place = spec.listen.as_ref().map_or(at, |set| &set.at);
        let datagrams = listen.iter().any(Endpoint::is_datagram);
        if listen.iter().any(|endpoint| matches!(endpoint, Endpoint::UnixDatagram(_))) {
            self.problems
                .push(place.problem("a builtin cannot answer on unix-dgram, where few clients have an address"));
        }
        if datagrams && ["redirect", "tcpmux"].contains(&name) {
            self.problems.push(place.problem(format!("{name} serves connections, not datagrams")));
        }
        if name == "tcpmux" {
            if listen.iter().any(|endpoint| matches!(endpoint, Endpoint::UnixStream(_))) {
                self.problems.push(place.problem("tcpmux serves TCP connections only"));
            }
            if !mux.is_empty() {
                self.problems.push(place.problem("tcpmux cannot be asked for by tcpmux"));
            }
        }
        if let Some(Spanned { at, .. }) = spec.wait.as_ref().filter(|wait| wait.value && !datagrams) {
            self.problems
                .push(at.problem("a builtin serves one connection at a time; wait: true is for its datagrams"));
        }
        self.redirected_to_itself(spec, listen);
    }

    /// Each connection to such a service would make another, until it is full.
    fn redirected_to_itself(&mut self, spec: &ServiceSpec, listen: &[Endpoint]) {
        let Some(Spanned { value: (host, port), at }) = &spec.to else { return };
        let itself = listen.iter().any(|endpoint| match endpoint {
            Endpoint::Inet { address, .. } if address.port() == *port => match host.parse::<std::net::IpAddr>() {
                Ok(to) => to == address.ip() || (to.is_loopback() && address.ip().is_unspecified()),
                Err(_) => host == "localhost" && (address.ip().is_loopback() || address.ip().is_unspecified()),
            },
            _ => false,
        });
        if itself {
            self.problems.push(at.problem("this leads back to the service itself, without end"));
        }
    }

    /// The service with the user `nobody`, where it would run as root for no reason.
    pub(crate) fn default_unprivileged_user(&self, spec: &ServiceSpec) -> Option<ServiceSpec> {
        let at = &spec.builtin.as_ref()?.at;
        if spec.user.is_some() || self.machine.daemon().uid != 0 {
            return None;
        }
        let known = matches!(self.machine.user(NOBODY.0), Ok(Some(_)));
        let set = |value: &str| Some(at.spanned(value.to_owned()));
        let user = set(if known { NOBODY.0 } else { NOBODY.1 });
        let group = spec.group.clone().or_else(|| set(NOBODY.1).filter(|_| !known));
        Some(ServiceSpec { user, group, ..spec.clone() })
    }

    /// Tells builtins what they must know of the other services, now that all are there.
    pub(in crate::config) fn resolve_builtin_args(&mut self, services: &mut [&mut Service]) {
        let (mut ports, mut names): (Vec<u16>, Vec<String>) = (Vec::new(), Vec::new());
        for service in services.iter().filter(|service| service.enabled) {
            ports.extend(service.listen.iter().filter_map(high_datagram_port));
            names.extend(service.tcpmux.iter().map(|name| name.name.clone()));
        }
        ports.sort_unstable();
        ports.dedup();
        names.sort_unstable();
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        for service in services {
            let datagrams = service.listen.iter().any(Endpoint::is_datagram);
            let Some(builtin) = &service.program.builtin else { continue };
            let told = match builtin.kind {
                BuiltinKind::Tcpmux => BuiltinContext { one_source: false, words: names.clone() },
                _ if datagrams => BuiltinContext { one_source: asks_who(service), words: ports.clone() },
                _ => continue,
            };
            if let Some(argv) = command_words(builtin, &told) {
                service.program.argv = argv;
            }
        }
        if let Some(at) = self.muxes.names.values().min_by_key(|at| at.line_col()).filter(|_| !self.muxes.served) {
            let message = "nobody can ask for this: no service has builtin: tcpmux";
            self.warnings.push(at.problem(message));
        }
    }
}

fn idle_timeout(what: &BuiltinKind, datagrams: bool) -> Duration {
    match what {
        BuiltinKind::Redirect(_) => REDIRECT_IDLE_TIMEOUT,
        BuiltinKind::Tcpmux => SHORT_IDLE_TIMEOUT,
        _ if datagrams => SHORT_IDLE_TIMEOUT,
        _ => STREAM_IDLE_TIMEOUT,
    }
}

/// Does a service treat datagrams of different senders differently?
fn asks_who(service: &Service) -> bool {
    let lists = !service.allow.is_empty() || !service.deny.is_empty();
    let network = service.per_network.as_ref();
    lists || service.per_source.rate.is_some() || network.is_some_and(|network| network.rate.is_some())
}

fn command_words(builtin: &Builtin, told: &BuiltinContext) -> Option<Vec<CString>> {
    builtin.command_line(told).into_iter().map(|word| CString::new(word).ok()).collect()
}

/// Ports of datagrams that are not among those which no builtin answers anyway.
fn high_datagram_port(endpoint: &Endpoint) -> Option<u16> {
    match endpoint {
        Endpoint::Inet { transport: Transport::Udp, address, .. } => {
            Some(address.port()).filter(|port| *port >= crate::builtin::CLIENT_PORT_MIN)
        }
        _ => None,
    }
}

/// Reads what stands behind `tcpmux/`.
fn mux_name(text: &str) -> Result<MuxName, String> {
    let (plus, name) = text.strip_prefix('+').map_or((false, text), |name| (true, name));
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'/';
    if !(1..=MAX_MUX_NAME_BYTES).contains(&name.len()) || !name.bytes().all(fits) || name.starts_with(['+', '-']) {
        return Err(format!(
            "expected a name of 1 to {MAX_MUX_NAME_BYTES} letters, digits or signs, as in tcpmux/NAME or tcpmux/+NAME, not {text:?}"
        ));
    }
    if name.eq_ignore_ascii_case("help") {
        return Err("help is answered by tcpmux itself (RFC 1078)".to_owned());
    }
    Ok(MuxName { name: name.to_ascii_lowercase(), plus })
}
