use super::*;
use crate::testing::{NOON, ODD_TEXTS, after, on_both_engines};

fn line(sequence: i64, text: &str) -> JournalRow {
    JournalRow {
        sequence,
        text: format!("{{\"sequence\":{sequence},\"text\":{}}}", Value::from(text)),
        hash: format!("{sequence:0>64}"),
        at: after(u64::try_from(sequence).unwrap()),
        kind: "intent".to_owned(),
        agent: Some(AgentId::LOCAL),
        command: Some("coolify/deploy".to_owned()),
        decision: None,
        outcome: None,
        counts: Vec::new(),
    }
}

fn lines(sequences: std::ops::RangeInclusive<i64>) -> Vec<JournalRow> {
    sequences.map(|sequence| line(sequence, "x")).collect()
}

on_both_engines! {
    async fn a_chain_is_stored_once_and_without_gaps(fixture) {
        let store = &fixture.store;
        assert_eq!(store.journal_head("edge-1").await.unwrap(), (0, "0".repeat(64)));
        assert_eq!(store.store_journal("edge-1", &[]).await.unwrap(), 0);
        assert_eq!(store.store_journal("edge-1", &lines(2..=4)).await.unwrap(), 0, "its first line is missing");
        assert_eq!(store.store_journal("edge-1", &lines(1..=3)).await.unwrap(), 3);
        assert_eq!(store.store_journal("edge-1", &lines(1..=3)).await.unwrap(), 3, "again");
        assert_eq!(store.store_journal("edge-1", &lines(2..=5)).await.unwrap(), 5, "overlapping");
        let mut gap = lines(6..=6);
        gap.extend(lines(8..=9));
        assert_eq!(store.store_journal("edge-1", &gap).await.unwrap(), 6);
        assert_eq!(store.journal_head("edge-1").await.unwrap(), (6, format!("{:0>64}", 6)));
        assert_eq!(store.store_journal("edge-2", &lines(1..=1)).await.unwrap(), 1, "each gateway has its own");

        let heads = [("edge-1".to_owned(), 6, format!("{:0>64}", 6)), ("edge-2".to_owned(), 1, format!("{:0>64}", 1))];
        assert_eq!(store.journal_heads().await.unwrap(), heads);

        let trail = store.audit(0, 100, None).await.unwrap();
        assert_eq!(trail.iter().map(|row| row.id).collect::<Vec<_>>(), (1..=7).collect::<Vec<_>>());
        assert_eq!(trail[2].entry["sequence"], 3);
        assert_eq!((trail[2].source.as_str(), trail[2].gateway.as_deref()), ("gateway", Some("edge-1")));
        assert_eq!((trail[2].at, trail[2].agent, trail[2].command.as_deref()), (after(3), Some(AgentId::LOCAL), Some("coolify/deploy")));
        assert_eq!(store.feed_head().await.unwrap(), 0, "no feed event");
    }

    async fn a_contradiction_stores_nothing(fixture) {
        let store = &fixture.store;
        store.store_journal("edge", &lines(1..=3)).await.unwrap();
        let mut rows = lines(2..=5);
        rows[0] = line(2, "another text");
        let error = store.store_journal("edge", &rows).await.unwrap_err();
        assert_eq!(error.to_string(), "line 2 of gateway `edge` is not the one stored before");
        // The contradiction may come after lines that are new.
        let mut rows = lines(4..=5);
        rows.push(line(4, "another text"));
        let error = store.store_journal("edge", &rows).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)));
        for sequence in [0, -1] {
            let row = JournalRow { sequence, ..line(1, "x") };
            assert!(store.store_journal("edge", &[row]).await.is_err(), "{sequence}");
        }
        assert_eq!(store.journal_head("edge").await.unwrap().0, 3);
        assert_eq!(store.audit(0, 100, None).await.unwrap().len(), 3);
    }

    async fn shipping_twice_at_once_stores_once(fixture) {
        let another = fixture.another().await;
        let ships: Vec<_> = (0..10)
            .map(|number| {
                let store = if number % 2 == 0 { fixture.store.clone() } else { another.clone() };
                tokio::spawn(async move { store.store_journal("edge", &lines(1..=40)).await })
            })
            .collect();
        for ship in ships {
            assert_eq!(ship.await.unwrap().unwrap(), 40);
        }
        another.close().await;
        assert_eq!(fixture.store.audit(0, 100, None).await.unwrap().len(), 40);
    }

    async fn the_trail_holds_both_sources_in_one_order(fixture) {
        let made = fixture.agent("builder").await;
        fixture.store.store_journal("edge", &lines(1..=2)).await.unwrap();
        fixture.user("dan").await;
        let trail = fixture.store.audit(0, 100, None).await.unwrap();
        let kinds: Vec<_> = trail.iter().map(|row| (row.id, row.source.as_str(), row.kind.as_str())).collect();
        let expected = [
            (1, "orchestrator", "agent_created"),
            (2, "gateway", "intent"),
            (3, "gateway", "intent"),
            (4, "orchestrator", "user_created"),
        ];
        assert_eq!(kinds, expected);
        assert_eq!((trail[0].at, &trail[0].entry["via"]), (NOON, &Value::from("api")));
        let page = fixture.store.audit(1, 2, None).await.unwrap();
        assert_eq!(page.iter().map(|row| row.id).collect::<Vec<_>>(), [2, 3]);
        let of_agent = fixture.store.audit(0, 100, Some(made.id)).await.unwrap();
        assert_eq!(of_agent.iter().map(|row| row.id).collect::<Vec<_>>(), [1]);
        assert_eq!(fixture.store.audit(2, 100, Some(AgentId::LOCAL)).await.unwrap().len(), 1);
    }

    async fn lines_are_kept_as_written(fixture) {
        let store = &fixture.store;
        let mut sequence = 0;
        for text in ODD_TEXTS {
            sequence += 1;
            store.store_journal(text, &[line(1, text)]).await.unwrap();
            let row = store.audit(sequence - 1, 1, None).await.unwrap().pop().unwrap();
            assert_eq!((row.entry["text"].as_str(), row.gateway.as_deref()), (Some(text), Some(text)));
        }
        // A line that is not JSON does not hide the others.
        let odd = JournalRow { text: "not JSON".to_owned(), ..line(1, "") };
        store.store_journal("odd", &[odd]).await.unwrap();
        assert_eq!(store.audit(sequence, 1, None).await.unwrap()[0].entry, "not JSON");

        // PostgreSQL cannot keep NUL, so neither engine does; escaped in JSON it is fine.
        assert_eq!(store.store_journal("nul", &[line(1, "\0")]).await.unwrap(), 1);
        let raw = JournalRow { text: "raw \0".to_owned(), ..line(2, "") };
        let command = JournalRow { command: Some("a\0b".to_owned()), ..line(2, "") };
        for (gateway, row) in [("nul", raw), ("nul", command), ("n\0l", line(1, ""))] {
            let error = store.store_journal(gateway, &[row]).await.unwrap_err();
            assert!(matches!(&error, StoreError::Conflict(why) if why.contains("NUL")), "{error:?}");
        }
        assert_eq!(store.journal_head("n\0l").await.unwrap().0, 0);
    }
}
