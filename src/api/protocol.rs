//! The protocol of the control socket: a request is one JSON object on a line, and so is its answer.
//!
//! The types are published as JSON Schema, and their comments are its descriptions. A request names its `command`.
//! The daemon refuses a `version` or a key that it does not know, so that no part of a request is silently ignored.
//! A line that is no request becomes a [`Refused`], and one that is no answer an error message.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::status::{Ban, CountDrift, PenaltyStatus, Snapshot, SourceCount};

/// The version of the protocol. It changes only if an existing command or key changes its meaning.
pub(crate) const VERSION: u32 = 1;

/// A request to the daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// Returns the status of the daemon and of its services.
    Status {},
    /// Lists the sources with the most live handlers.
    Sources {
        /// The most sources to list; the default is 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top: Option<u32>,
        /// List the sources of this service only.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Recounts everything from the live handlers, and compares.
    Audit {},
    /// Evaluates all checks for a client of a service, and returns the result and the rule of each. Changes
    /// nothing.
    Explain {
        /// The name of the service.
        service: String,
        /// The client: an IP address, or `uid:N` for a local user.
        address: String,
    },
    /// Reads the table again, and puts it in force if it has no errors.
    Reload {},
    /// Replaces the running program with the one on disk. The answer is sent when the upgrade has begun; `upgrades`
    /// in the status tells how it ended.
    Upgrade {},
    /// Refuses new clients of a service from now on. Its live handlers continue.
    Drain {
        /// The name of the service.
        service: String,
    },
    /// Accepts clients of a drained service again.
    Resume {
        /// The name of the service.
        service: String,
    },
    /// Refuses all clients of a network, in every service.
    Ban {
        /// The network, or an address.
        network: String,
        /// The duration of the ban in seconds; without it the ban lasts until `unban`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// Removes the ban of exactly this network, and the penalties of the sources in it.
    Unban {
        /// The network, or an address.
        network: String,
    },
    /// Lists the bans in force and the penalised sources.
    Bans {},
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "command", content = "result", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The status, for the command `status`.
    Status(Box<Snapshot>),
    /// The busiest sources, for the command `sources`.
    Sources(SourceList),
    /// The wrong counts, for the command `audit`.
    Audit(Audit),
    /// All checks for a client, for the command `explain`.
    Explain(Explanation),
    /// The changes to the table, if the command `reload` succeeded.
    Reload(Reloaded),
    /// For the command `upgrade`, if the upgrade has begun.
    Upgrade(Changed),
    /// For the command `drain`: whether the service was not drained before.
    Drain(Changed),
    /// For the command `resume`: whether the service was drained before.
    Resume(Changed),
    /// For the command `ban`: whether the network was not banned before.
    Ban(Changed),
    /// For the command `unban`: whether the network was banned before.
    Unban(Changed),
    /// All bans and penalties, for the command `bans`.
    Bans(BanList),
}

/// Whether a request changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Changed {
    /// False if the requested state was in force before.
    pub changed: bool,
}

/// Networks and sources that are refused in every service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Bans")]
pub(crate) struct BanList {
    /// Networks that the administrator has banned.
    pub bans: Vec<Ban>,
    /// Sources that are refused because of their penalties.
    pub penalties: PenaltyStatus,
}

/// Why a client would be accepted or refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Explanation {
    /// The name of the service.
    pub service: String,
    /// The source under which the client is counted in this service.
    pub source: String,
    /// Whether the client would be accepted.
    pub admitted: bool,
    /// Whether it would be accepted only because of `dry_run`.
    pub dry_run: bool,
    /// All checks in order; the first one with the answer no decides.
    pub questions: Vec<Question>,
}

/// One check of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Question {
    /// The check, named by the reason of its refusal.
    pub question: String,
    /// Whether the client passes the check.
    pub yes: bool,
    /// Seconds until the client would pass if nothing else changes; null if it passes, or if the time is unknown.
    pub retry_seconds: Option<f64>,
    /// The rule that decides, and in brackets its place in the table.
    pub rule: String,
}

/// The sources with the most live handlers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Sources")]
pub(crate) struct SourceList {
    /// These sources, in descending order of handlers.
    pub sources: Vec<SourceCount>,
    /// The number of sources with live handlers in all services, also those not listed here.
    pub total: u64,
}

/// The result of an audit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Audit {
    /// The number of live handlers, from which every count was computed.
    pub handlers: u32,
    /// The counts that disagree with the live handlers.
    pub drifts: Vec<CountDrift>,
}

/// The changes of a reload, in numbers of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Reloaded {
    /// Services that were added.
    pub added: u64,
    /// Services that were removed.
    pub removed: u64,
    /// Services with changed settings.
    pub altered: u64,
    /// Services that stayed as they were.
    pub kept: u64,
}

/// The kind of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Code {
    /// The request is no JSON object, or has a command or key that this daemon does not know.
    BadRequest,
    /// The request is longer than 4096 bytes.
    TooLong,
    /// The request has another version of the protocol.
    Version,
    /// The client is neither root, nor the daemon's own user, nor in the group of the socket.
    NotPermitted,
    /// There is no such service.
    NoSuchService,
    /// A text is no valid network or address.
    NoSuchAddress,
    /// The limit on the number of bans is reached.
    TooManyBans,
    /// The new table cannot be used; the old one stays in force.
    ReloadFailed,
    /// The daemon is ending.
    Ending,
}

/// Why a request failed or was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Refused {
    /// The kind of the error.
    pub code: Code,
    /// The error messages, at least one.
    pub messages: Vec<String>,
}

impl Refused {
    /// An error with one message.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, messages: vec![message.into()] }
    }
}

/// An answer as it is sent: the result, or an error.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Answer {
    /// The request was fulfilled.
    Done {
        /// The version of the protocol.
        version: u32,
        /// The command and its result.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// The request failed or was refused.
    Refused {
        /// The version of the protocol.
        version: u32,
        /// The error.
        error: Refused,
    },
}

impl From<Result<Outcome, Refused>> for Answer {
    fn from(result: Result<Outcome, Refused>) -> Self {
        match result {
            Ok(outcome) => Self::Done { version: VERSION, outcome },
            Err(error) => Self::Refused { version: VERSION, error },
        }
    }
}

impl Answer {
    /// The answer as a line with its end.
    #[must_use]
    pub(crate) fn line(&self) -> Vec<u8> {
        // This cannot fail: keys are strings, and no number is NaN.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// All requests and answers as a JSON Schema (draft 7).
#[must_use]
pub(crate) fn protocol_schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let messages = json!({ "anyOf": [generator.subschema_for::<Request>(), generator.subschema_for::<Answer>()] });
    let mut definitions = Value::Object(generator.take_definitions(true));
    let version = json!({ "description": "The version of the protocol.", "const": VERSION });
    for request in definitions["Request"]["oneOf"].as_array_mut().into_iter().flatten() {
        request["properties"]["version"] = version.clone();
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Control protocol of oxinetd",
        "description": "A request or an answer, one line on the control socket; see oxinetctl(8).",
        "anyOf": messages["anyOf"],
        "definitions": definitions,
    })
}

/// Reads a request from a line without its end.
///
/// # Errors
/// The line is no request of this version.
pub(crate) fn read_request(line: &[u8]) -> Result<Request, Refused> {
    let bad = |error: serde_json::Error| Refused::new(Code::BadRequest, error.to_string());
    let mut value: Value = serde_json::from_slice(line).map_err(bad)?;
    if let Some(version) = value.as_object_mut().and_then(|object| object.remove("version")) {
        if version != VERSION {
            let message = format!("this daemon speaks version {VERSION}, not {version}");
            return Err(Refused::new(Code::Version, message));
        }
    }
    serde_json::from_value(value).map_err(bad)
}

/// Reads an answer: the error, or the result as it was sent, so that keys of a newer daemon are kept.
///
/// # Errors
/// The line is no answer of this version.
pub(crate) fn read_answer(line: &[u8]) -> Result<Result<Value, Refused>, String> {
    let mut value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let object = value.as_object_mut().ok_or("no object")?;
    match object.remove("version") {
        Some(version) if version == VERSION => {}
        version => return Err(format!("version {}", version.unwrap_or_default())),
    }
    if let Some(error) = object.remove("error") {
        return serde_json::from_value(error).map(Err).map_err(|error| error.to_string());
    }
    object.remove("result").map(Ok).ok_or_else(|| "neither result nor error".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(line: &str) -> Option<Code> {
        read_request(line.as_bytes()).err().map(|refused| refused.code)
    }

    #[test]
    fn a_request_names_its_command_and_may_name_the_version() {
        for line in [r#"{"command":"status"}"#, r#"{"version":1,"command":"status"}"#, " { \"command\" : \"status\" } "]
        {
            assert_eq!(read_request(line.as_bytes()), Ok(Request::Status {}), "{line}");
        }
        let sources = Request::Sources { top: Some(3), service: Some("git".to_owned()) };
        assert_eq!(read_request(br#"{"command":"sources","top":3,"service":"git"}"#), Ok(sources));
    }

    #[test]
    fn what_is_not_known_is_refused_and_not_ignored() {
        for line in [
            "",
            "{}",
            "[]",
            "status",
            "{\"command\":\"status\"",
            r#"{"command":"dance"}"#,
            r#"{"command":"status","now":1}"#,
            r#"{"command":"sources","top":-1}"#,
            r#"{"command":"sources","top":1,"tops":2}"#,
            "\u{0}",
            r#"{"command":1}"#,
        ] {
            assert_eq!(code(line), Some(Code::BadRequest), "{line}");
        }
        assert_eq!(code(r#"{"version":2,"command":"status"}"#), Some(Code::Version));
        assert_eq!(code(&"[".repeat(4000)), Some(Code::BadRequest));
    }

    #[test]
    fn answers_are_read_as_they_are_written() {
        let reloaded = Reloaded { added: 1, removed: 2, altered: 3, kept: 4 };
        let line = Answer::from(Ok(Outcome::Reload(reloaded))).line();
        assert_eq!(serde_json::from_value::<Reloaded>(read_answer(&line).unwrap().unwrap()).unwrap(), reloaded);
        let refused = Refused::new(Code::ReloadFailed, "table.yaml:1:1: \"quoted\"\nand more");
        let line = Answer::from(Err(refused.clone())).line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1, "one line");
        assert_eq!(read_answer(&line), Ok(Err(refused)));
        assert!(read_answer(b"{\"version\":2,\"command\":\"audit\"}").is_err());
        assert!(read_answer(b"{\"command\":\"audit\"}").is_err());
    }
}
