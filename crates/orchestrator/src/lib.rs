//! The control plane: API, feed, approvals, policy sets, the page where people decide.
//!
//! [`Orchestrator::router`] answers everything over HTTP: `api.rs` is the table of
//! routes, grouped by who may call them, and `service.rs` the stack around it.
//! [`Orchestrator::run`] does what nobody asks for: it watches the policy folder and
//! announces what expired.
//!
//! What is enforced changes in `activation.rs` only; `policy_folder.rs` reads the folder.
//!
//! How a request for approval travels: `api/gateway.rs` takes it, `approvals.rs` opens
//! it, `events.rs` tells followers, `websocket.rs` and `ui.rs` show it to people, whose
//! verdict comes back through `api/approvals.rs` or `ui/inbox.rs` to `approvals.rs`.

mod activation;
mod api;
mod approvals;
mod audit_query;
mod authenticate;
mod budgets;
mod credential;
mod error;
mod events;
mod explain;
mod grants;
pub mod notifications;
mod openapi;
mod origins;
mod overview;
mod peer;
pub mod people;
pub mod policy_folder;
mod precondition;
mod service;
mod services;
#[cfg(test)]
mod testing;
mod tools;
mod ui;
mod verification;
mod websocket;
mod zones;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use authz::{Agent, AgentId, Clock, TokenId, User, command::Environment};
use secrecy::{ExposeSecret, SecretString};
use store::{Actor, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use peer::{InvalidNetwork, Network};

use crate::{
    activation::InForce, credential::Digest, events::Feed, origins::Origins,
    policy_folder::FolderStatus,
};

/// How an orchestrator is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Gateways present this; without it no gateway is served.
    pub control_token: Option<SecretString>,
    /// Origins of browsers that may use `/ws` and the API besides our own pages, as
    /// browsers write them (`https://host[:port]`). `*` lets every page read what needs
    /// no cookie.
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
    /// How people are told of what waits for them.
    pub notifications: notifications::Settings,
    /// Proxies whose `X-Forwarded-For` is believed when the audit trail says from where
    /// somebody acted. Default none: the address that connected.
    pub trusted_proxies: Vec<Network>,
    /// How people log in.
    pub people: people::Config,
}

/// The control plane, opened. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Orchestrator {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    store: Store,
    clock: Clock,
    /// The latest time that was acted on here, in milliseconds: see [`Orchestrator::now`].
    latest: AtomicI64,
    /// Of the control token.
    control: Option<Digest>,
    origins: Origins,
    people: people::State,
    /// What is enforced; replaced whole.
    in_force: watch::Sender<Arc<InForce>>,
    /// Zones that people put services and commands into.
    zones: zones::Heard,
    /// Held by whoever changes what is in force, or beside it.
    activation: tokio::sync::Mutex<()>,
    folder: Mutex<FolderStatus>,
    /// The one-time link's code, and until when it is good.
    bootstrap: Mutex<Option<(Digest, authz::Timestamp)>>,
    /// What it takes to send notifications.
    notifier: notifications::Notifier,
    /// Open WebSockets.
    sockets: AtomicUsize,
    /// Numbers them.
    clients: AtomicU64,
    /// Open streams of server-sent events.
    streams: AtomicUsize,
    /// What is being put before people at this moment.
    opening: approvals::Opening,
    /// The newest changes, for whoever follows.
    feed: Feed,
    /// Cancelled when the orchestrator stops: streams end.
    closing: CancellationToken,
    /// For the playground.
    last_loaded: explain::LastLoaded,
    /// What checking the stored journals found.
    verifications: verification::Verifications,
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
    /// An origin is written as no browser writes it.
    #[error("`{0}` is not an origin such as `https://host:port`")]
    InvalidOrigin(String),
    /// Notifications could not be sent as they are configured.
    #[error("notifications: {0}")]
    Notifications(String),
    /// The provider of identities cannot be used as it is set up.
    #[error(transparent)]
    Oidc(#[from] people::oidc::InvalidConfig),
}

/// The API's description: an OpenAPI 3.1 document in JSON, as `/api/openapi.json` has it.
#[must_use]
pub fn openapi() -> String {
    // Texts and numbers: it always serialises.
    api::document().to_pretty_json().unwrap_or_default()
}

/// How long the first start's link is good.
const BOOTSTRAP_LINK_LIFETIME: Duration = Duration::from_hours(1);

/// How often pending requests past their expiry are marked.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);

impl Orchestrator {
    /// Loads the policy set of the folder, or the last one in force if the folder's is
    /// broken, and makes sure of the built-in agent `local`.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn open(config: Config, store: Store, clock: Clock) -> Result<Self, StartError> {
        let origins = Origins::new(&config.public_url, &config.cors_origins)?;
        let notifier = notifications::Notifier::new(&config.notifications)
            .map_err(StartError::Notifications)?;
        let people = people::State::new(&config.people, &config.public_url)?;
        let actor = Actor::itself("bootstrap", clock.now());
        store.ensure_agent(&local_agent()?, &actor).await?;

        let (in_force, folder) = policy_folder::start(&config, &store, &clock).await?;
        let zones = zones::Heard::of(&store).await?;
        let feed = Feed::start(&store).await?;
        let control = config
            .control_token
            .as_ref()
            .map(|token| Digest::of(token.expose_secret()));
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                store,
                clock,
                latest: AtomicI64::new(0),
                control,
                origins,
                people,
                in_force: watch::Sender::new(Arc::new(in_force)),
                zones,
                activation: tokio::sync::Mutex::new(()),
                folder: Mutex::new(folder),
                bootstrap: Mutex::new(None),
                notifier,
                sockets: AtomicUsize::new(0),
                clients: AtomicU64::new(0),
                streams: AtomicUsize::new(0),
                opening: approvals::Opening::default(),
                feed,
                closing: CancellationToken::new(),
                last_loaded: explain::LastLoaded::default(),
                verifications: verification::Verifications::default(),
            }),
        })
    }

    /// Creates the first admin, `admin`, unless there is a user already.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn bootstrap(&self) -> Result<Option<Bootstrap>, StartError> {
        let now = self.inner.clock.now();
        let roles = ["admin", "approver"]
            .iter()
            .filter_map(|role| role.parse().ok())
            .collect();
        let admin = User {
            id: "admin".parse().map_err(unreadable)?,
            name: "Administrator".to_owned(),
            teams: BTreeSet::new(),
            roles,
            active: true,
        };
        let (token, stored) = credential::user_token("bootstrap", now, None);
        let actor = Actor::itself("bootstrap", now);
        if !self
            .inner
            .store
            .bootstrap_user(&admin, &stored, &actor)
            .await?
        {
            return Ok(None);
        }

        let code = credential::random_hex();
        let expires = now.plus(BOOTSTRAP_LINK_LIFETIME);
        *self
            .inner
            .bootstrap
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some((Digest::of(&code), expires));
        let link = format!(
            "{}/bootstrap?code={code}",
            self.inner.config.public_url.trim_end_matches('/')
        );
        Ok(Some(Bootstrap { token, link }))
    }

    /// Reads the policy folder now, without waiting for [`Orchestrator::run`] to notice:
    /// after a signal, say. What is broken changes nothing, and is in the answer.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn reread_policies(
        &self,
    ) -> Result<contract::policy_sets::PolicySetStatus, StartError> {
        policy_folder::reread(self).await?;
        Ok(policy_folder::status(self).await?)
    }

    /// Works out who is to be told what, and sends what is due, once: what
    /// [`Orchestrator::run`] does all the time. Comes back when everything was tried;
    /// says how many messages were.
    ///
    /// # Errors
    ///
    /// When the store fails.
    pub async fn send_notifications(&self) -> Result<usize, StartError> {
        Ok(notifications::Sender::new(self).once().await?)
    }

    /// Everything it answers over HTTP.
    pub fn router(&self) -> axum::Router {
        service::versioned(service::stack(
            self,
            api::routes(self).merge(ui::routes(self)),
        ))
    }

    /// Watches the policy folder, announces expiries, follows the feed, until `shutdown`;
    /// then ends every stream, so that a server can stop.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = policy_folder::watch(self) => {}
            () = activation::follow(self) => {}
            () = zones::follow(self) => {}
            () = self.sweep() => {}
            () = Box::pin(notifications::run(self)) => {}
        }
        self.inner.closing.cancel();
    }

    /// Marks what expired, for ever.
    async fn sweep(&self) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.tidy().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "expired approval requests could not be marked"
                );
            }
        }
    }

    fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The time. It does not go back, even if the clock does: not before everything that
    /// expired until then is marked, so that nothing which somebody saw expire comes back.
    fn now(&self) -> authz::Timestamp {
        let clock = self.inner.clock.now().as_millis();
        let latest = self.inner.latest.fetch_max(clock, Ordering::AcqRel);
        authz::Timestamp::from_millis(clock.max(latest))
    }

    /// Lets the time follow a clock that went back. Whatever gives rights from a time on
    /// begins with this: gateways, whose clock is as right, would not believe in them yet.
    async fn settle(&self) -> Result<(), store::StoreError> {
        if self.inner.clock.now() < self.now() {
            self.tidy().await?;
        }
        Ok(())
    }

    /// Marks what expired; from then on it stays so, whatever the clock says.
    async fn tidy(&self) -> Result<(), store::StoreError> {
        let latest = self.now();
        approvals::expire(self, latest).await?;
        let clock = self.inner.clock.now();
        if clock < latest {
            tracing::warn!(from = %latest, to = %clock, "the clock went back");
            // Unless somebody saw a still later time meanwhile.
            let _ = self.inner.latest.compare_exchange(
                latest.as_millis(),
                clock.as_millis(),
                Ordering::AcqRel,
                Ordering::Acquire,
            );
        }
        Ok(())
    }

    /// What is enforced now.
    fn in_force(&self) -> Arc<InForce> {
        Arc::clone(&self.inner.in_force.borrow())
    }

    fn actor(&self, person: &authenticate::Person) -> Actor {
        Actor {
            user: Some(person.user.id.clone()),
            via: person.via.as_str(),
            from: person.from,
            at: self.now(),
        }
    }

    /// Adds a credential for a user and gives back the only copy.
    async fn new_user_token(
        &self,
        user: &authz::UserId,
        label: &str,
        lifetime: Option<Duration>,
        actor: &Actor,
    ) -> Result<(SecretString, store::agents::Token), store::StoreError> {
        let expires = lifetime.map(|lifetime| actor.at.plus(lifetime));
        let (token, stored) = credential::user_token(label, actor.at, expires);
        self.store().create_user_token(user, &stored, actor).await?;
        Ok((token, stored))
    }

    /// Takes a credential of a user back.
    async fn end_user_token(
        &self,
        user: &authz::UserId,
        token: TokenId,
        actor: &Actor,
    ) -> Result<(), store::StoreError> {
        self.store().revoke_user_token(user, token, actor).await?;
        Ok(())
    }
}

/// The built-in agent that calls without identity act as, on loopback.
fn local_agent() -> Result<Agent, StartError> {
    Ok(Agent {
        id: AgentId::LOCAL,
        name: "local".parse().map_err(unreadable)?,
        owner: None,
        teams: BTreeSet::new(),
        roles: ["reader"]
            .iter()
            .filter_map(|role| role.parse().ok())
            .collect(),
        env: Environment::Prod,
        trust: authz::agent::default_trust(),
        suspended: false,
        allowed_mcps: BTreeSet::new(),
    })
}

#[allow(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn unreadable(error: authz::id::InvalidId) -> StartError {
    StartError::Store(store::StoreError::Corrupt {
        what: "name",
        why: error.to_string(),
    })
}
