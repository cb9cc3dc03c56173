use std::time::Duration;

use authz::approval::Reach;

use super::*;
use crate::testing::{NOON, actor, after, at, on_both_engines};

fn ids(grants: &[StoredGrant]) -> Vec<GrantId> {
    grants.iter().map(|stored| stored.grant.id).collect()
}

on_both_engines! {
    async fn grants_are_listed_by_agent_and_life(fixture) {
        let store = &fixture.store;
        let one = fixture.granted("one", Reach::Call).await;
        let two = fixture.granted("two", Reach::Service).await;
        store.revoke_grant(two.id, "", &at(after(5))).await.unwrap();

        let all = store.grants(None, true, NOON).await.unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(ids(&store.grants(None, false, NOON).await.unwrap()), [one.id]);
        assert_eq!(ids(&store.grants(Some(two.agent), true, NOON).await.unwrap()), [two.id]);
        assert_eq!(ids(&store.grants(Some(two.agent), false, NOON).await.unwrap()), []);
        let last = one.expires.minus(Duration::from_millis(1));
        assert_eq!(ids(&store.grants(Some(one.agent), false, last).await.unwrap()), [one.id]);
        assert_eq!(ids(&store.grants(Some(one.agent), false, one.expires).await.unwrap()), []);
        assert_eq!(ids(&store.grants(None, false, one.expires).await.unwrap()), []);
        assert_eq!(store.grant(one.id).await.unwrap().grant, one);
        assert_eq!(store.grant(two.id).await.unwrap().revoked, Some(after(5)));
        let error = store.grant(GrantId::generate(NOON)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
    }

    async fn a_grant_is_revoked_once(fixture) {
        let store = &fixture.store;
        let grant = fixture.granted("one", Reach::Command).await;
        let head = store.feed_head().await.unwrap();
        let stored = store.revoke_grant(grant.id, "nul \0 here", &at(after(5))).await.unwrap();
        assert_eq!(stored.revoked, Some(after(5)));
        let error = store.revoke_grant(grant.id, "again", &at(after(6))).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        let events = store.feed_after(head, 10).await.unwrap();
        assert_eq!(events.len(), 1);
        assert_eq!(events[0].change, Change::GrantEnded { grant: grant.id, agent: grant.agent });
        let trail = store.audit(0, 100, Some(grant.agent)).await.unwrap();
        let last = trail.last().unwrap();
        assert_eq!((last.kind.as_str(), &last.entry["reason"]), ("revoked", &json!("nul \u{fffd} here")));

        let other = fixture.granted("other", Reach::Command).await;
        let error = store.revoke_grant(other.id, "late", &at(other.expires)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "it had ended by itself");
        let error = store.revoke_grant(GrantId::generate(NOON), "", &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
    }

    async fn a_single_use_is_spent_once(fixture) {
        let grant = fixture.granted("one", Reach::Once).await;
        let head = fixture.store.feed_head().await.unwrap();
        let another = fixture.another().await;
        let spends: Vec<_> = (0..20)
            .map(|number| {
                let store = if number % 2 == 0 { fixture.store.clone() } else { another.clone() };
                tokio::spawn(async move { store.spend_grant(grant.id, DecisionId::generate(NOON), &actor()).await })
            })
            .collect();
        let mut spent = 0;
        for spend in spends {
            match spend.await.unwrap() {
                Ok(()) => spent += 1,
                Err(StoreError::Conflict(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        another.close().await;
        assert_eq!(spent, 1);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head + 1);
        assert!(fixture.store.facts(&authz::AgentRef::Id(grant.agent), NOON).await.unwrap().grants.is_empty());
        assert_eq!(fixture.store.grant(grant.id).await.unwrap().spent, Some(NOON));
        let error = fixture.store.revoke_grant(grant.id, "", &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "it has ended");
    }

    async fn only_a_live_single_use_can_be_spent(fixture) {
        let decision = DecisionId::generate(NOON);
        let many = fixture.granted("many", Reach::Call).await;
        let revoked = fixture.granted("revoked", Reach::Once).await;
        let expired = fixture.granted("expired", Reach::Once).await;
        fixture.store.revoke_grant(revoked.id, "", &actor()).await.unwrap();
        let head = fixture.store.feed_head().await.unwrap();
        for (id, now) in [(many.id, NOON), (revoked.id, NOON), (expired.id, expired.expires)] {
            let error = fixture.store.spend_grant(id, decision, &at(now)).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        }
        let error = fixture.store.spend_grant(GrantId::generate(NOON), decision, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
    }
}
