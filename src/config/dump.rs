//! Writes a table as YAML that reads back to the same table, with every default filled in and nothing looked up again
//! but what the file itself names.
//!
//! `oxinetd --dump` calls [`dump`]; so may anything that shows the table. It goes from checked services back to
//! specifications, which write themselves (`super::keys`). What it writes stands alone: no `include`, no `defaults`.
//! Dumping what was read from a dump gives the same bytes. It cannot fail: a table holds only text.

use std::ffi::CStr;

use serde_yaml::{Mapping, Value};

use super::check::ClientVisibility;
use super::keys::kinds::write_section;
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
fn some_value<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned { value, at: Location::default() })
}

fn optional_value<T>(value: Option<T>) -> Option<Spanned<T>> {
    value.and_then(some_value)
}

/// A list, unless it is empty.
fn nonempty_list<T: Clone>(values: &[T]) -> SpannedList<T> {
    let values: Vec<_> = values.iter().cloned().filter_map(some_value).collect();
    (!values.is_empty()).then(|| some_value(values)).flatten()
}

fn daemon_map(daemon: &Settings) -> Mapping {
    let LogPlace { to, facility, format } = &daemon.log.place;
    let spec = DaemonSpec {
        instances: some_value(daemon.instances),
        sources: SourcesSpec { ipv4: some_value(daemon.sources.ipv4), ipv6: some_value(daemon.sources.ipv6) },
        control: ControlSpec { path: some_value(daemon.control.place.clone()), group: None },
        drop_banned: some_value(daemon.drop_banned),
        log: DaemonLogSpec {
            place: PlaceSpec {
                to: some_value(to.clone()),
                facility: some_value(*facility),
                format: some_value(*format),
            },
            level: some_value(daemon.log.level),
        },
    };
    let mut map = write_section(&spec);
    if let (Some(group), Some(Value::Mapping(control))) = (daemon.control.group, map.get_mut("control")) {
        control.insert("group".into(), group.into());
    }
    map
}

fn service_map(service: &Service) -> Mapping {
    let mut map = write_section(&service_spec(service));
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

/// The specification that gives this service if nothing has a default.
fn service_spec(service: &Service) -> ServiceSpec {
    let sockets = service.listen.iter().map(ToString::to_string);
    let names = service.tcpmux.iter().map(ToString::to_string);
    let (rate, burst) = rate_and_burst(service.rate);
    let credentials = service.credentials.as_ref();
    let mut spec = ServiceSpec {
        enabled: some_value(service.enabled),
        listen: some_value(sockets.chain(names).filter_map(some_value).collect()),
        wait: some_value(service.wait),
        program: None,
        argv0: None,
        builtin: None,
        to: None,
        connect_timeout: None,
        idle_timeout: None,
        user: credentials.and_then(|credentials| some_value(credentials.user.clone())),
        // Put in their places here, and replaced by numbers.
        group: credentials.and_then(|_| some_value(String::new())),
        groups: credentials.and_then(|_| some_value(Groups::All)),
        directory: some_value(c_text(&service.directory)),
        chroot: optional_value(service.chroot.as_deref().map(c_text)),
        umask: some_value(service.umask),
        nice: optional_value(service.nice),
        rlimits: service
            .rlimits
            .iter()
            .filter_map(|limit| some_value((resource_name(limit.resource).to_owned(), *limit)))
            .collect(),
        env: service.env.iter().cloned().filter_map(some_value).collect(),
        pass_env: nonempty_list(&service.pass_env),
        stderr: some_value(service.stderr),
        instances: some_value(service.instances),
        when_full: some_value(service.when_full),
        rate,
        burst,
        per_source: SourceSpec::default(),
        per_network: SourceSpec::default(),
        max_load: optional_value(service.max_load),
        penalties: penalty_spec(&service.penalties),
        lifetime: optional_value(service.lifetime),
        allow: nonempty_list(&service.allow),
        deny: nonempty_list(&service.deny),
        times: nonempty_list(&service.times),
        dry_run: some_value(service.dry_run),
        refuse: some_value(service.refuse.clone()),
        banner: some_value(String::from_utf8_lossy(&service.banner).into_owned()),
        socket: socket_spec(&service.socket),
        log: log_spec(&service.log),
    };
    put_handler(&mut spec, service);
    put_levels(&mut spec, service);
    spec
}

fn put_handler(spec: &mut ServiceSpec, service: &Service) {
    if let Some(builtin) = &service.program.builtin {
        spec.builtin = some_value(builtin.kind.name().to_owned());
        spec.idle_timeout = some_value(builtin.idle_timeout);
        if let BuiltinKind::Redirect(target) = &builtin.kind {
            spec.to = some_value((target.host.clone(), target.port));
            spec.connect_timeout = some_value(target.connect_timeout);
        }
    } else if !service.program.is_none() {
        let path = c_text(&service.program.path);
        let mut words = service.program.argv.iter().map(|word| c_text(word));
        spec.argv0 = words.next().filter(|argv0| argv0 != base_name(&path)).and_then(some_value);
        spec.program = some_value(std::iter::once(path).chain(words).collect());
    }
}

/// A service whose clients nobody sees has no limits of a source.
fn put_levels(spec: &mut ServiceSpec, service: &Service) {
    let visibility = ClientVisibility::of_sockets(&service.listen, service.wait);
    if visibility != ClientVisibility::Hidden {
        spec.per_source = source_spec(&service.per_source);
    }
    spec.per_network = service.per_network.as_ref().map(source_spec).unwrap_or_default();
}

fn source_spec(limits: &PerSource) -> SourceSpec {
    let (rate, burst) = rate_and_burst(limits.rate);
    SourceSpec {
        instances: some_value(limits.instances),
        rate,
        burst,
        prefix: PrefixSpec { ipv4: some_value(limits.prefix.ipv4), ipv6: some_value(limits.prefix.ipv6) },
        exempt: nonempty_list(&limits.exempt),
    }
}

fn rate_and_burst(limit: Option<RateLimit>) -> (Option<Spanned<Rate>>, Option<Spanned<u32>>) {
    let Some(RateLimit { events, per, burst, .. }) = limit else { return (None, None) };
    (some_value(Rate { events, per }), some_value(burst))
}

fn penalty_spec(penalties: &Penalties) -> PenaltySpec {
    let any = penalties.has_any();
    PenaltySpec {
        crash: optional_value(penalties.crash),
        exit: optional_value(penalties.exit),
        refused: optional_value(penalties.refused),
        trap: optional_value(penalties.trap),
        min: optional_value(any.then_some(penalties.min)),
        max: optional_value(any.then_some(penalties.max)),
        exempt: nonempty_list(&penalties.exempt),
    }
}

fn socket_spec(options: &SocketOptions) -> SocketSpec {
    SocketSpec {
        backlog: optional_value(options.backlog),
        nodelay: optional_value(options.nodelay.then_some(true)),
        keepalive: optional_value(options.keepalive.then_some(true)),
        defer_accept: optional_value(options.defer_accept),
        freebind: optional_value(options.freebind.then_some(true)),
        device: optional_value(options.device.clone()),
        mark: optional_value(options.mark),
        send_buffer: optional_value(options.send_buffer),
        receive_buffer: optional_value(options.receive_buffer),
        owner: optional_value(options.owner.map(|(uid, gid)| format!("{uid}:{gid}"))),
        mode: optional_value(options.mode),
    }
}

fn log_spec(choice: &LogChoice) -> LogSpec {
    let OwnLog { to, facility, format } = &choice.own;
    LogSpec {
        accept: some_value(choice.accept),
        exit: some_value(choice.exit),
        refuse: some_value(choice.refuse),
        place: PlaceSpec {
            to: optional_value(to.clone()),
            facility: optional_value(*facility),
            format: optional_value(*format),
        },
    }
}

fn c_text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
