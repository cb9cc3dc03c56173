//! The door between clients and a server that does as a test tells it.
//!
//! What the protocol demands of whoever stands between, and the test that is named for it:
//!
//! | the protocol | test |
//! |---|---|
//! | `Origin`, `Host`, `Accept` | `http_rules::{origin_and_host_are_validated, accept_and_content_type_must_be_those_of_the_protocol}` |
//! | one message, no batch, no response since 2026-07-28 | `http_rules::a_body_is_exactly_one_message` |
//! | a notification gets 202 and no body | `http_rules::a_notification_is_accepted_without_a_body` |
//! | the version in header and body, -32020, -32022 | `http_rules::the_version_header_equals_the_body_and_is_one_that_there_is` |
//! | `Mcp-Method` and `Mcp-Name` equal the body | `http_rules::method_and_name_headers_equal_the_body` |
//! | a closed stream cancels since 2026-07-28, and not before | `streams::{closing_the_stream_cancels_in_the_newer_protocol, an_older_client_that_leaves_does_not_stop_what_it_asked_for}` |
//! | streams pass unbuffered, and are kept alive while they wait | `streams::a_stream_passes_frame_by_frame_before_it_ends`, `waits` |
//! | the era of each request; GET and DELETE | `http_rules::{a_session_means_nothing_in_the_newer_protocol, get_and_delete_are_of_the_older_protocol_only}` |
//! | sessions, and 404 for those that are not there | `http_rules::{a_session_is_of_the_agent_that_made_it, a_deleted_session_is_gone}` |
//! | no discovery without OAuth; no token in the query | `http_rules::a_token_alone_is_enough_and_no_discovery_is_offered` |
//! | the client's token is not passed on | `http_rules::the_token_of_the_client_never_reaches_the_server` |
//! | unknown `Mcp-Param-*` are passed on, known ones compared | `http_rules::parameter_headers_that_a_schema_wants_equal_the_arguments_and_others_are_passed_on` |
//! | lists of a shared cache are nobody else's | `lists::lists_and_discovery_of_the_newer_protocol_are_private_and_no_older_than_facts` |
//! | lists stay in order, and are not written anew | `lists::a_list_that_is_all_visible_passes_unchanged_but_for_what_is_hidden` |
//! | an unknown method | `http_rules::an_unknown_method_is_refused_before_anything_is_sent` |
//! | with OAuth: metadata, challenges, audience, `insufficient_scope` | `oauth::{whoever_brings_nothing_is_told_where_to_ask, scopes_cap_what_policy_permits_and_a_client_is_told_which_it_needs, what_cannot_be_checked_is_not_believed}` |
//! | what a server must not do | `misbehaving` |

mod all;
mod calls;
mod http_rules;
mod lists;
mod misbehaving;
mod news;
mod oauth;
mod streams;
mod waits;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    body::Body as AxumBody,
    extract::{Request as AxumRequest, State},
    response::{IntoResponse, Response as AxumResponse},
};
use bytes::Bytes;
use handlers::mcp::Definition;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::ServiceExt;

use crate::{
    Config,
    answer::Body,
    authenticate::Peer,
    service::stack,
    tests::world::{BOT, LOOPBACK, OTHER, World, around},
};

/// What reached the server.
#[derive(Clone, Debug)]
struct Seen {
    method: Method,
    headers: HeaderMap,
    body: Bytes,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// Whether the gateway asks for itself.
    fn is_ours(&self) -> bool {
        let id = &self.json()["id"];
        id.as_str().is_some_and(|id| id.starts_with("cedargate-"))
    }

    fn name(&self) -> String {
        self.json()["method"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }
}

type Script = Box<dyn Fn(&Seen) -> Option<AxumResponse> + Send>;

/// A server of MCP that answers as usual, unless its script says otherwise.
struct Server {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Script>,
    /// What it tells the gateway itself, which asks on its own account.
    offers: Mutex<&'static str>,
    sessions: std::sync::atomic::AtomicUsize,
}

const TOOLS: &str = r#"[{"name":"look","title":"Look","inputSchema":{"type":"object","properties":{"at":{"type":"string"}}},"x":1.10}, {"name":"write","inputSchema":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"},"n":{"type":"integer","x-mcp-header":"N"}}}},{"name":"delete","inputSchema":{"type":"object"}},{"name":"secret","inputSchema":{"type":"object"}}]"#;

fn ok(kind: &str, body: impl Into<AxumBody>) -> AxumResponse {
    ([("content-type", kind.to_owned())], body.into()).into_response()
}

fn result(seen: &Seen, result: &str) -> AxumResponse {
    let id = &seen.json()["id"];
    ok(
        "application/json",
        format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#),
    )
}

async fn answer(State(server): State<Arc<Server>>, request: AxumRequest) -> AxumResponse {
    let (parts, body) = request.into_parts();
    let seen = Seen {
        method: parts.method,
        headers: parts.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    // What the gateway asks on its own account, and no test knows when.
    let client = &seen.json()["params"]["_meta"]["io.modelcontextprotocol/clientInfo"]["name"];
    match seen.name().as_str() {
        "tools/list" if client == "cedargate" => {
            let tools = server.offers.lock().unwrap();
            return result(&seen, &format!(r#"{{"tools":{tools}}}"#));
        }
        "server/discover" if client == "cedargate" => {
            return result(
                &seen,
                r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#,
            );
        }
        _ => {}
    }
    server.seen.lock().unwrap().push(seen.clone());
    if let Some(response) = (server.script.lock().unwrap())(&seen) {
        return response;
    }
    if seen.method == Method::DELETE {
        return StatusCode::OK.into_response();
    }
    if seen.method == Method::GET {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    match seen.name().as_str() {
        "initialize" => {
            let count = &server.sessions;
            let count = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let mut response = result(
                &seen,
                r#"{"protocolVersion":"2025-11-25","capabilities":{},"serverInfo":{"name":"s","version":"1"}}"#,
            );
            let id = format!("session-{count}").parse().unwrap();
            response.headers_mut().insert("mcp-session-id", id);
            response
        }
        "tools/list" if seen.is_ours() => result(&seen, &format!(r#"{{"tools":{TOOLS}}}"#)),
        "tools/list" => result(&seen, &format!(r#"{{"tools":{TOOLS},"nextCursor":"n"}}"#)),
        "server/discover" => result(
            &seen,
            r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"ttlMs":3600000,"cacheScope":"public"}"#,
        ),
        name if name.starts_with("notifications/") || name.is_empty() => {
            StatusCode::ACCEPTED.into_response()
        }
        _ => result(
            &seen,
            r#"{"content":[{"type":"text","text":"done"}],"n":1.10}"#,
        ),
    }
}

/// A gateway with one MCP server behind it.
struct House {
    world: World,
    server: Arc<Server>,
}

/// What came back, read.
#[derive(Debug)]
struct Answered {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Bytes,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_default()
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    fn code(&self) -> i64 {
        self.json()["error"]["code"].as_i64().unwrap_or_default()
    }

    fn tool_text(&self) -> String {
        self.json()["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The data of the events.
    fn events(&self) -> Vec<Value> {
        events(self.text())
    }
}

fn events(text: &str) -> Vec<Value> {
    text.split("\n\n")
        .filter_map(|event| handlers::sse::data(event.as_bytes()).map(Cow::into_owned))
        .map(|data| serde_json::from_slice(&data).unwrap())
        .collect()
}

const BOTH: &str = "application/json, text/event-stream";

impl House {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let server = Arc::new(Server {
            seen: Mutex::default(),
            script: Mutex::new(Box::new(|_| None)),
            offers: Mutex::new(TOOLS),
            sessions: std::sync::atomic::AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = axum::Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let description = format!(
            r#"
            name = "everything"
            version = "1"
            kind = "mcp"
            description = "A server that does as a test tells it"
            [mcp]
            url = "http://{address}/mcp"
            risk = "read"
            hidden = ["secret"]
            [mcp.credential]
            variable = "EVERYTHING_TOKEN"
            header = "authorization"
            prefix = "Bearer "
            [mcp.tools.write]
            risk = "write"
            [mcp.tools.delete]
            risk = "destroy"
            "#
        );
        let mut around = around().await;
        let own = [("everything.toml", description.as_str())];
        let catalog = handlers::Catalog::load_with(&own, &|name| {
            (name == "EVERYTHING_TOKEN").then(|| "our-own-credential".to_owned())
        });
        around.catalog = Arc::new(catalog.unwrap());
        let world = World::over(around, change);
        world
            .until("it is ready", || {
                world.gateway.ready().status() == StatusCode::OK
            })
            .await;
        let known = |gateway: &crate::Gateway| {
            gateway.catalog.service("everything").unwrap().status == "active"
        };
        world
            .until("its tools are known", || known(&world.gateway))
            .await;
        let house = Self { world, server };
        house.review(TOOLS);
        house
    }

    /// Has somebody review these definitions.
    fn review(&self, tools: &str) {
        let service = self.world.gateway.catalog.mcp("everything").unwrap();
        let tools = handlers::jsonrpc::elements(tools).unwrap();
        let read = tools
            .iter()
            .map(|text| (Definition::read(text).unwrap(), *text));
        let read: Vec<_> = read.collect();
        service.observe(
            read.iter()
                .map(|(tool, text)| (tool.name().as_str(), *text)),
        );
        let reviews: BTreeMap<_, _> = read
            .iter()
            .map(|(tool, _)| (tool.name().clone(), tool.digest().clone()))
            .collect();
        service.review(&reviews);
    }

    fn script(&self, script: impl Fn(&Seen) -> Option<AxumResponse> + Send + 'static) {
        *self.server.script.lock().unwrap() = Box::new(script);
    }

    /// What agents sent: the gateway itself asks for tools as well.
    fn seen(&self) -> Vec<Seen> {
        let seen = self.server.seen.lock().unwrap();
        seen.iter()
            .filter(|seen| !seen.is_ours())
            .cloned()
            .collect()
    }

    /// Which methods reached the server.
    fn reached(&self) -> Vec<String> {
        self.seen().iter().map(Seen::name).collect()
    }

    fn request(method: Method, headers: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri("/mcp/everything");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap()
    }

    /// The answer as it begins.
    async fn open(&self, mut request: Request<Full<Bytes>>) -> Response<Body> {
        let peer: SocketAddr = LOOPBACK.parse().unwrap();
        request.extensions_mut().insert(Peer(peer));
        stack(&self.world.gateway).oneshot(request).await.unwrap()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Answered {
        let (parts, body) = self.open(request).await.into_parts();
        Answered {
            status: parts.status,
            headers: parts.headers,
            bytes: body.collect().await.unwrap().to_bytes(),
        }
    }

    /// A message of the older protocol, and how it is sent.
    fn legacy(agent: &str, more: &[(&str, &str)], body: &str) -> Request<Full<Bytes>> {
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", BOTH),
            ("x-agent-id", agent),
        ];
        headers.extend_from_slice(more);
        Self::request(Method::POST, &headers, body)
    }

    async fn post(&self, agent: &str, body: &str) -> Answered {
        self.send(Self::legacy(agent, &[], body)).await
    }

    /// Calls a tool as older clients do.
    async fn call(&self, agent: &str, tool: &str, arguments: &str) -> Answered {
        self.post(agent, &call(tool, arguments)).await
    }

    /// A request of the newer protocol.
    fn modern(
        agent: &str,
        method: &str,
        params: Value,
        more: &[(&str, &str)],
    ) -> Request<Full<Bytes>> {
        let mut params = params;
        let name = ["name", "uri", "taskId"]
            .iter()
            .find_map(|member| params[member].as_str())
            .unwrap_or_default()
            .to_owned();
        let meta = &mut params["_meta"];
        meta["io.modelcontextprotocol/protocolVersion"] = "2026-07-28".into();
        if meta["io.modelcontextprotocol/clientCapabilities"].is_null() {
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
        }
        let body = json!({"jsonrpc": "2.0", "id": 9, "method": method, "params": params});
        let mut headers = vec![
            ("content-type", "application/json"),
            ("accept", BOTH),
            ("x-agent-id", agent),
            ("mcp-protocol-version", "2026-07-28"),
            ("mcp-method", method),
        ];
        if !name.is_empty() {
            headers.push(("mcp-name", &name));
        }
        headers.retain(|(own, _)| !more.iter().any(|(name, _)| name == own));
        headers.extend(more.iter().filter(|(_, value)| !value.is_empty()));
        Self::request(Method::POST, &headers, &body.to_string())
    }
}

fn call(tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

fn ask(method: &str, params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#)
}
