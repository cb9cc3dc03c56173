use authz::AgentId;
use serde_json::json;

use super::*;
use crate::testing::{NOON, after, at, on_both_engines};

fn line(sequence: i64, at: Timestamp, counts: &[(Measure, &str)]) -> JournalRow {
    JournalRow {
        sequence,
        text: format!("{{\"sequence\":{sequence}}}"),
        hash: format!("{sequence:0>64}"),
        at,
        kind: "refusal".to_owned(),
        agent: Some(AgentId::LOCAL),
        command: None,
        decision: None,
        outcome: None,
        counts: counts
            .iter()
            .map(|(measure, name)| (*measure, (*name).to_owned()))
            .collect(),
    }
}

const REFUSED: (Measure, &str) = (Measure::Decision, "refused");

/// Noon lies this long after the beginning of its hour.
const IN_HOUR: u64 = 13 * 60 + 20;

on_both_engines! {
    async fn a_line_counts_once_in_every_kind_of_slot(fixture) {
        let store = &fixture.store;
        let rows = [
            line(1, NOON, &[REFUSED, (Measure::RefusedPolicy, "a")]),
            line(2, after(59), &[REFUSED, (Measure::RefusedPolicy, "b")]),
            line(3, after(3_600), &[REFUSED, (Measure::RefusedPolicy, "b")]),
        ];
        // Twice, and once more together with a new one, as a gateway sends that got no answer.
        store.store_journal("edge", &rows[..2]).await.unwrap();
        store.store_journal("edge", &rows[..2]).await.unwrap();
        store.store_journal("edge", &rows).await.unwrap();

        let count = |begins, times| Count { begins, name: "refused".to_owned(), times };
        let far = after(100_000);
        let minutes = store.activity(Measure::Decision, Slots::Minute, Timestamp::from_millis(0), far).await.unwrap();
        let begin = |seconds| Slots::Minute.begin(after(seconds));
        assert_eq!(minutes, [count(begin(0), 1), count(begin(59), 1), count(begin(3_600), 1)]);
        assert_ne!(begin(0), begin(59), "noon is no whole minute here");
        let tens = store.activity(Measure::Decision, Slots::TenMinutes, Timestamp::from_millis(0), far).await.unwrap();
        assert_eq!(tens.iter().map(|count| count.times).collect::<Vec<_>>(), [2, 1]);
        let hours = store.activity(Measure::Decision, Slots::Hour, Timestamp::from_millis(0), far).await.unwrap();
        let hour = NOON.minus(Duration::from_secs(IN_HOUR));
        assert_eq!(hours, [count(hour, 2), count(hour.plus(Duration::from_hours(1)), 1)]);

        let until = hour.plus(Duration::from_hours(1));
        assert_eq!(store.activity(Measure::Decision, Slots::Hour, hour, until).await.unwrap().len(), 1, "from on, and before");
        let top = store.activity_top(Measure::RefusedPolicy, Slots::Hour, hour, far, 5).await.unwrap();
        assert_eq!(top, [("b".to_owned(), 2), ("a".to_owned(), 1)]);
        assert_eq!(store.activity_top(Measure::RefusedPolicy, Slots::Hour, hour, far, 1).await.unwrap().len(), 1);
        assert!(store.activity_top(Measure::RefusedAgent, Slots::Hour, hour, far, 5).await.unwrap().is_empty());
    }

    async fn many_names_are_counted_at_once(fixture) {
        let names: Vec<String> = (0..500).map(|number| format!("policy.{number:03}")).collect();
        let counts: Vec<_> = names.iter().map(|name| (Measure::RefusedPolicy, name.as_str())).collect();
        fixture.store.store_journal("edge", &[line(1, NOON, &counts), line(2, NOON, &counts)]).await.unwrap();
        let counted = fixture.store.activity(Measure::RefusedPolicy, Slots::Hour, Timestamp::from_millis(0), after(9_000)).await.unwrap();
        assert_eq!(counted.iter().map(|count| count.name.clone()).collect::<Vec<_>>(), names);
        assert!(counted.iter().all(|count| count.times == 2));
    }

    async fn a_contradiction_counts_nothing(fixture) {
        let store = &fixture.store;
        store.store_journal("edge", &[line(1, NOON, &[REFUSED])]).await.unwrap();
        let other = JournalRow { text: "{}".to_owned(), ..line(1, NOON, &[REFUSED]) };
        store.store_journal("edge", &[line(1, NOON, &[REFUSED]), line(2, NOON, &[REFUSED]), other]).await.unwrap_err();
        let hours = store.activity(Measure::Decision, Slots::Hour, Timestamp::from_millis(0), after(9_000)).await.unwrap();
        assert_eq!(hours.iter().map(|count| count.times).sum::<u64>(), 1);
    }

    async fn what_is_kept_no_longer_is_dropped_by_our_own_clock(fixture) {
        let store = &fixture.store;
        // The second gateway's clock is a year ahead.
        store.store_journal("edge", &[line(1, NOON, &[REFUSED])]).await.unwrap();
        store.store_journal("ahead", &[line(1, after(365 * 86_400), &[REFUSED])]).await.unwrap();
        let all = async |slots| {
            let far = after(400 * 86_400);
            store.activity(Measure::Decision, slots, Timestamp::from_millis(0), far).await.unwrap().len()
        };
        assert_eq!((all(Slots::Minute).await, all(Slots::Hour).await), (2, 2));
        store.keep_gateway_status("edge", &json!({}), &at(after(3 * 3_600))).await.unwrap();
        assert_eq!((all(Slots::Minute).await, all(Slots::TenMinutes).await, all(Slots::Hour).await), (1, 2, 2));
        store.keep_gateway_status("edge", &json!({}), &at(after(15 * 86_400))).await.unwrap();
        assert_eq!((all(Slots::TenMinutes).await, all(Slots::Hour).await), (1, 1));
    }

    async fn waits_are_those_that_people_ended(fixture) {
        let agent = fixture.agent("builder").await;
        let dan = fixture.user("dan").await;
        let ids = [fixture.opened(&agent, json!({"n": 1}), 1).await, fixture.opened(&agent, json!({"n": 2}), 1).await];
        assert_eq!(fixture.store.approvals_waiting(after(1)).await.unwrap(), 2);
        fixture.approve(ids[0], &dan, authz::approval::Reach::Call, 1, after(90)).await.unwrap();
        let waits = fixture.store.approval_waits(NOON, after(91), 10).await.unwrap();
        assert_eq!(waits, [Duration::from_secs(90)]);
        assert!(fixture.store.approval_waits(after(91), after(100), 10).await.unwrap().is_empty());
        assert_eq!(fixture.store.approvals_waiting(after(91)).await.unwrap(), 1);
        assert_eq!(fixture.store.approvals_waiting(after(86_400)).await.unwrap(), 0, "expired");
    }
}

#[test]
fn a_time_is_counted_under_the_least_bound_that_it_keeps() {
    for (micros, expected) in [
        (0, "1"),
        (1, "1"),
        (3, "5"),
        (5, "5"),
        (1_001, "2000"),
        (i64::MAX, "100000000"),
    ] {
        assert_eq!(bound(micros), expected);
    }
}
