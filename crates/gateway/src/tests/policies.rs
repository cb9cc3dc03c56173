//! Which policy set is in force, without the orchestrator too, and which beside it.

use std::sync::atomic::Ordering;

use authz::{PolicySources, Source};
use contract::{feed::Change, policy_sets::PolicySetBundle};
use http::StatusCode;
use serde_json::{Value, json};

use super::world::{BOT, OTHER, World, around, bundle, sources};
use crate::last_known_good::LastKnownGood;

const LIST: &str = "/mcp-coolify list-servers";

const WALL: &str = "@id(\"test.wall\")\n@advice(\"Not today.\")\nforbid (principal is Agent, action in Action::\"invoke\", resource == Command::\"coolify/list-servers\");";
const ALL: &str = "@id(\"test.all\")\npermit (principal is Agent, action in Action::\"invoke\", resource is Command);";

fn with(policy: &str) -> PolicySources {
    let mut sources = sources();
    sources.policies.push(Source {
        name: "policies/test.cedar".to_owned(),
        text: policy.to_owned(),
    });
    sources
}

fn ready(world: &World) -> (StatusCode, bool) {
    (
        world.gateway.ready().status(),
        world.gateway.policies.is_last_known_good(),
    )
}

#[tokio::test]
async fn a_start_without_the_orchestrator_uses_what_was_in_force() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("policy-set.json");
    let world = World::with(|config| config.last_known_good.clone_from(&path)).await;
    let before = world.gateway.policies.current().unwrap().version().clone();
    world.until("it is kept", || path.is_file()).await;
    world.end().await;

    // Out of reach, and another set in force there by now.
    let around = around().await;
    let other = with(WALL);
    let after = other.version();
    around.orchestrator.known.lock().unwrap().policy_set = Some(bundle(other));
    for flag in [&around.orchestrator.down, &around.orchestrator.cut] {
        flag.store(true, Ordering::SeqCst);
    }
    let world = World::over(around, |config| config.last_known_good.clone_from(&path));
    world
        .until("the kept one is in force", || {
            world.gateway.policies.current().is_some()
        })
        .await;
    assert_eq!(world.gateway.policies.current().unwrap().version(), &before);
    let answered = world.get("/ready", &[]).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
    let checks = &answered.body["checks"];
    assert_eq!(
        (
            &checks["policy_set"]["source"],
            &checks["policy_set"]["version"],
            &checks["orchestrator"]["status"]
        ),
        (&json!("last_known_good"), &json!(before), &json!("error")),
        "{checks}"
    );
    let text = String::from_utf8(world.gateway.metrics.text().unwrap()).unwrap();
    assert!(text.contains("cedargate_policy_set_last_known_good 1"));
    // Nothing is permitted without facts, and nobody sees a list without them.
    for answered in [
        world.execute(OTHER, LIST).await,
        world.get("/mcp/catalog", &[("x-agent-id", OTHER)]).await,
    ] {
        assert_eq!(
            answered.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{answered:?}"
        );
        assert!(answered.message().contains("orchestrator"), "{answered:?}");
    }
    assert!(world.reached().is_empty());

    for flag in [&world.orchestrator.down, &world.orchestrator.cut] {
        flag.store(false, Ordering::SeqCst);
    }
    world
        .until("the orchestrator's is in force", || {
            ready(&world) == (StatusCode::OK, false)
                && world.gateway.policies.current().unwrap().version() == &after
        })
        .await;
    let refused = world.execute(OTHER, LIST).await;
    assert_eq!(
        refused.data()["policies"],
        json!(["test.wall"]),
        "{refused:?}"
    );
    world
        .until("that is kept now", || {
            LastKnownGood::<PolicySetBundle>::new(path.clone())
                .read()
                .is_ok_and(|kept| kept.version == after)
        })
        .await;
    world
        .until("it is reported", || {
            let known = world.orchestrator.known.lock().unwrap();
            known.statuses.last().is_some_and(|status| {
                status.version.as_ref() == Some(&after)
                    && !status.last_known_good
                    && status.problem.is_none()
            })
        })
        .await;
    world.end().await;
}

/// Facts can be had, the policy set cannot: an orchestrator that has lost its own, say.
#[tokio::test]
async fn with_facts_the_last_known_good_permits_and_refuses() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("policy-set.json");
    LastKnownGood::new(path.clone())
        .keep(&bundle(sources()))
        .unwrap();
    let around = around().await;
    around.orchestrator.known.lock().unwrap().policy_set = None;
    let world = World::over(around, |config| config.last_known_good.clone_from(&path));
    world
        .until("the kept one is in force", || {
            ready(&world) == (StatusCode::OK, true)
        })
        .await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    let refused = world.execute(BOT, LIST).await;
    assert_eq!(
        (refused.status, &refused.data()["outcome"]),
        (StatusCode::FORBIDDEN, &json!("pending")),
        "{refused:?}"
    );
    world
        .until("it says so", || {
            let known = world.orchestrator.known.lock().unwrap();
            known
                .statuses
                .last()
                .is_some_and(|status| status.last_known_good && status.problem.is_some())
        })
        .await;

    // The orchestrator has the same one: it is confirmed, and not loaded again.
    let before = world.gateway.policies.current().unwrap();
    let version = before.version().clone();
    world
        .orchestrator
        .change(Change::PolicySetActivated { version }, |known| {
            known.policy_set = Some(bundle(sources()));
        });
    world
        .until("it is confirmed", || {
            ready(&world) == (StatusCode::OK, false)
        })
        .await;
    assert!(std::sync::Arc::ptr_eq(
        &before,
        &world.gateway.policies.current().unwrap()
    ));
    world.end().await;
}

#[tokio::test]
async fn without_any_set_everything_is_refused_until_there_is_one() {
    let damaged = {
        let text = serde_json::to_string(&bundle(sources())).unwrap();
        text.replace("forbid", "permit")
    };
    for kept in [None, Some(damaged), Some("{".to_owned())] {
        let around = around().await;
        around.orchestrator.known.lock().unwrap().policy_set = None;
        let world = World::over(around, |config| {
            if let Some(text) = &kept {
                std::fs::write(&config.last_known_good, text).unwrap();
            }
        });
        world
            .until("it has asked", || {
                let known = world.orchestrator.known.lock().unwrap();
                known
                    .statuses
                    .last()
                    .is_some_and(|status| status.problem.is_some())
            })
            .await;
        // Asked for again, as at the start: not used.
        world.gateway.policies.use_last_known_good().await;
        let refused = world.execute(OTHER, LIST).await;
        assert_eq!(
            refused.status,
            StatusCode::SERVICE_UNAVAILABLE,
            "{refused:?}"
        );
        assert_eq!(
            world.get("/ready", &[]).await.status,
            StatusCode::SERVICE_UNAVAILABLE
        );
        assert!(world.reached().is_empty());

        let version = sources().version();
        world
            .orchestrator
            .change(Change::PolicySetActivated { version }, |known| {
                known.policy_set = Some(bundle(sources()));
            });
        world
            .until("there is one", || ready(&world) == (StatusCode::OK, false))
            .await;
        assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
        let file = world.folder.path().join("policy-set.json");
        world
            .until("it is kept", || {
                LastKnownGood::<PolicySetBundle>::new(file.clone())
                    .read()
                    .is_ok()
            })
            .await;
        world.end().await;
    }
}

async fn shadow(world: &World, shadow: Option<PolicySources>) {
    let version = shadow.as_ref().map(PolicySources::version);
    world.orchestrator.change(
        Change::PolicySetShadowed {
            version: version.clone(),
        },
        |known| known.shadow = shadow.map(bundle),
    );
    world
        .until("the shadow changes", || {
            world
                .gateway
                .policies
                .shadow()
                .map(|shadow| shadow.version().clone())
                == version
        })
        .await;
}

fn differences(world: &World) -> Vec<String> {
    let text = String::from_utf8(world.gateway.metrics.text().unwrap()).unwrap();
    text.lines()
        .filter_map(|line| line.strip_prefix("cedargate_shadow_differences_total"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn a_shadow_changes_nothing_and_its_differences_are_recorded() {
    let world = World::new().await;
    let stricter = with(WALL);
    let strict = stricter.version();
    shadow(&world, Some(stricter)).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    let refused = world.execute(BOT, LIST).await;
    assert_eq!(refused.data()["outcome"], "pending", "{refused:?}");
    assert!(
        !refused.body.to_string().contains("test.wall"),
        "agents are not told"
    );
    // No difference: carried out, though the fake Coolify makes nothing of it.
    let other = world.execute(OTHER, "/mcp-coolify list-applications").await;
    assert_ne!(other.status, StatusCode::FORBIDDEN, "{other:?}");

    let looser = with(ALL);
    let loose = looser.version();
    shadow(&world, Some(looser)).await;
    let refused = world.execute(BOT, LIST).await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert_eq!(
        differences(&world),
        [
            "{from=\"escalate\",to=\"permit\"} 1",
            "{from=\"escalate\",to=\"refuse\"} 1",
            "{from=\"permit\",to=\"refuse\"} 1",
        ]
    );

    shadow(&world, None).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    assert_eq!(world.reached().len(), 3);
    let lines = world.end().await;
    let noted: Vec<&Value> = lines
        .iter()
        .filter(|line| line["kind"] == "intent" || line["kind"] == "refusal")
        .map(|line| &line["shadow"])
        .collect();
    let walled = json!({"version": strict, "decision": "refuse", "policies": ["test.wall"]});
    let all = json!({"version": loose, "decision": "permit", "policies": ["test.all"]});
    assert_eq!(noted, [&walled, &walled, &Value::Null, &all, &Value::Null]);
}

#[tokio::test]
async fn a_shadow_that_fails_concerns_nobody() {
    let world = World::new().await;
    // It overflows whenever it is asked: a refusal there, nothing here.
    let failing = with(
        "@id(\"test.overflow\")\nforbid (principal is Agent, action in Action::\"invoke\", resource is Command)\nwhen { principal.trust + 9223372036854775807 > 0 };",
    );
    shadow(&world, Some(failing)).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    assert_eq!(differences(&world), ["{from=\"permit\",to=\"refuse\"} 1"]);

    // One that cannot be loaded is none, and is reported.
    let broken = with("permit (");
    let version = Some(broken.version());
    world
        .orchestrator
        .change(Change::PolicySetShadowed { version }, |known| {
            known.shadow = Some(bundle(broken));
        });
    world
        .until("it is reported", || {
            let known = world.orchestrator.known.lock().unwrap();
            known.statuses.last().is_some_and(|status| {
                status.shadow.is_none()
                    && status
                        .problem
                        .as_ref()
                        .is_some_and(|problem| problem.starts_with("shadow: "))
            })
        })
        .await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    assert_eq!(ready(&world), (StatusCode::OK, false));
    // Mended.
    shadow(&world, Some(with(WALL))).await;
    world
        .until("that is reported too", || {
            let known = world.orchestrator.known.lock().unwrap();
            known
                .statuses
                .last()
                .is_some_and(|status| status.shadow.is_some() && status.problem.is_none())
        })
        .await;
    world.end().await;
}

#[tokio::test]
async fn the_orchestrator_is_sent_the_catalog_once() {
    let world = World::new().await;
    world
        .until("the catalog is sent", || {
            !world.orchestrator.known.lock().unwrap().catalogs.is_empty()
        })
        .await;
    // Each change is reported, and the catalog is known by then.
    let announced = world.orchestrator.known.lock().unwrap().statuses.len();
    world.gateway.policies.report();
    world
        .until("the status is sent again", || {
            world.orchestrator.known.lock().unwrap().statuses.len() > announced
        })
        .await;
    {
        let known = world.orchestrator.known.lock().unwrap();
        assert_eq!(known.catalogs.len(), 1);
        let catalog = &known.catalogs[0];
        let status = known.statuses.last().unwrap();
        assert_eq!(
            (&catalog.gateway, Some(&catalog.digest)),
            (&status.gateway, status.catalog.as_ref())
        );
        assert_eq!(catalog.services[0].service.name.as_str(), "coolify");
    }
    // One that has forgotten is told again.
    world.orchestrator.known.lock().unwrap().catalogs.clear();
    world.gateway.policies.report();
    world
        .until("the catalog is sent again", || {
            !world.orchestrator.known.lock().unwrap().catalogs.is_empty()
        })
        .await;
    world.end().await;
}
