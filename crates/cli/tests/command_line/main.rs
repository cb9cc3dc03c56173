//! The binary as a shell sees it: exit codes, what is printed where, what is never printed.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod services;

use std::{
    path::Path,
    process::{Command, Output},
};

/// Runs `cedargate` in `folder`, with these variables and no others.
fn cedargate(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_cedargate"))
        .current_dir(folder)
        .env_clear()
        .envs(variables.iter().copied())
        .args(arguments)
        .output()
        .unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn help_names_every_subcommand_and_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let help = cedargate(folder.path(), &[], &["--help"]);
    assert_eq!(code(&help), 0);
    let text = out(&help);
    for word in [
        "serve",
        "gateway",
        "orchestrator",
        "demo",
        "agents",
        "approvals",
        "grants",
        "users",
        "tokens",
        "services",
        "policy",
        "audit",
        "budgets",
        "overview",
        "completions",
        "Exit codes",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(err(&help), "");
}

#[test]
fn a_wrong_command_line_is_usage() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["serv"][..],
        &[],
        &["agents", "show"],
        &["agents", "show", "a/../b"],
        &["serve", "--nope"],
    ] {
        let output = cedargate(folder.path(), &[], arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(out(&output), "", "{arguments:?}");
        assert!(!err(&output).is_empty());
    }
}

#[test]
fn a_wrong_command_line_is_told_to_scripts_as_json() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--json", "serv"][..],
        &["agents", "show", "--json"],
        &["tokens", "create", "--json"],
        &["approvals", "list", "--no\u{1b}[31mpe", "--json"],
    ] {
        let output = cedargate(folder.path(), &[], arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        assert_eq!(out(&output), "", "{arguments:?}");
        let told = err(&output);
        assert!(
            told.lines().count() == 1 && !told.contains('\u{1b}'),
            "{told:?}"
        );
        let told: serde_json::Value = serde_json::from_str(&told).unwrap();
        assert_eq!(told["exit_code"], 2, "{told}");
        assert!(
            !told["error"].as_str().unwrap().starts_with("error:"),
            "{told}"
        );
    }
    // What stands behind `--` is no flag.
    let output = cedargate(folder.path(), &[], &["agents", "show", "--", "--json", "x"]);
    assert!(err(&output).starts_with("error:"), "{}", err(&output));
}

#[test]
fn both_planes_describe_their_api() {
    let folder = tempfile::tempdir().unwrap();
    for (plane, path) in [
        (&[][..], "/api/approvals"),
        (&["orchestrator"], "/api/approvals"),
        (&["gateway"], "/execute"),
    ] {
        let output = cedargate(folder.path(), &[], &[&["openapi"], plane].concat());
        assert_eq!(code(&output), 0, "{plane:?}");
        let document: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
        assert!(document["paths"][path].is_object(), "{plane:?}");
    }
}

#[test]
fn completions_know_the_subcommands() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = cedargate(folder.path(), &[], &["completions", shell]);
        assert_eq!(code(&output), 0, "{shell}");
        assert!(out(&output).contains("approvals"), "{shell}");
    }
    assert_eq!(
        code(&cedargate(folder.path(), &[], &["completions", "dos"])),
        2
    );
}

#[test]
fn a_wrong_configuration_is_told_before_anything_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("cedargate.toml"),
        "[gateway]\nprot = 1\n",
    )
    .unwrap();
    for arguments in [&["serve"][..], &["config", "check"], &["policy", "check"]] {
        let output = cedargate(folder.path(), &[], arguments);
        assert_eq!(code(&output), 2, "{arguments:?}");
        let text = err(&output);
        assert!(
            text.contains("cedargate.toml:2:1") && text.contains("`gateway.port`"),
            "{text}"
        );
    }
    assert!(!folder.path().join("data").exists());
    let missing = cedargate(folder.path(), &[], &["serve", "--config", "nowhere.toml"]);
    assert_eq!(code(&missing), 2);
    assert!(err(&missing).contains("nowhere.toml"));
}

#[test]
fn config_show_says_where_each_value_comes_from_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("cedargate.toml"),
        "[orchestrator]\nport = 1234\n",
    )
    .unwrap();
    let variables = [
        ("PORT", "8101"),
        ("MCP_GATEWAY_TOKEN", "hunter2-hunter2-hunter2"),
        ("DATABASE_URL", "postgres://user:hunter2@host/name"),
    ];
    for json in [
        &["config", "show", "--json", "--backend-host", "::1"][..],
        &["config", "show"],
    ] {
        let output = cedargate(folder.path(), &variables, json);
        assert_eq!(code(&output), 0, "{}", err(&output));
        assert!(!out(&output).contains("hunter2") && !err(&output).contains("hunter2"));
    }
    let output = cedargate(
        folder.path(),
        &variables,
        &["config", "show", "--json", "--backend-host", "::1"],
    );
    let settings: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    let of = |key: &str| {
        settings
            .as_array()
            .unwrap()
            .iter()
            .find(|setting| setting["key"] == key)
            .unwrap()
            .clone()
    };
    assert_eq!(
        (
            of("gateway.port")["value"].as_str(),
            of("gateway.port")["set_by"].as_str()
        ),
        (Some("8101"), Some("PORT"))
    );
    assert_eq!(of("orchestrator.port")["set_by"], "cedargate.toml:2:8");
    assert_eq!(of("orchestrator.host")["set_by"], "--backend-host");
    assert_eq!(of("gateway.token_file")["value"], "set");
    assert!(of("gateway.metrics_port")["set_by"].is_null());
}

#[test]
fn a_plane_alone_says_what_it_lacks_and_how_to_make_it() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = cedargate(folder.path(), &[], &["gateway"]);
    assert_eq!(code(&gateway), 2);
    assert!(
        err(&gateway).contains("ORCHESTRATOR_URL"),
        "{}",
        err(&gateway)
    );
    for (variables, arguments) in [
        (&[("ORCHESTRATOR_URL", "http://127.0.0.1:1")][..], "gateway"),
        (&[], "orchestrator"),
    ] {
        let output = cedargate(folder.path(), variables, &[arguments]);
        assert_eq!(code(&output), 2);
        let text = err(&output);
        assert!(
            text.contains("CEDARGATE_CONTROL_TOKEN") && text.contains("cedargate tokens generate"),
            "{text}"
        );
    }
    let open = cedargate(
        folder.path(),
        &[],
        &[
            "serve",
            "--host",
            "0.0.0.0",
            "--port",
            "0",
            "--metrics-port",
            "0",
            "--backend-port",
            "0",
        ],
    );
    assert_eq!(
        code(&open),
        2,
        "without a token, another address than loopback is not safe: {}",
        err(&open)
    );
}

#[test]
fn generated_secrets_are_long_and_differ() {
    let folder = tempfile::tempdir().unwrap();
    let secrets: Vec<String> = (0..2)
        .map(|_| {
            out(&cedargate(folder.path(), &[], &["tokens", "generate"]))
                .trim()
                .to_owned()
        })
        .collect();
    assert!(secrets.iter().all(|secret| secret.len() == 64 && secret.bytes().all(|byte| byte.is_ascii_hexdigit())));
    assert_ne!(secrets[0], secrets[1]);
}

#[test]
fn nobody_there_is_a_failure_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    let output = cedargate(
        folder.path(),
        &[],
        &["agents", "list", "--url", "http://127.0.0.1:1"],
    );
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("cedargate serve"), "{}", err(&output));
    let output = cedargate(folder.path(), &[], &["agents", "list", "--url", "ftp://x"]);
    assert_eq!(code(&output), 2);
    let output = cedargate(
        folder.path(),
        &[("PORT", "1"), ("BACKEND_PORT", "1")],
        &["health"],
    );
    assert_eq!(code(&output), 1);
}

#[test]
fn services_are_known_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let output = cedargate(
        folder.path(),
        &[],
        &["services", "show", "coolify", "--json"],
    );
    assert_eq!(code(&output), 0, "{}", err(&output));
    let service: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    let commands = service["commands"].as_array().unwrap();
    let list = commands
        .iter()
        .find(|command| command["name"] == "list-servers")
        .unwrap();
    assert_eq!(list["risk"], "read");
    assert_eq!(
        code(&cedargate(
            folder.path(),
            &[],
            &["services", "show", "nothing"]
        )),
        4
    );
    let variables = [
        ("COOLIFY_API_URL", "http://127.0.0.1:1"),
        ("COOLIFY_API_TOKEN_FILE", "/nowhere/token"),
    ];
    let output = cedargate(folder.path(), &variables, &["services", "list"]);
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("COOLIFY_API_TOKEN_FILE"),
        "{}",
        err(&output)
    );
}

#[test]
#[cfg(unix)]
fn a_reader_that_goes_away_is_no_error() {
    let mut process = Command::new(env!("CARGO_BIN_EXE_cedargate"))
        .env_clear()
        .args(["completions", "bash"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(process.stdout.take());
    let output = process.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output).as_str()), (0, ""));
}
