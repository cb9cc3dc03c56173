//! Oneself: who one is here, and proving it once more.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
};
use contract::agents::{CreateToken, CreatedToken};
use contract::users::{BegunSecondFactor, Code, EnrolledSecondFactor, MeView, SteppedUp};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Json as Body, agents::token_view, users};
use crate::{
    Orchestrator,
    authenticate::Person,
    error::Error,
    people::{own_token, second_factor},
};

// Every active user may ask.
#[utoipa::path(
    get,
    path = "/api/me",
    tag = "users",
    summary = "Who the caller is, through the credential of the request",
    responses((status = 200, description = "Oneself", body = MeView))
)]
pub(crate) async fn show(
    person: Person,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<MeView>, Error> {
    let stored = orchestrator.store().user(&person.user.id).await?;
    Ok(Json(MeView {
        user: users::view(stored),
        via: person.via.as_str().to_owned(),
        expires: person.expires,
        confirmed: person.confirmed,
        recovery_codes: recovery_codes(&orchestrator, &person).await?,
    }))
}

// Listed and revoked as those of any user: `/api/users/{user}/tokens`.
#[utoipa::path(
    post,
    path = "/api/me/tokens",
    tag = "users",
    summary = "Make a credential for oneself, of at most 90 days",
    request_body = CreateToken,
    responses((status = 201, description = "The one time that it is shown", body = CreatedToken), (status = 409, description = "There are too many already"))
)]
pub(crate) async fn create_token(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Error> {
    let (token, stored) = own_token::create(&orchestrator, &person, &create).await?;
    let created = CreatedToken {
        token: token.expose_secret().to_owned(),
        view: token_view(&stored),
    };
    Ok((StatusCode::CREATED, Json(created)))
}

// A session gets another cookie with the answer.
#[utoipa::path(
    post,
    path = "/api/me/step-up",
    tag = "users",
    summary = "Prove a second factor",
    request_body = Code,
    responses((status = 200, description = "Proved; a session gets another cookie", body = SteppedUp), (status = 409, description = "No second factor is enrolled"), (status = 429, description = "Too many wrong codes: try again later"))
)]
pub(crate) async fn step_up(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Body(Code { code }): Body<Code>,
) -> Result<(HeaderMap, Json<SteppedUp>), Error> {
    let cookie = second_factor::prove(&orchestrator, &person, &code).await?;
    let answer = SteppedUp {
        confirmed: orchestrator.now(),
        recovery_codes: recovery_codes(&orchestrator, &person).await?,
    };
    Ok((headers(cookie), Json(answer)))
}

/// Nothing is said to begin.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {}

#[utoipa::path(
    post,
    path = "/api/me/second-factor",
    tag = "users",
    summary = "Begin to enrol a second factor",
    request_body = Begin,
    responses((status = 200, description = "Shown once", body = BegunSecondFactor), (status = 409, description = "One is enrolled already"))
)]
pub(crate) async fn begin_second_factor(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Body(Begin {}): Body<Begin>,
) -> Result<Json<BegunSecondFactor>, Error> {
    let begun = second_factor::begin(&orchestrator, &person).await?;
    Ok(Json(BegunSecondFactor {
        secret: begun.secret,
        uri: begun.uri,
    }))
}

#[utoipa::path(
    post,
    path = "/api/me/second-factor/enrol",
    tag = "users",
    summary = "Enrol the second factor that was begun",
    request_body = Code,
    responses((status = 200, description = "Recovery codes, shown once", body = EnrolledSecondFactor), (status = 409, description = "None was begun, or one is enrolled already"), (status = 429, description = "Too many wrong codes: try again later"))
)]
pub(crate) async fn enrol_second_factor(
    person: Person,
    State(orchestrator): State<Orchestrator>,
    Body(Code { code }): Body<Code>,
) -> Result<(HeaderMap, Json<EnrolledSecondFactor>), Error> {
    let (recovery_codes, cookie) = second_factor::enrol(&orchestrator, &person, &code).await?;
    let answer = EnrolledSecondFactor { recovery_codes };
    Ok((headers(cookie), Json(answer)))
}

async fn recovery_codes(orchestrator: &Orchestrator, person: &Person) -> Result<u32, Error> {
    let factor = orchestrator.store().second_factor(&person.user.id).await?;
    Ok(factor.map_or(0, |factor| factor.recovery_codes))
}

fn headers(cookie: Option<HeaderValue>) -> HeaderMap {
    cookie
        .into_iter()
        .map(|cookie| (header::SET_COOKIE, cookie))
        .collect()
}
