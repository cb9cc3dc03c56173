//! Servers that are down, slow, half, somebody else, or mean it ill.

use std::{net::SocketAddr, time::Duration};

use handlers::HandlerError;
use md5::{Digest as _, Md5};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::{catalog, slash, variables};

/// A server that answers each request with the next of `answers`, bytes as they are, and
/// closes; the last again and again.
async fn raw(answers: Vec<Vec<u8>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut answers = answers.into_iter();
        let mut last = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            last = answers.next().unwrap_or(last);
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                    break;
                }
            }
            let _ = stream.write_all(&last).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

fn list(inner: &str) -> Vec<u8> {
    let body = format!("<ListBucketResult>{inner}</ListBucketResult>");
    answer("200 OK", "content-type: application/xml\r\n", &body)
}

fn error(code: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>Said so.</Message>{more}</Error>"
    )
}

async fn listed(answers: Vec<Vec<u8>>) -> Result<serde_json::Value, HandlerError> {
    let catalog = catalog(&variables(raw(answers).await, "assets,shared/agents"), 0);
    slash(&catalog, "/mcp-minio list shared").await
}

#[tokio::test]
async fn errors_of_the_server_are_ours() {
    let cases = [
        (
            "404 Not Found",
            "",
            error("NoSuchKey", ""),
            "NotFound",
            "NoSuchKey",
        ),
        (
            "404 Not Found",
            "",
            error("NoSuchBucket", ""),
            "NotFound",
            "Said so (NoSuchBucket)",
        ),
        (
            "403 Forbidden",
            "",
            error("AccessDenied", ""),
            "Credential",
            "may not do this",
        ),
        (
            "403 Forbidden",
            "",
            error(
                "SignatureDoesNotMatch",
                "<StringToSign>planted</StringToSign>",
            ),
            "Credential",
            "`MINIO_SECRET_KEY` is wrong",
        ),
        (
            "403 Forbidden",
            "",
            error("InvalidAccessKeyId", ""),
            "Credential",
            "`MINIO_ACCESS_KEY`",
        ),
        (
            "400 Bad Request",
            "",
            error("ExpiredToken", ""),
            "Credential",
            "`MINIO_SESSION_TOKEN`",
        ),
        (
            "400 Bad Request",
            "",
            error(
                "AuthorizationHeaderMalformed",
                "<Region>eu-central-1</Region>",
            ),
            "Credential",
            "`eu-central-1`",
        ),
        (
            "403 Forbidden",
            "",
            error("RequestTimeTooSkewed", ""),
            "Credential",
            "clocks",
        ),
        (
            "301 Moved",
            "location: http://169.254.169.254/\r\nx-amz-bucket-region: eu-west-1\r\n",
            error("PermanentRedirect", ""),
            "Failed",
            "`eu-west-1`",
        ),
        (
            "307 Moved",
            "location: http://127.0.0.1:1/\r\n",
            String::new(),
            "Failed",
            "not followed",
        ),
        (
            "503 Slow Down",
            "retry-after: 9\r\n",
            error("SlowDown", ""),
            "TooMany",
            "",
        ),
        (
            "429 Too Many",
            "retry-after: 9\r\n",
            String::new(),
            "TooMany",
            "",
        ),
        (
            "501 Not Implemented",
            "",
            error("NotImplemented", ""),
            "Rejected",
            "NotImplemented",
        ),
        (
            "400 Bad Request",
            "",
            error("InvalidArgument", ""),
            "Rejected",
            "Said so (InvalidArgument)",
        ),
        (
            "418 Odd",
            "",
            "<html>planted</html>".to_owned(),
            "Rejected",
            "no reason",
        ),
        (
            "500 Oh",
            "",
            error("InternalError", "<Detail>planted</Detail>"),
            "Failed",
            "status 500",
        ),
        (
            "502 Oh",
            "",
            "<html>planted</html>".to_owned(),
            "Failed",
            "status 502",
        ),
    ];
    for (status, headers, body, kind, part) in cases {
        let outcome = listed(vec![answer(status, headers, &body)])
            .await
            .unwrap_err();
        let debug = format!("{outcome:?}");
        assert!(debug.starts_with(kind), "{status}: {debug}");
        assert!(outcome.to_string().contains(part), "{outcome}");
        assert!(
            !debug.contains("planted") && !debug.contains("169.254"),
            "{debug}"
        );
    }
}

#[tokio::test]
async fn answers_that_are_none_are_failures() {
    let laughs = r#"<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]><ListBucketResult>&b;</ListBucketResult>"#;
    let deep = "<a>".repeat(100_000);
    let huge = format!("<a>{}</a>", "x".repeat(5 << 20));
    let cases = [
        (
            answer("200 OK", "", "<html><body>planted</body></html>"),
            "Failed",
        ),
        (answer("200 OK", "", ""), "Failed"),
        (answer("200 OK", "", "{}"), "Failed"),
        (answer("200 OK", "", laughs), "Failed"),
        (answer("200 OK", "", &deep), "Failed"),
        (answer("200 OK", "", &huge), "Failed"),
        (
            answer("200 OK", "content-encoding: gzip\r\n", "\u{1f}\u{8b}bomb"),
            "Failed",
        ),
        (
            list("<Contents><Key>agents-private/x</Key></Contents>"),
            "Failed",
        ),
        (
            list("<CommonPrefixes><Prefix>other/</Prefix></CommonPrefixes>"),
            "Failed",
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<ListBucketResult>".to_vec(),
            "Broken",
        ),
        (b"HTTP/1.1 200 OK\r\ncontent-le".to_vec(), "Broken"),
        (Vec::new(), "Broken"),
        (b"planted nonsense\r\n\r\n".to_vec(), "Broken"),
    ];
    for (bytes, kind) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(80)]).into_owned();
        let outcome = listed(vec![bytes]).await;
        let debug = format!("{:?}", outcome.unwrap_err());
        assert!(debug.starts_with(kind), "{shown}: {debug}");
        assert!(!debug.contains("planted"), "{debug}");
    }
}

#[tokio::test]
async fn what_may_be_sent_again_is() {
    let good = list("<Contents><Key>agents/a</Key><Size>1</Size></Contents>");
    for bad in [
        answer("503 Slow Down", "", &error("SlowDown", "")),
        answer("500 Oh", "", &error("InternalError", "")),
        Vec::new(),
        b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n<ListB".to_vec(),
    ] {
        let listed = listed(vec![bad.clone(), bad, good.clone()]).await.unwrap();
        assert_eq!(listed["files"][0]["key"], json!("a"));
    }
}

#[tokio::test]
async fn a_server_that_is_down_or_silent_is_left_alone() {
    let gone = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let catalog = catalog(&variables(gone, "assets"), 0);
    let outcome = slash(&catalog, "/mcp-minio list assets").await.unwrap_err();
    assert!(
        matches!(outcome, HandlerError::Unreachable { .. }),
        "{outcome:?}"
    );
    assert!(
        outcome.to_string().contains("`MINIO_ENDPOINT`"),
        "{outcome}"
    );
    let outcome = slash(&catalog, "/mcp-minio list assets").await.unwrap_err();
    assert!(outcome.to_string().contains("tried again in"), "{outcome}");

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut variables = variables(silent.local_addr().unwrap(), "assets");
    variables.insert("HTTP_TIMEOUT_MS", "200".to_owned());
    let catalog = super::catalog(&variables, 0);
    let outcome = slash(&catalog, "/mcp-minio stat assets a")
        .await
        .unwrap_err();
    assert_eq!(
        outcome,
        HandlerError::Timeout {
            service: "minio".to_owned(),
            after: Duration::from_millis(200)
        }
    );
}

/// The server says that all is well, and then that it is not; the parts are thrown away.
#[tokio::test]
async fn an_upload_that_cannot_be_put_together_failed() {
    let begun = answer(
        "200 OK",
        "",
        "<InitiateMultipartUploadResult><UploadId>7&amp;x</UploadId></InitiateMultipartUploadResult>",
    );
    let part = answer("200 OK", "etag: \"p\"\r\n", "");
    let failed = answer("200 OK", "", &error("InvalidPart", ""));
    let gone = answer("404 Not Found", "", "");
    let aborted = answer("204 No Content", "", "");
    let address = raw(vec![
        gone.clone(),
        begun.clone(),
        part.clone(),
        part.clone(),
        failed,
        aborted,
    ])
    .await;
    let catalog = catalog(&variables(address, "assets"), 0);
    let bytes = vec![b'x'; 9 << 20];
    let arguments = json!({
        "bucket": "assets", "fileKey": "a.txt", "contentType": "text/plain",
        "size": bytes.len(), "sha256": super::sha256(&bytes),
    });
    let chunks = || super::chunks(&bytes, 1 << 20);
    let outcome = super::stream(&catalog, arguments.clone(), None, chunks()).await;
    super::rejected(outcome, 400, "InvalidPart");

    // It was put together, but the answer was lost: the next attempt knows of no upload any
    // more, and the object that is there is ours.
    let digests = [&bytes[..8 << 20], &bytes[8 << 20..]].map(|part| Md5::digest(part));
    let etag = hex::encode(Md5::digest(digests.concat()));
    let there = answer("200 OK", &format!("etag: \"{etag}-2\"\r\n"), "");
    let lost = answer("404 Not Found", "", &error("NoSuchUpload", ""));
    let address = raw(vec![
        gone,
        begun,
        part.clone(),
        part,
        Vec::new(),
        lost,
        there,
    ])
    .await;
    let catalog = super::catalog(&variables(address, "assets"), 0);
    let stored = super::stream(&catalog, arguments, None, chunks())
        .await
        .unwrap();
    assert_eq!(stored["etag"], json!(format!("{etag}-2")));
}
