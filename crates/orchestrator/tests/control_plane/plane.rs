//! A control plane on a database in memory, with a clock that tests turn.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use authz::{
    AgentId, AgentRef, ApprovalRequestId, Arguments, Clock, Grant, Risk, Service, Target,
    Timestamp, command::Environment,
};
use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use contract::{
    Client,
    agents::{AgentView, CreateAgent, CreateToken},
    approvals::OpenApproval,
    users::{Code, CreateUser},
};
use orchestrator::{Config, Orchestrator, notifications::Settings};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use tower::ServiceExt;

pub(crate) const CONTROL: &str = "control-token-of-the-tests";
pub(crate) const START: i64 = 1_780_000_000_000;

pub(crate) struct Plane {
    pub(crate) orchestrator: Orchestrator,
    /// The first admin, who may approve too.
    pub(crate) admin: Client,
    pub(crate) admin_token: String,
    pub(crate) link: String,
    pub(crate) gateway: Client,
    pub(crate) folder: tempfile::TempDir,
    now: Arc<AtomicI64>,
}

/// The repository's own policies in a folder of their own.
pub(crate) fn policies() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::copy(
        root.join("schema.cedarschema"),
        folder.path().join("schema.cedarschema"),
    )
    .unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    for file in fs::read_dir(root.join("policies")).unwrap() {
        let file = file.unwrap().path();
        if file
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            fs::copy(
                &file,
                folder
                    .path()
                    .join("policies")
                    .join(file.file_name().unwrap()),
            )
            .unwrap();
        }
    }
    folder
}

pub(crate) fn config(folder: &Path) -> Config {
    Config {
        control_token: Some(CONTROL.into()),
        cors_origins: vec!["https://admin.example".to_owned()],
        schema: folder.join("schema.cedarschema"),
        policies: folder.join("policies"),
        public_url: "http://gate.example:9403".to_owned(),
        approval_lifetime: Duration::from_hours(24),
        rejection_cool_down: Duration::from_mins(15),
        open_limit: 3,
        notifications: Settings {
            secrets_key: Some("the key of the tests".into()),
            smtp: None,
            private_hosts: vec!["127.0.0.1".to_owned()],
        },
        trusted_proxies: Vec::new(),
        people: orchestrator::people::Config::default(),
    }
}

impl Plane {
    pub(crate) async fn new() -> Self {
        Self::with(START, |_| {}).await
    }

    /// One whose clock stands there, and whose settings are a little different.
    pub(crate) async fn with(start: i64, change: impl FnOnce(&mut Config)) -> Self {
        let folder = policies();
        let now = Arc::new(AtomicI64::new(start));
        let clock = {
            let now = Arc::clone(&now);
            Clock::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst)))
        };
        // A file, as in service: what is only in memory goes with its connection, and a
        // request that is cut off may take that along.
        let database = format!("sqlite://{}", folder.path().join("plane.db").display());
        let store = store::Store::open(&database).await.unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let orchestrator = Orchestrator::open(config, store, clock).await.unwrap();
        let bootstrap = orchestrator.bootstrap().await.unwrap().unwrap();
        let admin_token = bootstrap.token.expose_secret().to_owned();
        let client = |token: &str| {
            Client::over(
                orchestrator.router(),
                Some(SecretString::from(token)),
                Duration::from_secs(20),
            )
        };
        Self {
            admin: client(&admin_token),
            gateway: client(CONTROL),
            admin_token,
            link: bootstrap.link,
            orchestrator: orchestrator.clone(),
            folder,
            now,
        }
    }

    pub(crate) fn client(&self, token: &str) -> Client {
        Client::over(
            self.orchestrator.router(),
            Some(SecretString::from(token)),
            Duration::from_secs(20),
        )
    }

    /// A second process on the same database.
    pub(crate) async fn another(&self) -> Orchestrator {
        let now = Arc::clone(&self.now);
        let clock = Clock::new(move || Timestamp::from_millis(now.load(Ordering::SeqCst)));
        let database = format!("sqlite://{}", self.folder.path().join("plane.db").display());
        let store = store::Store::open(&database).await.unwrap();
        Orchestrator::open(config(self.folder.path()), store, clock)
            .await
            .unwrap()
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.now
            .fetch_add(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// Turns the clock back.
    pub(crate) fn back(&self, time: Duration) {
        self.now
            .fetch_sub(i64::try_from(time.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    /// A person with these roles, and their client and token.
    pub(crate) async fn person(&self, id: &str, roles: &[&str]) -> (Client, String) {
        let create = CreateUser {
            id: id.parse().unwrap(),
            name: String::new(),
            teams: BTreeSet::new(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        };
        self.admin.create_user(&create).await.unwrap();
        let token = self
            .admin
            .create_user_token(&create.id, &CreateToken::default())
            .await
            .unwrap()
            .token;
        (self.client(&token), token)
    }

    /// Enrols a device for whoever holds the token, which proves a second factor with it;
    /// gives back what the device shares with the orchestrator.
    pub(crate) async fn enrol(&self, token: &str) -> String {
        let client = self.client(token);
        let secret = client.begin_second_factor().await.unwrap().secret;
        let code = Code {
            code: self.code(&secret),
        };
        client.enrol_second_factor(&code).await.unwrap();
        secret
    }

    /// What a device with that secret shows now.
    pub(crate) fn code(&self, secret: &str) -> String {
        let seconds = u64::try_from(self.now().as_millis() / 1_000).unwrap();
        code_at(secret, seconds)
    }

    /// The checklist's agent: it may use GitHub only.
    pub(crate) async fn agent(&self, name: &str, owner: Option<&str>) -> AgentView {
        let create = CreateAgent {
            name: name.parse().unwrap(),
            owner: owner.map(|owner| owner.parse().unwrap()),
            teams: BTreeSet::new(),
            roles: BTreeSet::new(),
            env: Environment::Prod,
            trust: 1,
            allowed_mcps: ["github".parse().unwrap()].into(),
        };
        self.admin.create_agent(&create).await.unwrap()
    }

    /// Changes the database behind everyone's back.
    pub(crate) async fn edit(&self, database: &str, sql: &'static str) {
        let pool = sqlx::SqlitePool::connect(database).await.unwrap();
        let done = sqlx::query(sql).execute(&pool).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{sql}");
        pool.close().await;
    }

    /// One request through the router, as a browser or curl sends it.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.orchestrator.router().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 16 * 1024 * 1024).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Serves on a free port of the loopback, until the test ends.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = self.orchestrator.router();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    /// The agent's grants, as a gateway is told.
    pub(crate) async fn grants(&self, agent: AgentId) -> Vec<Grant> {
        let facts = self.gateway.facts(&by_id(agent)).await;
        facts.unwrap().grants
    }

    /// A request that a gateway opened: for `list-servers` with these arguments.
    pub(crate) async fn asked(&self, agent: AgentId, arguments: Value) -> ApprovalRequestId {
        let open = refused(self, agent, arguments).await;
        self.gateway.open_approval(&open).await.unwrap().id
    }
}

/// What a device with that secret shows so many seconds after the epoch.
pub(crate) fn code_at(secret: &str, seconds: u64) -> String {
    let secret = totp_rs::Secret::try_from_base32(secret).unwrap();
    let device = totp_rs::Builder::new().with_secret(secret).build().unwrap();
    device.generate(seconds).to_string()
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {}", self.body))
    }

    pub(crate) fn detail(&self) -> String {
        self.json()["detail"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// The cookie of that name that it sets, as a browser sends it back.
    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.headers
            .get_all("set-cookie")
            .iter()
            .map(|cookie| cookie.to_str().unwrap())
            .find(|cookie| cookie.starts_with(&format!("{name}=")))
            .map(|cookie| cookie.split(';').next().unwrap().to_owned())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }
}

/// What a gateway sends when the agent may not list Coolify's servers.
pub(crate) async fn refused(plane: &Plane, agent: AgentId, arguments: Value) -> OpenApproval {
    let Value::Object(values) = arguments else {
        panic!("an object")
    };
    let arguments = Arguments::new(values);
    OpenApproval {
        agent,
        target: target("list-servers", Risk::Read),
        arguments: arguments.values().clone(),
        digest: arguments.digest().clone(),
        reason: "to see what runs where".to_owned(),
        policies: vec![],
        advice: vec![],
        workflow: Some("owner".to_owned()),
        approvals: 1,
        policy_set: plane.gateway.policy_set_bundle().await.unwrap().version,
        ip: Some("10.0.0.7".parse().unwrap()),
        session: None,
    }
}

pub(crate) fn target(command: &str, risk: Risk) -> Target {
    Target {
        key: format!("coolify/{command}").parse().unwrap(),
        service: Arc::new(Service {
            name: "coolify".parse().unwrap(),
            env: Environment::Prod,
            owners: None,
            zones: BTreeSet::new(),
        }),
        risk,
        zones: BTreeSet::new(),
        pinned: true,
    }
}

pub(crate) fn no_arguments() -> Value {
    Value::Object(Map::new())
}

pub(crate) fn by_id(id: AgentId) -> AgentRef {
    AgentRef::Id(id)
}

pub(crate) fn legacy_request(agent: &str) -> Value {
    json!({"agent_id": agent, "service_name": "coolify", "reason": "needs it", "timestamp": "2025-11-06T10:30:00.000Z"})
}
