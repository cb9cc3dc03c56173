//! What MCP costs on its way through the gateway; run by `benches/mcp`.
#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints figures, and ends where an answer is wrong"
)]

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use bytes::Bytes;
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

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let number = |name: &str| -> anyhow::Result<u32> {
        let text = std::env::var(name).with_context(|| format!("`{name}` is not set"))?;
        Ok(text.parse()?)
    };
    let text = |name: &str| std::env::var(name).with_context(|| format!("`{name}` is not set"));
    let (rounds, seconds) = (number("BENCH_ROUNDS")?, number("BENCH_SECONDS")?);
    let check = std::env::var_os("BENCH_CHECK").is_some();
    let through_proxy = Target {
        name: "the bare proxy",
        address: text("BENCH_PROXY")?,
        path: "/mcp",
        token: None,
        process: number("BENCH_PROXY_PID")?,
    };
    let through_gateway = Target {
        name: "Cedargate",
        address: text("BENCH_GATEWAY")?,
        path: "/mcp/bench",
        token: Some(text("BENCH_TOKEN")?),
        process: number("BENCH_GATEWAY_PID")?,
    };
    let targets = [&through_proxy, &through_gateway];
    let length = Duration::from_secs(u64::from(seconds));
    let mut report = Report::default();
    println!(
        "CPU time of the process that forwards; {CONNECTIONS} clients, {rounds} rounds of {seconds} s\n  {:<36} {:>12} {:>12}",
        "", "bare proxy", "Cedargate"
    );

    let call = Message::call("echo", &json!({"text": "hello"}));
    let [bare, ours] = compare(&targets, &call, length, rounds).await?;
    report.add("CPU of a call, of the bare proxy's", ours / bare, "", 1.3);

    let list = Message::new("tools/list", json!({}), None);
    let seen = one(&through_gateway, &list).await?;
    let tools = seen["result"]["tools"].as_array().context("a list")?.len();
    let hidden = TOOLS / 10 - 1;
    ensure!(tools == TOOLS - hidden, "{tools} tools are seen");
    let [bare, ours] = compare(&targets, &list, length, rounds).await?;
    report.add("CPU of filtering a list of 500", ours - bare, " µs", 500.0);

    let flood = Message::call("flood", &json!({}));
    let [bare, ours] = compare(&targets, &flood, length, rounds).await?;
    report.add(
        "CPU of a streamed body, of the proxy's",
        ours / bare,
        "",
        1.3,
    );

    let each = streams(&through_gateway).await?;
    report.add("memory of an open stream", each / 1024.0, " KiB", 64.0);

    if report.missed.is_empty() {
        println!("Every figure is within what is wanted.");
    } else {
        println!("Beyond what is wanted: {}.", report.missed.join("; "));
        ensure!(!check, "{} of the figures miss", report.missed.len());
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
    rounds: u32,
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
            used[place] += cpu(target.process)?.saturating_sub(before);
        }
    }
    let each = |place: usize| used[place].as_secs_f64() * 1e6 / f64::from(counts[place].max(1));
    let name = message.name.map_or_else(
        || message.method.to_owned(),
        |name| format!("{} {name}", message.method),
    );
    println!(
        "  {name:<36} {:>9.1} µs {:>9.1} µs   ({} and {} of them)",
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
        println!("{what:<38} {found:>12.2}{unit}   wanted: at most {wanted}{unit}{mark}");
        if found > wanted {
            self.missed.push(what.to_owned());
        }
    }
}
