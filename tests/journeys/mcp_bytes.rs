//! What a server of other people sends is what the client gets, byte for byte, but for what
//! policy removes.
//!
//! Between the gateway and the server stands a relay, which keeps what passed there; the
//! journey compares it with what came out in front.

use bytes::Bytes;
use cedargate_tests::mcp::{Everything, Policies, World};
use mcp_fixture::{Exchange, Fixture, Relay};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};

/// One request as a client sends it, and the answer as it comes out.
struct Client {
    http: reqwest::Client,
    url: String,
    token: String,
    session: Option<String>,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Client {
    fn new(world: &World, service: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder().no_proxy().build()?,
            url: world.url(service),
            token: world.token.clone(),
            session: None,
        })
    }

    async fn send(&self, method: Method, message: &Value) -> anyhow::Result<Answer> {
        let mut request = self
            .http
            .request(method, &self.url)
            .bearer_auth(&self.token)
            .header("accept", "application/json, text/event-stream");
        let meta = &message["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"];
        if let Some(version) = meta.as_str() {
            request = request
                .header("mcp-protocol-version", version)
                .header("mcp-method", message["method"].as_str().unwrap());
            let params = &message["params"];
            let name = params["name"].as_str().or(params["uri"].as_str());
            if let Some(name) = name {
                request = request.header("mcp-name", name);
            }
        } else if let Some(session) = &self.session {
            request = request
                .header("mcp-session-id", session)
                .header("mcp-protocol-version", "2025-11-25");
        }
        if !message.is_null() {
            request = request.json(message);
        }
        let answer = request.send().await?;
        Ok(Answer {
            status: answer.status(),
            headers: answer.headers().clone(),
            body: answer.bytes().await?,
        })
    }

    async fn open(&mut self) -> anyhow::Result<Answer> {
        let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
            "protocolVersion": "2025-11-25", "capabilities": {},
            "clientInfo": {"name": "journey", "version": "1"}}});
        let answer = self.send(Method::POST, &hello).await?;
        let session = answer.headers.get("mcp-session-id");
        self.session = session.map(|session| session.to_str().unwrap().to_owned());
        Ok(answer)
    }
}

/// What the server answered last.
fn upstream(relay: &Relay, message: &Value) -> Exchange {
    let exchanges = relay.exchanges();
    let same = |exchange: &&Exchange| {
        serde_json::from_slice::<Value>(&exchange.body).unwrap_or_default() == *message
    };
    exchanges.iter().rev().find(same).cloned().unwrap()
}

fn assert_same(told: &str, front: &Answer, back: &Exchange) {
    assert_eq!(front.status, back.status, "{told}");
    assert_eq!(
        front.headers.get("content-type"),
        back.answer_headers.get("content-type"),
        "{told}"
    );
    let (front, back) = (&front.body[..], back.answer());
    assert!(
        front == back,
        "{told}:\n{}\n{}",
        String::from_utf8_lossy(&back),
        String::from_utf8_lossy(front)
    );
}

/// The text of the result's list without these items, each with one comma: what is left is
/// not written anew.
fn without(text: &str, names: &[&str]) -> String {
    let start = text.find("\"tools\":[").unwrap() + "\"tools\":[".len();
    let items: Vec<&serde_json::value::RawValue> = {
        let mut list = serde_json::Deserializer::from_str(&text[start - 1..]).into_iter();
        list.next().unwrap().unwrap()
    };
    let length = items.iter().map(|item| item.get().len()).sum::<usize>() + items.len() - 1;
    let kept: Vec<&str> = items
        .iter()
        .map(|item| item.get())
        .filter(|item| {
            let name = serde_json::from_str::<Value>(item).unwrap()["name"].clone();
            !names.iter().any(|hidden| name == **hidden)
        })
        .collect();
    [&text[..start], &kept.join(","), &text[start + length..]].concat()
}

fn message(id: u32, method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_server_is_passed_on_byte_for_byte() -> anyhow::Result<()> {
    let server = Everything::start().await?;
    let relay = Relay::start(server.url(), &[]).await?;
    let table = format!(
        "url = \"{}/mcp\"\nhidden = [\"get-env\", \"get-sum\"]",
        relay.url()
    );
    let world = World::start(&[("everything", table)], Policies::Permissive, &[]).await?;
    let mut client = Client::new(&world, "everything")?;
    let opened = client.open().await?;
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25", "capabilities": {},
        "clientInfo": {"name": "journey", "version": "1"}}});
    assert_same("initialize", &opened, &upstream(&relay, &hello));
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    assert_eq!(
        client.send(Method::POST, &ready).await?.status,
        StatusCode::ACCEPTED
    );

    let call = |name: &str, arguments: Value| json!({"name": name, "arguments": arguments});
    for (id, (method, params)) in [
        ("ping", json!({})),
        (
            "tools/call",
            call("echo", json!({"message": "h\u{e9}\u{1f600} \u{2028}"})),
        ),
        ("tools/call", call("get-tiny-image", json!({}))),
        (
            "tools/call",
            call("get-structured-content", json!({"location": "New York"})),
        ),
        (
            "tools/call",
            call(
                "get-annotated-message",
                json!({"messageType": "error", "includeImage": true}),
            ),
        ),
        (
            "tools/call",
            call("get-resource-links", json!({"count": 3})),
        ),
        (
            "tools/call",
            call(
                "get-resource-reference",
                json!({"resourceType": "Text", "resourceId": 1}),
            ),
        ),
        ("tools/call", call("echo", json!({"message": 3}))),
        ("prompts/list", json!({})),
        ("prompts/get", json!({"name": "simple-prompt"})),
        ("prompts/get", json!({"name": "nothing"})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        (
            "resources/read",
            json!({"uri": "demo://resource/dynamic/text/1"}),
        ),
        ("resources/read", json!({"uri": "demo://nothing"})),
        (
            "tools/call",
            json!({"name": "trigger-long-running-operation",
            "arguments": {"duration": 0.2, "steps": 2}, "_meta": {"progressToken": "t"}}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let sent = message(10 + u32::try_from(id)?, method, &params);
        let front = client.send(Method::POST, &sent).await?;
        assert_same(&sent.to_string(), &front, &upstream(&relay, &sent));
    }

    // Of a list, what policy removes is missing, and nothing else is different.
    let list = message(2, "tools/list", &json!({}));
    let front = client.send(Method::POST, &list).await?;
    let back = upstream(&relay, &list).answer();
    let expected = without(std::str::from_utf8(&back)?, &["get-env", "get-sum"]);
    assert_eq!(std::str::from_utf8(&front.body)?, expected);
    assert!(
        expected.contains("taskSupport"),
        "what typed proxies lose: {expected}"
    );

    let ended = client.send(Method::DELETE, &Value::Null).await?;
    assert!(ended.status.is_success(), "{}", ended.status);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_server_is_passed_on_byte_for_byte() -> anyhow::Result<()> {
    let fixture = Fixture::start(None).await?;
    let base = fixture.url();
    let relay = Relay::start(base.trim_end_matches("/mcp"), &[]).await?;
    let table = format!("url = \"{}/mcp\"", relay.url());
    let world = World::start(&[("fixture", table)], Policies::Permissive, &[]).await?;
    let client = Client::new(&world, "fixture")?;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    });
    let call = |name: &str| json!({"name": name, "arguments": {}});
    for (id, (method, params)) in [
        ("tools/call", call("test_multiple_content_types")),
        ("tools/call", call("test_error_handling")),
        ("tools/call", call("test_input_required_result_elicitation")),
        ("tools/call", call("test_missing_capability")),
        ("tools/call", call("nothing")),
        ("prompts/get", json!({"name": "test_prompt_with_image"})),
        ("resources/read", json!({"uri": "test://static-binary"})),
        ("resources/read", json!({"uri": "test://nothing"})),
        (
            "completion/complete",
            json!({"ref": {"type": "ref/prompt", "name": "test_prompt_with_arguments"},
            "argument": {"name": "arg1", "value": "par"}}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let mut sent = message(10 + u32::try_from(id)?, method, &params);
        sent["params"]["_meta"] = meta.clone();
        let front = client.send(Method::POST, &sent).await?;
        assert_same(&sent.to_string(), &front, &upstream(&relay, &sent));
    }
    Ok(())
}
