//! Edits of the policy folder: valid ones are put in force, broken ones change nothing.

use std::{fs, time::Duration};

use authz::{Clock, Timestamp};
use contract::{approvals::Approve, feed::Change};
use futures_util::StreamExt;
use orchestrator::{Orchestrator, StartError};
use tokio_util::sync::CancellationToken;

use crate::plane::{Plane, START, config, no_arguments, policies};

const SHORTER: &str = r#"
@id("test.shorter")
@advice("Ten minutes are enough.")
forbid (principal is User, action in Action::"approve", resource is Escalation)
when { resource.duration > duration("10m") };
"#;

#[tokio::test]
async fn a_broken_edit_changes_nothing_and_is_shown_until_it_is_mended() {
    let plane = Plane::new().await;
    let agent = plane.agent("test-agent", None).await.agent;
    let before = plane.admin.policy_set_status().await.unwrap();
    assert_eq!(
        (before.rejected.len(), before.activated_by.as_str()),
        (0, "folder")
    );
    let extra = plane.folder.path().join("policies/extra.cedar");

    for broken in [
        "forbid (principal",
        "permit (principal, action, resource);",
        r#"@id("x") permit (principal == Nobody::"x", action, resource);"#,
    ] {
        fs::write(&extra, broken).unwrap();
        let status = plane.orchestrator.reread_policies().await.unwrap();
        assert_eq!(status.version, before.version, "{broken}");
        assert!(!status.rejected.is_empty(), "{broken}");
        assert_eq!(status.rejected[0].file, "extra.cedar", "{broken}");
    }
    let shown = plane.admin.policy_set_status().await.unwrap();
    assert!(!shown.rejected.is_empty());
    let ready = plane.call("GET", "/ready", None, None).await;
    assert_eq!(
        (
            ready.status.as_u16(),
            &ready.json()["checks"]["policy_set"]["folder_ok"]
        ),
        (200, &false.into())
    );
    let id = plane.asked(agent.id, no_arguments()).await;
    assert!(
        !plane.admin.approval(id).await.unwrap().choices.is_empty(),
        "what was in force decides"
    );

    fs::write(&extra, SHORTER).unwrap();
    plane.pass(Duration::from_mins(1));
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_ne!(status.version, before.version);
    assert_eq!(
        (status.rejected.len(), status.policies, status.activated),
        (0, before.policies + 1, plane.now())
    );
    let refusal = plane
        .admin
        .approve(id, &Approve::default())
        .await
        .unwrap_err();
    assert!(
        refusal.to_string().contains("Ten minutes"),
        "the new set decides: {refusal}"
    );
    let bundle = plane.gateway.policy_set_bundle().await.unwrap();
    assert_eq!(
        (&bundle.version, &bundle.sources.version()),
        (&status.version, &status.version)
    );
    assert_eq!(
        plane
            .admin
            .policy_set(&before.version)
            .await
            .unwrap()
            .sources
            .unwrap()
            .version(),
        before.version
    );

    fs::remove_dir_all(plane.folder.path().join("policies")).unwrap();
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert_eq!(
        (status.version, status.rejected.len()),
        (bundle.version, 1),
        "a folder that went away is no edit"
    );
}

#[tokio::test]
async fn an_edit_is_noticed_while_running() {
    let plane = Plane::new().await;
    let mut feed = plane.gateway.follow(None).await.unwrap();
    let stop = CancellationToken::new();
    let run = tokio::spawn({
        let (orchestrator, stop) = (plane.orchestrator.clone(), stop.clone());
        async move { orchestrator.run(stop).await }
    });
    fs::write(plane.folder.path().join("policies/extra.cedar"), SHORTER).unwrap();
    let version = loop {
        if let Some(event) = feed.next().await.unwrap().unwrap() {
            let Change::PolicySetActivated { version } = event.change else {
                continue;
            };
            break version;
        }
    };
    let bundle = plane.gateway.policy_set_bundle().await.unwrap();
    assert_eq!(bundle.sources.version(), version);
    stop.cancel();
    run.await.unwrap();
}

#[tokio::test]
async fn a_start_with_a_broken_folder_uses_the_last_set_in_force_or_refuses() {
    let folder = policies();
    let database = format!("sqlite://{}", folder.path().join("test.db").display());
    let clock = Clock::new(|| Timestamp::from_millis(START));
    let open = async || {
        let store = store::Store::open(&database).await.unwrap();
        Orchestrator::open(config(folder.path()), store, clock.clone()).await
    };
    let schema = folder.path().join("schema.cedarschema");
    let text = fs::read_to_string(&schema).unwrap();
    fs::write(&schema, "entity {").unwrap();
    assert!(
        matches!(open().await, Err(StartError::NoPolicySet(why)) if why.contains("schema.cedarschema"))
    );

    fs::write(&schema, &text).unwrap();
    let version = open()
        .await
        .unwrap()
        .reread_policies()
        .await
        .unwrap()
        .version;
    fs::write(&schema, "entity {").unwrap();
    let started = open().await.unwrap().reread_policies().await.unwrap();
    assert_eq!(started.version, version);
    assert!(!started.rejected.is_empty());
}
