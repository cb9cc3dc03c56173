//! The feed as server-sent events.

use std::{convert::Infallible, time::Duration};

use authz::approval::Administration;
use axum::{
    extract::State,
    http::HeaderMap,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use serde::Deserialize;
use store::feed::Change;

use super::Parameters;
use crate::{
    Orchestrator,
    authenticate::Reader,
    error::Error,
    events::{Follower, contract_event},
};

/// A comment is sent after so much silence.
const IDLE: Duration = Duration::from_secs(1);

/// A person's credential is looked at again at least so often.
const RECHECK: Duration = Duration::from_secs(30);

/// Where to start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    after: Option<i64>,
}

/// `GET /api/feed?after=N`; a browser that reconnects says `Last-Event-ID`.
pub(crate) async fn feed(
    reader: Reader,
    State(orchestrator): State<Orchestrator>,
    Parameters(from): Parameters<From>,
    headers: HeaderMap,
) -> Result<Response, Error> {
    let resumed = headers
        .get("last-event-id")
        .and_then(|id| id.to_str().ok())
        .and_then(|id| id.parse().ok());
    let follower = Follower::new(&orchestrator, resumed.or(from.after)).await?;
    let closing = orchestrator.inner.closing.clone();
    let events = events(orchestrator, reader, follower).take_until(closing.cancelled_owned());
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(IDLE).text("idle"))
        .into_response())
}

fn events(
    orchestrator: Orchestrator,
    reader: Reader,
    follower: Follower,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    // Says at once that it is open, and how soon to come back.
    let opening = Event::default()
        .comment("following")
        .retry(Duration::from_secs(1));
    let checked = tokio::time::Instant::now();
    let changes = stream::unfold(
        (orchestrator, reader, follower, checked),
        |(orchestrator, mut reader, mut follower, mut checked)| async move {
            loop {
                let event = match tokio::time::timeout(RECHECK, follower.next()).await {
                    Err(_) => None,
                    Ok(Ok(event)) => Some(event),
                    Ok(Err(error)) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the feed cannot be read"
                        );
                        return None;
                    }
                };
                let theirs = event
                    .as_ref()
                    .is_some_and(|event| concerns(&reader, &event.change));
                if theirs || checked.elapsed() >= RECHECK {
                    reader = still(&orchestrator, reader).await?;
                    checked = tokio::time::Instant::now();
                }
                let Some(event) = event else { continue };
                let sequence = event.sequence.to_string();
                // A change is ids and words: it always serialises.
                let event = Event::default()
                    .id(sequence)
                    .json_data(contract_event(event))
                    .ok()?;
                return Some((Ok(event), (orchestrator, reader, follower, checked)));
            }
        },
    );
    stream::once(async move { Ok(opening) }).chain(changes)
}

/// Whether the change may have ended this reader's right to read on.
fn concerns(reader: &Reader, change: &Change) -> bool {
    match (reader, change) {
        (Reader::Person(person), Change::UserChanged { user }) => user == &person.user.id,
        (Reader::Person(_), Change::PolicySetActivated { .. }) => true,
        (Reader::Person(_) | Reader::Gateway, _) => false,
    }
}

/// The reader, unless their credential ended or policy no longer lets them look.
async fn still(orchestrator: &Orchestrator, reader: Reader) -> Option<Reader> {
    match reader {
        Reader::Gateway => Some(Reader::Gateway),
        Reader::Person(person) => {
            let person = person.again(orchestrator).await.ok()?;
            person.may(orchestrator, Administration::View).ok()?;
            Some(Reader::Person(Box::new(person)))
        }
    }
}
