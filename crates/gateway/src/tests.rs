//! The gateway as agents meet it, between an orchestrator and a service that behave, or not.

mod approvals;
mod catalog;
mod facts;
mod limits;
mod policies;
mod requests;
mod server;
mod sessions;
mod waiting;
pub(crate) mod world;
mod zones;

use authz::{Risk, Scope};
use contract::{approvals::ApprovalStatus, feed::Change};
use futures_util::FutureExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tower::ServiceExt;

use self::world::{Answered, Around, BOT, LOOPBACK, OTHER, World, around, config, grant};
use super::*;

fn command_scope(command: &str) -> Scope {
    Scope::Command {
        command: command.parse().unwrap(),
    }
}

fn case(answered: &Answered) -> (u16, i64) {
    (answered.status.as_u16(), answered.code())
}

#[tokio::test]
async fn a_permitted_command_is_carried_out_and_recorded() {
    let world = World::new().await;
    for command in ["/mcp-coolify servers list", "/mcp-coolify list-servers"] {
        let answered = world.execute("local", command).await;
        assert_eq!(answered.status, StatusCode::OK, "{answered:?}");
        let result = &answered.body["result"];
        assert_eq!(result["status"], "success");
        assert_eq!(result["data"]["servers"][0]["name"], "localhost");
        let metadata = &result["metadata"];
        assert_eq!(metadata["operation"], "list-servers");
        assert_eq!(metadata["service"], "coolify");
        assert!(metadata["executionTime"].is_u64() && metadata["timestamp"].is_string());
        // What cannot be known is estimated from what is there, and says so.
        let tokens = result["data"].to_string().len().div_ceil(4);
        assert_eq!(metadata["tokensUsed"], tokens);
        let cost = metadata["cost"].as_f64().unwrap();
        assert!(
            (cost * 1e6 - f64::from(u32::try_from(tokens * 3).unwrap())).abs() < 1e-6,
            "{cost}"
        );
        assert_eq!(metadata["estimated"], json!(["tokensUsed", "cost"]));
        assert!(
            answered.body["id"].is_string(),
            "an id is made when none is given"
        );
    }
    assert_eq!(
        world.reached(),
        ["GET /api/v1/servers", "GET /api/v1/servers"]
    );

    let journal = world.end().await;
    let kinds: Vec<_> = journal
        .iter()
        .map(|line| line["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["start", "intent", "outcome", "intent", "outcome"]);
    assert_eq!(journal[1]["agent_name"], "local");
    assert_eq!(journal[1]["command"], "coolify/list-servers");
    assert_eq!(journal[1]["policies"], json!(["standing.reader"]));
    assert_eq!(
        journal[1]["policy_set"],
        world::sources().version().as_str()
    );
    assert_eq!(journal[2]["status"], "success");
    assert_eq!(journal[1]["decision"], journal[2]["decision"]);
}

#[tokio::test]
async fn without_a_policy_set_nothing_is_permitted_and_a_broken_one_changes_nothing() {
    let world = World::new().await;
    let broken = {
        let mut sources = world::sources();
        sources.policies.push(authz::Source {
            name: "policies/x.cedar".to_owned(),
            text: "permit (".to_owned(),
        });
        sources
    };
    let before = world.gateway.policies.current().unwrap();
    for bundle in [
        world::bundle(broken.clone()),
        // Sources that are not those that the version names.
        contract::policy_sets::PolicySetBundle {
            sources: broken,
            ..world::bundle(world::sources())
        },
    ] {
        let version = bundle.version.clone();
        if version == world::sources().version() {
            // What is in force already is not loaded again.
            assert!(world.gateway.policies.put_in_force(bundle).await.is_ok());
        } else {
            assert!(world.gateway.policies.put_in_force(bundle).await.is_err());
        }
        assert!(Arc::ptr_eq(
            &before,
            &world.gateway.policies.current().unwrap()
        ));
    }
    let mut forged = world::sources();
    forged.policies.clear();
    let forged = contract::policy_sets::PolicySetBundle {
        version: world::bundle(forged).version,
        ..world::bundle(world::sources())
    };
    assert!(world.gateway.policies.put_in_force(forged).await.is_err());

    // Another set is fetched and swapped in when the feed says so.
    let mut other = world::sources();
    other
        .policies
        .retain(|source| source.name != "policies/standing.cedar");
    let version = other.version();
    world.orchestrator.change(
        Change::PolicySetActivated {
            version: version.clone(),
        },
        |known| {
            known.policy_set = Some(world::bundle(other));
        },
    );
    world
        .until("the other set is in force", || {
            !Arc::ptr_eq(&before, &world.gateway.policies.current().unwrap())
        })
        .await;
    let answered = world.execute("local", "/mcp-coolify list-servers").await;
    assert_eq!(answered.status, StatusCode::FORBIDDEN, "{answered:?}");
    assert_eq!(answered.data()["policy_set"], version.short());
}

#[tokio::test]
async fn what_services_do_wrong_is_told_without_their_words() {
    let world = World::new().await;
    for (status, expected, code) in [
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            StatusCode::BAD_GATEWAY,
            -32001,
        ),
        (StatusCode::UNAUTHORIZED, StatusCode::BAD_GATEWAY, -32001),
        (StatusCode::NOT_FOUND, StatusCode::NOT_FOUND, -32007),
        (StatusCode::CONFLICT, StatusCode::CONFLICT, -32008),
        (
            StatusCode::UNPROCESSABLE_ENTITY,
            StatusCode::BAD_REQUEST,
            -32009,
        ),
        (
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::TOO_MANY_REQUESTS,
            -32005,
        ),
    ] {
        *world.upstream.status.lock().unwrap() = status;
        let answered = world.execute("local", "/mcp-coolify get-server srv1").await;
        assert_eq!(
            (answered.status, answered.code()),
            (expected, code),
            "{status}: {answered:?}"
        );
        let text = answered.body.to_string();
        assert!(!text.contains("coolify-credential"), "{text}");
        assert!(!text.contains("hunter2-upstream-secret"), "{text}");
    }
    *world.upstream.status.lock().unwrap() = StatusCode::OK;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let answered = world.execute("local", "/mcp-coolify get-server srv1").await;
    assert_eq!(
        (answered.status, answered.code()),
        (StatusCode::GATEWAY_TIMEOUT, -32006),
        "{answered:?}"
    );

    let journal = world.end().await;
    let text = serde_json::to_string(&journal).unwrap();
    assert!(!text.contains("coolify-credential"), "{text}");
    let last = journal.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"]),
        (&json!("outcome"), &json!("unknown"))
    );
}

#[tokio::test]
async fn a_full_disk_stops_every_command_until_there_is_room() {
    let world = World::new().await;
    world.execute("local", "/mcp-coolify list-servers").await;
    world.gateway.journal.faults.fill(100);
    for (agent, command) in [
        ("local", "/mcp-coolify list-servers"),
        (OTHER, "/mcp-coolify start-application app1"),
        (BOT, "/mcp-coolify list-servers"),
    ] {
        let answered = world.execute(agent, command).await;
        assert_eq!(
            (answered.status, answered.code()),
            (StatusCode::SERVICE_UNAVAILABLE, -32603),
            "{command}: {answered:?}"
        );
    }
    assert_eq!(
        world.gateway.ready().status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(world.reached().len(), 1);
    world.gateway.journal.faults.clear();
    assert_eq!(
        world
            .execute("local", "/mcp-coolify list-servers")
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(world.gateway.ready().status(), StatusCode::OK);
    world.end().await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_its_outcome_recorded() {
    let mut world = World::new().await;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    {
        let mut call = std::pin::pin!(world.execute(OTHER, "/mcp-coolify start-application app1"));
        let arrived = std::pin::pin!(world.upstream.seen.lock().unwrap().len());
        assert_eq!(*arrived, 0);
        tokio::select! {
            answered = &mut call => panic!("answered {answered:?}"),
            () = world.until("it reaches the service", || !world.reached().is_empty()) => {}
        }
        // Dropped here: the agent is gone.
    }
    assert_eq!(
        world.arrivals.recv().await.unwrap(),
        "POST /api/v1/applications/app1/start"
    );
    world.upstream.gate.add_permits(1);
    world
        .until("it ends", || world.gateway.under_way.is_empty())
        .await;
    let journal = world.end().await;
    let last = journal.last().unwrap();
    assert_eq!(
        (&last["kind"], &last["status"]),
        (&json!("outcome"), &json!("success"))
    );
}

#[tokio::test]
async fn too_many_at_once_are_told_so() {
    let world = World::with(|config| config.max_concurrent = 1).await;
    world
        .upstream
        .gated
        .store(true, std::sync::atomic::Ordering::SeqCst);
    let stack = service::stack::<http_body_util::Full<Bytes>>(&world.gateway);
    let request = || {
        let headers = [
            ("content-type", "application/json"),
            ("x-agent-id", "local"),
        ];
        let mut request = World::request(
            Method::POST,
            "/execute",
            &headers,
            "{\"command\": \"/mcp-coolify list-servers\"}",
        );
        request
            .extensions_mut()
            .insert(authenticate::Peer(LOOPBACK.parse().unwrap()));
        request
    };
    let mut first = std::pin::pin!(tower::ServiceExt::oneshot(stack.clone(), request()));
    assert!(futures_util::poll!(&mut first).is_pending());
    let second = tower::ServiceExt::oneshot(stack.clone(), request())
        .await
        .unwrap();
    assert_eq!(second.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(second.headers().contains_key("retry-after"));
    world.upstream.gate.add_permits(1);
    assert_eq!(first.await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn secrets_in_arguments_are_not_recorded() {
    let world = World::new().await;
    let body = json!({"service": "coolify", "operation": "set-application-env", "args": {"uuid": "app1", "key": "DB", "value": "hunter2-argument"}});
    assert_eq!(
        world.post("/execute", BOT, &body.to_string()).await.status,
        StatusCode::FORBIDDEN
    );
    assert_eq!(
        world
            .post("/execute", OTHER, &body.to_string())
            .await
            .status,
        StatusCode::OK
    );
    let asked = serde_json::to_string(&world.orchestrator.opened()).unwrap();
    assert!(
        asked.contains("[redacted]") && !asked.contains("hunter2"),
        "{asked}"
    );
    let journal = serde_json::to_string(&world.end().await).unwrap();
    assert!(
        journal.contains("[redacted]") && !journal.contains("hunter2"),
        "{journal}"
    );
}

#[test]
fn unsafe_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = config(folder.path());
        change(&mut config);
        config.check()
    };
    let everywhere = |config: &mut Config| config.listen = "0.0.0.0:8100".parse().unwrap();
    assert!(with(&|_| {}).is_ok());
    assert!(with(&|config| config.listen = "[::1]:8100".parse().unwrap()).is_ok());
    let error = with(&everywhere).unwrap_err().to_string();
    assert!(
        error.contains("MCP_GATEWAY_TOKEN") && error.contains("--trust-agent-header"),
        "{error}"
    );
    assert!(
        with(&|config| {
            everywhere(config);
            config.trust_agent_header = true;
        })
        .is_ok()
    );
    assert!(
        with(&|config| {
            everywhere(config);
            config.gateway_token = Some(world::GATEWAY_TOKEN.into());
        })
        .is_ok()
    );
    assert!(
        with(&|config| {
            config.trust_agent_header = true;
            config.gateway_token = Some(world::GATEWAY_TOKEN.into());
        })
        .is_err()
    );
    assert!(with(&|config| config.gateway_token = Some("short".into())).is_err());
    assert!(with(&|config| config.name = "a b".to_owned()).is_err());
}
