//! The tools that need an answer before they can give theirs (2026-07-28: `input_required`).

use std::sync::LazyLock;

use rmcp::{
    ErrorData, RoleServer,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities,
        GetPromptRequestParams, GetPromptResponse, GetPromptResult, InputRequiredResult,
        InputResponses, RequestStateCodec,
    },
    service::RequestContext,
};
use serde_json::{Map, Value, json};

use crate::{message, tools};

/// What was asked and not answered yet travels with the client, sealed.
static STATE: LazyLock<RequestStateCodec> =
    LazyLock::new(|| RequestStateCodec::new(*b"a key of tests, and of tests only"));

/// Answers or asks, when it is one of these tools.
pub(crate) fn call(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let name = &*request.name;
    let Some(tool) = name
        .strip_prefix("test_input_required_result_")
        .or_else(|| name.strip_prefix("test_streaming_"))
    else {
        return Ok(None);
    };
    let answers = request.input_responses.as_ref();
    let declared = context.client_capabilities().unwrap_or_default();
    let said = match tool {
        "elicitation" => match accepted(answers, "user_name", "name") {
            Some(name) => format!("Hello, {name}!"),
            None => return ask(name_question(), None, &declared),
        },
        "sampling" => {
            let Some(said) = sampled(answers, "capital_question") else {
                let question =
                    json!({"capital_question": sample("What is the capital of France?", 100)});
                return ask(question, None, &declared);
            };
            said
        }
        "list_roots" => match roots(answers) {
            Some(roots) => format!("Roots: {roots}"),
            None => return ask(json!({"client_roots": list_roots()}), None, &declared),
        },
        "request_state" | "tampered_state" => {
            let state = opened(request, name)?;
            if state.is_none() || answer(answers, "confirm").is_none() {
                let question = json!({"confirm": elicit("Please confirm", "ok", "boolean")});
                let state = sealed(name, &json!({"asked": "confirm"}))?;
                return ask(question, Some(state), &declared);
            }
            "state-ok".to_owned()
        }
        "multiple_inputs" => {
            let state = opened(request, name)?;
            let all = ["user_name", "greeting", "client_roots"]
                .iter()
                .all(|key| answer(answers, key).is_some());
            if state.is_some() && all {
                "All three were answered.".to_owned()
            } else {
                let mut questions = name_question();
                merge(
                    &mut questions,
                    json!({
                        "greeting": sample("Generate a greeting", 50),
                        "client_roots": list_roots(),
                    }),
                );
                return ask(questions, Some(sealed(name, &json!({}))?), &declared);
            }
        }
        "multi_round" => return rounds(request, &declared),
        "capabilities" => {
            if answers.is_some_and(|answers| !answers.is_empty()) {
                "Thank you.".to_owned()
            } else {
                return ask_what_is_offered(&declared);
            }
        }
        _ => return Ok(None),
    };
    done(said)
}

/// A prompt that asks what it is for.
pub(crate) fn prompt(
    request: &GetPromptRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<GetPromptResponse, ErrorData> {
    let answers = request.input_responses.as_ref();
    let Some(wanted) = accepted(answers, "user_context", "context") else {
        let question = json!({"user_context":
            elicit("What context should the prompt use?", "context", "string")});
        let declared = context.client_capabilities().unwrap_or_default();
        return Ok(required(question, None, &declared)?.into());
    };
    let result: GetPromptResult = message(json!({"resultType": "complete", "messages": [
        {"role": "user", "content": {"type": "text", "text": format!("Use this context: {wanted}")}},
    ]}))?;
    Ok(result.into())
}

/// The name that was given, or the question for it.
pub(crate) fn name(
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Result<String, CallToolResponse>, ErrorData> {
    let answers = request.input_responses.as_ref();
    if let Some(name) = accepted(answers, "user_name", "name") {
        return Ok(Ok(name));
    }
    let declared = context.client_capabilities().unwrap_or_default();
    let state = sealed(&request.name, &json!({}))?;
    Ok(Err(
        required(name_question(), Some(state), &declared)?.into()
    ))
}

fn rounds(
    request: &CallToolRequestParams,
    declared: &ClientCapabilities,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let answers = request.input_responses.as_ref();
    let name = &*request.name;
    let state = opened(request, name)?.unwrap_or_default();
    let known = state.get("name").and_then(Value::as_str);
    let first = accepted(answers, "step1", "name").or(known.map(str::to_owned));
    let Some(first) = first else {
        let question = json!({"step1": elicit("Step 1: What is your name?", "name", "string")});
        return ask(question, Some(sealed(name, &json!({}))?), declared);
    };
    let Some(second) = accepted(answers, "step2", "color") else {
        let question =
            json!({"step2": elicit("Step 2: What is your favorite color?", "color", "string")});
        let state = sealed(name, &json!({"name": first}))?;
        return ask(question, Some(state), declared);
    };
    done(format!("{first} likes {second}."))
}

fn ask_what_is_offered(
    declared: &ClientCapabilities,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let mut questions = json!({});
    if declared.elicitation.is_some() {
        merge(&mut questions, name_question());
    }
    if declared.sampling.is_some() {
        merge(
            &mut questions,
            json!({"greeting": sample("Generate a greeting", 50)}),
        );
    }
    if declared.roots.is_some() {
        merge(&mut questions, json!({"client_roots": list_roots()}));
    }
    if questions == json!({}) {
        return done("The client offers nothing to ask.".to_owned());
    }
    ask(questions, None, declared)
}

fn done(said: String) -> Result<Option<CallToolResponse>, ErrorData> {
    Ok(Some(message::<CallToolResult>(tools::text(said))?.into()))
}

fn ask(
    questions: Value,
    state: Option<String>,
    declared: &ClientCapabilities,
) -> Result<Option<CallToolResponse>, ErrorData> {
    Ok(Some(required(questions, state, declared)?.into()))
}

/// The questions, if the client can answer all of them.
fn required(
    questions: Value,
    state: Option<String>,
    declared: &ClientCapabilities,
) -> Result<InputRequiredResult, ErrorData> {
    let mut missing = Map::new();
    for question in questions.as_object().into_iter().flat_map(Map::values) {
        let (capability, offered) = match question.get("method").and_then(Value::as_str) {
            Some("elicitation/create") => ("elicitation", declared.elicitation.is_some()),
            Some("sampling/createMessage") => ("sampling", declared.sampling.is_some()),
            _ => ("roots", declared.roots.is_some()),
        };
        if !offered {
            missing.insert(capability.to_owned(), json!({}));
        }
    }
    if !missing.is_empty() {
        let missing: ClientCapabilities = message(Value::Object(missing))?;
        return Err(ErrorData::missing_required_client_capability(missing));
    }
    Ok(InputRequiredResult::new(Some(message(questions)?), state))
}

fn merge(into: &mut Value, more: Value) {
    if let (Some(into), Value::Object(more)) = (into.as_object_mut(), more) {
        into.extend(more);
    }
}

fn name_question() -> Value {
    json!({"user_name": elicit("What is your name?", "name", "string")})
}

fn elicit(question: &str, property: &str, kind: &str) -> Value {
    json!({"method": "elicitation/create", "params": {
        "mode": "form",
        "message": question,
        "requestedSchema": {
            "type": "object",
            "properties": {property: {"type": kind}},
            "required": [property],
        },
    }})
}

fn sample(question: &str, tokens: u32) -> Value {
    json!({"method": "sampling/createMessage", "params": {
        "messages": [{"role": "user", "content": {"type": "text", "text": question}}],
        "maxTokens": tokens,
    }})
}

fn list_roots() -> Value {
    json!({"method": "roots/list", "params": {}})
}

fn answer<'a>(answers: Option<&'a InputResponses>, key: &str) -> Option<&'a Value> {
    answers?.get(key).filter(|answer| answer.is_object())
}

/// What the user filled in.
fn accepted(answers: Option<&InputResponses>, key: &str, property: &str) -> Option<String> {
    let answer = answer(answers, key)?;
    if answer.get("action")? != "accept" {
        return None;
    }
    Some(answer.get("content")?.get(property)?.as_str()?.to_owned())
}

fn sampled(answers: Option<&InputResponses>, key: &str) -> Option<String> {
    let said = answer(answers, key)?.pointer("/content/text")?;
    Some(said.as_str()?.to_owned())
}

fn roots(answers: Option<&InputResponses>) -> Option<String> {
    let roots = answer(answers, "client_roots")?.get("roots")?.as_array()?;
    let uris: Vec<&str> = roots
        .iter()
        .filter_map(|root| root.get("uri")?.as_str())
        .collect();
    Some(uris.join(", "))
}

fn sealed(tool: &str, state: &Value) -> Result<String, ErrorData> {
    STATE
        .seal_json(&json!({"tool": tool, "state": state}))
        .map_err(|error| ErrorData::internal_error(error.to_string(), None))
}

/// The state that came back, if any did; an error when it is not ours.
fn opened(request: &CallToolRequestParams, tool: &str) -> Result<Option<Value>, ErrorData> {
    let Some(sealed) = &request.request_state else {
        return Ok(None);
    };
    let refused = || ErrorData::invalid_params("the requestState is not one of ours", None);
    let mut state: Value = STATE.open_json(sealed).map_err(|_| refused())?;
    if state.get("tool").and_then(Value::as_str) != Some(tool) {
        return Err(refused());
    }
    Ok(state.get_mut("state").map(Value::take))
}
