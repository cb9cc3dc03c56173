//! MCP servers that are child processes: a line of JSON in, lines of JSON out.
//!
//! To the rest they look like a server over HTTP: a request is answered with JSON, or with a
//! stream of events when there is more to say first. A client of the older protocol gets a
//! process and a session of its own; all clients of the newer one share a process.
//!
//! Ids and progress tokens are replaced by ours on the way in and put back on the way out,
//! so that clients of one process cannot meet. `process.rs` starts and ends processes.

mod conversation;
mod process;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use authz::AgentId;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use rand::RngExt as _;
use tokio::time::Instant;

use super::{mask::Secrets, upstream::Body};
use crate::{
    HandlerError,
    description::McpTable,
    jsonrpc::{self, Kind, Message},
};
use conversation::Conversation;

/// What every program needs to run; all else has to be named.
const ENVIRONMENT: [&str; 8] = [
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "TMPDIR", "TZ", "USER",
];

/// An agent has at most so many sessions with one server; the one that was used longest ago
/// makes room.
const SESSIONS_PER_AGENT: usize = 8;

/// All agents together have at most so many.
const SESSIONS: usize = 64;

/// A process that ends sooner than this after its start has failed.
const SHORTEST_LIFE: Duration = Duration::from_secs(10);

/// After failures, the first and the longest pause before the next start.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// What to start, and how.
#[derive(Debug)]
struct Program {
    service: String,
    path: String,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    folder: Option<PathBuf>,
    /// How long the first byte of an answer may take.
    timeout: Duration,
    /// A longer line is an error, in bytes.
    limit: usize,
    secrets: Secrets,
}

/// The processes of one server.
#[derive(Debug)]
pub(super) struct Children {
    program: Arc<Program>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The one for clients without sessions.
    shared: Option<Arc<Conversation>>,
    sessions: HashMap<String, Session>,
    /// How often in a row it failed, and until when it is not started.
    failures: u32,
    pause_until: Option<Instant>,
}

#[derive(Debug)]
struct Session {
    /// None for a session of ours.
    agent: Option<AgentId>,
    conversation: Arc<Conversation>,
}

impl Children {
    /// What is to be set, when a variable of the environment is missing.
    pub(super) fn new(
        service: &str,
        table: &McpTable,
        timeout: Duration,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, String> {
        let (program, arguments) = table.command.split_first().ok_or("set `command`")?;
        let mut environment = Vec::new();
        for name in ENVIRONMENT {
            if let Some(value) = variable(name) {
                environment.push((name.to_owned(), value.into()));
            }
        }
        let mut secrets = Vec::new();
        for name in &table.environment {
            let value = variable(name).ok_or_else(|| format!("set `{name}`"))?;
            if authz::redact::is_secret(name) {
                secrets.push(value.clone());
            }
            environment.push((name.clone(), value.into()));
        }
        Ok(Self {
            program: Arc::new(Program {
                service: service.to_owned(),
                path: program.clone(),
                arguments: arguments.to_vec(),
                environment,
                folder: table.folder.clone(),
                timeout,
                limit: table.max_answer_bytes,
                secrets: Secrets::new(secrets.iter().map(String::as_str)),
            }),
            state: Mutex::default(),
        })
    }

    /// Whether both start the same, in the same environment.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.program.environment == other.program.environment
    }

    /// Answers one request as a server over HTTP would.
    pub(super) async fn send(
        &self,
        agent: Option<AgentId>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, HandlerError> {
        let session = request
            .headers()
            .get(SESSION)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        match *request.method() {
            Method::POST => self.post(agent, session, request.into_body()).await,
            Method::GET => Ok(match self.session(agent, session.as_deref()) {
                Some(conversation) => match conversation.listen() {
                    Some(body) => events(body),
                    None => plain(StatusCode::CONFLICT),
                },
                None => no_session(session.is_some()),
            }),
            Method::DELETE => Ok(match self.session(agent, session.as_deref()) {
                Some(conversation) => {
                    conversation.end();
                    let mut state = self.state();
                    session.and_then(|id| state.sessions.remove(&id));
                    plain(StatusCode::OK)
                }
                None => no_session(session.is_some()),
            }),
            _ => Ok(plain(StatusCode::METHOD_NOT_ALLOWED)),
        }
    }

    async fn post(
        &self,
        agent: Option<AgentId>,
        session: Option<String>,
        body: Bytes,
    ) -> Result<Response<Body>, HandlerError> {
        let Ok(message) = jsonrpc::scan(&body) else {
            return Ok(plain(StatusCode::BAD_REQUEST));
        };
        let modern = message.meta.get(jsonrpc::META_VERSION).is_some();
        match &message.kind {
            Kind::Request { method, .. } if method == "initialize" && !modern => {
                let conversation = self.begin(agent)?;
                let id = session_id();
                let mut response = conversation.ask(agent, &body, &message).await?;
                if let Ok(value) = HeaderValue::from_str(&id) {
                    response.headers_mut().insert(SESSION, value);
                }
                let session = Session {
                    agent,
                    conversation,
                };
                self.state().sessions.insert(id, session);
                Ok(response)
            }
            Kind::Request { .. } if modern => self.shared()?.ask(agent, &body, &message).await,
            Kind::Request { .. } => match self.session(agent, session.as_deref()) {
                Some(conversation) => conversation.ask(agent, &body, &message).await,
                None => Ok(no_session(session.is_some())),
            },
            Kind::Notification { .. } | Kind::Response { .. } => {
                self.tell(agent, session.as_deref(), &body, &message).await
            }
        }
    }

    /// What wants no answer.
    async fn tell(
        &self,
        agent: Option<AgentId>,
        session: Option<&str>,
        body: &Bytes,
        message: &Message<'_>,
    ) -> Result<Response<Body>, HandlerError> {
        if session.is_some() {
            return Ok(match self.session(agent, session) {
                Some(conversation) => {
                    conversation.tell(agent, body, message).await?;
                    plain(StatusCode::ACCEPTED)
                }
                None => no_session(true),
            });
        }
        // In the newer protocol there is one thing to say: that an answer is not wanted any
        // more. To a process that others share, nothing else is passed on.
        if message.method() == Some("notifications/cancelled") {
            let shared = self.state().shared.clone();
            if let Some(conversation) = shared {
                conversation.tell(agent, body, message).await?;
            }
        }
        Ok(plain(StatusCode::ACCEPTED))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session, if it is this agent's and its process lives.
    fn session(&self, agent: Option<AgentId>, id: Option<&str>) -> Option<Arc<Conversation>> {
        let mut state = self.state();
        let id = id?;
        let session = state
            .sessions
            .get(id)
            .filter(|session| session.agent == agent)?;
        let conversation = Arc::clone(&session.conversation);
        if conversation.has_ended() {
            state.sessions.remove(id);
            return None;
        }
        Some(conversation)
    }

    /// The process that clients without sessions share.
    fn shared(&self) -> Result<Arc<Conversation>, HandlerError> {
        let mut state = self.state();
        if let Some(shared) = state.shared.as_ref().filter(|shared| !shared.has_ended()) {
            return Ok(Arc::clone(shared));
        }
        if let Some(ended) = state.shared.take() {
            state.note(&ended);
        }
        let started = state.start(&self.program, true)?;
        state.shared = Some(Arc::clone(&started));
        Ok(started)
    }

    /// A process for a new session.
    fn begin(&self, agent: Option<AgentId>) -> Result<Arc<Conversation>, HandlerError> {
        let mut state = self.state();
        let ended: Vec<String> = state
            .sessions
            .iter()
            .filter(|(_, session)| session.conversation.has_ended())
            .map(|(id, _)| id.clone())
            .collect();
        for id in ended {
            if let Some(session) = state.sessions.remove(&id) {
                state.note(&session.conversation);
            }
        }
        let own = state
            .sessions
            .values()
            .filter(|session| session.agent == agent)
            .count();
        if own >= SESSIONS_PER_AGENT || state.sessions.len() >= SESSIONS {
            let idle = state
                .sessions
                .iter()
                .filter(|(_, session)| session.agent == agent)
                .filter_map(|(id, session)| Some((session.conversation.idle_since()?, id)))
                .min()
                .map(|(_, id)| id.clone());
            let Some(session) = idle.and_then(|id| state.sessions.remove(&id)) else {
                return Err(HandlerError::TooMany {
                    service: self.program.service.clone(),
                    retry_after: None,
                });
            };
            session.conversation.end();
        }
        state.start(&self.program, false)
    }
}

impl State {
    /// Takes note of how a process ended.
    fn note(&mut self, ended: &Conversation) {
        let Some(lived) = ended.lived() else {
            return;
        };
        if lived >= SHORTEST_LIFE || ended.was_ended_by_us() {
            self.failures = 0;
            self.pause_until = None;
        } else {
            self.failed();
        }
    }

    fn failed(&mut self) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(10));
        self.failures += 1;
        self.pause_until = Some(Instant::now() + pause.min(LONGEST_PAUSE));
    }

    fn start(
        &mut self,
        program: &Arc<Program>,
        shared: bool,
    ) -> Result<Arc<Conversation>, HandlerError> {
        let unreachable = |reason: String| HandlerError::Unreachable {
            service: program.service.clone(),
            reason,
        };
        if let Some(until) = self.pause_until
            && Instant::now() < until
        {
            return Err(unreachable(
                "its process ended just after its start, and is not started again yet".to_owned(),
            ));
        }
        Conversation::start(program, shared).map_err(|error| {
            self.failed();
            unreachable(format!("`{}` cannot be started: {error}", program.path))
        })
    }
}

/// 128 random bits.
fn session_id() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

fn plain(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// As the protocol has it: 404 for one that is not, or no longer, and 400 for none.
fn no_session(named: bool) -> Response<Body> {
    let (status, text) = if named {
        (StatusCode::NOT_FOUND, "there is no such session")
    } else {
        (
            StatusCode::BAD_REQUEST,
            "a session is needed: `initialize` first",
        )
    };
    let error = serde_json::json!({"code": -32000, "message": text});
    let body = serde_json::json!({"jsonrpc": "2.0", "id": null, "error": error});
    let mut response = json(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    response
}

fn json(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn events(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
