//! The three calls of the system that we replace, with their shapes.

use std::collections::BTreeSet;

use authz::{AgentRef, ApprovalRequestId, Scope, ServiceName};
use axum::{Json, extract::State};
use contract::{
    approvals::{
        Approve, PermissionRequest, PermissionRequested, PermissionRespond, PermissionResponded,
    },
    facts::McpPermissions,
};
use store::Actor;

use super::{Json as Body, Named};
use crate::{
    Orchestrator, approvals,
    authenticate::{Person, Reader},
    error::Error,
};

/// The caller's own time is at most so long.
const MAX_TIMESTAMP_CHARS: usize = 64;

// By id or name. Who has no credential is told of no agent.
#[utoipa::path(
    get,
    path = "/api/agent/{agent}/mcp-permissions",
    tag = "legacy",
    summary = "Which services an agent may use",
    params(("agent" = String, Path, description = "Its id or name")),
    security(("user" = []), ("session" = []), ("control" = [])),
    responses((status = 200, description = "Standing access, and services that a live grant covers whole", body = McpPermissions))
)]
pub(crate) async fn permissions(
    reader: Result<Reader, Error>,
    State(orchestrator): State<Orchestrator>,
    Named(asked): Named<String>,
) -> Result<Json<McpPermissions>, Error> {
    let unknown = || Error::NotFound(format!("agent `{}` is not found", shown(&asked)));
    match reader {
        Ok(Reader::Gateway | Reader::Person(_)) => {}
        Err(error @ (Error::Store(_) | Error::Bug(_))) => return Err(error),
        Err(_) => return Err(unknown()),
    }
    let agent: AgentRef = asked.parse().map_err(|_| unknown())?;
    let facts = orchestrator
        .store()
        .facts(&agent, orchestrator.now())
        .await
        .map_err(|error| match error {
            store::StoreError::NotFound(_) => unknown(),
            error => error.into(),
        })?;
    let mut services: BTreeSet<_> = facts
        .agent
        .allowed_mcps
        .iter()
        .map(ToString::to_string)
        .collect();
    services.extend(facts.grants.iter().filter_map(|grant| match &grant.scope {
        Scope::Service { service } => Some(service.to_string()),
        Scope::Call { .. } | Scope::Command { .. } => None,
    }));
    Ok(Json(McpPermissions {
        status: "success".to_owned(),
        agent_id: asked,
        agent_name: facts.agent.name.to_string(),
        allowed_mcps: services.into_iter().collect(),
    }))
}

#[utoipa::path(
    post,
    path = "/api/mcp/permission-request",
    tag = "legacy",
    summary = "Ask for a service",
    request_body = PermissionRequest,
    security(("user" = []), ("session" = []), ("control" = [])),
    responses((status = 200, description = "The request", body = PermissionRequested), (status = 401, description = "Neither a user nor a gateway"), (status = 404, description = "There is no such agent"), (status = 409, description = "The agent has too many open requests"))
)]
pub(crate) async fn request(
    reader: Reader,
    State(orchestrator): State<Orchestrator>,
    Body(request): Body<PermissionRequest>,
) -> Result<Json<PermissionRequested>, Error> {
    approvals::check_text("timestamp", &request.timestamp, MAX_TIMESTAMP_CHARS)?;
    let agent: AgentRef = request
        .agent_id
        .parse()
        .map_err(|error| Error::field("agent_id", error))?;
    let service: ServiceName = request
        .service_name
        .parse()
        .map_err(|error| Error::field("service_name", error))?;
    let actor = match &reader {
        Reader::Gateway => Actor::itself("gateway", orchestrator.now()),
        Reader::Person(person) => orchestrator.actor(person),
    };
    let stored =
        approvals::open_for_service(&orchestrator, &agent, &service, request.reason, &actor)
            .await?;
    let message = match stored.status {
        store::approvals::Status::Rejected => "This was rejected; ask again later",
        store::approvals::Status::Pending
        | store::approvals::Status::Approved
        | store::approvals::Status::Expired
        | store::approvals::Status::Withdrawn => "Permission request received and pending approval",
    };
    Ok(Json(PermissionRequested {
        status: "success".to_owned(),
        request_id: stored.new.id,
        message: message.to_owned(),
    }))
}

#[utoipa::path(
    post,
    path = "/api/mcp/permission-respond",
    tag = "legacy",
    summary = "Decide about a request",
    request_body = PermissionRespond,
    responses((status = 200, description = "What was decided", body = PermissionResponded), (status = 404, description = "There is no such request"), (status = 409, description = "It is no longer pending"))
)]
pub(crate) async fn respond(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Body(respond): Body<PermissionRespond>,
) -> Result<Json<PermissionResponded>, Error> {
    let id: ApprovalRequestId = respond.request_id.parse().map_err(|_| {
        Error::NotFound(format!(
            "approval request `{}` is not found",
            shown(&respond.request_id)
        ))
    })?;
    let reason = respond.reason.unwrap_or_default();
    let message = if respond.approved {
        let approve = Approve {
            reach: respond.reach,
            duration_seconds: respond.duration_seconds,
            reason,
        };
        let stored = approvals::approve(&orchestrator, &person, id, approve).await?;
        if stored.grant.is_some() {
            "Permission granted"
        } else {
            "Approved; one more person must approve"
        }
    } else {
        approvals::reject(&orchestrator, &person, id, &reason).await?;
        "Permission denied"
    };
    Ok(Json(PermissionResponded {
        status: "success".to_owned(),
        request_id: respond.request_id,
        approved: respond.approved,
        message: message.to_owned(),
    }))
}

/// What a caller wrote, short and printable.
fn shown(text: &str) -> String {
    text.chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}
