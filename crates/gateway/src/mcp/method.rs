//! Every method of the protocol, in both eras, and what it is to policy. What is not in
//! this table is refused.

use authz::{Arguments, Risk};
use handlers::{
    jsonrpc::{Members, Message},
    strict_json,
};
use serde_json::{Map, Value};

/// Which of the two protocols a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Era {
    /// Until 2025-11-25: `initialize`, sessions, streams that the server may ask on.
    Legacy,
    /// Since 2026-07-28: every request stands for itself.
    Modern,
}

/// Versions that a request may name.
pub(crate) const LEGACY_VERSIONS: [&str; 4] =
    ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

/// The same, without sessions.
pub(crate) const MODERN_VERSIONS: [&str; 1] = ["2026-07-28"];

/// What opens and keeps a connection: policy decides it by its action `list`.
pub(crate) const CONNECT: &str = "mcp.connect";

/// Answering what an upstream asked: sampling, elicitation, roots.
pub(crate) const ANSWER: &str = "mcp.answer";

const READ_RESOURCE: &str = "mcp.resources.read";
const GET_PROMPT: &str = "mcp.prompts.get";
const GET_TASK: &str = "mcp.tasks.get";

/// What a list is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listed {
    Tools,
    Prompts,
    Resources,
    Templates,
    Tasks,
}

impl Listed {
    /// The member of the result.
    pub(crate) fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
            Self::Tasks => "tasks",
        }
    }

    /// The command that must be visible for anything of the list to be; tools are
    /// commands themselves.
    pub(crate) fn command(self) -> Option<(&'static str, Risk)> {
        match self {
            Self::Tools => None,
            Self::Prompts => Some((GET_PROMPT, Risk::Read)),
            Self::Resources | Self::Templates => Some((READ_RESOURCE, Risk::Read)),
            Self::Tasks => Some((GET_TASK, Risk::Read)),
        }
    }

    pub(crate) const ALL: [Self; 5] = [
        Self::Tools,
        Self::Prompts,
        Self::Resources,
        Self::Templates,
        Self::Tasks,
    ];
}

/// Something that is no tool and is decided like one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reserved {
    /// The command.
    pub(crate) name: &'static str,
    pub(crate) risk: Risk,
    /// Members of `params` that are its arguments. Of the first there must be one.
    pub(crate) arguments: &'static [&'static str],
    /// Stays open for as long as both sides want.
    pub(crate) stays_open: bool,
    /// `Mcp-Name` repeats this member.
    pub(crate) mirrored: Option<&'static str>,
}

/// What a method is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// It opens or keeps a connection.
    Connect,
    /// It tells what a server is.
    Discover,
    /// It lists.
    List(Listed),
    /// It calls a tool.
    Tool,
    /// It is decided as a command of ours.
    Command(&'static Reserved),
}

const fn reading(
    name: &'static str,
    arguments: &'static [&'static str],
    mirrored: Option<&'static str>,
) -> Reserved {
    Reserved {
        name,
        risk: Risk::Read,
        arguments,
        stays_open: false,
        mirrored,
    }
}

static READ: Reserved = reading(READ_RESOURCE, &["uri"], Some("uri"));
static SUBSCRIBE: Reserved = reading("mcp.resources.subscribe", &["uri"], None);
static UNSUBSCRIBE: Reserved = reading("mcp.resources.unsubscribe", &["uri"], None);
static PROMPT: Reserved = reading(GET_PROMPT, &["name", "arguments"], Some("name"));
static COMPLETE: Reserved = reading("mcp.complete", &["ref", "argument", "context"], None);
static LISTEN: Reserved = Reserved {
    stays_open: true,
    ..reading("mcp.listen", &["notifications"], None)
};
static TASK_GET: Reserved = reading(GET_TASK, &["taskId"], Some("taskId"));
static TASK_RESULT: Reserved = reading("mcp.tasks.result", &["taskId"], Some("taskId"));
static TASK_UPDATE: Reserved = Reserved {
    risk: Risk::Write,
    ..reading(
        "mcp.tasks.update",
        &["taskId", "inputResponses"],
        Some("taskId"),
    )
};
static TASK_CANCEL: Reserved = Reserved {
    risk: Risk::Write,
    ..reading("mcp.tasks.cancel", &["taskId"], Some("taskId"))
};

/// What a request is.
pub(crate) fn request(era: Era, method: &str) -> Option<Rule> {
    let both = match method {
        "tools/list" => Rule::List(Listed::Tools),
        "tools/call" => Rule::Tool,
        "prompts/list" => Rule::List(Listed::Prompts),
        "prompts/get" => Rule::Command(&PROMPT),
        "resources/list" => Rule::List(Listed::Resources),
        "resources/templates/list" => Rule::List(Listed::Templates),
        "resources/read" => Rule::Command(&READ),
        "completion/complete" => Rule::Command(&COMPLETE),
        "tasks/get" => Rule::Command(&TASK_GET),
        "tasks/cancel" => Rule::Command(&TASK_CANCEL),
        _ => return only(era, method),
    };
    Some(both)
}

/// What a request is that only one era has.
fn only(era: Era, method: &str) -> Option<Rule> {
    match (era, method) {
        (Era::Legacy, "initialize" | "ping" | "logging/setLevel") => Some(Rule::Connect),
        (Era::Legacy, "resources/subscribe") => Some(Rule::Command(&SUBSCRIBE)),
        (Era::Legacy, "resources/unsubscribe") => Some(Rule::Command(&UNSUBSCRIBE)),
        (Era::Legacy, "tasks/list") => Some(Rule::List(Listed::Tasks)),
        (Era::Legacy, "tasks/result") => Some(Rule::Command(&TASK_RESULT)),
        (Era::Modern, "server/discover") => Some(Rule::Discover),
        (Era::Modern, "subscriptions/listen") => Some(Rule::Command(&LISTEN)),
        (Era::Modern, "tasks/update") => Some(Rule::Command(&TASK_UPDATE)),
        _ => None,
    }
}

/// Whether a notification may be sent on.
pub(crate) fn notification(method: &str) -> bool {
    matches!(
        method,
        "notifications/initialized"
            | "notifications/cancelled"
            | "notifications/progress"
            | "notifications/roots/list_changed"
    )
}

/// Why the arguments of a message cannot be judged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoArguments {
    #[error("`params.{0}` is missing")]
    Missing(&'static str),
    #[error("`params.{0}` must be {1}")]
    Kind(&'static str, &'static str),
    #[error("`params.{0}`: {1}")]
    Json(&'static str, String),
}

/// The arguments of a tool call, exactly as they are sent on.
pub(crate) fn tool_arguments(params: &Members<'_>) -> Result<Arguments, NoArguments> {
    Ok(Arguments::new(match params.raw("arguments") {
        None => Map::new(),
        Some(raw) => match json("arguments", raw)? {
            Value::Object(members) => members,
            _ => return Err(NoArguments::Kind("arguments", "an object")),
        },
    }))
}

/// The arguments of a command of ours.
pub(crate) fn reserved_arguments(
    reserved: &Reserved,
    message: &Message<'_>,
) -> Result<Arguments, NoArguments> {
    let mut arguments = Map::new();
    for (place, &name) in reserved.arguments.iter().enumerate() {
        match message.params.raw(name) {
            Some(raw) => {
                let value = json(name, raw)?;
                let text = matches!(name, "uri" | "name" | "taskId");
                if text && !value.is_string() {
                    return Err(NoArguments::Kind(name, "a string"));
                }
                arguments.insert(name.to_owned(), value);
            }
            None if place == 0 => return Err(NoArguments::Missing(name)),
            None => {}
        }
    }
    Ok(Arguments::new(arguments))
}

/// What answers an upstream's question, as arguments.
pub(crate) fn answer_arguments(
    name: &'static str,
    raw: Option<&str>,
) -> Result<Arguments, NoArguments> {
    let mut arguments = Map::new();
    if let Some(raw) = raw {
        match json(name, raw)? {
            Value::Object(members) => arguments = members,
            other => {
                arguments.insert(name.to_owned(), other);
            }
        }
    }
    Ok(Arguments::new(arguments))
}

fn json(name: &'static str, raw: &str) -> Result<Value, NoArguments> {
    strict_json::parse(raw.as_bytes()).map_err(|error| NoArguments::Json(name, error.to_string()))
}

#[cfg(test)]
mod tests {
    use handlers::jsonrpc::scan;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_unknown_method_is_refused_in_both_eras() {
        for method in [
            "",
            "tools/Call",
            "tools/call ",
            "rpc.discover",
            "sampling/createMessage",
            "elicitation/create",
            "roots/list",
            "notifications/initialized",
        ] {
            assert_eq!(request(Era::Legacy, method), None, "{method}");
            assert_eq!(request(Era::Modern, method), None, "{method}");
        }
        for method in [
            "initialize",
            "ping",
            "logging/setLevel",
            "resources/subscribe",
        ] {
            assert!(request(Era::Legacy, method).is_some(), "{method}");
            assert_eq!(request(Era::Modern, method), None, "{method}");
        }
        for method in ["server/discover", "subscriptions/listen", "tasks/update"] {
            assert!(request(Era::Modern, method).is_some(), "{method}");
            assert_eq!(request(Era::Legacy, method), None, "{method}");
        }
        assert!(!notification("notifications/tools/list_changed"));
        assert!(!notification("tools/call"));
    }

    #[test]
    fn arguments_are_what_policy_is_told() {
        let message = |method: &str, params: &str| {
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#)
        };
        let text = message("resources/read", r#"{"uri":"file:///a","x":1}"#);
        let read = scan(text.as_bytes()).unwrap();
        let arguments = reserved_arguments(&READ, &read).unwrap();
        assert_eq!(json!(arguments.values()), json!({"uri": "file:///a"}));
        for (params, expected) in [
            ("{}", NoArguments::Missing("uri")),
            (r#"{"uri":1}"#, NoArguments::Kind("uri", "a string")),
        ] {
            let text = message("resources/read", params);
            let read = scan(text.as_bytes()).unwrap();
            assert_eq!(reserved_arguments(&READ, &read), Err(expected));
        }
        let text = message("tools/call", r#"{"name":"a","arguments":[1]}"#);
        let call = scan(text.as_bytes()).unwrap();
        assert_eq!(
            tool_arguments(&call.params),
            Err(NoArguments::Kind("arguments", "an object"))
        );
    }
}
