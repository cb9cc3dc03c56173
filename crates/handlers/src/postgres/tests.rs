//! Against a real PostgreSQL. Every test has a database and roles of its own; the roles are
//! made by the SQL that the documentation shows.
#![allow(clippy::too_many_lines, reason = "cases are data")]

mod bypasses;
mod limits;
mod lines;
mod operations;
mod roles;
mod values;
mod writes;

use std::sync::atomic::{AtomicU32, Ordering};

use authz::Command;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

use crate::{Catalog, HandlerError, Parsed, catalog::Condition};

/// Where `tests/run` started the throw-away server.
const SERVER: &str = "CEDARGATE_TEST_POSTGRES";

/// Of the role that reads, and in no answer.
const PASSWORD: &str = "p4ssw0rd-that-shows-up-nowhere";

const DESCRIPTION: &str = r#"
name = "postgres"
aliases = ["postgresql"]
version = "1"
kind = "postgres"
description = "For tests."
max_result_bytes = 60000

[postgres]
statement_timeout_ms = 4000
lock_timeout_ms = 300
connect_timeout_ms = 4000
max_rows = 100
max_connections = 2

[postgres.databases.shop]
aliases = ["shop-db"]
url = "SHOP_URL"
password = "SHOP_PASSWORD"
write_url = "SHOP_WRITE_URL"

[postgres.databases.other]
url = "OTHER_URL"
"#;

const TABLES: &str = r#"
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name varchar(50) NOT NULL UNIQUE,
    balance numeric(12, 2) DEFAULT 0 CHECK (balance >= 0),
    created_at timestamptz NOT NULL DEFAULT '2025-11-06T10:30:00Z'
);
CREATE TABLE orders (id int PRIMARY KEY, user_id bigint REFERENCES users (id) DEFERRABLE INITIALLY DEFERRED);
CREATE VIEW rich AS SELECT * FROM users WHERE balance > 100;
CREATE TABLE "We""ird.Table" (a int);
CREATE SCHEMA hidden;
CREATE TABLE hidden.secrets (what text);
CREATE SEQUENCE ticket;
CREATE FUNCTION sneak() RETURNS int LANGUAGE plpgsql AS
    'BEGIN INSERT INTO public.users (name) VALUES (''sneaked''); RETURN 1; END';
CREATE FUNCTION lift() RETURNS text LANGUAGE plpgsql AS
    'BEGIN SET TRANSACTION READ WRITE; INSERT INTO public.users (name) VALUES (''lifted''); RETURN ''lifted''; END';
CREATE FUNCTION turned() RETURNS int LANGUAGE plpgsql AS
    'BEGIN PERFORM set_config(''transaction_read_only'', ''off'', false);
     INSERT INTO public.users (name) VALUES (''turned''); RETURN 1; END';
CREATE PROCEDURE committed() LANGUAGE plpgsql AS
    'BEGIN COMMIT; INSERT INTO public.users (name) VALUES (''committed''); COMMIT; END';
INSERT INTO users (name, balance) VALUES ('Ada', 120.5), ('Bob', 3);
INSERT INTO orders VALUES (1, 1);
"#;

/// A database with things in it, and a catalog that reaches it.
struct World {
    admin: PgConnection,
    database: String,
    catalog: Catalog,
}

impl World {
    /// As the documentation says how to do it.
    async fn new() -> Self {
        let mut world = Self::bare().await;
        let (reader, writer) = (world.role("reader"), world.role("writer"));
        let documented = documented_sql()
            .replace("cedargate_reader", &reader)
            .replace("cedargate_writer", &writer)
            .replace("choose-a-password", PASSWORD)
            .replace("shop_owner", "CURRENT_USER")
            .replace("DATABASE shop", &format!("DATABASE {}", world.database));
        world.run(&documented).await;
        // They are there for the READ ONLY transaction to be tried, not the role.
        world
            .run(&format!(
                "GRANT INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO {reader};
                 GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {reader};
                 GRANT CREATE, TEMPORARY ON DATABASE {} TO {reader}; GRANT CREATE ON SCHEMA public TO {reader}",
                world.database
            ))
            .await;
        world.catalog = world.catalog_as(&reader, Some(&writer));
        world
    }

    /// A database with tables, and no role to reach it yet.
    async fn bare() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let database = format!("handlers_{}_{number}", std::process::id());
        let server = server();
        let mut connection = PgConnection::connect(&server).await.unwrap();
        let create = format!("CREATE DATABASE {database}");
        connection.execute(AssertSqlSafe(create)).await.unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let mut admin = PgConnection::connect(&format!("{base}/{database}"))
            .await
            .unwrap();
        sqlx::raw_sql(TABLES).execute(&mut admin).await.unwrap();
        Self {
            admin,
            database,
            catalog: Catalog::from_descriptions(&[], &|_| None).unwrap(),
        }
    }

    /// A role's name, unlike those of other tests: roles are everybody's.
    fn role(&self, name: &str) -> String {
        format!("{name}_{}", self.database)
    }

    fn url(&self, role: &str, password: &str) -> String {
        let server = server();
        let (_, rest) = server.split_once("://").unwrap();
        let (authority, _) = rest.rsplit_once('/').unwrap();
        let host = authority
            .rsplit_once('@')
            .map_or(authority, |(_, host)| host);
        format!("postgres://{role}:{password}@{host}/{}", self.database)
    }

    fn catalog_as(&self, reader: &str, writer: Option<&str>) -> Catalog {
        let reader = self.url(reader, PASSWORD);
        let writer = writer.map(|writer| self.url(writer, PASSWORD));
        catalog(&[("SHOP_URL", Some(reader)), ("SHOP_WRITE_URL", writer)])
    }

    async fn run(&mut self, sql: &str) {
        let script = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        if let Err(error) = script.execute(&mut self.admin).await {
            panic!("{error}: {sql}");
        }
    }

    /// One text that the admin sees.
    async fn see(&mut self, sql: &str) -> String {
        let row = sqlx::query(AssertSqlSafe(format!("SELECT ({sql})::text")))
            .persistent(false)
            .fetch_one(&mut self.admin)
            .await
            .unwrap_or_else(|error| panic!("{error}: {sql}"));
        row.get::<Option<String>, _>(0).unwrap_or_default()
    }

    /// Waits until the admin sees this: the server's clock, not ours.
    async fn until(&mut self, sql: &str, expected: &str) {
        for _ in 0..400 {
            if self.see(sql).await == expected {
                return;
            }
            self.run("SELECT pg_sleep(0.05)").await;
        }
        panic!("never {expected}: {sql}");
    }

    async fn ask(&self, line: &str) -> Result<Value, HandlerError> {
        let command = command(&self.catalog, line);
        self.catalog
            .carry_out(&command)
            .await
            .map(|answer| answer.data)
    }

    async fn query(&self, sql: &str, params: Value) -> Result<Value, HandlerError> {
        let arguments = json!({"database": "shop", "sql": sql, "params": params});
        let Parsed::Command(command) = self
            .catalog
            .command("postgres", "query", arguments)
            .unwrap()
        else {
            panic!("{sql}")
        };
        self.catalog
            .carry_out(&command)
            .await
            .map(|answer| answer.data)
    }

    async fn execute(&self, sql: &str, params: Value) -> Result<Value, HandlerError> {
        let arguments = json!({"database": "shop", "sql": sql, "params": params});
        let parsed = self
            .catalog
            .command("postgres", "execute", arguments)
            .unwrap();
        let Parsed::Command(command) = parsed else {
            panic!("{sql}")
        };
        self.catalog
            .carry_out(&command)
            .await
            .map(|answer| answer.data)
    }

    /// The only value of the only row.
    async fn value(&self, sql: &str) -> Value {
        let data = self.query(sql, json!([])).await;
        let data = data.unwrap_or_else(|error| panic!("{sql}: {error}"));
        let row = data["rows"][0].as_object().unwrap();
        row.values().next().unwrap().clone()
    }

    async fn end(mut self) {
        let (reader, writer) = (self.role("reader"), self.role("writer"));
        drop(self.catalog);
        let mut server = PgConnection::connect(&server()).await.unwrap();
        for sql in [
            format!("DROP DATABASE {} WITH (FORCE)", self.database),
            format!("DROP ROLE IF EXISTS {reader}, {writer}"),
        ] {
            server.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        self.database.clear();
    }
}

/// Never skipped silently: without a server these tests fail, and say what to do.
fn server() -> String {
    std::env::var(SERVER).unwrap_or_else(|_| {
        panic!("{SERVER} is not set: `tests/run` starts a throw-away server and sets it")
    })
}

/// How the one service of a catalog is.
fn condition(catalog: &Catalog) -> Condition {
    catalog.conditions().next().unwrap().1
}

fn catalog(variables: &[(&str, Option<String>)]) -> Catalog {
    let variable = |wanted: &str| {
        let found = variables.iter().find(|(name, _)| *name == wanted);
        found.and_then(|(_, value)| value.clone())
    };
    Catalog::from_descriptions(&[("postgres.toml", DESCRIPTION)], &variable).unwrap()
}

fn command(catalog: &Catalog, line: &str) -> Command {
    match catalog.parse_slash(line) {
        Ok(Parsed::Command(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

/// What `docs/postgres.md` shows, as one script.
fn documented_sql() -> String {
    let text = include_str!("../../../../docs/postgres.md");
    let blocks = text.split("```sql\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    blocks.collect::<Vec<_>>().join("\n")
}

fn rejected(error: &HandlerError) -> (u16, &str) {
    match error {
        HandlerError::Rejected {
            status, message, ..
        } => (*status, message),
        other => panic!("{other:?}"),
    }
}
