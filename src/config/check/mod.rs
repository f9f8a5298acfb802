//! From what was written to what the daemon works with: looks up users, groups, ports and programs.
//!
//! [`super::load::load_table`] keeps one [`Checker`] for all services of a table. Each step notes every problem and
//! goes on; a service comes out only if all steps could do their part. Nothing is opened, bound or run.

mod builtins;
mod checker;
mod limits;

pub(crate) use checker::Checker;
pub(crate) use limits::ClientVisibility;

use std::ffi::CString;

use super::keys::{DaemonSpec, LogSpec, PlaceSpec, ServiceSpec};
use super::location::{Location, Spanned, value_or, written_elements, written_value};
use super::program;
use super::{
    Control, Endpoint, LogChoice, LogFormat, LogPlace, LogSettings, LogTarget, MuxName, OwnLog, Program, Resource,
    Service, Settings, SocketOptions,
};
use limits::limit_origins;

use crate::limits::rate::PerFamily;

/// `daemon` of syslog(3).
const DEFAULT_FACILITY: u8 = 3;
/// Fewer descriptors than this break programs that were never tried with less.
const MIN_USUAL_FILES: u64 = 1024;

impl Checker<'_> {
    /// Makes a service of what was written at `at`, and the places of its endpoints in `listen`.
    pub(crate) fn check_service(
        &mut self,
        name: &str,
        spec: &ServiceSpec,
        at: &Location,
    ) -> Option<(Service, Vec<Location>)> {
        self.check_name(name, at);
        let (listen, places) = self.check_listen(spec);
        let wait = self.check_wait(spec, &listen);
        let tcpmux = self.mux_names(spec, &listen);
        self.check_misplaced_keys(spec);
        let program = match &spec.builtin {
            Some(_) => self.check_builtin(spec, &listen, &tcpmux),
            None => self.check_program(spec),
        };
        let whose = self.default_unprivileged_user(spec);
        let credentials = self
            .accounts
            .resolve_credentials(whose.as_ref().unwrap_or(spec))
            .map_err(|problem| self.problems.push(problem))
            .ok();
        let socket = self.check_socket(spec);
        self.check_banner_and_limits(spec, wait);
        let visibility = ClientVisibility::of_sockets(&listen, wait);
        self.check_access(spec, &listen, visibility, at);
        let (per_source, per_network) = self.per_source(spec, visibility, at);
        let service = Service {
            name: name.to_owned(),
            origin: at.clone(),
            origins: limit_origins(spec),
            enabled: spec.enabled(),
            tcpmux,
            program: program?,
            wait,
            credentials: credentials?,
            directory: c_string(&spec.directory())?,
            chroot: spec.chroot.as_ref().and_then(|path| c_string(&path.value)),
            umask: spec.umask(),
            nice: written_value(&spec.nice),
            rlimits: spec.rlimits.iter().map(|set| set.value.1).collect(),
            env: spec.env.iter().map(|set| set.value.clone()).collect(),
            pass_env: written_elements(&spec.pass_env),
            stderr: spec.stderr(),
            instances: spec.instances(),
            rate: self.rate_limit(&spec.rate, &spec.burst),
            when_full: spec.when_full(),
            per_source,
            per_network,
            max_load: written_value(&spec.max_load),
            penalties: self.check_penalties(spec, &listen, wait, at),
            allow: written_elements(&spec.allow),
            deny: written_elements(&spec.deny),
            times: written_elements(&spec.times),
            dry_run: spec.dry_run(),
            refuse: spec.refuse(),
            banner: spec.banner().into_bytes(),
            lifetime: written_value(&spec.lifetime),
            socket,
            log: log_choice(&spec.log),
            listen,
        };
        Some((service, places))
    }

    /// Names stand unquoted in logs, metrics and on command lines.
    fn check_name(&mut self, name: &str, at: &Location) {
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-+@:/".contains(c);
        if !(1..=64).contains(&name.len()) || !name.chars().all(fits) || name.starts_with('-') {
            let message = "a service's name has 1 to 64 letters, digits and . _ - + @ : / and does not begin with -";
            self.problems.push(at.problem(message));
        }
    }

    fn check_listen(&mut self, spec: &ServiceSpec) -> (Vec<Endpoint>, Vec<Location>) {
        let Some(Spanned { value: entries, at: place }) = &spec.listen else {
            return (Vec::new(), Vec::new());
        };
        let (mut endpoints, mut places) = (Vec::new(), Vec::new());
        for Spanned { value: text, at } in entries.iter().filter(|set| !set.value.starts_with(MuxName::PREFIX)) {
            match self.ports.parse_endpoints(text) {
                Ok(found) => {
                    places.extend(found.iter().map(|_| at.clone()));
                    endpoints.extend(found);
                }
                Err(message) => self.problems.push(at.problem(message)),
            }
        }
        if entries.is_empty() {
            self.problems.push(place.problem("this list is empty; it needs at least one port or path"));
        }
        (endpoints, places)
    }

    /// Datagrams have no connections to accept, so the socket is lent to a handler.
    fn check_wait(&mut self, spec: &ServiceSpec, listen: &[Endpoint]) -> bool {
        let datagrams = listen.iter().filter(|endpoint| endpoint.is_datagram()).count();
        match &spec.wait {
            Some(Spanned { value: false, at }) if datagrams > 0 => {
                self.problems.push(at.problem(
                    "a handler that takes one datagram from a socket takes those of all clients, so wait: false is not \
                           possible; leave it out",
                ));
            }
            None if datagrams > 0 && datagrams < listen.len() => {
                let at = spec.listen.as_ref().map(|set| &set.at);
                let message = "streams and datagrams in one service need wait: true; or make it two services";
                self.problems.extend(at.map(|at| at.problem(message)));
            }
            _ => {}
        }
        value_or(&spec.wait, datagrams > 0)
    }

    fn check_program(&mut self, spec: &ServiceSpec) -> Option<Program> {
        let Some(Spanned { value: words, at: place }) = &spec.program else {
            return spec.penalties.trap.as_ref().map(|_| Program::none());
        };
        let path = words.first()?;
        if !path.starts_with('/') {
            let message = format!("expected the absolute path of a program first, such as /bin/cat, not {path:?}");
            self.problems.push(place.problem(message));
            return None;
        }
        let root = spec.chroot.as_ref().map(|set| set.value.as_str());
        if let Some(fault) = self.find_fault(root, path) {
            // Off services may be of packages that are not installed.
            let list = if spec.enabled() { &mut self.problems } else { &mut self.warnings };
            list.push(place.problem(fault));
        }
        let argv0 = written_value(&spec.argv0).unwrap_or_else(|| program::base_name(path).to_owned());
        let argv = std::iter::once(&argv0).chain(&words[1..]).map(|word| c_string(word)).collect::<Option<_>>()?;
        Some(Program { path: c_string(path)?, argv, builtin: None })
    }

    fn find_fault(&mut self, root: Option<&str>, path: &str) -> Option<String> {
        let key = (root.map(str::to_owned), path.to_owned());
        self.faults.entry(key).or_insert_with(|| self.machine.program_fault(root, path)).clone()
    }

    fn check_socket(&mut self, spec: &ServiceSpec) -> SocketOptions {
        let spec = &spec.socket;
        let owner = spec.owner.as_ref().and_then(|Spanned { value, at }| {
            self.accounts.resolve_owner(value).map_err(|message| self.problems.push(at.problem(message))).ok()
        });
        SocketOptions {
            backlog: written_value(&spec.backlog),
            nodelay: spec.nodelay(),
            keepalive: spec.keepalive(),
            defer_accept: written_value(&spec.defer_accept),
            freebind: spec.freebind(),
            device: written_value(&spec.device),
            mark: written_value(&spec.mark),
            send_buffer: written_value(&spec.send_buffer),
            receive_buffer: written_value(&spec.receive_buffer),
            owner,
            mode: written_value(&spec.mode),
        }
    }

    /// Warns of values that may not be meant, and reports keys that exclude each other.
    fn check_banner_and_limits(&mut self, spec: &ServiceSpec, wait: bool) {
        if let Some(Spanned { value, at }) = &spec.banner {
            if wait && !value.is_empty() {
                let message = "a wait service has no connection to send a banner on; write banner: \"\"";
                self.problems.push(at.problem(message));
            }
        }
        for Spanned { value: (_, limit), at } in &spec.rlimits {
            if limit.resource == Resource::Nofile && limit.soft < MIN_USUAL_FILES {
                let message = format!("{} files are few for a program; most expect {MIN_USUAL_FILES}", limit.soft);
                self.warnings.push(at.problem(message));
            }
        }
        let root = spec.chroot.as_ref().map(|set| set.value.as_str());
        if let Some(Spanned { value, at }) = &spec.directory {
            let fault = self.machine.directory_fault(root, value);
            self.warnings.extend(fault.map(|fault| at.problem(fault)));
        }
    }

    /// The `daemon` section with its defaults.
    pub(crate) fn check_daemon(&mut self, spec: &DaemonSpec) -> Settings {
        let group = spec.control.group.as_ref().and_then(|Spanned { value, at }| {
            self.accounts.look_up_group(value).map_err(|message| self.problems.push(at.problem(message))).ok()
        });
        let PlaceSpec { to, facility, format } = &spec.log.place;
        let place = LogPlace {
            to: value_or(to, LogTarget::Syslog),
            facility: value_or(facility, DEFAULT_FACILITY),
            format: value_or(format, LogFormat::Text),
        };
        Settings {
            instances: spec.instances(),
            sources: PerFamily { ipv4: spec.sources.ipv4(), ipv6: spec.sources.ipv6() },
            control: Control { place: spec.control.path(), group },
            drop_banned: spec.drop_banned(),
            log: LogSettings { place, level: spec.log.level() },
        }
    }
}

fn log_choice(spec: &LogSpec) -> LogChoice {
    let PlaceSpec { to, facility, format } = &spec.place;
    let own = OwnLog { to: written_value(to), facility: written_value(facility), format: written_value(format) };
    LogChoice { accept: spec.accept(), exit: spec.exit(), refuse: spec.refuse(), own }
}

/// `None` for a NUL inside, which the index of the file has reported.
fn c_string(text: &str) -> Option<CString> {
    CString::new(text).ok()
}
