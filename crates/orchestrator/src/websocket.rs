//! `/ws`: approvals as they happen, for browsers and bots.
//!
//! Every socket reads the feed for itself, so nothing is queued for it in memory: one
//! that reads slowly falls behind in the feed, one that does not read at all is closed,
//! and both find everything again with `?after=`.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use authz::approval::Administration;
use axum::{
    extract::{
        State,
        ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code},
    },
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use serde_json::{Value, json};
use store::{
    StoreError,
    approvals::StoredApproval,
    feed::{Change, Event},
};
use tokio::time::Instant;

use crate::{
    Orchestrator,
    api::Parameters,
    approvals,
    authenticate::{Person, Via},
    error::Error,
    events::Follower,
};

/// So many sockets at once, at most.
const MAX_SOCKETS: usize = 2_000;

/// A client's message is at most so long.
const MAX_MESSAGE_BYTES: usize = 8 * 1024;

/// How long things take on a socket.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between heartbeats, at which the credential is looked at again.
    heartbeat: Duration,
    /// A socket without a credential is closed after this.
    unauthenticated: Duration,
    /// A socket that takes nothing for so long is closed.
    stalled: Duration,
    /// Before the feed is read again after the database failed.
    recovery: Duration,
}

const PACE: Pace = Pace {
    heartbeat: Duration::from_secs(30),
    unauthenticated: Duration::from_mins(1),
    stalled: Duration::from_secs(10),
    recovery: Duration::from_secs(1),
};

/// From where to read.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct From {
    after: Option<i64>,
}

/// `GET /ws?after=N`.
pub(crate) async fn upgrade(
    State(orchestrator): State<Orchestrator>,
    Parameters(from): Parameters<From>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Result<Response, Error> {
    let (session, open) = admit(orchestrator, &from, &headers, PACE).await?;
    Ok(limited(upgrade).on_upgrade(move |socket| async move {
        session(socket).run().await;
        drop(open);
    }))
}

/// Who may connect, and from where they read.
async fn admit(
    orchestrator: Orchestrator,
    from: &From,
    headers: &HeaderMap,
    pace: Pace,
) -> Result<(impl FnOnce(WebSocket) -> Session + Send + use<>, Open), Error> {
    orchestrator.inner.origins.admits(headers)?;
    // A wrong credential is as good as none: the client is told so by `authenticated`.
    let person = match Person::from_headers(&orchestrator, headers).await {
        Ok(person) => person
            .may(&orchestrator, Administration::View)
            .is_ok()
            .then_some(person),
        Err(Error::Unauthenticated) => None,
        Err(error) => return Err(error),
    };
    let open = Open::new(&orchestrator)?;
    let follower = Follower::new(&orchestrator, from.after).await?;
    let session = move |socket| Session {
        orchestrator,
        person,
        follower,
        socket,
        pace,
    };
    Ok((session, open))
}

fn limited(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES)
}

/// Counts a socket for as long as it is open.
struct Open(Orchestrator);

impl Open {
    fn new(orchestrator: &Orchestrator) -> Result<Self, Error> {
        let sockets: &AtomicUsize = &orchestrator.inner.sockets;
        let admitted = sockets.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |open| {
            (open < MAX_SOCKETS).then_some(open + 1)
        });
        admitted
            .map(|_| Self(orchestrator.clone()))
            .map_err(|_| Error::TooManySockets)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.inner.sockets.fetch_sub(1, Ordering::Relaxed);
    }
}

struct Session {
    orchestrator: Orchestrator,
    /// Who may look; nobody yet if absent.
    person: Option<Person>,
    follower: Follower,
    socket: WebSocket,
    pace: Pace,
}

/// Why a socket ends.
enum End {
    /// The client went.
    Gone,
    /// We close it, and say why.
    Close(u16, &'static str),
}

/// What a client may say.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    Authenticate { token: String },
}

/// What happens next on a socket.
enum Next {
    Closing,
    Unauthenticated,
    Heartbeat,
    Received(Option<Result<Message, axum::Error>>),
    Event(Result<Event, StoreError>),
}

impl Session {
    async fn run(mut self) {
        match self.serve().await {
            End::Gone => {}
            End::Close(code, reason) => {
                let frame = CloseFrame {
                    code,
                    reason: reason.into(),
                };
                // Whoever takes nothing does not take this either.
                let _ = tokio::time::timeout(
                    Duration::from_secs(1),
                    self.socket.send(Message::Close(Some(frame))),
                )
                .await;
            }
        }
    }

    async fn serve(&mut self) -> End {
        let client = self
            .orchestrator
            .inner
            .clients
            .fetch_add(1, Ordering::Relaxed)
            + 1;
        let opening = json!({
            "type": "connection_established",
            "client_id": format!("client_{client}"),
            "timestamp": self.orchestrator.now(),
            "message": "Connected to Orchestrator Backend",
            "authenticated": self.person.is_some(),
            "sequence": self.follower.after(),
        });
        if let Err(end) = self.send(opening).await {
            return end;
        }
        let closing = self.orchestrator.inner.closing.clone();
        let give_up = Instant::now() + self.pace.unauthenticated;
        let mut heartbeat =
            tokio::time::interval_at(Instant::now() + self.pace.heartbeat, self.pace.heartbeat);
        loop {
            let unauthenticated = self.person.is_none();
            let next = tokio::select! {
                () = closing.cancelled() => Next::Closing,
                () = tokio::time::sleep_until(give_up), if unauthenticated => Next::Unauthenticated,
                _ = heartbeat.tick() => Next::Heartbeat,
                received = self.socket.recv() => Next::Received(received),
                event = self.follower.next(), if !unauthenticated => Next::Event(event),
            };
            let step = match next {
                Next::Closing => Err(End::Close(close_code::AWAY, "the orchestrator stops")),
                Next::Unauthenticated => {
                    Err(End::Close(close_code::POLICY, "no credential was sent"))
                }
                Next::Heartbeat => self.heartbeat().await,
                Next::Received(None | Some(Err(_) | Ok(Message::Close(_)))) => Err(End::Gone),
                Next::Received(Some(Ok(Message::Text(text)))) => self.received(text.as_str()).await,
                // Pings are answered by the library; binary frames say nothing to us.
                Next::Received(Some(Ok(
                    Message::Binary(_) | Message::Ping(_) | Message::Pong(_),
                ))) => Ok(()),
                Next::Event(Ok(event)) => self.event(event).await,
                Next::Event(Err(error)) => self.recover(&error).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn heartbeat(&mut self) -> Result<(), End> {
        self.recheck().await?;
        let open = self.orchestrator.inner.sockets.load(Ordering::Relaxed);
        self.send(json!({
            "type": "heartbeat",
            "timestamp": self.orchestrator.now(),
            "active_connections": open,
        }))
        .await
    }

    /// Closes the socket of someone who may no longer look.
    async fn recheck(&mut self) -> Result<(), End> {
        let Some(person) = &self.person else {
            return Ok(());
        };
        match person.again(&self.orchestrator).await {
            Ok(person) if person.may(&self.orchestrator, Administration::View).is_ok() => {
                self.person = Some(person);
                Ok(())
            }
            Ok(_) | Err(_) => Err(End::Close(
                close_code::POLICY,
                "the credential is no longer good",
            )),
        }
    }

    /// Origin's clients send any text to keep the connection alive; only one kind matters.
    async fn received(&mut self, text: &str) -> Result<(), End> {
        let Ok(Said::Authenticate { token }) = serde_json::from_str(text) else {
            return Ok(());
        };
        match Person::from_token(&self.orchestrator, &token, Via::Token).await {
            Ok(person) if person.may(&self.orchestrator, Administration::View).is_ok() => {
                let user = person.user.id.clone();
                self.person = Some(person);
                self.send(json!({
                    "type": "authenticated",
                    "user": user,
                    "timestamp": self.orchestrator.now(),
                    "sequence": self.follower.after(),
                }))
                .await
            }
            Ok(_) | Err(_) => Err(End::Close(
                close_code::POLICY,
                "this credential opens nothing here",
            )),
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), End> {
        match &event.change {
            Change::UserChanged { user }
                if self
                    .person
                    .as_ref()
                    .is_some_and(|person| &person.user.id == user) =>
            {
                self.recheck().await
            }
            Change::PolicySetActivated { .. } => self.recheck().await,
            Change::ApprovalOpened { approval, .. } => {
                let stored = approval_of(&self.orchestrator, *approval).await?;
                self.send(requested(&event, &stored)).await
            }
            Change::ApprovalApproved { approval, .. } => {
                let stored = approval_of(&self.orchestrator, *approval).await?;
                self.send(responded(&event, &stored, true)).await
            }
            Change::ApprovalRejected { approval, .. } => {
                let stored = approval_of(&self.orchestrator, *approval).await?;
                self.send(responded(&event, &stored, false)).await
            }
            Change::UserChanged { .. }
            | Change::AgentChanged { .. }
            | Change::ApprovalAdvanced { .. }
            | Change::ApprovalClosed { .. }
            | Change::GrantEnded { .. }
            | Change::PolicySetShadowed { .. } => Ok(()),
        }
    }

    async fn recover(&mut self, error: &StoreError) -> Result<(), End> {
        tracing::warn!(
            error = error as &dyn std::error::Error,
            "the feed cannot be read"
        );
        tokio::time::sleep(self.pace.recovery).await;
        Ok(())
    }

    async fn send(&mut self, value: Value) -> Result<(), End> {
        let message = Message::text(value.to_string());
        match tokio::time::timeout(self.pace.stalled, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(
                close_code::AGAIN,
                "too slow; resume with ?after=",
            )),
        }
    }
}

/// An event is never skipped: if its data cannot be read, the client has to come back.
async fn approval_of(
    orchestrator: &Orchestrator,
    id: authz::ApprovalRequestId,
) -> Result<StoredApproval, End> {
    orchestrator
        .store()
        .approval(id, orchestrator.now())
        .await
        .map_err(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "an approval request cannot be read"
            );
            End::Close(
                close_code::AGAIN,
                "the database failed; resume with ?after=",
            )
        })
}

fn requested(event: &Event, stored: &StoredApproval) -> Value {
    let ask = &stored.new.ask;
    json!({
        "type": "mcp_permission_request",
        "request_id": stored.new.id,
        "agent_id": ask.agent.id,
        "agent_name": ask.agent.name,
        "service_name": ask.target.key.service,
        "command": ask.target.key,
        "risk": ask.target.risk,
        "reason": stored.new.reason,
        "approvals_needed": ask.approvals,
        "timestamp": event.at,
        "sequence": event.sequence,
    })
}

fn responded(event: &Event, stored: &StoredApproval, approved: bool) -> Value {
    let ask = &stored.new.ask;
    let verdict = if approved {
        stored.verdicts.last()
    } else {
        approvals::rejection(stored)
    };
    let reason = verdict
        .map(|verdict| verdict.reason.as_str())
        .filter(|reason| !reason.is_empty());
    // Milliseconds of this millennium are exact in a double.
    #[allow(clippy::cast_precision_loss, reason = "exact until the year 287396")]
    let seconds = approvals::decided(stored).as_millis() as f64 / 1_000.0;
    json!({
        "type": "mcp_permission_response",
        "request_id": stored.new.id,
        "agent_id": ask.agent.id,
        "service_name": ask.target.key.service,
        "command": ask.target.key,
        "approved": approved,
        "reason": reason,
        "timestamp": seconds,
        "sequence": event.sequence,
    })
}

#[cfg(test)]
mod tests;
