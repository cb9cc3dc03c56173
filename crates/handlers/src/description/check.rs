//! Checks: what a description's form alone does not promise.

use std::{collections::BTreeSet, ops::Range};

use super::{
    ArgumentType, Command, Description, Kind, Place, RunPart,
    template::{TemplatePart, template_parts},
};
use crate::nearest::nearest;

/// What stands at `/mcp/…` and is no MCP server.
const PATHS: [&str; 3] = ["catalog", "execute", "rpc"];

/// Longer patterns are programs, not formats; in bytes.
const LONGEST_PATTERN: usize = 512;

impl Description {
    /// Puts the groups' arguments and the default places in, and checks each command.
    pub(super) fn complete(&mut self) -> Result<(), (Option<Range<usize>>, String)> {
        let others: BTreeSet<String> = self
            .address
            .iter()
            .flat_map(|address| address.others.keys().cloned())
            .collect();
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
        self.check_kind()
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
                if self.mcp.is_some() || self.local.is_some() {
                    return Err(at_name("`[mcp]` and `[local]` are of kinds of these names"));
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
                let of_http = [
                    ("address", self.address.is_some()),
                    ("credential", self.credential.is_some()),
                    ("credentials", !self.credentials.is_empty()),
                    ("headers", !self.headers.is_empty()),
                    ("timeout_ms", self.timeout_ms.is_some()),
                    ("errors", !self.errors.is_empty()),
                ];
                if let Some((key, _)) = of_http.iter().find(|(_, given)| *given) {
                    return Err(at_name(&format!("`{key}` is of kind `http`")));
                }
                if self.local.is_none() || self.mcp.is_some() {
                    return Err(at_name(
                        "kind `local` needs a table `[local]`, and no `[mcp]`",
                    ));
                }
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
                    return Err(at_name("kind `mcp` needs a table `[mcp]`"));
                };
                let taken = self.name.get_ref().as_str();
                if PATHS.contains(&taken) {
                    return Err(at_name(&format!(
                        "an MCP server cannot be called `{taken}`: agents would reach it at `/mcp/{taken}`, which is the gateway's own; choose another name"
                    )));
                }
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
                if let Some((key, _)) = of_http.iter().find(|(_, given)| *given) {
                    return Err(at_name(&format!("`{key}` is of kind `http`; see `[mcp]`")));
                }
                mcp.check().map_err(|message| at_name(&message))?;
            }
        }
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
            let place = *argument.place.get_or_insert(default);
            argument.required |= place == Place::Path;
        }
    }

    fn check(&self) -> Result<(), String> {
        self.check_arguments()?;
        self.check_references()?;
        self.check_body()?;
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
            let scalar = !matches!(argument.kind, ArgumentType::Array | ArgumentType::Object);
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
        for name in &named {
            let known = self.arguments.iter().any(|argument| argument.name == *name);
            if !known && !name.starts_with("agent.") {
                return Err(format!("`{{{name}}}` in the body is no argument"));
            }
        }
        for argument in &self.arguments {
            if argument.place == Some(Place::Body) && !named.contains(&argument.name) {
                return Err(format!("the body has no `{{{}}}`", argument.name));
            }
        }
        Ok(())
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
                "neither text nor one",
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
    fn a_path_argument_is_required_and_may_not_be_empty() {
        let description = Description::read("sample.toml", MINIMAL).unwrap();
        let schema = description.commands[0].schema().unwrap();
        assert_eq!(schema["required"], json!(["id"]));
        assert_eq!(schema["properties"]["id"]["minLength"], json!(1));
    }
}
