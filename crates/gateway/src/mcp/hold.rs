//! Requests that wait for people.
//!
//! The answer begins at once as a stream, so that clients see that something is under way;
//! what was asked for is decided again when people have approved, and goes on in the same
//! stream. A client that leaves, or calls it off, has asked for nothing any more.

use std::{sync::Arc, time::Duration};

use authz::{AgentId, Command, ServiceName, Timestamp};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use contract::{approvals::ApprovalStatus, feed::Change};
use futures_util::future::BoxFuture;
use handlers::{
    jsonrpc::{self, Member, Members},
    sse,
};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{
    sync::{broadcast, mpsc},
    time::{Instant, MissedTickBehavior},
};
use tower::BoxError;
use tracing::Instrument;

use super::{
    MAX_EVENT_BYTES,
    ask::is_json,
    dress,
    fault::{self, Shape},
    is_events,
    method::Era,
    stream::{Event, Looked},
};
use crate::{
    Gateway,
    answer::Body,
    authenticate::{Caller, Peer},
    refusal::{Denied, Refusal},
    waiting::{Patience, preferred_wait},
};

/// The longest that a client without progress is kept waiting: some give up at 60 seconds.
const PLAIN: Duration = Duration::from_secs(55);

/// The longest that a client that hears of progress is kept waiting.
const WITH_PROGRESS: Duration = Duration::from_mins(5);

/// Since 2026-07-28 a client is told to ask again, so often: clients follow ten times.
const ROUNDS: u8 = 8;

/// Begins a state of ours.
const OURS: &str = "gw1.";

/// A state is good for so long.
const STATE_LIFETIME: Duration = Duration::from_mins(2);

/// Each message of ours counts so many thousandths, so that hardly any progress of the
/// server's own is less.
const STEP: f64 = 0.001;

/// Which time a request comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// How often it was told to come again; none when it may not wait.
    round: Option<u8>,
}

impl Turn {
    const fn first() -> Self {
        Self { round: Some(0) }
    }

    pub(super) const fn none() -> Self {
        Self { round: None }
    }

    /// Which time a request comes, by its state; and the member of its parameters that holds
    /// that, if the state is of our kind, whoever wrote it.
    pub(super) fn of<'p, 'a>(
        gateway: &Gateway,
        era: Era,
        params: &'p Members<'a>,
        agent: AgentId,
        command: &Command,
    ) -> (Self, Option<&'p Member<'a>>) {
        let state = params.get("requestState").filter(|_| era == Era::Modern);
        let ours = state.and_then(|member| {
            let text = jsonrpc::string(member.value)?;
            text.starts_with(OURS).then_some((member, text))
        });
        let Some((member, text)) = ours else {
            return (Self::first(), None);
        };
        let now = gateway.clock.now();
        let turn = gateway.mcp.seal.open(&text, agent, command, now);
        (turn, Some(member))
    }
}

/// Seals the states that clients carry. They give no right: a request that comes again is
/// decided again. They only count.
#[derive(Debug)]
pub(super) struct Seal([u8; 32]);

impl Seal {
    pub(super) fn new() -> Self {
        Self(rand::random())
    }

    fn mac(&self, agent: AgentId, command: &Command, round: u8, expires: i64) -> Hmac<Sha256> {
        let mut mac: Hmac<Sha256> = Hmac::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        let digest = command.arguments.digest();
        let sealed = format!(
            "{agent}\n{}\n{digest}\n{round}\n{expires}",
            command.target.key
        );
        mac.update(sealed.as_bytes());
        mac
    }

    pub(super) fn close(
        &self,
        agent: AgentId,
        command: &Command,
        round: u8,
        now: Timestamp,
    ) -> String {
        let expires = now.plus(STATE_LIFETIME).as_millis();
        let mac = self.mac(agent, command, round, expires).finalize();
        let mac = BASE64_URL_SAFE_NO_PAD.encode(mac.into_bytes());
        format!("{OURS}{round}.{expires}.{mac}")
    }

    /// Which time a request comes; one whose state is not ours for just this call does not
    /// wait.
    pub(super) fn open(
        &self,
        state: &str,
        agent: AgentId,
        command: &Command,
        now: Timestamp,
    ) -> Turn {
        let read = || {
            let mut parts = state.strip_prefix(OURS)?.splitn(3, '.');
            let round: u8 = parts.next()?.parse().ok()?;
            let expires: i64 = parts.next()?.parse().ok()?;
            let mac = BASE64_URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
            self.mac(agent, command, round, expires)
                .verify_slice(&mac)
                .ok()?;
            (now.as_millis() < expires).then_some(round)
        };
        Turn { round: read() }
    }
}

/// Has a request decided again, and carried out if it is permitted now.
pub(super) type Attempt =
    Box<dyn Fn(Caller) -> BoxFuture<'static, Result<Response<Body>, Refusal>> + Send + Sync>;

/// A request that may be kept waiting, whichever door it came through.
pub(super) struct Waiting {
    pub(super) gateway: Arc<Gateway>,
    /// None: at the door to all services.
    pub(super) service: Option<ServiceName>,
    pub(super) session: Option<String>,
    pub(super) era: Era,
    pub(super) shape: Shape,
    /// The exact text of its id.
    pub(super) id: Box<str>,
    /// Under what the client wants to hear of progress.
    pub(super) token: Option<Box<str>>,
    pub(super) command: Command,
    pub(super) turn: Turn,
    /// Whether the newer protocol lets it be asked again with a state of ours.
    pub(super) may_come_again: bool,
    pub(super) caller: Caller,
    pub(super) headers: HeaderMap,
    pub(super) peer: Peer,
}

impl Waiting {
    /// Its answer: that it is refused, or a stream that begins now, if people can lift that
    /// and there is time for it. `changes` must have been subscribed to before it was decided.
    pub(super) fn refused_or_held(
        self,
        refusal: Refusal,
        changes: broadcast::Receiver<Change>,
        attempt: Attempt,
    ) -> Response<Body> {
        let wait = self.wait();
        match refusal {
            Refusal::Denied(denied) if denied.pending().is_some() && !wait.is_zero() => {
                match self.gateway.patient(wait) {
                    Some(patience) => self.held(denied, patience, changes, attempt),
                    None => self.refused(&Refusal::Denied(denied)),
                }
            }
            refusal => self.refused(&refusal),
        }
    }

    fn refused(&self, refusal: &Refusal) -> Response<Body> {
        let step_up = self.gateway.mcp_step_up(&self.caller, &self.id, refusal);
        if let Some(response) = step_up {
            return response;
        }
        let mut response = fault::whole(StatusCode::OK, self.refusal(refusal));
        refusal.put_headers(response.headers_mut());
        response
    }

    fn refusal(&self, refusal: &Refusal) -> Vec<u8> {
        fault::refused(self.era, self.shape, &self.id, refusal)
    }

    /// How long it may wait now; zero when it may not.
    fn wait(&self) -> Duration {
        let Some(round) = self.turn.round else {
            return Duration::ZERO;
        };
        let length = self.gateway.config.mcp.round;
        let rounds = self.may_come_again.then_some((round, length));
        let progress = self.token.is_some() && self.era == Era::Legacy;
        in_one_go(self.wanted(), rounds, progress)
    }

    /// How long its client, or else the operator, wants it to wait in all.
    fn wanted(&self) -> Duration {
        let settings = &self.gateway.config.mcp;
        preferred_wait(&self.headers).unwrap_or(settings.hold)
    }

    /// Whether a client may come again after this round.
    fn next_round(&self) -> Option<u8> {
        let round = self.turn.round? + 1;
        let more = self.may_come_again
            && round < ROUNDS
            && self.wanted() > self.gateway.config.mcp.round * u32::from(round);
        more.then_some(round)
    }

    /// The answer of a request that waits: a stream that begins now.
    fn held(
        self,
        denied: Box<Denied>,
        patience: Patience,
        changes: broadcast::Receiver<Change>,
        attempt: Attempt,
    ) -> Response<Body> {
        let (sender, mut receiver) = mpsc::channel(1);
        let held = (
            denied.agent,
            self.service.clone(),
            self.session.clone(),
            self.id.clone(),
        );
        let (place, called_off) = self.gateway.mcp.hold(held.clone());
        let waiting = async move {
            let gateway = Arc::clone(&self.gateway);
            let mut wait = Wait {
                out: sender.clone(),
                told: 0,
                request: self,
                attempt,
            };
            tokio::select! {
                // The client left: what it asked for is not asked for any more.
                () = sender.closed() => {}
                () = called_off.cancelled() => {}
                () = wait.run(denied, patience, changes) => {}
            }
            gateway.mcp.let_go(&held, place);
        };
        tokio::spawn(waiting.instrument(tracing::Span::current()));
        let frames = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut response =
            Response::new(Body::streamed(Unpinned(Box::pin(StreamBody::new(frames)))));
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        );
        dress(headers);
        response
    }
}

/// How much of what is `wanted` in all a request may wait now: of one that may come again, by
/// which time it comes and how long each lasts; of another, by whether it hears of progress.
fn in_one_go(wanted: Duration, rounds: Option<(u8, Duration)>, progress: bool) -> Duration {
    let Some((round, length)) = rounds else {
        return wanted.min(if progress { WITH_PROGRESS } else { PLAIN });
    };
    let left = wanted
        .min(length * u32::from(ROUNDS))
        .saturating_sub(length * u32::from(round));
    left.min(length)
}

type Out = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A request while it waits.
struct Wait {
    request: Waiting,
    attempt: Attempt,
    out: Out,
    /// How often the client was told that it waits, where it asked to be told of progress.
    told: u32,
}

/// The client is gone.
struct Gone;

impl Wait {
    async fn run(
        &mut self,
        mut denied: Box<Denied>,
        patience: Patience,
        mut changes: broadcast::Receiver<Change>,
    ) {
        let gateway = Arc::clone(&self.request.gateway);
        let agent = denied.agent;
        let mut caller = self.request.caller.clone();
        loop {
            let Some(pending) = denied.pending() else {
                return self.end(&Refusal::Denied(denied)).await;
            };
            let decided = {
                let decided = gateway.decided(agent, pending, Some(&patience), &mut changes);
                tokio::pin!(decided);
                let mut tick = tokio::time::interval(gateway.config.mcp.tick);
                tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    tokio::select! {
                        decided = &mut decided => break decided,
                        _ = tick.tick() => if self.tell(&denied).await.is_err() { return },
                        () = gateway.mcp.closing.cancelled() => {
                            return self.end(&Refusal::Denied(denied)).await;
                        }
                    }
                }
            };
            match decided {
                Ok(approval) if approval.status == ApprovalStatus::Approved => {}
                Ok(approval) => {
                    denied.update(approval, gateway.clock.now());
                    return self.stop(denied).await;
                }
                // What was said before is still the best that can be said.
                Err(_) => return self.end(&Refusal::Denied(denied)).await,
            }
            // The credential may be gone by now, and the grant is there.
            caller = match gateway
                .caller_now(&caller, &self.request.headers, self.request.peer)
                .await
            {
                Ok(caller) => caller,
                Err(refusal) => return self.end(&refusal).await,
            };
            match (self.attempt)(caller.clone()).await {
                Ok(response) => return self.relay(response).await,
                Err(Refusal::Denied(again)) if Instant::now() < patience.until() => denied = again,
                Err(refusal) => return self.end(&refusal).await,
            }
        }
    }

    async fn send(&self, bytes: impl Into<Bytes>) -> Result<(), Gone> {
        let frame = Frame::data(bytes.into());
        self.out.send(Ok(frame)).await.map_err(|_| Gone)
    }

    /// Says that it still waits, and for what.
    async fn tell(&mut self, denied: &Denied) -> Result<(), Gone> {
        let what = denied
            .approval()
            .map(|id| id.to_string())
            .unwrap_or_default();
        let Some(token) = &self.request.token else {
            return self
                .send(format!(": waiting for approval {what}\n\n"))
                .await;
        };
        self.told += 1;
        let token: Value = serde_json::from_str(token).unwrap_or_default();
        let notification = json!({
            "jsonrpc": "2.0",
            "method": "notifications/progress",
            "params": {
                "progressToken": token,
                "progress": f64::from(self.told) * STEP,
                "message": format!("waiting for approval {what}"),
            },
        });
        self.send(sse::message(notification.to_string().as_bytes()))
            .await
    }

    /// Nobody decided in time, or people said no.
    async fn stop(&mut self, denied: Box<Denied>) {
        let again = self
            .request
            .next_round()
            .filter(|_| denied.pending().is_some());
        let Some(round) = again else {
            return self.end(&Refusal::Denied(denied)).await;
        };
        let request = &self.request;
        let now = request.gateway.clock.now();
        let seal = &request.gateway.mcp.seal;
        let state = seal.close(denied.agent, &request.command, round, now);
        let result = json!({"resultType": "input_required", "requestState": state});
        let reply = fault::reply(Some(&request.id), "result", &result);
        let _ = self.send(sse::message(&reply)).await;
    }

    /// The last thing that the client hears.
    async fn end(&self, refusal: &Refusal) {
        let _ = self
            .send(sse::message(&self.request.refusal(refusal)))
            .await;
    }

    /// Passes on what the server answers, in the stream that is open.
    async fn relay(&self, response: Response<Body>) {
        let (parts, body) = response.into_parts();
        if is_events(&parts.headers) {
            let mut body = match (&self.request.token, self.told) {
                (Some(token), told @ 1..) => {
                    let look = lesser_progress_is_gone(token, f64::from(told) * STEP);
                    let looked = Looked::new(body, MAX_EVENT_BYTES, Box::new(look));
                    Body::streamed(looked.with_rest())
                }
                _ => body,
            };
            while let Some(frame) = body.frame().await {
                let broken = frame.is_err();
                if self.out.send(frame).await.is_err() || broken {
                    return;
                }
            }
        } else if is_json(&parts.headers) {
            if self.whole(body).await.is_err() {
                tracing::debug!("a client left before the answer that it waited for");
            }
        } else {
            let message = format!("the server answered with HTTP status {}", parts.status);
            let error = json!({"code": fault::UPSTREAM, "message": message});
            let reply = fault::reply(Some(&self.request.id), "error", &error);
            let _ = self.send(sse::message(&reply)).await;
        }
    }

    /// A whole answer as one event.
    async fn whole(&self, mut body: Body) -> Result<(), Gone> {
        self.send("event: message\ndata: ").await?;
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => {
                    // In JSON these stand between values only, where a space does as well.
                    let mut data = Vec::from(data);
                    for byte in &mut data {
                        if matches!(byte, b'\n' | b'\r') {
                            *byte = b' ';
                        }
                    }
                    self.send(data).await?;
                }
                Ok(Err(_)) => {}
                Err(error) => {
                    self.out.send(Err(error)).await.map_err(|_| Gone)?;
                    return Ok(());
                }
            }
        }
        self.send("\n\n").await
    }
}

/// Progress must grow: what the server says first may be less than what we said.
fn lesser_progress_is_gone(token: &str, told: f64) -> impl FnMut(&[u8]) -> Event + Send + use<> {
    let token: Box<str> = token.into();
    move |event| {
        let Some(data) = sse::data(event) else {
            return Event::Same;
        };
        let progress = || {
            let members = jsonrpc::members(jsonrpc::utf8(&data).ok()?).ok()?;
            if jsonrpc::string(members.raw("method")?)? != "notifications/progress" {
                return None;
            }
            let params = jsonrpc::members(members.raw("params")?).ok()?;
            let same = jsonrpc::Id::read(params.raw("progressToken")?) == jsonrpc::Id::read(&token);
            let progress: f64 = params.raw("progress")?.parse().ok()?;
            same.then_some(progress)
        };
        match progress() {
            Some(progress) if progress <= told => Event::Gone,
            Some(_) => Event::Last,
            None => Event::Same,
        }
    }
}

/// A stream in a box.
struct Unpinned<S>(std::pin::Pin<Box<S>>);

impl<S: http_body::Body> http_body::Body for Unpinned<S> {
    type Data = S::Data;
    type Error = S::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<S::Data>, S::Error>>> {
        self.0.as_mut().poll_frame(context)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use authz::{Arguments, Service, Target, command::Risk};

    use super::*;

    fn command(argument: &str) -> Command {
        let service = Arc::new(Service {
            name: "everything".parse().unwrap(),
            env: authz::command::Environment::Prod,
            owners: None,
            zones: [].into(),
        });
        Command {
            target: Arc::new(Target {
                key: "everything/echo".parse().unwrap(),
                service,
                risk: Risk::Write,
                zones: [].into(),
                pinned: true,
            }),
            arguments: Arguments::new(json!({"message": argument}).as_object().unwrap().clone()),
        }
    }

    #[test]
    fn a_state_is_good_for_one_call_of_one_agent_for_a_while() {
        let (seal, now) = (Seal::new(), Timestamp::from_millis(1_000));
        let other: AgentId = "7a2c9b63-0e1f-4b5f-9022-2e3d4c5b6f70".parse().unwrap();
        let state = seal.close(AgentId::LOCAL, &command("a"), 3, now);
        let round = |state: &str, agent, argument: &str, now| {
            seal.open(state, agent, &command(argument), now).round
        };
        assert_eq!(round(&state, AgentId::LOCAL, "a", now), Some(3));
        assert_eq!(round(&state, other, "a", now), None);
        assert_eq!(round(&state, AgentId::LOCAL, "b", now), None);
        let late = now.plus(STATE_LIFETIME);
        assert_eq!(round(&state, AgentId::LOCAL, "a", late), None);
        let earlier = state.replacen("gw1.3", "gw1.0", 1);
        assert_eq!(round(&earlier, AgentId::LOCAL, "a", now), None);
        assert_eq!(round("gw1.", AgentId::LOCAL, "a", now), None);
        assert_eq!(
            Seal::new().open(&state, AgentId::LOCAL, &command("a"), now),
            Turn::none()
        );
    }

    /// Clients of TypeScript and others give up after a minute in which they hear nothing
    /// that counts for them, and after ten rounds.
    #[test]
    fn an_answer_comes_before_clients_give_up() {
        const MINUTE: Duration = Duration::from_mins(1);
        let hour = Duration::from_hours(1);
        let second = Duration::from_secs(1);
        assert!(in_one_go(hour, None, false) < MINUTE);
        assert_eq!(in_one_go(hour, None, true), Duration::from_mins(5));
        assert_eq!(in_one_go(second, None, false), second);
        let length = super::super::Settings::default().round;
        let rounds = (0..10).map(|round| in_one_go(hour, Some((round, length)), false));
        let rounds: Vec<_> = rounds.take_while(|wait| !wait.is_zero()).collect();
        assert_eq!(rounds.len(), usize::from(ROUNDS));
        assert!(rounds.iter().all(|wait| *wait == length && *wait < MINUTE));
        assert!(rounds.len() < 10);
        let last = in_one_go(length + second, Some((1, length)), false);
        assert_eq!(last, second);
    }

    #[test]
    fn progress_grows() {
        let mut look = lesser_progress_is_gone(r#""t""#, 0.003);
        let mut event = |token: &str, progress: &str| {
            let data = format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{progress}}}}}"#
            );
            look(&sse::message(data.as_bytes()))
        };
        assert!(matches!(event(r#""t""#, "0"), Event::Gone));
        assert!(matches!(event(r#""\u0074""#, "0.003"), Event::Gone));
        assert!(matches!(event(r#""other""#, "0"), Event::Same));
        assert!(matches!(event("7", "0"), Event::Same));
        assert!(matches!(event(r#""t""#, "1"), Event::Last));
        assert!(matches!(look(b": comment\n\n"), Event::Same));
    }
}
