//! Configuration: one flat list of settings, each from the highest place that sets it.
//!
//! From lowest to highest: built-in defaults, a TOML file, environment variables, flags.
//! Every setting is in [`SETTINGS`]; nothing else is read. Secrets are never written
//! into the file: the environment holds them, or names a file that does (`…_FILE`).

mod environment;
mod notifications;
mod oauth;
mod people;
mod secret;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use handlers::limits::Pace;
use secrecy::{ExposeSecret, SecretString};

use crate::limits_file::LimitsSource;

pub use environment::Environment;
pub(crate) use settings::distance;
pub use settings::{Origin, SETTINGS, Setting, Settings};
pub(crate) use value::http_url;

use self::value::{
    at_least_one, exact_origins, flag, gateway_name, hosts, level, log_format, millis, networks,
    origins, port, positive_millis, positive_seconds, seconds, text,
};

/// Why the configuration cannot be used. Holds no secret and no value of one.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration file `{}` cannot be read", .path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong.
    #[error("{}:{line}:{column}: {message}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
        /// What is wrong.
        message: String,
    },
    /// A setting's value is wrong.
    #[error("{origin}: {message}")]
    Value {
        /// Where it was set.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// Settings contradict each other, or one is missing.
    #[error("{0}")]
    Missing(String),
}

/// What the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Pretty,
}

/// What is logged, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`; of our own crates.
    pub level: String,
    /// Directives of `tracing`'s own kind, which win over `level`.
    pub directives: Option<String>,
    /// Absent: for people on a terminal, JSON elsewhere.
    pub format: Option<LogFormat>,
}

/// Which policy set the orchestrator reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPaths {
    /// The operator's own folder and schema.
    Own {
        /// The folder of `*.cedar`.
        policies: PathBuf,
        /// `schema.cedarschema`.
        schema: PathBuf,
    },
    /// The shipped set, written to the data folder when it is not there yet.
    Shipped,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where state is kept: the database of SQLite, the journal, the admin's token.
    pub data: PathBuf,
    /// What is logged.
    pub log: Log,
    /// Which policy set.
    pub policies: PolicyPaths,
    /// The folder of the operator's own services.
    pub services: Option<PathBuf>,
    /// Where limits come from, to read them again.
    pub limits: LimitsSource,
    /// What both planes know, to recognise each other.
    pub control_token: Option<SecretString>,
    /// Of the gateway.
    pub gateway: gateway::Config,
    /// Where a gateway that runs alone finds the orchestrator.
    pub orchestrator_url: Option<String>,
    /// How long the gateway waits for an answer of the orchestrator's.
    pub orchestrator_timeout: Duration,
    /// Where the orchestrator listens.
    pub orchestrator_listen: SocketAddr,
    /// `sqlite://…` or `postgres://…`; may hold a password.
    pub database_url: SecretString,
    /// Where people reach the orchestrator; absent: where it listens.
    pub public_url: Option<String>,
    /// Further origins of browsers.
    pub cors_origins: Vec<String>,
    /// How long a request waits for people.
    pub approval_lifetime: Duration,
    /// How long a rejected call must not be asked again.
    pub rejection_cool_down: Duration,
    /// How many pending requests one agent may have.
    pub open_limit: u32,
    /// How people are told of what waits for them.
    pub notifications: orchestrator::notifications::Settings,
    /// Proxies in front of the orchestrator that say from where people come.
    pub trusted_proxies: Vec<orchestrator::Network>,
    /// How people log in.
    pub people: orchestrator::people::Config,
}

impl Config {
    /// Checks what was set and makes a configuration of it. Opens nothing.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and where it was set.
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let data = settings
            .path("data")?
            .unwrap_or_else(|| PathBuf::from("./data"));
        let host = settings.required("gateway.host", value::host)?;
        let metrics_host = settings
            .optional("gateway.metrics_host", value::host)?
            .unwrap_or(host);
        let orchestrator_listen = SocketAddr::new(
            settings.required("orchestrator.host", value::host)?,
            settings.required("orchestrator.port", port)?,
        );
        let public_url = settings.optional("public_url", http_url)?;
        let orchestrator_url = settings.optional("gateway.orchestrator_url", http_url)?;
        let cors_origins = settings
            .optional("orchestrator.cors_origins", origins)?
            .unwrap_or_default();
        let database_url = match settings.secret("orchestrator.database_url_file")? {
            Some(url) => url,
            None => sqlite_url(&data.join("cedargate.db"))?.into(),
        };
        let control_token = settings.secret("control_token_file")?;
        if let Some(token) = &control_token
            && token.expose_secret().len() < MIN_CONTROL_TOKEN_CHARS
        {
            return Err(ConfigError::Missing(format!(
                "CEDARGATE_CONTROL_TOKEN is shorter than {MIN_CONTROL_TOKEN_CHARS} characters; \
                 make a good one with `cedargate tokens generate`"
            )));
        }
        let gateway_token = settings.secret("gateway.token_file")?;
        separate(control_token.as_ref(), gateway_token.as_ref())?;
        let limits = limits(settings)?;
        let gateway = gateway::Config {
            name: settings.required("gateway.name", gateway_name)?,
            listen: SocketAddr::new(host, settings.required("gateway.port", port)?),
            metrics: SocketAddr::new(
                metrics_host,
                settings.required("gateway.metrics_port", port)?,
            ),
            gateway_token,
            trust_agent_header: settings.required("gateway.trust_agent_header", flag)?,
            max_staleness: settings.required("gateway.max_staleness_ms", millis)?,
            session_idle: settings.required("gateway.session_idle_seconds", positive_seconds)?,
            max_body_bytes: settings.required("gateway.max_body_bytes", at_least_one)?,
            deadline: settings.required("gateway.deadline_ms", positive_millis)?,
            max_concurrent: settings.required("gateway.max_concurrent", at_least_one)?,
            journal: settings
                .path("gateway.journal")?
                .unwrap_or_else(|| data.join("journal")),
            last_known_good: data.join("gateway-policy-set.json"),
            last_known_zones: data.join("gateway-zones.json"),
            journal_file_bytes: settings.required("gateway.journal_file_bytes", at_least_one)?,
            limits: limits.load()?,
            approvals_url: public_url
                .clone()
                .or_else(|| orchestrator_url.clone())
                .unwrap_or_default(),
            mcp: gateway::McpSettings {
                origins: settings
                    .optional("gateway.mcp_origins", exact_origins)?
                    .unwrap_or_default(),
                hosts: settings
                    .optional("gateway.mcp_hosts", hosts)?
                    .unwrap_or_default(),
                hold: settings.required("gateway.mcp_hold_ms", millis)?,
                max_streams: settings.required("gateway.mcp_max_streams", at_least_one)?,
                oauth: oauth::read(settings)?,
                ..gateway::McpSettings::default()
            },
        };
        Ok(Self {
            log: Log {
                level: settings.required("log.level", level)?,
                directives: settings.optional("log.directives", text)?,
                format: settings.optional("log.format", log_format)?,
            },
            policies: policy_paths(settings)?,
            services: settings.services()?,
            limits,
            control_token,
            gateway,
            orchestrator_url,
            orchestrator_timeout: settings
                .required("gateway.orchestrator_timeout_ms", positive_millis)?,
            orchestrator_listen,
            database_url,
            public_url,
            cors_origins,
            approval_lifetime: settings
                .required("orchestrator.approval_lifetime_seconds", positive_seconds)?,
            rejection_cool_down: settings
                .required("orchestrator.rejection_cool_down_seconds", seconds)?,
            open_limit: settings.required("orchestrator.open_limit", at_least_one)?,
            notifications: notifications::read(settings)?,
            trusted_proxies: settings
                .optional("orchestrator.trusted_proxies", networks)?
                .unwrap_or_default(),
            people: people::read(settings)?,
            data,
        })
    }

    /// Where people reach an orchestrator that listens at `address`.
    #[must_use]
    pub fn public_url(&self, address: SocketAddr) -> String {
        self.public_url
            .clone()
            .unwrap_or_else(|| local_url(address))
    }

    /// What the orchestrator is told; `address` is where it listens.
    #[must_use]
    pub fn orchestrator(
        &self,
        address: SocketAddr,
        policies: PathBuf,
        schema: PathBuf,
        control_token: Option<SecretString>,
    ) -> orchestrator::Config {
        orchestrator::Config {
            control_token,
            cors_origins: self.cors_origins.clone(),
            schema,
            policies,
            public_url: self.public_url(address),
            approval_lifetime: self.approval_lifetime,
            rejection_cool_down: self.rejection_cool_down,
            open_limit: self.open_limit,
            notifications: self.notifications.clone(),
            trusted_proxies: self.trusted_proxies.clone(),
            people: self.people.clone(),
        }
    }
}

/// Where limits come from.
fn limits(settings: &Settings) -> Result<LimitsSource, ConfigError> {
    let count = settings.optional("gateway.rate_limit_max_requests", at_least_one)?;
    let window = settings.required("gateway.rate_limit_window_ms", |text| {
        positive_millis(text)
            .ok()
            .filter(|window| *window <= LONGEST_WINDOW)
            .ok_or_else(|| "expected milliseconds, from 1 to a day's".to_owned())
    })?;
    Ok(LimitsSource {
        file: settings.path("gateway.limits")?,
        each_agent: count.map(|calls| Pace {
            calls,
            window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
            burst: calls,
        }),
    })
}

/// Beyond it, a budget is what is meant.
const LONGEST_WINDOW: Duration = Duration::from_hours(24);

/// One credential that opened two doors could be taken from the lesser one.
fn separate(
    control: Option<&SecretString>,
    gateway: Option<&SecretString>,
) -> Result<(), ConfigError> {
    if let (Some(control), Some(gateway)) = (control, gateway)
        && control.expose_secret() == gateway.expose_secret()
    {
        return Err(ConfigError::Missing(
            "MCP_GATEWAY_TOKEN and CEDARGATE_CONTROL_TOKEN are the same: who may speak for agents \
             could speak for the gateway too; make another with `cedargate tokens generate`"
                .to_owned(),
        ));
    }
    for (name, token) in [
        ("CEDARGATE_CONTROL_TOKEN", control),
        ("MCP_GATEWAY_TOKEN", gateway),
    ] {
        let of_someone = token.is_some_and(|token| {
            let token = token.expose_secret();
            token.starts_with("cgt_") || token.starts_with("cgu_")
        });
        if of_someone {
            return Err(ConfigError::Missing(format!(
                "{name} is an agent's or a user's credential; make one of its own with `cedargate tokens generate`"
            )));
        }
    }
    Ok(())
}

/// Shorter control tokens can be guessed.
const MIN_CONTROL_TOKEN_CHARS: usize = 16;

/// The address of something on this machine that listens at `address`.
#[must_use]
pub fn local_url(address: SocketAddr) -> String {
    let ip = if address.ip().is_unspecified() {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        address.ip()
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}

/// `sqlite://` and the path, with what a URL would read differently percent-encoded.
fn sqlite_url(path: &Path) -> Result<String, ConfigError> {
    const IN_PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
        .add(b' ')
        .add(b'%')
        .add(b'?')
        .add(b'#');
    let path = path.to_str().ok_or_else(|| {
        ConfigError::Missing("the data folder's path is not valid UTF-8".to_owned())
    })?;
    Ok(format!(
        "sqlite://{}",
        percent_encoding::utf8_percent_encode(path, IN_PATH)
    ))
}

/// The operator's policies if named, else `./policies` and `./schema.cedarschema` if they
/// are there, else the shipped ones.
fn policy_paths(settings: &Settings) -> Result<PolicyPaths, ConfigError> {
    let policies = settings.path("policies")?;
    let schema = settings.path("schema")?;
    let beside = |policies: &Path| {
        policies
            .parent()
            .unwrap_or(Path::new(""))
            .join("schema.cedarschema")
    };
    Ok(match (policies, schema) {
        (Some(policies), Some(schema)) => PolicyPaths::Own { policies, schema },
        (Some(policies), None) => {
            let inside = policies.join("schema.cedarschema");
            let schema = if inside.exists() {
                inside
            } else {
                beside(&policies)
            };
            PolicyPaths::Own { policies, schema }
        }
        (None, Some(schema)) => PolicyPaths::Own {
            policies: PathBuf::from("./policies"),
            schema,
        },
        (None, None) => {
            let (policies, schema) = (
                PathBuf::from("./policies"),
                PathBuf::from("./schema.cedarschema"),
            );
            if policies.is_dir() && schema.is_file() {
                PolicyPaths::Own { policies, schema }
            } else {
                PolicyPaths::Shipped
            }
        }
    })
}
