use super::*;
use crate::{
    audit::AuditFilter,
    testing::{actor, after, at, on_both_engines},
};

fn member(what: &str, zone: &str) -> ZoneMember {
    let (service, command) = what
        .split_once('/')
        .map_or((what, None), |(service, command)| (service, Some(command)));
    ZoneMember {
        service: service.parse().unwrap(),
        command: command.map(|command| command.parse().unwrap()),
        zone: zone.parse().unwrap(),
    }
}

fn told(zones: &ZoneAssignments) -> Vec<String> {
    let told = |one: &ZoneAssignment| {
        let of = one.member.command.as_ref();
        format!(
            "{}/{} {} {} {}",
            one.member.service,
            of.map_or("", CommandName::as_str),
            one.member.zone,
            one.by,
            one.at.as_millis() - after(0).as_millis(),
        )
    };
    zones.assigned.iter().map(told).collect()
}

#[expect(clippy::unnecessary_wraps, reason = "as those who may refuse")]
fn anyone(_: &ZoneAssignments) -> Result<(), StoreError> {
    Ok(())
}

async fn changes(store: &Store) -> Vec<i64> {
    let events = store.feed_after(0, 100).await.unwrap();
    let revision = |event: crate::feed::Event| match event.change {
        Change::ZonesChanged { revision } => Some(revision),
        _ => None,
    };
    events.into_iter().filter_map(revision).collect()
}

on_both_engines! {
    async fn members_come_and_go_one_by_one(fixture) {
        let store = &fixture.store;
        let empty = store.zones().await.unwrap();
        assert_eq!((empty.revision, empty.assigned.len()), (1, 0));

        let dan = Actor { user: Some("dan".parse().unwrap()), ..at(after(1)) };
        store.add_zone_member(&member("coolify/list-servers", "pci"), &dan, anyone).await.unwrap();
        // Capitals come before small letters on one engine, and not on the other.
        store.add_zone_member(&member("coolify/List", "pci"), &at(after(2)), anyone).await.unwrap();
        store.add_zone_member(&member("coolify", "pci"), &at(after(3)), anyone).await.unwrap();
        let all = store.add_zone_member(&member("aws", "pci"), &at(after(4)), anyone).await.unwrap();
        assert_eq!(
            told(&all),
            [
                "aws/ pci api 4000",
                "coolify/ pci api 3000",
                "coolify/List pci api 2000",
                "coolify/list-servers pci dan 1000",
            ]
        );
        assert_eq!(all.revision, 5);
        assert_eq!(store.zones().await.unwrap(), all, "as it is read, so it was said");

        // Once more changes nothing: not even who did it.
        let again = store.add_zone_member(&member("aws", "pci"), &dan, anyone).await.unwrap();
        assert_eq!(again, all);
        let nothing = store.remove_zone_member(&member("aws", "eu"), &dan, anyone).await.unwrap();
        assert_eq!(nothing, all);
        assert_eq!(changes(store).await, [2, 3, 4, 5]);

        // The service itself is another member than its commands.
        let fewer = store.remove_zone_member(&member("coolify", "pci"), &dan, anyone).await.unwrap();
        assert_eq!((fewer.revision, fewer.assigned.len()), (6, 3));
        assert!(!fewer.has(&member("coolify", "pci")) && fewer.has(&member("coolify/List", "pci")));
        assert_eq!(store.zones().await.unwrap(), fewer);
        assert_eq!(changes(store).await, [2, 3, 4, 5, 6]);
    }

    async fn who_refuses_under_the_lock_changes_nothing(fixture) {
        let store = &fixture.store;
        let refused = store
            .add_zone_member(&member("aws", "pci"), &actor(), |now| {
                assert_eq!(now.revision, 1);
                Err(StoreError::Conflict("no".to_owned()))
            })
            .await;
        assert!(matches!(refused, Err(StoreError::Conflict(_))), "{refused:?}");
        assert_eq!(store.zones().await.unwrap().assigned, []);
        assert_eq!(changes(store).await, Vec::<i64>::new());
    }

    async fn of_two_who_saw_the_same_one_is_told(fixture) {
        let store = &fixture.store;
        let other = fixture.another().await;
        let at_one = |now: &ZoneAssignments| match now.revision {
            1 => Ok(()),
            revision => Err(StoreError::Conflict(revision.to_string())),
        };
        let (aws, gcp) = (member("aws", "pci"), member("gcp", "pci"));
        let (by, by_other) = (actor(), actor());
        let (one, two) = tokio::join!(
            store.add_zone_member(&aws, &by, at_one),
            other.add_zone_member(&gcp, &by_other, at_one),
        );
        assert_eq!(usize::from(one.is_ok()) + usize::from(two.is_ok()), 1, "{one:?} {two:?}");
        assert_eq!(store.zones().await.unwrap().assigned.len(), 1);
        other.close().await;
    }

    async fn the_trail_says_who_did_what(fixture) {
        let store = &fixture.store;
        let dan = Actor { user: Some("dan".parse().unwrap()), ..at(after(1)) };
        store.add_zone_member(&member("coolify", "pci"), &dan, anyone).await.unwrap();
        store.add_zone_member(&member("coolify/list", "eu"), &dan, anyone).await.unwrap();
        store.remove_zone_member(&member("coolify", "pci"), &dan, anyone).await.unwrap();
        let filter = AuditFilter { service: Some("coolify".to_owned()), ..AuditFilter::default() };
        let found = store.audit_search(&filter, None, 10).await.unwrap().rows;
        let kinds: Vec<_> = found.iter().map(|row| row.kind.as_str()).collect();
        assert_eq!(kinds, ["zone_removed", "zone_added", "zone_added"]);
        let entry = found[1].entry.to_string();
        for part in ["\"zone\":\"eu\"", "\"command\":\"coolify/list\"", "\"user\":\"dan\""] {
            assert!(entry.contains(part), "{part}: {entry}");
        }
    }
}
