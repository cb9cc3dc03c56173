//! Databases through the gateway: reads that policy permits, writes that people allow, a
//! password that is changed, a server that goes and comes back, an agent that hangs up.

use std::time::Duration;

use anyhow::Context;
use cedargate_tests::{Layout, System, postgres::Postgres};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _};

const TABLES: &str = "
    CREATE TABLE users (id int PRIMARY KEY, name text);
    INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob');
    CREATE TABLE audit (what text)";

/// A server on which passwords are asked for, with a database and both roles.
struct Shop {
    server: Postgres,
    admin: PgConnection,
}

impl Shop {
    async fn open() -> anyhow::Result<Self> {
        let server = Postgres::start_with_passwords("the-admins-own").await?;
        let mut admin = PgConnection::connect(&server.url()).await?;
        admin.execute(TABLES).await?;
        admin
            .execute(
                "CREATE ROLE reader LOGIN PASSWORD 'first-one'; CREATE ROLE writer LOGIN PASSWORD 'writers-own';
                 GRANT SELECT ON users TO reader, writer; GRANT INSERT, UPDATE, DELETE ON users TO writer",
            )
            .await?;
        Ok(Self { server, admin })
    }

    async fn see(&mut self, sql: &str) -> anyhow::Result<String> {
        let sql = format!("SELECT ({sql})::text");
        Ok(self.admin.fetch_one(AssertSqlSafe(sql)).await?.try_get(0)?)
    }
}

fn failed(reply: &cedargate_tests::system::Reply) -> (u16, i64) {
    let code = reply.body["error"]["code"].as_i64().unwrap_or_default();
    (reply.status.as_u16(), code)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::too_many_lines, reason = "one story, in its order")]
async fn databases_are_read_and_what_changes_them_is_asked_for() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let folder = tempfile::tempdir()?;
    let password = folder.path().join("password");
    std::fs::write(&password, "first-one\n")?;
    let port = shop.server.port();
    let system = System::start_with(
        Layout::OneProcess,
        &[
            (
                "POSTGRES_KA_URL",
                &format!("postgres://reader@127.0.0.1:{port}/postgres"),
            ),
            ("POSTGRES_KA_PASSWORD_FILE", &password.display().to_string()),
            (
                "POSTGRES_KA_WRITE_URL",
                &format!("postgres://writer:writers-own@127.0.0.1:{port}/postgres"),
            ),
        ],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "clerk", "allowed_mcps": ["postgres"]}))
        .await?;

    let reply = system
        .execute(&agent, "/mcp-postgres ka-db list tables")
        .await?;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    let result = &reply.body["result"];
    assert_eq!(result["data"]["tableCount"], 2);
    assert_eq!(result["metadata"]["database"], "kids-ascension");
    assert_eq!(result["metadata"]["service"], "postgres");
    assert!(result["metadata"].get("untrusted").is_none());
    let reply = system
        .execute(
            &agent,
            "/mcp-postgresql ka-db SELECT name FROM users WHERE name <> 'Bob'",
        )
        .await?;
    let result = &reply.body["result"];
    assert_eq!(
        result["data"]["rows"],
        json!([{"name": "Ada"}]),
        "{reply:?}"
    );
    assert_eq!(
        result["metadata"]["untrusted"], true,
        "anybody may have written it"
    );

    // As clients of the system before call it.
    let rpc = |params: Value| {
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "mcp.execute", "params": params});
        let request = system.gateway(Method::POST, "/mcp/rpc");
        system.send(request.header("X-Agent-Id", &agent).json(&body))
    };
    let reply = rpc(
        json!({"service": "postgres", "operation": "query", "database": "kids-ascension-db",
        "args": ["SELECT id FROM users WHERE name = $1", "Bob"]}),
    )
    .await?;
    assert_eq!(
        reply.body["result"]["data"]["rows"],
        json!([{"id": 2}]),
        "{reply:?}"
    );
    let twice = rpc(
        json!({"service": "postgres", "operation": "test", "database": "kids-ascension",
        "args": {"database": "kids-ascension"}}),
    )
    .await?;
    assert_eq!(failed(&twice).0, 400, "{twice:?}");

    for (line, status, code) in [
        (
            "/mcp-postgres ka-db query \"SELECT nme FROM users\"",
            400,
            -32009,
        ),
        (
            "/mcp-postgres ka-db query \"SELECT * FROM audit\"",
            400,
            -32009,
        ),
        (
            "/mcp-postgres ka-db query \"DELETE FROM users\"",
            400,
            -32009,
        ),
        ("/mcp-postgres ka-db describe nobody", 404, -32007),
        ("/mcp-postgres ol-db test", 503, -32001),
        ("/mcp-postgres nowhere test", 404, -32002),
    ] {
        let reply = system.execute(&agent, line).await?;
        assert_eq!(failed(&reply), (status, code), "{line}: {reply:?}");
    }

    // What changes things is for two people.
    let line = "/mcp-postgres ka-db execute \"DELETE FROM users WHERE id = $1\" [2]";
    let refused = system.execute(&agent, line).await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let data = &refused.body["error"]["data"];
    assert_eq!(data["approval"]["approvals_needed"], 2, "{data}");
    assert_eq!(shop.see("SELECT count(*) FROM users").await?, "2");
    let id = data["request_id"].as_str().context("a request id")?;
    let dan = system.create_user("dan", &["approver"]).await?;
    system.enrol(&system.admin).await?;
    system.enrol(&dan).await?;
    assert_eq!(system.respond(id, true).await?.status, StatusCode::OK);
    let path = format!("/api/approvals/{id}/approve");
    let second = system.orchestrator(Method::POST, &path).bearer_auth(&dan);
    let second = system.send(second.json(&json!({}))).await?;
    assert_eq!(second.status, StatusCode::OK, "{second:?}");
    let other = "/mcp-postgres ka-db execute \"DELETE FROM users WHERE id = $1\" [1]";
    assert_eq!(
        system.execute(&agent, other).await?.status,
        StatusCode::FORBIDDEN,
        "not what was approved"
    );
    let done = system.execute(&agent, line).await?;
    assert_eq!(done.body["result"]["data"]["affectedRows"], 1, "{done:?}");
    assert_eq!(
        shop.see("SELECT string_agg(name, ',') FROM users").await?,
        "Ada"
    );

    // The password is changed, there first, then here.
    shop.admin
        .execute("ALTER ROLE reader PASSWORD 'second-one'")
        .await?;
    shop.admin
        .execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'reader'",
        )
        .await?;
    let reply = system.execute(&agent, "/mcp-postgres ka-db test").await?;
    assert_eq!(failed(&reply), (502, -32001), "{reply:?}");
    let mark = system.gateway.mark();
    std::fs::write(&password, "second-one\n")?;
    system
        .gateway
        .line_after(mark, &["configured anew"])
        .await?;
    let reply = system.execute(&agent, "/mcp-postgres ka-db test").await?;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");

    // The server goes, and comes back.
    shop.server.crash().await?;
    let reply = system.execute(&agent, "/mcp-postgres ka-db test").await?;
    assert_eq!(failed(&reply), (503, -32001), "{reply:?}");
    shop.server.start_again().await?;
    let reply = system.execute(&agent, "/mcp-postgres ka-db test").await?;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");

    let log = system.gateway.log();
    let journal: Vec<String> = std::fs::read_dir(system.journal())?
        .filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok())
        .collect();
    for secret in ["first-one", "second-one", "writers-own"] {
        assert!(
            !log.contains(secret) && !journal.concat().contains(secret),
            "{secret}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_ends_its_statement() -> anyhow::Result<()> {
    let mut shop = Shop::open().await?;
    let url = format!(
        "postgres://reader:first-one@127.0.0.1:{}/postgres",
        shop.server.port()
    );
    let system = System::start_with(Layout::OneProcess, &[("POSTGRES_URL", &url)]).await?;
    let agent = system
        .create_agent(json!({"name": "hasty", "allowed_mcps": ["postgres"]}))
        .await?;
    let running = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'reader' AND state = 'active' AND query LIKE '%pg_sleep%'";
    let mark = system.gateway.mark();
    let asked = system.execute(&agent, "/mcp-postgres query \"SELECT pg_sleep(9)\"");
    let seen = async {
        while shop.see(running).await? != "1" {}
        anyhow::Ok(())
    };
    tokio::select! {
        reply = asked => anyhow::bail!("{:?}", reply?),
        seen = seen => seen?,
    }
    let left = std::time::Instant::now();
    while shop.see(running).await? != "0" {}
    assert!(
        left.elapsed() < Duration::from_secs(6),
        "{:?}",
        left.elapsed()
    );
    system.gateway.line_after(mark, &["called off"]).await?;
    let reply = system
        .execute(&agent, "/mcp-postgres query \"SELECT 1 AS one\"")
        .await?;
    assert_eq!(
        reply.body["result"]["data"]["rows"],
        json!([{"one": 1}]),
        "{reply:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_superuser_is_no_role_for_agents() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let system =
        System::start_with(Layout::OneProcess, &[("POSTGRES_URL", &shop.server.url())]).await?;
    let line = system.gateway.line(&["a database cannot be used"]).await?;
    assert!(
        line.contains("superuser") && !line.contains("the-admins-own"),
        "{line}"
    );
    let agent = system
        .create_agent(json!({"name": "mighty", "allowed_mcps": ["postgres"]}))
        .await?;
    let reply = system
        .execute(&agent, "/mcp-postgres query \"SELECT 1\"")
        .await?;
    assert_eq!(failed(&reply), (503, -32001), "{reply:?}");
    let message = reply.body["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("it is a superuser"), "{message}");
    Ok(())
}
