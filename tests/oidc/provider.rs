// The provider of `server.mjs`, for tests of the orchestrator and journeys alike: each
// includes this file.

use std::{path::Path, process::Stdio};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

/// Who we are there, as `server.mjs` knows us.
pub(crate) const CLIENT_ID: &str = "cedargate";
pub(crate) const CLIENT_SECRET: &str = "secret +&%";

/// A provider that runs until it is dropped.
pub(crate) struct Provider {
    pub(crate) issuer: String,
    /// Its clock when it began, in milliseconds.
    pub(crate) began: i64,
    redirect_uri: String,
    http: reqwest::Client,
    child: Child,
}

impl Provider {
    /// Starts one that sends browsers back to `redirect_uri`. Nothing, said loudly, where
    /// there is no Node.js.
    pub(crate) async fn start(redirect_uri: &str) -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .map(|folder| folder.join("tests/oidc"))
            .find(|folder| folder.join("server.mjs").is_file())
            .expect("tests/oidc");
        assert!(
            folder.join("node_modules").is_dir(),
            "the provider of identities is not installed: run `tests/run`, or `npm ci --prefix tests/oidc`"
        );
        let mut command = Command::new("node");
        command
            .arg("server.mjs")
            .arg(redirect_uri)
            .current_dir(folder)
            .env("NODE_NO_WARNINGS", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!(
                    "\n!!! NOT TESTED: logging in at a provider needs Node.js, and there is none.\n"
                );
                return None;
            }
            Err(error) => panic!("node: {error}"),
        };
        let mut lines = BufReader::new(child.stdout.take().expect("stdout")).lines();
        let (issuer, began) = loop {
            let line = lines.next_line().await.expect("a line");
            let line = line.expect("the provider says where it listens");
            if let Some((issuer, began)) = line.split_once(' ')
                && issuer.starts_with("http://")
            {
                break (issuer.to_owned(), began.parse().expect("a time"));
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .expect("a client");
        Some(Self {
            issuer,
            began,
            redirect_uri: redirect_uri.to_owned(),
            http,
            child,
        })
    }

    /// Who logs in from now on, and what is said of them.
    pub(crate) async fn control(&self, who: Value) {
        let answer = self
            .http
            .post(format!("{}/control", self.issuer))
            .body(who.to_string())
            .send()
            .await
            .expect("an answer");
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Follows a browser from where we send it to where the provider sends it back.
    pub(crate) async fn visit(&self, url: &str) -> String {
        let mut cookies: Vec<(String, String)> = Vec::new();
        let mut url = url.to_owned();
        for _ in 0..10 {
            if url.starts_with(&self.redirect_uri) {
                return url;
            }
            let sent: Vec<String> = cookies
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            let answer = self
                .http
                .get(&url)
                .header("cookie", sent.join("; "))
                .send()
                .await
                .expect("an answer");
            for cookie in answer.headers().get_all("set-cookie") {
                let cookie = cookie.to_str().expect("text");
                let pair = cookie.split(';').next().unwrap_or_default();
                let (name, value) = pair.split_once('=').expect("a cookie");
                cookies.retain(|(known, _)| known != name);
                cookies.push((name.to_owned(), value.to_owned()));
            }
            let location = answer
                .headers()
                .get("location")
                .map(|location| location.to_str().expect("text").to_owned());
            let Some(location) = location else {
                panic!(
                    "{url}: {}: {}",
                    answer.status(),
                    answer.text().await.unwrap_or_default()
                );
            };
            url = if location.starts_with('/') {
                format!("{}{location}", self.issuer)
            } else {
                location
            };
        }
        panic!("it goes round and round: {url}");
    }

    /// Ends it, now.
    pub(crate) async fn stop(mut self) {
        self.child.kill().await.expect("a child");
    }
}
