//! Policy sets, as people inspect them.

use authz::PolicySetVersion;
use axum::{
    Json,
    extract::{Path, State},
};
use contract::policy_sets::{PolicySetBundle, PolicySetStatus};

use crate::{
    Orchestrator,
    authenticate::{May, View},
    error::Error,
    policy_folder,
};

/// `GET /api/policy-set`.
pub(crate) async fn status(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Json<PolicySetStatus> {
    Json(policy_folder::status(&orchestrator))
}

/// `GET /api/policy-sets/{version}`.
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Path(version): Path<PolicySetVersion>,
) -> Result<Json<PolicySetBundle>, Error> {
    let stored = orchestrator.store().policy_set(&version).await?;
    Ok(Json(PolicySetBundle {
        version: stored.version,
        sources: stored.sources,
        activated: stored.activated,
    }))
}
