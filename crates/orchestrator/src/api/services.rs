//! Services and commands, and what would come of one.

use authz::ServiceName;
use axum::{Json, extract::State};
use contract::{
    catalog::ServiceView,
    explain::{ExplainAnswer, ExplainCommand},
    overview::{Overview, Range},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator,
    authenticate::{May, View},
    error::Error,
    explain, overview, services,
};

#[utoipa::path(
    get,
    path = "/api/services",
    tag = "services",
    summary = "What gateways say that they can carry out",
    responses((status = 200, description = "By name", body = Vec<ServiceView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<ServiceView>>, Error> {
    let services = services::all(&orchestrator).await?;
    let views = services.values().filter_map(|service| service.view(false));
    Ok(Json(views.collect()))
}

#[utoipa::path(
    get,
    path = "/api/services/{service}",
    tag = "services",
    summary = "One service, with its commands",
    params(("service" = ServiceName, Path)),
    responses((status = 200, description = "With its commands", body = ServiceView))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<ServiceName>,
) -> Result<Json<ServiceView>, Error> {
    let service = services::one(&orchestrator, &name).await?;
    service
        .view(true)
        .map(Json)
        .ok_or_else(|| Error::Bug("a service that nobody describes".to_owned()))
}

#[utoipa::path(
    post,
    path = "/api/explain",
    tag = "services",
    summary = "What would come of a command, and why; nothing is carried out",
    request_body = ExplainCommand,
    responses((status = 200, description = "The answer", body = ExplainAnswer), (status = 404, description = "There is no such agent or command"), (status = 409, description = "Gateways disagree about the command"), (status = 422, description = "The policy set cannot be loaded"))
)]
pub(crate) async fn explain(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Body(question): Body<ExplainCommand>,
) -> Result<Json<ExplainAnswer>, Error> {
    explain::answer(&orchestrator, question).await.map(Json)
}

/// How far back.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HowFar {
    /// `1h`, `24h` or `7d`; `1h` if absent.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    range: Range,
}

#[utoipa::path(
    get,
    path = "/api/overview",
    tag = "services",
    summary = "What happened lately, in numbers",
    params(HowFar),
    responses((status = 200, description = "In numbers", body = Overview))
)]
pub(crate) async fn overview(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(how_far): Parameters<HowFar>,
) -> Result<Json<Overview>, Error> {
    overview::look(&orchestrator, how_far.range).await.map(Json)
}
