//! Writes a table as YAML that reads back to the same table, with every default filled in and nothing looked up
//! again but what the file itself names.
//!
//! `oxinetd --dump` calls [`dump`]; so may anything that shows the table. It goes from checked services back to
//! specifications, which write themselves (`super::keys`). What it writes stands alone: no `include`, no
//! `defaults`. Dumping what was read from a dump gives the same bytes. It cannot fail: a table holds only text.

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
fn set_to<T>(value: T) -> Option<Spanned<T>> {
    Some(Spanned { value, at: Location::default() })
}

fn set_if<T>(value: Option<T>) -> Option<Spanned<T>> {
    value.and_then(set_to)
}

/// A list, unless it is empty.
fn set_list<T: Clone>(values: &[T]) -> SpannedList<T> {
    let values: Vec<_> = values.iter().cloned().filter_map(set_to).collect();
    (!values.is_empty()).then(|| set_to(values)).flatten()
}

fn daemon_map(daemon: &Settings) -> Mapping {
    let LogPlace { to, facility, format } = &daemon.log.place;
    let spec = DaemonSpec {
        instances: set_to(daemon.instances),
        sources: SourcesSpec { ipv4: set_to(daemon.sources.ipv4), ipv6: set_to(daemon.sources.ipv6) },
        control: ControlSpec { path: set_to(daemon.control.place.clone()), group: None },
        drop_banned: set_to(daemon.drop_banned),
        log: DaemonLogSpec {
            place: PlaceSpec { to: set_to(to.clone()), facility: set_to(*facility), format: set_to(*format) },
            level: set_to(daemon.log.level),
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
        enabled: set_to(service.enabled),
        listen: set_to(sockets.chain(names).filter_map(set_to).collect()),
        wait: set_to(service.wait),
        program: None,
        argv0: None,
        builtin: None,
        to: None,
        connect_timeout: None,
        idle_timeout: None,
        user: credentials.and_then(|credentials| set_to(credentials.user.clone())),
        // Put in their places here, and replaced by numbers.
        group: credentials.and_then(|_| set_to(String::new())),
        groups: credentials.and_then(|_| set_to(Groups::All)),
        directory: set_to(c_text(&service.directory)),
        chroot: set_if(service.chroot.as_deref().map(c_text)),
        umask: set_to(service.umask),
        nice: set_if(service.nice),
        rlimits: service
            .rlimits
            .iter()
            .filter_map(|limit| set_to((resource_name(limit.resource).to_owned(), *limit)))
            .collect(),
        env: service.env.iter().cloned().filter_map(set_to).collect(),
        pass_env: set_list(&service.pass_env),
        stderr: set_to(service.stderr),
        instances: set_to(service.instances),
        when_full: set_to(service.when_full),
        rate,
        burst,
        per_source: SourceSpec::default(),
        per_network: SourceSpec::default(),
        max_load: set_if(service.max_load),
        penalties: penalty_spec(&service.penalties),
        lifetime: set_if(service.lifetime),
        allow: set_list(&service.allow),
        deny: set_list(&service.deny),
        times: set_list(&service.times),
        dry_run: set_to(service.dry_run),
        refuse: set_to(service.refuse.clone()),
        banner: set_to(String::from_utf8_lossy(&service.banner).into_owned()),
        socket: socket_spec(&service.socket),
        log: log_spec(&service.log),
    };
    put_handler(&mut spec, service);
    put_levels(&mut spec, service);
    spec
}

fn put_handler(spec: &mut ServiceSpec, service: &Service) {
    if let Some(builtin) = &service.program.builtin {
        spec.builtin = set_to(builtin.kind.name().to_owned());
        spec.idle_timeout = set_to(builtin.idle_timeout);
        if let BuiltinKind::Redirect(target) = &builtin.kind {
            spec.to = set_to((target.host.clone(), target.port));
            spec.connect_timeout = set_to(target.connect_timeout);
        }
    } else if !service.program.is_none() {
        let path = c_text(&service.program.path);
        let mut words = service.program.argv.iter().map(|word| c_text(word));
        spec.argv0 = words.next().filter(|argv0| argv0 != base_name(&path)).and_then(set_to);
        spec.program = set_to(std::iter::once(path).chain(words).collect());
    }
}

/// A service whose clients the daemon does not see has no limits of a source.
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
        instances: set_to(limits.instances),
        rate,
        burst,
        prefix: PrefixSpec { ipv4: set_to(limits.prefix.ipv4), ipv6: set_to(limits.prefix.ipv6) },
        exempt: set_list(&limits.exempt),
    }
}

fn rate_and_burst(limit: Option<RateLimit>) -> (Option<Spanned<Rate>>, Option<Spanned<u32>>) {
    let Some(RateLimit { events, per, burst, .. }) = limit else { return (None, None) };
    (set_to(Rate { events, per }), set_to(burst))
}

fn penalty_spec(penalties: &Penalties) -> PenaltySpec {
    let any = penalties.has_any();
    PenaltySpec {
        crash: set_if(penalties.crash),
        exit: set_if(penalties.exit),
        refused: set_if(penalties.refused),
        trap: set_if(penalties.trap),
        min: set_if(any.then_some(penalties.min)),
        max: set_if(any.then_some(penalties.max)),
        exempt: set_list(&penalties.exempt),
    }
}

fn socket_spec(options: &SocketOptions) -> SocketSpec {
    SocketSpec {
        backlog: set_if(options.backlog),
        nodelay: set_if(options.nodelay.then_some(true)),
        keepalive: set_if(options.keepalive.then_some(true)),
        defer_accept: set_if(options.defer_accept),
        freebind: set_if(options.freebind.then_some(true)),
        device: set_if(options.device.clone()),
        mark: set_if(options.mark),
        send_buffer: set_if(options.send_buffer),
        receive_buffer: set_if(options.receive_buffer),
        owner: set_if(options.owner.map(|(uid, gid)| format!("{uid}:{gid}"))),
        mode: set_if(options.mode),
    }
}

fn log_spec(choice: &LogChoice) -> LogSpec {
    let OwnLog { to, facility, format } = &choice.own;
    LogSpec {
        accept: set_to(choice.accept),
        exit: set_to(choice.exit),
        refuse: set_to(choice.refuse),
        place: PlaceSpec { to: set_if(to.clone()), facility: set_if(*facility), format: set_if(*format) },
    }
}

fn c_text(text: &CStr) -> String {
    text.to_string_lossy().into_owned()
}
