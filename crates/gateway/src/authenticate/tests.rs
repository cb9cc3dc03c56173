use secrecy::SecretString;

use super::*;
use crate::tests::world::{BOT, BOT_TOKEN, ELSEWHERE, GATEWAY_TOKEN, LOOPBACK, NOON, OTHER, World};

const BEARER: &str = "Bearer cgt_0000000000000000000000000000000000000000000";
const UNKNOWN: &str = "Bearer cgt_1111111111111111111111111111111111111111111";

/// Who a request is taken for: an agent's name, or a status.
async fn who(world: &World, peer: &str, headers: &[(&str, &str)]) -> String {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
            http::HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    match world
        .gateway
        .authenticator
        .caller(&map, Peer(peer.parse().unwrap()), None)
        .await
    {
        Ok(caller) => caller.held.principal.agent().name.to_string(),
        Err(refusal) => refusal
            .into_response(&serde_json::Value::Null)
            .status()
            .as_u16()
            .to_string(),
    }
}

type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

async fn check(world: &World, cases: &[Case<'_>]) {
    for (name, peer, headers, expected) in cases {
        assert_eq!(who(world, peer, headers).await, *expected, "{name}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn without_a_gateway_token_loopback_is_believed_and_nothing_else() {
    let world = World::new().await;
    let cases: &[Case<'_>] = &[
        ("nothing", LOOPBACK, &[], "local"),
        ("a name", LOOPBACK, &[("x-agent-id", "bot")], "bot"),
        ("an id", LOOPBACK, &[("x-agent-id", BOT)], "bot"),
        (
            "an id in capitals",
            LOOPBACK,
            &[("X-Agent-Id", "6F1B8A52-9F0D-4A4E-8F11-1D2C3B4A5E6F")],
            "bot",
        ),
        (
            "another loopback address",
            "127.0.0.2:1",
            &[("x-agent-id", "bot")],
            "bot",
        ),
        ("loopback of IPv6", "[::1]:1", &[], "local"),
        (
            "loopback of IPv4 in IPv6",
            "[::ffff:127.0.0.1]:1",
            &[],
            "local",
        ),
        ("from elsewhere", ELSEWHERE, &[], "401"),
        (
            "by a loopback address",
            LOOPBACK,
            &[("host", "127.0.0.1:8100")],
            "local",
        ),
        ("in IPv6", LOOPBACK, &[("host", "[::1]:8100")], "local"),
        ("by name", LOOPBACK, &[("host", "Localhost")], "local"),
        (
            "by a name of the network's",
            LOOPBACK,
            &[("host", "mcp-gateway:8100")],
            "local",
        ),
        (
            "by a name that someone else let point here",
            LOOPBACK,
            &[("host", "rebound.example:8100"), ("x-agent-id", "bot")],
            "401",
        ),
        (
            "the same with a dot at its end",
            LOOPBACK,
            &[("host", "rebound.example.")],
            "401",
        ),
        (
            "by another address",
            LOOPBACK,
            &[("host", "10.0.0.7")],
            "401",
        ),
        (
            "by a name that is none",
            LOOPBACK,
            &[("host", "a b")],
            "401",
        ),
        (
            "from elsewhere with a name",
            ELSEWHERE,
            &[("x-agent-id", "bot")],
            "401",
        ),
        (
            "a private range",
            "172.18.0.5:1",
            &[("x-agent-id", "bot")],
            "401",
        ),
        ("elsewhere in IPv6 form", "[::ffff:10.0.0.7]:1", &[], "401"),
        (
            "a forwarded address",
            ELSEWHERE,
            &[("x-forwarded-for", "127.0.0.1"), ("x-real-ip", "127.0.0.1")],
            "401",
        ),
        (
            "empty is not absent",
            LOOPBACK,
            &[("x-agent-id", "")],
            "400",
        ),
        (
            "repeated",
            LOOPBACK,
            &[("x-agent-id", "bot"), ("x-agent-id", "bot")],
            "400",
        ),
        (
            "a path",
            LOOPBACK,
            &[("x-agent-id", "denied/../allowed")],
            "400",
        ),
        (
            "a path, escaped",
            LOOPBACK,
            &[("x-agent-id", "denied%2f..%2fallowed")],
            "400",
        ),
        ("a tab", LOOPBACK, &[("x-agent-id", "bot\tbot")], "400"),
        ("not ASCII", LOOPBACK, &[("x-agent-id", "bõt")], "400"),
        ("a list", LOOPBACK, &[("x-agent-id", "bot, other")], "400"),
        (
            "ten kilobytes",
            LOOPBACK,
            &[("x-agent-id", &"a".repeat(10_000))],
            "400",
        ),
        ("nobody", LOOPBACK, &[("x-agent-id", "nobody")], "401"),
        (
            "no such id",
            LOOPBACK,
            &[("x-agent-id", "00000000-0000-4000-8000-00000000000f")],
            "401",
        ),
        (
            "a page elsewhere",
            LOOPBACK,
            &[("origin", "http://evil.example")],
            "401",
        ),
        (
            "a page of no origin",
            LOOPBACK,
            &[("origin", "null")],
            "401",
        ),
        (
            "a page here",
            LOOPBACK,
            &[("origin", "http://localhost:5175")],
            "local",
        ),
        (
            "a bad credential is not none",
            LOOPBACK,
            &[("authorization", "Bearer x")],
            "401",
        ),
        (
            "an empty credential is not none",
            LOOPBACK,
            &[("authorization", "")],
            "400",
        ),
        (
            "another scheme",
            LOOPBACK,
            &[("authorization", "Basic eDp5")],
            "401",
        ),
        (
            "a user's credential",
            LOOPBACK,
            &[(
                "authorization",
                "Bearer cgu_0000000000000000000000000000000000000000000",
            )],
            "401",
        ),
    ];
    check(&world, cases).await;
}

#[tokio::test]
async fn an_agents_credential_is_that_agent_and_no_other() {
    let world = World::new().await;
    let cases: &[Case<'_>] = &[
        ("alone", ELSEWHERE, &[("authorization", BEARER)], "bot"),
        (
            "scheme in capitals",
            ELSEWHERE,
            &[("authorization", &BEARER.replace("Bearer", "BEARER"))],
            "bot",
        ),
        (
            "in the old header",
            ELSEWHERE,
            &[("x-mcp-key", BOT_TOKEN)],
            "bot",
        ),
        (
            "in both",
            ELSEWHERE,
            &[("authorization", BEARER), ("x-mcp-key", BOT_TOKEN)],
            "bot",
        ),
        (
            "two different",
            ELSEWHERE,
            &[("authorization", BEARER), ("x-mcp-key", "cgt_x")],
            "400",
        ),
        (
            "twice",
            ELSEWHERE,
            &[("authorization", BEARER), ("authorization", BEARER)],
            "400",
        ),
        (
            "with the own id",
            ELSEWHERE,
            &[("authorization", BEARER), ("x-agent-id", BOT)],
            "bot",
        ),
        (
            "with the own name",
            ELSEWHERE,
            &[("authorization", BEARER), ("x-agent-id", "bot")],
            "bot",
        ),
        (
            "with another's id",
            ELSEWHERE,
            &[("authorization", BEARER), ("x-agent-id", OTHER)],
            "403",
        ),
        (
            "with another's name",
            LOOPBACK,
            &[("authorization", BEARER), ("x-agent-id", "other")],
            "403",
        ),
        (
            "with nobody's name",
            LOOPBACK,
            &[("authorization", BEARER), ("x-agent-id", "nobody")],
            "403",
        ),
        (
            "with an odd name",
            LOOPBACK,
            &[("authorization", BEARER), ("x-agent-id", "a/b")],
            "400",
        ),
        ("unknown", LOOPBACK, &[("authorization", UNKNOWN)], "401"),
        (
            "an old key",
            LOOPBACK,
            &[("x-mcp-key", "mcp_live_abcdefghijklmnopqrstuvwx")],
            "401",
        ),
    ];
    check(&world, cases).await;
}

#[tokio::test]
async fn a_credential_ends_when_it_expires_or_is_revoked() {
    let world = World::new().await;
    let headers = [("authorization", BEARER)];
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "bot");
    world
        .now
        .store(NOON + 60_000, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        who(&world, ELSEWHERE, &headers).await,
        "401",
        "expired this instant, though in memory"
    );
    world.now.store(NOON, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "bot");

    let before = world.gateway.authorizer.facts.generations().total();
    let change = contract::feed::Change::AgentChanged {
        agent: BOT.parse().unwrap(),
    };
    world
        .orchestrator
        .change(change, |known| known.credentials.clear());
    world
        .until("the revocation arrives", || {
            world.gateway.authorizer.facts.generations().total() != before
        })
        .await;
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "401");
}

#[tokio::test]
async fn a_revoked_credential_ends_after_max_staleness_without_the_feed() {
    let world = World::new().await;
    let headers = [("authorization", BEARER)];
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "bot");
    world.orchestrator.known.lock().unwrap().credentials.clear();
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "bot");
    world
        .monotonic
        .fetch_add(6, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(who(&world, ELSEWHERE, &headers).await, "401");
}

#[tokio::test]
async fn a_gateway_token_speaks_for_agents_and_ends_the_loopback_rule() {
    let world =
        World::with(|config| config.gateway_token = Some(SecretString::from(GATEWAY_TOKEN))).await;
    let bearer = format!("Bearer {GATEWAY_TOKEN}");
    let almost = format!("Bearer {GATEWAY_TOKEN}x");
    let cases: &[Case<'_>] = &[
        ("nothing", LOOPBACK, &[], "401"),
        ("a name alone", LOOPBACK, &[("x-agent-id", "bot")], "401"),
        (
            "the token and a name",
            ELSEWHERE,
            &[("authorization", &bearer), ("x-agent-id", "other")],
            "other",
        ),
        (
            "the token in the old header",
            ELSEWHERE,
            &[("x-mcp-key", GATEWAY_TOKEN), ("x-agent-id", BOT)],
            "bot",
        ),
        (
            "the token alone",
            LOOPBACK,
            &[("authorization", &bearer)],
            "401",
        ),
        (
            "the token and nobody",
            LOOPBACK,
            &[("authorization", &bearer), ("x-agent-id", "nobody")],
            "401",
        ),
        (
            "another token",
            LOOPBACK,
            &[("authorization", &almost), ("x-agent-id", "bot")],
            "401",
        ),
        (
            "an agent's own",
            ELSEWHERE,
            &[("authorization", BEARER)],
            "bot",
        ),
    ];
    check(&world, cases).await;
}

#[tokio::test]
async fn a_trusted_header_is_believed_from_anywhere_but_must_be_there() {
    let world = World::with(|config| config.trust_agent_header = true).await;
    let cases: &[Case<'_>] = &[
        ("a name", ELSEWHERE, &[("x-agent-id", "bot")], "bot"),
        ("nothing, from elsewhere", ELSEWHERE, &[], "401"),
        ("nothing, from here", LOOPBACK, &[], "local"),
        (
            "a bad credential",
            ELSEWHERE,
            &[("authorization", UNKNOWN), ("x-agent-id", "bot")],
            "401",
        ),
    ];
    check(&world, cases).await;
}

/// A client that gets a token after a 401 comes again on the same connection, which must
/// not end because of what it had not sent yet.
#[tokio::test]
async fn what_is_refused_is_read_to_its_end_unless_it_has_none() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body::Frame;
    use http_body_util::StreamBody;
    use tower::ServiceExt;

    let world = World::new().await;
    for (path, chunks, expects, read) in [
        ("/mcp", 3, false, 3),
        ("/execute", 3, false, 3),
        ("/execute", 100, false, 65),
        ("/mcp", 3, true, 0),
    ] {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let frames = (0..chunks).map(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b' '; 1024])))
        });
        let body = StreamBody::new(futures_util::stream::iter(frames));
        let mut request = Request::post(path).body(body).unwrap();
        let peer: SocketAddr = ELSEWHERE.parse().unwrap();
        request.extensions_mut().insert(Peer(peer));
        if expects {
            let value = http::HeaderValue::from_static("100-continue");
            request.headers_mut().insert(header::EXPECT, value);
        }
        let stack = crate::service::stack(&world.gateway);
        let answered = stack.oneshot(request).await.unwrap();
        assert_eq!(answered.status(), http::StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(count.load(Ordering::SeqCst), read, "{path} {chunks}");
    }
}
