//! The description of the gateway's own API: an OpenAPI 3.1 document.
//!
//! To add a route: name it in [`Route::every`] and describe it in `described`; the compiler
//! asks for the second, a test for the first. What every route of a group may answer
//! besides is added here. A fuzzer holds the document against the running gateway.
//! Endpoints of MCP are not in it: the protocol describes them.

use std::sync::LazyLock;

use authz::{AgentId, AgentRef, ApprovalRequestId, CommandKey, ServiceName};
use bytes::Bytes;
use contract::approvals::ApprovalSummary;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value, json};
use utoipa::{
    ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{
    answer::{Body, put},
    health::Shown,
    parse::RPC_METHODS,
    routes::Route,
    status::{Health, Info, Readiness, ServiceList},
};

const DESCRIPTION: &str = "\
The data plane: agents send commands here. Each is decided by policy, and carried out, refused, or \
put before people.

Errors are JSON-RPC errors, whatever was called: `error.code`, `error.message`, and in `error.data` \
what there is to know. Bodies that are sent may hold known members only.

`/mcp` and `/mcp/{service}` are endpoints of the Model Context Protocol, which describes them.";

/// The document as JSON.
#[must_use]
pub fn openapi() -> String {
    // Texts and numbers: it always serialises.
    serde_json::to_string_pretty(&document()).unwrap_or_default()
}

/// `GET /openapi.json`
pub(crate) fn serve() -> Response<Body> {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi().into());
    let mut response = Response::new(Body::new(DOCUMENT.clone()));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// What a document says of one route.
struct Described {
    summary: &'static str,
    open: bool,
    /// What varies in its path, and its schema.
    parameter: Option<(&'static str, Value)>,
    /// Whether `Prefer: wait=` keeps it waiting.
    waits: bool,
    body: Option<Value>,
    /// Whether its body is bytes, whatever they are.
    bytes: bool,
    /// What its query may say, what that is, and whether it must.
    query: Vec<(&'static str, &'static str, bool)>,
    /// What it answers when all goes well.
    answers: Value,
    /// Statuses, and what they mean here.
    besides: Vec<(&'static str, &'static str)>,
}

impl Described {
    /// Open to everyone.
    fn open(summary: &'static str, answers: Value) -> Self {
        Self {
            open: true,
            ..Self::agents(summary, answers)
        }
    }

    /// For agents.
    fn agents(summary: &'static str, answers: Value) -> Self {
        Self {
            summary,
            open: false,
            parameter: None,
            waits: false,
            body: None,
            bytes: false,
            query: Vec::new(),
            answers,
            besides: Vec::new(),
        }
    }
}

/// What may come of a command.
const OF_COMMANDS: [(&str, &str); 9] = [
    (
        "400",
        "Not JSON, not a request, or not a command; the message says which",
    ),
    (
        "403",
        "Policy refused; `error.data` says whether people have been asked",
    ),
    (
        "404",
        "No such service, command or method, or the service does not know what was named",
    ),
    ("409", "The service is in a state that forbids it"),
    ("413", "The body is too large"),
    ("415", "The body is not declared to be JSON"),
    (
        "429",
        "A limit has nothing left for it, or the service takes no more calls for now; `Retry-After` says when to come again",
    ),
    ("502", "The service failed, or the answer broke off"),
    (
        "503",
        "The service or the orchestrator is out of reach, or nothing can be recorded",
    ),
];

fn described(route: &Route) -> Described {
    let service = || Some(("name", reference(&ServiceName::name())));
    let request = || Some(("id", reference(&ApprovalRequestId::name())));
    let of_commands = || OF_COMMANDS.to_vec();
    match route {
        Route::Health => Described::open("Whether the process answers", reference(&Health::name())),
        Route::Ready => Described {
            besides: vec![("503", "They cannot; `checks` says why")],
            ..Described::open(
                "Whether commands can be decided, recorded and carried out",
                reference(&Readiness::name()),
            )
        },
        Route::Info => Described::open("What this is", reference(&Info::name())),
        Route::OpenApi => Described::open("This document", json!({"type": "object"})),
        Route::Catalog => Described::agents(
            "What there is for this agent; without a credential, the services alone",
            json!({"oneOf": [reference("Catalog"), reference(&ServiceList::name())]}),
        ),
        Route::Service(_) => Described {
            parameter: service(),
            besides: vec![("404", "There is no such service for this agent")],
            ..Described::agents(
                "One service",
                members(&json!({"service": reference("Service")})),
            )
        },
        Route::Execute => Described {
            waits: true,
            body: Some(reference("Execute")),
            besides: of_commands(),
            ..Described::agents("Have a command carried out", reference("Success"))
        },
        Route::Upload => Described {
            query: vec![
                (
                    "command",
                    "The command, such as `/mcp-minio files upload assets a.mp4 --size 7 --sha256 …`",
                    true,
                ),
                (
                    "reason",
                    "Why, for people who may have to approve it",
                    false,
                ),
            ],
            bytes: true,
            waits: true,
            besides: of_commands(),
            ..Described::agents(
                "Have a command carried out that comes with content: the body, read once the command is permitted",
                reference("Success"),
            )
        },
        Route::Rpc => Described {
            waits: true,
            body: Some(reference("Rpc")),
            besides: of_commands(),
            ..Described::agents(
                "The same, and questions about services, as JSON-RPC 2.0",
                reference("Success"),
            )
        },
        Route::Test(_) => Described {
            parameter: Some(("service", reference(&ServiceName::name()))),
            besides: of_commands(),
            ..Described::agents(
                "Carry out the `health` command of a service, under policy",
                members(&json!({
                    "service": reference(&ServiceName::name()), "status": {"const": "success"},
                    "result": {}, "timestamp": time(),
                })),
            )
        },
        Route::Approvals => Described::agents(
            "The open requests of this agent, newest first",
            members(&json!({"approvals": {"type": "array", "items": reference("Approval")}})),
        ),
        Route::Approval(_) => Described {
            parameter: request(),
            waits: true,
            besides: vec![("404", "This agent has no such request")],
            ..Described::agents(
                "Where a request of this agent stands",
                reference("Approval"),
            )
        },
        Route::Withdraw(_) => Described {
            parameter: request(),
            besides: vec![
                ("404", "This agent has no such request"),
                ("409", "It is decided already"),
            ],
            ..Described::agents("Take a request back", reference("Approval"))
        },
        Route::Metadata(_) | Route::Mcp(_) | Route::McpAll => Described::agents(
            "An endpoint of the Model Context Protocol, which describes it",
            json!({}),
        ),
    }
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in Route::every() {
        for path in route.paths() {
            let item = paths.entry(path).or_insert_with(|| json!({}));
            let method = route.method().as_str().to_ascii_lowercase();
            put(item, &method, operation(&route, path));
        }
    }
    let bearer =
        |description: &str| json!({"type": "http", "scheme": "bearer", "description": description});
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cedargate gateway",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "agent": bearer("A credential of an agent: `cgt_…`"),
                "key": {"type": "apiKey", "in": "header", "name": "X-MCP-Key", "description": "The same, as the older header"},
                "gateway": bearer("`MCP_GATEWAY_TOKEN`, with `X-Agent-Id`"),
            },
        },
    })
}

fn operation(route: &Route, path: &str) -> Value {
    let described = described(route);
    let mut parameters = Vec::new();
    if let Some((name, schema)) = described.parameter {
        parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
    }
    for (name, description, required) in described.query {
        parameters.push(json!({
            "name": name, "in": "query", "required": required, "schema": {"type": "string"},
            "description": description,
        }));
    }
    let mut may = described.besides;
    if !described.open {
        parameters.push(json!({
            "name": "X-Agent-Id", "in": "header", "schema": reference(&AgentRef::name()),
            "description": "Who calls; must agree with the credential",
        }));
        may.extend([
            (
                "400",
                "`X-Agent-Id` or a credential is given in a way that means nothing",
            ),
            ("401", "No credential, or none that is known"),
            ("403", "The credential is that of another agent"),
            (
                "429",
                "This agent sends more than it may; `Retry-After` says when to come again",
            ),
            (
                "503",
                "The orchestrator is out of reach, or too much is under way",
            ),
            ("504", "No answer in time"),
        ]);
    }
    if described.waits {
        parameters.push(json!({
            "name": "Prefer", "in": "header", "schema": {"type": "string", "examples": ["wait=5"]},
            "description": "`wait=N`: wait so many seconds for people, at most (RFC 7240)",
        }));
    }
    let mut responses = Map::new();
    let answer = |description: &str, schema: &Value| json!({"description": description, "content": {"application/json": {"schema": schema}}});
    responses.insert("200".to_owned(), answer("As asked", &described.answers));
    for (status, description) in may {
        let schema = match route {
            Route::Ready => described.answers.clone(),
            _ => reference("Error"),
        };
        responses
            .entry(status)
            .or_insert_with(|| answer(description, &schema));
    }
    let words = path
        .split(['/', '{', '}', '.'])
        .filter(|word| !word.is_empty());
    let id: Vec<_> = std::iter::once(route.method().as_str().to_ascii_lowercase())
        .chain(words.map(|word| word.replace('-', "_")))
        .collect();
    let mut operation = json!({
        "operationId": id.join("_"),
        "summary": described.summary,
        "responses": responses,
    });
    if !parameters.is_empty() {
        put(&mut operation, "parameters", parameters);
    }
    if let Some(body) = described.body {
        let content = json!({"application/json": {"schema": body}});
        put(
            &mut operation,
            "requestBody",
            json!({"required": true, "content": content}),
        );
    }
    if described.bytes {
        let content = json!({"application/octet-stream": {}});
        put(
            &mut operation,
            "requestBody",
            json!({"required": true, "content": content}),
        );
    }
    if !described.open {
        // The last: on loopback, while there is no gateway token.
        put(
            &mut operation,
            "security",
            json!([{"agent": []}, {"key": []}, {"gateway": []}, {}]),
        );
    }
    operation
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// An object with all of these members, and perhaps others.
fn members(properties: &Value) -> Value {
    let required: Vec<_> = properties
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .cloned()
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

/// An object that may have these members and no others.
fn only(required: &[&str], properties: &Value) -> Value {
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

/// A type and everything that it refers to.
fn add<T: ToSchema>(schemas: &mut Map<String, Value>) {
    let mut found: Vec<(String, RefOr<Schema>)> = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        // Texts and numbers: it always serialises.
        schemas.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}

fn schemas() -> Value {
    let mut schemas = Map::new();
    add::<Health>(&mut schemas);
    add::<Readiness>(&mut schemas);
    add::<Info>(&mut schemas);
    add::<ServiceList>(&mut schemas);
    add::<ApprovalSummary>(&mut schemas);
    add::<AgentId>(&mut schemas);
    add::<AgentRef>(&mut schemas);
    add::<CommandKey>(&mut schemas);
    add::<Shown>(&mut schemas);
    let mut named = |name: &str, schema| schemas.insert(name.to_owned(), schema);
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    let count = || json!({"type": "integer", "minimum": 0});

    named(
        "Approval",
        json!({"allOf": [
            reference(&ApprovalSummary::name()),
            members(&json!({"url": {"type": "string", "description": "Where people log in and decide it"}})),
        ]}),
    );
    named(
        "Error",
        members(&json!({
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "number", "null"]},
            "error": members(&json!({
                "code": {"type": "integer"}, "message": text(), "data": reference("ErrorData"),
            })),
        })),
    );
    named("ErrorData", error_data());
    named(
        "Success",
        members(&json!({
            "jsonrpc": {"const": "2.0"},
            "id": {"type": ["string", "number"]},
            "result": {
                "type": "object", "required": ["status", "data"],
                "properties": {
                    "status": {"const": "success"}, "data": {},
                    "metadata": members(&json!({
                        "executionTime": count(), "service": reference(&ServiceName::name()),
                        "operation": text(), "timestamp": time(), "decision_id": text(),
                    })),
                },
            },
        })),
    );
    let service = json!({
        "name": reference(&ServiceName::name()), "version": text(), "description": text(),
        "location": {"enum": ["server", "local"]}, "status": text(),
        "health": reference(&Shown::name()),
    });
    let mut in_catalog = service.clone();
    put(&mut in_catalog, "capabilities", texts());
    put(
        &mut in_catalog,
        "handler",
        json!({"type": ["object", "null"], "properties": {"capabilities": {"type": "array", "items": reference("Capability")}}}),
    );
    let mut alone = service;
    put(
        &mut alone,
        "capabilities",
        json!({"type": "array", "items": reference("Capability")}),
    );
    named("Service", members(&alone));
    named(
        "Capability",
        members(&json!({
            "name": text(), "description": text(), "usage": text(), "risk": reference("Risk"),
            "requiresAuth": {"type": "boolean"},
            "parameters": {"type": "array", "items": members(&json!({
                "name": text(), "type": {"type": ["string", "array"]}, "description": text(), "required": {"type": "boolean"},
            }))},
        })),
    );
    named(
        "Catalog",
        members(&json!({
            "version": text(), "timestamp": time(),
            "services": {"type": "array", "items": members(&in_catalog)},
            "statistics": members(&json!({
                "total": count(), "active": count(), "inactive": count(), "error": count(),
                "serverSide": count(), "local": count(), "services": {"type": "array"},
            })),
        })),
    );
    let (execute, rpc) = bodies();
    named("Execute", execute);
    named("Rpc", rpc);
    add::<authz::Risk>(&mut schemas);
    add::<ServiceName>(&mut schemas);
    add::<ApprovalRequestId>(&mut schemas);
    Value::Object(schemas)
}

/// What an error says besides code and message: some of this.
fn error_data() -> Value {
    let text = || json!({"type": "string"});
    let texts = || json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "properties": {
            "service": text(), "operation": text(), "agentId": reference(&AgentId::name()),
            "decision_id": {"type": "string", "description": "Names the decision in the audit trail"},
            "outcome": {"enum": ["refused", "pending", "rejected", "unknown"]},
            "retryable": {"type": "boolean"},
            "retry_after_seconds": {"type": "integer", "minimum": 0},
            "asking_helps": {"type": "boolean", "description": "Whether any approval could change the answer"},
            "policies": texts(), "permitted_by_approval": texts(), "advice": texts(),
            "policy_set": text(), "reason": text(), "message": text(),
            "request_id": reference(&ApprovalRequestId::name()),
            "approval": reference("Approval"),
            "identifier": {"type": "string", "description": "What a limit is of"},
            "limit": {"type": "integer", "minimum": 1, "description": "How many calls, or bytes"},
            "windowMs": {"type": "integer", "minimum": 1}, "resets_at": time(),
            "problems": texts(), "usage": text(), "nearest": {"type": ["string", "null"]},
        },
    })
}

/// What `/execute` and `/mcp/rpc` take.
fn bodies() -> (Value, Value) {
    let id = json!({"type": ["string", "number", "null"], "description": "Echoed"});
    let reason = json!({"type": "string", "description": "Why, for the people who may be asked"});
    let database = json!({"type": "string", "description": "Of services that have several: as the argument of this name"});
    let options = json!({
        "type": ["object", "null"], "properties": {"reason": {"type": "string"}},
        "description": "`reason`, and further arguments by name",
    });
    let arguments = json!({"type": ["object", "array", "null"]});
    let line = only(
        &["command"],
        &json!({
            "command": {"type": "string", "examples": ["/mcp-coolify servers list"]},
            "id": id, "reason": reason, "options": options,
        }),
    );
    let fields = only(
        &["service", "operation"],
        &json!({
            "service": {"type": "string", "examples": ["coolify"]},
            "operation": {"type": "string", "examples": ["list-servers"]},
            "args": arguments, "arguments": arguments, "database": database,
            "id": id, "reason": reason, "options": options,
        }),
    );
    let rpc = only(
        &["jsonrpc", "method", "id"],
        &json!({
            "jsonrpc": {"const": "2.0"}, "method": {"enum": RPC_METHODS},
            "id": {"type": ["string", "number"]},
            "params": {
                "type": ["object", "null"],
                "description": "Of `mcp.execute`: `service`, `operation`, `args`; of `mcp.getCapabilities`: `service`",
                "properties": {
                    "service": {"type": "string"}, "operation": {"type": "string"},
                    "args": arguments, "arguments": arguments, "database": database, "options": options, "reason": reason,
                },
                "additionalProperties": false,
            },
        }),
    );
    (json!({"oneOf": [line, fields]}), rpc)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use http::Method;

    use super::*;

    const METHODS: [Method; 7] = [
        Method::GET,
        Method::PUT,
        Method::POST,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
        Method::TRACE,
    ];

    /// Its place in [`Route::every`]; a new route asks for one.
    fn place(route: &Route) -> usize {
        match route {
            Route::Health => 0,
            Route::Ready => 1,
            Route::Info => 2,
            Route::OpenApi => 3,
            Route::Catalog => 4,
            Route::Service(_) => 5,
            Route::Execute => 6,
            Route::Upload => 7,
            Route::Rpc => 8,
            Route::Test(_) => 9,
            Route::Approvals => 10,
            Route::Approval(_) => 11,
            Route::Withdraw(_) => 12,
            // The protocol describes them.
            Route::Metadata(_) | Route::Mcp(_) | Route::McpAll => usize::MAX,
        }
    }

    #[test]
    fn every_route_is_documented_and_every_documented_route_is_there() {
        let every = Route::every();
        let places: Vec<_> = every.iter().map(place).collect();
        assert_eq!(places, (0..every.len()).collect::<Vec<_>>());

        let document = document();
        let mut documented = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            let concrete = path.replace("{name}", "a").replace("{service}", "a");
            let concrete = concrete.replace("{id}", "a");
            let item = item.as_object().unwrap();
            for method in METHODS {
                let found = Route::find(&method, &concrete);
                let there = item.contains_key(&method.as_str().to_ascii_lowercase());
                assert_eq!(found.is_ok(), there, "{method} {path}: {found:?}");
                if let Ok(route) = found {
                    assert_eq!(route.method(), method, "{path}");
                    assert!(route.paths().contains(&path.as_str()), "{path}: {route:?}");
                    documented.insert(place(&route));
                }
            }
        }
        assert_eq!(documented.len(), every.len());
    }

    #[test]
    fn what_is_referred_to_is_there_and_what_is_there_says_what_it_is() {
        let document = document();
        for reference in document.to_string().split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer}");
        }
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(operation["summary"].as_str().unwrap().len() > 5, "{at}");
                assert!(ids.insert(operation["operationId"].to_string()), "{at}");
                let open = ["/health", "/ready", "/info", "/openapi.json"];
                assert_eq!(
                    operation["security"].is_null(),
                    open.contains(&path.as_str()),
                    "{at}"
                );
                let parameters = operation["parameters"].as_array().into_iter().flatten();
                let named = parameters.filter(|it| it["in"] == "path").count();
                assert_eq!(named, path.matches('{').count(), "{at}");
            }
        }
    }
}
