//! What changes things: only with a second role.

use super::*;

#[tokio::test]
async fn there_is_no_execute_without_a_role_that_writes() {
    let mut world = World::new().await;
    let names = |catalog: &Catalog| -> Vec<String> {
        let service = catalog.service("postgres").unwrap();
        service
            .commands
            .iter()
            .map(|command| command.name.clone())
            .collect()
    };
    assert!(names(&world.catalog).contains(&"execute".to_owned()));
    let service = world.catalog.service("postgres").unwrap();
    for command in &service.commands {
        let risk = if command.name == "execute" {
            authz::Risk::Destroy
        } else {
            authz::Risk::Read
        };
        assert_eq!(command.target.risk, risk, "{}", command.name);
    }
    world.catalog = world.catalog_as(&world.role("reader"), None);
    assert!(!names(&world.catalog).contains(&"execute".to_owned()));
    let line = "/mcp-postgres shop execute \"DELETE FROM users\"";
    assert!(matches!(
        world.catalog.parse_slash(line),
        Err(crate::CommandError::UnknownCommand { .. })
    ));
    world.end().await;
}

#[tokio::test]
async fn execute_changes_what_its_role_may_change() {
    let mut world = World::new().await;
    let count = "SELECT count(*) FROM users";
    let data = world
        .execute(
            "INSERT INTO users (name) VALUES ($1), ($2)",
            json!(["Cid", "Dan"]),
        )
        .await
        .unwrap();
    assert_eq!(data, json!({"operation": "execute", "affectedRows": 2}));
    assert_eq!(world.see(count).await, "4");
    let data = world
        .execute(
            "UPDATE users SET balance = balance + $1 WHERE name = $2 RETURNING name, balance;",
            json!([1.5, "Cid"]),
        )
        .await
        .unwrap();
    assert_eq!(
        (&data["affectedRows"], &data["rows"]),
        (&json!(1), &json!([{"name": "Cid", "balance": "1.50"}]))
    );
    let data = world
        .execute("INSERT INTO users (name) SELECT 'many' || g FROM generate_series(1, 300) g RETURNING id", json!([]))
        .await
        .unwrap();
    assert_eq!(
        (&data["affectedRows"], &data["rowCount"], &data["truncated"]),
        (&json!(300), &json!(100), &json!(true))
    );
    assert_eq!(
        world.see(count).await,
        "304",
        "all were made, not only those that are shown"
    );
    let data = world
        .execute(
            "DELETE FROM users WHERE name LIKE 'many%' RETURNING repeat('x', 100000) AS x",
            json!([]),
        )
        .await
        .unwrap();
    assert_eq!(data["affectedRows"], json!(300));
    assert!(data.to_string().len() < 60_000);
    assert_eq!(world.see(count).await, "4");
    let data = world
        .execute("DELETE FROM users WHERE false RETURNING id", json!([]))
        .await
        .unwrap();
    assert_eq!(
        (&data["affectedRows"], &data["rows"]),
        (&json!(0), &json!([]))
    );

    for (sql, status, expected) in [
        (
            "INSERT INTO users (name) VALUES ('Ada')",
            409,
            "duplicate key",
        ),
        (
            "INSERT INTO users (name, balance) VALUES ('x', -1)",
            409,
            "check constraint",
        ),
        ("INSERT INTO orders VALUES (9, 999)", 409, "foreign key"),
        (
            "INSERT INTO users (name) VALUES ('y'); DROP TABLE orders",
            400,
            "multiple commands",
        ),
        ("DROP TABLE orders", 403, "must be owner"),
        ("DELETE FROM hidden.secrets", 403, "permission denied"),
        ("CREATE ROLE mighty SUPERUSER", 403, "must be superuser"),
        ("COPY users TO PROGRAM 'true'", 403, "COPY"),
        ("COPY users TO '/tmp/users'", 403, "COPY"),
        (
            "WITH gone AS (DELETE FROM orders RETURNING id) SELECT * FROM gone",
            400,
            "within a WITH",
        ),
    ] {
        let error = world.execute(sql, json!([])).await.expect_err(sql);
        let (said, message) = rejected(&error);
        assert!(
            said == status && message.contains(expected),
            "{sql}: {error}"
        );
    }
    // What the protocol has no place for ends the connection, and nothing else.
    for sql in ["COPY users TO STDOUT", "COPY users FROM STDIN"] {
        assert!(world.execute(sql, json!([])).await.is_err(), "{sql}");
    }
    assert_eq!(
        (
            world.see(count).await.as_str(),
            world.see("SELECT count(*) FROM orders").await.as_str()
        ),
        ("4", "1")
    );
    // A commit of the agent's own ends its transaction, and begins none for anybody else.
    let _ = world.execute("COMMIT", json!([])).await;
    let _ = world
        .execute(
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            json!([]),
        )
        .await;
    world
        .execute("DELETE FROM users WHERE name = 'Dan'", json!([]))
        .await
        .unwrap();
    assert_eq!(world.see(count).await, "3");
    // With a second role there, the first still only reads.
    let error = world.query("SELECT sneak()", json!([])).await.unwrap_err();
    assert_eq!(rejected(&error).0, 403);
    world.end().await;
}
