//! Answers: what a tool's result is to who did not ask by the protocol.

use authz::{CommandName, ServiceName};
use serde_json::{Map, Value, json};

use crate::{Answer, HandlerError};

/// A tool that explains its error at length is cut short, in characters.
const LONGEST_MESSAGE: usize = 4096;

/// `{"operation": …, "content": […], "structuredContent": …}` of a result; what the tool
/// itself calls an error is one.
pub(super) fn of(
    service: &ServiceName,
    tool: &CommandName,
    mut result: Map<String, Value>,
) -> Result<Answer, HandlerError> {
    let rejected = |message: String| HandlerError::Rejected {
        service: service.to_string(),
        status: 422,
        message,
    };
    match result.get("resultType").and_then(Value::as_str) {
        None | Some("complete") => {}
        Some("input_required") => {
            return Err(rejected(format!(
                "`{tool}` asks for more, which only an MCP client can be asked for: use `/mcp/{service}`"
            )));
        }
        Some(_) => {
            return Err(HandlerError::Failed {
                service: service.to_string(),
                message: format!("`{tool}` did not answer with a result"),
            });
        }
    }
    let content = result.remove("content").unwrap_or_else(|| json!([]));
    if result.get("isError") == Some(&Value::Bool(true)) {
        return Err(rejected(text(&content)));
    }
    let mut data = json!({"operation": tool, "content": content});
    if let (Some(structured), Some(data)) =
        (result.remove("structuredContent"), data.as_object_mut())
    {
        data.insert("structuredContent".to_owned(), structured);
    }
    Ok(Answer {
        data,
        untrusted: false,
    })
}

/// What the blocks of text say.
fn text(content: &Value) -> String {
    let blocks = content.as_array().into_iter().flatten();
    let said: Vec<&str> = blocks
        .filter_map(|block| block.get("text").and_then(Value::as_str))
        .collect();
    let said = said.join("\n");
    if said.is_empty() {
        return "it says that it failed, and not why".to_owned();
    }
    match said.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(result: Value) -> Result<Value, HandlerError> {
        let Value::Object(result) = result else {
            panic!("an object")
        };
        of(&"files".parse().unwrap(), &"read".parse().unwrap(), result).map(|answer| answer.data)
    }

    #[test]
    fn a_result_becomes_an_answer_and_an_error_an_error() {
        let text = json!([{"type": "text", "text": "hi"}, {"type": "image", "data": "AA=="}]);
        assert_eq!(
            answer(json!({"content": text, "structuredContent": {"n": 1}, "_meta": {"x": 1}})),
            Ok(json!({"operation": "read", "content": text, "structuredContent": {"n": 1}}))
        );
        assert_eq!(
            answer(json!({"resultType": "complete"})),
            Ok(json!({"operation": "read", "content": []}))
        );
        let cases = [
            (json!({"isError": true, "content": text}), "(422): hi"),
            (json!({"isError": true}), "not why"),
            (
                json!({"resultType": "input_required", "requestState": "x"}),
                "`/mcp/files`",
            ),
            (
                json!({"resultType": "task", "task": {}}),
                "did not answer with a result",
            ),
        ];
        for (result, expected) in cases {
            let error = answer(result).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let long = "ä".repeat(LONGEST_MESSAGE + 1);
        let error = answer(json!({"isError": true, "content": [{"text": long}]})).unwrap_err();
        assert!(error.to_string().ends_with("ä…"));
    }
}
