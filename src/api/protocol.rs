//! What is said over the control socket: a request is one JSON object on a line, and so is its answer.
//!
//! The types are the published form, see [`crate::api`]. A request names its `command`; a `version` that this daemon
//! does not know, and any key that it does not know, is refused, so that nobody believes to have asked what was ignored.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::{Ban, Drift, Penalties, Snapshot, SourceCount};

/// The version of the protocol. It changes only if something that was there gets another meaning.
pub const VERSION: u32 = 1;

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// How the daemon and its services are.
    Status {},
    /// The sources with the most handlers.
    Sources {
        /// How many of them at most; 100 unless given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        top: Option<u32>,
        /// Of this service alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
    },
    /// Works out every count anew, and compares.
    Audit {},
    /// Asks all the questions about a client of a service, and says why each is answered as it is. Changes nothing.
    Explain {
        /// The service.
        service: String,
        /// The client: an IP address, or `uid:N` for a local user.
        address: String,
    },
    /// Reads the table anew, and puts it in force if nothing is wrong with it.
    Reload {},
    /// Has the program on disk take over. Answered when that has begun; how it ends is told by `upgrades` in the status.
    Upgrade {},
    /// Turns the clients of a service away from now on. Its handlers live on.
    Drain {
        /// The service.
        service: String,
    },
    /// Ends what `drain` began.
    Resume {
        /// The service.
        service: String,
    },
    /// Turns a network away in every service.
    Ban {
        /// The network, or an address.
        network: String,
        /// For so long; without it until `unban`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// Takes the ban of exactly this network back, and forgives its sources their penalties.
    Unban {
        /// The network, or an address.
        network: String,
    },
    /// The bans in force, and who is refused for what he owes.
    Bans {},
}

/// What the answer to a request holds, beside the `version`.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "command", content = "result", rename_all = "snake_case")]
pub enum Outcome {
    /// To `status`.
    Status(Box<Snapshot>),
    /// To `sources`.
    Sources(Sources),
    /// To `audit`.
    Audit(Audit),
    /// To `explain`.
    Explain(Explanation),
    /// To `reload`, if it was done.
    Reload(Reloaded),
    /// To `upgrade`, if it has begun.
    Upgrade(Changed),
    /// To `drain`.
    Drain(Changed),
    /// To `resume`.
    Resume(Changed),
    /// To `ban`.
    Ban(Changed),
    /// To `unban`.
    Unban(Changed),
    /// To `bans`.
    Bans(Bans),
}

/// Whether something was not so already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changed {
    /// It was not.
    pub changed: bool,
}

/// Who is turned away everywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bans {
    /// By the administrator.
    pub bans: Vec<Ban>,
    /// For what they owe.
    pub penalties: Penalties,
}

/// Why a client would be let in or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// The client's source in this service.
    pub source: String,
    /// Would he be let in?
    pub admitted: bool,
    /// Only because of `dry_run`?
    pub dry_run: bool,
    /// Every question, in order; the first no decides.
    pub questions: Vec<Question>,
}

/// A question that is asked about a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// By the reason that its no would be.
    pub question: String,
    /// Would it be answered with yes?
    pub yes: bool,
    /// After this time, with nothing else happening, it would; where that is known.
    pub retry_seconds: Option<f64>,
    /// What the answer is by, and in brackets where in the table that stands.
    pub rule: String,
}

/// The sources with the most handlers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sources {
    /// Those, most first.
    pub sources: Vec<SourceCount>,
    /// How many have handlers, over all services, listed or not.
    pub total: u64,
}

/// What an audit has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Audit {
    /// Live handlers, from which every count was worked out.
    pub handlers: u32,
    /// Counts that disagree with them.
    pub drifts: Vec<Drift>,
}

/// What a reload has done: how many services it has …
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// … added.
    pub added: u64,
    /// … removed.
    pub removed: u64,
    /// … altered.
    pub altered: u64,
    /// … left as they were.
    pub kept: u64,
}

/// What kind of no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The request is no JSON object, or asks for something that this daemon does not know.
    BadRequest,
    /// The request is longer than 4096 bytes.
    TooLong,
    /// The request is of another version of the protocol.
    Version,
    /// Whoever asks is neither root, nor the daemon's own user, nor in the group of the socket.
    NotPermitted,
    /// There is no such service.
    NoSuchService,
    /// A network, or an address, is none.
    NoSuchAddress,
    /// There are so many bans that no more can be had.
    TooManyBans,
    /// The new table can't be used; the one before it is in force.
    ReloadFailed,
    /// The daemon is ending.
    Ending,
}

/// Why the answer is no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refused {
    /// What kind of no.
    pub code: Code,
    /// What is wrong, a line each; one at least.
    pub messages: Vec<String>,
}

impl Refused {
    /// With one line.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, messages: vec![message.into()] }
    }
}

/// An answer, as it is sent: what was asked for, or why not.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum Answer {
    /// Yes.
    Done {
        /// Of the protocol.
        version: u32,
        /// What was asked for.
        #[serde(flatten)]
        outcome: Outcome,
    },
    /// No.
    Refused {
        /// Of the protocol.
        version: u32,
        /// Why.
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
    /// The line that is sent.
    #[must_use]
    pub fn line(&self) -> Vec<u8> {
        // A map whose keys are texts, and numbers, of which none is NaN.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

/// What may be said, as JSON Schema draft 7.
#[must_use]
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft07().into_generator();
    let said = json!({ "anyOf": [generator.subschema_for::<Request>(), generator.subschema_for::<Answer>()] });
    let mut definitions = Value::Object(generator.take_definitions(true));
    let version = json!({ "description": "The version of the protocol.", "const": VERSION });
    for request in definitions["Request"]["oneOf"].as_array_mut().into_iter().flatten() {
        request["properties"]["version"] = version.clone();
    }
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Control protocol of oxinetd",
        "description": "A line that is sent over the control socket, or that comes back; see oxinetctl(8).",
        "anyOf": said["anyOf"],
        "definitions": definitions,
    })
}

/// Reads a request, without its line end.
///
/// # Errors
/// What is wrong with it.
pub fn read_request(line: &[u8]) -> Result<Request, Refused> {
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

/// Reads an answer: the result as it was sent, so that what a newer daemon adds is not lost, or why there is none.
///
/// # Errors
/// A message, if it is none of this version's.
pub fn read_answer(line: &[u8]) -> Result<Result<Value, Refused>, String> {
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
