//! Tools of MCP servers, and their reviews.

use authz::{CommandName, ServiceName};
use axum::{Json, extract::State};
use contract::tools::{ApproveTools, ToolDetails, ToolReviews, ToolView, WithdrawTools};

use super::{Json as Body, Named, NamedWithin};
use crate::{
    Orchestrator,
    authenticate::{GatewayCaller, ManagePolicies, May, View},
    error::Error,
    tools,
};

#[utoipa::path(
    get,
    path = "/api/services/{service}/tools",
    tag = "services",
    summary = "The tools of an MCP server, and who reviewed them",
    params(("service" = ServiceName, Path)),
    responses((status = 200, description = "By name", body = Vec<ToolView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(service): Named<ServiceName>,
) -> Result<Json<Vec<ToolView>>, Error> {
    tools::all(&orchestrator, &service).await.map(Json)
}

#[utoipa::path(
    get,
    path = "/api/services/{service}/tools/{tool}",
    tag = "services",
    summary = "One tool, with its definitions and what differs between them",
    params(("service" = ServiceName, Path), ("tool" = CommandName, Path)),
    responses((status = 200, description = "As of now", body = ToolDetails))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(service, tool): NamedWithin<ServiceName, CommandName>,
) -> Result<Json<ToolDetails>, Error> {
    tools::one(&orchestrator, &service, &tool).await.map(Json)
}

#[utoipa::path(
    post,
    path = "/api/services/{service}/approve-tools",
    tag = "services",
    summary = "Take definitions as reviewed: these may be called",
    params(("service" = ServiceName, Path)),
    request_body = ApproveTools,
    responses((status = 200, description = "All tools, as they are now", body = Vec<ToolView>), (status = 409, description = "A definition is another than the one that was looked at; none is approved"))
)]
pub(crate) async fn approve(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Named(service): Named<ServiceName>,
    Body(approve): Body<ApproveTools>,
) -> Result<Json<Vec<ToolView>>, Error> {
    let approved = tools::approve(&orchestrator, &person, &service, &approve.tools);
    approved.await.map(Json)
}

#[utoipa::path(
    post,
    path = "/api/services/{service}/withdraw-tools",
    tag = "services",
    summary = "Take reviews back: these may not be called any more",
    params(("service" = ServiceName, Path)),
    request_body = WithdrawTools,
    responses((status = 200, description = "All tools, as they are now", body = Vec<ToolView>))
)]
pub(crate) async fn withdraw(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Named(service): Named<ServiceName>,
    Body(withdraw): Body<WithdrawTools>,
) -> Result<Json<Vec<ToolView>>, Error> {
    let left = tools::withdraw(&orchestrator, &person, &service, &withdraw);
    left.await.map(Json)
}

#[utoipa::path(
    get,
    path = "/api/gateway/tool-reviews",
    tag = "gateway",
    summary = "Which definitions of tools somebody reviewed",
    responses((status = 200, description = "By service and tool", body = ToolReviews))
)]
pub(crate) async fn reviews(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<ToolReviews>, Error> {
    let mut reviews = ToolReviews::default();
    for (service, tool, digest) in orchestrator.store().reviewed_digests().await? {
        let tools = reviews.services.entry(service).or_default();
        tools.insert(tool, digest);
    }
    Ok(Json(reviews))
}
