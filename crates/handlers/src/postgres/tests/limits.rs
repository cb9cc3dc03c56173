//! Too much of everything.

use std::{future::Future as _, pin::pin, task::Poll};

use super::*;
use crate::catalog::State;

#[tokio::test]
async fn an_answer_has_an_end_and_says_so() {
    let world = World::new().await;
    let data = world
        .query("SELECT generate_series(1, 1000000000) AS g", json!([]))
        .await
        .unwrap();
    assert_eq!(
        (&data["rowCount"], &data["truncated"]),
        (&json!(100), &json!(true))
    );
    assert_eq!(data["rows"][99], json!({"g": 100}));
    let data = world
        .ask("/mcp-postgres shop query --limit 3 'SELECT g FROM generate_series(1, 3) g'")
        .await
        .unwrap();
    assert_eq!(
        (&data["rowCount"], data.get("truncated")),
        (&json!(3), None)
    );
    let data = world
        .ask("/mcp-postgres shop query --limit 2 'SELECT g FROM generate_series(1, 3) g'")
        .await
        .unwrap();
    assert_eq!(
        (&data["rowCount"], &data["truncated"]),
        (&json!(2), &json!(true))
    );

    // Rows that are long together: as many as fit.
    let data = world
        .query(
            "SELECT repeat('x', 9000) AS x FROM generate_series(1, 90)",
            json!([]),
        )
        .await
        .unwrap();
    let count = data["rowCount"].as_u64().unwrap();
    assert!((3..=6).contains(&count), "{count}");
    assert_eq!(data["truncated"], json!(true));
    assert_eq!(data["rows"][0]["x"].as_str().unwrap().len(), 9000);

    // One row that is too long by far: what comes here was cut there.
    for sql in [
        "SELECT repeat('x', 20000000) AS x, 7 AS y",
        "SELECT array_fill(1, ARRAY[500000]) AS x, 7 AS y",
        "SELECT ('[' || repeat('1,', 2000000) || '1]')::json AS x, 7 AS y",
        "SELECT decode(repeat('ab', 2000000), 'hex') AS x, 7 AS y",
        "SELECT repeat('ü', 2000000) AS x, 7 AS y",
    ] {
        let data = world
            .query(sql, json!([]))
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let text = data["rows"][0]["x"]
            .as_str()
            .unwrap_or_else(|| panic!("{sql}: {data}"));
        assert!(
            text.ends_with("… [truncated]") && text.len() < 20_000,
            "{sql}: {}",
            text.len()
        );
        assert_eq!(
            (&data["rows"][0]["y"], &data["truncated"]),
            (&json!(7), &json!(true)),
            "{sql}"
        );
    }
    let columns = (0..1600)
        .map(|n| format!("repeat('y', 90000) AS c{n}"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!("SELECT * FROM (SELECT {} ) a", &columns[..0]);
    assert!(world.query(&sql, json!([])).await.is_ok());
    let arguments = json!({"database": "shop", "sql": format!("SELECT {columns}")});
    assert!(
        world
            .catalog
            .command("postgres", "query", arguments)
            .is_err(),
        "statements have an end, too"
    );
    let wide = "SELECT a.*, b.* FROM (SELECT repeat('y', 90000) AS c1, repeat('y', 90000) AS c2) a, (SELECT repeat('z', 90000) AS c3) b";
    let data = world.query(wide, json!([])).await.unwrap();
    assert!(data.to_string().len() < 60_000 && data["truncated"] == json!(true));
    world.end().await;
}

#[tokio::test]
async fn time_has_an_end() {
    let mut world = World::new().await;
    let mut slow = vec![
        "SELECT pg_sleep(100)".to_owned(),
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b"
            .to_owned(),
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r"
            .to_owned(),
        // It lifts the server's limit; the gateway has one as well.
        "SELECT set_config('statement_timeout', '0', false), pg_sleep(100)".to_owned(),
    ];
    for sql in slow.drain(..) {
        let error = world.query(&sql, json!([])).await.expect_err(&sql);
        assert!(
            matches!(error, HandlerError::Timeout { .. }),
            "{sql}: {error:?}"
        );
        assert_eq!(
            world
                .value(
                    "SHOW statement_timeout"
                        .replace(
                            "SHOW statement_timeout",
                            "SELECT current_setting('statement_timeout')"
                        )
                        .as_str()
                )
                .await,
            json!("4s")
        );
    }
    let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND application_name LIKE 'cedargate%'";
    world.until(running, "0").await;
    assert_eq!(
        condition(&world.catalog).state,
        State::Healthy,
        "the database is well"
    );

    let database = world.database.clone();
    let (base, _) = server()
        .rsplit_once('/')
        .map(|(base, rest)| (base.to_owned(), rest.to_owned()))
        .unwrap();
    let mut holder = PgConnection::connect(&format!("{base}/{database}"))
        .await
        .unwrap();
    holder.execute("BEGIN").await.unwrap();
    holder
        .execute("LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let error = world
        .query("SELECT * FROM users", json!([]))
        .await
        .unwrap_err();
    let (status, message) = rejected(&error);
    assert!(status == 409 && message.contains("lock"), "{error}");
    holder.execute("ROLLBACK").await.unwrap();
    assert!(world.query("SELECT * FROM users", json!([])).await.is_ok());
    world.end().await;
}

#[tokio::test]
async fn an_agent_that_goes_away_takes_its_statement_along() {
    let mut world = World::new().await;
    assert_eq!(world.value("SELECT 1").await, json!(1));
    let ours = "FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%a_mark_%' AND pid <> pg_backend_pid()";
    {
        let catalog = &world.catalog;
        let command = command(
            catalog,
            "/mcp-postgres shop query \"SELECT 'a_mark', pg_sleep(3.5) FROM generate_series(1, 100)\"",
        );
        let mut given_up = pin!(catalog.carry_out(&command));
        let admin = &mut world.admin;
        let active = format!("SELECT count(*) {ours} AND state = 'active'");
        // Until the server is at it.
        loop {
            let polled = std::future::poll_fn(|context| {
                Poll::Ready(given_up.as_mut().poll(context).is_ready())
            })
            .await;
            assert!(!polled, "it takes long");
            let row = sqlx::query(AssertSqlSafe(active.clone()))
                .fetch_one(&mut *admin)
                .await
                .unwrap();
            if row.get::<i64, _>(0) == 1 {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    let began = tokio::time::Instant::now();
    world.until(&format!("SELECT count(*) {ours}"), "0").await;
    assert!(
        began.elapsed().as_secs() < 3,
        "{:?}: it was cancelled, not waited for",
        began.elapsed()
    );
    assert_eq!(world.value("SELECT 2").await, json!(2));
    world.end().await;
}

#[tokio::test]
async fn no_more_than_so_many_are_open() {
    let mut world = World::new().await;
    let sleep = command(
        &world.catalog,
        "/mcp-postgres shop query 'SELECT pg_sleep(0.2)'",
    );
    let many = (0..6).map(|_| world.catalog.carry_out(&sleep));
    let answers = futures_util::future::join_all(many).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    let open = world.see("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'cedargate%'").await;
    assert!(open.parse::<u32>().unwrap() <= 2, "{open}");
    world.end().await;
}
