//! Values of the attributes that limit a service: how many, how often, when, and what a handler may use.
//!
//! As [`super::values`], of which these are a part.

use std::time::Duration;

use super::draft::{Draft, Fault};
use super::lines::Word;
use super::logs::log_size;
use super::values::{Done, Given, broken_fault, parse_number};
use super::world::World;
use crate::config::location::Spanned;
use crate::config::units::{Rate, parse_digits};
use crate::config::{Resource, Rlimit};
use crate::limits::access::Span;

/// Puts a limit on handlers into a field of the draft.
pub(super) fn put_limit(field: &mut Option<Option<u32>>, given: &Given<'_>) -> Done {
    *field = Some(if given.first_word().eq_ignore_ascii_case("UNLIMITED") {
        None
    } else {
        let number = parse_number(given.first_word()).and_then(|number| u32::try_from(number).ok());
        Some(number.ok_or_else(|| given.expected_fault("a number from 0, or UNLIMITED"))?)
    });
    Ok(())
}

pub(super) fn read_cps(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let whole = |word: &Word| parse_number(&word.text).and_then(|number| u32::try_from(number).ok());
    let [events, seconds] = given.words else { return broken_fault("expected two numbers") };
    let (Some(events), Some(_)) = (whole(events), whole(seconds)) else {
        return broken_fault("expected connections per second, and for how many seconds to close the service then");
    };
    draft.rate = Some((events > 0).then_some(Rate { events, per: Duration::from_secs(1) }));
    if events > 0 {
        let message = format!(
            "the service is not closed for {} s when it is over its rate, only paused until the rate allows",
            seconds.text
        );
        draft.add_note(given.at, message);
    }
    Ok(())
}

pub(super) fn read_max_load(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    // The digits at the start count, as for scanf(3).
    let text = given.first_word();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let load = text[..end].parse::<f64>().ok().filter(|load| *load > 0.0);
    draft.max_load = Some(load.ok_or_else(|| given.expected_fault("a load average above 0, such as 2.5"))?);
    Ok(())
}

pub(super) fn read_access_times(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.require_some()?;
    let mut times = Vec::new();
    for word in given.before_comment(draft, "does not start the service for what stands") {
        let span = parse_span(&word.text).ok_or_else(|| {
            let text = &word.text;
            Fault::Broken(format!("expected HH:MM-HH:MM, the second the later one and not after 23:59, not {text:?}"))
        })?;
        times.push(Spanned { value: span, at: given.at.moved_to(word.mark) });
    }
    if times.len() < given.words.len() {
        return broken_fault("what stands behind # is no time");
    }
    draft.times = Some(times);
    Ok(())
}

/// `8:00-17:00`, both minutes included.
fn parse_span(text: &str) -> Option<Span> {
    let minute = |text: &str| {
        let (hours, minutes) = text.split_once(':')?;
        let (hours, minutes) = (parse_digits(hours)?, parse_digits(minutes)?);
        (hours <= 23 && minutes <= 59).then(|| u16::try_from(hours * 60 + minutes).ok())?
    };
    let (from, to) = text.split_once('-')?;
    let (from, to) = (minute(from)?, minute(to)?);
    (from < to).then_some(Span { days: 0x7f, from, to: to + 1 })
}

pub(super) fn read_deny_time(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    draft.deny_time = Some(match given.first_word() {
        word if word.eq_ignore_ascii_case("FOREVER") => None,
        word if word.eq_ignore_ascii_case("NEVER") => Some(0),
        word => match parse_number(word) {
            Some(-1) => None,
            number => Some(
                number
                    .and_then(|number| u32::try_from(number).ok())
                    .ok_or_else(|| given.expected_fault("a number of minutes, FOREVER or NEVER"))?,
            ),
        },
    });
    Ok(())
}

pub(super) fn read_rlimit(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let word = given.first_word();
    let value = match word {
        word if word.eq_ignore_ascii_case("UNLIMITED") => u64::MAX,
        _ if given.name == "rlimit_cpu" => {
            parse_digits(word).filter(|_| !word.is_empty()).ok_or_else(|| given.expected_fault("seconds"))?
        }
        _ => log_size(word)
            .ok_or_else(|| given.expected_fault("a number, perhaps with k or M behind it, or UNLIMITED"))?,
    };
    let (name, resource) = match given.name {
        "rlimit_as" => ("as", Resource::As),
        "rlimit_cpu" => ("cpu", Resource::Cpu),
        "rlimit_data" => ("data", Resource::Data),
        "rlimit_files" => ("nofile", Resource::Nofile),
        "rlimit_stack" => ("stack", Resource::Stack),
        _ => {
            draft.add_note(given.at, "Linux has not limited the resident set since 2.4.30, whatever the number");
            return Ok(());
        }
    };
    let limit = Rlimit { resource, soft: value, hard: value };
    draft.rlimits.push(Spanned { value: (name.to_owned(), limit), at: given.at.clone() });
    Ok(())
}
