//! The control plane when it is large; run by `benches/control-plane`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints figures, and ends where an answer is wrong"
)]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use cedargate_tests::{Layout, System, system::CONTROL_TOKEN};
use futures_util::StreamExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Column, Executor, Row};
use tokio::sync::mpsc;

/// Followers of the feed, and how many more never read.
const FOLLOWERS: usize = 1_000;
const SILENT: usize = 100;

/// Changes that they are told of.
const CHANGES: usize = 50;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let size = |name: &str, default| -> anyhow::Result<usize> {
        Ok(std::env::var(name).map_or(Ok(default), |text| text.parse())?)
    };
    let (agents, requests) = (
        size("BENCH_AGENTS", 100_000)?,
        size("BENCH_REQUESTS", 10_000)?,
    );
    let check = std::env::var_os("BENCH_CHECK").is_some();
    let mut report = Report::default();
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        let name = match layout {
            Layout::OneProcess => "one process, SQLite",
            Layout::TwoProcesses => "gateway and orchestrator apart, PostgreSQL",
        };
        println!("\n{name}: {agents} agents, {requests} pending requests");
        let system = System::start(layout).await?;
        let ids = fill(&system, agents, requests).await?;
        println!(
            "  {:<54} {:>10} {:>7} {:>10} {:>7} {:>9} {:>12}",
            "", "median", "of it", "99 %", "of it", "wanted", "CPU each"
        );
        inbox(&system, &mut report).await?;
        facts(&system, &ids, &mut report).await?;
        let wanted = if layout == Layout::OneProcess {
            50
        } else {
            250
        };
        approvals(&system, wanted, &mut report).await?;
        suspensions(&system, &mut report).await?;
        followers(&system, &mut report).await?;
    }
    println!("\nCPU is that of our own processes, not of PostgreSQL or of this program.");
    if report.missed.is_empty() {
        println!("Every median is within what is wanted.");
    } else {
        println!("Beyond what is wanted, at the median:");
        for missed in &report.missed {
            println!("  {missed}");
        }
        ensure!(!check, "{} of the figures miss", report.missed.len());
    }
    Ok(())
}

/// What was measured so far.
#[derive(Default)]
struct Report {
    /// What took longer than wanted, at the median.
    missed: Vec<String>,
}

impl Report {
    /// Prints one figure beside its limit, in milliseconds. `cpu` is that of all of them.
    fn add(&mut self, what: &str, mut times: Vec<Duration>, wanted: u32, cpu: Duration) {
        times.sort_unstable();
        let count = u32::try_from(times.len()).unwrap_or(u32::MAX).max(1);
        let at = |percent: usize| {
            let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
            times[place].as_secs_f64() * 1_000.0
        };
        let (median, most, limit) = (at(50), at(99), f64::from(wanted));
        let each = (cpu / count).as_secs_f64() * 1_000.0;
        let mark = if median < limit { "" } else { "  TOO SLOW" };
        println!(
            "  {what:<54} {median:>7.2} ms {:>6.0}% {most:>7.2} ms {:>6.0}% {wanted:>6} ms {each:>9.3} ms{mark}",
            100.0 * median / limit,
            100.0 * most / limit,
        );
        if median >= limit {
            self.missed.push(what.to_owned());
        }
    }
}

/// Copies one agent and one request, made through the API, as often as wanted, in the
/// database itself. Gives back ids of agents.
async fn fill(system: &System, agents: usize, requests: usize) -> anyhow::Result<Vec<String>> {
    let began = Instant::now();
    let agent = system.create_agent(json!({"name": "bench-first"})).await?;
    let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
    let request = refused.body["error"]["data"]["request_id"]
        .as_str()
        .with_context(|| format!("{refused:?}"))?
        .to_owned();

    let id = |n: usize| format!("01900000-0000-7000-8000-{n:012x}");
    let copies = |columns: [Vec<String>; 2]| {
        let [of_agents, of_approvals] = columns;
        let mut sql = Vec::with_capacity(agents + requests);
        for n in 0..agents {
            let new = |column: &str| match column {
                "id" => format!("'{}'", id(n)),
                "name" => format!("'bench-{n}'"),
                same => same.to_owned(),
            };
            sql.push(copy("agents", &agent, &of_agents, new));
        }
        for n in 0..requests {
            let of = id(n % agents);
            let new = |column: &str| match column {
                "id" => format!("'apr_{n:032x}'"),
                "agent" => format!("'{of}'"),
                "digest" => format!("'{n:064x}'"),
                "ask" => format!("replace(ask, '{agent}', '{of}')"),
                "opened" => format!("opened + {}", n + 1),
                same => same.to_owned(),
            };
            sql.push(copy("approvals", &request, &of_approvals, new));
        }
        sql
    };
    let url = system.database_url();
    if url.starts_with("sqlite") {
        execute(sqlx::SqlitePool::connect(&url).await?, copies).await?;
    } else {
        execute(sqlx::PgPool::connect(&url).await?, copies).await?;
    }
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "  filled in {:.1} s; load of the machine: {}",
        began.elapsed().as_secs_f64(),
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
    Ok((0..agents).map(id).collect())
}

/// A statement that copies the row `id` of `table`, with `new` values in its columns.
fn copy(table: &str, id: &str, columns: &[String], new: impl Fn(&str) -> String) -> String {
    let values: Vec<_> = columns.iter().map(|column| new(column)).collect();
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE id = '{id}'",
        columns.join(", "),
        values.join(", ")
    )
}

/// Executes what `statements` makes of the columns of agents and of approvals.
async fn execute<D>(
    pool: sqlx::Pool<D>,
    statements: impl FnOnce([Vec<String>; 2]) -> Vec<String>,
) -> anyhow::Result<()>
where
    D: sqlx::Database,
    for<'c> &'c mut D::Connection: Executor<'c, Database = D>,
{
    let mut connection = pool.acquire().await?;
    let mut columns = [const { Vec::new() }; 2];
    for (columns, sql) in columns.iter_mut().zip([
        "SELECT * FROM agents LIMIT 1",
        "SELECT * FROM approvals LIMIT 1",
    ]) {
        let row = (&mut *connection).fetch_one(sql).await?;
        let names = row.columns().iter().map(|one| one.name().to_owned());
        *columns = names.collect();
    }
    drop(connection);
    // It begins with a write: one that began with a read may find that others wrote meanwhile.
    let mut transaction = pool.begin().await?;
    for chunk in statements(columns).chunks(200) {
        let text = chunk.join(";\n");
        sqlx::raw_sql(AssertSqlSafe(text))
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    sqlx::raw_sql("ANALYZE").execute(&pool).await?;
    pool.close().await;
    Ok(())
}

/// Pages of the inbox, as JSON and as the page that people see.
async fn inbox(system: &System, report: &mut Report) -> anyhow::Result<()> {
    for (what, path) in [
        ("inbox, 50 requests, JSON", "/api/approvals?limit=50"),
        ("inbox, 200 requests, JSON", "/api/approvals?limit=200"),
        ("inbox, the page", "/approvals"),
        ("agents, 1,000 of them, JSON", "/api/agents?limit=1000"),
    ] {
        let (mut times, cpu) = (Vec::new(), system.cpu_time()?);
        for _ in 0..30 {
            let request = system
                .orchestrator(Method::GET, path)
                .bearer_auth(&system.admin);
            let began = Instant::now();
            let reply = system.send(request).await?;
            times.push(began.elapsed());
            ensure!(reply.status == StatusCode::OK, "{path}: {reply:?}");
        }
        report.add(what, times, 200, system.cpu_time()?.saturating_sub(cpu));
    }
    Ok(())
}

async fn facts(system: &System, agents: &[String], report: &mut Report) -> anyhow::Result<()> {
    let (mut times, cpu) = (Vec::new(), system.cpu_time()?);
    for n in 0..2_000 {
        // A large prime steps through all of them in no order.
        let agent = &agents[(n * 7_919) % agents.len()];
        let request = system
            .orchestrator(Method::GET, &format!("/api/gateway/facts/{agent}"))
            .bearer_auth(CONTROL_TOKEN);
        let began = Instant::now();
        let reply = system.send(request).await?;
        times.push(began.elapsed());
        ensure!(reply.body["agent"]["id"] == agent.as_str(), "{reply:?}");
    }
    let cpu = system.cpu_time()?.saturating_sub(cpu);
    report.add("facts of one agent, over HTTP", times, 2, cpu);
    Ok(())
}

/// From the moment that a person approves to the moment that the command was carried out.
async fn approvals(system: &System, wanted: u32, report: &mut Report) -> anyhow::Result<()> {
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    for n in 0..40 {
        let name = format!("asking-{n}");
        let agent = system.create_agent(json!({"name": name})).await?;
        let refused = system.execute(&agent, "/mcp-coolify servers list").await?;
        let request = refused.body["error"]["data"]["request_id"]
            .as_str()
            .with_context(|| format!("{refused:?}"))?;
        let (began, before) = (Instant::now(), system.cpu_time()?);
        let approved = system.respond(request, true).await?;
        ensure!(approved.status == StatusCode::OK, "{approved:?}");
        while system
            .execute(&agent, "/mcp-coolify servers list")
            .await?
            .status
            != StatusCode::OK
        {}
        times.push(began.elapsed());
        cpu += system.cpu_time()?.saturating_sub(before);
    }
    let what = "approval to the permitted retry, carried out";
    report.add(what, times, wanted, cpu);
    Ok(())
}

/// From the moment that a person suspends an agent to the moment that it is refused; with
/// PostgreSQL at a gateway of another orchestrator.
async fn suspensions(system: &System, report: &mut Report) -> anyhow::Result<()> {
    let second = match system.layout() {
        Layout::OneProcess => None,
        Layout::TwoProcesses => Some(system.second_pair().await?),
    };
    let gateway = second
        .as_ref()
        .map_or(&system.gateway_url, |pair| &pair.gateway_url);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let (mut times, mut cpu) = (Vec::new(), Duration::ZERO);
    for n in 0..20 {
        let agent = system
            .create_agent(json!({"name": format!("running-{n}"), "allowed_mcps": ["coolify"]}))
            .await?;
        let send = async || -> anyhow::Result<StatusCode> {
            let request = client
                .post(format!("{gateway}/execute"))
                .header("x-agent-id", &agent)
                .json(&json!({"command": "/mcp-coolify servers list"}));
            Ok(request.send().await?.status())
        };
        ensure!(send().await? == StatusCode::OK, "it may run");
        let (began, before) = (Instant::now(), system.cpu_time()?);
        let path = format!("/api/agents/{agent}/suspend");
        let stopped = system.admin(Method::POST, &path, json!({})).await?;
        ensure!(stopped.status == StatusCode::OK, "{stopped:?}");
        while send().await? == StatusCode::OK {}
        times.push(began.elapsed());
        cpu += system.cpu_time()?.saturating_sub(before);
    }
    let what = match second {
        None => "suspension to the first refusal",
        Some(_) => "suspension to the first refusal, at another orchestrator",
    };
    report.add(what, times, 1_000, cpu);
    Ok(())
}

/// Everyone is told of every change, whoever else does not read.
async fn followers(system: &System, report: &mut Report) -> anyhow::Result<()> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    let url = format!("{}/api/feed", system.orchestrator_url);
    let before = system.control_plane().resident_kib()?;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(client.get(&url).bearer_auth(CONTROL_TOKEN).send().await?);
    }
    let (told, mut tells) = mpsc::unbounded_channel();
    for _ in 0..FOLLOWERS {
        let response = client.get(&url).bearer_auth(CONTROL_TOKEN).send().await?;
        ensure!(response.status() == StatusCode::OK, "{response:?}");
        let told = told.clone();
        tokio::spawn(async move {
            let mut body = response.bytes_stream();
            let (mut text, mut seen, mut last) = (String::new(), 0, None);
            while let Some(Ok(part)) = body.next().await {
                text.push_str(&String::from_utf8_lossy(&part));
                while let Some(end) = text.find('\n') {
                    let line: String = text.drain(..=end).collect();
                    let Some(data) = line.strip_prefix("data: ") else {
                        continue;
                    };
                    let event: Value = serde_json::from_str(data).unwrap();
                    let sequence = event["sequence"].as_i64().unwrap();
                    assert!(
                        last.is_none_or(|last: i64| sequence == last + 1),
                        "one is missing"
                    );
                    last = Some(sequence);
                    seen += 1;
                    told.send((seen, Instant::now())).unwrap();
                }
            }
        });
    }
    let (mut times, cpu) = (Vec::new(), system.cpu_time()?);
    for n in 1..=CHANGES {
        let began = Instant::now();
        system
            .create_agent(json!({"name": format!("told-{n}")}))
            .await?;
        for _ in 0..FOLLOWERS {
            let (seen, at) = tokio::time::timeout(Duration::from_mins(1), tells.recv())
                .await
                .context("a follower was not told")?
                .context("the followers ended")?;
            ensure!(seen == n, "follower at {seen}, change {n}");
            times.push(at - began);
        }
    }
    let cpu = system.cpu_time()?.saturating_sub(cpu);
    let what = format!("a change told to {FOLLOWERS} followers");
    report.add(&what, times, 1_000, cpu);
    let after = system.control_plane().resident_kib()?;
    println!(
        "  {} followers, {SILENT} of whom never read: {} KiB of memory each",
        FOLLOWERS + SILENT,
        after.saturating_sub(before) / (FOLLOWERS + SILENT) as u64
    );
    drop(silent);
    Ok(())
}
