//! An upload through the gateway, and the memory that it takes; run by `benches/upload`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    reason = "a bench prints figures, and ends where an answer is wrong"
)]

use std::time::Instant;

use anyhow::{Context, ensure};
use bytes::Bytes;
use cedargate_tests::{
    Layout, System,
    s3::{ACCESS_KEY, S3Server, SECRET_KEY},
};
use futures_util::stream;
use reqwest::{Method, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

const MIB: usize = 1 << 20;

/// What an upload may take, in KiB, whatever its size: parts under way, and what they come
/// from.
const MOST_KIB: u64 = 64 << 10;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mib: usize = std::env::var("BENCH_MIB").map_or(Ok(1024), |text| text.parse())?;
    let check = std::env::var_os("BENCH_CHECK").is_some();
    let server = S3Server::start(&["assets"]).await?;
    let endpoint = server.address.to_string();
    let limit = mib.to_string();
    let variables = [
        ("MINIO_ENDPOINT", endpoint.as_str()),
        ("MINIO_ACCESS_KEY", ACCESS_KEY),
        ("MINIO_SECRET_KEY", SECRET_KEY),
        ("MINIO_BUCKETS", "assets"),
        ("MAX_FILE_SIZE_MB", limit.as_str()),
    ];
    let system = System::start_with(Layout::OneProcess, &variables).await?;
    let agent = system
        .create_agent(json!({"name": "bench", "allowed_mcps": ["minio"]}))
        .await?;
    println!(
        "\n  {:>6} {:>9} {:>10} {:>12} {:>16}",
        "MiB", "seconds", "MiB/s", "CPU seconds", "memory rose by"
    );
    // The first, small one brings in what every upload needs.
    for (name, mib) in [("warm", 16), ("half", mib.div_ceil(2)), ("whole", mib)] {
        let before = (system.gateway.resident_kib()?, system.gateway.cpu_time()?);
        let began = Instant::now();
        upload(&system, &agent, name, mib).await?;
        let took = began.elapsed().as_secs_f64();
        let cpu = system.gateway.cpu_time()?.saturating_sub(before.1);
        let peak = system.gateway.peak_kib()?;
        let rose = peak.saturating_sub(before.0);
        let stored = std::fs::metadata(server.path("assets", name))?.len();
        ensure!(stored == (mib * MIB) as u64, "{stored} bytes are there");
        std::fs::remove_file(server.path("assets", name))?;
        println!(
            "  {mib:>6} {took:>9.1} {:>10.0} {:>12.1} {:>12} KiB",
            f64::from(u32::try_from(mib)?) / took,
            cpu.as_secs_f64(),
            rose
        );
        ensure!(
            !check || rose <= MOST_KIB,
            "{rose} KiB, more than {MOST_KIB}"
        );
    }
    println!(
        "\n  The most that the gateway ever held: {} KiB.",
        system.gateway.peak_kib()?
    );
    Ok(())
}

async fn upload(system: &System, agent: &str, name: &str, mib: usize) -> anyhow::Result<()> {
    let piece = Bytes::from(
        (0..MIB)
            .map(|at| b"a line of text.\n"[at % 16])
            .collect::<Vec<_>>(),
    );
    let mut hash = Sha256::new();
    (0..mib).for_each(|_| hash.update(&piece));
    let sha256 = hex::encode(hash.finalize());
    let size = mib * MIB;
    let command = format!(
        "/mcp-minio files upload assets {name} --contentType text/plain --size {size} --sha256 {sha256}"
    );
    let pieces = std::iter::repeat_n(piece, mib).map(Ok::<_, std::io::Error>);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client
        .request(Method::PUT, format!("{}/execute", system.gateway_url))
        .query(&[("command", &command)])
        .header("X-Agent-Id", agent)
        .body(reqwest::Body::wrap_stream(stream::iter(pieces)))
        .send()
        .await
        .context("the gateway answers")?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == StatusCode::OK, "{status}: {text}");
    Ok(())
}
