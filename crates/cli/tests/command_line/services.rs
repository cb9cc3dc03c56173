//! `cedargate services import` and `try --send`, as people run them.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Output,
    sync::{Arc, Mutex},
};

use super::{cedargate, code, err, out};

const DOCUMENT: &str = r#"{
    "openapi": "3.1.0",
    "info": {"title": "Tickets API", "version": "3"},
    "servers": [{"url": "/v3"}],
    "security": [{"token": []}],
    "paths": {
        "/tickets": {
            "get": {"operationId": "listTickets", "tags": ["Tickets"], "summary": "All the tickets", "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"type": "array", "items": {}}}}}}},
            "post": {"operationId": "createTicket", "requestBody": {"required": true, "content": {"multipart/form-data": {}}}}
        },
        "/tickets/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}],
            "patch": {"operationId": "closeTicket", "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {"note": {"type": "string"}}}}}}, "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"type": "object"}}}}}}
        },
        "/old": {"get": {"deprecated": true}}
    },
    "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}}
}"#;

/// Requests that a server got: head and body.
type Seen = Arc<Mutex<Vec<String>>>;

/// Answers each path with what it has for it; a status line, headers and a body.
fn server(answers: &'static [(&'static str, &'static str, &'static str)]) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Seen::default();
    let told = Arc::clone(&seen);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let told_now = format!("{head}\n{}", String::from_utf8_lossy(&body));
            told.lock().unwrap().push(told_now);
            let known = answers.iter().find(|(known, ..)| *known == path);
            let (_, answer, body) = known.unwrap_or(&("", "404 Not Found", ""));
            let mut stream = reader.into_inner();
            let head = format!(
                "HTTP/1.1 {answer}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(head.as_bytes());
        }
    });
    (address, seen)
}

#[test]
fn a_document_becomes_a_description_that_passes_our_own_check() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("openapi.json"), DOCUMENT).unwrap();
    std::fs::create_dir(folder.path().join("services")).unwrap();
    let import = [
        "services",
        "import",
        "openapi.json",
        "--output",
        "services/tickets.toml",
    ];
    let output = cedargate(folder.path(), &[], &import);
    assert_eq!(
        (code(&output), out(&output)),
        (0, String::new()),
        "{}",
        err(&output)
    );
    let told = "service `tickets`: 2 commands, in `services/tickets.toml`
  the document does not say where the service is: set `TICKETS_API_URL`
left out: 2 operations
     1  is deprecated
          GET /old
     1  is sent multipart/form-data, not JSON, a merge patch or a form
          createTicket (POST /tickets)
";
    assert_eq!(err(&output), told);
    let output = cedargate(folder.path(), &[], &["services", "check", "services"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let variables = [("CEDARGATE_SERVICES", "services")];
    let output = cedargate(folder.path(), &variables, &["services", "show", "tickets"]);
    for part in [
        "list-tickets",
        "close-ticket",
        "All the tickets",
        "TICKETS_TOKEN",
    ] {
        assert!(out(&output).contains(part), "{part}: {}", out(&output));
    }

    // What is there stays there, unless asked otherwise.
    let output = cedargate(folder.path(), &[], &import);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("--force"), "{}", err(&output));
    let again = [&import[..], &["--force", "--tag", "Tickets"]].concat();
    let output = cedargate(folder.path(), &[], &again);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(
        err(&output).contains("not asked for: 3 operations"),
        "{}",
        err(&output)
    );

    // To a script, and to a pipe.
    let output = cedargate(
        folder.path(),
        &[],
        &[
            "services",
            "import",
            "openapi.json",
            "--name",
            "desk",
            "--deprecated",
            "--json",
        ],
    );
    let told: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&told["name"], &told["report"]["commands"]),
        (&"desk".into(), &3.into())
    );
    let description = told["description"].as_str().unwrap().to_owned();
    let output = cedargate(
        folder.path(),
        &[],
        &[
            "services",
            "import",
            "openapi.json",
            "--name",
            "desk",
            "--deprecated",
        ],
    );
    assert_eq!(out(&output), description);
}

#[test]
fn what_is_no_document_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        (
            "swagger.yaml",
            "swagger: '2.0'\npaths: {}\n",
            "convert it to OpenAPI 3",
        ),
        ("page.html", "<html></html>", "web page"),
        ("broken.yaml", "openapi: [", "not valid YAML"),
        ("other.json", "{\"a\": 1}", "no OpenAPI document"),
        (
            "evil.json",
            "{\"openapi\": \"\\u001b[31m\", \"paths\": {}}",
            "only 3.0 and 3.1",
        ),
    ];
    for (name, text, expected) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
        let output = cedargate(folder.path(), &[], &["services", "import", name]);
        assert_eq!((code(&output), out(&output)), (2, String::new()), "{name}");
        let told = err(&output);
        assert!(
            told.contains(expected) && told.contains(name),
            "{name}: {told}"
        );
        assert!(!told.contains('\u{1b}'), "{name}");
    }
    std::fs::write(folder.path().join("bytes"), b"openapi: \xff").unwrap();
    std::fs::File::create(folder.path().join("huge"))
        .unwrap()
        .set_len(50 << 20)
        .unwrap();
    for (name, expected) in [
        ("bytes", "UTF-8"),
        ("huge", "32 MiB"),
        ("gone", "cannot be read"),
    ] {
        let output = cedargate(folder.path(), &[], &["services", "import", name]);
        assert_eq!(code(&output), 2);
        assert!(err(&output).contains(expected), "{}", err(&output));
    }
}

#[test]
fn a_document_is_fetched_from_where_it_is_and_from_nowhere_else() {
    let (address, _) = server(&[
        ("/openapi.json", "200 OK", DOCUMENT),
        (
            "/moved",
            "302 Found\r\nlocation: https://elsewhere.example.com/x",
            "",
        ),
        (
            "/page",
            "200 OK\r\ncontent-type: text/html",
            "<!DOCTYPE html><html></html>",
        ),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let import = |path: &str| {
        let url = format!("http://{address}{path}");
        cedargate(folder.path(), &[], &["services", "import", &url])
    };
    let output = import("/openapi.json");
    assert_eq!(code(&output), 0, "{}", err(&output));
    let there = format!("default = \"http://{address}\", suffix = \"/v3\"");
    assert!(out(&output).contains(&there), "{}", out(&output));
    for (path, expected) in [
        ("/moved", "redirects to `https://elsewhere.example.com/x`"),
        ("/page", "web page"),
        ("/nothing", "404"),
    ] {
        let output = import(path);
        assert_eq!(code(&output), 2, "{path}");
        assert!(err(&output).contains(expected), "{path}: {}", err(&output));
    }
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let url = format!("http://{nobody}/openapi.json");
    let output = cedargate(folder.path(), &[], &["services", "import", &url]);
    assert_eq!(code(&output), 2);
    assert!(
        err(&output).contains("cannot be fetched"),
        "{}",
        err(&output)
    );
    let url = "http://user:secret@127.0.0.1/";
    let output = cedargate(folder.path(), &[], &["services", "import", url]);
    assert_eq!(code(&output), 2);
    assert!(!err(&output).contains("secret"), "{}", err(&output));
}

#[test]
fn a_command_is_tried_for_good() {
    let (address, seen) = server(&[
        (
            "/v3/tickets",
            "200 OK",
            r#"[{"id": 1, "api_key": "hidden", "by": "tickets-secret"}]"#,
        ),
        ("/v3/tickets/1", "200 OK", r#"{"id": 1, "state": "closed"}"#),
    ]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("openapi.json"), DOCUMENT).unwrap();
    std::fs::create_dir(folder.path().join("services")).unwrap();
    let import = [
        "services",
        "import",
        "openapi.json",
        "-o",
        "services/tickets.toml",
    ];
    assert_eq!(code(&cedargate(folder.path(), &[], &import)), 0);
    // A file does not say where its service is: the server in it is only a path.
    let url = format!("http://{address}/v3");
    let without = [
        ("CEDARGATE_SERVICES", "services"),
        ("TICKETS_API_URL", &url),
    ];
    let with = [&without[..], &[("TICKETS_TOKEN", "tickets-secret")]].concat();
    let attempt = |variables: &[(&str, &str)], arguments: &[&str]| {
        let arguments = [&["services", "try"], arguments].concat();
        cedargate(folder.path(), variables, &arguments)
    };

    // Only shown, as ever.
    let output = attempt(&with, &["/mcp-tickets list-tickets"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(seen.lock().unwrap().is_empty());

    let output = attempt(&with, &["--send", "/mcp-tickets list-tickets"]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let shown = out(&output);
    for part in [
        &format!("GET http://{address}/v3/tickets"),
        "authorization: ",
        "\"operation\": \"list_tickets\"",
        "[redacted]",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(
        !shown.contains("tickets-secret") && !shown.contains("hidden"),
        "{shown}"
    );
    let requests = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(requests.len(), 1);
    assert!(
        requests[0].contains("authorization: Bearer tickets-secret"),
        "{requests:?}"
    );

    // Nothing is sent without a credential, nor a change by mistake.
    let output = attempt(&without, &["--send", "/mcp-tickets list-tickets"]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("TICKETS_TOKEN"), "{}", err(&output));
    let close = "/mcp-tickets close-ticket 1 --note done";
    let output = attempt(&with, &["--send", close]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("--yes"), "{}", err(&output));
    assert!(seen.lock().unwrap().is_empty());

    let output = attempt(&with, &["--send", "--yes", "--json", close]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let told: serde_json::Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(told["answer"]["ticket"]["state"], "closed");
    assert_eq!(told["untrusted"], true);
    assert!(seen.lock().unwrap()[0].ends_with(r#"{"note":"done"}"#));

    // The service's own refusal, in our words.
    let output = attempt(&with, &["--send", "--yes", "/mcp-tickets close-ticket 2"]);
    assert_eq!(code(&output), 1);
    assert!(err(&output).contains("tickets"), "{}", err(&output));
}

/// What `services try` says with a database and buckets that nobody reaches.
fn tried(folder: &Path, arguments: &[&str]) -> Output {
    let variables = [
        (
            "POSTGRES_URL",
            "postgres://reader:planted@db.example:5433/shop?sslmode=verify-full",
        ),
        (
            "POSTGRES_WRITE_URL",
            "postgres://writer:planted@db.example:5433/shop",
        ),
        ("MINIO_ENDPOINT", "http://127.0.0.1:9"),
        ("MINIO_ACCESS_KEY", "planted-access"),
        ("MINIO_SECRET_KEY", "planted-secret"),
        ("MINIO_BUCKETS", "assets,shared/agents"),
    ];
    let arguments = [&["services", "try"], arguments].concat();
    cedargate(folder, &variables, &arguments)
}

/// What is asked of a database or of objects is no request of HTTP, and shown as what it is.
#[test]
fn statements_and_objects_are_shown_too() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = |arguments: &[&str]| tried(folder.path(), arguments);
    let cases: [(&str, &[&str]); 9] = [
        (
            "/mcp-postgres query \"SELECT name FROM users WHERE id = $1\" [7] --limit 10",
            &[
                "database main (reader@db.example:5433/shop), READ ONLY, at most 10 rows",
                "\nSELECT name FROM users WHERE id = $1;\n",
                "\n$1 = 7",
            ],
        ),
        (
            "/mcp-postgres execute \"DELETE FROM users\"",
            &[
                "(writer@db.example:5433/shop), READ WRITE",
                "\nDELETE FROM users;",
            ],
        ),
        (
            "/mcp-postgres explain SELECT 1",
            &["READ ONLY", "EXPLAIN (FORMAT JSON)\nSELECT 1;"],
        ),
        (
            "/mcp-postgres describe users",
            &["pg_catalog.pg_attribute", "\n$1 = \"users\""],
        ),
        (
            "/mcp-minio files download shared 'notes/a b.txt' --offset 5 --length 10",
            &[
                "GET http://127.0.0.1:9/shared/agents/notes/a%20b.txt\n",
                "range: bytes=5-14\n",
                "bucket: shared\nkey: agents/notes/a b.txt",
            ],
        ),
        (
            "/mcp-minio files upload assets a.txt secrets-of-somebody",
            &[
                "PUT http://127.0.0.1:9/assets/a.txt\n",
                "content-type: text/plain; charset=utf-8\n",
                "if-none-match: *\n",
            ],
        ),
        (
            "/mcp-minio files list shared re/",
            &[
                "GET http://127.0.0.1:9/shared/?list-type=2&prefix=agents%2Fre%2F",
                "key: agents/re/",
            ],
        ),
        (
            "/mcp-minio files delete assets a.txt",
            &["DELETE http://127.0.0.1:9/assets/a.txt"],
        ),
        (
            "/mcp-minio files stat assets a.txt",
            &["HEAD http://127.0.0.1:9/assets/a.txt"],
        ),
    ];
    for (line, parts) in cases {
        let output = attempt(&[line]);
        assert_eq!(code(&output), 0, "{line}: {}", err(&output));
        let shown = out(&output);
        for part in parts {
            assert!(shown.contains(part), "{line}: {part}: {shown}");
        }
        assert!(
            !shown.contains("planted") && !shown.contains("somebody"),
            "{shown}"
        );
    }
}

/// For programs, and what is not shown.
#[test]
fn what_could_never_be_asked_is_not_shown() {
    let folder = tempfile::tempdir().unwrap();
    let attempt = |arguments: &[&str]| tried(folder.path(), arguments);
    let json = |line: &str| -> serde_json::Value {
        let output = attempt(&["--json", line]);
        assert_eq!(code(&output), 0, "{line}: {}", err(&output));
        serde_json::from_str(&out(&output)).unwrap()
    };
    let shown = json("/mcp-postgres query \"SELECT $1\" [null]");
    assert_eq!(
        shown["request"],
        serde_json::json!({
            "database": "main", "address": "reader@db.example:5433/shop", "transaction": "READ ONLY",
            "statements": ["SELECT $1"], "parameters": [null], "max_rows": 1000
        })
    );
    let shown = json("/mcp-minio files stat shared a");
    assert_eq!(
        shown["request"],
        serde_json::json!({
            "method": "HEAD", "bucket": "shared", "key": "agents/a",
            "url": "http://127.0.0.1:9/shared/agents/a", "headers": []
        })
    );
    // What could never be asked for is not shown as if it could.
    for (line, says) in [
        (
            "/mcp-minio files stat other a",
            "there is no bucket `other`",
        ),
        ("/mcp-minio files stat shared %2e%2e/a", "the key"),
        ("/mcp-minio buckets list", "sends no request of its own"),
    ] {
        let output = attempt(&[line]);
        assert_eq!(code(&output), 2, "{line}: {}", out(&output));
        assert!(err(&output).contains(says), "{line}: {}", err(&output));
    }
    let line = ["services", "try", "/mcp-minio files stat assets a"];
    let output = cedargate(folder.path(), &[], &line);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("`MINIO_BUCKETS`"), "{}", err(&output));
    let line = ["services", "try", "/mcp-postgres ka-db list tables"];
    let output = cedargate(folder.path(), &[], &line);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("kids-ascension (not configured), READ ONLY"));
}
