//! A database that is locked, full or gone, and back.

use std::time::Duration;

use sqlx::{
    AssertSqlSafe, Connection, Executor, PgConnection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::*;
use crate::database::{PATIENCE, Patience, migrator};

/// Waits as little as may be.
const IMPATIENT: Patience = Patience {
    call: Duration::from_millis(100),
    start: Duration::ZERO,
};

async fn impatient(url: &str) -> Result<Store, StoreError> {
    Store::open_with(url, IMPATIENT, &migrator(MIGRATIONS)).await
}

/// Another process on the file, as far as SQLite can tell.
async fn stranger(url: &str) -> SqliteConnection {
    let options: SqliteConnectOptions = url.parse().unwrap();
    SqliteConnection::connect_with(&options.create_if_missing(true))
        .await
        .unwrap()
}

/// That the store reads and writes, and skipped nothing in between.
async fn works(store: &Store, name: &str) {
    let before = store.feed_head().await.unwrap();
    store.create_agent(&agent(name), &actor()).await.unwrap();
    assert_eq!(store.feed_head().await.unwrap(), before + 1);
    let events = store.feed_after(0, 1_000).await.unwrap();
    let sequences: Vec<i64> = events.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=before + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_locked_file_is_read_and_not_written_until_it_is_let_go() {
    let fixture = Fixture::sqlite().await;
    let store = impatient(&fixture.url).await.unwrap();
    works(&store, "before").await;
    let mut other = stranger(&fixture.url).await;
    other.execute("BEGIN IMMEDIATE").await.unwrap();

    for _ in 0..3 {
        let error = store.create_agent(&agent("lost"), &actor()).await;
        let error = error.unwrap_err();
        assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
        assert!(error.may_pass());
    }
    // In the queue of this process, too.
    let Database::Sqlite { writer, .. } = &store.database else {
        panic!("sqlite")
    };
    let held = writer.acquire().await.unwrap();
    let error = store.create_agent(&agent("lost"), &actor()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    drop(held);
    assert_eq!(store.agents().await.unwrap().len(), 1, "reading goes on");

    other.execute("ROLLBACK").await.unwrap();
    works(&store, "after").await;
    store.close().await;
    fixture.end().await;
}

#[tokio::test]
async fn a_file_locked_at_the_start_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    // With the journal that a new file has: to change that, SQLite wants the file for itself.
    let options: SqliteConnectOptions = url.parse().unwrap();
    let options = options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Delete);
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    other.execute("CREATE TABLE theirs (id)").await.unwrap();
    other
        .execute("BEGIN; SELECT COUNT(*) FROM theirs")
        .await
        .unwrap();

    let error = impatient(&url).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");

    // Longer than one call waits, as others may take on a slow disk.
    let patience = Patience {
        start: PATIENCE.start,
        ..IMPATIENT
    };
    let migrator = migrator(MIGRATIONS);
    let mut open = Box::pin(Store::open_with(&url, patience, &migrator));
    let waited = tokio::time::timeout(IMPATIENT.call * 5, &mut open).await;
    assert!(waited.is_err(), "it waits: {waited:?}");
    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    let store = open.await.unwrap();
    works(&store, "first").await;
    store.close().await;
}

/// SQLite undoes a transaction by itself then: the connection must not think that it is
/// in one for ever.
#[tokio::test]
async fn a_full_file_takes_no_more_until_there_is_room() {
    let fixture = Fixture::sqlite().await;
    works(&fixture.store, "before").await;
    let Database::Sqlite { writer, .. } = &fixture.store.database else {
        panic!("sqlite")
    };
    let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count")
        .fetch_one(writer)
        .await
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    writer.execute(AssertSqlSafe(limit)).await.unwrap();

    let mut written = 0;
    let error = loop {
        let name = format!("agent-{written}");
        match fixture.store.create_agent(&agent(&name), &actor()).await {
            Ok(_) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 1_000, "no limit");
    };
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    let agents = fixture.store.agents().await.unwrap().len();
    assert_eq!(agents, written + 1, "nothing half");

    // Whatever connection it is by now: there is room again.
    writer
        .execute("PRAGMA max_page_count = 1000000")
        .await
        .unwrap();
    works(&fixture.store, "after").await;
    fixture.end().await;
}

#[tokio::test]
async fn a_locked_head_is_let_go_of() {
    let (url, database) = Fixture::empty_postgres().await;
    let store = impatient(&url).await.unwrap();
    works(&store, "before").await;
    let mut other = PgConnection::connect(&url).await.unwrap();
    other
        .execute("BEGIN; SELECT * FROM feed_head FOR UPDATE")
        .await
        .unwrap();

    let error = store.create_agent(&agent("lost"), &actor()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    assert_eq!(store.agents().await.unwrap().len(), 1, "reading goes on");

    other.execute("ROLLBACK").await.unwrap();
    works(&store, "after").await;
    store.close().await;
    Fixture::drop_postgres(&database).await;
}

/// As when the server goes away and comes back: every connection is cut, in the middle of
/// writes, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_were_cut_are_replaced() {
    let fixture = Fixture::postgres().await;
    works(&fixture.store, "before").await;
    let mut other = PgConnection::connect(&fixture.url).await.unwrap();
    other
        .execute("BEGIN; LOCK TABLE audit IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    // A write that holds the head, and waits for the trail.
    let store = fixture.store.clone();
    let write = tokio::spawn(async move { store.create_agent(&agent("cut"), &actor()).await });
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'";
    while sqlx::query_as::<_, (i64,)>(waiting)
        .fetch_one(&mut other)
        .await
        .unwrap()
        .0
        == 0
    {}
    other
        .execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .await
        .unwrap();
    let error = write.await.unwrap().unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
    other.execute("ROLLBACK").await.unwrap();

    works(&fixture.store, "after").await;
    let names: Vec<String> = fixture
        .store
        .agents()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| stored.agent.name.to_string())
        .collect();
    assert!(!names.contains(&"cut".to_owned()), "{names:?}");
    fixture.end().await;
}

#[tokio::test]
async fn a_server_that_is_gone_is_out_of_reach() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let error = impatient(&format!("postgres://postgres@{address}/none"))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable(_)), "{error:?}");
}
