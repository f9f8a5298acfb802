//! The coat for Prometheus and its like: OpenMetrics 1.0, or the older text format 0.0.4 that more programs read.
//!
//! Names follow the rules of both: the program first, base units, `_total` for what only grows. No address is ever a
//! label, because each value of a label is a series that is kept for good; [`crate::api::Snapshot::sources`] has addresses.

use std::fmt::{Display, Write};

use crate::api::{Durations, ListenerState, Service, Snapshot};

/// Which text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

impl Format {
    /// Its media type.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// What goes up and down.
    Gauge,
    /// What only goes up; `_total` belongs to its samples.
    Counter,
    Histogram,
    /// Labels that are themselves the information.
    Info,
}

/// The text in the making.
struct Page {
    text: String,
    format: Format,
    /// The name of the samples at hand.
    sample: String,
}

/// Every metric of a snapshot.
#[must_use]
pub fn metrics(snapshot: &Snapshot, format: Format) -> String {
    let mut page = Page { text: String::new(), format, sample: String::new() };
    daemon(&mut page, snapshot);
    handlers(&mut page, snapshot);
    connections(&mut page, snapshot);
    sources(&mut page, snapshot);
    listeners(&mut page, snapshot);
    rates(&mut page, snapshot);
    turned_away(&mut page, snapshot);
    page.end()
}

fn daemon(page: &mut Page, snapshot: &Snapshot) {
    page.family("build", Kind::Info, "The version that runs.");
    page.put(&[("version", &snapshot.version)], 1);
    page.family("start_time_seconds", Kind::Gauge, "When the daemon became ready, in seconds since 1970.");
    // Two clocks: rounded, so that the same start is the same number in each scrape.
    page.put(&[], (snapshot.time_seconds - snapshot.uptime_seconds).round());
    page.family("reloads", Kind::Counter, "Reloads, by their outcome.");
    page.put(&[("result", "success")], snapshot.reloads.done);
    page.put(&[("result", "failure")], snapshot.reloads.failed);
    page.family("upgrades", Kind::Counter, "Upgrades in place, by their outcome.");
    page.put(&[("result", "success")], snapshot.upgrades.done);
    page.put(&[("result", "failure")], snapshot.upgrades.failed);
    page.family("table_in_force_timestamp_seconds", Kind::Gauge, "When the table in force came into force.");
    page.put(&[], snapshot.table_since_seconds);
    page.family("turn_duration_seconds", Kind::Histogram, "How long a turn of the loop took, without its wait.");
    page.histogram(&[], &snapshot.turns);
    page.family("longest_turn_seconds", Kind::Gauge, "The longest turn of the loop, without its wait.");
    page.put(&[], snapshot.longest_turn_seconds);
    page.family("log_lines_dropped", Kind::Counter, "Log lines that were lost because the log could not keep up.");
    page.put(&[], snapshot.log_lines_dropped);
    page.family("audit_drifts", Kind::Gauge, "Counts that disagree with the live handlers; anything but 0 is a bug.");
    page.put(&[], snapshot.audit.len());
}

fn handlers(page: &mut Page, snapshot: &Snapshot) {
    page.family("daemon_handlers_limit", Kind::Gauge, "The most live handlers that there may be, over all services.");
    page.put(&[], snapshot.instances);
    page.family("daemon_handlers_peak", Kind::Gauge, "The most live handlers that there have been, over all services.");
    page.put(&[], snapshot.peak);
    page.family("daemon_handlers_starting", Kind::Gauge, "Live handlers that are still being started.");
    page.put(&[], snapshot.starting);
    page.family("handlers", Kind::Gauge, "Live handlers of a service.");
    page.each(snapshot, |page, name, service| page.put(&[("service", name)], service.handlers));
    page.family("handlers_limit", Kind::Gauge, "The most live handlers that a service may have; absent if unlimited.");
    page.each(snapshot, |page, name, service| {
        service.instances.into_iter().for_each(|limit| page.put(&[("service", name)], limit));
    });
    page.family("handlers_peak", Kind::Gauge, "The most live handlers that a service has had.");
    page.each(snapshot, |page, name, service| page.put(&[("service", name)], service.peak));
    page.family("handlers_exited", Kind::Counter, "Handlers that have ended: well, with another status, by a signal.");
    page.each(snapshot, |page, name, service| {
        let exits = &service.exits;
        for (kind, count) in [("success", exits.success), ("failure", exits.failure), ("signal", exits.signal)] {
            page.put(&[("service", name), ("kind", kind)], count);
        }
    });
    page.family("handler_duration_seconds", Kind::Histogram, "How long handlers lived that have ended.");
    page.each(snapshot, |page, name, service| page.histogram(&[("service", name)], &service.durations));
    page.family("spawn_failures", Kind::Counter, "Handlers that could not be started, by the step that failed.");
    page.each(snapshot, |page, name, service| page.counts(name, "step", &service.spawn_failures));
}

fn connections(page: &mut Page, snapshot: &Snapshot) {
    page.family("connections_accepted", Kind::Counter, "Connections that got a handler.");
    page.each(snapshot, |page, name, service| page.put(&[("service", name)], service.accepted));
    page.family("connections_refused", Kind::Counter, "Connections that were turned away, by reason.");
    page.each(snapshot, |page, name, service| page.counts(name, "reason", &service.refused));
    let help = "Connections that were let in because of dry_run alone, by the reason to turn them away.";
    page.family("connections_would_refuse", Kind::Counter, help);
    page.each(snapshot, |page, name, service| page.counts(name, "reason", &service.would_refuse));
}

fn sources(page: &mut Page, snapshot: &Snapshot) {
    page.family("source_connections_peak", Kind::Gauge, "The most connections of one source in one minute.");
    page.each(snapshot, |page, name, service| {
        let peak = service.peak_rate.as_ref().map_or(0, |peak| peak.connections_per_minute);
        page.put(&[("service", name)], peak);
    });
}

fn listeners(page: &mut Page, snapshot: &Snapshot) {
    page.family("listeners", Kind::Gauge, "Listening sockets of a service, by what they are doing.");
    page.each(snapshot, |page, name, service| {
        for state in [ListenerState::Listening, ListenerState::Paused, ListenerState::Lent] {
            let count = service.listeners.iter().filter(|listener| listener.state == state).count();
            page.put(&[("service", name), ("state", state.word())], count);
        }
    });
}

fn rates(page: &mut Page, snapshot: &Snapshot) {
    let tables = [("ipv4", &snapshot.rates.ipv4), ("ipv6", &snapshot.rates.ipv6)];
    page.family("rate_entries_limit", Kind::Gauge, "For how many sources the table of rates has room.");
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.entries));
    page.family("rate_entries", Kind::Gauge, "How many sources have come lately, as far as rates go.");
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.in_debt));
    let help = "Sources whose rate had to be forgotten before its time, for lack of room.";
    page.family("rate_evictions", Kind::Counter, help);
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.lost_in_debt));
}

fn turned_away(page: &mut Page, snapshot: &Snapshot) {
    page.family("service_drained", Kind::Gauge, "1 if the administrator has drained the service.");
    page.each(snapshot, |page, name, service| page.put(&[("service", name)], u8::from(service.drained)));
    page.family("bans", Kind::Gauge, "Networks that are banned.");
    page.put(&[], snapshot.bans.len());
    page.family("penalised_sources", Kind::Gauge, "Sources that are turned away for what they owe.");
    page.put(&[], snapshot.penalties.penalised);
    page.family("penalty_evictions", Kind::Counter, "Debtors that were forgotten for lack of room.");
    let forgotten = &snapshot.penalties.forgotten;
    page.put(&[("family", "ipv4")], forgotten.ipv4);
    page.put(&[("family", "ipv6")], forgotten.ipv6);
}

impl Page {
    /// Begins a family of samples. `name` is without the program's, and for a counter without `_total`.
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let name = format!("oxinetd_{name}");
        self.sample = match kind {
            Kind::Counter => format!("{name}_total"),
            Kind::Info => format!("{name}_info"),
            Kind::Gauge | Kind::Histogram => name.clone(),
        };
        let open = self.format == Format::OpenMetrics;
        let family = if open { &name } else { &self.sample };
        let word = match kind {
            Kind::Counter => "counter",
            Kind::Histogram => "histogram",
            Kind::Info if open => "info",
            Kind::Info | Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {word}");
        if open && name.ends_with("_seconds") {
            let _ = writeln!(self.text, "# UNIT {family} seconds");
        }
    }

    /// The same for each service.
    fn each(&mut self, snapshot: &Snapshot, mut put: impl FnMut(&mut Self, &str, &Service)) {
        snapshot.services.iter().for_each(|(name, service)| put(self, name, service));
    }

    /// A sample of the family at hand.
    fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.sample("", labels, None, value);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], end: Option<&str>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.sample);
        let all = labels.iter().copied().chain(end.map(|end| ("le", end)));
        for (number, (name, value)) in all.enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escaped(value));
        }
        let close = if labels.is_empty() && end.is_none() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// A sample for each word.
    fn counts(&mut self, service: &str, label: &str, counts: &std::collections::BTreeMap<String, u64>) {
        for (word, count) in counts {
            self.put(&[("service", service), (label, word)], count);
        }
    }

    fn histogram(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        for at_most in &durations.at_most {
            // OpenMetrics wants a point in every bound.
            self.sample("_bucket", labels, Some(&format!("{:?}", at_most.seconds)), at_most.count);
        }
        self.sample("_bucket", labels, Some("+Inf"), durations.count);
        self.sample("_sum", labels, None, durations.sum_seconds);
        self.sample("_count", labels, None, durations.count);
    }

    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// The value of a label, with what would end it escaped.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
