//! `cedargate serve` and the subcommands that talk to it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use cedargate::sample_coolify::SampleCoolify;
use serde_json::Value;

/// A server in a folder of its own, on free ports.
struct Server {
    process: Child,
    stderr: BufReader<std::process::ChildStderr>,
    /// Where agents connect.
    gateway: String,
    /// Everything that it wrote to standard error so far.
    log: String,
    url: String,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[])
    }

    fn start_in(folder: tempfile::TempDir, variables: &[(&str, &str)]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_cedargate"))
            .current_dir(folder.path())
            .env_clear()
            .envs(variables.iter().copied())
            .args([
                "serve",
                "--port",
                "0",
                "--metrics-port",
                "0",
                "--backend-port",
                "0",
            ])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let mut server = Self {
            process,
            stderr,
            log: String::new(),
            url: String::new(),
            gateway: String::new(),
            folder,
        };
        let line = server.read_until("orchestrator listening on");
        let line: Value = serde_json::from_str(&line).unwrap();
        let message = line["message"].as_str().unwrap();
        let address = message.split(['(', ')']).nth(1).unwrap();
        server.url = format!("http://{address}");
        let line: Value = serde_json::from_str(&server.read_until("gateway listening")).unwrap();
        server.gateway = format!("http://{}", line["address"].as_str().unwrap());
        server.read_until("policy set in force");
        server
    }

    /// The next line of its log that has `text`.
    fn read_until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(
                self.stderr.read_line(&mut line).unwrap() > 0,
                "`{text}` never came:\n{}",
                self.log
            );
            self.log.push_str(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    fn run(&self, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cedargate"))
            .current_dir(self.folder.path())
            .env_clear()
            .env("CEDARGATE_URL", &self.url)
            .envs(variables.iter().copied())
            .args(arguments)
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[], &[arguments, &["--json"]].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{arguments:?}: {text}{error}");
        serde_json::from_str(&text).unwrap()
    }

    /// Enrols a device at the terminal, for the admin or for whoever holds the token.
    fn enrol(&self, token: Option<&str>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cedargate"));
        command
            .current_dir(self.folder.path())
            .env_clear()
            .envs(token.map(|token| ("CEDARGATE_TOKEN", token)))
            .env("CEDARGATE_URL", &self.url)
            .args(["users", "second-factor", "enrol"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        let (_, secret) = line.trim().rsplit_once(' ').unwrap();
        let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
        let device = totp_rs::Builder::new().with_secret(secret).build().unwrap();
        #[allow(
            clippy::disallowed_methods,
            reason = "the server reads the machine's clock, and so does a device"
        )]
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let code = device.generate(now.as_secs()).to_string();
        writeln!(process.stdin.take().unwrap(), "{code}").unwrap();
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{line}");
        let codes = String::from_utf8(output.stdout).unwrap();
        assert_eq!(codes.lines().count(), 10, "recovery codes: {codes}");
    }

    /// Asks it to end, and gives its exit code and the rest of its log.
    fn end(mut self) -> (Option<i32>, String, tempfile::TempDir) {
        let asked = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status()
            .unwrap();
        assert!(asked.success());
        let mut line = String::new();
        while self.stderr.read_line(&mut line).unwrap() > 0 {}
        self.log.push_str(&line);
        let code = self.process.wait().unwrap().code();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (code, self.log.clone(), folder)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn the_first_start_lets_the_admin_in_and_the_second_says_nothing_of_it() {
    let server = Server::start();
    let data = server.folder.path().join("data");
    assert_eq!(
        (mode(&data), mode(&data.join("admin-token"))),
        (0o700, 0o600)
    );
    let token = std::fs::read_to_string(data.join("admin-token")).unwrap();
    assert!(token.starts_with("cgu_"));
    let whoami = server.json(&["users", "whoami"]);
    assert_eq!(whoami["id"], "admin");

    let (code, log, folder) = server.end();
    assert_eq!(code, Some(0), "{log}");
    for expected in [
        "migrations done",
        "listening on",
        "WebSocket ready",
        "/bootstrap?code=",
        "admin-token",
        "ended",
    ] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
    assert!(!log.contains(token.trim()), "the token is in its file only");

    let server = Server::start_in(folder, &[]);
    assert_eq!(
        server.json(&["users", "whoami"])["id"],
        "admin",
        "the same token"
    );
    let (code, log, _folder) = server.end();
    assert_eq!(code, Some(0));
    assert!(!log.contains("/bootstrap?code="), "{log}");
}

#[test]
fn agents_users_and_tokens_from_the_command_line() {
    let server = Server::start();
    let agent = server.json(&[
        "agents",
        "create",
        "deploy-bot",
        "--allow",
        "github",
        "--owner",
        "admin",
        "--env",
        "dev",
    ]);
    assert_eq!(agent["allowed_mcps"], serde_json::json!(["github"]));
    let id = agent["id"].as_str().unwrap();
    assert_eq!(server.json(&["agents", "show", id])["name"], "deploy-bot");
    let agent = server.json(&["agents", "change", "deploy-bot", "--allow", ""]);
    assert_eq!(
        (&agent["allowed_mcps"], &agent["owner"]),
        (&serde_json::json!([]), &serde_json::json!("admin"))
    );
    assert_eq!(
        server.json(&["agents", "suspend", "deploy-bot"])["suspended"],
        true
    );
    assert_eq!(
        server.json(&["agents", "resume", "deploy-bot"])["suspended"],
        false
    );

    let output = server.run(
        &[],
        &[
            "agents",
            "token",
            "create",
            "deploy-bot",
            "--label",
            "ci",
            "--expires-in",
            "8h",
        ],
    );
    let token = String::from_utf8(output.stdout).unwrap();
    assert!(
        token.starts_with("cgt_") && token.lines().count() == 1,
        "the token alone"
    );
    let tokens = server.json(&["agents", "token", "list", "deploy-bot"]);
    assert_eq!(tokens[0]["label"], "ci");
    assert!(!tokens.to_string().contains(token.trim()));
    let id = tokens[0]["id"].as_str().unwrap();
    server.json(&["tokens", "revoke", "--agent", "deploy-bot", id]);
    assert!(server.json(&["tokens", "list", "--agent", "deploy-bot"])[0]["revoked"].is_string());

    // What the agent holds opens nothing here.
    let refused = server.run(&[("CEDARGATE_TOKEN", token.trim())], &["agents", "list"]);
    assert_eq!(refused.status.code(), Some(3));
    assert_eq!(
        server.run(&[], &["agents", "show", "nobody"]).status.code(),
        Some(4)
    );
    assert_eq!(
        server
            .run(&[], &["agents", "create", "deploy-bot"])
            .status
            .code(),
        Some(1),
        "the name is taken"
    );
}

#[test]
fn people_and_what_they_may_and_what_is_recorded() {
    let server = Server::start();
    server.json(&["users", "create", "eve", "--role", "viewer"]);
    let eve = String::from_utf8(server.run(&[], &["users", "token", "eve"]).stdout).unwrap();
    let refused = server.run(
        &[("CEDARGATE_TOKEN", eve.trim())],
        &["agents", "create", "other"],
    );
    assert_eq!(
        refused.status.code(),
        Some(3),
        "a viewer registers no agents"
    );

    let kinds: Vec<String> = server
        .json(&["audit", "list", "--limit", "1000"])
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        kinds.iter().any(|kind| kind == "agent_created"),
        "{kinds:?}"
    );
    assert_eq!(
        server
            .json(&["audit", "list", "--limit", "2"])
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        server.json(&["policy", "status"])["rejected"],
        serde_json::json!([])
    );
    assert_eq!(server.json(&["approvals", "list"]), serde_json::json!([]));
    assert_eq!(server.json(&["grants", "list"]), serde_json::json!([]));
}

/// What the pages can, scripts can.
#[tokio::test(flavor = "multi_thread")]
async fn the_pages_actions_from_the_command_line() {
    let server = Server::start();
    server.json(&["agents", "create", "bot", "--allow", "github"]);
    server.json(&["agents", "create", "other"]);
    // One of a list at a time, and the rest stays.
    let changed = server.json(&["agents", "allow", "bot", "coolify"]);
    assert_eq!(
        changed["allowed_mcps"],
        serde_json::json!(["coolify", "github"])
    );
    let changed = server.json(&["agents", "disallow", "bot", "coolify"]);
    assert_eq!(changed["allowed_mcps"], serde_json::json!(["github"]));
    let changed = server.json(&["agents", "role", "add", "bot", "deployer"]);
    assert_eq!(changed["roles"], serde_json::json!(["deployer"]));
    let changed = server.json(&["agents", "role", "remove", "bot", "deployer"]);
    assert_eq!(changed["roles"], serde_json::json!([]));
    let changed = server.json(&["agents", "team", "add", "bot", "platform"]);
    assert_eq!(changed["teams"], serde_json::json!(["platform"]));
    let changed = server.json(&["agents", "team", "remove", "bot", "platform"]);
    assert_eq!(changed["teams"], serde_json::json!([]));

    for agent in ["bot", "other"] {
        let (status, _) = execute(&server.gateway, agent, "/mcp-coolify servers list").await;
        assert_eq!(status, 403);
    }
    let of = |agent: &str| server.json(&["approvals", "list", "--agent", agent]);
    let mine = of("bot");
    assert_eq!(mine.as_array().unwrap().len(), 1, "{mine}");
    assert_eq!(mine[0]["agent_name"], "bot");
    let id = mine[0]["id"].as_str().unwrap();
    server.json(&["approvals", "reject", id]);
    assert_eq!(of("bot"), serde_json::json!([]));
    let all = server.json(&["approvals", "list", "--all", "--agent", "bot"]);
    assert_eq!(all[0]["status"], "rejected");
    let nobody = server.run(&[], &["approvals", "list", "--agent", "nobody"]);
    assert_eq!(nobody.status.code(), Some(4));

    // The trail: searched, exported, verified.
    let rejected = server.json(&["audit", "list", "--kind", "rejected", "--user", "admin"]);
    assert_eq!(rejected.as_array().unwrap().len(), 1, "{rejected}");
    let last = server.json(&["audit", "list", "--limit", "2"]);
    assert!(last[0]["id"].as_i64() < last[1]["id"].as_i64(), "{last}");
    assert_eq!(
        server.json(&["audit", "list", "--text", "nothing is called so"]),
        serde_json::json!([])
    );
    let exported = server.run(&[], &["audit", "export", "--agent", "bot"]);
    let exported = String::from_utf8(exported.stdout).unwrap();
    assert!(exported.lines().count() > 3, "{exported}");
    for line in exported.lines() {
        let entry: Value = serde_json::from_str(line).unwrap();
        assert_eq!(entry["agent"], mine[0]["agent"], "{entry}");
    }
    let verified = server.json(&["audit", "verify-stored"]);
    assert!(verified[0]["broken"].is_null(), "{verified}");
    assert_eq!(verified[0]["verified"], verified[0]["stored"]);

    let overview = server.json(&["overview", "--range", "24h"]);
    assert_eq!(overview["range"], "24h");
    assert!(overview["total"].is_object());
    assert_eq!(server.json(&["budgets"]), serde_json::json!([]));
    assert_eq!(
        server.json(&["budgets", "--agent", "bot"]),
        serde_json::json!([])
    );
    assert_eq!(
        server.json(&["budgets", "--service", "coolify"]),
        serde_json::json!([])
    );
    let live = server.json(&["services", "list", "--live"]);
    assert!(live.to_string().contains("coolify"), "{live}");
    let shown = server.json(&["services", "show", "coolify", "--live"]);
    assert!(shown["gateways"][0]["gateway"].is_string(), "{shown}");

    let versions = server.json(&["policy", "versions"]);
    assert_eq!(versions[0]["active"], true, "{versions}");
    let active = server.json(&["policy", "show", "active"]);
    assert_eq!(active["version"], versions[0]["version"]);
    let version = active["version"].as_str().unwrap();
    let text = server.run(&[], &["policy", "show", &version[..12]]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.contains("permit") && text.contains("--- schema"),
        "{text}"
    );

    let made = server.json(&[
        "tokens",
        "create",
        "--me",
        "--label",
        "own",
        "--expires-in",
        "1d",
    ]);
    let token = made["token"].as_str().unwrap();
    let whoami = server.run(
        &[("CEDARGATE_TOKEN", token)],
        &["users", "whoami", "--json"],
    );
    assert_eq!(whoami.status.code(), Some(0));
    let listed = server.json(&["tokens", "list", "--me"]);
    assert!(listed.to_string().contains("own") && !listed.to_string().contains(token));
    server.json(&["tokens", "revoke", "--me", made["id"].as_str().unwrap()]);
    let gone = server.run(&[("CEDARGATE_TOKEN", token)], &["users", "whoami"]);
    assert_eq!(gone.status.code(), Some(3));
}

#[test]
fn hostile_text_reaches_no_terminal() {
    let server = Server::start();
    // What the server lets in, and what it refuses and says so.
    server.json(&[
        "users",
        "create",
        "mallory",
        "--name",
        "Mal\u{202e}lory\u{200b}",
    ]);
    let refused = server.run(
        &[],
        &[
            "users",
            "create",
            "eve",
            "--name",
            "Eve\u{1b}]0;owned\u{7}\u{9b}2J",
        ],
    );
    assert!(!refused.status.success());
    let mut texts = vec![String::from_utf8(refused.stderr).unwrap()];
    for arguments in [
        &["users", "list"][..],
        &["users", "list", "--json"],
        &["audit", "list"],
        &["audit", "list", "--json"],
    ] {
        texts.push(String::from_utf8(server.run(&[], arguments).stdout).unwrap());
    }
    for text in texts {
        assert!(!text.is_empty());
        let hostile = ['\u{1b}', '\u{7}', '\u{9b}', '\u{202e}', '\u{200b}'];
        assert!(!text.contains(hostile), "{text:?}");
    }
    let users = server.json(&["users", "list"]);
    assert!(
        users
            .as_array()
            .unwrap()
            .iter()
            .any(|user| user["id"] == "mallory")
    );
}

#[test]
fn a_journal_that_was_touched_does_not_verify() {
    let server = Server::start();
    let (_, _, folder) = server.end();
    let verify = || {
        Command::new(env!("CARGO_BIN_EXE_cedargate"))
            .current_dir(folder.path())
            .env_clear()
            .args(["audit", "verify", "--json"])
            .output()
            .unwrap()
    };
    let output = verify();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &value["valid"]),
        (Some(0), &Value::Bool(true)),
        "{value}"
    );
    assert!(value["lines"].as_u64().unwrap() > 0, "a start is recorded");

    let journal = folder.path().join("data/journal");
    let file = std::fs::read_dir(&journal)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"hash\"")))
        .unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replacen("start", "stark", 1)).unwrap();
    let output = verify();
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (output.status.code(), &value["valid"]),
        (Some(1), &Value::Bool(false))
    );
}

/// What the gateway answers to a command of the agent's.
async fn execute(gateway: &str, agent: &str, command: &str) -> (u16, Value) {
    let response = reqwest::Client::builder()
        .no_proxy()
        .build()
        .unwrap()
        .post(format!("{gateway}/execute"))
        .header("X-Agent-Id", agent)
        .json(&serde_json::json!({"command": command}))
        .send()
        .await
        .unwrap();
    (response.status().as_u16(), response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_let_an_agent_stop_something_once() {
    const STOP: &str = "/mcp-coolify applications stop sampleapp000000000000001";
    let sample = SampleCoolify::start("a-token").await.unwrap();
    let variables = [
        ("COOLIFY_API_URL", sample.url()),
        ("COOLIFY_API_TOKEN", "a-token".to_owned()),
    ];
    let variables: Vec<(&str, &str)> = variables
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let server = Server::start_in(tempfile::tempdir().unwrap(), &variables);
    server.json(&["agents", "create", "bot"]);
    server.json(&["users", "create", "dan", "--role", "approver"]);
    let dan = String::from_utf8(server.run(&[], &["users", "token", "dan"]).stdout).unwrap();

    let (status, refusal) = execute(&server.gateway, "bot", STOP).await;
    assert_eq!(status, 403, "{refusal}");
    let id = refusal["error"]["data"]["request_id"].as_str().unwrap();
    assert_eq!(server.json(&["approvals", "list"])[0]["id"], id);
    let shown = server.json(&["approvals", "show", id]);
    assert_eq!(
        (shown["approvals_needed"].as_u64(), shown["risk"].as_str()),
        (Some(2), Some("destroy")),
        "{shown}"
    );

    let once = [
        "approvals",
        "approve",
        id,
        "--reach",
        "once",
        "--for",
        "15m",
        "--reason",
        "release",
    ];
    let unproved = server.run(&[], &once);
    let error = String::from_utf8_lossy(&unproved.stderr).into_owned();
    assert!(
        !unproved.status.success() && error.contains("second factor"),
        "{error}"
    );
    server.enrol(None);
    server.enrol(Some(dan.trim()));
    assert_eq!(
        server.json(&["users", "show", "dan"])["second_factor"],
        true
    );
    assert_eq!(server.json(&once)["status"], "pending");
    assert_ne!(
        server.run(&[], &once).status.code(),
        Some(0),
        "one person counts once"
    );
    let output = server.run(
        &[("CEDARGATE_TOKEN", dan.trim())],
        &["approvals", "approve", id],
    );
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(server.json(&["approvals", "list"]), serde_json::json!([]));
    let grant = server.json(&["grants", "list"])[0].clone();
    assert_eq!(
        (&grant["single_use"], &grant["agent_name"]),
        (&Value::Bool(true), &serde_json::json!("bot"))
    );

    assert_eq!(sample.count(), 0, "nothing was sent so far");
    let (status, answer) = execute(&server.gateway, "bot", STOP).await;
    assert_eq!(status, 200, "{answer}");
    let (status, _) = execute(&server.gateway, "bot", STOP).await;
    assert_eq!((status, sample.count()), (403, 1), "once is once");
    assert_eq!(
        server.json(&["grants", "list", "--all"])[0]["state"],
        "spent"
    );

    let pending = server.json(&["approvals", "list"]);
    let id = pending[0]["id"].as_str().unwrap();
    assert_eq!(
        server.json(&["approvals", "reject", id, "--reason", "not today"])["status"],
        "rejected"
    );
    assert_eq!(
        server.run(&[], &["approvals", "approve", id]).status.code(),
        Some(1),
        "decided is decided"
    );
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story of one server")]
async fn live_agents_are_explained_and_recorded_calls_decided_by_other_policies() {
    const RESTART: &str = "/mcp-coolify applications restart sampleapp000000000000001";
    let sample = SampleCoolify::start("a-token").await.unwrap();
    let url = sample.url();
    let variables = [
        ("COOLIFY_API_URL", url.as_str()),
        ("COOLIFY_API_TOKEN", "a-token"),
    ];
    let server = Server::start_in(tempfile::tempdir().unwrap(), &variables);
    server.json(&["agents", "create", "bot", "--allow", "coolify"]);
    server.json(&["agents", "create", "other"]);
    for _ in 0..3 {
        let (status, answer) = execute(&server.gateway, "bot", RESTART).await;
        assert_eq!(status, 200, "{answer}");
    }
    let (status, _) = execute(&server.gateway, "other", RESTART).await;
    assert_eq!(status, 403);

    let explain = |agent: &str, more: &[&str]| {
        let arguments = [
            "policy", "explain", "--live", "--agent", agent, "--call", RESTART,
        ];
        server.json(&[&arguments[..], more].concat())
    };
    let bot = explain("bot", &[]);
    assert_eq!(bot["answer"]["verdict"], "permit", "{bot}");
    assert_eq!(bot["answer"]["policies"][0], "standing.allowed-services");
    assert_eq!(explain("other", &[])["answer"]["verdict"], "escalate");
    let granted = explain("other", &["--grant", "{call: this, by: [dan], for: 1h}"]);
    assert!(granted["answer"]["grant"].is_string(), "{granted}");
    let unknown = server.run(
        &[],
        &[
            "policy", "explain", "--live", "--agent", "nobody", "--call", RESTART,
        ],
    );
    assert_eq!(unknown.status.code(), Some(4));

    // The policies in force, and those that would take the standing access away.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let after = server.folder.path().join("after");
    std::fs::create_dir(&after).unwrap();
    std::fs::copy(
        root.join("schema.cedarschema"),
        after.join("schema.cedarschema"),
    )
    .unwrap();
    for entry in std::fs::read_dir(root.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            std::fs::copy(&path, after.join(path.file_name().unwrap())).unwrap();
        }
    }
    let standing = after.join("standing.cedar");
    let text = std::fs::read_to_string(&standing).unwrap();
    let text = text.replace("principal.trust >= 1", "principal.trust >= 9");
    std::fs::write(&standing, text).unwrap();

    let after = after.to_str().unwrap();
    let recorded = server.json(&[
        "policy",
        "diff",
        "active",
        after,
        "--journal",
        "data/journal",
    ]);
    let calls = &recorded["recorded"];
    assert_eq!(
        (&calls["calls"], &calls["without"]),
        (&4.into(), &serde_json::json!({})),
        "{recorded}"
    );
    let changes = calls["changes"].as_array().unwrap();
    assert_eq!(changes.len(), 3, "{recorded}");
    for change in changes {
        assert_eq!(
            (
                &change["agent"],
                &change["then"],
                &change["before"]["verdict"],
                &change["after"]["verdict"]
            ),
            (
                &"bot".into(),
                &"permit".into(),
                &"permit".into(),
                &"escalate".into()
            ),
            "{change}"
        );
    }
    let version = recorded["before"]["version"].as_str().unwrap();
    let same = server.json(&[
        "policy",
        "diff",
        "active",
        &version[..12],
        "--journal",
        "data/journal",
    ]);
    assert_eq!(same["recorded"]["changes"], serde_json::json!([]));
    // The trail has the lines once they are shipped, each once.
    let mut shipped = false;
    for _ in 0..500 {
        let audit = server.json(&[
            "policy",
            "diff",
            "active",
            after,
            "--audit",
            "--journal",
            "data/journal",
        ]);
        assert_eq!(audit["recorded"]["calls"], 4, "{audit}");
        let output = server.run(
            &[],
            &["policy", "diff", "active", after, "--audit", "--json"],
        );
        let Ok(value) = serde_json::from_slice::<Value>(&output.stdout) else {
            continue;
        };
        if value["recorded"]["calls"] == 4 {
            assert_eq!(value["recorded"]["changes"].as_array().unwrap().len(), 3);
            shipped = true;
            break;
        }
    }
    assert!(shipped, "the orchestrator's trail never had the calls");
    let none = server.run(&[], &["policy", "diff", "active", "shadow", "--audit"]);
    assert_eq!(none.status.code(), Some(4));
}

#[test]
fn people_are_managed_from_the_command_line() {
    let server = Server::start();
    server.json(&["users", "create", "dan", "--role", "viewer"]);
    let changed = server.json(&[
        "users", "change", "dan", "--name", "Dan", "--role", "approver", "--team", "web",
    ]);
    assert_eq!(
        (&changed["name"], &changed["roles"], &changed["teams"]),
        (
            &serde_json::json!("Dan"),
            &serde_json::json!(["approver"]),
            &serde_json::json!(["web"])
        )
    );
    let changed = server.json(&["users", "change", "dan", "--team", ""]);
    assert_eq!(changed["teams"], serde_json::json!([]));
    assert_eq!(
        changed["roles"],
        serde_json::json!(["approver"]),
        "as it was"
    );

    let create = ["users", "tokens", "create", "dan", "--label", "laptop"];
    let token = String::from_utf8(server.run(&[], &create).stdout).unwrap();
    let as_dan = [("CEDARGATE_TOKEN", token.trim())];
    assert!(server.run(&as_dan, &["users", "whoami"]).status.success());
    let tokens = server.json(&["users", "tokens", "list", "dan"]);
    assert_eq!(tokens[0]["label"], "laptop");
    assert!(tokens[0]["last_used"].is_string(), "{tokens}");
    assert!(!tokens.to_string().contains(token.trim()));
    assert_eq!(server.json(&["tokens", "list", "--user", "dan"]), tokens);
    assert_eq!(
        server.json(&["users", "sessions", "dan"]),
        serde_json::json!([])
    );
    let other = String::from_utf8(server.run(&[], &create).stdout).unwrap();
    let id = tokens[0]["id"].as_str().unwrap();
    server.json(&["users", "tokens", "revoke", "dan", id]);
    assert!(!server.run(&as_dan, &["users", "whoami"]).status.success());

    let as_dan = [("CEDARGATE_TOKEN", other.trim())];
    assert!(server.run(&as_dan, &["users", "whoami"]).status.success());
    assert_eq!(
        server.json(&["users", "deactivate", "dan"])["active"],
        false
    );
    assert!(!server.run(&as_dan, &["users", "whoami"]).status.success());
    assert_eq!(server.json(&["users", "activate", "dan"])["active"], true);
    assert!(!server.run(&as_dan, &["users", "whoami"]).status.success());
    let last = server.run(&[], &["users", "deactivate", "admin"]);
    let error = String::from_utf8_lossy(&last.stderr).into_owned();
    assert!(
        !last.status.success() && error.contains("last active user"),
        "{error}"
    );
    // Without a line on standard input there is no code.
    let none = server.run(&[], &["users", "step-up"]);
    assert!(!none.status.success());
}
