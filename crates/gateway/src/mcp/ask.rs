//! One request of an agent's: decided, recorded, sent on, answered.

use std::{borrow::Cow, sync::Arc, time::Instant};

use authz::{AgentId, Command, Risk, Target, Timestamp};
use bytes::Bytes;
use futures_util::FutureExt;
use handlers::{
    jsonrpc::{self, META_CAPABILITIES, Message, without},
    mcp::{McpService, Passage},
    sse,
};
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::BodyExt;
use tracing::Instrument;

use super::{
    MAX_EVENT_BYTES, META_REASON, Visit,
    fault::{self, Fault, INVALID_PARAMS, Shape},
    filter::{self, Caching, Filtered, Known, Sight},
    headers,
    hold::{Turn, Waiting},
    is_events, is_type,
    method::{self, ANSWER, Era, Listed, NoArguments, Rule},
    news::Telling,
    onward,
    stream::{Event, Look, Looked, Plain, Record, Recorded},
};
use crate::{answer::Body, authenticate::Caller, parse, refusal::Refusal, sight};

/// A request that policy decides as a command.
pub(super) struct Ask {
    pub(super) visit: Visit,
    pub(super) era: Era,
    pub(super) session: Option<String>,
    /// The exact text of its id.
    pub(super) id: Box<str>,
    /// Under what the client wants to hear of progress.
    pub(super) token: Option<Box<str>>,
    pub(super) command: Command,
    /// What goes on: what came, without a member of ours.
    body: Bytes,
    reason: String,
    /// What the agent answers to questions of the server's in the same request.
    answers: Option<Command>,
    shape: Shape,
    stays_open: bool,
    /// The answer may name a task, which is then this agent's.
    makes_tasks: bool,
    /// Which time this request waits for people, if it may.
    pub(super) turn: Turn,
}

/// Whether the client takes tasks, by its own word in this request.
fn declares_tasks(message: &Message<'_>) -> bool {
    let declared = message.meta.raw(META_CAPABILITIES);
    declared.is_some_and(|raw| raw.contains(fault::TASKS))
}

fn wrong(error: &NoArguments) -> Fault {
    Fault::new(StatusCode::OK, INVALID_PARAMS, error.to_string())
}

impl Ask {
    /// Reads what is asked for.
    pub(super) fn new(
        visit: Visit,
        era: Era,
        session: Option<String>,
        body: &Bytes,
        message: &Message<'_>,
        rule: &Rule,
    ) -> Result<Arc<Self>, Fault> {
        let params = &message.params;
        let invalid = |text: String| Fault::new(StatusCode::OK, INVALID_PARAMS, text);
        let (command, stays_open, shape) = match rule {
            Rule::Tool => {
                let name = params
                    .text("name")
                    .map_err(|error| invalid(error.to_string()))?
                    .ok_or_else(|| wrong(&NoArguments::Missing("name")))?;
                let shown = || name.chars().take(128).flat_map(char::escape_default);
                let unknown = || invalid(format!("Unknown tool: {}", shown().collect::<String>()));
                let target = visit.service.target(&name).ok_or_else(unknown)?;
                let arguments = method::tool_arguments(params).map_err(|error| wrong(&error))?;
                if era == Era::Modern
                    && let Some(tool) = visit.service.tool(target.key.name.as_str())
                {
                    let schema = tool.definition.value().get("inputSchema");
                    let schema = schema.unwrap_or(&serde_json::Value::Null);
                    headers::parameters(&visit.headers, schema, arguments.values())?;
                }
                (Command { target, arguments }, false, Shape::Result)
            }
            Rule::Command(reserved) => {
                let arguments =
                    method::reserved_arguments(reserved, message).map_err(|error| wrong(&error))?;
                let target = visit.target(reserved.name, reserved.risk)?;
                if let Some(task) = arguments.values().get("taskId").and_then(|id| id.as_str()) {
                    // Whoever may have no tasks is told so, whichever they ask for.
                    if era == Era::Modern && !declares_tasks(message) {
                        return Err(Fault::missing_tasks());
                    }
                    let (name, agent) = (&visit.service.service().name, visit.agent());
                    if !visit.gateway.mcp.tasks.is_of(name, task, agent) {
                        return Err(invalid("Task not found".to_owned()));
                    }
                }
                let command = Command { target, arguments };
                (command, reserved.stays_open, Shape::Error)
            }
            Rule::Connect | Rule::Discover | Rule::List(_) => return Err(invalid(String::new())),
        };
        // What is answered within a task's update is among its arguments already.
        let answers = match params.raw("inputResponses") {
            Some(raw)
                if era == Era::Modern
                    && !command.arguments.values().contains_key("inputResponses") =>
            {
                let target = visit.target(ANSWER, Risk::Read)?;
                let arguments = method::answer_arguments("inputResponses", Some(raw))
                    .map_err(|error| wrong(&error))?;
                Some(Command { target, arguments })
            }
            _ => None,
        };
        let (turn, body) = visit.turn(era, params, &command, body);
        let tasks = declares_tasks(message);
        let reason = message.meta.raw(META_REASON).and_then(jsonrpc::string);
        Ok(Arc::new(Self {
            era,
            session,
            id: message.id.unwrap_or("null").into(),
            token: message.progress_token().map(Into::into),
            command,
            body,
            reason: reason
                .map(|reason| parse::readable(&reason))
                .unwrap_or_default(),
            answers,
            shape,
            stays_open,
            makes_tasks: tasks || params.raw("task").is_some(),
            turn,
            visit,
        }))
    }

    /// What a client says in answer to a question of the server's.
    pub(super) fn answer(
        visit: Visit,
        session: Option<String>,
        body: &Bytes,
        command: Command,
    ) -> Arc<Self> {
        Arc::new(Self {
            era: Era::Legacy,
            session,
            id: "null".into(),
            token: None,
            command,
            body: body.clone(),
            reason: String::new(),
            answers: None,
            shape: Shape::Error,
            stays_open: false,
            makes_tasks: false,
            turn: Turn::none(),
            visit,
        })
    }

    /// Answers it.
    pub(super) async fn serve(self: Arc<Self>) -> Response<Body> {
        let gateway = &self.visit.gateway;
        // Before the first look, so that no change falls between the two.
        let changes = gateway.changes.subscribe();
        let refusal = match self.attempt(self.visit.caller.clone()).await {
            Ok(response) => return response,
            Err(refusal) => refusal,
        };
        let request = self.request();
        let attempt = move |caller: Caller| {
            let ask = Arc::clone(&self);
            async move { ask.attempt(caller).await }.boxed()
        };
        request.refused_or_held(refusal, changes, Box::new(attempt))
    }

    /// What of it matters to who waits.
    fn request(&self) -> Waiting {
        let visit = &self.visit;
        let name = self.command.target.key.name.as_str();
        let may_come_again = self.era == Era::Modern
            && (self.shape == Shape::Result
                || matches!(name, "mcp.resources.read" | "mcp.prompts.get"));
        Waiting {
            gateway: Arc::clone(&visit.gateway),
            service: Some(visit.service.service().name.clone()),
            session: self.session.clone(),
            era: self.era,
            shape: self.shape,
            id: self.id.clone(),
            token: self.token.clone(),
            command: self.command.clone(),
            turn: self.turn,
            may_come_again,
            caller: visit.caller.clone(),
            headers: visit.headers.clone(),
            peer: visit.peer,
        }
    }

    /// Tries once, whatever comes of it.
    pub(super) async fn once(self: &Arc<Self>) -> Result<Response<Body>, Refusal> {
        self.attempt(self.visit.caller.clone()).await
    }

    /// Has it decided, and carried out if it is permitted.
    ///
    /// In the older protocol a client that is gone may come back for the answer, so it goes
    /// on without one. In the newer it calls off what it asked for by leaving.
    pub(super) async fn attempt(
        self: &Arc<Self>,
        caller: Caller,
    ) -> Result<Response<Body>, Refusal> {
        if self.era == Era::Modern {
            return self.carry_out(&caller).await;
        }
        let ask = Arc::clone(self);
        let task = self.visit.gateway.under_way.spawn(
            async move { ask.carry_out(&caller).await }.instrument(tracing::Span::current()),
        );
        task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a request ended in a panic");
            Err(Refusal::Lost)
        })
    }

    async fn carry_out(self: &Arc<Self>, caller: &Caller) -> Result<Response<Body>, Refusal> {
        let (gateway, service) = (&self.visit.gateway, &self.visit.service);
        let places = if self.stays_open {
            &gateway.mcp.streams
        } else {
            &gateway.places
        };
        let place = Arc::clone(places)
            .try_acquire_owned()
            .map_err(|_| Refusal::Overloaded)?;
        if let Some(answers) = &self.answers {
            let began = Instant::now();
            let (subject, decided) = gateway.begin(caller, answers.clone(), &self.reason).await;
            let outcome = decided.map(|(_, entry, mut charge)| {
                charge.leave();
                entry.close("success", None);
            });
            crate::log(&subject, caller.ip, &outcome, began.elapsed());
            outcome?;
        }
        let began = Instant::now();
        let (subject, decided) = gateway
            .begin(caller, self.command.clone(), &self.reason)
            .await;
        let (permit, entry, mut charge) = match decided {
            Ok(permitted) => permitted,
            Err(refusal) => {
                let outcome = Err::<(), _>(refusal);
                crate::log(&subject, caller.ip, &outcome, began.elapsed());
                return Err(outcome.err().unwrap_or(Refusal::Internal));
            }
        };
        charge.leave();
        let mut record = Record {
            charge,
            gateway: Arc::clone(gateway),
            subject,
            ip: caller.ip,
            entry,
            began,
            sent: Instant::now(),
            refused: None,
            place,
        };
        let request = onward(
            Method::POST,
            &self.visit.headers,
            self.era,
            self.body.clone(),
        );
        let forwarded = service.forward(Passage::Permitted(&permit), request).await;
        let response = match forwarded {
            Ok(response) => response,
            Err(error) => {
                record.end(Err(error.clone()));
                return Err(Refusal::Handler(error));
            }
        };
        let status = response.status();
        record.refused = (!status.is_success()).then_some(status);
        let session = self.session.as_deref();
        let response = self.visit.returned(response, self.era, session, false);
        let reads_on = self.era == Era::Legacy;
        let response = response.map(|body| Recorded::new(body, record, reads_on));
        self.observed(response).await
    }

    /// Looks into the answer for what must be remembered, which is seldom.
    async fn observed(
        self: &Arc<Self>,
        response: Response<Recorded>,
    ) -> Result<Response<Body>, Refusal> {
        let events = is_events(response.headers());
        if self.stays_open && events {
            let visit = Arc::new(self.visit.copy());
            let telling = Telling::of(self.era, &self.id);
            return Ok(response.map(|body| visit.open_stream(body, telling, None)));
        }
        if !self.makes_tasks {
            return Ok(response.map(Body::streamed));
        }
        let ask = Arc::clone(self);
        if events {
            let look: Look = Box::new(move |event| {
                if let Some(data) = sse::data(event) {
                    ask.remember_task(&data);
                }
                Event::Same
            });
            return Ok(response
                .map(|body| Body::streamed(Looked::new(body, MAX_EVENT_BYTES, look).with_rest())));
        }
        let (parts, body) = response.into_parts();
        // How long an answer may be was seen to before.
        let bytes = body.collect().await.map_err(|_| Refusal::Lost)?.to_bytes();
        self.remember_task(&bytes);
        Ok(Response::from_parts(parts, Body::new(bytes)))
    }

    /// A task that an answer names is this agent's from now on.
    fn remember_task(&self, message: &[u8]) {
        let task = || {
            let text = jsonrpc::utf8(message).ok()?;
            let result = jsonrpc::members(text).ok()?.raw("result")?;
            let members = jsonrpc::members(result).ok()?;
            let task = match members.raw("task") {
                Some(task) => jsonrpc::members(task).ok()?,
                None => members,
            };
            task.text("taskId").ok().flatten()
        };
        if let Some(id) = task() {
            let (name, agent) = (&self.visit.service.service().name, self.visit.agent());
            self.visit.gateway.mcp.tasks.bind(name, &id, agent);
        }
    }
}

impl Visit {
    /// What policy is told of a command that is no tool.
    fn target(&self, name: &'static str, risk: Risk) -> Result<Arc<Target>, Fault> {
        let target = self.gateway.mcp.target(&self.service, name, risk);
        target.ok_or_else(|| Fault::no_service(self.service.service().name.as_str()))
    }

    /// Takes our own state out of a request that comes again.
    fn turn(
        &self,
        era: Era,
        params: &jsonrpc::Members<'_>,
        command: &Command,
        body: &Bytes,
    ) -> (Turn, Bytes) {
        let (turn, member) = Turn::of(&self.gateway, era, params, self.agent(), command);
        let Some(member) = member else {
            return (turn, body.clone());
        };
        let body = jsonrpc::utf8(body).map_or_else(
            |_| body.clone(),
            |whole| without(whole, member).into_bytes().into(),
        );
        (turn, body)
    }

    /// The same, for what outlives the request.
    pub(super) fn copy(&self) -> Self {
        Self {
            gateway: Arc::clone(&self.gateway),
            service: Arc::clone(&self.service),
            caller: self.caller.clone(),
            peer: self.peer,
            headers: headers::apart(&self.headers),
        }
    }
}

/// What an agent may see of lists.
pub(super) struct AgentSight {
    visit: Arc<Visit>,
    sight: Option<Arc<sight::Sight>>,
    now: Timestamp,
}

impl AgentSight {
    /// Of whoever made the visit, as it is known now.
    pub(super) fn new(visit: &Arc<Visit>, caller: &Caller) -> Self {
        Self {
            sight: visit.gateway.sight(caller).ok(),
            now: visit.gateway.clock.now(),
            visit: Arc::clone(visit),
        }
    }

    fn may_list(&self, target: &Arc<Target>) -> bool {
        let sight = self.sight.as_ref();
        sight.is_some_and(|sight| sight.sees(target, self.now))
    }
}

impl Sight for AgentSight {
    fn sees(&mut self, listed: Listed, name: &str) -> bool {
        let visit = &self.visit;
        match listed.command() {
            None => visit
                .service
                .target(name)
                .is_some_and(|target| self.may_list(&target)),
            Some((command, risk)) => {
                let own = listed != Listed::Tasks || {
                    let (service, agent): (&McpService, AgentId) = (&visit.service, visit.agent());
                    visit
                        .gateway
                        .mcp
                        .tasks
                        .is_of(&service.service().name, name, agent)
                };
                own && visit
                    .gateway
                    .mcp
                    .target(&visit.service, command, risk)
                    .is_some_and(|target| self.may_list(&target))
            }
        }
    }

    fn observe(&mut self, listed: Listed, items: &[(Cow<'_, str>, &str)]) {
        if listed == Listed::Tools {
            let tools = items.iter().map(|(name, tool)| (name.as_ref(), *tool));
            self.visit.service.observe(tools);
        }
    }

    fn known(&self, listed: Listed) -> Option<Arc<Known>> {
        let name = self.visit.service.service().name.clone();
        self.visit.gateway.mcp.lists.get(&(name, listed))
    }

    fn keep(&mut self, listed: Listed, list: Known) {
        let name = self.visit.service.service().name.clone();
        let lists = &self.visit.gateway.mcp.lists;
        lists.insert((name, listed), Arc::new(list));
    }
}

fn caching(visit: &Visit, era: Era) -> Caching {
    match era {
        Era::Legacy => Caching::Unsaid,
        Era::Modern => {
            let staleness = visit.gateway.config.max_staleness;
            let at_most = u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX);
            Caching::Private { at_most }
        }
    }
}

/// Looks at events for lists, and takes out of them what the agent may not see.
fn look(visit: Arc<Visit>, listed: &'static [Listed], era: Era) -> Look {
    Box::new(move |event| match sse::data(event) {
        Some(data) => {
            let sight = AgentSight::new(&visit, &visit.caller);
            listed_in(sight, (event, &data), listed, era)
        }
        None => Event::Same,
    })
}

/// An event and its data, which may be a list.
pub(super) fn listed_in(
    sight: AgentSight,
    (event, data): (&[u8], &[u8]),
    listed: &[Listed],
    era: Era,
) -> Event {
    match filtered(sight, data, listed, era) {
        Ok(Filtered::Same) => Event::Same,
        Ok(Filtered::Other(text)) => Event::Other(sse::with_data(event, text.as_bytes())),
        Err(_) if data.iter().all(u8::is_ascii_whitespace) => Event::Same,
        Err(error) => Event::Broken(format!("a message of the server's is refused: {error}")),
    }
}

fn filtered(
    mut sight: AgentSight,
    data: &[u8],
    listed: &[Listed],
    era: Era,
) -> Result<Filtered, jsonrpc::ScanError> {
    let text = jsonrpc::utf8(data)?;
    let caching = caching(&sight.visit, era);
    filter::message(text, listed, caching, &mut sight)
}

/// Every list, alone; and what `server/discover` tells, which is none.
const LISTS: [&[Listed]; 6] = [
    &[],
    &[Listed::Tools],
    &[Listed::Prompts],
    &[Listed::Resources],
    &[Listed::Templates],
    &[Listed::Tasks],
];

/// The answer to a request for a list, without what the agent may not see.
pub(super) async fn listed(
    visit: Visit,
    response: Response<handlers::mcp::Body>,
    wanted: &[Listed],
    era: Era,
) -> Result<Response<Body>, Fault> {
    let visit = Arc::new(visit);
    let (mut parts, body) = response.into_parts();
    let own: &'static [Listed] = LISTS
        .iter()
        .find(|list| **list == wanted)
        .copied()
        .unwrap_or(&Listed::ALL);
    if is_events(&parts.headers) {
        let look = look(visit, own, era);
        let body = Body::streamed(Looked::new(Plain(body), MAX_EVENT_BYTES, look));
        return Ok(Response::from_parts(parts, body));
    }
    let broken = |what: &str| {
        let service = &visit.service.service().name;
        tracing::warn!(%service, reason = what, "an MCP server's list cannot be shown");
        Fault::new(
            StatusCode::OK,
            fault::UPSTREAM,
            format!("the list of '{service}' cannot be shown: {what}"),
        )
    };
    let bytes = body
        .collect()
        .await
        .map_err(|error| broken(&error.to_string()))?
        .to_bytes();
    if !is_type(&parts.headers, "application/json") || bytes.is_empty() {
        // Whatever it is, it is no list that a client would take for one.
        return if parts.status.is_success() {
            Err(broken("it is not JSON"))
        } else {
            Ok(Response::from_parts(parts, Body::new(bytes)))
        };
    }
    let sight = AgentSight::new(&visit, &visit.caller);
    let found = filtered(sight, &bytes, own, era).map_err(|error| broken(&error.to_string()))?;
    let bytes = match found {
        Filtered::Same => bytes,
        Filtered::Other(text) => text.into_bytes().into(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Ok(Response::from_parts(parts, Body::new(bytes)))
}

/// Whether an answer may be told as an event.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    is_type(headers, "application/json")
}
