//! The tools that answer by themselves, and those that ask the client while they work.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ProgressToken,
    },
    service::{RequestContext, ServiceError},
};
use serde_json::{Value, json};

use crate::{
    RED_DOT, SILENCE, asked, jobs, message,
    server::{Change, Server},
};

/// After so long clients are to come back to a stream that the server ended.
const RETRY: Duration = Duration::from_millis(50);

pub(crate) async fn call(
    server: &Server,
    request: CallToolRequestParams,
    context: RequestContext<RoleServer>,
) -> Result<CallToolResponse, ErrorData> {
    if let Some(response) = jobs::call(server, &request, &context)? {
        return Ok(response);
    }
    if let Some(response) = asked::call(&request, &context)? {
        return Ok(response);
    }
    let result = match &*request.name {
        "test_simple_text" | "json_schema_2020_12_tool" | "test_custom_headers" => {
            text("This is a simple text response for testing.")
        }
        "test_image_content" => content(json!([image()])),
        "test_audio_content" => content(json!([
            {"type": "audio", "data": SILENCE, "mimeType": "audio/wav"}
        ])),
        "test_embedded_resource" => content(json!([{"type": "resource", "resource": {
            "uri": "test://embedded-resource", "mimeType": "text/plain",
            "text": "This is an embedded resource content.",
        }}])),
        "test_multiple_content_types" => content(json!([
            {"type": "text", "text": "Multiple content types test:"},
            image(),
            {"type": "resource", "resource": {
                "uri": "test://mixed-content-resource", "mimeType": "application/json",
                "text": json!({"test": "data", "value": 123}).to_string(),
            }},
        ])),
        "test_error_handling" => failed("This tool intentionally returns an error for testing"),
        "test_tool_with_logging" | "test_logging_tool" => logging(server, &context).await?,
        "test_tool_with_progress" => progress(server, &context).await?,
        "test_reconnection" => reconnection(server, &context).await,
        "test_sampling" => sampling(&request, &context).await?,
        "test_elicitation" => {
            let question = argument(&request, "message")?;
            elicitation(&context, "User response: ", question, &user()).await?
        }
        "test_elicitation_sep1034_defaults" => {
            let question = "Please check these values".to_owned();
            elicitation(&context, "Elicitation completed: ", question, &defaults()).await?
        }
        "test_elicitation_sep1330_enums" => {
            let question = "Please choose".to_owned();
            elicitation(&context, "Elicitation completed: ", question, &choices()).await?
        }
        "test_missing_capability" => {
            let declared = context.client_capabilities().unwrap_or_default();
            if declared.sampling.is_none() {
                let needed: ClientCapabilities = message(json!({"sampling": {}}))?;
                return Err(ErrorData::missing_required_client_capability(needed));
            }
            text("The client offers sampling.")
        }
        "test_trigger_tool_change" => changed(server, &context, Change::Tools).await,
        "test_trigger_prompt_change" => changed(server, &context, Change::Prompts).await,
        "test_trigger_resource_change" => {
            let uri = argument(&request, "uri")?;
            changed(server, &context, Change::Resource(uri)).await
        }
        other => {
            return Err(ErrorData::invalid_params(
                format!("Unknown tool: {other}"),
                None,
            ));
        }
    };
    Ok(message::<CallToolResult>(result)?.into())
}

pub(crate) fn text(text: impl Into<String>) -> Value {
    content(json!([{"type": "text", "text": text.into()}]))
}

pub(crate) fn failed(text: impl Into<String>) -> Value {
    json!({"resultType": "complete", "isError": true,
        "content": [{"type": "text", "text": text.into()}]})
}

fn content(blocks: Value) -> Value {
    let mut result = json!({"resultType": "complete"});
    if let Some(result) = result.as_object_mut() {
        result.insert("content".to_owned(), blocks);
    }
    result
}

fn image() -> Value {
    json!({"type": "image", "data": RED_DOT, "mimeType": "image/png"})
}

fn argument(request: &CallToolRequestParams, name: &str) -> Result<String, ErrorData> {
    let arguments = request.arguments.as_ref();
    let value = arguments.and_then(|arguments| arguments.get(name)?.as_str());
    value
        .map(str::to_owned)
        .ok_or_else(|| ErrorData::invalid_params(format!("the argument `{name}` is missing"), None))
}

fn lost(error: &ServiceError) -> ErrorData {
    ErrorData::internal_error(format!("the client cannot be reached: {error}"), None)
}

async fn logging(
    server: &Server,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    if server.logs(context) {
        for said in [
            "Tool execution started",
            "Tool processing data",
            "Tool execution completed",
        ] {
            let entry = message(json!({"level": "info", "logger": "fixture", "data": said}))?;
            let sent = context.peer.notify_logging_message(entry).await;
            sent.map_err(|error| lost(&error))?;
        }
    }
    Ok(text("Logged."))
}

async fn progress(
    server: &Server,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    let token: Option<ProgressToken> = context.meta.get_progress_token();
    for done in [0, 50, 100] {
        if let Some(token) = &token {
            let told = message(
                json!({"progressToken": token, "progress": done, "total": 100,
                "message": format!("Completed {done} of 100")}),
            )?;
            let sent = context.peer.notify_progress(told).await;
            sent.map_err(|error| lost(&error))?;
        }
        server.pace.step().await;
    }
    Ok(text("Done."))
}

/// Closes every stream of the caller's session: the answer waits for whoever comes back.
async fn reconnection(server: &Server, context: &RequestContext<RoleServer>) -> Value {
    let session = context
        .extensions
        .get::<http::request::Parts>()
        .and_then(|parts| parts.headers.get("mcp-session-id")?.to_str().ok());
    let (Some(sessions), Some(session)) = (&server.sessions, session) else {
        return text("There is no stream to close.");
    };
    let mut returned = server.returned.subscribe();
    let handle = sessions.sessions.read().await.get(session).cloned();
    if let Some(handle) = handle {
        // The streams of a session are numbered from zero; which of them is this call's
        // is not said.
        for stream in 0..32 {
            let _ = handle.close_sse_stream(stream, Some(RETRY)).await;
        }
    }
    let back = async { while returned.recv().await.is_ok_and(|other| other != session) {} };
    tokio::select! {
        () = back => {}
        () = context.ct.cancelled() => {}
    }
    text("Reconnected.")
}

async fn sampling(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Value, ErrorData> {
    let prompt = argument(request, "prompt")?;
    let declared = context.client_capabilities().unwrap_or_default();
    if declared.sampling.is_none() {
        return Ok(failed("The client offers no sampling."));
    }
    let question = message(json!({
        "messages": [{"role": "user", "content": {"type": "text", "text": prompt}}],
        "maxTokens": 100,
    }))?;
    match context.peer.create_message(question).await {
        Ok(answer) => {
            let answer = serde_json::to_value(answer).unwrap_or_default();
            let said = answer.pointer("/content/text").and_then(Value::as_str);
            Ok(text(format!("LLM response: {}", said.unwrap_or_default())))
        }
        Err(error) => Ok(failed(format!("No answer: {error}"))),
    }
}

async fn elicitation(
    context: &RequestContext<RoleServer>,
    before: &str,
    question: String,
    schema: &Value,
) -> Result<Value, ErrorData> {
    let declared = context.client_capabilities().unwrap_or_default();
    if declared.elicitation.is_none() {
        return Ok(failed("The client offers no elicitation."));
    }
    let asked = message(json!({"mode": "form", "message": question, "requestedSchema": schema}))?;
    match context.peer.create_elicitation(asked).await {
        Ok(answer) => {
            let answer = serde_json::to_value(answer).unwrap_or_default();
            let action = answer.get("action").and_then(Value::as_str);
            let filled = answer.get("content").cloned().unwrap_or(json!({}));
            Ok(text(format!(
                "{before}action={}, content={filled}",
                action.unwrap_or_default()
            )))
        }
        Err(error) => Ok(failed(format!("No answer: {error}"))),
    }
}

fn user() -> Value {
    json!({
        "type": "object",
        "properties": {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        },
        "required": ["username", "email"],
    })
}

fn defaults() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "A name", "default": "John Doe"},
            "age": {"type": "integer", "description": "An age", "default": 30},
            "score": {"type": "number", "description": "A score", "default": 95.5},
            "status": {"type": "string", "description": "A status",
                "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "description": "Whether verified", "default": true},
        },
        "required": [],
    })
}

fn choices() -> Value {
    let titled = |titles: [&str; 3]| {
        let values = titles.iter().enumerate();
        let choices: Vec<Value> = values
            .map(|(index, title)| json!({"const": format!("value{}", index + 1), "title": title}))
            .collect();
        choices
    };
    json!({
        "type": "object",
        "properties": {
            "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
            "titledSingle": {"type": "string",
                "oneOf": titled(["First Option", "Second Option", "Third Option"])},
            "legacyEnum": {"type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"]},
            "untitledMulti": {"type": "array",
                "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
            "titledMulti": {"type": "array",
                "items": {"anyOf": titled(["First Choice", "Second Choice", "Third Choice"])}},
        },
        "required": [],
    })
}

async fn changed(server: &Server, context: &RequestContext<RoleServer>, change: Change) -> Value {
    if context.meta.protocol_version().is_none() {
        let peer = &context.peer;
        let sent = match &change {
            Change::Tools => peer.notify_tool_list_changed().await,
            Change::Prompts => peer.notify_prompt_list_changed().await,
            Change::Resource(uri) => {
                let watched = server.watched.lock().is_ok_and(|uris| uris.contains(uri));
                match message(json!({"uri": uri})) {
                    Ok(changed) if watched => peer.notify_resource_updated(changed).await,
                    _ => Ok(()),
                }
            }
        };
        if let Err(error) = sent {
            return failed(format!("The client cannot be told: {error}"));
        }
    }
    // Nobody may be listening.
    let _ = server.changes.send(change);
    text("Told.")
}
