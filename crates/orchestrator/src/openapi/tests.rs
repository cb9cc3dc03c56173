//! The document against the table of routes, which the router prints when it is debugged:
//! neither has a route that the other lacks.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::testing;

/// Routes as `GET /path`.
type Routes = BTreeSet<String>;

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "patch", "trace"];

fn document() -> Value {
    serde_json::from_str(&crate::openapi()).unwrap()
}

fn documented() -> Routes {
    let document = document();
    let mut routes = Routes::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            assert!(METHODS.contains(&method.as_str()), "{path}: {method}");
            routes.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    routes
}

/// From `… RouteId(3): MethodRouter(MethodRouter { get: Route(…), head: None, … }) …` and
/// `paths: {RouteId(3): "/api/agents", …}`.
fn routed(router: &axum::Router) -> Routes {
    let text = format!("{router:?}");
    let (text, _) = text.split_once("fallback_router").unwrap();
    let (endpoints, paths) = text.rsplit_once("paths: {").unwrap();
    let id = |text: &str| text.split(')').next().unwrap().parse::<u32>().unwrap();
    let paths: BTreeMap<u32, &str> = paths
        .split("RouteId(")
        .skip(1)
        .map(|part| (id(part), part.split('"').nth(1).unwrap()))
        .collect();
    let mut found = Routes::new();
    for part in endpoints.split("RouteId(").skip(1) {
        let path = paths[&id(part)];
        for method in METHODS {
            let (_, endpoint) = part
                .split_once(&format!("{method}: "))
                .unwrap_or_else(|| panic!("{path}: no `{method}` in {part}"));
            if !endpoint.starts_with("None") {
                found.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
    }
    assert!(found.len() > 30, "{found:?}");
    found
}

#[tokio::test]
async fn every_route_is_documented_and_every_documented_route_is_there() {
    let (orchestrator, _folder) = testing::orchestrator().await;
    let routed = routed(&crate::api::routes(&orchestrator));
    let documented = documented();
    let missing: Vec<_> = routed.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "not in the document; annotate the handler with `#[utoipa::path]` and name it in `routes!`: {missing:?}"
    );
    let stale: Vec<_> = documented.difference(&routed).collect();
    assert!(
        stale.is_empty(),
        "in the document and nowhere else: {stale:?}"
    );
}

#[test]
fn what_is_referred_to_is_there_and_what_is_there_says_what_it_is() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let tags: BTreeSet<_> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{method} {path}");
            assert!(
                operation["summary"].as_str().is_some_and(|it| it.len() > 5),
                "{at}"
            );
            assert!(
                operation["description"].is_null(),
                "{at}: notes for us leaked"
            );
            assert!(
                ids.insert(operation["operationId"].to_string()),
                "{at}: its id"
            );
            for tag in operation["tags"].as_array().unwrap() {
                assert!(tags.contains(tag.as_str().unwrap()), "{at}: {tag}");
            }
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses
                    .keys()
                    .any(|status| status.starts_with(['1', '2'])),
                "{at}"
            );
            let open = operation["security"].is_null();
            // Some are open to everyone, some are believed for their signature.
            let public = [
                "/health",
                "/ready",
                "/api/openapi.json",
                "/api/notifications/slack/actions",
                "/api/notifications/targets/{name}/verdict",
            ]
            .contains(&path.as_str());
            assert_eq!(open, public, "{at}: who may call it");
            let named = path.matches('{').count();
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let described = parameters.filter(|it| it["in"] == "path").count();
            assert_eq!(named, described, "{at}: its path's parameters");
        }
    }
}

#[test]
fn every_body_says_what_it_holds() {
    // Their contents are not ours to describe: a description, and what Slack makes of it.
    let free = ["/api/openapi.json", "/api/notifications/slack/actions"];
    let document = document();
    let mut bodies = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let answers = operation["responses"].as_object().unwrap().values();
            for body in answers.chain([&operation["requestBody"]]) {
                let Some(schema) = body.pointer("/content/application~1json/schema") else {
                    continue;
                };
                bodies += 1;
                let says = ["$ref", "items", "properties", "oneOf", "allOf", "anyOf"]
                    .iter()
                    .any(|key| schema.get(key).is_some());
                assert!(
                    says || free.contains(&path.as_str()),
                    "{method} {path}: {schema}"
                );
            }
        }
    }
    assert!(bodies > 60, "{bodies}");
}
