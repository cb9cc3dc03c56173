//! The control plane: API, feed, approvals, policy sets, the page where people decide.

use std::{path::PathBuf, time::Duration};

use authz::Clock;
use secrecy::SecretString;
use store::Store;
use tokio_util::sync::CancellationToken;

/// How an orchestrator is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Gateways present this; without it no gateway is served.
    pub control_token: Option<SecretString>,
    /// Origins of browsers that may use `/ws` and the API besides our own pages.
    pub cors_origins: Vec<String>,
    /// `schema.cedarschema`.
    pub schema: PathBuf,
    /// The folder of `*.cedar`; watched while running.
    pub policies: PathBuf,
    /// Where people reach this orchestrator, for links. `http://127.0.0.1:9403`.
    pub public_url: String,
    /// How long a request waits for people. Default 24 hours.
    pub approval_lifetime: Duration,
    /// How long a rejected call must not be asked again. Default 15 minutes.
    pub rejection_cool_down: Duration,
    /// How many pending requests one agent may have. Default 50.
    pub open_limit: u32,
}

/// The control plane, opened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    _config: (),
}

/// The first start's way in.
#[derive(Debug)]
pub struct Bootstrap {
    /// The first admin's token.
    pub token: SecretString,
    /// A link that logs the first admin in, once, within an hour.
    pub link: String,
}

/// Why an orchestrator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::StoreError),
    /// There is no policy set: neither a valid folder nor one stored before.
    #[error("there is no valid policy set to start with:\n{0}")]
    NoPolicySet(String),
}

impl Orchestrator {
    /// Loads the policy set of the folder, or the last one in force if the folder's is
    /// broken, and makes sure of the built-in agent `local`.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn open(config: Config, store: Store, clock: Clock) -> Result<Self, StartError> {
        let _ = (config, store, clock);
        todo!()
    }

    /// Creates the first admin, `admin`, unless there is a user already.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn bootstrap(&self) -> Result<Option<Bootstrap>, StartError> {
        todo!()
    }

    /// Everything it answers over HTTP.
    pub fn router(&self) -> axum::Router {
        todo!()
    }

    /// Watches the policy folder, announces expiries, follows the feed, until `shutdown`.
    pub async fn run(&self, shutdown: CancellationToken) {
        let _ = shutdown;
        todo!()
    }
}
