//! `/ws`: approvals as they happen, for browsers and bots.
//!
//! Every socket has a place of its own in the feed and nothing is queued for it in memory:
//! one that reads slowly falls behind, one that does not read at all is closed, and both
//! find everything again with `?after=`. What is sent is worked out once for all sockets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
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
use store::{StoreError, approvals::StoredApproval, feed::Change};
use tokio::time::Instant;

use crate::{
    Orchestrator,
    api::{Parameters, feed::From},
    approvals,
    authenticate::{Person, Via},
    error::Error,
    events::{Event, Follower},
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

#[utoipa::path(
    get,
    path = "/ws",
    tag = "feed",
    summary = "Approvals as they happen, for browsers and bots",
    params(From),
    security((), ("user" = []), ("session" = [])),
    responses((status = 101, description = "A WebSocket; its messages are described in docs/api.md"), (status = 400, description = "Not a WebSocket handshake, or `after` is no number"), (status = 426, description = "The connection cannot be upgraded"))
)]
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
    Event(Result<Arc<Event>, Arc<StoreError>>),
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
                Next::Event(Ok(event)) => self.event(&event).await,
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

    async fn event(&mut self, event: &Event) -> Result<(), End> {
        match &event.change.change {
            Change::UserChanged { user }
                if self
                    .person
                    .as_ref()
                    .is_some_and(|person| &person.user.id == user) =>
            {
                self.recheck().await?;
            }
            Change::PolicySetActivated { .. } => self.recheck().await?,
            _ => {}
        }
        let said = event
            .message
            .get_or_try_init(|| said(&self.orchestrator, &event.change));
        match said.await?.clone() {
            Some(text) => self.send_text(&text).await,
            None => Ok(()),
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
        self.send_text(&value.to_string()).await
    }

    async fn send_text(&mut self, text: &str) -> Result<(), End> {
        let message = Message::text(text);
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

/// What is said of a change to everyone who may look, if anything.
async fn said(
    orchestrator: &Orchestrator,
    event: &store::feed::Event,
) -> Result<Option<Arc<str>>, End> {
    let value = match &event.change {
        Change::ApprovalOpened { approval, .. } => {
            requested(event, &approval_of(orchestrator, *approval).await?)
        }
        Change::ApprovalApproved { approval, .. } => {
            responded(event, &approval_of(orchestrator, *approval).await?, true)
        }
        Change::ApprovalRejected { approval, .. } => {
            responded(event, &approval_of(orchestrator, *approval).await?, false)
        }
        Change::UserChanged { .. }
        | Change::AgentChanged { .. }
        | Change::ApprovalAdvanced { .. }
        | Change::ApprovalClosed { .. }
        | Change::GrantEnded { .. }
        | Change::PolicySetActivated { .. }
        | Change::PolicySetShadowed { .. }
        | Change::ToolsReviewed { .. }
        | Change::ZonesChanged { .. } => return Ok(None),
    };
    Ok(Some(value.to_string().into()))
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

fn requested(event: &store::feed::Event, stored: &StoredApproval) -> Value {
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

fn responded(event: &store::feed::Event, stored: &StoredApproval, approved: bool) -> Value {
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
