//! The data plane: authenticate, parse, authorize, carry out, record.

pub mod journal;
mod metrics;

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use authz::Clock;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

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
    /// Where approval requests are decided: put before `/approvals/{id}` in refusals.
    pub approvals_url: String,
}

/// A gateway that is up.
#[derive(Debug)]
pub struct Running {
    /// Where agents connect.
    pub address: SocketAddr,
    /// Where Prometheus reads.
    pub metrics: SocketAddr,
    /// Ends when the gateway has: after the shutdown token, when what was under way is
    /// done and the journal is written.
    pub finished: tokio::task::JoinHandle<()>,
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

/// Starts a gateway. It answers at once; until it has a policy set it refuses every
/// command with 503, and `/ready` says why.
///
/// # Errors
///
/// See [`StartError`].
pub async fn start(
    config: Config,
    orchestrator: contract::Client,
    catalog: Arc<handlers::Catalog>,
    clock: Clock,
    shutdown: CancellationToken,
) -> Result<Running, StartError> {
    let _ = (config, orchestrator, catalog, clock, shutdown);
    todo!()
}
