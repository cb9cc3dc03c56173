//! Everything that scripts and gateways call: the table of routes, by who may call them.

pub(crate) mod agents;
mod approvals;
mod audit;
mod feed;
mod gateway;
mod gateways;
mod grants;
mod health;
mod legacy;
mod me;
mod notifications;
mod policy_sets;
mod services;
pub(crate) mod users;

pub(crate) use self::{gateway::hash_of, gateways::is_silent};

use std::{fmt::Display, str::FromStr};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
    middleware::from_extractor_with_state,
    routing::{delete, get, post, put},
};
use serde::de::DeserializeOwned;

use crate::{
    Orchestrator,
    authenticate::{GatewayCaller, Person},
    error::Error,
    service, websocket,
};

/// Every route of the API.
pub(crate) fn routes(orchestrator: &Orchestrator) -> Router {
    let people = people().route_layer(from_extractor_with_state::<Person, _>(orchestrator.clone()));
    let gateways = gateways().route_layer(from_extractor_with_state::<GatewayCaller, _>(
        orchestrator.clone(),
    ));
    // The fallback before the layer: preflights of browsers are answered by what is around it.
    let api = people
        .merge(gateways)
        .merge(own_ways())
        .method_not_allowed_fallback(service::wrong_method)
        .layer(service::cors(&orchestrator.inner.origins));
    api.merge(public()).with_state(orchestrator.clone())
}

/// Open to everyone: says only whether we are well.
fn public() -> Router<Orchestrator> {
    Router::new()
        .route("/health", get(health::health))
        .route("/ready", get(health::ready))
}

/// Each authenticates in a way of its own, named in its handler's arguments.
fn own_ways() -> Router<Orchestrator> {
    Router::new()
        .route("/ws", get(websocket::upgrade))
        .route("/api/feed", get(feed::feed))
        .route(
            "/api/agent/{agent}/mcp-permissions",
            get(legacy::permissions),
        )
        .route("/api/mcp/permission-request", post(legacy::request))
        .route(
            "/api/notifications/slack/actions",
            post(notifications::slack),
        )
        .route(
            "/api/notifications/targets/{name}/verdict",
            post(notifications::verdict),
        )
}

/// For people: behind [`Person`], and each behind what policy says besides.
fn people() -> Router<Orchestrator> {
    Router::new()
        .route("/api/whoami", get(users::whoami))
        .route("/api/agents", get(agents::list).post(agents::create))
        .route(
            "/api/agents/{agent}",
            get(agents::show).patch(agents::change),
        )
        .route("/api/agents/{agent}/suspend", post(agents::suspend))
        .route("/api/agents/{agent}/resume", post(agents::resume))
        .route(
            "/api/agents/{agent}/allowed-services/{service}",
            put(agents::allow_service).delete(agents::disallow_service),
        )
        .route(
            "/api/agents/{agent}/roles/{role}",
            put(agents::add_role).delete(agents::remove_role),
        )
        .route(
            "/api/agents/{agent}/teams/{team}",
            put(agents::add_team).delete(agents::remove_team),
        )
        .route(
            "/api/agents/{agent}/tokens",
            get(agents::tokens).post(agents::create_token),
        )
        .route(
            "/api/agents/{agent}/tokens/{token}",
            delete(agents::revoke_token),
        )
        .route("/api/users", get(users::list).post(users::create))
        .route("/api/users/{user}", get(users::show).patch(users::change))
        .route(
            "/api/users/{user}/tokens",
            get(users::tokens).post(users::create_token),
        )
        .route(
            "/api/users/{user}/tokens/{token}",
            delete(users::revoke_token),
        )
        .route(
            "/api/users/{user}/sessions",
            get(users::sessions).delete(users::end_sessions),
        )
        .route(
            "/api/users/{user}/sessions/{session}",
            delete(users::end_session),
        )
        .route(
            "/api/users/{user}/second-factor",
            delete(users::remove_second_factor),
        )
        .route("/api/users/{user}/identities", delete(users::unlink))
        .route("/api/me", get(me::show))
        .route("/api/me/step-up", post(me::step_up))
        .route("/api/me/second-factor", post(me::begin_second_factor))
        .route("/api/me/second-factor/enrol", post(me::enrol_second_factor))
        .route("/api/grants", get(grants::list))
        .route("/api/grants/{grant}/revoke", post(grants::revoke))
        .route("/api/approvals", get(approvals::list))
        .route("/api/approvals/{approval}", get(approvals::show))
        .route(
            "/api/approvals/{approval}/approve",
            post(approvals::approve),
        )
        .route("/api/approvals/{approval}/reject", post(approvals::reject))
        .route(
            "/api/approvals/{approval}/withdraw",
            post(approvals::withdraw),
        )
        .route("/api/mcp/permission-respond", post(legacy::respond))
        .route("/api/policy-set", get(policy_sets::status))
        .route("/api/policy-set/rollback", post(policy_sets::roll_back))
        .route("/api/policy-set/shadow", post(policy_sets::shadow))
        .route(
            "/api/policy-sets",
            get(policy_sets::list).merge(
                post(policy_sets::push).layer(DefaultBodyLimit::max(policy_sets::MAX_PUSH_BYTES)),
            ),
        )
        .route("/api/policy-sets/{version}", get(policy_sets::show))
        .route(
            "/api/policy-sets/{version}/activate",
            post(policy_sets::activate),
        )
        .route("/api/policy-activations", get(policy_sets::activations))
        .route("/api/gateways", get(gateways::list))
        .route(
            "/api/notifications/targets",
            get(notifications::list).post(notifications::create),
        )
        .route(
            "/api/notifications/targets/{name}",
            get(notifications::show)
                .patch(notifications::change)
                .delete(notifications::remove),
        )
        .route(
            "/api/notifications/targets/{name}/test",
            post(notifications::test),
        )
        .route(
            "/api/notifications/targets/{name}/accounts",
            get(notifications::accounts)
                .post(notifications::link)
                .delete(notifications::unlink),
        )
        .route("/api/notifications/messages", get(notifications::messages))
        .route(
            "/api/notifications/messages/{message}/redeliver",
            post(notifications::redeliver),
        )
        .route("/api/audit", get(audit::list))
        .route("/api/audit/journals", get(audit::journals))
        .route("/api/audit/export", get(audit::export))
        .route(
            "/api/audit/verification",
            get(audit::verification).post(audit::verify),
        )
        .route("/api/services", get(services::list))
        .route("/api/services/{service}", get(services::show))
        .route("/api/explain", post(services::explain))
        .route("/api/overview", get(services::overview))
}

/// For gateways: behind the control token.
fn gateways() -> Router<Orchestrator> {
    Router::new()
        .route("/api/gateway/facts/{agent}", get(gateway::facts))
        .route("/api/gateway/credentials", post(gateway::credential))
        .route("/api/gateway/approvals", post(gateway::open_approval))
        .route(
            "/api/gateway/approvals/{approval}",
            get(gateway::approval).delete(gateway::withdraw),
        )
        .route("/api/gateway/grants/{grant}/spend", post(gateway::spend))
        .route("/api/gateway/policy-set", get(gateway::policy_set))
        .route("/api/gateway/shadow-policy-set", get(gateway::shadow))
        .route("/api/gateway/status", post(gateway::status))
        .route("/api/gateway/journal", post(gateway::journal))
        .route(
            "/api/gateway/catalog",
            put(gateway::catalog).layer(DefaultBodyLimit::max(gateway::MAX_CATALOG_BYTES)),
        )
}

/// A JSON body; what is wrong with it is named.
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Orchestrator> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, orchestrator: &Orchestrator) -> Result<Self, Error> {
        let axum::Json(body) = axum::Json::from_request(request, orchestrator).await?;
        Ok(Self(body))
    }
}

/// The query's parameters; unknown ones are refused where `T` denies them.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Orchestrator> for Parameters<T> {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let Query(parameters) = Query::from_request_parts(parts, orchestrator).await?;
        Ok(Self(parameters))
    }
}

/// The one id or name in the path. What is none names nothing: 404.
pub(crate) struct Named<T>(pub(crate) T);

impl<T: FromStr<Err: Display>> FromRequestParts<Orchestrator> for Named<T> {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let Path(text): Path<String> = Path::from_request_parts(parts, orchestrator)
            .await
            .map_err(nothing)?;
        text.parse().map(Self).map_err(nothing)
    }
}

/// The two ids or names in the path, as [`Named`].
pub(crate) struct NamedWithin<T, U>(pub(crate) T, pub(crate) U);

impl<T: FromStr<Err: Display>, U: FromStr<Err: Display>> FromRequestParts<Orchestrator>
    for NamedWithin<T, U>
{
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let Path((outer, inner)): Path<(String, String)> =
            Path::from_request_parts(parts, orchestrator)
                .await
                .map_err(nothing)?;
        Ok(Self(
            outer.parse().map_err(nothing)?,
            inner.parse().map_err(nothing)?,
        ))
    }
}

fn nothing(why: impl Display) -> Error {
    Error::NotFound(why.to_string())
}
