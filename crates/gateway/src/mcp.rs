//! `/mcp/{service}`: one MCP server, through policy and otherwise unchanged.
//!
//! A message is scanned, its headers are compared with its body, its method is looked up,
//! and policy is asked; then the bytes that came are the bytes that leave. What is answered
//! streams back as it comes. Only lists are read on the way, to take out what the agent may
//! not see.
//!
//! `headers.rs` holds the rules of HTTP, `method.rs` what each method is to policy,
//! `ask.rs` what becomes of a request, `hold.rs` how it waits for people, `filter.rs` and
//! `stream.rs` what becomes of the answer, `session.rs` whose sessions and tasks are.

mod all;
mod ask;
mod fault;
mod filter;
mod headers;
mod hold;
mod method;
mod news;
mod session;
mod stream;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use authz::{AgentId, Command, Risk, ServiceName, Target};
use bytes::Bytes;
use handlers::{
    jsonrpc::{self, Kind, Message},
    mcp::{McpService, Passage},
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use self::{
    ask::Ask,
    fault::Fault,
    headers::{LAST_EVENT, SESSION},
    hold::Seal,
    method::{ANSWER, CONNECT, Era, Listed, Rule},
    news::{Audience, Telling},
    session::Bindings,
    stream::{Looked, Plain, Watched},
};
use crate::{
    Gateway,
    answer::{self, Body},
    authenticate::{AgentRequest, Caller, Peer},
    oauth::Resource,
    parse,
    refusal::Refusal,
    service,
    sessions::SessionName,
    sight::Sights,
};

/// A single event of an upstream's may have so many bytes, where it must be read whole.
const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// Lists of servers' are kept up to so many bytes together, taken apart.
const MAX_LIST_BYTES: u64 = 64 * 1024 * 1024;

/// The right to a stream that stays open is looked at again so often, even if nothing is
/// heard of a change.
const RECHECK: Duration = Duration::from_mins(1);

/// An agent may say why it wants something.
const META_REASON: &str = "dev.cedargate/reason";

/// How the doors for clients of the Model Context Protocol behave.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Web pages of these origins may use them, beside those of this machine. Default none.
    pub origins: Vec<String>,
    /// Names by which clients may call the gateway, as they write them in `Host`. Default
    /// none: then any is taken, but on loopback this machine's only.
    pub hosts: Vec<String>,
    /// How long a call that people must approve is kept waiting, if its client does not
    /// say. Default zero: it is answered at once.
    pub hold: Duration,
    /// How often a client that is kept waiting is told so. Default five seconds.
    pub tick: Duration,
    /// How long a client of 2026-07-28 is kept waiting before it is told to ask again, which
    /// it does up to eight times. Default 45 seconds.
    pub round: Duration,
    /// How many streams may stay open. Default 4,096.
    pub max_streams: usize,
    /// How clients get in by OAuth. Default none: then they need an agent's credential.
    pub oauth: Option<crate::OAuthSettings>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            hosts: Vec::new(),
            hold: Duration::ZERO,
            tick: Duration::from_secs(5),
            round: Duration::from_secs(45),
            max_streams: 4_096,
            oauth: None,
        }
    }
}

/// A request that waits for people: whose, at which server or at all of them, of which
/// session, and its id.
type Held = (AgentId, Option<ServiceName>, Option<String>, Box<str>);

/// What the doors remember.
#[derive(Debug)]
pub(crate) struct Door {
    sessions: Bindings,
    tasks: Bindings,
    /// What agents may see; the catalog that they read by other doors is filtered by it, too.
    pub(crate) sights: Sights,
    /// What policy is told of commands that are no tools.
    reserved: Cache<(ServiceName, &'static str), Arc<Target>>,
    /// The list that each server told last.
    lists: Cache<(ServiceName, Listed), Arc<filter::Known>>,
    streams: Arc<Semaphore>,
    /// Clients of one agent without sessions may use one id at a time.
    held: Mutex<HashMap<Held, Vec<(u64, CancellationToken)>>>,
    held_count: AtomicU64,
    seal: Seal,
    /// Cancelled when the gateway is about to end: nothing stays open then.
    pub(crate) closing: CancellationToken,
}

impl Door {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self {
            sessions: Bindings::new(),
            tasks: Bindings::new(),
            sights: Sights::new(),
            reserved: Cache::new(10_000),
            lists: Cache::builder()
                .max_capacity(MAX_LIST_BYTES)
                .weigher(|_, list: &Arc<filter::Known>| {
                    u32::try_from(list.bytes()).unwrap_or(u32::MAX)
                })
                .build(),
            streams: Arc::new(Semaphore::new(settings.max_streams)),
            held: Mutex::default(),
            held_count: AtomicU64::new(0),
            seal: Seal::new(),
            closing: CancellationToken::new(),
        }
    }

    /// Remembers that a request waits, and by what it is forgotten.
    fn hold(&self, held: Held) -> (u64, CancellationToken) {
        let place = self.held_count.fetch_add(1, Ordering::Relaxed);
        let token = CancellationToken::new();
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(held).or_default().push((place, token.clone()));
        (place, token)
    }

    /// Forgets it.
    fn let_go(&self, held: &Held, place: u64) {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = all.get_mut(held) {
            waiting.retain(|(other, _)| *other != place);
            if waiting.is_empty() {
                all.remove(held);
            }
        }
    }

    /// Calls off what waits under an id; whether anything did.
    fn call_off(&self, held: &Held) -> bool {
        let mut all = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = all.remove(held).unwrap_or_default();
        for (_, token) in &waiting {
            token.cancel();
        }
        !waiting.is_empty()
    }

    /// How many requests wait.
    #[cfg(test)]
    fn waiting(&self) -> usize {
        self.held.lock().unwrap().values().map(Vec::len).sum()
    }

    /// What policy is told of a command that is no tool.
    fn target(&self, service: &McpService, name: &'static str, risk: Risk) -> Option<Arc<Target>> {
        let key = (service.service().name.clone(), name);
        if let Some(target) = self.reserved.get(&key) {
            return Some(target);
        }
        let target = service.reserved(name, risk)?;
        self.reserved.insert(key, Arc::clone(&target));
        Some(target)
    }
}

/// A request whose sender is known, for one server.
struct Visit {
    gateway: Arc<Gateway>,
    service: Arc<McpService>,
    caller: Caller,
    peer: Peer,
    headers: HeaderMap,
}

impl Gateway {
    /// Refuses web pages and names that are not ours, before anything else is looked at.
    pub(crate) fn mcp_admits(&self, headers: &HeaderMap) -> Option<Response<Body>> {
        let local = headers::is_local(self.config.listen);
        headers::admit(&self.config.mcp, local, headers)
            .err()
            .map(|fault| fault.into_response(None))
    }

    /// Answers for what the guards before the door refused.
    pub(crate) fn mcp_guarded(refusal: &Refusal, credential: bool) -> Response<Body> {
        let (status, code) = match refusal {
            Refusal::Unauthenticated(_) | Refusal::AnotherAgent => {
                (StatusCode::UNAUTHORIZED, fault::IDENTITY)
            }
            Refusal::NoAgent(_) | Refusal::Scope(_) => (StatusCode::FORBIDDEN, fault::IDENTITY),
            Refusal::Header(_) => (StatusCode::BAD_REQUEST, fault::IDENTITY),
            Refusal::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, fault::TOO_MANY),
            Refusal::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, fault::INVALID_REQUEST),
            Refusal::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, fault::INVALID_REQUEST),
            Refusal::Body => (StatusCode::BAD_REQUEST, fault::INVALID_REQUEST),
            _ => (StatusCode::SERVICE_UNAVAILABLE, fault::NOT_READY),
        };
        let mut response = Fault::new(status, code, refusal.to_string()).into_response(None);
        if status == StatusCode::UNAUTHORIZED {
            // No metadata of OAuth is named: where there is some, `mcp_stopped` names it.
            let challenge = if credential {
                "Bearer realm=\"cedargate\", error=\"invalid_token\""
            } else {
                "Bearer realm=\"cedargate\""
            };
            let challenge = HeaderValue::from_static(challenge);
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }

    /// The same at a door whose clients may get in by OAuth: they are told how.
    pub(crate) fn mcp_stopped(
        &self,
        door: Option<&Resource>,
        refusal: &Refusal,
        credential: bool,
    ) -> Response<Body> {
        let mut response = Self::mcp_guarded(refusal, credential);
        self.mcp_challenge(door, refusal, credential, &mut response);
        response
    }

    /// A token that is good for less: in HTTP, so that clients ask for a better one.
    pub(crate) fn mcp_step_up(
        &self,
        caller: &Caller,
        id: &str,
        refusal: &Refusal,
    ) -> Option<Response<Body>> {
        if !matches!(refusal, Refusal::Scope(_)) {
            return None;
        }
        let fault = Fault {
            data: refusal.details(),
            ..Fault::new(StatusCode::FORBIDDEN, fault::IDENTITY, refusal.to_string())
        };
        let mut response = fault.into_response(Some(id));
        self.mcp_challenge(caller.door.as_ref(), refusal, true, &mut response);
        Some(response)
    }

    fn mcp_challenge(
        &self,
        door: Option<&Resource>,
        refusal: &Refusal,
        credential: bool,
        response: &mut Response<Body>,
    ) {
        let oauth = self.authenticator.oauth.as_ref().zip(door);
        let challenge = oauth.and_then(|(oauth, door)| oauth.challenge(door, refusal, credential));
        if let Some(challenge) = challenge {
            let headers = response.headers_mut();
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }

    /// How clients get a token for a door, if they may get in so.
    pub(crate) fn mcp_metadata(&self, door: &Resource) -> Option<Response<Body>> {
        let oauth = self.authenticator.oauth.as_ref()?;
        Some(answer::json(StatusCode::OK, &oauth.metadata(door)))
    }

    /// Answers a request to `/mcp/{service}`.
    pub(crate) async fn mcp<B>(
        self: Arc<Self>,
        request: AgentRequest<B>,
        service: &str,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<BoxError>,
    {
        let AgentRequest { caller, http } = request;
        let peer = http.extensions().get::<Peer>().copied();
        let peer = peer.ok_or(Refusal::Internal)?;
        let found = self.catalog.mcp(service).map(Arc::clone);
        let Some(found) = found.filter(|found| self.mcp_may_connect(&caller, found)) else {
            if self.policies.current().is_none() {
                return Err(Refusal::NoPolicySet);
            }
            return Ok(Fault::no_service(service).into_response(None));
        };
        let method = http.method().clone();
        if method != Method::POST
            && let Err(refusal) = self.admits(&caller)
        {
            return Ok(fault::limited(Era::Legacy, None, &refusal));
        }
        let (headers, body, caller) = if method == Method::POST {
            let deadline = self.config.deadline;
            let reading = service::read_body(http, self.config.max_body_bytes);
            let read = tokio::time::timeout(deadline, reading).await;
            let (headers, body) = read.map_err(|_| Refusal::Body)??;
            let caller = self.authenticator.still(caller, &headers, peer).await?;
            (headers, body, caller)
        } else {
            (http.into_parts().0.headers, Bytes::new(), caller)
        };
        let visit = Visit {
            gateway: self,
            service: found,
            caller,
            peer,
            headers,
        };
        let answered = match method {
            Method::POST => visit.post(body).await,
            Method::DELETE => visit.delete().await,
            _ => visit.get().await,
        };
        Ok(answered.unwrap_or_else(|fault| fault.into_response(None)))
    }

    /// Whether policy lets an agent see that a server is there.
    fn mcp_may_connect(&self, caller: &Caller, service: &McpService) -> bool {
        self.mcp
            .target(service, CONNECT, Risk::Read)
            .is_some_and(|target| self.mcp_may_list(caller, &target))
    }

    fn mcp_may_list(&self, caller: &Caller, target: &Arc<Target>) -> bool {
        let sight = self.sight(caller);
        sight.is_ok_and(|sight| sight.sees(target, self.clock.now()))
    }
}

impl Visit {
    fn agent(&self) -> AgentId {
        self.caller.held.principal.agent().id
    }

    /// The session that a request names, if it is this agent's.
    fn session(&self) -> Result<Option<String>, Fault> {
        let session = headers::session(&self.headers)?;
        match session {
            Some(id)
                if !self.gateway.mcp.sessions.is_of(
                    &self.service.service().name,
                    &id,
                    self.agent(),
                ) =>
            {
                Err(Fault::no_session())
            }
            session => Ok(session),
        }
    }

    async fn post(self, body: Bytes) -> Result<Response<Body>, Fault> {
        parse::media_type(&self.headers).map_err(|refusal| {
            Fault::http(StatusCode::UNSUPPORTED_MEDIA_TYPE, refusal.to_string())
        })?;
        headers::accepts(&self.headers, &["application/json", "text/event-stream"])?;
        let message = jsonrpc::scan(&body).map_err(|error| Fault::scan(&error))?;
        let id = match &message.kind {
            Kind::Request { .. } => message.id,
            Kind::Notification { .. } | Kind::Response { .. } => None,
        };
        let answered = self.message(&body, &message).await;
        Ok(answered.unwrap_or_else(|fault| fault.into_response(id)))
    }

    async fn message(
        mut self,
        body: &Bytes,
        message: &Message<'_>,
    ) -> Result<Response<Body>, Fault> {
        let era = headers::era(&self.headers, message)?;
        // There are no sessions in the newer protocol: one that is named means nothing.
        let session = match era {
            Era::Legacy => self.session()?,
            Era::Modern => None,
        };
        if let Some(id) = &session {
            // A longer one than has room is that of calls without a name.
            self.caller.session = SessionName::new(id).ok();
        }
        match &message.kind {
            Kind::Notification { method } => {
                if !method::notification(method) {
                    return Err(Fault::http(
                        StatusCode::BAD_REQUEST,
                        "this notification is not known here",
                    ));
                }
                if method == "notifications/cancelled" && self.cancels(message, session.as_ref()) {
                    return Ok(accepted());
                }
                self.connection(era, session, body, Rule::Connect, None)
                    .await
            }
            Kind::Response { .. } if era == Era::Modern => Err(Fault::http(
                StatusCode::BAD_REQUEST,
                "a client sends requests and notifications only",
            )),
            Kind::Response { result, .. } => self.response(session, body, message, *result).await,
            Kind::Request { method, .. } => {
                let rule = method::request(era, method)
                    .ok_or_else(|| Fault::unknown_method(era, method))?;
                if era == Era::Modern {
                    headers::mirrors(&self.headers, message, mirrored(&rule))?;
                }
                match rule {
                    Rule::Connect | Rule::Discover | Rule::List(_) => {
                        self.connection(era, session, body, rule, message.id).await
                    }
                    Rule::Tool | Rule::Command(_) => {
                        let ask = Ask::new(self, era, session, body, message, &rule)?;
                        Ok(ask.serve().await)
                    }
                }
            }
        }
    }

    /// Whether a request that waits for people is called off: nothing is to be sent on.
    fn cancels(&self, message: &Message<'_>, session: Option<&String>) -> bool {
        let Some(id) = message.params.raw("requestId") else {
            return false;
        };
        let name = Some(self.service.service().name.clone());
        let held = (self.agent(), name, session.cloned(), id.into());
        self.gateway.mcp.call_off(&held)
    }

    /// What only opens or keeps a connection, or lists.
    async fn connection(
        self,
        era: Era,
        session: Option<String>,
        body: &Bytes,
        rule: Rule,
        id: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        if let Err(refusal) = self.gateway.admits(&self.caller) {
            return Ok(fault::limited(era, id, &refusal));
        }
        let request = onward(Method::POST, &self.headers, era, body.clone());
        let passage = Passage::Connection(self.agent());
        let response = match self.service.forward(passage, request).await {
            Ok(response) => response,
            Err(error) => {
                let refusal = Refusal::Handler(error);
                tracing::warn!(agent.id = %self.agent(), service = %self.service.service().name, error = %refusal, "an MCP server did not answer");
                return Ok(match id {
                    Some(id) => {
                        let reply = fault::refused(era, fault::Shape::Error, id, &refusal);
                        fault::whole(StatusCode::OK, reply)
                    }
                    None => Gateway::mcp_guarded(&refusal, false),
                });
            }
        };
        let opens = rule == Rule::Connect && id.is_some();
        let response = self.returned(response, era, session.as_deref(), opens);
        match rule {
            Rule::List(listed) => ask::listed(self, response, &[listed], era).await,
            Rule::Discover => ask::listed(self, response, &[], era).await,
            _ => Ok(response.map(|body| Body::streamed(Plain(body)))),
        }
    }

    /// An answer's headers as a client may have them; remembers whose a new session is.
    fn returned<B>(
        &self,
        response: Response<B>,
        era: Era,
        session: Option<&str>,
        opens: bool,
    ) -> Response<B> {
        let (mut parts, body) = response.into_parts();
        let (name, agent) = (&self.service.service().name, self.agent());
        let said = parts.headers.remove(SESSION);
        if let Some(value) = said.filter(|_| era == Era::Legacy)
            && let Ok(id) = value.to_str()
        {
            if session.is_none() && opens && parts.status.is_success() {
                self.gateway.mcp.sessions.bind(name, id, agent);
            }
            if self.gateway.mcp.sessions.is_of(name, id, agent) {
                parts.headers.insert(SESSION, value);
            }
        }
        if let Some(session) = session
            && parts.status == StatusCode::NOT_FOUND
        {
            self.gateway.mcp.sessions.unbind(name, session);
        }
        dress(&mut parts.headers);
        Response::from_parts(parts, body)
    }

    /// A client answers what the server asked: data that leaves, so policy is asked. If it
    /// may not leave, the server is told that there is no answer, and waits no longer.
    async fn response(
        self,
        session: Option<String>,
        body: &Bytes,
        message: &Message<'_>,
        result: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        let target = self.gateway.mcp.target(&self.service, ANSWER, Risk::Read);
        let target = target.ok_or_else(|| Fault::no_service(""))?;
        let arguments = method::answer_arguments("result", result)
            .map_err(|error| Fault::http(StatusCode::BAD_REQUEST, error.to_string()))?;
        let command = Command { target, arguments };
        let id = message.id.unwrap_or("null").to_owned();
        let instead = {
            let (gateway, service) = (Arc::clone(&self.gateway), Arc::clone(&self.service));
            let (headers, agent) = (self.headers.clone(), self.agent());
            move |refusal: &Refusal| {
                let error = serde_json::json!({"code": -1, "message": "the gateway does not let the client answer"});
                let reply = fault::reply(Some(&id), "error", &error);
                let request = onward(Method::POST, &headers, Era::Legacy, reply.into());
                let said = refusal.to_string();
                gateway.under_way.clone().spawn(async move {
                    let sent = service.forward(Passage::Connection(agent), request).await;
                    if let Err(error) = sent {
                        tracing::debug!(%error, "an MCP server was not told that no answer comes");
                    }
                });
                Fault::new(StatusCode::BAD_REQUEST, fault::DENIED, said)
            }
        };
        let ask = Ask::answer(self, session, body, command);
        match ask.once().await {
            Ok(response) => Ok(response),
            Err(refusal) => Err(instead(&refusal)),
        }
    }

    /// The stream on which a server of the older protocol says what nobody asked for.
    async fn get(self) -> Result<Response<Body>, Fault> {
        headers::legacy_only(&self.headers)?;
        headers::accepts(&self.headers, &["text/event-stream"])?;
        let session = self.session()?;
        if self.headers.contains_key(LAST_EVENT) && session.is_none() {
            return Err(Fault::no_session());
        }
        let place = Arc::clone(&self.gateway.mcp.streams)
            .try_acquire_owned()
            .map_err(|_| too_many_streams())?;
        let request = onward(Method::GET, &self.headers, Era::Legacy, Bytes::new());
        let response = self.bare(request).await?;
        let response = self.returned(response, Era::Legacy, session.as_deref(), false);
        if !response.status().is_success() {
            return Ok(response.map(|body| Body::streamed(Plain(body))));
        }
        // There are clients that do not look at what it calls itself.
        if !is_events(response.headers()) {
            return Err(Fault::new(
                StatusCode::BAD_GATEWAY,
                fault::UPSTREAM,
                "what the server answers is no stream of events",
            ));
        }
        let visit = Arc::new(self.copy());
        Ok(response.map(|body| visit.open_stream(Plain(body), Telling::Everything, Some(place))))
    }

    /// The end of a session.
    async fn delete(self) -> Result<Response<Body>, Fault> {
        headers::legacy_only(&self.headers)?;
        let Some(session) = self.session()? else {
            return Err(Fault::http(
                StatusCode::BAD_REQUEST,
                "header `mcp-session-id` is missing",
            ));
        };
        let request = onward(Method::DELETE, &self.headers, Era::Legacy, Bytes::new());
        let response = self.bare(request).await?;
        if response.status().is_success() {
            let name = &self.service.service().name;
            self.gateway.mcp.sessions.unbind(name, &session);
        }
        let response = self.returned(response, Era::Legacy, Some(&session), false);
        Ok(response.map(|body| Body::streamed(Plain(body))))
    }

    /// Sends what is no message.
    async fn bare(&self, request: Request<Bytes>) -> Result<Response<handlers::mcp::Body>, Fault> {
        let passage = Passage::Connection(self.agent());
        self.service
            .forward(passage, request)
            .await
            .map_err(|error| {
                Fault::new(StatusCode::BAD_GATEWAY, fault::UPSTREAM, error.to_string())
            })
    }

    /// A stream of the server's that stays open.
    fn open_stream<B>(
        self: &Arc<Self>,
        body: B,
        telling: Telling,
        place: Option<OwnedSemaphorePermit>,
    ) -> Body
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Send + Unpin + 'static,
    {
        let era = match telling {
            Telling::Everything => Era::Legacy,
            Telling::Agreed(..) => Era::Modern,
        };
        let known = Arc::new(ArcSwap::from_pointee(self.caller.clone()));
        let audience = Audience {
            gateway: Arc::clone(&self.gateway),
            service: Some(Arc::clone(&self.service)),
            headers: self.headers.clone(),
            peer: self.peer,
            telling: telling.clone(),
            known: Arc::clone(&known),
        };
        let news = audience.news();
        // A list that was asked for elsewhere may be told again here.
        let look = news::look(Arc::clone(self), known, era, telling);
        let looked = Looked::new(body, MAX_EVENT_BYTES, look);
        Body::streamed(Watched::new(looked, news, place))
    }
}

fn mirrored(rule: &Rule) -> Option<&'static str> {
    match rule {
        Rule::Tool => Some("name"),
        Rule::Command(reserved) => reserved.mirrored,
        Rule::Connect | Rule::Discover | Rule::List(_) => None,
    }
}

fn too_many_streams() -> Fault {
    Fault::new(
        StatusCode::SERVICE_UNAVAILABLE,
        fault::TOO_MANY,
        "too many streams are open",
    )
}

/// What goes to an upstream.
fn onward(method: Method, headers: &HeaderMap, era: Era, body: Bytes) -> Request<Bytes> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.headers_mut() = headers::onward(headers, era);
    request
}

fn accepted() -> Response<Body> {
    let mut response = Response::new(Body::new(Bytes::new()));
    *response.status_mut() = StatusCode::ACCEPTED;
    response
}

fn is_events(headers: &HeaderMap) -> bool {
    is_type(headers, "text/event-stream")
}

fn is_type(headers: &HeaderMap, wanted: &str) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(wanted))
}

/// Headers that every answer has: it is for this agent, now.
fn dress(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    if is_events(headers) {
        // Proxies before us would otherwise keep events until there are many.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        headers.remove(header::CONTENT_LENGTH);
    }
}

#[cfg(test)]
mod tests;
