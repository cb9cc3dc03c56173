//! Grants: seen and taken back.

use std::collections::HashMap;

use authz::{AgentRef, GrantId, Timestamp};
use axum::{Json, extract::State, http::StatusCode};
use contract::agents::{GrantView, Revoke};
use serde::Deserialize;
use store::grants::StoredGrant;
use utoipa::IntoParams;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator,
    authenticate::{May, Person, View},
    error::Error,
    grants,
};

/// What a list may be narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Of this agent only, by id or name.
    #[serde(default)]
    agent: Option<String>,
    /// Those that ended, too.
    #[serde(default)]
    #[param(required = false)]
    all: bool,
}

#[utoipa::path(
    get,
    path = "/api/grants",
    tag = "grants",
    summary = "Grants, newest first",
    params(Filter),
    responses((status = 200, description = "Live ones, or all", body = Vec<GrantView>), (status = 404, description = "There is no such agent"))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<GrantView>>, Error> {
    let now = orchestrator.now();
    let (only, names) = match filter.agent {
        None => (None, orchestrator.store().grant_holders().await?),
        Some(agent) => {
            let agent: AgentRef = agent
                .parse()
                .map_err(|error| Error::field("agent", error))?;
            let agent = orchestrator.store().agent(&agent).await?.agent;
            (Some(agent.id), vec![(agent.id, agent.name)])
        }
    };
    let names: HashMap<_, _> = names.into_iter().collect();
    let grants = orchestrator.store().grants(only, filter.all, now).await?;
    let views = grants.into_iter().filter_map(|stored| {
        let agent_name = names.get(&stored.grant.agent)?.clone();
        Some(GrantView {
            state: state(&stored, now).to_owned(),
            grant: stored.grant,
            agent_name,
        })
    });
    Ok(Json(views.collect()))
}

#[utoipa::path(
    post,
    path = "/api/grants/{grant}/revoke",
    tag = "grants",
    summary = "Take a grant back",
    params(("grant" = GrantId, Path)),
    request_body = Revoke,
    responses((status = 204, description = "It gives no right any more"), (status = 409, description = "It had ended"))
)]
pub(crate) async fn revoke(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Named(grant): Named<GrantId>,
    Body(revoke): Body<Revoke>,
) -> Result<StatusCode, Error> {
    grants::revoke(&orchestrator, &person, None, grant, &revoke.reason).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn state(stored: &StoredGrant, now: Timestamp) -> &'static str {
    if stored.revoked.is_some() {
        "revoked"
    } else if stored.spent.is_some() {
        "spent"
    } else if stored.is_live(now) {
        "live"
    } else {
        "expired"
    }
}
