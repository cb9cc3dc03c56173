//! What settings become, and what is refused.

use std::collections::BTreeMap;

use super::*;

fn load(
    file: &str,
    variables: &[(&str, &str)],
    flags: &[(&'static str, &str)],
) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cedargate.toml");
    std::fs::write(&path, file).unwrap();
    let environment = Environment::of(variables.iter().copied());
    let flags: BTreeMap<&'static str, String> = flags
        .iter()
        .map(|(key, value)| (*key, (*value).to_owned()))
        .collect();
    Config::from_settings(&Settings::read(Some(&path), environment, flags)?)
}

fn problem(file: &str, variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> String {
    load(file, variables, flags).unwrap_err().to_string()
}

#[test]
fn each_place_wins_over_the_one_below() {
    let file = "[gateway]\nport = 1_001\nname = \"from-file\"\n[orchestrator]\nport = 1002\ncors_origins = [\"https://a.example\", \"https://b.example:8443/\"]\n";
    let config = load(
        file,
        &[("PORT", "2001"), ("LOG_LEVEL", "DEBUG")],
        &[("gateway.port", "3001")],
    )
    .unwrap();
    assert_eq!(config.gateway.listen.port(), 3001, "flag");
    assert_eq!(config.log.level, "debug", "environment");
    assert_eq!(config.gateway.name, "from-file", "file");
    assert_eq!(config.orchestrator_listen.port(), 1002, "file");
    assert_eq!(config.gateway.metrics.port(), 9090, "default");
    assert_eq!(
        config.cors_origins,
        ["https://a.example", "https://b.example:8443"]
    );
    let config = load(
        file,
        &[("PORT", "2001"), ("CORS_ORIGINS", "https://c.example")],
        &[],
    )
    .unwrap();
    assert_eq!(config.gateway.listen.port(), 2001);
    assert_eq!(
        config.cors_origins,
        ["https://c.example"],
        "not added to the file's"
    );
    assert_eq!(
        load(file, &[("PORT", "")], &[])
            .unwrap()
            .gateway
            .listen
            .port(),
        1001,
        "empty is unset"
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = load("", &[], &[]).unwrap();
    assert_eq!(config.gateway.listen.to_string(), "127.0.0.1:8100");
    assert_eq!(config.gateway.metrics.to_string(), "127.0.0.1:9090");
    assert_eq!(config.orchestrator_listen.to_string(), "127.0.0.1:9403");
    assert_eq!(config.gateway.max_staleness, Duration::from_secs(5));
    assert_eq!(config.gateway.max_body_bytes, 1024 * 1024);
    assert_eq!(config.approval_lifetime, Duration::from_hours(24));
    assert!(!config.gateway.trust_agent_header);
    assert!(config.database_url.expose_secret().starts_with("sqlite://"));
    assert_eq!(
        config.public_url(config.orchestrator_listen),
        "http://127.0.0.1:9403"
    );
}

#[test]
fn metrics_follow_the_gateways_host_unless_told_otherwise() {
    let variables = [("HOST", "0.0.0.0"), ("MCP_GATEWAY_TOKEN", "a-token")];
    assert_eq!(
        load("", &variables, &[])
            .unwrap()
            .gateway
            .metrics
            .to_string(),
        "0.0.0.0:9090"
    );
    let config = load(
        "",
        &[("HOST", "0.0.0.0"), ("METRICS_HOST", "127.0.0.1")],
        &[],
    )
    .unwrap();
    assert_eq!(config.gateway.metrics.to_string(), "127.0.0.1:9090");
}

#[test]
fn unknown_keys_are_refused_with_their_place_and_the_nearest_key() {
    let message = problem("[gateway]\nname = \"x\"\nprot = 8100\n", &[], &[]);
    assert!(
        message.contains("cedargate.toml:3:1: ") && message.contains("`gateway.prot`"),
        "{message}"
    );
    assert!(message.contains("`gateway.port`"), "{message}");
    let message = problem("[gatway]\nport = 1\n", &[], &[]);
    assert!(message.contains("`gateway"), "{message}");
    let message = problem("polices = \"x\"", &[], &[]);
    assert!(
        message.contains(":1:1: ") && message.contains("`policies`"),
        "{message}"
    );
    let message = problem("x = [", &[], &[]);
    assert!(message.contains("cedargate.toml:1:"), "{message}");
}

#[test]
fn secrets_do_not_belong_into_the_file_and_are_never_repeated() {
    for key in [
        "gateway.token",
        "control_token",
        "orchestrator.database_url",
        "coolify_api_token",
    ] {
        let message = problem(&format!("{key} = \"hunter2\""), &[], &[]);
        assert!(
            message.contains("environment") && !message.contains("hunter2"),
            "{message}"
        );
    }
    let message = problem("gateway.port = \"hunter2\"", &[], &[]);
    assert!(
        message.contains(":1:16: ") && !message.contains("hunter2"),
        "{message}"
    );
    let message = problem(
        "gateway.token_file = [\"hunter2\"]\nx = \"hunter2",
        &[],
        &[],
    );
    assert!(!message.contains("hunter2"), "{message}");
    let message = problem("", &[("CEDARGATE_CONTROL_TOKEN", "hunter2")], &[]);
    assert!(
        message.contains("tokens generate") && !message.contains("hunter2"),
        "{message}"
    );
    let config = load(
        "",
        &[
            ("DATABASE_URL", "postgres://u:hunter2@h/d"),
            ("MCP_GATEWAY_TOKEN", "hunter2"),
        ],
        &[],
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn one_credential_does_not_open_two_doors() {
    let token = "0123456789abcdef0123";
    let message = problem(
        "",
        &[
            ("CEDARGATE_CONTROL_TOKEN", token),
            ("MCP_GATEWAY_TOKEN", token),
        ],
        &[],
    );
    assert!(
        message.contains("are the same") && !message.contains(token),
        "{message}"
    );
    for name in ["CEDARGATE_CONTROL_TOKEN", "MCP_GATEWAY_TOKEN"] {
        for token in ["cgu_0123456789abcdef0123", "cgt_0123456789abcdef0123"] {
            let message = problem("", &[(name, token)], &[]);
            assert!(
                message.starts_with(name) && !message.contains(token),
                "{message}"
            );
        }
    }
}

#[test]
fn a_secret_may_be_in_a_file_and_only_in_one_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "from-a-file-and-long\n").unwrap();
    let file = file.to_str().unwrap();
    let token = |config: &Config| {
        config
            .gateway
            .gateway_token
            .as_ref()
            .unwrap()
            .expose_secret()
            .to_owned()
    };
    let config = load("", &[("MCP_GATEWAY_TOKEN_FILE", file)], &[]).unwrap();
    assert_eq!(token(&config), "from-a-file-and-long");
    let config = load(&format!("gateway.token_file = '{file}'"), &[], &[]).unwrap();
    assert_eq!(token(&config), "from-a-file-and-long");
    let config = load(
        &format!("gateway.token_file = '{file}'"),
        &[("MCP_GATEWAY_TOKEN", "direct")],
        &[],
    )
    .unwrap();
    assert_eq!(
        token(&config),
        "direct",
        "the environment wins over the file"
    );
    let message = problem(
        "",
        &[
            ("MCP_GATEWAY_TOKEN_FILE", file),
            ("MCP_GATEWAY_TOKEN", "direct"),
        ],
        &[],
    );
    assert!(
        message.contains("MCP_GATEWAY_TOKEN_FILE") && !message.contains("direct`"),
        "{message}"
    );
    let message = problem("", &[("MCP_GATEWAY_TOKEN_FILE", "/nowhere/at/all")], &[]);
    assert!(message.contains("/nowhere/at/all"), "{message}");
    let message = problem("", &[("MCP_GATEWAY_TOKEN", "two\nlines")], &[]);
    assert!(
        message.contains("MCP_GATEWAY_TOKEN") && !message.contains("two"),
        "{message}"
    );
}

#[test]
fn notifications_are_set_up_whole_or_not_at_all() {
    let config = load("", &[], &[]).unwrap();
    assert!(config.notifications.smtp.is_none() && config.notifications.secrets_key.is_none());
    let config = load(
        "",
        &[
            ("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example"),
            ("CEDARGATE_SMTP_FROM", "Cedargate <gate@example.com>"),
            (
                "CEDARGATE_NOTIFICATION_PRIVATE_HOSTS",
                "relay.internal, 10.0.0.5",
            ),
        ],
        &[],
    )
    .unwrap();
    assert!(config.notifications.smtp.is_some());
    assert_eq!(
        config.notifications.private_hosts,
        ["relay.internal", "10.0.0.5"]
    );
    for (variables, expected) in [
        (
            vec![("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example")],
            "CEDARGATE_SMTP_FROM",
        ),
        (
            vec![
                ("CEDARGATE_SMTP_URL", "smtps://gate:hush@mail.example"),
                ("CEDARGATE_SMTP_FROM", "nobody"),
            ],
            "CEDARGATE_SMTP_FROM",
        ),
        (
            vec![
                ("CEDARGATE_SMTP_URL", "imap://gate:hush@mail.example"),
                ("CEDARGATE_SMTP_FROM", "a@b.example"),
            ],
            "CEDARGATE_SMTP_URL",
        ),
        (
            vec![
                ("CEDARGATE_SMTP_URL", "smtp://gate:hush@localhost"),
                ("CEDARGATE_SMTP_FROM", "a@b.example"),
            ],
            "without TLS",
        ),
        (
            vec![("CEDARGATE_SMTP_CA_FILE", "/nowhere/at/all")],
            "CEDARGATE_SMTP_CA_FILE",
        ),
        (
            vec![("CEDARGATE_SECRETS_KEY", "hush")],
            "CEDARGATE_SECRETS_KEY",
        ),
    ] {
        let message = problem("", &variables, &[]);
        assert!(
            message.contains(expected) && !message.contains("hush"),
            "{message}"
        );
    }
}

#[test]
fn wrong_values_name_where_they_were_set() {
    for (variables, flags, expected) in [
        (vec![("PORT", "99999")], vec![], "PORT"),
        (vec![("CORS_ORIGINS", "*.example")], vec![], "CORS_ORIGINS"),
        (
            vec![("CEDARGATE_MCP_ORIGINS", "*")],
            vec![],
            "CEDARGATE_MCP_ORIGINS",
        ),
        (
            vec![("CEDARGATE_MCP_HOSTS", "https://a.example/")],
            vec![],
            "CEDARGATE_MCP_HOSTS",
        ),
        (
            vec![],
            vec![("gateway.mcp_hold_ms", "soon")],
            "--mcp-hold-ms",
        ),
        (
            vec![("CEDARGATE_TRUSTED_PROXIES", "10.0.0.0/40")],
            vec![],
            "CEDARGATE_TRUSTED_PROXIES",
        ),
        (
            vec![("CORS_ORIGINS", "https://a.example/path")],
            vec![],
            "CORS_ORIGINS",
        ),
        (
            vec![("ORCHESTRATOR_URL", "orchestrator:9403")],
            vec![],
            "ORCHESTRATOR_URL",
        ),
        (
            vec![("ORCHESTRATOR_URL", "http://me:pw@host")],
            vec![],
            "ORCHESTRATOR_URL",
        ),
        (vec![("LOG_FORMAT", "xml")], vec![], "LOG_FORMAT"),
        (vec![("LOG_LEVEL", "loud")], vec![], "LOG_LEVEL"),
        (
            vec![("CEDARGATE_TRUST_AGENT_HEADER", "maybe")],
            vec![],
            "CEDARGATE_TRUST_AGENT_HEADER",
        ),
        (
            vec![("CEDARGATE_GATEWAY_NAME", "a/b")],
            vec![],
            "CEDARGATE_GATEWAY_NAME",
        ),
        (vec![], vec![("gateway.deadline_ms", "0")], "--deadline-ms"),
        (vec![], vec![("orchestrator.port", "x")], "--backend-port"),
    ] {
        let message = problem("", &variables, &flags);
        assert!(message.contains(expected), "{expected}: {message}");
    }
}

#[test]
fn paths_of_the_file_are_relative_to_it() {
    let config = load(
        "data = \"state\"\ngateway.journal = \"/var/journal\"",
        &[],
        &[],
    )
    .unwrap();
    assert!(
        config.data.is_absolute() && config.data.ends_with("state"),
        "{:?}",
        config.data
    );
    assert_eq!(config.gateway.journal, Path::new("/var/journal"));
    assert_eq!(
        load("", &[("CEDARGATE_DATA", "state")], &[]).unwrap().data,
        Path::new("state")
    );
    assert_eq!(
        load("", &[("CEDARGATE_DATA", "a b%c")], &[])
            .unwrap()
            .database_url
            .expose_secret(),
        "sqlite://a%20b%25c/cedargate.db"
    );
}
