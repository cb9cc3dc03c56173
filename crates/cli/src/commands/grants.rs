//! `cedargate grants`.

use authz::{Grant, Scope};
use contract::agents::{GrantView, Revoke};
use serde_json::json;

use super::Context;
use crate::{
    arguments::Grants,
    client::Answer,
    exit::NotFound,
    output::{Output, list, time},
};

pub(super) async fn run(context: &Context, command: Grants) -> anyhow::Result<()> {
    match command {
        Grants::List { agent, all } => {
            let grants = context
                .client()
                .grants(agent.as_ref(), all)
                .await
                .of(&context.remote)?;
            context.output.print(&grants, |output| {
                output.table(
                    &["id", "agent", "state", "covers", "risk", "until", "from"],
                    grants.iter().map(|view| {
                        let grant = &view.grant;
                        vec![
                            grant.id.to_string(),
                            view.agent_name.to_string(),
                            view.state.clone(),
                            covers(grant),
                            grant.risk.to_string(),
                            time(grant.expires),
                            list(std::iter::once(&grant.first).chain(&grant.second)),
                        ]
                    }),
                )
            })
        }
        Grants::Show { id } => {
            let grants = context
                .client()
                .grants(None, true)
                .await
                .of(&context.remote)?;
            let view = grants
                .into_iter()
                .find(|view| view.grant.id == id)
                .ok_or_else(|| NotFound(format!("grant `{id}` is not found")))?;
            context.output.print(&view, |output| detail(output, &view))
        }
        Grants::Revoke { id, reason } => {
            context
                .client()
                .revoke_grant(id, &Revoke { reason })
                .await
                .of(&context.remote)?;
            context
                .output
                .print(&json!({"revoked": id}), |_| format!("revoked {id}"))
        }
    }
}

fn detail(output: Output, view: &GrantView) -> String {
    let grant = &view.grant;
    output.fields(&[
        ("id", grant.id.to_string()),
        ("agent", format!("{} ({})", view.agent_name, grant.agent)),
        ("state", view.state.clone()),
        ("covers", covers(grant)),
        ("risk", format!("up to {}", grant.risk)),
        ("since", time(grant.issued)),
        ("until", time(grant.expires)),
        (
            "from",
            list(std::iter::once(&grant.first).chain(&grant.second)),
        ),
        ("approval", grant.approval.to_string()),
    ])
}

/// What a grant covers, in words.
pub(super) fn covers(grant: &Grant) -> String {
    let once = if grant.single_use { ", once" } else { "" };
    match &grant.scope {
        Scope::Call { command, digest } => {
            let digest = digest.as_str();
            format!(
                "{command} with arguments {}{once}",
                digest.get(..12).unwrap_or(digest)
            )
        }
        Scope::Command { command } => format!("{command}{once}"),
        Scope::Service { service } => format!("all of {service}{once}"),
    }
}
