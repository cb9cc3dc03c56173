//! Clients of other people's SDKs, against servers of other people, through the gateway:
//! what they see is their server, under policy.

use std::process::Stdio;

use cedargate_tests::{
    mcp::{Driver, Everything, Policies, Sdk, World, node, packages, said},
    process::binary,
    soon,
};
use mcp_fixture::{Fixture, Relay};
use serde_json::{Value, json};
use tempfile::TempDir;

/// One tool needs people, one is forbidden to everyone, one does not exist for agents.
const TOOLS: &str =
    "risk = \"read\"\nhidden = [\"get-tiny-image\"]\n[mcp.tools.get-sum]\nrisk = \"write\"";
const RULES: &str = r#"
@id("test.no-environment")
@advice("The environment of the server is nobody's business.")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"everything/get-env");
"#;

/// Connect, list, call, read, prompt, refused, approved, waited, cancelled.
async fn everything(sdk: Sdk) -> anyhow::Result<()> {
    let server = Everything::start().await?;
    let upstream = Relay::start(server.url(), &[]).await?;
    let table = format!("url = \"{}/mcp\"\n{TOOLS}", upstream.url());
    let world = World::start(&[("everything", table)], Policies::Ours(RULES), &[]).await?;
    world.review("everything").await?;
    let url = world.url("everything");
    let calls = |tool: &str| {
        let exchanges = upstream.exchanges();
        let bodies = exchanges.iter().map(|exchange| &exchange.body);
        let messages = bodies.filter_map(|body| serde_json::from_slice::<Value>(body).ok());
        messages
            .filter(|message| {
                message["method"] == "tools/call" && message["params"]["name"] == tool
            })
            .count()
    };

    let mut client = Driver::http(sdk, &url, &world.token).await?;
    assert_eq!(
        client.version, "2025-11-25",
        "the server speaks nothing newer"
    );
    let tools = client.tools().await?;
    assert!(tools.contains(&"echo".to_owned()), "{tools:?}");
    assert!(!tools.contains(&"get-tiny-image".to_owned()), "{tools:?}");

    let echoed = client.call("echo", json!({"message": "hi"})).await?;
    assert_eq!(said(&echoed), ("Echo: hi".to_owned(), false));
    let resources = client.act(json!({"do": "resources"})).await?;
    let uri = &resources["result"]["resources"][0]["uri"];
    let read = client.act(json!({"do": "read", "uri": uri})).await?;
    assert!(read["result"]["contents"][0]["text"].is_string(), "{read}");
    let prompts = client.act(json!({"do": "prompts"})).await?;
    let prompts = prompts["result"]["prompts"].as_array().unwrap();
    assert!(
        prompts
            .iter()
            .any(|prompt| prompt["name"] == "simple-prompt")
    );
    let prompt = client
        .act(json!({"do": "prompt", "name": "simple-prompt"}))
        .await?;
    assert!(
        prompt["result"]["messages"][0]["content"]["text"].is_string(),
        "{prompt}"
    );

    // Refused, and told so as the answer of the tool, which every client shows its model.
    let refused = client.call("get-env", json!({})).await?;
    let (text, error) = said(&refused);
    assert!(error && text.contains("test.no-environment"), "{refused}");
    let decision = &refused["result"]["_meta"]["dev.cedargate/decision"];
    assert_eq!(decision["retryable"], false, "{refused}");
    assert_eq!(calls("get-env"), 0);

    // What does not exist for agents is not there.
    let hidden = client.call("get-tiny-image", json!({})).await?;
    assert!(said(&hidden).1 || hidden["error"].is_object(), "{hidden}");
    assert_eq!(calls("get-tiny-image"), 0);

    // Escalated, approved, and then forwarded once, with these arguments only.
    let sum = json!({"a": 2, "b": 40});
    let pending = client.call("get-sum", sum.clone()).await?;
    assert!(said(&pending).1, "{pending}");
    assert_eq!(calls("get-sum"), 0);
    let requests = world.waiting("get-sum").await?;
    assert_eq!(requests.len(), 1, "{requests:?}");
    let again = client.call("get-sum", sum.clone()).await?;
    assert!(
        said(&again).0.contains(&requests[0]),
        "the same request: {again}"
    );
    assert_eq!(world.waiting("get-sum").await?, requests);
    let approved = world.system.respond(&requests[0], true).await?;
    assert!(approved.status.is_success(), "{approved:?}");
    let summed = client.call("get-sum", sum).await?;
    assert!(
        !said(&summed).1 && said(&summed).0.contains("42"),
        "{summed}"
    );
    assert_eq!(calls("get-sum"), 1);
    let other = client.call("get-sum", json!({"a": 2, "b": 41})).await?;
    assert!(said(&other).1, "other arguments, another request: {other}");

    waits(sdk, &world, &calls).await
}

/// Kept waiting until people approve; and gone before they do.
async fn waits(sdk: Sdk, world: &World, calls: &impl Fn(&str) -> usize) -> anyhow::Result<()> {
    let url = world.url("everything");
    // Waited for: the client asks to be kept, people approve, and it goes on.
    let mut waiting = Driver::http_with(sdk, &url, &world.token, &[("Prefer", "wait=30")]).await?;
    let held = waiting
        .begin(json!({"do": "call", "name": "get-sum", "arguments": {"a": 1, "b": 1}}))
        .await?;
    let request = newest(world, 2).await?;
    world.system.respond(&request, true).await?;
    let summed = waiting.answer(held).await?;
    assert!(
        !said(&summed).1 && said(&summed).0.contains('2'),
        "{summed}"
    );

    // Cancelled while it waits: nothing is executed, and the client goes on.
    let before = calls("get-sum");
    let held = waiting
        .begin(json!({"do": "call", "name": "get-sum", "arguments": {"a": 3, "b": 3}}))
        .await?;
    let request = newest(world, 2).await?;
    waiting.act(json!({"do": "cancel", "of": held})).await?;
    let cancelled = waiting.answer(held).await?;
    assert!(cancelled["error"].is_object(), "{cancelled}");
    let echoed = waiting
        .call("echo", json!({"message": "still here"}))
        .await?;
    assert_eq!(said(&echoed).0, "Echo: still here");
    world.system.respond(&request, true).await?;
    assert_eq!(calls("get-sum"), before, "nobody waits for it any more");
    Ok(())
}

/// The request that came last, once there are `count`.
async fn newest(world: &World, count: usize) -> anyhow::Result<String> {
    soon("the request is opened", async {
        loop {
            let waiting = world.waiting("get-sum").await?;
            if waiting.len() == count {
                // Ids grow with time.
                return anyhow::Ok(waiting.into_iter().max().unwrap());
            }
        }
    })
    .await?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript_1() -> anyhow::Result<()> {
    everything(Sdk::TypeScript1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn typescript_2() -> anyhow::Result<()> {
    everything(Sdk::TypeScript2).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_1() -> anyhow::Result<()> {
    everything(Sdk::Python1).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn python_2() -> anyhow::Result<()> {
    everything(Sdk::Python2).await
}

/// The newest revision, where server and client both speak it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_the_newest_revision_use_it() -> anyhow::Result<()> {
    let fixture = Fixture::start(None).await?;
    let table = format!(
        "url = \"{}\"\nrisk = \"read\"\n[mcp.tools.greet]\nrisk = \"write\"",
        fixture.url()
    );
    let world = World::start(&[("fixture", table)], Policies::Ours(""), &[]).await?;
    world.review("fixture").await?;
    for (sdk, name) in [(Sdk::TypeScript2, "Ada"), (Sdk::Python2, "Bob")] {
        let url = world.url("fixture");
        let mut client = Driver::http(sdk, &url, &world.token).await?;
        assert_eq!(client.version, "2026-07-28", "{sdk:?}");
        assert!(client.tools().await?.contains(&"greet".to_owned()));
        let text = client.call("test_simple_text", json!({})).await?;
        assert!(!said(&text).1, "{sdk:?}: {text}");
        let pending = client.call("greet", json!({"name": name})).await?;
        assert!(said(&pending).1, "{sdk:?}: {pending}");
        let requests = world.waiting("greet").await?;
        assert_eq!(requests.len(), 1, "{requests:?}");
        world.system.respond(&requests[0], true).await?;
        let greeted = client.call("greet", json!({"name": name})).await?;
        assert_eq!(said(&greeted).0, format!("Hello, {name}!"), "{sdk:?}");
    }
    Ok(())
}

/// `server-filesystem`, which only speaks over standard input and output.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_standard_output_is_reached_by_every_client() -> anyhow::Result<()> {
    let folder = TempDir::with_prefix("cedargate-files-")?;
    let folder = folder.path().canonicalize()?;
    std::fs::write(folder.join("told.txt"), "what is in the file")?;
    let script = packages()?.join("@modelcontextprotocol/server-filesystem/dist/index.js");
    let program = node()?;
    let program = program
        .as_std()
        .get_program()
        .to_string_lossy()
        .into_owned();
    let command = json!([program, script, folder]);
    let table = format!(
        "command = {command}\nrisk = \"read\"\n[mcp.tools.create_directory]\nrisk = \"write\""
    );
    let world = World::start(&[("files", table)], Policies::Ours(""), &[]).await?;
    world.review("files").await?;
    for (number, sdk) in Sdk::ALL.into_iter().enumerate() {
        let mut client = Driver::http(sdk, &world.url("files"), &world.token).await?;
        let tools = client.tools().await?;
        assert!(tools.contains(&"read_text_file".to_owned()), "{tools:?}");
        let read = client
            .call("read_text_file", json!({"path": folder.join("told.txt")}))
            .await?;
        assert!(
            said(&read).0.contains("what is in the file"),
            "{sdk:?}: {read}"
        );
        let made = folder.join(format!("made-{number}"));
        let write = json!({"path": made});
        let pending = client.call("create_directory", write.clone()).await?;
        assert!(said(&pending).1 && !made.exists(), "{sdk:?}: {pending}");
        let requests = world.waiting("create_directory").await?;
        assert_eq!(requests.len(), 1, "{sdk:?}: {requests:?}");
        world.system.respond(&requests[0], true).await?;
        let written = client.call("create_directory", write).await?;
        assert!(!said(&written).1, "{sdk:?}: {written}");
        assert!(made.is_dir());
    }
    Ok(())
}

/// The Inspector's command line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_lists_and_calls() -> anyhow::Result<()> {
    let server = Everything::start().await?;
    let table = format!("url = \"{}/mcp\"\n{TOOLS}", server.url());
    let world = World::start(&[("everything", table)], Policies::Ours(RULES), &[]).await?;
    world.review("everything").await?;
    let inspect = async |arguments: &[&str]| -> anyhow::Result<Value> {
        let script =
            packages()?.join("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
        let output = node()?
            .arg(script)
            .args(["--cli", &world.url("everything"), "--transport", "http"])
            .args(arguments)
            .args([
                "--header",
                &format!("Authorization: Bearer {}", world.token),
            ])
            .stderr(Stdio::piped())
            .output()
            .await?;
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    };
    let listed = inspect(&["--method", "tools/list"]).await?;
    let names: Vec<&str> = listed["tools"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tool| tool["name"].as_str())
        .collect();
    assert!(
        names.contains(&"echo") && !names.contains(&"get-tiny-image"),
        "{names:?}"
    );
    let call = ["--method", "tools/call", "--tool-name"];
    let echoed = inspect(&[&call[..], &["echo", "--tool-arg", "message=hi"]].concat()).await?;
    assert_eq!(echoed["content"][0]["text"], "Echo: hi");
    let refused = inspect(&[&call[..], &["get-env"]].concat()).await?;
    assert_eq!(refused["isError"], true, "{refused}");
    Ok(())
}

/// Every service as tools, Coolify's commands among them; and the same through a bridge.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_service_is_offered_as_tools_and_over_a_bridge() -> anyhow::Result<()> {
    let fixture = Fixture::start(None).await?;
    let table = format!("url = \"{}\"\nrisk = \"read\"", fixture.url());
    let world = World::start(&[("fixture", table)], Policies::Ours(""), &[]).await?;
    world.review("fixture").await?;
    let binary = binary()?;
    let gateway = world.system.gateway_url.clone();
    for sdk in Sdk::ALL {
        let program = [binary.to_str().unwrap(), "bridge", "--gateway", &gateway];
        let token = [("CEDARGATE_AGENT_TOKEN", world.token.as_str())];
        let url = format!("{gateway}/mcp");
        let directly = Driver::http(sdk, &url, &world.token).await?;
        let bridged = Driver::stdio(sdk, &program, &token).await?;
        for mut client in [directly, bridged] {
            let tools = client.tools().await?;
            for tool in ["coolify__list-servers", "fixture__greet"] {
                assert!(tools.contains(&tool.to_owned()), "{sdk:?}: {tools:?}");
            }
            let servers = client.call("coolify__list-servers", json!({})).await?;
            assert!(!said(&servers).1, "{sdk:?}: {servers}");
            let greeted = client
                .call("fixture__greet", json!({"name": "Ada"}))
                .await?;
            assert!(
                said(&greeted).0.contains("Hello, Ada!"),
                "{sdk:?}: {greeted}"
            );
        }
        let program = [&program[..], &["fixture"]].concat();
        let mut one = Driver::stdio(sdk, &program, &token).await?;
        let greeted = one.call("greet", json!({"name": "Ada"})).await?;
        assert_eq!(said(&greeted).0, "Hello, Ada!", "{sdk:?}");
    }
    Ok(())
}
