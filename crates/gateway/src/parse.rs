//! What agents send: slash commands, structured bodies and the older JSON-RPC methods,
//! each read strictly into one question.

use handlers::{Catalog, CommandError, Parsed, strict_json};
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};

use crate::refusal::Refusal;

/// The methods of `POST /mcp/rpc`.
pub(crate) const RPC_METHODS: [&str; 4] = [
    "mcp.execute",
    "mcp.listServices",
    "mcp.getCapabilities",
    "mcp.getStatistics",
];

/// A reason longer than this, in characters, is cut: people read it.
const MAX_REASON_CHARS: usize = 1_000;

/// What a body asks.
#[derive(Debug)]
pub(crate) enum Question {
    /// To carry out a command, or for help about a service.
    Execute {
        parsed: Parsed,
        /// Why, in the agent's words; may be empty.
        reason: String,
    },
    /// Which services there are.
    ListServices,
    /// What a service can do.
    Capabilities { service: String },
    /// How many services there are, and of what kind.
    Statistics,
}

/// A question with the `id` to be echoed, or a refusal with it.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The caller's, if it could be read.
    pub(crate) id: Option<Value>,
    pub(crate) question: Result<Question, Refusal>,
}

impl From<Refusal> for Asked {
    fn from(refusal: Refusal) -> Self {
        Self {
            id: None,
            question: Err(refusal),
        }
    }
}

/// Checks that the body is declared to be JSON. A browser's page cannot send that
/// elsewhere without asking first, which nobody here answers.
///
/// # Errors
///
/// [`Refusal::MediaType`].
pub(crate) fn media_type(headers: &HeaderMap) -> Result<(), Refusal> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = declared.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Refusal::MediaType)
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    match strict_json::parse(bytes).map_err(|error| Refusal::Parse(error.to_string()))? {
        Value::Object(members) => Ok(members),
        Value::Array(_) => Err(Refusal::invalid(
            "batches are not accepted: send one request",
        )),
        other => Err(Refusal::invalid(format!(
            "the body must be a JSON object, not {}",
            kind(&other)
        ))),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Text of the caller's in a message: short and printable.
fn shown(text: &str) -> String {
    text.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}

/// Refuses members that are not known. Leaving one out silently could change what a
/// command means, and `Command` beside `command` is read differently by different parsers.
fn only(members: &Map<String, Value>, known: &[&str], place: &str) -> Result<(), String> {
    for name in members.keys() {
        if !known.contains(&name.as_str()) {
            let meant = known.iter().find(|other| other.eq_ignore_ascii_case(name));
            let hint = meant
                .map(|meant| format!("; did you mean `{meant}`?"))
                .unwrap_or_default();
            return Err(format!(
                "`{}` is not a member of {place}{hint}",
                shown(name)
            ));
        }
    }
    Ok(())
}

fn string(members: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(format!("`{name}` must be a string, not {}", kind(other))),
    }
}

/// `reason`, or `options.reason`; and what else stands in `options`, which are arguments by
/// name.
fn reason(members: &mut Map<String, Value>) -> Result<(String, Map<String, Value>), String> {
    let mut options = match members.remove("options") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(options)) => options,
        Some(other) => return Err(format!("`options` must be an object, not {}", kind(&other))),
    };
    let from_options = string(&options, "reason")?;
    options.remove("reason");
    let reason = string(members, "reason")?
        .or(from_options)
        .unwrap_or_default();
    Ok((readable(&reason), options))
}

/// Why an agent wants something, fit to be shown to people.
pub(crate) fn readable(reason: &str) -> String {
    reason.chars().map(plain).take(MAX_REASON_CHARS).collect()
}

/// A letter that a terminal or a page shows as it is. Escape sequences and marks that turn
/// the direction of writing could show people something else than what an agent wrote; the
/// orchestrator takes none, and for their sake alone nobody shall go unasked.
fn plain(letter: char) -> char {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if turns || letter.is_control() && !matches!(letter, '\n' | '\t') {
        ' '
    } else {
        letter
    }
}

/// The arguments, under either name. The system before ignored what it did not expect;
/// both at once, or neither an object nor an array, is refused.
fn arguments(members: &mut Map<String, Value>) -> Result<Value, String> {
    match (members.remove("args"), members.remove("arguments")) {
        (Some(_), Some(_)) => Err("give `args` or `arguments`, not both".to_owned()),
        (None | Some(Value::Null), None | Some(Value::Null)) => Ok(Value::Object(Map::new())),
        (Some(arguments @ (Value::Object(_) | Value::Array(_))), None)
        | (None, Some(arguments @ (Value::Object(_) | Value::Array(_)))) => Ok(arguments),
        (Some(other), None) | (None, Some(other)) => Err(format!(
            "`args` must be an object or an array, not {}",
            kind(&other)
        )),
    }
}

/// `database` beside `service`, as the system before had it, is one more named argument.
fn with_database(
    catalog: &Catalog,
    (service, operation): (&str, &str),
    arguments: Value,
    database: Option<String>,
) -> Result<Value, String> {
    let Some(database) = database else {
        return Ok(arguments);
    };
    match catalog.by_name(service, operation, arguments) {
        Value::Object(mut named) => {
            if named
                .insert("database".to_owned(), Value::String(database))
                .is_some()
            {
                return Err("`database` is given twice".to_owned());
            }
            Ok(Value::Object(named))
        }
        // An object after positions names the rest.
        Value::Array(mut values) => {
            values.push(json!({"database": database}));
            Ok(Value::Array(values))
        }
        other => Ok(other),
    }
}

/// An `id` that may be echoed: a string or a number.
fn echoed(members: &Map<String, Value>) -> Option<Value> {
    members
        .get("id")
        .filter(|id| matches!(id, Value::String(_) | Value::Number(_)))
        .cloned()
}

fn command(result: Result<Parsed, CommandError>, reason: String) -> Result<Question, Refusal> {
    result
        .map(|parsed| Question::Execute { parsed, reason })
        .map_err(Refusal::Command)
}

/// Reads the body of `POST /execute`: `{"command": "/mcp-…"}`, or
/// `{"service": …, "operation": …, "args": …}`.
pub(crate) fn execute(catalog: &Catalog, bytes: &[u8]) -> Asked {
    let members = match object(bytes) {
        Ok(members) => members,
        Err(refusal) => return refusal.into(),
    };
    Asked {
        id: echoed(&members),
        question: execute_members(catalog, members),
    }
}

fn execute_members(
    catalog: &Catalog,
    mut members: Map<String, Value>,
) -> Result<Question, Refusal> {
    const SLASH: &[&str] = &["command", "id", "options", "reason"];
    const STRUCTURED: &[&str] = &[
        "service",
        "operation",
        "args",
        "arguments",
        "database",
        "id",
        "options",
        "reason",
    ];

    match members.get("id") {
        None | Some(Value::Null | Value::String(_) | Value::Number(_)) => {}
        Some(other) => {
            return Err(Refusal::invalid(format!(
                "`id` must be a string or a number, not {}",
                kind(other)
            )));
        }
    }
    let (reason, options) = reason(&mut members).map_err(Refusal::invalid)?;
    if members.contains_key("command") {
        only(&members, SLASH, "a body with `command`").map_err(Refusal::invalid)?;
        let text = string(&members, "command")
            .map_err(Refusal::invalid)?
            .unwrap_or_default();
        return command(catalog.parse_slash_with(&text, options), reason);
    }
    only(&members, STRUCTURED, "a body with `service`").map_err(Refusal::invalid)?;
    let service = string(&members, "service").map_err(Refusal::invalid)?;
    let operation = string(&members, "operation").map_err(Refusal::invalid)?;
    let (Some(service), Some(operation)) = (service, operation) else {
        return Err(Refusal::invalid(
            "Command is required: send {\"command\": \"/mcp-<service> <command>\"} or {\"service\", \"operation\", \"args\"}",
        ));
    };
    let database = string(&members, "database").map_err(Refusal::invalid)?;
    let arguments = arguments(&mut members)
        .and_then(|arguments| with_database(catalog, (&service, &operation), arguments, database))
        .map_err(Refusal::invalid)?;
    let parsed = catalog.command_with(&service, &operation, arguments, options);
    command(parsed, reason)
}

/// Reads the body of `POST /mcp/rpc`.
pub(crate) fn rpc(catalog: &Catalog, bytes: &[u8]) -> Asked {
    let members = match object(bytes) {
        Ok(members) => members,
        Err(refusal) => return refusal.into(),
    };
    Asked {
        id: echoed(&members),
        question: rpc_members(catalog, members),
    }
}

fn rpc_members(catalog: &Catalog, mut members: Map<String, Value>) -> Result<Question, Refusal> {
    only(
        &members,
        &["jsonrpc", "method", "params", "id"],
        "a JSON-RPC request",
    )
    .map_err(Refusal::invalid)?;
    if members.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        let received = match members.get("jsonrpc") {
            Some(Value::String(text)) => Value::from(shown(text)),
            Some(other) => Value::from(kind(other)),
            None => Value::Null,
        };
        return Err(Refusal::Invalid {
            message: "Invalid JSON-RPC version".to_owned(),
            data: json!({"received": received, "expected": "2.0"}),
        });
    }
    match members.get("id") {
        Some(Value::String(_) | Value::Number(_)) => {}
        None | Some(Value::Null) => {
            return Err(Refusal::invalid(
                "Request ID is required: every command is answered",
            ));
        }
        Some(other) => {
            return Err(Refusal::invalid(format!(
                "`id` must be a string or a number, not {}",
                kind(other)
            )));
        }
    }
    let method = string(&members, "method")
        .map_err(Refusal::invalid)?
        .ok_or_else(|| Refusal::invalid("Method is required"))?;
    let params = match members.remove("params") {
        None | Some(Value::Null) => None,
        Some(Value::Object(params)) => Some(params),
        Some(other) => {
            return Err(Refusal::Params(format!(
                "`params` must be an object, not {}",
                kind(&other)
            )));
        }
    };
    match method.as_str() {
        "mcp.execute" => {
            const PARAMS: &[&str] = &[
                "service",
                "operation",
                "args",
                "arguments",
                "database",
                "options",
                "reason",
            ];
            let mut params =
                params.ok_or_else(|| Refusal::Params("`params` are required".to_owned()))?;
            only(&params, PARAMS, "the params of `mcp.execute`").map_err(Refusal::Params)?;
            let service = required(&params, "service")?;
            let operation = required(&params, "operation")?;
            let (reason, options) = reason(&mut params).map_err(Refusal::Params)?;
            let database = string(&params, "database").map_err(Refusal::Params)?;
            let arguments = arguments(&mut params)
                .and_then(|arguments| {
                    with_database(catalog, (&service, &operation), arguments, database)
                })
                .map_err(Refusal::Params)?;
            let parsed = catalog.command_with(&service, &operation, arguments, options);
            command(parsed, reason)
        }
        "mcp.listServices" => Ok(Question::ListServices),
        "mcp.getCapabilities" => {
            let params =
                params.ok_or_else(|| Refusal::Params("`params` are required".to_owned()))?;
            only(&params, &["service"], "the params of `mcp.getCapabilities`")
                .map_err(Refusal::Params)?;
            Ok(Question::Capabilities {
                service: required(&params, "service")?,
            })
        }
        "mcp.getStatistics" => Ok(Question::Statistics),
        other => Err(Refusal::Method {
            method: shown(other),
        }),
    }
}

fn required(params: &Map<String, Value>, name: &str) -> Result<String, Refusal> {
    string(params, name)
        .map_err(Refusal::Params)?
        .ok_or_else(|| Refusal::Params(format!("`params.{name}` is required")))
}
