//! Coolify as it is described: what is sent, and what becomes of its answers.

use super::*;

#[tokio::test]
async fn servers_are_listed_with_what_the_next_command_needs() {
    let raw = Raw::json(
        "200 OK",
        &json!([{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "settings": {"is_reachable": true, "is_usable": true, "sentinel_token": "x"}, "validation_logs": "…"
        }]),
    )
    .await;
    let data = ask(&raw, "servers list").await.unwrap();
    assert_eq!(
        data,
        json!({"operation": "list_servers", "count": 1, "servers": [{
            "uuid": UUID, "name": "localhost", "ip": "host.docker.internal", "port": 22, "user": "root",
            "is_reachable": true, "is_usable": true,
        }]})
    );
    let first = data.as_object().and_then(|data| data.keys().next());
    assert_eq!(
        first.map(String::as_str),
        Some("operation"),
        "it comes first"
    );
    let seen = raw.last();
    assert_eq!(seen.line, "GET /api/v1/servers HTTP/1.1");
    assert!(
        seen.headers
            .contains(&format!("authorization: bearer {TOKEN}")),
        "{:?}",
        seen.headers
    );
    assert!(
        seen.headers
            .contains(&"accept: application/json".to_owned()),
        "{:?}",
        seen.headers
    );
}

#[tokio::test]
async fn an_argument_stays_in_its_place() {
    // A service without patterns: the engine alone must hold.
    const PLAIN: &str = r#"
        name = "plain"
        version = "1"
        kind = "http"
        description = "For tests."
        address = { variable = "PLAIN_URL" }
        [[commands]]
        name = "stop-thing"
        phrase = "things stop"
        summary = "Stops a thing"
        risk = "destroy"
        request = "POST /things/{id}/stop"
        arguments = [{ name = "id", description = "Which" }, { name = "q", in = "query", description = "Any" }, { name = "b", description = "Any" }]
        answer = { merge = true }
    "#;
    let cases = [
        (
            "x/../../databases/y",
            "/api/things/x%2F..%2F..%2Fdatabases%2Fy/stop",
        ),
        ("...", "/api/things/.../stop"),
        ("a b?c=d#e", "/api/things/a%20b%3Fc%3Dd%23e/stop"),
        ("%2e%2e", "/api/things/%252e%252e/stop"),
        ("%2F", "/api/things/%252F/stop"),
        ("..\\\\x", "/api/things/..%5Cx/stop"),
        ("a;b&c@d:e", "/api/things/a%3Bb%26c%40d%3Ae/stop"),
        (
            "ü\u{0}\r\nHost: x",
            "/api/things/%C3%BC%00%0D%0AHost%3A%20x/stop",
        ),
    ];
    for (id, path) in cases {
        let id = id.replace("\\\\", "\\");
        let raw = Raw::json(
            "200 OK",
            &json!({"message": "stopped", "operation": "theirs"}),
        )
        .await;
        let catalog = Catalog::from_descriptions(&[("plain.toml", PLAIN)], &|name| {
            (name == "PLAIN_URL").then(|| format!("http://{}/api/", raw.address))
        });
        let arguments = json!({"id": id, "q": "1&x=2", "b": "\"}"});
        let Ok(Parsed::Command(command)) =
            catalog
                .as_ref()
                .unwrap()
                .command("plain", "stop-thing", arguments)
        else {
            panic!()
        };
        let data = catalog.unwrap().carry_out(&command).await.unwrap().data;
        assert_eq!(
            data,
            json!({"operation": "stop_thing", "message": "stopped"})
        );
        let seen = raw.last();
        assert_eq!(seen.line, format!("POST {path}?q=1%26x%3D2 HTTP/1.1"));
        assert_eq!(seen.body, r#"{"b":"\"}"}"#);
    }
    let catalog = Catalog::from_descriptions(&[("plain.toml", PLAIN)], &|name| {
        (name == "PLAIN_URL").then(|| "http://127.0.0.1:9".to_owned())
    })
    .unwrap();
    for id in [".", ".."] {
        let Ok(Parsed::Command(command)) = catalog.command("plain", "stop-thing", json!([id]))
        else {
            panic!()
        };
        let error = catalog.carry_out(&command).await.unwrap_err();
        assert!(
            matches!(error, HandlerError::Rejected { status: 400, .. }),
            "{id}: {error}"
        );
    }
}

#[tokio::test]
async fn actions_keep_what_the_service_says_of_them() {
    let raw = Raw::json(
        "200 OK",
        &json!({"message": "Restart request queued.", "deployment_uuid": "d1"}),
    )
    .await;
    let data = ask(&raw, &format!("applications restart {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "restart_application", "application_id": UUID, "message": "Restart request queued.", "deployment_uuid": "d1"})
    );
    assert_eq!(
        raw.last().line,
        format!("POST /api/v1/applications/{UUID}/restart HTTP/1.1")
    );
}

#[tokio::test]
async fn data_is_kept_unless_its_deletion_is_asked_for() {
    let raw = Raw::json(
        "200 OK",
        &json!({"message": "Application deletion request queued."}),
    )
    .await;
    ask(&raw, &format!("applications delete {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        raw.last().line,
        format!(
            "DELETE /api/v1/applications/{UUID}?delete_volumes=false&delete_configurations=false\
             &delete_connected_networks=false&docker_cleanup=false HTTP/1.1"
        )
    );
    let raw = Raw::json("200 OK", &json!({})).await;
    ask(
        &raw,
        &format!("applications delete {UUID} --delete-volumes"),
    )
    .await
    .unwrap();
    assert!(
        raw.last().line.contains("delete_volumes=true&"),
        "{:?}",
        raw.lines()
    );
}

#[tokio::test]
async fn deploying_is_a_post_with_a_query() {
    let raw = Raw::json("200 OK", &json!({"deployments": [{"message": "queued", "resource_uuid": UUID, "deployment_uuid": "d1"}]})).await;
    let data = ask(&raw, &format!("deploy-application {UUID} --force"))
        .await
        .unwrap();
    assert_eq!(data["deployments"][0]["deployment_uuid"], json!("d1"));
    assert_eq!(data["count"], json!(1));
    assert_eq!(
        raw.last().line,
        format!("POST /api/v1/deploy?uuid={UUID}&force=true HTTP/1.1")
    );
}

#[tokio::test]
async fn an_older_version_is_asked_by_its_own_method() {
    let gone = answer(
        "405 Method Not Allowed",
        "allow: GET",
        r#"{"message":"no"}"#,
    );
    let raw = Raw::start(vec![
        gone.clone(),
        answer("200 OK", "x-a: b", r#"{"message":"Validation started."}"#),
    ])
    .await;
    let data = ask(&raw, &format!("servers validate {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "validate_server", "server_id": UUID, "message": "Validation started."})
    );
    let line = |method: &str| format!("{method} /api/v1/servers/{UUID}/validate HTTP/1.1");
    assert_eq!(raw.lines(), [line("POST"), line("GET")]);

    // Without another method in the description, 405 is the answer.
    let raw = Raw::start(vec![gone]).await;
    let error = ask(&raw, &format!("applications start {UUID}"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, HandlerError::Rejected { status: 405, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_variable_is_set_whether_it_is_new_or_not() {
    let raw = Raw::start(vec![
        answer(
            "404 Not Found",
            "x-a: b",
            r#"{"message":"Environment variable not found."}"#,
        ),
        answer("201 Created", "x-a: b", r#"{"uuid":"e1"}"#),
    ])
    .await;
    let data = ask(&raw, &format!("applications envs set {UUID} MODE 'a b'"))
        .await
        .unwrap();
    assert_eq!(
        data,
        json!({"operation": "set_application_env", "application_id": UUID, "uuid": "e1"})
    );
    assert_eq!(
        raw.lines()
            .iter()
            .map(|line| line.split(' ').next().unwrap())
            .collect::<Vec<_>>(),
        ["PATCH", "POST"]
    );
    assert_eq!(raw.last().body, r#"{"key":"MODE","value":"a b"}"#);
}

#[tokio::test]
async fn secrets_in_answers_are_hidden() {
    let raw = Raw::json(
        "200 OK",
        &json!([{"uuid": "e1", "key": "DB_PASSWORD", "value": "hunter2", "real_value": "'hunter2'", "is_literal": true}]),
    )
    .await;
    let data = ask(&raw, &format!("applications envs list {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        data["envs"],
        json!([{"uuid": "e1", "key": "DB_PASSWORD", "value": "[redacted]", "real_value": "[redacted]", "is_literal": true}])
    );

    let body = json!({"uuid": UUID, "postgres_password": "hunter2", "internal_db_url": "postgres://u:hunter2@h", "private_key_id": 7,
        "note": format!("Bearer {TOKEN}"), "git_full_url": "https://u:hunter2@git.example.com/x", "destination": {"server": {"settings": {"sentinel_token": "hunter2"}}}});
    let raw = Raw::json("200 OK", &body).await;
    let text = ask(&raw, &format!("databases get {UUID}"))
        .await
        .unwrap()
        .to_string();
    assert!(
        !text.contains("hunter2") && !text.contains("s3cr3t"),
        "{text}"
    );
    assert!(text.contains(r#""private_key_id":7"#), "{text}");

    let raw = Raw::json(
        "200 OK",
        &json!({"logs": "start\nDB_PASSWORD=hunter2\nready"}),
    )
    .await;
    let data = ask(&raw, &format!("applications logs {UUID} 5"))
        .await
        .unwrap();
    assert_eq!(data["logs"], json!("start\nDB_PASSWORD=[redacted]\nready"));
}

#[tokio::test]
async fn plain_text_and_numbered_objects_are_understood() {
    let raw = Raw::start(vec![answer(
        "200 OK",
        "content-type: text/html",
        "4.0.0-beta.441",
    )])
    .await;
    assert_eq!(
        ask(&raw, "get-version").await.unwrap(),
        json!({"operation": "get_version", "version": "4.0.0-beta.441"})
    );

    let raw = Raw::json("200 OK", &json!({"10": {"deployment_uuid": "c"}, "1": {"deployment_uuid": "a"}, "2": {"deployment_uuid": "b"}})).await;
    let data = ask(&raw, "deployments list").await.unwrap();
    assert_eq!(
        data["deployments"],
        json!([{"deployment_uuid": "a"}, {"deployment_uuid": "b"}, {"deployment_uuid": "c"}])
    );

    let raw = Raw::json(
        "200 OK",
        &json!({"count": 31, "deployments": [{"deployment_uuid": "a"}]}),
    )
    .await;
    let data = ask(&raw, &format!("deployments history {UUID}"))
        .await
        .unwrap();
    assert_eq!(
        (
            &data["count"],
            data["deployments"].as_array().unwrap().len()
        ),
        (&json!(1), 1)
    );

    let raw = Raw::start(vec![answer("204 No Content", "x-a: b", "")]).await;
    assert_eq!(
        ask(&raw, &format!("projects delete {UUID}")).await.unwrap()["project_id"],
        json!(UUID)
    );
}
