//! Every operation of the vendors without a document in a package registry: each is sent to
//! a server of ours, as `operations/*.yaml` says after the vendor's documentation. Request,
//! answer and what an agent gets of it must be exactly what stands there, and the command is
//! the same command however its arguments are given.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

#[path = "permit/everything.rs"]
mod everything;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
};

use authz::Command;
use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Uri},
};
use everything::PermitEverything;
use handlers::{Catalog, Parsed, catalog::CommandInfo};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vendor {
    /// As its documentation has it; what path it has stands in the requests, too.
    address: String,
    credential: Credential,
    /// Bodies are forms, and stand here as they are sent.
    #[serde(default)]
    form: bool,
    operations: Vec<Operation>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Credential {
    header: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Operation {
    /// As an agent types it, without the service.
    line: String,
    /// Asked before: whether something is the agent's own.
    before: Option<Exchange>,
    sends: String,
    body: Option<Value>,
    answers: Value,
    /// Further pages.
    #[serde(default)]
    further: Vec<Exchange>,
    gives: Value,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    sends: String,
    answers: Value,
}

/// What reached the server.
struct Seen {
    line: String,
    headers: HeaderMap,
    body: String,
}

/// Answers with what is laid out for it, in that order.
#[derive(Clone, Default)]
struct Server {
    answers: Arc<Mutex<VecDeque<Value>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Server {
    fn answer(&self, method: &Method, uri: &Uri, headers: HeaderMap, body: &Bytes) -> String {
        self.seen.lock().unwrap().push(Seen {
            line: format!("{method} {uri}"),
            headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        });
        match self.answers.lock().unwrap().pop_front() {
            Some(Value::String(text)) => text,
            Some(answer) => answer.to_string(),
            None => panic!("a request too many: {method} {uri}"),
        }
    }
}

#[tokio::test]
async fn every_operation_is_sent_and_answered_as_its_vendor_documents() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operations");
    let mut sent = BTreeMap::new();
    for service in [
        "airtable",
        "cloudflare",
        "context7",
        "firecrawl",
        "mem0",
        "stripe",
    ] {
        let text = std::fs::read_to_string(folder.join(format!("{service}.yaml"))).unwrap();
        let vendor: Vendor =
            serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{service}: {error}"));
        sent.insert(service, all_of(service, &vendor).await);
    }
    let expected = [
        ("airtable", 12),
        ("cloudflare", 15),
        ("context7", 3),
        ("firecrawl", 7),
        ("mem0", 10),
        ("stripe", 30),
    ];
    assert_eq!(sent.into_iter().collect::<Vec<_>>(), expected);
}

/// Sends all operations of a vendor; how many there are.
async fn all_of(service: &str, vendor: &Vendor) -> usize {
    let server = Server::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = Router::new()
        .fallback(
            |State(server): State<Server>,
             method: Method,
             uri: Uri,
             headers: HeaderMap,
             body: Bytes| async move { server.answer(&method, &uri, headers, &body) },
        )
        .with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });

    // With the path that the documentation says, at our server.
    let (_, rest) = vendor.address.split_once("://").unwrap();
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    let prefix = service.to_uppercase();
    let url = format!("http://{address}{path}");
    let catalog = Catalog::load(&|name| {
        let name = name.strip_prefix(&prefix)?;
        match name {
            "_API_URL" => Some(url.clone()),
            "_API_TOKEN" | "_API_KEY" | "_SECRET_KEY" => Some("secret-of-ours".to_owned()),
            _ => None,
        }
    })
    .unwrap();
    let everything = PermitEverything::new();

    let known = catalog.service(service).unwrap();
    let mut missing: BTreeSet<&str> = known
        .commands
        .iter()
        .map(|command| command.name.as_str())
        .collect();
    for operation in &vendor.operations {
        let at = format!("{service}: {}", operation.line);
        let command = parsed(&catalog, &format!("/mcp-{service} {}", operation.line));
        let info = known
            .commands
            .iter()
            .find(|info| info.target.key == command.target.key)
            .unwrap();
        missing.remove(info.name.as_str());
        same_however_given(&catalog, info, &command);

        let exchanges: Vec<Exchange> = operation
            .before
            .iter()
            .cloned()
            .chain([Exchange {
                sends: operation.sends.clone(),
                answers: operation.answers.clone(),
            }])
            .chain(operation.further.iter().cloned())
            .collect();
        let answers = exchanges.iter().map(|exchange| exchange.answers.clone());
        server.answers.lock().unwrap().extend(answers);
        let answer = catalog.handle(everything.permit(command)).await;
        let answer = answer.unwrap_or_else(|error| panic!("{at}: {error}"));
        assert_eq!(answer.data, operation.gives, "{at}");

        let seen = std::mem::take(&mut *server.seen.lock().unwrap());
        let lines: Vec<&str> = seen.iter().map(|seen| seen.line.as_str()).collect();
        let expected: Vec<&str> = exchanges
            .iter()
            .map(|exchange| exchange.sends.as_str())
            .collect();
        assert_eq!(lines, expected, "{at}");
        for seen in &seen {
            let credential = seen.headers.get(&vendor.credential.header);
            assert_eq!(
                credential.unwrap(),
                vendor.credential.value.as_str(),
                "{at}"
            );
        }
        let request = &seen[usize::from(operation.before.is_some())];
        let kind = request.headers.get("content-type");
        let kind = kind.map(|kind| kind.to_str().unwrap());
        match &operation.body {
            None => assert!(
                matches!(request.body.as_str(), "" | "{}"),
                "{at}: {}",
                request.body
            ),
            Some(Value::String(form)) => {
                assert!(vendor.form, "{at}");
                assert_eq!(kind, Some("application/x-www-form-urlencoded"), "{at}");
                assert_eq!(request.body, *form, "{at}");
            }
            Some(body) => {
                assert_eq!(kind, Some("application/json"), "{at}");
                let sent: Value = serde_json::from_str(&request.body).unwrap();
                assert_eq!(sent, *body, "{at}");
            }
        }
    }
    assert!(missing.is_empty(), "{service}: {missing:?}");
    vendor.operations.len() - repeated(&catalog, service, vendor)
}

/// How many operations are there more than once, with other arguments.
fn repeated(catalog: &Catalog, service: &str, vendor: &Vendor) -> usize {
    let names = vendor.operations.iter().map(|operation| {
        let command = parsed(catalog, &format!("/mcp-{service} {}", operation.line));
        command.target.key.name.to_string()
    });
    vendor.operations.len() - names.collect::<BTreeSet<_>>().len()
}

fn parsed(catalog: &Catalog, line: &str) -> Command {
    match catalog.parse_slash(line) {
        Ok(Parsed::Command(command)) => command,
        other => panic!("{line}: {other:?}"),
    }
}

/// By name or by position, in a line or in a body, it is one command: one digest.
fn same_however_given(catalog: &Catalog, info: &CommandInfo, command: &Command) {
    let values = command.arguments.values();
    let service = &info.target.key.service;
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let word = |value: &Value| match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    };
    let given = |values: &Map<String, Value>| {
        let named: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("--{name} {}", word(value)))
            .collect();
        let inline: Vec<String> = values
            .iter()
            .map(|(name, value)| format!("--{}={}", name.replace('_', "-"), word(value)))
            .collect();
        let line = |rest: &str| format!("/mcp-{service} {} {rest}", info.name);
        [line(&named.join(" ")), line(&inline.join(" "))]
    };
    let mut others: Vec<Command> = given(values)
        .iter()
        .map(|line| parsed(catalog, line))
        .collect();
    // All of them as one object; an object that comes first is taken for the argument that is one.
    let takes_object = info.arguments["required"]
        .as_array()
        .and_then(|required| required.first())
        .and_then(Value::as_str)
        .is_some_and(|name| info.arguments["properties"][name]["type"] == "object");
    if !takes_object {
        let line = format!("/mcp-{service} {} {}", info.name, json!(values));
        others.push(parsed(catalog, &line));
    }
    let in_body = |arguments: Value| {
        let parsed = catalog.command(service.as_str(), &info.name, arguments.clone());
        match parsed {
            Ok(Parsed::Command(command)) => command,
            other => panic!("{} {arguments}: {other:?}", info.name),
        }
    };
    others.push(in_body(json!(values)));
    // By position: those that must be given, in their order, and then by name in one object.
    let required = info.arguments["required"].as_array();
    let (mut list, mut rest) = (Vec::new(), values.clone());
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        list.push(rest.shift_remove(name).unwrap());
    }
    if rest.is_empty() {
        let line: Vec<String> = list.iter().map(word).collect();
        let line = format!("/mcp-{service} {} {}", info.name, line.join(" "));
        others.push(parsed(catalog, &line));
        others.push(in_body(json!(list)));
    }
    for other in others {
        assert_eq!(
            (&other.target.key, other.arguments.digest()),
            (&command.target.key, command.arguments.digest()),
            "{:?}",
            other.arguments
        );
    }
}
