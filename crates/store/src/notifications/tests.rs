use std::collections::BTreeSet;

use super::*;
use crate::testing::{after, at, on_both_engines};

pub(super) fn target(name: &str) -> NewTarget {
    NewTarget {
        name: name.parse().unwrap(),
        kind: "webhook",
        settings: json!({"address": "https://hooks.example"}),
        sealed: "v1:sealed".to_owned(),
    }
}

on_both_engines! {
    async fn targets_are_added_changed_and_removed(fixture) {
        let store = &fixture.store;
        let added = store.create_notification_target(&target("on-call"), &at(after(0))).await.unwrap();
        assert!(added.enabled && added.created == after(0) && added.created_by == "api");
        assert!(matches!(
            store.create_notification_target(&target("on-call"), &at(after(1))).await,
            Err(StoreError::Conflict(_))
        ));
        let name = added.name.clone();
        let change = TargetChange { enabled: Some(false), what: vec!["enabled"], ..TargetChange::default() };
        let changed = store.change_notification_target(&name, change, &at(after(2))).await.unwrap();
        assert!(!changed.enabled && changed.sealed == "v1:sealed", "what is absent stays");
        let change = TargetChange {
            settings: Some(json!({"address": "https://other.example"})),
            sealed: Some("v1:other".to_owned()),
            ..TargetChange::default()
        };
        store.change_notification_target(&name, change, &at(after(3))).await.unwrap();
        let stored = store.notification_target(&name).await.unwrap();
        assert_eq!((stored.settings["address"].as_str(), stored.sealed.as_str(), stored.enabled), (Some("https://other.example"), "v1:other", false));
        store.remove_notification_target(&name, &at(after(4))).await.unwrap();
        assert!(matches!(store.notification_target(&name).await, Err(StoreError::NotFound(_))));
        assert!(matches!(store.remove_notification_target(&name, &at(after(4))).await, Err(StoreError::NotFound(_))));
        assert_eq!(store.feed_head().await.unwrap(), 0, "nothing that gateways follow");
        let kinds: BTreeSet<String> = store.audit(0, 100, None).await.unwrap().into_iter().map(|line| line.entry["kind"].as_str().unwrap().to_owned()).collect();
        assert_eq!(kinds, ["notification_target_added", "notification_target_changed", "notification_target_removed"].map(str::to_owned).into());
    }

    async fn an_account_is_one_person_for_one_target(fixture) {
        let store = &fixture.store;
        let (amy, ben) = (fixture.user("amy").await, fixture.user("ben").await);
        for name in ["one", "two"] {
            store.create_notification_target(&target(name), &at(after(0))).await.unwrap();
        }
        let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
        store.link_notification_account(&one, "U1", &amy, &at(after(1))).await.unwrap();
        let linked = |account: &'static str, target: &'static str| async move {
            store.notification_account(&target.parse().unwrap(), account).await.unwrap().map(|account| account.user)
        };
        assert_eq!(linked("U1", "one").await, Some(amy));
        assert_eq!(linked("U1", "two").await, None, "another target's U1 is someone else");
        assert_eq!(linked("u1", "one").await, None);
        assert_eq!(linked("U1\0", "one").await, None);
        store.link_notification_account(&one, "U1", &ben, &at(after(2))).await.unwrap();
        assert_eq!(linked("U1", "one").await, Some(ben.clone()), "linked anew");
        assert_eq!(store.notification_accounts(&one).await.unwrap().len(), 1);
        for (target, account, user) in [(&two, "U1", "nobody"), (&"three".parse().unwrap(), "U1", "ben")] {
            let user = user.parse().unwrap();
            assert!(matches!(store.link_notification_account(target, account, &user, &at(after(3))).await, Err(StoreError::NotFound(_))));
        }
        assert!(matches!(store.link_notification_account(&one, "U\0", &ben, &at(after(3))).await, Err(StoreError::Conflict(_))));
        store.unlink_notification_account(&one, "U1", &at(after(4))).await.unwrap();
        assert_eq!(linked("U1", "one").await, None);
        assert!(store.unlink_notification_account(&one, "U1", &at(after(4))).await.is_err());
    }

    async fn a_callback_is_taken_once(fixture) {
        let store = &fixture.store;
        let other = fixture.another().await;
        let mut tasks = Vec::new();
        for number in 0..10 {
            let store = if number % 2 == 0 { store.clone() } else { other.clone() };
            tasks.push(tokio::spawn(async move { store.take_callback("d1", after(0), &at(after(60))).await.unwrap() }));
        }
        let mut first = 0;
        for task in tasks {
            first += usize::from(task.await.unwrap());
        }
        assert_eq!(first, 1, "of ten at once, from two processes");
        assert!(store.take_callback("d2", after(0), &at(after(60))).await.unwrap());
        assert!(!store.take_callback("d1", after(60), &at(after(120))).await.unwrap());
        assert!(store.take_callback("d1", after(61), &at(after(120))).await.unwrap(), "forgotten: its age refuses it");
        other.close().await;
    }
}
