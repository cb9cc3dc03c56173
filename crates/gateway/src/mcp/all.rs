//! `/mcp`: every service as one MCP server, whatever it is behind. Each command is a tool
//! `service__command`.
//!
//! A call goes the way of `POST /execute`: the same parsing, decision, journal and approval
//! request, and waits for people as at the door of one server. There are no sessions; the
//! stream that a client may open says when the list is another.

use std::sync::Arc;

use arc_swap::ArcSwap;
use authz::{Command, Risk};
use bytes::Bytes;
use futures_util::FutureExt;
use handlers::{
    Answer, CommandError, Parsed,
    catalog::{CommandInfo, ServiceInfo},
    jsonrpc::{self, Kind, Message},
    strict_json,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use serde_json::{Map, Value, json};
use tower::BoxError;

use super::{
    META_REASON, accepted,
    fault::{self, Fault, INVALID_PARAMS, Shape},
    headers,
    hold::{Turn, Waiting},
    method::{Era, LEGACY_VERSIONS, MODERN_VERSIONS},
    news::{self, Audience, Telling, Wanted},
};
use crate::{
    Gateway,
    answer::{Body, put},
    authenticate::{AgentRequest, Caller, Peer},
    parse,
    refusal::Refusal,
    service,
};

/// Between a service and its command.
const BETWEEN: &str = "__";

/// How long a list may be kept, in milliseconds: afterwards policy may be another.
const LIST_TTL_MS: u64 = 5_000;

impl Gateway {
    /// Answers a request to `/mcp`.
    pub(crate) async fn mcp_all<B>(
        self: Arc<Self>,
        request: AgentRequest<B>,
    ) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin,
        B::Error: Into<BoxError>,
    {
        let AgentRequest { caller, http } = request;
        let peer = http.extensions().get::<Peer>().copied();
        let peer = peer.ok_or(Refusal::Internal)?;
        if self.policies.current().is_none() {
            return Err(Refusal::NoPolicySet);
        }
        match *http.method() {
            Method::POST => {}
            Method::GET => {
                if let Err(refusal) = self.admits(&caller) {
                    return Ok(fault::limited(Era::Legacy, None, &refusal));
                }
                let listened = self.listen_to_all(caller, http.headers(), peer);
                return Ok(listened.unwrap_or_else(|fault| fault.into_response(None)));
            }
            _ => return Ok(Fault::not_allowed().into_response(None)),
        }
        let reading = service::read_body(http, self.config.max_body_bytes);
        let read = tokio::time::timeout(self.config.deadline, reading).await;
        let (headers, body) = read.map_err(|_| Refusal::Body)??;
        parse::media_type(&headers)?;
        let caller = self.authenticator.still(caller, &headers, peer).await?;
        if let Err(fault) = headers::accepts(&headers, &["application/json", "text/event-stream"]) {
            return Ok(fault.into_response(None));
        }
        let message = match jsonrpc::scan(&body) {
            Ok(message) => message,
            Err(error) => return Ok(Fault::scan(&error).into_response(None)),
        };
        let answered = self.message((caller, &headers, peer), &message).await;
        Ok(answered.unwrap_or_else(|fault| fault.into_response(message.id)))
    }

    async fn message(
        self: Arc<Self>,
        (caller, headers, peer): (Caller, &HeaderMap, Peer),
        message: &Message<'_>,
    ) -> Result<Response<Body>, Fault> {
        let era = headers::era(headers, message)?;
        let method = match &message.kind {
            Kind::Request { method, .. } => &**method,
            Kind::Notification { method } => {
                if method == "notifications/cancelled"
                    && let Some(id) = message.params.raw("requestId")
                {
                    let agent = caller.held.principal.agent().id;
                    self.mcp.call_off(&(agent, None, None, id.into()));
                }
                return Ok(accepted());
            }
            // Nothing is ever asked of a client here.
            Kind::Response { .. } => {
                return Err(Fault::http(
                    StatusCode::BAD_REQUEST,
                    "nothing was asked of this client",
                ));
            }
        };
        if era == Era::Modern {
            let name = (method == "tools/call").then_some("name");
            headers::mirrors(headers, message, name)?;
        }
        let id = message.id.unwrap_or("null");
        if method != "tools/call"
            && let Err(refusal) = self.admits(&caller)
        {
            return Ok(fault::limited(era, Some(id), &refusal));
        }
        let result = match (era, method) {
            (Era::Legacy, "initialize") => initialized(message),
            (Era::Legacy, "ping") => json!({}),
            (Era::Modern, "server/discover") => discovered(),
            (_, "tools/list") => self.tools(&caller, era, message)?,
            (_, "tools/call") => {
                return self.call((caller, headers, peer), era, message).await;
            }
            (Era::Modern, "subscriptions/listen") => {
                let wanted = Wanted::read(message.params.raw("notifications")).tools_only();
                let telling = Telling::of(era, id);
                return self.stream_of_all((caller, headers, peer), telling, wanted);
            }
            _ => return Err(Fault::unknown_method(era, method)),
        };
        let body = fault::reply(Some(id), "result", &result);
        Ok(fault::whole(StatusCode::OK, body))
    }

    /// Every tool that the agent may see.
    fn tools(&self, caller: &Caller, era: Era, message: &Message<'_>) -> Result<Value, Fault> {
        if message.params.get("cursor").is_some() {
            return Err(invalid("the list has one page"));
        }
        let sight = self.sight(caller).map_err(|_| not_ready())?;
        let mut tools = Vec::new();
        for service in self.catalog.services() {
            let seen = sight.seen(&service.commands, self.clock.now());
            let commands = seen
                .into_iter()
                .filter_map(|place| service.commands.get(place));
            tools.extend(commands.map(|command| self.tool(&service, command)));
        }
        let mut result = json!({"tools": tools});
        if era == Era::Modern {
            complete(&mut result);
            put(&mut result, "ttlMs", LIST_TTL_MS);
            put(&mut result, "cacheScope", "private");
        }
        Ok(result)
    }

    /// A command as a tool. What an MCP server says of its own stays, but for what we know
    /// better: its name, and what it may do.
    fn tool(&self, service: &ServiceInfo, command: &CommandInfo) -> Value {
        let own = self.catalog.mcp(service.name.as_str());
        let own = own.and_then(|server| server.tool(&command.name));
        let mut tool = match own {
            Some(own) => Value::Object(own.definition.value().clone()),
            None => json!({
                "description": command.description,
                "inputSchema": command.arguments,
            }),
        };
        let mut annotations = tool
            .get("annotations")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let risk = command.target.risk;
        annotations.insert("readOnlyHint".to_owned(), (risk == Risk::Read).into());
        annotations.insert("destructiveHint".to_owned(), (risk == Risk::Destroy).into());
        put(
            &mut tool,
            "name",
            format!("{}{BETWEEN}{}", service.name, command.name),
        );
        put(&mut tool, "annotations", Value::Object(annotations));
        tool
    }

    /// The stream on which clients of the older protocol hear that the list is another. It
    /// needs no session: nothing else is said on it.
    fn listen_to_all(
        self: Arc<Self>,
        caller: Caller,
        headers: &HeaderMap,
        peer: Peer,
    ) -> Result<Response<Body>, Fault> {
        headers::legacy_only(headers)?;
        headers::accepts(headers, &["text/event-stream"])?;
        let wanted = Wanted::read(None);
        self.stream_of_all((caller, headers, peer), Telling::Everything, wanted)
    }

    fn stream_of_all(
        self: Arc<Self>,
        (caller, headers, peer): (Caller, &HeaderMap, Peer),
        telling: Telling,
        wanted: Wanted,
    ) -> Result<Response<Body>, Fault> {
        let place = Arc::clone(&self.mcp.streams)
            .try_acquire_owned()
            .map_err(|_| super::too_many_streams())?;
        let first = telling.agree(wanted);
        let audience = Audience {
            gateway: self,
            service: None,
            headers: headers::apart(headers),
            peer,
            telling,
            known: Arc::new(ArcSwap::from_pointee(caller)),
        };
        let mut response = Response::new(news::alone(first, audience, place));
        let headers = response.headers_mut();
        let events = HeaderValue::from_static("text/event-stream");
        headers.insert(header::CONTENT_TYPE, events);
        super::dress(headers);
        Ok(response)
    }

    async fn call(
        self: Arc<Self>,
        (caller, headers, peer): (Caller, &HeaderMap, Peer),
        era: Era,
        message: &Message<'_>,
    ) -> Result<Response<Body>, Fault> {
        let id = message.id.unwrap_or("null");
        let name = message
            .params
            .text("name")
            .map_err(|error| invalid(error.to_string()))?;
        let name = name.ok_or_else(|| invalid("`params.name` is missing"))?;
        let arguments = match message.params.raw("arguments") {
            None => Value::Object(Map::new()),
            Some(raw) => {
                strict_json::parse(raw.as_bytes()).map_err(|error| invalid(error.to_string()))?
            }
        };
        if !arguments.is_object() {
            return Err(invalid("`params.arguments` must be an object"));
        }
        let (service, command) = self.named(&name).ok_or_else(|| unknown(&name))?;
        let command = match self.catalog.command(&service, &command, arguments) {
            Ok(Parsed::Command(command)) => command,
            Err(CommandError::UnknownCommand { .. } | CommandError::UnknownService { .. })
            | Ok(Parsed::Help { .. }) => return Err(unknown(&name)),
            Err(error) => {
                let refusal = Refusal::Command(error);
                let body = fault::refused(era, Shape::Result, id, &refusal);
                return Ok(fault::whole(StatusCode::OK, body));
            }
        };
        let reason = message.meta.raw(META_REASON).and_then(jsonrpc::string);
        let reason = reason
            .map(|reason| parse::readable(&reason))
            .unwrap_or_default();
        let agent = caller.held.principal.agent().id;
        let (turn, _) = Turn::of(&self, era, &message.params, agent, &command);
        let request = Waiting {
            service: None,
            session: None,
            era,
            shape: Shape::Result,
            id: id.into(),
            token: message.progress_token().map(Into::into),
            command: command.clone(),
            turn,
            may_come_again: era == Era::Modern,
            caller: caller.clone(),
            headers: headers.clone(),
            peer,
            gateway: Arc::clone(&self),
        };
        // Before the first look, so that no change falls between the two.
        let changes = self.changes.subscribe();
        let id: Box<str> = id.into();
        let attempt = move |caller: Caller| {
            let gateway = Arc::clone(&self);
            let (id, command, reason) = (id.clone(), command.clone(), reason.clone());
            async move { gateway.called(caller, command, reason, era, &id).await }.boxed()
        };
        Ok(match attempt(caller).await {
            Ok(response) => response,
            Err(refusal) => request.refused_or_held(refusal, changes, Box::new(attempt)),
        })
    }

    /// Has a command decided, and carried out if it is permitted.
    async fn called(
        self: Arc<Self>,
        caller: Caller,
        command: Command,
        reason: String,
        era: Era,
        id: &str,
    ) -> Result<Response<Body>, Refusal> {
        let (decision, answer) = self.carry_out(caller, command, reason).await?;
        let mut result = result(answer);
        if era == Era::Modern {
            complete(&mut result);
        }
        put(
            &mut result,
            "_meta",
            json!({"dev.cedargate/decision": {"id": decision}}),
        );
        let body = fault::reply(Some(id), "result", &result);
        Ok(fault::whole(StatusCode::OK, body))
    }

    /// Which service and command a tool's name means.
    fn named(&self, name: &str) -> Option<(String, String)> {
        // A service's name may hold what stands between, too.
        name.match_indices(BETWEEN).find_map(|(at, _)| {
            let (service, command) = (name.get(..at)?, name.get(at + BETWEEN.len()..)?);
            let info = self.catalog.service(service)?;
            let exact = info.name.as_str() == service
                && info.commands.iter().any(|known| known.name == command);
            exact.then(|| (service.to_owned(), command.to_owned()))
        })
    }
}

/// What a tool's client gets. An MCP server's own content stays what it is.
fn result(answer: Answer) -> Value {
    let data = answer.data;
    if let Some(Value::Array(content)) = data.get("content")
        && content
            .iter()
            .all(|block| block.get("type").is_some_and(Value::is_string))
    {
        let mut result = json!({"content": content});
        if let Some(structured) = data.get("structuredContent") {
            put(&mut result, "structuredContent", structured.clone());
        }
        return result;
    }
    let text = serde_json::to_string_pretty(&data).unwrap_or_default();
    json!({"content": [{"type": "text", "text": text}], "structuredContent": data})
}

fn initialized(message: &Message<'_>) -> Value {
    let asked = message.params.text("protocolVersion").ok().flatten();
    let known = LEGACY_VERSIONS
        .iter()
        .find(|known| asked.as_deref() == Some(**known));
    // A version that is not known is answered with the newest that is.
    let version = known.or_else(|| LEGACY_VERSIONS.iter().max());
    json!({
        "protocolVersion": version,
        "capabilities": {"tools": {"listChanged": true}},
        "serverInfo": server_info(),
        "instructions": INSTRUCTIONS,
    })
}

const INSTRUCTIONS: &str = "Every tool is a command of a service, named service__command, and \
    goes through policy. A call that is refused says why, and whether people were asked: then \
    make the same call with the same arguments after they approved it.";

fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": MODERN_VERSIONS,
        "capabilities": {"tools": {"listChanged": true}},
        "instructions": INSTRUCTIONS,
        "ttlMs": LIST_TTL_MS,
        "cacheScope": "private",
        "_meta": {"io.modelcontextprotocol/serverInfo": server_info()},
    })
}

fn server_info() -> Value {
    json!({"name": "cedargate", "version": env!("CARGO_PKG_VERSION")})
}

fn complete(result: &mut Value) {
    put(result, "resultType", "complete");
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(StatusCode::OK, INVALID_PARAMS, message)
}

fn unknown(name: &str) -> Fault {
    let name: String = name
        .chars()
        .take(128)
        .flat_map(char::escape_default)
        .collect();
    invalid(format!("Unknown tool: {name}"))
}

fn not_ready() -> Fault {
    Fault::new(
        StatusCode::SERVICE_UNAVAILABLE,
        fault::NOT_READY,
        "there is no policy set yet",
    )
}
