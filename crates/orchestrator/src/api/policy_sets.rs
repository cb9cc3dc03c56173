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
use utoipa::IntoParams;

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

#[utoipa::path(
    get,
    path = "/api/policy-set",
    tag = "policies",
    summary = "What is in force, what beside it, and what is wrong with the folder",
    responses((status = 200, description = "As of now", body = PolicySetStatus))
)]
pub(crate) async fn status(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<PolicySetStatus>, Error> {
    Ok(Json(policy_folder::status(&orchestrator).await?))
}

#[utoipa::path(
    get,
    path = "/api/policy-sets",
    tag = "policies",
    summary = "Stored policy sets, newest first",
    responses((status = 200, description = "Without their sources", body = Vec<PolicySetView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<PolicySetView>>, Error> {
    let heads = orchestrator.store().policy_sets(MAX_VERSIONS).await?;
    Ok(Json(heads.into_iter().map(view).collect()))
}

#[utoipa::path(
    get,
    path = "/api/policy-sets/{version}",
    tag = "policies",
    summary = "One stored policy set",
    params(("version" = PolicySetVersion, Path)),
    responses((status = 200, description = "With its sources", body = PolicySetView))
)]
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

#[utoipa::path(
    post,
    path = "/api/policy-sets",
    tag = "policies",
    summary = "Check and store a policy set, and put it in force or beside",
    request_body = PushPolicySet,
    responses((status = 200, description = "What is so now", body = PolicySetChanged), (status = 201, description = "It is stored, and no more", body = PolicySetChanged), (status = 409, description = "It would lock the caller out, or there is none"), (status = 422, description = "It could not be enforced; `detail` has the findings"))
)]
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

#[utoipa::path(
    post,
    path = "/api/policy-sets/{version}/activate",
    tag = "policies",
    summary = "Put a stored policy set in force",
    params(("version" = PolicySetVersion, Path)),
    request_body = ActivatePolicySet,
    responses((status = 200, description = "What is so now", body = PolicySetChanged), (status = 409, description = "It would lock the caller out, or there is none"), (status = 422, description = "It could not be enforced"))
)]
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

#[utoipa::path(
    post,
    path = "/api/policy-set/rollback",
    tag = "policies",
    summary = "Put the policy set before in force again",
    request_body = RollBack,
    responses((status = 200, description = "What is so now", body = PolicySetChanged), (status = 404, description = "There is no such version"), (status = 409, description = "It would lock the caller out, or there is none"), (status = 422, description = "It could not be enforced"))
)]
pub(crate) async fn roll_back(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Body(back): Body<RollBack>,
) -> Result<Json<PolicySetChanged>, Error> {
    activation::roll_back(&orchestrator, &person, back)
        .await
        .map(Json)
}

#[utoipa::path(
    post,
    path = "/api/policy-set/shadow",
    tag = "policies",
    summary = "Evaluate a stored policy set beside the one in force, or none",
    request_body = ShadowPolicySet,
    responses((status = 200, description = "What is so now", body = PolicySetChanged), (status = 404, description = "There is no such version"), (status = 409, description = "It cannot be evaluated"), (status = 422, description = "It could not be enforced"))
)]
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
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HowMany {
    /// At most so many; 50 if absent.
    #[serde(default = "fifty")]
    #[param(required = false, minimum = 1, maximum = 1000)]
    limit: u32,
}

const fn fifty() -> u32 {
    50
}

#[utoipa::path(
    get,
    path = "/api/policy-activations",
    tag = "policies",
    summary = "What was put in force when, by whom and why, newest first",
    params(HowMany),
    responses((status = 200, description = "At most `limit` of them", body = Vec<ActivationView>))
)]
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
