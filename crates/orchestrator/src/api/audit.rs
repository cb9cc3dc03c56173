//! The audit trail.

use authz::AgentRef;
use axum::{Json, extract::State};
use contract::audit::{AuditEntry, JournalHead};
use serde::Deserialize;
use store::audit::AuditRow;
use utoipa::IntoParams;

use super::Parameters;
use crate::{
    Orchestrator,
    authenticate::{May, View},
    error::Error,
};

/// A list is at most so long.
const MAX_LIST: u32 = 1_000;

/// Which part of the trail.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Those behind this place.
    #[serde(default)]
    #[param(required = false)]
    after: i64,
    /// At most so many; 200 if absent, never more than 1000.
    #[serde(default)]
    limit: Option<u32>,
    /// Of this agent only, by id or name.
    #[serde(default)]
    agent: Option<String>,
    /// Of this command only, as `service/name`.
    #[serde(default)]
    command: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "audit",
    summary = "The audit trail, oldest first",
    params(Filter),
    responses((status = 200, description = "At most `limit` entries", body = Vec<AuditEntry>), (status = 404, description = "There is no such agent"))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<AuditEntry>>, Error> {
    let limit = filter.limit.unwrap_or(200).min(MAX_LIST);
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let agent = match filter.agent {
        None => None,
        Some(agent) => {
            let agent: AgentRef = agent
                .parse()
                .map_err(|error| Error::field("agent", error))?;
            Some(orchestrator.store().agent(&agent).await?.agent.id)
        }
    };

    let mut after = filter.after;
    let mut entries = Vec::new();
    while entries.len() < wanted {
        let rows = orchestrator.store().audit(after, limit, agent).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        let of_command = rows
            .into_iter()
            .filter(|row| filter.command.is_none() || row.command == filter.command);
        entries.extend(of_command.map(entry));
    }
    entries.truncate(wanted);
    Ok(Json(entries))
}

#[utoipa::path(
    get,
    path = "/api/audit/journals",
    tag = "audit",
    summary = "How far each journal of a gateway is stored",
    responses((status = 200, description = "By gateway", body = Vec<JournalHead>))
)]
pub(crate) async fn journals(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<JournalHead>>, Error> {
    let heads = orchestrator.store().journal_heads().await?;
    let heads = heads
        .into_iter()
        .map(|(gateway, sequence, hash)| JournalHead {
            gateway,
            sequence,
            hash,
        });
    Ok(Json(heads.collect()))
}

fn entry(row: AuditRow) -> AuditEntry {
    AuditEntry {
        id: row.id,
        at: row.at,
        source: row.source,
        gateway: row.gateway,
        kind: row.kind,
        agent: row.agent,
        user: row.user,
        command: row.command,
        entry: row.entry,
    }
}
