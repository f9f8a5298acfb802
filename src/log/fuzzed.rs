//! Lines as the sinks receive them, for [`crate::fuzzed`] alone.

use std::time::Duration;

use super::event::Event;
use super::render::Stamp;

/// A warning with this message, as text and as JSON.
#[must_use]
pub(crate) fn render_both(message: String) -> (String, String) {
    let event = Event::Warning { message };
    let (mut text, mut json) = (String::new(), String::new());
    event.write_text(&mut text);
    event.write_json(&mut json, &mut Stamp::default(), Duration::ZERO);
    (text, json)
}
