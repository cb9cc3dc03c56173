//! The request: every argument in its place.

use authz::AgentId;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Url;
use serde_json::{Map, Value};

use super::HttpCommand;
use crate::description::{
    Argument, BodyFormat, Piece, Place, RequestLine, Written, template::filled,
};

/// Everything but RFC 3986's unreserved characters.
pub(crate) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A request without credential: what is sent, and what people are shown.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Option<String>,
}

/// What a request is made of, besides its line.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) arguments: &'a Map<String, Value>,
    /// Who asks.
    pub(super) agent: AgentId,
    /// Further parameters of the query: which page.
    pub(super) page: &'a [(String, String)],
}

impl Given<'_> {
    fn value(&self, name: &str) -> Option<Value> {
        match name {
            "agent.id" => Some(Value::String(self.agent.to_string())),
            _ => self.arguments.get(name).cloned(),
        }
    }
}

impl HttpCommand {
    /// The request of `line` at `base`, without credential.
    pub(super) fn request(
        &self,
        base: &str,
        line: &RequestLine,
        given: Given<'_>,
    ) -> Result<Prepared, String> {
        let path = path(line, given.arguments)?;
        let query = self.query(given)?;
        let url = Url::parse(&format!("{base}{path}{query}"))
            .map_err(|error| format!("no address: {error}"))?;
        // What is parsed here is what is sent: nothing may have been normalised away.
        if !url.path().ends_with(&path) {
            return Err("an argument changes the path of the request".to_owned());
        }
        let mut headers = self.headers.clone();
        // JSON first, in which a service also tells what went wrong.
        headers
            .entry(header::ACCEPT)
            .or_insert(HeaderValue::from_static(if self.answer.text.is_some() {
                "application/json, text/plain, text/html"
            } else {
                "application/json"
            }));
        for (argument, value) in self.given(Place::Header, given.arguments) {
            let name = HeaderName::try_from(argument.wire())
                .map_err(|_| format!("`{}` is not a header's name", argument.wire()))?;
            let value = text(&argument.name, value)?;
            let value = HeaderValue::try_from(&value)
                .map_err(|_| format!("`{}` has a character that no header may", argument.name))?;
            headers.insert(name, value);
        }
        let mut prepared = Prepared {
            method: line.method.clone(),
            url,
            headers,
            body: None,
        };
        if line.method != Method::GET
            && let Some(body) = self.body(given)
        {
            let (kind, body) = match self.body_format {
                BodyFormat::Json => ("application/json", body.to_string()),
                BodyFormat::MergePatch => ("application/merge-patch+json", body.to_string()),
                BodyFormat::Form => ("application/x-www-form-urlencoded", self.form(&body)?),
            };
            prepared
                .headers
                .insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            prepared.body = Some(body);
        }
        Ok(prepared)
    }

    /// The body, if the command has one.
    fn body(&self, given: Given<'_>) -> Option<Value> {
        if let Some(template) = &self.template {
            let nothing = match template {
                // All of it is one argument's value.
                Value::String(_) => None,
                _ => Some(Value::Object(Map::new())),
            };
            return filled(template, &|name| given.value(name)).or(nothing);
        }
        if !self
            .arguments
            .iter()
            .any(|argument| argument.place == Some(Place::Body))
        {
            return None;
        }
        let body: Map<String, Value> = self
            .given(Place::Body, given.arguments)
            .map(|(argument, value)| (argument.wire().to_owned(), value.clone()))
            .collect();
        Some(Value::Object(body))
    }

    /// The body as HTML forms are sent.
    fn form(&self, body: &Value) -> Result<String, String> {
        let mut pairs = Vec::new();
        for (name, value) in body.as_object().into_iter().flatten() {
            let argument = self
                .arguments
                .iter()
                .find(|argument| argument.place == Some(Place::Body) && argument.wire() == name);
            match argument {
                Some(argument) => written(argument, value, &mut pairs)?,
                None => flatten(name, value, &mut pairs),
            }
        }
        let pairs = pairs.iter().map(|(name, value)| {
            format!(
                "{}={}",
                utf8_percent_encode(name, ENCODED),
                utf8_percent_encode(value, ENCODED)
            )
        });
        Ok(pairs.collect::<Vec<_>>().join("&"))
    }

    fn query(&self, given: Given<'_>) -> Result<String, String> {
        let mut pairs = Vec::new();
        for (name, template) in &self.query {
            let value = filled(&Value::String(template.clone()), &|name| given.value(name));
            if let Some(value) = value {
                pairs.push((name.clone(), text(name, &value)?));
            }
        }
        for (argument, value) in self.given(Place::Query, given.arguments) {
            written(argument, value, &mut pairs)?;
        }
        pairs.extend_from_slice(given.page);
        let mut query = String::new();
        for (name, value) in pairs {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.extend(utf8_percent_encode(&name, ENCODED));
            query.push('=');
            query.extend(utf8_percent_encode(&value, ENCODED));
        }
        Ok(query)
    }

    fn given<'a>(
        &'a self,
        place: Place,
        arguments: &'a Map<String, Value>,
    ) -> impl Iterator<Item = (&'a Argument, &'a Value)> {
        self.arguments
            .iter()
            .filter(move |argument| argument.place == Some(place))
            .filter_map(|argument| Some((argument, arguments.get(&argument.name)?)))
    }
}

pub(super) fn path(line: &RequestLine, arguments: &Map<String, Value>) -> Result<String, String> {
    let mut path = String::new();
    let mut segment = Segment::default();
    for piece in &line.path {
        let (name, several) = match piece {
            Piece::Text(text) => {
                segment.text(text)?;
                path.push_str(text);
                continue;
            }
            Piece::Argument(name) => (name, false),
            Piece::Segments(name) => (name, true),
        };
        let value = arguments
            .get(name)
            .ok_or_else(|| format!("`{name}` is missing"))?;
        let value = text(name, value)?;
        segment.argument(&value);
        // A path of a repository's may begin with a slash, which is part of ours already.
        let segments: Vec<&str> = if several {
            value
                .strip_prefix('/')
                .unwrap_or(&value)
                .split('/')
                .collect()
        } else {
            vec![&value]
        };
        for (index, segment) in segments.into_iter().enumerate() {
            // Encoded dots are dots to every URL parser, so these two cannot be sent.
            if matches!(segment, "" | "." | "..") {
                return Err(if several {
                    format!("no part of `{name}` may be empty, `.` or `..`")
                } else {
                    format!("`{name}` may not be empty, `.` or `..`")
                });
            }
            if index > 0 {
                path.push('/');
            }
            path.extend(utf8_percent_encode(segment, ENCODED));
        }
    }
    segment.end()?;
    Ok(path)
}

/// A segment of a path, in which text may stand between arguments: whoever reads it must see
/// the same arguments.
#[derive(Default)]
struct Segment<'a> {
    /// As it is written, without encoding.
    written: String,
    /// The same with nothing for the arguments that could be text.
    shape: String,
    /// What stood before the next argument, if one was before it.
    between: Option<&'a str>,
    separators: Vec<&'a str>,
    arguments: bool,
}

impl<'a> Segment<'a> {
    fn text(&mut self, text: &'a str) -> Result<(), String> {
        let own = match text.strip_prefix('/') {
            Some(own) => {
                std::mem::take(self).end()?;
                own
            }
            None => text,
        };
        self.between = self.arguments.then_some(own);
        self.written.push_str(own);
        self.shape.push_str(own);
        Ok(())
    }

    fn argument(&mut self, value: &str) {
        self.separators.extend(self.between.take());
        self.arguments = true;
        self.written.push_str(value);
        self.shape.push('\0');
    }

    /// Whether each text between two arguments stands there and nowhere else.
    fn end(self) -> Result<(), String> {
        let count = |text: &str, part: &str| {
            let bytes = text.as_bytes();
            let starts = (0..bytes.len()).filter_map(|at| bytes.get(at..));
            starts
                .filter(|rest| rest.starts_with(part.as_bytes()))
                .count()
        };
        for separator in self.separators {
            if count(&self.written, separator) != count(&self.shape, separator) {
                return Err(format!(
                    "what is given for the path may not contain `{separator}`, which stands between two arguments there"
                ));
            }
        }
        Ok(())
    }
}

/// A value as HTML forms have it: `a[b][0]=c`; a list under a name with `[]` repeats it.
fn flatten(name: &str, value: &Value, pairs: &mut Vec<(String, String)>) {
    match value {
        Value::Null => pairs.push((name.to_owned(), String::new())),
        Value::Bool(value) => pairs.push((name.to_owned(), value.to_string())),
        Value::Number(value) => pairs.push((name.to_owned(), value.to_string())),
        Value::String(value) => pairs.push((name.to_owned(), value.clone())),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if name.ends_with("[]") {
                    flatten(name, item, pairs);
                } else {
                    flatten(&format!("{name}[{index}]"), item, pairs);
                }
            }
        }
        Value::Object(fields) => {
            for (field, value) in fields {
                flatten(&format!("{name}[{field}]"), value, pairs);
            }
        }
    }
}

/// A value as its argument says that it is written.
fn written(
    argument: &Argument,
    value: &Value,
    pairs: &mut Vec<(String, String)>,
) -> Result<(), String> {
    let name = argument.wire();
    let between = match (argument.written, value) {
        (Some(Written::Json), value) => {
            pairs.push((name.to_owned(), value.to_string()));
            return Ok(());
        }
        (Some(Written::Repeated), Value::Array(items)) => {
            for item in items {
                flatten(name, item, pairs);
            }
            return Ok(());
        }
        (Some(Written::Commas), Value::Array(_)) => ',',
        (Some(Written::Spaces), Value::Array(_)) => ' ',
        (Some(Written::Pipes), Value::Array(_)) => '|',
        _ => {
            flatten(name, value, pairs);
            return Ok(());
        }
    };
    let mut joined = String::new();
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        let item = text(&argument.name, item)?;
        if item.contains(between) {
            return Err(format!(
                "no item of `{}` may contain `{between}`, which stands between them",
                argument.name
            ));
        }
        if index > 0 {
            joined.push(between);
        }
        joined.push_str(&item);
    }
    pairs.push((name.to_owned(), joined));
    Ok(())
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("`{name}` is not text")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(text: &str) -> Result<RequestLine, String> {
        RequestLine::try_from(text.to_owned())
    }

    /// Who reads the path sees the arguments that were decided, or it is not sent.
    #[test]
    fn arguments_of_one_segment_are_told_apart() {
        let cases = [
            ("/{a}...{b}", "x", "y", Ok("/x...y")),
            (
                "/{a}...{b}",
                "x/../y",
                "\u{e4}?",
                Ok("/x%2F..%2Fy...%C3%A4%3F"),
            ),
            ("/{a}...{b}", "x..", "y", Err("`...`")),
            ("/{a}...{b}", "x...y", "z", Err("`...`")),
            ("/{a}...{b}", "x", ".y", Err("`...`")),
            ("/v.{a}.{b}.json", "x", "y", Ok("/v.x.y.json")),
            ("/v.{a}.{b}.json", "x.y", "z", Err("`.`")),
            (
                "/{a}.json/{b}",
                "x.json",
                "y.json",
                Ok("/x.json.json/y.json"),
            ),
            ("/({a},{b})", "1", "2", Ok("/(1,2)")),
            ("/({a},{b})", "1,2", "3", Err("`,`")),
            ("/@{a}:{b}", "..", "x", Err("may not be empty, `.` or `..`")),
            ("/@{a}:{b}", "", "x", Err("may not be empty, `.` or `..`")),
        ];
        for (template, a, b, expected) in cases {
            let arguments = json!({"a": a, "b": b});
            let line = line(&format!("GET {template}")).unwrap();
            let made = path(&line, arguments.as_object().unwrap());
            match (made, expected) {
                (Ok(made), Ok(expected)) => assert_eq!(made, expected, "{template}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{template}: {error}"),
                (made, expected) => panic!("{template} {a} {b}: {made:?}, not {expected:?}"),
            }
        }
        for wrong in [
            "/{a}{b}", "/{a", "/a}", "/{}", "/x{+a}", "/{a}/..", "/{{a}}",
        ] {
            assert!(line(&format!("GET {wrong}")).is_err(), "{wrong}");
        }
    }
}
