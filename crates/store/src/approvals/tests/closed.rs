//! Requests taken back, and clocks that go back.

use super::*;
use crate::{Actor, Store};

async fn withdraw(
    store: &Store,
    id: ApprovalRequestId,
    by: Option<&UserId>,
    now: Timestamp,
) -> Result<StoredApproval, StoreError> {
    let actor = Actor {
        user: by.cloned(),
        ..at(now)
    };
    store
        .withdraw_approval(id, "not needed", &actor, |_| Ok::<_, StoreError>(()))
        .await
}

on_both_engines! {
    async fn a_request_is_taken_back_once(fixture) {
        let agent = fixture.agent("builder").await;
        let olga = fixture.user("olga").await;
        let dan = fixture.user("dan").await;
        for (number, by) in [None, Some(&olga)].into_iter().enumerate() {
            let id = fixture.opened(&agent, json!({"number": number}), 2).await;
            fixture.approve(id, &dan, Reach::Call, 1, NOON).await.unwrap();
            let head = fixture.store.feed_head().await.unwrap();
            let made = withdraw(&fixture.store, id, by, after(9)).await.unwrap();
            let read = fixture.store.approval(id, after(9)).await.unwrap();
            for stored in [made, read] {
                assert_eq!((stored.status, stored.decided), (Status::Withdrawn, Some(after(9))));
                let withdrawn = stored.withdrawn.unwrap();
                assert_eq!((withdrawn.by.as_ref(), withdrawn.reason.as_str()), (by, "not needed"));
            }
            assert_eq!(changes(fixture, head).await, [Change::ApprovalClosed { approval: id, agent: agent.id }]);
            let trail = fixture.store.audit(0, 1_000, Some(agent.id)).await.unwrap();
            let last = trail.last().unwrap();
            assert_eq!((last.kind.as_str(), last.user.as_deref()), ("withdrawn", by.map(UserId::as_str)));

            conflict(withdraw(&fixture.store, id, by, after(10)).await);
            conflict(fixture.approve(id, &olga, Reach::Call, 1, after(10)).await);
            conflict(reject(fixture, id, &olga, after(10), after(20)).await);
            assert_eq!(fixture.store.feed_head().await.unwrap(), head + 1);
            // The same call asks anew, and nobody's earlier approval counts for it.
            let (again, opened) = open(fixture, request(&agent, json!({"number": number}), 2, NOON), after(11)).await.unwrap();
            assert!(opened && again.new.id != id && again.new.ask.approved_by.is_empty());
        }
        let late = fixture.opened(&agent, json!({"late": true}), 1).await;
        conflict(withdraw(&fixture.store, late, None, after(EXPIRY)).await);
        not_found(&withdraw(&fixture.store, ApprovalRequestId::generate(NOON), None, NOON).await);
    }

    async fn taking_back_and_approving_at_once_has_one_outcome(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let another = fixture.another().await;
        for number in 0..10 {
            let id = fixture.opened(&agent, json!({"number": number}), 1).await;
            let (approved, withdrawn) = tokio::join!(
                fixture.approve(id, &dan, Reach::Call, 1, NOON),
                withdraw(&another, id, None, NOON),
            );
            assert_ne!(approved.is_ok(), withdrawn.is_ok());
            let stored = fixture.store.approval(id, NOON).await.unwrap();
            assert_eq!(stored.status == Status::Withdrawn, withdrawn.is_ok());
            assert_eq!(stored.grant.is_some(), approved.is_ok());
        }
        another.close().await;
    }

    async fn a_stranger_is_not_told_where_it_stands(fixture) {
        let agent = fixture.agent("builder").await;
        let id = fixture.opened(&agent, json!({}), 1).await;
        withdraw(&fixture.store, id, None, NOON).await.unwrap();
        let refused = fixture
            .store
            .withdraw_approval(id, "", &actor(), |_| Err(StoreError::NotFound("it".to_owned())))
            .await;
        not_found(&refused);
    }

    async fn a_clock_that_goes_back_revives_nothing_that_was_swept(fixture) {
        let store = &fixture.store;
        let dan = fixture.user("dan").await;
        let grant = fixture.granted("one", Reach::Call).await;
        let once = fixture.granted("once", Reach::Once).await;
        let lasting = fixture.granted("lasting", Reach::Call).await;
        store.revoke_grant(lasting.id, "", &actor()).await.unwrap();
        let waiting = fixture.opened(&fixture.agent("waiting").await, json!({}), 1).await;

        let before = grant.expires.minus(MILLISECOND);
        assert_eq!(store.expire_grants(&at(before)).await.unwrap(), []);
        let head = store.feed_head().await.unwrap();
        let mut expected = vec![(grant.id, grant.agent), (once.id, once.agent)];
        expected.sort();
        assert_eq!(store.expire_grants(&at(grant.expires)).await.unwrap(), expected);
        let events: Vec<_> = expected
            .iter()
            .map(|(grant, agent)| Change::GrantEnded { grant: *grant, agent: *agent })
            .collect();
        assert_eq!(changes(fixture, head).await, events);
        assert_eq!(store.expire_grants(&at(grant.expires)).await.unwrap(), [], "once");
        store.expire_approvals(&at(after(EXPIRY))).await.unwrap();

        // The clock goes back to where everything had been good.
        for ended in [&grant, &once] {
            let facts = store.facts(&authz::AgentRef::Id(ended.agent), before).await.unwrap();
            assert!(facts.grants.is_empty());
            let stored = store.grant(ended.id).await.unwrap();
            assert_eq!((stored.ended, stored.is_live(before)), (Some(ended.expires), false));
            conflict(store.revoke_grant(ended.id, "", &at(before)).await);
        }
        assert!(store.grants(None, false, before).await.unwrap().is_empty());
        conflict(store.spend_grant(once.id, authz::DecisionId::generate(NOON), &at(before)).await);
        assert_eq!(store.approval(waiting, NOON).await.unwrap().status, Status::Expired);
        conflict(fixture.approve(waiting, &dan, Reach::Call, 1, NOON).await);
        // What comes after has its place after it, whatever it says of the time.
        let head = store.feed_head().await.unwrap();
        let fresh = fixture.opened(&fixture.agent("fresh").await, json!({}), 1).await;
        fixture.approve(fresh, &dan, Reach::Call, 1, NOON).await.unwrap();
        let sequences: Vec<_> = store.feed_after(head, 10).await.unwrap().iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, [head + 1, head + 2, head + 3]);
        let trail = store.audit(0, 1_000, None).await.unwrap();
        assert!(trail.is_sorted_by_key(|entry| entry.id));
    }

    async fn many_grants_expire_in_batches(fixture) {
        let agent = fixture.agent("busy").await;
        let dan = fixture.user("dan").await;
        let first = fixture.opened(&agent, json!({}), 1).await;
        let Approved::Granted(approval, grant) = fixture.approve(first, &dan, Reach::Call, 1, NOON).await.unwrap() else {
            panic!("one was needed")
        };
        let mut write = fixture.store.write(&actor()).await.unwrap();
        for number in 0..600 {
            let new = NewApproval { id: ApprovalRequestId::generate(NOON), ..approval.new.clone() };
            insert(&mut write, &NewApproval { policy_set: version(&number.to_string()), ..new.clone() }, &Terms::default()).await.unwrap();
            let copy = Grant { id: GrantId::generate(NOON), approval: new.id, ..grant.clone() };
            grants::insert(&mut write, &copy).await.unwrap();
        }
        write.commit().await.unwrap();
        assert_eq!(fixture.store.expire_grants(&at(grant.expires)).await.unwrap().len(), 601);
        assert_eq!(fixture.store.expire_grants(&at(grant.expires)).await.unwrap(), []);
    }
}
