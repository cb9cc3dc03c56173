//! One agent: what it is and may do, what it did, and everything that people change about it.

use askama::Template;
use authz::{
    Agent, AgentRef, GrantId, Timestamp, TokenId,
    approval::{Administration, may_revoke},
};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    response::Response,
    routing::{get, post},
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::Value;
use store::{audit::AuditRow, grants::StoredGrant};

use super::{
    Frame, Trouble, Visitor,
    agents::{Fields, FormPage, owners},
    ask::Asked,
    budgets::BudgetRow,
    go,
    moment::Moment,
    page, page_with,
    request::{covers, state},
    tokens::{self, NewToken},
};
use crate::{
    Orchestrator,
    api::{Named, NamedWithin, agents::check_token},
    authenticate::Person,
    credential::{self, Digest},
    error::Error,
    grants,
};

/// Lines of the audit trail that are shown.
const RECENT: u32 = 25;

/// Grants that ended, shown at most.
const ENDED: usize = 10;

/// Requests that wait, shown at most.
const WAITING: u32 = 100;

pub(crate) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/agents/{agent}", get(show))
        .route("/agents/{agent}/edit", get(edit).post(change))
        .route("/agents/{agent}/suspend", post(suspend))
        .route("/agents/{agent}/resume", post(resume))
        .route("/agents/{agent}/tokens", post(create_token))
        .route("/agents/{agent}/tokens/{token}/revoke", post(revoke_token))
        .route("/agents/{agent}/grants/{grant}/revoke", post(revoke_grant))
}

#[derive(Template)]
#[template(path = "agent.html")]
struct AgentPage {
    frame: Frame,
    agent: Agent,
    path: String,
    created: Moment,
    waiting: Vec<Asked>,
    live: Vec<Given>,
    ended: Vec<Given>,
    tokens: Vec<tokens::Listed>,
    /// The one time that a new credential is shown.
    secret: Option<String>,
    budgets: Vec<BudgetRow>,
    recent: Vec<Line>,
    may_manage: bool,
    may_revoke: bool,
}

/// A grant of the agent's.
struct Given {
    id: GrantId,
    request: String,
    what: String,
    risk: authz::Risk,
    by: String,
    issued: Moment,
    expires: Moment,
    state: &'static str,
}

impl Given {
    fn new(stored: &StoredGrant, now: Timestamp) -> Self {
        let grant = &stored.grant;
        let by = match &grant.second {
            Some(second) => format!("{}, {second}", grant.first),
            None => grant.first.to_string(),
        };
        Self {
            id: grant.id,
            request: format!("/approvals/{}", grant.approval),
            what: covers(grant),
            risk: grant.risk,
            by,
            issued: Moment::past(grant.issued, now),
            expires: Moment::until(grant.expires, now),
            state: state(stored, now),
        }
    }
}

/// A line of the audit trail.
struct Line {
    at: Moment,
    kind: String,
    /// How it went: a class of badges.
    mood: &'static str,
    command: String,
    by: String,
    why: String,
}

impl Line {
    fn new(row: AuditRow, now: Timestamp) -> Self {
        let mood = match row.kind.as_str() {
            "intent" | "approved" => "ok",
            "outcome" => match row.entry.get("status").and_then(Value::as_str) {
                Some("success") => "ok",
                Some("unknown") => "unknown",
                _ => "failed",
            },
            "refusal" => match row.entry.get("outcome").and_then(Value::as_str) {
                Some("pending") => "pending",
                _ => "refused",
            },
            "rejected" | "revoked" => "refused",
            "approval_opened" | "approval_advanced" => "pending",
            _ => "",
        };
        Self {
            at: Moment::past(row.at, now),
            mood,
            why: why(&row.entry),
            kind: row.kind.replace('_', " "),
            command: row.command.unwrap_or_default(),
            by: row.user.or(row.gateway).unwrap_or_default(),
        }
    }
}

/// What a line says of how it came to it.
fn why(entry: &Value) -> String {
    let texts = |value: &Value| match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items
            .iter()
            .filter_map(Value::as_str)
            .collect::<Vec<_>>()
            .join(", "),
        _ => String::new(),
    };
    let parts: Vec<_> = ["status", "outcome", "policies", "error", "reason"]
        .iter()
        .filter_map(|key| entry.get(key).map(texts))
        .filter(|text| !text.is_empty())
        .collect();
    parts.join(" · ")
}

/// `GET /agents/{id}`.
async fn show(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
) -> Result<Response, Trouble> {
    let Named(agent) = agent?;
    let shown = AgentPage::new(&orchestrator, &person, frame, &agent, None).await?;
    Ok(page(&shown))
}

impl AgentPage {
    async fn new(
        orchestrator: &Orchestrator,
        person: &Person,
        frame: Frame,
        agent: &AgentRef,
        secret: Option<String>,
    ) -> Result<Self, Error> {
        let now = orchestrator.now();
        let store = orchestrator.store();
        let stored = store.agent(agent).await?;
        let agent = stored.agent;
        let waiting = store.waiting_of(agent.id, WAITING, now).await?;
        let grants = store.grants(Some(agent.id), true, now).await?;
        let (live, ended): (Vec<_>, Vec<_>) = grants
            .iter()
            .map(|stored| Given::new(stored, now))
            .partition(|given| given.state == "live");
        let tokens = store.agent_tokens(agent.id).await?;
        let recent = store.recent_audit(agent.id, RECENT).await?;
        let in_force = orchestrator.in_force();
        Ok(Self {
            frame,
            path: format!("/agents/{}", agent.id),
            created: Moment::past(stored.created, now),
            waiting: waiting
                .iter()
                .map(|stored| Asked::new(orchestrator, person, stored, now))
                .collect(),
            live,
            ended: ended.into_iter().take(ENDED).collect(),
            tokens: tokens
                .iter()
                .map(|token| tokens::Listed::new(token, now))
                .collect(),
            secret,
            budgets: BudgetRow::today(orchestrator, Some(agent.id), None).await?,
            recent: recent.into_iter().map(|row| Line::new(row, now)).collect(),
            may_manage: person
                .may(orchestrator, Administration::ManageAgents)
                .is_ok(),
            may_revoke: may_revoke(
                &in_force.set,
                &person.user,
                &agent,
                person.presence(orchestrator),
            )
            .is_ok(),
            agent,
        })
    }
}

/// Of everything that the form shows and may change.
fn seen(agent: &Agent) -> Result<String, Error> {
    let text = serde_json::to_string(agent).map_err(|error| Error::Bug(error.to_string()))?;
    Ok(Digest::of(&text).hex())
}

async fn edit_page(
    orchestrator: &Orchestrator,
    frame: Frame,
    agent: &Agent,
    fields: Fields,
) -> Result<FormPage, Error> {
    Ok(FormPage {
        frame,
        known: Some(agent.name.to_string()),
        action: format!("/agents/{}/edit", agent.id),
        cancel: format!("/agents/{}", agent.id),
        fields,
        people: owners(orchestrator).await?,
    })
}

/// `GET /agents/{id}/edit`.
async fn edit(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let Named(agent) = agent?;
    let agent = orchestrator.store().agent(&agent).await?.agent;
    let fields = Fields::of(&agent, seen(&agent)?);
    Ok(page(
        &edit_page(&orchestrator, frame, &agent, fields).await?,
    ))
}

/// `POST /agents/{id}/edit`: not over what somebody else changed since.
async fn change(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let Named(agent) = agent?;
    let Form(mut fields) = form.map_err(Error::from)?;
    let before = orchestrator.store().agent(&agent).await?.agent;
    let save = async {
        let after = fields.agent(&orchestrator, before.clone()).await?;
        let mut stale = false;
        orchestrator
            .store()
            .change_agent(&agent, &orchestrator.actor(&person), |agent| {
                if seen(agent).is_ok_and(|now| now == fields.seen) {
                    *agent = after;
                } else {
                    stale = true;
                }
            })
            .await?;
        if stale {
            return Err(Error::Conflict(
                "somebody changed this agent since you opened the form: compare, and save again"
                    .to_owned(),
            ));
        }
        Ok(())
    };
    let error = match save.await {
        Ok(()) => return Ok(go(&format!("/agents/{}?done=saved", before.id))),
        Err(error) => error,
    };
    error.log();
    let status = error.status();
    if status == axum::http::StatusCode::CONFLICT {
        fields.seen = seen(&before)?;
    }
    let frame = frame.warning(Some(error.to_string()));
    let form = edit_page(&orchestrator, frame, &before, fields).await?;
    Ok(page_with(status, &form))
}

/// `POST /agents/{id}/suspend`: stops everything that it does, now.
async fn suspend(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
) -> Result<Response, Trouble> {
    set_suspended(&orchestrator, &visitor.person, agent?.0, true).await
}

/// `POST /agents/{id}/resume`.
async fn resume(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
) -> Result<Response, Trouble> {
    set_suspended(&orchestrator, &visitor.person, agent?.0, false).await
}

async fn set_suspended(
    orchestrator: &Orchestrator,
    person: &Person,
    agent: AgentRef,
    suspended: bool,
) -> Result<Response, Trouble> {
    person.may(orchestrator, Administration::ManageAgents)?;
    let stored = orchestrator
        .store()
        .change_agent(&agent, &orchestrator.actor(person), |agent| {
            agent.suspended = suspended;
        })
        .await?;
    tracing::info!(
        agent.id = %stored.agent.id,
        user = %person.user.id,
        suspended,
        "agent_suspension"
    );
    let done = if suspended { "suspended" } else { "resumed" };
    Ok(go(&format!("/agents/{}?done={done}", stored.agent.id)))
}

/// `POST /agents/{id}/tokens`: the answer is the one page that shows it.
async fn create_token(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    agent: Result<Named<AgentRef>, Error>,
    form: Result<Form<NewToken>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let Named(agent) = agent?;
    let Form(new) = form.map_err(Error::from)?;
    let actor = orchestrator.actor(&person);
    let make = async {
        let create = new.create()?;
        let expires = check_token(&create)?.map(|lifetime| actor.at.plus(lifetime));
        let id = orchestrator.store().agent(&agent).await?.agent.id;
        let (token, stored) = credential::agent_token(&create.label, actor.at, expires);
        orchestrator
            .store()
            .create_agent_token(id, &stored, &actor)
            .await?;
        Ok(token)
    };
    let (frame, secret, status) = match make.await {
        Ok(token) => (
            frame,
            Some(token.expose_secret().to_owned()),
            axum::http::StatusCode::OK,
        ),
        Err(error) => {
            let error: Error = error;
            error.log();
            let status = error.status();
            (frame.warning(Some(error.to_string())), None, status)
        }
    };
    let shown = AgentPage::new(&orchestrator, &person, frame, &agent, secret).await?;
    Ok(page_with(status, &shown))
}

/// `POST /agents/{id}/tokens/{token}/revoke`.
async fn revoke_token(
    Visitor { person, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    token: Result<NamedWithin<AgentRef, TokenId>, Error>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let NamedWithin(agent, token) = token?;
    let agent = orchestrator.store().agent(&agent).await?.agent.id;
    orchestrator
        .store()
        .revoke_agent_token(agent, token, &orchestrator.actor(&person))
        .await?;
    Ok(go(&format!("/agents/{agent}?done=token-revoked#tokens")))
}

/// What taking a grant back sends.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Revoke {
    #[serde(default)]
    reason: String,
    /// The request's page, when it was done there.
    #[serde(default)]
    request: bool,
}

/// `POST /agents/{id}/grants/{grant}/revoke`.
async fn revoke_grant(
    Visitor { person, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    grant: Result<NamedWithin<AgentRef, GrantId>, Error>,
    form: Result<Form<Revoke>, FormRejection>,
) -> Result<Response, Trouble> {
    let NamedWithin(agent, grant) = grant?;
    let Form(Revoke { reason, request }) = form.map_err(Error::from)?;
    let stored = grants::revoke(&orchestrator, &person, Some(&agent), grant, &reason).await?;
    Ok(go(&if request {
        format!("/approvals/{}?done=grant-revoked", stored.grant.approval)
    } else {
        format!("/agents/{}?done=grant-revoked", stored.grant.agent)
    }))
}
