use std::{collections::BTreeSet, sync::LazyLock};

use authz::Risk;
use proptest::prelude::*;
use serde_json::json;

use super::*;

const UUID: &str = "dg0ksw4ow8k4cs0wkk4kscwo";

/// Made once: a hundred commands have schemas to compile.
fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        Catalog::load(&|name| match name {
            "COOLIFY_API_URL" => Some("http://127.0.0.1:9/api/v1".to_owned()),
            "COOLIFY_API_TOKEN" => Some("7|secret".to_owned()),
            _ => None,
        })
        .unwrap()
    });
    &CATALOG
}

fn parsed(line: &str) -> Command {
    match catalog().parse_slash(line) {
        Ok(Parsed::Command(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

fn call(line: &str) -> (String, Value) {
    let command = parsed(line);
    (
        command.target.key.to_string(),
        Value::Object(command.arguments.values().clone()),
    )
}

#[test]
fn every_spelling_is_the_same_command() {
    let cases = [
        (
            "coolify/list-servers",
            vec![
                "servers list",
                "list servers",
                "list-servers",
                "list_servers",
                "LIST_SERVERS",
                "servers-list",
            ],
        ),
        (
            "coolify/get-version",
            vec!["version", "get-version", "get_version", "version get"],
        ),
        ("coolify/health", vec!["health"]),
        ("coolify/list-application-envs", vec![]),
    ];
    for (expected, spellings) in cases {
        for spelling in spellings {
            assert_eq!(
                call(&format!("/mcp-coolify {spelling}")).0,
                expected,
                "{spelling}"
            );
        }
    }
    assert_eq!(
        call("  /mcp-Coolify   servers   list ").0,
        "coolify/list-servers"
    );
    assert_eq!(
        call(&format!("/mcp-coolify applications envs list {UUID}")).0,
        "coolify/list-application-envs"
    );
    assert_eq!(
        call(&format!("/mcp-coolify start application {UUID}")).0,
        "coolify/start-application"
    );
    assert_eq!(
        call(&format!("/mcp-coolify applications start {UUID}")).0,
        "coolify/start-application"
    );
    assert_eq!(
        call(&format!("/mcp-coolify deploy {UUID}")).0,
        "coolify/deploy-application"
    );
}

#[test]
fn the_operations_of_the_old_gateway_exist() {
    let catalog = catalog();
    for name in [
        "list-applications",
        "get-application",
        "deploy-application",
        "start-application",
        "stop-application",
        "restart-application",
        "list-databases",
        "create-database",
        "list-servers",
        "create-server",
        "validate-server",
        "list-projects",
        "create-project",
        "list-services",
        "start-service",
        "stop-service",
        "get-version",
        "health",
    ] {
        let service = catalog.service("coolify").unwrap();
        assert!(
            service.commands.iter().any(|command| command.name == name),
            "{name}"
        );
    }
    for name in ["upload", "list", "getUrl", "delete", "stat", "health"] {
        let arguments = json!({"bucket": "assets", "fileKey": "a.txt"});
        let arguments = match name {
            "list" => json!({"bucket": "assets"}),
            "health" => json!({}),
            _ => arguments,
        };
        assert!(catalog.command("minio", name, arguments).is_ok(), "{name}");
    }
}

#[test]
fn a_service_of_ones_own_may_leave_commands_out() {
    let example = include_str!("../../../../docs/s3.md");
    let example = example.split("```toml\n").nth(1).unwrap();
    let example = example.split("```").next().unwrap();
    let variable = |name: &str| {
        name.starts_with("ARCHIVE_")
            .then(|| "https://x.example".to_owned())
    };
    let load = |text: &str| Catalog::load_with(&[("archive.toml", text)], &variable);
    let catalog = load(example).unwrap();
    let service = catalog.service("archive").unwrap();
    let names: Vec<&str> = service
        .commands
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    assert_eq!(names, ["list", "stat", "download", "health"]);
    for (from, to, part) in [
        ("\"stat\"", "\"stats\"", "did you mean `stat`?"),
        ("{ default = \"archive/2026\" }", "{}", "`buckets` needs"),
        (
            "[s3]",
            "[local]\nprogram = \"x\"\n[s3]",
            "is of the kind of this name",
        ),
        (
            "zones =",
            "timeout_m = 1\nzones =",
            "did you mean `timeout_ms`?",
        ),
        ("kind = \"s3\"", "kind = \"http\"", "`[s3]` is of the kind"),
    ] {
        assert!(example.contains(from), "{from}");
        let error = load(&example.replace(from, to)).unwrap_err();
        assert!(error.contains(part), "{to}: {error}");
    }
}

#[test]
fn every_spelling_leads_to_its_own_command() {
    let catalog = catalog();
    let known: Vec<_> = catalog.entries.iter().filter_map(Entry::known).collect();
    let commands = known.iter().flat_map(|known| {
        known
            .info
            .commands
            .iter()
            .enumerate()
            .map(move |at| (known, at))
    });
    for (known, (index, command)) in commands {
        let phrase: Vec<&str> = command
            .usage
            .split(" <")
            .next()
            .unwrap()
            .split(" [")
            .next()
            .unwrap()
            .split(' ')
            .collect();
        let (last, first) = phrase.split_last().unwrap();
        let verb_first = format!("{last}-{}", first.join("-"));
        // A phrase may be one word.
        let verb_first = verb_first.trim_end_matches('-').to_owned();
        for spelling in [
            command.name.clone(),
            command.name.replace('-', "_"),
            phrase.join("-"),
            verb_first,
        ] {
            assert_eq!(
                known.find_operation(&spelling).as_ref(),
                Some(&index),
                "{spelling}"
            );
        }
    }
}

#[test]
fn arguments_are_typed_by_the_schema() {
    let cases = [
        (
            format!("applications logs {UUID} --lines 8 --show-timestamps"),
            json!({"uuid": UUID, "lines": 8, "show_timestamps": true}),
        ),
        (
            format!("applications logs {UUID} 8"),
            json!({"uuid": UUID, "lines": 8}),
        ),
        (
            format!("applications logs --uuid={UUID} --lines=8 --show_timestamps=false"),
            json!({"uuid": UUID, "lines": 8, "show_timestamps": false}),
        ),
        (
            format!("applications logs --show-timestamps true {UUID}"),
            json!({"uuid": UUID, "show_timestamps": true}),
        ),
        (
            format!(r#"applications logs {{"uuid": "{UUID}", "lines": 8}}"#),
            json!({"uuid": UUID, "lines": 8}),
        ),
        (
            format!(r#"applications logs {UUID} {{"lines": 8}}"#),
            json!({"uuid": UUID, "lines": 8}),
        ),
        (
            r#"create-project {"name":"x"}"#.to_owned(),
            json!({"name": "x"}),
        ),
        (
            r#"create-project '{"name":"x y"}'"#.to_owned(),
            json!({"name": "x y"}),
        ),
        (
            r#"create-project "8" --description '{"a":1}'"#.to_owned(),
            json!({"name": "8", "description": "{\"a\":1}"}),
        ),
        (
            r#"create-project -- --name '{"a":1}'"#.to_owned(),
            json!({"name": "--name", "description": "{\"a\":1}"}),
        ),
        (
            "create-project true null".to_owned(),
            json!({"name": "true", "description": "null"}),
        ),
        (
            format!(r#"applications envs bulk {UUID} [{{"key":"A","value":"b c"}}]"#),
            json!({"uuid": UUID, "data": [{"key": "A", "value": "b c"}]}),
        ),
        (
            format!(r#"applications tags add {UUID} --tag-names='["a","b"]'"#),
            json!({"uuid": UUID, "tag_names": ["a", "b"]}),
        ),
    ];
    for (line, expected) in cases {
        assert_eq!(call(&format!("/mcp-coolify {line}")).1, expected, "{line}");
    }
}

#[test]
fn what_is_wrong_with_arguments_is_said() {
    let cases = [
        ("applications get".to_owned(), "`uuid` is missing"),
        (
            format!("applications logs {UUID} --lines eight"),
            "`lines` must be an integer",
        ),
        (
            format!("applications logs {UUID} --lines +8"),
            "`lines` must be an integer",
        ),
        (
            format!("applications logs {UUID} --lines 8.0"),
            "`lines` must be an integer",
        ),
        (format!("applications logs {UUID} --lines 0"), "`lines`"),
        (
            format!("applications logs {UUID} --lines"),
            "`lines` needs a value",
        ),
        (
            format!("applications logs {UUID} --lines --show-timestamps"),
            "`lines` needs a value",
        ),
        (
            format!("applications logs {UUID} --show-timestamps=yes"),
            "`show_timestamps` must be `true` or `false`",
        ),
        (
            format!("applications logs {UUID} --line 8"),
            "no argument is called `line`; did you mean `lines`?",
        ),
        (
            format!("applications logs {UUID} 8 9"),
            "only 2 without a name",
        ),
        (
            format!("applications logs {UUID} --uuid {UUID}"),
            "`uuid` is given twice",
        ),
        (
            format!("applications logs {UUID} --lines 8 --lines 8"),
            "`lines` is given twice",
        ),
        (
            format!(r#"applications logs {UUID} {{"uuid":"x"}}"#),
            "`uuid` is given twice",
        ),
        (
            format!(r#"applications logs {UUID} {{"lines":"8"}}"#),
            "`lines`",
        ),
        ("servers list now".to_owned(), "no argument without a name"),
        ("deploy".to_owned(), "one of `uuid`, `tag` is missing"),
        ("create-project [1]".to_owned(), "`name` is not JSON"),
        ("applications get x/../../databases/y".to_owned(), "`uuid`"),
        ("applications get ..".to_owned(), "`uuid`"),
        ("applications get ''".to_owned(), "`uuid`"),
        (
            format!("environments get {UUID} envs"),
            "`environment_name_or_uuid`",
        ),
        (
            format!("environments get {UUID} Envs"),
            "`environment_name_or_uuid`",
        ),
        (
            format!("environments get {UUID} 'a\nb'"),
            "`environment_name_or_uuid`",
        ),
        ("databases create oracle".to_owned(), "`engine`"),
    ];
    for (line, expected) in cases {
        match catalog().parse_slash(&format!("/mcp-coolify {line}")) {
            Err(CommandError::Arguments {
                problems, usage, ..
            }) => {
                assert!(
                    problems.iter().any(|problem| problem.contains(expected)),
                    "{line}: {problems:?}"
                );
                assert!(usage.starts_with("/mcp-coolify "), "{usage}");
            }
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn problems_never_repeat_values() {
    let catalog = catalog();
    let arguments =
        json!({"uuid": UUID, "key": "A", "value": ["hunter2"], "is_literal": "hunter2"});
    let error = catalog
        .command("coolify", "applications envs set", arguments)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`value`") && error.contains("`is_literal`") && !error.contains("hunter2"),
        "{error}"
    );
}

#[test]
fn structured_bodies_take_names_or_positions() {
    let catalog = catalog();
    let values = |operation: &str, arguments: Value| match catalog
        .command("COOLIFY", operation, arguments)
    {
        Ok(Parsed::Command(command)) => Ok(Value::Object(command.arguments.values().clone())),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string()),
    };
    assert_eq!(values("list_servers", Value::Null), Ok(json!({})));
    assert_eq!(values("servers list", json!([])), Ok(json!({})));
    assert_eq!(
        values("applications logs", json!([UUID, 8])),
        Ok(json!({"uuid": UUID, "lines": 8}))
    );
    assert_eq!(
        values("applications logs", json!([UUID, {"lines": 8}])),
        Ok(json!({"uuid": UUID, "lines": 8}))
    );
    assert_eq!(
        values(
            "applications logs",
            json!({"uuid": UUID, "show-timestamps": true})
        ),
        Ok(json!({"uuid": UUID, "show_timestamps": true}))
    );
    assert!(
        values("applications logs", json!([UUID, "8"]))
            .unwrap_err()
            .contains("`lines`")
    );
    assert!(
        values(
            "applications logs",
            json!({"uuid": UUID, "lines": 8, "x": 1})
        )
        .unwrap_err()
        .contains("`x`")
    );
    assert!(
        values("list-servers", json!("x"))
            .unwrap_err()
            .contains("an object, or an array")
    );
    assert!(matches!(
        catalog.command("coolify", "help", Value::Null),
        Ok(Parsed::Help { .. })
    ));
}

#[test]
fn help_is_asked_for_in_several_ways() {
    for line in [
        "/mcp-coolify",
        "/mcp-coolify help",
        "/mcp-coolify --help",
        "/mcp-coolify servers delete x --help",
    ] {
        match catalog().parse_slash(line) {
            Ok(Parsed::Help { service }) => assert_eq!(service.as_str(), "coolify"),
            other => panic!("{line}: {other:?}"),
        }
    }
}

#[test]
fn unknown_names_come_with_what_there_is() {
    let catalog = catalog();
    match catalog.parse_slash("/mcp-colify servers list").unwrap_err() {
        CommandError::UnknownService {
            name,
            nearest,
            available,
        } => {
            assert_eq!(
                (name.as_str(), nearest.as_deref()),
                ("colify", Some("coolify"))
            );
            assert!(available.contains(&"coolify".to_owned()));
        }
        other => panic!("{other}"),
    }
    for (line, said, near) in [
        ("servers lsit", "servers lsit", Some("list-servers")),
        ("list-server", "list-server", Some("list-servers")),
        ("frobnicate --x", "frobnicate", None),
    ] {
        match catalog
            .parse_slash(&format!("/mcp-coolify {line}"))
            .unwrap_err()
        {
            CommandError::UnknownCommand {
                name,
                nearest,
                available,
                ..
            } => {
                assert_eq!((name.as_str(), nearest.as_deref()), (said, near));
                assert!(available.contains(&"list-servers".to_owned()));
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn what_deletes_is_destroy_and_what_lists_is_read() {
    for command in catalog()
        .services()
        .iter()
        .flat_map(|service| &service.commands)
    {
        let words: Vec<&str> = command.name.split('-').collect();
        let risk = command.target.risk;
        if ["delete", "cancel", "purge", "forget", "refund"]
            .iter()
            .any(|verb| words.contains(verb))
        {
            assert_eq!(risk, Risk::Destroy, "{}", command.name);
        }
        if ["list", "get", "search", "health"].contains(&words[0]) {
            assert_eq!(risk, Risk::Read, "{}", command.name);
        }
    }
}

#[test]
fn what_deletes_or_stops_is_destroy_and_what_reads_uses_get() {
    for command in &catalog().service("coolify").unwrap().commands {
        let verb = command.name.split('-').next().unwrap();
        let risk = command.target.risk;
        if matches!(
            verb,
            "delete" | "stop" | "unset" | "cancel" | "cleanup" | "rollback" | "run"
        ) {
            assert_eq!(risk, Risk::Destroy, "{}", command.name);
        }
        assert_eq!(
            matches!(verb, "list" | "get" | "health"),
            risk == Risk::Read,
            "{}",
            command.name
        );
    }
}

#[test]
fn deleting_keeps_data_unless_asked() {
    let (_, arguments) = call(&format!("/mcp-coolify applications delete {UUID}"));
    assert_eq!(arguments["delete_volumes"], json!(false));
    let (_, arguments) = call(&format!(
        "/mcp-coolify applications delete {UUID} --delete-volumes"
    ));
    assert_eq!(arguments["delete_volumes"], json!(true));
    // In words or not, it is the same command.
    let one = parsed(&format!(
        "/mcp-coolify applications delete {UUID} --delete-volumes false"
    ));
    let other = parsed(&format!("/mcp-coolify applications delete {UUID}"));
    assert_eq!(one.arguments.digest(), other.arguments.digest());
}

#[test]
fn records_show_no_secret() {
    let catalog = catalog();
    let shown =
        |line: &str| Value::Object(catalog.redacted(&parsed(&format!("/mcp-coolify {line}"))));
    assert_eq!(
        shown(&format!(
            "applications envs set {UUID} DB_URL postgres://u:p@h"
        )),
        json!({"uuid": UUID, "key": "DB_URL", "value": "[redacted]"})
    );
    assert_eq!(
        shown(&format!(
            r#"applications envs bulk {UUID} [{{"key":"A","value":"v"}}]"#
        )),
        json!({"uuid": UUID, "data": [{"key": "A", "value": "[redacted]"}]})
    );
    let created = shown(
        "databases create mysql --server-uuid s --project-uuid p --environment-name e --mysql-root-password hunter2",
    );
    assert_eq!(created["mysql_root_password"], json!("[redacted]"));
    assert_eq!(created["server_uuid"], json!("s"));
}

#[test]
fn a_service_without_settings_says_what_to_set() {
    let status = |variables: &'static [(&'static str, &'static str)]| {
        let lookup = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let catalog = Catalog::load(&lookup).unwrap();
        let service = catalog.service("coolify").unwrap();
        (
            service.status.clone(),
            service.error_message.clone().unwrap_or_default(),
        )
    };
    assert_eq!(
        status(&[]).1,
        "set `COOLIFY_API_URL` and `COOLIFY_API_TOKEN`"
    );
    assert_eq!(
        status(&[("COOLIFY_API_URL", "http://x"), ("COOLIFY_API_TOKEN", " ")]).1,
        "set `COOLIFY_API_TOKEN`"
    );
    for bad in ["x", "ftp://x", "http://u:p@x", "http://x?y", "http://x#y"] {
        let lookup =
            |name: &str| Some(if name == "COOLIFY_API_URL" { bad } else { "1" }.to_owned());
        let catalog = Catalog::load(&lookup).unwrap();
        let message = catalog
            .service("coolify")
            .unwrap()
            .error_message
            .clone()
            .unwrap();
        assert!(message.contains("`COOLIFY_API_URL`"), "{message}");
    }
    let message = status(&[
        ("COOLIFY_API_URL", "http://x"),
        ("COOLIFY_API_TOKEN", "se\u{1}cret"),
    ])
    .1;
    assert!(
        message.contains("characters") && !message.contains("cret"),
        "{message}"
    );
    assert_eq!(
        status(&[
            ("COOLIFY_API_URL", "http://x"),
            ("COOLIFY_API_TOKEN", "1|x")
        ])
        .0,
        "active"
    );
    assert!(Catalog::load(&|name| (name == "HTTP_TIMEOUT_MS").then(|| "soon".to_owned())).is_err());
}

#[test]
fn the_service_serialises_as_the_catalog_route_shows_it() {
    let value = serde_json::to_value(catalog().service("coolify").unwrap()).unwrap();
    for (key, expected) in [
        ("name", "coolify"),
        ("version", "1.0.0"),
        ("status", "active"),
        ("location", "server"),
    ] {
        assert_eq!(value[key], json!(expected));
    }
    assert!(value["description"].is_string() && value.get("errorMessage").is_none());
    assert!(!format!("{:?}", catalog()).contains("7|secret"));
}

#[test]
fn what_must_not_be_exposed_is_not() {
    let text = include_str!("../../services/coolify.toml");
    let paths: BTreeSet<&str> = text
        .lines()
        .filter(|line| line.starts_with("request") || line.starts_with("fallback ="))
        .collect();
    for forbidden in [
        "/security",
        "/cloud-tokens",
        "-apps",
        "/enable",
        "/disable",
        "/mcp",
        "/s3-storages",
        "/settings",
        "/notifications",
        "/import",
        "/export",
        "/migrate",
        "/claim",
        "/hetzner",
        "/vultr",
        "/digitalocean",
        "/team/envs",
        "projects/{uuid}/envs",
        "servers/{uuid}/envs",
    ] {
        assert!(
            !paths.iter().any(|line| line.contains(forbidden)),
            "{forbidden}"
        );
    }
}

/// Arguments that are nearly those of `applications logs` or `deploy`.
fn nearly_arguments() -> impl Strategy<Value = Map<String, Value>> {
    let names = prop::sample::select(vec![
        "uuid",
        "lines",
        "show_timestamps",
        "tag",
        "force",
        "pr",
        "other",
    ]);
    let value = prop_oneof![
        Just(json!(UUID)),
        Just(json!("")),
        any::<String>().prop_map(Value::from),
        (-2_i64..12_000).prop_map(Value::from),
        (0.0..3.0).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
        Just(json!([])),
    ];
    prop::collection::btree_map(names, value, 0..4).prop_map(|map| {
        map.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    })
}

proptest! {
    #[test]
    fn what_is_accepted_is_what_the_published_schema_accepts(arguments in nearly_arguments()) {
        let catalog = catalog();
        for name in ["get-application-logs", "deploy-application"] {
            let info = catalog.service("coolify").unwrap().commands.iter().find(|command| command.name == name).unwrap().clone();
            let published = jsonschema::validator_for(&info.arguments).unwrap();
            let value = Value::Object(arguments.clone());
            prop_assert_eq!(catalog.command("coolify", name, value.clone()).is_ok(), published.is_valid(&value), "{} {}", name, value);
        }
    }

    #[test]
    fn no_line_makes_it_fall_over(line in "[ -~]{0,40}", tail in any::<String>()) {
        let _ = catalog().parse_slash(&format!("/mcp-coolify {line}{tail}"));
    }

    #[test]
    fn a_quoted_value_arrives_as_it_was_sent(name in any::<String>()) {
        let quoted = format!("'{}'", name.replace('\'', r"'\''"));
        let (_, arguments) = call(&format!("/mcp-coolify create-project --name {quoted}"));
        prop_assert_eq!(&arguments["name"], &json!(name));
    }
}

/// A small service of an operator's own.
const OWN: &str = r#"
name = "tickets"
version = "1"
kind = "http"
description = "For tests."
address = { variable = "TICKETS_URL" }

[[commands]]
name = "list-tickets"
phrase = "tickets list"
summary = "All tickets"
risk = "read"
request = "GET /tickets"
answer = { list = "tickets" }
"#;

/// What anybody may have written: for a whole service, or for some of its commands.
#[test]
fn descriptions_say_whose_answers_are_untrusted() {
    let key = |text: &str| text.parse().unwrap();
    let coolify = catalog();
    let service = coolify.service("coolify").unwrap();
    let untrusted: Vec<&str> = service
        .commands
        .iter()
        .filter(|command| coolify.is_untrusted(&command.target.key))
        .map(|command| command.name.as_str())
        .collect();
    assert_eq!(
        untrusted,
        [
            "get-application-logs",
            "get-application-task-executions",
            "get-database-logs",
            "get-service-logs",
            "get-service-task-executions",
            "get-deployment-logs",
        ]
    );
    assert!(coolify.is_untrusted(&key("unheard-of/list")), "to be safe");

    let says = |text: String, command: &str| {
        let catalog = Catalog::load_with(&[("own.toml", &text)], &|_| None).unwrap();
        catalog.is_untrusted(&key(command))
    };
    let list = "tickets/list-tickets";
    let whole = OWN.replace("kind =", "untrusted = true\nkind =");
    let but_one = whole.replace("risk = \"read\"", "risk = \"read\"\nuntrusted = false");
    assert!(!says(OWN.to_owned(), list));
    assert!(!says(OWN.to_owned(), "tickets/found-later"));
    assert!(says(whole.clone(), list));
    assert!(says(whole, "tickets/found-later"));
    assert!(!says(but_one.clone(), list));
    assert!(says(but_one, "tickets/found-later"));
}

#[test]
fn an_operators_own_services_stand_beside_ours() {
    let load = |own: &[(&str, &str)]| Catalog::load_with(own, &|_| None);
    let catalog = load(&[("own.toml", OWN)]).unwrap();
    assert!(catalog.service("coolify").is_some() && catalog.service("tickets").is_some());

    let coolify = OWN.replace("\"tickets\"\nversion", "\"coolify\"\nversion");
    let replacing = format!("replaces = true\n{coolify}");
    let catalog = load(&[("own.toml", &replacing)]).unwrap();
    assert_eq!(catalog.service("coolify").unwrap().commands.len(), 1);

    let cases = [
        (
            vec![("own.toml", coolify.clone())],
            "own.toml:2:8: `coolify` is built in; `replaces = true`",
        ),
        (
            vec![(
                "own.toml",
                format!("replaces = true\n{}", coolify.replace("coolify", "coolfy")),
            )],
            "own.toml:3:8: `coolfy` replaces nothing: no built-in service is called so; did you mean `coolify`?",
        ),
        (
            vec![("a.toml", OWN.to_owned()), ("b.toml", OWN.to_owned())],
            "b.toml:2:8: another service is called `tickets`, too",
        ),
        (
            vec![("own.toml", format!("aliases = [\"coolify\"]\n{OWN}"))],
            "another service is called `coolify`, too",
        ),
        (
            vec![("a.toml", replacing.clone()), ("b.toml", replacing.clone())],
            "replaces nothing",
        ),
    ];
    for (own, expected) in cases {
        let own: Vec<(&str, &str)> = own
            .iter()
            .map(|(file, text)| (*file, text.as_str()))
            .collect();
        let error = load(&own).map(drop).expect_err(expected);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_description_that_is_a_trap_is_refused() {
    let argument = |pattern: &str| {
        OWN.replace(
            "request =",
            &format!("arguments = [{{ name = \"a\", description = \"A\", pattern = '{pattern}' }}]\nrequest ="),
        )
    };
    let own = |keys: &str| OWN.replace("request =", &format!("{keys}\nrequest ="));
    let within = |schema: &str| {
        own(&format!(
            "arguments = [{{ name = \"a\", type = \"array\", description = \"A\", schema = {schema} }}]"
        ))
    };
    let deep = format!("example = {}1{}", "{ a = ".repeat(1000), " }".repeat(1000));
    let cases = [
        (OWN.replace("GET /tickets", "GET tickets"), "is not a path"),
        (
            OWN.replace("\"read\"", "\"harmless\""),
            "unknown variant `harmless`",
        ),
        (
            OWN.replace("kind = \"http\"", "kind = \"htpp\""),
            "did you mean `http`?",
        ),
        (
            OWN.replace("address = { variable = \"TICKETS_URL\" }", ""),
            "own.toml:2:8: kind `http` needs an `address`",
        ),
        // Groups hold arguments, never other groups, so that they cannot go in circles.
        (
            OWN.replace(
                "[[commands]]",
                "[groups]\none = [{ use = [\"two\"] }]\ntwo = [{ use = [\"one\"] }]\n[[commands]]",
            ),
            "unknown field `use`",
        ),
        (argument(&"(a+)".repeat(200)), "longer than 512 bytes"),
        // Short to write and long to compile, also where no key of ours is.
        (argument("((a{99}){99}){99}"), "argument `a`"),
        (within("{ pattern = '((a{99}){99}){99}' }"), "argument `a`"),
        (
            within("{ items = { patternProperties = { '((a{99}){99}){99}' = {} } } }"),
            "argument `a`",
        ),
        (
            within("{ items = { \"$ref\" = \"#\" } }"),
            "may refer to nothing",
        ),
        (
            within("{ allOf = [{ \"$dynamicRef\" = \"#x\" }] }"),
            "may refer to nothing",
        ),
        (within("{ items = { minLength = -1 } }"), "argument `a`"),
        (
            within(&format!("{{ {} = 1 }}", vec!["items"; 5_000].join("."))),
            "own.toml",
        ),
        (
            format!("{OWN}\nexample.{} = 1", vec!["a"; 500_000].join(".")),
            "own.toml",
        ),
        (
            format!("{OWN}\nexample.a = {}", "[".repeat(500_000)),
            "own.toml",
        ),
        // Paths that are none, or not only what they look like.
        (
            OWN.replace("GET /tickets", "GET //elsewhere.example/x"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET https://elsewhere.example/x"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET /tickets/../admin"),
            "is neither text nor",
        ),
        (
            OWN.replace("GET /tickets", "GET /tickets/%2e%2e/admin"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET /tickets\\tx"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET /tickets\\r\\nHost: x"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET /t\u{ff0e}\u{ff0e}/x"),
            "is not a path",
        ),
        (
            OWN.replace("GET /tickets", "GET /tickets\\\\x"),
            "is not a path",
        ),
        (OWN.replace("GET /tickets", "GET"), "is not a path"),
        (
            OWN.replace("GET /tickets", "TRACE /tickets"),
            "`TRACE` is not GET",
        ),
        // Requests in requests.
        (own("headers = { Host = \"x\" }"), "the header `Host`"),
        (
            own("headers = { transfer-encoding = \"chunked\" }"),
            "the header `transfer-encoding`",
        ),
        (
            own("headers = { x = \"a\\r\\nb: c\" }"),
            "a value that no header may",
        ),
        (
            own("headers = { \"x: y\" = \"z\" }"),
            "is not a header's name",
        ),
        (
            own(
                "arguments = [{ name = \"a\", as = \"Content-Length\", in = \"header\", description = \"A\" }]",
            ),
            "the header `Content-Length`",
        ),
        // What would silently ask for everybody's things.
        (
            own("query = { owner = \"{agnet.id}\" }"),
            "`{agnet.id}` in the query's `owner`",
        ),
        (
            own("body = { owner = \"{agent.name}\" }").replace("GET /", "POST /"),
            "`{agent.name}` in the body",
        ),
        // Limits that let nothing through, or everything.
        (own("timeout_ms = 0"), "`timeout_ms`"),
        (own("timeout_ms = 9223372036854775807"), "`timeout_ms`"),
        (own("max_answer_bytes = 0"), "`max_answer_bytes`"),
        (
            own("max_result_bytes = 9223372036854775807"),
            "`max_result_bytes`",
        ),
        (
            OWN.replace("[[commands]]", "max_concurrent = 0\n[[commands]]"),
            "`max_concurrent`",
        ),
        (
            own("pages = { by = \"page\", parameter = \"page\", at_most = 0 }"),
            "`pages` of no size",
        ),
        (
            own("pages = { by = \"page\", parameter = \"page\" }").replace(
                "list = \"tickets\"",
                "list = \"tickets\", first = \"limit\"",
            ),
            "without `pages`",
        ),
        (
            OWN.replace("list = \"tickets\"", "list = \"tickets\", first = \"most\""),
            "no argument `most`",
        ),
        // The same thing twice.
        (
            format!(
                "{OWN}\n{}",
                OWN.split_once("[[commands]]")
                    .unwrap()
                    .1
                    .replace("\nname", "\n[[commands]]\nname")
            ),
            "own.toml",
        ),
        (
            OWN.replace("risk =", "risk = \"destroy\"\nrisk ="),
            "duplicate key",
        ),
        (OWN.replace("risk = \"read\"", ""), "missing field `risk`"),
        (
            OWN.replace("risk = \"read\"", "risk = \"READ\""),
            "unknown variant `READ`",
        ),
        (
            OWN.replace("\"tickets\"\nversion", "\"../tickets\"\nversion"),
            "own.toml:2:8",
        ),
        (format!("\u{0}{OWN}"), "own.toml:1"),
        (argument("("), "argument `a`"),
        (argument(r"(?=a)\w{900}{900}"), "argument `a`"),
        (format!("{OWN}\n{deep}"), "own.toml"),
        (OWN.replace("\n[[commands]]", "\n[[commands]"), "own.toml:8"),
        (
            OWN.split("[[commands]]").next().unwrap().to_owned(),
            "a service without commands",
        ),
    ];
    for (text, expected) in cases {
        let error = Catalog::load_with(&[("own.toml", &text)], &|_| None).err();
        let error = error.unwrap_or_else(|| panic!("{expected}: accepted"));
        let shown: String = error.chars().take(300).collect();
        assert!(error.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn a_pattern_that_could_take_forever_is_given_up() {
    let text = OWN.replace(
        "request =",
        "arguments = [{ name = \"a\", description = \"A\", positional = true, \
         pattern = '^(?=((a+)+)+b).*$' }]\nrequest =",
    );
    let catalog = Catalog::load_with(&[("own.toml", &text)], &|_| None).unwrap();
    let began = std::time::Instant::now();
    let line = format!("/mcp-tickets tickets list {}", "a".repeat(100_000));
    assert!(catalog.parse_slash(&line).is_err());
    assert!(began.elapsed().as_secs() < 20, "{:?}", began.elapsed());
}

/// What agents of the old gateway could say beside an operation's name. Left out are only
/// those that no vendor has any more, and `user_id`: whose memory it is, is no argument.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_options_of_the_old_gateway_are_known() {
    let options: &[(&str, &str, &str)] = &[
        ("coolify", "get-application", "uuid"),
        ("coolify", "create-project", "name description"),
        ("coolify", "create-server", "name ip port user"),
        ("coolify", "deploy-application", "uuid force"),
        ("postgres", "query", "sql params limit database"),
        ("postgres", "describe-table", "table database"),
        (
            "minio",
            "upload",
            "bucket fileKey fileBuffer contentType metadata",
        ),
        ("minio", "list", "bucket prefix limit marker"),
        ("minio", "getUrl", "bucket fileKey expirySeconds"),
        ("cloudflare", "stream-upload", "videoUrl meta"),
        ("cloudflare", "stream-list", "limit status"),
        ("cloudflare", "stream-get", "videoId"),
        ("cloudflare", "dns-list", "zoneId type name page per_page"),
        ("cloudflare", "dns-create", "zoneId recordData"),
        ("cloudflare", "dns-update", "zoneId recordId data"),
        ("cloudflare", "dns-delete", "zoneId recordId"),
        ("cloudflare", "list-zones", "name status page"),
        ("cloudflare", "get-analytics", "zoneId since until"),
        ("github", "list-repos", "sort limit page"),
        ("github", "list-prs", "owner repo state"),
        ("github", "create-pr", "title body head base draft"),
        (
            "github",
            "merge-pr",
            "commit_title commit_message merge_method",
        ),
        ("github", "approve-pr", "body"),
        ("github", "list-issues", "state labels"),
        ("github", "create-issue", "title body labels assignees"),
        ("github", "update-issue", "title body state labels"),
        ("github", "close-issue", "owner repo issue_number"),
        ("github", "create-comment", "body"),
        ("github", "list-comments", "issue_number"),
        ("github", "list-branches", "owner repo"),
        ("github", "create-branch", "name sha"),
        ("github", "list-workflows", "owner repo"),
        ("github", "trigger-workflow", "ref inputs"),
        ("n8n", "execute", "data"),
        ("n8n", "list-workflows", "active limit"),
        ("n8n", "activate", "id"),
        ("n8n", "deactivate", "id"),
        ("n8n", "get-execution", "id"),
        ("n8n", "list-executions", "workflowId limit status"),
        ("n8n", "list-webhooks", ""),
        ("n8n", "test-webhook", "path data"),
        ("mem0", "remember", "content metadata"),
        ("mem0", "search", "query limit threshold"),
        ("mem0", "get-context", "limit"),
        ("mem0", "list", "limit offset"),
        ("mem0", "update", "id content"),
        ("mem0", "delete", "id"),
        ("stripe", "get-account", ""),
        ("stripe", "get-balance", ""),
        ("stripe", "list-customers", "limit email"),
        ("stripe", "create-customer", "name email"),
        ("stripe", "list-products", "limit"),
        ("stripe", "create-product", "name description"),
        ("stripe", "list-prices", "product limit"),
        (
            "stripe",
            "create-price",
            "product unit_amount currency recurring",
        ),
        ("stripe", "list-invoices", "customer limit"),
        ("stripe", "create-invoice", "customer days_until_due"),
        ("stripe", "create-invoice-item", "customer price invoice"),
        ("stripe", "finalize-invoice", "invoice"),
        (
            "stripe",
            "list-subscriptions",
            "customer price status limit",
        ),
        (
            "stripe",
            "update-subscription",
            "subscription proration_behavior items",
        ),
        ("stripe", "cancel-subscription", "subscription"),
        ("stripe", "list-payment-intents", "customer limit"),
        ("stripe", "create-payment-link", "price quantity"),
        ("stripe", "create-refund", "payment_intent amount reason"),
        ("stripe", "list-coupons", "limit"),
        (
            "stripe",
            "create-coupon",
            "name percent_off amount_off currency duration duration_in_months",
        ),
        ("stripe", "list-disputes", "charge payment_intent limit"),
        ("stripe", "update-dispute", "dispute evidence submit"),
        ("stripe", "search", "query"),
        ("stripe", "fetch", "id"),
        ("airtable", "list-bases", ""),
        ("airtable", "list-tables", "baseId"),
        ("airtable", "get-table-schema", "tableName baseId"),
        (
            "airtable",
            "read-records",
            "tableName offset filter filterByFormula sort fields view baseId limit",
        ),
        ("airtable", "get-record", "tableName recordId baseId"),
        ("airtable", "create-record", "tableName fields baseId"),
        ("airtable", "create-records", "tableName records baseId"),
        (
            "airtable",
            "update-record",
            "tableName recordId fields baseId",
        ),
        ("airtable", "update-records", "tableName records baseId"),
        ("airtable", "delete-record", "tableName recordId baseId"),
        ("airtable", "delete-records", "tableName recordIds baseId"),
        (
            "firecrawl",
            "scrape",
            "url formats excludeTags onlyMainContent timeout waitFor",
        ),
        ("context7", "resolve-library-id", "libraryName"),
        ("context7", "get-library-docs", "id topic"),
        ("playwright", "navigate", "url"),
        ("shadcn", "add-component", "component"),
        ("magicui", "add-component", "component"),
    ];
    for (service, operation, names) in options {
        for name in names.split_whitespace().chain(["no-such-name"]) {
            let mut arguments = Map::new();
            arguments.insert(name.to_owned(), Value::Null);
            let problem = match catalog().command(service, operation, Value::Object(arguments)) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            };
            assert!(
                !problem.contains("no operation"),
                "{service} {operation}: {problem}"
            );
            assert_eq!(
                problem.contains("no argument is called"),
                name == "no-such-name",
                "{service} {operation} {name}: {problem}"
            );
        }
    }
    for service in [
        "cloudflare",
        "github",
        "mem0",
        "n8n",
        "stripe",
        "airtable",
        "firecrawl",
        "context7",
    ] {
        assert!(
            catalog().command(service, "health", json!({})).is_ok(),
            "{service}"
        );
    }
}

/// Clients of the old gateway say by name, in `options` beside the command, what no line could
/// say there. It is part of the command, not left out.
#[test]
fn options_beside_a_command_are_its_arguments() {
    let options = |value: Value| match value {
        Value::Object(options) => options,
        other => panic!("{other}"),
    };
    let digest = |parsed: Result<Parsed, CommandError>| match parsed.unwrap() {
        Parsed::Command(command) => (
            command.target.key.clone(),
            command.arguments.digest().clone(),
        ),
        help @ Parsed::Help { .. } => panic!("{help:?}"),
    };
    let beside = |line: &str, value: Value| catalog().parse_slash_with(line, options(value));
    let pr = "/mcp-github merge-pr octocat hello-world 7";
    let rebase =
        json!({"merge_method": "rebase", "agent_id": "somebody", "timeout": 5, "format": "json"});
    assert_eq!(
        digest(beside(pr, rebase.clone())),
        digest(catalog().parse_slash(&format!("{pr} --merge_method rebase")))
    );
    assert_eq!(
        digest(catalog().command_with(
            "github",
            "merge-pr",
            json!(["octocat", "hello-world", 7]),
            options(rebase)
        )),
        digest(catalog().parse_slash(&format!("{pr} --merge_method rebase")))
    );
    // SQL to the end of the line stays what it is.
    assert_eq!(
        digest(beside(
            "/mcp-postgres ka-db query SELECT 1",
            json!({"limit": 5})
        )),
        digest(catalog().parse_slash("/mcp-postgres ka-db query 'SELECT 1' --limit 5"))
    );
    // What usually means nothing means something where a command has it.
    assert_eq!(
        digest(beside(
            "/mcp-firecrawl scrape https://example.com",
            json!({"timeout": 5000})
        )),
        digest(catalog().parse_slash("/mcp-firecrawl scrape https://example.com --timeout 5000"))
    );
    for (value, says) in [
        (json!({"merge_method": "octopus"}), "merge_method"),
        (
            json!({"mergeMethod": "rebase"}),
            "no argument is called `mergeMethod`",
        ),
        (json!({"owner": "mallory"}), "`owner` is given twice"),
    ] {
        let error = beside(pr, value).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = beside("/mcp-mem0 search tea", json!({"user_id": "somebody"})).unwrap_err();
    assert!(
        error.to_string().contains("no argument is called"),
        "{error}"
    );
}

/// As the service calls an argument, agents may, too; it is the same command.
#[test]
fn arguments_have_the_services_own_names_too() {
    let digest = |service: &str, operation: &str, arguments: Value| match catalog()
        .command(service, operation, arguments)
        .unwrap()
    {
        Parsed::Command(command) => command.arguments.digest().clone(),
        help @ Parsed::Help { .. } => panic!("{help:?}"),
    };
    let zone = "023e105f4ecef8ad9ca31a8372d0c353";
    assert_eq!(
        digest(
            "cloudflare",
            "dns-list",
            json!({"zoneId": zone, "per_page": 5})
        ),
        digest(
            "cloudflare",
            "dns-list",
            json!({"zoneId": zone, "limit": 5})
        )
    );
    let both = json!({"zoneId": zone, "per_page": 5, "limit": 5});
    let error = catalog()
        .command("cloudflare", "dns-list", both)
        .unwrap_err();
    assert!(error.to_string().contains("given twice"), "{error}");
    // A name that could mean two is nobody's.
    let text = OWN.replace(
        "request =",
        "arguments = [{ name = \"a\", as = \"x\", in = \"query\", description = \"A\" }, \
         { name = \"b\", as = \"x\", in = \"header\", description = \"B\" }]\nrequest =",
    );
    let own = Catalog::load_with(&[("own.toml", &text)], &|_| None).unwrap();
    let error = own.command("tickets", "list-tickets", json!({"x": "y"}));
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no argument is called")
    );
}

/// `CEDARGATE_WRITE=1 cargo test -p handlers published_schema` writes it anew.
#[test]
fn the_published_schema_of_descriptions_is_current_and_accepts_ours() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/service.schema.json"
    );
    let mut current = serde_json::to_string_pretty(&description_schema()).unwrap();
    current.push('\n');
    if std::env::var_os("CEDARGATE_WRITE").is_some() {
        std::fs::write(path, &current).unwrap();
    }
    let published = std::fs::read_to_string(path).unwrap();
    assert!(published == current, "write it anew with CEDARGATE_WRITE=1");
    let schema = jsonschema::validator_for(&description_schema()).unwrap();
    for (file, text) in BUILT_IN {
        let value: toml::Value = toml::from_str(text).unwrap();
        let value = serde_json::to_value(value).unwrap();
        let problems: Vec<String> = schema
            .iter_errors(&value)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{file}: {problems:#?}");
        let mut misspelt = value.clone();
        misspelt["decription"] = json!("x");
        assert!(!schema.is_valid(&misspelt));
    }
}

#[test]
fn the_example_of_the_documentation_is_a_description() {
    let text = include_str!("../../../../docs/services.md");
    let example = text
        .split("```toml\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let catalog = Catalog::load_with(&[("docs/services.md", example)], &|_| None).unwrap();
    let line = "/mcp-tickets tickets close 7 'all good'";
    let Ok(Parsed::Command(command)) = catalog.parse_slash(line) else {
        panic!()
    };
    let Some(Preview::Request(preview)) = catalog.preview(&command).unwrap() else {
        panic!()
    };
    assert_eq!(
        (preview.method.as_str(), preview.url.as_str()),
        ("PATCH", "https://tickets.example.com/api/v2/tickets/7")
    );
    let body: Value = serde_json::from_str(&preview.body.unwrap()).unwrap();
    let by = authz::AgentId::LOCAL.to_string();
    assert_eq!(
        body,
        json!({"state": "closed", "note": "all good", "by": by})
    );
}

#[test]
fn the_documentation_counts_the_commands() {
    let text = include_str!("../../../../docs/services.md");
    for service in catalog().services() {
        let count = service.commands.len();
        let counted = text.lines().any(|line| {
            line.contains(&format!("`{}`", service.name))
                && line
                    .split('|')
                    .any(|cell| cell.split(", ").any(|n| n.trim() == count.to_string()))
        });
        assert!(counted, "{} has {count} commands", service.name);
    }
}
