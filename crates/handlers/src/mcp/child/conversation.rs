//! One process as its clients speak with it: who asked what, and who is to be answered.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use authz::AgentId;
use bytes::Bytes;
use http::Response;
use http_body::Frame;
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Program, events, json,
    process::{Process, input},
};
use crate::{
    HandlerError,
    jsonrpc::{self, Member, Members, Message},
    mcp::upstream::Body,
    sse,
};

/// So many requests of one process may wait for their answers.
const PENDING: usize = 256;

/// So many messages wait for a client that reads slowly, and the process for so long.
const QUEUE: usize = 16;
const SLOWEST_CLIENT: Duration = Duration::from_secs(10);

/// A session that nobody used for so long is ended.
const IDLE: Duration = Duration::from_mins(30);

/// How often that is looked at.
const IDLE_CHECK: Duration = Duration::from_mins(1);

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// See the module.
#[derive(Debug)]
pub(super) struct Conversation {
    program: Arc<Program>,
    input: mpsc::Sender<Vec<u8>>,
    /// Several clients take part, who have no sessions.
    shared: bool,
    routes: Mutex<Routes>,
    next: AtomicU64,
    stop: CancellationToken,
    by_us: AtomicBool,
    started: Instant,
    lived: OnceLock<Duration>,
}

/// Who gets what.
#[derive(Debug)]
struct Routes {
    /// By our id.
    pending: HashMap<u64, Pending>,
    /// Who hears what belongs to no request.
    listener: Option<mpsc::Sender<Told>>,
    used: Instant,
    ended: bool,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    agent: Option<AgentId>,
    /// Its id and progress token, as the client wrote them.
    id: String,
    token: Option<String>,
    to: mpsc::Sender<Told>,
}

/// What is told to a client.
#[derive(Debug)]
enum Told {
    /// Something before, or beside, an answer.
    Message(Bytes),
    /// The answer, after which nothing follows.
    Answer(Bytes),
}

impl Conversation {
    /// Starts a process.
    pub(super) fn start(program: &Arc<Program>, shared: bool) -> std::io::Result<Arc<Self>> {
        let process = Process::start(program)?;
        let (to_process, from_us) = input();
        let conversation = Arc::new(Self {
            program: Arc::clone(program),
            input: to_process,
            shared,
            routes: Mutex::new(Routes {
                pending: HashMap::new(),
                listener: None,
                used: Instant::now(),
                ended: false,
            }),
            next: AtomicU64::new(1),
            stop: CancellationToken::new(),
            by_us: AtomicBool::new(false),
            started: Instant::now(),
            lived: OnceLock::new(),
        });
        let (program, stop) = (Arc::clone(program), conversation.stop.clone());
        // The task holds no strong reference while it waits: who has no conversation any
        // more has no process.
        let weak = Arc::downgrade(&conversation);
        let reader = weak.clone();
        tokio::spawn(async move {
            let line = move |text: Vec<u8>| {
                let conversation = reader.upgrade();
                async move {
                    if let Some(conversation) = conversation {
                        conversation.hear(text).await;
                    }
                }
            };
            let idle = async {
                loop {
                    tokio::time::sleep(IDLE_CHECK).await;
                    let Some(conversation) = weak.upgrade() else {
                        return;
                    };
                    let idle = conversation.idle_since();
                    if !shared && idle.is_some_and(|since| since.elapsed() > IDLE) {
                        conversation.end();
                    }
                }
            };
            tokio::select! {
                () = process.run(program, from_us, stop, line) => {}
                () = async { idle.await; std::future::pending::<()>().await } => {}
            }
            if let Some(conversation) = weak.upgrade() {
                conversation.ended();
            }
        });
        Ok(conversation)
    }

    /// Has the process ended.
    pub(super) fn end(&self) {
        self.by_us.store(true, Ordering::Release);
        self.stop.cancel();
    }

    pub(super) fn has_ended(&self) -> bool {
        self.routes().ended || self.stop.is_cancelled()
    }

    pub(super) fn was_ended_by_us(&self) -> bool {
        self.by_us.load(Ordering::Acquire)
    }

    /// How long the process lived, if it has ended.
    pub(super) fn lived(&self) -> Option<Duration> {
        self.lived.get().copied()
    }

    /// Since when nobody asks or listens.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let routes = self.routes();
        let listening = routes.listener.as_ref().is_some_and(|to| !to.is_closed());
        (routes.pending.is_empty() && !listening).then_some(routes.used)
    }

    /// Asks the process something, and answers as a server over HTTP would.
    pub(super) async fn ask(
        self: &Arc<Self>,
        agent: Option<AgentId>,
        body: &Bytes,
        message: &Message<'_>,
    ) -> Result<Response<Body>, HandlerError> {
        let ours = self.next.fetch_add(1, Ordering::Relaxed);
        let text = ours.to_string();
        let top = members(body)?;
        let mut changes = vec![(top.get("id"), text.as_str())];
        let token = message.meta.get("progressToken");
        changes.push((token, text.as_str()));
        let line = spliced(body, &changes);
        let (to, mut told) = mpsc::channel(QUEUE);
        {
            let mut routes = self.routes();
            if routes.ended {
                return Err(self.broken());
            }
            if routes.pending.len() >= PENDING {
                return Err(HandlerError::TooMany {
                    service: self.program.service.clone(),
                    retry_after: None,
                });
            }
            let pending = Pending {
                agent,
                id: message.id.unwrap_or_default().to_owned(),
                token: token.map(|token| token.value.to_owned()),
                to,
            };
            routes.pending.insert(ours, pending);
            routes.used = Instant::now();
        }
        // From here on nothing is left behind, whatever becomes of the client.
        let asked = Asked {
            conversation: Arc::clone(self),
            id: ours,
        };
        let timeout = self.program.timeout;
        let first = async {
            self.input.send(line).await.map_err(|_| self.broken())?;
            told.recv().await.ok_or_else(|| self.broken())
        };
        match tokio::time::timeout(timeout, first).await {
            Ok(Ok(Told::Answer(answer))) => Ok(json(answer)),
            Ok(Ok(Told::Message(message))) => Ok(events(Body::new(Stream {
                first: Some(message),
                told,
                asked: Some(asked),
                conversation: Arc::clone(self),
                ended: false,
            }))),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(HandlerError::Timeout {
                service: self.program.service.clone(),
                after: timeout,
            }),
        }
    }

    /// Tells the process something that wants no answer.
    pub(super) async fn tell(
        &self,
        agent: Option<AgentId>,
        body: &Bytes,
        message: &Message<'_>,
    ) -> Result<(), HandlerError> {
        let mut line = None;
        if message.method() == Some("notifications/cancelled") {
            let Some(request) = message.params.get("requestId") else {
                return Ok(());
            };
            let ours = self.routes().pending.iter().find_map(|(ours, pending)| {
                (pending.agent == agent && pending.id == request.value).then_some(*ours)
            });
            // Of another client, or answered already.
            let Some(ours) = ours else {
                return Ok(());
            };
            line = Some(spliced(body, &[(Some(request), &ours.to_string())]));
        }
        self.routes().used = Instant::now();
        let line = line.unwrap_or_else(|| spliced(body, &[]));
        self.input.send(line).await.map_err(|_| self.broken())
    }

    /// What belongs to no request; there is one who hears it.
    pub(super) fn listen(self: &Arc<Self>) -> Option<Body> {
        let mut routes = self.routes();
        if routes.listener.as_ref().is_some_and(|to| !to.is_closed()) {
            return None;
        }
        let (to, told) = mpsc::channel(QUEUE);
        routes.listener = Some(to);
        routes.used = Instant::now();
        Some(Body::new(Stream {
            first: None,
            told,
            asked: None,
            conversation: Arc::clone(self),
            ended: false,
        }))
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Nothing panics while holding it.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process is gone: nobody who waits will be answered.
    fn ended(&self) {
        let _ = self.lived.set(self.started.elapsed());
        let mut routes = self.routes();
        routes.ended = true;
        routes.pending.clear();
        routes.listener = None;
    }

    /// One line of the process's.
    async fn hear(&self, line: Vec<u8>) {
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let Some((to, told, id)) = self.route(&line) else {
            return;
        };
        // A client that reads slowly holds the process back, for a while.
        let sent = tokio::time::timeout(SLOWEST_CLIENT, to.send(told)).await;
        if sent.is_err() {
            tracing::warn!(
                service = self.program.service,
                "a client does not read what an MCP server answers; it is given up"
            );
            if let Some(id) = id {
                self.routes().pending.remove(&id);
            }
        }
    }

    /// Who gets a line, and as what.
    fn route(&self, line: &[u8]) -> Option<(mpsc::Sender<Told>, Told, Option<u64>)> {
        let service = &self.program.service;
        let Some(top) = std::str::from_utf8(line)
            .ok()
            .and_then(|text| jsonrpc::members(text).ok())
        else {
            tracing::warn!(
                service,
                bytes = line.len(),
                "an MCP server wrote a line that is no message"
            );
            return None;
        };
        let mut routes = self.routes();
        routes.used = Instant::now();
        let (method, id) = (top.raw("method"), top.get("id"));
        let Some(method) = method else {
            let ours = id.and_then(|id| id.value.parse().ok())?;
            // Nobody waits any more, or nobody ever asked.
            let pending = routes.pending.remove(&ours)?;
            let answer = spliced(line, &[(id, &pending.id)]);
            return Some((pending.to, Told::Answer(self.masked(answer)), None));
        };
        if id.is_none()
            && let Some((ours, line)) = routes.related(line, method, &top)
        {
            let to = routes.pending.get(&ours)?.to.clone();
            return Some((to, Told::Message(self.masked(line)), Some(ours)));
        }
        if self.shared {
            // Whose it is cannot be told, and the newer protocol knows nothing of the kind.
            return None;
        }
        // What a server asks for belongs to what it was asked; other news to who listens.
        let listener = routes.listener.clone().filter(|to| !to.is_closed());
        let newest = routes.pending.iter().max_by_key(|(ours, _)| **ours);
        let newest = newest.map(|(ours, pending)| (pending.to.clone(), Some(*ours)));
        let (to, ours) = match (id.is_some(), listener, newest) {
            (true, _, Some(newest)) | (false, None, Some(newest)) => newest,
            (_, Some(listener), _) => (listener, None),
            (_, None, None) => return None,
        };
        Some((to, Told::Message(self.masked(line.to_vec())), ours))
    }

    fn masked(&self, line: Vec<u8>) -> Bytes {
        self.program.secrets.hide(line.into())
    }

    fn broken(&self) -> HandlerError {
        HandlerError::Broken {
            service: self.program.service.clone(),
            reason: "its process ended".to_owned(),
        }
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Routes {
    /// The request that a notification is about, and the notification as its client wants it.
    fn related(&self, line: &[u8], method: &str, top: &Members<'_>) -> Option<(u64, Vec<u8>)> {
        let params = top.get("params")?;
        let inner = jsonrpc::members(params.value).ok()?;
        let base = params.end - params.value.len();
        if method == "\"notifications/progress\"" {
            let token = inner.get("progressToken")?;
            let ours = token.value.parse().ok()?;
            let theirs = self.pending.get(&ours)?.token.as_deref()?;
            return Some((ours, spliced_at(line, base, token, theirs)));
        }
        let meta = inner.get("_meta")?;
        let within = jsonrpc::members(meta.value).ok()?;
        let subscription = within.get(SUBSCRIPTION)?;
        let quoted = subscription.value.starts_with('"');
        let ours = subscription.value.trim_matches('"').parse().ok()?;
        let id = &self.pending.get(&ours)?.id;
        let theirs = if quoted && !id.starts_with('"') {
            format!("\"{id}\"")
        } else {
            id.clone()
        };
        let base = base + meta.end - meta.value.len();
        Some((ours, spliced_at(line, base, subscription, &theirs)))
    }
}

/// The members of a message, which was scanned before.
fn members(body: &[u8]) -> Result<Members<'_>, HandlerError> {
    std::str::from_utf8(body)
        .ok()
        .and_then(|text| jsonrpc::members(text).ok())
        .ok_or_else(|| HandlerError::Rejected {
            service: String::new(),
            status: 400,
            message: "it is not a message".to_owned(),
        })
}

/// One line of a message, with the values of some members replaced.
fn spliced(body: &[u8], changes: &[(Option<&Member<'_>>, &str)]) -> Vec<u8> {
    let mut changes: Vec<(usize, usize, &str)> = changes
        .iter()
        .filter_map(|(member, value)| {
            let member = (*member)?;
            Some((member.end - member.value.len(), member.end, *value))
        })
        .collect();
    changes.sort_unstable_by_key(|(start, ..)| *start);
    let mut line = Vec::with_capacity(body.len() + 16);
    let mut at = 0;
    for (start, end, value) in changes {
        line.extend_from_slice(body.get(at..start).unwrap_or_default());
        line.extend_from_slice(value.as_bytes());
        at = end;
    }
    line.extend_from_slice(body.get(at..).unwrap_or_default());
    // Within strings JSON writes them as `\n`; elsewhere they are space.
    for byte in &mut line {
        if matches!(*byte, b'\n' | b'\r') {
            *byte = b' ';
        }
    }
    line
}

/// As [`spliced`], of a member whose places count from `base`.
fn spliced_at(line: &[u8], base: usize, member: &Member<'_>, value: &str) -> Vec<u8> {
    let end = base + member.end;
    let mut out = line
        .get(..end - member.value.len())
        .unwrap_or_default()
        .to_vec();
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(line.get(end..).unwrap_or_default());
    out
}

/// A request under way. Dropped before it is answered, its answer is not waited for; a server
/// whose clients have no sessions is told so.
#[derive(Debug)]
struct Asked {
    conversation: Arc<Conversation>,
    id: u64,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let waiting = self
            .conversation
            .routes()
            .pending
            .remove(&self.id)
            .is_some();
        if waiting && self.conversation.shared {
            let id = self.id;
            let text = format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/cancelled\",\"params\":{{\"requestId\":{id}}}}}"
            );
            // If it reads nothing just now, it has other troubles.
            let _ = self.conversation.input.try_send(text.into_bytes());
        }
    }
}

/// What is told to one client, as a stream of events.
#[derive(Debug)]
struct Stream {
    first: Option<Bytes>,
    told: mpsc::Receiver<Told>,
    /// Of a request; none for who only listens.
    asked: Option<Asked>,
    conversation: Arc<Conversation>,
    ended: bool,
}

impl http_body::Body for Stream {
    type Data = Bytes;
    type Error = HandlerError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HandlerError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(sse::message(&first).into()))));
        }
        let data = match ready!(self.told.poll_recv(context)) {
            Some(Told::Message(data)) => data,
            Some(Told::Answer(data)) => {
                self.ended = true;
                self.asked = None;
                data
            }
            None => {
                self.ended = true;
                let broken = self.asked.take().is_some();
                return Poll::Ready(broken.then(|| Err(self.conversation.broken())));
            }
        };
        Poll::Ready(Some(Ok(Frame::data(sse::message(&data).into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }
}
