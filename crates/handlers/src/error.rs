//! Why there is no command, or no answer.

use std::time::Duration;

use authz::CommandKey;

/// Why what an agent sent is not a command. Nothing was decided, nothing was sent on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not of the form `/mcp-<service> …`.
    #[error("{reason}; expected `/mcp-<service> <command> [arguments]`")]
    Grammar {
        /// What is wrong with it.
        reason: String,
    },
    /// No such service.
    #[error("service '{name}' not found")]
    UnknownService {
        /// As sent.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// What there is.
        available: Vec<String>,
    },
    /// No such command of the service.
    #[error("operation '{name}' not supported by service '{service}'")]
    UnknownCommand {
        /// The service.
        service: String,
        /// As sent.
        name: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// What there is.
        available: Vec<String>,
    },
    /// The arguments do not fit the command's JSON Schema.
    #[error("arguments of `{command}` are not valid: {}", .problems.join("; "))]
    Arguments {
        /// The command.
        command: CommandKey,
        /// Each problem, with the argument's name.
        problems: Vec<String>,
        /// How it is used.
        usage: String,
    },
}

/// Why a permitted command gave no answer. Messages hold no secret and no body of the service's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandlerError {
    /// The service has no credential or address configured, or failed to start.
    #[error("service '{service}' is not available: {reason}")]
    NotConfigured {
        /// The service.
        service: String,
        /// What to set.
        reason: String,
    },
    /// No connection. The command did not arrive.
    #[error("service '{service}' cannot be reached: {reason}")]
    Unreachable {
        /// The service.
        service: String,
        /// The likely cause.
        reason: String,
    },
    /// No answer in time. Whether the command was carried out is unknown.
    #[error("service '{service}' did not answer within {after:?}")]
    Timeout {
        /// The service.
        service: String,
        /// After so long.
        after: Duration,
    },
    /// The connection ended before the answer came. Whether the command was carried out
    /// is unknown.
    #[error(
        "service '{service}' gave no answer: {reason}; whether the command was carried out is unknown"
    )]
    Broken {
        /// The service.
        service: String,
        /// What is known of the connection.
        reason: String,
    },
    /// The service refused our credential (401 or 403).
    #[error("service '{service}' refused the gateway's credential: {reason}")]
    Credential {
        /// The service.
        service: String,
        /// The likely cause.
        reason: String,
    },
    /// What the command names does not exist there (404).
    #[error("service '{service}' does not know it: {message}")]
    NotFound {
        /// The service.
        service: String,
        /// What it said, scrubbed.
        message: String,
    },
    /// The service finds the command wrong (400, 405, 409, 422).
    #[error("service '{service}' refused the command ({status}): {message}")]
    Rejected {
        /// The service.
        service: String,
        /// Its status.
        status: u16,
        /// What it said, scrubbed.
        message: String,
    },
    /// The service asks for patience (429).
    #[error("service '{service}' is receiving too many commands")]
    TooMany {
        /// The service.
        service: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The service failed (5xx), or its answer is not understood.
    #[error("service '{service}' failed: {message}")]
    Failed {
        /// The service.
        service: String,
        /// What is known, without its body.
        message: String,
    },
}

impl HandlerError {
    /// What is wrong with the service itself, in one word; nothing when it answered as it should.
    pub(crate) const fn trouble(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { .. } => Some("unreachable"),
            Self::Timeout { .. } => Some("timeout"),
            Self::Broken { .. } => Some("broken"),
            Self::Failed { .. } => Some("failed"),
            _ => None,
        }
    }
}
