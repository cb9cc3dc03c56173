//! A process killed in the middle of the migrations: the next start goes on from what was
//! committed, and there is never half of a migration.

use std::process::Stdio;

use sqlx::{Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::process::{Child, Command};

use super::*;
use crate::database::{PATIENCE, migrator};

/// Tells a process which database to migrate.
const TASK: &str = "CEDARGATE_STORE_MIGRATE";

/// So many migrations are done when the process is killed in the next one.
const DONE: usize = 4;

/// Never ends, and writes all the while: SQLite has much of it in its journal by then.
const ENDLESS_SQLITE: &str = "
    CREATE TABLE half_done AS
        WITH RECURSIVE counting(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counting LIMIT 100000000)
        SELECT n, hex(zeroblob(500)) AS filler FROM counting";

/// Never ends, with a table that is not committed.
const ENDLESS_POSTGRES: &str = "CREATE TABLE half_done (id BIGINT); SELECT pg_sleep(600)";

/// What the process does that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the tests below start it as a process of its own"]
async fn one_that_is_killed() {
    let Ok(url) = std::env::var(TASK) else {
        return;
    };
    let mut migrations = MIGRATIONS[..DONE].to_vec();
    let endless = if url.starts_with("sqlite") {
        ENDLESS_SQLITE
    } else {
        ENDLESS_POSTGRES
    };
    migrations.push((i64::try_from(DONE).unwrap() + 1, "endless", endless));
    let never = Store::open_with(&url, PATIENCE, &migrator(&migrations)).await;
    panic!("it ended: {never:?}");
}

fn start(url: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "database::tests::interrupted::one_that_is_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(TASK, url)
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// That it opens now, is whole, and works.
async fn goes_on(url: &str) {
    let store = Store::open(url).await.unwrap();
    store.create_agent(&agent("first"), &actor()).await.unwrap();
    assert_eq!(store.agents().await.unwrap().len(), 1);
    store.close().await;
}

#[tokio::test]
async fn in_sqlite_nothing_of_it_is_left() {
    async fn tables(url: &str) -> Vec<(String, Option<String>)> {
        let options: SqliteConnectOptions = url.parse().unwrap();
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let tables = sqlx::query_as("SELECT name, sql FROM sqlite_master ORDER BY name")
            .fetch_all(&mut connection)
            .await
            .unwrap();
        let (integrity,): (String,) = sqlx::query_as("PRAGMA integrity_check")
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(integrity, "ok");
        connection.close().await.unwrap();
        tables
    }

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("killed.db");
    let url = format!("sqlite://{}", file.display());
    let mut child = start(&url);
    // Beyond SQLite's cache: so much of what is not committed is on the disk.
    let journal = folder.path().join("killed.db-wal");
    while std::fs::metadata(&journal).map_or(0, |file| file.len()) < 8 << 20 {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        tokio::task::yield_now().await;
    }
    child.kill().await.unwrap();

    assert_eq!(tables(&url).await, [], "nothing of it is there");
    goes_on(&url).await;
    let whole = Fixture::sqlite().await;
    assert_eq!(tables(&url).await, tables(&whole.url).await);
    whole.end().await;
}

#[tokio::test]
async fn in_postgres_whole_migrations_are_left() {
    async fn columns(connection: &mut PgConnection) -> Vec<(String, String, String)> {
        sqlx::query_as(
            "SELECT table_name::TEXT, column_name::TEXT, data_type::TEXT
             FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2",
        )
        .fetch_all(connection)
        .await
        .unwrap()
    }
    async fn migrated(connection: &mut PgConnection) -> Vec<(i64,)> {
        sqlx::query_as("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
            .fetch_all(connection)
            .await
            .unwrap()
    }

    let (url, database) = Fixture::empty_postgres().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut child = start(&url);
    let sleeping = "SELECT COUNT(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'PgSleep'";
    while sqlx::query_as::<_, (i64,)>(sleeping)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        .0
        == 0
    {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    // Another start waits meanwhile, for as long as it takes.
    let waiting = tokio::spawn({
        let url = url.clone();
        async move { Store::open(&url).await }
    });
    let queued = "SELECT COUNT(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted";
    while sqlx::query_as::<_, (i64,)>(queued)
        .fetch_one(&mut connection)
        .await
        .unwrap()
        .0
        == 0
    {}
    assert_eq!(
        migrated(&mut connection).await.len(),
        DONE,
        "those before are kept"
    );
    assert!(
        columns(&mut connection)
            .await
            .iter()
            .all(|(table, _, _)| table != "half_done")
    );

    child.kill().await.unwrap();
    // The server notices a dead client only when it next says something to it.
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND wait_event = 'PgSleep'",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    waiting.await.unwrap().unwrap().close().await;
    goes_on(&url).await;
    assert_eq!(migrated(&mut connection).await.len(), MIGRATIONS.len());

    let (whole, fresh) = Fixture::empty_postgres().await;
    Store::open(&whole).await.unwrap().close().await;
    let mut other = PgConnection::connect(&whole).await.unwrap();
    assert_eq!(columns(&mut connection).await, columns(&mut other).await);
    connection.close().await.unwrap();
    other.close().await.unwrap();
    for database in [database, fresh] {
        Fixture::drop_postgres(&database).await;
    }
}
