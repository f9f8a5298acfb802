//! Renders the status as tables for people.

use super::grid::{Cell, Grid, Side, Tone};
use crate::api::{ListenerState, ServiceStatus, Snapshot, SourceCount};

/// A count and its limit: `3/10`, or `3`.
#[must_use]
pub(in crate::ctl) fn count_cell(count: u32, limit: Option<u32>) -> Cell {
    match limit {
        Some(limit) if count >= limit => Cell::new(format!("{count}/{limit}"), Tone::Warning),
        Some(limit) => format!("{count}/{limit}").into(),
        None => count.into(),
    }
}

/// A duration in its two largest units: `3d 4h`, `12m 3s`, `4.2s`, `350ms`.
#[must_use]
pub(in crate::ctl) fn format_age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        86_400.. => format!("{}d {}h", whole / 86_400, whole / 3_600 % 24),
        3_600.. => format!("{}h {}m", whole / 3_600, whole / 60 % 60),
        60.. => format!("{}m {}s", whole / 60, whole % 60),
        1.. => format!("{seconds:.1}s"),
        0 if seconds >= 0.01 => format!("{:.0}ms", seconds * 1e3),
        0 => format!("{:.1}ms", seconds * 1e3),
    }
}

/// A number that should be zero; any other is a warning.
fn zero_expected(count: u64) -> Cell {
    Cell::new(count, if count == 0 { Tone::Plain } else { Tone::Warning })
}

/// A summary of the daemon's state, one line for each subject.
#[must_use]
pub(in crate::ctl) fn status_grid(snapshot: &Snapshot) -> Grid {
    let mut grid = Grid::new(&[("", Side::Left), ("", Side::Left)]);
    let mut put = |what: &str, cell: Cell| grid.row([Cell::new(what, Tone::Head), cell]);
    let sum = |count: fn(&ServiceStatus) -> u64| snapshot.services.values().map(count).sum::<u64>();
    let Snapshot { version, pid, handlers, instances, peak, .. } = snapshot;
    put("oxinetd", format!("{version}, pid {pid}, up {}", format_age(snapshot.uptime_seconds)).into());
    let listed = snapshot.services.values().filter(|service| service.listed).count();
    let paused = snapshot.services.values().filter(|service| service_state(service).1 == Tone::Warning).count();
    let tone = if paused > 0 { Tone::Warning } else { Tone::Plain };
    put("services", Cell::new(format!("{listed}, {paused} of them paused"), tone));
    put("handlers", format!("{handlers} of {instances}, {peak} at most so far").into());
    put("accepted", sum(|service| service.accepted).into());
    put("refused", sum(|service| service.refused.values().sum()).into());
    put("spawn failures", zero_expected(sum(|service| service.spawn_failures.values().sum())));
    let reloads = &snapshot.reloads;
    let since = format_age(snapshot.time_seconds - snapshot.table_since_seconds);
    let tone = if reloads.failed > 0 { Tone::Warning } else { Tone::Plain };
    let text = format!("{} done, {} failed; this table for {since}", reloads.done, reloads.failed);
    put("reloads", Cell::new(text, tone));
    let upgrades = &snapshot.upgrades;
    let tone = if upgrades.problem.is_some() { Tone::Warning } else { Tone::Plain };
    put("upgrades", Cell::new(format!("{} done, {} failed", upgrades.done, upgrades.failed), tone));
    put("turns", format!("{}, the longest {}", snapshot.turns.count, format_age(snapshot.longest_turn_seconds)).into());
    put("log lines lost", zero_expected(snapshot.log_lines_dropped));
    for (family, table) in [("rates, IPv4", &snapshot.rates.ipv4), ("rates, IPv6", &snapshot.rates.ipv6)] {
        let text = format!("{} of {} sources, {} forgotten early", table.in_debt, table.entries, table.lost_in_debt);
        put(family, Cell::new(text, if table.lost_in_debt > 0 { Tone::Warning } else { Tone::Plain }));
    }
    let penalised = snapshot.penalties.penalised;
    put("bans, penalties", format!("{} networks banned, {penalised} sources penalised", snapshot.bans.len()).into());
    let (text, tone) = match snapshot.audit.len() {
        0 => ("clean".to_owned(), Tone::Good),
        count => (format!("{count} counts are wrong, see oxinetctl audit"), Tone::Bad),
    };
    put("audit", Cell::new(text, tone));
    grid
}

/// The services, one in each line.
#[must_use]
pub(in crate::ctl) fn services_grid(snapshot: &Snapshot) -> Grid {
    use Side::{Left, Right};
    let mut grid = Grid::new(&[
        ("SERVICE", Left),
        ("STATE", Left),
        ("HANDLERS", Right),
        ("PEAK", Right),
        ("ACCEPTED", Right),
        ("REFUSED", Right),
        ("FAILED", Right),
        ("LISTEN", Left),
    ]);
    for (name, service) in &snapshot.services {
        let (state, tone) = service_state(service);
        let sockets = service.listeners.iter().map(|listener| listener.endpoint.as_str());
        let endpoints: Vec<&str> = sockets.chain(service.tcpmux.iter().map(String::as_str)).collect();
        grid.row([
            name.into(),
            Cell::new(state, tone),
            count_cell(service.handlers, service.instances),
            service.peak.into(),
            service.accepted.into(),
            service.refused.values().sum::<u64>().into(),
            zero_expected(service.spawn_failures.values().sum()),
            endpoints.join(" ").into(),
        ]);
    }
    grid
}

/// The state of a service in a word or two.
#[must_use]
pub(in crate::ctl) fn service_state(service: &ServiceStatus) -> (String, Tone) {
    let paused = service.listeners.iter().find(|listener| listener.state == ListenerState::Paused);
    match paused {
        _ if !service.listed => ("removed".to_owned(), Tone::Warning),
        Some(listener) => (listener.reason.clone().unwrap_or_else(|| "paused".to_owned()), Tone::Warning),
        None if service.listeners.iter().any(|listener| listener.state == ListenerState::Lent) => {
            ("lent".to_owned(), Tone::Good)
        }
        None if service.listeners.is_empty() && service.tcpmux.is_empty() => ("closed".to_owned(), Tone::Warning),
        None => ("listening".to_owned(), Tone::Good),
    }
}

/// The sources, one in each line.
#[must_use]
pub(in crate::ctl) fn sources_grid(sources: &[SourceCount]) -> Grid {
    let mut grid = Grid::new(&[("SOURCE", Side::Left), ("HANDLERS", Side::Right), ("SERVICE", Side::Left)]);
    for count in sources {
        grid.row([(&count.source).into(), count_cell(count.handlers, count.instances), (&count.service).into()]);
    }
    grid
}
