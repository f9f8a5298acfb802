//! What is on the screen: lines that fit, whatever its size. Knows no terminal.

mod line;

use std::time::Duration;

use clap::ValueEnum;

use super::rates::Rates;
use crate::api::{Service, Snapshot};
use crate::ctl::render::grid::{Side, Tone};
use crate::ctl::render::table::{age, of, state};
use line::{Line, bar, number};

/// What services are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Column {
    /// Their names
    Service,
    /// Their live handlers, most first
    Handlers,
    /// Connections accepted a second, most first
    Accepted,
    /// Connections refused a second, most first
    Refused,
}

impl Column {
    pub(super) fn next(self) -> Self {
        match self {
            Self::Service => Self::Handlers,
            Self::Handlers => Self::Accepted,
            Self::Accepted => Self::Refused,
            Self::Refused => Self::Service,
        }
    }
}

/// What is to be shown.
pub(super) struct View<'a> {
    pub now: &'a Snapshot,
    pub rates: &'a Rates,
    pub sort: Column,
    pub skip: usize,
    pub interval: Duration,
    /// Why the snapshot is an old one.
    pub trouble: Option<&'a str>,
    pub colour: bool,
    /// Can the terminal show block elements (Unicode 2580)?
    pub blocks: bool,
}

/// Columns that services and sources have in common: a name, and what stands beside it.
const NUMBER: usize = 9;
const STATE: usize = 17;

/// At most `height` lines of at most `width` columns.
pub(super) fn draw(view: &View<'_>, width: usize, height: usize) -> Vec<String> {
    let mut lines = head(view, width);
    let keys = keys(view, width);
    let room = height.saturating_sub(lines.len() + 1);
    // Below the services, a third of the room, as far as there is something to show.
    let below = (room / 3).min(1 + view.now.sources.len().max(view.rates.reasons.len()).max(2));
    let below = if below < 3 { 0 } else { below };
    let mut services = services(view, width, room - below);
    services.resize_with(room - below, String::new);
    lines.append(&mut services);
    if below > 0 {
        lines.append(&mut sources_and_reasons(view, width, below));
    }
    lines.truncate(height.saturating_sub(1));
    lines.push(keys);
    lines.truncate(height);
    lines
}

fn head(view: &View<'_>, width: usize) -> Vec<String> {
    let Snapshot { version, handlers, instances, peak, .. } = view.now;
    let mut first = Line::new(width, view.colour);
    first.put(&format!("oxinetd {version}"), Tone::Head);
    first.put(&format!("  up {}  ", age(view.now.uptime_seconds)), Tone::Plain);
    first.put(&format!("handlers {handlers}/{instances} "), Tone::Plain);
    first.put(&bar(f64::from(*handlers), f64::from(*instances), 10, view.blocks), Tone::Good);
    first.put(&format!("  peak {peak}"), Tone::Plain);
    let mut second = Line::new(width, view.colour);
    let rates = view.rates;
    let (accepted, refused, ended) = (number(rates.accepted), number(rates.refused), number(rates.ended));
    second.put(&format!("accepted {accepted}/s  "), Tone::Plain);
    second.put(&format!("refused {refused}/s  "), if rates.refused > 0.0 { Tone::Warning } else { Tone::Plain });
    second.put(&format!("ended {ended}/s  longest turn {}", age(view.now.longest_turn_seconds)), Tone::Plain);
    let lost = view.now.log_lines_dropped;
    if lost > 0 {
        second.put(&format!("  {lost} log lines lost"), Tone::Warning);
    }
    let drifts = view.now.audit.len();
    if drifts > 0 {
        second.put(&format!("  {drifts} counts are wrong"), Tone::Bad);
    }
    vec![first.done(), second.done(), trouble(view, width)]
}

fn trouble(view: &View<'_>, width: usize) -> String {
    let mut line = Line::new(width, view.colour);
    line.put(view.trouble.unwrap_or_default(), Tone::Bad);
    line.done()
}

/// The width of a bar: what the columns leave, shared by three.
fn bar_width(width: usize, name: usize) -> usize {
    width.saturating_sub(name + STATE + 3 * NUMBER + 8).min(60) / 3
}

fn name_width(view: &View<'_>, width: usize) -> usize {
    let longest = view.now.services.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    longest.clamp(8, (width / 4).max(8))
}

fn services(view: &View<'_>, width: usize, height: usize) -> Vec<String> {
    let name = name_width(view, width);
    let bars = bar_width(width, name);
    let mut lines = vec![services_head(view, width, name, bars)];
    let sorted = sorted(view);
    let most =
        |rate: fn(&super::rates::ServiceRates) -> f64| view.rates.services.values().map(rate).fold(0.0, f64::max);
    let (accepted, refused) = (most(|rates| rates.accepted), most(|rates| rates.refused));
    let room = height.saturating_sub(1);
    let skip = view.skip.min(sorted.len().saturating_sub(room));
    for (key, service) in sorted.into_iter().skip(skip).take(room) {
        let rates = view.rates.services.get(key).copied().unwrap_or_default();
        let mut line = Line::new(width, view.colour);
        line.cell(key, name, Side::Left, Tone::Plain);
        let (word, tone) = state(service);
        line.cell(&word, STATE, Side::Left, tone);
        let handlers = of(service.handlers, service.instances);
        line.cell(handlers.text(), NUMBER, Side::Right, handlers.tone());
        let limit = service.instances.unwrap_or(view.now.instances);
        line.cell(&bar(service.handlers.into(), limit.into(), bars, view.blocks), bars, Side::Left, Tone::Good);
        line.cell(&number(rates.accepted), NUMBER, Side::Right, Tone::Plain);
        line.cell(&bar(rates.accepted, accepted, bars, view.blocks), bars, Side::Left, Tone::Good);
        line.cell(&number(rates.refused), NUMBER, Side::Right, Tone::Plain);
        line.cell(&bar(rates.refused, refused, bars, view.blocks), bars, Side::Left, Tone::Warning);
        lines.push(line.done());
    }
    lines
}

fn services_head(view: &View<'_>, width: usize, name: usize, bars: usize) -> String {
    let title = |word: &str, column| if view.sort == column { format!("{word}*") } else { word.to_owned() };
    let mut line = Line::new(width, view.colour);
    line.cell(&title("SERVICE", Column::Service), name, Side::Left, Tone::Head);
    line.cell("STATE", STATE, Side::Left, Tone::Head);
    let numbers = [("HANDLERS", Column::Handlers), ("ACCEPT/S", Column::Accepted), ("REFUSE/S", Column::Refused)];
    for (word, column) in numbers {
        line.cell(&title(word, column), NUMBER, Side::Right, Tone::Head);
        line.cell("", bars, Side::Left, Tone::Plain);
    }
    line.done()
}

fn sorted<'a>(view: &View<'a>) -> Vec<(&'a String, &'a Service)> {
    let mut services: Vec<_> = view.now.services.iter().collect();
    let rates = |name: &String| view.rates.services.get(name).copied().unwrap_or_default();
    // Stable, over the order of names.
    match view.sort {
        Column::Service => {}
        Column::Handlers => services.sort_by_key(|(_, service)| std::cmp::Reverse(service.handlers)),
        Column::Accepted => services.sort_by(|(one, _), (two, _)| rates(two).accepted.total_cmp(&rates(one).accepted)),
        Column::Refused => services.sort_by(|(one, _), (two, _)| rates(two).refused.total_cmp(&rates(one).refused)),
    }
    services
}

/// Two lists side by side, with their headings.
fn sources_and_reasons(view: &View<'_>, width: usize, height: usize) -> Vec<String> {
    let half = width / 2;
    let (left, right) = (sources(view, half.saturating_sub(2), height), reasons(view, width - half, height));
    let pad = |number: usize| left.get(number).cloned().unwrap_or_else(|| Line::new(0, false).done());
    let blank = |line: &str| line::visible(line);
    (0..height)
        .map(|number| {
            let (one, two) = (pad(number), right.get(number).cloned().unwrap_or_default());
            format!("{one}{:1$}{two}", "", half.saturating_sub(blank(&one))).trim_end().to_owned()
        })
        .collect()
}

fn sources(view: &View<'_>, width: usize, height: usize) -> Vec<String> {
    // The longest IPv6 prefix has 43.
    let name = width.saturating_sub(2 * NUMBER + 4).clamp(8, 43);
    let mut head = Line::new(width, view.colour);
    head.cell("BUSIEST SOURCES", name, Side::Left, Tone::Head);
    head.cell("HANDLERS", NUMBER, Side::Right, Tone::Head);
    head.cell("SERVICE", NUMBER + 1, Side::Left, Tone::Head);
    let mut lines = vec![head.done()];
    for count in view.now.sources.iter().take(height.saturating_sub(1)) {
        let mut line = Line::new(width, view.colour);
        line.cell(&count.source, name, Side::Left, Tone::Plain);
        let handlers = of(count.handlers, count.instances);
        line.cell(handlers.text(), NUMBER, Side::Right, handlers.tone());
        line.cell(&count.service, NUMBER + 1, Side::Left, Tone::Plain);
        lines.push(line.done());
    }
    lines
}

fn reasons(view: &View<'_>, width: usize, height: usize) -> Vec<String> {
    let mut reasons: Vec<_> = view.rates.reasons.iter().collect();
    reasons.sort_by(|(_, one), (_, two)| two.total_cmp(one));
    let most = reasons.first().map_or(0.0, |(_, rate)| **rate);
    let bars = width.saturating_sub(STATE + NUMBER + 4).min(30);
    let mut head = Line::new(width, view.colour);
    head.cell("REFUSALS BY REASON", STATE + 1, Side::Left, Tone::Head);
    head.cell("/S", NUMBER - 1, Side::Right, Tone::Head);
    let mut lines = vec![head.done()];
    for (reason, rate) in reasons.into_iter().take(height.saturating_sub(1)) {
        let mut line = Line::new(width, view.colour);
        line.cell(reason, STATE, Side::Left, Tone::Plain);
        line.cell(&number(*rate), NUMBER, Side::Right, Tone::Plain);
        line.cell(&bar(*rate, most, bars, view.blocks), bars, Side::Left, Tone::Warning);
        lines.push(line.done());
    }
    lines
}

fn keys(view: &View<'_>, width: usize) -> String {
    let mut line = Line::new(width, view.colour);
    for (key, what) in [("q", "quit"), ("s", "sort"), ("j k", "scroll")] {
        line.put(key, Tone::Head);
        line.put(&format!(" {what}   "), Tone::Plain);
    }
    line.put("+ -", Tone::Head);
    line.put(&format!(" every {}", age(view.interval.as_secs_f64())), Tone::Plain);
    line.done()
}

#[cfg(test)]
mod tests;
