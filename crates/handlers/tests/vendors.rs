//! Vendors without a document in a package registry: what is sent and what comes of it,
//! against a server that answers as the vendor's documentation says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::unused_async,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use everything::PermitEverything;
use handlers::{Answer, Catalog, HandlerError, Parsed};
use serde_json::{Value, json};

/// What reached the vendor.
#[derive(Clone, Debug)]
struct Seen {
    line: String,
    headers: HeaderMap,
    body: String,
}

/// Answers each request line (without its query) with what it has for it.
#[derive(Clone, Default)]
struct Vendor {
    answers: Arc<BTreeMap<String, Vec<Value>>>,
    counts: Arc<Mutex<BTreeMap<String, usize>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Vendor {
    async fn start(answers: impl IntoIterator<Item = (&'static str, Value)>) -> (Self, SocketAddr) {
        let mut table: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for (line, answer) in answers {
            table.entry(line.to_owned()).or_default().push(answer);
        }
        let vendor = Self {
            answers: Arc::new(table),
            ..Self::default()
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new()
            .fallback(Self::answer)
            .with_state(vendor.clone());
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        (vendor, address)
    }

    async fn answer(
        State(vendor): State<Self>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> Response {
        let key = format!("{method} {}", uri.path());
        let earlier = {
            let mut counts = vendor.counts.lock().unwrap();
            let count = counts.entry(key.clone()).or_insert(0);
            *count += 1;
            *count - 1
        };
        vendor.seen.lock().unwrap().push(Seen {
            line: format!("{method} {uri}"),
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        let Some(answers) = vendor.answers.get(&key) else {
            let body = json!({"error": {"message": format!("unexpected {key}")}});
            return (StatusCode::NOT_FOUND, body.to_string()).into_response();
        };
        let answer = answers.get(earlier).or(answers.last()).unwrap();
        match answer.get("__status").and_then(Value::as_u64) {
            Some(status) => (
                StatusCode::from_u16(u16::try_from(status).unwrap()).unwrap(),
                answer["body"].to_string(),
            )
                .into_response(),
            None => match answer {
                Value::String(text) => text.clone().into_response(),
                answer => answer.to_string().into_response(),
            },
        }
    }

    fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }
}

/// Credentials and addresses of all of them.
fn catalog(address: SocketAddr, further: &[(&str, &str)]) -> Catalog {
    let address = format!("http://{address}");
    Catalog::load(&|name| {
        if let Some((_, value)) = further.iter().find(|(other, _)| *other == name) {
            return Some((*value).to_owned());
        }
        match name {
            name if name.ends_with("_API_URL") => Some(address.clone()),
            "CLOUDFLARE_API_TOKEN"
            | "MEM0_API_KEY"
            | "STRIPE_SECRET_KEY"
            | "AIRTABLE_API_KEY"
            | "FIRECRAWL_API_KEY"
            | "CONTEXT7_API_KEY"
            | "N8N_API_KEY" => Some("secret-of-ours".to_owned()),
            _ => None,
        }
    })
    .unwrap()
}

async fn send(catalog: &Catalog, line: &str) -> Result<Value, HandlerError> {
    let parsed = catalog.parse_slash(line);
    let Ok(Parsed::Command(command)) = parsed else {
        panic!("{line}: {parsed:?}")
    };
    let answer: Result<Answer, HandlerError> = catalog
        .handle(PermitEverything::new().permit(command))
        .await;
    answer.map(|answer| answer.data)
}

const ZONE: &str = "023e105f4ecef8ad9ca31a8372d0c353";
const RECORD: &str = "372e67954025e0ba6aaa6d586b9e0b59";

fn enveloped(result: &Value) -> Value {
    json!({"success": true, "errors": [], "messages": [], "result": result})
}

#[tokio::test]
async fn cloudflare_records_are_listed_page_by_page_and_changed() {
    let record = |name: &str| json!({"id": RECORD, "type": "A", "name": name, "content": "198.51.100.4", "proxied": true, "ttl": 1, "meta": {}});
    let page = |records: Vec<Value>, page: u32| {
        json!({"success": true, "errors": [], "messages": [], "result": records,
               "result_info": {"page": page, "per_page": 100, "total_pages": 2, "total_count": 3, "count": 2}})
    };
    let list = "GET /zones/023e105f4ecef8ad9ca31a8372d0c353/dns_records";
    let one = "PATCH /zones/023e105f4ecef8ad9ca31a8372d0c353/dns_records/372e67954025e0ba6aaa6d586b9e0b59";
    let (vendor, address) = Vendor::start([
        (list, page(vec![record("a"), record("b")], 1)),
        (list, page(vec![record("c")], 2)),
        (list, page(vec![record("a"), record("b")], 1)),
        (one, enveloped(&record("a"))),
        (
            "POST /zones/023e105f4ecef8ad9ca31a8372d0c353/dns_records",
            json!({"success": false, "errors": [{"code": 81057, "message": "Record already exists."}], "messages": [], "result": null}),
        ),
        (
            "GET /user/tokens/verify",
            json!({"__status": 401, "body": {"success": false, "errors": [{"code": 1000, "message": "Invalid API Token secret-of-ours"}]}}),
        ),
    ])
    .await;
    let catalog = catalog(address, &[]);

    let data = send(
        &catalog,
        &format!("/mcp-cloudflare dns list {ZONE} --limit 200"),
    )
    .await
    .unwrap();
    let names: Vec<&str> = data["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert_eq!(
        (
            &data["operation"],
            &data["count"],
            &data["zone_id"],
            data.get("truncated")
        ),
        (&json!("list_dns_records"), &json!(3), &json!(ZONE), None)
    );
    let seen = vendor.take();
    assert_eq!(
        seen.iter()
            .map(|seen| seen.line.as_str())
            .collect::<Vec<_>>(),
        [
            format!("{list}?per_page=100&page=1"),
            format!("{list}?per_page=100&page=2")
        ]
    );
    assert_eq!(seen[0].headers["authorization"], "Bearer secret-of-ours");

    // The first page only: more there is, and where it begins.
    let data = send(
        &catalog,
        "/mcp-cf dns-list --limit 2 023e105f4ecef8ad9ca31a8372d0c353",
    )
    .await
    .unwrap();
    assert_eq!(
        (&data["truncated"], &data["next_page"]),
        (&json!(true), &json!(2)),
        "{data}"
    );
    vendor.take();

    let line =
        format!("/mcp-cloudflare dns update {ZONE} {RECORD} {{\"content\": \"198.51.100.5\"}}");
    let data = send(&catalog, &line).await.unwrap();
    assert_eq!(data["operation"], "dns_record_updated");
    let seen = vendor.take();
    assert_eq!(
        (seen[0].line.as_str(), seen[0].body.as_str()),
        (one, r#"{"content":"198.51.100.5"}"#)
    );

    let line = format!(
        "/mcp-cloudflare dns create {ZONE} {}",
        r#"{"type": "A", "name": "www", "content": "198.51.100.4"}"#
    );
    let error = send(&catalog, &line).await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Rejected { message, .. } if message == "Record already exists"),
        "{error:?}"
    );
    let error = send(&catalog, "/mcp-cloudflare health").await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Credential { .. })
            && !error.to_string().contains("secret-of-ours"),
        "{error:?}"
    );
}

#[tokio::test]
async fn the_memory_of_an_agent_is_its_own() {
    let local = authz::AgentId::LOCAL.to_string();
    let mine = json!({"id": "mine", "memory": "tea", "user_id": local, "metadata": null});
    let theirs = json!({"id": "theirs", "memory": "coffee", "user_id": "someone-else"});
    let (vendor, address) = Vendor::start([
        (
            "POST /memories",
            json!({"results": [{"id": "mine", "memory": "tea", "event": "ADD"}]}),
        ),
        (
            "POST /search",
            json!({"results": [{"id": "mine", "memory": "tea", "score": 0.9, "user_id": local}]}),
        ),
        ("GET /memories", json!({"results": [mine]})),
        ("GET /memories/mine", mine.clone()),
        ("GET /memories/theirs", theirs),
        (
            "PUT /memories/mine",
            json!({"message": "Memory updated successfully!"}),
        ),
        (
            "DELETE /memories/mine",
            json!({"message": "Memory deleted successfully"}),
        ),
        (
            "DELETE /memories/theirs",
            json!({"message": "Memory deleted successfully"}),
        ),
        (
            "DELETE /memories",
            json!({"message": "All relevant memories deleted"}),
        ),
    ])
    .await;
    let catalog = catalog(address, &[]);

    let data = send(
        &catalog,
        "/mcp-mem0 remember 'I like  tea' --metadata {\"topic\":\"drinks\"}",
    )
    .await
    .unwrap();
    assert_eq!(data["operation"], "memory_added");
    let seen = vendor.take();
    assert_eq!(
        serde_json::from_str::<Value>(&seen[0].body).unwrap(),
        json!({"messages": [{"role": "user", "content": "I like  tea"}], "user_id": local, "metadata": {"topic": "drinks"}})
    );
    assert_eq!(seen[0].headers["x-api-key"], "secret-of-ours");

    let data = send(&catalog, "/mcp-memory search drinks").await.unwrap();
    assert_eq!(
        data,
        json!({"operation": "memory_search", "resultCount": 1, "query": "drinks",
               "results": [{"id": "mine", "content": "tea", "relevance": 0.9}]})
    );
    let data = send(&catalog, "/mcp-mem0 get-context").await.unwrap();
    assert_eq!(
        (&data["memoryCount"], &data["memories"][0]["content"]),
        (&json!(1), &json!("tea"))
    );
    let seen = vendor.take();
    assert_eq!(seen[1].line, format!("GET /memories?user_id={local}"));

    // No argument says whose memory it is, by any name.
    for attempt in [
        "/mcp-mem0 remember x --user_id someone-else",
        "/mcp-mem0 search x {\"user_id\": \"someone-else\"}",
        "/mcp-mem0 search x --filters {\"user_id\":\"someone-else\"}",
        "/mcp-mem0 get-context --user_id someone-else",
        "/mcp-mem0 forget-all someone-else",
    ] {
        assert!(catalog.parse_slash(attempt).is_err(), "{attempt}");
    }

    for (line, done) in [
        ("update mine 'green tea'", "PUT /memories/mine"),
        ("delete mine", "DELETE /memories/mine"),
    ] {
        send(&catalog, &format!("/mcp-mem0 {line}")).await.unwrap();
        let lines: Vec<String> = vendor.take().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /memories/mine", done]);
    }
    // What is not its own does not exist for it, and nothing is sent that would change it.
    for line in [
        "get theirs",
        "history theirs",
        "update theirs x",
        "delete theirs",
    ] {
        let error = send(&catalog, &format!("/mcp-mem0 {line}"))
            .await
            .unwrap_err();
        assert!(
            matches!(error, HandlerError::NotFound { .. }),
            "{line}: {error:?}"
        );
        let lines: Vec<String> = vendor.take().into_iter().map(|seen| seen.line).collect();
        assert_eq!(lines, ["GET /memories/theirs"]);
    }
}

#[tokio::test]
async fn stripe_reads_forms_and_knows_a_command_that_comes_twice() {
    let customer =
        |id: &str| json!({"id": id, "object": "customer", "email": "j@example.com", "sources": {}});
    let (vendor, address) = Vendor::start([
        ("POST /v1/prices", json!({"__status": 503, "body": {"error": {"message": "busy"}}})),
        ("POST /v1/prices", json!({"id": "price_1", "currency": "usd", "unit_amount": 1000})),
        ("POST /v1/payment_links", json!({"id": "plink_1", "url": "https://buy.stripe.com/x"})),
        ("POST /v1/subscriptions/sub_1", json!({"id": "sub_1", "items": {"data": []}})),
        ("GET /v1/customers", json!({"object": "list", "data": [customer("cus_1"), customer("cus_2")], "has_more": true})),
        ("GET /v1/customers", json!({"object": "list", "data": [customer("cus_3")], "has_more": false})),
        ("POST /v1/refunds", json!({"__status": 402, "body": {"error": {"type": "card_error", "message": "Charge sk_live_0123456789abcdefXYZ has already been refunded."}}})),
        ("GET /v1/account", json!({"id": "acct_1", "business_profile": {"name": "Shop"}, "settings": {}})),
    ])
    .await;
    let catalog = catalog(address, &[]);

    let line = r#"/mcp-stripe prices create prod_1 1000 usd --recurring {"interval":"month"} --metadata {"a b":"c&d"}"#;
    send(&catalog, line).await.unwrap();
    let seen = vendor.take();
    assert_eq!(seen.len(), 2, "it was busy once");
    assert_eq!(
        seen[0].body,
        "metadata%5Ba%20b%5D=c%26d&product=prod_1&unit_amount=1000&currency=usd&recurring%5Binterval%5D=month"
    );
    assert_eq!(
        seen[0].headers["content-type"],
        "application/x-www-form-urlencoded"
    );
    let keys: Vec<_> = seen
        .iter()
        .map(|seen| seen.headers["idempotency-key"].clone())
        .collect();
    assert_eq!(keys[0], keys[1]);
    assert!(keys[0].len() >= 32);
    send(&catalog, line).await.unwrap();
    assert_ne!(vendor.take()[0].headers["idempotency-key"], keys[0]);

    send(&catalog, "/mcp-stripe payment-links create price_1")
        .await
        .unwrap();
    assert_eq!(
        vendor.take()[0].body,
        "line_items%5B0%5D%5Bprice%5D=price_1&line_items%5B0%5D%5Bquantity%5D=1"
    );
    send(
        &catalog,
        r#"/mcp-stripe subscriptions update sub_1 --items [{"id":"si_1","quantity":2}]"#,
    )
    .await
    .unwrap();
    assert_eq!(
        vendor.take()[0].body,
        "items%5B0%5D%5Bid%5D=si_1&items%5B0%5D%5Bquantity%5D=2"
    );

    let data = send(&catalog, "/mcp-stripe customers list --limit 150")
        .await
        .unwrap();
    assert_eq!((&data["count"], data.get("truncated")), (&json!(3), None));
    let lines: Vec<String> = vendor.take().into_iter().map(|seen| seen.line).collect();
    assert_eq!(
        lines,
        [
            "GET /v1/customers?limit=100",
            "GET /v1/customers?limit=100&starting_after=cus_2"
        ]
    );
    let error = send(&catalog, "/mcp-stripe refund pi_1").await.unwrap_err();
    assert!(
        matches!(&error, HandlerError::Rejected { message, .. } if message == "Charge [redacted] has already been refunded"),
        "{error:?}"
    );
    let data = send(&catalog, "/mcp-stripe get-account").await.unwrap();
    assert_eq!(data["account"], json!({"id": "acct_1", "name": "Shop"}));
}

#[tokio::test]
async fn airtable_records_are_read_and_written() {
    const BASE: &str = "appLkNDICXNqxSDhG";
    let record = |id: &str| json!({"id": id, "createdTime": "2026-01-01T00:00:00.000Z", "fields": {"Name": "x"}});
    let (vendor, address) = Vendor::start([
        (
            "GET /appLkNDICXNqxSDhG/My%20Projects",
            json!({"records": [record("rec560UJdUtocSouk")], "offset": "itr/rec"}),
        ),
        (
            "POST /appLkNDICXNqxSDhG/Projects",
            record("rec560UJdUtocSouk"),
        ),
        (
            "DELETE /appLkNDICXNqxSDhG/Projects",
            json!({"records": [{"id": "rec560UJdUtocSouk", "deleted": true}]}),
        ),
    ])
    .await;
    let catalog = catalog(address, &[("AIRTABLE_BASE_ID", BASE)]);
    let line = r#"/mcp-airtable records list 'My Projects' --filter "{Status} = 'Open'" --sort [{"field":"Name"}] --fields ["Name","Due date"] --limit 1"#;
    let data = send(&catalog, line).await.unwrap();
    assert_eq!(
        data,
        json!({"operation": "read_records", "recordCount": 1, "truncated": true, "offset": "itr/rec", "table": "My Projects",
               "records": [{"id": "rec560UJdUtocSouk", "fields": {"Name": "x"}, "createdTime": "2026-01-01T00:00:00.000Z"}]})
    );
    assert_eq!(
        vendor.take()[0].line,
        "GET /appLkNDICXNqxSDhG/My%20Projects?filterByFormula=%7BStatus%7D%20%3D%20%27Open%27&sort%5B0%5D%5Bfield%5D=Name&fields%5B%5D=Name&fields%5B%5D=Due%20date&pageSize=1"
    );
    send(
        &catalog,
        r#"/mcp-airtable create-record Projects {"Name": "Union Square"}"#,
    )
    .await
    .unwrap();
    assert_eq!(
        vendor.take()[0].body,
        r#"{"fields":{"Name":"Union Square"}}"#
    );
    let data = send(
        &catalog,
        r#"/mcp-airtable delete-records Projects ["rec560UJdUtocSouk"]"#,
    )
    .await
    .unwrap();
    assert_eq!(data["records"][0]["deleted"], json!(true));
    assert_eq!(
        vendor.take()[0].line,
        "DELETE /appLkNDICXNqxSDhG/Projects?records%5B%5D=rec560UJdUtocSouk"
    );
    let eleven: Vec<&str> = vec!["rec560UJdUtocSouk"; 11];
    assert!(
        catalog
            .parse_slash(&format!(
                "/mcp-airtable delete-records Projects {}",
                json!(eleven)
            ))
            .is_err()
    );
}

#[tokio::test]
async fn firecrawl_failures_are_failures() {
    let (vendor, address) = Vendor::start([
        ("POST /v2/scrape", json!({"success": true, "data": {"markdown": "# Hi", "html": "<h1>Hi</h1>", "metadata": {"title": "Hi", "sourceURL": "https://example.com"}}})),
        ("POST /v2/scrape", json!({"success": false, "error": "This website is not supported"})),
        ("POST /v2/map", json!({"success": true, "links": [{"url": "https://example.com/a", "title": "A"}]})),
        ("GET /v2/crawl/123e4567-e89b-42d3-a456-426614174000", json!({"success": true, "status": "scraping", "total": 3, "completed": 1, "data": [{"markdown": "x"}]})),
    ])
    .await;
    let catalog = catalog(address, &[]);
    let data = send(&catalog, "/mcp-firecrawl scrape https://example.com")
        .await
        .unwrap();
    assert_eq!(
        (&data["markdown"], &data["success"], &data["url"]),
        (&json!("# Hi"), &json!(true), &json!("https://example.com"))
    );
    let body: Value = serde_json::from_str(&vendor.take()[0].body).unwrap();
    assert_eq!(
        body,
        json!({"url": "https://example.com", "onlyMainContent": true, "excludeTags": ["script", "style"], "timeout": 30000, "formats": ["markdown", "html"]})
    );
    let error = send(&catalog, "/mcp-firecrawl scrape https://example.com")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, HandlerError::Rejected { message, .. } if message.contains("not supported")),
        "{error:?}"
    );
    assert_eq!(
        send(&catalog, "/mcp-firecrawl sites map https://example.com")
            .await
            .unwrap()["count"],
        json!(1)
    );
    let data = send(
        &catalog,
        "/mcp-firecrawl crawl-status 123e4567-e89b-42d3-a456-426614174000",
    )
    .await
    .unwrap();
    assert_eq!(
        (&data["status"], &data["pages"][0]["markdown"]),
        (&json!("scraping"), &json!("x"))
    );
    assert!(
        catalog
            .parse_slash("/mcp-firecrawl scrape file:///etc/passwd")
            .is_err()
    );
    assert!(
        catalog
            .parse_slash("/mcp-firecrawl scrape https://x --headers {\"cookie\":\"a\"}")
            .is_err()
    );
}

#[tokio::test]
async fn context7_gives_text() {
    let (vendor, address) = Vendor::start([
        ("GET /v2/libs/search", json!({"results": [{"id": "/facebook/react", "title": "React", "trustScore": 9, "score": 1}]})),
        ("GET /v2/context", json!("### useEffect\n\nRuns after render.")),
    ])
    .await;
    let catalog = catalog(address, &[]);
    let data = send(&catalog, "/mcp-context7 resolve \"react\" 'side effects'")
        .await
        .unwrap();
    assert_eq!(
        data["libraries"],
        json!([{"id": "/facebook/react", "title": "React", "trustScore": 9}])
    );
    let data = send(
        &catalog,
        "/mcp-context7 get-docs /facebook/react --topic hooks",
    )
    .await
    .unwrap();
    assert_eq!(
        data,
        json!({"operation": "get_library_docs", "documentation": "### useEffect\n\nRuns after render.", "libraryId": "/facebook/react", "topic": "hooks"})
    );
    assert_eq!(
        vendor.take()[1].line,
        "GET /v2/context?type=txt&libraryId=%2Ffacebook%2Freact&query=hooks"
    );
}

#[tokio::test]
async fn an_n8n_webhook_gets_its_data_and_not_our_key() {
    let (vendor, address) = Vendor::start([
        ("POST /webhook/orders/new", json!([{"ok": true}])),
        ("GET /api/v1/workflows", json!({"data": [{"id": "w", "name": "Orders", "nodes": [
            {"type": "n8n-nodes-base.webhook", "parameters": {"path": "orders/new"}}, {"type": "other", "parameters": {}},
        ]}], "nextCursor": null})),
    ])
    .await;
    let catalog = catalog(address, &[]);
    let data = send(
        &catalog,
        r#"/mcp-n8n execute orders/new {"email": "a@b.c"}"#,
    )
    .await
    .unwrap();
    assert_eq!(
        (&data["items"], &data["path"]),
        (&json!([{"ok": true}]), &json!("orders/new"))
    );
    let seen = vendor.take();
    assert_eq!(seen[0].body, r#"{"email":"a@b.c"}"#);
    assert!(!format!("{:?}", seen[0].headers).contains("secret-of-ours"));
    let data = send(&catalog, "/mcp-workflow webhooks list").await.unwrap();
    assert_eq!(
        data["workflows"],
        json!([{"workflowId": "w", "workflowName": "Orders", "webhooks": [{"path": "orders/new"}]}])
    );
    assert_eq!(vendor.take()[0].headers["x-n8n-api-key"], "secret-of-ours");
    for path in ["../api/v1/workflows", "a/../../b", "a//b", "."] {
        let result = send(&catalog, &format!("/mcp-n8n execute {path}")).await;
        assert!(
            matches!(result, Err(HandlerError::Rejected { status: 400, .. })),
            "{path}: {result:?}"
        );
    }
    assert!(vendor.take().is_empty());
}

#[tokio::test]
async fn every_example_is_a_request() {
    let catalog = catalog("127.0.0.1:9".parse().unwrap(), &[]);
    for service in catalog.services() {
        for command in &service.commands {
            let parsed = catalog.command(
                service.name.as_str(),
                &command.name,
                command.example.clone(),
            );
            let Ok(Parsed::Command(parsed)) = parsed else {
                panic!("{} {}: {parsed:?}", service.name, command.name)
            };
            let preview = match catalog.preview(&parsed) {
                // Which buckets there are is configured, and here is nothing.
                Err(reason) if service.name.as_str() == "minio" => {
                    assert!(reason.contains("`MINIO_BUCKETS`"), "{reason}");
                    continue;
                }
                preview => preview.unwrap(),
            };
            let Some(preview) = preview else {
                // The agent's own machine does it.
                assert_eq!(service.location, "local", "{}", service.name);
                continue;
            };
            assert!(
                !format!("{preview:?}").contains("secret-of-ours"),
                "{preview:?}"
            );
        }
    }
}
