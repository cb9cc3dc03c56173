//! `/mcp`: every service as one MCP server, whatever it is behind. Each command is a tool
//! `service__command`.
//!
//! A call goes the way of `POST /execute`: the same parsing, decision, journal and approval
//! request. There are no sessions and no streams, so either era is answered at once.

use authz::Risk;
use bytes::Bytes;
use handlers::{
    Answer, CommandError, Parsed,
    catalog::{CommandInfo, ServiceInfo},
    jsonrpc::{self, Kind, Message},
    strict_json,
};
use http::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use tower::BoxError;

use super::{
    META_REASON, accepted,
    fault::{self, Fault, INVALID_PARAMS, Shape},
    headers,
    method::{Era, LEGACY_VERSIONS, MODERN_VERSIONS},
};
use crate::{
    Gateway,
    answer::{Body, put},
    authenticate::{AgentRequest, Caller, Peer},
    authorize::listed,
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
        if *http.method() != Method::POST {
            return Ok(Fault::not_allowed().into_response(None));
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
        let answered = self.message(caller, &headers, &message).await;
        Ok(answered.unwrap_or_else(|fault| fault.into_response(message.id)))
    }

    async fn message(
        self: Arc<Self>,
        caller: Caller,
        headers: &http::HeaderMap,
        message: &Message<'_>,
    ) -> Result<Response<Body>, Fault> {
        let era = headers::era(headers, message)?;
        let method = match &message.kind {
            Kind::Request { method, .. } => &**method,
            // Nothing is ever asked of a client here, and nothing is under way to cancel.
            Kind::Notification { .. } => return Ok(accepted()),
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
            (_, "tools/call") => return self.call(caller, era, id, message).await,
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
        let policies = self.policies.current().ok_or_else(not_ready)?;
        let zones = self.zones.current().ok_or_else(not_ready)?;
        let principal = &caller.held.principal;
        let mut tools = Vec::new();
        for service in self.catalog.services() {
            let seen = listed(
                (&policies, &zones),
                principal,
                &service.commands,
                self.clock.now(),
            );
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

    async fn call(
        self: Arc<Self>,
        caller: Caller,
        era: Era,
        id: &str,
        message: &Message<'_>,
    ) -> Result<Response<Body>, Fault> {
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
        let answered = match self.catalog.command(&service, &command, arguments) {
            Ok(Parsed::Command(command)) => {
                let reason = message.meta.raw(META_REASON).and_then(jsonrpc::string);
                let reason = reason
                    .map(|reason| parse::readable(&reason))
                    .unwrap_or_default();
                self.carry_out(caller, command, reason).await
            }
            Err(CommandError::UnknownCommand { .. } | CommandError::UnknownService { .. })
            | Ok(Parsed::Help { .. }) => return Err(unknown(&name)),
            Err(error) => Err(Refusal::Command(error)),
        };
        let mut limited = None;
        let body = match answered {
            Ok((decision, answer)) => {
                let mut result = result(answer);
                if era == Era::Modern {
                    complete(&mut result);
                }
                put(
                    &mut result,
                    "_meta",
                    json!({"dev.cedargate/decision": {"id": decision}}),
                );
                fault::reply(Some(id), "result", &result)
            }
            Err(refusal) => {
                let body = fault::refused(era, Shape::Result, id, &refusal);
                limited = Some(refusal);
                body
            }
        };
        let mut response = fault::whole(StatusCode::OK, body);
        if let Some(refusal) = limited {
            refusal.put_headers(response.headers_mut());
        }
        Ok(response)
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
        "capabilities": {"tools": {}},
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
        "capabilities": {"tools": {}},
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
