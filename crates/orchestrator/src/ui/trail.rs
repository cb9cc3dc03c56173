//! The audit trail: searched, one entry looked at, the chain checked.

use std::collections::BTreeMap;

use askama::Template;
use authz::{AgentId, AgentRef, Timestamp};
use axum::{Router, extract::State, response::Response, routing::get};
use contract::audit::Verification;
use serde_json::Value;
use store::{
    StoreError,
    audit::{AuditFilter, AuditPage, AuditRow},
};

use super::{Frame, Trouble, Visitor, frame::Pages, go, moment::Moment, page};
use crate::{
    Orchestrator,
    api::{Named, Parameters},
    audit_query::{AuditQuery, encoded},
    error::Error,
    verification::{self, LineCheck},
};

/// A page has so many entries.
const PAGE: u32 = 50;

/// Of one decision, so many lines are shown.
const RELATED: u32 = 10;

/// Kinds that a filter offers; any other can be written into the address.
const KINDS: [&str; 24] = [
    "agent_changed",
    "agent_created",
    "approval_advanced",
    "approval_opened",
    "approved",
    "credential_created",
    "credential_revoked",
    "expired",
    "intent",
    "login",
    "outcome",
    "policy_set_activated",
    "policy_set_rolled_back",
    "policy_set_shadowed",
    "policy_set_stored",
    "refusal",
    "rejected",
    "revoked",
    "spent",
    "start",
    "user_changed",
    "user_created",
    "zone_added",
    "zone_removed",
];

const OUTCOMES: [&str; 7] = [
    "permitted",
    "refused",
    "pending",
    "rejected",
    "success",
    "error",
    "unknown",
];

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/audit", get(list))
        .route("/audit/verification", get(checked).post(check))
        .route("/audit/{entry}", get(show))
}

/// What agents are called, by id.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<AgentId, String>);

impl Names {
    /// Of the agents that entries speak of.
    pub(super) async fn of(orchestrator: &Orchestrator, rows: &[AuditRow]) -> Result<Self, Error> {
        let mut names = BTreeMap::new();
        for agent in rows.iter().filter_map(|row| row.agent) {
            if names.contains_key(&agent) {
                continue;
            }
            match orchestrator.store().agent(&AgentRef::Id(agent)).await {
                Ok(stored) => names.insert(agent, stored.agent.name.to_string()),
                Err(StoreError::NotFound(_)) => names.insert(agent, agent.to_string()),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Self(names))
    }

    fn get(&self, agent: AgentId) -> String {
        self.0
            .get(&agent)
            .cloned()
            .unwrap_or_else(|| agent.to_string())
    }
}

/// One line of a table of entries.
pub(super) struct TrailRow {
    pub(super) id: i64,
    pub(super) at: Moment,
    pub(super) time: String,
    pub(super) kind: String,
    /// What was decided or came of it.
    pub(super) outcome: Option<String>,
    pub(super) agent: Option<String>,
    pub(super) command: String,
    /// Who: a person, or the gateway.
    pub(super) who: String,
    /// Why, in a few words: the policies, the reason, the error.
    pub(super) why: String,
}

impl TrailRow {
    pub(super) fn of(row: &AuditRow, names: &Names, now: Timestamp) -> Self {
        let at = Moment::past(row.at, now);
        Self {
            id: row.id,
            time: at.exact().trim_end_matches(" UTC").to_owned(),
            at,
            kind: row.kind.replace('_', " "),
            outcome: row.outcome.clone(),
            agent: row.agent.map(|agent| names.get(agent)),
            command: row.command.clone().unwrap_or_default(),
            who: match (&row.user, &row.gateway) {
                (Some(user), _) => user.clone(),
                (None, Some(gateway)) => gateway.clone(),
                (None, None) => text(&row.entry, "via").unwrap_or_default(),
            },
            why: why(&row.entry),
        }
    }
}

fn text(entry: &Value, name: &str) -> Option<String> {
    entry.get(name).and_then(Value::as_str).map(str::to_owned)
}

/// A reason is shown up to so many characters.
const WHY_CHARS: usize = 140;

fn why(entry: &Value) -> String {
    let policies = entry
        .get("policies")
        .and_then(Value::as_array)
        .map(|policies| {
            policies
                .iter()
                .filter_map(Value::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        })
        .filter(|policies| !policies.is_empty());
    // The journal's word for it says nothing to people.
    let reason = text(entry, "reason").map(|reason| match reason.as_str() {
        "policy" => "no policy permits it".to_owned(),
        _ => reason,
    });
    let told = [text(entry, "error"), policies, reason, text(entry, "label")];
    let why = told.into_iter().flatten().find(|text| !text.is_empty());
    let why = why.unwrap_or_default();
    if why.chars().count() <= WHY_CHARS {
        return why;
    }
    let mut short: String = why.chars().take(WHY_CHARS).collect();
    short.push('…');
    short
}

#[derive(Template)]
#[template(path = "audit.html")]
struct List {
    frame: Frame,
    filter: Fields,
    kinds: Vec<String>,
    outcomes: Vec<String>,
    filtered: bool,
    rows: Vec<TrailRow>,
    export: String,
    pages: Pages,
    /// The search came so far and found nothing on this page.
    partly: Option<Moment>,
}

/// What the form's fields hold.
struct Fields {
    agent: String,
    command: String,
    service: String,
    user: String,
    kind: String,
    outcome: String,
    decision: String,
    gateway: String,
    from: String,
    until: String,
    text: String,
}

impl Fields {
    fn of(query: &AuditQuery) -> Self {
        let filter = &query.filter;
        let field = |value: &Option<String>| value.clone().unwrap_or_default();
        let time = |value: Option<Timestamp>| {
            let text = value.map(|time| time.to_string()).unwrap_or_default();
            text.get(..16).unwrap_or_default().to_owned()
        };
        Self {
            agent: field(&filter.agent),
            command: field(&filter.command),
            service: field(&filter.service),
            user: field(&filter.user),
            kind: field(&filter.kind),
            outcome: field(&filter.outcome),
            decision: field(&filter.decision),
            gateway: field(&filter.gateway),
            from: time(filter.from),
            until: time(filter.until),
            text: field(&filter.text),
        }
    }

    /// Whether what is folded away holds something.
    fn has_more(&self) -> bool {
        [
            &self.service,
            &self.user,
            &self.decision,
            &self.gateway,
            &self.from,
            &self.until,
        ]
        .iter()
        .any(|field| !field.is_empty())
    }
}

/// `GET /audit?…`, newest first.
async fn list(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    parameters: Result<Parameters<Vec<(String, String)>>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(mut parameters) = parameters?;
    parameters.retain(|(name, _)| name != "done");
    let (query, problem) = match AuditQuery::read(parameters) {
        Ok(query) => (query, None),
        Err(error) => (AuditQuery::default(), Some(error.to_string())),
    };
    let (found, problem) = match search(&orchestrator, &query).await {
        Ok(found) => (found, problem),
        // What was written into a field is for its writer to put right.
        Err(Error::Invalid(message)) => (nothing(), Some(message)),
        Err(error) => return Err(error.into()),
    };
    let now = orchestrator.now();
    let names = Names::of(&orchestrator, &found.rows).await?;
    let text = query.text();
    let with = |path: &str, query: &str| {
        let joint = if query.is_empty() { "" } else { "?" };
        format!("{path}{joint}{query}")
    };
    Ok(page(&List {
        kinds: offered(&KINDS, query.filter.kind.as_deref()),
        outcomes: offered(&OUTCOMES, query.filter.outcome.as_deref()),
        filtered: !text.is_empty(),
        rows: found
            .rows
            .iter()
            .map(|row| TrailRow::of(row, &names, now))
            .collect(),
        export: with("/api/audit/export", &text),
        pages: Pages {
            back: query.before.map(|_| with("/audit", &text)),
            back_name: "Newest",
            on: found
                .next
                .map(|next| with("/audit", &query.page_before(next))),
            on_name: "Older",
            place: String::new(),
        },
        partly: found
            .next
            .filter(|_| found.rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX))
            .map(|next| Moment::past(next.at, now)),
        filter: Fields::of(&query),
        frame: frame.warning(problem),
    }))
}

/// What a choice offers: what is known, and what was chosen by hand.
fn offered(known: &[&str], chosen: Option<&str>) -> Vec<String> {
    let other = chosen.filter(|chosen| !known.contains(chosen));
    known
        .iter()
        .copied()
        .chain(other)
        .map(str::to_owned)
        .collect()
}

fn nothing() -> AuditPage {
    AuditPage {
        rows: Vec::new(),
        next: None,
    }
}

async fn search(orchestrator: &Orchestrator, query: &AuditQuery) -> Result<AuditPage, Error> {
    match query.stored(orchestrator).await? {
        None => Ok(nothing()),
        Some(filter) => Ok(orchestrator
            .store()
            .audit_search(&filter, query.before, PAGE)
            .await?),
    }
}

#[derive(Template)]
#[template(path = "entry.html")]
struct Entry {
    frame: Frame,
    row: TrailRow,
    source: String,
    gateway: Option<String>,
    agent_id: Option<String>,
    user: Option<String>,
    command: Option<String>,
    decision: Option<String>,
    approval: Option<String>,
    /// Its version, and that in short.
    policy_set: Option<(String, String)>,
    policies: Vec<String>,
    arguments: String,
    chain: Option<Chain>,
    related: Vec<TrailRow>,
    text: String,
}

/// Whether a journal's line is what its gateway wrote.
struct Chain {
    sequence: i64,
    hash: String,
    problem: Option<&'static str>,
}

/// `GET /audit/{id}`.
async fn show(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    id: Result<Named<i64>, Error>,
) -> Result<Response, Trouble> {
    let Named(id) = id?;
    let row = orchestrator.store().audit_entry(id).await?;
    let now = orchestrator.now();
    let chain = chain(&orchestrator, &row).await?;
    let related = match &row.decision {
        None => Vec::new(),
        Some(decision) => {
            let filter = AuditFilter {
                decision: Some(decision.clone()),
                ..AuditFilter::default()
            };
            let found = orchestrator.store().audit_search(&filter, None, RELATED);
            found.await?.rows
        }
    };
    let mut rows = related;
    rows.retain(|other| other.id != id);
    rows.insert(0, row);
    let names = Names::of(&orchestrator, &rows).await?;
    let row = rows.remove(0);
    let entry = &row.entry;
    let policies = entry.get("policies").and_then(Value::as_array);
    Ok(page(&Entry {
        source: row.source.clone(),
        gateway: row.gateway.clone(),
        agent_id: row.agent.map(|agent| agent.to_string()),
        user: row.user.clone(),
        command: row.command.clone(),
        decision: row.decision.clone(),
        approval: text(entry, "approval"),
        policy_set: text(entry, "policy_set").map(|version| {
            let short = version.chars().take(12).collect();
            (version, short)
        }),
        policies: policies
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        arguments: entry
            .get("arguments")
            .map(super::services::pretty)
            .unwrap_or_default(),
        chain,
        related: rows
            .iter()
            .map(|other| TrailRow::of(other, &names, now))
            .collect(),
        text: match entry {
            Value::String(text) => text.clone(),
            other => serde_json::to_string_pretty(other).unwrap_or_default(),
        },
        row: TrailRow::of(&row, &names, now),
        frame,
    }))
}

async fn chain(orchestrator: &Orchestrator, row: &AuditRow) -> Result<Option<Chain>, Error> {
    let Some(gateway) = &row.gateway else {
        return Ok(None);
    };
    let sequence = row.entry.get("sequence").and_then(Value::as_i64);
    let Some(sequence) = sequence else {
        return Ok(Some(Chain {
            sequence: 0,
            hash: String::new(),
            problem: Some("it is not a journal line"),
        }));
    };
    let problem = match verification::check_line(orchestrator, gateway, sequence).await? {
        LineCheck::Whole => None,
        LineCheck::Broken(problem) => Some(problem),
    };
    Ok(Some(Chain {
        sequence,
        hash: text(&row.entry, "hash").unwrap_or_default(),
        problem,
    }))
}

#[derive(Template)]
#[template(path = "verification.html")]
struct Checked {
    frame: Frame,
    running: bool,
    journals: Vec<Journal>,
}

/// One gateway's journal, and what is known of it.
struct Journal {
    gateway: String,
    stored: i64,
    hash: String,
    check: Option<Check>,
}

struct Check {
    verified: i64,
    running: bool,
    whole: bool,
    broken: Option<(i64, String)>,
    ended: Option<Moment>,
    /// Of 100.
    part: String,
}

/// `GET /audit/verification`.
async fn checked(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    let now = orchestrator.now();
    let mut found: BTreeMap<String, Verification> = orchestrator
        .inner
        .verifications
        .found()
        .into_iter()
        .map(|one| (one.gateway.clone(), one))
        .collect();
    let heads = orchestrator.store().journal_heads().await?;
    let journals: Vec<_> = heads
        .into_iter()
        .map(|(gateway, stored, hash)| Journal {
            check: found.remove(&gateway).map(|one| Check {
                verified: one.verified,
                running: one.running,
                whole: one.ended.is_some() && one.broken.is_none(),
                broken: one.broken.map(|broken| (broken.sequence, broken.reason)),
                ended: one.ended.map(|ended| Moment::past(ended, now)),
                part: (one.verified.saturating_mul(100) / one.stored.max(1)).to_string(),
            }),
            gateway,
            stored,
            hash: hash.chars().take(16).collect(),
        })
        .collect();
    Ok(page(&Checked {
        running: journals
            .iter()
            .any(|journal| journal.check.as_ref().is_some_and(|check| check.running)),
        journals,
        frame,
    }))
}

/// `POST /audit/verification`.
async fn check(_: Visitor, State(orchestrator): State<Orchestrator>) -> Result<Response, Trouble> {
    verification::begin(&orchestrator).await?;
    Ok(go("/audit/verification"))
}

/// The trail of one policy's refusals, say.
pub(super) fn link(parameters: &[(&str, &str)]) -> String {
    let query: Vec<_> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", encoded(value)))
        .collect();
    format!("/audit?{}", query.join("&"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn why_is_what_tells_most_and_is_short() {
        for (entry, expected) in [
            (json!({"policies": ["a", "b"], "reason": "policy"}), "a, b"),
            (
                json!({"policies": [], "reason": "the release"}),
                "the release",
            ),
            (
                json!({"error": "no answer", "policies": ["a"]}),
                "no answer",
            ),
            (json!("not an object"), ""),
        ] {
            assert_eq!(why(&entry), expected, "{entry}");
        }
        let long = why(&json!({"reason": "x".repeat(1_000_000)}));
        assert_eq!(long.chars().count(), WHY_CHARS + 1);
        assert_eq!(link(&[("text", "a b")]), "/audit?text=a%20b");
    }
}
