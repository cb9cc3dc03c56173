//! Policy sets, as people inspect, push, activate and shadow them.

use authz::PolicySetVersion;
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::policy_sets::{
    ActivatePolicySet, ActivationView, PolicySetChanged, PolicySetStatus, PolicySetView,
    PushPolicySet, RollBack, ShadowPolicySet, Then,
};
use serde::Deserialize;
use store::policy_sets::PolicySetHead;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator, activation,
    authenticate::{ManagePolicies, May, View},
    error::Error,
    policy_folder,
};

/// A pushed set is at most so many bytes of JSON: `PolicySet::load` takes half as much
/// text, and quoting may double it.
pub(crate) const MAX_PUSH_BYTES: usize = 40 * 1024 * 1024;

/// A list shows at most so many versions.
const MAX_VERSIONS: u32 = 1_000;

/// `GET /api/policy-set`.
pub(crate) async fn status(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<PolicySetStatus>, Error> {
    Ok(Json(policy_folder::status(&orchestrator).await?))
}

/// `GET /api/policy-sets`.
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<PolicySetView>>, Error> {
    let heads = orchestrator.store().policy_sets(MAX_VERSIONS).await?;
    Ok(Json(heads.into_iter().map(view).collect()))
}

/// `GET /api/policy-sets/{version}`.
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(version): Named<PolicySetVersion>,
) -> Result<Json<PolicySetView>, Error> {
    let stored = orchestrator.store().policy_set(&version).await?;
    Ok(Json(PolicySetView {
        sources: Some(stored.sources),
        ..view(stored.head)
    }))
}

/// `POST /api/policy-sets`.
pub(crate) async fn push(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Body(push): Body<PushPolicySet>,
) -> Result<Response, Error> {
    let stored_only = push.then == Then::Store;
    let changed = activation::push(&orchestrator, &person, push).await?;
    let status = if stored_only && changed.changed {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((status, Json(changed)).into_response())
}

/// `POST /api/policy-sets/{version}/activate`.
pub(crate) async fn activate(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Named(version): Named<PolicySetVersion>,
    Body(activate): Body<ActivatePolicySet>,
) -> Result<Json<PolicySetChanged>, Error> {
    activation::activate(&orchestrator, &person, &version, activate)
        .await
        .map(Json)
}

/// `POST /api/policy-set/rollback`.
pub(crate) async fn roll_back(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Body(back): Body<RollBack>,
) -> Result<Json<PolicySetChanged>, Error> {
    activation::roll_back(&orchestrator, &person, back)
        .await
        .map(Json)
}

/// `POST /api/policy-set/shadow`.
pub(crate) async fn shadow(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Body(shadow): Body<ShadowPolicySet>,
) -> Result<Json<PolicySetChanged>, Error> {
    activation::shadow(&orchestrator, &person, shadow)
        .await
        .map(Json)
}

/// How many activations.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HowMany {
    #[serde(default = "fifty")]
    limit: u32,
}

const fn fifty() -> u32 {
    50
}

/// `GET /api/policy-activations?limit=`.
pub(crate) async fn activations(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(how_many): Parameters<HowMany>,
) -> Result<Json<Vec<ActivationView>>, Error> {
    if !(1..=1_000).contains(&how_many.limit) {
        return Err(Error::field("limit", "from 1 to 1000"));
    }
    let activations = orchestrator
        .store()
        .policy_activations(how_many.limit)
        .await?;
    let views = activations.into_iter().map(|activation| ActivationView {
        id: activation.id,
        version: activation.version,
        kind: activation.kind.as_str().to_owned(),
        at: activation.at,
        by: activation.by,
        via: activation.via,
        reason: activation.reason,
    });
    Ok(Json(views.collect()))
}

fn view(head: PolicySetHead) -> PolicySetView {
    PolicySetView {
        version: head.version,
        stored: head.stored,
        stored_by: head.stored_by,
        stored_via: head.stored_via,
        active: head.active,
        findings: head.findings,
        sources: None,
    }
}
