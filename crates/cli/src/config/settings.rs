//! Which settings there are, and where each one's value comes from.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Environment, secret};

/// One thing that can be set.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// In the file: `gateway.port`.
    pub key: &'static str,
    /// In the environment: `PORT`. Of a secret, `<variable>_FILE` names a file that holds
    /// it, and `<variable>_COMMAND` a command that prints it.
    pub variable: &'static str,
    /// On the command line: `--port`. A secret has none, as every process may read it there.
    pub flag: Option<&'static str>,
    /// What it is when nothing sets it; absent: see `about`.
    pub default: Option<&'static str>,
    /// Whether its value is a secret. Then the file's key holds the path of a file.
    pub secret: bool,
    /// What it is for.
    pub about: &'static str,
}

const fn plain(
    key: &'static str,
    variable: &'static str,
    flag: &'static str,
    default: Option<&'static str>,
    about: &'static str,
) -> Setting {
    Setting {
        key,
        variable,
        flag: Some(flag),
        default,
        secret: false,
        about,
    }
}

const fn secret(key: &'static str, variable: &'static str, about: &'static str) -> Setting {
    Setting {
        key,
        variable,
        flag: None,
        default: None,
        secret: true,
        about,
    }
}

/// Every setting. What services need (`COOLIFY_API_URL`, `COOLIFY_API_TOKEN`, …) is read
/// from the environment by their descriptions, with `…_FILE` too.
pub const SETTINGS: &[Setting] = &[
    plain(
        "data",
        "CEDARGATE_DATA",
        "--data",
        Some("./data"),
        "folder of the database, the journal and the admin's token",
    ),
    plain(
        "policies",
        "CEDARGATE_POLICIES",
        "--policies",
        None,
        "folder of *.cedar; ./policies if there, else the shipped set",
    ),
    plain(
        "schema",
        "CEDARGATE_SCHEMA",
        "--schema",
        None,
        "schema.cedarschema; in or beside the policies if not set",
    ),
    plain(
        "public_url",
        "CEDARGATE_PUBLIC_URL",
        "--public-url",
        None,
        "where people reach the orchestrator, for links",
    ),
    plain(
        "services",
        "CEDARGATE_SERVICES",
        "--services",
        None,
        "folder of *.toml that describe services of your own, beside the built-in ones",
    ),
    secret(
        "control_token_file",
        "CEDARGATE_CONTROL_TOKEN",
        "what gateways present to the orchestrator; the same for both",
    ),
    plain(
        "log.level",
        "LOG_LEVEL",
        "--log-level",
        Some("info"),
        "error, warn, info, debug or trace",
    ),
    plain(
        "log.directives",
        "RUST_LOG",
        "--log-directives",
        None,
        "which parts log what, as tracing writes it; wins over the level",
    ),
    plain(
        "log.format",
        "LOG_FORMAT",
        "--log-format",
        None,
        "json or pretty; pretty on a terminal, json elsewhere",
    ),
    plain(
        "gateway.name",
        "CEDARGATE_GATEWAY_NAME",
        "--gateway-name",
        Some("gateway"),
        "names the gateway in its journal",
    ),
    plain(
        "gateway.host",
        "HOST",
        "--host",
        Some("127.0.0.1"),
        "address at which agents connect",
    ),
    plain(
        "gateway.port",
        "PORT",
        "--port",
        Some("8100"),
        "port at which agents connect",
    ),
    plain(
        "gateway.metrics_host",
        "METRICS_HOST",
        "--metrics-host",
        None,
        "address of /metrics; the gateway's if not set",
    ),
    plain(
        "gateway.metrics_port",
        "METRICS_PORT",
        "--metrics-port",
        Some("9090"),
        "port of /metrics",
    ),
    secret(
        "gateway.token_file",
        "MCP_GATEWAY_TOKEN",
        "what a trusted caller that speaks for its agents presents",
    ),
    plain(
        "gateway.trust_agent_header",
        "CEDARGATE_TRUST_AGENT_HEADER",
        "--trust-agent-header",
        Some("false"),
        "believe X-Agent-Id alone from any address; closed networks only",
    ),
    plain(
        "gateway.max_staleness_ms",
        "CEDARGATE_MAX_STALENESS_MS",
        "--max-staleness-ms",
        Some("5000"),
        "how old the facts behind a permit may be",
    ),
    plain(
        "gateway.session_idle_seconds",
        "CEDARGATE_AGENT_SESSION_IDLE_SECONDS",
        "--agent-session-idle-seconds",
        Some("1800"),
        "an agent's session ends after so long without a call",
    ),
    plain(
        "gateway.max_body_bytes",
        "CEDARGATE_MAX_BODY_BYTES",
        "--max-body-bytes",
        Some("1048576"),
        "largest body of a request",
    ),
    plain(
        "gateway.deadline_ms",
        "CEDARGATE_DEADLINE_MS",
        "--deadline-ms",
        Some("60000"),
        "how long one request may take",
    ),
    plain(
        "gateway.max_concurrent",
        "CEDARGATE_MAX_CONCURRENT",
        "--max-concurrent",
        Some("1024"),
        "how many requests may be under way",
    ),
    plain(
        "gateway.limits",
        "CEDARGATE_LIMITS",
        "--limits",
        None,
        "file of limits and budgets, by agent, service and command; read again when it changes",
    ),
    plain(
        "gateway.rate_limit_max_requests",
        "RATE_LIMIT_MAX_REQUESTS",
        "--rate-limit-max-requests",
        None,
        "how many requests each agent may send within the window, unless the file of limits says; no limit if not set",
    ),
    plain(
        "gateway.rate_limit_window_ms",
        "RATE_LIMIT_WINDOW_MS",
        "--rate-limit-window-ms",
        Some("60000"),
        "that window",
    ),
    plain(
        "gateway.journal",
        "CEDARGATE_JOURNAL",
        "--journal",
        None,
        "folder of the journal; <data>/journal if not set",
    ),
    plain(
        "gateway.journal_file_bytes",
        "CEDARGATE_JOURNAL_FILE_BYTES",
        "--journal-file-bytes",
        Some("67108864"),
        "a journal file is rotated beyond so many bytes",
    ),
    plain(
        "gateway.mcp_origins",
        "CEDARGATE_MCP_ORIGINS",
        "--mcp-origins",
        None,
        "origins of web pages that may speak MCP to the gateway, separated by commas, besides this machine's",
    ),
    plain(
        "gateway.mcp_hosts",
        "CEDARGATE_MCP_HOSTS",
        "--mcp-hosts",
        None,
        "names by which MCP clients may call the gateway, separated by commas; on loopback this machine's only, if not set",
    ),
    plain(
        "gateway.mcp_hold_ms",
        "CEDARGATE_MCP_HOLD_MS",
        "--mcp-hold-ms",
        Some("0"),
        "how long an MCP call that people must approve is kept waiting, unless its client says",
    ),
    plain(
        "gateway.mcp_max_streams",
        "CEDARGATE_MCP_MAX_STREAMS",
        "--mcp-max-streams",
        Some("4096"),
        "how many streams of MCP may stay open",
    ),
    plain(
        "gateway.orchestrator_url",
        "ORCHESTRATOR_URL",
        "--orchestrator-url",
        None,
        "where a gateway that runs alone finds the orchestrator",
    ),
    plain(
        "gateway.orchestrator_timeout_ms",
        "CEDARGATE_ORCHESTRATOR_TIMEOUT_MS",
        "--orchestrator-timeout-ms",
        Some("3000"),
        "how long the gateway waits for the orchestrator",
    ),
    plain(
        "orchestrator.host",
        "BACKEND_HOST",
        "--backend-host",
        Some("127.0.0.1"),
        "address at which people and gateways connect",
    ),
    plain(
        "orchestrator.port",
        "BACKEND_PORT",
        "--backend-port",
        Some("9403"),
        "port at which people and gateways connect",
    ),
    secret(
        "orchestrator.database_url_file",
        "DATABASE_URL",
        "sqlite://… or postgres://…; <data>/cedargate.db if not set",
    ),
    plain(
        "orchestrator.cors_origins",
        "CORS_ORIGINS",
        "--cors-origins",
        None,
        "origins of browsers, separated by commas, besides our own pages",
    ),
    plain(
        "orchestrator.approval_lifetime_seconds",
        "CEDARGATE_APPROVAL_LIFETIME_SECONDS",
        "--approval-lifetime-seconds",
        Some("86400"),
        "how long a request waits for people",
    ),
    plain(
        "orchestrator.rejection_cool_down_seconds",
        "CEDARGATE_REJECTION_COOL_DOWN_SECONDS",
        "--rejection-cool-down-seconds",
        Some("900"),
        "how long a rejected call must not be asked again",
    ),
    plain(
        "orchestrator.open_limit",
        "CEDARGATE_OPEN_LIMIT",
        "--open-limit",
        Some("50"),
        "how many pending requests one agent may have",
    ),
    secret(
        "orchestrator.secrets_key_file",
        "CEDARGATE_SECRETS_KEY",
        "encrypts the secrets of notification targets; <data>/secrets-key with SQLite",
    ),
    secret(
        "orchestrator.smtp_url_file",
        "CEDARGATE_SMTP_URL",
        "smtp://… or smtps://[user:password@]host[:port]: where e-mail is handed in",
    ),
    plain(
        "orchestrator.smtp_from",
        "CEDARGATE_SMTP_FROM",
        "--smtp-from",
        None,
        "whom e-mail is from, such as Cedargate <cedargate@example.com>",
    ),
    plain(
        "orchestrator.smtp_ca_file",
        "CEDARGATE_SMTP_CA_FILE",
        "--smtp-ca-file",
        None,
        "PEM of a certificate authority of the SMTP server's, besides the system's",
    ),
    plain(
        "orchestrator.notification_private_hosts",
        "CEDARGATE_NOTIFICATION_PRIVATE_HOSTS",
        "--notification-private-hosts",
        None,
        "hosts that notifications may go to although private or without TLS, or *",
    ),
    plain(
        "orchestrator.trusted_proxies",
        "CEDARGATE_TRUSTED_PROXIES",
        "--trusted-proxies",
        None,
        "proxies whose X-Forwarded-For says from where people come, separated by commas",
    ),
    plain(
        "orchestrator.session_idle_seconds",
        "CEDARGATE_SESSION_IDLE_SECONDS",
        "--session-idle-seconds",
        Some("7200"),
        "a browser's session that rests for so long ends",
    ),
    plain(
        "orchestrator.session_lifetime_seconds",
        "CEDARGATE_SESSION_LIFETIME_SECONDS",
        "--session-lifetime-seconds",
        Some("43200"),
        "a browser's session ends after so long, whatever is done with it",
    ),
    plain(
        "oauth.issuer",
        "CEDARGATE_OAUTH_ISSUER",
        "--oauth-issuer",
        None,
        "authorization server whose access tokens MCP clients bring, exactly as it names itself",
    ),
    plain(
        "oauth.url",
        "CEDARGATE_OAUTH_URL",
        "--oauth-url",
        None,
        "where MCP clients reach the gateway, such as https://gate.example.com; tokens are for <url>/mcp",
    ),
    plain(
        "oauth.audiences",
        "CEDARGATE_OAUTH_AUDIENCES",
        "--oauth-audiences",
        None,
        "further audiences of tokens for every door of MCP, separated by commas",
    ),
    plain(
        "oauth.algorithms",
        "CEDARGATE_OAUTH_ALGORITHMS",
        "--oauth-algorithms",
        Some("RS256,ES256,PS256,EdDSA"),
        "how the authorization server may sign, separated by commas",
    ),
    plain(
        "oauth.agent_claim",
        "CEDARGATE_OAUTH_AGENT_CLAIM",
        "--oauth-agent-claim",
        Some("sub"),
        "which claim of a token names the agent: sub, client_id, azp or another",
    ),
    plain(
        "oauth.agents",
        "CEDARGATE_OAUTH_AGENTS",
        "--oauth-agents",
        None,
        "which of its values is which agent: value=agent, separated by commas; if not set, the value is an agent's id or name",
    ),
    plain(
        "oauth.scopes",
        "CEDARGATE_OAUTH_SCOPES",
        "--oauth-scopes",
        Some("true"),
        "a token is good for what its scopes say: cedargate:read, cedargate:write, cedargate:destroy",
    ),
    plain(
        "oidc.issuer",
        "CEDARGATE_OIDC_ISSUER",
        "--oidc-issuer",
        None,
        "provider of identities at which people log in, exactly as it names itself",
    ),
    plain(
        "oidc.client_id",
        "CEDARGATE_OIDC_CLIENT_ID",
        "--oidc-client-id",
        None,
        "who we are at the provider",
    ),
    secret(
        "oidc.client_secret_file",
        "CEDARGATE_OIDC_CLIENT_SECRET",
        "how we prove it; a public client has none",
    ),
    plain(
        "oidc.name",
        "CEDARGATE_OIDC_NAME",
        "--oidc-name",
        None,
        "what the login page calls the provider; its host if not set",
    ),
    plain(
        "oidc.scopes",
        "CEDARGATE_OIDC_SCOPES",
        "--oidc-scopes",
        Some("openid email profile"),
        "what is asked of the provider, separated by spaces",
    ),
    plain(
        "oidc.algorithms",
        "CEDARGATE_OIDC_ALGORITHMS",
        "--oidc-algorithms",
        Some("RS256,ES256,PS256,EdDSA"),
        "how the provider may sign, separated by commas",
    ),
    plain(
        "oidc.create_users",
        "CEDARGATE_OIDC_CREATE_USERS",
        "--oidc-create-users",
        Some("false"),
        "add whoever the provider knows and we do not; otherwise they are refused",
    ),
    plain(
        "oidc.link_by_email",
        "CEDARGATE_OIDC_LINK_BY_EMAIL",
        "--oidc-link-by-email",
        Some("false"),
        "a verified e-mail address that is a user's id is that user",
    ),
    plain(
        "oidc.user_claim",
        "CEDARGATE_OIDC_USER_CLAIM",
        "--oidc-user-claim",
        Some("email"),
        "what a new user's id is taken from: email (if verified) or another claim",
    ),
    plain(
        "oidc.default_roles",
        "CEDARGATE_OIDC_DEFAULT_ROLES",
        "--oidc-default-roles",
        None,
        "roles of new users, separated by commas",
    ),
    plain(
        "oidc.roles_claim",
        "CEDARGATE_OIDC_ROLES_CLAIM",
        "--oidc-roles-claim",
        None,
        "claim with the groups that give roles, such as groups or realm_access.roles",
    ),
    plain(
        "oidc.roles",
        "CEDARGATE_OIDC_ROLES",
        "--oidc-roles",
        None,
        "which group gives which role: group=role, separated by commas",
    ),
    plain(
        "oidc.teams_claim",
        "CEDARGATE_OIDC_TEAMS_CLAIM",
        "--oidc-teams-claim",
        None,
        "claim with the groups that give teams",
    ),
    plain(
        "oidc.teams",
        "CEDARGATE_OIDC_TEAMS",
        "--oidc-teams",
        None,
        "which group gives which team: group=team, separated by commas",
    ),
    plain(
        "oidc.mfa_acr",
        "CEDARGATE_OIDC_MFA_ACR",
        "--oidc-mfa-acr",
        None,
        "values of acr that mean a second factor, separated by commas",
    ),
    plain(
        "oidc.mfa_amr",
        "CEDARGATE_OIDC_MFA_AMR",
        "--oidc-mfa-amr",
        None,
        "values of amr that mean a second factor, separated by commas, such as otp,hwk,mfa",
    ),
];

/// Where a value was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere.
    Default(&'static str),
    /// In the file.
    File {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// In the environment.
    Variable(String),
    /// On the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default(key) => write!(f, "the default of `{key}`"),
            Self::File { path, line, column } => write!(f, "{}:{line}:{column}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(flag) => f.write_str(flag),
        }
    }
}

/// What every place says, before it is checked.
#[derive(Debug)]
pub struct Settings {
    file: BTreeMap<&'static str, (String, Origin)>,
    folder: PathBuf,
    environment: Environment,
    flags: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Reads the file, if one is given, and keeps the rest. `flags` is by key.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is not TOML, or has keys that are not settings.
    pub fn read(
        file: Option<&Path>,
        environment: Environment,
        flags: BTreeMap<&'static str, String>,
    ) -> Result<Self, ConfigError> {
        let mut settings = Self {
            file: BTreeMap::new(),
            folder: PathBuf::new(),
            environment,
            flags,
        };
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                path: path.to_owned(),
                source,
            })?;
            path.parent()
                .unwrap_or(Path::new(""))
                .clone_into(&mut settings.folder);
            settings.file = parse_file(path, &text)?;
        }
        Ok(settings)
    }

    /// The environment that was given.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// The data folder, which subcommands need that need nothing else.
    ///
    /// # Errors
    ///
    /// When a variable is not UTF-8.
    pub fn data(&self) -> Result<PathBuf, ConfigError> {
        Ok(self
            .path("data")?
            .unwrap_or_else(|| PathBuf::from("./data")))
    }

    /// The folder of the operator's own services, if there is one.
    ///
    /// # Errors
    ///
    /// When a variable is not UTF-8.
    pub fn services(&self) -> Result<Option<PathBuf>, ConfigError> {
        self.path("services")
    }

    fn setting(key: &'static str) -> Result<&'static Setting, ConfigError> {
        SETTINGS
            .iter()
            .find(|setting| setting.key == key)
            .ok_or_else(|| ConfigError::Missing(format!("`{key}` is not a setting")))
    }

    /// A setting's value and where it was set; for a secret, only where.
    ///
    /// # Errors
    ///
    /// When a variable is not UTF-8.
    pub fn find(&self, setting: &Setting) -> Result<Option<(String, Origin)>, ConfigError> {
        if let (Some(value), Some(flag)) = (self.flags.get(setting.key), setting.flag) {
            return Ok(Some((value.clone(), Origin::Flag(flag))));
        }
        let names = [
            Some(setting.variable.to_owned()),
            setting.secret.then(|| format!("{}_FILE", setting.variable)),
            setting
                .secret
                .then(|| format!("{}_COMMAND", setting.variable)),
        ];
        for name in names.into_iter().flatten() {
            if let Some(value) = self.environment.get(&name)? {
                let value = if setting.secret {
                    "set".to_owned()
                } else {
                    value
                };
                return Ok(Some((value, Origin::Variable(name))));
            }
        }
        if let Some((value, origin)) = self.file.get(setting.key) {
            let value = if setting.secret {
                "set".to_owned()
            } else {
                value.clone()
            };
            return Ok(Some((value, origin.clone())));
        }
        Ok(setting
            .default
            .map(|value| (value.to_owned(), Origin::Default(setting.key))))
    }

    pub(super) fn optional<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Option<T>, ConfigError> {
        self.find(Self::setting(key)?)?
            .map(|(value, origin)| {
                read(value.trim()).map_err(|message| ConfigError::Value { origin, message })
            })
            .transpose()
    }

    /// Of a setting that has a default.
    pub(super) fn required<T>(
        &self,
        key: &'static str,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, ConfigError> {
        self.optional(key, read)?
            .ok_or_else(|| ConfigError::Missing(format!("`{key}` is not set")))
    }

    /// A path: of the file's, relative to the file; of others, to the working directory.
    pub(super) fn path(&self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        Ok(self
            .find(Self::setting(key)?)?
            .map(|(value, origin)| match origin {
                Origin::File { .. } => self.folder.join(value),
                Origin::Default(_) | Origin::Variable(_) | Origin::Flag(_) => PathBuf::from(value),
            }))
    }

    /// A secret: of the environment, or of the file that the environment or our file names.
    pub(super) fn secret(&self, key: &'static str) -> Result<Option<SecretString>, ConfigError> {
        let setting = Self::setting(key)?;
        let (value, origin) = if let Some(value) = self.environment.resolve(setting.variable)? {
            (value, Origin::Variable(setting.variable.to_owned()))
        } else if let Some((path, origin)) = self.file.get(key) {
            (
                secret::of_file(&self.folder.join(path), origin)?,
                origin.clone(),
            )
        } else {
            return Ok(None);
        };
        if value.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Some(value.into()))
        } else {
            let message = "holds a space, a line break or a character that is not ASCII".to_owned();
            Err(ConfigError::Value { origin, message })
        }
    }
}

/// The file's settings by key, each with its place.
fn parse_file(
    path: &Path,
    text: &str,
) -> Result<BTreeMap<&'static str, (String, Origin)>, ConfigError> {
    let at = |offset: usize, message: String| {
        let (line, column) = place(text, offset);
        ConfigError::File {
            path: path.to_owned(),
            line,
            column,
            message,
        }
    };
    let table = DeTable::parse(text).map_err(|error| {
        // Its own display would repeat the line, which may hold what should not be there.
        let start = error.span().map_or(0, |span| span.start);
        at(
            start,
            format!(
                "not valid TOML: {}",
                error.message().lines().next().unwrap_or_default()
            ),
        )
    })?;
    let mut found = BTreeMap::new();
    let mut tables = vec![(String::new(), table.get_ref())];
    while let Some((prefix, table)) = tables.pop() {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let here = name.span().start;
            if let DeValue::Table(inner) = value.get_ref()
                && SETTINGS
                    .iter()
                    .any(|setting| setting.key.starts_with(&format!("{key}.")))
            {
                tables.push((format!("{key}."), inner));
                continue;
            }
            let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
                return Err(at(here, unknown(&key)));
            };
            let (line, column) = place(text, value.span().start);
            let Some(value) = scalar(value.get_ref()) else {
                return Err(at(
                    value.span().start,
                    format!("`{key}` must be one value, not a table"),
                ));
            };
            let origin = Origin::File {
                path: path.to_owned(),
                line,
                column,
            };
            found.insert(setting.key, (value, origin));
        }
    }
    Ok(found)
}

/// A value as the text that a variable would hold; a list as its items between commas.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().replace('_', "")),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(value) => Some(value.to_string()),
        DeValue::Array(items) => items
            .iter()
            .map(|item| scalar(item.get_ref()))
            .collect::<Option<Vec<_>>>()
            .map(|items| items.join(",")),
        DeValue::Table(_) => None,
    }
}

/// Line and column of a byte, both from 1, the column in characters.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (line, column)
}

/// What to say of a key that is not a setting.
fn unknown(key: &str) -> String {
    let shown: String = key
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect();
    let file_key = format!("{key}_file");
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == file_key) {
        return format!(
            "`{shown}` is a secret and does not belong into this file: set the environment variable {}, or `{file_key}` here",
            setting.variable
        );
    }
    if authz::redact::is_secret(key) {
        return format!(
            "`{shown}` looks like a secret; secrets belong into environment variables, not into this file"
        );
    }
    match nearest(key) {
        Some(near) => format!("unknown key `{shown}`; did you mean `{near}`?"),
        None => format!("unknown key `{shown}`; see `cedargate config show` for what there is"),
    }
}

fn nearest(key: &str) -> Option<&'static str> {
    // A table that does not exist is compared with the tables, a key with the keys.
    let sections = SETTINGS
        .iter()
        .filter_map(|setting| setting.key.split_once('.').map(|(section, _)| section));
    SETTINGS
        .iter()
        .map(|setting| setting.key)
        .chain(sections)
        .map(|candidate| (distance(key, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's: how many letters must be put in, left out or replaced.
pub(crate) fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut previous = index;
        let mut next = vec![index + 1];
        for (other, above) in right.iter().zip(row.iter().skip(1)) {
            let replaced = previous + usize::from(letter != *other);
            let left_of = next.last().copied().unwrap_or(0);
            next.push(replaced.min(above + 1).min(left_of + 1));
            previous = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_variables_and_flags_are_unique() {
        for pick in [
            |s: &Setting| Some(s.key),
            |s: &Setting| Some(s.variable),
            |s: &Setting| s.flag,
        ] {
            let mut names: Vec<_> = SETTINGS.iter().filter_map(pick).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
        assert!(
            SETTINGS
                .iter()
                .all(|setting| !setting.secret || setting.key.ends_with("_file"))
        );
    }

    #[test]
    fn distances() {
        for (left, right, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("port", "prot", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }
}
