//! What the engine of descriptions costs for one command, above the HTTP client that it uses:
//! `cargo bench -p handlers --bench engine`, and `-- --check` to fail where it is too much.
//!
//! The service is a process of its own (this program, started again), so that its CPU time is
//! not counted. All of ours is on one thread, whose CPU time the kernel tells in nanoseconds:
//! what else the machine does changes little.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a bench prints figures, and ends where an answer is wrong"
)]

#[path = "../tests/permit/everything.rs"]
mod everything;

use std::{
    fmt::Write as _,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

use everything::PermitEverything;
use handlers::{Catalog, Parsed};

/// Calls of each kind in a round.
const CALLS: u32 = 3_000;

/// Rounds, in turns; the median counts.
const ROUNDS: usize = 7;

/// What the engine may cost above the client, for one command.
const WANTED: Duration = Duration::from_micros(15);

/// What 10,000 commands more may cost: what one run differs from another.
const NOTHING: Duration = Duration::from_micros(2);

const TEXT: &str = "/mcp-bench records list open --limit 20";

const ANSWER: &str = r#"{"data":[{"id":"rec0000001","name":"first","state":"open","owner":{"name":"ana","mail":"ana@example.com"},"created":"2026-01-02T03:04:05Z"},{"id":"rec0000002","name":"second","state":"open","owner":{"name":"ben","mail":"ben@example.com"},"created":"2026-01-02T03:04:06Z"},{"id":"rec0000003","name":"third","state":"open","owner":{"name":"cyd","mail":"cyd@example.com"},"created":"2026-01-02T03:04:07Z"}],"meta":{"next":null}}"#;

fn main() {
    if std::env::args().any(|argument| argument == "--serve") {
        return serve();
    }
    let check = std::env::args().any(|argument| argument == "--check");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let service = Service::start();
    let missed = runtime.block_on(measure(&service.url));
    drop(service);
    assert!(!check || !missed, "a figure is beyond what is wanted");
}

/// The service, until it is dropped.
struct Service {
    url: String,
    process: Child,
}

impl Service {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("--serve")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        Self {
            url: url.trim().to_owned(),
            process,
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Answers everything with [`ANSWER`].
#[tokio::main(flavor = "current_thread")]
async fn serve() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    let json = ([("content-type", "application/json")], ANSWER);
    let app = axum::Router::new().fallback(move || async move { json });
    axum::serve(listener, app).await.unwrap();
}

fn description(name: &str, url: &str, more: usize) -> String {
    let mut text = format!(
        r#"name = "{name}"
version = "1.0.0"
kind = "http"
description = "Records"
address = {{ variable = "BENCH_URL", default = "{url}" }}
credential = {{ variable = "BENCH_TOKEN", header = "Authorization", prefix = "Bearer " }}

[[commands]]
name = "list-records"
phrase = "records list"
summary = "Records, newest first"
risk = "read"
request = "GET /records"
pages = {{ by = "cursor", parameter = "after", size = "per_page", next = "meta.next" }}
arguments = [{{ name = "state", positional = true, options = ["open", "closed"], description = "In which state" }}]
answer = {{ list = "records", at = "data", fields = ["id", "name", "state", "owner.name as owner"] }}
example = {{ state = "open", limit = 10 }}
"#
    );
    for n in 0..more {
        write!(
            text,
            r#"
[[commands]]
name = "get-thing-{n}"
phrase = "thing-{n} get"
summary = "One thing"
risk = "read"
request = "GET /things/{n}/{{id}}"
arguments = [{{ name = "id", required = true, max_length = 64, description = "Which" }}]
answer = {{ object = "thing" }}
example = {{ id = "x" }}
"#
        )
        .unwrap();
    }
    text
}

/// With `services` more of 100 commands each.
fn catalog(url: &str, services: usize) -> Catalog {
    let mut files = vec![("bench.toml".to_owned(), description("bench", url, 0))];
    for n in 0..services {
        let name = format!("other-{n}");
        files.push((format!("{name}.toml"), description(&name, url, 99)));
    }
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let variable = |name: &str| (name == "BENCH_TOKEN").then(|| "a-token-of-the-bench".to_owned());
    Catalog::load_with(&files, &variable).unwrap()
}

/// The CPU time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}

/// What one call costs at the median of `rounds`.
fn median(mut rounds: Vec<Duration>) -> Duration {
    rounds.sort_unstable();
    rounds[rounds.len() / 2] / CALLS
}

/// Prints the figures. Whether one is beyond what is wanted.
async fn measure(url: &str) -> bool {
    let catalogs = [catalog(url, 0), catalog(url, 100)];
    let everything = PermitEverything::new();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut alone = Vec::new();
    let mut parsing = [Vec::new(), Vec::new()];
    let mut handling = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let before = cpu();
        for _ in 0..CALLS {
            let request = client
                .get(format!("{url}/records?state=open&per_page=20"))
                .bearer_auth("a-token-of-the-bench");
            let body = request.send().await.unwrap().bytes().await.unwrap();
            assert_eq!(body.len(), ANSWER.len());
        }
        alone.push(cpu().checked_sub(before).unwrap());
        for (n, catalog) in catalogs.iter().enumerate() {
            let before = cpu();
            let commands: Vec<_> = (0..CALLS)
                .map(|_| match catalog.parse_slash(TEXT).unwrap() {
                    Parsed::Command(command) => command,
                    Parsed::Help { .. } => panic!("it is a command"),
                })
                .collect();
            parsing[n].push(cpu().checked_sub(before).unwrap());
            let permits: Vec<_> = commands
                .into_iter()
                .map(|command| everything.permit(command))
                .collect();
            let before = cpu();
            for permit in permits {
                let answer = catalog.handle(permit).await.unwrap();
                assert_eq!(answer.data["records"][0]["owner"], "ana");
            }
            handling[n].push(cpu().checked_sub(before).unwrap());
        }
    }
    let alone = median(alone);
    let parsing = parsing.map(median);
    let handling = handling.map(median);
    println!("CPU time of one call, median of {ROUNDS} rounds of {CALLS}:");
    println!("  the HTTP client alone              {alone:>10.1?}");
    println!(
        "  the engine and its client          {:>10.1?}",
        handling[0]
    );
    println!(
        "    with 10,000 commands more        {:>10.1?}",
        handling[1]
    );
    println!("  parsing and checking the command   {:>10.1?}", parsing[0]);
    println!("    with 10,000 commands more        {:>10.1?}", parsing[1]);
    let above = (handling[0] + parsing[0]).saturating_sub(alone);
    let larger = (handling[1] + parsing[1]).saturating_sub(handling[0] + parsing[0]);
    let mut missed = false;
    for (what, figure, wanted) in [
        ("engine above the client, with parsing", above, WANTED),
        ("what 10,000 commands more cost", larger, NOTHING),
    ] {
        let mark = if figure <= wanted { "" } else { "  TOO MUCH" };
        println!("{what:<38} {figure:>8.1?} of {wanted:.1?}{mark}");
        missed |= figure > wanted;
    }
    missed
}
