//! Operations: one of the document becomes one command, or is left out with a reason.

use std::collections::{BTreeMap, BTreeSet};

use authz::Risk;
use serde_json::{Map, Value};

use super::{
    Notes,
    answer::{Answer, answer},
    argument::{Argument, In, parameter_argument, property_argument},
    body::{Body, Written, body},
    credential::Credentials,
    document::{Document, is_true, items, line, members, text},
    name::{Called, Names},
    pages::{Pages, pages},
    risk,
    sample::{fits, sample},
};

/// One operation of the document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation<'a> {
    pub(super) path: &'a str,
    /// `GET`.
    pub(super) method: &'static str,
    /// What all operations of the path share.
    pub(super) item: &'a Value,
    pub(super) value: &'a Value,
}

impl<'a> Operation<'a> {
    pub(super) fn id(&self) -> Option<&'a str> {
        text(self.value, "operationId").filter(|id| !id.trim().is_empty())
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = &'a str> {
        items(self.value.get("tags")).filter_map(Value::as_str)
    }

    /// For messages.
    pub(super) fn label(&self) -> String {
        let shown = format!("{} {}", self.method, self.path);
        match self.id() {
            Some(id) => line(&format!("{id} ({shown})"), 160),
            None => line(&shown, 160),
        }
    }
}

/// A command, not written yet.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) called: Called,
    pub(super) label: String,
    pub(super) summary: String,
    pub(super) risk: Risk,
    /// `GET /servers/{uuid}`.
    pub(super) request: String,
    pub(super) method: &'static str,
    /// Of the address's others.
    pub(super) address: Option<String>,
    pub(super) without_credential: bool,
    pub(super) written: Written,
    /// The body is the value of this argument.
    pub(super) whole_body: Option<String>,
    pub(super) pages: Option<Pages>,
    pub(super) idempotent: Option<bool>,
    pub(super) arguments: Vec<Argument>,
    pub(super) at_least_one: Vec<Vec<String>>,
    pub(super) answer: Answer,
    pub(super) example: Map<String, Value>,
}

/// The header by which services recognise what was sent twice.
pub(super) const IDEMPOTENCY_KEY: &str = "idempotency-key";

impl Draft {
    /// A command for `operation`.
    pub(super) fn new(
        document: &Document,
        operation: Operation<'_>,
        address: Option<String>,
        credentials: &Credentials,
        names: &mut Names,
        notes: &mut Notes,
    ) -> Result<Self, String> {
        let with_credential = credentials.of(document, operation.value)?;
        let label = operation.label();
        let parameters = parameters(document, operation)?;
        let path = path(operation.path, &parameters)?;
        let mut gathered = Gathered::default();
        for parameter in &parameters {
            let made = parameter_argument(document, parameter, &gathered.taken, &label, notes)?;
            if let Some(argument) = made {
                gathered.add(argument);
            }
        }
        let request = request(operation.method, &path, &gathered.arguments)?;
        gathered.add_body(document, operation, &label, notes)?;
        let Gathered {
            mut arguments,
            written,
            whole_body,
            at_least_one,
            ..
        } = gathered;
        let answer = answer(document, operation)?;
        let (pages, answer) = pages(document, operation, &mut arguments, answer);
        // Required ones first: others may not stand between them by position.
        arguments.sort_by_key(|argument| (!argument.required, argument.place));
        let risk = risk::of(
            operation.method,
            operation.path,
            operation.id(),
            operation.value,
        );
        let idempotent = match operation.method {
            // That it is asked for with GET does not make an act a question.
            "GET" if risk != Risk::Read => Some(false),
            "PUT" | "DELETE" => Some(true),
            _ => None,
        };
        let (called, own) = names.give(
            operation.id(),
            operation.method,
            operation.path,
            answer.is_list(),
        );
        let called = called.ok_or_else(|| "has no name that is free".to_owned())?;
        if !own {
            notes.simplified(
                "is not called as the document calls it: another command is, or it is no name",
                &label,
            );
        }
        let example = example(&arguments, &at_least_one).unwrap_or_default();
        Ok(Self {
            summary: summary(operation, &called),
            called,
            label,
            risk,
            request,
            method: operation.method,
            address,
            without_credential: !with_credential,
            written,
            whole_body,
            pages,
            idempotent,
            arguments,
            at_least_one,
            answer,
            example,
        })
    }

    /// Whether its document has an argument for the key by which it may be sent twice.
    pub(super) fn takes_key(&self) -> bool {
        self.arguments.iter().any(Argument::is_key)
    }
}

/// The arguments of a command, and what its body says of them.
#[derive(Default)]
struct Gathered {
    arguments: Vec<Argument>,
    /// Their names, `-` as `_`.
    taken: BTreeSet<String>,
    written: Written,
    whole_body: Option<String>,
    at_least_one: Vec<Vec<String>>,
}

impl Gathered {
    fn add(&mut self, argument: Argument) {
        self.taken.insert(argument.name.replace('-', "_"));
        self.arguments.push(argument);
    }

    fn add_body(
        &mut self,
        document: &Document,
        operation: Operation<'_>,
        label: &str,
        notes: &mut Notes,
    ) -> Result<(), String> {
        match body(document, operation)? {
            Body::None => {}
            Body::Properties {
                properties,
                required,
                at_least_one,
                written,
            } => {
                self.written = written;
                let mut by_wire = BTreeMap::new();
                for (wire, schema) in properties {
                    let needed = required.contains(&wire.as_str());
                    let argument = property_argument(
                        document,
                        wire,
                        schema,
                        needed,
                        &self.taken,
                        label,
                        notes,
                    );
                    by_wire.insert(wire, argument.name.clone());
                    self.add(argument);
                }
                for set in at_least_one {
                    let set: Option<Vec<String>> =
                        set.iter().map(|wire| by_wire.get(wire).cloned()).collect();
                    self.at_least_one.extend(set.filter(|set| !set.is_empty()));
                }
            }
            Body::Whole {
                schema,
                required,
                written,
            } => {
                self.written = written;
                let wire = "body".to_owned();
                let argument =
                    property_argument(document, &wire, schema, required, &self.taken, label, notes);
                self.whole_body = Some(argument.name.clone());
                self.add(argument);
            }
        }
        Ok(())
    }
}

/// `GET /servers/{uuid}`, with the names of arguments.
fn request(method: &str, path: &[PathPiece<'_>], arguments: &[Argument]) -> Result<String, String> {
    let mut request = format!("{method} ");
    for piece in path {
        match piece {
            PathPiece::Text(text) => request.push_str(text),
            PathPiece::Parameter { wire, several } => {
                let argument = arguments
                    .iter()
                    .find(|argument| argument.place == In::Path && argument.wire == *wire)
                    .ok_or_else(|| {
                        "has a path with parameters that are not described".to_owned()
                    })?;
                request.push_str(if *several { "{+" } else { "{" });
                request.push_str(&argument.name);
                request.push('}');
            }
        }
    }
    Ok(request)
}

/// The parameters of an operation, those of its path among them.
fn parameters<'a>(
    document: &'a Document,
    operation: Operation<'a>,
) -> Result<Vec<&'a Value>, String> {
    let mut found: Vec<&Value> = Vec::new();
    let both = [operation.value, operation.item];
    for parameter in both
        .into_iter()
        .flat_map(|holder| items(holder.get("parameters")))
    {
        let parameter = document
            .follow(parameter)
            .map_err(|bad| format!("has a parameter that {}", bad.why()))?;
        let same = |other: &&Value| {
            text(other, "name") == text(parameter, "name")
                && text(other, "in") == text(parameter, "in")
        };
        if !found.iter().any(same) {
            found.push(parameter);
        }
    }
    Ok(found)
}

enum PathPiece<'a> {
    Text(&'a str),
    Parameter { wire: &'a str, several: bool },
}

/// The pieces of a path, if it is one that a description can have.
fn path<'a>(path: &'a str, parameters: &[&Value]) -> Result<Vec<PathPiece<'a>>, String> {
    if !path.starts_with('/') {
        return Err("has a path that does not begin with `/`".to_owned());
    }
    if path.contains(['?', '#']) {
        return Err("has a query or fragment in its path".to_owned());
    }
    let strange =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '%' | '\\') || !c.is_ascii();
    if path.contains(strange) || path.contains("//") {
        return Err("has a path with characters that a description's may not have".to_owned());
    }
    let mut pieces = Vec::new();
    for segment in path.split('/').skip(1) {
        pieces.push(PathPiece::Text("/"));
        if matches!(segment, "." | "..") {
            return Err("has a path with a segment that is `.` or `..`".to_owned());
        }
        let mut rest = segment;
        while !rest.is_empty() {
            let follows = matches!(pieces.last(), Some(PathPiece::Parameter { .. }));
            let (literal, after) = rest.split_at(rest.find('{').unwrap_or(rest.len()));
            if literal.contains('}') {
                return Err(strange_braces());
            }
            if !literal.is_empty() {
                pieces.push(PathPiece::Text(literal));
                rest = after;
                continue;
            }
            let inside = after
                .strip_prefix('{')
                .and_then(|rest| rest.split_once('}'));
            let (wire, after) = inside.ok_or_else(strange_braces)?;
            if follows || wire.is_empty() || wire.contains('{') {
                return Err(strange_braces());
            }
            rest = after;
            let whole = segment.len() == wire.len() + 2;
            let several = whole
                && parameters.iter().any(|parameter| {
                    text(parameter, "name") == Some(wire)
                        && text(parameter, "in") == Some("path")
                        && (is_true(parameter, "x-multi-segment")
                            || is_true(parameter, "allowReserved"))
                });
            let wire = wire.strip_suffix('*').unwrap_or(wire);
            pieces.push(PathPiece::Parameter { wire, several });
        }
    }
    Ok(pieces)
}

fn strange_braces() -> String {
    "has a path of which a segment is parameters with nothing between them, or has other braces"
        .to_owned()
}

fn summary(operation: Operation<'_>, called: &Called) -> String {
    let said = |key: &str| line(text(operation.value, key).unwrap_or_default(), 160);
    // `List` alone says less than a sentence.
    let summary = [said("description"), said("summary")]
        .into_iter()
        .max_by_key(|text| match text.chars().count() {
            0 => 0,
            1..12 => 1,
            _ => 2,
        });
    let mut summary = summary
        .filter(|text| !text.is_empty())
        .unwrap_or_else(|| called.phrase.clone());
    if is_true(operation.value, "deprecated") {
        summary.push_str(" (deprecated)");
    }
    summary
}

/// Arguments of an example: what must be given.
fn example(arguments: &[Argument], at_least_one: &[Vec<String>]) -> Option<Map<String, Value>> {
    let mut example = Map::new();
    for argument in arguments.iter().filter(|argument| argument.required) {
        example.insert(argument.name.clone(), example_of(argument)?);
    }
    for set in at_least_one {
        if set.iter().any(|name| example.contains_key(name)) {
            continue;
        }
        let (name, value) = set.iter().find_map(|name| {
            let argument = arguments.iter().find(|argument| argument.name == *name)?;
            Some((name, example_of(argument)?))
        })?;
        example.insert(name.clone(), value);
    }
    Some(example)
}

fn example_of(argument: &Argument) -> Option<Value> {
    let schema = argument.json_schema();
    argument
        .examples
        .iter()
        .find(|value| fits(&schema, value))
        .cloned()
        .or_else(|| sample(&schema))
}

/// The operations of a document, in its order; what cannot be one is left out.
pub(super) fn operations<'a>(document: &'a Document, notes: &mut Notes) -> Vec<Operation<'a>> {
    let mut found = Vec::new();
    for (path, item) in document.paths() {
        if path.starts_with("x-") {
            continue;
        }
        let item = match document.follow(item) {
            Ok(item) => item,
            Err(bad) => {
                notes.left_out(bad.why(), &line(path, 160));
                continue;
            }
        };
        for (key, value) in members(Some(item)) {
            let method = match key.as_str() {
                "get" => "GET",
                "post" => "POST",
                "put" => "PUT",
                "patch" => "PATCH",
                "delete" => "DELETE",
                "head" | "options" | "trace" | "query" => {
                    let label = format!("{} {}", key.to_uppercase(), line(path, 160));
                    notes.left_out(
                        "is sent with a method that a description cannot have",
                        &label,
                    );
                    continue;
                }
                _ => continue,
            };
            if value.is_object() {
                found.push(Operation {
                    path,
                    method,
                    item,
                    value,
                });
            }
        }
    }
    found
}
