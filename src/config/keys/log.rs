//! `log` of a service, and what it has in common with that of the daemon: where lines go.

use serde_json::json;

use super::kinds::Flat;
use crate::config::location::Spanned;
use crate::config::units::FACILITIES;
use crate::config::values::{Form, Notation, OneOf, Whole, Word, boolean_form};
use crate::config::{LogFormat, LogTarget};

fn target_notation() -> Word<LogTarget> {
    Word {
        expected: "syslog, journal, stderr or an absolute path",
        pattern: None,
        parse: |text| match text {
            "syslog" => Some(LogTarget::Syslog),
            "journal" => Some(LogTarget::Journal),
            "stderr" => Some(LogTarget::Stderr),
            path => path.starts_with('/').then(|| LogTarget::File(path.into())),
        },
        print: |target| match target {
            LogTarget::Syslog => "syslog".to_owned(),
            LogTarget::Journal => "journal".to_owned(),
            LogTarget::Stderr => "stderr".to_owned(),
            LogTarget::File(path) => path.display().to_string(),
        },
    }
}

/// A facility of syslog(3), by name or number.
fn facility_form() -> Form<u8> {
    Form {
        read: |reader| match reader.value.as_i64() {
            Some(_) => Whole(0, 23).read(reader),
            None => reader.one_of(&FACILITIES),
        },
        write: |number| {
            let known = FACILITIES.iter().find(|(_, known)| known == number);
            known.map_or_else(|| (*number).into(), |(name, _)| (*name).into())
        },
        schema: || {
            let names = FACILITIES.map(|(name, _)| name);
            json!({ "anyOf": [{ "enum": names }, { "type": "integer", "minimum": 0, "maximum": 23 }] })
        },
    }
}

section! {
    /// `log` of a service.
    pub(crate) struct LogSpec {
        /// Log handlers that start.
        accept: Option<Spanned<bool>> = boolean_form() => true;
        /// Log handlers that end.
        exit: Option<Spanned<bool>> = boolean_form() => true;
        /// Log clients that are refused.
        refuse: Option<Spanned<bool>> = boolean_form() => true;
        /// Where its lines go, if not to the daemon's log.
        place: PlaceSpec = Flat;
    }
}

section! {
    /// Where log lines go, and what they look like there.
    pub(crate) struct PlaceSpec {
        /// Where log lines go; a service has that of the daemon unless it says otherwise.
        to: Option<Spanned<LogTarget>> = target_notation();
        /// The facility of syslog(3).
        facility: Option<Spanned<u8>> = facility_form();
        /// Lines of text, or of JSON objects.
        format: Option<Spanned<LogFormat>> = OneOf(&[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    }
}
