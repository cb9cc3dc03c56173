//! `cedargate bridge` and `cedargate connect`: clients that only start programs, and what
//! clients are told.

use cedargate_tests::{
    mcp::{Driver, Sdk, said},
    process::binary,
    soon,
};
use mcp_fixture::{Fixture, Relay};
use serde_json::{Value, json};
use std::process::Stdio;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Command,
};

const TOKEN: &str = "cgt_0123456789012345678901234567890123456789012";

fn gateway(fixture: &Fixture) -> String {
    fixture.url().trim_end_matches("/mcp").to_owned()
}

/// Every SDK's own stdio client, through the bridge, in the era that it prefers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_only_start_programs_reach_the_gateway() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    fixture.by_step();
    let binary = binary()?;
    let binary = binary.to_str().unwrap();
    let gateway = gateway(&fixture);
    for sdk in Sdk::ALL {
        let program = [binary, "bridge", "--gateway", &gateway];
        let mut client = Driver::stdio(sdk, &program, &[("CEDARGATE_AGENT_TOKEN", TOKEN)]).await?;
        let modern = matches!(sdk, Sdk::TypeScript2 | Sdk::Python2);
        let expected = if modern { "2026-07-28" } else { "2025-11-25" };
        assert_eq!(client.version, expected, "{sdk:?}");
        assert!(
            client.tools().await?.contains(&"greet".to_owned()),
            "{sdk:?}"
        );
        let greeted = client.call("greet", json!({"name": "Ada"})).await?;
        assert_eq!(said(&greeted), ("Hello, Ada!".to_owned(), false), "{sdk:?}");
        // An argument that the newest revision wants in a header, too.
        let mirrored = client
            .call("test_custom_headers", json!({"region": "é"}))
            .await?;
        assert!(!said(&mirrored).1, "{sdk:?}: {mirrored}");
        let read = client
            .act(json!({"do": "read", "uri": "test://static-text"}))
            .await?;
        assert!(
            read["result"]["contents"][0]["text"].is_string(),
            "{sdk:?}: {read}"
        );
        let id = client
            .begin(json!({"do": "call", "name": "test_tool_with_progress", "progress": true}))
            .await?;
        for expected in [0, 50, 100] {
            let told = client.progress(id).await?["progress"].as_f64();
            assert_eq!(told, Some(f64::from(expected)), "{sdk:?}");
            fixture.go_on();
        }
        assert_eq!(said(&client.answer(id).await?).0, "Done.", "{sdk:?}");
        let unknown = client
            .act(json!({"do": "read", "uri": "test://nothing"}))
            .await?;
        assert!(
            unknown["error"]["message"].is_string(),
            "{sdk:?}: {unknown}"
        );
    }
    // Everything came with the agent's credential, and older sessions were ended.
    let arrived = fixture.arrived();
    assert!(
        arrived
            .iter()
            .all(|request| request.headers["authorization"] == format!("Bearer {TOKEN}"))
    );
    let ended = arrived
        .iter()
        .filter(|request| request.method == "DELETE")
        .count();
    assert_eq!(ended, 2, "one per client of the older revisions");
    Ok(())
}

/// A bridge, spoken to directly.
struct Bridge {
    child: tokio::process::Child,
    input: Option<tokio::process::ChildStdin>,
    output: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
}

impl Bridge {
    fn start(gateway: &str, token: &str) -> anyhow::Result<Self> {
        let mut child = Command::new(binary()?)
            .args(["bridge", "--gateway", gateway])
            .env_clear()
            .env("CEDARGATE_AGENT_TOKEN", token)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(child.stdout.take().unwrap()).lines(),
            child,
        })
    }

    async fn send(&mut self, message: &Value) -> anyhow::Result<()> {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    async fn next(&mut self) -> anyhow::Result<Value> {
        let line = soon("a line of the bridge", self.output.next_line()).await??;
        Ok(serde_json::from_str(&line.unwrap())?)
    }

    async fn ask(&mut self, message: &Value) -> anyhow::Result<Value> {
        self.send(message).await?;
        loop {
            let answer = self.next().await?;
            if answer["id"] == message["id"] && answer["method"].is_null() {
                return Ok(answer);
            }
        }
    }

    async fn initialize(&mut self) -> anyhow::Result<()> {
        let answer = self
            .ask(
                &json!({"jsonrpc": "2.0", "id": "hello", "method": "initialize", "params": {
                    "protocolVersion": "2025-11-25",
                    "capabilities": {"elicitation": {}, "sampling": {}},
                    "clientInfo": {"name": "journey", "version": "1"},
                }}),
            )
            .await?;
        assert_eq!(
            answer["result"]["protocolVersion"], "2025-11-25",
            "{answer}"
        );
        self.send(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}))
            .await
    }

    /// Hangs up, and waits for its end.
    async fn hang_up(mut self) -> anyhow::Result<std::process::ExitStatus> {
        drop(self.input.take());
        Ok(soon("the bridge ends", self.child.wait()).await??)
    }
}

fn call(id: u32, tool: &str, arguments: &Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call",
        "params": {"name": tool, "arguments": arguments}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_carries_what_servers_ask_and_comes_back_for_answers() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    let mut bridge = Bridge::start(&gateway(&fixture), TOKEN)?;
    bridge.initialize().await?;
    // The server asks, on the stream of the call; the answer is a message of its own.
    bridge
        .send(&call(1, "test_elicitation", &json!({"message": "Who?"})))
        .await?;
    let asked = bridge.next().await?;
    assert_eq!(asked["method"], "elicitation/create", "{asked}");
    bridge
        .send(&json!({"jsonrpc": "2.0", "id": asked["id"], "result": {
            "action": "accept", "content": {"username": "ada", "email": "a@b.c"}}}))
        .await?;
    let answer = bridge.next().await?;
    assert!(said(&answer).0.contains("ada"), "{answer}");
    // The server breaks the stream off; the rest is fetched.
    let answer = bridge
        .ask(&call(2, "test_reconnection", &json!({})))
        .await?;
    assert_eq!(said(&answer), ("Reconnected.".to_owned(), false));
    // What it says by itself comes too.
    let mut told = false;
    bridge
        .send(&call(3, "test_trigger_tool_change", &json!({})))
        .await?;
    let mut answered = false;
    while !(told && answered) {
        let message = bridge.next().await?;
        told |= message["method"] == "notifications/tools/list_changed";
        answered |= message["id"] == 3;
    }
    assert!(bridge.hang_up().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_opens_a_forgotten_session_again() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    let mut bridge = Bridge::start(&gateway(&fixture), TOKEN)?;
    bridge.initialize().await?;
    let first = bridge
        .ask(&call(1, "greet", &json!({"name": "one"})))
        .await?;
    assert_eq!(said(&first).0, "Hello, one!");
    // Somebody else ends it.
    let session = fixture
        .arrived()
        .iter()
        .find_map(|request| request.headers.get("mcp-session-id").cloned())
        .unwrap();
    let ended = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .delete(fixture.url())
        .bearer_auth(TOKEN)
        .header("mcp-session-id", session.to_str()?)
        .send()
        .await?;
    assert!(ended.status().is_success(), "{ended:?}");
    let second = bridge
        .ask(&call(2, "greet", &json!({"name": "two"})))
        .await?;
    assert_eq!(said(&second).0, "Hello, two!", "{second}");
    assert!(bridge.hang_up().await?.success());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_says_what_is_wrong_as_answers() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    let mut bridge = Bridge::start(&gateway(&fixture), "cgt_of_somebody_else")?;
    let ping = json!({"jsonrpc": "2.0", "id": 7, "method": "ping"});
    let refused = bridge.ask(&ping).await?;
    assert_eq!(refused["error"]["code"], 40101, "{refused}");
    for (line, code) in [
        ("this is not json", -32700),
        (
            "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]",
            -32600,
        ),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"method\":\"b\"}",
            -32600,
        ),
    ] {
        let input = bridge.input.as_mut().unwrap();
        input.write_all(format!("{line}\n").as_bytes()).await?;
        let answer = bridge.next().await?;
        assert_eq!(answer["error"]["code"], code, "{line}: {answer}");
    }
    assert!(bridge.hang_up().await?.success());

    let relay = Relay::start("http://127.0.0.1:1", &[]).await?;
    let gone = relay.url();
    drop(relay);
    let mut bridge = Bridge::start(&gone, TOKEN)?;
    let unreachable = bridge.ask(&ping).await?;
    assert_eq!(unreachable["error"]["code"], 50301, "{unreachable}");
    assert!(bridge.hang_up().await?.success());
    Ok(())
}

/// In the newest revision, a client cancels over HTTP by hanging up; over stdio it says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_hangs_up_for_a_client_that_cancels() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    let mut bridge = Bridge::start(&gateway(&fixture), TOKEN)?;
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let mut listen = json!({"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen",
        "params": {"_meta": meta, "notifications": {"toolsListChanged": true}}});
    bridge.send(&listen).await?;
    let acknowledged = bridge.next().await?;
    assert_eq!(
        acknowledged["method"],
        "notifications/subscriptions/acknowledged"
    );
    bridge
        .send(
            &json!({"jsonrpc": "2.0", "method": "notifications/cancelled",
            "params": {"_meta": meta, "requestId": 1}}),
        )
        .await?;
    // What changes now is told to the second subscription alone.
    listen["id"] = 2.into();
    bridge.send(&listen).await?;
    let acknowledged = bridge.next().await?;
    assert_eq!(
        acknowledged["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"],
        2
    );
    let mut change = call(3, "test_trigger_tool_change", &json!({}));
    change["params"]["_meta"] = meta;
    bridge.send(&change).await?;
    let (mut told, mut answered) = (Vec::new(), false);
    while !answered || told.is_empty() {
        let message = bridge.next().await?;
        answered |= message["id"] == 3;
        if message["method"] == "notifications/tools/list_changed" {
            told.push(message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"].clone());
        }
    }
    assert_eq!(told, [json!(2)]);
    assert!(bridge.hang_up().await?.success());
    Ok(())
}

/// What `connect` writes, every client's entry at its place, and nothing of the token.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connect_writes_what_each_client_reads() -> anyhow::Result<()> {
    let folder = TempDir::with_prefix("cedargate-connect-")?;
    let connect = async |arguments: &[&str]| -> anyhow::Result<String> {
        let output = Command::new(binary()?)
            .arg("connect")
            .args(arguments)
            .env_clear()
            .env("HOME", folder.path().join("home"))
            .env("CEDARGATE_AGENT_TOKEN", TOKEN)
            .current_dir(folder.path())
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        anyhow::ensure!(
            output.status.success(),
            "{text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(!text.contains(TOKEN));
        Ok(text)
    };
    let url = "http://127.0.0.1:8100/mcp/github";
    let bearer = |variable: &str| json!({"Authorization": format!("Bearer {variable}")});
    let cases = [
        (
            "claude-code",
            ".mcp.json",
            "/mcpServers/github",
            json!({
            "type": "http", "url": url, "headers": bearer("${CEDARGATE_AGENT_TOKEN}")}),
        ),
        (
            "vscode",
            ".vscode/mcp.json",
            "/servers/github",
            json!({
            "type": "http", "url": url, "headers": bearer("${env:CEDARGATE_AGENT_TOKEN}")}),
        ),
        (
            "cursor",
            ".cursor/mcp.json",
            "/mcpServers/github",
            json!({
            "url": url, "headers": bearer("${env:CEDARGATE_AGENT_TOKEN}")}),
        ),
        (
            "gemini",
            "home/.gemini/settings.json",
            "/mcpServers/github",
            json!({
            "httpUrl": url, "headers": bearer("$CEDARGATE_AGENT_TOKEN")}),
        ),
        (
            "opencode",
            "home/.config/opencode/opencode.json",
            "/mcp/github",
            json!({
            "type": "remote", "url": url, "enabled": true, "oauth": false,
            "headers": bearer("{env:CEDARGATE_AGENT_TOKEN}")}),
        ),
    ];
    for (client, file, place, expected) in cases {
        let printed = connect(&[client, "--service", "github"]).await?;
        assert!(printed.contains(url), "{printed}");
        assert!(!folder.path().join(file).exists(), "{client}: only printed");
        connect(&[client, "--service", "github", "--write"]).await?;
        let text = std::fs::read_to_string(folder.path().join(file))?;
        let written: Value = serde_json::from_str(&text)?;
        assert_eq!(written.pointer(place), Some(&expected), "{client}");
        assert!(!text.contains(TOKEN));
        let again = connect(&[client, "--service", "github", "--write"]).await?;
        assert!(again.contains("stood there already"), "{again}");
    }
    connect(&["codex", "--write"]).await?;
    let codex = std::fs::read_to_string(folder.path().join("home/.codex/config.toml"))?;
    assert_eq!(
        codex,
        "[mcp_servers.cedargate]\nurl = \"http://127.0.0.1:8100/mcp\"\nbearer_token_env_var = \"CEDARGATE_AGENT_TOKEN\"\n"
    );
    Ok(())
}

/// The entry for Claude Desktop starts a bridge that works as it is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_for_claude_desktop_can_be_started() -> anyhow::Result<()> {
    let fixture = Fixture::start(Some(TOKEN)).await?;
    let folder = TempDir::with_prefix("cedargate-connect-")?;
    let token = folder.path().join("token");
    std::fs::write(&token, format!("{TOKEN}\n"))?;
    let file = folder.path().join("desktop.json");
    let status = Command::new(binary()?)
        .args([
            "connect",
            "claude-desktop",
            "--write",
            "--gateway",
            &gateway(&fixture),
        ])
        .arg("--file")
        .arg(&file)
        .arg("--token-file")
        .arg(&token)
        .env_clear()
        .env("HOME", folder.path())
        .stdout(Stdio::null())
        .status()
        .await?;
    assert!(status.success());
    let written: Value = serde_json::from_slice(&std::fs::read(&file)?)?;
    let entry = &written["mcpServers"]["cedargate"];
    let program: Vec<&str> = std::iter::once(&entry["command"])
        .chain(entry["args"].as_array().unwrap())
        .map(|part| part.as_str().unwrap())
        .collect();
    let variable = "CEDARGATE_AGENT_TOKEN_FILE";
    let path = entry["env"][variable].as_str().unwrap();
    let mut client = Driver::stdio(Sdk::TypeScript1, &program, &[(variable, path)]).await?;
    let greeted = client.call("greet", json!({"name": "Ada"})).await?;
    assert_eq!(said(&greeted).0, "Hello, Ada!");
    Ok(())
}
