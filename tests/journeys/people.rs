//! Somebody logs in at a provider of identities and decides, through the real binary.

use anyhow::Context;
use cedargate_tests::{Layout, Reply, System};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[path = "../oidc/provider.rs"]
#[allow(
    dead_code,
    reason = "the orchestrator's own tests use the rest of what they share"
)]
mod provider;

use provider::{CLIENT_ID, CLIENT_SECRET, Provider};

const PUBLIC_URL: &str = "http://gate.example";
const CALLBACK: &str = "http://gate.example/login/oidc/callback";

/// A browser: it keeps the cookies that our pages set.
struct Browser<'a> {
    system: &'a System,
    http: reqwest::Client,
    cookies: Vec<(String, String)>,
}

impl Browser<'_> {
    async fn send(
        &mut self,
        method: Method,
        path: &str,
        form: Option<&str>,
    ) -> anyhow::Result<Reply> {
        let cookies: Vec<String> = self
            .cookies
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let url = format!("{}{path}", self.system.orchestrator_url);
        let mut request = self
            .http
            .request(method, url)
            .header("cookie", cookies.join("; "))
            .header("sec-fetch-site", "same-origin")
            .header("user-agent", "the journey's browser");
        if let Some(form) = form {
            request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(form.to_owned());
        }
        let reply = self.system.send(request).await?;
        for cookie in reply.headers.get_all("set-cookie") {
            let pair = cookie.to_str()?.split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').context("a cookie")?;
            self.cookies.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.cookies.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(reply)
    }

    /// To the provider, and back to us.
    async fn through(&mut self, provider: &Provider, path: &str) -> anyhow::Result<Reply> {
        let reply = self.send(Method::GET, path, None).await?;
        let back = provider.visit(location(&reply)?).await;
        let back = back.strip_prefix(PUBLIC_URL).context("back to us")?;
        self.send(Method::GET, back, None).await
    }
}

fn location(reply: &Reply) -> anyhow::Result<&str> {
    let location = reply
        .headers
        .get("location")
        .with_context(|| format!("it goes nowhere: {reply:?}"))?;
    Ok(location.to_str()?)
}

#[allow(
    clippy::too_many_lines,
    reason = "one journey, from the door to the trail"
)]
async fn logs_in_at_the_provider_and_decides(layout: Layout) -> anyhow::Result<()> {
    let Some(provider) = Provider::start(CALLBACK).await else {
        return Ok(());
    };
    let system = System::start_with(
        layout,
        &[
            ("CEDARGATE_PUBLIC_URL", PUBLIC_URL),
            ("CEDARGATE_OIDC_ISSUER", &provider.issuer),
            ("CEDARGATE_OIDC_CLIENT_ID", CLIENT_ID),
            ("CEDARGATE_OIDC_CLIENT_SECRET", CLIENT_SECRET),
            ("CEDARGATE_OIDC_CREATE_USERS", "true"),
            ("CEDARGATE_OIDC_ROLES_CLAIM", "groups"),
            ("CEDARGATE_OIDC_ROLES", "on-call=approver"),
            ("CEDARGATE_OIDC_MFA_AMR", "hwk"),
        ],
    )
    .await?;
    let agent = system
        .create_agent(json!({"name": "destroyer", "allowed_mcps": ["coolify"]}))
        .await?;
    let command = "/mcp-coolify applications stop sampleapp000000000000001";
    let refused = system.execute(&agent, command).await?;
    let id = refused.body["error"]["data"]["request_id"]
        .as_str()
        .with_context(|| format!("{refused:?}"))?
        .to_owned();

    let dan = json!({
        "account": "dan", "amr": ["pwd"],
        "claims": {"email": "dan@example.com", "email_verified": true, "groups": ["on-call"]},
    });
    provider.control(dan.clone()).await;
    let mut browser = Browser {
        system: &system,
        http: reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()?,
        cookies: Vec::new(),
    };
    let page = format!("/approvals/{id}");
    let next = page.replace('/', "%2F");
    let entered = browser
        .through(&provider, &format!("/login/oidc?next={next}"))
        .await?;
    assert_eq!(location(&entered)?, page, "{entered:?}");

    // What destroys takes a second factor, which the provider asks for.
    let form = "reason=planned&choice=once%3A900";
    let approve = format!("{page}/approve");
    let asked = browser.send(Method::POST, &approve, Some(form)).await?;
    assert_eq!(location(&asked)?, format!("/step-up?next={next}"));
    let step_up = format!("/step-up/oidc?next={next}");
    let without = browser.through(&provider, &step_up).await?;
    assert_eq!(
        without.status,
        StatusCode::FORBIDDEN,
        "a password is not enough: {without:?}"
    );
    let mut key = dan;
    key["amr"] = json!(["pwd", "hwk"]);
    provider.control(key).await;
    let proved = browser.through(&provider, &step_up).await?;
    assert_eq!(location(&proved)?, page, "{proved:?}");
    let approved = browser.send(Method::POST, &approve, Some(form)).await?;
    let decided = format!("{page}?done=advanced");
    assert_eq!(location(&approved)?, decided, "{approved:?}");
    system.enrol(&system.admin).await?;
    assert_eq!(system.respond(&id, true).await?.status, StatusCode::OK);
    assert_eq!(
        system.execute(&agent, command).await?.status,
        StatusCode::OK,
        "two people approved"
    );

    // Out at once, by the command line; and the trail knows all of it.
    let output = system
        .cli(&["users", "deactivate", "dan@example.com"])
        .await?;
    assert!(output.status.success(), "{output:?}");
    let gone = browser.send(Method::GET, "/me", None).await?;
    assert!(location(&gone)?.starts_with("/login"), "{gone:?}");
    let trail = system.admin_get("/api/audit?after=0&limit=1000").await?;
    let entries = trail.body.as_array().context("entries")?;
    let of = |kind: &str| -> Vec<&Value> {
        entries
            .iter()
            .filter(|entry| entry["kind"] == kind)
            .collect()
    };
    for kind in [
        "identity_linked",
        "login",
        "step_up",
        "second_factor_enrolled",
        "user_deactivated",
    ] {
        assert!(!of(kind).is_empty(), "{kind}: {trail:?}");
    }
    let login = &of("login")[0]["entry"];
    assert_eq!(
        (&login["method"], &login["from"], &login["user"]),
        (
            &json!("oidc"),
            &json!("127.0.0.1"),
            &json!("dan@example.com")
        ),
        "{login}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_provider_one_process() -> anyhow::Result<()> {
    logs_in_at_the_provider_and_decides(Layout::OneProcess).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_provider_two_processes() -> anyhow::Result<()> {
    logs_in_at_the_provider_and_decides(Layout::TwoProcesses).await
}
