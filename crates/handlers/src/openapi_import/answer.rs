//! Answers: what shape an operation's good answer has.

use serde_json::Value;

use super::{
    document::{Document, items, line, members, reference, text},
    name::singular,
    operation::Operation,
};

/// How deep `allOf` may be nested.
const DEEPEST: usize = 8;

/// What becomes of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Under this name; where in the body it is, when that is not the list itself.
    List {
        name: String,
        at: Option<String>,
    },
    /// Under this name; a list may come as well.
    Object {
        name: String,
    },
    /// Nothing is known of it, or there is none.
    Any,
    Text,
}

impl Answer {
    pub(super) const fn is_list(&self) -> bool {
        matches!(self, Self::List { .. })
    }
}

/// Names that stand beside the data of every answer.
const TAKEN: [&str; 4] = ["operation", "count", "truncated", "result"];

pub(super) fn answer(document: &Document, operation: Operation<'_>) -> Result<Answer, String> {
    let mut content = Content::default();
    let (mut good, mut elsewhere) = (false, false);
    let mut fallback = None;
    for (status, response) in members(operation.value.get("responses")) {
        let Ok(response) = document.follow(response) else {
            continue;
        };
        if status == "default" {
            fallback = Some(response);
        }
        if status.starts_with('3') && status != "304" {
            elsewhere = true;
        }
        if status.starts_with('2') {
            good = true;
            content.add(operation.method, response);
        }
    }
    if !good && let Some(response) = fallback {
        good = true;
        content.add(operation.method, response);
    }
    if !good && elsewhere {
        return Err("answers with a redirect, which is not followed".to_owned());
    }
    if let Some(media) = content.json {
        let schema = media.get("schema");
        return Ok(schema.map_or(Answer::Any, |schema| shape(document, operation, schema)));
    }
    if content.text {
        return Ok(Answer::Text);
    }
    let mut others = content.others;
    if others.is_empty() {
        return Ok(Answer::Any);
    }
    others.sort();
    others.dedup();
    Err(format!(
        "answers with {}, neither JSON nor text",
        line(&others.join(" or "), 80)
    ))
}

/// As what good answers come.
#[derive(Default)]
struct Content<'a> {
    /// What is said of the first that is JSON.
    json: Option<&'a Value>,
    text: bool,
    /// Other types.
    others: Vec<String>,
}

impl<'a> Content<'a> {
    fn add(&mut self, method: &str, response: &'a Value) {
        for (kind, media) in members(response.get("content")) {
            let kind = kind
                .split(';')
                .next()
                .unwrap_or_default()
                .trim()
                .to_ascii_lowercase();
            if kind == "application/json" || kind.ends_with("+json") || kind == "*/*" {
                self.json.get_or_insert(media);
            } else if kind == "text/html" && method != "GET" {
                // A web page is taken for a failure; a version, say, is often called one.
                self.others.push(kind);
            } else if kind.starts_with("text/") || kind.ends_with("/xml") || kind.ends_with("/yaml")
            {
                self.text = true;
            } else {
                self.others.push(kind);
            }
        }
    }
}

fn shape(document: &Document, operation: Operation<'_>, schema: &Value) -> Answer {
    let noun = noun(operation.path);
    match kind(document, schema, 0) {
        Some("array") => Answer::List {
            name: noun,
            at: None,
        },
        Some("object") => {
            let name = singular(&noun);
            Answer::Object {
                name: if TAKEN.contains(&name.as_str()) || name.is_empty() {
                    "item".to_owned()
                } else {
                    name
                },
            }
        }
        Some(_) if operation.method == "GET" => Answer::Text,
        _ => Answer::Any,
    }
}

/// What a list at this path is called: its last word that is no parameter.
pub(super) fn noun(path: &str) -> String {
    let last = path
        .rsplit('/')
        .find(|segment| !segment.is_empty() && !segment.contains(['{', '}']))
        .unwrap_or_default();
    let mut noun = String::new();
    for letter in last.chars().take(40) {
        if letter.is_ascii_alphanumeric() {
            noun.push(letter.to_ascii_lowercase());
        } else if !noun.is_empty() && !noun.ends_with('_') {
            noun.push('_');
        }
    }
    let noun = noun.trim_matches('_');
    if noun.is_empty() || TAKEN.contains(&noun) || noun.bytes().all(|byte| byte.is_ascii_digit()) {
        "items".to_owned()
    } else {
        noun.to_owned()
    }
}

/// The type of a schema, if it is one.
pub(super) fn kind<'a>(document: &'a Document, schema: &'a Value, depth: usize) -> Option<&'a str> {
    if depth > DEEPEST {
        return None;
    }
    let schema = if reference(schema).is_some() {
        document.follow(schema).ok()?
    } else {
        schema
    };
    let own = match schema.get("type") {
        Some(Value::String(kind)) => Some(kind.as_str()),
        Some(Value::Array(kinds)) => {
            let mut kinds = kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null");
            match (kinds.next(), kinds.next()) {
                (Some(kind), None) => Some(kind),
                _ => None,
            }
        }
        _ => None,
    };
    if own.is_some() {
        return own;
    }
    if schema.get("properties").is_some() {
        return Some("object");
    }
    for part in items(schema.get("allOf")) {
        if let Some(kind) = kind(document, part, depth + 1) {
            return Some(kind);
        }
    }
    // Alternatives, if all are of one type.
    for key in ["oneOf", "anyOf"] {
        let mut kinds = items(schema.get(key)).map(|part| kind(document, part, depth + 1));
        if let Some(Some(first)) = kinds.next()
            && kinds.all(|kind| kind == Some(first))
        {
            return Some(first);
        }
    }
    None
}

/// The schema of a property, however the object is put together.
pub(super) fn property<'a>(
    document: &'a Document,
    schema: &'a Value,
    name: &str,
    depth: usize,
) -> Option<&'a Value> {
    if depth > DEEPEST {
        return None;
    }
    let schema = document.follow(schema).ok()?;
    if let Some(property) = schema.get("properties").and_then(|all| all.get(name)) {
        return Some(property);
    }
    items(schema.get("allOf")).find_map(|part| property(document, part, name, depth + 1))
}

/// Names of the properties of an object.
pub(super) fn property_names<'a>(document: &'a Document, schema: &'a Value) -> Vec<&'a String> {
    let mut names = Vec::new();
    let mut open = vec![(schema, 0)];
    while let Some((schema, depth)) = open.pop() {
        let Ok(schema) = document.follow(schema) else {
            continue;
        };
        names.extend(members(schema.get("properties")).map(|(name, _)| name));
        if depth < DEEPEST {
            open.extend(items(schema.get("allOf")).map(|part| (part, depth + 1)));
        }
    }
    names
}

/// The good answer that has JSON, and its schema.
pub(super) fn json_response<'a>(
    document: &'a Document,
    operation: Operation<'a>,
) -> Option<(&'a Value, &'a Value)> {
    let mut responses = members(operation.value.get("responses"))
        .filter(|(status, _)| status.starts_with('2'))
        .filter_map(|(_, response)| document.follow(response).ok());
    responses.find_map(|response| {
        let media = members(response.get("content")).find(|(kind, _)| {
            let kind = kind.to_ascii_lowercase();
            kind.starts_with("application/json") || kind.contains("+json")
        });
        Some((response, media?.1.get("schema")?))
    })
}

/// Whether a response says that it has this header.
pub(super) fn has_header(response: &Value, name: &str) -> bool {
    members(response.get("headers")).any(|(known, _)| known.eq_ignore_ascii_case(name))
}

/// Whether a property is of this type.
pub(super) fn is_of(document: &Document, schema: Option<&Value>, wanted: &str) -> bool {
    schema.is_some_and(|schema| {
        let schema = document.follow(schema).unwrap_or(schema);
        text(schema, "type") == Some(wanted) || kind(document, schema, 0) == Some(wanted)
    })
}
