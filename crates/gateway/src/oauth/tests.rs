use super::*;

fn settings() -> OAuthSettings {
    OAuthSettings {
        issuer: "https://login.example".to_owned(),
        url: "https://gate.example".to_owned(),
        audiences: Vec::new(),
        algorithms: vec!["ES256".to_owned()],
        agent_claim: "sub".to_owned(),
        agents: BTreeMap::new(),
        scopes: true,
    }
}

#[test]
fn settings_that_would_prove_nothing_are_refused() {
    let checked = |change: fn(&mut OAuthSettings)| {
        let mut settings = settings();
        change(&mut settings);
        settings.check()
    };
    assert_eq!(checked(|_| {}), Ok(()));
    assert_eq!(
        checked(|settings| settings.url = "http://127.0.0.1:8100".to_owned()),
        Ok(())
    );
    for url in [
        "",
        "gate.example",
        "http://gate.example",
        "https://gate.example/",
        "https://gate.example/mcp",
        "https://gate.example?x",
        "https://me@gate.example",
        "ftp://gate.example",
        "http://127.0.0.1.evil.example",
    ] {
        let mut settings = settings();
        settings.url = url.to_owned();
        assert!(settings.check().is_err(), "{url}");
    }
    for change in [
        |settings: &mut OAuthSettings| settings.issuer = "http://login.example".to_owned(),
        |settings: &mut OAuthSettings| settings.algorithms = vec!["HS256".to_owned()],
        |settings: &mut OAuthSettings| settings.algorithms = vec!["none".to_owned()],
        |settings: &mut OAuthSettings| settings.algorithms.clear(),
    ] {
        assert!(checked(change).is_err());
    }
}

#[test]
fn a_door_is_where_mcp_is_spoken() {
    let one = |name: &str| Some(Resource::One(name.parse().unwrap()));
    for (path, door) in [
        ("/mcp", Some(Resource::All)),
        ("/mcp/everything", one("everything")),
        ("/mcp/nobody-has-this", one("nobody-has-this")),
        // No service is called so: nothing is said of it.
        ("/mcp/%22", Some(Resource::All)),
        ("/mcp/\"", Some(Resource::All)),
        ("/mcp/execute", None),
        ("/mcp/rpc", None),
        ("/mcp/catalog", None),
        ("/mcp/a/b", None),
        ("/execute", None),
        ("/", None),
    ] {
        assert_eq!(Resource::of(path), door, "{path}");
    }
}

#[test]
fn only_what_looks_like_a_signed_token_is_taken_for_one() {
    for (text, is) in [
        ("eyJh.eyJi.c2ln", true),
        ("a.b.", false),
        ("a.b", false),
        ("a.b.c.d", false),
        ("a.b c.d", false),
        ("cgt_0000000000000000000000000000000000000000000", false),
        ("", false),
    ] {
        assert_eq!(is_token(text), is, "{text}");
    }
}

#[test]
fn a_challenge_says_what_helps_and_cannot_be_broken_out_of() {
    let oauth = OAuth::new(settings()).unwrap();
    let door = Resource::One("everything".parse().unwrap());
    let said = |refusal: &Refusal, credential: bool| {
        let challenge = oauth.challenge(&door, refusal, credential);
        challenge.map(|challenge| challenge.to_str().unwrap().to_owned())
    };
    let metadata = r#"resource_metadata="https://gate.example/.well-known/oauth-protected-resource/mcp/everything""#;
    let stranger = Refusal::Unauthenticated("who?".to_owned());
    assert_eq!(
        said(&stranger, false).unwrap(),
        format!(r#"Bearer realm="cedargate", scope="cedargate:read", {metadata}"#)
    );
    assert_eq!(
        said(&stranger, true).unwrap(),
        format!(
            r#"Bearer realm="cedargate", error="invalid_token", error_description="who?", scope="cedargate:read", {metadata}"#
        )
    );
    let odd = Refusal::Unauthenticated("\"\\\r\n, x=\"ü`".to_owned());
    assert!(
        said(&odd, true)
            .unwrap()
            .contains(r#"error_description="''??, x='?'""#)
    );
    let scope = said(&Refusal::Scope(Risk::Destroy), true).unwrap();
    for part in [
        r#"error="insufficient_scope""#,
        r#"scope="cedargate:destroy""#,
        metadata,
    ] {
        assert!(scope.contains(part), "{scope}");
    }
    for other in [
        Refusal::NoAgent(String::new()),
        Refusal::Issuer,
        Refusal::Overloaded,
    ] {
        assert_eq!(said(&other, true), None, "a token would not help");
    }
    let oauth = OAuth::new(OAuthSettings {
        scopes: false,
        ..settings()
    })
    .unwrap();
    let challenge = oauth.challenge(&Resource::All, &stranger, false).unwrap();
    assert!(!challenge.to_str().unwrap().contains("scope"));
    assert!(oauth.metadata(&door).get("scopes_supported").is_none());
}
