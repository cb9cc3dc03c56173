//! Agents: the list, and the form for a new one.

use std::collections::BTreeSet;

use askama::Template;
use authz::{Agent, AgentId, Timestamp, approval::Administration, command::Environment};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use store::{
    inbox::Page,
    roster::{Listed, Which},
};

use super::{
    Frame, Trouble, Visitor, form,
    frame::{Pages, query},
    go,
    moment::Moment,
    page, page_with,
};
use crate::{
    Orchestrator,
    api::{Parameters, agents::check_owner},
    error::Error,
};

/// Agents on a page.
const AGENTS: u32 = 50;

pub(crate) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/agents", get(list).post(create))
        .route("/agents/new", get(new))
}

/// Which agents.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Filter {
    q: String,
    /// `active`, `suspended`, or all.
    which: String,
    /// From 0.
    page: Option<u32>,
    /// See [`Frame::noting`].
    done: Option<String>,
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    frame: Frame,
    filter: Filter,
    total: u64,
    agents: Vec<Row>,
    pages: Pages,
    may_manage: bool,
}

struct Row {
    path: String,
    name: String,
    suspended: bool,
    env: &'static str,
    owner: String,
    teams: BTreeSet<authz::TeamName>,
    roles: BTreeSet<authz::RoleName>,
    services: BTreeSet<authz::ServiceName>,
    grants: u64,
    pending: u64,
    created: Moment,
}

impl Row {
    fn new(listed: Listed, now: Timestamp) -> Self {
        let Agent {
            id,
            name,
            owner,
            teams,
            roles,
            env,
            suspended,
            allowed_mcps,
            ..
        } = listed.stored.agent;
        Self {
            path: format!("/agents/{id}"),
            name: name.to_string(),
            suspended,
            env: env.as_str(),
            owner: owner.map(|owner| owner.to_string()).unwrap_or_default(),
            teams,
            roles,
            services: allowed_mcps,
            grants: listed.grants,
            pending: listed.pending,
            created: Moment::past(listed.stored.created, now),
        }
    }
}

/// `GET /agents`.
async fn list(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    filter: Result<Parameters<Filter>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(filter) = filter?;
    let which = match filter.which.as_str() {
        "active" => Which::Active,
        "suspended" => Which::Suspended,
        _ => Which::All,
    };
    let number = filter.page.unwrap_or(0);
    let wanted = Page {
        size: AGENTS,
        number,
    };
    let now = orchestrator.now();
    let (agents, more) = orchestrator
        .store()
        .roster(&filter.q, which, wanted, now)
        .await?;
    let pages = Pages::numbered(number, more, |page| {
        let number = page.to_string();
        let query = query(&[
            ("q", &filter.q),
            ("which", &filter.which),
            ("page", &number),
        ]);
        format!("/agents{query}")
    });
    Ok(page(&AgentsPage {
        total: orchestrator.store().count_agents().await?,
        agents: agents
            .into_iter()
            .map(|listed| Row::new(listed, now))
            .collect(),
        pages,
        may_manage: person
            .may(&orchestrator, Administration::ManageAgents)
            .is_ok(),
        filter,
        frame,
    }))
}

/// What the form for an agent holds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fields {
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) owner: String,
    pub(crate) teams: String,
    pub(crate) roles: String,
    pub(crate) env: String,
    pub(crate) trust: String,
    pub(crate) services: String,
    /// Of the agent as it was when the form was shown.
    #[serde(default)]
    pub(crate) seen: String,
}

impl Fields {
    pub(crate) fn of(agent: &Agent, seen: String) -> Self {
        Self {
            name: agent.name.to_string(),
            owner: agent
                .owner
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            teams: form::listed(&agent.teams),
            roles: form::listed(&agent.roles),
            env: agent.env.as_str().to_owned(),
            trust: agent.trust.to_string(),
            services: form::listed(&agent.allowed_mcps),
            seen,
        }
    }

    /// The agent that they describe: `before` with these facts.
    pub(crate) async fn agent(
        &self,
        orchestrator: &Orchestrator,
        before: Agent,
    ) -> Result<Agent, Error> {
        let env = match self.env.as_str() {
            "dev" => Environment::Dev,
            "staging" => Environment::Staging,
            "prod" => Environment::Prod,
            _ => return Err(Error::field("environment", "dev, staging or prod")),
        };
        let owner = form::maybe("owner", &self.owner)?;
        check_owner(orchestrator, owner.as_ref()).await?;
        Ok(Agent {
            owner,
            teams: form::names("teams", &self.teams)?,
            roles: form::names("roles", &self.roles)?,
            env,
            trust: self
                .trust
                .trim()
                .parse()
                .map_err(|_| Error::field("trust", "a whole number from 0 to 255"))?,
            allowed_mcps: form::names("services", &self.services)?,
            ..before
        })
    }
}

#[derive(Template)]
#[template(path = "agent_form.html")]
pub(crate) struct FormPage {
    pub(crate) frame: Frame,
    /// The agent that is changed, if it is none that is new.
    pub(crate) known: Option<String>,
    /// Where the form goes.
    pub(crate) action: String,
    /// Where one goes without it.
    pub(crate) cancel: String,
    pub(crate) fields: Fields,
    /// Who may be its owner.
    pub(crate) people: Vec<authz::User>,
}

/// Who may answer for an agent.
pub(crate) async fn owners(orchestrator: &Orchestrator) -> Result<Vec<authz::User>, Error> {
    let users = orchestrator.store().users().await?;
    Ok(users
        .into_iter()
        .map(|stored| stored.user)
        .filter(|user| user.active)
        .collect())
}

/// `GET /agents/new`.
async fn new(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let fields = Fields {
        env: Environment::default().as_str().to_owned(),
        trust: authz::agent::default_trust().to_string(),
        owner: person.user.id.to_string(),
        ..Fields::default()
    };
    Ok(page(&blank(&orchestrator, frame, fields).await?))
}

async fn blank(
    orchestrator: &Orchestrator,
    frame: Frame,
    fields: Fields,
) -> Result<FormPage, Error> {
    Ok(FormPage {
        frame,
        known: None,
        action: "/agents".to_owned(),
        cancel: "/agents".to_owned(),
        fields,
        people: owners(orchestrator).await?,
    })
}

/// `POST /agents`.
async fn create(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    form: Result<Form<Fields>, FormRejection>,
) -> Result<Response, Trouble> {
    person.may(&orchestrator, Administration::ManageAgents)?;
    let Form(fields) = form.map_err(Error::from)?;
    let actor = orchestrator.actor(&person);
    let register = async {
        let blank = Agent {
            id: AgentId::generate(actor.at),
            name: form::name("name", &fields.name)?,
            owner: None,
            teams: BTreeSet::new(),
            roles: BTreeSet::new(),
            env: Environment::default(),
            trust: 0,
            suspended: false,
            allowed_mcps: BTreeSet::new(),
        };
        let agent = fields.agent(&orchestrator, blank).await?;
        Ok(orchestrator.store().create_agent(&agent, &actor).await?)
    };
    match register.await {
        Ok(stored) => Ok(go(&format!(
            "/agents/{}?done=agent-created",
            stored.agent.id
        ))),
        Err(error) => {
            let error: Error = error;
            error.log();
            let status = error.status();
            let frame = frame.warning(Some(error.to_string()));
            Ok(page_with(
                status,
                &blank(&orchestrator, frame, fields).await?,
            ))
        }
    }
}
