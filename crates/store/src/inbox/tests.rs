use std::time::Duration;

use authz::approval::Reach;
use serde_json::json;

use super::*;
use crate::testing::{NOON, after, at, on_both_engines, request};

const ALL: Page = Page {
    size: 50,
    number: 0,
};

on_both_engines! {
    async fn what_waits_is_grouped_filtered_and_paged(fixture) {
        let store = &fixture.store;
        let (one, two) = (fixture.agent("One_100").await, fixture.agent("two").await);
        let mut asked = Vec::new();
        for n in 1..=4 {
            asked.push(fixture.opened(&one, json!({"n": n}), 1).await);
        }
        // All of one moment: then by id.
        let first = asked.into_iter().min().unwrap();
        let mut late = request(&two, json!({}), 1, after(5));
        late.ask.target.key = "github/delete-repo".parse().unwrap();
        late.ask.target.risk = authz::Risk::Destroy;
        store.open_approval(late, 100, &at(after(5))).await.unwrap();

        let waiting = async |waiting: Waiting<'static>, page| {
            let (groups, more) = store.waiting(&waiting, page, 3, after(10)).await.unwrap();
            let groups: Vec<_> = groups
                .into_iter()
                .map(|group| (group.agent, group.command.to_string(), group.count, group.oldest.len()))
                .collect();
            (groups, more)
        };
        let of_one = (one.id, "coolify/deploy".to_owned(), 4, 3);
        let of_two = (two.id, "github/delete-repo".to_owned(), 1, 1);
        assert_eq!(store.count_pending(after(10)).await.unwrap(), 5);
        assert_eq!(waiting(Waiting::default(), ALL).await, (vec![of_two.clone(), of_one.clone()], false));
        let oldest = Waiting { oldest_first: true, ..Waiting::default() };
        assert_eq!(waiting(oldest.clone(), ALL).await, (vec![of_one.clone(), of_two.clone()], false));
        let small = |number| Page { size: 1, number };
        assert_eq!(waiting(oldest.clone(), small(0)).await, (vec![of_one.clone()], true));
        assert_eq!(waiting(oldest.clone(), small(1)).await, (vec![of_two.clone()], false));
        assert_eq!(waiting(oldest, small(2)).await, (vec![], false));
        for (text, risk, expected) in [
            ("ONE_1", "", vec![of_one.clone()]),
            ("100%", "", vec![]),
            ("tw%o", "", vec![]),
            ("t_o", "", vec![]),
            ("\\", "", vec![]),
            ("\0", "", vec![of_two.clone(), of_one.clone()]),
            ("' OR 1=1 --", "", vec![]),
            ("GitHub/", "", vec![of_two.clone()]),
            ("", "destroy", vec![of_two.clone()]),
            ("", "write", vec![of_one.clone()]),
            ("two", "write", vec![]),
        ] {
            let filter = Waiting { text, risk, oldest_first: false };
            assert_eq!(waiting(filter, ALL).await.0, expected, "{text:?} {risk:?}");
        }
        let groups = store.waiting(&Waiting::default(), ALL, 1, after(10)).await.unwrap().0;
        assert_eq!(groups[1].oldest[0].new.id, first, "those that wait longest are shown");

        assert_eq!(store.waiting_of(one.id, 50, after(10)).await.unwrap().len(), 4);
        assert_eq!(store.waiting_of(one.id, 2, after(10)).await.unwrap()[0].new.id, first);

        let over = after(24 * 3_600);
        assert_eq!(store.waiting_of(one.id, 50, over).await.unwrap().len(), 0);
        assert_eq!(store.count_pending(over).await.unwrap(), 1, "what has expired does not wait");
        assert_eq!(store.waiting(&Waiting::default(), ALL, 3, over).await.unwrap().0.len(), 1);
    }

    async fn what_was_decided_is_paged_and_counted(fixture) {
        let store = &fixture.store;
        let agent = fixture.agent("asker").await;
        let by = fixture.user("paula").await;
        let command: CommandKey = "coolify/deploy".parse().unwrap();
        assert_eq!(store.history(agent.id, &command).await.unwrap(), History::default());

        let approved = fixture.opened(&agent, json!({"n": 1}), 1).await;
        fixture.approve(approved, &by, Reach::Call, 1, after(10)).await.unwrap();
        let rejected = fixture.opened(&agent, json!({"n": 2}), 1).await;
        store
            .reject(rejected, &by, "no", after(900), &at(after(20)), |_| Ok::<_, StoreError>(()))
            .await
            .unwrap();
        let expired = fixture.opened(&agent, json!({"n": 3}), 1).await;
        store.expire_approvals(&at(after(25 * 3_600))).await.unwrap();
        fixture.opened(&agent, json!({"n": 4}), 1).await;

        let history = store.history(agent.id, &command).await.unwrap();
        let expected = History {
            approved: 1,
            rejected: 1,
            expired: 1,
            withdrawn: 0,
            last: Some((after(20), false)),
        };
        assert_eq!((history.total(), history), (3, expected));
        let other: CommandKey = "coolify/other".parse().unwrap();
        assert_eq!(store.history(agent.id, &other).await.unwrap().total(), 0);

        let decided = async |text, status, page| {
            let (approvals, more) = store.decided(text, status, page, after(26 * 3_600)).await.unwrap();
            (approvals.iter().map(|stored| stored.new.id).collect::<Vec<_>>(), more)
        };
        assert_eq!(decided("", "", ALL).await, (vec![expired, rejected, approved], false));
        assert_eq!(decided("ASK", "rejected", ALL).await, (vec![rejected], false));
        assert_eq!(decided("nobody", "", ALL).await, (vec![], false));
        assert_eq!(decided("", "", Page { size: 2, number: 0 }).await, (vec![expired, rejected], true));
        assert_eq!(decided("", "", Page { size: 2, number: 1 }).await, (vec![approved], false));
    }

    async fn the_uses_of_a_grant_are_found(fixture) {
        let store = &fixture.store;
        let grant = fixture.granted("user", Reach::Once).await;
        let uses = async || store.uses(grant.id, grant.agent, grant.issued, 5).await.unwrap();
        assert_eq!(uses().await.len(), 0);
        let decision = authz::DecisionId::generate(NOON);
        store.spend_grant(grant.id, decision, &at(after(3))).await.unwrap();
        let found = uses().await;
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kind.as_str(), found[0].at), ("spent", after(3)));
        let another = GrantId::generate(NOON);
        assert_eq!(store.uses(another, grant.agent, grant.issued, 5).await.unwrap().len(), 0);
        let later = grant.issued.plus(Duration::from_hours(1));
        assert_eq!(store.uses(grant.id, grant.agent, later, 5).await.unwrap().len(), 0);
    }
}
