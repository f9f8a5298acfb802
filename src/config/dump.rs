//! Writes a table as YAML that reads back to the same table, with every default filled in and nothing looked up again
//! but what the file itself names.
//!
//! `oxinetd --dump` calls [`dump`]; so may anything that shows the table. It goes from checked services back to
//! specifications, which write themselves (`super::keys`). What it writes stands alone: no `include`, no `defaults`.
//! Dumping what was read from a dump gives the same bytes. It cannot fail: a table holds only text.

use std::ffi::CStr;

use serde_yaml::{Mapping, Value};

use super::check::ClientVisibility;
use super::keys::kinds::written;
use super::keys::{
    ControlSpec, DaemonLogSpec, DaemonSpec, LogSpec, PenaltySpec, PlaceSpec, PrefixSpec, ServiceSpec, SocketSpec,
    SourceSpec, SourcesSpec, resource_name,
};
use super::location::{Location, Spanned, SpannedList};
use super::program::base_name;
use super::units::Rate;
use super::values::Groups;
use super::{LogChoice, LogPlace, OwnLog, Penalties, PerSource, RateLimit, Service, Settings, SocketOptions, Table};
use crate::builtin::BuiltinKind;

/// The table as YAML.
#[must_use]
pub fn dump(table: &Table) -> String {
    let services: Mapping =
        table.services.iter().map(|service| (service.name.as_str().into(), service_map(service).into())).collect();
    let whole: Mapping = [("daemon", daemon_map(&table.daemon)), ("services", services)]
        .map(|(key, map)| (key.into(), map.into()))
        .into_iter()
        .collect();
    serde_yaml::to_string(&whole).unwrap_or_default()
}

/// A value that stands nowhere.
fn set<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned { value, at: Location::default() })
}

fn may<T>(value: Option<T>) -> Option<Spanned<T>> {
    value.and_then(set)
}

/// A list, unless it is empty.
fn some<T: Clone>(values: &[T]) -> SpannedList<T> {
    let values: Vec<_> = values.iter().cloned().filter_map(set).collect();
    (!values.is_empty()).then(|| set(values)).flatten()
}

fn daemon_map(daemon: &Settings) -> Mapping {
    let LogPlace { to, facility, format } = &daemon.log.place;
    let spec = DaemonSpec {
        instances: set(daemon.instances),
        sources: SourcesSpec { ipv4: set(daemon.sources.ipv4), ipv6: set(daemon.sources.ipv6) },
        control: ControlSpec { path: set(daemon.control.place.clone()), group: None },
        drop_banned: set(daemon.drop_banned),
        log: DaemonLogSpec {
            place: PlaceSpec { to: set(to.clone()), facility: set(*facility), format: set(*format) },
            level: set(daemon.log.level),
        },
    };
    let mut map = written(&spec);
    if let (Some(group), Some(Value::Mapping(control))) = (daemon.control.group, map.get_mut("control")) {
        control.insert("group".into(), group.into());
    }
    map
}

fn service_map(service: &Service) -> Mapping {
    let mut map = written(&spec(service));
    if service.wait {
        // A socket that is lent to one handler has no handlers of a source to be counted.
        for level in ["per_source", "per_network"] {
            // As --dump has always done: what stood last comes first then.
            map.get_mut(level).and_then(Value::as_mapping_mut).and_then(|limits| limits.swap_remove("instances"));
        }
    }
    if let Some(credentials) = &service.credentials {
        // Numbers, which need no name service.
        map.insert("group".into(), credentials.gid.into());
        map.insert(
            "groups".into(),
            credentials.groups.iter().map(|group| (*group).into()).collect::<Vec<Value>>().into(),
        );
    }
    map
}

/// What would have to be written for a service, if nothing had a default.
fn spec(service: &Service) -> ServiceSpec {
    let sockets = service.listen.iter().map(ToString::to_string);
    let names = service.tcpmux.iter().map(ToString::to_string);
    let (rate, burst) = rate(service.rate);
    let credentials = service.credentials.as_ref();
    let mut spec = ServiceSpec {
        enabled: set(service.enabled),
        listen: set(sockets.chain(names).filter_map(set).collect()),
        wait: set(service.wait),
        program: None,
        argv0: None,
        builtin: None,
        to: None,
        connect_timeout: None,
        idle_timeout: None,
        user: credentials.and_then(|credentials| set(credentials.user.clone())),
        // Put in their places here, and replaced by numbers.
        group: credentials.and_then(|_| set(String::new())),
        groups: credentials.and_then(|_| set(Groups::All)),
        directory: set(text(&service.directory)),
        chroot: may(service.chroot.as_deref().map(text)),
        umask: set(service.umask),
        nice: may(service.nice),
        rlimits: service
            .rlimits
            .iter()
            .filter_map(|limit| set((resource_name(limit.resource).to_owned(), *limit)))
            .collect(),
        env: service.env.iter().cloned().filter_map(set).collect(),
        pass_env: some(&service.pass_env),
        stderr: set(service.stderr),
        instances: set(service.instances),
        when_full: set(service.when_full),
        rate,
        burst,
        per_source: SourceSpec::default(),
        per_network: SourceSpec::default(),
        max_load: may(service.max_load),
        penalties: penalties(&service.penalties),
        lifetime: may(service.lifetime),
        allow: some(&service.allow),
        deny: some(&service.deny),
        times: some(&service.times),
        dry_run: set(service.dry_run),
        refuse: set(service.refuse.clone()),
        banner: set(String::from_utf8_lossy(&service.banner).into_owned()),
        socket: socket(&service.socket),
        log: log(&service.log),
    };
    put_handler(&mut spec, service);
    put_levels(&mut spec, service);
    spec
}

fn put_handler(spec: &mut ServiceSpec, service: &Service) {
    if let Some(builtin) = &service.program.builtin {
        spec.builtin = set(builtin.kind.name().to_owned());
        spec.idle_timeout = set(builtin.idle_timeout);
        if let BuiltinKind::Redirect(target) = &builtin.kind {
            spec.to = set((target.host.clone(), target.port));
            spec.connect_timeout = set(target.connect_timeout);
        }
    } else if !service.program.is_none() {
        let path = text(&service.program.path);
        let mut words = service.program.argv.iter().map(|word| text(word));
        spec.argv0 = words.next().filter(|argv0| argv0 != base_name(&path)).and_then(set);
        spec.program = set(std::iter::once(path).chain(words).collect());
    }
}

/// A service whose clients nobody sees has no limits of a source.
fn put_levels(spec: &mut ServiceSpec, service: &Service) {
    let visibility = ClientVisibility::of(&service.listen, service.wait);
    if visibility != ClientVisibility::Hidden {
        spec.per_source = level(&service.per_source);
    }
    spec.per_network = service.per_network.as_ref().map(level).unwrap_or_default();
}

fn level(limits: &PerSource) -> SourceSpec {
    let (rate, burst) = rate(limits.rate);
    SourceSpec {
        instances: set(limits.instances),
        rate,
        burst,
        prefix: PrefixSpec { ipv4: set(limits.prefix.ipv4), ipv6: set(limits.prefix.ipv6) },
        exempt: some(&limits.exempt),
    }
}

fn rate(limit: Option<RateLimit>) -> (Option<Spanned<Rate>>, Option<Spanned<u32>>) {
    let Some(RateLimit { events, per, burst, .. }) = limit else { return (None, None) };
    (set(Rate { events, per }), set(burst))
}

fn penalties(penalties: &Penalties) -> PenaltySpec {
    let any = penalties.any();
    PenaltySpec {
        crash: may(penalties.crash),
        exit: may(penalties.exit),
        refused: may(penalties.refused),
        trap: may(penalties.trap),
        min: may(any.then_some(penalties.min)),
        max: may(any.then_some(penalties.max)),
        exempt: some(&penalties.exempt),
    }
}

fn socket(options: &SocketOptions) -> SocketSpec {
    SocketSpec {
        backlog: may(options.backlog),
        nodelay: may(options.nodelay.then_some(true)),
        keepalive: may(options.keepalive.then_some(true)),
        defer_accept: may(options.defer_accept),
        freebind: may(options.freebind.then_some(true)),
        device: may(options.device.clone()),
        mark: may(options.mark),
        send_buffer: may(options.send_buffer),
        receive_buffer: may(options.receive_buffer),
        owner: may(options.owner.map(|(uid, gid)| format!("{uid}:{gid}"))),
        mode: may(options.mode),
    }
}

fn log(choice: &LogChoice) -> LogSpec {
    let OwnLog { to, facility, format } = &choice.own;
    LogSpec {
        accept: set(choice.accept),
        exit: set(choice.exit),
        refuse: set(choice.refuse),
        place: PlaceSpec { to: may(to.clone()), facility: may(*facility), format: may(*format) },
    }
}

fn text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
