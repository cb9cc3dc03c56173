//! Lines and bodies, old and new.

use super::*;

fn read(line: &str) -> (String, Value) {
    let catalog = catalog(&[
        ("SHOP_URL", Some("postgres://u@h/d".to_owned())),
        ("OTHER_URL", Some("postgres://u@h/d".to_owned())),
    ]);
    let command = command(&catalog, line);
    (
        command.target.key.name.to_string(),
        Value::Object(command.arguments.values().clone()),
    )
}

#[test]
fn the_database_comes_first_and_sql_needs_no_quotes() {
    let sql = |sql: &str| json!({"database": "shop", "sql": sql});
    let cases = [
        (
            "shop-db list tables",
            ("list-tables", json!({"database": "shop"})),
        ),
        (
            "shop list_tables",
            ("list-tables", json!({"database": "shop"})),
        ),
        (
            "list-tables --database shop-db",
            ("list-tables", json!({"database": "shop"})),
        ),
        (
            "shop describe users",
            (
                "describe-table",
                json!({"database": "shop", "table": "users"}),
            ),
        ),
        (
            "shop desc public.users",
            (
                "describe-table",
                json!({"database": "shop", "table": "public.users"}),
            ),
        ),
        (
            "shop schema-info",
            ("schema-info", json!({"database": "shop"})),
        ),
        ("shop test", ("test", json!({"database": "shop"}))),
        ("shop query 'SELECT 1'", ("query", sql("SELECT 1"))),
        (
            "shop query SELECT  'a   b' FROM \"T\" WHERE x = 'it''s' -- done",
            (
                "query",
                sql("SELECT  'a   b' FROM \"T\" WHERE x = 'it''s' -- done"),
            ),
        ),
        (
            "shop select * from users",
            ("query", sql("select * from users")),
        ),
        ("shop SELECT\n  1", ("query", sql("SELECT\n  1"))),
        (
            "shop WITH a AS (SELECT 1) TABLE a",
            ("query", sql("WITH a AS (SELECT 1) TABLE a")),
        ),
        ("shop explain SELECT 1", ("explain", sql("SELECT 1"))),
        (
            "shop query 'SELECT $1' [5]",
            (
                "query",
                json!({"database": "shop", "sql": "SELECT $1", "params": [5]}),
            ),
        ),
        (
            "query --limit 5 --database other \"SELECT 1\"",
            (
                "query",
                json!({"database": "other", "sql": "SELECT 1", "limit": 5}),
            ),
        ),
        (
            "shop query {\"sql\": \"SELECT 1\"}",
            ("query", sql("SELECT 1")),
        ),
        (
            "shop describe -- --odd",
            (
                "describe-table",
                json!({"database": "shop", "table": "--odd"}),
            ),
        ),
    ];
    for (line, (name, arguments)) in cases {
        assert_eq!(
            read(&format!("/mcp-postgres {line}")),
            (name.to_owned(), arguments),
            "{line}"
        );
    }
    let catalog = catalog(&[]);
    for line in [
        "/mcp-postgres",
        "/mcp-postgres shop",
        "/mcp-postgres shop help",
    ] {
        assert!(
            matches!(catalog.parse_slash(line), Ok(Parsed::Help { .. })),
            "{line}"
        );
    }
    for line in [
        "/mcp-postgres list tables",
        "/mcp-postgres list tables --database nowhere",
        "/mcp-postgres nowhere list tables",
    ] {
        assert!(catalog.parse_slash(line).is_err(), "{line}");
    }
}

#[test]
fn an_array_is_the_statement_and_its_parameters() {
    let catalog = catalog(&[("SHOP_URL", Some("postgres://u@h/d".to_owned()))]);
    let read = |operation: &str, arguments: Value| match catalog
        .command("postgres", operation, arguments)
        .unwrap()
    {
        Parsed::Command(command) => Value::Object(command.arguments.values().clone()),
        Parsed::Help { .. } => panic!(),
    };
    // The only database that is configured is the one that is meant.
    let whole = json!({"database": "shop", "sql": "SELECT $1", "params": [[1, 2], "x"]});
    assert_eq!(read("query", json!(["SELECT $1", [1, 2], "x"])), whole);
    assert_eq!(
        read(
            "query",
            json!({"sql": "SELECT $1", "params": [[1, 2], "x"], "database": "shop-db"})
        ),
        whole
    );
    assert_eq!(
        read("describe-table", json!(["users"])),
        json!({"database": "shop", "table": "users"})
    );
    assert_eq!(read("list-tables", json!([])), json!({"database": "shop"}));
}

#[test]
fn mistakes_in_descriptions_are_named() {
    let cases = [
        (
            "url = \"OTHER_URL\"",
            "urll = \"OTHER_URL\"",
            "did you mean `url`?",
        ),
        (
            "url = \"OTHER_URL\"",
            "user = \"OTHER_USER\"",
            "needs `url`, or `host`, `database` and `user`",
        ),
        (
            "aliases = [\"shop-db\"]",
            "aliases = [\"other\"]",
            "two databases are called `other`",
        ),
        (
            "aliases = [\"shop-db\"]",
            "aliases = [\"a b\"]",
            "`a b` is not a database's name",
        ),
        (
            "max_rows = 100",
            "max_rows = 0",
            "`postgres.max_rows` is zero",
        ),
        (
            "max_rows = 100",
            "commands.qery = { risk = \"write\" }",
            "no command `qery`; did you mean `query`?",
        ),
        (
            "kind = \"postgres\"",
            "kind = \"postgres\"\ntimeout_ms = 5",
            "see `[postgres]`",
        ),
        (
            "kind = \"postgres\"",
            "kind = \"http\"",
            "`[postgres]` is of the kind",
        ),
    ];
    for (from, to, expected) in cases {
        let text = DESCRIPTION.replacen(from, to, 1);
        let error = Catalog::from_descriptions(&[("own.toml", &text)], &|_| None).expect_err(to);
        assert!(
            error.contains(expected) && error.starts_with("own.toml"),
            "{to}: {error}"
        );
    }
    let text = DESCRIPTION.replace("max_rows = 100", "max_rows = 100\ncommands.query = { risk = \"write\", zones = [\"billing\"], untrusted = false }");
    let catalog = Catalog::from_descriptions(&[("own.toml", &text)], &|_| None).unwrap();
    let service = catalog.service("postgres").unwrap();
    let query = service
        .commands
        .iter()
        .find(|command| command.name == "query")
        .unwrap();
    assert_eq!(
        (query.target.risk, query.target.zones.len()),
        (authz::Risk::Write, 1)
    );
    assert!(!catalog.is_untrusted(&query.target.key));
}
