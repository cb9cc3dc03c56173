//! Everything that scripts and gateways call: the table of routes, by who may call them.

pub(crate) mod agents;
mod approvals;
mod audit;
mod budgets;
pub(crate) mod feed;
mod gateway;
mod gateways;
mod grants;
mod health;
mod legacy;
mod me;
mod notifications;
mod policy_sets;
mod services;
mod tools;
pub(crate) mod users;
mod zones;

pub(crate) use self::{gateway::hash_of, gateways::is_silent};

use std::{fmt::Display, str::FromStr};

use axum::{
    Router,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Path, Query, Request},
    http::request::Parts,
    middleware::from_extractor_with_state,
};
use serde::de::DeserializeOwned;
use utoipa::openapi::OpenApi;
use utoipa_axum::{
    router::{OpenApiRouter, UtoipaMethodRouterExt},
    routes,
};

use crate::{
    Orchestrator,
    authenticate::{GatewayCaller, Person},
    error::Error,
    openapi::{self, For},
    service, websocket,
};

/// Every route of the API.
pub(crate) fn routes(orchestrator: &Orchestrator) -> Router {
    let people = Router::from(people())
        .route_layer(from_extractor_with_state::<Person, _>(orchestrator.clone()));
    let gateways = Router::from(gateways())
        .route_layer(from_extractor_with_state::<GatewayCaller, _>(
            orchestrator.clone(),
        ));
    // The fallback before the layer: preflights of browsers are answered by what is around it.
    let api = people
        .merge(gateways)
        .merge(Router::from(own_ways()))
        .method_not_allowed_fallback(service::wrong_method)
        .layer(service::cors(&orchestrator.inner.origins));
    api.merge(Router::from(public()))
        .with_state(orchestrator.clone())
}

/// The API's document.
pub(crate) fn document() -> OpenApi {
    openapi::document(vec![
        (For::Everyone, public().into_openapi()),
        (For::TheirOwn, own_ways().into_openapi()),
        (For::People, people().into_openapi()),
        (For::Gateways, gateways().into_openapi()),
    ])
}

/// Open to everyone: says only whether we are well, and what there is.
fn public() -> OpenApiRouter<Orchestrator> {
    OpenApiRouter::new()
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(openapi::serve))
}

/// Each authenticates in a way of its own, named in its handler's arguments.
fn own_ways() -> OpenApiRouter<Orchestrator> {
    OpenApiRouter::new()
        .routes(routes!(websocket::upgrade))
        .routes(routes!(feed::feed))
        .routes(routes!(legacy::permissions))
        .routes(routes!(legacy::request))
        .routes(routes!(notifications::slack))
        .routes(routes!(notifications::verdict))
}

/// For people: behind [`Person`], and each behind what policy says besides.
fn people() -> OpenApiRouter<Orchestrator> {
    OpenApiRouter::new()
        .routes(routes!(users::whoami))
        .routes(routes!(agents::list, agents::create))
        .routes(routes!(agents::show, agents::change))
        .routes(routes!(agents::suspend))
        .routes(routes!(agents::resume))
        .routes(routes!(agents::allow_service, agents::disallow_service))
        .routes(routes!(agents::add_role, agents::remove_role))
        .routes(routes!(agents::add_team, agents::remove_team))
        .routes(routes!(agents::tokens, agents::create_token))
        .routes(routes!(agents::revoke_token))
        .routes(routes!(users::list, users::create))
        .routes(routes!(users::show, users::change))
        .routes(routes!(users::tokens, users::create_token))
        .routes(routes!(users::revoke_token))
        .routes(routes!(grants::list))
        .routes(routes!(grants::revoke))
        .routes(routes!(approvals::list))
        .routes(routes!(approvals::show))
        .routes(routes!(approvals::approve))
        .routes(routes!(approvals::reject))
        .routes(routes!(approvals::withdraw))
        .routes(routes!(legacy::respond))
        .routes(routes!(policy_sets::status))
        .routes(routes!(policy_sets::roll_back))
        .routes(routes!(policy_sets::shadow))
        .routes(routes!(policy_sets::list))
        .routes(
            routes!(policy_sets::push).layer(DefaultBodyLimit::max(policy_sets::MAX_PUSH_BYTES)),
        )
        .routes(routes!(policy_sets::show))
        .routes(routes!(policy_sets::activate))
        .routes(routes!(policy_sets::activations))
        .routes(routes!(gateways::list))
        .routes(routes!(audit::list))
        .routes(routes!(audit::journals))
        .routes(routes!(audit::export))
        .routes(routes!(audit::verification, audit::verify))
        .routes(routes!(services::list))
        .routes(routes!(services::show))
        .routes(routes!(tools::list))
        .routes(routes!(tools::show))
        .routes(routes!(tools::approve))
        .routes(routes!(tools::withdraw))
        .routes(routes!(zones::list))
        .routes(routes!(zones::add_service, zones::remove_service))
        .routes(routes!(zones::add_command, zones::remove_command))
        .routes(routes!(budgets::list))
        .routes(routes!(services::explain))
        .routes(routes!(services::overview))
        .routes(routes!(notifications::list, notifications::create))
        .routes(routes!(
            notifications::show,
            notifications::change,
            notifications::remove
        ))
        .routes(routes!(notifications::test))
        .routes(routes!(
            notifications::accounts,
            notifications::link,
            notifications::unlink
        ))
        .routes(routes!(notifications::messages))
        .routes(routes!(notifications::redeliver))
        .routes(routes!(users::sessions, users::end_sessions))
        .routes(routes!(users::end_session))
        .routes(routes!(users::remove_second_factor))
        .routes(routes!(users::unlink))
        .routes(routes!(me::show))
        .routes(routes!(me::create_token))
        .routes(routes!(me::step_up))
        .routes(routes!(me::begin_second_factor))
        .routes(routes!(me::enrol_second_factor))
}

/// For gateways: behind the control token.
fn gateways() -> OpenApiRouter<Orchestrator> {
    OpenApiRouter::new()
        .routes(routes!(gateway::facts))
        .routes(routes!(gateway::credential))
        .routes(routes!(gateway::open_approval, gateway::open_approvals))
        .routes(routes!(gateway::approval, gateway::withdraw))
        .routes(routes!(gateway::spend))
        .routes(routes!(gateway::policy_set))
        .routes(routes!(gateway::shadow))
        .routes(routes!(zones::for_gateways))
        .routes(routes!(gateway::status))
        .routes(routes!(budgets::report))
        .routes(routes!(gateway::journal))
        .routes(routes!(tools::reviews))
        .routes(routes!(gateway::catalog).layer(DefaultBodyLimit::max(gateway::MAX_CATALOG_BYTES)))
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
