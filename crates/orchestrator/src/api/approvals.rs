//! Approval requests, for people and scripts.

use authz::{AgentRef, ApprovalRequestId};
use axum::{Json, extract::State};
use contract::approvals::{ApprovalView, Approve, Reject, Withdraw};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator, approvals,
    authenticate::{May, Person, View},
    error::Error,
};

/// A list is at most so long.
const MAX_LIST: u32 = 1_000;

/// What a list may be narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Decided ones, too.
    #[serde(default)]
    #[param(required = false)]
    all: bool,
    /// Of this agent only: its id or name.
    #[serde(default)]
    #[param(value_type = Option<AgentRef>)]
    agent: Option<String>,
    /// At most so many; 200 if absent, never more than 1000.
    #[serde(default)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/api/approvals",
    tag = "approvals",
    summary = "Approval requests, newest first",
    params(Filter),
    responses((status = 200, description = "Pending ones, or all, with what the caller may choose", body = Vec<ApprovalView>), (status = 404, description = "There is no such agent"))
)]
pub(crate) async fn list(
    May(person, ..): May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<ApprovalView>>, Error> {
    let limit = filter.limit.unwrap_or(200).min(MAX_LIST);
    let (store, now) = (orchestrator.store(), orchestrator.now());
    let stored = match filter.agent {
        None => store.approvals(filter.all, limit, now).await?,
        Some(agent) => {
            let agent: AgentRef = agent
                .parse()
                .map_err(|error| Error::field("agent", error))?;
            let agent = store.agent(&agent).await?.agent.id;
            store.approvals_of(agent, filter.all, limit, now).await?
        }
    };
    Ok(Json(
        stored
            .into_iter()
            .map(|stored| approvals::view(&orchestrator, &person, stored))
            .collect(),
    ))
}

#[utoipa::path(
    get,
    path = "/api/approvals/{approval}",
    tag = "approvals",
    summary = "One approval request",
    params(("approval" = ApprovalRequestId, Path)),
    responses((status = 200, description = "With what the caller may choose", body = ApprovalView))
)]
pub(crate) async fn show(
    May(person, ..): May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = orchestrator
        .store()
        .approval(id, orchestrator.now())
        .await?;
    Ok(Json(
        approvals::view_with_obstacle(&orchestrator, &person, stored).await?,
    ))
}

#[utoipa::path(
    post,
    path = "/api/approvals/{approval}/approve",
    tag = "approvals",
    summary = "Approve",
    params(("approval" = ApprovalRequestId, Path)),
    request_body = Approve,
    responses((status = 200, description = "Approved, or one more person must", body = ApprovalView), (status = 409, description = "It is no longer pending"))
)]
pub(crate) async fn approve(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(approve): Body<Approve>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::approve(&orchestrator, &person, id, approve).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}

#[utoipa::path(
    post,
    path = "/api/approvals/{approval}/reject",
    tag = "approvals",
    summary = "Reject",
    params(("approval" = ApprovalRequestId, Path)),
    request_body = Reject,
    responses((status = 200, description = "Rejected", body = ApprovalView), (status = 409, description = "It is no longer pending"))
)]
pub(crate) async fn reject(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(reject): Body<Reject>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::reject(&orchestrator, &person, id, &reject.reason).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}

#[utoipa::path(
    post,
    path = "/api/approvals/{approval}/withdraw",
    tag = "approvals",
    summary = "Take a request back",
    params(("approval" = ApprovalRequestId, Path)),
    request_body = Withdraw,
    responses((status = 200, description = "Withdrawn", body = ApprovalView), (status = 409, description = "It is no longer pending"))
)]
pub(crate) async fn withdraw(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(withdraw): Body<Withdraw>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::withdraw(&orchestrator, &person, id, &withdraw.reason).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}
