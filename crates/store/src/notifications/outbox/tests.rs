use super::*;
use crate::{
    notifications::TargetChange,
    testing::{Fixture, after, at, on_both_engines},
};

async fn targets(fixture: &Fixture, names: &[&str]) {
    for name in names {
        let target = super::super::tests::target(name);
        fixture
            .store
            .create_notification_target(&target, &at(after(0)))
            .await
            .unwrap();
    }
}

fn planned(target: &str, bucket: &str, due: Timestamp, item: i64) -> Planned {
    Planned {
        target: target.parse().unwrap(),
        bucket: bucket.to_owned(),
        due,
        item: json!(item),
    }
}

async fn plan(store: &Store, holder: &str, from: i64, to: i64, planned: Vec<Planned>) -> bool {
    let plan = Plan {
        from,
        to,
        planned,
        marks: Vec::new(),
    };
    store
        .plan_notifications(holder, plan, &at(after(0)))
        .await
        .unwrap()
}

fn failed(retry_at: Option<Timestamp>, open_until: Option<Timestamp>, disable: bool) -> Attempt {
    Attempt::Failed {
        error: "it answered 503".to_owned(),
        retry_at,
        open_until,
        disable,
    }
}

fn items(messages: &[StoredMessage]) -> Vec<(String, Value)> {
    messages
        .iter()
        .map(|message| (message.target.to_string(), json!(message.items)))
        .collect()
}

on_both_engines! {
    async fn one_process_holds_the_outbox(fixture) {
        let (store, other) = (&fixture.store, fixture.another().await);
        let held = store.hold_outbox("a", after(30), &at(after(0))).await.unwrap().unwrap();
        assert_eq!(held, Held { planned: 0, until: after(30) });
        assert_eq!(other.hold_outbox("b", after(59), &at(after(29))).await.unwrap(), None);
        assert_eq!(other.outbox_holder().await.unwrap(), ("a".to_owned(), held));
        assert!(store.hold_outbox("a", after(60), &at(after(29))).await.unwrap().is_some(), "held longer");
        assert!(other.hold_outbox("b", after(90), &at(after(60))).await.unwrap().is_some(), "it ran out");
        assert!(!plan(store, "a", 0, 1, vec![]).await, "what an old holder worked out late is not saved");
        assert!(plan(&other, "b", 0, 1, vec![]).await);
        assert!(!plan(&other, "b", 0, 2, vec![]).await, "planned already");
        assert_eq!(store.hold_outbox("a", after(99), &at(after(89))).await.unwrap(), None, "another holds it");
        assert_eq!(store.hold_outbox("a", after(99), &at(after(90))).await.unwrap().unwrap().planned, 1);
        other.close().await;
    }

    async fn what_happened_before_anybody_was_to_be_told_is_not_told(fixture) {
        let store = &fixture.store;
        fixture.agent("before").await;
        targets(fixture, &["one"]).await;
        assert_eq!(store.outbox_holder().await.unwrap().1.planned, 1);
        fixture.agent("meanwhile").await;
        targets(fixture, &["two"]).await;
        assert_eq!(store.outbox_holder().await.unwrap().1.planned, 1, "there was somebody to tell");
        for (name, enabled, expected) in [("one", false, 1), ("two", false, 1), ("two", true, 2)] {
            let change = TargetChange { enabled: Some(enabled), ..TargetChange::default() };
            store.change_notification_target(&name.parse().unwrap(), change, &at(after(1))).await.unwrap();
            assert_eq!(store.outbox_holder().await.unwrap().1.planned, expected, "{name} {enabled}");
        }
    }

    async fn a_bucket_is_one_message_until_it_is_tried(fixture) {
        let store = &fixture.store;
        targets(fixture, &["one", "two"]).await;
        store.hold_outbox("a", after(300), &at(after(0))).await.unwrap();
        assert!(plan(store, "a", 0, 1, vec![
            planned("one", "agent:x", after(20), 1),
            planned("one", "agent:x", after(25), 2),
            planned("one", "agent:y", after(20), 3),
            planned("two", "agent:x", after(20), 4),
            planned("two", "", after(20), 5),
            planned("two", "", after(20), 6),
        ]).await);
        assert!(store.due_notifications(after(19)).await.unwrap().is_empty(), "none is due");
        let due = store.due_notifications(after(20)).await.unwrap();
        assert_eq!(items(&due), [("one".to_owned(), json!([1, 2])), ("two".to_owned(), json!([4]))], "one of each target");

        let id = due[0].id;
        assert_eq!(store.settle_notification(id, "body", &at(after(20))).await.unwrap(), "body");
        assert_eq!(store.settle_notification(id, "other", &at(after(20))).await.unwrap(), "body", "the first stays");
        assert!(plan(store, "a", 1, 2, vec![planned("one", "agent:x", after(40), 7)]).await);
        assert_eq!(store.notification(id).await.unwrap().items.len(), 2, "nothing is added to what is settled");
        assert_eq!(store.notifications(None, None, 100).await.unwrap().len(), 6);

        store.notification_tried(id, &due[0].target, &Attempt::Delivered, &at(after(21))).await.unwrap();
        let next = store.due_notifications(after(21)).await.unwrap();
        assert_eq!(items(&next)[0], ("one".to_owned(), json!([3])));
        assert!(store.settle_notification(id, "body", &at(after(21))).await.is_err(), "not waiting any more");
        assert_eq!(store.notification_target(&due[0].target).await.unwrap().last_delivered, Some(after(21)));
    }

    async fn a_full_message_is_followed_by_another(fixture) {
        let store = &fixture.store;
        targets(fixture, &["one"]).await;
        store.hold_outbox("a", after(300), &at(after(0))).await.unwrap();
        let many = (0..450).map(|item| planned("one", "digest", after(20), item)).collect();
        assert!(plan(store, "a", 0, 1, many).await);
        let mut sizes: Vec<usize> = store.notifications(None, None, 10).await.unwrap().iter().map(|message| message.items.len()).collect();
        sizes.sort_unstable();
        assert_eq!(sizes, [50, 200, 200]);
    }

    async fn a_failing_target_is_left_alone_and_holds_nobody_up(fixture) {
        let store = &fixture.store;
        targets(fixture, &["dead", "well"]).await;
        store.hold_outbox("a", after(300), &at(after(0))).await.unwrap();
        assert!(plan(store, "a", 0, 1, vec![
            planned("dead", "", after(0), 1),
            planned("dead", "", after(1), 2),
            planned("well", "", after(0), 3),
        ]).await);
        let due = |seconds: u64| async move {
            let mut due = items(&store.due_notifications(after(seconds)).await.unwrap());
            due.sort_by_key(|(target, _)| target.clone());
            due.into_iter().map(|(target, items)| format!("{target}{items}")).collect::<Vec<_>>().join(" ")
        };
        let find = |item: i64| async move {
            store.notifications(None, None, 9).await.unwrap().into_iter().find(|message| message.items == [json!(item)]).unwrap().id
        };
        let dead: TargetName = "dead".parse().unwrap();
        let (first, second) = (find(1).await, find(2).await);
        assert_eq!(due(2).await, "dead[1] well[3]");
        store.notification_tried(first, &dead, &failed(Some(after(10)), None, false), &at(after(2))).await.unwrap();
        assert_eq!(due(2).await, "dead[2] well[3]", "the next one is tried meanwhile");
        store.notification_tried(second, &dead, &failed(Some(after(12)), Some(after(100)), false), &at(after(3))).await.unwrap();
        assert_eq!(due(99).await, "well[3]", "left alone");
        let target = store.notification_target(&dead).await.unwrap();
        assert_eq!((target.failures, target.open_until, target.last_error.as_deref()), (2, Some(after(100)), Some("it answered 503")));
        assert_eq!(due(100).await, "dead[1] well[3]", "and tried again");

        store.notification_tried(first, &dead, &failed(None, Some(after(200)), false), &at(after(100))).await.unwrap();
        let message = store.notification(first).await.unwrap();
        assert_eq!((message.status, message.attempts, message.ended), (MessageStatus::Dead, 2, Some(after(100))));
        assert_eq!(store.notifications(Some(&dead), Some(MessageStatus::Dead), 10).await.unwrap().len(), 1);
        assert!(store.redeliver_notification(second, &at(after(101))).await.is_err(), "it waits already");
        let again = store.redeliver_notification(first, &at(after(101))).await.unwrap();
        assert_eq!((again.status, again.attempts, again.due), (MessageStatus::Waiting, 0, after(101)));
        assert_eq!(due(101).await, "dead[2] well[3]", "the target is tried at once, what was due longest first");

        store.notification_tried(second, &dead, &failed(None, None, true), &at(after(102))).await.unwrap();
        assert!(!store.notification_target(&dead).await.unwrap().enabled, "it said that it is gone");
        assert_eq!(due(500).await, "well[3]");
    }

    async fn what_expires_soon_is_found_until_it_is_marked(fixture) {
        let store = &fixture.store;
        targets(fixture, &["one"]).await;
        let agent = fixture.agent("bot").await;
        let id = fixture.opened(&agent, json!({"a": 1}), 1).await;
        let day = 24 * 60 * 60;
        assert!(store.approvals_expiring(after(1), after(day - 1)).await.unwrap().is_empty());
        assert_eq!(store.approvals_expiring(after(1), after(day)).await.unwrap(), [id]);
        assert!(store.approvals_expiring(after(day), after(day + 9)).await.unwrap().is_empty(), "expired");
        let held = store.hold_outbox("a", after(300), &at(after(0))).await.unwrap().unwrap();
        let mark = |value| Plan {
            from: held.planned,
            to: held.planned,
            planned: vec![],
            marks: vec![(format!("expiring:{id}"), value)],
        };
        assert!(store.plan_notifications("a", mark(Some("told".to_owned())), &at(after(1))).await.unwrap());
        assert!(store.approvals_expiring(after(1), after(day)).await.unwrap().is_empty());
        assert_eq!(store.notification_mark(&format!("expiring:{id}")).await.unwrap().as_deref(), Some("told"));
        assert!(store.plan_notifications("a", mark(None), &at(after(1))).await.unwrap());
        assert_eq!(store.approvals_expiring(after(1), after(day)).await.unwrap(), [id]);
    }

    async fn what_is_long_over_is_forgotten(fixture) {
        let store = &fixture.store;
        targets(fixture, &["one"]).await;
        store.hold_outbox("a", after(300), &at(after(0))).await.unwrap();
        assert!(plan(store, "a", 0, 1, (0..4).map(|item| planned("one", "", after(0), item)).collect()).await);
        let messages = store.notifications(None, None, 10).await.unwrap();
        assert_eq!(messages.iter().map(|message| json!(message.items)).collect::<Vec<_>>(), [json!([3]), json!([2]), json!([1]), json!([0])], "newest first");
        let target = messages[0].target.clone();
        store.notification_tried(messages[0].id, &target, &Attempt::Delivered, &at(after(10))).await.unwrap();
        store.notification_tried(messages[1].id, &target, &failed(None, None, false), &at(after(10))).await.unwrap();
        store.drop_notification(messages[2].id, &at(after(10))).await.unwrap();
        let left = || async {
            let mut left: Vec<&str> = store.notifications(None, None, 10).await.unwrap().iter().map(|message| message.status.as_str()).collect();
            left.sort_unstable();
            left
        };
        store.tidy_notifications(after(10), after(10), &at(after(20))).await.unwrap();
        assert_eq!(left().await, ["dead", "delivered", "dropped", "waiting"]);
        store.tidy_notifications(after(11), after(10), &at(after(20))).await.unwrap();
        assert_eq!(left().await, ["dead", "waiting"]);
        store.tidy_notifications(after(11), after(11), &at(after(20))).await.unwrap();
        assert_eq!(left().await, ["waiting"], "what waits is never forgotten");
    }
}
