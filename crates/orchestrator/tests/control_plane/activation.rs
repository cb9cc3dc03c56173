//! Policy sets that people push, activate, roll back and shadow; what gateways report.

use std::{fs, time::Duration};

use authz::{Clock, PolicySources, Source, Timestamp};
use axum::http::StatusCode;
use contract::{
    Client,
    feed::Change,
    gateways::GatewayStatus,
    policy_sets::{ActivatePolicySet, PushPolicySet, RollBack, ShadowPolicySet, Then},
};
use futures_util::StreamExt;
use orchestrator::{Orchestrator, policy_folder};
use serde_json::json;

use crate::plane::{CONTROL, Plane, START, config, policies};

/// What the folder holds, and one more policy.
fn sources(plane: &Plane, more: &str) -> PolicySources {
    let folder = plane.folder.path();
    let mut sources =
        policy_folder::read(&folder.join("schema.cedarschema"), &folder.join("policies")).unwrap();
    if !more.is_empty() {
        sources.policies.push(Source {
            name: "more.cedar".to_owned(),
            text: more.to_owned(),
        });
    }
    sources
}

const WALL: &str = "@id(\"test.wall\")\n@advice(\"Not today.\")\nforbid (principal is Agent, action in Action::\"destroy\", resource);";
const LOCKOUT: &str = "@id(\"test.lockout\")\nforbid (principal is User, action == Action::\"managePolicies\", resource);";

fn push(sources: PolicySources, then: Then) -> PushPolicySet {
    PushPolicySet {
        sources,
        then,
        reason: "a test".to_owned(),
        allow_lockout: false,
    }
}

async fn sam(plane: &Plane) -> Client {
    plane.person("sam", &["security"]).await.0
}

#[tokio::test]
async fn people_push_activate_and_roll_back_with_a_trail() {
    let plane = Plane::new().await;
    let sam = sam(&plane).await;
    let first = sam.policy_set_status().await.unwrap();
    assert_eq!(
        (first.folder.as_ref(), first.folder_held),
        (Some(&first.version), false)
    );
    let mut feed = plane.gateway.follow(None).await.unwrap();

    plane.pass(Duration::from_mins(1));
    let pushed = sam
        .push_policy_set(&push(sources(&plane, WALL), Then::Activate))
        .await
        .unwrap();
    assert!(pushed.changed);
    let status = pushed.status;
    assert_ne!(status.version, first.version);
    assert_eq!(
        (
            status.activated_by.as_str(),
            status.reason.as_str(),
            status.activated,
            status.folder_held
        ),
        ("sam", "a test", plane.now(), true)
    );
    assert_eq!(
        status.folder,
        Some(first.version.clone()),
        "the folder still holds that"
    );
    let version = loop {
        if let Some(event) = feed.next().await.unwrap().unwrap() {
            let Change::PolicySetActivated { version } = event.change else {
                continue;
            };
            break version;
        }
    };
    assert_eq!(version, status.version);
    assert_eq!(
        plane
            .gateway
            .policy_set_bundle()
            .await
            .unwrap()
            .sources
            .version(),
        version
    );
    let again = sam
        .push_policy_set(&push(sources(&plane, WALL), Then::Activate))
        .await
        .unwrap();
    assert!(!again.changed, "it is in force");

    // The folder, read again, holds nothing new.
    let reread = plane.orchestrator.reread_policies().await.unwrap();
    assert_eq!(
        (reread.version, reread.folder_held),
        (version.clone(), true)
    );

    plane.pass(Duration::from_mins(1));
    let back = sam
        .roll_back_policy_set(&RollBack {
            reason: "too strict".to_owned(),
            ..RollBack::default()
        })
        .await
        .unwrap();
    assert_eq!((back.changed, &back.status.version), (true, &first.version));
    let none = sam
        .roll_back_policy_set(&RollBack::default())
        .await
        .unwrap_err();
    assert_eq!(none.status(), Some(StatusCode::CONFLICT), "{none}");
    let stored = sam
        .activate_policy_set(&version, &ActivatePolicySet::default())
        .await
        .unwrap();
    assert_eq!(stored.status.version, version);

    let history: Vec<_> = sam
        .policy_activations(10)
        .await
        .unwrap()
        .into_iter()
        .map(|one| (one.id, one.kind, one.by, one.via, one.reason))
        .collect();
    let line = |id, kind: &str, by: &str, via: &str, reason: &str| {
        (
            id,
            kind.to_owned(),
            by.to_owned(),
            via.to_owned(),
            reason.to_owned(),
        )
    };
    assert_eq!(
        history,
        [
            line(4, "activated", "sam", "api", ""),
            line(3, "rolled_back", "sam", "api", "too strict"),
            line(2, "activated", "sam", "api", "a test"),
            line(1, "activated", "folder", "folder", ""),
        ]
    );
    let listed = sam.policy_sets().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|set| (set.stored_by.as_str(), set.active, set.sources.is_some()))
            .collect::<Vec<_>>(),
        [("sam", true, false), ("folder", false, false)]
    );
    assert_eq!(
        sam.policy_set(&version)
            .await
            .unwrap()
            .sources
            .unwrap()
            .version(),
        version
    );
    let trail = plane.admin.audit(0, 1_000, None).await.unwrap();
    let told: Vec<_> = trail
        .iter()
        .filter(|entry| entry.kind.starts_with("policy_set_"))
        .map(|entry| {
            (
                entry.kind.as_str(),
                entry.user.as_deref(),
                entry.entry["reason"].as_str().unwrap_or_default(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("policy_set_stored", None, ""),
            ("policy_set_activated", None, ""),
            ("policy_set_stored", Some("sam"), ""),
            ("policy_set_activated", Some("sam"), "a test"),
            ("policy_set_rolled_back", Some("sam"), "too strict"),
            ("policy_set_activated", Some("sam"), ""),
        ]
    );
}

#[tokio::test]
async fn an_edit_of_the_folder_ends_what_was_activated_by_hand() {
    let plane = Plane::new().await;
    let sam = sam(&plane).await;
    let pushed = sam
        .push_policy_set(&push(sources(&plane, WALL), Then::Activate))
        .await
        .unwrap()
        .status
        .version;
    let extra = plane.folder.path().join("policies/extra.cedar");

    // A broken edit, and taking it back, change nothing.
    fs::write(&extra, "permit (").unwrap();
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_eq!(
        (
            &status.version,
            status.rejected.is_empty(),
            status.folder_held
        ),
        (&pushed, false, false)
    );
    fs::remove_file(&extra).unwrap();
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_eq!(
        (
            &status.version,
            status.rejected.is_empty(),
            status.folder_held
        ),
        (&pushed, true, true)
    );

    fs::write(&extra, WALL.replace("destroy", "write")).unwrap();
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_ne!(status.version, pushed);
    assert_eq!(
        (status.activated_by.as_str(), status.folder_held),
        ("folder", false)
    );
}

#[tokio::test]
async fn what_was_activated_by_hand_outlives_restarts() {
    let folder = policies();
    let database = format!("sqlite://{}", folder.path().join("test.db").display());
    let clock = Clock::new(|| Timestamp::from_millis(START));
    let open = async || {
        let store = store::Store::open(&database).await.unwrap();
        Orchestrator::open(config(folder.path()), store, clock.clone())
            .await
            .unwrap()
    };
    let orchestrator = open().await;
    let token = orchestrator.bootstrap().await.unwrap().unwrap().token;
    let client = |orchestrator: &Orchestrator, token: &str| {
        Client::over(
            orchestrator.router(),
            Some(token.into()),
            Duration::from_secs(20),
        )
    };
    let admin = client(&orchestrator, secrecy::ExposeSecret::expose_secret(&token));
    let create = serde_json::from_value(json!({"id": "sam", "roles": ["security"]})).unwrap();
    admin.create_user(&create).await.unwrap();
    let token = admin
        .create_user_token(&create.id, &contract::agents::CreateToken::default())
        .await
        .unwrap()
        .token;
    let read = || {
        policy_folder::read(
            &folder.path().join("schema.cedarschema"),
            &folder.path().join("policies"),
        )
        .unwrap()
    };
    let mut pushed = read();
    pushed.policies.push(Source {
        name: "more.cedar".to_owned(),
        text: WALL.to_owned(),
    });
    let other = open().await;
    let first = client(&orchestrator, &token)
        .push_policy_set(&push(pushed, Then::Activate))
        .await
        .unwrap()
        .status
        .version;

    // Another orchestrator that has not heard of it yet gives it to a gateway that has.
    let bundle = client(&other, CONTROL).policy_set_bundle().await.unwrap();
    assert_eq!(bundle.version, first);

    let started = open().await.reread_policies().await.unwrap();
    assert_eq!(
        (
            &started.version,
            started.activated_by.as_str(),
            started.folder_held
        ),
        (&first, "sam", true)
    );

    // The same with a folder that is broken at the start, and mended later.
    let extra = folder.path().join("policies/extra.cedar");
    fs::write(&extra, "forbid (principal").unwrap();
    let orchestrator = open().await;
    let bundle = client(&orchestrator, CONTROL)
        .policy_set_bundle()
        .await
        .unwrap();
    assert_eq!(
        (&bundle.version, &bundle.sources.version()),
        (&first, &first)
    );
    let started = orchestrator.reread_policies().await.unwrap();
    assert_eq!(
        (&started.version, started.rejected.is_empty()),
        (&first, false)
    );
    fs::remove_file(&extra).unwrap();
    let mended = orchestrator.reread_policies().await.unwrap();
    assert_eq!((&mended.version, mended.folder_held), (&first, true));

    // An edit while nothing ran acts at the next start.
    fs::write(&extra, WALL.replace("destroy", "write")).unwrap();
    let started = open().await.reread_policies().await.unwrap();
    assert_eq!(
        (started.version, started.activated_by.as_str()),
        (read().version(), "folder")
    );
}

#[tokio::test]
async fn what_could_not_be_enforced_is_not_stored() {
    let plane = Plane::new().await;
    let sam = sam(&plane).await;
    let before = sam.policy_set_status().await.unwrap().version;
    let deep = format!(
        "@id(\"deep\") permit (principal, action, resource) when {{ {}true{} }};",
        "(".repeat(100_000),
        ")".repeat(100_000)
    );
    for (broken, expected) in [
        ("permit (", "more.cedar"),
        ("permit (principal, action, resource);", "id"),
        (deep.as_str(), "nested"),
    ] {
        for then in [Then::Activate, Then::Shadow, Then::Store] {
            let error = sam
                .push_policy_set(&push(sources(&plane, broken), then))
                .await
                .unwrap_err();
            assert_eq!(
                error.status(),
                Some(StatusCode::UNPROCESSABLE_ENTITY),
                "{error}"
            );
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
    let status = sam.policy_set_status().await.unwrap();
    assert_eq!((status.version, status.shadow), (before, None));
    assert_eq!(sam.policy_sets().await.unwrap().len(), 1);

    // Larger than bodies are elsewhere.
    let comment = format!("// {}\n{WALL}", "x".repeat(3 * 1024 * 1024));
    let large = sam
        .push_policy_set(&push(sources(&plane, &comment), Then::Store))
        .await
        .unwrap();
    assert!(large.changed);
    for body in [
        json!({}),
        json!({"sources": 1}),
        json!({"sources": sources(&plane, ""), "than": "store"}),
        json!({"sources": sources(&plane, ""), "then": "enforce"}),
    ] {
        let (_, token) = plane
            .person(&format!("p{}", body.to_string().len()), &["security"])
            .await;
        let answer = plane
            .call("POST", "/api/policy-sets", Some(&token), Some(body))
            .await;
        assert_eq!(answer.status, 400, "{}", answer.body);
    }
}

#[tokio::test]
async fn nobody_locks_themselves_out_by_a_slip() {
    let plane = Plane::new().await;
    let sam = sam(&plane).await;
    let before = sam.policy_set_status().await.unwrap().version;
    let error = sam
        .push_policy_set(&push(sources(&plane, LOCKOUT), Then::Activate))
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::CONFLICT), "{error}");
    assert_eq!(sam.policy_set_status().await.unwrap().version, before);
    let meant = PushPolicySet {
        allow_lockout: true,
        ..push(sources(&plane, LOCKOUT), Then::Activate)
    };
    assert!(sam.push_policy_set(&meant).await.unwrap().changed);
    let error = sam
        .roll_back_policy_set(&RollBack::default())
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::FORBIDDEN), "{error}");
    // The folder is the way out.
    fs::write(plane.folder.path().join("policies/extra.cedar"), WALL).unwrap();
    plane.orchestrator.reread_policies().await.unwrap();
    assert!(
        sam.roll_back_policy_set(&RollBack {
            to: Some(before),
            ..RollBack::default()
        })
        .await
        .unwrap()
        .changed
    );
}

#[tokio::test]
async fn a_shadow_is_given_to_gateways_and_not_enforced() {
    let plane = Plane::new().await;
    let sam = sam(&plane).await;
    assert!(
        plane
            .gateway
            .shadow_policy_set_bundle()
            .await
            .unwrap()
            .is_none()
    );
    let before = sam.policy_set_status().await.unwrap().version;
    let status = sam
        .push_policy_set(&push(sources(&plane, WALL), Then::Shadow))
        .await
        .unwrap()
        .status;
    let shadow = status.shadow.unwrap();
    assert_eq!((&status.version, shadow.by.as_str()), (&before, "sam"));
    let bundle = plane
        .gateway
        .shadow_policy_set_bundle()
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (&bundle.version, &bundle.sources.version()),
        (&shadow.version, &shadow.version)
    );
    assert_eq!(
        plane.gateway.policy_set_bundle().await.unwrap().version,
        before
    );

    let in_force = ShadowPolicySet {
        version: Some(before),
        reason: String::new(),
    };
    let error = sam.shadow_policy_set(&in_force).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::CONFLICT), "{error}");
    let off = sam
        .shadow_policy_set(&ShadowPolicySet::default())
        .await
        .unwrap();
    assert_eq!((off.changed, off.status.shadow), (true, None));
    let on = ShadowPolicySet {
        version: Some(shadow.version.clone()),
        reason: String::new(),
    };
    assert!(sam.shadow_policy_set(&on).await.unwrap().changed);
    // Activated, there is nothing left to compare with.
    let activated = sam
        .activate_policy_set(&shadow.version, &ActivatePolicySet::default())
        .await
        .unwrap();
    assert_eq!(
        (activated.status.version, activated.status.shadow),
        (shadow.version, None)
    );
}

#[tokio::test]
async fn gateways_say_what_they_enforce() {
    let plane = Plane::new().await;
    let version = plane.admin.policy_set_status().await.unwrap().version;
    let status = |gateway: &str| GatewayStatus {
        gateway: gateway.to_owned(),
        software: "1.0.0".to_owned(),
        version: Some(version.clone()),
        since: Some(plane.now()),
        last_known_good: false,
        shadow: None,
        problem: None,
        catalog: None,
        services: Vec::new(),
    };
    plane.gateway.report_status(&status("one")).await.unwrap();
    plane.pass(Duration::from_secs(61));
    let behind = GatewayStatus {
        version: None,
        last_known_good: true,
        problem: Some("no disk".to_owned()),
        ..status("two")
    };
    plane.gateway.report_status(&behind).await.unwrap();
    let gateways = plane.admin.gateways().await.unwrap();
    let told: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            (
                gateway.status.gateway.as_str(),
                gateway.silent,
                gateway.current,
            )
        })
        .collect();
    assert_eq!(told, [("one", true, true), ("two", false, false)]);
    assert_eq!(
        (&gateways[1].status, gateways[1].seen),
        (&behind, plane.now())
    );

    for wrong in ["", "a\u{7}b", &"x".repeat(200)] {
        let error = plane
            .gateway
            .report_status(&status(wrong))
            .await
            .unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::BAD_REQUEST), "{error}");
    }
    let error = plane
        .admin
        .report_status(&status("admin"))
        .await
        .unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn only_who_manages_policies_may_change_them() {
    let plane = Plane::new().await;
    let version = plane.admin.policy_set_status().await.unwrap().version;
    let (_, viewer) = plane.person("viewer", &["viewer"]).await;
    let (_, nobody) = plane.person("nobody", &[]).await;
    let (_, security) = plane.person("security", &["security"]).await;
    let callers = [
        None,
        Some(CONTROL),
        Some(nobody.as_str()),
        Some(&viewer),
        Some(&plane.admin_token),
        Some(&security),
    ];
    let activate = format!("/api/policy-sets/{version}/activate");
    let unknown = format!("/api/policy-sets/{}/activate", "0".repeat(64));
    let whole = json!({"sources": sources(&plane, "")});
    let doors = [
        (
            "POST",
            activate.as_str(),
            Some(json!({})),
            [401, 401, 403, 403, 403, 200],
        ),
        (
            "POST",
            &unknown,
            Some(json!({})),
            [401, 401, 403, 403, 403, 404],
        ),
        (
            "POST",
            "/api/policy-sets/short/activate",
            Some(json!({})),
            [401, 401, 403, 403, 403, 404],
        ),
        (
            "POST",
            "/api/policy-sets",
            Some(whole),
            [401, 401, 403, 403, 403, 200],
        ),
        (
            "POST",
            "/api/policy-set/rollback",
            Some(json!({})),
            [401, 401, 403, 403, 403, 409],
        ),
        (
            "POST",
            "/api/policy-set/shadow",
            Some(json!({})),
            [401, 401, 403, 403, 403, 200],
        ),
        (
            "GET",
            "/api/policy-sets",
            None,
            [401, 401, 403, 200, 200, 200],
        ),
        (
            "GET",
            "/api/policy-activations?limit=3",
            None,
            [401, 401, 403, 200, 200, 200],
        ),
        (
            "GET",
            "/api/policy-activations?limit=0",
            None,
            [401, 401, 403, 400, 400, 400],
        ),
        ("GET", "/api/gateways", None, [401, 401, 403, 200, 200, 200]),
        (
            "GET",
            "/api/gateway/shadow-policy-set",
            None,
            [401, 200, 401, 401, 401, 401],
        ),
    ];
    for (method, path, body, expected) in doors {
        for (caller, expected) in callers.iter().zip(expected) {
            let answer = plane.call(method, path, *caller, body.clone()).await;
            assert_eq!(
                answer.status, expected,
                "{method} {path} {caller:?}: {}",
                answer.body
            );
        }
    }
}
