use std::collections::BTreeSet;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use issuer::Signed;
use jsonwebtoken::{
    Algorithm, EncodingKey, Header, encode,
    jwk::{Jwk, JwkSet},
};
use serde_json::{Value, json};

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);
const SECONDS: i64 = 1_790_000_000;
const ISSUER: &str = "https://login.example";

fn config() -> Config {
    Config {
        issuer: ISSUER.to_owned(),
        client_id: "us".to_owned(),
        client_secret: None,
        name: "x".to_owned(),
        scopes: Vec::new(),
        algorithms: vec!["ES256".to_owned(), "RS256".to_owned()],
        create_users: false,
        link_by_email: false,
        user_claim: "email".to_owned(),
        roles_claim: None,
        roles: Vec::new(),
        teams_claim: None,
        teams: Vec::new(),
        default_roles: BTreeSet::new(),
        mfa_acr: vec!["gold".to_owned()],
        mfa_amr: vec!["otp".to_owned()],
    }
}

/// A key pair, as the provider has it and as it publishes it.
fn pair(kid: &str) -> (EncodingKey, Jwk) {
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .unwrap();
    let key = EncodingKey::from_ec_der(document.as_ref());
    let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
    public.common.key_id = Some(kid.to_owned());
    (key, public)
}

const ALLOWED: [Algorithm; 2] = [Algorithm::ES256, Algorithm::RS256];

fn signed(token: &str, keys: &JwkSet, allowed: &[Algorithm]) -> Result<issuer::Claims, Refused> {
    let key = Signed::read(token, allowed)?.key(keys);
    key.ok_or(Refused("no key"))?.claims(token)
}

struct World {
    provider: Provider,
    key: EncodingKey,
    keys: JwkSet,
    flow: Flow,
}

fn world(purpose: Purpose) -> World {
    let (key, public) = pair("k1");
    let (_, other) = pair("k2");
    World {
        provider: Provider::new(config(), "https://gate.example/").unwrap(),
        key,
        keys: JwkSet {
            keys: vec![other, public],
        },
        flow: Flow::begin(purpose, "/me".to_owned(), NOW),
    }
}

impl World {
    /// A good token's claims, with some of them otherwise; `null` takes one away.
    fn claims(&self, change: &Value) -> Value {
        let mut claims = json!({
            "iss": ISSUER, "aud": "us", "sub": "1", "nonce": self.flow.nonce,
            "iat": SECONDS, "exp": SECONDS + 60, "auth_time": SECONDS,
        });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
            .as_object_mut()
            .unwrap()
            .retain(|_, value| !value.is_null());
        claims
    }

    fn token(&self, change: &Value) -> String {
        let header = Header {
            kid: Some("k1".to_owned()),
            ..Header::new(Algorithm::ES256)
        };
        encode(&header, &self.claims(change), &self.key).unwrap()
    }

    fn verify(&self, token: &str) -> Result<Claims, Refused> {
        let claims = signed(token, &self.keys, &ALLOWED)?;
        id_token::verify(claims, &self.provider.config, &self.flow, NOW)
    }
}

#[test]
fn a_token_is_believed_only_as_a_whole() {
    let world = world(Purpose::LogIn);
    let cases = [
        ("as it is", json!({}), None),
        (
            "for several",
            json!({"aud": ["them", "us"], "azp": "us"}),
            None,
        ),
        ("a minute old", json!({"exp": SECONDS - 59}), None),
        ("a minute ahead", json!({"iat": SECONDS + 60}), None),
        ("fractions", json!({"exp": 1_790_000_000.5}), None),
        (
            "other issuer",
            json!({"iss": "https://login.example/"}),
            Some("another issuer"),
        ),
        ("no issuer", json!({"iss": null}), Some("another issuer")),
        ("for others", json!({"aud": "them"}), Some("somebody else")),
        ("for nobody", json!({"aud": null}), Some("somebody else")),
        (
            "several, no party",
            json!({"aud": ["them", "us"]}),
            Some("issued to somebody else"),
        ),
        (
            "another party",
            json!({"azp": "them"}),
            Some("issued to somebody else"),
        ),
        (
            "odd party",
            json!({"azp": 1}),
            Some("issued to somebody else"),
        ),
        ("expired", json!({"exp": SECONDS - 60}), Some("expired")),
        ("no end", json!({"exp": null}), Some("when it ends")),
        (
            "end in words",
            json!({"exp": "tomorrow"}),
            Some("when it ends"),
        ),
        (
            "end beyond time",
            json!({"exp": 1e300}),
            Some("when it ends"),
        ),
        ("no beginning", json!({"iat": null}), Some("when it is of")),
        (
            "of the future",
            json!({"iat": SECONDS + 61}),
            Some("future"),
        ),
        ("not yet", json!({"nbf": SECONDS + 61}), Some("future")),
        ("no nonce", json!({"nonce": null}), Some("another question")),
        (
            "another nonce",
            json!({"nonce": "0"}),
            Some("another question"),
        ),
        ("nobody", json!({"sub": null}), Some("names nobody")),
        ("an empty name", json!({"sub": ""}), Some("names nobody")),
        (
            "a long name",
            json!({"sub": "x".repeat(256)}),
            Some("names nobody"),
        ),
        ("a number", json!({"sub": 1}), Some("names nobody")),
    ];
    for (name, change, expected) in cases {
        match (world.verify(&world.token(&change)), expected) {
            (Ok(claims), None) => assert_eq!(claims.subject, "1", "{name}"),
            (Err(Refused(why)), Some(part)) => assert!(why.contains(part), "{name}: {why}"),
            (other, _) => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn nobody_else_signs() {
    let world = world(Purpose::LogIn);
    let good = world.token(&json!({}));
    let claims = world.claims(&json!({}));
    let (other, _) = pair("k1");
    let sign = |header: &Header, key: &EncodingKey| encode(header, &claims, key).unwrap();
    let named = |kid: Option<&str>, algorithm| Header {
        kid: kid.map(str::to_owned),
        ..Header::new(algorithm)
    };
    let [head, body, signature] = good.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let unsigned = |header: Value| {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        format!("{}.{body}.", URL_SAFE_NO_PAD.encode(header.to_string()))
    };
    // The well-known one: our public key as a shared secret.
    let public = serde_json::to_vec(&world.keys.keys[1]).unwrap();
    let shared = sign(
        &named(Some("k1"), Algorithm::HS256),
        &EncodingKey::from_secret(&public),
    );
    for (name, token) in [
        (
            "another key of that name",
            sign(&named(Some("k1"), Algorithm::ES256), &other),
        ),
        (
            "another key's name",
            sign(&named(Some("k2"), Algorithm::ES256), &world.key),
        ),
        (
            "an unknown name",
            sign(&named(Some("k3"), Algorithm::ES256), &world.key),
        ),
        (
            "no name, of several",
            sign(&named(None, Algorithm::ES256), &world.key),
        ),
        ("a shared secret", shared),
        ("none", unsigned(json!({"alg": "none", "kid": "k1"}))),
        ("None", unsigned(json!({"alg": "None", "kid": "k1"}))),
        ("no signature", format!("{head}.{body}.")),
        (
            "another one's claims",
            format!("{head}.{}.{signature}", body.replace('A', "B")),
        ),
        ("not one", "x".to_owned()),
        ("nothing", String::new()),
        ("a large one", format!("{good}{}", "A".repeat(70_000))),
    ] {
        assert!(world.verify(&token).is_err(), "{name}");
    }
    assert!(world.verify(&good).is_ok());
    let critical = {
        let header = Header {
            crit: Some(vec!["b64".to_owned()]),
            ..named(Some("k1"), Algorithm::ES256)
        };
        encode(&header, &claims, &world.key)
    };
    assert!(critical.is_err() || world.verify(&critical.unwrap()).is_err());
    let mut encrypting = world.keys.clone();
    encrypting.keys[1].common.public_key_use = Some(jsonwebtoken::jwk::PublicKeyUse::Encryption);
    assert!(signed(&good, &encrypting, &ALLOWED).is_err());
    assert!(signed(&good, &world.keys, &[Algorithm::RS256]).is_err());
}

#[test]
fn who_shows_themselves_again_did_so_just_now() {
    let world = world(Purpose::StepUp);
    for (at, believed) in [
        (json!(SECONDS), true),
        (json!(SECONDS - 60), true),
        (json!(SECONDS - 61), false),
        (Value::Null, false),
    ] {
        let token = world.token(&json!({"auth_time": at}));
        assert_eq!(world.verify(&token).is_ok(), believed, "{at}");
    }
}

#[test]
fn claims_are_read_as_providers_write_them() {
    let world = world(Purpose::LogIn);
    let claims = |change: Value| world.verify(&world.token(&change)).unwrap();
    let groups = claims(json!({
        "groups": ["a", 1, "b"], "one": "c", "realm": {"roles": ["d"]}, "x.y": ["e"],
    }));
    for (path, expected) in [
        ("groups", vec!["a", "b"]),
        ("one", vec!["c"]),
        ("realm.roles", vec!["d"]),
        ("x.y", vec!["e"]),
        ("realm", vec![]),
        ("nothing.here", vec![]),
    ] {
        assert_eq!(groups.all.texts(path), expected, "{path}");
    }
    for (verified, email) in [
        (json!(true), Some("dan@example.com")),
        (json!("true"), None),
        (json!(false), None),
        (Value::Null, None),
    ] {
        let claims = claims(json!({"email": "dan@example.com", "email_verified": verified}));
        assert_eq!(claims.all.verified_email(), email, "{verified}");
    }
    for (change, counts) in [
        (json!({"acr": "gold"}), true),
        (json!({"amr": ["pwd", "otp"]}), true),
        (json!({"amr": ["pwd"]}), false),
        (json!({"acr": "golden"}), false),
        (json!({"acr": "gold", "auth_time": null}), false),
    ] {
        let proved = claims(change.clone()).second_factor(&world.provider);
        assert_eq!(proved.is_some(), counts, "{change}");
    }
}

#[test]
fn settings_that_would_prove_nothing_are_refused() {
    let new = |change: fn(&mut Config)| {
        let mut config = config();
        change(&mut config);
        Provider::new(config, "https://gate.example").map(drop)
    };
    assert!(new(|_| {}).is_ok());
    assert!(new(|config| config.issuer = "http://127.0.0.1:9".to_owned()).is_ok());
    for issuer in [
        "",
        "login.example",
        "http://login.example",
        "https://u:p@login.example",
        "https://login.example?x",
        "ftp://login.example",
        "http://127.0.0.1.evil.example",
    ] {
        let mut config = config();
        config.issuer = issuer.to_owned();
        assert!(
            matches!(
                Provider::new(config, "https://gate.example"),
                Err(InvalidConfig::Issuer(_))
            ),
            "{issuer}"
        );
    }
    for algorithm in ["HS256", "none", "", "rs256"] {
        let mut config = config();
        config.algorithms = vec![algorithm.to_owned()];
        assert!(
            matches!(
                Provider::new(config, "https://gate.example"),
                Err(InvalidConfig::Algorithm(_))
            ),
            "{algorithm}"
        );
    }
}
