//! What clients of the protocol are told when something is not carried out.

use handlers::{HandlerError, jsonrpc::ScanError};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::method::Era;
use crate::{
    answer::{self, Body},
    refusal::{Answered, Asked, Denied, Refusal, seconds},
};
use contract::approvals::ApprovalStatus;

pub(crate) const PARSE: i64 = -32700;
pub(crate) const INVALID_REQUEST: i64 = -32600;
pub(crate) const UNKNOWN_METHOD: i64 = -32601;
pub(crate) const INVALID_PARAMS: i64 = -32602;
pub(crate) const HEADER_MISMATCH: i64 = -32020;
pub(crate) const MISSING_CAPABILITY: i64 = -32021;
pub(crate) const UNSUPPORTED_VERSION: i64 = -32022;

/// Codes of ours lie outside of what the protocol and JSON-RPC keep for themselves.
pub(crate) const IDENTITY: i64 = 40_101;
pub(crate) const DENIED: i64 = 40_301;
pub(crate) const FORBIDDEN: i64 = 40_302;
pub(crate) const NO_SESSION: i64 = 40_401;
pub(crate) const NO_SERVICE: i64 = 40_402;
pub(crate) const TOO_MANY: i64 = 42_901;
pub(crate) const UPSTREAM: i64 = 50_201;
pub(crate) const NOT_READY: i64 = 50_301;

/// The extension of the protocol for what takes long.
pub(crate) const TASKS: &str = "io.modelcontextprotocol/tasks";

/// What a decision looks like to programs, in `_meta` of a result.
const META_DECISION: &str = "dev.cedargate/decision";

/// The approval request that it led to.
const META_APPROVAL: &str = "dev.cedargate/approval";

/// Why a message was not carried out, before policy was asked.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) status: StatusCode,
    pub(crate) code: i64,
    pub(crate) message: String,
    pub(crate) data: Value,
}

impl Fault {
    pub(crate) fn new(status: StatusCode, code: i64, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            data: Value::Null,
        }
    }

    /// One about the HTTP request as such.
    pub(crate) fn http(status: StatusCode, message: impl Into<String>) -> Self {
        let code = if status == StatusCode::FORBIDDEN {
            FORBIDDEN
        } else {
            INVALID_REQUEST
        };
        Self::new(status, code, message)
    }

    pub(crate) fn not_allowed() -> Self {
        Self::http(
            StatusCode::METHOD_NOT_ALLOWED,
            "since 2026-07-28 there is POST and nothing else",
        )
    }

    pub(crate) fn scan(error: &ScanError) -> Self {
        let code = if error.is_syntax() {
            PARSE
        } else {
            INVALID_REQUEST
        };
        Self::new(StatusCode::BAD_REQUEST, code, error.to_string())
    }

    /// The client did not declare the extension that it uses.
    pub(crate) fn missing_tasks() -> Self {
        Self {
            data: json!({"requiredCapabilities": {"extensions": {TASKS: {}}}}),
            ..Self::new(
                StatusCode::BAD_REQUEST,
                MISSING_CAPABILITY,
                "Missing required client capability",
            )
        }
    }

    pub(crate) fn no_session() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            NO_SESSION,
            "Session not found: initialize again",
        )
    }

    pub(crate) fn no_service(name: &str) -> Self {
        let name: String = name
            .chars()
            .take(64)
            .flat_map(char::escape_default)
            .collect();
        Self::new(
            StatusCode::NOT_FOUND,
            NO_SERVICE,
            format!("there is no MCP server `{name}` here"),
        )
    }

    /// The method is not in the table; a legacy client expects that with HTTP 200.
    pub(crate) fn unknown_method(era: Era, method: &str) -> Self {
        let method: String = method
            .chars()
            .take(64)
            .flat_map(char::escape_default)
            .collect();
        let status = match era {
            Era::Legacy => StatusCode::OK,
            Era::Modern => StatusCode::NOT_FOUND,
        };
        Self::new(
            status,
            UNKNOWN_METHOD,
            format!("Method not found: {method}"),
        )
    }

    /// The answer; `id` is the exact text of the request's, if it has one.
    pub(crate) fn into_response(self, id: Option<&str>) -> Response<Body> {
        let mut error = Map::new();
        error.insert("code".to_owned(), self.code.into());
        error.insert("message".to_owned(), self.message.into());
        if !self.data.is_null() {
            error.insert("data".to_owned(), self.data);
        }
        let mut response = whole(self.status, reply(id, "error", &Value::Object(error)));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response
                .headers_mut()
                .insert(header::ALLOW, HeaderValue::from_static("POST"));
        }
        response.extensions_mut().insert(Answered {
            kind: "mcp",
            code: i32::try_from(self.code).unwrap_or_default(),
        });
        response
    }
}

/// A message that answers; `id` as the client wrote it.
pub(crate) fn reply(id: Option<&str>, member: &str, value: &Value) -> Vec<u8> {
    let id = id.map(|id| format!(r#""id":{id},"#)).unwrap_or_default();
    format!(r#"{{"jsonrpc":"2.0",{id}"{member}":{value}}}"#).into_bytes()
}

/// An answer that is whole, and that no cache keeps.
pub(crate) fn whole(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = answer::json(status, &());
    *response.body_mut() = Body::new(body.into());
    response
}

/// What kind of answer a refused request can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A tool's result may say that it failed: models read that.
    Result,
    /// Any other can only be an error.
    Error,
}

/// Says why a request was not carried out: an answer as any other, in HTTP, because to
/// some clients an HTTP error ends the whole session.
pub(crate) fn refused(era: Era, shape: Shape, id: &str, refusal: &Refusal) -> Vec<u8> {
    let (text, code, decision, approval) = match refusal {
        Refusal::Denied(denied) => (
            text(denied),
            DENIED,
            denied.data(),
            Some(approval(denied)).filter(|approval| !approval.is_null()),
        ),
        other => {
            let (code, data) = other_than_policy(other);
            let note = data
                .get("message")
                .and_then(Value::as_str)
                .unwrap_or_default();
            (
                format!("{other}\n{note}").trim_end().to_owned(),
                code,
                data,
                None,
            )
        }
    };
    if shape == Shape::Error {
        let mut data = decision;
        if let Some(approval) = approval {
            answer::put(&mut data, "approval", approval);
        }
        let error = json!({"code": code, "message": text, "data": data});
        return reply(Some(id), "error", &error);
    }
    let mut meta = Map::new();
    meta.insert(META_DECISION.to_owned(), decision);
    if let Some(approval) = approval {
        meta.insert(META_APPROVAL.to_owned(), approval);
    }
    let mut result = Map::new();
    if era == Era::Modern {
        result.insert("resultType".to_owned(), "complete".into());
    }
    result.insert("isError".to_owned(), true.into());
    let content = json!([{"type": "text", "text": text}]);
    result.insert("content".to_owned(), content);
    result.insert("_meta".to_owned(), Value::Object(meta));
    reply(Some(id), "result", &Value::Object(result))
}

/// Says that the agent is too fast: to a request as any other answer, so that its session
/// lives on, else in HTTP.
pub(crate) fn limited(era: Era, id: Option<&str>, refusal: &Refusal) -> Response<Body> {
    let mut response = match id {
        Some(id) => whole(StatusCode::OK, refused(era, Shape::Error, id, refusal)),
        None => Fault::new(StatusCode::TOO_MANY_REQUESTS, TOO_MANY, refusal.to_string())
            .into_response(None),
    };
    refusal.put_headers(response.headers_mut());
    response
}

/// The whole explanation: the one thing that every model reads.
fn text(denied: &Denied) -> String {
    let by = if denied.policies.is_empty() {
        String::new()
    } else {
        format!(" by policy {}", denied.policies.join(", "))
    };
    let (command, reference) = (&denied.command, denied.decision);
    match &denied.asked {
        Asked::Request { approval, url }
            if matches!(
                approval.status,
                ApprovalStatus::Pending | ApprovalStatus::Approved
            ) =>
        {
            let people = match approval
                .approvals_needed
                .saturating_sub(approval.approvals_given)
            {
                0 | 1 => "one person".to_owned(),
                many => format!("{many} people"),
            };
            let advice = advice(denied);
            format!(
                "NEEDS APPROVAL {}: `{command}` needs the approval of {people}, who have been asked. Nothing has been executed.{advice}\n\
                 To continue, make exactly the same call with exactly the same arguments after it is approved; the request expires {}.\n\
                 Status: {url} (ref {reference})",
                approval.id, approval.expires,
            )
        }
        Asked::Request { approval, .. } if approval.status == ApprovalStatus::Rejected => {
            format!(
                "REJECTED {}: {} {} (ref {reference})",
                approval.id,
                denied.message(),
                denied.guidance(),
            )
        }
        _ => format!(
            "DENIED{by}: {} {} (ref {reference})",
            denied.message(),
            denied.guidance(),
        ),
    }
}

fn advice(denied: &Denied) -> String {
    if denied.advice.is_empty() {
        String::new()
    } else {
        format!(" {}", denied.advice.join(" "))
    }
}

fn approval(denied: &Denied) -> Value {
    let Asked::Request { approval, url } = &denied.asked else {
        return Value::Null;
    };
    let mut shown = json!({
        "id": approval.id,
        "url": url,
        "status": approval.status,
        "expiresAt": approval.expires,
    });
    if let Some(after) = denied.retry_after() {
        answer::put(&mut shown, "retryAfterMs", seconds(after) * 1_000);
    }
    shown
}

/// Whatever else went wrong, with what `/execute` says of it as well.
fn other_than_policy(refusal: &Refusal) -> (i64, Value) {
    let code = match refusal {
        Refusal::Unauthenticated(_)
        | Refusal::AnotherAgent
        | Refusal::NoAgent(_)
        | Refusal::Scope(_)
        | Refusal::Header(_) => IDENTITY,
        Refusal::Overloaded
        | Refusal::Limited(_)
        | Refusal::Handler(HandlerError::TooMany { .. }) => TOO_MANY,
        Refusal::Handler(_) => UPSTREAM,
        _ => NOT_READY,
    };
    (code, refusal.details())
}
