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
}

#[derive(Debug)]
struct Parameter {
    name: String,
    kind: ArgumentType,
    required: bool,
    /// May be given without its name.
    positional: bool,
    default: Option<Value>,
    validator: Arc<Validator>,
}

/// How large a compiled pattern may be.
const PATTERN_BYTES: usize = 1 << 20;

/// How often a pattern may go back; one that goes back more often does not match.
const PATTERN_STEPS: usize = 100_000;

/// Compiled schemas by their text: commands of one service share most of their arguments.
#[derive(Debug, Default)]
pub(crate) struct Validators(HashMap<String, Arc<Validator>>);

impl Validators {
    fn of(&mut self, schema: &Value) -> Result<Arc<Validator>, String> {
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
        let names = parameters
            .iter()
            .enumerate()
            .map(|(index, parameter)| (folded(&parameter.name), index))
            .collect();
        Ok(Self {
            parameters,
            names,
            at_least_one: command.at_least_one.clone(),
        })
    }

    /// Arguments as a person types them.
    pub(crate) fn read_words(&self, words: &[Word]) -> Result<Map<String, Value>, Vec<String>> {
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
        taken.finish()
    }

    /// Arguments from a structured body: an object, or an array of positions.
    pub(crate) fn read_value(&self, value: Value) -> Result<Map<String, Value>, Vec<String>> {
        let mut taken = Taken {
            set: self,
            values: Map::new(),
            problems: Vec::new(),
        };
        match value {
            Value::Null => {}
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
        taken.finish()
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
    const fn is_compound(self) -> bool {
        matches!(self, Self::Array | Self::Object)
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
        match value {
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
            validator,
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
            ArgumentType::Array | ArgumentType::Object => match json {
                Some(value) => Ok(value.clone()),
                None => strict_json::parse(text.as_bytes()).map_err(|_| wrong()),
            },
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
        }
    }

    fn check(&self, value: &Value) -> Vec<String> {
        // Masked: what an agent sends may be a secret, and problems are logged.
        let problem =
            |error: jsonschema::ValidationError<'_>| format!("`{}`: {}", self.name, error.masked());
        self.validator.iter_errors(value).map(problem).collect()
    }
}
