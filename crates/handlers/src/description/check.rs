//! Checks: what a description's form alone does not promise.

use std::{collections::BTreeSet, ops::Range};

use super::{
    Argument, Command, Description, Kind, Place, RunPart, S3Table,
    s3::Commands,
    template::{TemplatePart, template_parts},
};
use crate::nearest::nearest;

/// What stands at `/mcp/…` and is no MCP server.
const PATHS: [&str; 3] = ["catalog", "execute", "rpc"];

/// Longer patterns are programs, not formats; in bytes.
const LONGEST_PATTERN: usize = 512;

/// Nobody waits longer for a service, in milliseconds.
const LONGEST_TIMEOUT: u64 = 3_600_000;

/// No longer answer is held in memory, in bytes.
const LONGEST_ANSWER: usize = 1 << 30;

impl Description {
    /// Puts the groups' arguments and the default places in, and checks each command.
    pub(super) fn complete(&mut self) -> Result<(), (Option<Range<usize>>, String)> {
        let others: BTreeSet<String> = self
            .address
            .iter()
            .flat_map(|address| address.others.keys().cloned())
            .collect();
        let at_name = |message| (Some(self.name.span()), message);
        self.check_keys().map_err(at_name)?;
        check_bounds(
            self.timeout_ms,
            Some(self.max_answer_bytes),
            Some(self.max_result_bytes),
        )
        .and_then(|()| check_headers(self.headers.keys()))
        .map_err(at_name)?;
        if self.max_concurrent == 0 {
            return Err(at_name(
                "`max_concurrent` of 0 lets nothing through".to_owned(),
            ));
        }
        if self.kind == Kind::S3 {
            let span = self.name.span();
            self.take_s3_commands()
                .map_err(|message| (Some(span), message))?;
        }
        for command in &mut self.commands {
            let span = Some(command.name.span());
            let mut arguments = Vec::new();
            for group in &command.groups {
                let Some(shared) = self.groups.get(group) else {
                    let near = nearest(group, self.groups.keys().map(String::as_str));
                    let hint = near
                        .map(|name| format!("; did you mean `{name}`?"))
                        .unwrap_or_default();
                    return Err((span, format!("no group `{group}`{hint}")));
                };
                arguments.extend(shared.iter().cloned());
            }
            arguments.append(&mut command.arguments);
            if let Some(pages) = &command.pages {
                arguments.extend(pages.arguments());
            }
            command.arguments = arguments;
            command.place_arguments();
            if let Some(name) = &command.address
                && !others.contains(name)
            {
                let near = nearest(name, others.iter().map(String::as_str));
                let hint = near
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                return Err((span, format!("`address.others` has no `{name}`{hint}")));
            }
            command.check().map_err(|message| {
                (
                    span,
                    format!("command `{}`: {message}", command.name.get_ref()),
                )
            })?;
        }
        self.check_kind()?;
        if let Some(table) = &self.postgres {
            let at_name = |message| (Some(self.name.span()), message);
            if !self.commands.is_empty() {
                let message = "kind `postgres` has commands of its own; see `[postgres.commands]`";
                return Err(at_name(message.to_owned()));
            }
            self.commands = table.commands().map_err(at_name)?;
        }
        Ok(())
    }

    /// Whether its limits limit something that there is.
    pub(super) fn check_limits(&self) -> Result<(), String> {
        let Some(limits) = &self.limits else {
            return Ok(());
        };
        limits.check().map_err(|why| format!("`limits`: {why}"))?;
        if self.kind == Kind::Mcp {
            return Ok(());
        }
        let known = || {
            self.commands
                .iter()
                .map(|command| command.name.get_ref().as_str())
        };
        for name in limits.commands.keys() {
            if !known().any(|known| known == name.as_str()) {
                let hint = nearest(name.as_str(), known())
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                return Err(format!(
                    "`limits.commands` names `{name}`, which is no command{hint}"
                ));
            }
        }
        Ok(())
    }

    /// Each kind has what it needs and nothing that only another understands.
    fn check_keys(&self) -> Result<(), String> {
        let tables = [
            (Kind::Mcp, self.mcp.is_some()),
            (Kind::Local, self.local.is_some()),
            (Kind::Postgres, self.postgres.is_some()),
            (Kind::S3, self.s3.is_some()),
        ];
        for (kind, given) in tables {
            let name = kind.as_str();
            if given && kind != self.kind {
                return Err(format!("`[{name}]` is of the kind of this name"));
            }
            if !given && kind == self.kind {
                return Err(format!("kind `{name}` needs a table `[{name}]`"));
            }
        }
        let fits: &[&str] = match self.kind {
            Kind::Http => return Ok(()),
            Kind::Local => &["groups", "commands"],
            Kind::Mcp => &[],
            Kind::S3 => &["timeout_ms"],
            // It says itself where its commands are.
            Kind::Postgres => &["commands"],
        };
        let of_http = [
            ("address", self.address.is_some()),
            ("credential", self.credential.is_some()),
            ("credentials", !self.credentials.is_empty()),
            ("headers", !self.headers.is_empty()),
            ("timeout_ms", self.timeout_ms.is_some()),
            ("errors", !self.errors.is_empty()),
            ("groups", !self.groups.is_empty()),
            ("commands", !self.commands.is_empty()),
        ];
        match of_http
            .iter()
            .find(|(key, given)| *given && !fits.contains(key))
        {
            Some((key, _)) => {
                let own = self.kind.as_str();
                Err(format!("`{key}` is of kind `http`; see `[{own}]`"))
            }
            None => Ok(()),
        }
    }

    /// What is in them is as it must be.
    fn check_kind(&self) -> Result<(), (Option<Range<usize>>, String)> {
        let at_name = |message: &str| (Some(self.name.span()), message.to_owned());
        match self.kind {
            Kind::Http => {
                for credential in self.credential.iter().chain(&self.credentials) {
                    credential.check().map_err(|message| at_name(&message))?;
                }
                if self.address.is_none() {
                    return Err(at_name("kind `http` needs an `address`"));
                }
                if self.commands.is_empty() {
                    return Err(at_name("a service without commands"));
                }
                for command in &self.commands {
                    let name = command.name.get_ref();
                    if command.request.path.is_empty() || !command.run.is_empty() {
                        let message = format!("command `{name}` needs a `request`, and no `run`");
                        return Err((Some(command.name.span()), message));
                    }
                }
            }
            Kind::Local => {
                for command in &self.commands {
                    command.check_run().map_err(|message| {
                        let name = command.name.get_ref();
                        (
                            Some(command.name.span()),
                            format!("command `{name}`: {message}"),
                        )
                    })?;
                }
            }
            Kind::Mcp => {
                let Some(mcp) = &self.mcp else {
                    return Ok(());
                };
                let taken = self.name.get_ref().as_str();
                if PATHS.contains(&taken) {
                    return Err(at_name(&format!(
                        "an MCP server cannot be called `{taken}`: agents would reach it at `/mcp/{taken}`, which is the gateway's own; choose another name"
                    )));
                }
                mcp.check().map_err(|message| at_name(&message))?;
            }
            Kind::S3 | Kind::Postgres => {}
        }
        Ok(())
    }

    /// The commands of kind `s3` are the same for every service of it.
    fn take_s3_commands(&mut self) -> Result<(), String> {
        let Some(s3) = &self.s3 else {
            return Ok(());
        };
        s3.check()?;
        let Commands {
            groups,
            mut commands,
        } = S3Table::every_command()?;
        let named = |name: &str| commands.iter().any(|c| c.name.get_ref().as_str() == name);
        if let Some(unknown) = s3.commands.iter().find(|name| !named(name)) {
            let near = nearest(
                unknown,
                commands
                    .iter()
                    .map(|command| command.name.get_ref().as_str()),
            );
            let hint = near
                .map(|name| format!("; did you mean `{name}`?"))
                .unwrap_or_default();
            return Err(format!("kind `s3` has no command `{unknown}`{hint}"));
        }
        commands.retain(|command| {
            let name = command.name.get_ref().as_str();
            s3.commands.is_empty() || s3.commands.iter().any(|other| other == name)
        });
        self.groups = groups;
        self.commands = commands;
        Ok(())
    }
}

impl Command {
    fn place_arguments(&mut self) {
        let in_path: BTreeSet<&str> = self.request.placeholders().collect();
        let query = matches!(
            self.request.method,
            http::Method::GET | http::Method::DELETE
        );
        for argument in &mut self.arguments {
            let default = match (in_path.contains(argument.name.as_str()), query) {
                (true, _) => Place::Path,
                (false, true) => Place::Query,
                (false, false) => Place::Body,
            };
            let default = if self.answer.choosing().any(|name| name == argument.name) {
                Place::Answer
            } else {
                default
            };
            let place = *argument.place.get_or_insert(default);
            argument.required |= place == Place::Path;
        }
    }

    fn check(&self) -> Result<(), String> {
        check_bounds(
            self.timeout_ms,
            self.max_answer_bytes,
            self.max_result_bytes,
        )?;
        let in_headers = self.arguments.iter();
        let in_headers = in_headers.filter(|argument| argument.place == Some(Place::Header));
        check_headers(self.headers.keys())?;
        check_headers(in_headers.map(Argument::wire))?;
        self.check_arguments()?;
        self.check_references()?;
        self.check_query()?;
        self.check_body()?;
        if self.answer.choosing().next().is_some()
            && (self.answer.list.is_none() || self.pages.is_some())
        {
            return Err("only a `list` without `pages` has `only`, `skip` and `first`".to_owned());
        }
        if let Some(pages) = &self.pages {
            pages.check()?;
            if self.answer.list.is_none() || self.request.method != http::Method::GET {
                return Err("only a list that is read with GET has `pages`".to_owned());
            }
        }
        let shapes = [
            self.answer.list.is_some(),
            self.answer.object.is_some(),
            self.answer.merge,
            self.answer.text.is_some(),
        ];
        if self.run.is_empty() && shapes.iter().filter(|&&given| given).count() != 1 {
            return Err(
                "`answer` needs exactly one of `list`, `object`, `merge = true` and `text`"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Names, order and places.
    fn check_arguments(&self) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        let mut optional_positional = None;
        for argument in &self.arguments {
            let name = &argument.name;
            if name.is_empty()
                || !name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
            {
                return Err(format!(
                    "`{name}` is not an argument's name (letters, digits, `_`, `-`, `.`)"
                ));
            }
            if !seen.insert(name.replace('-', "_")) {
                return Err(format!("two arguments are called `{name}`"));
            }
            if argument.positional && !argument.required {
                optional_positional = Some(name);
            } else if let (Some(earlier), true) = (optional_positional, argument.required) {
                return Err(format!(
                    "required `{name}` comes after optional positional `{earlier}`"
                ));
            }
            if argument
                .pattern
                .as_ref()
                .is_some_and(|pattern| pattern.len() > LONGEST_PATTERN)
            {
                return Err(format!(
                    "the pattern of `{name}` is longer than {LONGEST_PATTERN} bytes"
                ));
            }
            argument
                .check_schema()
                .map_err(|problem| format!("argument `{name}`: {problem}"))?;
            let scalar = !argument.kind.is_compound();
            if !scalar && matches!(argument.place, Some(Place::Path | Place::Header)) {
                return Err(format!(
                    "`{name}` is an {}, which only a query or a body can hold",
                    argument.kind.as_str()
                ));
            }
            if argument.required && argument.default.is_some() {
                return Err(format!(
                    "`{name}` is required, so its default is never used"
                ));
            }
        }
        Ok(())
    }

    /// Everything that names an argument names one that exists.
    fn check_references(&self) -> Result<(), String> {
        let owned = self.owned.as_ref().map(|owned| &owned.request);
        for line in std::iter::once(&self.request)
            .chain(&self.fallback)
            .chain(owned)
        {
            for name in line.placeholders() {
                if !self
                    .arguments
                    .iter()
                    .any(|a| a.name == name && a.place == Some(Place::Path))
                {
                    return Err(format!(
                        "`{{{name}}}` in the path is no argument with `in = \"path\"`"
                    ));
                }
            }
        }
        for argument in self
            .arguments
            .iter()
            .filter(|a| a.place == Some(Place::Path))
        {
            if !self
                .request
                .placeholders()
                .any(|name| name == argument.name)
            {
                return Err(format!("the path has no `{{{}}}`", argument.name));
            }
        }
        if let Some(status) = self
            .fallback_on
            .iter()
            .find(|&&status| !matches!(status, 404 | 405))
            .filter(|_| self.request.method != http::Method::GET)
        {
            return Err(format!(
                "after {status} nobody knows what was done, so there is no falling back"
            ));
        }
        let named = self
            .at_least_one
            .iter()
            .flatten()
            .chain(self.answer.echo.values());
        for name in named
            .map(String::as_str)
            .chain(self.answer.choosing())
            .chain(self.example.keys().map(String::as_str))
        {
            if !self.arguments.iter().any(|argument| argument.name == name) {
                let near = nearest(
                    name,
                    self.arguments.iter().map(|argument| argument.name.as_str()),
                );
                let hint = near
                    .map(|name| format!("; did you mean `{name}`?"))
                    .unwrap_or_default();
                return Err(format!("no argument `{name}`{hint}"));
            }
        }
        Ok(())
    }
}

impl Command {
    /// A command line names arguments that there are, and all that there are.
    fn check_run(&self) -> Result<(), String> {
        if self.run.is_empty() || !self.request.path.is_empty() {
            return Err("kind `local` needs `run`, and no `request`".to_owned());
        }
        let mut named = BTreeSet::new();
        for part in &self.run {
            let words = match part {
                RunPart::Word(word) => std::slice::from_ref(word),
                RunPart::Words(words) => words,
            };
            for word in words {
                placeholders(&toml::Value::String(word.clone()), &mut named);
            }
        }
        for argument in &self.arguments {
            if !named.remove(&argument.name) {
                return Err(format!("`run` has no `{{{}}}`", argument.name));
            }
            if argument.kind.is_compound() {
                return Err(format!("`{}` is no word", argument.name));
            }
        }
        match named.first() {
            Some(name) => Err(format!("`{{{name}}}` in `run` is no argument")),
            None => Ok(()),
        }
    }

    /// What the query always has names arguments that there are: what names nothing would be
    /// left out, and with it perhaps whose things are asked for.
    fn check_query(&self) -> Result<(), String> {
        for (parameter, template) in &self.query {
            let mut named = BTreeSet::new();
            placeholders(&toml::Value::String(template.clone()), &mut named);
            if let Some(name) = named.iter().find(|name| !self.has_value(name)) {
                return Err(format!(
                    "`{{{name}}}` in the query's `{parameter}` is no argument"
                ));
            }
        }
        Ok(())
    }

    /// Whether `{name}` in a template stands for something.
    fn has_value(&self, name: &str) -> bool {
        name == "agent.id" || self.arguments.iter().any(|argument| argument.name == name)
    }

    /// A body that is written out names arguments that there are, and all that it should.
    fn check_body(&self) -> Result<(), String> {
        let Some(body) = &self.body else {
            return Ok(());
        };
        if matches!(self.request.method, http::Method::GET) {
            return Err("a GET request has no body".to_owned());
        }
        let mut named = BTreeSet::new();
        placeholders(body, &mut named);
        if let Some(name) = named.iter().find(|name| !self.has_value(name)) {
            return Err(format!("`{{{name}}}` in the body is no argument"));
        }
        for argument in &self.arguments {
            if argument.place == Some(Place::Body) && !named.contains(&argument.name) {
                return Err(format!("the body has no `{{{}}}`", argument.name));
            }
        }
        Ok(())
    }
}

fn check_bounds(
    timeout_ms: Option<u64>,
    answer_bytes: Option<usize>,
    result_bytes: Option<usize>,
) -> Result<(), String> {
    if timeout_ms.is_some_and(|timeout| !(1..=LONGEST_TIMEOUT).contains(&timeout)) {
        return Err(format!(
            "`timeout_ms` is not between 1 and {LONGEST_TIMEOUT}"
        ));
    }
    for (name, bytes) in [
        ("max_answer_bytes", answer_bytes),
        ("max_result_bytes", result_bytes),
    ] {
        if bytes.is_some_and(|bytes| !(1..=LONGEST_ANSWER).contains(&bytes)) {
            return Err(format!("`{name}` is not between 1 and {LONGEST_ANSWER}"));
        }
    }
    Ok(())
}

/// Whether a header says where a request goes or ends, whom it is from, or what becomes of the
/// connection. To let an argument or a description set it would be to let it write another
/// request.
pub(crate) fn is_dangerous_header(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(
        name.as_str(),
        "host"
            | "connection"
            | "content-length"
            | "transfer-encoding"
            | "te"
            | "trailer"
            | "upgrade"
            | "keep-alive"
            | "expect"
            | "cookie"
            | "forwarded"
            | "via"
    ) || name.starts_with("x-forwarded-")
        || name.starts_with("proxy-")
}

fn check_headers(names: impl Iterator<Item = impl AsRef<str>>) -> Result<(), String> {
    for name in names {
        let name = name.as_ref();
        if is_dangerous_header(name) {
            return Err(format!("the header `{name}` is not a description's to set"));
        }
    }
    Ok(())
}

/// Words of JSON Schema that lead elsewhere.
const REFERENCES: [&str; 8] = [
    "$ref",
    "$dynamicRef",
    "$recursiveRef",
    "$id",
    "$anchor",
    "$dynamicAnchor",
    "$recursiveAnchor",
    "$schema",
];

impl Argument {
    /// What is said beside the keys that descriptions have.
    fn check_schema(&self) -> Result<(), String> {
        if self.nullable && self.place != Some(Place::Body) {
            return Err("only what stands in a body may be `nullable`".to_owned());
        }
        if self.written.is_some() && (!self.kind.is_compound() || self.place == Some(Place::Path)) {
            return Err("`written` is for lists and objects in a query or a form".to_owned());
        }
        let Some(schema) = &self.schema else {
            return Ok(());
        };
        if let Some(key) = ["type", "description", "default"]
            .iter()
            .find(|key| schema.contains_key(**key))
        {
            return Err(format!(
                "`schema` has `{key}`, which the argument itself has"
            ));
        }
        let mut open: Vec<&toml::Value> = schema.values().collect();
        let mut keys: Vec<&String> = schema.keys().collect();
        while let Some(value) = open.pop() {
            match value {
                toml::Value::Table(fields) => {
                    keys.extend(fields.keys());
                    open.extend(fields.values());
                }
                toml::Value::Array(items) => open.extend(items),
                _ => {}
            }
        }
        match keys.iter().find(|key| REFERENCES.contains(&key.as_str())) {
            Some(key) => Err(format!("`schema` has `{key}`, and may refer to nothing")),
            None => Ok(()),
        }
    }
}

/// What the texts of a template name.
fn placeholders(template: &toml::Value, named: &mut BTreeSet<String>) {
    match template {
        toml::Value::String(text) => {
            named.extend(template_parts(text).filter_map(|part| match part {
                TemplatePart::Named(name) => Some(name.to_owned()),
                TemplatePart::Text(_) => None,
            }));
        }
        toml::Value::Array(items) => items.iter().for_each(|item| placeholders(item, named)),
        toml::Value::Table(fields) => {
            fields.values().for_each(|value| placeholders(value, named));
        }
        _ => {}
    }
}

/// `file:line:column: message`.
pub(crate) fn located(file: &str, text: &str, span: Option<Range<usize>>, message: &str) -> String {
    let Some(before) = span.and_then(|span| text.get(..span.start)) else {
        return format!("{file}: {message}");
    };
    let line = before.matches('\n').count() + 1;
    let column = before.chars().rev().take_while(|&c| c != '\n').count() + 1;
    format!("{file}:{line}:{column}: {message}")
}

/// The nearest of what serde says that it expected.
pub(crate) fn suggestion(message: &str) -> Option<String> {
    let (unknown, expected) = message.split_once(", expected")?;
    let unknown = unknown.split('`').nth(1)?;
    nearest(unknown, expected.split('`').skip(1).step_by(2)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINIMAL: &str = r#"
name = "sample"
version = "1"
kind = "http"
description = "For tests."
address = { variable = "SAMPLE_URL" }
groups.thing = [{ name = "id", description = "Which" }]

[[commands]]
name = "get-thing"
phrase = "things get"
summary = "One thing"
risk = "read"
request = "GET /things/{id}"
use = ["thing"]
answer = { object = "thing" }
"#;

    #[test]
    fn mistakes_name_the_line_and_the_nearest_key() {
        let cases = [
            (
                "risk = \"read\"",
                "risc = \"read\"",
                "sample.toml:13:1: unknown field `risc`",
            ),
            ("risk = \"read\"", "risc = \"read\"", "did you mean `risk`?"),
            ("risk = \"read\"", "risk = \"raed\"", "did you mean `read`?"),
            (
                "GET /things/{id}",
                "GTE /things/{id}",
                "sample.toml:14:11: `GTE` is not GET",
            ),
            (
                "GET /things/{id}",
                "GET /things/{identity}",
                "sample.toml:10:8: command `get-thing`: `{identity}` in the path",
            ),
            (
                "GET /things/{id}",
                "GET /things/../{id}",
                "neither text nor `{argument}`s",
            ),
            ("GET /things/{id}", "GET /things?x=1", "is not a path"),
            (
                "use = [\"thing\"]",
                "use = [\"think\"]",
                "no group `think`; did you mean `thing`?",
            ),
            (
                "{ object = \"thing\" }",
                "{ object = \"thing\", merge = true }",
                "exactly one of",
            ),
            (
                "name = \"get-thing\"",
                "name = \"get/thing\"",
                "is not a command name",
            ),
            ("version = \"1\"", "", "missing field `version`"),
            (
                "risk = \"read\"",
                "risk = \"read\"\nexample = { ib = \"1\" }",
                "did you mean `id`?",
            ),
        ];
        assert!(Description::read("sample.toml", MINIMAL).is_ok());
        for (from, to, expected) in cases {
            let error = Description::read("sample.toml", &MINIMAL.replace(from, to)).expect_err(to);
            assert!(error.contains(expected), "{to}: {error}");
        }
    }

    #[test]
    fn an_arguments_schema_refers_to_nothing() {
        let with = |argument: &str| {
            let argument = format!(
                "use = [\"thing\"]\narguments = [{{ name = \"x\", description = \"X\", {argument} }}]"
            );
            Description::read(
                "sample.toml",
                &MINIMAL.replace("use = [\"thing\"]", &argument),
            )
        };
        let wrong = [
            ("schema = { type = \"string\" }", "`schema` has `type`"),
            (
                "schema = { properties = { a = { \"$ref\" = \"#\" } } }",
                "may refer to nothing",
            ),
            (
                "schema = { anyOf = [{ \"$dynamicRef\" = \"x\" }] }",
                "may refer to nothing",
            ),
            (
                "schema = { \"$id\" = \"https://x\" }",
                "may refer to nothing",
            ),
            ("nullable = true", "only what stands in a body"),
            ("written = \"commas\"", "for lists and objects"),
            (
                "type = \"array\", written = \"comas\"",
                "did you mean `commas`?",
            ),
            (
                "type = \"any\", in = \"header\"",
                "which only a query or a body can hold",
            ),
        ];
        for (argument, expected) in wrong {
            let error = with(argument).expect_err(argument);
            assert!(error.contains(expected), "{argument}: {error}");
        }
        let fine = "type = \"array\", written = \"commas\", schema = { minItems = 1, items = { type = \"string\" } }";
        assert!(with(fine).is_ok());
    }

    #[test]
    fn a_path_argument_is_required_and_may_not_be_empty() {
        let description = Description::read("sample.toml", MINIMAL).unwrap();
        let schema = description.commands[0].schema().unwrap();
        assert_eq!(schema["required"], json!(["id"]));
        assert_eq!(schema["properties"]["id"]["minLength"], json!(1));
    }
}
