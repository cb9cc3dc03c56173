//! The feed as server-sent events.

use std::{
    convert::Infallible,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

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
use utoipa::IntoParams;

use super::Parameters;
use crate::{Orchestrator, authenticate::Reader, error::Error, events::Follower};

/// A comment is sent after so much silence.
const IDLE: Duration = Duration::from_secs(1);

/// So many streams at once, at most: one that nobody reads costs a connection and a page of
/// the feed, and cannot be told from one that is read slowly.
const MAX_STREAMS: usize = 4_000;

/// A person's credential is looked at again at least so often.
const RECHECK: Duration = Duration::from_secs(30);

/// Where to start.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// What came behind this place; what comes from now on if absent. A place that the feed
    /// has not reached counts as its end.
    pub(crate) after: Option<i64>,
}

#[utoipa::path(
    get,
    path = "/api/feed",
    tag = "feed",
    summary = "Every change, as server-sent events",
    params(From, ("Last-Event-ID" = Option<String>, Header, description = "Sent by a browser that reconnects; wins over `after`")),
    security(("user" = []), ("session" = []), ("control" = [])),
    responses((status = 200, description = "Each event has the sequence as `id` and a `FeedEvent` as `data`; a comment each second while idle", content_type = "text/event-stream", body = String), (status = 401, description = "Neither a user nor a gateway"))
)]
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
    let open = Open::new(&orchestrator)?;
    let follower = Follower::new(&orchestrator, resumed.or(from.after)).await?;
    let closing = orchestrator.inner.closing.clone();
    let events = events(orchestrator, reader, follower, open).take_until(closing.cancelled_owned());
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(IDLE).text("idle"))
        .into_response())
}

fn events(
    orchestrator: Orchestrator,
    reader: Reader,
    follower: Follower,
    open: Open,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    // Says at once that it is open, and how soon to come back.
    let opening = Event::default()
        .comment("following")
        .retry(Duration::from_secs(1));
    let checked = tokio::time::Instant::now();
    let changes = stream::unfold(
        (orchestrator, reader, follower, checked, open),
        |(orchestrator, mut reader, mut follower, mut checked, open)| async move {
            loop {
                let event = match tokio::time::timeout(RECHECK, follower.next()).await {
                    Err(_) => None,
                    Ok(Ok(event)) => Some(event),
                    Ok(Err(error)) => {
                        // Who reads it for all of us has said so.
                        tracing::debug!(%error, "a stream of the feed ends");
                        return None;
                    }
                };
                let theirs = event
                    .as_ref()
                    .is_some_and(|event| concerns(&reader, &event.change.change));
                if theirs || checked.elapsed() >= RECHECK {
                    reader = still(&orchestrator, reader).await?;
                    checked = tokio::time::Instant::now();
                }
                let Some(event) = event else { continue };
                let event = Event::default()
                    .id(event.sequence().to_string())
                    .data(event.data()?);
                return Some((Ok(event), (orchestrator, reader, follower, checked, open)));
            }
        },
    );
    stream::once(async move { Ok(opening) }).chain(changes)
}

/// Counts a stream for as long as it is open.
struct Open(Arc<crate::Inner>);

impl Open {
    fn new(orchestrator: &Orchestrator) -> Result<Self, Error> {
        let admitted =
            orchestrator
                .inner
                .streams
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
                    (open < MAX_STREAMS).then_some(open + 1)
                });
        admitted
            .map(|_| Self(Arc::clone(&orchestrator.inner)))
            .map_err(|_| Error::TooManyStreams)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
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
