//! How a gateway is set up, and why it does not start.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

/// How a gateway is set up. Checked before a port opens.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names this gateway in its journal; letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Where agents connect. Default `127.0.0.1:8100`.
    pub listen: SocketAddr,
    /// Where Prometheus reads. Default `127.0.0.1:9090`.
    pub metrics: SocketAddr,
    /// A trusted caller that speaks for its agents presents this. Without it, and on
    /// loopback, `X-Agent-Id` alone is believed.
    pub gateway_token: Option<SecretString>,
    /// Believe `X-Agent-Id` alone from any address. Only for closed networks.
    pub trust_agent_header: bool,
    /// How long a decision may rely on facts read earlier. Default five seconds.
    ///
    /// The feed makes a revocation quick; this makes it certain, even when the
    /// feed is cut. Zero asks for every command.
    pub max_staleness: Duration,
    /// A session of an agent ends when nothing was called in it for so long. Default 30
    /// minutes. As long as any of an agent's sessions goes on, what it read is held against
    /// it; so the longer, the safer.
    pub session_idle: Duration,
    /// Largest body of a request, in bytes. Default 1 MiB.
    pub max_body_bytes: usize,
    /// How long one request may take. Default 60 seconds.
    pub deadline: Duration,
    /// How many requests may be under way. Default 1,024; more are answered 503.
    pub max_concurrent: usize,
    /// Where the journal is kept: created if missing.
    pub journal: PathBuf,
    /// A journal file is rotated beyond so many bytes. Default 64 MiB.
    pub journal_file_bytes: u64,
    /// Where the policy set in force is kept, for a start without the orchestrator: a
    /// file that is made if missing.
    pub last_known_good: PathBuf,
    /// Where the zones that people assigned are kept, in the same way.
    pub last_known_zones: PathBuf,
    /// Where approval requests are decided: put before `/approvals/{id}` in refusals.
    pub approvals_url: String,
    /// How fast agents, services and commands may be used, and how much in a day, beside
    /// what descriptions say. Default nothing.
    pub limits: handlers::limits::Limits,
    /// How the doors for clients of the Model Context Protocol behave.
    pub mcp: crate::McpSettings,
}

/// Puts other limits in force while the gateway runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LimitsControl(pub(crate) std::sync::Arc<crate::limits::Limits>);

impl LimitsControl {
    /// What was counted under a limit that stays, stays; so do budgets in any case.
    ///
    /// # Errors
    ///
    /// When `limits` names a service or command that there is not. Then nothing changes.
    pub fn set(&self, limits: &handlers::limits::Limits) -> Result<(), String> {
        self.0.set(limits)
    }
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration contradicts itself or is unsafe.
    #[error("{0}")]
    Config(String),
    /// A port is taken, or may not be opened.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The journal cannot be opened or continued.
    #[error("the journal in `{}` cannot be continued", .path.display())]
    Journal {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Config {
    /// Whether the settings are safe together.
    ///
    /// # Errors
    ///
    /// [`StartError::Config`] with the way out.
    pub(crate) fn check(&self) -> Result<(), StartError> {
        let wrong = |message: String| Err(StartError::Config(message));
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.bytes().all(word) {
            return wrong(format!(
                "the gateway's name `{}` may hold letters, digits, `-`, `_` and `.` only",
                self.name
            ));
        }
        if self.session_idle.is_zero() {
            return wrong(
                "a session that ends at once is none: give sessions of agents some time".to_owned(),
            );
        }
        if self.max_concurrent == 0 || self.max_body_bytes == 0 || self.deadline.is_zero() {
            return wrong("the limits on requests, body and time must not be zero".to_owned());
        }
        if let Some(Err(problem)) = self.mcp.oauth.as_ref().map(crate::OAuthSettings::check) {
            return wrong(format!("OAuth: {problem}"));
        }
        let token = self
            .gateway_token
            .as_ref()
            .map(|token| token.expose_secret().len());
        if token.is_some_and(|length| length < 16) {
            return wrong("the gateway token is shorter than 16 characters; leave it out, or use `openssl rand -hex 32`".to_owned());
        }
        if token.is_some() && self.trust_agent_header {
            return wrong("a gateway token protects nothing while `X-Agent-Id` is trusted from everywhere; set one or the other".to_owned());
        }
        if token.is_none()
            && !self.trust_agent_header
            && !self.listen.ip().to_canonical().is_loopback()
        {
            return wrong(format!(
                "listening on {} without a gateway token would leave callers on this machine trusted by address alone; \
                 set MCP_GATEWAY_TOKEN, or listen on 127.0.0.1, or say --trust-agent-header on a closed network",
                self.listen
            ));
        }
        Ok(())
    }
}
