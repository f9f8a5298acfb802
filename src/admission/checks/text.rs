//! Texts that several explanations share.

use crate::config::Service;

pub(super) const NO_LIMIT: &str = "no limit";

/// The explanation of a check by networks for a client without an address.
pub(super) const NOT_FOR_UNIX_SOCKETS: &str = "does not apply to Unix sockets";

/// A text, and where in the service table its key was written.
pub(super) fn with_origin(service: &Service, text: &str, key: &str) -> String {
    match service.origins.keys.get(key) {
        Some(origin) => format!("{text} ({origin})"),
        None => format!("{text} (default)"),
    }
}

/// The text of a limit, which may be off.
pub(super) fn limit_with_origin(service: &Service, text: Option<String>, key: &str) -> String {
    text.map_or_else(|| NO_LIMIT.to_owned(), |text| with_origin(service, &text, key))
}

/// A limit of live handlers.
pub(super) fn instances_text(live: u32, limit: Option<u32>) -> Option<String> {
    limit.map(|limit| format!("{live} of {limit} handlers"))
}
