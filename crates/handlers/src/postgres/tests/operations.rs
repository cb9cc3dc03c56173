//! What each command answers, and what it says when it cannot.

use super::*;
use crate::catalog::{Breaker, State};

#[tokio::test]
async fn the_commands_answer_as_they_always_did() {
    let mut world = World::new().await;
    world.run("ANALYZE users").await;
    let data = world
        .ask("/mcp-postgres shop-db list tables")
        .await
        .unwrap();
    assert_eq!(data["operation"], "list_tables");
    assert_eq!(
        (&data["database"], &data["tableCount"]),
        (&json!("shop"), &json!(4))
    );
    assert_eq!(
        data["tables"][3],
        json!({
            "schema": "public", "name": "users", "fullName": "public.users", "owner": "postgres",
            "features": {"indexes": true, "rules": false, "triggers": true},
        })
    );
    let two = world
        .ask("/mcp-postgresql shop tables --limit 2")
        .await
        .unwrap();
    assert_eq!(
        (&two["tableCount"], &two["truncated"]),
        (&json!(2), &json!(true))
    );

    for name in ["users", "public.users"] {
        let data = world
            .ask(&format!("/mcp-postgres shop describe {name}"))
            .await
            .unwrap();
        assert_eq!(
            data["table"],
            json!({"schema": "public", "name": "users", "fullName": "public.users"})
        );
        assert_eq!(
            data["columns"][1],
            json!({
                "name": "name", "type": "character varying(50)", "nullable": false, "default": null,
                "position": 2, "constraints": ["UNIQUE"], "references": [],
            })
        );
        assert_eq!(data["columns"][0]["constraints"], json!(["PRIMARY KEY"]));
        assert_eq!(data["columns"][2]["default"], json!("0"));
        assert_eq!(data["indexes"].as_array().unwrap().len(), 2);
        assert_eq!(
            data["indexes"][1],
            json!({
                "name": "users_pkey", "primary": true, "unique": true,
                "definition": "CREATE UNIQUE INDEX users_pkey ON public.users USING btree (id)",
            })
        );
        let statistics = &data["statistics"];
        assert_eq!(statistics["row_count"], json!("2"));
        assert!(
            statistics["total_size"]
                .as_str()
                .unwrap()
                .parse::<u64>()
                .unwrap()
                > 8_000
        );
    }
    let orders = world
        .ask("/mcp-postgres shop describe orders")
        .await
        .unwrap();
    let references = orders["columns"][1]["references"][0].as_str().unwrap();
    assert!(references.contains("REFERENCES users(id)"), "{references}");
    let view = world.ask("/mcp-postgres shop desc rich").await.unwrap();
    assert_eq!(view["table"]["name"], "rich");
    let weird = world
        .ask("/mcp-postgres shop describe 'We\"ird.Table'")
        .await
        .unwrap();
    assert_eq!(weird["columns"][0]["name"], "a");

    let data = world.ask("/mcp-postgres shop schema-info").await.unwrap();
    assert_eq!(data["database"]["name"], json!(world.database));
    assert!(
        data["database"]["version"]
            .as_str()
            .unwrap()
            .starts_with("PostgreSQL")
    );
    assert!(
        data["database"]["size_bytes"].is_string() && data["database"]["size_pretty"].is_string()
    );
    assert_eq!(
        data["summary"],
        json!({"totalSchemas": 2, "totalTables": 4, "totalViews": 1})
    );
    assert_eq!(data["schemas"][1]["schema_name"], json!("public"));
    assert_eq!(data["schemas"][1]["table_count"], json!("3"));

    let data = world
        .ask("/mcp-postgres shop connection-stats")
        .await
        .unwrap();
    let pool =
        json!({"total": 1, "idle": 0, "waiting": 0, "maxConnections": 2, "connectionErrors": 0});
    assert_eq!((&data["database"], &data["pool"]), (&json!("shop"), &pool));
    let sessions = data["activeConnections"].as_array().unwrap();
    let ours = sessions
        .iter()
        .find(|session| session["application_name"] == "cedargate postgres/shop");
    let ours = ours.unwrap().as_object().unwrap();
    for field in [
        "pid",
        "usename",
        "client_addr",
        "state",
        "query_start",
        "state_change",
    ] {
        assert!(!ours[field].is_null(), "{field}");
    }

    let data = world.ask("/mcp-postgres shop health").await.unwrap();
    assert_eq!(
        (&data["operation"], &data["status"]),
        (&json!("test"), &json!("connected"))
    );
    assert!(data["latency"].as_str().unwrap().ends_with("ms"));
    assert!(data["serverTime"].is_string() && data["version"].is_string());

    let data = world
        .ask("/mcp-postgres shop query \"SELECT name, id FROM users ORDER BY id\"")
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({
            "operation": "query", "rowCount": 2,
            "rows": [{"name": "Ada", "id": "1"}, {"name": "Bob", "id": "2"}],
            "fields": [{"name": "name", "dataType": 1043}, {"name": "id", "dataType": 20}],
        })
    );
    let data = world
        .ask("/mcp-postgres shop explain SELECT * FROM users WHERE id = 1")
        .await
        .unwrap();
    assert!(data["plan"][0]["Plan"]["Node Type"].is_string(), "{data}");
    assert_eq!(condition(&world.catalog).state, State::Healthy);
    world.end().await;
}

#[tokio::test]
async fn what_the_server_says_is_told_and_placed() {
    let world = World::new().await;
    let cases = [
        (
            "SELECT nme FROM users",
            400,
            "column \"nme\" does not exist at character 8",
        ),
        (
            "SELEC 1",
            400,
            "syntax error at or near \"SELEC\" at character 1 [42601]",
        ),
        ("SELECT 1 +", 400, "syntax error at end of input"),
        ("", 400, "one SELECT"),
        ("  -- nothing", 400, "one SELECT"),
        (
            "SELECT * FROM nothing_there",
            400,
            "relation \"nothing_there\" does not exist at character 15 [42P01]",
        ),
        (
            "SELECT what FROM hidden.secrets",
            403,
            "permission denied for schema hidden",
        ),
        (
            "SELECT 1 / (id - id) FROM users",
            400,
            "division by zero [22012]",
        ),
        (
            "SELECT 'x'::int",
            400,
            "invalid input syntax for type integer: \"x\" at character 8",
        ),
        ("SELECT ($1::int)", 400, "has 1 parameters and 0 values"),
    ];
    for (sql, status, expected) in cases {
        let error = world.query(sql, json!([])).await.expect_err(sql);
        let (said, message) = rejected(&error);
        assert!(
            said == status && message.contains(expected),
            "{sql}: {error}"
        );
    }
    // The place is that in the agent's own text, after letters of more bytes.
    let error = world
        .query("SELECT 'ü€', nme FROM users", json!([]))
        .await
        .unwrap_err();
    assert!(rejected(&error).1.contains("at character 14"), "{error}");
    let error = world
        .ask("/mcp-postgres shop explain 'SELECT nme FROM users'")
        .await
        .unwrap_err();
    assert!(rejected(&error).1.contains("at character 8"), "{error}");
    for name in [
        "users; DROP TABLE users",
        "x' OR 'a'='a",
        "nobody.users",
        "pg_catalog",
        "USERS",
        "\"users\"",
    ] {
        let line = format!("/mcp-postgres shop describe-table --table={name:?}");
        let error = world.ask(&line).await.unwrap_err();
        assert!(
            matches!(error, HandlerError::NotFound { .. }),
            "{name}: {error:?}"
        );
    }
    let error = world.ask("/mcp-postgres other test").await.unwrap_err();
    let HandlerError::NotConfigured { reason, .. } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(reason, "database `other`: set `OTHER_URL`");
    world.end().await;
}

#[tokio::test]
async fn a_server_that_is_away_is_unreachable_and_then_left_alone() {
    let url = format!("postgres://u:{PASSWORD}@127.0.0.1:1/shop");
    let catalog = catalog(&[("SHOP_URL", Some(url))]);
    let test = command(&catalog, "/mcp-postgres test");
    for attempt in 1..=5 {
        let error = catalog.carry_out(&test).await.unwrap_err();
        let HandlerError::Unreachable { reason, .. } = &error else {
            panic!("{attempt}: {error:?}")
        };
        assert!(reason.contains("`shop` does not open"), "{reason}");
        assert!(!error.to_string().contains(PASSWORD));
    }
    assert_eq!(condition(&catalog).breaker, Some(Breaker::Open));
    let error = catalog.carry_out(&test).await.unwrap_err();
    assert!(
        error.to_string().contains("several times in a row"),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_replaced() {
    let mut world = World::new().await;
    assert_eq!(world.value("SELECT 1").await, json!(1));
    world
        .run(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
              WHERE datname = current_database() AND application_name LIKE 'cedargate%'",
        )
        .await;
    assert_eq!(world.value("SELECT 2").await, json!(2));
    world.end().await;
}

#[tokio::test]
async fn another_password_is_taken_up_and_the_old_connection_left() {
    let mut world = World::new().await;
    let pid = world.value("SELECT pg_backend_pid()").await;
    assert_eq!(
        world.value("SELECT pg_backend_pid()").await,
        pid,
        "it is kept"
    );
    let url = world.url(&world.role("reader"), "an0ther-one");
    let variable = |name: &str| (name == "SHOP_URL").then(|| url.clone());
    let changed = world.catalog.refresh(&variable);
    assert_eq!(changed.len(), 1);
    assert!(world.catalog.refresh(&variable).is_empty());
    let old = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    world.until(&old, "0").await;
    assert_ne!(world.value("SELECT pg_backend_pid()").await, pid);
    assert!(world.catalog.refresh(&|_| None).len() == 1);
    let error = world.ask("/mcp-postgres shop test").await.unwrap_err();
    assert!(
        matches!(error, HandlerError::NotConfigured { .. }),
        "{error:?}"
    );
    world.end().await;
}

#[tokio::test]
async fn secrets_in_rows_are_hidden() {
    let world = World::new().await;
    let sql =
        format!("SELECT '{PASSWORD}' AS a, 'x' AS password, 'postgres://u:{PASSWORD}x@h/d' AS url");
    let data = world.query(&sql, json!([])).await.unwrap();
    assert!(!data.to_string().contains(PASSWORD), "{data}");
    assert_ne!(data["rows"][0]["password"], json!("x"));
    let error = world
        .query(&format!("SELECT '{PASSWORD}'::int"), json!([]))
        .await
        .unwrap_err();
    assert!(!error.to_string().contains(PASSWORD), "{error}");
    world.end().await;
}
