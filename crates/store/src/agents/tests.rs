use std::{collections::BTreeSet, time::Duration};

use authz::approval::Reach;

use super::*;
use crate::testing::{NOON, ODD_TEXTS, actor, after, agent, at, on_both_engines, token, user};

on_both_engines! {
    async fn an_agent_reads_back_by_id_and_by_name(fixture) {
        let made = fixture.agent("builder").await;
        for key in [AgentRef::Id(made.id), AgentRef::Name(made.name.clone())] {
            let stored = fixture.store.agent(&key).await.unwrap();
            assert_eq!(stored.agent, made);
            assert_eq!(stored.created, NOON);
        }
        assert_eq!(fixture.store.feed_after(0, 10).await.unwrap()[0].change, Change::AgentChanged { agent: made.id });
    }

    async fn names_and_ids_are_unique(fixture) {
        let made = fixture.agent("builder").await;
        let same_id = Agent { name: "other".parse().unwrap(), ..made.clone() };
        for twin in [agent("builder"), same_id] {
            let error = fixture.store.create_agent(&twin, &actor()).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        }
        assert_eq!(fixture.store.feed_head().await.unwrap(), 1, "a refused write leaves no event");
        let error = fixture.store.agent(&"nobody".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.to_string(), "agent `nobody` is not found");
    }

    async fn the_built_in_agent_is_made_once(fixture) {
        let local = agent("local");
        let makers: Vec<_> = (0..8)
            .map(|_| {
                let (store, local) = (fixture.store.clone(), local.clone());
                tokio::spawn(async move { store.ensure_agent(&local, &actor()).await })
            })
            .collect();
        for maker in makers {
            maker.await.unwrap().unwrap();
        }
        assert_eq!(fixture.store.feed_head().await.unwrap(), 1);
        assert_eq!(fixture.store.agents().await.unwrap().len(), 1);
    }

    async fn a_change_that_changes_nothing_leaves_no_event(fixture) {
        let made = fixture.agent("builder").await;
        let key = AgentRef::Name(made.name.clone());
        fixture.store.change_agent(&key, &actor(), |agent| agent.trust = 3).await.unwrap();
        assert_eq!(fixture.store.feed_head().await.unwrap(), 1);

        let other = AgentId::generate(NOON);
        let changed = fixture
            .store
            .change_agent(&key, &actor(), |agent| {
                agent.id = other;
                agent.suspended = true;
                agent.trust = 255;
                agent.owner = None;
                agent.allowed_mcps = BTreeSet::new();
            })
            .await
            .unwrap();
        assert_eq!(changed.agent.id, made.id, "the id stays");
        assert_eq!(fixture.store.agent(&key).await.unwrap().agent, changed.agent);
        assert!(changed.agent.suspended && changed.agent.owner.is_none() && changed.agent.trust == 255);
        assert_eq!(fixture.store.feed_head().await.unwrap(), 2);
        let trail = fixture.store.audit(0, 10, Some(made.id)).await.unwrap();
        assert_eq!(trail[1].kind, "agent_changed");
        assert_eq!(trail[1].entry["before"]["trust"], 3);
        assert_eq!(trail[1].entry["after"]["trust"], 255);

        let error = fixture.store.change_agent(&"nobody".parse().unwrap(), &actor(), |_| ()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
        fixture.agent("second").await;
        let error = fixture
            .store
            .change_agent(&key, &actor(), |agent| agent.name = "second".parse().unwrap())
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
    }

    async fn a_refused_change_leaves_the_agent_and_its_revision(fixture) {
        let made = fixture.agent("builder").await;
        let key = AgentRef::Id(made.id);
        assert_eq!(fixture.store.agent(&key).await.unwrap().revision, 1);
        let what = AgentChange { kind: "agent_suspended", reason: "enough" };
        let changed = fixture
            .store
            .change_agent_if(&key, what, &actor(), |stored, agent| {
                assert_eq!(stored.revision, 1);
                agent.suspended = true;
                Ok::<_, StoreError>(())
            })
            .await
            .unwrap();
        assert_eq!(changed.revision, 2);
        let refused = fixture
            .store
            .change_agent_if(&key, AgentChange::PLAIN, &actor(), |stored, agent| {
                agent.suspended = false;
                Err(StoreError::Conflict(format!("at {}", stored.revision)))
            })
            .await
            .unwrap_err();
        assert!(matches!(refused, StoreError::Conflict(what) if what == "at 2"));
        let now = fixture.store.agent(&key).await.unwrap();
        assert_eq!((now.agent.suspended, now.revision), (true, 2));
        let trail = fixture.store.audit(0, 10, Some(made.id)).await.unwrap();
        assert_eq!(trail.len(), 2);
        assert_eq!((trail[1].kind.as_str(), &trail[1].entry["reason"]), ("agent_suspended", &"enough".into()));
        assert_eq!(fixture.store.feed_head().await.unwrap(), 2);
    }

    async fn agents_are_read_page_by_page(fixture) {
        for name in ["b", "a", "c"] {
            fixture.agent(name).await;
        }
        let names = async |after: &str, limit| {
            let page = fixture.store.agents_after(after, limit).await.unwrap();
            page.into_iter().map(|stored| stored.agent.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names("", 2).await, ["a", "b"]);
        assert_eq!(names("b", 2).await, ["c"]);
        assert_eq!(names("c", 2).await, Vec::<String>::new());
        assert_eq!(names("a\0", 2).await, Vec::<String>::new());
    }

    async fn concurrent_changes_all_count(fixture) {
        fixture.agent("counter").await;
        let changes: Vec<_> = (0..20)
            .map(|_| {
                let store = fixture.store.clone();
                tokio::spawn(async move {
                    store.change_agent(&"counter".parse().unwrap(), &actor(), |agent| agent.trust += 1).await
                })
            })
            .collect();
        for change in changes {
            change.await.unwrap().unwrap();
        }
        assert_eq!(fixture.store.agent(&"counter".parse().unwrap()).await.unwrap().agent.trust, 23);
    }

    async fn facts_hold_live_grants_and_the_head(fixture) {
        let grant = fixture.granted("builder", Reach::Command).await;
        fixture.granted("other", Reach::Service).await;
        let key = AgentRef::Id(grant.agent);
        let head = fixture.store.feed_head().await.unwrap();

        // It expires at one o'clock: not a millisecond before, and not one after.
        let expires = after(3_600);
        for (now, live) in [
            (NOON, 1),
            (expires.minus(Duration::from_millis(1)), 1),
            (expires, 0),
            (expires.plus(Duration::from_millis(1)), 0),
        ] {
            for key in [&key, &AgentRef::Name("builder".parse().unwrap())] {
                let facts = fixture.store.facts(key, now).await.unwrap();
                assert_eq!(facts.grants.len(), live, "{now}");
                assert_eq!(facts.version, head);
                assert_eq!(facts.agent.id, grant.agent);
                assert!(facts.grants.iter().all(|live| *live == grant));
            }
        }

        fixture.store.revoke_grant(grant.id, "no longer", &actor()).await.unwrap();
        let facts = fixture.store.facts(&key, NOON).await.unwrap();
        assert_eq!((facts.grants.len(), facts.version), (0, head + 1));
        let error = fixture.store.facts(&"nobody".parse().unwrap(), NOON).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
    }

    async fn facts_are_of_one_moment(fixture) {
        // Each change raises trust by one and the head by one: facts that mixed two
        // moments would not have the difference.
        fixture.agent("moment").await;
        let store = fixture.another().await;
        let writer = tokio::spawn(async move {
            for _ in 0..60 {
                store.change_agent(&"moment".parse().unwrap(), &actor(), |agent| agent.trust += 1).await.unwrap();
            }
            store.close().await;
        });
        while !writer.is_finished() {
            let facts = fixture.store.facts(&"moment".parse().unwrap(), NOON).await.unwrap();
            assert_eq!(facts.version - i64::from(facts.agent.trust), -2);
        }
        writer.await.unwrap();
    }

    async fn a_credential_opens_until_it_expires_or_is_revoked(fixture) {
        let made = fixture.agent("builder").await;
        let other = fixture.agent("other").await;
        let token = Token { expires: Some(after(600)), ..token("aa") };
        fixture.store.create_agent_token(made.id, &token, &actor()).await.unwrap();

        let by_token = async |now| fixture.store.agent_by_token(&token.digest, now).await;
        assert_eq!(by_token(NOON).await.unwrap().0, made.id);
        assert!(by_token(after(600).minus(Duration::from_millis(1))).await.is_ok());
        for now in [after(600), after(601)] {
            assert!(matches!(by_token(now).await.unwrap_err(), StoreError::NotFound(_)), "{now}");
        }
        for digest in ["", "aa", "a\0a", "' OR 1=1 --"] {
            let error = fixture.store.agent_by_token(digest, NOON).await.unwrap_err();
            assert!(matches!(error, StoreError::NotFound(_)), "{digest:?}: {error:?}");
        }
        let error = fixture.store.user_by_token(&token.digest, NOON).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "an agent's credential is no user's");

        let error = fixture.store.revoke_agent_token(other.id, token.id, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "another agent's");
        fixture.store.revoke_agent_token(made.id, token.id, &at(after(1))).await.unwrap();
        assert!(by_token(after(2)).await.is_err());
        let error = fixture.store.revoke_agent_token(made.id, token.id, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "twice");
        let listed = fixture.store.agent_tokens(made.id).await.unwrap();
        assert_eq!((listed.len(), listed[0].revoked), (1, Some(after(1))));
        assert_eq!(fixture.store.agent_tokens(other.id).await.unwrap().len(), 0);

        let trail = fixture.store.audit(0, 100, None).await.unwrap();
        assert_eq!(trail.last().unwrap().kind, "credential_revoked");
        assert!(trail.iter().all(|row| !row.entry.to_string().contains(&token.digest)));
    }

    async fn credentials_are_unique_and_of_someone(fixture) {
        let made = fixture.agent("builder").await;
        fixture.store.create_agent_token(made.id, &token("aa"), &actor()).await.unwrap();
        let error = fixture.store.create_agent_token(made.id, &token("aa"), &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        let dan = fixture.store.create_user(&user("dan"), &actor()).await.unwrap().user.id;
        let error = fixture.store.create_user_token(&dan, &token("aa"), &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "nor a user's");
        let nobody = AgentId::generate(NOON);
        let error = fixture.store.create_agent_token(nobody, &token("bb"), &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
    }

    async fn use_is_noted_once_a_minute_without_an_event(fixture) {
        let made = fixture.agent("builder").await;
        let token = token("aa");
        fixture.store.create_agent_token(made.id, &token, &actor()).await.unwrap();
        let head = fixture.store.feed_head().await.unwrap();
        for (now, noted) in [(0, 0), (59, 0), (60, 60), (61, 60), (500, 500)] {
            let (_, seen) = fixture.store.agent_by_token(&token.digest, after(now)).await.unwrap();
            assert_eq!(seen.last_used, Some(after(noted)), "after {now}");
            let listed = fixture.store.agent_tokens(made.id).await.unwrap();
            assert_eq!(listed[0].last_used, Some(after(noted)), "after {now}");
        }
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
    }

    async fn labels_are_kept_as_written(fixture) {
        let made = fixture.agent("builder").await;
        for (number, label) in ODD_TEXTS.iter().enumerate() {
            let token = Token { label: (*label).to_owned(), ..token(&number.to_string()) };
            fixture.store.create_agent_token(made.id, &token, &actor()).await.unwrap();
            let (_, read) = fixture.store.agent_by_token(&token.digest, NOON).await.unwrap();
            assert_eq!(read.label, *label);
        }
        let token = Token { label: "nul \0 here".to_owned(), ..token("ff") };
        fixture.store.create_agent_token(made.id, &token, &actor()).await.unwrap();
        let (_, read) = fixture.store.agent_by_token(&token.digest, NOON).await.unwrap();
        assert_eq!(read.label, "nul \u{fffd} here");
    }
}
