//! `cedargate agents`.

use std::collections::BTreeSet;

use authz::AgentRef;
use contract::agents::{
    AgentView, ChangeAgent, CreateAgent, CreateToken, CreatedToken, Member, Suspend, TokenView,
};
use serde_json::json;

use super::Context;
use crate::{
    arguments::{AgentAttributes, AgentRoles, AgentTeams, AgentTokens, Agents, Item, NewToken},
    client::Answer,
    output::{self, Output, list, time},
};

pub(super) async fn run(context: &Context, command: Agents) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Agents::List => {
            let agents = client.agents().await.of(&context.remote)?;
            context
                .output
                .print(&agents, |output| table(output, &agents))
        }
        Agents::Show { agent } => {
            let agent = client.agent(&agent).await.of(&context.remote)?;
            context
                .output
                .print(&agent, |output| detail(output, &agent))
        }
        Agents::Create { name, attributes } => {
            let create = CreateAgent {
                name,
                owner: attributes.owner,
                teams: set(attributes.teams).unwrap_or_default(),
                roles: set(attributes.roles).unwrap_or_default(),
                env: attributes.env.unwrap_or_default(),
                trust: attributes.trust.unwrap_or_else(authz::agent::default_trust),
                allowed_mcps: set(attributes.allowed).unwrap_or_default(),
            };
            let agent = client.create_agent(&create).await.of(&context.remote)?;
            context
                .output
                .print(&agent, |output| detail(output, &agent))
        }
        Agents::Change { agent, attributes } => change(context, &agent, changes(attributes)).await,
        Agents::Allow { agent, service } => {
            let member = Member::Service(service);
            show(context, client.add_to_agent(&agent, &member).await)
        }
        Agents::Disallow { agent, service } => {
            let member = Member::Service(service);
            show(context, client.remove_from_agent(&agent, &member).await)
        }
        Agents::Role(AgentRoles::Add { agent, role }) => show(
            context,
            client.add_to_agent(&agent, &Member::Role(role)).await,
        ),
        Agents::Role(AgentRoles::Remove { agent, role }) => {
            let member = Member::Role(role);
            show(context, client.remove_from_agent(&agent, &member).await)
        }
        Agents::Team(AgentTeams::Add { agent, team }) => show(
            context,
            client.add_to_agent(&agent, &Member::Team(team)).await,
        ),
        Agents::Team(AgentTeams::Remove { agent, team }) => {
            let member = Member::Team(team);
            show(context, client.remove_from_agent(&agent, &member).await)
        }
        Agents::Suspend { agent, reason } => {
            let suspend = Suspend { reason };
            let agent = client.suspend_agent(&agent, &suspend).await;
            show(context, agent)
        }
        Agents::Resume { agent, reason } => {
            let suspend = Suspend { reason };
            let agent = client.resume_agent(&agent, &suspend).await;
            show(context, agent)
        }
        Agents::Token(AgentTokens::Create { agent, token }) => {
            create_token(context, &agent, token).await
        }
        Agents::Token(AgentTokens::List { agent }) => tokens(context, &agent).await,
        Agents::Token(AgentTokens::Revoke { agent, token }) => {
            revoke_token(context, &agent, token).await
        }
    }
}

/// A list that is given replaces the one that is there now, and no other: if someone
/// changes the agent between our look and our change, nothing is changed.
async fn change(context: &Context, agent: &AgentRef, change: ChangeAgent) -> anyhow::Result<()> {
    let client = context.client();
    let before = client.agent(agent).await.of(&context.remote)?;
    let changed = client
        .change_agent_at(agent, before.revision, &change)
        .await;
    show(context, changed)
}

fn show(context: &Context, agent: Result<AgentView, contract::Error>) -> anyhow::Result<()> {
    let agent = agent.of(&context.remote)?;
    context
        .output
        .print(&agent, |output| detail(output, &agent))
}

pub(super) async fn create_token(
    context: &Context,
    agent: &AgentRef,
    token: NewToken,
) -> anyhow::Result<()> {
    let created = context
        .client()
        .create_agent_token(agent, &request(token))
        .await
        .of(&context.remote)?;
    print_created(context.output, &created)
}

pub(super) async fn tokens(context: &Context, agent: &AgentRef) -> anyhow::Result<()> {
    let tokens = context
        .client()
        .agent_tokens(agent)
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&tokens, |output| token_table(output, &tokens))
}

pub(super) async fn revoke_token(
    context: &Context,
    agent: &AgentRef,
    token: authz::TokenId,
) -> anyhow::Result<()> {
    context
        .client()
        .revoke_agent_token(agent, token)
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&json!({"revoked": token}), |_| format!("revoked {token}"))
}

pub(super) fn request(token: NewToken) -> CreateToken {
    CreateToken {
        label: token.label,
        expires_in_seconds: token.expires_in.map(|span| span.as_secs()),
    }
}

/// The token alone on standard output, so that `$(…)` gets exactly it.
pub(super) fn print_created(output: Output, created: &CreatedToken) -> anyhow::Result<()> {
    if !output.json {
        note(&format!(
            "{}: keep it, it cannot be shown again",
            created.view.id
        ));
    }
    output.print(created, |_| created.token.clone())
}

#[allow(
    clippy::print_stderr,
    reason = "standard output holds the answer alone"
)]
pub(super) fn note(text: &str) {
    eprintln!("{}", output::printable(text));
}

pub(super) fn set<T: Ord>(items: Option<Vec<Item<T>>>) -> Option<BTreeSet<T>> {
    items.map(|items| items.into_iter().flatten().collect())
}

fn changes(attributes: AgentAttributes) -> ChangeAgent {
    ChangeAgent {
        owner: attributes.owner,
        teams: set(attributes.teams),
        roles: set(attributes.roles),
        env: attributes.env,
        trust: attributes.trust,
        suspended: None,
        allowed_mcps: set(attributes.allowed),
    }
}

fn state(view: &AgentView) -> &'static str {
    if view.agent.suspended {
        "suspended"
    } else {
        "active"
    }
}

fn table(output: Output, agents: &[AgentView]) -> String {
    output.table(
        &[
            "name", "id", "state", "owner", "env", "roles", "may use", "grants",
        ],
        agents.iter().map(|view| {
            let agent = &view.agent;
            vec![
                agent.name.to_string(),
                agent.id.to_string(),
                state(view).to_owned(),
                agent
                    .owner
                    .as_ref()
                    .map_or("-".to_owned(), ToString::to_string),
                agent.env.as_str().to_owned(),
                list(&agent.roles),
                list(&agent.allowed_mcps),
                view.grants.len().to_string(),
            ]
        }),
    )
}

fn detail(output: Output, view: &AgentView) -> String {
    let agent = &view.agent;
    let fields = output.fields(&[
        ("name", agent.name.to_string()),
        ("id", agent.id.to_string()),
        ("state", state(view).to_owned()),
        (
            "owner",
            agent
                .owner
                .as_ref()
                .map_or("-".to_owned(), ToString::to_string),
        ),
        ("env", agent.env.as_str().to_owned()),
        ("trust", agent.trust.to_string()),
        ("teams", list(&agent.teams)),
        ("roles", list(&agent.roles)),
        ("may use", list(&agent.allowed_mcps)),
        ("created", time(view.created)),
    ]);
    if view.grants.is_empty() {
        return format!("{fields}\n\nno live grants");
    }
    let grants = output.table(
        &["grant", "covers", "risk", "until", "from"],
        view.grants.iter().map(|grant| {
            vec![
                grant.id.to_string(),
                super::grants::covers(grant),
                grant.risk.to_string(),
                time(grant.expires),
                list(std::iter::once(&grant.first).chain(&grant.second)),
            ]
        }),
    );
    format!("{fields}\n\n{grants}")
}

pub(super) fn token_table(output: Output, tokens: &[TokenView]) -> String {
    let when = |at: Option<authz::Timestamp>| at.map_or("-".to_owned(), time);
    output.table(
        &["id", "label", "created", "expires", "last used", "revoked"],
        tokens.iter().map(|token| {
            vec![
                token.id.to_string(),
                token.label.clone(),
                time(token.created),
                when(token.expires),
                when(token.last_used),
                when(token.revoked),
            ]
        }),
    )
}
