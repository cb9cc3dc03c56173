use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};

use super::*;

const NOON: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const SECONDS: i64 = 1_790_000_000;

/// A key pair, as the issuer has it and as it publishes it.
fn pair(kid: &str) -> (EncodingKey, Jwk) {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .unwrap();
    let key = EncodingKey::from_ec_der(document.as_ref());
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    public.common.key_id = Some(kid.to_owned());
    (key, public)
}

type Script = Box<dyn Fn(&str) -> Option<Response> + Send>;

/// An issuer over HTTP that answers as a test tells it.
struct Server {
    url: String,
    keys: Mutex<JwkSet>,
    script: Mutex<Script>,
    asked: AtomicUsize,
    key_questions: AtomicUsize,
}

async fn answer(State(server): State<Arc<Server>>, request: Request) -> Response {
    server.asked.fetch_add(1, Ordering::SeqCst);
    let path = request.uri().path().to_owned();
    if path == "/keys" {
        server.key_questions.fetch_add(1, Ordering::SeqCst);
    }
    if let Some(answer) = (server.script.lock().unwrap())(&path) {
        return answer;
    }
    match path.as_str() {
        "/keys" => json_of(&serde_json::to_value(&*server.keys.lock().unwrap()).unwrap()),
        "/.well-known/oauth-authorization-server" => json_of(&server.described(json!({}))),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

fn json_of(value: &Value) -> Response {
    ([("content-type", "application/json")], value.to_string()).into_response()
}

impl Server {
    async fn start() -> Arc<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Arc::new(Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            keys: Mutex::default(),
            script: Mutex::new(Box::new(|_| None)),
            asked: AtomicUsize::new(0),
            key_questions: AtomicUsize::new(0),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&server));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        server
    }

    fn described(&self, change: Value) -> Value {
        let mut described =
            json!({"issuer": self.url, "jwks_uri": format!("{}/keys", self.url), "more": 1});
        merge(&mut described, change);
        described
    }

    fn says(&self, script: impl Fn(&str) -> Option<Response> + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn has(&self, keys: Vec<Jwk>) {
        *self.keys.lock().unwrap() = JwkSet { keys };
    }

    fn issuer(&self, stale: Duration) -> Arc<Issuer> {
        let algorithms = ["ES256".to_owned(), "RS256".to_owned()];
        Issuer::new(&self.url, &algorithms, Discovery::OAuth, stale).unwrap()
    }

    /// A token that would be believed, with some claims otherwise; `null` takes one away.
    fn token(&self, key: &EncodingKey, header: &Header, change: Value) -> String {
        let mut claims = json!({"iss": self.url, "sub": "1", "exp": SECONDS + 60});
        merge(&mut claims, change);
        encode(header, &claims, key).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn merge(into: &mut Value, change: Value) {
    for (name, value) in change.as_object().unwrap() {
        into[name] = value.clone();
    }
    into.as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
}

fn es256(kid: &str) -> Header {
    Header {
        kid: Some(kid.to_owned()),
        ..Header::new(Algorithm::ES256)
    }
}

/// Why a token is not believed; empty if it is.
async fn verdict(issuer: &Arc<Issuer>, token: &str, now: Timestamp) -> String {
    match issuer.signed(token, now).await {
        Ok(_) => String::new(),
        Err(Failure::Refused(Refused(why))) => why.to_owned(),
        Err(Failure::Unavailable(error)) => format!("unavailable: {error}"),
    }
}

#[tokio::test]
async fn only_what_the_issuer_signed_is_believed() {
    let server = Server::start().await;
    let (key, public) = pair("k1");
    let (other, other_public) = pair("k2");
    server.has(vec![other_public, public.clone()]);
    let issuer = server.issuer(Duration::ZERO);
    let good = server.token(&key, &es256("k1"), json!({}));
    assert_eq!(verdict(&issuer, &good, NOON).await, "");

    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let headed = |header: Value, signature: &str| {
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        format!("{header}.{body}.{signature}")
    };
    // The well-known one: a public key as a shared secret, in each form that it has.
    let jwk = serde_json::to_vec(&public).unwrap();
    let shared = EncodingKey::from_secret(&jwk);
    let hs256 = Header {
        kid: Some("k1".to_owned()),
        ..Header::new(Algorithm::HS256)
    };
    let cases = [
        (
            "none",
            headed(json!({"alg": "none", "kid": "k1"}), ""),
            "known",
        ),
        (
            "None",
            headed(json!({"alg": "None", "kid": "k1"}), signature),
            "known",
        ),
        (
            "no way at all",
            headed(json!({"kid": "k1"}), signature),
            "known",
        ),
        (
            "a shared secret",
            server.token(&shared, &hs256, json!({})),
            "not allowed",
        ),
        (
            "a way that nobody named",
            headed(json!({"alg": "ES384", "kid": "k1"}), signature),
            "not allowed",
        ),
        (
            "a way that its key cannot",
            headed(json!({"alg": "RS256", "kid": "k1"}), signature),
            "no key",
        ),
        (
            "something to be understood",
            headed(
                json!({"alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false}),
                signature,
            ),
            "understood",
        ),
        (
            "another key of that name",
            server.token(&other, &es256("k1"), json!({})),
            "signature",
        ),
        (
            "another key's name",
            server.token(&key, &es256("k2"), json!({})),
            "signature",
        ),
        (
            "an unknown name",
            server.token(&key, &es256("k3"), json!({})),
            "no key",
        ),
        (
            "no name, of several keys",
            server.token(&key, &Header::new(Algorithm::ES256), json!({})),
            "no key",
        ),
        ("no signature", format!("{head}.{body}."), "signature"),
        (
            "another one's claims",
            format!(
                "{head}.{}.{signature}",
                URL_SAFE_NO_PAD.encode(json!({"iss": server.url, "sub": "root"}).to_string())
            ),
            "signature",
        ),
        (
            "another issuer",
            server.token(&key, &es256("k1"), json!({"iss": "https://other.example"})),
            "another issuer",
        ),
        (
            "nearly this issuer",
            server.token(
                &key,
                &es256("k1"),
                json!({"iss": format!("{}/", server.url)}),
            ),
            "another issuer",
        ),
        (
            "no issuer",
            server.token(&key, &es256("k1"), json!({"iss": null})),
            "another issuer",
        ),
        (
            "a list of claims",
            format!("{head}.W10.{signature}"),
            "read",
        ),
        ("not one", "x".to_owned(), "known"),
        ("nothing", String::new(), "known"),
        (
            "a large one",
            format!("{good}{}", "A".repeat(70_000)),
            "long",
        ),
    ];
    for (name, token, why) in cases {
        let verdict = verdict(&issuer, &token, NOON).await;
        assert!(verdict.contains(why), "{name}: {verdict}");
    }
    // A key that a token brings along, or names by address, is nobody's.
    let brought = Header {
        jwk: Some(pair("k9").1),
        jku: Some("https://attacker.example/keys".to_owned()),
        ..es256("k9")
    };
    let brought = server.token(&pair("k9").0, &brought, json!({}));
    assert!(verdict(&issuer, &brought, NOON).await.contains("no key"));
}

#[tokio::test]
async fn a_key_for_something_else_signs_nothing() {
    let server = Server::start().await;
    let (key, public) = pair("k1");
    let token = server.token(&key, &es256("k1"), json!({}));
    for (name, change, believed) in [
        ("as it is", json!({}), true),
        ("for signatures", json!({"use": "sig"}), true),
        ("for encryption", json!({"use": "enc"}), false),
        ("to verify", json!({"key_ops": ["verify"]}), true),
        ("to derive", json!({"key_ops": ["deriveKey"]}), false),
        ("for another algorithm", json!({"alg": "ES384"}), false),
        (
            "for one that nobody knows",
            json!({"alg": "ML-DSA-65"}),
            false,
        ),
        ("of a kind that nobody knows", json!({"kty": "AKP"}), false),
        ("without a name", json!({"kid": null}), false),
    ] {
        let mut jwk = serde_json::to_value(&public).unwrap();
        merge(&mut jwk, change);
        // What nobody knows beside it disturbs nobody.
        let unknown = json!({"kty": "AKP", "kid": "pq", "pub": "AA"});
        let set = json!({"keys": [unknown, jwk]});
        server.says(move |path| (path == "/keys").then(|| json_of(&set)));
        let verdict = verdict(&server.issuer(Duration::ZERO), &token, NOON).await;
        assert_eq!(verdict.is_empty(), believed, "{name}: {verdict}");
    }
}

#[tokio::test]
async fn keys_are_replaced_and_a_flood_asks_once_in_ten_seconds() {
    let server = Server::start().await;
    let (old, old_public) = pair("old");
    let (new, new_public) = pair("new");
    server.has(vec![old_public]);
    let issuer = server.issuer(Duration::ZERO);
    let by_old = server.token(&old, &es256("old"), json!({}));
    let by_new = server.token(&new, &es256("new"), json!({}));
    assert_eq!(verdict(&issuer, &by_old, NOON).await, "");
    let once = server.asked();
    assert_eq!(once, 2, "the description and the keys");
    assert_eq!(verdict(&issuer, &by_old, NOON).await, "");
    assert_eq!(server.asked(), once, "known");

    // Names of keys that there are none of: at once, one after the other, of this issuer
    // and of others.
    let flood = |count: usize, now: Timestamp| {
        let (issuer, server, old) = (&issuer, &server, &old);
        async move {
            let mut all = Vec::new();
            for at in 0..count {
                let token = server.token(old, &es256(&format!("k{at}")), json!({}));
                let issuer = Arc::clone(issuer);
                all.push(tokio::spawn(
                    async move { verdict(&issuer, &token, now).await },
                ));
            }
            for one in all {
                assert!(one.await.unwrap().contains("no key"));
            }
        }
    };
    flood(200, NOON.plus(Duration::from_secs(9))).await;
    assert_eq!(server.asked(), once, "it was asked a moment ago");
    flood(200, NOON.plus(Duration::from_secs(10))).await;
    assert_eq!(server.asked(), once + 2, "once");
    flood(200, NOON.plus(Duration::from_secs(19))).await;
    assert_eq!(server.asked(), once + 2);
    let foreign = server.token(&old, &es256("k0"), json!({"iss": "https://other.example"}));
    let later = NOON.plus(Duration::from_mins(5));
    assert!(!verdict(&issuer, &foreign, later).await.is_empty());
    assert_eq!(
        server.asked(),
        once + 2,
        "nobody asks about those of others"
    );

    server.has(vec![new_public]);
    assert_eq!(verdict(&issuer, &by_new, later).await, "");
    assert_eq!(server.asked(), once + 4);
    assert!(
        verdict(&issuer, &by_old, later).await.contains("no key"),
        "a key that is taken back is good for nothing"
    );
}

#[tokio::test]
async fn an_issuer_out_of_reach_is_believed_for_a_while() {
    let server = Server::start().await;
    let (key, public) = pair("k1");
    server.has(vec![public]);
    let token = server.token(&key, &es256("k1"), json!({}));
    let unknown = server.token(&key, &es256("k2"), json!({}));
    let patient = server.issuer(Duration::from_hours(6));
    let strict = server.issuer(Duration::ZERO);
    for issuer in [&patient, &strict] {
        assert_eq!(verdict(issuer, &token, NOON).await, "");
    }
    server.says(|_| Some(StatusCode::SERVICE_UNAVAILABLE.into_response()));
    let after =
        |hours, seconds| NOON.plus(Duration::from_hours(hours) + Duration::from_secs(seconds));
    assert_eq!(verdict(&patient, &token, after(0, 3_599)).await, "");
    assert_eq!(verdict(&patient, &token, after(5, 3_599)).await, "");
    let down = verdict(&patient, &token, after(6, 10)).await;
    assert!(down.contains("unavailable"), "{down}");
    assert!(patient.is_down(after(6, 24)) && !patient.is_down(after(6, 25)));

    assert_eq!(verdict(&strict, &token, after(0, 3_599)).await, "");
    let down = verdict(&strict, &token, after(1, 0)).await;
    assert!(down.contains("it answered 503"), "{down}");
    // Whether an unknown key is the issuer's cannot be known; and it is left in peace.
    let asked = server.asked();
    for _ in 0..100 {
        let unknown = verdict(&strict, &unknown, after(1, 9)).await;
        assert!(unknown.contains("a moment ago"), "{unknown}");
    }
    assert_eq!(server.asked(), asked);
    server.says(|_| None);
    assert_eq!(verdict(&strict, &token, after(1, 10)).await, "");
    assert_eq!(verdict(&patient, &token, after(7, 0)).await, "");
}

#[tokio::test]
async fn an_issuer_that_talks_nonsense_is_out_of_reach() {
    let server = Server::start().await;
    let (key, public) = pair("k1");
    server.has(vec![public]);
    let token = server.token(&key, &es256("k1"), json!({}));
    let described = |change: Value| {
        let described = server.described(change);
        move || json_of(&described)
    };
    let redirect =
        |to: &'static str| move || (StatusCode::FOUND, [("location", to)]).into_response();
    let page = || ([("content-type", "text/html")], "<!doctype html><p>Login").into_response();
    let endless = || {
        let chunk = || Ok::<_, std::io::Error>("{\"keys\": [             ".repeat(4_096));
        let chunks = (0..100).map(move |_| chunk());
        Body::from_stream(futures_util::stream::iter(chunks)).into_response()
    };
    type Answer = Box<dyn Fn() -> Response + Send>;
    let cases: Vec<(&str, &str, Answer, &str)> = vec![
        (
            "another one's description",
            "description",
            Box::new(described(json!({"issuer": "https://other.example"}))),
            "not of",
        ),
        (
            "no keys",
            "description",
            Box::new(described(json!({"jwks_uri": null}))),
            "jwks_uri",
        ),
        (
            "keys elsewhere without TLS",
            "description",
            Box::new(described(
                json!({"jwks_uri": "http://169.254.169.254/keys"}),
            )),
            "no `https:` URL",
        ),
        (
            "keys in a file",
            "description",
            Box::new(described(json!({"jwks_uri": "file:///etc/passwd"}))),
            "no `https:` URL",
        ),
        ("a page", "description", Box::new(page), "not as it must be"),
        (
            "a page of keys",
            "keys",
            Box::new(page),
            "not as it must be",
        ),
        (
            "keys that are none",
            "keys",
            Box::new(|| json_of(&json!({"keys": "k"}))),
            "not as it must be",
        ),
        ("keys without end", "keys", Box::new(endless), "more than"),
        (
            "a way to a private address",
            "keys",
            Box::new(redirect("http://169.254.169.254/latest/meta-data")),
            "302",
        ),
        (
            "a way elsewhere",
            "description",
            Box::new(redirect("https://attacker.example/")),
            "302",
        ),
        (
            "an error",
            "keys",
            Box::new(|| StatusCode::INTERNAL_SERVER_ERROR.into_response()),
            "500",
        ),
    ];
    for (name, what, answer, why) in cases {
        let of_keys = what == "keys";
        server.says(move |path| (of_keys == (path == "/keys")).then(&answer));
        let verdict = verdict(&server.issuer(Duration::ZERO), &token, NOON).await;
        assert!(
            verdict.starts_with("unavailable") && verdict.contains(why),
            "{name}: {verdict}"
        );
    }
    server.says(|_| None);
    assert_eq!(
        verdict(&server.issuer(Duration::ZERO), &token, NOON).await,
        ""
    );
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_out_of_reach() {
    // Connections are taken, and nothing is said.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let name = format!("http://{}", listener.local_addr().unwrap());
    let algorithms = ["ES256".to_owned()];
    let patience = Duration::from_millis(50);
    let issuer = Issuer::waiting(
        &name,
        &algorithms,
        Discovery::OpenId,
        Duration::ZERO,
        patience,
    );
    let issuer = issuer.unwrap();
    let known = issuer.known(NOON).await;
    assert!(
        matches!(&known, Err(Unavailable::Http(error)) if error.is_timeout()),
        "{known:?}"
    );
    let again = issuer.known(NOON).await;
    assert!(matches!(again, Err(Unavailable::Lately)), "{again:?}");
    drop(listener);
}

/// RFC 8414, section 3.1, and what is tried after it.
#[tokio::test]
async fn an_issuer_describes_itself_in_one_of_two_places() {
    let at = |name: &str, discovery| {
        let issuer = Issuer::new(name, &["ES256".to_owned()], discovery, Duration::ZERO);
        let issuer = issuer.unwrap();
        (issuer.oauth(), issuer.openid())
    };
    for (name, oauth, openid) in [
        (
            "https://login.example",
            "https://login.example/.well-known/oauth-authorization-server",
            "https://login.example/.well-known/openid-configuration",
        ),
        (
            "https://login.example/realms/x",
            "https://login.example/.well-known/oauth-authorization-server/realms/x",
            "https://login.example/realms/x/.well-known/openid-configuration",
        ),
        (
            "https://login.example/",
            "https://login.example/.well-known/oauth-authorization-server",
            "https://login.example/.well-known/openid-configuration",
        ),
    ] {
        assert_eq!(
            at(name, Discovery::OAuth),
            (oauth.to_owned(), openid.to_owned())
        );
    }
    let server = Server::start().await;
    let described = server.described(json!({}));
    server.says(move |path| match path {
        "/.well-known/openid-configuration" => Some(json_of(&described)),
        "/.well-known/oauth-authorization-server" => Some(StatusCode::NOT_FOUND.into_response()),
        _ => None,
    });
    let known = server.issuer(Duration::ZERO).known(NOON).await.unwrap();
    assert_eq!(known.description::<Value>().unwrap()["more"], 1);
    assert!(known.description::<Described>().is_ok());
    let broken: Result<Vec<u8>, _> = known.description();
    assert!(matches!(broken, Err(Unavailable::Malformed(..))));
}

#[test]
fn what_may_be_an_issuer() {
    let algorithms = ["ES256".to_owned()];
    for (name, good) in [
        ("https://login.example", true),
        ("https://login.example/realms/x", true),
        ("http://127.0.0.1:9", true),
        ("", false),
        ("login.example", false),
        ("http://login.example", false),
        ("https://u:p@login.example", false),
        ("https://login.example?x", false),
        ("https://login.example#x", false),
        ("ftp://login.example", false),
        ("http://127.0.0.1.evil.example", false),
    ] {
        assert_eq!(check(name, &algorithms).is_ok(), good, "{name}");
    }
    for algorithm in ["HS256", "HS384", "HS512", "none", "", "rs256"] {
        let algorithms = [algorithm.to_owned()];
        let checked = check("https://login.example", &algorithms);
        assert!(matches!(checked, Err(Invalid::Algorithm(_))), "{algorithm}");
    }
    // An issuer elsewhere does not lead to this machine.
    let issuer = Issuer::new(
        "https://login.example",
        &algorithms,
        Discovery::OAuth,
        Duration::ZERO,
    );
    let issuer = issuer.unwrap();
    assert!(issuer.endpoint("https://keys.example/", "keys").is_ok());
    assert!(issuer.endpoint("http://127.0.0.1:8100/", "keys").is_err());
}

#[test]
fn a_token_is_good_for_a_while() {
    let claims = |change: Value| {
        let mut claims = json!({"exp": SECONDS + 60, "iat": SECONDS, "nbf": SECONDS});
        merge(&mut claims, change);
        let (key, public) = pair("k1");
        let token = encode(&es256("k1"), &claims, &key).unwrap();
        let signed = Signed::read(&token, &[Algorithm::ES256]).unwrap();
        assert_eq!(signed.kind(), Some("JWT"));
        let keys = JwkSet { keys: vec![public] };
        signed.key(&keys).unwrap().claims(&token).unwrap()
    };
    for (name, change, why) in [
        ("as it is", json!({}), ""),
        ("without a beginning", json!({"iat": null, "nbf": null}), ""),
        ("59 seconds late", json!({"exp": SECONDS - 59}), ""),
        ("a minute late", json!({"exp": SECONDS - 60}), "expired"),
        (
            "a minute early",
            json!({"nbf": SECONDS + 60, "iat": SECONDS + 60}),
            "",
        ),
        ("too early", json!({"nbf": SECONDS + 61}), "future"),
        ("made in the future", json!({"iat": SECONDS + 61}), "future"),
        ("fractions", json!({"exp": 1_790_000_000.5}), ""),
        ("without end", json!({"exp": null}), "when it ends"),
        (
            "an end in words",
            json!({"exp": "tomorrow"}),
            "when it ends",
        ),
        ("an end beyond time", json!({"exp": 1e300}), "when it ends"),
        (
            "a beginning in words",
            json!({"nbf": "now"}),
            "when it is of",
        ),
    ] {
        let good = claims(change).good_at(NOON);
        let said = good.map_or_else(|Refused(why)| why, |()| "");
        assert!(
            said.contains(why) && said.is_empty() == why.is_empty(),
            "{name}: {said}"
        );
    }
    let said = claims(json!({"aud": ["a", 1], "a.b": "whole", "c": {"d": ["e", 2]}}));
    assert_eq!(said.audiences(), ["a"]);
    assert_eq!(said.at("a.b"), Some(&json!("whole")));
    assert_eq!(said.texts("c.d"), ["e"]);
    assert!(said.at("c.x").is_none() && said.texts("c").is_empty());
}
