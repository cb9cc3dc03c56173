//! GitHub Apps: signed by our key, by GitHub's clock, one token for many commands.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unused_async,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use aws_lc_rs::{
    encoding::{AsDer, Pkcs8V1Der},
    rsa::{KeyPair, KeySize},
    signature::{KeyPair as _, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey},
};
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use everything::PermitEverything;
use handlers::{Catalog, HandlerError, Parsed};
use serde_json::{Value, json};

/// GitHub's clock: 2031-05-06, whatever ours says.
const DATE: &str = "Tue, 06 May 2031 12:00:00 GMT";
const SECONDS: i64 = 1_935_835_200;

#[derive(Clone)]
struct GitHub {
    public: Arc<Vec<u8>>,
    tokens: Arc<AtomicU32>,
    /// Tokens up to this one were taken back.
    revoked: Arc<AtomicU32>,
    /// RFC 3339.
    expires: Arc<Mutex<String>>,
}

impl GitHub {
    async fn start(key: &KeyPair) -> (Self, SocketAddr) {
        let github = Self {
            public: Arc::new(key.public_key().as_ref().to_vec()),
            tokens: Arc::default(),
            revoked: Arc::default(),
            expires: Arc::new(Mutex::new("2031-05-06T13:00:00Z".to_owned())),
        };
        let app = Router::new()
            .route("/", get(|| async { [(header::DATE, DATE)] }))
            .route("/app/installations/{id}/access_tokens", post(Self::token))
            .route("/rate_limit", get(Self::limit))
            .with_state(github.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (github, address)
    }

    async fn token(
        State(github): State<Self>,
        Path(id): Path<String>,
        headers: HeaderMap,
    ) -> Response {
        assert_eq!(id, "42");
        let jwt = headers["authorization"]
            .to_str()
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap();
        let (signed, signature) = jwt.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, github.public.as_slice())
            .verify(
                signed.as_bytes(),
                &URL_SAFE_NO_PAD.decode(signature).unwrap(),
            )
            .expect("signed by the App's key");
        let claims = URL_SAFE_NO_PAD
            .decode(signed.split_once('.').unwrap().1)
            .unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["iss"], "7");
        let (from, until) = (
            claims["iat"].as_i64().unwrap(),
            claims["exp"].as_i64().unwrap(),
        );
        assert!(
            from <= SECONDS && SECONDS < until && until <= SECONDS + 600,
            "{claims}"
        );
        let number = github.tokens.fetch_add(1, Ordering::SeqCst) + 1;
        let body = json!({"token": format!("installation-token-{number}"), "expires_at": *github.expires.lock().unwrap()});
        (StatusCode::CREATED, [(header::DATE, DATE)], Json(body)).into_response()
    }

    async fn limit(State(github): State<Self>, headers: HeaderMap) -> Response {
        let token = headers["authorization"].to_str().unwrap();
        let number: u32 = token
            .strip_prefix("Bearer installation-token-")
            .unwrap()
            .parse()
            .unwrap();
        if number <= github.revoked.load(Ordering::SeqCst) {
            return (StatusCode::UNAUTHORIZED, "{}").into_response();
        }
        Json(json!({"rate": {"limit": 5000, "echo": token}})).into_response()
    }
}

fn catalog(address: SocketAddr, pem: &str) -> Catalog {
    Catalog::load(&|name| match name {
        "GITHUB_API_URL" => Some(format!("http://{address}")),
        "GITHUB_APP_ID" => Some("7".to_owned()),
        "GITHUB_INSTALLATION_ID" => Some("42".to_owned()),
        "GITHUB_PRIVATE_KEY" => Some(pem.to_owned()),
        _ => None,
    })
    .unwrap()
}

async fn health(catalog: &Catalog) -> Result<Value, HandlerError> {
    let Ok(Parsed::Command(command)) = catalog.parse_slash("/mcp-gh health") else {
        panic!()
    };
    let permit = PermitEverything::new().permit(command);
    catalog.handle(permit).await.map(|answer| answer.data)
}

fn pem(key: &KeyPair) -> String {
    let der = AsDer::<Pkcs8V1Der<'_>>::as_der(key).unwrap();
    let text = STANDARD.encode(der.as_ref());
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        lines.join("\n")
    )
}

#[tokio::test]
async fn an_app_gets_one_token_and_renews_it() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let (github, address) = GitHub::start(&key).await;
    let catalog = catalog(address, &pem(&key));

    // Many at once fetch one; nobody sees it.
    let all = tokio::join!(health(&catalog), health(&catalog), health(&catalog));
    for data in [all.0, all.1, all.2] {
        let data = data.unwrap();
        assert_eq!(data["rate"]["limit"], json!(5000));
        assert!(!data.to_string().contains("installation-token"), "{data}");
    }
    assert_eq!(github.tokens.load(Ordering::SeqCst), 1);

    // Taken back: renewed at once, once.
    github.revoked.store(1, Ordering::SeqCst);
    health(&catalog).await.unwrap();
    assert_eq!(github.tokens.load(Ordering::SeqCst), 2);
    github.revoked.store(100, Ordering::SeqCst);
    let error = health(&catalog).await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Credential { .. }),
        "{error:?}"
    );
    assert_eq!(github.tokens.load(Ordering::SeqCst), 3);

    // Nearly at its end: not used any more.
    github.revoked.store(3, Ordering::SeqCst);
    *github.expires.lock().unwrap() = "2031-05-06T12:04:00Z".to_owned();
    health(&catalog).await.unwrap();
    let fetched = github.tokens.load(Ordering::SeqCst);
    health(&catalog).await.unwrap();
    assert_eq!(github.tokens.load(Ordering::SeqCst), fetched + 1);
}

#[tokio::test]
async fn a_key_that_was_mangled_on_its_way_is_still_a_key() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let (_, address) = GitHub::start(&key).await;
    let pem = pem(&key);
    for mangled in [
        pem.trim().replace('\n', "\\n"),
        pem.replace('\n', " "),
        format!("\"{}\"", pem.replace('\n', "\\n")),
        pem.replace('\n', "\r\n"),
    ] {
        health(&catalog(address, &mangled)).await.unwrap();
    }
    let status = |pem: &str| {
        let catalog = catalog(address, pem);
        let message = catalog.service("github").unwrap().error_message.clone();
        message.unwrap_or_default()
    };
    assert_eq!(status(&pem), "");
    for wrong in [
        "not a key",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
    ] {
        let message = status(wrong);
        assert!(
            message.contains("GITHUB_PRIVATE_KEY") && !message.contains("AAAA"),
            "{message}"
        );
    }
    let partly = Catalog::load(&|name| (name == "GITHUB_APP_ID").then(|| "7".to_owned())).unwrap();
    let message = partly.service("github").unwrap().error_message.clone();
    assert_eq!(
        message.unwrap(),
        "set `GITHUB_PRIVATE_KEY` and `GITHUB_INSTALLATION_ID`"
    );
}

/// Answers the first request with `date`, which is what the App signs by, and every other
/// with the next of `answers`, bytes as they are; then it closes.
async fn raw(date: &str, answers: Vec<Vec<u8>>) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let first =
        format!("HTTP/1.1 200 OK\r\n{date}content-length: 2\r\nconnection: close\r\n\r\n{{}}");
    tokio::spawn(async move {
        for answer in std::iter::once(first.into_bytes()).chain(answers) {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
                assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
            }
            kept.lock().unwrap().push(String::from_utf8(bytes).unwrap());
            let _ = stream.write_all(&answer).await;
            if answer.ends_with(b"...") {
                std::future::pending::<()>().await;
            }
            let _ = stream.shutdown().await;
        }
    });
    (address, seen)
}

fn right(date: &str) -> String {
    format!("date: {date}\r\n")
}

/// Whatever GitHub's clock says, and ours does not matter.
#[tokio::test]
async fn an_app_signs_by_githubs_clock_or_not_at_all() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let token = |expires: &str| {
        let body = json!({"token": "ghs_x", "expires_at": expires}).to_string();
        let length = body.len();
        format!(
            "HTTP/1.1 201 Created\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
        .into_bytes()
    };
    let limit = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}".to_vec();
    // Hours and decades away from ours, in both directions.
    for (date, seconds) in [
        ("Thu, 01 Jan 1970 00:10:00 GMT", 600),
        ("Tue, 06 May 2031 12:00:00 GMT", SECONDS),
        ("Thu, 31 Dec 9998 23:59:59 GMT", 253_370_764_799_i64),
    ] {
        let answers = vec![token("9999-01-01T00:00:00Z"), limit.clone()];
        let (address, seen) = raw(&right(date), answers).await;
        health(&catalog(address, &pem(&key))).await.unwrap();
        let seen = seen.lock().unwrap();
        let jwt = seen[1]
            .lines()
            .find_map(|line| line.strip_prefix("authorization: Bearer "));
        let claims = URL_SAFE_NO_PAD
            .decode(jwt.unwrap().split('.').nth(1).unwrap())
            .unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(
            (claims["iat"].as_i64(), claims["exp"].as_i64()),
            (Some(seconds - 60), Some(seconds + 540)),
            "{date}"
        );
    }
    // A clock that cannot be read is no reason to use our own.
    for date in [
        "",
        "date: \r\n",
        "date: soon\r\n",
        "date: 2031-05-06T12:00:00Z\r\n",
        "date: Tue, 06 May 99999 12:00:00 GMT\r\n",
        "date: Tue, 32 May 2031 12:00:00 GMT\r\n",
    ] {
        let (address, seen) = raw(date, vec![token("9999-01-01T00:00:00Z")]).await;
        let error = health(&catalog(address, &pem(&key))).await.unwrap_err();
        assert!(
            matches!(&error, HandlerError::Credential { reason, .. } if reason.contains("no date")),
            "{date:?}: {error:?}"
        );
        assert_eq!(seen.lock().unwrap().len(), 1, "{date:?}");
    }
    // A token that ended before it came is used for what asked for it, and not again.
    let answers = vec![token("1999-01-01T00:00:00Z"), limit.clone()];
    let (address, seen) = raw(&right(DATE), answers).await;
    let catalog = catalog(address, &pem(&key));
    health(&catalog).await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 3);
    let error = health(&catalog).await.unwrap_err();
    assert!(
        matches!(error, HandlerError::Unreachable { .. }),
        "it asks anew: {error:?}"
    );
}

#[tokio::test]
async fn what_is_no_token_is_not_used_as_one() {
    let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
    let trap = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let created = |headers: &str, body: &str| {
        format!("HTTP/1.1 201 Created\r\n{headers}connection: close\r\n\r\n{body}").into_bytes()
    };
    let token = |token: &str| {
        created(
            "",
            &json!({"token": token, "expires_at": "9999-01-01T00:00:00Z"}).to_string(),
        )
    };
    let location = format!("location: http://{}/\r\n", trap.local_addr().unwrap());
    let redirect =
        format!("HTTP/1.1 307 Temporary Redirect\r\n{location}content-length: 0\r\n\r\n");
    let endless = "transfer-encoding: chunked\r\n";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let cases = [
        (
            created("content-type: text/html\r\n", "<html>hunter2"),
            "not JSON",
        ),
        (
            created("content-encoding: gzip\r\n", "\u{1f}hunter2"),
            "not JSON",
        ),
        (created("", "{\"token\": \"hunter2\""), "not JSON"),
        (
            created("content-length: 100\r\n", "{\"token\": \"hunter2\""),
            "ended early or",
        ),
        (created("", &" ".repeat(1 << 20)), "too long"),
        (created(endless, &chunk.repeat(8)), "too long"),
        (created("", "[]"), "no token"),
        (created("", "{\"token\": \"\"}"), "no token"),
        (created("", "{\"token\": \"hunter2\"}"), "how long"),
        (token("hunter2\r\nX-Injected: y"), "not a header's value"),
        (token("hunter2\u{0}"), "not a header's value"),
        (redirect.into_bytes(), "status 307"),
        (
            b"HTTP/1.1 500 No\r\ncontent-length: 7\r\n\r\nhunter2".to_vec(),
            "status 500",
        ),
        (
            b"HTTP/1.1 401 No\r\ncontent-length: 7\r\n\r\nhunter2".to_vec(),
            "status 401",
        ),
        (
            b"HTTP/1.1 201 Created\r\ncontent-length: 90\r\n\r\n...".to_vec(),
            "timeout",
        ),
    ];
    for (answer, says) in cases {
        let (address, seen) = raw(&right(DATE), vec![answer]).await;
        let timeout = if says == "timeout" { "200" } else { "10000" };
        let catalog = Catalog::load(&|name| match name {
            "GITHUB_API_URL" => Some(format!("http://{address}")),
            "GITHUB_APP_ID" => Some("7".to_owned()),
            "GITHUB_INSTALLATION_ID" => Some("42".to_owned()),
            "GITHUB_PRIVATE_KEY" => Some(pem(&key)),
            "HTTP_TIMEOUT_MS" => Some(timeout.to_owned()),
            _ => None,
        })
        .unwrap();
        let error = health(&catalog).await.unwrap_err();
        let told = match &error {
            HandlerError::Timeout { .. } => says == "timeout",
            HandlerError::Broken { .. } => says == "ended early or",
            HandlerError::Credential { reason, .. } => reason.contains(says),
            _ => false,
        };
        assert!(told, "{says}: {error:?}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        // Nothing was sent with what is no token.
        assert_eq!(seen.lock().unwrap().len(), 2, "{says}");
    }
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(trap.poll_accept(&mut context).is_pending());
}
