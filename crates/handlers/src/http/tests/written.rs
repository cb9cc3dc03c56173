//! How arguments are written into requests, as descriptions say.

use super::*;

#[tokio::test]
async fn lists_are_written_as_the_service_reads_them() {
    let answers = (0..8).map(|_| answer("200 OK", "content-type: application/json", "{}"));
    let raw = Raw::start(answers.collect()).await;
    let argument = |more: &str| {
        sample(
            raw.address,
            &format!(
                "request = \"GET /x\"\nanswer = {{ merge = true }}\narguments = [{{ name = \"a\", description = \"It\", {more} }}]"
            ),
        )
    };
    let cases = [
        (
            "type = \"array\"",
            r#"["x y", 1]"#,
            "GET /x?a%5B0%5D=x%20y&a%5B1%5D=1 ",
        ),
        (
            "type = \"array\", written = \"repeated\"",
            r#"["x", 1]"#,
            "GET /x?a=x&a=1 ",
        ),
        (
            "type = \"array\", written = \"commas\"",
            r#"["x", true]"#,
            "GET /x?a=x%2Ctrue ",
        ),
        (
            "type = \"array\", written = \"spaces\"",
            r#"["x", "y"]"#,
            "GET /x?a=x%20y ",
        ),
        (
            "type = \"array\", written = \"pipes\"",
            r#"["x", "y"]"#,
            "GET /x?a=x%7Cy ",
        ),
        (
            "type = \"object\", written = \"json\"",
            r#"{"b": [1]}"#,
            "GET /x?a=%7B%22b%22%3A%5B1%5D%7D ",
        ),
        (
            "type = \"any\", written = \"repeated\"",
            r#"'"x"'"#,
            "GET /x?a=x ",
        ),
        ("type = \"any\"", "7", "GET /x?a=7 "),
    ];
    for (more, value, expected) in cases {
        let line = format!("/mcp-sample do-it --a {value}");
        send(&argument(more), &line).await.unwrap();
        let seen = raw.last().line;
        assert!(seen.starts_with(expected), "{more}: {seen}");
    }
    // An item would become two.
    let catalog = argument("type = \"array\", written = \"commas\"");
    let error = send(&catalog, r#"/mcp-sample do-it --a ["x,y"]"#).await;
    assert!(
        matches!(error, Err(HandlerError::Rejected { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_is_inside_an_argument_is_checked_and_null_is_sent_where_it_may_be() {
    let answers = (0..4).map(|_| answer("200 OK", "content-type: application/json", "{}"));
    let raw = Raw::start(answers.collect()).await;
    let catalog = sample(
        raw.address,
        r#"request = "POST /x"
answer = { merge = true }
arguments = [
    { name = "tree", type = "object", description = "It", schema = { required = ["a"], properties = { a = { type = "integer" } }, additionalProperties = false } },
    { name = "kind", nullable = true, options = ["x"], description = "Or none" },
]"#,
    );
    for (line, expected) in [
        (r#"do-it --tree {"a": 1}"#, r#"{"tree":{"a":1}}"#),
        (r#"do-it {"kind": null}"#, r#"{"kind":null}"#),
        ("do-it --kind x", r#"{"kind":"x"}"#),
    ] {
        send(&catalog, &format!("/mcp-sample {line}"))
            .await
            .unwrap();
        assert_eq!(raw.last().body, expected, "{line}");
    }
    for line in [
        r#"do-it --tree {"a": "1"}"#,
        r#"do-it --tree {"a": 1, "b": 2}"#,
        "do-it --tree {}",
        r#"do-it {"tree": null}"#,
        "do-it --kind y",
    ] {
        assert!(
            catalog.parse_slash(&format!("/mcp-sample {line}")).is_err(),
            "{line}"
        );
    }
    // A body that is one argument is none without it.
    let whole = sample(
        raw.address,
        "request = \"POST /x\"\nanswer = { merge = true }\nbody = \"{body}\"\narguments = [{ name = \"body\", type = \"any\", description = \"It\" }]",
    );
    send(&whole, "/mcp-sample do-it").await.unwrap();
    assert_eq!(raw.last().body, "");
}

#[tokio::test]
async fn a_command_may_have_limits_of_its_own() {
    let body = json!([{"name": "x".repeat(200)}, {"name": "y".repeat(200)}]).to_string();
    let answers = (0..2).map(|_| answer("200 OK", "content-type: application/json", &body));
    let raw = Raw::start(answers.collect()).await;
    let limited = |keys: &str| {
        sample(
            raw.address,
            &format!("request = \"GET /x\"\nanswer = {{ list = \"things\" }}\n{keys}"),
        )
    };
    let data = send(&limited("max_result_bytes = 400"), "/mcp-sample do-it")
        .await
        .unwrap();
    assert_eq!(
        (&data["truncated"], &data["count"]),
        (&json!(true), &json!(1))
    );
    let error = send(&limited("max_answer_bytes = 100"), "/mcp-sample do-it").await;
    assert!(
        matches!(&error, Err(HandlerError::Failed { message, .. }) if message.contains("100 bytes")),
        "{error:?}"
    );
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let catalog = sample(
        silent.local_addr().unwrap(),
        "request = \"POST /x\"\nanswer = { merge = true }\ntimeout_ms = 50",
    );
    let error = send(&catalog, "/mcp-sample do-it").await;
    assert!(
        matches!(&error, Err(HandlerError::Timeout { after, .. }) if after.as_millis() == 50),
        "{error:?}"
    );
}
