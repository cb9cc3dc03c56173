//! The control plane's database is locked, full or gone, and comes back: meanwhile the
//! answer is a 503 that says why; then everything goes on by itself, and nothing is lost.

use anyhow::Context;
use cedargate_tests::{Layout, Reply, System, postgres::Postgres, soon};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, SqliteConnection};

/// Requests are short-lived, so that one expires while the database is away.
const BRIEF: (&str, &str) = ("CEDARGATE_APPROVAL_LIFETIME_SECONDS", "8");

/// The gateway does not wait until the orchestrator gives up.
const HURRIED: (&str, &str) = ("CEDARGATE_ORCHESTRATOR_TIMEOUT_MS", "3000");

/// That an answer says what is wrong, and when to come back.
fn says(reply: &Reply, why: &str) {
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    let detail = reply.body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(why), "{reply:?}");
    assert!(reply.headers.contains_key("retry-after"), "{reply:?}");
}

/// Asks for what needs an approval; gives back the request's id.
async fn ask(system: &System, agent: &str) -> anyhow::Result<String> {
    soon("the request is opened", async {
        loop {
            let refused = system.execute(agent, "/mcp-coolify servers list").await?;
            if let Some(id) = refused.body["error"]["data"]["request_id"].as_str() {
                return anyhow::Ok(id.to_owned());
            }
        }
    })
    .await?
}

/// That people, agents, the sweeper and the feed go on: a request that expired meanwhile is
/// marked, another is opened and approved, its agent goes through, and who watches is told.
async fn goes_on(system: &System, agent: &str, expired: &str, mark: usize) -> anyhow::Result<()> {
    let log = system.control_plane();
    log.line_after(mark, &["approval_expired", expired]).await?;
    let mut socket = system.socket("").await?;
    let id = ask(system, agent).await?;
    let approved = system.respond(&id, true).await?;
    assert_eq!(approved.status, StatusCode::OK, "{approved:?}");
    soon("the approval is in force", async {
        while system
            .execute(agent, "/mcp-coolify servers list")
            .await?
            .status
            != StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    loop {
        let event = socket.event("mcp_permission_response").await?;
        if event["request_id"] == id.as_str() {
            return Ok(());
        }
    }
}

/// That the trail has no gap, and every command that was carried out, once.
async fn nothing_is_lost(system: &System) -> anyhow::Result<()> {
    let served = usize::try_from(system.coolify.count())?;
    soon("every call arrives in the trail", async {
        loop {
            let trail = trail(system).await?;
            let outcomes = trail
                .iter()
                .filter(|entry| entry["kind"] == "outcome")
                .count();
            if outcomes >= served {
                assert_eq!(outcomes, served, "each once");
                let ids: Vec<i64> = trail
                    .iter()
                    .filter_map(|entry| entry["id"].as_i64())
                    .collect();
                let whole: Vec<i64> = (1..).take(trail.len()).collect();
                assert_eq!(ids, whole, "no gap");
                return anyhow::Ok(());
            }
        }
    })
    .await?
}

/// The whole trail, oldest first.
async fn trail(system: &System) -> anyhow::Result<Vec<Value>> {
    let (mut entries, mut after) = (Vec::new(), 0);
    loop {
        let page = system
            .admin_get(&format!("/api/audit?after={after}&limit=1000"))
            .await?;
        let page = page.body.as_array().context("entries")?.clone();
        let Some(last) = page.last() else {
            return Ok(entries);
        };
        after = last["id"].as_i64().context("a place")?;
        entries.extend(page);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_locked() -> anyhow::Result<()> {
    let system = System::start_with(Layout::OneProcess, &[BRIEF, HURRIED]).await?;
    let worker = system
        .create_agent(json!({"name": "working", "allowed_mcps": ["coolify"]}))
        .await?;
    let agent = system.create_agent(json!({"name": "asking"})).await?;
    let pending = ask(&system, &agent).await?;
    let mark = system.control_plane().mark();

    let mut stranger = SqliteConnection::connect(&system.database_url()).await?;
    stranger.execute("BEGIN IMMEDIATE").await?;
    let (approved, answered, listed) = tokio::join!(
        system.respond(&pending, true),
        system.execute(&worker, "/mcp-coolify servers list"),
        system.admin_get("/api/approvals"),
    );
    says(&approved?, "locked by somebody else");
    assert_eq!(
        answered?.status,
        StatusCode::OK,
        "what is permitted goes on"
    );
    assert_eq!(listed?.status, StatusCode::OK, "reading goes on");
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let data = &refused.body["error"]["data"];
    assert_eq!(data["request_id"], Value::Null, "{refused:?}");
    assert_eq!(data["retryable"], true, "{refused:?}");
    stranger.execute("ROLLBACK").await?;
    stranger.close().await?;

    goes_on(&system, &agent, &pending, mark).await?;
    nothing_is_lost(&system).await
}

/// SQLite ends the transaction by itself when the disk is full; the next one begins all the
/// same when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_full() -> anyhow::Result<()> {
    let disk = tempfile::tempdir()?;
    let unmount = super::killed::mount(disk.path(), "16m").await?;
    let database = format!("sqlite://{}", disk.path().join("control.db").display());
    let system =
        System::start_with(Layout::OneProcess, &[BRIEF, ("DATABASE_URL", &database)]).await?;
    let agent = system.create_agent(json!({"name": "asking"})).await?;
    let pending = ask(&system, &agent).await?;
    let mark = system.control_plane().mark();

    let ballast = disk.path().join("ballast");
    let mut file = std::fs::File::create(&ballast)?;
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let mut kept = 0;
    let refused = soon("the disk is full", async {
        loop {
            let name = json!({"name": format!("agent-{kept}")});
            let reply = system.admin(Method::POST, "/api/agents", name).await?;
            if !reply.status.is_success() {
                return anyhow::Ok(reply);
            }
            kept += 1;
        }
    })
    .await??;
    says(&refused, "no room left");
    let agents = system.admin_get("/api/agents?limit=1000").await?;
    let named = |prefix: &str| {
        let agents = agents.body.as_array().into_iter().flatten();
        let name = |agent: &&Value| {
            agent["name"]
                .as_str()
                .is_some_and(|n| n.starts_with(prefix))
        };
        agents.filter(name).count()
    };
    assert_eq!(named("agent-"), kept, "what was confirmed, and no more");

    drop(file);
    std::fs::remove_file(&ballast)?;
    goes_on(&system, &agent, &pending, mark).await?;
    nothing_is_lost(&system).await?;
    drop(system);
    drop(unmount);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_gone() -> anyhow::Result<()> {
    let server = Postgres::start().await?;
    let database = server.url();
    let system = System::start_with(
        Layout::TwoProcesses,
        &[
            BRIEF,
            HURRIED,
            ("DATABASE_URL", &database),
            ("CEDARGATE_MAX_STALENESS_MS", "300"),
        ],
    )
    .await?;
    let worker = system
        .create_agent(json!({"name": "working", "allowed_mcps": ["coolify"]}))
        .await?;
    let agent = system.create_agent(json!({"name": "asking"})).await?;
    let pending = ask(&system, &agent).await?;
    let mark = system.control_plane().mark();

    // It goes in the middle of writes, some of which are confirmed by then.
    let (tell, mut confirmed) = tokio::sync::mpsc::unbounded_channel();
    let writing = (0..200).map(|n| {
        let (name, tell) = (format!("agent-{n}"), tell.clone());
        let system = &system;
        async move {
            let reply = system
                .admin(Method::POST, "/api/agents", json!({"name": name}))
                .await?;
            if reply.status.is_success() {
                tell.send(name)?;
            } else {
                // Whatever it was doing when the server went: a 503, and never a 500.
                says(&reply, "");
            }
            anyhow::Ok(())
        }
    });
    let going = async {
        let mut names = Vec::new();
        for _ in 0..10 {
            names.push(confirmed.recv().await.context("ten are confirmed")?);
        }
        server.crash().await?;
        anyhow::Ok(names)
    };
    let (written, names) = tokio::join!(futures_util::future::join_all(writing), going);
    for one in written {
        one?;
    }
    let mut names = names?;
    while let Ok(name) = confirmed.try_recv() {
        names.push(name);
    }
    assert!(names.len() < 200, "it went in the middle");

    let away = system
        .admin(Method::POST, "/api/agents", json!({"name": "late"}))
        .await?;
    says(&away, "does not answer");
    let ready = system
        .send(system.orchestrator(Method::GET, "/ready"))
        .await?;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE, "{ready:?}");
    let refused = system.execute(&worker, "/mcp-coolify servers list").await?;
    assert_eq!(
        refused.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{refused:?}"
    );

    server.start_again().await?;
    soon("the gateway goes on", async {
        while system
            .execute(&worker, "/mcp-coolify servers list")
            .await?
            .status
            != StatusCode::OK
        {}
        anyhow::Ok(())
    })
    .await??;
    let agents = system.admin_get("/api/agents?limit=1000").await?;
    let stored: Vec<&str> = agents
        .body
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|agent| agent["name"].as_str())
        .collect();
    for name in &names {
        assert!(stored.contains(&name.as_str()), "{name} was confirmed");
    }
    goes_on(&system, &agent, &pending, mark).await?;
    nothing_is_lost(&system).await
}
