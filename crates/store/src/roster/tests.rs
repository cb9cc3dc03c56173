use authz::approval::Reach;
use serde_json::json;

use super::*;
use crate::testing::{NOON, actor, after, on_both_engines};

const ALL: Page = Page {
    size: 50,
    number: 0,
};

on_both_engines! {
    async fn agents_are_found_among_many(fixture) {
        let store = &fixture.store;
        let grant = fixture.granted("builder", Reach::Call).await;
        let deployer = fixture.agent("Deployer").await;
        fixture.opened(&deployer, json!({}), 1).await;
        store
            .change_agent(&AgentRef::Id(deployer.id), &actor(), |agent| {
                agent.suspended = true;
                agent.teams.clear();
            })
            .await
            .unwrap();
        let found = async |text, which, page, now| {
            let (agents, more) = store.roster(text, which, page, now).await.unwrap();
            let agents: Vec<_> = agents
                .into_iter()
                .map(|listed| (listed.stored.agent.name.to_string(), listed.grants, listed.pending))
                .collect();
            (agents, more)
        };
        let one = ("builder".to_owned(), 1, 0);
        let two = ("Deployer".to_owned(), 0, 1);
        assert_eq!(store.count_agents().await.unwrap(), 2);
        let mut all = found("", Which::All, ALL, after(1)).await.0;
        all.sort();
        assert_eq!(all, [two.clone(), one.clone()]);
        for (text, which, expected) in [
            ("deploy", Which::Active, vec![one.clone()]),
            ("DEPLOYER", Which::Suspended, vec![two.clone()]),
            ("platform", Which::All, vec![one.clone()]),
            ("%", Which::All, vec![]),
            ("' OR '1'='1", Which::All, vec![]),
        ] {
            assert_eq!(found(text, which, ALL, after(1)).await.0, expected, "{text} {which:?}");
        }
        let by_id = grant.agent.to_string();
        let (listed, _) = store.roster(&by_id, Which::All, ALL, after(1)).await.unwrap();
        assert_eq!(listed.len(), 1);
        let (listed, more) = found("", Which::All, Page { size: 1, number: 0 }, after(1)).await;
        assert_eq!((listed.len(), more), (1, true));
        let later = found("builder", Which::All, ALL, grant.expires).await.0;
        assert_eq!(later, [("builder".to_owned(), 0, 0)], "an expired grant is none");
    }

    async fn the_newest_lines_come_first(fixture) {
        let agent = fixture.agent("asker").await;
        fixture.opened(&agent, json!({}), 1).await;
        let lines = fixture.store.recent_audit(agent.id, 10).await.unwrap();
        let kinds: Vec<_> = lines.iter().map(|line| line.kind.as_str()).collect();
        assert_eq!(kinds, ["approval_opened", "agent_created"]);
        assert_eq!(lines[0].at, NOON);
        assert_eq!(fixture.store.recent_audit(agent.id, 1).await.unwrap().len(), 1);
    }
}
