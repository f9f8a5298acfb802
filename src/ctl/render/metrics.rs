//! Renders the status as metrics for Prometheus and compatible programs: OpenMetrics 1.0, or the older text format
//! 0.0.4, which more programs read.
//!
//! Names follow the rules of both: they begin with the program, have base units, and counters end with `_total`. No
//! address is ever a label, because each value of a label makes a series that is kept for ever;
//! [`crate::api::Snapshot::sources`] has the addresses.

use std::fmt::{Display, Write};

use clap::ValueEnum;

use crate::api::{Durations, ListenerState, ServiceStatus, Snapshot};

/// The text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::ctl) enum MetricsFormat {
    /// OpenMetrics, version 1.0
    #[value(name = "openmetrics")]
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4
    Prometheus,
}

impl MetricsFormat {
    #[must_use]
    pub(in crate::ctl) fn media_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum MetricKind {
    /// A value that goes up and down.
    Gauge,
    /// A value that only grows; its samples end with `_total`.
    Counter,
    Histogram,
    /// A metric whose labels are the information.
    Info,
}

/// The text so far, and the current family.
struct MetricsPage {
    text: String,
    format: MetricsFormat,
    /// The name of the samples of the current family.
    sample: String,
}

/// All metrics of a snapshot.
#[must_use]
pub(in crate::ctl) fn render_metrics(snapshot: &Snapshot, format: MetricsFormat) -> String {
    let mut page = MetricsPage { text: String::new(), format, sample: String::new() };
    put_daemon(&mut page, snapshot);
    put_handlers(&mut page, snapshot);
    put_connections(&mut page, snapshot);
    put_sources(&mut page, snapshot);
    put_listeners(&mut page, snapshot);
    put_rates(&mut page, snapshot);
    put_refusals(&mut page, snapshot);
    page.finish()
}

fn put_daemon(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family("build", MetricKind::Info, "The version that runs.");
    page.put(&[("version", &snapshot.version)], 1);
    page.begin_family("start_time_seconds", MetricKind::Gauge, "When the daemon became ready, in seconds since 1970.");
    // Rounded, since two clocks are involved: all scrapes must see the same start time.
    page.put(&[], (snapshot.time_seconds - snapshot.uptime_seconds).round());
    page.begin_family("reloads", MetricKind::Counter, "Reloads, by their outcome.");
    page.put(&[("result", "success")], snapshot.reloads.done);
    page.put(&[("result", "failure")], snapshot.reloads.failed);
    page.begin_family("upgrades", MetricKind::Counter, "Upgrades in place, by their outcome.");
    page.put(&[("result", "success")], snapshot.upgrades.done);
    page.put(&[("result", "failure")], snapshot.upgrades.failed);
    page.begin_family(
        "table_in_force_timestamp_seconds",
        MetricKind::Gauge,
        "When the current table came into force, in seconds since 1970.",
    );
    page.put(&[], snapshot.table_since_seconds);
    page.begin_family(
        "turn_duration_seconds",
        MetricKind::Histogram,
        "The duration of a turn of the loop, without its wait.",
    );
    page.put_histogram(&[], &snapshot.turns);
    page.begin_family("longest_turn_seconds", MetricKind::Gauge, "The longest turn of the loop, without its wait.");
    page.put(&[], snapshot.longest_turn_seconds);
    page.begin_family(
        "log_lines_dropped",
        MetricKind::Counter,
        "Log lines that were lost because the log could not keep up.",
    );
    page.put(&[], snapshot.log_lines_dropped);
    page.begin_family(
        "audit_drifts",
        MetricKind::Gauge,
        "Counts that disagree with the live handlers; anything but 0 is a bug.",
    );
    page.put(&[], snapshot.audit.len());
}

fn put_handlers(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family("daemon_handlers_limit", MetricKind::Gauge, "The limit on live handlers of all services.");
    page.put(&[], snapshot.instances);
    page.begin_family(
        "daemon_handlers_peak",
        MetricKind::Gauge,
        "The largest number of live handlers of all services so far.",
    );
    page.put(&[], snapshot.peak);
    page.begin_family("daemon_handlers_starting", MetricKind::Gauge, "Live handlers that are still being started.");
    page.put(&[], snapshot.starting);
    page.begin_family("handlers", MetricKind::Gauge, "Live handlers of a service.");
    page.each_service(snapshot, |page, name, service| page.put(&[("service", name)], service.handlers));
    page.begin_family(
        "handlers_limit",
        MetricKind::Gauge,
        "The limit on live handlers of a service; absent if unlimited.",
    );
    page.each_service(snapshot, |page, name, service| {
        service.instances.into_iter().for_each(|limit| page.put(&[("service", name)], limit));
    });
    page.begin_family("handlers_peak", MetricKind::Gauge, "The largest number of live handlers of a service so far.");
    page.each_service(snapshot, |page, name, service| page.put(&[("service", name)], service.peak));
    page.begin_family(
        "handlers_exited",
        MetricKind::Counter,
        "Handlers that have ended: with status 0, with another status, or by a signal.",
    );
    page.each_service(snapshot, |page, name, service| {
        let exits = &service.exits;
        for (kind, count) in [("success", exits.success), ("failure", exits.failure), ("signal", exits.signal)] {
            page.put(&[("service", name), ("kind", kind)], count);
        }
    });
    page.begin_family("handler_duration_seconds", MetricKind::Histogram, "The lifetime of handlers that have ended.");
    page.each_service(snapshot, |page, name, service| page.put_histogram(&[("service", name)], &service.durations));
    page.begin_family(
        "spawn_failures",
        MetricKind::Counter,
        "Handlers that could not be started, by the step that failed.",
    );
    page.each_service(snapshot, |page, name, service| page.put_counts(name, "step", &service.spawn_failures));
}

fn put_connections(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family("connections_accepted", MetricKind::Counter, "Connections that got a handler.");
    page.each_service(snapshot, |page, name, service| page.put(&[("service", name)], service.accepted));
    page.begin_family("connections_refused", MetricKind::Counter, "Connections that were refused, by reason.");
    page.each_service(snapshot, |page, name, service| page.put_counts(name, "reason", &service.refused));
    let help = "Connections that were accepted only because of dry_run, by the reason to refuse them.";
    page.begin_family("connections_would_refuse", MetricKind::Counter, help);
    page.each_service(snapshot, |page, name, service| page.put_counts(name, "reason", &service.would_refuse));
}

fn put_sources(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family(
        "source_connections_peak",
        MetricKind::Gauge,
        "The most connections of one source in one minute.",
    );
    page.each_service(snapshot, |page, name, service| {
        let peak = service.peak_rate.as_ref().map_or(0, |peak| peak.connections_per_minute);
        page.put(&[("service", name)], peak);
    });
}

fn put_listeners(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family("listeners", MetricKind::Gauge, "Listening sockets of a service, by their state.");
    page.each_service(snapshot, |page, name, service| {
        for state in [ListenerState::Listening, ListenerState::Paused, ListenerState::Lent] {
            let count = service.listeners.iter().filter(|listener| listener.state == state).count();
            page.put(&[("service", name), ("state", state.word())], count);
        }
    });
}

fn put_rates(page: &mut MetricsPage, snapshot: &Snapshot) {
    let tables = [("ipv4", &snapshot.rates.ipv4), ("ipv6", &snapshot.rates.ipv6)];
    page.begin_family(
        "rate_entries_limit",
        MetricKind::Gauge,
        "The number of sources for which the table of rates has room.",
    );
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.entries));
    page.begin_family(
        "rate_entries",
        MetricKind::Gauge,
        "Sources whose recent connections still count against their rate.",
    );
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.in_debt));
    let help = "Sources whose entry was evicted too early, because the table of rates was full.";
    page.begin_family("rate_evictions", MetricKind::Counter, help);
    tables.iter().for_each(|(family, table)| page.put(&[("family", family)], table.lost_in_debt));
}

fn put_refusals(page: &mut MetricsPage, snapshot: &Snapshot) {
    page.begin_family("service_drained", MetricKind::Gauge, "1 if the administrator has drained the service.");
    page.each_service(snapshot, |page, name, service| page.put(&[("service", name)], u8::from(service.drained)));
    page.begin_family("bans", MetricKind::Gauge, "Networks that are banned.");
    page.put(&[], snapshot.bans.len());
    page.begin_family("penalised_sources", MetricKind::Gauge, "Sources that are refused because of their penalties.");
    page.put(&[], snapshot.penalties.penalised);
    page.begin_family(
        "penalty_evictions",
        MetricKind::Counter,
        "Penalties that were forgotten early, because their table was full.",
    );
    let forgotten = &snapshot.penalties.forgotten;
    page.put(&[("family", "ipv4")], forgotten.ipv4);
    page.put(&[("family", "ipv6")], forgotten.ipv6);
}

impl MetricsPage {
    /// Begins a family of samples. `name` lacks the prefix `oxinetd_`, and the `_total` of a counter.
    fn begin_family(&mut self, name: &str, kind: MetricKind, help: &str) {
        let name = format!("oxinetd_{name}");
        self.sample = match kind {
            MetricKind::Counter => format!("{name}_total"),
            MetricKind::Info => format!("{name}_info"),
            MetricKind::Gauge | MetricKind::Histogram => name.clone(),
        };
        let open = self.format == MetricsFormat::OpenMetrics;
        let family = if open { &name } else { &self.sample };
        let word = match kind {
            MetricKind::Counter => "counter",
            MetricKind::Histogram => "histogram",
            MetricKind::Info if open => "info",
            MetricKind::Info | MetricKind::Gauge => "gauge",
        };
        let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {word}");
        if open && name.ends_with("_seconds") {
            let _ = writeln!(self.text, "# UNIT {family} seconds");
        }
    }

    /// Calls `put` for each service.
    fn each_service(&mut self, snapshot: &Snapshot, mut put: impl FnMut(&mut Self, &str, &ServiceStatus)) {
        snapshot.services.iter().for_each(|(name, service)| put(self, name, service));
    }

    /// Writes a sample of the current family.
    fn put(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.put_sample("", labels, None, value);
    }

    fn put_sample(&mut self, suffix: &str, labels: &[(&str, &str)], end: Option<&str>, value: impl Display) {
        let _ = write!(self.text, "{}{suffix}", self.sample);
        let all = labels.iter().copied().chain(end.map(|end| ("le", end)));
        for (number, (name, value)) in all.enumerate() {
            let open = if number == 0 { '{' } else { ',' };
            let _ = write!(self.text, "{open}{name}=\"{}\"", escape_label(value));
        }
        let close = if labels.is_empty() && end.is_none() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// Writes a sample for each word.
    fn put_counts(&mut self, service: &str, label: &str, counts: &std::collections::BTreeMap<String, u64>) {
        for (word, count) in counts {
            self.put(&[("service", service), (label, word)], count);
        }
    }

    fn put_histogram(&mut self, labels: &[(&str, &str)], durations: &Durations) {
        for at_most in &durations.at_most {
            // OpenMetrics requires a decimal point in every bound.
            self.put_sample("_bucket", labels, Some(&format!("{:?}", at_most.seconds)), at_most.count);
        }
        self.put_sample("_bucket", labels, Some("+Inf"), durations.count);
        self.put_sample("_sum", labels, None, durations.sum_seconds);
        self.put_sample("_count", labels, None, durations.count);
    }

    fn finish(mut self) -> String {
        if self.format == MetricsFormat::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

/// The value of a label, with escapes.
fn escape_label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
