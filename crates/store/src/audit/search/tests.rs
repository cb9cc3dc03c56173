use super::*;
use crate::{
    Actor,
    audit::JournalRow,
    testing::{Fixture, NOON, ODD_TEXTS, after, on_both_engines},
};

/// The `number`th line of a gateway, so many seconds after noon.
fn line(number: i64, kind: &str, command: &str, outcome: &str) -> JournalRow {
    JournalRow {
        sequence: number,
        text: format!("{{\"n\":{number},\"word\":\"Straw_{number}%\"}}"),
        hash: format!("{number:0>64}"),
        at: after(u64::try_from(number).unwrap()),
        kind: kind.to_owned(),
        agent: Some(AgentId::LOCAL),
        command: Some(command.to_owned()),
        decision: Some(format!("dec_{}", number / 2)),
        outcome: Some(outcome.to_owned()),
        counts: Vec::new(),
    }
}

/// Ten lines of `edge`: an intent and its outcome by turns, the last two refusals.
async fn filled(fixture: &Fixture) {
    let rows: Vec<_> = (1..=10)
        .map(|number| match number {
            9 => line(9, "refusal", "github/push", "refused"),
            10 => line(10, "refusal", "coolify/deploy", "pending"),
            odd if odd % 2 == 1 => line(odd, "intent", "coolify/deploy", "permitted"),
            even => line(even, "outcome", "coolify/list", "success"),
        })
        .collect();
    fixture.store.store_journal("edge", &rows).await.unwrap();
}

async fn ids(fixture: &Fixture, filter: AuditFilter) -> Vec<i64> {
    let page = fixture
        .store
        .audit_search(&filter, None, 100)
        .await
        .unwrap();
    assert_eq!(page.next, None);
    page.rows.iter().map(|row| row.id).collect()
}

#[allow(
    clippy::unnecessary_wraps,
    reason = "the fields of a filter may be absent"
)]
fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

on_both_engines! {
    async fn pages_go_back_in_time_and_miss_nothing(fixture) {
        filled(fixture).await;
        // Late: it happened first, and came last.
        let late = JournalRow { at: NOON, ..line(1, "start", "coolify/deploy", "permitted") };
        fixture.store.store_journal("late", &[late]).await.unwrap();
        // At the same time as another.
        let twin = JournalRow { at: after(5), ..line(2, "intent", "coolify/deploy", "permitted") };
        fixture.store.store_journal("late", &[twin]).await.unwrap();
        for filter in [AuditFilter::default(), AuditFilter { agent: Some(AgentId::LOCAL), ..AuditFilter::default() }] {
            let mut seen = Vec::new();
            let mut before = None;
            loop {
                let page = fixture.store.audit_search(&filter, before, 5).await.unwrap();
                assert!(page.rows.len() <= 5);
                seen.extend(page.rows.iter().map(|row| row.id));
                before = page.next;
                if before.is_none() { break }
            }
            assert_eq!(seen, [10, 9, 8, 7, 6, 12, 5, 4, 3, 2, 1, 11], "{filter:?}");
        }
    }

    async fn each_part_of_a_filter_restricts(fixture) {
        filled(fixture).await;
        fixture.user("dan").await;
        let none = AuditFilter::default;
        for (name, filter, expected) in [
            ("nothing", none(), vec![10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 11]),
            ("agent", AuditFilter { agent: Some(AgentId::LOCAL), ..none() }, (1..=10).rev().collect()),
            ("another agent", AuditFilter { agent: Some(AgentId::generate(NOON)), ..none() }, vec![]),
            ("command", AuditFilter { command: some("coolify/list"), ..none() }, vec![8, 6, 4, 2]),
            ("service", AuditFilter { service: some("github"), ..none() }, vec![9]),
            ("part of a service", AuditFilter { service: some("cool"), ..none() }, vec![]),
            ("kind of journals", AuditFilter { kind: some("refusal"), ..none() }, vec![10, 9]),
            ("kind of people", AuditFilter { kind: some("user_created"), ..none() }, vec![11]),
            ("common outcome", AuditFilter { outcome: some("permitted"), ..none() }, vec![7, 5, 3, 1]),
            ("rare outcome", AuditFilter { outcome: some("pending"), ..none() }, vec![10]),
            ("decision", AuditFilter { decision: some("dec_2"), ..none() }, vec![5, 4]),
            ("gateway", AuditFilter { gateway: some("edge"), from: Some(after(9)), ..none() }, vec![10, 9]),
            ("times", AuditFilter { from: Some(after(3)), until: Some(after(6)), ..none() }, vec![5, 4, 3]),
            ("text", AuditFilter { text: some("sTRAW_1"), ..none() }, vec![10, 1]),
            ("no wildcards", AuditFilter { text: some("straw%1"), ..none() }, vec![]),
            ("per cent", AuditFilter { text: some("1%"), ..none() }, vec![1]),
            ("two", AuditFilter { service: some("coolify"), kind: some("refusal"), ..none() }, vec![10]),
            ("all", AuditFilter {
                agent: Some(AgentId::LOCAL), command: some("coolify/list"), service: some("coolify"), user: None,
                kind: some("outcome"), outcome: some("success"), decision: some("dec_3"), gateway: some("edge"),
                from: Some(after(1)), until: Some(after(9)), text: some("straw"),
            }, vec![6]),
            ("two that exclude each other", AuditFilter { user: some("dan"), kind: some("refusal"), ..none() }, vec![]),
        ] {
            assert_eq!(ids(fixture, filter).await, expected, "{name}");
        }
    }

    async fn people_are_found_by_what_they_did(fixture) {
        let actor = Actor { user: Some("olga".parse().unwrap()), via: "ui", from: None, at: NOON };
        fixture.store.create_agent(&crate::testing::agent("made"), &actor).await.unwrap();
        fixture.user("dan").await;
        let filter = AuditFilter { user: some("olga"), ..AuditFilter::default() };
        assert_eq!(ids(fixture, filter).await, [1]);
    }

    async fn what_is_looked_through_is_bounded(fixture) {
        let rows: Vec<_> = (1..=LOOKED_THROUGH + 10)
            .map(|number| JournalRow { at: after(u64::try_from(number).unwrap()), ..line(number, "intent", "coolify/deploy", "permitted") })
            .collect();
        for some in rows.chunks(1_000) {
            fixture.store.store_journal("edge", some).await.unwrap();
        }
        let filter = AuditFilter { text: some("straw_3%"), ..AuditFilter::default() };
        let page = fixture.store.audit_search(&filter, None, 10).await.unwrap();
        assert!(page.rows.is_empty());
        let next = page.next.unwrap();
        assert_eq!(next, Place { at: after(11), id: 11 });
        let page = fixture.store.audit_search(&filter, Some(next), 10).await.unwrap();
        assert_eq!(page.rows.iter().map(|row| row.id).collect::<Vec<_>>(), [3]);
        assert_eq!(page.next, None);
        // From the last entry that is looked through on, there is another page, if an empty one.
        let last = AuditFilter { text: some("straw_11%"), ..AuditFilter::default() };
        let page = fixture.store.audit_search(&last, None, 1).await.unwrap();
        assert_eq!((page.rows.len(), page.next), (1, Some(next)));
    }

    async fn odd_texts_find_themselves_only(fixture) {
        let store = &fixture.store;
        for (number, text) in ODD_TEXTS.iter().enumerate() {
            let row = JournalRow {
                text: serde_json::json!({ "text": text }).to_string(),
                command: Some(format!("{text}/{number}")),
                outcome: Some(format!("odd {text}")),
                decision: Some((*text).to_owned()),
                kind: format!("kind {text}"),
                ..line(1, "", "", "")
            };
            store.store_journal(&format!("g{number}"), &[row]).await.unwrap();
        }
        for (number, text) in ODD_TEXTS.iter().enumerate() {
            let id = i64::try_from(number).unwrap() + 1;
            let none = AuditFilter::default;
            for filter in [
                AuditFilter { command: Some(format!("{text}/{number}")), ..none() },
                AuditFilter { outcome: Some(format!("odd {text}")), ..none() },
                AuditFilter { decision: some(text), ..none() },
                AuditFilter { kind: Some(format!("kind {text}")), outcome: Some(format!("odd {text}")), ..none() },
            ] {
                // A kind that is no journal's is looked for among what people did.
                let expected = if filter.kind.is_some() && filter.outcome.is_none() { vec![] } else { vec![id] };
                let found = ids(fixture, filter.clone()).await;
                assert!(found == expected || filter.kind.is_some() && found.is_empty(), "{filter:?}: {found:?}");
            }
        }
        let nul = AuditFilter { text: some("a\0b"), ..AuditFilter::default() };
        assert_eq!(ids(fixture, nul).await, Vec::<i64>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_parts_that_lead_are_read_from_their_index() {
    let fixture = Fixture::sqlite().await;
    filled(&fixture).await;
    let agent = AgentId::LOCAL.to_string();
    let crate::database::Database::Sqlite { readers, .. } = &fixture.store.database else {
        unreachable!()
    };
    for (condition, index) in [
        ("decision = 'x'", "audit_decision"),
        ("user_id = 'x'", "audit_user_time"),
        (&*format!("agent = '{agent}'"), "audit_agent_time"),
        (
            "kind = 'approved' AND source = 'orchestrator'",
            "audit_kind_time",
        ),
        (
            "outcome = 'refused' AND outcome <> 'permitted' AND outcome <> 'success'",
            "audit_outcome_time",
        ),
        ("command = 'a/b'", "audit_command_time"),
        ("service = 'a'", "audit_service_time"),
        ("happened >= 1", "audit_time"),
    ] {
        let sql = format!(
            "EXPLAIN QUERY PLAN SELECT {COLUMNS} FROM audit WHERE {condition}
             AND (happened, id) < (5, 5) ORDER BY happened DESC, id DESC LIMIT 10"
        );
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(AssertSqlSafe(sql))
            .fetch_all(readers)
            .await
            .unwrap();
        let plan: Vec<_> = plan.into_iter().map(|(_, _, _, step)| step).collect();
        assert!(
            plan.iter()
                .any(|step| step.contains(&format!("USING INDEX {index} "))),
            "{condition}: {plan:?}"
        );
        let sorts = plan.iter().any(|step| step.contains("TEMP B-TREE"));
        assert_eq!(sorts, index == "audit_decision", "{condition}: {plan:?}");
    }
    fixture.end().await;
}
