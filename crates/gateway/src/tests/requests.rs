//! What is no request, and what is echoed of one.

use super::*;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
async fn bad_bodies_get_clear_errors_and_nothing_gets_through() {
    let world = World::new().await;
    let big = format!("{{\"command\": \"{}\"}}", "x".repeat(2 * 1024 * 1024));
    let cases: Vec<(&str, &str, (u16, i64), &str)> = vec![
        (
            "/execute",
            "{\"command\": \"/mcp-coolify",
            (400, -32700),
            "not valid JSON",
        ),
        ("/execute", "", (400, -32700), "not valid JSON"),
        (
            "/execute",
            "[{\"command\": \"/mcp-coolify list-servers\"}]",
            (400, -32600),
            "batches",
        ),
        ("/execute", "\"x\"", (400, -32600), "must be a JSON object"),
        ("/execute", "{}", (400, -32600), "Command is required"),
        (
            "/execute",
            "{\"command\": 5}",
            (400, -32600),
            "`command` must be a string",
        ),
        ("/execute", "{\"command\": \"\"}", (400, -32009), "expected"),
        (
            "/execute",
            "{\"command\": \"servers list\"}",
            (400, -32009),
            "expected",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"command\": \"/mcp-coolify delete-server x\"}",
            (400, -32700),
            "occurs twice",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"Command\": \"/mcp-coolify delete-server x\"}",
            (400, -32600),
            "did you mean `command`",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"service\": \"coolify\"}",
            (400, -32600),
            "not a member",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\"}",
            (400, -32600),
            "Command is required",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\", \"operation\": \"list-servers\", \"args\": [], \"arguments\": {}}",
            (400, -32600),
            "not both",
        ),
        (
            "/execute",
            "{\"service\": \"coolify\", \"operation\": \"get-server\", \"args\": 5}",
            (400, -32600),
            "object or an array",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"id\": {}}",
            (400, -32600),
            "`id` must be",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\", \"options\": 5}",
            (400, -32600),
            "`options` must be",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify get-server 'srv\"}",
            (400, -32009),
            "quote",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-nothing x\"}",
            (404, -32000),
            "not found",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify explode\"}",
            (404, -32002),
            "not supported",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify get-server\"}",
            (400, -32009),
            "not valid",
        ),
        (
            "/execute",
            "{\"command\": \"/mcp-coolify servers list\"} {}",
            (400, -32700),
            "trailing",
        ),
        (
            "/execute",
            "{\"command\": \"\\ud800\"}",
            (400, -32700),
            "not valid JSON",
        ),
        ("/execute", &big, (413, -32600), "larger than"),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"1.0\", \"method\": \"mcp.execute\", \"id\": 1}",
            (400, -32600),
            "version",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"id\": 1}",
            (400, -32600),
            "Method is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\"}",
            (400, -32600),
            "Request ID is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": null}",
            (400, -32600),
            "Request ID is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": [1]}",
            (400, -32600),
            "`id` must be",
        ),
        (
            "/mcp/rpc",
            "[{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": 1}]",
            (400, -32600),
            "batches",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"tools/list\", \"id\": 1}",
            (404, -32601),
            "not found",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"id\": 1}",
            (400, -32602),
            "required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"params\": {}, \"id\": 1}",
            (400, -32602),
            "`params.service` is required",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.execute\", \"params\": [], \"id\": 1}",
            (400, -32602),
            "must be an object",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.getCapabilities\", \"params\": {\"service\": \"nothing\"}, \"id\": 1}",
            (404, -32000),
            "not found",
        ),
        (
            "/mcp/rpc",
            "{\"jsonrpc\": \"2.0\", \"method\": \"mcp.listServices\", \"id\": 1, \"ID\": 2}",
            (400, -32600),
            "did you mean `id`",
        ),
    ];
    for (path, body, expected, message) in cases {
        let answered = world.post(path, "local", body).await;
        let shown: String = body.chars().take(120).collect();
        assert_eq!(case(&answered), expected, "{shown}: {answered:?}");
        assert!(
            answered.message().contains(message),
            "{shown}: `{}` lacks `{message}`",
            answered.message()
        );
    }
    let no_type = World::request(
        Method::POST,
        "/execute",
        &[],
        "{\"command\": \"/mcp-coolify list-servers\"}",
    );
    assert_eq!(case(&world.send(LOOPBACK, no_type).await), (415, -32600));
    let form = World::request(
        Method::POST,
        "/execute",
        &[("content-type", "text/plain")],
        "{\"command\": \"/mcp-coolify list-servers\"}",
    );
    assert_eq!(case(&world.send(LOOPBACK, form).await), (415, -32600));
    assert!(world.reached().is_empty());
    assert!(
        world.orchestrator.opened().is_empty(),
        "nobody is asked to approve a typo"
    );
}

#[tokio::test]
async fn ids_are_echoed_on_success_and_on_error() {
    let world = World::new().await;
    for id in [json!(0), json!("a"), json!(1.5), json!(-7)] {
        let rpc = |service: &str| {
            json!({"jsonrpc": "2.0", "method": "mcp.execute", "id": id, "params": {"service": service, "operation": "list_servers"}}).to_string()
        };
        let answered = world.post("/mcp/rpc", "local", &rpc("coolify")).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::OK, &id),
            "{answered:?}"
        );
        let answered = world.post("/mcp/rpc", "local", &rpc("nothing")).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::NOT_FOUND, &id)
        );
        let execute =
            json!({"service": "coolify", "operation": "servers list", "args": {}, "id": id})
                .to_string();
        let answered = world.post("/mcp/execute", BOT, &execute).await;
        assert_eq!(
            (answered.status, &answered.body["id"]),
            (StatusCode::FORBIDDEN, &id)
        );
    }
}
