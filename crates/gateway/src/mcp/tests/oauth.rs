//! Clients that come with an access token.

use std::sync::atomic::{AtomicBool, Ordering};

use authz::AgentId;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use contract::feed::Change;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};

use super::{streams::piecewise, *};
use crate::{
    OAuthSettings,
    tests::world::{BOT_TOKEN, NOON, agent, sha},
};

const CI: &str = "3f0d5d1e-7f11-4a55-8a36-5e0b9a5f2c11";
const GATE: &str = "https://gate.example";
const PING: &str = r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#;

/// An authorization server that has one key.
struct Issuer {
    url: String,
    key: EncodingKey,
    down: Arc<AtomicBool>,
}

impl Issuer {
    async fn start() -> Self {
        let document =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .unwrap();
        let key = EncodingKey::from_ec_der(document.as_ref());
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        public.common.key_id = Some("k1".to_owned());
        let keys = json!({"keys": [public]}).to_string();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let described = json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string();
        let down = Arc::new(AtomicBool::new(false));
        let is_down = Arc::clone(&down);
        let router = axum::Router::new().fallback(async move |request: AxumRequest| {
            let answer = match request.uri().path() {
                _ if is_down.load(Ordering::SeqCst) => None,
                "/keys" => Some(keys),
                "/.well-known/oauth-authorization-server" => Some(described),
                _ => None,
            };
            answer.map_or_else(
                || StatusCode::NOT_FOUND.into_response(),
                |answer| ok("application/json", answer),
            )
        });
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, key, down }
    }

    /// A good token of `ci` for `/mcp/everything`, with some claims otherwise; `null` takes
    /// one away.
    fn token(&self, change: Value) -> String {
        self.token_of_kind(Some("at+jwt"), change)
    }

    fn token_of_kind(&self, kind: Option<&str>, change: Value) -> String {
        let seconds = NOON / 1_000;
        let mut claims = json!({
            "iss": self.url, "aud": format!("{GATE}/mcp/everything"), "sub": "ci",
            "client_id": "client-1", "jti": "token-1", "scope": "openid cedargate:read",
            "iat": seconds, "exp": seconds + 300,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        let header = Header {
            kid: Some("k1".to_owned()),
            typ: kind.map(str::to_owned),
            ..Header::new(Algorithm::ES256)
        };
        format!("Bearer {}", encode(&header, &claims, &self.key).unwrap())
    }
}

async fn house(change: impl FnOnce(&mut OAuthSettings)) -> (House, Issuer) {
    let issuer = Issuer::start().await;
    let mut settings = OAuthSettings {
        issuer: issuer.url.clone(),
        url: GATE.to_owned(),
        audiences: Vec::new(),
        algorithms: vec!["ES256".to_owned()],
        agent_claim: "sub".to_owned(),
        agents: BTreeMap::new(),
        scopes: true,
    };
    change(&mut settings);
    let house = House::with(|config| config.mcp.oauth = Some(settings)).await;
    let id: AgentId = CI.parse().unwrap();
    let ci = agent(CI, "ci", &["reader"], &["everything"]);
    house
        .world
        .orchestrator
        .change(Change::AgentChanged { agent: id }, |known| {
            known.agents.insert(id, ci);
        });
    (house, issuer)
}

/// Sends a message to a door.
async fn send(house: &House, path: &str, headers: &[(&str, &str)], body: &str) -> Answered {
    let mut all = vec![("content-type", "application/json"), ("accept", BOTH)];
    all.extend_from_slice(headers);
    let mut request = House::request(Method::POST, &all, body);
    *request.uri_mut() = path.parse().unwrap();
    house.send(request).await
}

async fn with(house: &House, path: &str, token: &str, body: &str) -> Answered {
    send(house, path, &[("authorization", token)], body).await
}

fn challenge(answered: &Answered) -> &str {
    answered
        .headers
        .get("www-authenticate")
        .map_or("", |challenge| challenge.to_str().unwrap())
}

const ONE: &str = "/mcp/everything";

#[tokio::test]
async fn whoever_brings_nothing_is_told_where_to_ask() {
    let (house, issuer) = house(|_| {}).await;
    for (path, headers) in [
        (ONE, vec![]),
        ("/mcp", vec![]),
        ("/mcp/there-is-no-such-server", vec![]),
        // On this machine, which is believed elsewhere.
        (ONE, vec![("x-agent-id", BOT)]),
    ] {
        let answered = send(&house, path, &headers, PING).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(answered.code(), 40_101);
        assert_eq!(
            challenge(&answered),
            format!(
                "Bearer realm=\"cedargate\", scope=\"cedargate:read\", resource_metadata=\"{GATE}/.well-known/oauth-protected-resource{path}\""
            )
        );
    }
    for (path, resource) in [
        ("", "/mcp"),
        ("/mcp", "/mcp"),
        (ONE, ONE),
        (
            "/mcp/there-is-no-such-server",
            "/mcp/there-is-no-such-server",
        ),
    ] {
        let path = format!("/.well-known/oauth-protected-resource{path}");
        let told = house.world.get(&path, &[]).await;
        assert_eq!(told.status, StatusCode::OK, "{path}");
        assert_eq!(told.body["resource"], format!("{GATE}{resource}"));
        assert_eq!(told.body["authorization_servers"], json!([issuer.url]));
        assert_eq!(told.body["scopes_supported"], json!(["cedargate:read"]));
        assert_eq!(told.body["bearer_methods_supported"], json!(["header"]));
        let mut posted = House::request(Method::POST, &[], "");
        *posted.uri_mut() = path.parse().unwrap();
        let posted = house.send(posted).await;
        assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    }
    for path in [
        "/.well-known/oauth-protected-resource/execute",
        "/.well-known/oauth-protected-resource/mcp/rpc",
        "/.well-known/oauth-authorization-server",
    ] {
        let told = house.world.get(path, &[]).await;
        assert_eq!(told.status, StatusCode::NOT_FOUND, "{path}");
    }
    // The other doors are as they were.
    let executed = house.world.get("/mcp/catalog", &[]).await;
    assert_eq!(executed.status, StatusCode::OK);
}

#[tokio::test]
async fn without_oauth_there_is_nothing_to_discover_and_a_token_is_nobodys() {
    let house = House::new().await;
    let issuer = Issuer::start().await;
    let answered = with(&house, ONE, &issuer.token(json!({})), PING).await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        challenge(&answered),
        "Bearer realm=\"cedargate\", error=\"invalid_token\""
    );
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let mut asked = House::request(method, &[], "");
        *asked.uri_mut() = "/.well-known/oauth-protected-resource/mcp".parse().unwrap();
        assert_eq!(house.send(asked).await.status, StatusCode::NOT_FOUND);
    }
}

/// A credential alone, or with the name that it agrees with, at both doors.
#[tokio::test]
async fn a_credential_is_as_good_as_ever() {
    let bearer = format!("Bearer {BOT_TOKEN}");
    let (oauth, _) = house(|_| {}).await;
    for house in [House::new().await, oauth] {
        for path in [ONE, "/mcp"] {
            for (headers, status) in [
                (vec![("authorization", bearer.as_str())], StatusCode::OK),
                (
                    vec![("authorization", bearer.as_str()), ("x-agent-id", "bot")],
                    StatusCode::OK,
                ),
                (
                    vec![("authorization", bearer.as_str()), ("x-agent-id", BOT)],
                    StatusCode::OK,
                ),
                (vec![("x-mcp-key", BOT_TOKEN)], StatusCode::OK),
                (
                    vec![("authorization", bearer.as_str()), ("x-agent-id", OTHER)],
                    StatusCode::UNAUTHORIZED,
                ),
            ] {
                let answered = send(&house, path, &headers, PING).await;
                assert_eq!(answered.status, status, "{path} {headers:?}");
            }
        }
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn a_token_is_for_one_door_for_a_while_and_of_one_kind() {
    let (house, issuer) =
        house(|settings| settings.audiences = vec!["api://gate".to_owned()]).await;
    let seconds = NOON / 1_000;
    let all = format!("{GATE}/mcp");
    let cases = [
        ("as it is", ONE, json!({}), ""),
        (
            "for both",
            ONE,
            json!({"aud": ["them", format!("{GATE}{ONE}")]}),
            "",
        ),
        ("for every door", ONE, json!({"aud": all}), ""),
        ("for every door, there", "/mcp", json!({"aud": all}), ""),
        ("by another name", "/mcp", json!({"aud": "api://gate"}), ""),
        (
            "for one door, at every",
            "/mcp",
            json!({}),
            "not for this resource",
        ),
        (
            "for one door, at another",
            "/mcp/other",
            json!({}),
            "not for this resource",
        ),
        (
            "for the house",
            ONE,
            json!({"aud": GATE}),
            "not for this resource",
        ),
        (
            "for nearly this",
            ONE,
            json!({"aud": format!("{GATE}{ONE}/")}),
            "not for this resource",
        ),
        (
            "for another house",
            ONE,
            json!({"aud": "https://gate.example.evil/mcp/everything"}),
            "not for this resource",
        ),
        (
            "for nobody",
            ONE,
            json!({"aud": null}),
            "not for this resource",
        ),
        (
            "for a number",
            ONE,
            json!({"aud": 1}),
            "not for this resource",
        ),
        ("late", ONE, json!({"exp": seconds - 59}), ""),
        ("too late", ONE, json!({"exp": seconds - 60}), "expired"),
        ("without end", ONE, json!({"exp": null}), "when it ends"),
        ("early", ONE, json!({"nbf": seconds + 60}), ""),
        ("too early", ONE, json!({"nbf": seconds + 61}), "future"),
        (
            "bound to a key",
            ONE,
            json!({"cnf": {"jkt": "x"}}),
            "bound to a key",
        ),
        (
            "of another issuer",
            ONE,
            json!({"iss": "https://login.example"}),
            "another issuer",
        ),
    ];
    for (name, path, change, why) in cases {
        let answered = with(&house, path, &issuer.token(change), PING).await;
        if why.is_empty() {
            assert_eq!(answered.status, StatusCode::OK, "{name}: {answered:?}");
            continue;
        }
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{name}");
        let challenge = challenge(&answered);
        for part in ["error=\"invalid_token\"", "resource_metadata=", why] {
            assert!(challenge.contains(part), "{name}: {challenge}");
        }
        assert!(answered.text().contains(why), "{name}: {}", answered.text());
    }
    for (kind, good) in [
        (Some("at+jwt"), true),
        (Some("AT+JWT"), true),
        (Some("application/at+jwt"), true),
        (Some("JWT"), true),
        (None, true),
        (Some("logout+jwt"), false),
        (Some("dpop+jwt"), false),
        (Some("id+jwt"), false),
        (Some(""), false),
    ] {
        let token = issuer.token_of_kind(kind, json!({}));
        let answered = with(&house, ONE, &token, PING).await;
        assert_eq!(answered.status == StatusCode::OK, good, "{kind:?}");
    }
    let good = issuer.token(json!({}));
    let mut torn = good.clone();
    torn.truncate(good.len() - 3);
    for token in [torn.as_str(), "Bearer a.b.c", "Bearer ..", &good[7..]] {
        let answered = with(&house, ONE, token, PING).await;
        assert_eq!(answered.status, StatusCode::UNAUTHORIZED, "{token}");
    }
    // Elsewhere it is nobody's, and never in an address.
    let mut executed = House::request(
        Method::POST,
        &[
            ("content-type", "application/json"),
            ("authorization", &good),
        ],
        r#"{"command": "/mcp-everything look"}"#,
    );
    *executed.uri_mut() = "/execute".parse().unwrap();
    let executed = house.send(executed).await;
    assert_eq!(executed.status, StatusCode::UNAUTHORIZED);
    assert_eq!(challenge(&executed), "Bearer realm=\"cedargate\"");
    let path = format!("{ONE}?access_token={}", &good[7..]);
    let answered = send(&house, &path, &[], PING).await;
    assert_eq!(answered.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_claim_names_the_agent() {
    let (house, issuer) = house(|_| {}).await;
    for (change, named) in [
        (json!({}), true),
        (json!({"sub": CI}), true),
        (json!({"sub": CI.to_uppercase()}), true),
        (json!({"sub": "nobody"}), false),
        (json!({"sub": "CI"}), false),
        (json!({"sub": "auth0|1"}), false),
        (json!({"sub": null}), false),
        (json!({"sub": ""}), false),
        (json!({"sub": 1}), false),
        (json!({"sub": "x".repeat(300)}), false),
        // Whoever comes without anything is not whoever comes with a token.
        (json!({"sub": "local"}), false),
        (json!({"sub": AgentId::LOCAL.to_string()}), false),
    ] {
        let answered = with(&house, ONE, &issuer.token(change.clone()), PING).await;
        let status = if named {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        };
        assert_eq!(answered.status, status, "{change}: {answered:?}");
        if !named {
            assert_eq!(challenge(&answered), "", "another token would not help");
            assert!(answered.text().contains("the access token is good"));
        }
    }
    // It agrees with what it says of itself, or is nobody.
    let token = issuer.token(json!({}));
    for (claimed, status) in [
        ("ci", StatusCode::OK),
        (CI, StatusCode::OK),
        (BOT, StatusCode::UNAUTHORIZED),
        ("bot", StatusCode::UNAUTHORIZED),
    ] {
        let headers = [("authorization", token.as_str()), ("x-agent-id", claimed)];
        assert_eq!(send(&house, ONE, &headers, PING).await.status, status);
    }
}

#[tokio::test]
async fn the_operator_says_which_claim_and_who_that_is() {
    let is = async |claim: &str, agents: &[(&str, &str)], change: Value| {
        let (house, issuer) = house(|settings| {
            claim.clone_into(&mut settings.agent_claim);
            let named =
                |(value, agent): &(&str, &str)| ((*value).to_owned(), agent.parse().unwrap());
            settings.agents = agents.iter().map(named).collect();
        })
        .await;
        let answered = with(&house, ONE, &issuer.token(change), PING).await;
        answered.status.as_u16()
    };
    let other = json!({"sub": "auth0|1"});
    assert_eq!(is("sub", &[("auth0|1", "ci")], other.clone()).await, 200);
    assert_eq!(is("sub", &[("auth0|1", CI)], other.clone()).await, 200);
    assert_eq!(
        is("sub", &[("auth0|1", "ci")], json!({})).await,
        403,
        "a name is no way past the list"
    );
    assert_eq!(is("sub", &[("auth0|1", "gone")], other).await, 403);
    assert_eq!(is("client_id", &[("client-1", "ci")], json!({})).await, 200);
    assert_eq!(is("azp", &[], json!({"azp": "ci", "sub": "x"})).await, 200);
    let deep = json!({"sub": "x", "ext": {"agent": "ci"}});
    assert_eq!(is("ext.agent", &[], deep.clone()).await, 200);
    assert_eq!(is("ext", &[], deep).await, 403);
    let mail = |verified: bool| json!({"email": "ci@x.example", "email_verified": verified});
    let mapped = [("ci@x.example", "ci")];
    assert_eq!(is("email", &mapped, mail(true)).await, 200);
    assert_eq!(is("email", &mapped, mail(false)).await, 403);
}

#[tokio::test]
async fn scopes_cap_what_policy_permits_and_a_client_is_told_which_it_needs() {
    let (house, issuer) = house(|_| {}).await;
    let look = call("look", "{}");
    let write = call("write", r#"{"n":1}"#);
    let delete = call("delete", "{}");
    let scoped = |scope: &str| issuer.token(json!({"scope": scope}));
    let needs = async |scope: &str, body: &str, needed: &str| {
        let answered = with(&house, ONE, &scoped(scope), body).await;
        assert_eq!(answered.status, StatusCode::FORBIDDEN, "{answered:?}");
        let challenge = challenge(&answered);
        for part in [
            "error=\"insufficient_scope\"",
            &format!("scope=\"{needed}\""),
            &format!("resource_metadata=\"{GATE}/.well-known/oauth-protected-resource{ONE}\""),
        ] {
            assert!(challenge.contains(part), "{challenge}");
        }
        answered
    };
    // For nothing at all, not even to connect.
    for scope in [
        "",
        "openid",
        "cedargate",
        "cedargate:admin",
        "CEDARGATE:READ",
    ] {
        needs(scope, PING, "cedargate:read").await;
    }
    let done = with(&house, ONE, &scoped("cedargate:read"), &look).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let before = house.reached().len();
    let told = needs("cedargate:read", &write, "cedargate:write").await;
    assert_eq!(told.json()["id"], 7);
    assert_eq!(told.json()["error"]["data"]["reason"], "insufficient_scope");
    needs("openid cedargate:write", &delete, "cedargate:destroy").await;
    assert_eq!(house.reached().len(), before, "nothing left");
    assert!(
        house.world.orchestrator.opened().is_empty(),
        "nobody was asked about what the token is not good for"
    );
    // Each covers the lesser ones; and policy is asked as ever.
    for scope in [
        "cedargate:write",
        "cedargate:destroy",
        "cedargate:destroy x",
    ] {
        for body in [&look, &write] {
            let done = with(&house, ONE, &scoped(scope), body).await;
            assert_eq!(done.status, StatusCode::OK, "{scope}: {done:?}");
            assert!(done.text().contains("done"), "{}", done.text());
        }
    }
    let asked = with(&house, ONE, &scoped("cedargate:destroy"), &delete).await;
    assert!(asked.tool_text().contains("NEEDS APPROVAL"), "{asked:?}");
    // As others write it.
    for scp in [json!("cedargate:write"), json!(["x", "cedargate:write"])] {
        let token = issuer.token(json!({"scope": null, "scp": scp}));
        let done = with(&house, ONE, &token, &write).await;
        assert!(done.text().contains("done"), "{scp}");
    }
    // The other door says the same, and the list is whole: what is on it can be asked for.
    let all = json!({"aud": format!("{GATE}/mcp"), "scope": "cedargate:read"});
    let all = issuer.token(all);
    let told = with(
        &house,
        "/mcp",
        &all,
        &call("everything__write", r#"{"n":1}"#),
    )
    .await;
    assert_eq!(told.status, StatusCode::FORBIDDEN, "{told:?}");
    assert!(challenge(&told).contains("scope=\"cedargate:write\""));
    let listed = with(&house, "/mcp", &all, &ask("tools/list", "{}")).await;
    assert!(listed.text().contains("everything__write"));

    let journal = house.world.end().await;
    let refused: Vec<_> = journal
        .iter()
        .filter(|line| line["reason"] == "insufficient_scope")
        .map(|line| {
            (
                line["kind"].as_str().unwrap(),
                line["command"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        refused,
        [
            ("refusal", "everything/write"),
            ("refusal", "everything/delete"),
            ("refusal", "everything/write")
        ]
    );
}

#[tokio::test]
async fn where_scopes_are_not_looked_at_policy_alone_decides() {
    let (house, issuer) = house(|settings| settings.scopes = false).await;
    let token = issuer.token(json!({"scope": null}));
    let done = with(&house, ONE, &token, &call("write", "{}")).await;
    assert!(done.text().contains("done"), "{done:?}");
}

#[tokio::test]
async fn the_journal_says_who_it_was_by_what_and_the_token_goes_nowhere() {
    let (house, issuer) = house(|_| {}).await;
    let token = issuer.token(json!({}));
    let done = with(&house, ONE, &token, &call("look", "{}")).await;
    assert_eq!(done.status, StatusCode::OK, "{done:?}");
    let bearer = format!("Bearer {BOT_TOKEN}");
    with(&house, ONE, &bearer, &call("look", "{}")).await;
    for seen in house.seen() {
        assert_eq!(seen.headers["authorization"], "Bearer our-own-credential");
        for value in seen.headers.values() {
            assert!(!token.contains(value.to_str().unwrap()) || value.is_empty());
        }
    }
    let issuer_name = issuer.url.clone();
    let journal = house.world.end().await;
    let by: Vec<_> = journal
        .iter()
        .filter_map(|line| line.get("identity"))
        .collect();
    assert_eq!(
        by,
        [
            &json!({"by": "oauth", "issuer": issuer_name, "client": "client-1", "token": sha("token-1")}),
            &json!({"by": "credential"}),
        ]
    );
    let text = Value::from(journal).to_string();
    assert!(!text.contains(&token[7..]) && !text.contains("token-1"));
}

#[tokio::test]
async fn suspension_bites_and_a_stream_ends_with_its_token() {
    let (house, issuer) = house(|_| {}).await;
    let token = issuer.token(json!({"scope": "cedargate:destroy"}));
    let opened = with(&house, ONE, &token, &ask("initialize", "{}")).await;
    let session = opened.headers["mcp-session-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let (pieces, _, script) = piecewise();
    *house.server.script.lock().unwrap() = script;
    let listening = House::request(
        Method::GET,
        &[
            ("authorization", &token),
            ("accept", "text/event-stream"),
            ("mcp-session-id", &session),
        ],
        "",
    );
    let mut body = house.open(listening).await.into_body();
    pieces.send(": here\n\n").unwrap();
    assert!(body.frame().await.unwrap().is_ok());
    // Six minutes later the token is over; something changes, and it is noticed.
    house.world.now.fetch_add(360_000, Ordering::SeqCst);
    let agent: AgentId = CI.parse().unwrap();
    let changed = Change::AgentChanged { agent };
    house.world.orchestrator.change(changed.clone(), |_| {});
    assert!(body.frame().await.is_none());

    let later = json!({"exp": NOON / 1_000 + 900, "aud": format!("{GATE}/mcp")});
    let fresh = issuer.token(later);
    let done = with(&house, "/mcp", &fresh, &call("everything__look", "{}")).await;
    assert!(!done.text().contains("DENIED"), "{}", done.text());
    house.world.orchestrator.change(changed, |known| {
        known.agents.get_mut(&agent).unwrap().agent.suspended = true;
    });
    let heard = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        loop {
            let told = with(&house, "/mcp", &fresh, &call("everything__look", "{}")).await;
            if told.tool_text().contains("guard.suspended-agent") {
                break;
            }
        }
    });
    heard.await.expect("the gateway hears of it");
}

#[tokio::test]
async fn what_cannot_be_checked_is_not_believed() {
    let (house, issuer) = house(|_| {}).await;
    issuer.down.store(true, Ordering::SeqCst);
    let token = issuer.token(json!({}));
    let answered = with(&house, ONE, &token, PING).await;
    assert_eq!(
        answered.status,
        StatusCode::SERVICE_UNAVAILABLE,
        "{answered:?}"
    );
    assert_eq!(answered.code(), 50_301);
    assert!(
        !answered.text().contains(&issuer.url),
        "{}",
        answered.text()
    );
    // A credential does not need it.
    let bearer = format!("Bearer {BOT_TOKEN}");
    assert_eq!(
        with(&house, ONE, &bearer, PING).await.status,
        StatusCode::OK
    );
    issuer.down.store(false, Ordering::SeqCst);
    house.world.now.fetch_add(10_000, Ordering::SeqCst);
    assert_eq!(with(&house, ONE, &token, PING).await.status, StatusCode::OK);
    // Known keys outlast it.
    issuer.down.store(true, Ordering::SeqCst);
    assert_eq!(with(&house, ONE, &token, PING).await.status, StatusCode::OK);
    // The orchestrator is needed as ever.
    house.world.orchestrator.down.store(true, Ordering::SeqCst);
    house.world.orchestrator.change(
        Change::AgentChanged {
            agent: CI.parse().unwrap(),
        },
        |_| {},
    );
    house.world.monotonic.fetch_add(60, Ordering::SeqCst);
    let answered = with(&house, ONE, &token, PING).await;
    assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
}
