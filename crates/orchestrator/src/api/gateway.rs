//! What gateways ask and report.

use authz::{AgentId, AgentRef, ApprovalRequestId, Facts, GrantId};
use axum::{Json, extract::State, http::StatusCode};
use contract::{
    approvals::{ApprovalSummary, OpenApproval},
    audit::{JournalEntry, JournalLine, JournalStored, ShipJournal},
    catalog::GatewayCatalog,
    facts::{Credential, CredentialQuery, SpendGrant},
    gateways::{GatewayStatus, GatewayTold, ServiceHealth},
    policy_sets::PolicySetBundle,
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use store::{
    Actor,
    activity::{Measure, bound},
    audit::JournalRow,
};
use utoipa::IntoParams;

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator, activation, approvals, authenticate::GatewayCaller, error::Error, overview,
};

/// A gateway's name is at most so long.
const MAX_GATEWAY_CHARS: usize = 128;

#[utoipa::path(
    get,
    path = "/api/gateway/facts/{agent}",
    tag = "gateway",
    summary = "The facts about an agent",
    params(("agent" = AgentRef, Path, description = "Its id or name")),
    responses((status = 200, description = "As of now", body = Facts))
)]
pub(crate) async fn facts(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Named(agent): Named<AgentRef>,
) -> Result<Json<Facts>, Error> {
    Ok(Json(
        orchestrator
            .store()
            .facts(&agent, orchestrator.now())
            .await?,
    ))
}

#[utoipa::path(
    post,
    path = "/api/gateway/credentials",
    tag = "gateway",
    summary = "Whose credential has this digest",
    request_body = CredentialQuery,
    responses((status = 200, description = "A live credential", body = Credential), (status = 404, description = "Nobody holds it"))
)]
pub(crate) async fn credential(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(query): Body<CredentialQuery>,
) -> Result<Json<Credential>, Error> {
    let hexadecimal =
        query.digest.len() == 64 && query.digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !hexadecimal {
        return Err(Error::field("digest", "64 hexadecimal digits"));
    }
    let digest = query.digest.to_ascii_lowercase();
    let (agent, token) = orchestrator
        .store()
        .agent_by_token(&digest, orchestrator.now())
        .await
        .map_err(|error| {
            match error {
                // Not the digest.
                store::StoreError::NotFound(_) => {
                    Error::NotFound("no agent holds this credential".to_owned())
                }
                error => error.into(),
            }
        })?;
    Ok(Json(Credential {
        agent,
        token: token.id,
        expires: token.expires,
    }))
}

#[utoipa::path(
    post,
    path = "/api/gateway/approvals",
    tag = "gateway",
    summary = "Open an approval request, or join the pending one",
    request_body = OpenApproval,
    responses((status = 200, description = "The request", body = ApprovalSummary), (status = 404, description = "There is no such agent"), (status = 409, description = "The agent has too many open requests, or policy has changed"))
)]
pub(crate) async fn open_approval(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(open): Body<OpenApproval>,
) -> Result<Json<ApprovalSummary>, Error> {
    let stored = approvals::open(&orchestrator, open).await?;
    Ok(Json(approvals::summary(&stored)))
}

/// An agent is shown at most so many of its open requests; it may have far fewer.
const MAX_OPEN: u32 = 1_000;

/// Whose request.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Whose {
    /// The id of the agent.
    #[param(value_type = AgentId)]
    agent: String,
}

impl Whose {
    fn agent(&self) -> Result<AgentId, Error> {
        self.agent
            .parse()
            .map_err(|error| Error::field("agent", error))
    }
}

#[utoipa::path(
    get,
    path = "/api/gateway/approvals",
    tag = "gateway",
    summary = "The open requests of one agent, newest first",
    params(Whose),
    responses((status = 200, description = "As the agent may see them", body = Vec<ApprovalSummary>))
)]
pub(crate) async fn open_approvals(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Json<Vec<ApprovalSummary>>, Error> {
    let store = orchestrator.store();
    let open = store.approvals_of(whose.agent()?, false, MAX_OPEN, orchestrator.now());
    Ok(Json(open.await?.iter().map(approvals::summary).collect()))
}

#[utoipa::path(
    get,
    path = "/api/gateway/approvals/{approval}",
    tag = "gateway",
    summary = "Where a request of one agent stands",
    params(("approval" = ApprovalRequestId, Path), Whose),
    responses((status = 200, description = "As the agent may see it", body = ApprovalSummary))
)]
pub(crate) async fn approval(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Json<ApprovalSummary>, Error> {
    let agent = whose.agent()?;
    let unknown = || Error::NotFound(format!("approval request `{id}` is not found"));
    match orchestrator.store().approval(id, orchestrator.now()).await {
        Ok(stored) if stored.new.ask.agent.id == agent => Ok(Json(approvals::summary(&stored))),
        Ok(_) | Err(store::StoreError::NotFound(_)) => Err(unknown()),
        Err(error) => Err(error.into()),
    }
}

#[utoipa::path(
    delete,
    path = "/api/gateway/approvals/{approval}",
    tag = "gateway",
    summary = "Take a request of one agent back",
    params(("approval" = ApprovalRequestId, Path), Whose),
    responses((status = 200, description = "As the agent may see it", body = ApprovalSummary), (status = 409, description = "It is no longer pending"))
)]
pub(crate) async fn withdraw(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<ApprovalRequestId>,
    Parameters(whose): Parameters<Whose>,
) -> Result<Json<ApprovalSummary>, Error> {
    let stored = approvals::withdraw_own(&orchestrator, whose.agent()?, id).await?;
    Ok(Json(approvals::summary(&stored)))
}

#[utoipa::path(
    post,
    path = "/api/gateway/grants/{grant}/spend",
    tag = "gateway",
    summary = "Use up a grant for one use",
    params(("grant" = GrantId, Path)),
    request_body = SpendGrant,
    responses((status = 204, description = "It is spent"), (status = 409, description = "It is spent, revoked or expired, or not for one use"))
)]
pub(crate) async fn spend(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Named(grant): Named<GrantId>,
    Body(spend): Body<SpendGrant>,
) -> Result<StatusCode, Error> {
    orchestrator.settle().await?;
    let actor = Actor::itself("gateway", orchestrator.now());
    orchestrator
        .store()
        .spend_grant(grant, spend.decision, &actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

// The one that the store has as active. It is announced in the transaction that makes it
// so, and whoever asks at once upon that must not be told of the one before, which this
// process may still hold for a moment.
#[utoipa::path(
    get,
    path = "/api/gateway/policy-set",
    tag = "gateway",
    summary = "The policy set to enforce",
    responses((status = 200, description = "With its sources", body = PolicySetBundle))
)]
pub(crate) async fn policy_set(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<PolicySetBundle>, Error> {
    // A gateway asks when the feed says that another set is in force. That is written
    // before it is in force here, or at another orchestrator: so wait for it.
    activation::catch_up(&orchestrator).await?;
    let in_force = orchestrator.in_force();
    Ok(Json(PolicySetBundle {
        version: in_force.set.version().clone(),
        sources: in_force.sources.clone(),
        activated: in_force.activation.at,
    }))
}

#[utoipa::path(
    get,
    path = "/api/gateway/shadow-policy-set",
    tag = "gateway",
    summary = "The policy set to evaluate beside the enforced one",
    responses((status = 200, description = "With its sources, or `null`", body = Option<PolicySetBundle>))
)]
pub(crate) async fn shadow(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Option<PolicySetBundle>>, Error> {
    let Some(shadow) = orchestrator.store().policy_shadow().await? else {
        return Ok(Json(None));
    };
    let stored = orchestrator.store().policy_set(&shadow.version).await?;
    Ok(Json(Some(PolicySetBundle {
        version: shadow.version,
        sources: stored.sources,
        activated: shadow.since,
    })))
}

/// What a gateway has to say is at most so many characters.
const MAX_STATUS_CHARS: usize = 4_000;

/// No gateway has more services.
const MAX_SERVICES: usize = 2_000;

#[utoipa::path(
    post,
    path = "/api/gateway/status",
    tag = "gateway",
    summary = "Say what a gateway enforces",
    request_body = GatewayStatus,
    responses((status = 200, description = "Noted; and whether its catalog is wanted", body = GatewayTold))
)]
pub(crate) async fn status(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(status): Body<GatewayStatus>,
) -> Result<Json<GatewayTold>, Error> {
    check_gateway(&status.gateway)?;
    approvals::check_text("software", &status.software, MAX_GATEWAY_CHARS)?;
    if let Some(problem) = &status.problem {
        approvals::check_text("problem", problem, MAX_STATUS_CHARS)?;
    }
    if status.services.len() > MAX_SERVICES {
        let message = format!("at most {MAX_SERVICES} of them");
        return Err(Error::field("services", message));
    }
    let words = |health: &ServiceHealth| {
        let words = [&health.breaker, &health.last_error, &health.reason];
        words.into_iter().flatten().cloned().collect::<Vec<_>>()
    };
    for text in status.services.iter().flat_map(words) {
        approvals::check_text("services", &text, MAX_STATUS_CHARS)?;
    }
    let actor = Actor::itself("gateway", orchestrator.now());
    let value = serde_json::to_value(&status).map_err(|error| Error::Bug(error.to_string()))?;
    orchestrator
        .store()
        .keep_gateway_status(&status.gateway, &value, &actor)
        .await?;
    let catalog_wanted = match &status.catalog {
        None => false,
        Some(digest) => {
            let known = orchestrator.store().gateway_catalog_digest(&status.gateway);
            known.await?.as_ref() != Some(digest)
        }
    };
    Ok(Json(GatewayTold { catalog_wanted }))
}

/// A catalog is at most so many bytes of JSON: some thousand commands.
pub(crate) const MAX_CATALOG_BYTES: usize = 16 * 1024 * 1024;

#[utoipa::path(
    put,
    path = "/api/gateway/catalog",
    tag = "gateway",
    summary = "Say what a gateway can carry out",
    request_body = GatewayCatalog,
    responses((status = 204, description = "Noted"))
)]
pub(crate) async fn catalog(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(catalog): Body<GatewayCatalog>,
) -> Result<StatusCode, Error> {
    check_gateway(&catalog.gateway)?;
    approvals::check_text("digest", &catalog.digest, MAX_GATEWAY_CHARS)?;
    let actor = Actor::itself("gateway", orchestrator.now());
    let services =
        serde_json::to_value(&catalog.services).map_err(|error| Error::Bug(error.to_string()))?;
    orchestrator
        .store()
        .keep_gateway_catalog(&catalog.gateway, &catalog.digest, &services, &actor)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) fn check_gateway(name: &str) -> Result<(), Error> {
    approvals::check_text("gateway", name, MAX_GATEWAY_CHARS)?;
    if name.is_empty() {
        return Err(Error::field("gateway", "a name is needed"));
    }
    Ok(())
}

#[utoipa::path(
    post,
    path = "/api/gateway/journal",
    tag = "gateway",
    summary = "Store lines of the journal of a gateway",
    request_body = ShipJournal,
    responses((status = 200, description = "How far it is stored", body = JournalStored), (status = 409, description = "The lines do not continue what is stored"))
)]
pub(crate) async fn journal(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(ship): Body<ShipJournal>,
) -> Result<Json<JournalStored>, Error> {
    check_gateway(&ship.gateway)?;
    let (stored, head) = orchestrator.store().journal_head(&ship.gateway).await?;
    let mut rows = Vec::with_capacity(ship.lines.len());
    let mut before = Before {
        sequence: stored,
        hash: head,
    };
    for line in &ship.lines {
        let checked = check(&ship.gateway, line)?;
        let row = checked.row;
        // Lines sent again are compared with the stored ones by the store.
        if row.sequence > stored {
            if row.sequence != before.sequence + 1 {
                return Err(Error::Conflict(format!(
                    "line {} does not follow line {} of gateway `{}`",
                    row.sequence, before.sequence, ship.gateway
                )));
            }
            if checked.previous != before.hash {
                return Err(Error::Conflict(format!(
                    "line {} of gateway `{}` does not continue the stored chain",
                    row.sequence, ship.gateway
                )));
            }
            before = Before {
                sequence: row.sequence,
                hash: row.hash.clone(),
            };
        }
        rows.push(row);
    }
    let through = orchestrator
        .store()
        .store_journal(&ship.gateway, &rows)
        .await?;
    Ok(Json(JournalStored { through }))
}

/// The newest line of a chain.
struct Before {
    sequence: i64,
    hash: String,
}

struct Checked {
    row: JournalRow,
    previous: String,
}

fn check(gateway: &str, line: &JournalLine) -> Result<Checked, Error> {
    let sequence = line.sequence;
    let wrong = |what: String| Error::Invalid(format!("lines: line {sequence}: {what}"));
    let hash =
        hash_of(&line.text).ok_or_else(|| wrong("its hash is not that of its text".to_owned()))?;
    let entry: JournalEntry =
        serde_json::from_str(&line.text).map_err(|error| wrong(error.to_string()))?;
    if entry.sequence != sequence || entry.gateway != gateway {
        return Err(wrong(format!(
            "it says that it is line {} of gateway `{}`",
            entry.sequence, entry.gateway
        )));
    }
    let told = Told::of(&entry);
    let row = JournalRow {
        decision: entry.decision,
        outcome: told.outcome,
        counts: told.counts,
        sequence,
        text: line.text.clone(),
        hash: hash.to_owned(),
        at: entry.at,
        kind: entry.kind,
        agent: entry.agent,
        command: entry.command.map(|command| command.to_string()),
    };
    Ok(Checked {
        row,
        previous: entry.previous,
    })
}

/// What a line says for those who search and count.
struct Told {
    outcome: Option<String>,
    counts: Vec<(Measure, String)>,
}

impl Told {
    fn of(entry: &JournalEntry) -> Self {
        let text = |name: &str| entry.details.get(name).and_then(Value::as_str);
        let number = |name: &str| entry.details.get(name).and_then(Value::as_i64);
        let mut counts = Vec::new();
        let outcome = match entry.kind.as_str() {
            "intent" => {
                counts.extend(number("decision_us").map(decision_time));
                Some("permitted")
            }
            "refusal" => {
                let outcome = text("outcome")
                    .filter(|outcome| matches!(*outcome, "pending" | "rejected"))
                    .unwrap_or("refused");
                // Opening a request is not part of deciding.
                if outcome == "refused" {
                    counts.extend(number("decision_us").map(decision_time));
                }
                counts.extend(refused(entry, text("reason").unwrap_or_default()));
                Some(outcome)
            }
            "outcome" => {
                let micros = number("duration_ms").map(|millis| millis.saturating_mul(1_000));
                counts.extend(micros.map(|micros| (Measure::CommandTime, bound(micros))));
                let ended = text("status").filter(|status| matches!(*status, "success" | "error"));
                Some(ended.unwrap_or("unknown"))
            }
            _ => None,
        };
        if let (Some(outcome), "intent" | "refusal") = (outcome, entry.kind.as_str()) {
            counts.push((Measure::Decision, outcome.to_owned()));
        }
        Self {
            outcome: outcome.map(str::to_owned),
            counts,
        }
    }
}

fn decision_time(micros: i64) -> (Measure, String) {
    (Measure::DecisionTime, bound(micros))
}

/// Who was refused what, by which policies.
fn refused(entry: &JournalEntry, reason: &str) -> Vec<(Measure, String)> {
    let named = entry.details.get("policies").and_then(Value::as_array);
    let mut policies: Vec<_> = named
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    policies.sort_unstable();
    policies.dedup();
    if policies.is_empty() {
        policies.push(overview::no_policy(reason));
    }
    let agent = entry.agent.map(|agent| agent.to_string());
    let command = entry.command.as_ref().map(ToString::to_string);
    policies
        .into_iter()
        .map(|policy| (Measure::RefusedPolicy, policy))
        .chain(agent.map(|agent| (Measure::RefusedAgent, agent)))
        .chain(command.map(|command| (Measure::RefusedCommand, command)))
        .collect()
}

/// The hash at a line's end, if it is that of the line without it.
pub(crate) fn hash_of(text: &str) -> Option<&str> {
    let (body, rest) = text.rsplit_once(",\"hash\":\"")?;
    let hash = rest.strip_suffix("\"}").filter(|hash| hash.len() == 64)?;
    let mut sha = Sha256::new();
    sha.update(body.as_bytes());
    sha.update(b"}");
    (hex::encode(sha.finalize()) == hash).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_must_have_the_hash_of_its_text() {
        let body = r#"{"sequence":1,"kind":"start"}"#;
        let hash = hex::encode(Sha256::digest(body));
        let line = format!("{},\"hash\":\"{hash}\"}}", &body[..body.len() - 1]);
        assert_eq!(hash_of(&line), Some(hash.as_str()));
        assert_eq!(hash_of(&line.replace("start", "stirt")), None, "edited");
        assert_eq!(hash_of(body), None, "without");
        assert_eq!(hash_of(&format!("{line} ")), None, "with more behind it");
    }
}
