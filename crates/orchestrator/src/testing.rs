//! What the tests inside this crate share: a control plane on a database of its own.

use std::{collections::BTreeSet, path::Path, time::Duration};

use authz::{Agent, AgentId, Clock, Timestamp, command::Environment};
use store::{Actor, Store};

use crate::{Config, Orchestrator};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_780_000_000_000);

/// One on a database of its own, which lives as long as the folder.
pub(crate) async fn orchestrator() -> (Orchestrator, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (orchestrator_on(open(&folder).await).await, folder)
}

/// One on a database that is there.
pub(crate) async fn orchestrator_on(store: Store) -> Orchestrator {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let config = Config {
        control_token: None,
        cors_origins: Vec::new(),
        schema: root.join("schema.cedarschema"),
        policies: root.join("policies"),
        public_url: "http://127.0.0.1:9403".to_owned(),
        approval_lifetime: Duration::from_hours(24),
        rejection_cool_down: Duration::from_mins(15),
        open_limit: 1_000,
        notifications: crate::notifications::Settings::default(),
        trusted_proxies: Vec::new(),
        people: crate::people::Config::default(),
    };
    Orchestrator::open(config, store, Clock::new(|| NOW))
        .await
        .unwrap()
}

/// Another process on the same database.
pub(crate) async fn open(folder: &tempfile::TempDir) -> Store {
    let database = format!("sqlite://{}", folder.path().join("plane.db").display());
    Store::open(&database).await.unwrap()
}

/// The first admin's token.
pub(crate) async fn admin(orchestrator: &Orchestrator) -> String {
    use secrecy::ExposeSecret;
    let bootstrap = orchestrator.bootstrap().await.unwrap().unwrap();
    bootstrap.token.expose_secret().to_owned()
}

pub(crate) fn actor() -> Actor {
    Actor::itself("gateway", NOW)
}

pub(crate) fn agent(name: &str) -> Agent {
    Agent {
        id: AgentId::generate(NOW),
        name: name.parse().unwrap(),
        owner: None,
        teams: BTreeSet::new(),
        roles: BTreeSet::new(),
        env: Environment::Prod,
        trust: 1,
        suspended: false,
        allowed_mcps: BTreeSet::new(),
    }
}
