//! Zones that people put services and commands into: in force here as soon as they are
//! announced, kept for a start without the orchestrator, and never merely assumed.

use std::sync::{Arc, atomic::Ordering};

use authz::Source;
use contract::{
    feed::Change,
    zones::{GatewayZones, ZoneMember},
};
use http::StatusCode;
use serde_json::json;

use super::world::{Around, BOT, OTHER, World, around, bundle, sources};

const LIST: &str = "/mcp-coolify list-servers";

const WALLS: &str = r#"
@id("test.pci")
@advice("Nothing in the PCI zone is for agents.")
forbid (principal is Agent, action in Action::"invoke", resource in Zone::"pci");

@id("test.hidden")
forbid (principal is Agent, action == Action::"list", resource in Zone::"hidden");
"#;

/// Around a gateway whose policies wall zones off.
async fn walled() -> Around {
    let around = around().await;
    let mut sources = sources();
    sources.policies.push(Source {
        name: "policies/test.cedar".to_owned(),
        text: WALLS.to_owned(),
    });
    around.orchestrator.known.lock().unwrap().policy_set = Some(bundle(sources));
    around
}

fn zones(revision: i64, members: &[(Option<&str>, &str)]) -> GatewayZones {
    let members = members.iter().map(|(command, zone)| ZoneMember {
        service: "coolify".parse().unwrap(),
        command: command.map(|command| command.parse().unwrap()),
        zone: zone.parse().unwrap(),
    });
    GatewayZones {
        revision,
        members: members.collect(),
    }
}

async fn ready(world: &World) {
    world
        .until("it is ready", || {
            world.gateway.ready().status() == StatusCode::OK
        })
        .await;
}

/// Says that zones are others now, and waits until the gateway goes by them.
async fn change(world: &World, zones: Option<GatewayZones>) {
    let revision = zones.as_ref().map_or(0, |zones| zones.revision);
    world
        .orchestrator
        .change(Change::ZonesChanged { revision }, |known| {
            known.zones = zones;
        });
    world
        .until("the zones are in force", || {
            world.gateway.zones.current().unwrap().revision() == revision
        })
        .await;
}

#[tokio::test]
async fn a_wall_about_a_zone_holds_as_soon_as_a_service_is_in_it() {
    let world = World::over(walled().await, |_| {});
    ready(&world).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);

    for (revision, member) in [(2, None), (3, Some("list-servers"))] {
        change(&world, Some(zones(revision, &[(member, "pci")]))).await;
        let refused = world.execute(OTHER, LIST).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
        assert_eq!(
            (&refused.data()["policies"], &refused.data()["asking_helps"]),
            (&json!(["test.pci"]), &json!(false)),
            "{refused:?}"
        );
    }
    assert_eq!(world.reached().len(), 1);

    // Another command's zone is no matter of this one.
    change(&world, Some(zones(4, &[(Some("delete-server"), "pci")]))).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    // Nor is one that no policy names; and people are told of it.
    change(
        &world,
        Some(zones(5, &[(None, "eu"), (Some("list-servers"), "blue")])),
    )
    .await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    let pending = world.execute(BOT, LIST).await;
    assert_eq!(pending.data()["outcome"], "pending", "{pending:?}");
    let asked = world.orchestrator.opened().pop().unwrap().target;
    assert!(asked.service.zones.contains(&"eu".parse().unwrap()));
    assert!(asked.zones.contains(&"blue".parse().unwrap()));

    // What is taken out is open again; so it is where the orchestrator is one from before.
    change(&world, Some(zones(6, &[(None, "pci")]))).await;
    assert_eq!(
        world.execute(OTHER, LIST).await.status,
        StatusCode::FORBIDDEN
    );
    change(&world, None).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    world.end().await;
}

#[tokio::test]
async fn what_an_agent_may_see_depends_on_zones_too() {
    let world = World::over(walled().await, |_| {});
    ready(&world).await;
    let sees = async || {
        let listed = world
            .get("/mcp/service/coolify", &[("x-agent-id", OTHER)])
            .await;
        let names = listed.body["service"]["capabilities"].as_array().cloned();
        let names = names.unwrap_or_default();
        (
            names.iter().any(|one| one["name"] == "list-servers"),
            names.len(),
        )
    };
    let (listed, all) = sees().await;
    assert!(listed && all > 1);
    change(&world, Some(zones(2, &[(Some("list-servers"), "hidden")]))).await;
    assert_eq!(sees().await, (false, all - 1));
    change(&world, Some(zones(3, &[(None, "hidden")]))).await;
    assert_eq!(sees().await, (false, 0));
    world.end().await;
}

#[tokio::test]
async fn slices_are_kept_for_as_long_as_zones_stay() {
    let world = World::over(walled().await, |_| {});
    ready(&world).await;
    let slices = || {
        let service = world.gateway.catalog.service("coolify").unwrap();
        let base = &service
            .commands
            .iter()
            .find(|one| one.name == "list-servers")
            .unwrap()
            .target;
        let known = world.gateway.zones.current().unwrap();
        let active = world.gateway.policies.current().unwrap();
        active.slices(&known.place(base))
    };
    let without = slices();
    assert!(Arc::ptr_eq(&without, &slices()));
    change(&world, Some(zones(2, &[(None, "eu")]))).await;
    let with = slices();
    assert!(!Arc::ptr_eq(&without, &with));
    world.execute(OTHER, LIST).await;
    assert!(Arc::ptr_eq(&with, &slices()), "a decision takes the same");
    change(
        &world,
        Some(zones(3, &[(None, "eu"), (Some("delete-server"), "pci")])),
    )
    .await;
    assert!(Arc::ptr_eq(&with, &slices()), "what changed is another's");
    world.end().await;
}

#[tokio::test]
async fn without_any_knowledge_of_zones_everything_is_refused() {
    for damaged in [false, true] {
        let around = walled().await;
        around.orchestrator.zones_fail.store(true, Ordering::SeqCst);
        let world = World::over(around, |config| {
            if damaged {
                std::fs::write(&config.last_known_zones, "{\"zones\":").unwrap();
            }
        });
        world
            .until("there is a policy set", || {
                world.gateway.policies.current().is_some()
            })
            .await;
        for answered in [
            world.execute(OTHER, LIST).await,
            world.get("/mcp/catalog", &[("x-agent-id", OTHER)]).await,
        ] {
            assert_eq!(
                answered.status,
                StatusCode::SERVICE_UNAVAILABLE,
                "{answered:?}"
            );
            assert!(answered.message().contains("zones"), "{answered:?}");
        }
        assert!(world.reached().is_empty());
        let answered = world.get("/ready", &[]).await;
        assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            answered.body["checks"]["zones"]["status"], "error",
            "{answered:?}"
        );

        // It asks again by itself.
        world.orchestrator.known.lock().unwrap().zones = Some(zones(2, &[(None, "pci")]));
        world.orchestrator.zones_fail.store(false, Ordering::SeqCst);
        ready(&world).await;
        assert_eq!(
            world.execute(OTHER, LIST).await.status,
            StatusCode::FORBIDDEN
        );
        world.end().await;
    }
}

#[tokio::test]
async fn a_start_without_the_orchestrator_goes_by_the_zones_known_last() {
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("zones.json");
    let around = walled().await;
    around.orchestrator.known.lock().unwrap().zones = Some(zones(2, &[(None, "pci")]));
    let world = World::over(around, |config| config.last_known_zones.clone_from(&path));
    ready(&world).await;
    world.until("they are kept", || path.is_file()).await;
    world.end().await;

    let around = walled().await;
    around.orchestrator.zones_fail.store(true, Ordering::SeqCst);
    around.orchestrator.known.lock().unwrap().zones = Some(zones(3, &[]));
    let world = World::over(around, |config| config.last_known_zones.clone_from(&path));
    ready(&world).await;
    let checked = world.get("/ready", &[]).await.body["checks"]["zones"].clone();
    assert_eq!(
        checked,
        json!({"status": "ok", "revision": 2, "source": "last_known"})
    );
    let refused = world.execute(OTHER, LIST).await;
    assert_eq!(
        refused.data()["policies"],
        json!(["test.pci"]),
        "{refused:?}"
    );

    world.orchestrator.zones_fail.store(false, Ordering::SeqCst);
    world
        .until("the orchestrator's are in force", || {
            !world.gateway.zones.is_last_known()
        })
        .await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    world.end().await;
}

/// A proxy whose orchestrator is gone says 404, as an orchestrator does that knows no zones.
#[tokio::test]
async fn a_proxy_that_finds_nobody_takes_no_zone_away() {
    let around = walled().await;
    around.orchestrator.known.lock().unwrap().behind_a_proxy = true;
    let world = World::over(around, |_| {});
    world
        .until("there is a policy set", || {
            world.gateway.policies.current().is_some()
        })
        .await;
    assert_eq!(
        world.execute(OTHER, LIST).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    world.orchestrator.known.lock().unwrap().behind_a_proxy = false;
    ready(&world).await;
    assert_eq!(world.execute(OTHER, LIST).await.status, StatusCode::OK);
    world.end().await;
}

/// The feed was cut while zones changed: what was announced meanwhile is made up for.
#[tokio::test]
async fn a_change_that_was_not_heard_of_is_found_when_the_feed_is_followed_anew() {
    let world = World::over(walled().await, |_| {});
    ready(&world).await;
    let change = || Change::AgentChanged {
        agent: BOT.parse().unwrap(),
    };
    world.orchestrator.change(change(), |known| {
        known.zones = Some(zones(2, &[(None, "pci")]));
    });
    // Something was said that this gateway did not hear: it follows anew.
    world.orchestrator.skip(change());
    world
        .until("the zones are in force", || {
            world.gateway.zones.current().unwrap().revision() == 2
        })
        .await;
    assert_eq!(
        world.execute(OTHER, LIST).await.status,
        StatusCode::FORBIDDEN
    );
    world.end().await;
}
