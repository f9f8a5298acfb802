//! `daemon`: what concerns all services.

use super::kinds::{Flat, Sub, SubOr};
use super::log::PlaceSpec;
use crate::config::location::Spanned;
use crate::config::values::{OneOf, Whole, Word, word_notation};
use crate::config::{ControlPlace, DropBanned};
use crate::log::Level;

/// Sources of each family whose rates are kept: 2 MiB.
const DEFAULT_SOURCES: u32 = 65_536;
const MAX_SOURCES: i64 = 1 << 28;

/// The names of the levels, as syslog(3) and logs have them.
const LEVELS: &[(&str, Level)] = &[
    ("critical", Level::Critical),
    ("error", Level::Error),
    ("warning", Level::Warning),
    ("notice", Level::Notice),
    ("info", Level::Info),
    ("debug", Level::Debug),
];

const DROP_BANNED: &[(&str, DropBanned)] = &[("daemon", DropBanned::Daemon), ("kernel", DropBanned::Kernel)];

fn control_place() -> Word<ControlPlace> {
    Word {
        expected: "default, none or an absolute path",
        pattern: None,
        parse: |text| match text {
            "default" => Some(ControlPlace::Default),
            "none" => Some(ControlPlace::None),
            path => path.starts_with('/').then(|| ControlPlace::At(path.into())),
        },
        print: |place| match place {
            ControlPlace::Default => "default".to_owned(),
            ControlPlace::None => "none".to_owned(),
            ControlPlace::At(path) => path.display().to_string(),
        },
    }
}

/// `control` as a map, or as the place alone.
fn control_kind() -> SubOr<Word<ControlPlace>, ControlPlace, ControlSpec> {
    SubOr { short: control_place(), long: |path| ControlSpec { path, ..ControlSpec::default() } }
}

section! {
    /// `daemon`.
    pub(crate) struct DaemonSpec {
        /// The most handlers that may live at one time, over all services.
        instances: Option<Spanned<u32>> = Whole(1, u32::MAX as i64) => 4096;
        /// For how many sources rates are kept, by family.
        sources: SourcesSpec = Sub::Here;
        /// Where the control socket of oxinetctl is.
        control: ControlSpec = control_kind();
        /// Where banned and penalised clients are refused.
        drop_banned: Option<Spanned<DropBanned>> = OneOf(DROP_BANNED) => DropBanned::Daemon;
        /// Where and how to log.
        log: DaemonLogSpec = Sub::Here;
    }
}

section! {
    /// `sources`.
    pub(crate) struct SourcesSpec {
        /// Entries for IPv4.
        ipv4: Option<Spanned<u32>> = Whole(1, MAX_SOURCES) => DEFAULT_SOURCES;
        /// Entries for IPv6.
        ipv6: Option<Spanned<u32>> = Whole(1, MAX_SOURCES) => DEFAULT_SOURCES;
    }
}

section! {
    /// `control` of the daemon.
    pub(crate) struct ControlSpec {
        /// Where the control socket is.
        path: Option<Spanned<ControlPlace>> = control_place() => ControlPlace::Default;
        /// A group whose members may use the control socket.
        group: Option<Spanned<String>> = word_notation("a group's name or number");
    }
}

section! {
    /// `log` of the daemon.
    pub(crate) struct DaemonLogSpec {
        /// Where lines go.
        place: PlaceSpec = Flat;
        /// The least important level that is logged.
        level: Option<Spanned<Level>> = OneOf(LEVELS) => Level::Info;
    }
}
