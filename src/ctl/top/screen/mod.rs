//! The content of the screen: lines that fit, for any size. It writes to no terminal, and cannot fail.

mod line;

use std::time::Duration;

use clap::ValueEnum;

use super::rates::SecondRates;
use crate::api::{ServiceStatus, Snapshot};
use crate::ctl::render::grid::{Side, Tone};
use crate::ctl::render::table::{count_cell, format_age, service_state};
use line::{ScreenLine, draw_bar, format_rate};

/// The column by which services are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SortColumn {
    /// By name
    Service,
    /// By live handlers, most first
    Handlers,
    /// By connections accepted per second, most first
    Accepted,
    /// By connections refused per second, most first
    Refused,
}

impl SortColumn {
    pub(super) fn next_column(self) -> Self {
        match self {
            Self::Service => Self::Handlers,
            Self::Handlers => Self::Accepted,
            Self::Accepted => Self::Refused,
            Self::Refused => Self::Service,
        }
    }
}

/// Everything that the screen shows, and how.
pub(super) struct ScreenView<'a> {
    pub now: &'a Snapshot,
    pub rates: &'a SecondRates,
    pub sort: SortColumn,
    pub skip: usize,
    pub interval: Duration,
    /// Why the snapshot could not be refreshed.
    pub trouble: Option<&'a str>,
    pub colour: bool,
    /// Whether the terminal can show block elements (U+2580 and following).
    pub blocks: bool,
}

/// The width of numbers in both lists, in columns.
const NUMBER_WIDTH: usize = 9;
/// The width of a state or a reason, in columns.
const STATE_WIDTH: usize = 17;

/// Draws the screen: at most `height` lines of at most `width` columns.
pub(super) fn draw_screen(view: &ScreenView<'_>, width: usize, height: usize) -> Vec<String> {
    let mut lines = head_lines(view, width);
    let keys = keys_line(view, width);
    let room = height.saturating_sub(lines.len() + 1);
    // Sources and reasons get a third of the room, or less if there are few.
    let below = (room / 3).min(1 + view.now.sources.len().max(view.rates.reasons.len()).max(2));
    let below = if below < 3 { 0 } else { below };
    let mut services = services_lines(view, width, room - below);
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

fn head_lines(view: &ScreenView<'_>, width: usize) -> Vec<String> {
    let Snapshot { version, handlers, instances, peak, .. } = view.now;
    let mut first = ScreenLine::new(width, view.colour);
    first.put_text(&format!("oxinetd {version}"), Tone::Head);
    first.put_text(&format!("  up {}  ", format_age(view.now.uptime_seconds)), Tone::Plain);
    first.put_text(&format!("handlers {handlers}/{instances} "), Tone::Plain);
    first.put_text(&draw_bar(f64::from(*handlers), f64::from(*instances), 10, view.blocks), Tone::Good);
    first.put_text(&format!("  peak {peak}"), Tone::Plain);
    let mut second = ScreenLine::new(width, view.colour);
    let rates = view.rates;
    let (accepted, refused, ended) =
        (format_rate(rates.accepted), format_rate(rates.refused), format_rate(rates.ended));
    second.put_text(&format!("accepted {accepted}/s  "), Tone::Plain);
    second.put_text(&format!("refused {refused}/s  "), if rates.refused > 0.0 { Tone::Warning } else { Tone::Plain });
    second
        .put_text(&format!("ended {ended}/s  longest turn {}", format_age(view.now.longest_turn_seconds)), Tone::Plain);
    let lost = view.now.log_lines_dropped;
    if lost > 0 {
        second.put_text(&format!("  {lost} log lines lost"), Tone::Warning);
    }
    let drifts = view.now.audit.len();
    if drifts > 0 {
        second.put_text(&format!("  {drifts} counts are wrong"), Tone::Bad);
    }
    vec![first.finish(), second.finish(), trouble_line(view, width)]
}

fn trouble_line(view: &ScreenView<'_>, width: usize) -> String {
    let mut line = ScreenLine::new(width, view.colour);
    line.put_text(view.trouble.unwrap_or_default(), Tone::Bad);
    line.finish()
}

/// The width of each of the three bars, which share the room that the columns leave.
fn bar_width(width: usize, name: usize) -> usize {
    width.saturating_sub(name + STATE_WIDTH + 3 * NUMBER_WIDTH + 8).min(60) / 3
}

fn name_width(view: &ScreenView<'_>, width: usize) -> usize {
    let longest = view.now.services.keys().map(|name| name.chars().count()).max().unwrap_or(0);
    longest.clamp(8, (width / 4).max(8))
}

fn services_lines(view: &ScreenView<'_>, width: usize, height: usize) -> Vec<String> {
    let name = name_width(view, width);
    let bars = bar_width(width, name);
    let mut lines = vec![services_head(view, width, name, bars)];
    let sorted = sort_services(view);
    let most =
        |rate: fn(&super::rates::ServiceRates) -> f64| view.rates.services.values().map(rate).fold(0.0, f64::max);
    let (accepted, refused) = (most(|rates| rates.accepted), most(|rates| rates.refused));
    let room = height.saturating_sub(1);
    let skip = view.skip.min(sorted.len().saturating_sub(room));
    for (key, service) in sorted.into_iter().skip(skip).take(room) {
        let rates = view.rates.services.get(key).copied().unwrap_or_default();
        let mut line = ScreenLine::new(width, view.colour);
        line.put_cell(key, name, Side::Left, Tone::Plain);
        let (word, tone) = service_state(service);
        line.put_cell(&word, STATE_WIDTH, Side::Left, tone);
        let handlers = count_cell(service.handlers, service.instances);
        line.put_cell(handlers.text(), NUMBER_WIDTH, Side::Right, handlers.tone());
        let limit = service.instances.unwrap_or(view.now.instances);
        line.put_cell(
            &draw_bar(service.handlers.into(), limit.into(), bars, view.blocks),
            bars,
            Side::Left,
            Tone::Good,
        );
        line.put_cell(&format_rate(rates.accepted), NUMBER_WIDTH, Side::Right, Tone::Plain);
        line.put_cell(&draw_bar(rates.accepted, accepted, bars, view.blocks), bars, Side::Left, Tone::Good);
        line.put_cell(&format_rate(rates.refused), NUMBER_WIDTH, Side::Right, Tone::Plain);
        line.put_cell(&draw_bar(rates.refused, refused, bars, view.blocks), bars, Side::Left, Tone::Warning);
        lines.push(line.finish());
    }
    lines
}

fn services_head(view: &ScreenView<'_>, width: usize, name: usize, bars: usize) -> String {
    let title = |word: &str, column| if view.sort == column { format!("{word}*") } else { word.to_owned() };
    let mut line = ScreenLine::new(width, view.colour);
    line.put_cell(&title("SERVICE", SortColumn::Service), name, Side::Left, Tone::Head);
    line.put_cell("STATE", STATE_WIDTH, Side::Left, Tone::Head);
    let numbers =
        [("HANDLERS", SortColumn::Handlers), ("ACCEPT/S", SortColumn::Accepted), ("REFUSE/S", SortColumn::Refused)];
    for (word, column) in numbers {
        line.put_cell(&title(word, column), NUMBER_WIDTH, Side::Right, Tone::Head);
        line.put_cell("", bars, Side::Left, Tone::Plain);
    }
    line.finish()
}

fn sort_services<'a>(view: &ScreenView<'a>) -> Vec<(&'a String, &'a ServiceStatus)> {
    let mut services: Vec<_> = view.now.services.iter().collect();
    let rates = |name: &String| view.rates.services.get(name).copied().unwrap_or_default();
    // The sort is stable, so equal services stay in the order of their names.
    match view.sort {
        SortColumn::Service => {}
        SortColumn::Handlers => services.sort_by_key(|(_, service)| std::cmp::Reverse(service.handlers)),
        SortColumn::Accepted => {
            services.sort_by(|(one, _), (two, _)| rates(two).accepted.total_cmp(&rates(one).accepted));
        }
        SortColumn::Refused => services.sort_by(|(one, _), (two, _)| rates(two).refused.total_cmp(&rates(one).refused)),
    }
    services
}

/// The two lists side by side, with their headings.
fn sources_and_reasons(view: &ScreenView<'_>, width: usize, height: usize) -> Vec<String> {
    let half = width / 2;
    let (left, right) =
        (sources_lines(view, half.saturating_sub(2), height), reasons_lines(view, width - half, height));
    let pad = |number: usize| left.get(number).cloned().unwrap_or_else(|| ScreenLine::new(0, false).finish());
    let blank = |line: &str| line::visible_width(line);
    (0..height)
        .map(|number| {
            let (one, two) = (pad(number), right.get(number).cloned().unwrap_or_default());
            format!("{one}{:1$}{two}", "", half.saturating_sub(blank(&one))).trim_end().to_owned()
        })
        .collect()
}

fn sources_lines(view: &ScreenView<'_>, width: usize, height: usize) -> Vec<String> {
    // The longest IPv6 prefix has 43 characters.
    let name = width.saturating_sub(2 * NUMBER_WIDTH + 4).clamp(8, 43);
    let mut head = ScreenLine::new(width, view.colour);
    head.put_cell("BUSIEST SOURCES", name, Side::Left, Tone::Head);
    head.put_cell("HANDLERS", NUMBER_WIDTH, Side::Right, Tone::Head);
    head.put_cell("SERVICE", NUMBER_WIDTH + 1, Side::Left, Tone::Head);
    let mut lines = vec![head.finish()];
    for count in view.now.sources.iter().take(height.saturating_sub(1)) {
        let mut line = ScreenLine::new(width, view.colour);
        line.put_cell(&count.source, name, Side::Left, Tone::Plain);
        let handlers = count_cell(count.handlers, count.instances);
        line.put_cell(handlers.text(), NUMBER_WIDTH, Side::Right, handlers.tone());
        line.put_cell(&count.service, NUMBER_WIDTH + 1, Side::Left, Tone::Plain);
        lines.push(line.finish());
    }
    lines
}

fn reasons_lines(view: &ScreenView<'_>, width: usize, height: usize) -> Vec<String> {
    let mut reasons: Vec<_> = view.rates.reasons.iter().collect();
    reasons.sort_by(|(_, one), (_, two)| two.total_cmp(one));
    let most = reasons.first().map_or(0.0, |(_, rate)| **rate);
    let bars = width.saturating_sub(STATE_WIDTH + NUMBER_WIDTH + 4).min(30);
    let mut head = ScreenLine::new(width, view.colour);
    head.put_cell("REFUSALS BY REASON", STATE_WIDTH + 1, Side::Left, Tone::Head);
    head.put_cell("/S", NUMBER_WIDTH - 1, Side::Right, Tone::Head);
    let mut lines = vec![head.finish()];
    for (reason, rate) in reasons.into_iter().take(height.saturating_sub(1)) {
        let mut line = ScreenLine::new(width, view.colour);
        line.put_cell(reason, STATE_WIDTH, Side::Left, Tone::Plain);
        line.put_cell(&format_rate(*rate), NUMBER_WIDTH, Side::Right, Tone::Plain);
        line.put_cell(&draw_bar(*rate, most, bars, view.blocks), bars, Side::Left, Tone::Warning);
        lines.push(line.finish());
    }
    lines
}

fn keys_line(view: &ScreenView<'_>, width: usize) -> String {
    let mut line = ScreenLine::new(width, view.colour);
    for (key, what) in [("q", "quit"), ("s", "sort"), ("j k", "scroll")] {
        line.put_text(key, Tone::Head);
        line.put_text(&format!(" {what}   "), Tone::Plain);
    }
    line.put_text("+ -", Tone::Head);
    line.put_text(&format!(" every {}", format_age(view.interval.as_secs_f64())), Tone::Plain);
    line.finish()
}

#[cfg(test)]
mod tests;
