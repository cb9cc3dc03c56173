//! Planted secrets: whatever goes wrong between the gateway and a service, none of them shows
//! in anything that an agent, a person or a disk gets.

use std::{
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use cedargate_tests::{Layout, System, soon};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A variable, and what is planted there.
const PLANTED: [(&str, &str); 6] = [
    ("TELLTALE_TOKEN", "planted/in+a header=0123"),
    ("TELLTALE_QUERY", "planted&inA?query#4567"),
    ("TELLTALE_PASSWORD", "planted:as-a-password|8901"),
    ("TELLTALE_MCP", "planted-before-an-mcp-server-2345"),
    (
        "MCP_GATEWAY_TOKEN",
        "planted-between-caller-and-gateway-6789",
    ),
    ("COOLIFY_API_TOKEN", "17|planted-at-a-built-in-service-0123"),
];

/// What encrypts those of targets.
const SECRETS_KEY: &str = "planted-for-the-secrets-of-targets-2345";

/// What an agent itself gives away as an argument.
const ARGUMENT: &str = "planted-in-an-argument-4567";

/// What an operator gives a target of notifications.
const WEBHOOK: &str = "planted-in-an-address-8901";

/// All that can go wrong, by name.
const TROUBLES: [&str; 22] = [
    "json",
    "key",
    "text",
    "html",
    "header",
    "reason",
    "redirect",
    "bad-request",
    "unauthorized",
    "forbidden",
    "missing",
    "conflict",
    "invalid",
    "limited",
    "broken",
    "gateway",
    "busy",
    "gzip",
    "half",
    "chunk",
    "hang",
    "huge",
];

/// A server that tells everything it was told, in every way there is.
struct Telltale {
    url: String,
    /// Heads of the requests that came.
    heard: Arc<Mutex<String>>,
}

impl Telltale {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let heard = Arc::new(Mutex::new(String::new()));
        let record = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let record = Arc::clone(&record);
                tokio::spawn(async move { serve(stream, &record).await });
            }
        });
        Ok(Self { url, heard })
    }

    fn heard(&self) -> String {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.clone()
    }
}

/// Reads one request, tells, and closes.
async fn serve(stream: TcpStream, record: &Mutex<String>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0_u64);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
        head.push_str(&line);
    }
    let mut body = Vec::new();
    (&mut stream).take(length).read_to_end(&mut body).await?;
    record
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push_str(&head);
    let answer = answer(&head, &body);
    stream.write_all(&answer).await?;
    stream.flush().await?;
    if head.contains("/leak/hang") {
        // Until the other side had enough.
        let _ = stream.read_u8().await;
    }
    Ok(())
}

/// The bytes of an answer with all that was heard.
fn answer(head: &str, body: &[u8]) -> Vec<u8> {
    let mut told = told(head);
    told.push_str(&String::from_utf8_lossy(body));
    let line = told.replace(['\r', '\n'], " ");
    let how = head
        .split_once("/leak/")
        .map(|(_, rest)| rest.split([' ', '?']).next().unwrap_or_default());
    let whole = |status: &str, kind: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let json = |status: &str| {
        whole(
            status,
            "application/json",
            &json!({"message": told}).to_string(),
        )
    };
    let text = match how {
        Some("json") => whole(
            "200 OK",
            "application/json",
            &json!({"a": [told], "n": 1}).to_string(),
        ),
        Some("key") => whole(
            "200 OK",
            "application/json",
            &json!({&told: {&told: 1}}).to_string(),
        ),
        Some("text") => whole("200 OK", "text/plain", &told),
        Some("html") => whole("200 OK", "text/html", &format!("<html>{told}</html>")),
        Some("header") => format!(
            "HTTP/1.1 200 OK\r\nX-Told: {line}\r\nX-Request-Id: {line}\r\nRetry-After: {line}\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}"
        ),
        Some("reason") => {
            format!("HTTP/1.1 418 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        }
        Some("redirect") => format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/{}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            utf8_percent_encode(&told, NON_ALPHANUMERIC)
        ),
        Some("bad-request") => json("400 Bad Request"),
        Some("unauthorized") => json("401 Unauthorized"),
        Some("forbidden") => json("403 Forbidden"),
        Some("missing") => json("404 Not Found"),
        Some("conflict") => json("409 Conflict"),
        Some("invalid") => json("422 Unprocessable Content"),
        Some("limited") => json("429 Too Many Requests"),
        Some("broken") => json("500 Internal Server Error"),
        Some("gateway") => whole("502 Bad Gateway", "text/html", &told),
        Some("busy") => json("503 Service Unavailable"),
        Some("gzip") => format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{told}",
            told.len()
        ),
        Some("half" | "hang") => format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n{{\"told\":\"{line}"
        ),
        Some("chunk") => {
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{line}\r\n{line}")
        }
        Some("huge") => whole(
            "200 OK",
            "application/json",
            &json!({"told": told.repeat(40)}).to_string(),
        ),
        // An MCP server, and whoever gets notifications.
        _ => {
            let id: Value = serde_json::from_slice::<Value>(body)
                .map_or(Value::Null, |body| body["id"].clone());
            whole("200 OK", "application/json", &json!({"jsonrpc": "2.0", "id": id, "error": {"code": -1, "message": told, "data": told}}).to_string())
        }
    };
    text.into_bytes()
}

/// What was heard, as it came and in every encoding.
fn told(head: &str) -> String {
    let mut told = head.to_owned();
    for (_, secret) in PLANTED {
        // What came encoded is told decoded.
        let arrived = forms(secret)
            .iter()
            .any(|form| head.contains(form.as_str()))
            || head.contains(&STANDARD_NO_PAD.encode(format!("me:{secret}")));
        if arrived {
            for form in forms(secret) {
                write!(told, " {form}").unwrap();
            }
            write!(told, " {}", STANDARD_NO_PAD.encode(format!("me:{secret}"))).unwrap();
            write!(told, " Bearer {secret}").unwrap();
        }
    }
    told
}

/// A secret as it is, and as encodings have it.
fn forms(secret: &str) -> [String; 6] {
    [
        secret.to_owned(),
        STANDARD_NO_PAD.encode(secret),
        URL_SAFE_NO_PAD.encode(secret),
        utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string(),
        hex::encode(secret),
        serde_json::to_string(secret)
            .unwrap()
            .trim_matches('"')
            .to_owned(),
    ]
}

/// Descriptions of three services and an MCP server, each with a credential in another place.
fn describe(folder: &Path, url: &str) -> anyhow::Result<()> {
    let options: Vec<_> = TROUBLES.iter().map(|how| format!("\"{how}\"")).collect();
    for (name, credential) in [
        (
            "in-header",
            r#"{ variable = "TELLTALE_TOKEN", header = "Authorization", prefix = "Bearer " }"#,
        ),
        (
            "in-query",
            r#"{ variable = "TELLTALE_QUERY", query = "key" }"#,
        ),
        (
            "in-password",
            r#"{ variable = "TELLTALE_PASSWORD", basic_user = "me" }"#,
        ),
        // Of which nothing goes wrong, so that it is not left alone for a while.
        (
            "aside",
            r#"{ variable = "TELLTALE_TOKEN", header = "Authorization", prefix = "Bearer " }"#,
        ),
    ] {
        let text = format!(
            r#"name = "{name}"
version = "1.0.0"
kind = "http"
description = "Tells what it was told"
address = {{ variable = "TELLTALE_URL", default = "{url}" }}
credential = {credential}
timeout_ms = 1000
max_answer_bytes = 20000

[[commands]]
name = "leak-something"
phrase = "something leak"
summary = "Goes wrong"
risk = "read"
request = "GET /leak/{{how}}"
arguments = [{{ name = "how", required = true, options = [{options}], description = "In which way" }}]
answer = {{ merge = true }}
example = {{ how = "json" }}

[[commands]]
name = "leak-text"
phrase = "text leak"
summary = "Goes wrong, as text"
risk = "read"
request = "GET /leak/{{how}}"
arguments = [{{ name = "how", required = true, options = [{options}], description = "In which way" }}]
answer = {{ text = "leak" }}
example = {{ how = "text" }}

[[commands]]
name = "set-password"
phrase = "password set"
summary = "Takes a secret"
risk = "write"
request = "POST /leak/{{how}}"
arguments = [
    {{ name = "how", required = true, options = [{options}], description = "In which way" }},
    {{ name = "password", required = true, in = "body", description = "Which" }},
]
answer = {{ merge = true }}
example = {{ how = "json", password = "x" }}
"#,
            options = options.join(", ")
        );
        std::fs::write(folder.join(format!("{name}.toml")), text)?;
    }
    let text = format!(
        r#"name = "in-mcp"
version = "1"
kind = "mcp"
description = "Tells what it was told"

[mcp]
url = "{url}/mcp"
credential = {{ variable = "TELLTALE_MCP", header = "Authorization", prefix = "Bearer " }}
"#
    );
    std::fs::write(folder.join("in-mcp.toml"), text)?;
    Ok(())
}

/// What was looked at, by name.
#[derive(Default)]
struct Seen(Vec<(String, String)>);

impl Seen {
    fn add(&mut self, what: impl Into<String>, text: impl Into<String>) {
        self.0.push((what.into(), text.into()));
    }

    async fn answer(
        &mut self,
        system: &System,
        what: &str,
        request: reqwest::RequestBuilder,
    ) -> anyhow::Result<Value> {
        let reply = system
            .send(request)
            .await
            .with_context(|| what.to_owned())?;
        self.add(
            what,
            format!("{} {:?} {}", reply.status, reply.headers, reply.body),
        );
        Ok(reply.body)
    }

    fn folder(&mut self, folder: &Path) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                self.folder(&path)?;
            } else if path.file_name().is_some_and(|name| name != "admin-token") {
                let bytes = std::fs::read(&path)?;
                self.add(path.display().to_string(), String::from_utf8_lossy(&bytes));
            }
        }
        Ok(())
    }

    /// Fails with every place where one of `secrets` shows.
    fn holds_none_of(&self, secrets: &[&str]) {
        let mut found = Vec::new();
        for secret in secrets {
            for form in forms(secret) {
                for (what, text) in &self.0 {
                    if let Some(at) = text.find(&form) {
                        let around: String = text[..at].chars().rev().take(80).collect();
                        let around: String = around.chars().rev().collect();
                        found.push(format!("{what}: {around}▶{form}"));
                    }
                }
            }
        }
        assert!(
            found.is_empty(),
            "{} times:\n{}",
            found.len(),
            found.join("\n")
        );
    }
}

#[allow(clippy::too_many_lines, reason = "one story, in its order")]
async fn nothing_planted_shows(layout: Layout) -> anyhow::Result<()> {
    let telltale = Telltale::start().await?;
    let folder = tempfile::tempdir()?;
    describe(folder.path(), &telltale.url)?;
    let services = folder.path().display().to_string();
    let mut variables = vec![
        ("CEDARGATE_SERVICES", services.as_str()),
        ("COOLIFY_API_URL", &telltale.url),
        ("LOG_LEVEL", "debug"),
        ("CEDARGATE_NOTIFICATION_PRIVATE_HOSTS", "127.0.0.1"),
        ("CEDARGATE_SECRETS_KEY", SECRETS_KEY),
    ];
    variables.extend(PLANTED);
    let system = System::start_with(layout, &variables).await?;
    let mut seen = Seen::default();
    let services = ["in-header", "in-query", "in-password", "in-mcp", "coolify"];
    let agent = system
        .create_agent(json!({"name": "curious", "allowed_mcps": services}))
        .await?;
    let token = system.create_agent_token(&agent).await?;
    // It must ask.
    let careful = system.create_agent(json!({"name": "careful"})).await?;

    let target = json!({
        "name": "chat",
        "destination": {"kind": "webhook", "url": format!("{}/hooks/{WEBHOOK}", telltale.url)},
    });
    let added = system
        .admin(Method::POST, "/api/notifications/targets", target)
        .await?;
    anyhow::ensure!(added.status.is_success(), "{added:?}");

    let careful_token = system.create_agent_token(&careful).await?;
    let asking = || {
        let request = system.gateway(Method::POST, "/execute");
        request
            .bearer_auth(&careful_token)
            .header("x-agent-id", &careful)
    };

    // Every trouble of every service, through each door.
    let call = |path: &str| {
        let request = system.gateway(Method::POST, path);
        request.bearer_auth(&token).header("x-agent-id", &agent)
    };
    let mut scrubbed = 0;
    for service in &services[..3] {
        for how in TROUBLES {
            for operation in ["leak-something", "leak-text"] {
                let body =
                    json!({"service": service, "operation": operation, "args": {"how": how}});
                let what = format!("{service} {operation} {how}");
                let body = seen
                    .answer(&system, &what, call("/execute").json(&body))
                    .await?;
                scrubbed += usize::from(body.to_string().contains(authz::redact::REDACTED));
            }
        }
        let body = json!({
            "jsonrpc": "2.0", "id": 1, "method": "tools/call",
            "params": {"name": format!("{service}__leak-something"), "arguments": {"how": "json"}},
        });
        let request = call("/mcp")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&body);
        seen.answer(&system, &format!("{service} at /mcp"), request)
            .await?;
    }
    anyhow::ensure!(
        scrubbed >= 6,
        "what services tell comes back, without secrets: {scrubbed}"
    );
    for method in ["tools/list", "tools/call", "ping"] {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": "x", "arguments": {}}});
        let request = call("/mcp/in-mcp")
            .header("accept", "application/json, text/event-stream")
            .header("mcp-protocol-version", "2025-11-25")
            .json(&body);
        seen.answer(&system, &format!("in-mcp {method}"), request)
            .await?;
    }
    for command in [
        "/mcp-coolify servers list",
        "/mcp-coolify applications get x",
    ] {
        let request = call("/execute").json(&json!({"command": command}));
        seen.answer(&system, command, request).await?;
    }

    // A secret of the agent's own, which people are to decide about without seeing it.
    let body = json!({"service": "aside", "operation": "set-password", "args": {"how": "json", "password": ARGUMENT}});
    let refused = seen
        .answer(&system, "a secret argument", asking().json(&body))
        .await?;
    let id = refused["error"]["data"]["request_id"]
        .as_str()
        .with_context(|| refused.to_string())?
        .to_owned();
    soon("the target was notified", async {
        while !telltale.heard().contains(WEBHOOK) {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    let page = format!("/approvals/{id}");
    for path in ["/approvals", &page] {
        let request = system
            .orchestrator(Method::GET, path)
            .bearer_auth(&system.admin);
        let body = seen.answer(&system, path, request).await?;
        anyhow::ensure!(body.to_string().contains("set-password"), "{path}: {body}");
    }
    let approved = system.respond(&id, true).await?;
    anyhow::ensure!(approved.status == StatusCode::OK, "{approved:?}");
    let done = system.send(asking().json(&body)).await?;
    // What the service tells the agent of its own argument is the agent's own already.
    seen.add(
        "approved",
        done.body.to_string().replace(ARGUMENT, "its own"),
    );
    soon("it arrived", async {
        while !telltale.heard().contains("POST /leak/json") {
            tokio::task::yield_now().await;
        }
    })
    .await?;

    // All of it reached the other side: else there was nothing to find.
    let heard = telltale.heard();
    for (variable, secret) in PLANTED {
        let sent = forms(secret).iter().any(|form| heard.contains(form))
            || heard.contains(&STANDARD_NO_PAD.encode(format!("me:{secret}")));
        anyhow::ensure!(
            sent || variable == "MCP_GATEWAY_TOKEN",
            "{variable} was never sent"
        );
    }
    look_everywhere(&system, &careful, &id, &mut seen).await?;

    let mut secrets: Vec<&str> = PLANTED.iter().map(|(_, secret)| *secret).collect();
    secrets.extend([
        ARGUMENT,
        WEBHOOK,
        SECRETS_KEY,
        cedargate_tests::system::CONTROL_TOKEN,
        token.as_str(),
        careful_token.as_str(),
        system.admin.as_str(),
    ]);
    seen.holds_none_of(&secrets);
    Ok(())
}

/// Whatever anyone can read of it.
async fn look_everywhere(
    system: &System,
    agent: &str,
    request: &str,
    seen: &mut Seen,
) -> anyhow::Result<()> {
    let trail = cedargate_tests::soon("the outcome has reached the orchestrator", async {
        loop {
            let trail = system
                .admin_get(&format!("/api/audit?limit=1000&agent={agent}"))
                .await?;
            let kinds = trail.body.to_string();
            if kinds.contains("set-password") && kinds.contains("\"outcome\"") {
                return anyhow::Ok(trail.body);
            }
        }
    })
    .await??;
    seen.add("trail", trail.to_string());
    let agent_page = format!("/agents/{agent}");
    let request_page = format!("/approvals/{request}");
    let request_view = format!("/api/approvals/{request}");
    for path in [
        "/approvals",
        "/approvals?view=decided",
        &request_page,
        "/agents",
        &agent_page,
        "/services",
        "/services/in-header",
        "/services/in-mcp",
        "/services/coolify",
        "/audit",
        "/overview",
        "/policies",
        "/playground",
        "/users",
        "/users/admin",
        "/me",
        "/api/approvals?all=true",
        &request_view,
        "/api/agents",
        "/api/services",
        "/api/gateways",
        "/api/overview",
        "/api/policy-set",
        "/api/notifications/targets",
        "/api/notifications/messages",
        "/api/users",
        "/api/grants?all=true",
        "/api/zones",
        "/api/openapi.json",
        "/ready",
        "/health",
    ] {
        let request = system
            .orchestrator(Method::GET, path)
            .bearer_auth(&system.admin);
        let reply = system.send(request).await?;
        anyhow::ensure!(
            reply.status == StatusCode::OK || path == "/ready" || path == "/health",
            "{path}: {}",
            reply.status
        );
        seen.add(path, format!("{:?} {}", reply.headers, reply.body));
    }
    for path in ["/ready", "/health", "/mcp/catalog", "/openapi.json"] {
        let request = system
            .gateway(Method::GET, path)
            .bearer_auth(PLANTED[4].1)
            .header("x-agent-id", agent);
        seen.answer(system, path, request).await?;
    }
    let metrics = reqwest::get(format!("{}/metrics", system.metrics_url))
        .await?
        .text()
        .await?;
    anyhow::ensure!(metrics.contains("cedargate_"), "{metrics}");
    seen.add("metrics", metrics);
    for arguments in [
        &["services", "list"][..],
        &["services", "show", "in-header"],
        &["config", "show"],
        &["approvals", "list", "--all"],
        &["audit", "list"],
    ] {
        let output = system.cli(arguments).await?;
        let text = [output.stdout, output.stderr].concat();
        seen.add(arguments.join(" "), String::from_utf8_lossy(&text));
    }
    seen.add("gateway's log", system.gateway.log());
    seen.add("orchestrator's log", system.control_plane().log());
    seen.folder(&system.gateway_data())?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_planted_shows_in_one_process() -> anyhow::Result<()> {
    nothing_planted_shows(Layout::OneProcess).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_planted_shows_in_two_processes() -> anyhow::Result<()> {
    nothing_planted_shows(Layout::TwoProcesses).await
}
