//! Agents and their credentials.

use authz::{Agent, AgentId, AgentRef, Timestamp, TokenId, UserId};
use axum::{Json, extract::State, http::StatusCode};
use contract::agents::{AgentView, ChangeAgent, CreateAgent, CreateToken, CreatedToken, TokenView};
use secrecy::ExposeSecret;
use store::agents::{StoredAgent, Token};

use super::{Json as Body, Named, NamedWithin};
use crate::{
    Orchestrator,
    approvals::check_text,
    authenticate::{ManageAgents, May, View},
    credential,
    error::Error,
};

/// A label is at most so many characters.
const MAX_LABEL_CHARS: usize = 200;

/// A credential with an end lives at most ten years.
const MAX_TOKEN_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// `GET /api/agents`.
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<AgentView>>, Error> {
    let now = orchestrator.now();
    let agents = orchestrator.store().agents().await?;
    let mut grants = orchestrator.store().grants(None, false, now).await?;
    // The store gives the newest first.
    grants.reverse();
    let views = agents.into_iter().map(|StoredAgent { agent, created }| {
        let grants = grants
            .iter()
            .filter(|stored| stored.grant.agent == agent.id)
            .map(|stored| stored.grant.clone());
        AgentView {
            grants: grants.collect(),
            agent,
            created,
        }
    });
    Ok(Json(views.collect()))
}

/// `GET /api/agents/{id}`, by id or name.
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
) -> Result<Json<AgentView>, Error> {
    let stored = orchestrator.store().agent(&agent).await?;
    view(&orchestrator, stored, orchestrator.now())
        .await
        .map(Json)
}

/// `POST /api/agents`.
pub(crate) async fn create(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateAgent>,
) -> Result<(StatusCode, Json<AgentView>), Error> {
    check_owner(&orchestrator, create.owner.as_ref()).await?;
    let actor = orchestrator.actor(&person);
    let agent = Agent {
        id: AgentId::generate(actor.at),
        name: create.name,
        owner: create.owner,
        teams: create.teams,
        roles: create.roles,
        env: create.env,
        trust: create.trust,
        suspended: false,
        allowed_mcps: create.allowed_mcps,
    };
    let stored = orchestrator.store().create_agent(&agent, &actor).await?;
    let view = AgentView {
        agent: stored.agent,
        created: stored.created,
        grants: Vec::new(),
    };
    Ok((StatusCode::CREATED, Json(view)))
}

/// `PATCH /api/agents/{id}`.
pub(crate) async fn change(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
    Body(change): Body<ChangeAgent>,
) -> Result<Json<AgentView>, Error> {
    check_owner(&orchestrator, change.owner.as_ref()).await?;
    let actor = orchestrator.actor(&person);
    let stored = orchestrator
        .store()
        .change_agent(&agent, &actor, |agent| apply(change, agent))
        .await?;
    view(&orchestrator, stored, actor.at).await.map(Json)
}

fn apply(change: ChangeAgent, agent: &mut Agent) {
    let ChangeAgent {
        owner,
        teams,
        roles,
        env,
        trust,
        suspended,
        allowed_mcps,
    } = change;
    if let Some(owner) = owner {
        agent.owner = Some(owner);
    }
    if let Some(teams) = teams {
        agent.teams = teams;
    }
    if let Some(roles) = roles {
        agent.roles = roles;
    }
    if let Some(env) = env {
        agent.env = env;
    }
    if let Some(trust) = trust {
        agent.trust = trust;
    }
    if let Some(suspended) = suspended {
        agent.suspended = suspended;
    }
    if let Some(allowed_mcps) = allowed_mcps {
        agent.allowed_mcps = allowed_mcps;
    }
}

/// `GET /api/agents/{id}/tokens`.
pub(crate) async fn tokens(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
) -> Result<Json<Vec<TokenView>>, Error> {
    let agent = orchestrator.store().agent(&agent).await?.agent;
    let tokens = orchestrator.store().agent_tokens(agent.id).await?;
    Ok(Json(tokens.iter().map(token_view).collect()))
}

/// `POST /api/agents/{id}/tokens`.
pub(crate) async fn create_token(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
    Body(create): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Error> {
    let actor = orchestrator.actor(&person);
    let expires = check_token(&create)?.map(|lifetime| actor.at.plus(lifetime));
    let agent = orchestrator.store().agent(&agent).await?.agent;
    let (token, stored) = credential::agent_token(&create.label, actor.at, expires);
    orchestrator
        .store()
        .create_agent_token(agent.id, &stored, &actor)
        .await?;
    let created = CreatedToken {
        token: token.expose_secret().to_owned(),
        view: token_view(&stored),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

/// `DELETE /api/agents/{id}/tokens/{token}`.
pub(crate) async fn revoke_token(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, token): NamedWithin<AgentRef, TokenId>,
) -> Result<StatusCode, Error> {
    let actor = orchestrator.actor(&person);
    let agent = orchestrator.store().agent(&agent).await?.agent;
    orchestrator
        .store()
        .revoke_agent_token(agent.id, token, &actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(
    orchestrator: &Orchestrator,
    stored: StoredAgent,
    now: Timestamp,
) -> Result<AgentView, Error> {
    let mut grants = orchestrator
        .store()
        .grants(Some(stored.agent.id), false, now)
        .await?;
    grants.reverse();
    Ok(AgentView {
        agent: stored.agent,
        created: stored.created,
        grants: grants.into_iter().map(|stored| stored.grant).collect(),
    })
}

/// Somebody answers for an agent only if they are here.
pub(crate) async fn check_owner(
    orchestrator: &Orchestrator,
    owner: Option<&UserId>,
) -> Result<(), Error> {
    let Some(owner) = owner else { return Ok(()) };
    match orchestrator.store().user(owner).await {
        Ok(_) => Ok(()),
        Err(store::StoreError::NotFound(_)) => Err(Error::field(
            "owner",
            format_args!("there is no user `{owner}`"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// What a new credential may be called, and how long it may live.
pub(crate) fn check_token(create: &CreateToken) -> Result<Option<std::time::Duration>, Error> {
    check_text("label", &create.label, MAX_LABEL_CHARS)?;
    match create.expires_in_seconds {
        None => Ok(None),
        Some(seconds @ 1..=MAX_TOKEN_SECONDS) => Ok(Some(std::time::Duration::from_secs(seconds))),
        Some(_) => Err(Error::field(
            "expires_in_seconds",
            "from one second to ten years",
        )),
    }
}

pub(crate) fn token_view(token: &Token) -> TokenView {
    TokenView {
        id: token.id,
        label: token.label.clone(),
        created: token.created,
        expires: token.expires,
        revoked: token.revoked,
        last_used: token.last_used,
    }
}
