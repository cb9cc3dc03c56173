//! Agents and their credentials.

use std::collections::{BTreeSet, HashMap};

use authz::{
    Agent, AgentId, AgentName, AgentRef, Grant, RoleName, ServiceName, TeamName, Timestamp,
    TokenId, UserId,
};
use axum::{Json, extract::State, http::StatusCode};
use contract::agents::{
    AgentView, ChangeAgent, CreateAgent, CreateToken, CreatedToken, Member, Suspend, TokenView,
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use store::agents::{AgentChange, StoredAgent, Token};
use utoipa::IntoParams;

use super::{Json as Body, Named, NamedWithin, Parameters};
use crate::{
    Orchestrator,
    approvals::{MAX_REASON_CHARS, check_text},
    authenticate::{ManageAgents, May, Person, View},
    credential,
    error::Error,
    precondition::{Precondition, Tag, Tagged},
};

/// A label is at most so many characters.
const MAX_LABEL_CHARS: usize = 200;

/// A credential with an end lives at most ten years.
const MAX_TOKEN_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// A list is at most so long; what is behind it is read with `after`.
const MAX_LIST: u32 = 1_000;

/// An agent has at most so many teams, roles and standing services each.
const MAX_MEMBERS: usize = 500;

/// Which agents.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Those whose name comes after this one.
    #[serde(default)]
    after: Option<AgentName>,
    /// At most so many.
    #[serde(default)]
    limit: Option<u32>,
}

#[utoipa::path(
    get,
    path = "/api/agents",
    tag = "agents",
    summary = "Agents with their live grants, by name",
    params(Page),
    responses((status = 200, description = "At most `limit` of them", body = Vec<AgentView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(page): Parameters<Page>,
) -> Result<Json<Vec<AgentView>>, Error> {
    let limit = page.limit.unwrap_or(MAX_LIST).min(MAX_LIST);
    let after = page.after.as_ref().map_or("", AgentName::as_str);
    let agents = orchestrator.store().agents_after(after, limit).await?;
    // The store gives the newest first.
    let mut grants: HashMap<AgentId, Vec<Grant>> = HashMap::new();
    let live = orchestrator
        .store()
        .grants(None, false, orchestrator.now())
        .await?;
    for stored in live.into_iter().rev() {
        let grant = stored.grant;
        grants.entry(grant.agent).or_default().push(grant);
    }
    let views = agents.into_iter().map(|stored| {
        let grants = grants.remove(&stored.agent.id).unwrap_or_default();
        with_grants(stored, grants)
    });
    Ok(Json(views.collect()))
}

#[utoipa::path(
    get,
    path = "/api/agents/{agent}",
    tag = "agents",
    summary = "One agent with its live grants",
    params(("agent" = AgentRef, Path, description = "Its id or name")),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
) -> Result<Tagged<AgentView>, Error> {
    let stored = orchestrator.store().agent(&agent).await?;
    view(&orchestrator, stored, orchestrator.now()).await
}

#[utoipa::path(
    post,
    path = "/api/agents",
    tag = "agents",
    summary = "Register an agent",
    request_body = CreateAgent,
    responses((status = 201, description = "It is registered", body = AgentView, headers(("ETag" = String, description = "Its revision"))), (status = 409, description = "The name is taken"))
)]
pub(crate) async fn create(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateAgent>,
) -> Result<(StatusCode, Tagged<AgentView>), Error> {
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
    check_members(&agent)?;
    let stored = orchestrator.store().create_agent(&agent, &actor).await?;
    let tag = Tag(stored.revision);
    Ok((
        StatusCode::CREATED,
        Tagged(tag, with_grants(stored, Vec::new())),
    ))
}

#[utoipa::path(
    patch,
    path = "/api/agents/{agent}",
    tag = "agents",
    summary = "Change an agent; what is absent stays",
    params(("agent" = AgentRef, Path, description = "Its id or name"), Precondition),
    request_body = ChangeAgent,
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))), (status = 428, description = "A whole list would be replaced, and `If-Match` does not say that the caller saw it"))
)]
pub(crate) async fn change(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
    seen: Precondition,
    Body(change): Body<ChangeAgent>,
) -> Result<Tagged<AgentView>, Error> {
    if change.teams.is_some() || change.roles.is_some() || change.allowed_mcps.is_some() {
        seen.demand("this would replace a whole list")?;
    }
    check_owner(&orchestrator, change.owner.as_ref()).await?;
    let what = AgentChange::PLAIN;
    write(&orchestrator, &person, &agent, &seen, what, |agent| {
        apply(change, agent);
    })
    .await
}

// From now on everything that it sends is refused, at every gateway that follows the feed.
#[utoipa::path(
    post,
    path = "/api/agents/{agent}/suspend",
    tag = "agents",
    summary = "Stop an agent: everything that it sends is refused from now on, at every gateway",
    params(("agent" = AgentRef, Path, description = "Its id or name"), Precondition),
    request_body = Suspend,
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn suspend(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
    seen: Precondition,
    Body(suspend): Body<Suspend>,
) -> Result<Tagged<AgentView>, Error> {
    set_suspended(&orchestrator, &person, &agent, &seen, &suspend.reason, true).await
}

#[utoipa::path(
    post,
    path = "/api/agents/{agent}/resume",
    tag = "agents",
    summary = "Let a suspended agent go on",
    params(("agent" = AgentRef, Path, description = "Its id or name"), Precondition),
    request_body = Suspend,
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn resume(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
    seen: Precondition,
    Body(suspend): Body<Suspend>,
) -> Result<Tagged<AgentView>, Error> {
    set_suspended(
        &orchestrator,
        &person,
        &agent,
        &seen,
        &suspend.reason,
        false,
    )
    .await
}

/// Stops an agent, or lets it go on: for every door through which people do that.
pub(crate) async fn set_suspended(
    orchestrator: &Orchestrator,
    person: &Person,
    agent: &AgentRef,
    seen: &Precondition,
    reason: &str,
    suspended: bool,
) -> Result<Tagged<AgentView>, Error> {
    check_text("reason", reason, MAX_REASON_CHARS)?;
    let kind = if suspended {
        "agent_suspended"
    } else {
        "agent_resumed"
    };
    let what = AgentChange { kind, reason };
    let changed = write(orchestrator, person, agent, seen, what, |agent| {
        agent.suspended = suspended;
    })
    .await?;
    tracing::info!(agent.id = %changed.1.agent.id, user = %person.user.id, "{kind}");
    Ok(changed)
}

#[utoipa::path(
    put,
    path = "/api/agents/{agent}/allowed-services/{service}",
    tag = "agents",
    summary = "Give an agent standing access to a service; no error if it has it",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("service" = ServiceName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn allow_service(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, service): NamedWithin<AgentRef, ServiceName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Service(service),
        true,
    )
    .await
}

#[utoipa::path(
    delete,
    path = "/api/agents/{agent}/allowed-services/{service}",
    tag = "agents",
    summary = "Take standing access to a service away; no error if there was none",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("service" = ServiceName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn disallow_service(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, service): NamedWithin<AgentRef, ServiceName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Service(service),
        false,
    )
    .await
}

#[utoipa::path(
    put,
    path = "/api/agents/{agent}/roles/{role}",
    tag = "agents",
    summary = "Give an agent a role; no error if it has it",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("role" = RoleName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn add_role(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, role): NamedWithin<AgentRef, RoleName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Role(role),
        true,
    )
    .await
}

#[utoipa::path(
    delete,
    path = "/api/agents/{agent}/roles/{role}",
    tag = "agents",
    summary = "Take a role away; no error if there was none",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("role" = RoleName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn remove_role(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, role): NamedWithin<AgentRef, RoleName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Role(role),
        false,
    )
    .await
}

#[utoipa::path(
    put,
    path = "/api/agents/{agent}/teams/{team}",
    tag = "agents",
    summary = "Put an agent into a team; no error if it is there",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("team" = TeamName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn add_team(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, team): NamedWithin<AgentRef, TeamName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Team(team),
        true,
    )
    .await
}

#[utoipa::path(
    delete,
    path = "/api/agents/{agent}/teams/{team}",
    tag = "agents",
    summary = "Take an agent out of a team; no error if it was not there",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("team" = TeamName, Path), Precondition),
    responses((status = 200, description = "The agent as it is now", body = AgentView, headers(("ETag" = String, description = "Its revision"))))
)]
pub(crate) async fn remove_team(
    May(person, ..): May<ManageAgents>,
    State(orchestrator): State<Orchestrator>,
    NamedWithin(agent, team): NamedWithin<AgentRef, TeamName>,
    seen: Precondition,
) -> Result<Tagged<AgentView>, Error> {
    set_member(
        &orchestrator,
        &person,
        &agent,
        &seen,
        Member::Team(team),
        false,
    )
    .await
}

/// Adds one member to a set of the agent's, or removes it.
async fn set_member(
    orchestrator: &Orchestrator,
    person: &Person,
    agent: &AgentRef,
    seen: &Precondition,
    member: Member,
    there: bool,
) -> Result<Tagged<AgentView>, Error> {
    fn set<T: Ord>(members: &mut BTreeSet<T>, member: T, there: bool) {
        if there {
            members.insert(member);
        } else {
            members.remove(&member);
        }
    }
    let what = AgentChange::PLAIN;
    write(
        orchestrator,
        person,
        agent,
        seen,
        what,
        |agent| match member {
            Member::Service(service) => set(&mut agent.allowed_mcps, service, there),
            Member::Role(role) => set(&mut agent.roles, role, there),
            Member::Team(team) => set(&mut agent.teams, team, there),
        },
    )
    .await
}

/// Changes an agent if it is still as the caller saw it.
async fn write(
    orchestrator: &Orchestrator,
    person: &Person,
    agent: &AgentRef,
    seen: &Precondition,
    what: AgentChange<'_>,
    change: impl FnOnce(&mut Agent) + Send,
) -> Result<Tagged<AgentView>, Error> {
    let actor = orchestrator.actor(person);
    let stored = orchestrator
        .store()
        .change_agent_if(agent, what, &actor, |stored, agent| {
            seen.check(Tag(stored.revision))?;
            change(agent);
            check_members(agent)
        })
        .await?;
    view(orchestrator, stored, actor.at).await
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

#[utoipa::path(
    get,
    path = "/api/agents/{agent}/tokens",
    tag = "agents",
    summary = "The credentials of an agent, newest first",
    params(("agent" = AgentRef, Path, description = "Its id or name")),
    responses((status = 200, description = "Without the secret part", body = Vec<TokenView>))
)]
pub(crate) async fn tokens(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
) -> Result<Json<Vec<TokenView>>, Error> {
    let agent = orchestrator.store().agent(&agent).await?.agent;
    let tokens = orchestrator.store().agent_tokens(agent.id).await?;
    Ok(Json(tokens.iter().map(token_view).collect()))
}

#[utoipa::path(
    post,
    path = "/api/agents/{agent}/tokens",
    tag = "agents",
    summary = "Make a credential for an agent",
    params(("agent" = AgentRef, Path, description = "Its id or name")),
    request_body = CreateToken,
    responses((status = 201, description = "The one time that it is shown", body = CreatedToken))
)]
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

#[utoipa::path(
    delete,
    path = "/api/agents/{agent}/tokens/{token}",
    tag = "agents",
    summary = "Revoke a credential of an agent",
    params(("agent" = AgentRef, Path, description = "Its id or name"), ("token" = TokenId, Path)),
    responses((status = 204, description = "It opens nothing any more"))
)]
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
) -> Result<Tagged<AgentView>, Error> {
    let mut grants = orchestrator
        .store()
        .grants(Some(stored.agent.id), false, now)
        .await?;
    grants.reverse();
    let grants = grants.into_iter().map(|stored| stored.grant).collect();
    Ok(Tagged(Tag(stored.revision), with_grants(stored, grants)))
}

fn with_grants(stored: StoredAgent, grants: Vec<Grant>) -> AgentView {
    AgentView {
        agent: stored.agent,
        created: stored.created,
        revision: stored.revision,
        grants,
    }
}

fn check_members(agent: &Agent) -> Result<(), Error> {
    let most = [
        ("teams", agent.teams.len()),
        ("roles", agent.roles.len()),
        ("allowed_mcps", agent.allowed_mcps.len()),
    ];
    match most.into_iter().find(|(_, count)| *count > MAX_MEMBERS) {
        None => Ok(()),
        Some((field, _)) => Err(Error::field(
            field,
            format_args!("at most {MAX_MEMBERS} for one agent"),
        )),
    }
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
