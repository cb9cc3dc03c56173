//! Both planes, running, and how a journey talks to them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use cedargate::sample_coolify::SampleCoolify;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{database, process::Process, websocket::Socket};

/// How the planes are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `cedargate serve` on SQLite.
    OneProcess,
    /// `cedargate gateway` and `cedargate orchestrator` on PostgreSQL.
    TwoProcesses,
}

/// The secret between the planes, in these tests.
pub const CONTROL_TOKEN: &str = "control-token-of-the-journeys-0123456789";

/// The credential that the sample Coolify wants; it must show up nowhere.
pub const COOLIFY_TOKEN: &str = "sample-credential-that-must-show-up-nowhere";

/// A running Cedargate with a sample Coolify behind it.
pub struct System {
    layout: Layout,
    data: TempDir,
    database: Option<String>,
    variables: Vec<(String, String)>,
    /// The upstream.
    pub coolify: SampleCoolify,
    /// Runs the data plane (and, in one process, the control plane).
    pub gateway: Process,
    /// Runs the control plane, where it is a process of its own.
    pub orchestrator: Option<Process>,
    /// `http://…` of the gateway.
    pub gateway_url: String,
    /// `http://…` of the metrics listener.
    pub metrics_url: String,
    /// `http://…` of the orchestrator.
    pub orchestrator_url: String,
    /// The first admin's token.
    pub admin: String,
    http: reqwest::Client,
}

/// A second orchestrator and gateway beside those of a [`System`].
pub struct Pair {
    /// `http://…` of the gateway.
    pub gateway_url: String,
    /// `http://…` of the orchestrator.
    pub orchestrator_url: String,
    _processes: (Process, Option<Process>),
    _data: TempDir,
}

/// A second gateway beside that of a [`System`], of the same orchestrator.
pub struct SecondGateway {
    /// `http://…` of it.
    pub url: String,
    _process: Process,
    _data: TempDir,
}

/// An answer: its status and its body, as JSON where it is JSON.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body.
    pub body: Value,
}

impl System {
    /// Starts everything.
    ///
    /// # Errors
    ///
    /// When something does not start; with its log.
    pub async fn start(layout: Layout) -> anyhow::Result<Self> {
        Self::start_with(layout, &[]).await
    }

    /// Starts everything, with further variables for both planes. `DATABASE_URL` among them
    /// is used as it is; else there is a database of its own.
    ///
    /// # Errors
    ///
    /// As [`System::start`].
    pub async fn start_with(layout: Layout, more: &[(&str, &str)]) -> anyhow::Result<Self> {
        let data = TempDir::with_prefix("cedargate-journey-")?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("tests/ lies in the repository")?;
        copy_folder(&repository.join("policies"), &data.path().join("policies"))?;
        std::fs::copy(
            repository.join("schema.cedarschema"),
            data.path().join("schema.cedarschema"),
        )?;
        let coolify = SampleCoolify::start(COOLIFY_TOKEN).await?;
        let mut variables: Vec<(String, String)> = [
            ("HOST", "127.0.0.1"),
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("BACKEND_HOST", "127.0.0.1"),
            ("BACKEND_PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("LOG_LEVEL", "info"),
            ("CEDARGATE_CONTROL_TOKEN", CONTROL_TOKEN),
            // Many journeys at once may share two cores: none fails for slowness alone.
            ("CEDARGATE_ORCHESTRATOR_TIMEOUT_MS", "20000"),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
        let path = |name: &str| data.path().join(name).display().to_string();
        variables.push(("CEDARGATE_POLICIES".to_owned(), path("policies")));
        variables.push(("CEDARGATE_SCHEMA".to_owned(), path("schema.cedarschema")));
        variables.push(("COOLIFY_API_URL".to_owned(), coolify.url()));
        variables.push(("COOLIFY_API_TOKEN".to_owned(), COOLIFY_TOKEN.to_owned()));
        for (name, value) in more {
            variables.retain(|(other, _)| other != name);
            variables.push(((*name).to_owned(), (*value).to_owned()));
        }
        let database = match layout {
            Layout::OneProcess => None,
            Layout::TwoProcesses => match more.iter().find(|(name, _)| *name == "DATABASE_URL") {
                Some((_, url)) => Some((*url).to_owned()),
                None => Some(database::create().await?),
            },
        };
        let (gateway, orchestrator, urls) =
            start_planes(layout, data.path(), database.as_deref(), &variables, None).await?;
        let admin = std::fs::read_to_string(control_data(layout, data.path()).join("admin-token"))
            .context("the first start writes the admin token")?
            .trim()
            .to_owned();
        let system = Self {
            layout,
            database,
            variables,
            coolify,
            gateway,
            orchestrator,
            gateway_url: urls.gateway,
            metrics_url: urls.metrics,
            orchestrator_url: urls.orchestrator,
            admin,
            http: reqwest::Client::builder()
                .no_proxy()
                .timeout(Duration::from_secs(90))
                .build()?,
            data,
        };
        Ok(system)
    }

    /// How the planes are laid out.
    #[must_use]
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The control plane's database.
    #[must_use]
    pub fn database_url(&self) -> String {
        let given = self
            .variables
            .iter()
            .find(|(name, _)| name == "DATABASE_URL")
            .map(|(_, url)| url.clone());
        self.database.clone().or(given).unwrap_or_else(|| {
            let file = control_data(self.layout, self.data.path()).join("cedargate.db");
            format!("sqlite://{}", file.display())
        })
    }

    /// The folder of policies that this system watches.
    #[must_use]
    pub fn policies(&self) -> PathBuf {
        self.data.path().join("policies")
    }

    /// Where the gateway keeps its journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        gateway_data(self.layout, self.data.path()).join("journal")
    }

    /// The process whose log has the orchestrator's lines.
    #[must_use]
    pub fn control_plane(&self) -> &Process {
        self.orchestrator.as_ref().unwrap_or(&self.gateway)
    }

    /// How much CPU time both planes have used so far.
    ///
    /// # Errors
    ///
    /// When one of them has ended.
    pub fn cpu_time(&self) -> anyhow::Result<Duration> {
        let mut used = self.gateway.cpu_time()?;
        if let Some(orchestrator) = &self.orchestrator {
            used += orchestrator.cpu_time()?;
        }
        Ok(used)
    }

    /// Kills the gateway as `kill -9` does, and starts it again on the same data.
    ///
    /// # Errors
    ///
    /// When it does not start again.
    pub async fn kill_and_restart_gateway(&mut self) -> anyhow::Result<()> {
        self.gateway.kill().await?;
        self.start_gateway_again().await
    }

    /// Kills what runs the control plane as `kill -9` does, and starts it again on the same
    /// data; in one process that is the gateway too.
    ///
    /// # Errors
    ///
    /// When it does not start again.
    pub async fn kill_and_restart_control_plane(&mut self) -> anyhow::Result<()> {
        if let Some(orchestrator) = &mut self.orchestrator {
            orchestrator.kill().await?;
            self.start_orchestrator_again().await?;
            return ready(&self.gateway_url).await;
        }
        self.kill_and_restart_gateway().await
    }

    /// Starts the gateway again after it ended.
    ///
    /// # Errors
    ///
    /// When it does not start again.
    pub async fn start_gateway_again(&mut self) -> anyhow::Result<()> {
        let running = self
            .orchestrator
            .as_ref()
            .map(|_| self.orchestrator_url.clone());
        let (gateway, _, urls) = start_planes(
            self.layout,
            self.data.path(),
            self.database.as_deref(),
            &self.variables,
            running.as_deref(),
        )
        .await?;
        self.gateway = gateway;
        self.gateway_url = urls.gateway;
        self.metrics_url = urls.metrics;
        self.orchestrator_url = urls.orchestrator;
        Ok(())
    }

    /// Starts the gateway again, while the orchestrator may be down: it listens, and is
    /// perhaps not ready.
    ///
    /// # Errors
    ///
    /// When it does not listen, or is not a process of its own.
    pub async fn start_gateway_alone(&mut self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.layout == Layout::TwoProcesses,
            "the gateway is not a process of its own"
        );
        let folder = gateway_data(self.layout, self.data.path());
        let mut variables = self.variables.clone();
        for (name, value) in [
            ("CEDARGATE_DATA", folder.display().to_string()),
            ("ORCHESTRATOR_URL", self.orchestrator_url.clone()),
        ] {
            variables.retain(|(other, _)| other != name);
            variables.push((name.to_owned(), value));
        }
        self.gateway = Process::start(&["gateway"], &variables)?;
        (self.gateway_url, self.metrics_url) = gateway_addresses(&self.gateway).await?;
        Ok(())
    }

    /// Where the gateway keeps its state.
    #[must_use]
    pub fn gateway_data(&self) -> PathBuf {
        gateway_data(self.layout, self.data.path())
    }

    /// Starts a second orchestrator on the same database, and a second gateway that knows
    /// only that one.
    ///
    /// # Errors
    ///
    /// When one of them does not start, or the planes share a process.
    pub async fn second_pair(&self) -> anyhow::Result<Pair> {
        let database = self
            .database
            .as_deref()
            .context("two orchestrators share a database server")?;
        let data = TempDir::with_prefix("cedargate-journey-")?;
        let (gateway, orchestrator, urls) = start_planes(
            Layout::TwoProcesses,
            data.path(),
            Some(database),
            &self.variables,
            None,
        )
        .await?;
        Ok(Pair {
            gateway_url: urls.gateway,
            orchestrator_url: urls.orchestrator,
            _processes: (gateway, orchestrator),
            _data: data,
        })
    }

    /// Starts a second gateway of this system's orchestrator.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn second_gateway(&self) -> anyhow::Result<SecondGateway> {
        let data = TempDir::with_prefix("cedargate-journey-")?;
        let mut variables = self.variables.clone();
        for (name, value) in [
            ("CEDARGATE_DATA", data.path().display().to_string()),
            ("ORCHESTRATOR_URL", self.orchestrator_url.clone()),
            ("CEDARGATE_GATEWAY_NAME", "second".to_owned()),
        ] {
            variables.push((name.to_owned(), value));
        }
        let process = Process::start(&["gateway"], &variables)?;
        let (url, _) = gateway_addresses(&process).await?;
        ready(&url).await?;
        Ok(SecondGateway {
            url,
            _process: process,
            _data: data,
        })
    }

    /// Starts the orchestrator again where it was, after it ended.
    ///
    /// # Errors
    ///
    /// When it does not start again, or never was a process of its own.
    pub async fn start_orchestrator_again(&mut self) -> anyhow::Result<()> {
        let database = self
            .database
            .as_deref()
            .context("the orchestrator is not a process of its own")?;
        let port = self
            .orchestrator_url
            .rsplit(':')
            .next()
            .context("a URL with a port")?;
        let mut variables = self.variables.clone();
        let folder = control_data(self.layout, self.data.path())
            .display()
            .to_string();
        for (name, value) in [
            ("BACKEND_PORT", port),
            ("DATABASE_URL", database),
            ("CEDARGATE_DATA", &folder),
        ] {
            variables.retain(|(other, _)| other != name);
            variables.push((name.to_owned(), value.to_owned()));
        }
        let process = Process::start(&["orchestrator"], &variables)?;
        orchestrator_address(&process).await?;
        self.orchestrator = Some(process);
        Ok(())
    }

    /// Sends a request and reads the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Reply> {
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await?;
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// A request to the gateway.
    pub fn gateway(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.gateway_url))
    }

    /// A request to the orchestrator, without a credential.
    pub fn orchestrator(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http
            .request(method, format!("{}{path}", self.orchestrator_url))
    }

    /// A request to the orchestrator as the first admin.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn admin(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Reply> {
        self.send(
            self.orchestrator(method, path)
                .bearer_auth(&self.admin)
                .json(&body),
        )
        .await
    }

    /// `GET` of the orchestrator as the first admin.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn admin_get(&self, path: &str) -> anyhow::Result<Reply> {
        self.send(
            self.orchestrator(Method::GET, path)
                .bearer_auth(&self.admin),
        )
        .await
    }

    /// Creates an agent and gives back its id.
    ///
    /// # Errors
    ///
    /// When the orchestrator refuses.
    pub async fn create_agent(&self, body: Value) -> anyhow::Result<String> {
        let reply = self.admin(Method::POST, "/api/agents", body).await?;
        anyhow::ensure!(reply.status.is_success(), "creating an agent: {reply:?}");
        Ok(reply.body["id"]
            .as_str()
            .context("an agent has an id")?
            .to_owned())
    }

    /// Creates a user with these roles and gives back a token of theirs.
    ///
    /// # Errors
    ///
    /// When the orchestrator refuses.
    pub async fn create_user(&self, id: &str, roles: &[&str]) -> anyhow::Result<String> {
        let reply = self
            .admin(
                Method::POST,
                "/api/users",
                json!({"id": id, "roles": roles}),
            )
            .await?;
        anyhow::ensure!(reply.status.is_success(), "creating a user: {reply:?}");
        let reply = self
            .admin(
                Method::POST,
                &format!("/api/users/{id}/tokens"),
                json!({"label": "journey"}),
            )
            .await?;
        Ok(reply.body["token"]
            .as_str()
            .with_context(|| format!("{reply:?}"))?
            .to_owned())
    }

    /// Enrols a device for whoever holds this token, which proves a second factor with it.
    ///
    /// # Errors
    ///
    /// When the orchestrator refuses.
    pub async fn enrol(&self, token: &str) -> anyhow::Result<()> {
        let post = |path: &str, body: Value| {
            let request = self.orchestrator(Method::POST, path);
            self.send(request.bearer_auth(token).json(&body))
        };
        let begun = post("/api/me/second-factor", json!({})).await?;
        let secret = begun.body["secret"]
            .as_str()
            .with_context(|| format!("{begun:?}"))?;
        #[allow(
            clippy::disallowed_methods,
            reason = "the planes of a journey read the clock of the machine, and so does a device"
        )]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let secret = totp_rs::Secret::try_from_base32(secret)
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let device = totp_rs::Builder::new()
            .with_secret(secret)
            .build()
            .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        let code = device.generate(now.as_secs()).to_string();
        let enrolled = post("/api/me/second-factor/enrol", json!({"code": code})).await?;
        anyhow::ensure!(enrolled.status.is_success(), "enrolling: {enrolled:?}");
        Ok(())
    }

    /// Makes a credential for an agent.
    ///
    /// # Errors
    ///
    /// When the orchestrator refuses.
    pub async fn create_agent_token(&self, agent: &str) -> anyhow::Result<String> {
        let reply = self
            .admin(
                Method::POST,
                &format!("/api/agents/{agent}/tokens"),
                json!({"label": "journey"}),
            )
            .await?;
        Ok(reply.body["token"]
            .as_str()
            .with_context(|| format!("{reply:?}"))?
            .to_owned())
    }

    /// Sends a slash command as this agent, as the checklist does.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn execute(&self, agent: &str, command: &str) -> anyhow::Result<Reply> {
        let request = self
            .gateway(Method::POST, "/execute")
            .header("X-Agent-Id", agent);
        self.send(request.json(&json!({"command": command}))).await
    }

    /// Approves a request as the first admin, by the checklist's call.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn respond(&self, request_id: &str, approved: bool) -> anyhow::Result<Reply> {
        let body =
            json!({"request_id": request_id, "approved": approved, "reason": "Testing approved"});
        self.admin(Method::POST, "/api/mcp/permission-respond", body)
            .await
    }

    /// Sends a command that policy refuses but people may lift, approves it, and gives
    /// back the request's id.
    ///
    /// # Errors
    ///
    /// When it is not escalated, or not approved.
    pub async fn approve_refused(&self, agent: &str, command: &str) -> anyhow::Result<String> {
        let refused = self.execute(agent, command).await?;
        let id = refused.body["error"]["data"]["request_id"]
            .as_str()
            .with_context(|| format!("{refused:?}"))?
            .to_owned();
        let reply = self.respond(&id, true).await?;
        anyhow::ensure!(reply.status.is_success(), "approving: {reply:?}");
        Ok(id)
    }

    /// A WebSocket as the first admin.
    ///
    /// # Errors
    ///
    /// When it does not open.
    pub async fn socket(&self, query: &str) -> anyhow::Result<Socket> {
        let bearer = format!("Bearer {}", self.admin);
        Socket::connect(&self.orchestrator_url, query, &[("authorization", &bearer)]).await
    }

    /// Runs a subcommand of the binary against this system, and gives back status and output.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn cli(&self, arguments: &[&str]) -> anyhow::Result<std::process::Output> {
        self.cli_as(&self.admin, arguments).await
    }

    /// As [`System::cli`], with the token of another person.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn cli_as(
        &self,
        token: &str,
        arguments: &[&str],
    ) -> anyhow::Result<std::process::Output> {
        Ok(tokio::process::Command::new(crate::process::binary()?)
            .args(arguments)
            .env_clear()
            .env("CEDARGATE_URL", &self.orchestrator_url)
            .env("CEDARGATE_TOKEN", token)
            .env("COOLIFY_API_URL", self.coolify.url())
            .env("COOLIFY_API_TOKEN", COOLIFY_TOKEN)
            .current_dir(self.data.path())
            .output()
            .await?)
    }
}

struct Urls {
    gateway: String,
    metrics: String,
    orchestrator: String,
}

fn gateway_data(layout: Layout, data: &Path) -> PathBuf {
    data.join(if layout == Layout::OneProcess {
        "both"
    } else {
        "gateway"
    })
}

fn control_data(layout: Layout, data: &Path) -> PathBuf {
    data.join(if layout == Layout::OneProcess {
        "both"
    } else {
        "orchestrator"
    })
}

async fn start_planes(
    layout: Layout,
    data: &Path,
    database: Option<&str>,
    variables: &[(String, String)],
    orchestrator_running: Option<&str>,
) -> anyhow::Result<(Process, Option<Process>, Urls)> {
    let with = |folder: PathBuf, more: &[(&str, &str)]| {
        let mut all = variables.to_vec();
        all.push(("CEDARGATE_DATA".to_owned(), folder.display().to_string()));
        all.extend(
            more.iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        );
        all
    };
    if layout == Layout::OneProcess {
        let process = Process::start(&["serve"], &with(gateway_data(layout, data), &[]))?;
        let orchestrator = orchestrator_address(&process).await?;
        let (gateway, metrics) = gateway_addresses(&process).await?;
        let urls = Urls {
            gateway,
            metrics,
            orchestrator,
        };
        ready(&urls.gateway).await?;
        return Ok((process, None, urls));
    }
    let (orchestrator, url) = if let Some(url) = orchestrator_running {
        (None, url.to_owned())
    } else {
        let database = database.context("two processes share a database")?;
        let process = Process::start(
            &["orchestrator"],
            &with(control_data(layout, data), &[("DATABASE_URL", database)]),
        )?;
        let url = orchestrator_address(&process).await?;
        (Some(process), url)
    };
    let gateway = Process::start(
        &["gateway"],
        &with(gateway_data(layout, data), &[("ORCHESTRATOR_URL", &url)]),
    )?;
    let (address, metrics) = gateway_addresses(&gateway).await?;
    let urls = Urls {
        gateway: address,
        metrics,
        orchestrator: url,
    };
    ready(&urls.gateway).await?;
    Ok((gateway, orchestrator, urls))
}

/// Where the gateway and its metrics listen, by its own word.
async fn gateway_addresses(process: &Process) -> anyhow::Result<(String, String)> {
    let line: Value = serde_json::from_str(&process.line(&["\"gateway listening\""]).await?)?;
    let address = |field: &str| {
        let text = line[field]
            .as_str()
            .with_context(|| format!("no {field} in {line}"))?;
        anyhow::Ok(format!("http://{}", text.parse::<SocketAddr>()?))
    };
    Ok((address("address")?, address("metrics")?))
}

/// Where the orchestrator listens, by its own word.
async fn orchestrator_address(process: &Process) -> anyhow::Result<String> {
    let line = process.line(&["orchestrator listening on "]).await?;
    let address = line
        .split(|letter: char| !letter.is_ascii_digit() && !matches!(letter, '.' | ':'))
        .find_map(|word| word.parse::<SocketAddr>().ok())
        .with_context(|| format!("`{line}` names no address"))?;
    Ok(format!("http://{address}"))
}

/// Waits until the gateway says that it is ready.
async fn ready(gateway: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    crate::soon("the gateway is ready", async {
        while !client
            .get(format!("{gateway}/ready"))
            .send()
            .await?
            .status()
            .is_success()
        {}
        anyhow::Ok(())
    })
    .await?
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
