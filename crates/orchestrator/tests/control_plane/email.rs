//! E-mail, handed to a real SMTP server: `aiosmtpd`, which `tests/run` installs.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use contract::notifications::{Destination, Pace, Rules};
use orchestrator::notifications::Smtp;
use serde_json::Value;

use crate::{
    notifications::{add, ask, sent},
    plane::{Plane, START},
};

/// The server; it ends with the test.
struct Server {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
    port: u64,
}

/// Python with `aiosmtpd`: `CEDARGATE_TEST_PYTHON`, or where `tests/run` puts it.
fn python() -> PathBuf {
    if let Some(python) = std::env::var_os("CEDARGATE_TEST_PYTHON") {
        return python.into();
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    cache.join("cedargate/tools/python/bin/python")
}

impl Server {
    fn start(arguments: &[&str]) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/smtp/server.py");
        let mut child = Command::new(python())
            .arg(script)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("Python with aiosmtpd: run `tests/run`, or set CEDARGATE_TEST_PYTHON");
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let first: Value = serde_json::from_str(
            &lines
                .next()
                .expect("aiosmtpd is not installed: `tests/run` does that")
                .unwrap(),
        )
        .unwrap();
        Self {
            child,
            lines,
            port: first["port"].as_u64().unwrap(),
        }
    }

    /// The next message that it took.
    fn took(&mut self) -> Value {
        serde_json::from_str(&self.lines.next().unwrap().unwrap()).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// A certificate authority's and a server's certificate, and the server's key, as files.
fn certificates(folder: &Path) -> (Vec<u8>, String, String) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![]).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority = parameters.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&parameters, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        path.to_str().unwrap().to_owned()
    };
    (
        authority.pem().into_bytes(),
        file("server.pem", &certificate.pem()),
        file("server.key", &key.serialize_pem()),
    )
}

async fn plane(url: String, authority: Option<Vec<u8>>) -> Plane {
    let smtp = Smtp::parse(&url.into(), "Cedargate <cedargate@gate.example>", authority).unwrap();
    Plane::with(START, |config| config.notifications.smtp = Some(smtp)).await
}

/// One request, told to these mailboxes.
async fn tell(plane: &Plane, to: &[&str]) {
    let email = Destination::Email {
        to: to.iter().map(|&to| to.to_owned()).collect(),
    };
    let pace = Pace {
        group_seconds: Some(0),
        ..Pace::default()
    };
    add(plane, "mail", email, Rules::default(), pace).await;
    let agent = plane.agent("deploy-bot", None).await.agent.id;
    ask(plane, agent, 0..1).await;
    assert_eq!(sent(plane).await, 1);
}

async fn error(plane: &Plane) -> Option<String> {
    plane
        .admin
        .notification_target(&"mail".parse().unwrap())
        .await
        .unwrap()
        .last_error
}

#[tokio::test(flavor = "multi_thread")]
async fn a_letter_has_all_that_it_takes_to_decide() {
    let mut server = Server::start(&[]);
    let plane = plane(format!("smtp://127.0.0.1:{}", server.port), None).await;
    tell(&plane, &["amy@example.com", "ben@example.com"]).await;
    assert_eq!(error(&plane).await, None);
    let took = server.took();
    assert_eq!(took["from"], "cedargate@gate.example");
    assert_eq!(
        took["to"],
        serde_json::json!(["amy@example.com", "ben@example.com"])
    );
    let data = took["data"].as_str().unwrap();
    let [message] = &plane
        .admin
        .notification_messages(None, Some("delivered"), 10)
        .await
        .unwrap()[..]
    else {
        panic!()
    };
    for part in [
        "From: Cedargate <cedargate@gate.example>",
        "Subject: [cedargate] deploy-bot asks for coolify/list-servers (read)",
        &format!("Message-ID: <{}@gate.example>", message.id),
        "Auto-Submitted: auto-generated",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "to see what runs where",
    ] {
        assert!(data.contains(part), "{part}: {data}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_go_through_tls_with_a_login() {
    let folder = tempfile::tempdir().unwrap();
    let (authority, certificate, key) = certificates(folder.path());
    for (scheme, tls) in [("smtps", "implicit"), ("smtp+starttls", "starttls")] {
        let mut server = Server::start(&[
            "--tls",
            tls,
            "--cert",
            &certificate,
            "--key",
            &key,
            "--login",
            "gate:p@ss",
        ]);
        let good = plane(
            format!("{scheme}://gate:p%40ss@localhost:{}", server.port),
            Some(authority.clone()),
        )
        .await;
        tell(&good, &["amy@example.com"]).await;
        assert_eq!(error(&good).await, None, "{tls}");
        let took = server.took();
        assert_eq!(
            (&took["login"], &took["to"][0]),
            (&true.into(), &"amy@example.com".into())
        );

        let unknown = plane(
            format!("{scheme}://gate:p%40ss@localhost:{}", server.port),
            None,
        )
        .await;
        tell(&unknown, &["amy@example.com"]).await;
        let why = error(&unknown).await.unwrap();
        assert!(why.to_lowercase().contains("certificate"), "{tls}: {why}");

        let wrong = plane(
            format!("{scheme}://gate:wrong-hush@localhost:{}", server.port),
            Some(authority.clone()),
        )
        .await;
        tell(&wrong, &["amy@example.com"]).await;
        let why = error(&wrong).await.unwrap();
        assert!(why.contains("535") && !why.contains("hush"), "{tls}: {why}");
    }
    // A server without TLS gets nothing of what was to be protected.
    let server = Server::start(&[]);
    let plane = plane(
        format!("smtp+starttls://localhost:{}", server.port),
        Some(authority),
    )
    .await;
    tell(&plane, &["amy@example.com"]).await;
    assert!(error(&plane).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_kept_as_a_number() {
    let server = Server::start(&[]);
    let plane = plane(format!("smtp://127.0.0.1:{}", server.port), None).await;
    tell(&plane, &["refused@example.com"]).await;
    assert_eq!(
        error(&plane).await.as_deref(),
        Some("the SMTP server answered 550")
    );
}
