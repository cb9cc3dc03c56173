//! Clients hear that what they may list is something else.

use authz::Source;
use contract::{
    feed::Change,
    zones::{GatewayZones, ZoneMember},
};

use super::{streams::piecewise, *};
use crate::tests::world::{bundle, sources};

/// Those of ours, and one more.
fn activate(house: &House, rule: &str) {
    let mut sources = sources();
    sources.policies.push(Source {
        name: "policies/more.cedar".to_owned(),
        text: rule.to_owned(),
    });
    let bundle = bundle(sources);
    let version = bundle.version.clone();
    house
        .world
        .orchestrator
        .change(Change::PolicySetActivated { version }, |known| {
            known.policy_set = Some(bundle);
        });
}

fn assign(house: &House, revision: i64, zone: &str) {
    let member = ZoneMember {
        service: "everything".parse().unwrap(),
        command: Some("look".parse().unwrap()),
        zone: zone.parse().unwrap(),
    };
    let zones = GatewayZones {
        revision,
        members: vec![member],
    };
    house
        .world
        .orchestrator
        .change(Change::ZonesChanged { revision }, |known| {
            known.zones = Some(zones);
        });
}

const NO_WRITE: &str = "@id(\"more.no-write\") forbid (principal, action == Action::\"list\", resource == Command::\"everything/write\");";
const NO_PCI: &str = "@id(\"more.no-pci\") forbid (principal, action == Action::\"list\", resource is Command in Zone::\"pci\");";
const NO_PROMPTS: &str = "@id(\"more.no-prompts\") forbid (principal, action == Action::\"list\", resource == Command::\"everything/mcp.prompts.get\");";
const NOTHING: &str = "@id(\"more.nothing\") permit (principal, action == Action::\"list\", resource) when { resource in Zone::\"nowhere\" };";

/// What is said next on a stream.
async fn said(body: &mut Body) -> Vec<Value> {
    let frame = body.frame().await.unwrap().unwrap();
    events(std::str::from_utf8(&frame.into_data().unwrap()).unwrap())
}

fn changed(what: &str) -> Value {
    json!({"jsonrpc": "2.0", "method": format!("notifications/{what}/list_changed")})
}

/// A stream of the older protocol.
fn stream(path: &str, session: Option<&str>) -> Request<Full<Bytes>> {
    let mut headers = vec![("x-agent-id", "local"), ("accept", "text/event-stream")];
    headers.extend(session.map(|session| ("mcp-session-id", session)));
    let mut request = House::request(Method::GET, &headers, "");
    *request.uri_mut() = path.parse().unwrap();
    request
}

#[tokio::test]
async fn policy_zones_and_reviews_change_the_list_and_nothing_else_is_told() {
    let house = House::new().await;
    let answered = house.post("local", &ask("initialize", "{}")).await;
    let session = answered.headers["mcp-session-id"].to_str().unwrap();
    let (pieces, _, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let mut one = house
        .open(stream("/mcp/everything", Some(session)))
        .await
        .into_body();
    let mut all = house.open(stream("/mcp", None)).await.into_body();
    pieces.send(": hello\n\n").unwrap();
    one.frame().await.unwrap().unwrap();

    // Another policy set under which nothing is different: nothing is said. What is said next
    // is about what comes next.
    activate(&house, NOTHING);
    house
        .world
        .until("it is in force", || {
            let version = house.world.gateway.policies.current().unwrap();
            *version.version() != sources().version()
        })
        .await;
    activate(&house, NO_WRITE);
    assert_eq!(said(&mut one).await, [changed("tools")]);
    assert_eq!(said(&mut all).await, [changed("tools")]);
    let listed = house.post("local", &ask("tools/list", "{}")).await;
    assert!(!listed.text().contains("\"write\""), "{}", listed.text());

    activate(&house, NO_PCI);
    assert_eq!(said(&mut one).await, [changed("tools")], "`write` is back");
    assert_eq!(said(&mut all).await, [changed("tools")]);
    assign(&house, 1, "elsewhere");
    assign(&house, 2, "pci");
    assert_eq!(said(&mut one).await, [changed("tools")]);
    assert_eq!(said(&mut all).await, [changed("tools")]);

    // A review of what is not seen is none of its business; one of what is seen is.
    let service = house.world.gateway.catalog.mcp("everything").unwrap();
    service.review(&BTreeMap::new());
    assert_eq!(said(&mut one).await, [changed("tools")]);
    assert_eq!(said(&mut all).await, [changed("tools")]);

    activate(&house, NO_PROMPTS);
    assert_eq!(said(&mut one).await, [changed("prompts")]);
    // What the server says of what is not to be seen is not passed on.
    pieces.send("data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/prompts/list_changed\"}\n\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/resources/list_changed\"}\n\n").unwrap();
    assert_eq!(said(&mut one).await, [changed("resources")]);
    drop(pieces);
    assert!(one.frame().await.is_none());
}

/// What an agent is has to do with what it sees, too; whoever may see nothing has no stream.
#[tokio::test]
async fn an_agent_hears_what_changes_about_itself() {
    let house = House::new().await;
    activate(
        &house,
        "@id(\"more.trust\") forbid (principal is Agent, action == Action::\"list\", resource == Command::\"everything/look\") when { principal.trust > 1 };",
    );
    house
        .world
        .until("it is in force", || {
            let version = house.world.gateway.policies.current().unwrap();
            *version.version() != sources().version()
        })
        .await;
    let mut all = house.open(stream("/mcp", None)).await.into_body();
    let agent = authz::AgentId::LOCAL;
    let change = |how: &dyn Fn(&mut authz::Agent)| {
        let changed = Change::AgentChanged { agent };
        house.world.orchestrator.change(changed, |known| {
            how(&mut known.agents.get_mut(&agent).unwrap().agent);
        });
    };
    change(&|agent| agent.allowed_mcps = ["github".parse().unwrap()].into());
    change(&|agent| agent.trust = 2);
    assert_eq!(said(&mut all).await, [changed("tools")]);
    // Until the gateway ends.
    house.world.gateway.mcp.closing.cancel();
    assert!(all.frame().await.is_none());
}

#[tokio::test]
async fn a_newer_client_hears_what_was_agreed_on_and_with_its_tag() {
    for (agreed, hears) in [
        (r#"{"toolsListChanged":true}"#, true),
        (r#"{"toolsListChanged":false}"#, false),
        ("{}", false),
    ] {
        let house = House::new().await;
        let listen = || {
            let params =
                json!({"notifications": {"toolsListChanged": true, "promptsListChanged": true}});
            House::modern("local", "subscriptions/listen", params, &[])
        };
        let (pieces, _, script) = piecewise();
        *house.server.script.lock().unwrap() = script;
        let mut one = house.open(listen()).await.into_body();
        let acknowledgement = format!(
            "data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/subscriptions/acknowledged\",\"params\":{{\"_meta\":{{\"io.modelcontextprotocol/subscriptionId\":9}},\"notifications\":{agreed}}}}}\n\n"
        );
        pieces
            .send(Box::leak(acknowledgement.clone().into_boxed_str()))
            .unwrap();
        let first = one.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(first, acknowledgement);

        let mut request = listen();
        *request.uri_mut() = "/mcp".parse().unwrap();
        let mut all = house.open(request).await.into_body();
        let tag = json!({"io.modelcontextprotocol/subscriptionId": 9});
        assert_eq!(
            said(&mut all).await,
            [
                json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged",
                "params": {"_meta": tag, "notifications": {"toolsListChanged": true}}})
            ]
        );
        activate(&house, NO_WRITE);
        let told = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": tag}});
        assert_eq!(said(&mut all).await, std::slice::from_ref(&told));
        if hears {
            assert_eq!(said(&mut one).await, [told]);
        }
        // Nothing more before what the server says.
        pieces.send(": more\n\n").unwrap();
        let next = one.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(next, ": more\n\n");
    }
}

#[tokio::test]
async fn what_is_asked_for_in_vain_is_refused() {
    let house = House::with(|config| config.mcp.max_streams = 1).await;
    let _first = house.open(stream("/mcp", None)).await;
    let second = house.send(stream("/mcp", None)).await;
    assert_eq!(second.code(), 42_901, "{second:?}");
    for (more, status) in [
        (("accept", "application/json"), StatusCode::NOT_ACCEPTABLE),
        (
            ("mcp-protocol-version", "2026-07-28"),
            StatusCode::METHOD_NOT_ALLOWED,
        ),
    ] {
        let mut request = stream("/mcp", None);
        request
            .headers_mut()
            .insert(more.0, more.1.parse().unwrap());
        assert_eq!(house.send(request).await.status, status);
    }
}
