use proptest::prelude::*;
use serde_json::json;

use super::*;

fn document(paths: &Value) -> Value {
    json!({
        "openapi": "3.1.0", "info": {"title": "Pet Store", "version": "2"},
        "servers": [{"url": "https://pets.example.com/v1"}],
        "paths": paths,
    })
}

fn imported_with(document: &Value, options: &Options) -> (Value, Report) {
    let imported = import(&document.to_string(), options).unwrap();
    let table: toml::Table = toml::from_str(&imported.text).unwrap();
    (serde_json::to_value(table).unwrap(), imported.report)
}

fn imported(document: &Value) -> (Value, Report) {
    imported_with(document, &Options::default())
}

fn refused_with(document: &Value, options: &Options) -> String {
    let error = import(&document.to_string(), options).unwrap_err();
    error.to_string()
}

/// The one command of a document with one operation.
fn command(method: &str, path: &str, operation: &Value) -> Value {
    let (table, _) = imported(&document(&json!({path: {method: operation}})));
    table["commands"][0].clone()
}

/// Why the one operation of a document is left out.
fn left_out(method: &str, path: &str, operation: &Value) -> String {
    refused_with(
        &document(&json!({path: {method: operation}})),
        &Options::default(),
    )
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn a_document_becomes_a_description() {
    let mut document = document(&json!({
        "/pets": {
            "parameters": [{"name": "X-Tenant", "in": "header", "schema": {"type": "string"}}],
            "get": {
                "operationId": "listPets", "summary": "All the pets\u{202e}\nthat there are",
                "parameters": [
                    {"name": "status[]", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "kinds", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                    {"name": "ids", "in": "query", "explode": false, "schema": {"type": "array", "items": {"type": "integer"}}},
                    {"name": "page", "in": "query", "schema": {"type": "integer"}},
                    {"name": "per_page", "in": "query", "schema": {"type": "integer", "maximum": 50}},
                ],
                "responses": {"200": {"description": "", "content": {"application/json": {"schema": {"type": "array", "items": {}}}}}},
            },
            "post": {
                "operationId": "createPet",
                "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}},
                "responses": {"201": {"$ref": "#/components/responses/Pet"}},
            },
        },
        "/pets/{petId}": {"delete": {
            "parameters": [{"name": "petId", "in": "path", "required": true, "schema": {"type": "integer", "minimum": 1}}],
            "responses": {"204": {"description": ""}},
        }},
    }));
    document["components"] = json!({
        "schemas": {"Pet": {
            "type": "object", "required": ["name", "id"], "properties": {
                "id": {"type": "integer", "readOnly": true},
                "name": {"type": "string", "minLength": 2, "maxLength": 40, "pattern": "^[A-Z]", "examples": ["Rex"]},
                "kind": {"type": "string", "enum": ["cat", "dog"], "default": "cat"},
                "age": {"type": ["integer", "null"], "description": "In years"},
                "secret": {"type": "string", "format": "password"},
                "mother": {"$ref": "#/components/schemas/Pet"},
            },
        }},
        "responses": {"Pet": {"description": "", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}}}},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    });
    document["security"] = json!([{"key": []}]);
    let (table, report) = imported(&document);
    assert_eq!(table["name"], "pet-store");
    assert_eq!(
        table["address"],
        json!({"variable": "PET_STORE_API_URL", "default": "https://pets.example.com", "suffix": "/v1"})
    );
    assert_eq!(
        table["credential"],
        json!({"variable": "PET_STORE_API_KEY", "header": "X-Key"})
    );
    let commands = json!([
        {
            "name": "list-pets", "phrase": "list pets", "summary": "All the pets that there are",
            "risk": "read", "request": "GET /pets",
            "pages": {"by": "page", "parameter": "page", "size": "per_page", "size_max": 50},
            "arguments": [
                {"name": "status", "as": "status[]", "type": "array", "items": "string", "description": "status"},
                {"name": "kinds", "type": "array", "items": "string", "written": "repeated", "description": "kinds"},
                {"name": "ids", "type": "array", "items": "integer", "written": "commas", "description": "ids"},
                {"name": "X-Tenant", "in": "header", "description": "x tenant"},
            ],
            "answer": {"list": "pets"},
        },
        {
            "name": "create-pet", "phrase": "create pet", "summary": "create pet", "risk": "write",
            "request": "POST /pets",
            "arguments": [
                {"name": "name", "required": true, "max_length": 40, "pattern": "^[A-Z]", "schema": {"minLength": 2}, "description": "name"},
                {"name": "X-Tenant", "in": "header", "description": "x tenant"},
                {"name": "kind", "options": ["cat", "dog"], "description": "kind (default: cat)"},
                {"name": "age", "type": "integer", "nullable": true, "description": "In years"},
                {"name": "secret", "secret": true, "schema": {"format": "password"}, "description": "secret"},
                {"name": "mother", "type": "object", "description": "mother", "schema": {
                    "required": ["name"],
                    "properties": {
                        "name": {"type": "string", "minLength": 2, "maxLength": 40, "pattern": "^[A-Z]"},
                        "kind": {"type": "string", "enum": ["cat", "dog"]},
                        "age": {"type": ["integer", "null"], "description": "In years"},
                        "secret": {"type": "string", "format": "password"},
                        "mother": {},
                    },
                }},
            ],
            "answer": {"object": "pet", "list_as": "items"}, "example": {"name": "Rex"},
        },
        {
            "name": "delete-pet", "phrase": "pet delete", "summary": "pet delete", "risk": "destroy",
            "request": "DELETE /pets/{petId}", "idempotent": true,
            "arguments": [{"name": "petId", "type": "integer", "minimum": 1, "description": "pet id"}],
            "answer": {"merge": true, "list_as": "items"}, "example": {"petId": 1},
        },
    ]);
    for (made, expected) in table["commands"]
        .as_array()
        .unwrap()
        .iter()
        .zip(commands.as_array().unwrap())
    {
        assert_eq!(made, expected);
    }
    assert_eq!(report.commands, 3);
    assert_eq!(
        report.simplified,
        [Group {
            why: "has a schema that contains itself: checked down to there".to_owned(),
            operations: vec!["createPet (POST /pets)".to_owned()],
        }]
    );
}

#[test]
fn what_is_no_document_is_refused_and_says_why() {
    let cases = [
        ("", "it is empty"),
        ("  \n<!DOCTYPE html><html>", "web page"),
        ("{\"openapi\": ", "not valid JSON"),
        ("{\"a\": {\"openapi\": \"3.1.0\"}}", "it has no `openapi`"),
        ("openapi: 3.0.0\n  bad: [", "not valid YAML"),
        ("just some words", "neither JSON nor YAML"),
        ("[1, 2]", "it is no object"),
        ("swagger: '2.0'\ninfo: {}\n", "Swagger 2.0"),
        ("{\"swagger\": \"2.0\", \"paths\": {}}", "swagger2openapi"),
        ("openapi: 4.0.0\npaths: {}", "OpenAPI `4.0.0`"),
        ("openapi: 3.2.0\npaths: {}", "only 3.0 and 3.1"),
        ("openapi: '3.1'\n", "it has no `paths`"),
        ("openapi: 3.1\npaths: {}", "no operation of this document"),
        (
            "a: &a [x]\nb: &b [*a, *a]\nopenapi: 3.0.0",
            "it has no `paths`",
        ),
    ];
    for (text, expected) in cases {
        let error = import(text, &Options::default()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let long = " ".repeat(MAX_DOCUMENT_BYTES + 1);
    let error = import(&long, &Options::default()).unwrap_err();
    assert!(matches!(error, ImportError::TooLong { .. }), "{error}");
    let deep = format!(
        "{{\"openapi\": \"3.1.0\", \"paths\": {}",
        "[".repeat(100_000)
    );
    let error = import(&deep, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("recursion limit"), "{error}");
    let bomb = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
        .chain((1..12).map(|n| {
            let alias = format!("*a{}", n - 1);
            format!("a{n}: &a{n} [{}]\n", [alias.as_str(); 10].join(", "))
        }))
        .collect::<String>();
    let error = import(&bomb, &Options::default()).unwrap_err().to_string();
    assert!(error.contains("not valid YAML"), "{error}");
}

#[test]
fn yaml_with_numbers_as_keys_is_read() {
    let text = "openapi: 3.0.3\ninfo: {title: Things, version: 1.0}\npaths:\n  /things:\n    get:\n      responses:\n        200:\n          description: ok\n          content: {application/json: {schema: {type: array, items: {}}}}\n";
    let imported = import(text, &Options::default()).unwrap();
    assert!(
        imported.text.contains("answer = { list = \"things\" }"),
        "{}",
        imported.text
    );
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn what_cannot_be_a_command_is_left_out_and_says_why() {
    let json_body = |schema: Value| json!({"requestBody": {"required": true, "content": {"application/json": {"schema": schema}}}});
    let cases = [
        (
            left_out("get", "pets", &json!({})),
            "does not begin with `/`",
        ),
        (
            left_out("get", "/pets?x=1", &json!({})),
            "a query or fragment",
        ),
        (left_out("get", "/a b", &json!({})), "characters"),
        (left_out("get", "/a//b", &json!({})), "characters"),
        (left_out("get", "/a/../b", &json!({})), "`.` or `..`"),
        (
            left_out(
                "get",
                "/a/{b}{c}",
                &json!({"parameters": [{"name": "b", "in": "path"}, {"name": "c", "in": "path"}]}),
            ),
            "nothing between them",
        ),
        (left_out("get", "/a/b}", &json!({})), "other braces"),
        (
            left_out("get", "/a/{b}", &json!({})),
            "parameters that are not described",
        ),
        (
            left_out("head", "/a", &json!({})),
            "a method that a description cannot have",
        ),
        (
            left_out("get", "/a", &json!({"deprecated": true})),
            "is deprecated",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"responses": {"302": {"description": ""}}}),
            ),
            "a redirect",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"responses": {"200": {"content": {"image/png": {}}}}}),
            ),
            "answers with image/png",
        ),
        (
            left_out(
                "post",
                "/a",
                &json!({"responses": {"200": {"content": {"text/html": {}}}}}),
            ),
            "answers with text/html",
        ),
        (
            left_out(
                "post",
                "/a",
                &json!({"requestBody": {"required": true, "content": {"multipart/form-data": {}}}}),
            ),
            "is sent multipart/form-data",
        ),
        (
            left_out("get", "/a", &json_body(json!({}))),
            "a GET request with a body",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"parameters": [{"name": "c", "in": "cookie", "required": true}]}),
            ),
            "needs a cookie",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"parameters": [{"$ref": "other.yaml#/x"}]}),
            ),
            "another file",
        ),
        (
            left_out("get", "/a", &json!({"parameters": [{"$ref": "#/nowhere"}]})),
            "not in the document",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"parameters": [{"name": "Host", "in": "header", "required": true}]}),
            ),
            "a header that no agent may set",
        ),
        (
            left_out(
                "get",
                "/a/{b}",
                &json!({"parameters": [{"name": "b", "in": "path", "schema": {"type": "array"}}]}),
            ),
            "a list or an object in its path",
        ),
        (
            left_out(
                "get",
                "/a",
                &json!({"servers": [{"url": "https://elsewhere.example.com"}]}),
            ),
            "another server",
        ),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let whole = document(&json!({"/a": {"$ref": "https://example.com/a.yaml"}, "/b": {"get": {}}}));
    let (_, report) = imported(&whole);
    assert_eq!(report.left_out[0].operations, ["/a"]);
}

#[test]
fn references_that_go_round_end() {
    let mut cyclic = document(
        &json!({"/a": {"post": {"requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/A"},
        }}}}}}),
    );
    cyclic["components"]["schemas"] = json!({
        "A": {"$ref": "#/components/schemas/B"},
        "B": {"$ref": "#/components/schemas/A"},
    });
    let (table, report) = imported(&cyclic);
    assert_eq!(table["commands"][0]["arguments"][0]["type"], "any");
    assert!(report.simplified[0].why.contains("contains itself"));

    cyclic["components"]["schemas"] = json!({
        "A": {"type": "object", "properties": {"next": {"$ref": "#/components/schemas/A"}, "all": {"allOf": [{"$ref": "#/components/schemas/A"}]}}},
    });
    let (table, _) = imported(&cyclic);
    let arguments = table["commands"][0]["arguments"].as_array().unwrap();
    assert_eq!(arguments.len(), 2);
    let path = document(&json!({"/a": {"$ref": "#/paths/~1a"}, "/b": {"get": {}}}));
    let (_, report) = imported(&path);
    assert_eq!(report.left_out[0].why, "refers to itself");
}

#[test]
fn a_schema_that_is_wide_and_deep_is_cut() {
    let mut wide = document(
        &json!({"/a": {"post": {"requestBody": {"content": {"application/json": {
            "schema": {"type": "object", "properties": {"tree": {"$ref": "#/components/schemas/L0"}}},
        }}}}}}),
    );
    for level in 0..20 {
        let next = json!({"$ref": format!("#/components/schemas/L{}", level + 1)});
        let properties: serde_json::Map<String, Value> = (0..30)
            .map(|number| (format!("p{number}"), next.clone()))
            .collect();
        wide["components"]["schemas"][format!("L{level}")] =
            json!({"type": "object", "properties": properties});
    }
    wide["components"]["schemas"]["L20"] = json!({"type": "string"});
    let imported = import(&wide.to_string(), &Options::default()).unwrap();
    assert!(imported.text.len() < 100_000, "{}", imported.text.len());
    assert!(imported.report.simplified[0].why.contains("deep or large"));
}

#[test]
fn arguments_keep_apart_what_the_document_keeps_apart() {
    let made = command(
        "post",
        "/pets/{id}",
        &json!({
            "parameters": [
                {"name": "id", "in": "path", "required": true, "schema": {"type": "string"}},
                {"name": "id", "in": "query", "schema": {"type": "string"}},
                {"name": "filter[name]", "in": "query", "schema": {"type": "string"}},
                {"name": "where", "in": "query", "content": {"application/json": {"schema": {"type": "object"}}}},
                {"name": "deep", "in": "query", "style": "deepObject", "schema": {"type": "object"}},
                {"name": "state", "in": "query", "schema": {"oneOf": [{"type": "string"}, {"type": "integer"}]}},
            ],
            "requestBody": {"content": {"application/json": {"schema": {"type": "object", "properties": {
                "id": {"type": "string"}, "\u{fc}": {"type": "string"}, "size": {"enum": [1, 2]},
            }}}}},
        }),
    );
    let named: Vec<(&str, Option<&str>, Option<&str>)> = made["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|argument| {
            let text = |key: &str| argument.get(key).and_then(Value::as_str);
            (text("name").unwrap(), text("as"), text("type"))
        })
        .collect();
    assert_eq!(
        named,
        [
            ("id", None, None),
            ("query_id", Some("id"), None),
            ("filter_name", Some("filter[name]"), None),
            ("where", None, Some("object")),
            ("deep", None, Some("object")),
            ("state", None, None),
            ("body_id", Some("id"), None),
            ("value", Some("\u{fc}"), None),
            ("size", None, Some("any")),
        ]
    );
    assert_eq!(made["arguments"][3]["written"], "json");
}

#[test]
fn bodies_of_every_shape() {
    let body = |schema: Value| {
        command(
            "post",
            "/a",
            &json!({"requestBody": {"required": true, "content": {"application/json": {"schema": schema}}}}),
        )
    };
    let list = body(json!({"type": "array", "items": {"type": "integer"}}));
    assert_eq!(
        (&list["body"], &list["arguments"][0]),
        (
            &json!("{body}"),
            &json!({"name": "body", "type": "array", "required": true, "items": "integer", "description": "body"})
        )
    );
    let open = body(json!({"type": "object", "additionalProperties": {"type": "string"}}));
    assert_eq!(
        open["arguments"][0]["schema"]["additionalProperties"],
        json!({"type": "string"})
    );
    let either = body(json!({"oneOf": [
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
        {"type": "object", "required": ["b"], "properties": {"b": {"type": "string"}}},
    ]}));
    assert_eq!(either["arguments"][0]["name"], "body");
    assert_eq!(
        either["arguments"][0]["schema"]["anyOf"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let one = body(json!({
        "type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    }));
    assert_eq!(one["at_least_one"], json!([["a", "b"]]));
    let several = body(json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}, "c": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b", "c"]}, {"required": ["gone"]}],
    }));
    assert_eq!(several["at_least_one"], json!([["a", "b"], ["a", "c"]]));
    let together = body(json!({"allOf": [
        {"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}},
        {"type": "object", "properties": {"b": {"type": "boolean"}}},
    ]}));
    let names: Vec<&Value> = together["arguments"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| &a["name"])
        .collect();
    assert_eq!(names, ["a", "b"]);
    let form = command(
        "post",
        "/a",
        &json!({"requestBody": {"content": {"application/x-www-form-urlencoded": {"schema": {"type": "object", "properties": {"a": {"type": "string"}}}}}}}),
    );
    assert_eq!(form["body_format"], "form");
    let schema = json!({"schema": {"type": "object", "properties": {"a": {"type": "string"}}}});
    let patch = json!({"requestBody": {"content": {"application/merge-patch+json": schema}}});
    assert_eq!(command("patch", "/a", &patch)["body_format"], "merge-patch");
    let both = json!({"requestBody": {"content": {
        "application/merge-patch+json": schema, "application/json": schema}}});
    assert_eq!(command("patch", "/a", &both).get("body_format"), None);
}

#[test]
fn a_segment_may_hold_several_parameters() {
    let parameter = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let made = command(
        "get",
        "/compare/{base}...{head}.diff",
        &json!({"parameters": [parameter("base"), parameter("head")]}),
    );
    assert_eq!(made["request"], "GET /compare/{base}...{head}.diff");
}

#[test]
fn what_no_engine_can_use_is_not_checked() {
    let made = command(
        "get",
        "/a",
        &json!({"parameters": [
            {"name": "a", "in": "query", "schema": {"type": "string", "pattern": "(", "minLength": "x", "maxLength": -1}},
            {"name": "b", "in": "query", "schema": {"type": "number", "minimum": 1.5, "maximum": 1e30, "multipleOf": 0}},
            {"name": "c", "in": "query", "schema": {"type": "unknown", "enum": []}},
        ]}),
    );
    assert_eq!(
        made["arguments"],
        json!([
            {"name": "a", "description": "a"},
            {"name": "b", "type": "number", "schema": {"minimum": 1.5, "maximum": 1e30}, "description": "b"},
            {"name": "c", "description": "c"},
        ])
    );
}

#[test]
fn credentials_follow_from_the_security_schemes() {
    let with = |schemes: Value, security: Value| {
        let mut document = document(&json!({"/a": {"get": {}}}));
        document["components"]["securitySchemes"] = schemes;
        document["security"] = security;
        imported(&document)
    };
    let one = |scheme: Value| with(json!({"it": scheme}), json!([{"it": []}])).0;
    let bearer =
        json!({"variable": "PET_STORE_TOKEN", "header": "Authorization", "prefix": "Bearer "});
    assert_eq!(
        one(json!({"type": "http", "scheme": "Bearer"}))["credential"],
        bearer
    );
    assert_eq!(
        one(json!({"type": "oauth2", "flows": {}}))["credential"],
        bearer
    );
    assert_eq!(
        one(json!({"type": "http", "scheme": "basic"}))["credential"],
        json!({"variable": "PET_STORE_PASSWORD", "basic_user_variable": "PET_STORE_USER"})
    );
    let (table, report) = with(
        json!({"it": {"type": "apiKey", "in": "query", "name": "key"}}),
        json!([{"it": []}]),
    );
    assert_eq!(
        table["credential"],
        json!({"variable": "PET_STORE_API_KEY", "query": "key"})
    );
    assert!(report.remarks[0].contains("logs"), "{:?}", report.remarks);
    let (table, _) = with(
        json!({"id": {"type": "apiKey", "in": "header", "name": "X-Id"}, "key": {"type": "apiKey", "in": "header", "name": "X-Key"}}),
        json!([{"id": [], "key": []}]),
    );
    assert_eq!(
        table["credentials"],
        json!([{"variable": "PET_STORE_ID_API_KEY", "header": "X-Id"}, {"variable": "PET_STORE_KEY_API_KEY", "header": "X-Key"}])
    );
    let (table, _) = with(
        json!({"it": {"type": "http", "scheme": "bearer"}}),
        json!([{"it": []}, {}]),
    );
    assert_eq!(table["credential"]["optional"], true);
    let (table, report) = with(json!({}), json!([]));
    assert_eq!(table.get("credential"), None);
    assert!(
        report.remarks[0].contains("no credential"),
        "{:?}",
        report.remarks
    );
}

#[test]
fn operations_with_another_credential_are_left_out_and_open_ones_go_without() {
    let mut document = document(&json!({
        "/a": {"get": {}}, "/b": {"get": {}},
        "/admin": {"get": {"security": [{"admin": []}]}},
        "/open": {"get": {"security": []}},
    }));
    document["security"] = json!([{"user": []}]);
    document["components"]["securitySchemes"] = json!({
        "user": {"type": "http", "scheme": "bearer"}, "admin": {"type": "http", "scheme": "basic"},
    });
    let (table, report) = imported(&document);
    assert_eq!(table["commands"][2]["without_credential"], true);
    assert_eq!(
        report.left_out[0].why,
        "wants another credential than the others: admin"
    );
    let options = Options {
        security: Some("admin".to_owned()),
        ..Options::default()
    };
    let (table, report) = imported_with(&document, &options);
    assert_eq!(table["credential"]["basic_user_variable"], "PET_STORE_USER");
    assert_eq!(
        (report.commands, report.left_out[0].operations.len()),
        (2, 2)
    );
    let options = Options {
        security: Some("root".to_owned()),
        ..Options::default()
    };
    assert!(refused_with(&document, &options).contains("`admin`"));
}

#[test]
fn addresses_follow_from_the_servers() {
    let with = |servers: Value, origin: Option<&str>| {
        let mut document = document(&json!({
            "/a": {"get": {}},
            "/b": {"servers": [{"url": "https://x.example.com/other"}], "get": {}},
        }));
        document["servers"] = servers;
        let options = Options {
            origin: origin.map(|origin| origin.parse().unwrap()),
            ..Options::default()
        };
        imported_with(&document, &options)
    };
    let (table, _) = with(
        json!([{"url": "https://x.example.com/v{n}/", "variables": {"n": {"default": "2"}}}]),
        None,
    );
    assert_eq!(
        table["address"],
        json!({"variable": "PET_STORE_API_URL", "default": "https://x.example.com", "suffix": "/v2", "others": {"part-1": "/other"}})
    );
    assert_eq!(table["commands"][1]["address"], "part-1");
    let (table, report) = with(
        json!([{"url": "/api"}]),
        Some("https://y.example.com/docs/openapi.json"),
    );
    assert_eq!(table["address"]["default"], "https://y.example.com");
    assert_eq!(table["address"]["suffix"], "/api");
    assert_eq!(report.left_out[0].operations, ["GET /b"]);
    for unusable in [
        json!([{"url": "/api"}]),
        json!([{"url": "https://user:password@x.example.com"}]),
        json!([{"url": "https://{region}.example.com"}]),
        json!([{"url": "file:///etc"}]),
        json!([{"url": 7}]),
    ] {
        let (table, report) = with(unusable.clone(), None);
        assert_eq!(
            table["address"],
            json!({"variable": "PET_STORE_API_URL"}),
            "{unusable}"
        );
        let said = |remark: &String| remark.contains("set `PET_STORE_API_URL`");
        assert!(report.remarks.iter().any(said), "{unusable}");
    }
}

#[test]
fn pages_follow_from_parameters_and_answers() {
    let list = |parameters: Value, schema: Value| {
        command(
            "get",
            "/pets",
            &json!({"parameters": parameters, "responses": {"200": {"description": "", "content": {"application/json": {"schema": schema}}}}}),
        )
    };
    let query =
        |name: &str, kind: &str| json!({"name": name, "in": "query", "schema": {"type": kind}});
    let array = json!({"type": "array", "items": {}});
    let cursor = list(
        json!([query("cursor", "string"), query("limit", "integer")]),
        json!({"type": "object", "properties": {
            "data": array, "meta": {"type": "object", "properties": {"next_cursor": {"type": "string"}}},
        }}),
    );
    assert_eq!(
        (&cursor["pages"], &cursor["answer"]),
        (
            &json!({"by": "cursor", "parameter": "cursor", "size": "limit", "next": "meta.next_cursor"}),
            &json!({"list": "pets", "at": "data"})
        )
    );
    let offset = list(
        json!([query("offset", "integer"), query("limit", "integer")]),
        json!({"type": "object", "properties": {"pets": array, "tags": array, "has_more": {"type": "boolean"}}}),
    );
    assert_eq!(
        offset["pages"],
        json!({"by": "offset", "parameter": "offset", "size": "limit", "more": "has_more"})
    );
    assert_eq!(offset["answer"], json!({"list": "pets", "at": "pets"}));
    // Nothing says where the next page begins, or how long one is.
    for parameters in [
        json!([query("cursor", "string"), query("limit", "integer")]),
        json!([query("page", "integer")]),
        json!([query("page", "string"), query("per_page", "integer")]),
        json!([
            query("page", "integer"),
            query("per_page", "integer"),
            query("limit", "string")
        ]),
    ] {
        let made = list(parameters.clone(), array.clone());
        assert_eq!(made.get("pages"), None, "{parameters}");
    }
}

#[test]
fn only_what_is_asked_for() {
    let document = document(&json!({
        "/teams": {"get": {"operationId": "listTeams", "tags": ["Teams"]}},
        "/teams/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": true}],
            "get": {"operationId": "getTeam", "tags": ["Teams"]}, "delete": {"deprecated": true},
        },
        "/teamsters": {"get": {"tags": ["Others"]}},
    }));
    let names = |options: &Options| {
        let (table, report) = imported_with(&document, options);
        let commands = table["commands"].as_array().unwrap();
        let names: Vec<String> = commands
            .iter()
            .map(|command| command["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), report.not_asked_for)
    };
    let options = Options::default;
    let texts = |texts: &[&str]| {
        texts
            .iter()
            .map(|&text| text.to_owned())
            .collect::<Vec<_>>()
    };
    let cases = [
        (options(), "list-teams get-team get-teamsters", 0),
        (
            Options {
                include: texts(&["/teams"]),
                ..options()
            },
            "list-teams get-team",
            1,
        ),
        (
            Options {
                include: texts(&["/teams/*"]),
                ..options()
            },
            "get-team",
            2,
        ),
        (
            Options {
                include: texts(&["*ster*"]),
                ..options()
            },
            "get-teamsters",
            3,
        ),
        (
            Options {
                tags: texts(&["Others"]),
                ..options()
            },
            "get-teamsters",
            3,
        ),
        (
            Options {
                operations: texts(&["getTeam", "get /teams"]),
                ..options()
            },
            "list-teams get-team",
            2,
        ),
        (
            Options {
                deprecated: true,
                tags: Vec::new(),
                ..options()
            },
            "list-teams get-team delete-team get-teamsters",
            0,
        ),
    ];
    for (options, expected, others) in cases {
        assert_eq!(
            names(&options),
            (expected.to_owned(), others),
            "{options:?}"
        );
    }
    let wrong = [
        (
            Options {
                tags: texts(&["Team"]),
                ..options()
            },
            "did you mean `Teams`?",
        ),
        (
            Options {
                operations: texts(&["getTeams"]),
                ..options()
            },
            "did you mean `getTeam`?",
        ),
        (
            Options {
                include: texts(&["/team"]),
                ..options()
            },
            "did you mean `/teams`?",
        ),
    ];
    for (options, expected) in wrong {
        let error = refused_with(&document, &options);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn no_built_in_service_is_replaced_by_mistake() {
    let mut document = document(&json!({"/a": {"get": {}}}));
    document["info"]["title"] = json!("GitHub API");
    let (table, report) = imported(&document);
    assert_eq!(table["name"], "github-api");
    assert!(
        report
            .remarks
            .iter()
            .any(|remark| remark.contains("`github` is built in"))
    );
    let named = |name: &str, replaces: bool| Options {
        name: Some(name.parse().unwrap()),
        replaces,
        ..Options::default()
    };
    let (table, _) = imported_with(&document, &named("github", true));
    assert_eq!(table["replaces"], true);
    let wrong = [
        (named("github", false), "`github` is built in"),
        (named("gh", false), "another name of a built-in service"),
        (named("gitlab", true), "replaces nothing"),
    ];
    for (options, expected) in wrong {
        let error = refused_with(&document, &options);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_gateway_makes_keys_where_every_post_takes_one() {
    let key = json!({"parameters": [{"name": "Idempotency-Key", "in": "header", "required": true, "schema": {"type": "string"}}]});
    let (table, _) = imported(&document(
        &json!({"/a": {"post": key}, "/b": {"post": key}, "/c": {"get": {}}}),
    ));
    assert_eq!(table["idempotency_key"], "Idempotency-Key");
    assert_eq!(table["commands"][0].get("arguments"), None);
    let (table, _) = imported(&document(&json!({"/a": {"post": key}, "/b": {"post": {}}})));
    assert_eq!(table.get("idempotency_key"), None);
    assert_eq!(table["commands"][0]["arguments"][0]["in"], "header");
}

/// Keys that documents are made of.
const WORDS: &[&str] = &[
    "$ref",
    "type",
    "properties",
    "items",
    "required",
    "allOf",
    "oneOf",
    "anyOf",
    "enum",
    "const",
    "nullable",
    "pattern",
    "minimum",
    "maximum",
    "maxLength",
    "minLength",
    "exclusiveMinimum",
    "multipleOf",
    "format",
    "default",
    "example",
    "examples",
    "schema",
    "content",
    "application/json",
    "application/x-www-form-urlencoded",
    "parameters",
    "name",
    "in",
    "style",
    "explode",
    "requestBody",
    "responses",
    "200",
    "default",
    "204",
    "security",
    "servers",
    "url",
    "variables",
    "operationId",
    "summary",
    "description",
    "deprecated",
    "readOnly",
    "writeOnly",
    "additionalProperties",
    "headers",
    "Link",
    "page",
    "per_page",
    "limit",
    "cursor",
    "next_cursor",
    "data",
    "tags",
    "x-risk",
    "id",
    "key",
    "",
];

/// And texts.
const TEXTS: &[&str] = &[
    "string",
    "integer",
    "array",
    "object",
    "number",
    "boolean",
    "null",
    "path",
    "query",
    "header",
    "cookie",
    "body",
    "deepObject",
    "form",
    "#/components/schemas/A",
    "#/components/schemas/B",
    "#/paths/~1a",
    "#",
    "#/nowhere",
    "other.yaml",
    "[a-z]+",
    "(",
    "id",
    "page",
    "per_page",
    "limit",
    "cursor",
    "https://example.com/v1",
    "/v1",
    "{x}",
    "\u{202e}\u{0}\n\"\\",
    "help",
    "a/b",
    "Idempotency-Key",
    "\u{fc}",
    "",
];

/// Any JSON, of words and values that documents are made of.
fn any_json() -> impl Strategy<Value = Value> {
    let words = || prop::sample::select(WORDS);
    let texts = prop::sample::select(TEXTS);
    let leaf = prop_oneof![
        texts.prop_map(|text| json!(text)),
        any::<bool>().prop_map(|flag| json!(flag)),
        any::<i64>().prop_map(|number| json!(number)),
        prop::sample::select(vec![0.5, -1.0, 1e300]).prop_map(|number| json!(number)),
        Just(json!(u64::MAX)),
        Just(Value::Null),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec((words(), inner), 0..6).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    /// Whatever a document says: an error, or a description that loads.
    #[test]
    fn any_document_is_refused_or_loads(
        parameter in any_json(),
        schema in any_json(),
        operation in any_json(),
        components in any_json(),
        top in any_json(),
        path in prop::sample::select(vec!["/a", "/a/{id}", "/{page}/b/", "a", "/", "/a/{}", "/{a}{b}", "/a//b", "/%2e"]),
        place in prop::sample::select(vec!["query", "path", "header"]),
        method in prop::sample::select(vec!["get", "post", "put", "delete", "patch"]),
    ) {
        let mut whole = document(&json!({
            path: {
                method: {
                    "parameters": [
                        {"name": "id", "in": place, "schema": schema}, parameter,
                        {"name": "limit", "in": "query", "schema": {"type": "integer"}},
                    ],
                    "requestBody": {"content": {"application/json": {"schema": schema}}},
                    "responses": {"200": {"content": {"application/json": {"schema": schema}}}},
                },
                "get": operation,
            },
            "/whole": top,
        }));
        whole["components"] = json!({
            "schemas": {"A": schema, "B": components},
            "securitySchemes": {"key": components, "id": {"type": "apiKey", "in": "header", "name": "X-Id"}},
        });
        if let Value::Object(further) = top {
            for (key, value) in further {
                whole.as_object_mut().unwrap().entry(key).or_insert(value);
            }
        }
        match import(&whole.to_string(), &Options::default()) {
            Ok(imported) => {
                let loaded = Catalog::load_with(&[("imported.toml", &imported.text)], &|_| None);
                prop_assert!(loaded.is_ok(), "{:?}\n{}", loaded, imported.text);
            }
            Err(error) => prop_assert!(!matches!(error, ImportError::Own(_)), "{}", error),
        }
    }
}
