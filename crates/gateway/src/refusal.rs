//! Why the gateway did not answer as asked: one kind of error, and what agents see of it.

use std::time::Duration;

use authz::{AgentId, CommandKey, DecisionId, PolicySetVersion, Risk, Timestamp};
use contract::approvals::{ApprovalStatus, ApprovalSummary};
use handlers::{CommandError, HandlerError};
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::{
    answer::{self, Body},
    limits::Limited,
};

/// Why the gateway did not carry out a command, or did not answer a question.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// Nobody knows who asks.
    #[error("{0}")]
    Unauthenticated(String),
    /// `X-Agent-Id` or a credential is given in a way that means nothing.
    #[error("{0}")]
    Header(String),
    /// The credential is one agent's and `X-Agent-Id` names another.
    #[error("the credential is not that of the agent that `X-Agent-Id` names")]
    AnotherAgent,
    /// An access token is believed, and names no agent.
    #[error("{0}")]
    NoAgent(String),
    /// An access token is good for less than what was asked.
    #[error("the access token does not suffice: this needs the scope `{}`", crate::oauth::scope(*.0))]
    Scope(Risk),
    /// Whether an access token is to be believed cannot be known now.
    #[error("access tokens cannot be checked now: the authorization server is out of reach")]
    Issuer,
    /// The body is not strict JSON.
    #[error("the body is not valid JSON: {0}")]
    Parse(String),
    /// The body is JSON of a wrong shape.
    #[error("{message}")]
    Invalid {
        /// What is wrong.
        message: String,
        /// More about it.
        data: Value,
    },
    /// The body is not declared to be JSON.
    #[error("the body must be JSON: send `Content-Type: application/json`")]
    MediaType,
    /// The body is too large.
    #[error("the body is larger than {limit} bytes")]
    TooLarge {
        /// The largest allowed.
        limit: usize,
    },
    /// The body broke off.
    #[error("the body could not be read")]
    Body,
    /// No such JSON-RPC method.
    #[error("Method '{method}' not found")]
    Method {
        /// As sent, shortened.
        method: String,
    },
    /// Parameters are missing or of a wrong shape.
    #[error("{0}")]
    Params(String),
    /// What was sent is not a command.
    #[error(transparent)]
    Command(CommandError),
    /// Policy does not permit it.
    #[error("{}", .0.message())]
    Denied(Box<Denied>),
    /// A limit has nothing left for it.
    #[error("{}", .0.message())]
    Limited(Box<Limited>),
    /// The service did not carry it out.
    #[error(transparent)]
    Handler(HandlerError),
    /// The orchestrator cannot be asked, and what it said last is too old.
    #[error("{}", orchestrator_message(.0))]
    Orchestrator(std::sync::Arc<contract::Error>),
    /// There is no policy set yet.
    #[error(
        "no policy set is loaded yet, so nothing is permitted; the gateway fetches it from the orchestrator"
    )]
    NoPolicySet,
    /// Nothing is known yet of zones that people assigned.
    #[error(
        "nothing is known yet of the zones that commands are in, so nothing is permitted; the gateway asks the orchestrator"
    )]
    NoZones,
    /// The journal cannot be written.
    #[error("the journal cannot be written, so no command is carried out")]
    Journal,
    /// Too many requests are under way.
    #[error("too many requests are under way")]
    Overloaded,
    /// It took too long.
    #[error(
        "no answer in time; a command that was begun goes on, and the journal will hold its outcome"
    )]
    Deadline,
    /// A command ended in a way that nobody expected.
    #[error("internal error; whether the command was carried out is unknown")]
    Lost,
    /// A request that is decided cannot be taken back.
    #[error("{0}")]
    Decided(String),
    /// No such approval request of this agent's.
    #[error("no approval request of this agent has that id")]
    NoSuchApproval,
    /// A bug.
    #[error("internal error")]
    Internal,
}

/// A decision against a command, with everything that the agent may know.
#[derive(Debug)]
pub(crate) struct Denied {
    pub(crate) decision: DecisionId,
    pub(crate) agent: AgentId,
    pub(crate) command: CommandKey,
    pub(crate) policies: Vec<String>,
    /// What would permit it once people approved; empty where asking is useless.
    pub(crate) permitted_by_approval: Vec<String>,
    pub(crate) advice: Vec<String>,
    pub(crate) policy_set: PolicySetVersion,
    /// A `forbid` could not be evaluated.
    pub(crate) policy_error: bool,
    /// No policy was asked: the arguments do not fit the schema's typed action.
    pub(crate) misfit: bool,
    pub(crate) asked: Asked,
    /// When it was decided.
    pub(crate) at: Timestamp,
}

/// What became of asking people.
#[derive(Debug)]
pub(crate) enum Asked {
    /// It would not help.
    Useless,
    /// There is a request: pending, or decided against the agent.
    Request {
        approval: ApprovalSummary,
        /// Where people decide it.
        url: String,
    },
    /// It would help, but the agent has as many open requests as it may.
    TooMany(String),
    /// It would help, but the orchestrator did not take the request.
    Failed,
}

/// How soon a pending request is worth a look.
pub(crate) const PENDING_RETRY: Duration = Duration::from_secs(5);

/// How soon there may be room for one more request.
const ROOM_RETRY: Duration = Duration::from_secs(30);

/// What an agent is told when nobody knows whether its command was carried out.
const UNKNOWN: &str = "Whether this was carried out is not known. Do not assume either: look at the \
    state of things before you send it again. An approval for one use is used up.";

impl Denied {
    /// `refused`, `pending` or `rejected`.
    pub(crate) fn outcome(&self) -> &'static str {
        match &self.asked {
            Asked::Useless | Asked::TooMany(_) | Asked::Failed => "refused",
            Asked::Request { approval, .. } => match approval.status {
                ApprovalStatus::Pending | ApprovalStatus::Approved => "pending",
                ApprovalStatus::Rejected => "rejected",
                ApprovalStatus::Expired | ApprovalStatus::Withdrawn => "refused",
            },
        }
    }

    /// The approval request, if there is one.
    pub(crate) fn approval(&self) -> Option<authz::ApprovalRequestId> {
        match &self.asked {
            Asked::Request { approval, .. } => Some(approval.id),
            Asked::Useless | Asked::TooMany(_) | Asked::Failed => None,
        }
    }

    /// The approval request that people have not decided yet, if there is one.
    pub(crate) fn pending(&self) -> Option<authz::ApprovalRequestId> {
        match &self.asked {
            Asked::Request { approval, .. } if approval.status == ApprovalStatus::Pending => {
                Some(approval.id)
            }
            Asked::Request { .. } | Asked::Useless | Asked::TooMany(_) | Asked::Failed => None,
        }
    }

    /// Says what became of the request since.
    pub(crate) fn update(&mut self, news: ApprovalSummary, now: Timestamp) {
        if let Asked::Request { approval, .. } = &mut self.asked {
            *approval = news;
            self.at = now;
        }
    }

    /// Why, in one word.
    pub(crate) fn reason(&self) -> &'static str {
        if self.policy_error {
            "policy_error"
        } else if self.misfit {
            "arguments"
        } else if matches!(self.asked, Asked::TooMany(_)) {
            "too_many_requests"
        } else {
            "policy"
        }
    }

    /// When the same call is worth another try, if ever.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match &self.asked {
            Asked::Useless => None,
            Asked::Failed => Some(PENDING_RETRY),
            Asked::TooMany(_) => Some(ROOM_RETRY),
            Asked::Request { approval, .. } => match approval.status {
                ApprovalStatus::Pending => Some(PENDING_RETRY),
                ApprovalStatus::Approved | ApprovalStatus::Expired | ApprovalStatus::Withdrawn => {
                    Some(Duration::from_secs(1))
                }
                ApprovalStatus::Rejected => approval.retry_at.map(|at| at.since(self.at)),
            },
        }
    }

    pub(crate) fn message(&self) -> String {
        let service = &self.command.service;
        let denied =
            format!("Permission denied: Agent does not have access to service '{service}'.");
        match &self.asked {
            Asked::Request { approval, .. } => match approval.status {
                ApprovalStatus::Pending | ApprovalStatus::Approved => {
                    format!("{denied} A permission request has been sent to the orchestrator.")
                }
                ApprovalStatus::Rejected => {
                    let note = approval.note.as_deref().filter(|note| !note.is_empty());
                    let note = note.map(|note| format!(": {note}")).unwrap_or_default();
                    format!(
                        "Permission denied: the request for '{}' was rejected{note}",
                        self.command
                    )
                }
                ApprovalStatus::Expired | ApprovalStatus::Withdrawn => {
                    format!("{denied} The permission request was closed without a decision.")
                }
            },
            Asked::TooMany(why) => {
                format!("{denied} Nobody has been asked: {why}.")
            }
            Asked::Failed => {
                format!(
                    "{denied} The orchestrator could not be told, so nobody has been asked yet."
                )
            }
            Asked::Useless if self.policy_error => format!(
                "Permission denied: a policy about '{}' could not be evaluated, so it is refused; its operators have been told.",
                self.command
            ),
            Asked::Useless if self.misfit => format!(
                "Permission denied: '{}' was not decided. {}",
                self.command,
                self.advice.join(" ")
            ),
            Asked::Useless => {
                let advice = self.advice.join(" ");
                let advice = if advice.is_empty() {
                    "nothing permits it and nobody can be asked"
                } else {
                    &advice
                };
                format!(
                    "Permission denied: policy does not permit '{}' for this agent: {advice}",
                    self.command
                )
            }
        }
    }

    /// What an agent should do now, in a sentence.
    pub(crate) fn guidance(&self) -> String {
        match &self.asked {
            Asked::Request { approval, .. } => match approval.status {
                ApprovalStatus::Pending | ApprovalStatus::Approved => {
                    let people = match approval
                        .approvals_needed
                        .saturating_sub(approval.approvals_given)
                    {
                        0 | 1 => "one person".to_owned(),
                        many => format!("{many} people"),
                    };
                    format!(
                        "The orchestrator has been notified of this request. You can ask them to grant you access. \
                         Nothing was executed; {people} must approve. After that the same call with the same arguments goes through. \
                         `GET /approvals/{}` says where it stands; `DELETE` of the same takes it back.",
                        approval.id
                    )
                }
                ApprovalStatus::Rejected => match approval.retry_at {
                    Some(at) => format!("Nothing was executed. Do not ask again before {at}."),
                    None => "Nothing was executed. Do not ask again.".to_owned(),
                },
                ApprovalStatus::Expired | ApprovalStatus::Withdrawn => {
                    "Nothing was executed. The same call asks again.".to_owned()
                }
            },
            Asked::TooMany(_) => {
                "Nothing was executed. Wait until one of your requests is decided, or withdraw one \
                that you no longer need (`DELETE /approvals/{id}`); then the same call asks."
                    .to_owned()
            }
            Asked::Failed => "Nothing was executed. The same call tries again to ask.".to_owned(),
            Asked::Useless if self.misfit => {
                "Nothing was executed. No approval would change this; the same call with arguments that fit is decided anew.".to_owned()
            }
            Asked::Useless => {
                "Nothing was executed. No approval would change this; do not retry.".to_owned()
            }
        }
    }

    pub(crate) fn data(&self) -> Value {
        let outcome = self.outcome();
        let retry_after = self.retry_after().map(seconds);
        let mut data = json!({
            "service": self.command.service,
            "operation": self.command.name,
            "agentId": self.agent,
            "decision_id": self.decision,
            "outcome": outcome,
            "retryable": retry_after.is_some(),
            "asking_helps": match &self.asked {
                Asked::Useless => false,
                Asked::Failed | Asked::TooMany(_) => true,
                Asked::Request { .. } => outcome != "rejected",
            },
            "policies": self.policies,
            "permitted_by_approval": self.permitted_by_approval,
            "advice": self.advice,
            "policy_set": self.policy_set.short(),
            "reason": self.reason(),
            "message": self.guidance(),
        });
        if let Some(seconds) = retry_after {
            answer::put(&mut data, "retry_after_seconds", seconds);
        }
        if let Asked::Request { approval, url } = &self.asked {
            let mut shown = serde_json::to_value(approval).unwrap_or_default();
            answer::put(&mut shown, "url", url.as_str());
            answer::put(&mut data, "request_id", approval.id.to_string());
            answer::put(&mut data, "approval", shown);
        }
        data
    }
}

/// Whole seconds, rounded up: a client that waits so long has waited enough.
pub(crate) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

fn orchestrator_message(error: &contract::Error) -> String {
    let cause = match error {
        contract::Error::Unreachable(_) => {
            "it cannot be reached (is it up, is ORCHESTRATOR_URL right, are both on one network?)"
        }
        contract::Error::Timeout(_) => "it did not answer in time",
        contract::Error::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
            "it refused this gateway's control token (is CEDARGATE_CONTROL_TOKEN the same on both?)"
        }
        contract::Error::Refused { .. } => "it failed",
        contract::Error::Malformed(_) => {
            "its answer is not understood (are both of the same version?)"
        }
    };
    format!(
        "Service 'orchestrator' is not available: {cause}; permissions cannot be checked, so nothing is carried out"
    )
}

/// `error.data` where nobody knows whether a command was carried out.
fn unknown(service: Option<&str>) -> Value {
    let mut data = json!({"outcome": "unknown", "retryable": false, "message": UNKNOWN});
    if let Some(service) = service {
        answer::put(&mut data, "service", service);
    }
    data
}

/// What a [`Refusal`] is on the wire.
struct Shape {
    status: StatusCode,
    code: i32,
    kind: &'static str,
    retry_after: Option<Duration>,
    data: Value,
}

impl Refusal {
    /// Shorthand for a body of a wrong shape.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid {
            message: message.into(),
            data: json!({}),
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one table, so that a new variant asks the question once"
    )]
    fn shape(&self) -> Shape {
        let shape = |status, code, kind, data| Shape {
            status,
            code,
            kind,
            retry_after: None,
            data,
        };
        let later = |status, code, kind, after, data| Shape {
            retry_after: Some(after),
            ..shape(status, code, kind, data)
        };
        let soon = Duration::from_secs(1);
        match self {
            Self::Unauthenticated(_) => shape(
                StatusCode::UNAUTHORIZED,
                -32003,
                "unauthenticated",
                json!({}),
            ),
            Self::Header(_) => shape(StatusCode::BAD_REQUEST, -32600, "header", json!({})),
            Self::AnotherAgent => shape(
                StatusCode::FORBIDDEN,
                -32004,
                "another_agent",
                json!({"outcome": "refused", "retryable": false, "asking_helps": false}),
            ),
            Self::NoAgent(_) => shape(
                StatusCode::FORBIDDEN,
                -32004,
                "no_agent",
                json!({"outcome": "refused", "retryable": false, "asking_helps": false}),
            ),
            Self::Scope(risk) => shape(
                StatusCode::FORBIDDEN,
                -32004,
                "insufficient_scope",
                json!({"outcome": "refused", "retryable": false, "asking_helps": false, "scope": crate::oauth::scope(*risk)}),
            ),
            Self::Issuer => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32001,
                "issuer",
                soon,
                json!({"service": "authorization server", "retryable": true}),
            ),
            Self::Parse(_) => shape(StatusCode::BAD_REQUEST, -32700, "parse", json!({})),
            Self::Invalid { data, .. } => {
                shape(StatusCode::BAD_REQUEST, -32600, "invalid", data.clone())
            }
            Self::MediaType => shape(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                -32600,
                "media_type",
                json!({}),
            ),
            Self::TooLarge { limit } => shape(
                StatusCode::PAYLOAD_TOO_LARGE,
                -32600,
                "too_large",
                json!({"limit_bytes": limit}),
            ),
            Self::Body => shape(StatusCode::BAD_REQUEST, -32600, "body", json!({})),
            Self::Method { method } => shape(
                StatusCode::NOT_FOUND,
                -32601,
                "method",
                json!({"method": method, "available": crate::parse::RPC_METHODS}),
            ),
            Self::Params(_) => shape(StatusCode::BAD_REQUEST, -32602, "params", json!({})),
            Self::Command(error) => match error {
                CommandError::Grammar { .. } => {
                    shape(StatusCode::BAD_REQUEST, -32009, "grammar", json!({}))
                }
                CommandError::UnknownService {
                    name,
                    nearest,
                    available,
                } => shape(
                    StatusCode::NOT_FOUND,
                    -32000,
                    "unknown_service",
                    json!({"service": name, "nearest": nearest, "availableServices": available}),
                ),
                CommandError::UnknownCommand {
                    service,
                    name,
                    nearest,
                    available,
                } => shape(
                    StatusCode::NOT_FOUND,
                    -32002,
                    "unknown_command",
                    json!({"service": service, "operation": name, "nearest": nearest, "availableOperations": available}),
                ),
                CommandError::Arguments {
                    command,
                    problems,
                    usage,
                } => shape(
                    StatusCode::BAD_REQUEST,
                    -32009,
                    "arguments",
                    json!({"service": command.service, "operation": command.name, "problems": problems, "usage": usage}),
                ),
            },
            Self::Denied(denied) => Shape {
                retry_after: denied.retry_after(),
                ..shape(StatusCode::FORBIDDEN, -32004, "denied", denied.data())
            },
            Self::Limited(limited) => later(
                StatusCode::TOO_MANY_REQUESTS,
                -32005,
                limited.kind(),
                limited.retry_after,
                limited.data(),
            ),
            Self::Handler(error) => match error {
                HandlerError::NotConfigured { service, .. } => shape(
                    StatusCode::SERVICE_UNAVAILABLE,
                    -32001,
                    "not_configured",
                    json!({"service": service, "status": "error"}),
                ),
                HandlerError::Unreachable { service, .. } => later(
                    StatusCode::SERVICE_UNAVAILABLE,
                    -32001,
                    "unreachable",
                    soon,
                    json!({"service": service}),
                ),
                HandlerError::Timeout { service, .. } => shape(
                    StatusCode::GATEWAY_TIMEOUT,
                    -32006,
                    "timeout",
                    unknown(Some(service)),
                ),
                HandlerError::Broken { service, .. } => shape(
                    StatusCode::BAD_GATEWAY,
                    -32001,
                    "broken",
                    unknown(Some(service)),
                ),
                HandlerError::Credential { service, .. } => shape(
                    StatusCode::BAD_GATEWAY,
                    -32001,
                    "credential",
                    json!({"service": service}),
                ),
                HandlerError::NotFound { service, .. } => shape(
                    StatusCode::NOT_FOUND,
                    -32007,
                    "not_found",
                    json!({"service": service}),
                ),
                HandlerError::Rejected {
                    service,
                    status: 409,
                    ..
                } => shape(
                    StatusCode::CONFLICT,
                    -32008,
                    "conflict",
                    json!({"service": service, "status": 409}),
                ),
                HandlerError::Rejected {
                    service, status, ..
                } => shape(
                    StatusCode::BAD_REQUEST,
                    -32009,
                    "rejected",
                    json!({"service": service, "status": status}),
                ),
                HandlerError::TooMany {
                    service,
                    retry_after,
                } => later(
                    StatusCode::TOO_MANY_REQUESTS,
                    -32005,
                    "too_many",
                    retry_after.unwrap_or(soon),
                    json!({"service": service}),
                ),
                HandlerError::Failed { service, .. } => shape(
                    StatusCode::BAD_GATEWAY,
                    -32001,
                    "failed",
                    json!({"service": service}),
                ),
            },
            Self::Orchestrator(_) => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32001,
                "orchestrator",
                soon,
                json!({"service": "orchestrator", "retryable": true}),
            ),
            Self::NoPolicySet => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32001,
                "no_policy_set",
                soon,
                json!({"service": "orchestrator", "retryable": true}),
            ),
            Self::NoZones => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32001,
                "no_zones",
                soon,
                json!({"service": "orchestrator", "retryable": true}),
            ),
            Self::Journal => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32603,
                "journal",
                soon,
                json!({"retryable": true}),
            ),
            Self::Overloaded => later(
                StatusCode::SERVICE_UNAVAILABLE,
                -32001,
                "overloaded",
                soon,
                json!({"retryable": true}),
            ),
            Self::Deadline => shape(
                StatusCode::GATEWAY_TIMEOUT,
                -32006,
                "deadline",
                unknown(None),
            ),
            Self::Lost => shape(
                StatusCode::INTERNAL_SERVER_ERROR,
                -32603,
                "internal",
                unknown(None),
            ),
            Self::Decided(_) => shape(
                StatusCode::CONFLICT,
                -32008,
                "decided",
                json!({"outcome": "refused", "retryable": false}),
            ),
            Self::NoSuchApproval => {
                shape(StatusCode::NOT_FOUND, -32007, "no_such_approval", json!({}))
            }
            Self::Internal => shape(
                StatusCode::INTERNAL_SERVER_ERROR,
                -32603,
                "internal",
                json!({}),
            ),
        }
    }

    /// Why, in one word: for metrics and the journal.
    pub(crate) fn kind(&self) -> &'static str {
        self.shape().kind
    }

    /// More about it, for programs: what `/execute` says in `error.data`.
    pub(crate) fn details(&self) -> Value {
        let shape = self.shape();
        let mut data = shape.data;
        if data.get("reason").is_none() {
            answer::put(&mut data, "reason", shape.kind);
        }
        if let Some(after) = shape.retry_after {
            answer::put(&mut data, "retryable", true);
            answer::put(&mut data, "retry_after_seconds", seconds(after).max(1));
        }
        data
    }

    /// Says in headers what a limit allows, and when to come again.
    pub(crate) fn put_headers(&self, headers: &mut http::HeaderMap) {
        if let Self::Limited(limited) = self {
            limited.put_headers(headers);
        }
    }

    /// The answer, with the caller's `id`.
    pub(crate) fn into_response(self, id: &Value) -> Response<Body> {
        let shape = self.shape();
        let mut error = Map::new();
        error.insert("code".to_owned(), shape.code.into());
        error.insert("message".to_owned(), self.to_string().into());
        error.insert("data".to_owned(), shape.data);
        let body = json!({"jsonrpc": "2.0", "error": error, "id": id});
        let mut response = answer::json(shape.status, &body);
        let headers = response.headers_mut();
        if let Some(after) = shape.retry_after {
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(seconds(after).max(1)),
            );
        }
        self.put_headers(headers);
        if shape.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"cedargate\""),
            );
        }
        response.extensions_mut().insert(Answered {
            kind: shape.kind,
            code: shape.code,
        });
        response
    }
}

/// What an error answer was, for the layers outside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) kind: &'static str,
    pub(crate) code: i32,
}
