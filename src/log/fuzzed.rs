//! Lines as the sinks get them, for [`crate::fuzzed`].

use std::time::Duration;

use super::event::Event;
use super::render::Stamp;

/// A warning of this message, as text and as JSON.
#[must_use]
pub fn lines(message: String) -> (String, String) {
    let event = Event::Warning { message };
    let (mut text, mut json) = (String::new(), String::new());
    event.text(&mut text);
    event.json(&mut json, &mut Stamp::default(), Duration::ZERO);
    (text, json)
}
