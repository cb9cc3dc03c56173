//! The API's own description: an OpenAPI 3.1 document, made of what stands at the handlers
//! (`#[utoipa::path]`) and of the contract's types.
//!
//! To add a route: annotate its handler, and name the handler in `routes!(…)` in `api.rs`.
//! Only what is special to the route is written there; what every route of its group may
//! answer besides (no credential, a malformed body, an unknown id, a database that is out
//! of reach) is added here. Tests hold the document against the table of routes, and a
//! fuzzer holds it against the running server.

use authz::{
    AgentId, AgentName, AgentRef, ApprovalRequestId, CommandName, GrantId, MessageId,
    PolicySetVersion, RoleName, ServiceName, TargetName, TeamName, TokenId, UserId, ZoneName,
};
use axum::{http::header, response::IntoResponse};
use contract::error::ErrorBody;
use utoipa::{
    ToSchema,
    openapi::{
        Components, ContentBuilder, Info, OpenApi, Paths, Ref, RefOr, Response, ResponseBuilder,
        path::{Operation, ParameterIn, PathItem},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
        tag::TagBuilder,
    },
};

use crate::people::session::HOST_COOKIE;

const DESCRIPTION: &str = "\
The control plane: agents, approvals, grants, policy sets, the audit trail.

Every path below `/api/` is also served below `/api/v1/`. Within version 1 members, routes and \
kinds of events may be added; nothing is removed and nothing changes its meaning. A reader ignores \
what it does not know. Bodies that are sent may hold known members only.

Refusals are `{\"detail\": \"…\"}`. Times are RFC 3339 in UTC. `ETag` says at which revision an \
agent, a user or the zones are, and `If-Match` makes a change happen only at that revision.

`/ws` and `/api/feed` tell of every change in order; each event has a sequence, and `?after=` \
resumes behind one.";

/// Who a group of routes is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Everyone.
    Everyone,
    /// People, by their token or session.
    People,
    /// Gateways, by the control token.
    Gateways,
    /// Whom each handler says.
    TheirOwn,
}

/// The whole document, of groups of routes.
pub(crate) fn document(groups: Vec<(For, OpenApi)>) -> OpenApi {
    let mut info = Info::new("Cedargate orchestrator", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    let mut document = OpenApi::new(info, Paths::new());
    for (who, mut group) in groups {
        for (path, item) in &mut group.paths.paths {
            for operation in operations(item) {
                complete(path, operation, who);
            }
        }
        document.merge(group);
    }
    document.tags = Some(tags());
    let mut components = document.components.take().unwrap_or_default();
    add_components(&mut components);
    document.components = Some(components);
    document
}

/// `GET /api/openapi.json`
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "planes",
    summary = "This document",
    responses((status = 200, description = "An OpenAPI 3.1 document", body = serde_json::Value))
)]
pub(crate) async fn serve() -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "application/json")],
        crate::openapi(),
    )
}

/// What a refusal of one status says.
struct Refusal {
    status: &'static str,
    /// Its name among the document's components.
    name: &'static str,
    description: &'static str,
}

const REFUSALS: [Refusal; 8] = [
    Refusal {
        status: "400",
        name: "Invalid",
        description: "Something sent is not of the form described here; `detail` names it",
    },
    Refusal {
        status: "401",
        name: "Unauthenticated",
        description: "No credential, or one that does not open this",
    },
    Refusal {
        status: "403",
        name: "Forbidden",
        description: "Policy does not let the caller do this, or a page of another site asks",
    },
    Refusal {
        status: "404",
        name: "NotFound",
        description: "What the path or a parameter names does not exist",
    },
    Refusal {
        status: "412",
        name: "Changed",
        description: "It is at another revision than `If-Match` says; nothing was changed",
    },
    Refusal {
        status: "413",
        name: "TooLarge",
        description: "The body is too large",
    },
    Refusal {
        status: "415",
        name: "NotJson",
        description: "The body is not `application/json`",
    },
    Refusal {
        status: "503",
        name: "Unavailable",
        description: "The database is out of reach, or too slow; the same may be tried again",
    },
];

/// Adds to an operation what it may answer because of who it is for and what it takes.
fn complete(path: &str, operation: &mut Operation, who: For) {
    // A handler's name alone is not unique: many are called `list`.
    if let Some(handler) = operation.operation_id.take() {
        let words = path.split(['/', '{', '}', '.']);
        let mut words: Vec<&str> = words.filter(|word| !matches!(*word, "" | "api")).collect();
        words.push(&handler);
        operation.operation_id = Some(words.join("_").replace('-', "_"));
    }
    let mut may = vec!["503"];
    match who {
        For::Everyone => may.clear(),
        For::People => {
            operation.security = Some(vec![
                SecurityRequirement::new::<_, [&str; 0], &str>("user", []),
                SecurityRequirement::new::<_, [&str; 0], &str>("session", []),
            ]);
            may.extend(["401", "403"]);
        }
        For::Gateways => {
            operation.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>(
                "control",
                [],
            )]);
            may.extend(["401", "403"]);
        }
        For::TheirOwn => may.push("403"),
    }
    if path.contains('{') {
        may.push("404");
    }
    if operation.request_body.is_some() {
        may.extend(["400", "413", "415"]);
    }
    let parameters = operation.parameters.iter().flatten();
    let asks = parameters.filter_map(|parameter| match parameter {
        RefOr::T(parameter) => Some((&parameter.parameter_in, parameter.name.as_str())),
        RefOr::Ref(_) => None,
    });
    for (place, name) in asks {
        match place {
            ParameterIn::Query | ParameterIn::Header => may.push("400"),
            ParameterIn::Path | ParameterIn::Cookie | ParameterIn::QueryString => {}
        }
        if name == "If-Match" {
            may.push("412");
        }
    }
    for refusal in &REFUSALS {
        if may.contains(&refusal.status) {
            operation
                .responses
                .responses
                .entry(refusal.status.to_owned())
                .or_insert_with(|| RefOr::Ref(Ref::from_response_name(refusal.name)));
        }
    }
    // A refusal that a handler describes itself has the body that all have.
    for (status, response) in &mut operation.responses.responses {
        let refused = status.starts_with('4') || status.starts_with('5');
        if let (true, RefOr::T(response)) = (refused, response)
            && response.content.is_empty()
        {
            response
                .content
                .insert("application/json".to_owned(), RefOr::T(error_body()));
        }
    }
}

fn error_body() -> utoipa::openapi::Content {
    ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(ErrorBody::name())))
        .build()
}

fn refusal(description: &str) -> Response {
    ResponseBuilder::new()
        .description(description)
        .content("application/json", error_body())
        .build()
}

/// Makes a type known by its name.
fn name<T: ToSchema>(components: &mut Components) {
    components
        .schemas
        .entry(T::name().into_owned())
        .or_insert_with(T::schema);
}

fn add_components(components: &mut Components) {
    name::<ErrorBody>(components);
    // Those that only a path or a query names are not collected with the routes.
    name::<AgentId>(components);
    name::<AgentName>(components);
    name::<AgentRef>(components);
    name::<ApprovalRequestId>(components);
    name::<CommandName>(components);
    name::<GrantId>(components);
    name::<MessageId>(components);
    name::<PolicySetVersion>(components);
    name::<RoleName>(components);
    name::<ServiceName>(components);
    name::<TargetName>(components);
    name::<TeamName>(components);
    name::<TokenId>(components);
    name::<UserId>(components);
    name::<ZoneName>(components);
    for Refusal {
        name, description, ..
    } in &REFUSALS
    {
        components
            .responses
            .insert((*name).to_owned(), RefOr::T(refusal(description)));
    }
    let bearer = |description: &str| {
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(description))
                .build(),
        )
    };
    let session = ApiKeyValue::with_description(
        HOST_COOKIE,
        "The session of a browser, for pages of our own origin or of one that is allowed; without TLS the cookie is `cedargate_session`",
    );
    components.add_security_scheme("user", bearer("A token of a user: `cgu_…`"));
    components.add_security_scheme("control", bearer("`CEDARGATE_CONTROL_TOKEN`"));
    components.add_security_scheme("session", SecurityScheme::ApiKey(ApiKey::Cookie(session)));
}

fn tags() -> Vec<utoipa::openapi::Tag> {
    [
        ("agents", "Agents, their access and their credentials"),
        ("approvals", "Requests of agents that people decide"),
        ("grants", "What approvals yielded"),
        ("users", "People and their credentials"),
        ("policies", "Policy sets: what is in force, and what was"),
        ("audit", "Who did what, and what was decided"),
        ("feed", "Every change, as it happens"),
        (
            "services",
            "What agents can reach, and what would come of it",
        ),
        ("notifications", "Where people are told, and what was sent"),
        (
            "planes",
            "Whether the planes are well, and what they enforce",
        ),
        ("gateway", "For gateways, with the control token"),
        ("legacy", "The shapes of the system that this one replaces"),
    ]
    .into_iter()
    .map(|(name, description)| {
        TagBuilder::new()
            .name(name)
            .description(Some(description))
            .build()
    })
    .collect()
}

/// Every operation of a path.
fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.options,
        &mut item.head,
        &mut item.patch,
        &mut item.trace,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests;
