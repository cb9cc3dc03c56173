//! Arguments: parameters and properties of bodies, as a description has them.

use std::{collections::BTreeSet, fmt::Write as _};

use serde_json::{Map, Value, json};

use super::{
    Notes,
    document::{Document, is_true, items, line, members, text, without_null},
    name,
    operation::IDEMPOTENCY_KEY,
    schema::{Cut, Inliner, as_i64, kinds},
};
use crate::description::is_dangerous_header;

/// Where an argument goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum In {
    Path,
    Query,
    Header,
    Body,
}

impl In {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Query => "query",
            Self::Header => "header",
            Self::Body => "body",
        }
    }
}

/// One argument, not written yet.
#[derive(Clone, Debug)]
pub(super) struct Argument {
    pub(super) name: String,
    /// What the service calls it.
    pub(super) wire: String,
    pub(super) place: In,
    /// `string`, `any`.
    pub(super) kind: &'static str,
    pub(super) nullable: bool,
    pub(super) required: bool,
    pub(super) secret: bool,
    pub(super) description: String,
    /// How a list or an object stands in a query or a form.
    pub(super) written: Option<&'static str>,
    /// What a description has keys for: `options`, `minimum`, `maximum`, `max_length`,
    /// `max_items`, `pattern`, `items`.
    pub(super) keys: Map<String, Value>,
    /// What else its schema says.
    pub(super) schema: Map<String, Value>,
    /// Values that the document gives.
    pub(super) examples: Vec<Value>,
}

impl Argument {
    /// Whether it is the key by which a service recognises what was sent twice.
    pub(super) fn is_key(&self) -> bool {
        self.place == In::Header && self.wire.eq_ignore_ascii_case(IDEMPOTENCY_KEY)
    }

    /// As the description will have it.
    pub(super) fn json_schema(&self) -> Value {
        let mut schema = self.schema.clone();
        for (key, value) in &self.keys {
            let key = match key.as_str() {
                "options" => "enum",
                "max_length" => "maxLength",
                "max_items" => "maxItems",
                other => other,
            };
            let value = if key == "items" {
                json!({"type": value})
            } else {
                value.clone()
            };
            schema.insert(key.to_owned(), value);
        }
        if self.kind != "any" {
            schema.insert("type".to_owned(), json!(self.kind));
        }
        if self.place == In::Path && self.kind == "string" {
            schema.entry("minLength").or_insert(json!(1));
        }
        Value::Object(schema)
    }
}

/// An argument for a parameter; none for what is sent anyway.
pub(super) fn parameter_argument(
    document: &Document,
    parameter: &Value,
    taken: &BTreeSet<String>,
    label: &str,
    notes: &mut Notes,
) -> Result<Option<Argument>, String> {
    let wire = text(parameter, "name").unwrap_or_default();
    let required = is_true(parameter, "required");
    if is_true(parameter, "deprecated") && !required {
        notes.simplified("has a parameter that is deprecated: left out", label);
        return Ok(None);
    }
    let place = match text(parameter, "in") {
        Some("path") => In::Path,
        Some("query") => In::Query,
        Some("header") => In::Header,
        Some("cookie") => {
            if required {
                return Err("needs a cookie".to_owned());
            }
            notes.simplified("has a cookie, which is never sent", label);
            return Ok(None);
        }
        _ => return Err("has a parameter that says neither name nor place".to_owned()),
    };
    let required = required || place == In::Path;
    if wire.is_empty() {
        return Err("has a parameter that says neither name nor place".to_owned());
    }
    if place == In::Header {
        // As the specification has it, these are not parameters.
        let ours = ["accept", "content-type", "authorization"];
        if ours.iter().any(|name| wire.eq_ignore_ascii_case(name)) {
            return Ok(None);
        }
        if http::HeaderName::try_from(wire).is_err() || is_dangerous_header(wire) {
            if required {
                return Err("needs a header that no agent may set".to_owned());
            }
            notes.simplified("has a header that no agent may set", label);
            return Ok(None);
        }
    }
    let mut content = members(parameter.get("content")).map(|(_, media)| media);
    let encoded = content.next();
    let schema = encoded
        .and_then(|media| media.get("schema"))
        .or_else(|| parameter.get("schema"));
    let any = json!({});
    let schema = schema.unwrap_or(&any);
    let mut argument = of_schema(document, schema, place, label, notes);
    argument.written = if encoded.is_some() {
        Some("json")
    } else {
        match written(parameter, place, argument.kind) {
            Ok(written) => written,
            Err(why) if required => return Err(why.to_owned()),
            Err(why) => {
                notes.simplified(why, label);
                return Ok(None);
            }
        }
    };
    wire.clone_into(&mut argument.wire);
    argument.name = name::argument(wire, place.as_str(), taken);
    argument.required = required;
    let said = line(text(parameter, "description").unwrap_or_default(), 200);
    if !said.is_empty() {
        argument.description = said;
    }
    finish_description(&mut argument, document.follow(schema).unwrap_or(schema));
    let further = members(parameter.get("examples"))
        .filter_map(|(_, example)| document.follow(example).ok()?.get("value"));
    let given = parameter.get("example").into_iter().chain(further);
    let given: Vec<Value> = given.filter_map(without_null).collect();
    argument.examples.splice(0..0, given);
    Ok(Some(argument))
}

/// An argument for a property of a body, or for all of it.
pub(super) fn property_argument(
    document: &Document,
    wire: &String,
    schema: &Value,
    required: bool,
    taken: &BTreeSet<String>,
    label: &str,
    notes: &mut Notes,
) -> Argument {
    let mut argument = of_schema(document, schema, In::Body, label, notes);
    argument.wire.clone_from(wire);
    argument.name = name::argument(wire, In::Body.as_str(), taken);
    argument.required = required;
    finish_description(&mut argument, document.follow(schema).unwrap_or(schema));
    argument
}

/// How the value stands in its place, where that is not how a text does.
fn written(parameter: &Value, place: In, kind: &str) -> Result<Option<&'static str>, &'static str> {
    if !matches!(kind, "array" | "object" | "any") {
        return Ok(None);
    }
    if place != In::Query {
        return Err("has a list or an object in its path or a header");
    }
    let style = text(parameter, "style").unwrap_or("form");
    let explode = parameter
        .get("explode")
        .and_then(Value::as_bool)
        .unwrap_or(style == "form");
    match (kind, style, explode) {
        // `a[]=1&a[]=2` follows from the name.
        ("array", "form", true)
            if text(parameter, "name").is_some_and(|name| name.ends_with("[]")) =>
        {
            Ok(None)
        }
        ("array" | "any", "form", true) => Ok(Some("repeated")),
        ("array" | "any", "form", false) => Ok(Some("commas")),
        ("array", "spaceDelimited", _) => Ok(Some("spaces")),
        ("array", "pipeDelimited", _) => Ok(Some("pipes")),
        ("object" | "array", "deepObject", _) => Ok(None),
        _ => Err("has a query parameter that is an object, written as none can be here"),
    }
}

/// What a schema says, without name.
fn of_schema(
    document: &Document,
    schema: &Value,
    place: In,
    label: &str,
    notes: &mut Notes,
) -> Argument {
    let mut inliner = Inliner::new(document);
    let mut plain = inliner.inlined(schema);
    note_cut(inliner.cut, label, notes);
    let description = match plain.remove("description") {
        Some(Value::String(text)) => line(&text, 200),
        _ => String::new(),
    };
    let secret =
        plain.remove("writeOnly").is_some() || plain.get("format") == Some(&json!("password"));
    let as_text = place != In::Body;
    let (kind, nullable) = kind_of(&plain, as_text);
    let said = kinds(&plain).0.len();
    plain.remove("type");
    if as_text && kind == "string" && said != 1 {
        // Of several things that are all written as text.
        plain.retain(|key, _| key == "format");
    }
    let mut keys = Map::new();
    let mut move_key = |from: &str, to: &str, fits: &dyn Fn(&Value) -> Option<Value>| {
        if let Some(value) = plain.get(from).and_then(fits) {
            plain.remove(from);
            keys.insert(to.to_owned(), value);
        }
    };
    let texts = |value: &Value| {
        let all = value.as_array()?.iter().all(|option| {
            option
                .as_str()
                .is_some_and(|option| place != In::Path || !option.is_empty())
        });
        all.then(|| value.clone())
    };
    let number = |value: &Value| as_i64(value).map(|number| json!(number));
    let count = |value: &Value| {
        let count = value.as_u64()?;
        i64::try_from(count).ok().map(|count| json!(count))
    };
    match kind {
        "string" => {
            move_key("enum", "options", &texts);
            move_key("maxLength", "max_length", &count);
            move_key("pattern", "pattern", &|value| Some(value.clone()));
        }
        "integer" | "number" => {
            move_key("minimum", "minimum", &number);
            move_key("maximum", "maximum", &number);
        }
        "array" => {
            move_key("maxItems", "max_items", &count);
            move_key("items", "items", &|value| {
                let items = value.as_object()?;
                let plain = items
                    .keys()
                    .all(|key| matches!(key.as_str(), "type" | "description"));
                items
                    .get("type")
                    .filter(|kind| plain && kind.is_string())
                    .cloned()
            });
        }
        _ => {}
    }
    tidy(&mut plain, kind);
    let given = document.follow(schema).unwrap_or(schema);
    let examples = given
        .get("example")
        .into_iter()
        .chain(items(given.get("examples")))
        .chain(given.get("default"))
        .filter_map(without_null)
        .collect();
    Argument {
        name: String::new(),
        wire: String::new(),
        place,
        kind,
        nullable: nullable && place == In::Body,
        required: false,
        secret,
        description,
        written: None,
        keys,
        schema: plain,
        examples,
    }
}

/// Without what checks nothing here.
fn tidy(plain: &mut Map<String, Value>, kind: &str) {
    let applies = |key: &str| match key {
        "format" | "minLength" | "maxLength" | "pattern" => matches!(kind, "string" | "any"),
        "minItems" | "maxItems" | "uniqueItems" | "items" => matches!(kind, "array" | "any"),
        "properties" | "required" | "additionalProperties" | "minProperties" | "maxProperties" => {
            matches!(kind, "object" | "any")
        }
        "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
            matches!(kind, "integer" | "number" | "any")
        }
        _ => true,
    };
    plain.retain(|key, _| applies(key));
    plain.values_mut().for_each(without_marks);
}

/// `writeOnly` is for us alone.
fn without_marks(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            // A property may be called so; then it is an object.
            fields.retain(|key, value| !(key == "writeOnly" && value.is_boolean()));
            fields.values_mut().for_each(without_marks);
        }
        Value::Array(items) => items.iter_mut().for_each(without_marks),
        _ => {}
    }
}

/// The one type that a description can say.
fn kind_of(plain: &Map<String, Value>, as_text: bool) -> (&'static str, bool) {
    let (kinds, nullable) = kinds(plain);
    let known = |kind: &str| match kind {
        "string" => "string",
        "integer" => "integer",
        "number" => "number",
        "boolean" => "boolean",
        "array" => "array",
        "object" => "object",
        _ => "any",
    };
    let kind = match kinds.as_slice() {
        [kind] => known(kind),
        ["integer", "number"] | ["number", "integer"] => "number",
        [] if plain.contains_key("properties") => "object",
        [] if plain.contains_key("items") => "array",
        [] => match plain.get("enum").and_then(Value::as_array) {
            Some(options) if options.iter().all(Value::is_string) => "string",
            _ if as_text && !may_be_compound(plain) => "string",
            _ => "any",
        },
        several
            if as_text
                && !several
                    .iter()
                    .any(|kind| matches!(*kind, "array" | "object")) =>
        {
            "string"
        }
        _ => "any",
    };
    (kind, nullable)
}

/// Whether an alternative is a list or an object.
fn may_be_compound(plain: &Map<String, Value>) -> bool {
    items(plain.get("anyOf")).any(|part| {
        let part = part.as_object().cloned().unwrap_or_default();
        matches!(kind_of(&part, false).0, "array" | "object") || may_be_compound(&part)
    })
}

fn note_cut(cut: Cut, label: &str, notes: &mut Notes) {
    if cut.cycle {
        notes.simplified(
            "has a schema that contains itself: checked down to there",
            label,
        );
    }
    if cut.size {
        notes.simplified(
            "has a schema that is deep or large: checked down to there",
            label,
        );
    }
    if cut.pattern {
        notes.simplified(
            "has a pattern that our engine cannot use: not checked",
            label,
        );
    }
    if cut.external {
        notes.simplified("has a schema in another file: not checked", label);
    }
}

/// With the default, which is the service's to put in.
fn finish_description(argument: &mut Argument, schema: &Value) {
    if argument.description.is_empty() {
        argument.description = name::words(&argument.wire).join(" ");
    }
    let default = match schema.get("default") {
        Some(Value::String(text)) => line(text, 40),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        _ => String::new(),
    };
    let mentioned = argument.description.to_lowercase().contains("default");
    if !default.is_empty() && !mentioned {
        let _ = write!(argument.description, " (default: {default})");
    }
    if argument.description.is_empty() {
        argument.description.push_str("As the service has it");
    }
}
