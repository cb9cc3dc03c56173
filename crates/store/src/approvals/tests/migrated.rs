//! Requests and verdicts of a database from before the workflow's migration.

use sqlx::{
    Connection, Executor, PgConnection, SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use super::*;
use crate::{Store, database::MIGRATIONS};

/// Tables of the second migration, with one request that one of two people approved.
const ROWS: [&str; 5] = [
    "INSERT INTO agents (id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created)
        VALUES ('6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f', 'old', NULL, '[]', '[]', 'prod', 1, 0, '[]', 1)",
    "INSERT INTO users (id, name, teams, roles, active, created) VALUES ('dan', 'Dan', '[]', '[]', 1, 1)",
    "INSERT INTO users (id, name, teams, roles, active, created) VALUES ('eve', 'Eve', '[]', '[]', 1, 1)",
    "INSERT INTO approvals (id, agent, command, digest, policy_set, ask, arguments, reason, policies, advice,
        opened, expires, status, joined)
        VALUES ('apr_01a0c4506c0076bebb587dcd512ef3ae', '6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f', 'coolify/deploy',
            'd', 'set', '{ASK}', '{}', '', '[]', '[]', 1, 9000000000000, 'pending', 0)",
    "INSERT INTO verdicts (approval, user_id, place, reach, duration, reason, decided)
        VALUES ('apr_01a0c4506c0076bebb587dcd512ef3ae', 'dan', 1, 'call', 3600000, 'fine', 2)",
];

fn first_two() -> Migrator {
    let migrations = MIGRATIONS.iter().take(2).map(|&(number, name, sql)| {
        let kind = MigrationType::Simple;
        Migration::new(number, name.into(), kind, sql.into_sql_str(), false)
    });
    Migrator::with_migrations(migrations.collect())
}

fn rows() -> Vec<String> {
    let agent = Agent {
        id: "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f".parse().unwrap(),
        ..agent("old")
    };
    let ask = request(&agent, json!({}), 2, NOON).ask;
    let ask = serde_json::to_string(&ask).unwrap();
    ROWS.iter().map(|row| row.replace("{ASK}", &ask)).collect()
}

async fn goes_on(url: &str) {
    let store = Store::open(url).await.unwrap();
    let id: ApprovalRequestId = "apr_01a0c4506c0076bebb587dcd512ef3ae".parse().unwrap();
    let stored = store.approval(id, NOON).await.unwrap();
    assert_eq!((stored.status, stored.verdicts.len()), (Status::Pending, 1));
    assert_eq!(
        (
            stored.verdicts[0].reason.as_str(),
            stored.verdicts[0].via.as_str()
        ),
        ("fine", "")
    );
    assert_eq!((stored.asked, stored.withdrawn), (None, None));
    let eve: UserId = "eve".parse().unwrap();
    let choice = (Reach::Call, Duration::from_hours(1));
    let approved = store
        .approve(id, said(&eve, ""), choice, &actor(), |_| {
            Ok::<_, StoreError>(())
        })
        .await
        .unwrap();
    let Approved::Granted(_, grant) = approved else {
        panic!("the second of two: {approved:?}")
    };
    assert_eq!(grant.first.as_str(), "dan");
    store.close().await;
}

#[tokio::test]
async fn what_was_asked_before_goes_on_in_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!(
        "sqlite://{}?mode=rwc",
        folder.path().join("old.db").display()
    );
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    first_two()
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    for row in rows() {
        connection.execute(sqlx::AssertSqlSafe(row)).await.unwrap();
    }
    connection.close().await.unwrap();
    goes_on(&url).await;
}

#[tokio::test]
async fn what_was_asked_before_goes_on_in_postgres() {
    let (url, database) = Fixture::empty_postgres().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    first_two()
        .run_direct(None, &mut connection, false)
        .await
        .unwrap();
    for row in rows() {
        connection.execute(sqlx::AssertSqlSafe(row)).await.unwrap();
    }
    connection.close().await.unwrap();
    goes_on(&url).await;
    Fixture::drop_postgres(&database).await;
}
