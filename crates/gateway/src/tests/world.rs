//! A gateway between an orchestrator and a Coolify that do as a test tells them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use authz::{
    Agent, AgentId, Clock, Facts, Grant, PolicySources, Risk, Scope, Source, Timestamp, TokenId,
};
use axum::{
    Json, Router,
    extract::{Path, Query, Request as AxumRequest, State},
    middleware::Next,
    response::{IntoResponse, Response as AxumResponse},
    routing::{get, post, put},
};
use bytes::Bytes;
use contract::{
    approvals::{ApprovalStatus, ApprovalSummary, OpenApproval},
    audit::{JournalStored, ShipJournal},
    budgets::{BudgetUse, BudgetsElsewhere, ReportBudgets},
    catalog::GatewayCatalog,
    facts::{Credential, CredentialQuery, SpendGrant},
    feed::{Change, FeedEvent},
    gateways::{GatewayStatus, GatewayTold},
    policy_sets::PolicySetBundle,
    zones::GatewayZones,
};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, mpsc, watch};
use tower::ServiceExt;

use crate::{Background, Config, Gateway, facts::Monotonic, service::stack};

pub(crate) const BOT: &str = "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f";
pub(crate) const OTHER: &str = "7a2c9b63-0e1f-4b5f-9022-2e3d4c5b6f70";
pub(crate) const BOT_TOKEN: &str = "cgt_0000000000000000000000000000000000000000000";
pub(crate) const GATEWAY_TOKEN: &str = "a-gateway-token-that-is-long-enough";
pub(crate) const NOON: i64 = 1_800_000_000_000;
pub(crate) const LOOPBACK: &str = "127.0.0.1:50000";
pub(crate) const ELSEWHERE: &str = "10.0.0.7:50000";

/// What the orchestrator knows and was told.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) agents: BTreeMap<AgentId, Facts>,
    pub(crate) credentials: BTreeMap<String, Credential>,
    pub(crate) approvals: Vec<(OpenApproval, ApprovalSummary)>,
    pub(crate) spent: BTreeSet<String>,
    pub(crate) feed: Vec<FeedEvent>,
    pub(crate) journal: Vec<Value>,
    pub(crate) policy_set: Option<PolicySetBundle>,
    pub(crate) shadow: Option<PolicySetBundle>,
    /// Absent: it does not know of zones that people assign.
    pub(crate) zones: Option<GatewayZones>,
    /// A proxy answers, and nobody is behind it.
    pub(crate) behind_a_proxy: bool,
    pub(crate) statuses: Vec<GatewayStatus>,
    pub(crate) catalogs: Vec<GatewayCatalog>,
    pub(crate) budgets: Vec<ReportBudgets>,
    /// What went through other gateways.
    pub(crate) elsewhere: Vec<BudgetUse>,
}

pub(crate) struct Orchestrator {
    pub(crate) known: Mutex<Known>,
    /// Everything but the feed answers 503.
    pub(crate) down: AtomicBool,
    /// The feed answers 503 as well.
    pub(crate) cut: AtomicBool,
    /// Questions about facts wait for ever.
    pub(crate) slow: AtomicBool,
    pub(crate) approvals_fail: AtomicBool,
    pub(crate) approvals_full: AtomicBool,
    /// Zones cannot be told.
    pub(crate) zones_fail: AtomicBool,
    pub(crate) budgets_fail: AtomicBool,
    pub(crate) facts_asked: AtomicUsize,
    head: watch::Sender<i64>,
    journaled: watch::Sender<usize>,
    clock: Arc<AtomicI64>,
}

type Fake = State<Arc<Orchestrator>>;

impl Orchestrator {
    /// Changes what it knows, and says so on the feed.
    pub(crate) fn change(&self, change: Change, how: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap();
        how(&mut known);
        let sequence = i64::try_from(known.feed.len()).unwrap() + 1;
        known.feed.push(FeedEvent {
            sequence,
            at: Timestamp::from_millis(NOON),
            change,
        });
        for facts in known.agents.values_mut() {
            facts.version = sequence;
        }
        self.head.send_replace(sequence);
    }

    /// Says something on the feed as if something else had been said before and lost.
    pub(crate) fn skip(&self, change: Change) {
        let mut known = self.known.lock().unwrap();
        let last = i64::try_from(known.feed.len()).unwrap();
        known.feed.push(FeedEvent {
            sequence: last + 2,
            at: Timestamp::from_millis(NOON),
            change,
        });
        self.head.send_replace(last + 2);
    }

    pub(crate) fn opened(&self) -> Vec<OpenApproval> {
        self.known
            .lock()
            .unwrap()
            .approvals
            .iter()
            .map(|(open, _)| open.clone())
            .collect()
    }

    fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/api/gateway/facts/{agent}", get(facts))
            .route("/api/gateway/credentials", post(credential))
            .route(
                "/api/gateway/approvals",
                get(open_approvals).post(open_approval),
            )
            .route(
                "/api/gateway/approvals/{id}",
                get(approval_of).delete(withdraw),
            )
            .route("/api/gateway/grants/{id}/spend", post(spend))
            .route("/api/gateway/policy-set", get(policy_set))
            .route("/api/gateway/shadow-policy-set", get(shadow))
            .route("/api/gateway/zones", get(zones))
            .route("/health", get(health))
            .route("/api/gateway/status", post(status))
            .route("/api/gateway/catalog", put(catalog))
            .route("/api/gateway/journal", post(journal))
            .route("/api/gateway/budgets", post(budgets))
            .layer(axum::middleware::from_fn_with_state(
                Arc::clone(self),
                maybe_down,
            ))
            .route("/api/feed", get(feed))
            .with_state(Arc::clone(self))
    }
}

async fn maybe_down(State(fake): Fake, request: AxumRequest, next: Next) -> AxumResponse {
    if fake.down.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    next.run(request).await
}

async fn facts(State(fake): Fake, Path(agent): Path<String>) -> Result<Json<Facts>, StatusCode> {
    fake.facts_asked.fetch_add(1, Ordering::SeqCst);
    if fake.slow.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let known = fake.known.lock().unwrap();
    let now = Timestamp::from_millis(fake.clock.load(Ordering::SeqCst));
    let found = known
        .agents
        .values()
        .find(|facts| facts.agent.id.to_string() == agent || facts.agent.name.as_str() == agent);
    let mut facts = found.cloned().ok_or(StatusCode::NOT_FOUND)?;
    facts
        .grants
        .retain(|grant| now < grant.expires && !known.spent.contains(&grant.id.to_string()));
    Ok(Json(facts))
}

async fn credential(
    State(fake): Fake,
    Json(query): Json<CredentialQuery>,
) -> Result<Json<Credential>, StatusCode> {
    let known = fake.known.lock().unwrap();
    known
        .credentials
        .get(&query.digest)
        .cloned()
        .map(Json)
        .ok_or(StatusCode::NOT_FOUND)
}

async fn open_approval(
    State(fake): Fake,
    Json(open): Json<OpenApproval>,
) -> Result<Json<ApprovalSummary>, StatusCode> {
    if fake.approvals_fail.load(Ordering::SeqCst) {
        return Err(StatusCode::INTERNAL_SERVER_ERROR);
    }
    if fake.approvals_full.load(Ordering::SeqCst) {
        return Err(StatusCode::TOO_MANY_REQUESTS);
    }
    let mut known = fake.known.lock().unwrap();
    let joined = known.approvals.iter().find(|(other, _)| {
        other.agent == open.agent
            && other.target.key == open.target.key
            && other.digest == open.digest
    });
    if let Some((_, summary)) = joined {
        return Ok(Json(summary.clone()));
    }
    let now = Timestamp::from_millis(NOON);
    let summary = ApprovalSummary {
        id: authz::ApprovalRequestId::generate(now),
        agent: open.agent,
        command: open.target.key.clone(),
        status: ApprovalStatus::Pending,
        approvals_needed: open.approvals,
        approvals_given: 0,
        opened: now,
        expires: now.plus(Duration::from_hours(24)),
        retry_at: None,
        note: None,
    };
    known.approvals.push((open, summary.clone()));
    Ok(Json(summary))
}

async fn open_approvals(
    State(fake): Fake,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Vec<ApprovalSummary>> {
    let known = fake.known.lock().unwrap();
    let summaries = known.approvals.iter().map(|(_, summary)| summary);
    let open = summaries.filter(|summary| {
        summary.agent.to_string() == query["agent"] && summary.status == ApprovalStatus::Pending
    });
    Json(open.cloned().collect())
}

async fn approval_of(
    State(fake): Fake,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Result<Json<ApprovalSummary>, StatusCode> {
    let known = fake.known.lock().unwrap();
    let found = known.approvals.iter().find(|(_, summary)| {
        summary.id.to_string() == id && summary.agent.to_string() == query["agent"]
    });
    found
        .map(|(_, summary)| Json(summary.clone()))
        .ok_or(StatusCode::NOT_FOUND)
}

async fn withdraw(
    State(fake): Fake,
    Path(id): Path<String>,
    Query(query): Query<BTreeMap<String, String>>,
) -> AxumResponse {
    let mut known = fake.known.lock().unwrap();
    let found = known.approvals.iter_mut().find(|(_, summary)| {
        summary.id.to_string() == id && summary.agent.to_string() == query["agent"]
    });
    match found {
        None => StatusCode::NOT_FOUND.into_response(),
        Some((_, summary)) if summary.status == ApprovalStatus::Approved => {
            let body = json!({"detail": "it is approved already"});
            (StatusCode::CONFLICT, Json(body)).into_response()
        }
        Some((_, summary)) => {
            summary.status = ApprovalStatus::Withdrawn;
            Json(summary.clone()).into_response()
        }
    }
}

async fn spend(State(fake): Fake, Path(id): Path<String>, Json(_): Json<SpendGrant>) -> StatusCode {
    if fake.known.lock().unwrap().spent.insert(id) {
        StatusCode::OK
    } else {
        StatusCode::CONFLICT
    }
}

async fn policy_set(State(fake): Fake) -> Result<Json<PolicySetBundle>, StatusCode> {
    fake.known
        .lock()
        .unwrap()
        .policy_set
        .clone()
        .map(Json)
        .ok_or(StatusCode::NOT_FOUND)
}

async fn shadow(State(fake): Fake) -> Json<Option<PolicySetBundle>> {
    Json(fake.known.lock().unwrap().shadow.clone())
}

async fn health(State(fake): Fake) -> AxumResponse {
    if fake.known.lock().unwrap().behind_a_proxy {
        return StatusCode::NOT_FOUND.into_response();
    }
    Json(json!({"status": "healthy"})).into_response()
}

async fn zones(State(fake): Fake) -> AxumResponse {
    if fake.zones_fail.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    match fake.known.lock().unwrap().zones.clone() {
        Some(zones) => Json(zones).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn status(State(fake): Fake, Json(status): Json<GatewayStatus>) -> Json<GatewayTold> {
    let mut known = fake.known.lock().unwrap();
    let has = known.catalogs.last().map(|catalog| catalog.digest.clone());
    let catalog_wanted = status.catalog.is_some() && has != status.catalog;
    known.statuses.push(status);
    Json(GatewayTold { catalog_wanted })
}

async fn catalog(State(fake): Fake, Json(catalog): Json<GatewayCatalog>) -> StatusCode {
    fake.known.lock().unwrap().catalogs.push(catalog);
    StatusCode::NO_CONTENT
}

async fn budgets(State(fake): Fake, Json(report): Json<ReportBudgets>) -> AxumResponse {
    if fake.budgets_fail.load(Ordering::SeqCst) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let mut known = fake.known.lock().unwrap();
    known.budgets.push(report);
    Json(BudgetsElsewhere {
        told: Timestamp::from_millis(fake.clock.load(Ordering::SeqCst)),
        elsewhere: known.elsewhere.clone(),
    })
    .into_response()
}

async fn journal(State(fake): Fake, Json(ship): Json<ShipJournal>) -> Json<JournalStored> {
    let mut known = fake.known.lock().unwrap();
    let through = ship.lines.last().map_or(0, |line| line.sequence);
    known.journal.extend(
        ship.lines
            .iter()
            .map(|line| serde_json::from_str::<Value>(&line.text).unwrap()),
    );
    fake.journaled.send_replace(known.journal.len());
    Json(JournalStored { through })
}

async fn feed(State(fake): Fake) -> AxumResponse {
    if fake.cut.load(Ordering::SeqCst) {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let after = *fake.head.borrow();
    let seen = (fake.head.subscribe(), after, Arc::clone(&fake));
    let events = futures_util::stream::unfold(seen, |(mut head, after, fake)| async move {
        loop {
            let next = {
                let known = fake.known.lock().unwrap();
                known.feed.get(usize::try_from(after).unwrap()).cloned()
            };
            if let Some(event) = next {
                let text = format!(
                    "id: {}\ndata: {}\n\n",
                    event.sequence,
                    serde_json::to_string(&event).unwrap()
                );
                return Some((Ok::<_, std::io::Error>(text), (head, event.sequence, fake)));
            }
            // Wakes for every change; a heartbeat only when nothing changes for long.
            if tokio::time::timeout(Duration::from_secs(1), head.changed())
                .await
                .is_err()
            {
                return Some((Ok(":\n\n".to_owned()), (head, after, fake)));
            }
        }
    });
    axum::body::Body::from_stream(events.boxed()).into_response()
}

/// A Coolify that counts what it is asked.
pub(crate) struct Upstream {
    pub(crate) seen: Mutex<Vec<String>>,
    pub(crate) status: Mutex<StatusCode>,
    /// Closed: answers wait until permits are added.
    pub(crate) gate: Semaphore,
    pub(crate) gated: AtomicBool,
    pub(crate) arrived: mpsc::UnboundedSender<String>,
}

async fn upstream(State(upstream): State<Arc<Upstream>>, request: AxumRequest) -> AxumResponse {
    let what = format!("{} {}", request.method(), request.uri().path());
    upstream.seen.lock().unwrap().push(what.clone());
    let _ = upstream.arrived.send(what);
    if upstream.gated.load(Ordering::SeqCst) {
        upstream.gate.acquire().await.unwrap().forget();
    }
    let status = *upstream.status.lock().unwrap();
    if status != StatusCode::OK {
        return (
            status,
            Json(json!({"message": "SQLSTATE: password=hunter2-upstream-secret"})),
        )
            .into_response();
    }
    let body = match request.uri().path() {
        "/api/v1/servers" => {
            json!([{"uuid": "srv1", "name": "localhost", "ip": "10.0.0.1", "port": 22, "user": "root"}])
        }
        _ => json!({"message": "done"}),
    };
    Json(body).into_response()
}

pub(crate) struct World {
    pub(crate) orchestrator: Arc<Orchestrator>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<String>,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) now: Arc<AtomicI64>,
    pub(crate) monotonic: Arc<AtomicU64>,
    pub(crate) folder: tempfile::TempDir,
    background: Background,
    journaled: watch::Receiver<usize>,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answered {
    pub(crate) fn code(&self) -> i64 {
        self.body["error"]["code"].as_i64().unwrap_or_default()
    }

    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn data(&self) -> &Value {
        &self.body["error"]["data"]
    }
}

pub(crate) fn agent(id: &str, name: &str, roles: &[&str], allowed: &[&str]) -> Facts {
    Facts {
        agent: Agent {
            id: id.parse().unwrap(),
            name: name.parse().unwrap(),
            owner: None,
            teams: BTreeSet::new(),
            roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
            env: authz::command::Environment::Prod,
            trust: 1,
            suspended: false,
            allowed_mcps: allowed.iter().map(|name| name.parse().unwrap()).collect(),
        },
        grants: Vec::new(),
        version: 0,
    }
}

/// A grant to `BOT` that one person gave at noon.
pub(crate) fn grant(scope: Scope, risk: Risk, minutes: u64, single_use: bool) -> Grant {
    let now = Timestamp::from_millis(NOON);
    Grant {
        id: authz::GrantId::generate(now),
        agent: BOT.parse().unwrap(),
        scope,
        risk,
        issued: now,
        expires: now.plus(Duration::from_secs(minutes * 60)),
        first: "dan".parse().unwrap(),
        second: None,
        single_use,
        approval: authz::ApprovalRequestId::generate(now),
    }
}

pub(crate) fn sources() -> PolicySources {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = |path: &std::path::Path, name: String| Source {
        name,
        text: std::fs::read_to_string(path).unwrap(),
    };
    let policies = std::fs::read_dir(root.join("policies"))
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name()?.to_str()?.to_owned();
            path.extension()
                .is_some_and(|extension| extension == "cedar")
                .then(|| source(&path, format!("policies/{name}")))
        });
    PolicySources {
        schema: source(
            &root.join("schema.cedarschema"),
            "schema.cedarschema".to_owned(),
        ),
        policies: policies.collect(),
    }
}

pub(crate) fn bundle(sources: PolicySources) -> PolicySetBundle {
    PolicySetBundle {
        version: sources.version(),
        sources,
        activated: Timestamp::from_millis(NOON),
    }
}

pub(crate) fn sha(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

pub(crate) fn config(folder: &std::path::Path) -> Config {
    Config {
        name: "gateway-test".to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        metrics: "127.0.0.1:0".parse().unwrap(),
        gateway_token: None,
        trust_agent_header: false,
        max_staleness: Duration::from_secs(5),
        session_idle: Duration::from_mins(30),
        max_body_bytes: 1024 * 1024,
        deadline: Duration::from_secs(30),
        max_concurrent: 64,
        journal: folder.to_owned(),
        journal_file_bytes: 64 * 1024 * 1024,
        last_known_good: folder.join("policy-set.json"),
        last_known_zones: folder.join("zones.json"),
        approvals_url: "http://orchestrator.example/".to_owned(),
        limits: handlers::limits::Limits::default(),
        mcp: crate::McpSettings::default(),
    }
}

/// The orchestrator and the Coolify, without a gateway yet.
pub(crate) struct Around {
    pub(crate) orchestrator: Arc<Orchestrator>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) arrivals: mpsc::UnboundedReceiver<String>,
    pub(crate) client: contract::Client,
    pub(crate) catalog: Arc<handlers::Catalog>,
    pub(crate) clock: Clock,
    now: Arc<AtomicI64>,
    journaled: watch::Receiver<usize>,
}

pub(crate) async fn around() -> Around {
    let now = Arc::new(AtomicI64::new(NOON));
    let mut known = Known::default();
    for facts in [
        agent(BOT, "bot", &[], &["github"]),
        agent(OTHER, "other", &[], &["coolify"]),
        agent(&AgentId::LOCAL.to_string(), "local", &["reader"], &[]),
    ] {
        known.agents.insert(facts.agent.id, facts);
    }
    let credential = Credential {
        agent: BOT.parse().unwrap(),
        token: TokenId::generate(Timestamp::from_millis(NOON)),
        expires: Some(Timestamp::from_millis(NOON + 60_000)),
    };
    known.credentials.insert(sha(BOT_TOKEN), credential);
    known.policy_set = Some(bundle(sources()));
    let (head, _) = watch::channel(0);
    let (journaled_sender, journaled) = watch::channel(0);
    let orchestrator = Arc::new(Orchestrator {
        known: Mutex::new(known),
        down: AtomicBool::new(false),
        cut: AtomicBool::new(false),
        slow: AtomicBool::new(false),
        approvals_fail: AtomicBool::new(false),
        approvals_full: AtomicBool::new(false),
        zones_fail: AtomicBool::new(false),
        budgets_fail: AtomicBool::new(false),
        facts_asked: AtomicUsize::new(0),
        head,
        journaled: journaled_sender,
        clock: Arc::clone(&now),
    });
    let client = contract::Client::over(
        orchestrator.router().into_service::<Full<Bytes>>(),
        None,
        Duration::from_millis(300),
    );

    let (arrived, arrivals) = mpsc::unbounded_channel();
    let coolify = Arc::new(Upstream {
        seen: Mutex::default(),
        status: Mutex::new(StatusCode::OK),
        gate: Semaphore::new(0),
        gated: AtomicBool::new(false),
        arrived,
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .fallback(upstream)
        .with_state(Arc::clone(&coolify));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    // One service alone: what the others are called is no matter here.
    let coolify_alone = [(
        "services/coolify.toml",
        include_str!("../../../handlers/services/coolify.toml"),
    )];
    let catalog = handlers::Catalog::from_descriptions(&coolify_alone, &|name| match name {
        "COOLIFY_API_URL" => Some(format!("http://{address}")),
        "COOLIFY_API_TOKEN" => Some("coolify-credential-of-the-gateway".to_owned()),
        "HTTP_TIMEOUT_MS" => Some("10000".to_owned()),
        _ => None,
    })
    .unwrap();
    let time = Arc::clone(&now);
    Around {
        orchestrator,
        upstream: coolify,
        arrivals,
        client,
        catalog: Arc::new(catalog),
        clock: Clock::new(move || Timestamp::from_millis(time.load(Ordering::SeqCst))),
        now,
        journaled,
    }
}

impl Around {
    /// Sets the clock of the gateway to be forward.
    pub(crate) fn advance(&self, millis: i64) {
        self.now.fetch_add(millis, Ordering::SeqCst);
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let world = Self::over(around().await, change);
        world
            .until("it is ready", || {
                world.gateway.ready().status() == StatusCode::OK
            })
            .await;
        world
    }

    /// A gateway that may not be ready.
    pub(crate) fn over(around: Around, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        change(&mut config);
        let monotonic = Arc::new(AtomicU64::new(1_000));
        let time = Arc::clone(&monotonic);
        let (gateway, background) = Gateway::open(
            config,
            around.client,
            around.catalog,
            around.clock,
            Monotonic::new(move || Duration::from_secs(time.load(Ordering::SeqCst))),
        )
        .unwrap();
        Self {
            orchestrator: around.orchestrator,
            upstream: around.upstream,
            arrivals: around.arrivals,
            gateway,
            now: around.now,
            monotonic,
            folder,
            background,
            journaled: around.journaled,
        }
    }

    /// Lets others run until something is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut() -> bool) {
        let reached = tokio::time::timeout(Duration::from_secs(20), async {
            while !so() {
                tokio::task::yield_now().await;
            }
        });
        reached.await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    pub(crate) async fn send(&self, peer: &str, request: Request<Full<Bytes>>) -> Answered {
        let mut request = request;
        let peer: SocketAddr = peer.parse().unwrap();
        request
            .extensions_mut()
            .insert(crate::authenticate::Peer(peer));
        let response = stack(&self.gateway).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answered {
            status: parts.status,
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        }
    }

    pub(crate) fn request(
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap()
    }

    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answered {
        self.send(LOOPBACK, Self::request(Method::GET, path, headers, ""))
            .await
    }

    pub(crate) async fn post(&self, path: &str, agent: &str, body: &str) -> Answered {
        let headers = [("content-type", "application/json"), ("x-agent-id", agent)];
        self.send(LOOPBACK, Self::request(Method::POST, path, &headers, body))
            .await
    }

    /// A slash command of an agent that the loopback rule believes.
    pub(crate) async fn execute(&self, agent: &str, command: &str) -> Answered {
        self.post("/execute", agent, &json!({"command": command}).to_string())
            .await
    }

    pub(crate) fn reached(&self) -> Vec<String> {
        self.upstream.seen.lock().unwrap().clone()
    }

    /// Gives `BOT` a grant and waits until the gateway has heard of it.
    pub(crate) async fn give(&self, grant: Grant) {
        let generation = self.gateway.authorizer.facts.generations().total();
        let change = Change::ApprovalApproved {
            approval: grant.approval,
            agent: grant.agent,
            grant: grant.id,
        };
        self.orchestrator.change(change, |known| {
            known
                .agents
                .get_mut(&grant.agent)
                .unwrap()
                .grants
                .push(grant);
        });
        self.until("the change arrives", || {
            self.gateway.authorizer.facts.generations().total() != generation
        })
        .await;
    }

    /// Ends the gateway; every line of its journal, as the orchestrator has it.
    pub(crate) async fn end(mut self) -> Vec<Value> {
        self.background.end(&self.gateway).await;
        let head = crate::journal::verify(self.folder.path(), None)
            .unwrap()
            .head;
        let lines = usize::try_from(head.sequence).unwrap();
        self.journaled
            .wait_for(|journaled| *journaled == lines)
            .await
            .unwrap();
        self.orchestrator.known.lock().unwrap().journal.clone()
    }
}
