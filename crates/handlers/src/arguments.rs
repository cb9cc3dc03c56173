//! Arguments: by name or by position, typed by the command's JSON Schema, never guessed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Number, Value};

use crate::{
    description::{Argument, ArgumentType, Command, to_json},
    grammar::Word,
    nearest::nearest,
    strict_json,
};

/// The arguments that one command takes.
#[derive(Debug)]
pub(crate) struct ArgumentSet {
    parameters: Vec<Parameter>,
    /// Folded name → index of the parameter.
    names: BTreeMap<String, usize>,
    at_least_one: Vec<Vec<String>>,
    /// Of a tool: what all arguments together must fit. Its arguments are taken as they are.
    whole: Option<Whole>,
}

/// The JSON Schema of all arguments of a tool.
#[derive(Debug)]
enum Whole {
    /// Not to be relied on: nobody reviewed it.
    Unknown,
    Checked(Box<Validator>),
    /// Why it cannot be used.
    Broken(String),
}

#[derive(Debug)]
struct Parameter {
    name: String,
    kind: ArgumentType,
    required: bool,
    /// May be given without its name.
    positional: bool,
    default: Option<Value>,
    /// What may be written instead of a value.
    synonyms: BTreeMap<String, String>,
    /// Of a tool's, the whole is checked.
    validator: Option<Arc<Validator>>,
}

/// How large a compiled pattern may be.
const PATTERN_BYTES: usize = 1 << 20;

/// How often a pattern may go back; one that goes back more often does not match.
const PATTERN_STEPS: usize = 100_000;

/// Compiled schemas by their text: commands of one service share most of their arguments.
#[derive(Debug, Default)]
pub(crate) struct Validators(HashMap<String, Arc<Validator>>);

impl Validators {
    pub(crate) fn of(&mut self, schema: &Value) -> Result<Arc<Validator>, String> {
        let text = schema.to_string();
        if let Some(known) = self.0.get(&text) {
            return Ok(Arc::clone(known));
        }
        let patterns = PatternOptions::fancy_regex()
            .size_limit(PATTERN_BYTES)
            .backtrack_limit(PATTERN_STEPS);
        let validator = jsonschema::options()
            .with_pattern_options(patterns)
            .build(schema)
            .map_err(|error| error.to_string())?;
        let validator = Arc::new(validator);
        self.0.insert(text, Arc::clone(&validator));
        Ok(validator)
    }
}

/// Who asks, as the gateway before this one put it among the options itself. It is known by a
/// credential.
const AGENT: &str = "agent_id";

/// Options that clients send, and that never meant anything unless a command has an argument
/// of that name.
const IGNORED: [&str; 3] = ["timeout", "readOnly", "format"];

/// `-` and `_` are the same letter in an argument's name.
fn folded(name: &str) -> String {
    name.replace('-', "_")
}

impl ArgumentSet {
    pub(crate) fn new(command: &Command, validators: &mut Validators) -> Result<Self, String> {
        let parameters = command
            .arguments
            .iter()
            .map(|argument| Parameter::new(argument, validators))
            .collect::<Result<Vec<_>, _>>()?;
        // As the service calls them, too, as agents who know it write them; unless that could
        // mean two.
        let wires: Vec<String> = command
            .arguments
            .iter()
            .map(|argument| folded(argument.wire()))
            .collect();
        let once = |name: &String| wires.iter().filter(|other| *other == name).count() == 1;
        let there = wires.iter().enumerate().filter(|(_, name)| once(name));
        let there = there.map(|(index, name)| (name.clone(), index));
        let here = parameters.iter().enumerate();
        let here = here.map(|(index, parameter)| (folded(&parameter.name), index));
        let names = there.chain(here).collect();
        Ok(Self {
            parameters,
            names,
            at_least_one: command.at_least_one.clone(),
            whole: None,
        })
    }

    /// Of a tool whose upstream says this of its arguments. Only a schema that somebody
    /// `reviewed` is put to use.
    pub(crate) fn of_tool(schema: &Value, reviewed: bool) -> Self {
        let parameters = parameters(schema);
        let named = parameters.iter().enumerate();
        let whole = if reviewed {
            match validator(schema) {
                Ok(validator) => Whole::Checked(Box::new(validator)),
                Err(reason) => Whole::Broken(reason),
            }
        } else {
            Whole::Unknown
        };
        Self {
            names: named
                .map(|(index, parameter)| (folded(&parameter.name), index))
                .collect(),
            parameters,
            at_least_one: Vec::new(),
            whole: Some(whole),
        }
    }

    /// `<path> [--head <integer>] [--all]`: as a person would type them.
    pub(crate) fn usage(&self) -> String {
        let mut usage = String::new();
        for Parameter {
            name,
            kind,
            required,
            ..
        } in &self.parameters
        {
            let part = match (required, kind) {
                (true, _) => format!(" <{name}>"),
                (false, ArgumentType::Boolean) => format!(" [--{name}]"),
                (false, kind) => format!(" [--{name} <{}>]", kind.as_str()),
            };
            usage.push_str(&part);
        }
        usage
    }

    /// Arguments as a person types them, and others by name.
    pub(crate) fn read_words(
        &self,
        words: &[Word],
        others: Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let mut taken = Taken {
            set: self,
            values: Map::new(),
            problems: Vec::new(),
        };
        let mut positional = self
            .parameters
            .iter()
            .filter(|parameter| parameter.positional)
            .peekable();
        let mut words = words.iter().peekable();
        let mut options = true;
        while let Some(word) = words.next() {
            let key = word.text.strip_prefix("--").filter(|_| options);
            match key {
                Some("") => options = false,
                Some(key) => {
                    let (name, inline) = key
                        .split_once('=')
                        .map_or((key, None), |(name, value)| (name, Some(value)));
                    let Some(parameter) = taken.parameter(name) else {
                        continue;
                    };
                    let value = if let Some(text) = inline {
                        parameter.typed(text, word.json.as_ref())
                    } else if parameter.kind == ArgumentType::Boolean {
                        match words.next_if(|next| {
                            !next.quoted && matches!(next.text.as_str(), "true" | "false")
                        }) {
                            Some(next) => Ok(Value::Bool(next.text == "true")),
                            None => Ok(Value::Bool(true)),
                        }
                    } else {
                        match words.next_if(|next| next.quoted || !next.text.starts_with("--")) {
                            Some(next) => parameter.typed(&next.text, next.json.as_ref()),
                            None => Err(format!("`{}` needs a value", parameter.name)),
                        }
                    };
                    taken.take(parameter, value);
                }
                None => {
                    let next = positional.peek().map(|parameter| parameter.kind);
                    if let (true, Some(named)) =
                        (options && next != Some(ArgumentType::Object), object(word))
                    {
                        taken.take_named(named);
                        continue;
                    }
                    match positional.next() {
                        Some(parameter) if word.json.is_some() && !parameter.kind.is_compound() => {
                            let problem = format!(
                                "`{}` is not JSON; quote it to send it as text",
                                parameter.name
                            );
                            taken.problems.push(problem);
                        }
                        Some(parameter) => {
                            taken.take(parameter, parameter.typed(&word.text, word.json.as_ref()));
                        }
                        None => taken.problems.push(self.too_many()),
                    }
                }
            }
        }
        taken.take_others(others);
        taken.finish()
    }

    /// Arguments from a structured body: an object, or an array of positions; and others by
    /// name.
    pub(crate) fn read_value(
        &self,
        value: Value,
        others: Map<String, Value>,
    ) -> Result<Map<String, Value>, Vec<String>> {
        let mut taken = Taken {
            set: self,
            values: Map::new(),
            problems: Vec::new(),
        };
        match value {
            Value::Null => {}
            // What goes to a tool is what was sent, whatever its schema makes of names.
            Value::Object(named) if self.whole.is_some() => taken.values = named,
            Value::Object(named) => taken.take_named(named),
            Value::Array(values) => {
                let mut positional = self
                    .parameters
                    .iter()
                    .filter(|parameter| parameter.positional)
                    .peekable();
                for value in values {
                    let next = positional.peek().map(|parameter| parameter.kind);
                    match value {
                        // As slash commands have it: an object names the rest.
                        Value::Object(named) if next != Some(ArgumentType::Object) => {
                            taken.take_named(named);
                        }
                        value => match positional.next() {
                            Some(parameter) => taken.take(parameter, Ok(value)),
                            None => taken.problems.push(self.too_many()),
                        },
                    }
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                taken
                    .problems
                    .push("arguments are an object, or an array".to_owned());
            }
        }
        taken.take_others(others);
        taken.finish()
    }

    fn knows(&self, name: &str) -> bool {
        self.names.contains_key(&folded(name))
    }

    fn too_many(&self) -> String {
        match self
            .parameters
            .iter()
            .filter(|parameter| parameter.positional)
            .count()
        {
            0 => "it takes no argument without a name".to_owned(),
            count => format!("it takes only {count} without a name"),
        }
    }

    fn check(&self, values: &Map<String, Value>) -> Vec<String> {
        let mut problems = Vec::new();
        match &self.whole {
            None => {}
            // Policy refuses what nobody reviewed, and says why.
            Some(Whole::Unknown) => return problems,
            Some(Whole::Broken(reason)) => {
                problems.push(format!("its JSON Schema cannot be used: {reason}"));
                return problems;
            }
            Some(Whole::Checked(validator)) => {
                let arguments = Value::Object(values.clone());
                let errors = validator.iter_errors(&arguments).take(MAX_PROBLEMS);
                problems.extend(errors.map(|error| match error.instance_path().to_string() {
                    path if path.is_empty() => missing_or(&error),
                    path => format!("`{}`: {}", path.trim_start_matches('/'), error.masked()),
                }));
                return problems;
            }
        }
        for parameter in &self.parameters {
            match values.get(&parameter.name) {
                Some(value) => problems.extend(parameter.check(value)),
                None if parameter.required => {
                    problems.push(format!("`{}` is missing", parameter.name));
                }
                None => {}
            }
        }
        for names in &self.at_least_one {
            if !names.iter().any(|name| values.contains_key(name)) {
                problems.push(format!("one of `{}` is missing", names.join("`, `")));
            }
        }
        problems
    }
}

impl ArgumentType {
    pub(crate) const fn is_compound(self) -> bool {
        matches!(self, Self::Array | Self::Object | Self::Any)
    }
}

/// The JSON object that a word is, quoted or not.
fn object(word: &Word) -> Option<Map<String, Value>> {
    let value = match &word.json {
        Some(value) if word.text.starts_with('{') => value.clone(),
        None if word.quoted && word.text.starts_with('{') => {
            strict_json::parse(word.text.as_bytes()).ok()?
        }
        _ => return None,
    };
    match value {
        Value::Object(named) => Some(named),
        _ => None,
    }
}

/// What was given so far, and what is wrong with it.
struct Taken<'a> {
    set: &'a ArgumentSet,
    values: Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Taken<'a> {
    fn parameter(&mut self, name: &str) -> Option<&'a Parameter> {
        let found = self
            .set
            .names
            .get(&folded(name))
            .and_then(|&index| self.set.parameters.get(index));
        if found.is_none() {
            let near = nearest(
                name,
                self.set
                    .parameters
                    .iter()
                    .map(|parameter| parameter.name.as_str()),
            );
            let hint = near
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            let shown: String = name
                .chars()
                .take(64)
                .flat_map(char::escape_default)
                .collect();
            self.problems
                .push(format!("no argument is called `{shown}`{hint}"));
        }
        found
    }

    fn take(&mut self, parameter: &Parameter, value: Result<Value, String>) {
        match value.map(|value| parameter.meant(value)) {
            Ok(value) => {
                if self.values.insert(parameter.name.clone(), value).is_some() {
                    self.problems
                        .push(format!("`{}` is given twice", parameter.name));
                }
            }
            Err(problem) => self.problems.push(problem),
        }
    }

    fn take_named(&mut self, named: Map<String, Value>) {
        for (name, value) in named {
            if let Some(parameter) = self.parameter(&name) {
                self.take(parameter, Ok(value));
            }
        }
    }

    /// What stood in `options`, beside the command.
    fn take_others(&mut self, mut others: Map<String, Value>) {
        others.retain(|name, _| {
            name != AGENT && (!IGNORED.contains(&name.as_str()) || self.set.knows(name))
        });
        self.take_named(others);
    }

    /// The values with defaults, if nothing is wrong. A default is part of the command:
    /// who approves it sees it, and giving it in words is the same command.
    fn finish(mut self) -> Result<Map<String, Value>, Vec<String>> {
        if self.problems.is_empty() {
            self.problems = self.set.check(&self.values);
        }
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        for parameter in &self.set.parameters {
            if let Some(default) = &parameter.default
                && !self.values.contains_key(&parameter.name)
            {
                self.values.insert(parameter.name.clone(), default.clone());
            }
        }
        Ok(self.values)
    }
}

impl Parameter {
    fn new(argument: &Argument, validators: &mut Validators) -> Result<Self, String> {
        let schema = argument.schema()?;
        let invalid =
            |error: &dyn std::fmt::Display| format!("argument `{}`: {error}", argument.name);
        let validator = validators.of(&schema).map_err(|error| invalid(&error))?;
        let default = argument.default.as_ref().map(to_json).transpose()?;
        if default
            .as_ref()
            .is_some_and(|default| !validator.is_valid(default))
        {
            return Err(invalid(&"its default is not valid"));
        }
        Ok(Self {
            name: argument.name.clone(),
            kind: argument.kind,
            required: argument.required,
            positional: argument.required || argument.positional,
            default,
            synonyms: argument.synonyms.clone(),
            validator: Some(validator),
        })
    }

    /// A typed value of a text. Problems never repeat the text: it may be a secret.
    fn typed(&self, text: &str, json: Option<&Value>) -> Result<Value, String> {
        let wrong = || format!("`{}` must be {}", self.name, self.article());
        match self.kind {
            ArgumentType::String => Ok(Value::String(text.to_owned())),
            ArgumentType::Boolean => text.parse().map(Value::Bool).map_err(|_| wrong()),
            ArgumentType::Integer => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                let number = text
                    .parse::<i64>()
                    .map(Number::from)
                    .or_else(|_| text.parse::<u64>().map(Number::from));
                number
                    .ok()
                    .filter(|_| plain)
                    .map(Value::Number)
                    .ok_or_else(wrong)
            }
            ArgumentType::Number => match strict_json::parse(text.as_bytes()) {
                Ok(Value::Number(number)) => Ok(Value::Number(number)),
                _ => Err(wrong()),
            },
            ArgumentType::Array | ArgumentType::Object | ArgumentType::Any => match json {
                Some(value) => Ok(value.clone()),
                None => strict_json::parse(text.as_bytes()).map_err(|_| wrong()),
            },
        }
    }

    /// The value that a synonym stands for; any other is itself. What is decided, recorded
    /// and carried out has one spelling.
    fn meant(&self, value: Value) -> Value {
        let synonym = value.as_str().and_then(|text| self.synonyms.get(text));
        match synonym {
            Some(meant) => Value::String(meant.clone()),
            None => value,
        }
    }

    fn article(&self) -> &'static str {
        match self.kind {
            ArgumentType::String => "a string",
            ArgumentType::Integer => "an integer",
            ArgumentType::Number => "a number",
            ArgumentType::Boolean => "`true` or `false`",
            ArgumentType::Array => "a JSON array",
            ArgumentType::Object => "a JSON object",
            ArgumentType::Any => "JSON",
        }
    }

    fn check(&self, value: &Value) -> Vec<String> {
        // Masked: what an agent sends may be a secret, and problems are logged.
        let problem =
            |error: jsonschema::ValidationError<'_>| format!("`{}`: {}", self.name, error.masked());
        let validator = self.validator.iter();
        validator
            .flat_map(|validator| validator.iter_errors(value))
            .map(problem)
            .collect()
    }
}

/// A tool's schema may be wrong in a thousand ways; nobody reads them all.
const MAX_PROBLEMS: usize = 8;

/// A pattern of an upstream's may try so often before it gives up.
const BACKTRACKS: usize = 20_000;

fn missing_or(error: &jsonschema::ValidationError<'_>) -> String {
    match error.kind() {
        jsonschema::error::ValidationErrorKind::Required { property } => {
            format!("`{}` is missing", property.as_str().unwrap_or_default())
        }
        _ => error.masked().to_string(),
    }
}

/// A validator of an upstream's schema. It fetches nothing, and its patterns end.
fn validator(schema: &Value) -> Result<Validator, String> {
    if !refers_plainly(schema) {
        return Err("it refers by other ways than `#/…`".to_owned());
    }
    if refers_to_itself(schema) {
        return Err("a `$ref` leads back to itself".to_owned());
    }
    jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::fancy_regex().backtrack_limit(BACKTRACKS))
        .build(schema)
        .map_err(|error| error.masked().to_string())
}

/// Whether every reference is one that [`refers_to_itself`] can follow.
fn refers_plainly(schema: &Value) -> bool {
    fn plainly(schema: &Value, root: bool) -> bool {
        match schema {
            Value::Object(members) => members.iter().all(|(key, member)| {
                let fine = match (key.as_str(), member) {
                    ("$ref", Value::String(target)) => {
                        (target == "#" || target.starts_with("#/")) && !target.contains('%')
                    }
                    ("$id", Value::String(_)) => root,
                    (
                        "$dynamicRef" | "$recursiveRef" | "$anchor" | "$dynamicAnchor",
                        Value::String(_),
                    ) => false,
                    _ => true,
                };
                fine && plainly(member, false)
            }),
            Value::Array(items) => items.iter().all(|item| plainly(item, false)),
            _ => true,
        }
    }
    plainly(schema, true)
}

/// Whether following `$ref` alone, without going deeper into a value, comes round: a
/// validator would follow it for ever.
fn refers_to_itself(schema: &Value) -> bool {
    fn every<'a>(schema: &'a Value, found: &mut Vec<&'a Value>) {
        match schema {
            Value::Object(members) => {
                found.push(schema);
                members.values().for_each(|member| every(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| every(item, found)),
            _ => {}
        }
    }
    /// What is checked of the very same value as `schema` is.
    fn same_value<'a>(root: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
        let mut found = Vec::new();
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').unwrap_or(target);
            found.extend(root.pointer(pointer));
        }
        for key in ["allOf", "anyOf", "oneOf"] {
            found.extend(
                schema
                    .get(key)
                    .and_then(Value::as_array)
                    .into_iter()
                    .flatten(),
            );
        }
        for key in ["not", "if", "then", "else"] {
            found.extend(schema.get(key));
        }
        let dependent = schema.get("dependentSchemas").and_then(Value::as_object);
        found.extend(dependent.into_iter().flat_map(Map::values));
        found
    }
    let mut schemas = Vec::new();
    every(schema, &mut schemas);
    let at = |one: &Value| std::ptr::from_ref(one) as usize;
    // Kahn's: what is left when everything without a way onward is gone, goes round.
    let mut onward: HashMap<usize, Vec<usize>> = HashMap::new();
    for one in &schemas {
        let next = same_value(schema, one);
        onward.insert(at(one), next.into_iter().map(at).collect());
    }
    loop {
        let before = onward.len();
        let known: std::collections::HashSet<usize> = onward.keys().copied().collect();
        onward.retain(|_, next| next.iter().any(|next| known.contains(next)));
        if onward.is_empty() {
            return false;
        }
        if onward.len() == before {
            return true;
        }
    }
}

/// What a tool's schema says of each argument, required ones first, each in their order.
fn parameters(schema: &Value) -> Vec<Parameter> {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut parameters: Vec<Parameter> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| {
            let required = required.contains(&name.as_str());
            Parameter {
                name: name.clone(),
                kind: kind(property),
                required,
                positional: required,
                default: None,
                synonyms: BTreeMap::new(),
                validator: None,
            }
        })
        .collect();
    parameters.sort_by_key(|parameter| !parameter.required);
    parameters
}

/// The type of a property; whatever may be several things is written as JSON.
fn kind(property: &Value) -> ArgumentType {
    let of_name = |name: &str| match name {
        "string" => ArgumentType::String,
        "integer" => ArgumentType::Integer,
        "number" => ArgumentType::Number,
        "boolean" => ArgumentType::Boolean,
        "array" => ArgumentType::Array,
        _ => ArgumentType::Object,
    };
    match property.get("type") {
        Some(Value::String(name)) => of_name(name),
        Some(Value::Array(several)) => {
            let mut several = several
                .iter()
                .filter_map(Value::as_str)
                .filter(|name| *name != "null");
            match (several.next(), several.next()) {
                (Some(name), None) => of_name(name),
                _ => ArgumentType::Object,
            }
        }
        _ => match property.get("enum").and_then(Value::as_array) {
            Some(options) if options.iter().all(Value::is_string) => ArgumentType::String,
            _ => ArgumentType::Object,
        },
    }
}

#[cfg(test)]
mod tests;
