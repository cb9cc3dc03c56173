//! Configuration: one flat list of settings, each from the highest place that sets it.
//!
//! From lowest to highest: built-in defaults, a TOML file, environment variables, flags.
//! Every setting is in [`SETTINGS`]; nothing else is read. Secrets are never written
//! into the file: the environment holds them, or names a file that does (`…_FILE`).

mod environment;
mod oauth;
mod people;
mod secret;
mod settings;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    time::Duration,
};

use handlers::limits::Pace;
use secrecy::{ExposeSecret, SecretString};

use crate::limits_file::LimitsSource;

pub use environment::Environment;
pub(crate) use settings::distance;
pub use settings::{Origin, SETTINGS, Setting, Settings};

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
    #[expect(
        clippy::too_many_lines,
        reason = "a line or two for each of many settings"
    )]
    pub fn from_settings(settings: &Settings) -> Result<Self, ConfigError> {
        let data = settings
            .path("data")?
            .unwrap_or_else(|| PathBuf::from("./data"));
        let host = settings.required("gateway.host", host)?;
        let metrics_host = settings
            .optional("gateway.metrics_host", self::host)?
            .unwrap_or(host);
        let orchestrator_listen = SocketAddr::new(
            settings.required("orchestrator.host", self::host)?,
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
            journal_file_bytes: settings.required("gateway.journal_file_bytes", |text| {
                at_least_one(text).map(|n| n as u64)
            })?,
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
                directives: settings.optional("log.directives", |text| Ok(text.to_owned()))?,
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
            open_limit: settings.required("orchestrator.open_limit", |text| {
                text.parse()
                    .ok()
                    .filter(|&limit| limit > 0)
                    .ok_or("expected a whole number from 1".to_owned())
            })?,
            notifications: notifications(settings)?,
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
    let count = settings.optional("gateway.rate_limit_max_requests", |text| {
        text.parse::<u32>()
            .ok()
            .filter(|&count| count > 0)
            .ok_or_else(|| "expected a whole number from 1".to_owned())
    })?;
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

/// A shorter key could be guessed.
const MIN_SECRETS_KEY_CHARS: usize = 32;

/// No certificate authority's file is larger.
const MAX_AUTHORITY_BYTES: u64 = 1024 * 1024;

fn notifications(
    settings: &Settings,
) -> Result<orchestrator::notifications::Settings, ConfigError> {
    let secrets_key = settings.secret("orchestrator.secrets_key_file")?;
    if let Some(key) = &secrets_key
        && key.expose_secret().len() < MIN_SECRETS_KEY_CHARS
    {
        return Err(ConfigError::Missing(format!(
            "CEDARGATE_SECRETS_KEY is shorter than {MIN_SECRETS_KEY_CHARS} characters; \
             make a good one with `cedargate tokens generate`"
        )));
    }
    let from = settings.optional("orchestrator.smtp_from", |text| Ok(text.to_owned()))?;
    let authority = settings
        .path("orchestrator.smtp_ca_file")?
        .map(|path| {
            let wrong = |why: String| {
                ConfigError::Missing(format!(
                    "CEDARGATE_SMTP_CA_FILE: `{}` cannot be read: {why}",
                    path.display()
                ))
            };
            let size = std::fs::metadata(&path).map_err(|error| wrong(error.to_string()))?;
            if size.len() > MAX_AUTHORITY_BYTES {
                return Err(wrong("it is larger than 1 MiB".to_owned()));
            }
            std::fs::read(&path).map_err(|error| wrong(error.to_string()))
        })
        .transpose()?;
    let smtp = match (settings.secret("orchestrator.smtp_url_file")?, from) {
        (None, _) => None,
        (Some(_), None) => {
            return Err(ConfigError::Missing(
                "CEDARGATE_SMTP_FROM is not set: whom is e-mail from?".to_owned(),
            ));
        }
        (Some(url), Some(from)) => Some(
            orchestrator::notifications::Smtp::parse(&url, &from, authority).map_err(|error| {
                use orchestrator::notifications::SmtpError;
                let name = match error {
                    SmtpError::From => "CEDARGATE_SMTP_FROM",
                    SmtpError::Address | SmtpError::LoginInTheClear => "CEDARGATE_SMTP_URL",
                };
                ConfigError::Missing(format!("{name}: {error}"))
            })?,
        ),
    };
    let private_hosts = settings
        .optional("orchestrator.notification_private_hosts", |text| {
            Ok(text
                .split(',')
                .map(str::trim)
                .filter(|host| !host.is_empty())
                .map(str::to_owned)
                .collect())
        })?
        .unwrap_or_default();
    Ok(orchestrator::notifications::Settings {
        secrets_key,
        smtp,
        private_hosts,
    })
}

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

// How values are read. Each says what it expected; none repeats the value.

fn host(text: &str) -> Result<IpAddr, String> {
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
    }
    (text, 0_u16)
        .to_socket_addrs()
        .ok()
        .and_then(|mut addresses| addresses.next())
        .map(|address| address.ip())
        .ok_or_else(|| {
            "expected an address of this machine, such as 127.0.0.1 or 0.0.0.0".to_owned()
        })
}

fn port(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| "expected a port, 0 to 65535 (0 takes a free one)".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|&number| number > 0)
        .ok_or_else(|| "expected a whole number from 1".to_owned())
}

fn millis(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_millis)
        .map_err(|_| "expected a whole number of milliseconds".to_owned())
}

fn positive_millis(text: &str) -> Result<Duration, String> {
    millis(text)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected milliseconds, at least 1".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse()
        .map(Duration::from_secs)
        .map_err(|_| "expected a whole number of seconds".to_owned())
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    seconds(text)
        .ok()
        .filter(|span| !span.is_zero())
        .ok_or_else(|| "expected seconds, at least 1".to_owned())
}

fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("expected true or false".to_owned()),
    }
}

fn gateway_name(text: &str) -> Result<String, String> {
    let valid = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if valid {
        Ok(text.to_owned())
    } else {
        Err("expected letters, digits, `-`, `_`, `.`; at most 64".to_owned())
    }
}

fn level(text: &str) -> Result<String, String> {
    let text = text.to_ascii_lowercase();
    if ["error", "warn", "info", "debug", "trace"].contains(&text.as_str()) {
        Ok(text)
    } else {
        Err("expected error, warn, info, debug or trace".to_owned())
    }
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text.to_ascii_lowercase().as_str() {
        "json" => Ok(LogFormat::Json),
        "pretty" => Ok(LogFormat::Pretty),
        _ => Err("expected json or pretty".to_owned()),
    }
}

/// An address of a server, without the trailing slash.
pub(crate) fn http_url(text: &str) -> Result<String, String> {
    let expected = || "expected an http or https URL, such as http://127.0.0.1:9403".to_owned();
    let uri: http::Uri = text.parse().map_err(|_| expected())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"))
        && uri.host().is_some_and(|host| !host.is_empty());
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err("a URL must hold no user or password".to_owned());
    }
    if known && uri.query().is_none() {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(expected())
    }
}

fn networks(text: &str) -> Result<Vec<orchestrator::Network>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|network| !network.is_empty())
        .map(|network| {
            network.parse().map_err(|_| {
                "expected addresses or networks such as 10.0.0.0/8, separated by commas".to_owned()
            })
        })
        .collect()
}

fn origins(text: &str) -> Result<Vec<String>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|origin| !origin.is_empty())
        .map(|origin| {
            if origin == "*" {
                return Ok(origin.to_owned());
            }
            let url = http_url(origin).ok();
            url.filter(|url| {
                url.split_once("://")
                    .is_some_and(|(_, rest)| !rest.contains('/'))
            })
            .ok_or_else(|| {
                "expected origins such as https://admin.example.com, separated by commas; or `*`"
                    .to_owned()
            })
        })
        .collect()
}

/// Origins without a wildcard: whatever page a person visits could use it.
fn exact_origins(text: &str) -> Result<Vec<String>, String> {
    let origins = origins(text)?;
    if origins.iter().any(|origin| origin == "*") {
        return Err("`*` would let every page that a person visits use the gateway".to_owned());
    }
    Ok(origins)
}

/// Names as a `Host` header has them.
fn hosts(text: &str) -> Result<Vec<String>, String> {
    let word = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b':' | b'[' | b']' | b'_')
    };
    text.split(',')
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .map(|host| {
            if host.bytes().all(word) {
                Ok(host.to_owned())
            } else {
                Err("expected names such as gateway.example.com, separated by commas".to_owned())
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn load(
        file: &str,
        variables: &[(&str, &str)],
        flags: &[(&'static str, &str)],
    ) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cedargate.toml");
        std::fs::write(&path, file).unwrap();
        let environment = Environment::of(variables.iter().copied());
        let flags: BTreeMap<&'static str, String> = flags
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()))
            .collect();
        Config::from_settings(&Settings::read(Some(&path), environment, flags)?)
    }

    fn problem(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
        load(file, variables, flags).unwrap_err().to_string()
    }

    #[test]
    fn each_place_wins_over_the_one_below() {
        let file = "[gateway]\nport = 1_001\nname = \"from-file\"\n[orchestrator]\nport = 1002\ncors_origins = [\"https://a.example\", \"https://b.example:8443/\"]\n";
        let config = load(
            file,
            &[("PORT", "2001"), ("LOG_LEVEL", "DEBUG")],
            &[("gateway.port", "3001")],
        )
        .unwrap();
        assert_eq!(config.gateway.listen.port(), 3001, "flag");
        assert_eq!(config.log.level, "debug", "environment");
        assert_eq!(config.gateway.name, "from-file", "file");
        assert_eq!(config.orchestrator_listen.port(), 1002, "file");
        assert_eq!(config.gateway.metrics.port(), 9090, "default");
        assert_eq!(
            config.cors_origins,
            ["https://a.example", "https://b.example:8443"]
        );
        let config = load(
            file,
            &[("PORT", "2001"), ("CORS_ORIGINS", "https://c.example")],
            &[],
        )
        .unwrap();
        assert_eq!(config.gateway.listen.port(), 2001);
        assert_eq!(
            config.cors_origins,
            ["https://c.example"],
            "not added to the file's"
        );
        assert_eq!(
            load(file, &[("PORT", "")], &[])
                .unwrap()
                .gateway
                .listen
                .port(),
            1001,
            "empty is unset"
        );
    }

    #[test]
    fn the_defaults_are_the_documented_ones() {
        let config = load("", &[], &[]).unwrap();
        assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8100");
        assert_eq!(config.gateway.metrics.to_string(), "127.0.0.1:9090");
        assert_eq!(config.orchestrator_listen.to_string(), "127.0.0.1:9403");
        assert_eq!(config.gateway.max_staleness, Duration::from_secs(5));
        assert_eq!(config.gateway.max_body_bytes, 1024 * 1024);
        assert_eq!(config.approval_lifetime, Duration::from_hours(24));
        assert!(!config.gateway.trust_agent_header);
        assert!(config.database_url.expose_secret().starts_with("sqlite://"));
        assert_eq!(
            config.public_url(config.orchestrator_listen),
            "http://127.0.0.1:9403"
        );
    }

    #[test]
    fn metrics_follow_the_gateways_host_unless_told_otherwise() {
        let variables = [("HOST", "0.0.0.0"), ("MCP_GATEWAY_TOKEN", "a-token")];
        assert_eq!(
            load("", &variables, &[])
                .unwrap()
                .gateway
                .metrics
                .to_string(),
            "0.0.0.0:9090"
        );
        let config = load(
            "",
            &[("HOST", "0.0.0.0"), ("METRICS_HOST", "127.0.0.1")],
            &[],
        )
        .unwrap();
        assert_eq!(config.gateway.metrics.to_string(), "127.0.0.1:9090");
    }

    #[test]
    fn unknown_keys_are_refused_with_their_place_and_the_nearest_key() {
        let message = problem("[gateway]\nname = \"x\"\nprot = 8100\n", &[], &[]);
        assert!(
            message.contains("cedargate.toml:3:1: ") && message.contains("`gateway.prot`"),
            "{message}"
        );
        assert!(message.contains("`gateway.port`"), "{message}");
        let message = problem("[gatway]\nport = 1\n", &[], &[]);
        assert!(message.contains("`gateway"), "{message}");
        let message = problem("polices = \"x\"", &[], &[]);
        assert!(
            message.contains(":1:1: ") && message.contains("`policies`"),
            "{message}"
        );
        let message = problem("x = [", &[], &[]);
        assert!(message.contains("cedargate.toml:1:"), "{message}");
    }

    #[test]
    fn secrets_do_not_belong_into_the_file_and_are_never_repeated() {
        for key in [
            "gateway.token",
            "control_token",
            "orchestrator.database_url",
            "coolify_api_token",
        ] {
            let message = problem(&format!("{key} = \"hunter2\""), &[], &[]);
            assert!(
                message.contains("environment") && !message.contains("hunter2"),
                "{message}"
            );
        }
        let message = problem("gateway.port = \"hunter2\"", &[], &[]);
        assert!(
            message.contains(":1:16: ") && !message.contains("hunter2"),
            "{message}"
        );
        let message = problem(
            "gateway.token_file = [\"hunter2\"]\nx = \"hunter2",
            &[],
            &[],
        );
        assert!(!message.contains("hunter2"), "{message}");
        let message = problem("", &[("CEDARGATE_CONTROL_TOKEN", "hunter2")], &[]);
        assert!(
            message.contains("tokens generate") && !message.contains("hunter2"),
            "{message}"
        );
        let config = load(
            "",
            &[
                ("DATABASE_URL", "postgres://u:hunter2@h/d"),
                ("MCP_GATEWAY_TOKEN", "hunter2"),
            ],
            &[],
        )
        .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }

    #[test]
    fn one_credential_does_not_open_two_doors() {
        let token = "0123456789abcdef0123";
        let message = problem(
            "",
            &[
                ("CEDARGATE_CONTROL_TOKEN", token),
                ("MCP_GATEWAY_TOKEN", token),
            ],
            &[],
        );
        assert!(
            message.contains("are the same") && !message.contains(token),
            "{message}"
        );
        for name in ["CEDARGATE_CONTROL_TOKEN", "MCP_GATEWAY_TOKEN"] {
            for token in ["cgu_0123456789abcdef0123", "cgt_0123456789abcdef0123"] {
                let message = problem("", &[(name, token)], &[]);
                assert!(
                    message.starts_with(name) && !message.contains(token),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn a_secret_may_be_in_a_file_and_only_in_one_place() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "from-a-file-and-long\n").unwrap();
        let file = file.to_str().unwrap();
        let token = |config: &Config| {
            config
                .gateway
                .gateway_token
                .as_ref()
                .unwrap()
                .expose_secret()
                .to_owned()
        };
        let config = load("", &[("MCP_GATEWAY_TOKEN_FILE", file)], &[]).unwrap();
        assert_eq!(token(&config), "from-a-file-and-long");
        let config = load(&format!("gateway.token_file = '{file}'"), &[], &[]).unwrap();
        assert_eq!(token(&config), "from-a-file-and-long");
        let config = load(
            &format!("gateway.token_file = '{file}'"),
            &[("MCP_GATEWAY_TOKEN", "direct")],
            &[],
        )
        .unwrap();
        assert_eq!(
            token(&config),
            "direct",
            "the environment wins over the file"
        );
        let message = problem(
            "",
            &[
                ("MCP_GATEWAY_TOKEN_FILE", file),
                ("MCP_GATEWAY_TOKEN", "direct"),
            ],
            &[],
        );
        assert!(
            message.contains("MCP_GATEWAY_TOKEN_FILE") && !message.contains("direct`"),
            "{message}"
        );
        let message = problem("", &[("MCP_GATEWAY_TOKEN_FILE", "/nowhere/at/all")], &[]);
        assert!(message.contains("/nowhere/at/all"), "{message}");
        let message = problem("", &[("MCP_GATEWAY_TOKEN", "two\nlines")], &[]);
        assert!(
            message.contains("MCP_GATEWAY_TOKEN") && !message.contains("two"),
            "{message}"
        );
    }

    #[test]
    fn notifications_are_set_up_whole_or_not_at_all() {
        let config = load("", &[], &[]).unwrap();
        assert!(config.notifications.smtp.is_none() && config.notifications.secrets_key.is_none());
        let config = load(
            "",
            &[
                ("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example"),
                ("CEDARGATE_SMTP_FROM", "Cedargate <gate@example.com>"),
                (
                    "CEDARGATE_NOTIFICATION_PRIVATE_HOSTS",
                    "relay.internal, 10.0.0.5",
                ),
            ],
            &[],
        )
        .unwrap();
        assert!(config.notifications.smtp.is_some());
        assert_eq!(
            config.notifications.private_hosts,
            ["relay.internal", "10.0.0.5"]
        );
        for (variables, expected) in [
            (
                vec![("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example")],
                "CEDARGATE_SMTP_FROM",
            ),
            (
                vec![
                    ("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example"),
                    ("CEDARGATE_SMTP_FROM", "nobody"),
                ],
                "CEDARGATE_SMTP_FROM",
            ),
            (
                vec![
                    ("CEDARGATE_SMTP_URL", "imap://gate:hush@mail.example"),
                    ("CEDARGATE_SMTP_FROM", "a@b.example"),
                ],
                "CEDARGATE_SMTP_URL",
            ),
            (
                vec![
                    ("CEDARGATE_SMTP_URL", "smtp://gate:hush@localhost"),
                    ("CEDARGATE_SMTP_FROM", "a@b.example"),
                ],
                "without TLS",
            ),
            (
                vec![("CEDARGATE_SMTP_CA_FILE", "/nowhere/at/all")],
                "CEDARGATE_SMTP_CA_FILE",
            ),
            (
                vec![("CEDARGATE_SECRETS_KEY", "hush")],
                "CEDARGATE_SECRETS_KEY",
            ),
        ] {
            let message = problem("", &variables, &[]);
            assert!(
                message.contains(expected) && !message.contains("hush"),
                "{message}"
            );
        }
    }

    #[test]
    fn wrong_values_name_where_they_were_set() {
        for (variables, flags, expected) in [
            (vec![("PORT", "99999")], vec![], "PORT"),
            (vec![("CORS_ORIGINS", "*.example")], vec![], "CORS_ORIGINS"),
            (
                vec![("CEDARGATE_MCP_ORIGINS", "*")],
                vec![],
                "CEDARGATE_MCP_ORIGINS",
            ),
            (
                vec![("CEDARGATE_MCP_HOSTS", "https://a.example/")],
                vec![],
                "CEDARGATE_MCP_HOSTS",
            ),
            (
                vec![],
                vec![("gateway.mcp_hold_ms", "soon")],
                "--mcp-hold-ms",
            ),
            (
                vec![("CEDARGATE_TRUSTED_PROXIES", "10.0.0.0/40")],
                vec![],
                "CEDARGATE_TRUSTED_PROXIES",
            ),
            (
                vec![("CORS_ORIGINS", "https://a.example/path")],
                vec![],
                "CORS_ORIGINS",
            ),
            (
                vec![("ORCHESTRATOR_URL", "orchestrator:9403")],
                vec![],
                "ORCHESTRATOR_URL",
            ),
            (
                vec![("ORCHESTRATOR_URL", "http://me:pw@host")],
                vec![],
                "ORCHESTRATOR_URL",
            ),
            (vec![("LOG_FORMAT", "xml")], vec![], "LOG_FORMAT"),
            (vec![("LOG_LEVEL", "loud")], vec![], "LOG_LEVEL"),
            (
                vec![("CEDARGATE_TRUST_AGENT_HEADER", "maybe")],
                vec![],
                "CEDARGATE_TRUST_AGENT_HEADER",
            ),
            (
                vec![("CEDARGATE_GATEWAY_NAME", "a/b")],
                vec![],
                "CEDARGATE_GATEWAY_NAME",
            ),
            (vec![], vec![("gateway.deadline_ms", "0")], "--deadline-ms"),
            (vec![], vec![("orchestrator.port", "x")], "--backend-port"),
        ] {
            let message = problem("", &variables, &flags);
            assert!(message.contains(expected), "{expected}: {message}");
        }
    }

    #[test]
    fn paths_of_the_file_are_relative_to_it() {
        let config = load(
            "data = \"state\"\ngateway.journal = \"/var/journal\"",
            &[],
            &[],
        )
        .unwrap();
        assert!(
            config.data.is_absolute() && config.data.ends_with("state"),
            "{:?}",
            config.data
        );
        assert_eq!(config.gateway.journal, Path::new("/var/journal"));
        assert_eq!(
            load("", &[("CEDARGATE_DATA", "state")], &[]).unwrap().data,
            Path::new("state")
        );
        assert_eq!(
            load("", &[("CEDARGATE_DATA", "a b%c")], &[])
                .unwrap()
                .database_url
                .expose_secret(),
            "sqlite://a%20b%25c/cedargate.db"
        );
    }
}
