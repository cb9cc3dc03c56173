use super::*;
use crate::testing::{actor, agent, on_both_engines};

on_both_engines! {
    async fn a_follower_sees_every_change_in_order(fixture) {
        const WRITERS: usize = 8;
        const WRITES: usize = 15;
        // Two processes write; a third follows.
        let another = fixture.another().await;
        let follower = fixture.another().await;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = if writer % 2 == 0 { fixture.store.clone() } else { another.clone() };
                tokio::spawn(async move {
                    for write in 0..WRITES {
                        let agent = agent(&format!("agent-{writer}-{write}"));
                        store.create_agent(&agent, &actor()).await.unwrap();
                        // Refused: it must take no number from the feed.
                        store.create_agent(&agent, &actor()).await.unwrap_err();
                    }
                })
            })
            .collect();

        let total = i64::try_from(WRITERS * WRITES).unwrap();
        let mut seen = 0;
        let mut writing = true;
        // Once more after the last writer is done, or has failed.
        while writing && seen < total {
            writing = !writers.iter().all(tokio::task::JoinHandle::is_finished);
            for event in follower.feed_after(seen, 1_000).await.unwrap() {
                assert_eq!(event.sequence, seen + 1);
                seen = event.sequence;
                // Never seen before its data.
                let Change::AgentChanged { agent } = event.change else { panic!("{event:?}") };
                follower.agent(&authz::AgentRef::Id(agent)).await.unwrap();
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
        assert_eq!(seen, total);
        assert_eq!(follower.feed_head().await.unwrap(), total);
        assert_eq!(follower.feed_after(total, 10).await.unwrap(), []);
        let trail = follower.audit(0, 1_000, None).await.unwrap();
        let ids: Vec<i64> = trail.iter().map(|row| row.id).collect();
        assert_eq!(ids, (1..=total).collect::<Vec<_>>());
        another.close().await;
        follower.close().await;
    }

    async fn changes_wake_followers_of_this_process(fixture) {
        let mut changes = fixture.store.feed_changes();
        assert_eq!(*changes.borrow_and_update(), 0);
        let made = fixture.agent("builder").await;
        changes.changed().await.unwrap();
        assert_eq!(*changes.borrow_and_update(), 1);
        fixture.store.ensure_agent(&made, &actor()).await.unwrap();
        fixture.store.create_agent(&made, &actor()).await.unwrap_err();
        assert!(!changes.has_changed().unwrap(), "nothing changed");
    }

    async fn every_kind_of_change_reads_back(fixture) {
        let agent = AgentId::LOCAL;
        let at = Timestamp::from_millis(5);
        let approval = ApprovalRequestId::generate(at);
        let grant = GrantId::generate(at);
        let changes = [
            Change::AgentChanged { agent },
            Change::UserChanged { user: "dan".parse().unwrap() },
            Change::ApprovalOpened { approval, agent },
            Change::ApprovalAdvanced { approval, agent },
            Change::ApprovalApproved { approval, agent, grant },
            Change::ApprovalRejected { approval, agent },
            Change::ApprovalClosed { approval, agent },
            Change::GrantEnded { grant, agent },
            Change::PolicySetActivated { version: crate::testing::version("a") },
        ];
        let mut write = fixture.store.write(&crate::testing::at(at)).await.unwrap();
        for change in &changes {
            write.announce(change).await.unwrap();
        }
        write.commit().await.unwrap();
        let events = fixture.store.feed_after(0, 100).await.unwrap();
        assert!(events.iter().all(|event| event.at == at));
        assert_eq!(events.into_iter().map(|event| event.change).collect::<Vec<_>>(), changes);
        assert_eq!(fixture.store.feed_head().await.unwrap(), 9);
        assert_eq!(fixture.store.feed_after(3, 2).await.unwrap().iter().map(|e| e.sequence).collect::<Vec<_>>(), [4, 5]);
    }

    async fn a_dropped_write_leaves_nothing(fixture) {
        let mut write = fixture.store.write(&actor()).await.unwrap();
        write.announce(&Change::AgentChanged { agent: AgentId::LOCAL }).await.unwrap();
        drop(write);
        fixture.agent("next").await;
        let events = fixture.store.feed_after(0, 10).await.unwrap();
        assert_eq!((events.len(), events[0].sequence), (1, 1));
        let quiet = fixture.store.write(&actor()).await.unwrap();
        quiet.commit().await.unwrap();
        assert_eq!(fixture.store.feed_head().await.unwrap(), 1);
    }
}
