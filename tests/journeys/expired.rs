//! What time ends by itself: both planes in this process, on a clock that the journey moves.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use authz::{Clock, Timestamp};
use cedargate::{
    config::{Config, Environment, Settings},
    planes::Planes,
    sample_coolify::SampleCoolify,
};
use cedargate_tests::system::{COOLIFY_TOKEN, Reply};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

/// 2026-11-22T12:00:00Z.
const NOON: i64 = 1_795_348_800_000;

const SERVERS: &str = "/mcp-coolify servers list";

/// `cedargate serve` without a process of its own.
struct House {
    now: Arc<AtomicI64>,
    planes: Planes,
    coolify: SampleCoolify,
    admin: String,
    http: reqwest::Client,
    _data: TempDir,
}

impl House {
    async fn start() -> anyhow::Result<Self> {
        let data = TempDir::with_prefix("cedargate-journey-")?;
        let coolify = SampleCoolify::start(COOLIFY_TOKEN).await?;
        let repository = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("tests/ lies in the repository")?;
        let path = |path: &Path| path.display().to_string();
        let mut environment = Environment::default();
        for (name, value) in [
            ("PORT", "0"),
            ("METRICS_PORT", "0"),
            ("BACKEND_PORT", "0"),
            ("CEDARGATE_DATA", &path(data.path())),
            ("CEDARGATE_POLICIES", &path(&repository.join("policies"))),
            (
                "CEDARGATE_SCHEMA",
                &path(&repository.join("schema.cedarschema")),
            ),
            ("COOLIFY_API_URL", &coolify.url()),
            ("COOLIFY_API_TOKEN", COOLIFY_TOKEN),
        ] {
            environment = environment.with(name, value);
        }
        let settings =
            Settings::read(None, environment.clone(), std::collections::BTreeMap::new())?;
        let config = Config::from_settings(&settings)?;
        let now = Arc::new(AtomicI64::new(NOON));
        let time = Arc::clone(&now);
        let clock = Clock::new(move || Timestamp::from_millis(time.load(Ordering::SeqCst)));
        let planes = Planes::start_both(&config, &environment, clock).await?;
        let admin = std::fs::read_to_string(data.path().join("admin-token"))?;
        let house = Self {
            now,
            planes,
            coolify,
            admin: admin.trim().to_owned(),
            http: reqwest::Client::builder().no_proxy().build()?,
            _data: data,
        };
        cedargate_tests::soon("the gateway is ready", async {
            while !house
                .gateway(Method::GET, "/ready")
                .send()
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                tokio::task::yield_now().await;
            }
        })
        .await?;
        Ok(house)
    }

    fn pass(&self, time: Duration) {
        let millis = i64::try_from(time.as_millis()).unwrap();
        self.now.fetch_add(millis, Ordering::SeqCst);
    }

    fn gateway(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let address = self.planes.gateway.as_ref().unwrap().address;
        self.http.request(method, format!("http://{address}{path}"))
    }

    async fn execute(&self, agent: &str, command: &str) -> anyhow::Result<Reply> {
        read(
            self.gateway(Method::POST, "/execute")
                .header("X-Agent-Id", agent)
                .json(&json!({"command": command})),
        )
        .await
    }

    async fn admin(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Reply> {
        let address = self.planes.orchestrator.as_ref().unwrap().address;
        let request = self.http.request(method, format!("http://{address}{path}"));
        read(request.bearer_auth(&self.admin).json(&body)).await
    }

    async fn agent(&self, name: &str) -> anyhow::Result<String> {
        let reply = self
            .admin(Method::POST, "/api/agents", json!({"name": name}))
            .await?;
        Ok(reply.body["id"]
            .as_str()
            .with_context(|| format!("{reply:?}"))?
            .to_owned())
    }
}

async fn read(request: reqwest::RequestBuilder) -> anyhow::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    Ok(Reply {
        status,
        headers,
        body: response.json().await?,
    })
}

/// The request that a refusal names.
fn request_of(refused: &Reply) -> anyhow::Result<String> {
    anyhow::ensure!(refused.status == StatusCode::FORBIDDEN, "{refused:?}");
    let id = refused.body["error"]["data"]["request_id"].as_str();
    Ok(id.with_context(|| format!("{refused:?}"))?.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_ends_and_the_next_call_asks_anew() -> anyhow::Result<()> {
    let house = House::start().await?;
    let agent = house.agent("punctual").await?;
    let first = request_of(&house.execute(&agent, SERVERS).await?)?;
    let approved = house
        .admin(
            Method::POST,
            &format!("/api/approvals/{first}/approve"),
            json!({"reach": "call", "duration_seconds": 3600}),
        )
        .await?;
    assert!(approved.status.is_success(), "{approved:?}");

    // It works from now on and until the last millisecond of its hour.
    assert_eq!(house.execute(&agent, SERVERS).await?.status, StatusCode::OK);
    house.pass(Duration::from_millis(3_600_000 - 1));
    assert_eq!(house.execute(&agent, SERVERS).await?.status, StatusCode::OK);
    let reached = house.coolify.count();

    house.pass(Duration::from_millis(1));
    let refused = house.execute(&agent, SERVERS).await?;
    let second = request_of(&refused)?;
    assert_ne!(first, second, "a new request");
    assert_eq!(refused.body["error"]["data"]["outcome"], "pending");
    assert_eq!(house.coolify.count(), reached, "nothing was sent");
    let grants = house.admin(Method::GET, "/api/grants", Value::Null).await?;
    assert_eq!(grants.body, json!([]), "none is active");

    house.planes.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_nobody_decided_ends_and_the_next_call_opens_another() -> anyhow::Result<()>
{
    let house = House::start().await?;
    let agent = house.agent("patient").await?;
    let first = request_of(&house.execute(&agent, SERVERS).await?)?;

    house.pass(Duration::from_hours(24) - Duration::from_millis(1));
    let same = request_of(&house.execute(&agent, SERVERS).await?)?;
    assert_eq!(first, same, "it waits for a whole day");

    house.pass(Duration::from_millis(1));
    let late = house
        .admin(
            Method::POST,
            &format!("/api/approvals/{first}/approve"),
            json!({}),
        )
        .await?;
    assert_eq!(late.status, StatusCode::CONFLICT, "{late:?}");
    let second = request_of(&house.execute(&agent, SERVERS).await?)?;
    assert_ne!(first, second);
    let shown = house
        .admin(Method::GET, &format!("/api/approvals/{first}"), Value::Null)
        .await?;
    assert_eq!(shown.body["status"], "expired", "{shown:?}");

    // The agent that follows the old one is told so.
    let followed = read(
        house
            .gateway(Method::GET, &format!("/approvals/{first}"))
            .header("X-Agent-Id", &agent),
    )
    .await?;
    assert_eq!(followed.body["status"], "expired", "{followed:?}");

    let approved = house
        .admin(
            Method::POST,
            &format!("/api/approvals/{second}/approve"),
            json!({}),
        )
        .await?;
    assert!(approved.status.is_success(), "{approved:?}");
    assert_eq!(house.execute(&agent, SERVERS).await?.status, StatusCode::OK);
    house.planes.stop().await;
    Ok(())
}
