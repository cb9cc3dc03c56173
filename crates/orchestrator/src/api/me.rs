//! Oneself: who one is here, and proving it once more.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderValue, header},
};
use contract::users::{BegunSecondFactor, Code, EnrolledSecondFactor, MeView, SteppedUp};
use serde::Deserialize;

use super::{Json as Body, users};
use crate::{Orchestrator, authenticate::Person, error::Error, people::second_factor};

/// `GET /api/me`: every active user may ask.
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

/// `POST /api/me/step-up`: a session gets another cookie with the answer.
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
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Begin {}

/// `POST /api/me/second-factor`.
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

/// `POST /api/me/second-factor/enrol`.
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
