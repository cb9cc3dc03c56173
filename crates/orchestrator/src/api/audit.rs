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

/// `GET /api/audit`: oldest first, after `after`, of an agent, of a command; or with
/// `order=newest` or `before`, newest first by everything that `AuditFilter` knows. Where
/// there is more, a `Link` header says how to get it.
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

/// `GET /api/audit/export`: everything that a filter wants as JSON Lines, newest first.
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

/// `GET /api/audit/journals`: how far each gateway's journal is stored.
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

/// `GET /api/audit/verification`: what the last check of the stored journals found.
pub(crate) async fn verification(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Json<Vec<Verification>> {
    Json(orchestrator.inner.verifications.found())
}

/// `POST /api/audit/verification`: begins to check them, unless that is under way.
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
