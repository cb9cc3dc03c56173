//! Whose verdict counts, whatever the code above the store believes.

use super::*;
use crate::{Actor, database::within};

async fn set_active(fixture: &Fixture, user: &UserId, active: bool) {
    let mut write = fixture.store.write(&actor()).await.unwrap();
    within!(write, |c| sqlx::query(
        "UPDATE users SET active = $2 WHERE id = $1"
    )
    .bind(user.as_str())
    .bind(i64::from(active))
    .execute(c)
    .await
    .map(drop)
    .unwrap());
    write.commit().await.unwrap();
}

/// Opens a request that `rita` asked for, of an agent that `olga@example.com` owns.
async fn opened(fixture: &Fixture, agent: &Agent, number: u64, bars_owner: bool) -> NewApproval {
    let new = request(agent, json!({ "number": number }), 2, NOON);
    let terms = Terms {
        asked: None,
        bars_owner,
    };
    let store = &fixture.store;
    let (_, opened) = store
        .open_approval_on(new.clone(), terms, 100, &actor())
        .await
        .unwrap();
    assert!(opened);
    new
}

on_both_engines! {
    async fn the_requester_and_the_owner_are_refused_by_the_tables(fixture) {
        let agent = fixture.agent("builder").await;
        let (rita, olga) = (fixture.user("rita").await, fixture.user("olga@example.com").await);
        let dan = fixture.user("dan").await;
        let new = opened(fixture, &agent, 1, true).await;
        let head = fixture.store.feed_head().await.unwrap();
        for barred in [&rita, &olga] {
            // Policy is not asked here: it "permits" everything.
            let why = conflict(fixture.approve(new.id, barred, Reach::Once, 1, NOON).await);
            assert!(why.contains("somebody else must"), "{why}");
            let why = conflict(reject(fixture, new.id, barred, NOON, after(60)).await);
            assert!(why.contains("somebody else must"), "{why}");
        }
        // Nor can a row say that there is no such owner.
        let mut write = fixture.store.write(&actor()).await.unwrap();
        let forged = within!(write, |c| sqlx::query(
            "INSERT INTO verdicts (approval, user_id, place, reason, decided, requester, owner, via, policy_set)
            VALUES ($1, 'rita', 1, '', 1, '', '', '', '')"
        )
        .bind(new.id.to_string())
        .execute(c)
        .await
        .map(drop));
        assert!(forged.unwrap_err().as_database_error().unwrap().is_foreign_key_violation());
        drop(write);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
        fixture.approve(new.id, &dan, Reach::Call, 1, NOON).await.unwrap();

        let lenient = opened(fixture, &agent, 2, false).await;
        fixture.approve(lenient.id, &olga, Reach::Call, 1, NOON).await.unwrap();
        conflict(fixture.approve(lenient.id, &rita, Reach::Call, 1, NOON).await);
    }

    async fn an_approval_of_somebody_who_left_does_not_count(fixture) {
        let agent = fixture.agent("builder").await;
        let (dan, eve, flo) = (fixture.user("dan").await, fixture.user("eve").await, fixture.user("flo").await);
        let new = opened(fixture, &agent, 1, true).await;
        fixture.approve(new.id, &dan, Reach::Call, 1, NOON).await.unwrap();
        set_active(fixture, &dan, false).await;
        let stored = fixture.store.approval(new.id, NOON).await.unwrap();
        assert!(stored.new.ask.approved_by.is_empty() && !stored.verdicts[0].counts);

        let advanced = fixture.approve(new.id, &eve, Reach::Command, 8, NOON).await.unwrap();
        let Approved::Advanced(approval) = advanced else { panic!("only one counts: {advanced:?}") };
        assert_eq!(approval.new.ask.approved_by, std::slice::from_ref(&eve));
        // Back again, it counts, and still only once.
        set_active(fixture, &dan, true).await;
        conflict(fixture.approve(new.id, &dan, Reach::Call, 1, NOON).await);
        set_active(fixture, &dan, false).await;
        let Approved::Granted(approval, grant) = fixture.approve(new.id, &flo, Reach::Service, 4, NOON).await.unwrap() else {
            panic!("two count")
        };
        assert_eq!((&grant.first, grant.second.as_ref()), (&eve, Some(&flo)));
        // What somebody who does not count chose does not narrow it either.
        assert_eq!(grant.scope, approval.new.ask.scope(Reach::Command).0);
        assert_eq!(grant.expires, after(4 * 3_600));
        // What is decided is decided by whom it was decided.
        set_active(fixture, &eve, false).await;
        let stored = fixture.store.approval(new.id, NOON).await.unwrap();
        assert!(stored.new.ask.approved_by.contains(&eve));
    }

    async fn the_trail_says_who_how_from_where_and_under_which_policy_set(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let new = opened(fixture, &agent, 1, true).await;
        let actor = Actor {
            user: Some(dan.clone()),
            via: "cli",
            from: Some("203.0.113.9".parse().unwrap()),
            at: after(5),
        };
        let set = version("c3");
        let decision = Decision { by: &dan, reason: "no", policy_set: Some(&set) };
        fixture
            .store
            .reject(new.id, decision, after(60), &actor, |_| Ok::<_, StoreError>(()))
            .await
            .unwrap();
        let trail = fixture.store.audit(0, 1_000, Some(agent.id)).await.unwrap();
        let entry = &trail.last().unwrap().entry;
        for (name, expected) in [
            ("user", json!("dan")),
            ("via", json!("cli")),
            ("from", json!("203.0.113.9")),
            ("policy_set", json!(set)),
            ("asked_under", json!(new.policy_set)),
            ("digest", json!(new.ask.digest)),
            ("at", json!(after(5))),
        ] {
            assert_eq!(entry[name], expected, "{name}");
        }
        let verdict = fixture.store.approval(new.id, after(5)).await.unwrap().verdicts.remove(0);
        assert_eq!((verdict.via.as_str(), verdict.policy_set), ("cli", Some(set)));
    }

    async fn what_is_needed_to_decide_again_is_kept(fixture) {
        let agent = fixture.agent("builder").await;
        let asked = Asked {
            arguments: json!({"server": "a", "n": 1.5}).as_object().unwrap().clone(),
            ip: Some("2001:db8::7".parse().unwrap()),
            session: Some(authz::Session { tainted: true, calls: 7, ..authz::Session::fresh(NOON) }),
        };
        let terms = Terms { asked: Some(asked.clone()), bars_owner: false };
        let new = request(&agent, json!({}), 1, NOON);
        let (made, _) = fixture.store.open_approval_on(new.clone(), terms, 5, &actor()).await.unwrap();
        assert_eq!(made.asked, Some(asked.clone()));
        assert_eq!(fixture.store.approval(new.id, NOON).await.unwrap().asked, Some(asked));
        let without = fixture.opened(&agent, json!({"x": 1}), 1).await;
        assert_eq!(fixture.store.approval(without, NOON).await.unwrap().asked, None);
    }

    async fn the_agent_is_seen_as_it_is_now(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let earlier = fixture.opened(&agent, json!({"earlier": true}), 1).await;
        let Approved::Granted(_, grant) = fixture.approve(earlier, &dan, Reach::Call, 1, NOON).await.unwrap() else {
            panic!("one was needed")
        };
        let new = opened(fixture, &agent, 1, true).await;
        let of = authz::AgentRef::Id(agent.id);
        fixture.store.change_agent(&of, &actor(), |agent| agent.suspended = true).await.unwrap();
        let mut seen = None;
        let refused = fixture
            .store
            .approve(new.id, said(&dan, ""), (Reach::Command, Duration::from_hours(1)), &actor(), |proposal| {
                seen = Some((
                    proposal.facts.clone(),
                    proposal.approval.new.ask.agent.suspended,
                    proposal.grant.cloned(),
                    proposal.complete,
                ));
                Err(StoreError::Conflict("enough".to_owned()))
            })
            .await;
        conflict(refused);
        let (facts, then, proposed, complete) = seen.unwrap();
        assert!(facts.agent.suspended && !then);
        assert_eq!(facts.grants, [grant]);
        let proposed = proposed.unwrap();
        assert!(!complete && proposed.second.is_none() && proposed.first == dan);
        assert_eq!(proposed.scope, new.ask.scope(Reach::Command).0);
    }
}
