//! Approval requests, for people and scripts.

use authz::ApprovalRequestId;
use axum::{Json, extract::State};
use contract::approvals::{ApprovalView, Approve, Reject, Withdraw};
use serde::Deserialize;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator, approvals,
    authenticate::{May, Person, View},
    error::Error,
};

/// A list is at most so long.
const MAX_LIST: u32 = 1_000;

/// What a list may be narrowed to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    limit: Option<u32>,
}

/// `GET /api/approvals?all=&limit=`, newest first.
pub(crate) async fn list(
    May(person, ..): May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<ApprovalView>>, Error> {
    let limit = filter.limit.unwrap_or(200).min(MAX_LIST);
    let stored = orchestrator
        .store()
        .approvals(filter.all, limit, orchestrator.now())
        .await?;
    Ok(Json(
        stored
            .into_iter()
            .map(|stored| approvals::view(&orchestrator, &person, stored))
            .collect(),
    ))
}

/// `GET /api/approvals/{id}`.
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

/// `POST /api/approvals/{id}/approve`.
pub(crate) async fn approve(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(approve): Body<Approve>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::approve(&orchestrator, &person, id, approve).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}

/// `POST /api/approvals/{id}/reject`.
pub(crate) async fn reject(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(reject): Body<Reject>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::reject(&orchestrator, &person, id, &reject.reason).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}

/// `POST /api/approvals/{id}/withdraw`: of the agent's owner, or of whoever it asks for.
pub(crate) async fn withdraw(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Body(withdraw): Body<Withdraw>,
) -> Result<Json<ApprovalView>, Error> {
    let stored = approvals::withdraw(&orchestrator, &person, id, &withdraw.reason).await?;
    Ok(Json(approvals::view(&orchestrator, &person, stored)))
}
