//! The audit trail.

use std::collections::VecDeque;

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::audit::{AuditEntry, JournalHead, Verification};
use futures_util::stream;
use store::audit::{AuditRow, Place};
use utoipa::IntoParams;

use super::Parameters;
use crate::{
    Orchestrator,
    audit_query::AuditQuery,
    authenticate::{May, View},
    error::Error,
    verification,
};

/// A list has so many entries unless the query says otherwise.
const USUAL_LIST: u32 = 200;

/// An export reads so many entries at once.
const EXPORTED_AT_ONCE: u32 = 500;

/// What the trail can be asked for: the parameters that [`AuditQuery`] reads.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; `AuditQuery` reads")]
pub(crate) struct Asked {
    /// Of this agent, by id or name.
    agent: Option<String>,
    /// Of this command, as `service/name`.
    command: Option<String>,
    /// Of this service. With what follows, `order=newest` is needed.
    service: Option<String>,
    /// Of this user.
    user: Option<String>,
    /// Entries of this kind.
    kind: Option<String>,
    /// Journal lines with this outcome.
    outcome: Option<String>,
    /// Journal lines with this decision.
    decision: Option<String>,
    /// Of this gateway.
    gateway: Option<String>,
    /// Not before this time.
    from: Option<String>,
    /// Before this time.
    until: Option<String>,
    /// That hold this text.
    text: Option<String>,
    /// Newest first, before this place, which a `Link` header names.
    before: Option<String>,
    /// At most so many, 1 to 1000; 200 if absent.
    limit: Option<String>,
    /// `oldest` first, or `newest`.
    order: Option<String>,
    /// Oldest first, behind this entry.
    after: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/audit",
    tag = "audit",
    summary = "The audit trail: oldest first, or with `order=newest` searched",
    params(Asked),
    responses((status = 200, description = "At most `limit` entries; a `Link` header names the next page", body = Vec<AuditEntry>), (status = 404, description = "There is no such agent"))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(parameters): Parameters<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let query = AuditQuery::read(parameters)?;
    if query.newest || query.before.is_some() {
        return newest(&orchestrator, &query).await;
    }
    if query.wants_search() {
        return Err(Error::Invalid(
            "order: `newest` is needed to look for more than an agent and a command".to_owned(),
        ));
    }
    let limit = query.limit.unwrap_or(USUAL_LIST);
    let entries = match query.stored(&orchestrator).await? {
        None => {
            let agent = query.filter.agent.unwrap_or_default();
            return Err(Error::NotFound(format!("agent `{agent}` is not found")));
        }
        Some(filter) => {
            let after = query.after.unwrap_or(0);
            orchestrator
                .store()
                .audit_of(after, limit, filter.agent, filter.command.as_deref())
                .await?
        }
    };
    Ok(Json(entries.into_iter().map(entry).collect::<Vec<_>>()).into_response())
}

async fn newest(orchestrator: &Orchestrator, query: &AuditQuery) -> Result<Response, Error> {
    if query.after.is_some() {
        return Err(Error::Invalid(
            "after: only without `before` and `order=newest`".to_owned(),
        ));
    }
    let Some(filter) = query.stored(orchestrator).await? else {
        return Ok(Json(Vec::<AuditEntry>::new()).into_response());
    };
    let limit = query.limit.unwrap_or(USUAL_LIST);
    let page = orchestrator
        .store()
        .audit_search(&filter, query.before, limit)
        .await?;
    let entries: Vec<_> = page.rows.into_iter().map(entry).collect();
    let mut response = Json(entries).into_response();
    if let Some(next) = page.next {
        let link = format!(
            "</api/audit?{}&limit={limit}>; rel=\"next\"",
            query.page_before(next)
        );
        let link = HeaderValue::from_str(&link).map_err(|error| Error::Bug(error.to_string()))?;
        response.headers_mut().insert(header::LINK, link);
    }
    Ok(response)
}

/// What an export still has to send.
struct Export {
    orchestrator: Orchestrator,
    filter: store::audit::AuditFilter,
    before: Option<Place>,
    read: VecDeque<AuditRow>,
    ended: bool,
}

#[utoipa::path(
    get,
    path = "/api/audit/export",
    tag = "audit",
    summary = "Everything that a filter wants, as JSON Lines, newest first",
    params(Asked),
    responses((status = 200, description = "An entry a line", body = String, content_type = "application/x-ndjson"))
)]
pub(crate) async fn export(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(parameters): Parameters<Vec<(String, String)>>,
) -> Result<Response, Error> {
    let query = AuditQuery::read(parameters)?;
    let filter = query.stored(&orchestrator).await?;
    let export = Export {
        ended: filter.is_none(),
        filter: filter.unwrap_or_default(),
        before: query.before,
        read: VecDeque::new(),
        orchestrator,
    };
    let lines = stream::try_unfold(export, |mut export| async move {
        while export.read.is_empty() && !export.ended {
            let store = export.orchestrator.store();
            let page = store
                .audit_search(&export.filter, export.before, EXPORTED_AT_ONCE)
                .await?;
            export.read = page.rows.into();
            export.before = page.next;
            export.ended = page.next.is_none();
        }
        let mut text = String::new();
        while let Some(row) = export.read.pop_front() {
            text.push_str(&serde_json::to_string(&entry(row)).map_err(std::io::Error::other)?);
            text.push('\n');
        }
        let more = !text.is_empty();
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(more.then_some((text, export)))
    });
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"cedargate-audit.jsonl\"",
        ),
    ];
    Ok((headers, Body::from_stream(lines)).into_response())
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

#[utoipa::path(
    get,
    path = "/api/audit/verification",
    tag = "audit",
    summary = "What the last check of the stored journals found",
    responses((status = 200, description = "By gateway", body = Vec<Verification>))
)]
pub(crate) async fn verification(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Json<Vec<Verification>> {
    Json(orchestrator.inner.verifications.found())
}

#[utoipa::path(
    post,
    path = "/api/audit/verification",
    tag = "audit",
    summary = "Begin to check the stored journals, unless that is under way",
    responses((status = 202, description = "What was found so far", body = Vec<Verification>))
)]
pub(crate) async fn verify(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<(StatusCode, Json<Vec<Verification>>), Error> {
    verification::begin(&orchestrator).await?;
    let found = orchestrator.inner.verifications.found();
    Ok((StatusCode::ACCEPTED, Json(found)))
}

pub(crate) fn entry(row: AuditRow) -> AuditEntry {
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
