//! Clients of other people's SDKs, against servers of other people, through the gateway:
//! what they see is their server, under policy.

use std::path::{Path, PathBuf};

use cedargate_tests::{
    mcp::{Driver, Everything, Policies, Sdk, World, node, packages, said},
    process::binary,
    soon,
};
use mcp_fixture::{Fixture, Relay};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Child;

/// One tool needs people, one is forbidden to everyone, one does not exist for agents.
const TOOLS: &str =
    "risk = \"read\"\nhidden = [\"get-tiny-image\"]\n[mcp.tools.get-sum]\nrisk = \"write\"";
const RULES: &str = r#"
@id("test.no-environment")
@advice("The environment of the server is nobody's business.")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"everything/get-env");
"#;

/// How often a tool was called behind this.
fn upstream_calls(upstream: &Relay, tool: &str) -> usize {
    let exchanges = upstream.exchanges();
    let bodies = exchanges.iter().map(|exchange| &exchange.body);
    let messages = bodies.filter_map(|body| serde_json::from_slice::<Value>(body).ok());
    messages
        .filter(|message| message["method"] == "tools/call" && message["params"]["name"] == tool)
        .count()
}

/// Connect, list, call, read, prompt, refused, approved, waited, cancelled.
async fn everything(sdk: Sdk) -> anyhow::Result<()> {
    let server = Everything::start().await?;
    let upstream = Relay::start(server.url(), &[]).await?;
    let table = format!("url = \"{}/mcp\"\n{TOOLS}", upstream.url());
    let world = World::start(&[("everything", table)], Policies::Ours(RULES), &[]).await?;
    world.review("everything").await?;
    let url = world.url("everything");
    let calls = |tool: &str| upstream_calls(&upstream, tool);

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

    let waiting = Driver::http_with(sdk, &url, &world.token, &[("Prefer", "wait=30")]).await?;
    let waited = json!({"name": "get-sum", "arguments": {"a": 1, "b": 1}});
    let cancelled = json!({"name": "get-sum", "arguments": {"a": 3, "b": 3}});
    let executed = || calls("get-sum");
    let mut client = waits(&world, waiting, [waited, cancelled], &executed).await?;

    // Cancelled when people have nothing to do with it: the server is told.
    let long = json!({"do": "call", "name": "trigger-long-running-operation", "progress": true,
        "arguments": {"duration": 600, "steps": 6000}});
    let running = client.begin(long).await?;
    client.progress(running).await?;
    client.act(json!({"do": "cancel", "of": running})).await?;
    let cancelled = client.answer(running).await?;
    assert!(cancelled["error"].is_object(), "{cancelled}");
    soon("the server is told", async {
        let told = || {
            let exchanges = upstream.exchanges();
            let mut bodies = exchanges.iter().map(|exchange| &exchange.body);
            bodies.any(|body| String::from_utf8_lossy(body).contains("notifications/cancelled"))
        };
        while !told() {
            tokio::task::yield_now().await;
        }
    })
    .await?;
    let echoed = client.call("echo", json!({"message": "bye"})).await?;
    assert_eq!(said(&echoed).0, "Echo: bye");
    Ok(())
}

/// Kept waiting until people approve; and gone before they do. `calls` are two that need
/// approval, and `executed` says how many of their kind the server has carried out.
async fn waits(
    world: &World,
    mut client: Driver,
    calls: [Value; 2],
    executed: &(impl Fn() -> usize + Sync),
) -> anyhow::Result<Driver> {
    let [waited, cancelled] = calls.map(|mut call| {
        call["do"] = "call".into();
        call
    });
    let tool = waited["name"].as_str().unwrap().to_owned();
    let before = executed();

    // Waited for: the client asks to be kept, people approve, and it goes on.
    let known = world.waiting(&tool).await?;
    let held = client.begin(waited).await?;
    world.held(1).await?;
    let request = opened(world, &tool, &known).await?;
    assert_eq!(executed(), before, "nobody has decided");
    world.system.respond(&request, true).await?;
    let answered = client.answer(held).await?;
    assert!(
        answered["result"].is_object() && !said(&answered).1,
        "{answered}"
    );
    assert_eq!(executed(), before + 1);

    // Cancelled while it waits: nothing is executed, not even when people approve it then,
    // and the client goes on. It is there for the next try, which is carried out once.
    let known = world.waiting(&tool).await?;
    let held = client.begin(cancelled.clone()).await?;
    world.held(1).await?;
    let request = opened(world, &tool, &known).await?;
    client.act(json!({"do": "cancel", "of": held})).await?;
    let gone = client.answer(held).await?;
    assert!(gone["error"].is_object(), "{gone}");
    world.held(0).await?;
    world.system.respond(&request, true).await?;
    assert_eq!(executed(), before + 1, "nobody waits for it any more");
    let again = client.act(cancelled).await?;
    assert!(again["result"].is_object() && !said(&again).1, "{again}");
    assert_eq!(executed(), before + 2);
    Ok(client)
}

/// The request that was not there before, once it is opened.
async fn opened(world: &World, tool: &str, known: &[String]) -> anyhow::Result<String> {
    soon("the request is opened", async {
        loop {
            let mut waiting = world.waiting(tool).await?.into_iter();
            if let Some(request) = waiting.find(|request| !known.contains(request)) {
                return anyhow::Ok(request);
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
    let rules = r#"
@id("test.no-image")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"fixture/test_image_content");
"#;
    let world = World::start(&[("fixture", table)], Policies::Ours(rules), &[]).await?;
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
        let read = json!({"do": "read", "uri": "test://static-text"});
        let read = client.act(read).await?;
        assert!(
            read["result"]["contents"][0]["text"].is_string(),
            "{sdk:?}: {read}"
        );
        let prompt = json!({"do": "prompt", "name": "test_simple_prompt"});
        let prompt = client.act(prompt).await?;
        assert!(
            prompt["result"]["messages"][0]["content"]["text"].is_string(),
            "{sdk:?}: {prompt}"
        );
        let refused = client.call("test_image_content", json!({})).await?;
        let (text, error) = said(&refused);
        assert!(error && text.contains("test.no-image"), "{refused}");
        assert!(!fixture.called().contains(&"test_image_content".to_owned()));

        let prefer = [("Prefer", "wait=30")];
        let waiting = Driver::http_with(sdk, &url, &world.token, &prefer).await?;
        assert_eq!(waiting.version, "2026-07-28", "{sdk:?}");
        let greeting = |suffix: &str| json!({"name": "greet", "arguments": {"name": format!("{name} {suffix}")}});
        let calls = [greeting("waits"), greeting("leaves")];
        let executed = || {
            let called = fixture.called();
            called.iter().filter(|tool| *tool == "greet").count()
        };
        waits(&world, waiting, calls, &executed).await?;
    }
    Ok(())
}

/// `server-filesystem`, which only speaks over standard input and output, and what is
/// forbidden, needs people, and does not exist there.
async fn filesystem(folder: &TempDir) -> anyhow::Result<(World, PathBuf)> {
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
        "command = {command}\nrisk = \"read\"\nhidden = [\"move_file\"]\n[mcp.tools.create_directory]\nrisk = \"write\""
    );
    let rules = r#"
@id("test.no-writing")
forbid (principal is Agent, action in Action::"invoke", resource == Command::"files/write_file");
"#;
    let world = World::start(&[("files", table)], Policies::Ours(rules), &[]).await?;
    world.review("files").await?;
    Ok((world, folder))
}

/// How many folders somebody made.
fn folders(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir())
        .count()
}

/// It has no resources and no prompts: who asks for them hears it from the server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_standard_output_is_reached_by_every_client() -> anyhow::Result<()> {
    let own = TempDir::with_prefix("cedargate-files-")?;
    let (world, folder) = filesystem(&own).await?;
    for (number, sdk) in Sdk::ALL.into_iter().enumerate() {
        let mut client = Driver::http(sdk, &world.url("files"), &world.token).await?;
        let tools = client.tools().await?;
        assert!(tools.contains(&"read_text_file".to_owned()), "{tools:?}");
        assert!(!tools.contains(&"move_file".to_owned()), "{tools:?}");
        let read = client
            .call("read_text_file", json!({"path": folder.join("told.txt")}))
            .await?;
        assert!(
            said(&read).0.contains("what is in the file"),
            "{sdk:?}: {read}"
        );
        for what in [
            json!({"do": "read", "uri": "file:///told.txt"}),
            json!({"do": "prompt", "name": "any"}),
        ] {
            let unknown = client.act(what).await?;
            assert!(unknown["error"].is_object(), "{sdk:?}: {unknown}");
        }
        let written = json!({"path": folder.join("written.txt"), "content": "no"});
        let refused = client.call("write_file", written).await?;
        let (text, error) = said(&refused);
        assert!(error && text.contains("test.no-writing"), "{refused}");
        assert!(!folder.join("written.txt").exists());

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

        let prefer = [("Prefer", "wait=30")];
        let url = world.url("files");
        let waiting = Driver::http_with(sdk, &url, &world.token, &prefer).await?;
        let making = |what: &str| {
            let path = folder.join(format!("{what}-{number}"));
            json!({"name": "create_directory", "arguments": {"path": path}})
        };
        let calls = [making("waited"), making("left")];
        waits(&world, waiting, calls, &|| folders(&folder)).await?;
    }
    Ok(())
}

/// The Inspector's command line, which does one thing and ends.
struct Inspector<'a> {
    world: &'a World,
    url: String,
}

impl Inspector<'_> {
    fn start(&self, arguments: &[&str], prefer: Option<&str>) -> anyhow::Result<Child> {
        let script =
            packages()?.join("@modelcontextprotocol/inspector/clients/launcher/build/index.js");
        let mut command = node()?;
        command
            .arg(script)
            .args(["--cli", &self.url, "--transport", "http"])
            .args(arguments)
            .args([
                "--header",
                &format!("Authorization: Bearer {}", self.world.token),
            ]);
        if let Some(prefer) = prefer {
            command.arg(format!("Prefer: {prefer}"));
        }
        Ok(command.spawn()?)
    }

    async fn end(child: Child) -> anyhow::Result<Value> {
        let output = child.wait_with_output().await?;
        let text = String::from_utf8(output.stdout)?;
        serde_json::from_str(&text)
            .map_err(|_| anyhow::anyhow!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }

    async fn act(&self, method: &str, more: &[&str]) -> anyhow::Result<Value> {
        let arguments = [&["--method", method], more].concat();
        Self::end(self.start(&arguments, None)?).await
    }

    fn calling<'t>(tool: &'t str, arguments: &'t [String]) -> Vec<&'t str> {
        let mut all = vec!["--method", "tools/call", "--tool-name", tool];
        for argument in arguments {
            all.extend(["--tool-arg", argument]);
        }
        all
    }

    async fn call(&self, tool: &str, arguments: &[String]) -> anyhow::Result<Value> {
        Self::end(self.start(&Self::calling(tool, arguments), None)?).await
    }

    async fn tools(&self) -> anyhow::Result<Vec<String>> {
        let listed = self.act("tools/list", &[]).await?;
        let names = listed["tools"].as_array().into_iter().flatten();
        Ok(names
            .filter_map(|tool| Some(tool["name"].as_str()?.to_owned()))
            .collect())
    }

    /// Approved, waited for, and left while it waits: `arguments` are three that need people.
    async fn waits(
        &self,
        tool: &str,
        arguments: &[Vec<String>; 3],
        executed: &impl Fn() -> usize,
    ) -> anyhow::Result<()> {
        let [approved, waited, left] = arguments;
        let world = self.world;
        let before = executed();
        let pending = self.call(tool, approved).await?;
        assert_eq!(pending["isError"], true, "{pending}");
        let request = opened(world, tool, &[]).await?;
        world.system.respond(&request, true).await?;
        let done = self.call(tool, approved).await?;
        assert!(done["isError"] != true, "{done}");
        assert_eq!(executed(), before + 1);

        let waiting = self.start(&Self::calling(tool, waited), Some("wait=30"))?;
        world.held(1).await?;
        let request = opened(world, tool, &[]).await?;
        world.system.respond(&request, true).await?;
        let done = Self::end(waiting).await?;
        assert!(done["isError"] != true, "{done}");
        assert_eq!(executed(), before + 2);

        let mut leaving = self.start(&Self::calling(tool, left), Some("wait=30"))?;
        world.held(1).await?;
        let request = opened(world, tool, &[]).await?;
        leaving.kill().await?;
        world.held(0).await?;
        world.system.respond(&request, true).await?;
        let done = self.call(tool, left).await?;
        assert!(done["isError"] != true, "{done}");
        assert_eq!(executed(), before + 3, "once, by the second");
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_does_all_of_it() -> anyhow::Result<()> {
    let server = Everything::start().await?;
    let upstream = Relay::start(server.url(), &[]).await?;
    let table = format!("url = \"{}/mcp\"\n{TOOLS}", upstream.url());
    let world = World::start(&[("everything", table)], Policies::Ours(RULES), &[]).await?;
    world.review("everything").await?;
    let inspector = Inspector {
        world: &world,
        url: world.url("everything"),
    };
    let names = inspector.tools().await?;
    assert!(names.contains(&"echo".to_owned()), "{names:?}");
    assert!(!names.contains(&"get-tiny-image".to_owned()), "{names:?}");
    let echoed = inspector.call("echo", &["message=hi".to_owned()]).await?;
    assert_eq!(echoed["content"][0]["text"], "Echo: hi");
    let resources = inspector.act("resources/list", &[]).await?;
    let uri = resources["resources"][0]["uri"].as_str().unwrap();
    let read = inspector.act("resources/read", &["--uri", uri]).await?;
    assert!(read["contents"][0]["text"].is_string(), "{read}");
    let prompt = ["--prompt-name", "simple-prompt"];
    let prompt = inspector.act("prompts/get", &prompt).await?;
    let text = &prompt["messages"][0]["content"]["text"];
    assert!(text.is_string(), "{prompt}");
    let refused = inspector.call("get-env", &[]).await?;
    assert_eq!(refused["isError"], true, "{refused}");
    let sum = |a: u32| vec![format!("a={a}"), "b=40".to_owned()];
    let executed = || upstream_calls(&upstream, "get-sum");
    inspector
        .waits("get-sum", &[sum(1), sum(2), sum(3)], &executed)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inspector_reaches_a_server_on_standard_output() -> anyhow::Result<()> {
    let own = TempDir::with_prefix("cedargate-files-")?;
    let (world, folder) = filesystem(&own).await?;
    let inspector = Inspector {
        world: &world,
        url: world.url("files"),
    };
    let names = inspector.tools().await?;
    assert!(names.contains(&"read_text_file".to_owned()), "{names:?}");
    assert!(!names.contains(&"move_file".to_owned()), "{names:?}");
    let path = |name: &str| format!("path={}", folder.join(name).display());
    let read = inspector
        .call("read_text_file", &[path("told.txt")])
        .await?;
    assert_eq!(read["content"][0]["text"], "what is in the file", "{read}");
    let written = [path("written.txt"), "content=no".to_owned()];
    let refused = inspector.call("write_file", &written).await?;
    assert_eq!(refused["isError"], true, "{refused}");
    assert!(!folder.join("written.txt").exists());
    let made = ["approved", "waited", "left"].map(|name| vec![path(name)]);
    inspector
        .waits("create_directory", &made, &|| folders(&folder))
        .await
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
