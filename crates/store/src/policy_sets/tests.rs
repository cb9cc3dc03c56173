use authz::{Source, policy_set::Severity};

use super::*;
use crate::testing::{ODD_TEXTS, actor, after, at, on_both_engines, version};

fn sources(text: &str) -> PolicySources {
    let source = |name: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    PolicySources {
        schema: source("schema.cedarschema"),
        policies: vec![source("base.cedar"), source("a/b.cedar")],
    }
}

fn warning() -> Finding {
    Finding {
        severity: Severity::Warning,
        file: "base.cedar".to_owned(),
        line: Some(3),
        column: None,
        policy: Some("base.read".to_owned()),
        message: "nothing matches".to_owned(),
        help: None,
        excerpt: None,
    }
}

/// As the folder would: takes it over.
async fn take(store: &Store, name: &str, second: u64) -> bool {
    let folder = Actor {
        via: "folder",
        ..at(after(second))
    };
    let new = NewPolicySet {
        version: &version(name),
        sources: &sources(name),
        findings: &[warning()],
    };
    store.take_policy_folder(new, &folder).await.unwrap()
}

fn dan(second: u64) -> Actor {
    Actor {
        user: Some("dan".parse().unwrap()),
        via: "ui",
        from: None,
        at: after(second),
    }
}

/// As a person would: stores it and puts it in force.
async fn push(store: &Store, name: &str, second: u64) -> bool {
    let (version, sources) = (version(name), sources(name));
    let new = NewPolicySet {
        version: &version,
        sources: &sources,
        findings: &[],
    };
    store.store_policy_set(new, &dan(second)).await.unwrap();
    store
        .activate_policy_set(&version, Kind::Activated, "because\0", &dan(second))
        .await
        .unwrap()
}

async fn active(store: &Store) -> PolicySetVersion {
    store.active_policy_set().await.unwrap().unwrap().version
}

on_both_engines! {
    async fn one_set_is_in_force(fixture) {
        let store = &fixture.store;
        assert!(store.active_policy_set().await.unwrap().is_none());
        assert!(store.policy_folder().await.unwrap().is_none());
        let (a, b) = (version("a"), version("b"));
        assert!(take(store, "a", 0).await);
        assert!(!take(store, "a", 1).await);
        assert_eq!(store.feed_head().await.unwrap(), 1, "already in force: no event");
        let first = store.active_policy_set().await.unwrap().unwrap();
        assert_eq!((&first.version, &first.sources), (&a, &sources("a")));
        assert_eq!((first.activation.at, first.activation.by.as_str(), first.activation.id), (after(0), "folder", 1));

        assert!(push(store, "b", 2).await);
        let second = store.active_policy_set().await.unwrap().unwrap().activation;
        assert_eq!((&second.version, second.by.as_str(), second.via.as_str(), second.reason.as_str()), (&b, "dan", "ui", "because\u{fffd}"));
        assert!(!push(store, "b", 3).await, "it is in force");

        // Rolled back: the older one again, since now; stored as it was.
        assert!(store.activate_policy_set(&a, Kind::RolledBack, "", &dan(4)).await.unwrap());
        let third = store.active_policy_set().await.unwrap().unwrap().activation;
        assert_eq!((third.id, &third.version, third.at, third.kind), (3, &a, after(4), Kind::RolledBack));
        let stored = store.policy_set(&a).await.unwrap();
        assert_eq!((stored.head.stored, stored.head.stored_by.as_str(), stored.head.active, stored.head.findings.len()), (after(0), "folder", true, 1));
        let stored = store.policy_set(&b).await.unwrap();
        assert_eq!((stored.sources, stored.head.stored_by.as_str(), stored.head.active), (sources("b"), "dan", false));

        let changes: Vec<_> = store.feed_after(0, 10).await.unwrap().into_iter().map(|event| event.change).collect();
        let expected = [&a, &b, &a].map(|version| Change::PolicySetActivated { version: version.clone() });
        assert_eq!(changes, expected);
        let history = store.policy_activations(2).await.unwrap();
        assert_eq!(history, [third, second], "newest first, as many as asked for");
        assert_eq!(store.policy_sets(10).await.unwrap().iter().map(|head| &head.version).collect::<Vec<_>>(), [&b, &a]);

        for unknown in [version("c"), serde_json::from_value(json!("a\0b")).unwrap()] {
            let error = store.policy_set(&unknown).await.unwrap_err();
            assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
            for error in [
                store.activate_policy_set(&unknown, Kind::Activated, "", &actor()).await.unwrap_err(),
                store.shadow_policy_set(Some(&unknown), "", &actor()).await.unwrap_err(),
            ] {
                assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
            }
        }
        assert_eq!(store.feed_head().await.unwrap(), 3);
    }

    async fn the_folder_acts_when_it_holds_something_else(fixture) {
        let store = &fixture.store;
        assert!(take(store, "a", 0).await);
        push(store, "b", 1).await;
        assert!(!take(store, "a", 2).await, "what it held before is no news");
        assert_eq!(active(store).await, version("b"));
        assert_eq!(store.policy_folder().await.unwrap(), Some(version("a")));
        // What is in force anyway is noted, so that going back from there is an edit.
        assert!(!take(store, "b", 3).await);
        assert_eq!(store.policy_folder().await.unwrap(), Some(version("b")));
        assert!(take(store, "a", 4).await);
        assert_eq!(active(store).await, version("a"));
        let by: Vec<_> = store.policy_activations(10).await.unwrap().into_iter().map(|activation| activation.by).collect();
        assert_eq!(by, ["folder", "dan", "folder"]);
    }

    async fn rolling_back_goes_back_and_not_forth(fixture) {
        let store = &fixture.store;
        assert_eq!(store.policy_set_before().await.unwrap(), None);
        for (second, name) in ["a", "b", "c"].into_iter().enumerate() {
            push(store, name, second as u64).await;
        }
        let roll_back = async |expected: Option<&str>, second| {
            let before = store.policy_set_before().await.unwrap();
            assert_eq!(before, expected.map(version));
            if let Some(before) = before {
                assert!(store.activate_policy_set(&before, Kind::RolledBack, "", &dan(second)).await.unwrap());
            }
        };
        roll_back(Some("b"), 10).await;
        roll_back(Some("a"), 11).await;
        roll_back(None, 12).await;
        // From there on, a new way.
        push(store, "d", 13).await;
        roll_back(Some("a"), 14).await;
        // To one that is no longer on the way back: that is where it goes on from.
        assert!(store.activate_policy_set(&version("c"), Kind::RolledBack, "", &dan(15)).await.unwrap());
        roll_back(Some("a"), 16).await;
    }

    async fn a_shadow_is_stored_and_not_in_force(fixture) {
        let store = &fixture.store;
        take(store, "a", 0).await;
        let (a, b) = (version("a"), version("b"));
        let sources = sources("b");
        let new = NewPolicySet { version: &b, sources: &sources, findings: &[warning()] };
        assert!(store.store_policy_set(new, &dan(1)).await.unwrap());
        assert!(!store.store_policy_set(new, &dan(2)).await.unwrap(), "known");
        let error = store.shadow_policy_set(Some(&a), "", &dan(2)).await.unwrap_err();
        assert!(matches!(error, StoreError::Conflict(_)), "{error:?}");
        assert!(store.shadow_policy_set(Some(&b), "to see", &dan(3)).await.unwrap());
        assert!(!store.shadow_policy_set(Some(&b), "", &dan(4)).await.unwrap());
        let shadow = store.policy_shadow().await.unwrap().unwrap();
        assert_eq!((shadow.version, shadow.since, shadow.by.as_str()), (b.clone(), after(3), "dan"));
        assert_eq!(active(store).await, a);
        assert!(store.shadow_policy_set(None, "", &dan(5)).await.unwrap());
        assert!(!store.shadow_policy_set(None, "", &dan(6)).await.unwrap());

        // Put in force, it is a shadow no more.
        store.shadow_policy_set(Some(&b), "", &dan(7)).await.unwrap();
        store.activate_policy_set(&b, Kind::Activated, "", &dan(8)).await.unwrap();
        assert_eq!(store.policy_shadow().await.unwrap(), None);
        let changes: Vec<_> = store.feed_after(1, 10).await.unwrap().into_iter().map(|event| event.change).collect();
        assert_eq!(changes, [
            Change::PolicySetShadowed { version: Some(b.clone()) },
            Change::PolicySetShadowed { version: None },
            Change::PolicySetShadowed { version: Some(b.clone()) },
            Change::PolicySetActivated { version: b },
            Change::PolicySetShadowed { version: None },
        ]);
    }

    async fn the_same_set_is_taken_once_at_once(fixture) {
        let takes: Vec<_> = (0..8)
            .map(|_| {
                let store = fixture.store.clone();
                tokio::spawn(async move { take(&store, "a", 0).await })
            })
            .collect();
        let mut changed = 0;
        for take in takes {
            changed += u8::from(take.await.unwrap());
        }
        assert_eq!((changed, fixture.store.feed_head().await.unwrap()), (1, 1));
    }

    async fn sources_are_kept_as_written(fixture) {
        for (number, text) in ODD_TEXTS.iter().chain(&["nul \0 here"]).enumerate() {
            let (version, sources) = (version(&number.to_string()), sources(text));
            let new = NewPolicySet { version: &version, sources: &sources, findings: &[] };
            fixture.store.store_policy_set(new, &actor()).await.unwrap();
            assert_eq!(fixture.store.policy_set(&version).await.unwrap().sources, sources);
        }
    }
}

/// A database of the first release keeps what is in force, and the folder's place.
#[tokio::test]
async fn what_was_stored_before_is_kept() {
    use sqlx::{
        Connection, Executor, SqlSafeStr, SqliteConnection,
        migrate::{Migration, MigrationType, Migrator},
    };

    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("old.db").display()
    );
    let (number, name, sql) = crate::database::MIGRATIONS[0];
    let first = Migration::new(
        number,
        name.into(),
        MigrationType::Simple,
        sql.into_sql_str(),
        false,
    );
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    Migrator::with_migrations(vec![first])
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    for (name, at, by, is_active) in [
        ("a", 1, "folder", 0),
        ("b", 2, "dan", 0),
        ("c", 3, "folder", 1),
    ] {
        sqlx::query("INSERT INTO policy_sets (version, sources, findings, activated, activated_by, active) VALUES ($1, $2, '[]', $3, $4, $5)")
            .bind(version(name).as_str())
            .bind(to_json("sources", &sources(name)).unwrap())
            .bind(after(at).as_millis())
            .bind(by)
            .bind(is_active)
            .execute(&mut connection)
            .await
            .unwrap();
    }
    connection.execute("PRAGMA wal_checkpoint").await.unwrap();
    connection.close().await.unwrap();

    let store = Store::open(&url).await.unwrap();
    let now = store.active_policy_set().await.unwrap().unwrap();
    assert_eq!(
        (now.version, now.activation.by.as_str(), now.activation.at),
        (version("c"), "folder", after(3))
    );
    let history: Vec<_> = store
        .policy_activations(10)
        .await
        .unwrap()
        .into_iter()
        .map(|one| (one.id, one.version))
        .collect();
    assert_eq!(
        history,
        [(3, version("c")), (2, version("b")), (1, version("a"))]
    );
    assert_eq!(store.policy_folder().await.unwrap(), Some(version("c")));
    assert_eq!(store.policy_set_before().await.unwrap(), Some(version("b")));
    assert!(push(&store, "d", 9).await, "and it goes on from there");
    store.close().await;
}
