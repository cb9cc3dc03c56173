//! What the newest revision wants as headers, from the message.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use handlers::jsonrpc::Message;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

/// Which arguments of which tool must be repeated as headers: seen in lists of tools.
#[derive(Debug, Default)]
pub(super) struct Mirrored(HashMap<String, Vec<Argument>>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Argument {
    /// The names from the arguments down to it.
    path: Vec<String>,
    header: HeaderName,
}

impl Mirrored {
    /// Remembers what a result of `tools/list` says.
    pub(super) fn learn(&mut self, result: &Value) {
        for tool in result["tools"].as_array().into_iter().flatten() {
            let Some(name) = tool["name"].as_str() else {
                continue;
            };
            let mut arguments = Vec::new();
            collect(&tool["inputSchema"], &mut Vec::new(), &mut arguments);
            if arguments.is_empty() {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), arguments);
            }
        }
    }
}

fn collect(schema: &Value, path: &mut Vec<String>, found: &mut Vec<Argument>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        path.push(name.clone());
        let header = property["x-mcp-header"]
            .as_str()
            .and_then(|header| format!("mcp-param-{header}").parse().ok());
        if let Some(header) = header {
            found.push(Argument {
                path: path.clone(),
                header,
            });
        }
        collect(property, path, found);
        path.pop();
    }
}

/// The headers of a message that names its version itself; none for others.
pub(super) fn headers(message: &Message<'_>, mirrored: &Mirrored) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let (Ok(Some(version)), Some(method)) = (message.version(), message.method()) else {
        return headers;
    };
    let mut add = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(&encoded(text)) {
            headers.insert(name, value);
        }
    };
    add(HeaderName::from_static("mcp-protocol-version"), &version);
    add(HeaderName::from_static("mcp-method"), method);
    let named_by = match method {
        "tools/call" | "prompts/get" => Some("name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => Some("uri"),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some("taskId"),
        _ => None,
    };
    let name = named_by.and_then(|member| message.params.text(member).ok().flatten());
    if let Some(name) = &name {
        add(HeaderName::from_static("mcp-name"), name);
    }
    let tool = name.as_ref().filter(|_| method == "tools/call");
    if let Some(repeated) = tool.and_then(|tool| mirrored.0.get(tool.as_ref())) {
        let arguments = message.params.raw("arguments").unwrap_or("null");
        let arguments: Value = serde_json::from_str(arguments).unwrap_or_default();
        for Argument { path, header } in repeated {
            let value = path
                .iter()
                .try_fold(&arguments, |value, name| value.get(name));
            match value {
                Some(Value::String(text)) => add(header.clone(), text),
                Some(value @ (Value::Number(_) | Value::Bool(_))) => {
                    add(header.clone(), &value.to_string());
                }
                _ => {}
            }
        }
    }
    headers
}

/// The text as a header can carry it.
fn encoded(text: &str) -> String {
    let plain = text.bytes().all(|byte| matches!(byte, 0x20..=0x7e))
        && text.trim_matches([' ', '\t']).len() == text.len()
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if plain {
        text.to_owned()
    } else {
        format!("=?base64?{}?=", BASE64_STANDARD.encode(text))
    }
}

#[cfg(test)]
mod tests {
    use handlers::jsonrpc;
    use serde_json::json;

    use super::*;

    fn of(message: &Value, mirrored: &Mirrored) -> Vec<(String, String)> {
        let text = message.to_string();
        let scanned = jsonrpc::scan(text.as_bytes()).unwrap();
        headers(&scanned, mirrored)
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect()
    }

    fn modern(method: &str, params: Value) -> Value {
        let mut params = params;
        params["_meta"] = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28"});
        json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    }

    #[test]
    fn headers_repeat_what_the_newest_revision_wants() {
        let mut mirrored = Mirrored::default();
        mirrored.learn(
            &json!({"tools": [{"name": "query", "inputSchema": {"properties": {
                "region": {"type": "string", "x-mcp-header": "Region"},
                "deep": {"properties": {"count": {"type": "integer", "x-mcp-header": "Count"}}},
                "off": {"type": "string"},
            }}}]}),
        );
        let call = modern(
            "tools/call",
            json!({"name": "query", "arguments": {"region": "é", "deep": {"count": 3}, "off": "x"}}),
        );
        let mut told = of(&call, &mirrored);
        told.sort();
        let expected = [
            ("mcp-method", "tools/call"),
            ("mcp-name", "query"),
            ("mcp-param-count", "3"),
            ("mcp-param-region", "=?base64?w6k=?="),
            ("mcp-protocol-version", "2026-07-28"),
        ];
        assert_eq!(
            told,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );

        for (method, params, name) in [
            ("resources/read", json!({"uri": "a://b"}), Some("a://b")),
            ("tasks/get", json!({"taskId": "t1"}), Some("t1")),
            ("tools/list", json!({}), None),
        ] {
            let told = of(&modern(method, params), &mirrored);
            let found = told.iter().find(|(header, _)| header == "mcp-name");
            assert_eq!(found.map(|(_, value)| value.as_str()), name, "{method}");
        }
    }

    #[test]
    fn older_revisions_have_none_of_them() {
        let call =
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x"}});
        assert_eq!(of(&call, &Mirrored::default()), []);
    }

    #[test]
    fn a_tool_that_changed_is_learnt_anew() {
        let with = |schema: Value| json!({"tools": [{"name": "query", "inputSchema": schema}]});
        let mut mirrored = Mirrored::default();
        mirrored.learn(&with(json!({"properties": {"a": {"x-mcp-header": "A"}}})));
        mirrored.learn(&with(json!({"properties": {"a": {}}})));
        let call = modern(
            "tools/call",
            json!({"name": "query", "arguments": {"a": "1"}}),
        );
        assert!(
            of(&call, &mirrored)
                .iter()
                .all(|(name, _)| name != "mcp-param-a")
        );
    }

    #[test]
    fn texts_that_headers_cannot_carry_are_encoded() {
        for (text, expected) in [
            ("plain text", "plain text"),
            ("", ""),
            (" led", "=?base64?IGxlZA==?="),
            ("two\nlines", "=?base64?dHdvCmxpbmVz?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ] {
            assert_eq!(encoded(text), expected, "{text}");
        }
    }
}
