//! What MCP costs on its way through the gateway; run by `benches/mcp`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints figures, and ends where an answer is wrong"
)]

use std::{
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use bytes::Bytes;
use cedargate_tests::{
    Layout,
    mcp::{Policies, World},
};
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Clients at a time.
const CONNECTIONS: usize = 16;

/// How many tools the server has.
const TOOLS: usize = 500;

/// Streams that stay open.
const STREAMS: usize = 1_000;

/// How long the answer to a call of `flood` is, in MiB.
const FLOOD_MIB: f64 = 64.0;

/// Every tenth tool is not to be seen.
const RULES: &str = r#"
@id("bench.destroyers-are-not-seen")
forbid (principal is Agent, action == Action::"list", resource is Command)
when { resource.risk >= 2 };
"#;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let seconds = std::env::var("BENCH_SECONDS").map_or(Ok(4), |text| text.parse())?;
    let rounds: usize = std::env::var("BENCH_ROUNDS").map_or(Ok(3), |text| text.parse())?;
    let check = std::env::var_os("BENCH_CHECK").is_some();
    let upstream_address = free_address()?;
    let upstream = Helper::start(
        env!("CARGO_BIN_EXE_bench-mcp-upstream"),
        &[&upstream_address, &TOOLS.to_string()],
    )?;
    let proxy_address = free_address()?;
    let proxy = Helper::start(
        env!("CARGO_BIN_EXE_bench-proxy"),
        &[&proxy_address, &upstream_address],
    )?;
    reachable(&upstream_address).await?;
    reachable(&proxy_address).await?;

    let folder = tempfile::tempdir()?;
    let database = format!("sqlite://{}", folder.path().join("bench.db").display());
    let world = World::start_in(
        Layout::TwoProcesses,
        &[(
            "bench",
            format!("url = \"http://{upstream_address}/mcp\"\nrisk = \"read\""),
        )],
        Policies::Ours(RULES),
        &[("DATABASE_URL", &database), ("LOG_LEVEL", "info")],
    )
    .await?;
    world.review("bench").await?;
    let gateway = world.system.gateway.id().context("the gateway runs")?;
    let address = world.system.gateway_url.trim_start_matches("http://");

    let through_proxy = Target {
        name: "bare proxy",
        address: proxy_address.clone(),
        path: "/mcp",
        token: None,
        process: proxy.0.id(),
    };
    let through_gateway = Target {
        name: "Cedargate",
        address: address.to_owned(),
        path: "/mcp/bench",
        token: Some(world.token.clone()),
        process: gateway,
    };
    let targets = [&through_proxy, &through_gateway];
    let length = Duration::from_secs(seconds);
    let mut report = Report::default();
    println!(
        "{TOOLS} tools, {CONNECTIONS} clients, {rounds} rounds of {seconds} s; CPU time of the process that forwards"
    );

    let call = Message::call("echo", &json!({"text": "hello"}));
    let [bare, ours] = compare(&targets, &call, length, rounds).await?;
    report.ratio("CPU of a tools/call, of the bare proxy's", ours, bare, 1.3);

    let list = Message::new("tools/list", json!({}), None);
    let seen = one(&through_gateway, &list).await?;
    let tools = seen["result"]["tools"].as_array().context("a list")?.len();
    let hidden = TOOLS / 10 - 1;
    ensure!(tools == TOOLS - hidden, "{tools} tools are seen");
    let [bare, ours] = compare(&targets, &list, length, rounds).await?;
    report.extra("CPU of filtering a tools/list", ours, bare, 500.0);

    let flood = Message::call("flood", &json!({}));
    let [bare, ours] = compare(&targets, &flood, length, rounds).await?;
    println!(
        "  {:<44} {:>9.1} µs {:>9.1} µs",
        "(the same for each MiB)",
        bare / FLOOD_MIB,
        ours / FLOOD_MIB
    );
    report.ratio(
        "CPU of a streamed body, of the bare proxy's",
        ours,
        bare,
        1.3,
    );

    let each = streams(&through_gateway).await?;
    report.most("memory of an open stream, in KiB", each / 1024.0, 64.0);

    drop((upstream, proxy));
    if report.missed.is_empty() {
        println!("Every figure is within what is wanted.");
    } else {
        println!("Beyond what is wanted: {}.", report.missed.join("; "));
        ensure!(!check, "{} of the figures miss", report.missed.len());
    }
    Ok(())
}

/// A program of ours that ends with this one.
struct Helper(Child);

impl Helper {
    fn start(program: &str, arguments: &[&str]) -> anyhow::Result<Self> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self(child))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> anyhow::Result<String> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(listener.local_addr()?.to_string())
}

async fn reachable(address: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    while TcpStream::connect(address).await.is_err() {
        ensure!(
            began.elapsed() < Duration::from_secs(30),
            "nothing listens on {address}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// What forwards.
struct Target {
    name: &'static str,
    address: String,
    path: &'static str,
    token: Option<String>,
    process: u32,
}

/// What is sent, time after time.
struct Message {
    method: &'static str,
    name: Option<&'static str>,
    body: Bytes,
}

impl Message {
    fn new(method: &'static str, mut params: Value, name: Option<&'static str>) -> Self {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
        });
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        Self {
            method,
            name,
            body: body.to_string().into(),
        }
    }

    fn call(tool: &'static str, arguments: &Value) -> Self {
        let params = json!({"name": tool, "arguments": arguments});
        Self::new("tools/call", params, Some(tool))
    }

    fn to(&self, target: &Target) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::post(target.path)
            .header(header::HOST, &target.address)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", "2026-07-28")
            .header("mcp-method", self.method);
        if let Some(name) = self.name {
            request = request.header("mcp-name", name);
        }
        if let Some(token) = &target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        Ok(request.body(Full::new(self.body.clone()))?)
    }
}

/// A connection of its own.
async fn connect(target: &Target) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(&target.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    target: &Target,
    message: &Message,
) -> anyhow::Result<Response<Incoming>> {
    sender.ready().await?;
    let response = sender.send_request(message.to(target)?).await?;
    ensure!(
        response.status() == StatusCode::OK,
        "{} answered {}",
        target.name,
        response.status()
    );
    Ok(response)
}

/// One answer, read.
async fn one(target: &Target, message: &Message) -> anyhow::Result<Value> {
    let mut sender = connect(target).await?;
    let response = send(&mut sender, target, message).await?;
    let body = response.into_body().collect().await?.to_bytes();
    let answer: Value = serde_json::from_slice(&body)?;
    ensure!(
        answer["result"].is_object() && answer["result"]["isError"] != true,
        "{answer}"
    );
    Ok(answer)
}

/// As many as there is time for; how many that were.
async fn load(target: &Target, message: &Message, length: Duration) -> anyhow::Result<u32> {
    let until = Instant::now() + length;
    let clients = (0..CONNECTIONS).map(|_| async {
        let mut sender = connect(target).await?;
        let mut count = 0_u32;
        while Instant::now() < until {
            let mut body = send(&mut sender, target, message).await?.into_body();
            let mut last = Bytes::new();
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    last = data;
                }
            }
            // What is refused or broken costs something else.
            let refused = last.windows(9).any(|part| part == b"\"isError\"");
            ensure!(
                !refused && last.ends_with(b"}") | last.ends_with(b"}\n\n"),
                "{} answered {}",
                target.name,
                String::from_utf8_lossy(&last)
            );
            count += 1;
        }
        anyhow::Ok(count)
    });
    let counts = futures_util::future::try_join_all(clients).await?;
    Ok(counts.into_iter().sum())
}

/// How much CPU time a process has used.
fn cpu(process: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("a name in brackets")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(Duration::from_millis(10) * ticks)
}

/// How much memory a process has, in bytes.
fn memory(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let size = line.and_then(|line| line.split_whitespace().nth(1));
    let kibibytes: f64 = size.context("its memory")?.parse()?;
    Ok(kibibytes * 1024.0)
}

/// CPU time of each target for one message, in microseconds: in turns, so that what else the
/// machine does falls on both alike.
async fn compare(
    targets: &[&Target; 2],
    message: &Message,
    length: Duration,
    rounds: usize,
) -> anyhow::Result<[f64; 2]> {
    let mut used = [Duration::ZERO; 2];
    let mut counts = [0_u32; 2];
    for target in targets {
        load(target, message, length / 4).await?;
    }
    for _ in 0..rounds {
        for (place, target) in targets.iter().enumerate() {
            let before = cpu(target.process)?;
            counts[place] += load(target, message, length).await?;
            used[place] += cpu(target.process)? - before;
        }
    }
    let each = |place: usize| used[place].as_secs_f64() * 1e6 / f64::from(counts[place].max(1));
    let name = message.name.map_or_else(
        || message.method.to_owned(),
        |name| format!("{} {name}", message.method),
    );
    println!(
        "  {name:<44} {:>9.1} µs {:>9.1} µs   ({} and {} of them)",
        each(0),
        each(1),
        counts[0],
        counts[1]
    );
    Ok([each(0), each(1)])
}

/// How much memory a stream takes that stays open, in bytes.
async fn streams(target: &Target) -> anyhow::Result<f64> {
    let listen = Message::new(
        "subscriptions/listen",
        json!({"notifications": {"toolsListChanged": true}}),
        None,
    );
    let open = || async {
        let mut sender = connect(target).await?;
        let mut body = send(&mut sender, target, &listen).await?.into_body();
        let first = body.frame().await.context("a first event")??;
        ensure!(first.is_data(), "the first event is data");
        anyhow::Ok((sender, body))
    };
    // What the first of them takes is taken once.
    let mut held = Vec::with_capacity(STREAMS + 50);
    for _ in 0..50 {
        held.push(open().await?);
    }
    let before = memory(target.process)?;
    for _ in 0..STREAMS {
        held.push(open().await?);
    }
    let after = memory(target.process)?;
    #[expect(clippy::cast_precision_loss, reason = "there are a thousand")]
    let each = (after - before) / STREAMS as f64;
    drop(held);
    Ok(each)
}

/// What was measured so far.
#[derive(Default)]
struct Report {
    missed: Vec<String>,
}

impl Report {
    fn add(&mut self, what: &str, found: f64, unit: &str, wanted: f64) {
        let mark = if found <= wanted { "" } else { "   TOO MUCH" };
        println!("{what:<46} {found:>9.2}{unit}   at most {wanted}{unit}{mark}");
        if found > wanted {
            self.missed.push(what.to_owned());
        }
    }

    fn ratio(&mut self, what: &str, ours: f64, bare: f64, wanted: f64) {
        self.add(what, ours / bare, "", wanted);
    }

    fn extra(&mut self, what: &str, ours: f64, bare: f64, wanted: f64) {
        self.add(what, ours - bare, " µs", wanted);
    }

    fn most(&mut self, what: &str, found: f64, wanted: f64) {
        self.add(what, found, "", wanted);
    }
}
