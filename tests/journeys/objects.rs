//! Objects in buckets: from a slash command, and from a body that streams.

use std::time::Duration;

use bytes::Bytes;
use cedargate_tests::{
    Layout, Reply, System,
    s3::{ACCESS_KEY, S3Server, SECRET_KEY},
};
use futures_util::stream;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::recorded::journal_text;

const MIB: usize = 1 << 20;

/// A system with objects behind it.
async fn system(layout: Layout) -> anyhow::Result<(S3Server, System)> {
    let server = S3Server::start(&["assets", "shared"]).await?;
    let endpoint = server.address.to_string();
    let variables = [
        ("MINIO_ENDPOINT", endpoint.as_str()),
        ("MINIO_ACCESS_KEY", ACCESS_KEY),
        ("MINIO_SECRET_KEY", SECRET_KEY),
        ("MINIO_BUCKETS", "assets,shared/agents"),
        ("PRESIGNED_URL_EXPIRY_SECONDS", "120"),
    ];
    let system = System::start_with(layout, &variables).await?;
    Ok((server, system))
}

/// An upload with a body.
async fn put(
    system: &System,
    agent: &str,
    command: &str,
    body: impl Into<reqwest::Body>,
) -> anyhow::Result<Reply> {
    system.send(upload(system, agent, command).body(body)).await
}

fn upload(system: &System, agent: &str, command: &str) -> reqwest::RequestBuilder {
    system
        .gateway(Method::PUT, "/execute")
        .query(&[("command", command), ("reason", "It is asked for")])
        .header("X-Agent-Id", agent)
}

async fn done(system: &System, agent: &str, command: &str) -> anyhow::Result<Value> {
    let reply = system.execute(agent, command).await?;
    anyhow::ensure!(reply.status == StatusCode::OK, "{command}: {reply:?}");
    Ok(reply.body["result"]["data"].clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_keeps_and_finds_files() -> anyhow::Result<()> {
    for layout in [Layout::OneProcess, Layout::TwoProcesses] {
        let (server, system) = system(layout).await?;
        let agent = system
            .create_agent(json!({"name": "keeper", "allowed_mcps": ["minio"]}))
            .await?;
        let stored = done(
            &system,
            &agent,
            r#"/mcp-minio files upload shared "notes/of today.txt" "Nothing happened""#,
        )
        .await?;
        assert_eq!(stored["metadata"]["uploadedBy"], json!(agent));
        assert!(server.path("shared", "agents/notes/of today.txt").exists());
        let listed = done(&system, &agent, "/mcp-minio files list shared notes/").await?;
        assert_eq!(listed["files"][0]["key"], json!("notes/of today.txt"));
        let read = done(
            &system,
            &agent,
            r#"/mcp-minio download shared "notes/of today.txt""#,
        )
        .await?;
        assert_eq!(read["content"], json!("Nothing happened"));
        let url = done(
            &system,
            &agent,
            r#"/mcp-minio get-url shared "notes/of today.txt""#,
        )
        .await?;
        assert_eq!(url["expiresIn"], json!(120));
        let client = reqwest::Client::builder().no_proxy().build()?;
        let fetched = client.get(url["url"].as_str().unwrap()).send().await?;
        assert_eq!(fetched.text().await?, "Nothing happened");
        for trap in ["../secret", "%2e%2e/secret", "/etc/passwd", "a\\\\b"] {
            let reply = system
                .execute(&agent, &format!("/mcp-minio download shared '{trap}'"))
                .await?;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{trap}: {reply:?}");
        }

        // What is gone is gone: people are asked, two of them.
        let delete = r#"/mcp-minio files delete shared "notes/of today.txt""#;
        let refused = system.execute(&agent, delete).await?;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
        assert_eq!(refused.body["error"]["data"]["outcome"], json!("pending"));
        assert!(server.path("shared", "agents/notes/of today.txt").exists());

        // A URL is as good as a credential while it lasts, and goes to nobody else.
        let signature = url["url"].as_str().unwrap();
        let signature = signature.split_once("Signature=").unwrap().1;
        let written = [
            journal_text(&system)?,
            system.gateway.log(),
            system.control_plane().log(),
            system
                .admin_get("/api/audit?limit=500")
                .await?
                .body
                .to_string(),
        ];
        assert!(written[0].contains("minio"), "it says something");
        for text in written {
            assert!(!text.contains(signature) && !text.contains("X-Amz-"));
            assert!(!text.contains(SECRET_KEY));
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_body_is_approved_and_streams() -> anyhow::Result<()> {
    const SIZE: usize = 96 * MIB;
    let (server, system) = system(Layout::TwoProcesses).await?;
    let agent = system
        .create_agent(json!({"name": "filmer", "allowed_mcps": []}))
        .await?;
    let mut first = vec![0_u8; MIB];
    first[..12].copy_from_slice(b"\0\0\0\x18ftypisom");
    let piece = Bytes::from(vec![7_u8; MIB]);
    let pieces = || {
        let rest = std::iter::repeat_n(piece.clone(), SIZE / MIB - 1);
        std::iter::once(Bytes::from(first.clone())).chain(rest)
    };
    let body = || reqwest::Body::wrap_stream(stream::iter(pieces().map(Ok::<_, std::io::Error>)));
    let mut hash = Sha256::new();
    pieces().for_each(|piece| hash.update(piece));
    let sha256 = hex::encode(hash.finalize());
    let command = format!(
        "/mcp-minio files upload assets films/a.mp4 --contentType video/mp4 --size {SIZE} --sha256 {sha256}"
    );

    // Refused before a byte of the body is sent by who waits to be told.
    let address = system.gateway_url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await?;
    let query = command.replace(' ', "+").replace('/', "%2F");
    let head = format!(
        "PUT /execute?command={query} HTTP/1.1\r\nhost: x\r\nx-agent-id: {agent}\r\n\
         content-length: {SIZE}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(
        Duration::from_secs(30),
        connection.read_to_string(&mut answer),
    )
    .await??;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(!answer.contains("100 Continue"), "{answer}");

    let (_, refused) = answer.split_once("\r\n\r\n").unwrap();
    let refused: Value = serde_json::from_str(refused)?;
    let request = refused["error"]["data"]["request_id"].as_str().unwrap();
    let approved = system.respond(request, true).await?;
    assert!(approved.status.is_success(), "{approved:?}");

    // What was approved is these bytes and no others: another SHA-256 is another command.
    let other = command.replace(&sha256, &"0".repeat(64));
    let refused = put(&system, &agent, &other, "other").await?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    let lying = put(&system, &agent, &command, "other").await?;
    assert_eq!(lying.status, StatusCode::BAD_REQUEST, "{lying:?}");

    let before = system.gateway.peak_kib()?;
    let stored = put(&system, &agent, &command, body()).await?;
    let grown = system.gateway.peak_kib()?.saturating_sub(before);
    assert_eq!(stored.status, StatusCode::OK, "{stored:?}");
    let data = &stored.body["result"]["data"];
    assert_eq!((&data["size"], &data["parts"]), (&json!(SIZE), &json!(12)));
    assert_eq!(data["checksumSha256"], json!(sha256));
    let kept = std::fs::File::open(server.path("assets", "films/a.mp4"))?;
    assert_eq!(kept.metadata()?.len(), SIZE as u64);
    assert!(grown < 64 << 10, "{grown} KiB more for {SIZE} bytes");

    // Other commands take no body, and a body that breaks off leaves nothing.
    let wrong = put(&system, &agent, "/mcp-minio files list assets", "x").await?;
    assert_eq!(wrong.status, StatusCode::BAD_REQUEST, "{wrong:?}");
    assert_eq!(server.unfinished()?, [""; 0]);
    Ok(())
}

/// While people are waited for, what is to be stored stays with the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_waits_for_people() -> anyhow::Result<()> {
    let (server, system) = system(Layout::TwoProcesses).await?;
    let agent = system
        .create_agent(json!({"name": "waiter", "allowed_mcps": []}))
        .await?;
    let text = "Nothing happened".repeat(1000);
    let sha256 = hex::encode(Sha256::digest(&text));
    let size = text.len();
    let command = |name: &str| {
        format!(
            "/mcp-minio files upload assets {name} --contentType text/plain --size {size} --sha256 {sha256}"
        )
    };

    // Approved: stored, in the same request.
    let waiting = upload(&system, &agent, &command("yes.txt"))
        .header("Prefer", "wait=30")
        .body(text.clone());
    let decide = async |approved: bool| -> anyhow::Result<()> {
        let request = cedargate_tests::soon("a request is open", async {
            loop {
                let inbox = system.admin_get("/api/approvals").await?;
                if let Some(id) = inbox.body[0]["id"].as_str() {
                    return anyhow::Ok(id.to_owned());
                }
            }
        })
        .await??;
        assert_eq!(server.path("assets", "yes.txt").exists(), !approved);
        let decided = system.respond(&request, approved).await?;
        anyhow::ensure!(decided.status.is_success(), "{decided:?}");
        Ok(())
    };
    let (stored, decided) = tokio::join!(system.send(waiting), decide(true));
    decided?;
    let stored = stored?;
    assert_eq!(stored.status, StatusCode::OK, "{stored:?}");
    assert_eq!(stored.headers["preference-applied"], "wait=30");
    assert_eq!(
        stored.body["result"]["data"]["checksumSha256"],
        json!(sha256)
    );
    assert_eq!(
        std::fs::read_to_string(server.path("assets", "yes.txt"))?,
        text
    );

    // Rejected: told so, and the connection is good for the next request.
    let waiting = upload(&system, &agent, &command("no.txt"))
        .header("Prefer", "wait=30")
        .body(text.clone());
    let (refused, decided) = tokio::join!(system.send(waiting), decide(false));
    decided?;
    let refused = refused?;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{refused:?}");
    assert_eq!(refused.body["error"]["data"]["outcome"], json!("rejected"));
    assert!(!server.path("assets", "no.txt").exists());

    // Who says `Expect` sends nothing before it may: neither while it waits, nor when it
    // waited in vain.
    let address = system.gateway_url.trim_start_matches("http://");
    let mut connection = TcpStream::connect(address).await?;
    let query = command("late.txt").replace(' ', "+").replace('/', "%2F");
    let head = format!(
        "PUT /execute?command={query} HTTP/1.1\r\nhost: x\r\nx-agent-id: {agent}\r\nprefer: wait=1\r\n\
         content-length: {size}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(
        Duration::from_secs(30),
        connection.read_to_string(&mut answer),
    )
    .await??;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    assert!(
        answer.contains("preference-applied: wait=1") && !answer.contains("100 Continue"),
        "{answer}"
    );
    assert!(answer.contains("\"pending\""), "{answer}");
    assert_eq!(server.unfinished()?, [""; 0]);
    Ok(())
}
