//! Values of the attributes that say where and what is logged.
//!
//! As [`super::values`], of which these are a part.

use super::draft::{Draft, LogItem, LogType};
use super::lines::Op;
use super::values::{Done, Given, broken_fault};
use super::world::World;
use crate::config::LogTarget;
use crate::config::keys::PlaceSpec;
use crate::config::location::{Location, Spanned};
use crate::config::units::{FACILITIES, parse_size};

/// The levels of a log line in xinetd.conf(5).
const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

pub(super) fn read_log_type(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    given.require_some()?;
    if draft.log_type.is_some() {
        return broken_fault("log_type is set already");
    }
    let words: Vec<&str> = given.words.iter().map(|word| word.text.as_str()).collect();
    draft.log_type = Some(match words.as_slice() {
        [kind, facility, level @ ..] if kind.eq_ignore_ascii_case("SYSLOG") => {
            let known = FACILITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(facility));
            let level_is_known =
                level.len() < 2 && level.iter().all(|level| LEVELS.contains(&level.to_ascii_lowercase().as_str()));
            match known {
                Some((_, number)) if level_is_known => LogType::Syslog(*number),
                Some(_) => return broken_fault(format!("expected one level, such as info, behind {facility}")),
                None => return broken_fault(format!("there is no facility {facility:?}; expected one such as daemon")),
            }
        }
        [kind, path, limits @ ..] if kind.eq_ignore_ascii_case("FILE") && limits.len() <= 2 => {
            let sizes = limits.iter().map(|limit| log_size(limit)).collect::<Option<Vec<_>>>();
            match sizes.as_deref() {
                None => return broken_fault("expected sizes, such as 100k, behind the file"),
                Some([soft, hard]) if hard < soft => return broken_fault("the hard limit is below the soft one"),
                Some([]) => {}
                Some(_) => {
                    let message = "the size of a log is not limited here, where xinetd stops to log; see logrotate(8)";
                    draft.add_note(given.at, message);
                }
            }
            LogType::File((*path).to_owned())
        }
        _ => return broken_fault("expected SYSLOG FACILITY [LEVEL] or FILE PATH [SOFT [HARD]]"),
    });
    Ok(())
}

/// `100`, `64k`, `1M`.
pub(super) fn log_size(text: &str) -> Option<u64> {
    parse_size(text).filter(|_| !text.ends_with(['g', 'G', 't', 'T']))
}

const SUCCESS: [(&str, LogItem); 6] = [
    ("HOST", LogItem::Host),
    ("DURATION", LogItem::Duration),
    ("EXIT", LogItem::Exit),
    ("PID", LogItem::Pid),
    ("USERID", LogItem::UserId),
    ("TRAFFIC", LogItem::Traffic),
];
const FAILURE: [(&str, LogItem); 3] =
    [("HOST", LogItem::Host), ("ATTEMPT", LogItem::Attempt), ("USERID", LogItem::UserId)];

pub(super) fn read_log_on_success(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let items = given.read_known("item of log_on_success", &SUCCESS)?;
    note_userid(draft, given, &items);
    draft.log_on_success.add_line(given.op, items);
    Ok(())
}

pub(super) fn read_log_on_failure(draft: &mut Draft, given: &Given<'_>, _: &mut World<'_>) -> Done {
    let items = given.read_known("item of log_on_failure", &FAILURE)?;
    note_userid(draft, given, &items);
    draft.log_on_failure.add_line(given.op, items);
    Ok(())
}

fn note_userid(draft: &mut Draft, given: &Given<'_>, items: &[Spanned<LogItem>]) {
    if given.op != Op::Remove && items.iter().any(|set| set.value == LogItem::UserId) {
        draft.add_note(given.at, "USERID is not logged: nobody is asked by the ident protocol (RFC 1413) here");
    }
}

/// Where `log_type` sends lines; not to a file relative to wherever xinetd was started.
pub(super) fn log_place(log_type: &LogType, at: &Location) -> Result<PlaceSpec, String> {
    match log_type {
        LogType::Syslog(facility) => {
            let (to, facility) = (Some(at.spanned(LogTarget::Syslog)), Some(at.spanned(*facility)));
            Ok(PlaceSpec { to, facility, ..PlaceSpec::default() })
        }
        LogType::File(path) if path.starts_with('/') => {
            Ok(PlaceSpec { to: Some(at.spanned(LogTarget::File(path.into()))), ..PlaceSpec::default() })
        }
        LogType::File(path) => Err(format!("{path} is not an absolute path")),
    }
}
