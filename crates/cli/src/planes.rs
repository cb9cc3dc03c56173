//! The wiring: which parts run in this process, and how they end.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context;
use authz::{Clock, Timestamp};
use orchestrator::Orchestrator;
use rand::Rng;
use secrecy::{ExposeSecret, SecretString};
use store::Store;
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    config::{Config, Environment},
    data_folder::DataFolder,
    server,
    service_credentials::ServiceCredentials,
    service_folder,
};

/// How long open connections may last after everything else has ended.
const LINGER: Duration = Duration::from_secs(5);

/// The clock of this machine: the only place that reads it.
#[must_use]
pub fn system_clock() -> Clock {
    Clock::new(|| Timestamp::from_millis(jiff::Timestamp::now().as_millisecond()))
}

/// 256 random bits in hexadecimal.
#[must_use]
pub fn random_secret() -> SecretString {
    let mut bytes = [0_u8; 32];
    rand::rng().fill_bytes(&mut bytes);
    hex::encode(bytes).into()
}

/// An orchestrator that is up.
#[derive(Debug)]
pub struct OrchestratorPlane {
    /// Where people and gateways connect.
    pub address: SocketAddr,
    /// Where people reach it, for links.
    pub public_url: String,
    /// The way in, if this was its first start. Its token was written to the data folder.
    pub bootstrap: Option<orchestrator::Bootstrap>,
    orchestrator: Orchestrator,
    finished: JoinHandle<()>,
    shutdown: CancellationToken,
}

impl OrchestratorPlane {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When the port is taken, the database is out of reach, there is no valid policy
    /// set, or the data folder cannot be written.
    pub async fn start(
        config: &Config,
        data: &DataFolder,
        control_token: Option<SecretString>,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        // The port first, as links name it, but nobody is answered before all is ready.
        let listener = listen(config.orchestrator_listen).await?;
        let address = listener
            .local_addr()
            .context("the orchestrator's port has no address")?;

        let store = Store::open(config.database_url.expose_secret())
            .await
            .context(
                "the database cannot be opened; check DATABASE_URL and that the server is up",
            )?;
        tracing::info!("migrations done: the database is up to date");

        let (schema, policies) = data.policies(&config.policies)?;
        tracing::info!(policies = %policies.display(), schema = %schema.display(), "policies are read from here");
        let mut settings = config.orchestrator(address, policies, schema, control_token);
        // The folder of an SQLite database has one orchestrator. Those of PostgreSQL must
        // share a key, so they are given one, or there is none.
        if settings.notifications.secrets_key.is_none()
            && config.database_url.expose_secret().starts_with("sqlite:")
        {
            settings.notifications.secrets_key = Some(data.secrets_key()?);
        }
        let public_url = settings.public_url.clone();
        let orchestrator = Orchestrator::open(settings, store, clock).await?;

        // A place for the token first: a token that cannot be kept locks everyone out.
        let place = data.prepare_admin_token()?;
        let bootstrap = orchestrator.bootstrap().await?;
        if let Some(bootstrap) = &bootstrap {
            place.keep(&bootstrap.token)?;
        }

        let shutdown = CancellationToken::new();
        let finished = tokio::spawn(run_orchestrator(
            orchestrator.clone(),
            listener,
            shutdown.clone(),
        ));
        tracing::info!("orchestrator listening on {} ({address})", address.port());
        tracing::info!(
            "WebSocket ready at {}/ws",
            public_url.replacen("http", "ws", 1)
        );
        Ok(Self {
            address,
            public_url,
            bootstrap,
            orchestrator,
            finished,
            shutdown,
        })
    }

    async fn stop(self) {
        self.shutdown.cancel();
        if !self.finished.is_finished() {
            let _ = self.finished.await;
        }
    }

    /// A client of it for a gateway in the same process: the same contract, no socket.
    #[must_use]
    pub fn client(&self, control_token: SecretString, deadline: Duration) -> contract::Client {
        contract::Client::over(self.orchestrator.router(), Some(control_token), deadline)
    }
}

async fn run_orchestrator(
    orchestrator: Orchestrator,
    listener: TcpListener,
    shutdown: CancellationToken,
) {
    let stop = shutdown.clone();
    let serving = server::serve(
        listener,
        orchestrator.router(),
        stop,
        server::HEADERS_WITHIN,
    );
    // `run` ends every stream on shutdown; a connection that stays open all the same is cut.
    let linger = async {
        shutdown.cancelled().await;
        tokio::time::sleep(LINGER).await;
    };
    let background = orchestrator.run(shutdown.clone());
    tokio::select! {
        ((), ()) = async { tokio::join!(serving, background) } => {}
        () = linger => tracing::warn!("connections that did not end in time were cut"),
    }
}

/// Both planes in one process, or either one alone.
#[derive(Debug)]
pub struct Planes {
    /// The control plane, if it runs here.
    pub orchestrator: Option<OrchestratorPlane>,
    /// The data plane, if it runs here.
    pub gateway: Option<gateway::Running>,
    stop_gateway: CancellationToken,
}

impl Planes {
    /// Starts both in this process, the gateway over the orchestrator's own router.
    ///
    /// # Errors
    ///
    /// When a port is taken, or see [`OrchestratorPlane::start`] and [`gateway::StartError`].
    pub async fn start_both(
        config: &Config,
        environment: &Environment,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let catalog = catalog(environment, config.services.as_deref())?;
        let data = DataFolder::open(&config.data)?;
        // Nobody else needs to know it, unless the operator says so for further gateways.
        let control_token = config.control_token.clone().unwrap_or_else(random_secret);
        let orchestrator =
            OrchestratorPlane::start(config, &data, Some(control_token.clone()), clock.clone())
                .await?;
        let client = orchestrator.client(control_token, config.orchestrator_timeout);
        let mut settings = config.gateway.clone();
        settings.approvals_url.clone_from(&orchestrator.public_url);
        let stop_gateway = CancellationToken::new();
        let credentials = ServiceCredentials::new(Arc::clone(&catalog), environment.clone());
        let started = start_gateway(settings, client, catalog, clock, stop_gateway.clone()).await;
        credentials.follow(stop_gateway.clone());
        let gateway = match started {
            Ok(gateway) => gateway,
            Err(error) => {
                orchestrator.stop().await;
                return Err(error);
            }
        };
        follow_limits(config, &gateway, &stop_gateway);
        Ok(Self {
            orchestrator: Some(orchestrator),
            gateway: Some(gateway),
            stop_gateway,
        })
    }

    /// Starts a gateway that reaches the orchestrator over the network.
    ///
    /// # Errors
    ///
    /// When the configuration lacks the orchestrator, or see [`gateway::StartError`].
    pub async fn start_gateway(
        config: &Config,
        environment: &Environment,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let Some(url) = &config.orchestrator_url else {
            return Err(missing(
                "ORCHESTRATOR_URL is not set: where is the orchestrator? For example http://127.0.0.1:9403",
            ));
        };
        let Some(control_token) = &config.control_token else {
            return Err(missing(CONTROL_TOKEN_MISSING));
        };
        let catalog = catalog(environment, config.services.as_deref())?;
        DataFolder::open(&config.data)?;
        let client = contract::Client::http(
            url,
            Some(control_token.clone()),
            config.orchestrator_timeout,
        )?;
        if let Err(error) = client.health().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the orchestrator at {url} does not answer yet (is it up, and on the same network?); until it does, every command is refused"
            );
        }
        let stop_gateway = CancellationToken::new();
        let credentials = ServiceCredentials::new(Arc::clone(&catalog), environment.clone());
        credentials.follow(stop_gateway.clone());
        let gateway = start_gateway(
            config.gateway.clone(),
            client,
            catalog,
            clock,
            stop_gateway.clone(),
        )
        .await?;
        follow_limits(config, &gateway, &stop_gateway);
        Ok(Self {
            orchestrator: None,
            gateway: Some(gateway),
            stop_gateway,
        })
    }

    /// Starts an orchestrator alone.
    ///
    /// # Errors
    ///
    /// When there is no control token, or see [`OrchestratorPlane::start`].
    pub async fn start_orchestrator(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        if config.control_token.is_none() {
            return Err(missing(CONTROL_TOKEN_MISSING));
        }
        let data = DataFolder::open(&config.data)?;
        let orchestrator =
            OrchestratorPlane::start(config, &data, config.control_token.clone(), clock).await?;
        Ok(Self {
            orchestrator: Some(orchestrator),
            gateway: None,
            stop_gateway: CancellationToken::new(),
        })
    }

    /// Until `shutdown`, or until one plane ends by itself, which is an error. Then ends
    /// both: the gateway first, so that what it still has to tell is heard.
    ///
    /// # Errors
    ///
    /// When a plane ended without being asked to.
    pub async fn run(mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let ended = {
            let gateway = async {
                match &mut self.gateway {
                    Some(gateway) => drop((&mut gateway.finished).await),
                    None => std::future::pending().await,
                }
            };
            let orchestrator = async {
                match &mut self.orchestrator {
                    Some(orchestrator) => drop((&mut orchestrator.finished).await),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => None,
                () = gateway => Some("gateway"),
                () = orchestrator => Some("orchestrator"),
            }
        };
        if ended.is_none() {
            tracing::info!(
                "ending: what is under way is finished first; a second signal ends at once"
            );
        }
        self.stop().await;
        match ended {
            None => Ok(()),
            Some(plane) => Err(anyhow::anyhow!("the {plane} ended by itself; see the log")),
        }
    }

    /// Ends both planes and waits for them.
    pub async fn stop(self) {
        self.stop_gateway.cancel();
        if let Some(gateway) = self.gateway
            && !gateway.finished.is_finished()
        {
            let _ = gateway.finished.await;
        }
        if let Some(orchestrator) = self.orchestrator {
            orchestrator.stop().await;
        }
        tracing::info!("ended");
    }
}

const CONTROL_TOKEN_MISSING: &str = "CEDARGATE_CONTROL_TOKEN is not set: gateways and orchestrator know each other by it. \
     Make one with `cedargate tokens generate` and give the same to both, \
     directly or as CEDARGATE_CONTROL_TOKEN_FILE";

fn missing(message: &str) -> anyhow::Error {
    crate::config::ConfigError::Missing(message.to_owned()).into()
}

/// Every service, with addresses and credentials of the environment; `services` is the
/// folder of the operator's own descriptions.
///
/// # Errors
///
/// When a `…_FILE` or the folder cannot be read, or a description is wrong.
pub fn catalog(
    environment: &Environment,
    services: Option<&Path>,
) -> anyhow::Result<Arc<handlers::Catalog>> {
    let own = services
        .map(service_folder::read)
        .transpose()?
        .unwrap_or_default();
    let own: Vec<(&str, &str)> = own
        .iter()
        .map(|file| (file.name.as_str(), file.text.as_str()))
        .collect();
    // The catalog asks by name and takes no error, so the first is kept for afterwards.
    let failed = std::cell::RefCell::new(None);
    let variable = |name: &str| match environment.resolve(name) {
        Ok(value) => value,
        Err(error) => {
            failed.borrow_mut().get_or_insert(error);
            None
        }
    };
    let catalog = handlers::Catalog::load_with(&own, &variable);
    if let Some(error) = failed.into_inner() {
        return Err(error.into());
    }
    let catalog = catalog.map_err(|error| missing(&error))?;
    Ok(Arc::new(catalog.with_clock(&system_clock())))
}

/// Other limits in the file are put in force.
fn follow_limits(config: &Config, gateway: &gateway::Running, stop: &CancellationToken) {
    let limits = config.limits.clone();
    limits.follow(gateway.limits.clone(), stop.clone());
}

async fn start_gateway(
    config: gateway::Config,
    client: contract::Client,
    catalog: Arc<handlers::Catalog>,
    clock: Clock,
    shutdown: CancellationToken,
) -> anyhow::Result<gateway::Running> {
    let running = gateway::start(config, client, catalog, clock, shutdown).await.map_err(|error| match error {
        gateway::StartError::Config(message) => missing(&message),
        error @ gateway::StartError::Listen { .. } => anyhow::Error::from(error).context(
            "the gateway's port cannot be opened: is another one running? PORT and METRICS_PORT choose others",
        ),
        error @ gateway::StartError::Journal { .. } => error.into(),
    })?;
    Ok(running)
}

async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("the orchestrator cannot listen on {address}: is another one running? BACKEND_PORT chooses another port")
    })
}
