//! What the tests of this crate share: a fresh database of each kind, and people and
//! agents to fill it with.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use authz::{
    Agent, AgentId, AgentName, ApprovalRequestId, Arguments, Grant, PolicySetVersion, Risk,
    Service, Target, TokenId, User, UserId,
    approval::{Ask, Reach},
    command::Environment,
    time::Timestamp,
};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

use crate::{
    Actor, Store, StoreError,
    agents::Token,
    approvals::{Approved, Decision, NewApproval},
};

/// When everything in these tests begins.
pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// So many seconds after noon.
pub(crate) fn after(seconds: u64) -> Timestamp {
    NOON.plus(Duration::from_secs(seconds))
}

/// What the orchestrator itself does at noon.
pub(crate) fn actor() -> Actor {
    at(NOON)
}

/// What the orchestrator itself does then.
pub(crate) fn at(at: Timestamp) -> Actor {
    Actor::itself("api", at)
}

/// Writes one test as two, one for each engine, with a fresh database each.
macro_rules! on_both_engines {
    ($($(#[$meta:meta])* async fn $name:ident($fixture:ident) $body:block)+) => {$(
        $(#[$meta])*
        mod $name {
            #[allow(unused_imports, reason = "not every test needs something of its module")]
            use super::*;

            async fn run($fixture: &crate::testing::Fixture) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                let fixture = crate::testing::Fixture::sqlite().await;
                run(&fixture).await;
                fixture.end().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                let fixture = crate::testing::Fixture::postgres().await;
                run(&fixture).await;
                fixture.end().await;
            }
        }
    )+};
}

pub(crate) use on_both_engines;

/// Where the throw-away PostgreSQL server is.
pub(crate) const SERVER: &str = "CEDARGATE_TEST_POSTGRES";

/// A fresh database.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) url: String,
    folder: Option<TempDir>,
    database: Option<String>,
}

impl Fixture {
    /// In a file of its own.
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("store.db").display());
        let store = Store::open(&url).await.unwrap();
        Self {
            store,
            url,
            folder: Some(folder),
            database: None,
        }
    }

    /// In a database of its own on the throw-away server.
    pub(crate) async fn postgres() -> Self {
        let (url, database) = Self::empty_postgres().await;
        let store = Store::open(&url).await.unwrap();
        Self {
            store,
            url,
            folder: None,
            database: Some(database),
        }
    }

    /// The URL and name of an empty database on the throw-away server.
    pub(crate) async fn empty_postgres() -> (String, String) {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "store_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let server = server();
        let mut connection = PgConnection::connect(&server).await.unwrap();
        for sql in [
            format!("DROP DATABASE IF EXISTS {name}"),
            format!("CREATE DATABASE {name}"),
        ] {
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        connection.close().await.unwrap();
        let (base, _) = server
            .rsplit_once('/')
            .expect("a URL that ends in a database's name");
        (format!("{base}/{name}"), name)
    }

    /// Drops what was made on the server.
    pub(crate) async fn drop_postgres(database: &str) {
        let mut connection = PgConnection::connect(&server()).await.unwrap();
        connection
            .execute(AssertSqlSafe(format!(
                "DROP DATABASE IF EXISTS {database} WITH (FORCE)"
            )))
            .await
            .unwrap();
    }

    /// A second process on the same database.
    pub(crate) async fn another(&self) -> Store {
        Store::open(&self.url).await.unwrap()
    }

    pub(crate) async fn end(self) {
        self.store.close().await;
        if let Some(database) = &self.database {
            Self::drop_postgres(database).await;
        }
        drop(self.folder);
    }

    /// An agent of that name, in the database.
    pub(crate) async fn agent(&self, name: &str) -> Agent {
        self.store
            .create_agent(&agent(name), &actor())
            .await
            .unwrap()
            .agent
    }

    /// A user of that name, in the database.
    pub(crate) async fn user(&self, id: &str) -> UserId {
        self.store
            .create_user(&user(id), &actor())
            .await
            .unwrap()
            .user
            .id
    }

    /// A request of the agent's for a call with these arguments, opened at noon.
    pub(crate) async fn opened(
        &self,
        agent: &Agent,
        arguments: Value,
        approvals: u8,
    ) -> ApprovalRequestId {
        let new = request(agent, arguments, approvals, NOON);
        let (approval, opened) = self
            .store
            .open_approval(new, 1_000, &actor())
            .await
            .unwrap();
        assert!(opened);
        approval.new.id
    }

    /// An approval that policy does not stand in the way of.
    pub(crate) async fn approve(
        &self,
        id: ApprovalRequestId,
        by: &UserId,
        reach: Reach,
        hours: u64,
        now: Timestamp,
    ) -> Result<Approved, StoreError> {
        let hours = Duration::from_hours(hours);
        let actor = Actor {
            user: Some(by.clone()),
            via: "api",
            from: None,
            at: now,
        };
        let decision = Decision {
            by,
            reason: "fine",
            policy_set: Some(&version("a1")),
        };
        self.store
            .approve(id, decision, (reach, hours), &actor, |_| {
                Ok::<_, StoreError>(())
            })
            .await
    }

    /// A grant of that reach for one hour from noon on, to a new agent, given by a new user.
    pub(crate) async fn granted(&self, name: &str, reach: Reach) -> Grant {
        let agent = self.agent(name).await;
        let by = self.user(&format!("{name}-approver")).await;
        let id = self.opened(&agent, json!({}), 1).await;
        match self.approve(id, &by, reach, 1, NOON).await.unwrap() {
            Approved::Granted(_, grant) => grant,
            Approved::Advanced(_) => panic!("one approval was needed"),
        }
    }
}

fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!(
            "{SERVER} is not set: the store's tests need a PostgreSQL server that they may fill. \
             Run `tests/run`, which starts one, or set it to a throw-away server's URL, such as \
             postgres://postgres@127.0.0.1:5432/postgres"
        )
    })
}

pub(crate) fn agent(name: &str) -> Agent {
    Agent {
        id: AgentId::generate(NOON),
        name: name.parse::<AgentName>().unwrap(),
        owner: Some("olga@example.com".parse().unwrap()),
        teams: BTreeSet::from(["platform".parse().unwrap(), "data".parse().unwrap()]),
        roles: BTreeSet::from(["deployer".parse().unwrap()]),
        env: Environment::Staging,
        trust: 3,
        suspended: false,
        allowed_mcps: BTreeSet::from(["github".parse().unwrap()]),
    }
}

pub(crate) fn user(id: &str) -> User {
    User {
        id: id.parse().unwrap(),
        name: format!("{id}, the person"),
        teams: BTreeSet::from(["platform".parse().unwrap()]),
        roles: BTreeSet::from(["approver".parse().unwrap()]),
        active: true,
    }
}

/// A credential whose digest is made of that text.
pub(crate) fn token(digest: &str) -> Token {
    Token {
        id: TokenId::generate(NOON),
        digest: format!("{digest:0>64}"),
        label: "laptop".to_owned(),
        created: NOON,
        expires: None,
        revoked: None,
        last_used: None,
    }
}

pub(crate) fn version(text: &str) -> PolicySetVersion {
    serde_json::from_value(Value::String(format!("{text:0>64}"))).unwrap()
}

pub(crate) fn request(
    agent: &Agent,
    arguments: Value,
    approvals: u8,
    now: Timestamp,
) -> NewApproval {
    let Value::Object(values) = arguments else {
        panic!("arguments are an object")
    };
    let service = Service {
        name: "coolify".parse().unwrap(),
        env: Environment::Prod,
        owners: None,
        zones: BTreeSet::new(),
    };
    let target = Target {
        key: "coolify/deploy".parse().unwrap(),
        service: Arc::new(service),
        risk: Risk::Write,
        zones: BTreeSet::from(["pci".parse().unwrap()]),
        pinned: true,
    };
    let arguments = Arguments::new(values);
    NewApproval {
        id: ApprovalRequestId::generate(now),
        ask: Ask {
            agent: agent.clone(),
            target,
            digest: arguments.digest().clone(),
            requester: Some("rita".parse().unwrap()),
            approved_by: Vec::new(),
            approvals,
        },
        arguments: arguments.values().clone(),
        reason: "the release is due".to_owned(),
        policies: vec!["base.no-write".to_owned()],
        advice: vec!["ask the platform team".to_owned()],
        workflow: Some("standard".to_owned()),
        policy_set: version("a1"),
        expires: now.plus(Duration::from_hours(24)),
    }
}

/// Texts that some layer might take for something else.
pub(crate) const ODD_TEXTS: [&str; 9] = [
    "'; DROP TABLE grants; --",
    "\" OR \"\"=\"",
    "<script>alert(1)</script> &amp; <b>",
    "%s %d \\x00 \\u0000 \\' $1 ? :name @p1",
    "line\r\nfeed\ttab\u{1b}[31mred",
    "日本語 🙂 e\u{301} \u{202e}txt.exe",
    "{\"json\": [null, true, \"\\\"\"]}",
    "",
    " leading and trailing ",
];
