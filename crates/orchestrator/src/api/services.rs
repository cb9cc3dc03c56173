//! Services and commands, and what would come of one.

use authz::ServiceName;
use axum::{Json, extract::State};
use contract::{
    catalog::ServiceView,
    explain::{ExplainAnswer, ExplainCommand},
    overview::{Overview, Range},
};
use serde::Deserialize;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator,
    authenticate::{May, View},
    error::Error,
    explain, overview, services,
};

/// `GET /api/services`.
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<ServiceView>>, Error> {
    let services = services::all(&orchestrator).await?;
    let views = services.values().filter_map(|service| service.view(false));
    Ok(Json(views.collect()))
}

/// `GET /api/services/{name}`.
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

/// `POST /api/explain`.
pub(crate) async fn explain(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Body(question): Body<ExplainCommand>,
) -> Result<Json<ExplainAnswer>, Error> {
    explain::answer(&orchestrator, question).await.map(Json)
}

/// How far back.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HowFar {
    #[serde(default)]
    range: Range,
}

/// `GET /api/overview?range=1h|24h|7d`.
pub(crate) async fn overview(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(how_far): Parameters<HowFar>,
) -> Result<Json<Overview>, Error> {
    overview::look(&orchestrator, how_far.range).await.map(Json)
}
