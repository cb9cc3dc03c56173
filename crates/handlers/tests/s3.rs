//! Kind `s3` against a real S3 server that checks signatures, and against servers that
//! misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "a test fails by panicking and tells one story; the server is shared with the journeys"
)]

#[path = "permit/everything.rs"]
mod everything;
#[path = "../../../tests/src/s3.rs"]
mod server;

#[path = "s3/misbehaving.rs"]
mod misbehaving;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use authz::{Clock, Timestamp};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use everything::PermitEverything;
use handlers::{Catalog, CommandError, Content, ContentError, HandlerError, Parsed};
use serde_json::{Value, json};
use server::{ACCESS_KEY, S3Server, SECRET_KEY};

const MIB: usize = 1 << 20;

/// A catalog whose clock is ahead by so many seconds.
fn catalog(variables: &BTreeMap<&str, String>, ahead: i64) -> Catalog {
    let catalog = Catalog::load(&|name| variables.get(name).cloned()).unwrap();
    catalog.with_clock(&Clock::new(move || {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond() + ahead * 1000)
    }))
}

fn variables(address: impl std::fmt::Display, buckets: &str) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("MINIO_ENDPOINT", format!("http://{address}")),
        ("MINIO_ACCESS_KEY", ACCESS_KEY.to_owned()),
        ("MINIO_SECRET_KEY", SECRET_KEY.to_owned()),
        ("MINIO_BUCKETS", buckets.to_owned()),
        ("HTTP_TIMEOUT_MS", "20000".to_owned()),
    ])
}

/// A server with the buckets `assets` and `shared`, of which agents have a folder.
async fn world() -> (S3Server, Catalog) {
    let server = S3Server::start(&["assets", "shared", "private"])
        .await
        .unwrap();
    let catalog = catalog(&variables(server.address, "assets,shared/agents"), 0);
    (server, catalog)
}

async fn carried_out(
    catalog: &Catalog,
    parsed: Result<Parsed, CommandError>,
    content: Option<Content>,
) -> Result<Value, HandlerError> {
    let Ok(Parsed::Command(command)) = parsed else {
        panic!("{parsed:?}")
    };
    let permit = PermitEverything::new().permit(command);
    let answer = catalog.handle_with(permit, content).await?;
    Ok(answer.data)
}

async fn slash(catalog: &Catalog, line: &str) -> Result<Value, HandlerError> {
    carried_out(catalog, catalog.parse_slash(line), None).await
}

async fn call(catalog: &Catalog, operation: &str, arguments: Value) -> Result<Value, HandlerError> {
    let parsed = catalog.command("minio", operation, arguments);
    carried_out(catalog, parsed, None).await
}

/// An upload with a body.
async fn stream(
    catalog: &Catalog,
    arguments: Value,
    length: Option<u64>,
    chunks: Vec<Result<Bytes, ContentError>>,
) -> Result<Value, HandlerError> {
    let parsed = catalog.command("minio", "upload", arguments);
    let content = Content::new(length, futures_util::stream::iter(chunks));
    carried_out(catalog, parsed, Some(content)).await
}

fn sha256(bytes: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    hex::encode(digest)
}

/// Bytes that repeat nowhere soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..length.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(length).collect()
}

fn chunks(bytes: &[u8], length: usize) -> Vec<Result<Bytes, ContentError>> {
    bytes
        .chunks(length)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect()
}

#[track_caller]
fn rejected(outcome: Result<Value, HandlerError>, status: u16, part: &str) {
    match outcome {
        Err(HandlerError::Rejected {
            status: found,
            message,
            ..
        }) => {
            assert_eq!(found, status, "{message}");
            assert!(message.contains(part), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_operation_from_a_slash_command() {
    let (server, catalog) = world().await;
    let uploaded = slash(
        &catalog,
        r#"/mcp-minio files upload assets notes/today.txt "Grüße, nothing happened" --metadata {"originalFilename": "heute früh.txt"}"#,
    )
    .await
    .unwrap();
    let text = "Grüße, nothing happened";
    let agent = authz::AgentId::LOCAL.to_string();
    assert_eq!(uploaded["operation"], json!("upload"));
    assert_eq!(uploaded["size"], json!(text.len()));
    assert_eq!(uploaded["contentType"], json!("text/plain; charset=utf-8"));
    assert_eq!(uploaded["checksumSha256"], json!(sha256(text.as_bytes())));
    assert_eq!(uploaded["checksumMd5"], uploaded["etag"]);
    assert_eq!(
        uploaded["url"],
        json!(format!("http://{}/assets/notes/today.txt", server.address))
    );
    assert_eq!(
        uploaded["metadata"],
        json!({
            "uploadedBy": agent, "entityScope": "shared", "originalFilename": "heute früh.txt",
        })
    );
    assert_eq!(
        std::fs::read(server.path("assets", "notes/today.txt")).unwrap(),
        text.as_bytes()
    );

    let stat = slash(&catalog, "/mcp-minio stat assets notes/today.txt")
        .await
        .unwrap();
    assert_eq!(stat["size"], json!(text.len()));
    assert_eq!(stat["etag"], uploaded["etag"]);
    assert_eq!(stat["contentType"], json!("text/plain; charset=utf-8"));
    assert_eq!(stat["metadata"]["x-uploaded-by"], json!(agent));
    assert_eq!(
        stat["metadata"]["x-original-filename"],
        json!("heute früh.txt")
    );
    assert_eq!(stat["metadata"]["x-md5-checksum"], uploaded["checksumMd5"]);
    assert!(
        stat["lastModified"].as_str().unwrap().ends_with('Z'),
        "{stat}"
    );

    let listed = slash(&catalog, "/mcp-minio list assets notes/")
        .await
        .unwrap();
    assert_eq!(listed["count"], json!(1));
    assert_eq!(listed["files"][0]["key"], json!("notes/today.txt"));
    assert_eq!(listed["files"][0]["size"], json!(text.len()));
    assert_eq!(listed["truncated"], json!(false));
    let folders = slash(&catalog, "/mcp-minio files list assets")
        .await
        .unwrap();
    assert_eq!(
        (&folders["files"], &folders["folders"]),
        (&json!([]), &json!(["notes/"]))
    );

    let read = slash(&catalog, "/mcp-minio download assets notes/today.txt")
        .await
        .unwrap();
    assert_eq!(
        (&read["content"], &read["encoding"]),
        (&json!(text), &json!("text"))
    );
    assert_eq!(read["truncated"], json!(false));
    assert_eq!(read["checksumSha256"], uploaded["checksumSha256"]);

    let url = slash(
        &catalog,
        "/mcp-minio getUrl assets notes/today.txt --expirySeconds 60",
    )
    .await
    .unwrap();
    assert_eq!(url["expiresIn"], json!(60));
    let url = url["url"].as_str().unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let fetched = client.get(url).send().await.unwrap();
    assert_eq!(
        (
            fetched.status().as_u16(),
            fetched.text().await.unwrap().as_str()
        ),
        (200, text)
    );
    let other = url.replace("today.txt", "other.txt");
    assert_eq!(
        client.get(other).send().await.unwrap().status().as_u16(),
        403
    );
    assert_eq!(
        client.delete(url).send().await.unwrap().status().as_u16(),
        403,
        "a URL reads"
    );

    let health = slash(&catalog, "/mcp-minio health").await.unwrap();
    assert_eq!(
        (&health["healthy"], &health["bucketsCount"]),
        (&json!(true), &json!(2))
    );
    let buckets = slash(&catalog, "/mcp-minio buckets list").await.unwrap();
    assert_eq!(
        buckets["buckets"],
        json!([{"name": "assets"}, {"name": "shared"}])
    );

    let deleted = slash(&catalog, "/mcp-minio delete assets notes/today.txt")
        .await
        .unwrap();
    assert_eq!(
        (&deleted["success"], &deleted["fileKey"]),
        (&json!(true), &json!("notes/today.txt"))
    );
    assert!(!server.path("assets", "notes/today.txt").exists());
    for line in ["stat", "delete", "get-url", "download"] {
        let gone = slash(
            &catalog,
            &format!("/mcp-minio {line} assets notes/today.txt"),
        )
        .await;
        assert!(
            matches!(gone, Err(HandlerError::NotFound { .. })),
            "{line}: {gone:?}"
        );
    }
}

#[tokio::test]
async fn lists_come_in_pages() {
    let (server, catalog) = world().await;
    let folder = server.path("shared", "agents/many");
    std::fs::create_dir_all(folder.join("inner")).unwrap();
    for number in 0..1234 {
        std::fs::write(folder.join(format!("{number:05} +&<ü>")), "x").unwrap();
    }
    std::fs::write(folder.join("inner/deep"), "x").unwrap();
    std::fs::create_dir_all(server.path("shared", "agents-private")).unwrap();
    std::fs::write(server.path("shared", "agents-private/secret"), "x").unwrap();

    for going_on in ["nextCursor", "nextMarker"] {
        let argument = if going_on == "nextCursor" {
            "cursor"
        } else {
            "marker"
        };
        let mut keys = Vec::new();
        let mut folders = Vec::new();
        let mut next = Value::Null;
        let mut pages = 0;
        loop {
            let mut arguments = json!({"bucket": "shared", "prefix": "many/", "limit": 500});
            if !next.is_null() {
                arguments[argument] = next;
            }
            let page = call(&catalog, "list", arguments).await.unwrap();
            pages += 1;
            let texts = |value: &Value| -> Vec<String> {
                let items = value.as_array().unwrap().iter();
                items
                    .map(|item| item.as_str().or(item["key"].as_str()).unwrap().to_owned())
                    .collect()
            };
            keys.extend(texts(&page["files"]));
            folders.extend(texts(&page["folders"]));
            next = page[going_on].clone();
            if page["truncated"] == json!(false) {
                break;
            }
        }
        assert_eq!((pages, keys.len()), (3, 1234), "{going_on}");
        assert_eq!(folders, ["many/inner/"], "{going_on}");
        keys.dedup();
        assert_eq!((keys.len(), keys[7].as_str()), (1234, "many/00007 +&<ü>"));
    }
    let all = call(
        &catalog,
        "list",
        json!({"bucket": "shared", "recursive": true, "limit": 1000}),
    )
    .await
    .unwrap();
    assert_eq!(
        (&all["count"], &all["truncated"]),
        (&json!(1000), &json!(true))
    );
    assert!(!all.to_string().contains("private"));
    // A marker that is a folder goes on behind it.
    let rest = call(
        &catalog,
        "list",
        json!({"bucket": "shared", "prefix": "many/", "marker": "many/inner/"}),
    )
    .await
    .unwrap();
    assert_eq!(rest["folders"], json!([]));
    let both = json!({"bucket": "shared", "marker": "a", "cursor": "b"});
    rejected(call(&catalog, "list", both).await, 400, "not both");
}

#[tokio::test]
async fn a_large_body_comes_in_parts_and_arrives_whole() {
    let (server, catalog) = world().await;
    let mut bytes = b"\0\0\0\x18ftypisom".to_vec();
    bytes.extend(noise(17 * MIB + 12_345));
    let arguments = json!({
        "bucket": "shared", "fileKey": "videos/a b+c.mp4", "contentType": "video/mp4",
        "size": bytes.len(), "sha256": sha256(&bytes),
    });
    let length = Some(bytes.len() as u64);
    let stored = stream(&catalog, arguments.clone(), length, chunks(&bytes, 100_003))
        .await
        .unwrap();
    assert_eq!(
        (&stored["parts"], &stored["size"]),
        (&json!(3), &json!(bytes.len()))
    );
    assert!(stored["etag"].as_str().unwrap().ends_with("-3"), "{stored}");
    let kept = std::fs::read(server.path("shared", "agents/videos/a b+c.mp4")).unwrap();
    assert!(kept == bytes);
    assert_eq!(server.unfinished().unwrap(), [""; 0]);

    // By its URL, and piece by piece.
    let url = call(
        &catalog,
        "get-url",
        json!({"bucket": "shared", "fileKey": "videos/a b+c.mp4"}),
    )
    .await
    .unwrap();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let fetched = client
        .get(url["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(fetched.headers()["content-type"], "video/mp4");
    assert_eq!(
        sha256(&fetched.bytes().await.unwrap()),
        arguments["sha256"].as_str().unwrap()
    );
    let offset = bytes.len() - 300_000;
    let mut read = Vec::new();
    let mut next = json!(offset);
    while !next.is_null() {
        let arguments = json!({"bucket": "shared", "fileKey": "videos/a b+c.mp4", "offset": next});
        let piece = call(&catalog, "download", arguments).await.unwrap();
        assert_eq!(piece["encoding"], json!("base64"));
        read.extend(STANDARD.decode(piece["content"].as_str().unwrap()).unwrap());
        assert_eq!(
            piece["truncated"].as_bool().unwrap(),
            offset + read.len() < bytes.len()
        );
        next = piece["nextOffset"].clone();
    }
    assert!(read == bytes[offset..]);

    // What is there stays, unless it is said.
    rejected(
        stream(&catalog, arguments.clone(), length, chunks(&bytes, MIB)).await,
        409,
        "overwrite",
    );
    let mut again = arguments;
    again["overwrite"] = json!(true);
    stream(&catalog, again, None, chunks(&bytes, MIB))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_body_that_lies_leaves_nothing_behind() {
    let (server, catalog) = world().await;
    let mut good = b"%PDF-1.7\n".to_vec();
    good.extend(noise(9 * MIB));
    let honest = json!({
        "bucket": "assets", "fileKey": "lie.pdf", "contentType": "application/pdf",
        "size": good.len(), "sha256": sha256(&good),
    });
    let with = |changes: Value| {
        let mut arguments = honest.clone();
        for (name, value) in changes.as_object().unwrap() {
            arguments[name] = value.clone();
        }
        arguments
    };
    let whole = || chunks(&good, MIB);
    let short = || chunks(&good[..good.len() - 1], MIB);
    let longer = || {
        let mut chunks = whole();
        chunks.push(Ok(Bytes::from_static(b"x")));
        chunks
    };
    let broken = |error| {
        let mut chunks = whole();
        chunks[9] = Err(error);
        chunks
    };
    let mut page = b"<!DOCTYPE html><script>".to_vec();
    page.extend(noise(9 * MIB));
    let mut text = "ü".repeat(6 * MIB).into_bytes();
    *text.last_mut().unwrap() = b'x';
    let cases = [
        (with(json!({})), short(), 400, "bytes came, not"),
        (with(json!({})), longer(), 400, "more bytes came"),
        (
            with(json!({"sha256": "0".repeat(64)})),
            whole(),
            400,
            "SHA-256",
        ),
        (
            with(json!({})),
            broken(ContentError::Broken),
            400,
            "broke off",
        ),
        (
            with(json!({})),
            broken(ContentError::Slow),
            400,
            "too slowly",
        ),
        (
            with(json!({"contentType": "image/png"})),
            whole(),
            400,
            "does not begin as",
        ),
        (
            with(
                json!({"size": page.len(), "sha256": sha256(&page), "contentType": "image/x-raw"}),
            ),
            chunks(&page, MIB),
            400,
            "is a page",
        ),
        (
            with(json!({"size": text.len(), "sha256": sha256(&text), "contentType": "text/csv"})),
            chunks(&text, MIB),
            400,
            "is not text",
        ),
        (
            with(json!({"contentType": "text/html"})),
            whole(),
            400,
            "may not be uploaded",
        ),
        (
            with(json!({"contentType": "image/svg+xml"})),
            whole(),
            400,
            "may not be uploaded",
        ),
        (with(json!({"size": 501 * MIB})), whole(), 413, "at most"),
        // The same, small enough for one request.
        (
            with(json!({"size": 12})),
            chunks(&good[..11], 5),
            400,
            "bytes came, not",
        ),
        (
            with(json!({"size": 12})),
            chunks(&good[..13], 5),
            400,
            "more bytes came",
        ),
        (
            with(json!({"size": 12})),
            chunks(&good[..12], 5),
            400,
            "SHA-256",
        ),
        (
            with(json!({"size": 0})),
            Vec::new(),
            400,
            "does not begin as",
        ),
    ];
    for (arguments, chunks, status, part) in cases {
        rejected(
            stream(&catalog, arguments, None, chunks).await,
            status,
            part,
        );
        assert!(!server.path("assets", "lie.pdf").exists(), "{part}");
        assert_eq!(server.unfinished().unwrap(), [""; 0], "{part}");
    }
    rejected(
        stream(&catalog, honest.clone(), Some(7), whole()).await,
        400,
        "not as long as",
    );
    for missing in ["size", "sha256"] {
        let mut arguments = honest.clone();
        arguments.as_object_mut().unwrap().remove(missing);
        rejected(
            stream(&catalog, arguments, None, whole()).await,
            400,
            "`size` and `sha256`",
        );
    }
    rejected(
        stream(&catalog, with(json!({"content": "x"})), None, whole()).await,
        400,
        "one of",
    );
    let neither = json!({"bucket": "assets", "fileKey": "x"});
    rejected(
        call(&catalog, "upload", neither).await,
        400,
        "nothing to upload",
    );
    let wrong = json!({"bucket": "assets", "fileKey": "x", "fileBuffer": "***", "contentType": "image/png"});
    rejected(call(&catalog, "upload", wrong).await, 400, "not base64");
    // And the truth is taken.
    stream(&catalog, honest, None, whole()).await.unwrap();
    assert!(server.path("assets", "lie.pdf").exists());
}

/// A body whose sender goes on for ever; the gateway is told to stop in the middle of it.
#[tokio::test]
async fn an_upload_that_is_dropped_is_aborted_on_the_server() {
    let (server, catalog) = world().await;
    let catalog = Arc::new(catalog);
    let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
    let content = futures_util::stream::unfold(receiver, |mut receiver| async {
        let chunk = receiver.recv().await?;
        Some((Ok(chunk), receiver))
    });
    let arguments = json!({
        "bucket": "assets", "fileKey": "half.zip", "contentType": "application/zip",
        "size": 40 * MIB, "sha256": "0".repeat(64),
    });
    let uploading = {
        let catalog = Arc::clone(&catalog);
        tokio::spawn(async move {
            let parsed = catalog.command("minio", "upload", arguments);
            carried_out(&catalog, parsed, Some(Content::new(None, content))).await
        })
    };
    let mut first = b"PK\x03\x04".to_vec();
    first.extend(noise(9 * MIB));
    sender.send(first.into()).await.unwrap();
    let soon = async |wanted: bool| {
        let changed = tokio::time::timeout(Duration::from_secs(30), async {
            while server.unfinished().unwrap().is_empty() == wanted {
                tokio::task::yield_now().await;
            }
        });
        assert!(changed.await.is_ok(), "{:?}", server.unfinished());
    };
    soon(true).await;
    uploading.abort();
    soon(false).await;
    assert!(!server.path("assets", "half.zip").exists());
}

#[tokio::test]
async fn no_key_leads_out_of_its_bucket_or_prefix() {
    let (server, catalog) = world().await;
    std::fs::write(server.path("private", "secret"), "planted").unwrap();
    std::fs::write(server.path("shared", "secret"), "planted").unwrap();
    std::fs::create_dir_all(server.path("shared", "agents")).unwrap();
    let traps = [
        "../secret",
        "../../private/secret",
        "/secret",
        "//secret",
        "./secret",
        "a/../../secret",
        "..%2fsecret",
        "%2e%2e/secret",
        "%2e%2e%2f%2e%2e%2fprivate%2fsecret",
        "%252e%252e%252fsecret",
        "..\\secret",
        "a\\..\\..\\secret",
        "\u{ff0e}\u{ff0e}/secret",
        "\u{2025}/secret",
        "..\u{2215}secret",
        "..\u{ff0f}secret",
        "a//b",
        "a/",
        "",
        ".",
        "..",
        "secret\0.txt",
        "a\nb",
        "a\u{202e}b",
    ];
    for trap in traps {
        for operation in ["stat", "download", "get-url", "delete", "upload"] {
            let mut arguments = json!({"bucket": "shared", "fileKey": trap});
            if operation == "upload" {
                arguments["content"] = json!("overwritten");
                arguments["overwrite"] = json!(true);
            }
            match catalog.command("minio", operation, arguments) {
                // Most are refused before anybody is asked to approve them.
                Err(CommandError::Arguments { .. }) => {}
                parsed => rejected(carried_out(&catalog, parsed, None).await, 400, "the key"),
            }
        }
        // Of a list, `a/` is what is in a folder, and nothing is everything.
        if !matches!(trap, "" | "a/") {
            let arguments = json!({"bucket": "shared", "prefix": format!("{trap}/")});
            rejected(call(&catalog, "list", arguments).await, 400, "the prefix");
        }
    }
    for bucket in ["private", "..", "shared/..", "assets.", "nowhere"] {
        let arguments = json!({"bucket": bucket, "fileKey": "secret"});
        match catalog.command("minio", "download", arguments) {
            Err(CommandError::Arguments { .. }) => {}
            parsed => {
                let outcome = carried_out(&catalog, parsed, None).await;
                assert!(
                    matches!(outcome, Err(HandlerError::NotFound { .. })),
                    "{outcome:?}"
                );
            }
        }
    }
    for (bucket, key) in [("private", "secret"), ("shared", "secret")] {
        assert_eq!(
            std::fs::read_to_string(server.path(bucket, key)).unwrap(),
            "planted"
        );
    }
    assert_eq!(
        std::fs::read_dir(server.path("shared", "agents"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test]
async fn odd_keys_come_back_as_they_went() {
    let (server, catalog) = world().await;
    let keys = [
        "a b+c.txt",
        "100%.txt",
        "100%25.txt",
        "a%20b.txt",
        "ünïcödé/名前.txt",
        "e\u{301}.txt",
        "a:b?c#d&e=f;g,h@i$j!k'(l)*~.txt",
        "{a}[b]^`|<>\"q\".txt",
        "..a/b..txt",
        "👩\u{200d}👩.txt",
        " leading and trailing ",
    ];
    for key in keys {
        let arguments = json!({"bucket": "shared", "fileKey": key, "content": key});
        call(&catalog, "upload", arguments)
            .await
            .unwrap_or_else(|error| panic!("{key}: {error}"));
        assert_eq!(
            std::fs::read_to_string(server.path("shared", &format!("agents/{key}"))).unwrap(),
            key
        );
        let named = json!({"bucket": "shared", "fileKey": key});
        let read = call(&catalog, "download", named.clone()).await.unwrap();
        assert_eq!(read["content"], json!(key));
        let url = call(&catalog, "get-url", named.clone()).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let fetched = client
            .get(url["url"].as_str().unwrap())
            .send()
            .await
            .unwrap();
        assert_eq!(
            (
                fetched.status().as_u16(),
                fetched.text().await.unwrap().as_str()
            ),
            (200, key)
        );
    }
    let listed = call(
        &catalog,
        "list",
        json!({"bucket": "shared", "recursive": true}),
    )
    .await
    .unwrap();
    let mut found: Vec<&str> = listed["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["key"].as_str().unwrap())
        .collect();
    let mut expected = keys.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    for key in keys {
        call(
            &catalog,
            "delete",
            json!({"bucket": "shared", "fileKey": key}),
        )
        .await
        .unwrap();
    }
    let huge = json!({"bucket": "shared", "fileKey": "x".repeat(1020), "content": "x"});
    rejected(call(&catalog, "upload", huge).await, 400, "longer than");
}

#[tokio::test]
async fn a_download_is_bounded_and_says_what_is_missing() {
    let (server, catalog) = world().await;
    let text = "äöü".repeat(100_000);
    std::fs::write(server.path("assets", "long.txt"), &text).unwrap();
    std::fs::write(server.path("assets", "empty"), "").unwrap();
    std::fs::write(server.path("assets", "binary"), [0_u8, 1, 2, 255]).unwrap();
    std::fs::write(server.path("assets", "leak"), format!("key: {SECRET_KEY}!")).unwrap();
    let mut read = String::new();
    let mut next = json!(0);
    while !next.is_null() {
        let piece = call(
            &catalog,
            "download",
            json!({"bucket": "assets", "fileKey": "long.txt", "offset": next}),
        )
        .await
        .unwrap();
        assert_eq!(
            (&piece["encoding"], &piece["size"]),
            (&json!("text"), &json!(text.len()))
        );
        let content = piece["content"].as_str().unwrap();
        assert!(content.len() <= 256 << 10);
        assert_eq!(piece["bytes"], json!(content.len()), "a letter is not cut");
        read.push_str(content);
        assert_eq!(piece["truncated"], json!(read.len() < text.len()));
        next = piece["nextOffset"].clone();
    }
    assert_eq!(read, text);
    let empty = slash(&catalog, "/mcp-minio download assets empty")
        .await
        .unwrap();
    assert_eq!(
        (&empty["content"], &empty["truncated"], &empty["size"]),
        (&json!(""), &json!(false), &json!(0))
    );
    let binary = slash(&catalog, "/mcp-minio download assets binary")
        .await
        .unwrap();
    assert_eq!(
        (&binary["content"], &binary["encoding"]),
        (&json!("AAEC/w=="), &json!("base64"))
    );
    rejected(
        slash(
            &catalog,
            "/mcp-minio download assets binary --encoding text",
        )
        .await,
        400,
        "not text",
    );
    rejected(
        slash(&catalog, "/mcp-minio download assets binary --offset 4").await,
        400,
        "4 bytes",
    );
    rejected(
        slash(&catalog, "/mcp-minio download assets empty --offset 1").await,
        400,
        "0 bytes",
    );
    let small = slash(&catalog, "/mcp-minio download assets long.txt --length 5")
        .await
        .unwrap();
    assert_eq!(
        (&small["content"], &small["nextOffset"]),
        (&json!("äö"), &json!(4))
    );
    // What is ours does not get out by way of an object.
    let leak = slash(&catalog, "/mcp-minio download assets leak")
        .await
        .unwrap();
    assert!(!leak.to_string().contains("planted"), "{leak}");
    let leak = slash(
        &catalog,
        "/mcp-minio download assets leak --encoding base64",
    )
    .await;
    assert!(matches!(leak, Err(HandlerError::Failed { .. })), "{leak:?}");
}

#[tokio::test]
async fn a_url_is_good_for_no_longer_than_is_configured() {
    let (server, catalog) = world().await;
    std::fs::write(server.path("assets", "a"), "x").unwrap();
    rejected(
        slash(&catalog, "/mcp-minio get-url assets a --expirySeconds 301").await,
        400,
        "300 seconds",
    );
    let url = slash(&catalog, "/mcp-minio get-url assets a")
        .await
        .unwrap();
    assert_eq!(url["expiresIn"], json!(300));

    // As seen a hundred seconds later.
    let mut variables = variables(server.address, "assets");
    variables.insert("PRESIGNED_URL_EXPIRY_SECONDS", "600".to_owned());
    variables.insert(
        "MINIO_PUBLIC_URL",
        format!("http://localhost:{}", server.address.port()),
    );
    let earlier = self::catalog(&variables, -100);
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for (seconds, status) in [(60, 403), (500, 200)] {
        let url = slash(
            &earlier,
            &format!("/mcp-minio get-url assets a --expirySeconds {seconds}"),
        )
        .await
        .unwrap();
        let url = url["url"].as_str().unwrap();
        assert!(url.starts_with("http://localhost:"), "{url}");
        assert_eq!(
            client.get(url).send().await.unwrap().status().as_u16(),
            status
        );
        let longer = url.replace(&format!("Expires={seconds}"), "Expires=900");
        assert_eq!(
            client.get(longer).send().await.unwrap().status().as_u16(),
            403,
            "it is signed"
        );
    }
}

#[tokio::test]
async fn a_wrong_credential_is_told_and_a_right_one_taken_up() {
    let (server, _) = world().await;
    let shared = Arc::new(Mutex::new(variables(server.address, "assets")));
    let variable = |name: &str| shared.lock().unwrap().get(name).cloned();
    let set = |name: &'static str, value: &str| {
        shared.lock().unwrap().insert(name, value.to_owned());
    };
    set("MINIO_SECRET_KEY", "planted-wrong-secret");
    let catalog = Catalog::load(&variable).unwrap();
    let catalog = catalog.with_clock(&Clock::new(|| {
        Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
    }));
    std::fs::write(server.path("assets", "a"), "x").unwrap();
    for line in [
        "health",
        "list assets",
        "stat assets a",
        "download assets a",
        "upload assets b x",
    ] {
        let outcome = slash(&catalog, &format!("/mcp-minio {line}")).await;
        let Err(HandlerError::Credential { reason, .. }) = &outcome else {
            panic!("{line}: {outcome:?}")
        };
        assert!(reason.contains("`MINIO_SECRET_KEY`"), "{reason}");
        assert!(
            !reason.contains("planted") && !reason.contains(ACCESS_KEY),
            "{reason}"
        );
    }
    assert!(catalog.refresh(&variable).is_empty());
    set("MINIO_SECRET_KEY", SECRET_KEY);
    assert_eq!(catalog.refresh(&variable).len(), 1);
    slash(&catalog, "/mcp-minio stat assets a").await.unwrap();
    set("MINIO_ACCESS_KEY", "SOMEBODYELSE");
    catalog.refresh(&variable);
    let outcome = slash(&catalog, "/mcp-minio list assets").await;
    assert!(
        matches!(outcome, Err(HandlerError::Credential { .. })),
        "{outcome:?}"
    );

    // What is not configured, or not well, says what to set.
    for (name, value, part) in [
        ("MINIO_BUCKETS", "", "set `MINIO_BUCKETS`"),
        ("MINIO_BUCKETS", "../x", "is not the name of a bucket"),
        ("MINIO_BUCKETS", "assets/../private", "the prefix"),
        ("MINIO_ACCESS_KEY", "", "set `MINIO_ACCESS_KEY`"),
        ("MINIO_ACCESS_KEY", "a/b c", "no access key"),
        ("MINIO_ENDPOINT", "ftp://x", "`MINIO_ENDPOINT`"),
        ("MINIO_STYLE", "other", "`MINIO_STYLE`"),
        ("MAX_FILE_SIZE_MB", "0", "`MAX_FILE_SIZE_MB`"),
        (
            "PRESIGNED_URL_EXPIRY_SECONDS",
            "9999999",
            "`PRESIGNED_URL_EXPIRY_SECONDS`",
        ),
        ("ALLOWED_FILE_TYPES", "*/*", "`ALLOWED_FILE_TYPES`"),
    ] {
        let mut variables = variables(server.address, "assets");
        variables.insert(name, value.to_owned());
        let catalog = self::catalog(&variables, 0);
        let service = catalog.service("minio").unwrap();
        let message = service.error_message.clone().unwrap_or_default();
        assert!(message.contains(part), "{name}={value}: {message}");
        let outcome = slash(&catalog, "/mcp-minio health").await;
        assert!(
            matches!(outcome, Err(HandlerError::NotConfigured { .. })),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_named() {
    let (server, _) = world().await;
    for (ahead, part) in [(3600, "60 minutes ahead"), (-3600, "60 minutes behind")] {
        let catalog = catalog(&variables(server.address, "assets"), ahead);
        for line in ["list assets", "stat assets a"] {
            let outcome = slash(&catalog, &format!("/mcp-minio {line}")).await;
            let Err(HandlerError::Credential { reason, .. }) = &outcome else {
                panic!("{outcome:?}")
            };
            assert!(
                reason.contains(part) && reason.contains("clock"),
                "{reason}"
            );
        }
    }
}
