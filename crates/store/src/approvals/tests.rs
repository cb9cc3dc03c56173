mod closed;
mod entitled;
mod migrated;
mod processes;

use std::collections::BTreeSet;

use authz::{Agent, AgentId, CommandKey, Risk, Scope};
use serde_json::json;

use super::{decide::insert_verdict, open::insert, *};
use crate::{
    feed::Change,
    grants,
    testing::{
        Fixture, NOON, ODD_TEXTS, actor, after, agent, at, on_both_engines, request, version,
    },
};

/// A day after noon: when requests opened at noon expire.
const EXPIRY: u64 = 24 * 3_600;

const MILLISECOND: Duration = Duration::from_millis(1);

fn conflict<T: std::fmt::Debug>(result: Result<T, StoreError>) -> String {
    match result {
        Err(StoreError::Conflict(why)) => why,
        other => panic!("not a conflict: {other:?}"),
    }
}

fn not_found<T: std::fmt::Debug>(result: &Result<T, StoreError>) {
    assert!(matches!(result, Err(StoreError::NotFound(_))), "{result:?}");
}

async fn reject(
    fixture: &Fixture,
    id: ApprovalRequestId,
    by: &UserId,
    now: Timestamp,
    retry_at: Timestamp,
) -> Result<StoredApproval, StoreError> {
    fixture
        .store
        .reject(id, said(by, "no"), retry_at, &at(now), |_| {
            Ok::<_, StoreError>(())
        })
        .await
}

fn verdict(user: &UserId) -> Verdict {
    Verdict {
        user: user.clone(),
        approved: None,
        reason: String::new(),
        at: NOON,
        via: "api".to_owned(),
        policy_set: None,
        counts: true,
    }
}

fn said<'a>(by: &'a UserId, reason: &'a str) -> Decision<'a> {
    Decision {
        by,
        reason,
        policy_set: None,
    }
}

async fn open(
    fixture: &Fixture,
    new: NewApproval,
    now: Timestamp,
) -> Result<(StoredApproval, bool), StoreError> {
    fixture.store.open_approval(new, 3, &at(now)).await
}

async fn changes(fixture: &Fixture, after: i64) -> Vec<Change> {
    fixture
        .store
        .feed_after(after, 1_000)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.change)
        .collect()
}

/// What an agent asked for: two that differ are two requests.
fn variants(agent: &Agent, other: &Agent) -> Vec<(&'static str, NewApproval)> {
    let base = || request(agent, json!({"server": "a"}), 1, NOON);
    let mut command = base();
    command.ask.target.key = "coolify/stop".parse().unwrap();
    vec![
        (
            "other arguments",
            request(agent, json!({"server": "b"}), 1, NOON),
        ),
        ("other command", command),
        (
            "other policy set",
            NewApproval {
                policy_set: version("b2"),
                ..base()
            },
        ),
        (
            "other agent",
            request(other, json!({"server": "a"}), 1, NOON),
        ),
    ]
}

on_both_engines! {
    async fn a_request_reads_back(fixture) {
        let agent = fixture.agent("builder").await;
        let head = fixture.store.feed_head().await.unwrap();
        let new = request(&agent, json!({"server": "a", "force": true}), 2, NOON);
        let (made, opened) = open(fixture, new.clone(), NOON).await.unwrap();
        assert!(opened);
        let read = fixture.store.approval(new.id, NOON).await.unwrap();
        for stored in [made, read] {
            assert_eq!(stored.new.ask, new.ask);
            assert_eq!(stored.new.arguments, new.arguments);
            assert_eq!(stored.new.reason, new.reason);
            assert_eq!((&stored.new.policies, &stored.new.advice), (&new.policies, &new.advice));
            assert_eq!((&stored.new.workflow, &stored.new.policy_set), (&new.workflow, &new.policy_set));
            assert_eq!((stored.new.id, stored.new.expires), (new.id, new.expires));
            assert_eq!((stored.status, stored.opened, stored.joined), (Status::Pending, NOON, 0));
            assert!(stored.verdicts.is_empty() && stored.grant.is_none() && stored.decided.is_none());
        }
        assert_eq!(changes(fixture, head).await, [Change::ApprovalOpened { approval: new.id, agent: agent.id }]);
        let trail = fixture.store.audit(0, 100, Some(agent.id)).await.unwrap();
        let last = trail.last().unwrap();
        assert_eq!((last.kind.as_str(), last.command.as_deref()), ("approval_opened", Some("coolify/deploy")));
        assert_eq!(last.entry["reason"], "the release is due");
        not_found(&fixture.store.approval(ApprovalRequestId::generate(NOON), NOON).await);
    }

    async fn an_unknown_agent_opens_nothing(fixture) {
        let stranger = agent("stranger");
        not_found(&open(fixture, request(&stranger, json!({}), 1, NOON), NOON).await);
        assert_eq!(fixture.store.feed_head().await.unwrap(), 0);
    }

    async fn the_same_call_joins(fixture) {
        let agent = fixture.agent("builder").await;
        let other = fixture.agent("other").await;
        let first = request(&agent, json!({"server": "a"}), 1, NOON);
        open(fixture, first.clone(), NOON).await.unwrap();
        let head = fixture.store.feed_head().await.unwrap();
        let trail = fixture.store.audit(0, 100, None).await.unwrap().len();
        for joins in 1..=3 {
            let again = NewApproval { reason: "please".to_owned(), ..request(&agent, json!({"server": "a"}), 1, NOON) };
            let (joined, opened) = open(fixture, again, after(joins)).await.unwrap();
            assert!(!opened);
            assert_eq!((joined.new.id, joined.joined, joined.new.reason.as_str()), (first.id, joins, "the release is due"));
        }
        assert_eq!(fixture.store.approval(first.id, NOON).await.unwrap().joined, 3);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head, "joining is no change");
        assert_eq!(fixture.store.audit(0, 100, None).await.unwrap().len(), trail, "and floods no trail");

        for (name, new) in variants(&agent, &other) {
            let (_, opened) = fixture.store.open_approval(new, 100, &actor()).await.unwrap();
            assert!(opened, "{name}");
        }
    }

    async fn the_same_call_at_once_opens_one(fixture) {
        let agent = fixture.agent("builder").await;
        let another = fixture.another().await;
        let opens: Vec<_> = (0..20)
            .map(|number| {
                let store = if number % 2 == 0 { fixture.store.clone() } else { another.clone() };
                let new = request(&agent, json!({}), 1, NOON);
                tokio::spawn(async move { store.open_approval(new, 1, &actor()).await })
            })
            .collect();
        let (mut ids, mut opened) = (BTreeSet::new(), 0);
        for open in opens {
            let (approval, new) = open.await.unwrap().unwrap();
            ids.insert(approval.new.id);
            opened += u8::from(new);
        }
        another.close().await;
        assert_eq!((ids.len(), opened), (1, 1));
        assert_eq!(fixture.store.approvals(true, 100, NOON).await.unwrap()[0].joined, 19);
    }

    async fn an_agent_has_a_limit_of_open_requests(fixture) {
        let agent = fixture.agent("builder").await;
        let other = fixture.agent("other").await;
        let mut last = None;
        for server in 0..3 {
            last = Some(open(fixture, request(&agent, json!({"server": server}), 1, NOON), NOON).await.unwrap().0);
        }
        let head = fixture.store.feed_head().await.unwrap();
        let fourth = || request(&agent, json!({"server": 4}), 1, NOON);
        let why = match open(fixture, fourth(), NOON).await {
            Err(StoreError::TooMany(why)) => why,
            other => panic!("not too many: {other:?}"),
        };
        assert!(why.contains("`builder` has 3"), "{why}");
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
        // Joining is still possible, others are not affected, and a decided one makes room.
        assert!(!open(fixture, request(&agent, json!({"server": 0}), 1, NOON), NOON).await.unwrap().1);
        assert!(open(fixture, request(&other, json!({}), 1, NOON), NOON).await.unwrap().1);
        let dan = fixture.user("dan").await;
        reject(fixture, last.unwrap().new.id, &dan, NOON, NOON).await.unwrap();
        assert!(open(fixture, fourth(), NOON).await.unwrap().1);
    }

    async fn an_expired_request_is_not_joined(fixture) {
        let agent = fixture.agent("builder").await;
        let first = request(&agent, json!({}), 1, NOON);
        open(fixture, first.clone(), NOON).await.unwrap();
        let last_moment = after(EXPIRY).minus(MILLISECOND);
        assert!(!open(fixture, request(&agent, json!({}), 1, NOON), last_moment).await.unwrap().1);
        let head = fixture.store.feed_head().await.unwrap();
        let second = request(&agent, json!({}), 1, after(EXPIRY));
        // Even where the limit is one: what has expired does not count.
        let (_, opened) = fixture.store.open_approval(second.clone(), 1, &at(after(EXPIRY))).await.unwrap();
        assert!(opened);
        let expected = [
            Change::ApprovalClosed { approval: first.id, agent: agent.id },
            Change::ApprovalOpened { approval: second.id, agent: agent.id },
        ];
        assert_eq!(changes(fixture, head).await, expected);
        let stored = fixture.store.approval(first.id, after(EXPIRY)).await.unwrap();
        assert_eq!((stored.status, stored.decided), (Status::Expired, Some(first.expires)));
    }

    async fn a_request_is_expired_at_the_instant_swept_or_not(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let id = fixture.opened(&agent, json!({}), 1).await;
        let later = fixture.opened(&agent, json!({"late": true}), 1).await;
        let expiry = after(EXPIRY);
        for (now, status, pending) in [
            (expiry.minus(MILLISECOND), Status::Pending, 2),
            (expiry, Status::Expired, 0),
            (expiry.plus(MILLISECOND), Status::Expired, 0),
        ] {
            assert_eq!(fixture.store.approval(id, now).await.unwrap().status, status, "{now}");
            assert_eq!(fixture.store.approvals(false, 10, now).await.unwrap().len(), pending, "{now}");
            let all = fixture.store.approvals(true, 10, now).await.unwrap();
            assert!(all.len() == 2 && all.iter().all(|approval| approval.status == status), "{now}");
        }
        conflict(fixture.approve(id, &dan, Reach::Call, 1, expiry).await);
        conflict(reject(fixture, id, &dan, expiry, expiry).await);
        assert!(fixture.approve(later, &dan, Reach::Call, 1, expiry.minus(MILLISECOND)).await.is_ok());

        let head = fixture.store.feed_head().await.unwrap();
        assert_eq!(fixture.store.expire_approvals(&at(expiry.minus(MILLISECOND))).await.unwrap(), []);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
        assert_eq!(fixture.store.expire_approvals(&at(expiry)).await.unwrap(), [(id, agent.id)]);
        assert_eq!(fixture.store.expire_approvals(&at(expiry)).await.unwrap(), [], "once");
        assert_eq!(changes(fixture, head).await, [Change::ApprovalClosed { approval: id, agent: agent.id }]);
    }

    async fn the_sweeper_announces_each(fixture) {
        let agent = fixture.agent("builder").await;
        let mut ids = Vec::new();
        for server in 0..5 {
            ids.push((fixture.opened(&agent, json!({"server": server}), 1).await, agent.id));
        }
        ids.sort();
        let head = fixture.store.feed_head().await.unwrap();
        assert_eq!(fixture.store.expire_approvals(&at(after(EXPIRY))).await.unwrap(), ids);
        let expected: Vec<_> =
            ids.iter().map(|(approval, agent)| Change::ApprovalClosed { approval: *approval, agent: *agent }).collect();
        assert_eq!(changes(fixture, head).await, expected);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head + 5);
    }

    async fn an_approval_yields_a_grant(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        for (reach, single_use) in [(Reach::Once, true), (Reach::Call, false), (Reach::Command, false), (Reach::Service, false)] {
            let id = fixture.opened(&agent, json!({"reach": reach}), 1).await;
            let digest = fixture.store.approval(id, NOON).await.unwrap().new.ask.digest;
            let head = fixture.store.feed_head().await.unwrap();
            let Approved::Granted(approval, grant) = fixture.approve(id, &dan, reach, 4, after(60)).await.unwrap() else {
                panic!("one approval was needed")
            };
            let command: CommandKey = "coolify/deploy".parse().unwrap();
            let scope = match reach {
                Reach::Once | Reach::Call => Scope::Call { command, digest },
                Reach::Command => Scope::Command { command },
                Reach::Service => Scope::Service { service: command.service },
            };
            let expected = Grant {
                id: grant.id,
                agent: agent.id,
                scope,
                risk: Risk::Write,
                issued: after(60),
                expires: after(60 + 4 * 3_600),
                first: dan.clone(),
                second: None,
                single_use,
                approval: id,
            };
            assert_eq!(grant, expected);
            assert_eq!(fixture.store.grant(grant.id).await.unwrap().grant, expected);
            let read = fixture.store.approval(id, after(60)).await.unwrap();
            for stored in [approval, read] {
                assert_eq!((stored.status, stored.grant, stored.decided), (Status::Approved, Some(grant.id), Some(after(60))));
                assert_eq!(stored.new.ask.approved_by, std::slice::from_ref(&dan));
                assert_eq!(stored.verdicts[0].approved, Some((reach, Duration::from_hours(4))));
            }
            let change = Change::ApprovalApproved { approval: id, agent: agent.id, grant: grant.id };
            assert_eq!(changes(fixture, head).await, [change]);
            let trail = fixture.store.audit(0, 1_000, Some(agent.id)).await.unwrap();
            let last = trail.last().unwrap();
            assert_eq!((last.kind.as_str(), last.user.as_deref()), ("approved", Some("dan")));
            assert_eq!((&last.entry["duration_seconds"], &last.entry["grant"]["id"]), (&json!(14_400), &json!(grant.id)));
            conflict(fixture.approve(id, &fixture.user(&format!("late-{}", reach.as_str())).await, reach, 1, after(61)).await);
        }
    }

    async fn two_people_yield_the_narrowest_grant(fixture) {
        let agent = fixture.agent("builder").await;
        let (dan, eve) = (fixture.user("dan").await, fixture.user("eve").await);
        let cases = [
            ((Reach::Service, 1), (Reach::Call, 8), (Reach::Call, 1)),
            ((Reach::Once, 8), (Reach::Service, 4), (Reach::Once, 4)),
            ((Reach::Command, 4), (Reach::Command, 4), (Reach::Command, 4)),
        ];
        for (number, (first, second, expected)) in cases.into_iter().enumerate() {
            let id = fixture.opened(&agent, json!({"case": number}), 2).await;
            let head = fixture.store.feed_head().await.unwrap();
            let Approved::Advanced(approval) = fixture.approve(id, &dan, first.0, first.1, after(1)).await.unwrap() else {
                panic!("two approvals were needed")
            };
            assert_eq!((approval.status, approval.new.ask.approved_by), (Status::Pending, vec![dan.clone()]));
            assert!(fixture.store.grants(Some(agent.id), true, NOON).await.unwrap().len() == number);

            let why = conflict(fixture.approve(id, &dan, second.0, second.1, after(2)).await);
            assert!(why.contains("`dan` has approved"), "{why}");

            // The second person sees who was the first.
            let mut seen = Vec::new();
            let hours = Duration::from_hours(second.1);
            let approved = fixture
                .store
                .approve(id, said(&eve, "me too"), (second.0, hours), &at(after(3)), |proposal| {
                    seen.clone_from(&proposal.approval.new.ask.approved_by);
                    Ok::<_, StoreError>(())
                })
                .await
                .unwrap();
            let Approved::Granted(approval, grant) = approved else { panic!("both approved") };
            assert_eq!(seen, std::slice::from_ref(&dan));
            assert_eq!((&grant.first, grant.second.as_ref()), (&dan, Some(&eve)));
            assert_eq!((grant.issued, grant.expires), (after(3), after(3 + expected.1 * 3_600)));
            assert_eq!((&grant.scope, grant.single_use), (&approval.new.ask.scope(expected.0).0, expected.0 == Reach::Once));
            assert_eq!(approval.verdicts.len(), 2);
            let advanced = Change::ApprovalAdvanced { approval: id, agent: agent.id };
            let approved = Change::ApprovalApproved { approval: id, agent: agent.id, grant: grant.id };
            assert_eq!(changes(fixture, head).await, [advanced, approved]);
        }
    }

    async fn fifty_approvals_at_once_yield_one_grant(fixture) {
        let agent = fixture.agent("builder").await;
        let id = fixture.opened(&agent, json!({}), 1).await;
        let another = fixture.another().await;
        let mut people = Vec::new();
        for number in 0..25 {
            people.push(fixture.user(&format!("user-{number}")).await);
        }
        let head = fixture.store.feed_head().await.unwrap();
        // Each person twice, from two processes: double clicks as well as races.
        let approvals: Vec<_> = (0..50)
            .map(|number| {
                let store = if number % 2 == 0 { fixture.store.clone() } else { another.clone() };
                let by = people[number / 2].clone();
                tokio::spawn(async move {
                    let hour = Duration::from_hours(1);
                    store.approve(id, said(&by, ""), (Reach::Call, hour), &actor(), |_| Ok::<_, StoreError>(())).await
                })
            })
            .collect();
        let mut granted = 0;
        for approval in approvals {
            match approval.await.unwrap() {
                Ok(Approved::Granted(..)) => granted += 1,
                other => drop(conflict(other)),
            }
        }
        another.close().await;
        assert_eq!(granted, 1);
        assert_eq!(fixture.store.grants(Some(agent.id), true, NOON).await.unwrap().len(), 1);
        assert_eq!(fixture.store.approval(id, NOON).await.unwrap().verdicts.len(), 1);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head + 1);
    }

    async fn fifty_approvals_of_two_needed_yield_one_grant(fixture) {
        let agent = fixture.agent("builder").await;
        let id = fixture.opened(&agent, json!({}), 2).await;
        let mut people = Vec::new();
        for number in 0..25 {
            people.push(fixture.user(&format!("user-{number}")).await);
        }
        let approvals: Vec<_> = (0..50)
            .map(|number| {
                let (store, by) = (fixture.store.clone(), people[number / 2].clone());
                tokio::spawn(async move {
                    let hour = Duration::from_hours(1);
                    store.approve(id, said(&by, ""), (Reach::Call, hour), &actor(), |_| Ok::<_, StoreError>(())).await
                })
            })
            .collect();
        let (mut advanced, mut granted) = (0, 0);
        for approval in approvals {
            match approval.await.unwrap() {
                Ok(Approved::Granted(..)) => granted += 1,
                Ok(Approved::Advanced(..)) => advanced += 1,
                other => drop(conflict(other)),
            }
        }
        assert_eq!((advanced, granted), (1, 1));
        let verdicts = fixture.store.approval(id, NOON).await.unwrap().verdicts;
        assert!(verdicts.len() == 2 && verdicts[0].user != verdicts[1].user);
    }

    async fn approving_and_rejecting_at_once_has_one_outcome(fixture) {
        let agent = fixture.agent("builder").await;
        let (dan, eve) = (fixture.user("dan").await, fixture.user("eve").await);
        for number in 0..10 {
            let id = fixture.opened(&agent, json!({"number": number}), 1).await;
            let (approved, rejected) = tokio::join!(
                fixture.approve(id, &dan, Reach::Call, 1, NOON),
                reject(fixture, id, &eve, NOON, after(60)),
            );
            assert_ne!(approved.is_ok(), rejected.is_ok());
            let stored = fixture.store.approval(id, NOON).await.unwrap();
            assert_eq!(stored.status == Status::Approved, approved.is_ok());
            assert_eq!(stored.grant.is_some(), approved.is_ok());
        }
    }

    async fn policy_is_asked_under_the_lock_and_heard(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let id = fixture.opened(&agent, json!({}), 1).await;
        let head = fixture.store.feed_head().await.unwrap();
        let hour = Duration::from_hours(1);
        let refuse = |_: &Proposal<'_>| Err(StoreError::Conflict("policy says no".to_owned()));
        let approved = fixture.store.approve(id, said(&dan, ""), (Reach::Call, hour), &actor(), refuse).await;
        assert_eq!(conflict(approved), "policy says no");
        let rejected = fixture.store.reject(id, said(&dan, ""), NOON, &actor(), refuse).await;
        assert_eq!(conflict(rejected), "policy says no");
        let none = fixture.approve(id, &dan, Reach::Call, 0, NOON).await;
        assert!(conflict(none).contains("no time"));
        let stored = fixture.store.approval(id, NOON).await.unwrap();
        assert_eq!((stored.status, stored.verdicts.len()), (Status::Pending, 0));
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
        assert!(fixture.store.grants(None, true, NOON).await.unwrap().is_empty());
    }

    async fn only_active_users_decide(fixture) {
        let agent = fixture.agent("builder").await;
        let id = fixture.opened(&agent, json!({}), 1).await;
        let gone = authz::User { active: false, ..crate::testing::user("gone") };
        fixture.store.create_user(&gone, &actor()).await.unwrap();
        for id_of in ["gone", "nobody"] {
            let by: UserId = id_of.parse().unwrap();
            not_found(&fixture.approve(id, &by, Reach::Call, 1, NOON).await);
            not_found(&reject(fixture, id, &by, NOON, NOON).await);
        }
        let dan = fixture.user("dan").await;
        let unknown = ApprovalRequestId::generate(NOON);
        not_found(&fixture.approve(unknown, &dan, Reach::Call, 1, NOON).await);
        not_found(&reject(fixture, unknown, &dan, NOON, NOON).await);
    }

    async fn a_rejection_cools_down(fixture) {
        let agent = fixture.agent("builder").await;
        let other = fixture.agent("other").await;
        let dan = fixture.user("dan").await;
        let first = request(&agent, json!({"server": "a"}), 1, NOON);
        open(fixture, first.clone(), NOON).await.unwrap();
        let head = fixture.store.feed_head().await.unwrap();
        let until = after(900);
        let rejected = reject(fixture, first.id, &dan, after(1), until).await.unwrap();
        assert_eq!((rejected.status, rejected.decided, rejected.retry_at), (Status::Rejected, Some(after(1)), Some(until)));
        assert_eq!(changes(fixture, head).await, [Change::ApprovalRejected { approval: first.id, agent: agent.id }]);
        conflict(reject(fixture, first.id, &dan, after(2), until).await);
        conflict(fixture.approve(first.id, &dan, Reach::Call, 1, after(2)).await);

        let head = fixture.store.feed_head().await.unwrap();
        for now in [after(2), until.minus(MILLISECOND)] {
            let (given, opened) = open(fixture, request(&agent, json!({"server": "a"}), 1, NOON), now).await.unwrap();
            assert!(!opened);
            assert_eq!((given.new.id, given.status, given.verdicts.len()), (first.id, Status::Rejected, 1));
            assert_eq!(given.verdicts[0].reason, "no");
        }
        // A new policy set does not end it; another call is not affected.
        let new_set = NewApproval { policy_set: version("b2"), ..request(&agent, json!({"server": "a"}), 1, NOON) };
        assert!(!open(fixture, new_set, after(2)).await.unwrap().1);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head);
        for (name, new) in variants(&agent, &other) {
            if name != "other policy set" {
                let (_, opened) = fixture.store.open_approval(new, 100, &at(after(2))).await.unwrap();
                assert!(opened, "{name}");
            }
        }
        let (second, opened) = open(fixture, request(&agent, json!({"server": "a"}), 1, until), until).await.unwrap();
        assert!(opened && second.new.id != first.id);
    }

    async fn requests_are_listed_newest_first(fixture) {
        let agent = fixture.agent("builder").await;
        let (dan, eve) = (fixture.user("dan").await, fixture.user("eve").await);
        let mut ids = Vec::new();
        for minute in 0..5 {
            let now = after(minute * 60);
            let new = request(&agent, json!({"minute": minute}), 2, now);
            ids.push(new.id);
            fixture.store.open_approval(new, 100, &at(now)).await.unwrap();
        }
        let now = after(600);
        fixture.approve(ids[1], &dan, Reach::Call, 1, now).await.unwrap();
        fixture.approve(ids[1], &eve, Reach::Call, 1, now).await.unwrap();
        fixture.approve(ids[3], &eve, Reach::Call, 1, now).await.unwrap();
        let listed = async |all, limit| {
            let approvals = fixture.store.approvals(all, limit, now).await.unwrap();
            approvals.iter().map(|approval| (approval.new.id, approval.verdicts.len())).collect::<Vec<_>>()
        };
        let all = [(ids[4], 0), (ids[3], 1), (ids[2], 0), (ids[1], 2), (ids[0], 0)];
        assert_eq!(listed(true, 100).await, all);
        assert_eq!(listed(false, 100).await, [all[0], all[1], all[2], all[4]]);
        // The limit counts requests, not verdicts.
        assert_eq!(listed(true, 4).await, all[..4]);
        assert_eq!(listed(false, 2).await, all[..2]);
    }

    async fn texts_are_kept_as_written(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        for text in ODD_TEXTS.into_iter().chain(["nul \0 here"]) {
            let kept = text.replace('\0', "\u{fffd}");
            let new = NewApproval {
                reason: text.to_owned(),
                policies: vec![text.to_owned()],
                advice: vec![text.to_owned(), String::new()],
                workflow: Some(text.to_owned()),
                ..request(&agent, json!({"text": text, text: [text, null]}), 1, NOON)
            };
            let (made, _) = fixture.store.open_approval(new.clone(), 100, &actor()).await.unwrap();
            let read = fixture.store.approval(new.id, NOON).await.unwrap();
            for stored in [made, read] {
                // JSON escapes NUL, so only plain text columns change.
                assert_eq!(stored.new.arguments, new.arguments);
                assert_eq!((&stored.new.policies, &stored.new.advice), (&new.policies, &new.advice));
                assert_eq!((&stored.new.reason, stored.new.workflow.as_ref()), (&kept, Some(&kept)));
            }
            let rejected = fixture
                .store
                .reject(new.id, said(&dan, text), after(1), &actor(), |_| Ok::<_, StoreError>(()))
                .await
                .unwrap();
            assert_eq!(rejected.verdicts[0].reason, kept);
            assert_eq!(fixture.store.approval(new.id, NOON).await.unwrap().verdicts[0].reason, kept);
            let trail = fixture.store.audit(0, 1_000, None).await.unwrap();
            assert_eq!(trail.last().unwrap().entry["reason"], kept);
        }
    }

    async fn the_database_itself_refuses_what_the_code_would_not_do(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let grant = fixture.granted("granted", Reach::Call).await;
        let pending = fixture.opened(&agent, json!({}), 2).await;
        fixture.approve(pending, &dan, Reach::Call, 1, NOON).await.unwrap();
        let mut stored = fixture.store.approval(pending, NOON).await.unwrap();

        // A second pending request for the same call.
        let mut write = fixture.store.write(&actor()).await.unwrap();
        let twin = request(&agent, json!({}), 2, NOON);
        conflict(insert(&mut write, &twin, &Terms::default()).await);
        drop(write);
        // A second verdict of one person, at another place.
        let mut write = fixture.store.write(&actor()).await.unwrap();
        let verdict = verdict(&dan);
        conflict(insert_verdict(&mut write, &mut stored, verdict).await);
        drop(write);
        // A second grant for one request.
        let mut write = fixture.store.write(&actor()).await.unwrap();
        let second = Grant { id: GrantId::generate(NOON), ..grant.clone() };
        conflict(grants::insert(&mut write, &second).await);
        drop(write);
        // A grant without a request, to nobody, from nobody, for no time, from one person as two.
        let wrong = [
            Grant { approval: ApprovalRequestId::generate(NOON), ..second.clone() },
            Grant { approval: pending, agent: AgentId::generate(NOON), ..second.clone() },
            Grant { approval: pending, first: "nobody".parse().unwrap(), ..second.clone() },
            Grant { approval: pending, expires: second.issued, ..second.clone() },
            Grant { approval: pending, second: Some(second.first.clone()), ..second.clone() },
        ];
        for grant in wrong {
            let mut write = fixture.store.write(&actor()).await.unwrap();
            let error = grants::insert(&mut write, &grant).await.unwrap_err();
            assert!(matches!(error, StoreError::Database(_)), "{grant:?}: {error:?}");
        }
        let fine = Grant { approval: pending, ..second };
        let mut write = fixture.store.write(&actor()).await.unwrap();
        grants::insert(&mut write, &fine).await.unwrap();
    }
}
