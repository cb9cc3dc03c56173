//! Clients of other people's SDKs get in by OAuth: from the 401 through discovery,
//! registration, a browser and PKCE to a token of a real authorization server's, and to a
//! better one when what they do needs it.

use std::{path::Path, process::Stdio};

use anyhow::Context;
use cedargate_tests::mcp::{Driver, Everything, Policies, Sdk, World, node, said};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

/// `tests/oidc/authorization.mjs`; it ends when this is dropped.
struct AuthorizationServer {
    issuer: String,
    http: reqwest::Client,
    _child: Child,
}

impl AuthorizationServer {
    async fn start() -> anyhow::Result<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("oidc");
        anyhow::ensure!(
            folder.join("node_modules").is_dir(),
            "the authorization server is not installed: run `tests/run`, or `npm ci --prefix tests/oidc`"
        );
        let mut child = node()?
            .arg("authorization.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        let issuer = loop {
            let line = lines.next_line().await?;
            let line = line.context("the authorization server says where it listens")?;
            if line.starts_with("http://") {
                break line;
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self {
            issuer,
            http: reqwest::Client::builder().no_proxy().build()?,
            _child: child,
        })
    }

    /// Who logs in from now on.
    async fn is_visited_by(&self, account: &str) -> anyhow::Result<()> {
        let control = format!("{}/control", self.issuer);
        let who = json!({"account": account}).to_string();
        self.http
            .post(control)
            .body(who)
            .send()
            .await?
            .error_for_status()?;
        Ok(())
    }

    /// What clients asked it for.
    async fn told(&self) -> anyhow::Result<Value> {
        let control = format!("{}/control", self.issuer);
        let told = self.http.get(control).send().await?.text().await?;
        Ok(serde_json::from_str(&told)?)
    }
}

/// A world whose clients get in by OAuth: `dan` at the authorization server is our agent.
async fn world() -> anyhow::Result<(World, AuthorizationServer, Everything)> {
    let everything = Everything::start().await?;
    let authorization = AuthorizationServer::start().await?;
    let table = format!(
        "url = \"{}/mcp\"\nrisk = \"read\"\n[mcp.tools.get-sum]\nrisk = \"write\"",
        everything.url()
    );
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port()
        .to_string();
    let url = format!("http://127.0.0.1:{port}");
    let world = World::start(
        &[("everything", table)],
        Policies::Ours(""),
        &[
            ("PORT", port.as_str()),
            ("CEDARGATE_OAUTH_ISSUER", authorization.issuer.as_str()),
            ("CEDARGATE_OAUTH_URL", url.as_str()),
            ("CEDARGATE_OAUTH_AGENTS", "dan=mcp-bot"),
        ],
    )
    .await?;
    assert_eq!(world.system.gateway_url, url);
    world.review("everything").await?;
    Ok((world, authorization, everything))
}

async fn dance(sdk: Sdk) -> anyhow::Result<()> {
    let (world, authorization, _everything) = world().await?;
    let url = world.url("everything");
    authorization.is_visited_by("dan").await?;

    let mut client = Driver::oauth(sdk, &url).await?;
    let told = authorization.told().await?;
    assert_eq!(told["registered"], 1, "it registered by itself: {told}");
    let token = &told["tokens"][0];
    assert_eq!(
        (&token["resource"], &token["verifier"]),
        (&json!(url), &json!(true)),
        "the token is for this door, and its code was redeemed with PKCE: {told}"
    );
    let asked = client.act(json!({"do": "oauth"})).await?["result"].clone();
    let first = &asked["asked"][0];
    assert_eq!(first["resource"], url, "{asked}");
    assert_eq!(first["code_challenge_method"], "S256", "{asked}");
    assert_eq!(
        first["scope"], "cedargate:read",
        "no more than it needs: {asked}"
    );

    let tools = client.tools().await?;
    for tool in ["echo", "get-sum"] {
        assert!(tools.contains(&tool.to_owned()), "{tools:?}");
    }
    let echoed = client.call("echo", json!({"message": "hi"})).await?;
    assert_eq!(said(&echoed), ("Echo: hi".to_owned(), false), "{echoed}");

    // What changes something needs a better token, which the client gets; and then people.
    let sum = json!({"a": 2, "b": 40});
    let pending = client.call("get-sum", sum.clone()).await?;
    assert!(said(&pending).0.contains("NEEDS APPROVAL"), "{pending}");
    let asked = client.act(json!({"do": "oauth"})).await?["result"].clone();
    let steps = asked["asked"].as_array().context("what it asked for")?;
    assert_eq!(steps.len(), 2, "one step up: {asked}");
    let scope = steps[1]["scope"].as_str().unwrap_or_default();
    assert!(scope.contains("cedargate:write"), "{asked}");
    assert!(!scope.contains("cedargate:destroy"), "{asked}");
    let requests = world.waiting("get-sum").await?;
    assert_eq!(requests.len(), 1, "{requests:?}");
    world.system.respond(&requests[0], true).await?;
    let summed = client.call("get-sum", sum).await?;
    assert!(
        !said(&summed).1 && said(&summed).0.contains("42"),
        "{summed}"
    );
    let told = authorization.told().await?;
    assert_eq!(told["tokens"].as_array().map(Vec::len), Some(2), "{told}");

    // By what it was known, and what its token was not good for, is recorded.
    let listed = world.system.cli(&["audit", "list", "--json"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    for part in [
        "\"by\":\"oauth\"".to_owned(),
        authorization.issuer.clone(),
        "insufficient_scope".to_owned(),
    ] {
        assert!(
            listed.replace(": ", ":").contains(&part),
            "{part}: {listed}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript_1() -> anyhow::Result<()> {
    dance(Sdk::TypeScript1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript_2() -> anyhow::Result<()> {
    dance(Sdk::TypeScript2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_1() -> anyhow::Result<()> {
    dance(Sdk::Python1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_2() -> anyhow::Result<()> {
    dance(Sdk::Python2).await
}

/// Clients that are known by a document about them (client id metadata documents) register
/// nowhere; to the gateway they are clients as any others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_known_by_its_document_gets_in() -> anyhow::Result<()> {
    const DOCUMENT: &str = "https://client.example/driver.json";
    let (world, authorization, _everything) = world().await?;
    let url = world.url("everything");
    authorization.is_visited_by("dan").await?;
    for (number, sdk) in Sdk::ALL.into_iter().enumerate() {
        let mut client = Driver::oauth_as(sdk, &url, DOCUMENT).await?;
        let echoed = client.call("echo", json!({"message": "hi"})).await?;
        assert_eq!(said(&echoed), ("Echo: hi".to_owned(), false), "{sdk:?}");
        let told = authorization.told().await?;
        assert_eq!(told["registered"], 0, "{sdk:?}: {told}");
        assert_eq!(
            told["tokens"][number]["client"], DOCUMENT,
            "{sdk:?}: {told}"
        );
    }
    let told = authorization.told().await?;
    assert_eq!(told["documents"], 1, "it is kept: {told}");
    let listed = world.system.cli(&["audit", "list", "--json"]).await?;
    let listed = String::from_utf8(listed.stdout)?;
    assert!(listed.contains(DOCUMENT), "{listed}");
    Ok(())
}

/// Every service as tools; somebody who is no agent; and credentials as ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_door_and_other_people() -> anyhow::Result<()> {
    let (world, authorization, _everything) = world().await?;
    let url = format!("{}/mcp", world.system.gateway_url);
    authorization.is_visited_by("dan").await?;
    let mut client = Driver::oauth(Sdk::TypeScript1, &url).await?;
    let tools = client.tools().await?;
    assert!(tools.contains(&"everything__echo".to_owned()), "{tools:?}");
    let echo = json!({"message": "hi"});
    let echoed = client.call("everything__echo", echo.clone()).await?;
    assert!(said(&echoed).0.contains("Echo: hi"), "{echoed}");
    assert_eq!(authorization.told().await?["tokens"][0]["resource"], url);

    // A good token of somebody whom nobody has made an agent.
    authorization.is_visited_by("eve").await?;
    let refused = Driver::oauth(Sdk::TypeScript1, &url).await;
    let Err(refused) = refused else {
        panic!("eve is no agent");
    };
    assert!(
        refused
            .to_string()
            .contains("no agent here is its `sub` `eve`"),
        "{refused}"
    );

    let mut client = Driver::http(Sdk::TypeScript2, &url, &world.token).await?;
    let echoed = client.call("everything__echo", echo).await?;
    assert!(said(&echoed).0.contains("Echo: hi"), "{echoed}");
    let nobody = reqwest::Client::builder().no_proxy().build()?.post(&url);
    let nobody = nobody.header("x-agent-id", "mcp-bot").send().await?;
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED);
    Ok(())
}
