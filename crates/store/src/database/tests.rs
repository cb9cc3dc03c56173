use std::{collections::BTreeSet, path::Path};

use sqlx::{AssertSqlSafe, Executor, SqlSafeStr};

use super::*;
use crate::{
    access, activity, agents, approvals, audit, budgets, catalogs, feed, gateways, grants,
    identities, inbox, notifications, policy_sets, roster, second_factors, sessions,
    testing::{Fixture, actor, agent, on_both_engines},
    tokens, tools, users, write, zones,
};

const STATEMENTS: &[(&str, &[(&str, &str)])] = &[
    ("access", access::STATEMENTS),
    ("activity", activity::STATEMENTS),
    ("agents", agents::STATEMENTS),
    ("audit", audit::STATEMENTS),
    ("budgets", budgets::STATEMENTS),
    ("catalogs", catalogs::STATEMENTS),
    ("feed", feed::STATEMENTS),
    ("gateways", gateways::STATEMENTS),
    ("grants", grants::STATEMENTS),
    ("identities", identities::STATEMENTS),
    ("inbox", inbox::STATEMENTS),
    ("notifications", notifications::STATEMENTS),
    ("outbox", notifications::outbox::STATEMENTS),
    ("policy_sets", policy_sets::STATEMENTS),
    ("roster", roster::STATEMENTS),
    ("second_factors", second_factors::STATEMENTS),
    ("sessions", sessions::STATEMENTS),
    ("tokens", tokens::STATEMENTS),
    ("tools", tools::STATEMENTS),
    ("users", users::STATEMENTS),
    ("write", write::STATEMENTS),
    ("zones", zones::STATEMENTS),
];

/// Prepares every statement; says which fail.
async fn refused<C>(connection: &mut C) -> Vec<String>
where
    for<'c> &'c mut C: Executor<'c>,
{
    let mut refused = Vec::new();
    for (module, statements) in STATEMENTS.iter().chain(&approvals::STATEMENTS) {
        assert!(!statements.is_empty(), "{module}");
        for (name, sql) in *statements {
            if let Err(error) = connection.prepare(AssertSqlSafe(*sql).into_sql_str()).await {
                refused.push(format!("{module}::{name}: {error}"));
            }
        }
    }
    refused
}

on_both_engines! {
    async fn every_statement_prepares(fixture) {
        let refused = match &fixture.store.database {
            Database::Postgres(pool) => refused(&mut *pool.acquire().await.unwrap()).await,
            Database::Sqlite { readers, .. } => refused(&mut *readers.acquire().await.unwrap()).await,
        };
        assert_eq!(refused, Vec::<String>::new());
    }

    async fn opens_what_it_opened_before(fixture) {
        fixture.agent("kept").await;
        let again = fixture.another().await;
        assert_eq!(again.agents().await.unwrap().len(), 1);
        assert_eq!(*again.feed_changes().borrow(), 1);
        again.ping().await.unwrap();
        again.close().await;
        assert!(again.ping().await.is_err());
    }

    async fn refuses_tables_newer_than_this_program(fixture) {
        const FROM_THE_FUTURE: &str = "
            INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
            VALUES (9999, 'from the future', TRUE, $1, 1)";
        let checksum = vec![0_u8; 48];
        match &fixture.store.database {
            Database::Postgres(pool) => sqlx::query(FROM_THE_FUTURE).bind(checksum).execute(pool).await.map(drop),
            Database::Sqlite { writer, .. } => {
                sqlx::query(FROM_THE_FUTURE).bind(checksum).execute(writer).await.map(drop)
            }
        }
        .unwrap();
        let error = Store::open(&fixture.url).await.unwrap_err();
        assert!(matches!(error, StoreError::Newer(9999)), "{error:?}");
        assert!(error.to_string().contains("start that version"), "{error}");
    }
}

mod interrupted;
mod locked;

#[test]
fn the_program_has_every_migration_of_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations");
    let names: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = MIGRATIONS
        .iter()
        .map(|(version, name, _)| format!("{version:04}_{}.sql", name.replace(' ', "_")))
        .collect();
    assert_eq!(names, known);
}

async fn opened_eight_times_at_once(url: &str) {
    let opens: Vec<_> = (0..8)
        .map(|_| {
            let url = url.to_owned();
            tokio::spawn(async move { Store::open(&url).await })
        })
        .collect();
    let mut stores = Vec::new();
    for open in opens {
        stores.push(open.await.unwrap().unwrap());
    }
    // All are of one database.
    stores[0]
        .create_agent(&agent("one"), &actor())
        .await
        .unwrap();
    for store in stores {
        assert_eq!(store.agents().await.unwrap().len(), 1);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_migrate_one_empty_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    opened_eight_times_at_once(&format!(
        "sqlite://{}",
        folder.path().join("new.db").display()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_processes_migrate_one_empty_postgres() {
    let (url, database) = Fixture::empty_postgres().await;
    opened_eight_times_at_once(&url).await;
    Fixture::drop_postgres(&database).await;
}

#[tokio::test]
async fn memory_is_one_database_of_its_own() {
    let store = Store::open("sqlite::memory:").await.unwrap();
    store.create_agent(&agent("here"), &actor()).await.unwrap();
    assert_eq!(store.agents().await.unwrap().len(), 1);
    let other = Store::open("sqlite::memory:").await.unwrap();
    assert_eq!(other.agents().await.unwrap().len(), 0);
}

#[cfg(unix)]
#[tokio::test]
async fn the_file_is_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;

    let fixture = Fixture::sqlite().await;
    fixture.agent("written").await;
    let file = fixture.url.strip_prefix("sqlite://").unwrap();
    for name in [file.to_owned(), format!("{file}-wal")] {
        let mode = std::fs::metadata(&name).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    fixture.end().await;
}

#[tokio::test]
async fn readers_cannot_write() {
    let fixture = Fixture::sqlite().await;
    let Database::Sqlite { readers, .. } = &fixture.store.database else {
        panic!("sqlite")
    };
    assert!(
        sqlx::query("DELETE FROM feed")
            .execute(readers)
            .await
            .is_err()
    );
    fixture.end().await;
}

#[tokio::test]
async fn other_urls_are_refused_without_showing_them() {
    for url in ["mysql://root:hunter2@db/x", "hunter2", "", "file:hunter2"] {
        let error = Store::open(url).await.unwrap_err();
        assert!(matches!(error, StoreError::UnknownDatabase(_)), "{error:?}");
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

#[tokio::test]
async fn a_missing_folder_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}",
        folder.path().join("missing/store.db").display()
    );
    assert!(matches!(
        Store::open(&url).await.unwrap_err(),
        StoreError::Database(_)
    ));
}
