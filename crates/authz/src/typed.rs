//! Typed actions: commands whose arguments policies see with their types.
//!
//! Every command can be judged by its arguments as `context.args` tells them, whatever
//! they are. Where somebody constrains them closely, the schema may declare an action
//! for the command, named by its key and beside the untyped ones:
//!
//! ```text
//! action "coolify/deploy-application" in [Action::"write"] appliesTo {
//!   principal: Agent,
//!   resource: Command,
//!   context: { now: datetime, ip: ipaddr, args: Args, callKey: String, session: Session,
//!              input: { "uuid": String, "force"?: Bool } },
//! };
//! ```
//!
//! The command is then decided under that action, with its arguments in
//! `context.input`; policies about `Action::"write"` cover it as before. Arguments that
//! do not fit the types are refused before any policy is asked. [`fragment`] writes
//! such a declaration from a command's JSON Schema.

use std::{collections::BTreeMap, fmt::Write as _};

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Value};

use crate::{
    command::{CommandKey, Risk},
    entities::{Malformed, malformed},
};

/// How deep objects within arguments are typed.
pub const MAX_DEPTH: usize = 8;

/// A declaration of a typed action, for `schema.cedarschema`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Cedar schema text.
    pub text: String,
    /// What has no type in it, and why, by the argument's path: policies find these in
    /// `context.args` only.
    pub left_out: Vec<(String, String)>,
}

/// Declares a command's typed action from its JSON Schema.
///
/// Typed are strings, integers, booleans, arrays of one of these, and objects with
/// named properties. What cannot be typed is left out and listed, never guessed.
#[must_use]
pub fn fragment(key: &CommandKey, risk: Risk, json_schema: &Value) -> Fragment {
    let mut left_out = Vec::new();
    let mut leave = |path: &str, why: String| left_out.push((path.to_owned(), why));
    let fields = match typed(json_schema, "", 0, &mut leave) {
        Ok(Shape::Record(fields)) => fields,
        Ok(_) => {
            leave("", "the arguments are not an object".to_owned());
            BTreeMap::new()
        }
        Err(why) => {
            leave("", why);
            BTreeMap::new()
        }
    };
    let mut input = String::new();
    write_shape(&Shape::Record(fields), 2, &mut input);
    let text = format!(
        "action {name} in [Action::{group}] appliesTo {{\n  principal: Agent,\n  resource: Command,\n  context: {{\n    now: datetime,\n    ip: ipaddr,\n    args: Args,\n    callKey: String,\n    session: Session,\n    input: {input},\n  }},\n}};\n",
        name = quoted(&key.to_string()),
        group = quoted(risk.as_str()),
    );
    Fragment { text, left_out }
}

/// The type of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Text,
    Number,
    Flag,
    /// Of texts, numbers or flags.
    Set(Box<Shape>),
    /// By name, and whether it must be there.
    Record(BTreeMap<String, (Shape, bool)>),
}

/// Words of JSON Schema with which `type` and `items` do not say what a value may be.
/// Others (`anyOf`, `not`, `if`, …) only narrow what `type` says.
const BEYOND: [&str; 4] = ["$ref", "$dynamicRef", "$recursiveRef", "prefixItems"];

fn typed(
    schema: &Value,
    path: &str,
    depth: usize,
    leave: &mut dyn FnMut(&str, String),
) -> Result<Shape, String> {
    let Value::Object(schema) = schema else {
        return Err("its schema is not an object".to_owned());
    };
    if let Some(word) = BEYOND.iter().find(|word| schema.contains_key(**word)) {
        return Err(format!("its schema uses `{word}`"));
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(_) => return Err("it may be of several types".to_owned()),
        None if schema.contains_key("properties") => "object",
        None => return Err("its schema names no type".to_owned()),
    };
    match kind {
        "string" => Ok(Shape::Text),
        "integer" => Ok(Shape::Number),
        "boolean" => Ok(Shape::Flag),
        "array" => {
            let items = schema.get("items").ok_or("its items have no schema")?;
            match typed(items, path, depth + 1, leave) {
                Ok(item @ (Shape::Text | Shape::Number | Shape::Flag)) => {
                    Ok(Shape::Set(Box::new(item)))
                }
                Ok(_) => Err("its items are lists or objects".to_owned()),
                Err(why) => Err(format!("of its items, {why}")),
            }
        }
        "object" => {
            if depth >= MAX_DEPTH {
                return Err(format!("it lies deeper than {MAX_DEPTH} objects"));
            }
            let none = Map::new();
            let properties = match schema.get("properties") {
                Some(Value::Object(properties)) => properties,
                None if depth == 0 => &none,
                _ => return Err("its properties have no names".to_owned()),
            };
            let required: Vec<&str> = match schema.get("required") {
                Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
                _ => Vec::new(),
            };
            let mut fields = BTreeMap::new();
            for (name, property) in properties {
                let path = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                match typed(property, &path, depth + 1, leave) {
                    Ok(shape) => {
                        let must = required.contains(&name.as_str());
                        fields.insert(name.clone(), (shape, must));
                    }
                    Err(why) => leave(&path, why),
                }
            }
            Ok(Shape::Record(fields))
        }
        "number" => Err("it may be a fraction, which Cedar does not have".to_owned()),
        "null" => Err("it is null".to_owned()),
        _ => Err("its type is none of JSON Schema's".to_owned()),
    }
}

fn write_shape(shape: &Shape, indent: usize, text: &mut String) {
    match shape {
        Shape::Text => text.push_str("String"),
        Shape::Number => text.push_str("Long"),
        Shape::Flag => text.push_str("Bool"),
        Shape::Set(item) => {
            text.push_str("Set<");
            write_shape(item, indent, text);
            text.push('>');
        }
        Shape::Record(fields) if fields.is_empty() => text.push_str("{}"),
        Shape::Record(fields) => {
            text.push_str("{\n");
            for (name, (shape, must)) in fields {
                let optional = if *must { "" } else { "?" };
                let _ = write!(
                    text,
                    "{:1$}{name}{optional}: ",
                    "",
                    2 * (indent + 1),
                    name = quoted(name)
                );
                write_shape(shape, indent + 1, text);
                text.push_str(",\n");
            }
            let _ = write!(text, "{:1$}}}", "", 2 * indent);
        }
    }
}

/// A string literal of Cedar's.
fn quoted(text: &str) -> String {
    let mut literal = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                literal.push('\\');
                literal.push(letter);
            }
            ' '..='~' => literal.push(letter),
            // Whatever else may be invisible, or run the other way.
            _ => {
                let _ = write!(literal, "\\u{{{:x}}}", u32::from(letter));
            }
        }
    }
    literal.push('"');
    literal
}

impl Shape {
    /// The type of `input` in a schema's JSON.
    pub(crate) fn read(json: &Value) -> Result<Self, String> {
        let kind = json.get("type").and_then(Value::as_str).unwrap_or_default();
        let name = match kind {
            "EntityOrCommon" => json.get("name").and_then(Value::as_str).unwrap_or_default(),
            kind => kind,
        };
        match name.strip_prefix("__cedar::").unwrap_or(name) {
            "String" => Ok(Self::Text),
            "Long" => Ok(Self::Number),
            "Bool" | "Boolean" => Ok(Self::Flag),
            "Set" => match Self::read(json.get("element").unwrap_or(&Value::Null))? {
                item @ (Self::Text | Self::Number | Self::Flag) => Ok(Self::Set(Box::new(item))),
                Self::Set(_) | Self::Record(_) => {
                    Err("a set in `input` holds strings, integers or booleans".to_owned())
                }
            },
            "Record" => {
                let attributes = json.get("attributes").and_then(Value::as_object);
                let field = |(name, attribute): (&String, &Value)| {
                    let must = attribute.get("required") != Some(&Value::Bool(false));
                    Ok((name.clone(), (Self::read(attribute)?, must)))
                };
                let fields: Result<_, String> =
                    attributes.into_iter().flatten().map(field).collect();
                Ok(Self::Record(fields?))
            }
            other => Err(format!(
                "`input` is made of String, Long, Bool, sets of these and records written out, not of `{other}`"
            )),
        }
    }

    /// Arguments as this type says. What it does not name is not told.
    pub(crate) fn input(
        &self,
        values: &Map<String, Value>,
    ) -> Result<RestrictedExpression, Malformed> {
        match self {
            Self::Record(fields) => record(fields, values, ""),
            _ => Err(Malformed::new("`input` is not a record")),
        }
    }

    /// Some value of this type; `full` has whatever may be there.
    pub(crate) fn sample(&self, full: bool) -> Value {
        match self {
            Self::Text => "x".into(),
            Self::Number => 1.into(),
            Self::Flag => true.into(),
            Self::Set(item) => Value::Array(full.then(|| item.sample(full)).into_iter().collect()),
            Self::Record(fields) => fields
                .iter()
                .filter(|(_, (_, must))| full || *must)
                .map(|(name, (shape, _))| (name.clone(), shape.sample(full)))
                .collect::<Map<_, _>>()
                .into(),
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Text => "a string",
            Self::Number => "a 64-bit integer",
            Self::Flag => "true or false",
            Self::Set(_) => "a list of values of one kind",
            Self::Record(_) => "an object",
        }
    }
}

fn record(
    fields: &BTreeMap<String, (Shape, bool)>,
    values: &Map<String, Value>,
    path: &str,
) -> Result<RestrictedExpression, Malformed> {
    let mut attributes = Vec::with_capacity(fields.len());
    for (name, (shape, must)) in fields {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match values.get(name) {
            Some(value) => attributes.push((name.clone(), one(shape, value, &path)?)),
            None if *must => {
                return Err(Malformed::misfit(format!(
                    "the typed action needs the argument `{}`",
                    path.escape_debug()
                )));
            }
            None => {}
        }
    }
    RestrictedExpression::new_record(attributes).map_err(malformed)
}

fn one(shape: &Shape, value: &Value, path: &str) -> Result<RestrictedExpression, Malformed> {
    match (shape, value) {
        (Shape::Text, Value::String(text)) => Ok(RestrictedExpression::new_string(text.clone())),
        (Shape::Flag, Value::Bool(flag)) => Ok(RestrictedExpression::new_bool(*flag)),
        (Shape::Number, Value::Number(number)) => number
            .as_i64()
            .map(RestrictedExpression::new_long)
            .ok_or_else(|| misfit(shape, path)),
        (Shape::Set(item), Value::Array(values)) => {
            let items: Result<Vec<_>, _> =
                values.iter().map(|value| one(item, value, path)).collect();
            Ok(RestrictedExpression::new_set(items?))
        }
        (Shape::Record(fields), Value::Object(values)) => record(fields, values, path),
        _ => Err(misfit(shape, path)),
    }
}

/// Without the value, which may be a secret.
fn misfit(shape: &Shape, path: &str) -> Malformed {
    Malformed::misfit(format!(
        "the typed action wants {} as the argument `{}`",
        shape.word(),
        path.escape_debug()
    ))
}

#[cfg(test)]
mod tests;
