//! The request: every argument in its place.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use super::HttpCommand;
use crate::description::{Argument, Piece, Place, RequestLine};

/// Everything but RFC 3986's unreserved characters.
pub(super) const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

impl HttpCommand {
    /// The request of `line`, without credential.
    pub(super) fn request(
        &self,
        client: &reqwest::Client,
        base: &str,
        line: &RequestLine,
        arguments: &Map<String, Value>,
    ) -> Result<reqwest::RequestBuilder, String> {
        let path = path(line, arguments)?;
        let query = self.query(arguments)?;
        let url = reqwest::Url::parse(&format!("{base}{path}{query}"))
            .map_err(|error| format!("no address: {error}"))?;
        // What is parsed here is what is sent: nothing may have been normalised away.
        if !url.path().ends_with(&path) {
            return Err("an argument changes the path of the request".to_owned());
        }
        // JSON first, in which a service also tells what went wrong.
        let accept = if self.answer.text.is_some() {
            "application/json, text/plain, text/html"
        } else {
            "application/json"
        };
        let request = client
            .request(line.method.clone(), url)
            .header(http::header::ACCEPT, accept);
        if !self
            .arguments
            .iter()
            .any(|argument| argument.place == Some(Place::Body))
            || line.method == http::Method::GET
        {
            return Ok(request);
        }
        let body: Map<String, Value> = self
            .given(Place::Body, arguments)
            .map(|(argument, value)| (argument.name.clone(), value.clone()))
            .collect();
        Ok(request.json(&body))
    }

    fn query(&self, arguments: &Map<String, Value>) -> Result<String, String> {
        let mut query = String::new();
        for (argument, value) in self.given(Place::Query, arguments) {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.extend(utf8_percent_encode(&argument.name, ENCODED));
            query.push('=');
            query.extend(utf8_percent_encode(&text(&argument.name, value)?, ENCODED));
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

fn path(line: &RequestLine, arguments: &Map<String, Value>) -> Result<String, String> {
    let mut path = String::new();
    for piece in &line.path {
        match piece {
            Piece::Text(text) => path.push_str(text),
            Piece::Argument(name) => {
                let value = arguments
                    .get(name)
                    .ok_or_else(|| format!("`{name}` is missing"))?;
                let value = text(name, value)?;
                // Encoded dots are dots to every URL parser, so these two cannot be sent.
                if matches!(value.as_str(), "" | "." | "..") {
                    return Err(format!("`{name}` may not be empty, `.` or `..`"));
                }
                path.extend(utf8_percent_encode(&value, ENCODED));
            }
        }
    }
    Ok(path)
}

fn text(name: &str, value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Number(value) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => Err(format!("`{name}` is not text")),
    }
}
