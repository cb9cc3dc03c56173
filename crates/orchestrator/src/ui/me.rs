//! Oneself: sessions, credentials, the second factor, and proving it.

use askama::Template;
use authz::{SessionId, Timestamp, TokenId};
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::users::SessionView;
use secrecy::ExposeSecret;
use serde::Deserialize;
use store::sessions::Credential;

use super::{
    Frame, Trouble, go, page, page_with,
    session::{Next, encoded, own_path},
    tokens,
};
use crate::{
    Orchestrator,
    api::{Named, Parameters, users::session_view},
    authenticate::Person,
    error::Error,
    people::{
        own_token,
        second_factor::{self, Begun},
        session::end,
    },
};

/// Somebody who has a session, whatever their roles, and the frame of their page.
pub(crate) struct Oneself(pub(crate) Person, pub(crate) Frame);

impl axum::extract::FromRequestParts<Orchestrator> for Oneself {
    type Rejection = Trouble;

    async fn from_request_parts(
        parts: &mut axum::http::request::Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Trouble> {
        let person = match Person::from_request_parts(parts, orchestrator).await {
            Ok(person) => person,
            Err(Error::Unauthenticated) if parts.method == axum::http::Method::GET => {
                return Err(Trouble::LogIn {
                    next: parts.uri.path().to_owned(),
                });
            }
            Err(error) => return Err(Trouble::Error(error)),
        };
        let frame = Frame::new(orchestrator, &person, parts.uri.path()).await?;
        Ok(Self(person, frame))
    }
}

#[derive(Template)]
#[template(path = "me.html")]
struct Me {
    frame: Frame,
    sessions: Vec<SessionView>,
    tokens: Vec<tokens::Listed>,
    enrolled: Option<Timestamp>,
    recovery_codes: u32,
    confirmed: Option<Timestamp>,
    provider: Option<String>,
    /// A new token, this once.
    secret: Option<String>,
}

/// `GET /me`.
pub(crate) async fn show(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    Ok(page(&Me::new(&orchestrator, &person, frame).await?))
}

impl Me {
    async fn new(
        orchestrator: &Orchestrator,
        person: &Person,
        frame: Frame,
    ) -> Result<Self, Error> {
        let store = orchestrator.store();
        let now = orchestrator.now();
        let sessions = store.sessions(&person.user.id, now).await?;
        let tokens = store.user_tokens(&person.user.id).await?;
        let factor = store.second_factor(&person.user.id).await?;
        let live = |token: &&store::agents::Token| {
            token.revoked.is_none() && token.expires.is_none_or(|expires| now < expires)
        };
        Ok(Self {
            frame,
            sessions: sessions
                .into_iter()
                .map(|session| session_view(person, session))
                .collect(),
            tokens: tokens
                .iter()
                .filter(live)
                .map(|token| tokens::Listed::new(token, now))
                .collect(),
            enrolled: factor.as_ref().and_then(|factor| factor.enrolled),
            recovery_codes: factor.map_or(0, |factor| factor.recovery_codes),
            confirmed: person.confirmed,
            provider: provider_name(orchestrator),
            secret: None,
        })
    }
}

/// `POST /me/tokens`: the answer is the one page that shows it.
pub(crate) async fn create_token(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
    form: Result<Form<tokens::NewToken>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(new) = form.map_err(Error::from)?;
    let make = async {
        let create = new.create()?;
        own_token::create(&orchestrator, &person, &create).await
    };
    match make.await {
        Ok((token, _)) => Ok(page(&Me {
            secret: Some(token.expose_secret().to_owned()),
            ..Me::new(&orchestrator, &person, frame).await?
        })),
        Err(Error::StepUp(_)) => Ok(go("/step-up?next=%2Fme")),
        Err(error @ (Error::Invalid(_) | Error::Conflict(_) | Error::NotFresh)) => {
            let frame = frame.warning(Some(sentence(&error)));
            let shown = Me::new(&orchestrator, &person, frame).await?;
            Ok(page_with(error.status(), &shown))
        }
        Err(error) => Err(error.into()),
    }
}

fn provider_name(orchestrator: &Orchestrator) -> Option<String> {
    let provider = orchestrator.inner.people.provider.as_ref()?;
    Some(provider.config.name.clone())
}

/// `POST /me/sessions/{session}/end`.
pub(crate) async fn end_session(
    Oneself(person, _): Oneself,
    State(orchestrator): State<Orchestrator>,
    session: Result<Named<SessionId>, Error>,
) -> Result<Response, Trouble> {
    let Named(session) = session?;
    let actor = orchestrator.actor(&person);
    orchestrator
        .store()
        .end_session(&person.user.id, session, "session_ended", &actor)
        .await?;
    Ok(go("/me"))
}

/// `POST /me/sessions/end`: everywhere, here too.
pub(crate) async fn end_sessions(
    Oneself(person, _): Oneself,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    let own = match person.credential {
        Credential::Session(session) => Some(session),
        Credential::Token(_) => None,
    };
    let actor = orchestrator.actor(&person);
    orchestrator
        .store()
        .end_sessions(&person.user.id, own, &actor)
        .await?;
    end(&orchestrator, &person, "logout").await?;
    Ok(go("/login"))
}

/// `POST /me/tokens/{token}/revoke`.
pub(crate) async fn revoke_token(
    Oneself(person, _): Oneself,
    State(orchestrator): State<Orchestrator>,
    token: Result<Named<TokenId>, Error>,
) -> Result<Response, Trouble> {
    let Named(token) = token?;
    orchestrator
        .end_user_token(&person.user.id, token, &orchestrator.actor(&person))
        .await?;
    Ok(go("/me"))
}

#[derive(Template)]
#[template(path = "step_up.html")]
struct StepUp {
    frame: Frame,
    next: String,
    next_encoded: String,
    enrolled: bool,
    provider: Option<String>,
}

async fn step_up_page(
    orchestrator: &Orchestrator,
    Oneself(person, frame): Oneself,
    status: StatusCode,
    problem: Option<String>,
    next: &str,
) -> Result<Response, Trouble> {
    let factor = orchestrator.store().second_factor(&person.user.id).await?;
    let next = own_path(next);
    Ok(page_with(
        status,
        &StepUp {
            frame: frame.warning(problem),
            next_encoded: encoded(&next),
            next,
            enrolled: factor.is_some_and(|factor| factor.enrolled.is_some()),
            provider: provider_name(orchestrator),
        },
    ))
}

/// `GET /step-up?next=`.
pub(crate) async fn step_up_form(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
    Parameters(Next { next }): Parameters<Next>,
) -> Result<Response, Trouble> {
    step_up_page(
        &orchestrator,
        Oneself(person, frame),
        StatusCode::OK,
        None,
        &next,
    )
    .await
}

/// What the form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    code: String,
    #[serde(default)]
    next: String,
}

/// `POST /step-up`.
pub(crate) async fn step_up(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
    form: Result<Form<Code>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(Code { code, next }) = form.map_err(Error::from)?;
    match second_factor::prove(&orchestrator, &person, &code).await {
        Ok(cookie) => Ok((cookies(cookie), go(&own_path(&next))).into_response()),
        Err(
            error @ (Error::WrongCode
            | Error::TooManyTries(_)
            | Error::Invalid(_)
            | Error::Conflict(_)),
        ) => {
            let status = error.status();
            step_up_page(
                &orchestrator,
                Oneself(person, frame),
                status,
                Some(sentence(&error)),
                &next,
            )
            .await
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Template)]
#[template(path = "enrol.html")]
struct Enrol {
    frame: Frame,
    secret: String,
    uri: String,
    picture: String,
}

#[derive(Template)]
#[template(path = "enrolled.html")]
struct Enrolled {
    frame: Frame,
    codes: Vec<String>,
}

fn enrol_page(frame: Frame, status: StatusCode, problem: Option<String>, begun: Begun) -> Response {
    page_with(
        status,
        &Enrol {
            frame: frame.warning(problem),
            picture: begun.picture(),
            // As people type it.
            secret: begun
                .secret
                .as_bytes()
                .chunks(4)
                .map(String::from_utf8_lossy)
                .collect::<Vec<_>>()
                .join(" "),
            uri: begun.uri,
        },
    )
}

/// `POST /me/second-factor`: shows a new device its secret.
pub(crate) async fn begin_second_factor(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    match second_factor::begin(&orchestrator, &person).await {
        Ok(begun) => Ok(enrol_page(frame, StatusCode::OK, None, begun)),
        Err(Error::StepUp(_)) => Ok(go("/step-up?next=%2Fme")),
        Err(error) => Err(error.into()),
    }
}

/// `POST /me/second-factor/enrol`.
pub(crate) async fn enrol_second_factor(
    Oneself(person, frame): Oneself,
    State(orchestrator): State<Orchestrator>,
    form: Result<Form<Code>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(Code { code, next: _ }) = form.map_err(Error::from)?;
    match second_factor::enrol(&orchestrator, &person, &code).await {
        Ok((codes, cookie)) => {
            Ok((cookies(cookie), page(&Enrolled { frame, codes })).into_response())
        }
        Err(error @ (Error::WrongCode | Error::Invalid(_))) => {
            let Some(begun) = second_factor::begun(&orchestrator, &person).await? else {
                return Ok(go("/me"));
            };
            let (status, problem) = (error.status(), Some(sentence(&error)));
            Ok(enrol_page(frame, status, problem, begun))
        }
        Err(Error::StepUp(_)) => Ok(go("/step-up?next=%2Fme")),
        Err(error) => Err(error.into()),
    }
}

/// `POST /me/second-factor/remove`.
pub(crate) async fn remove_second_factor(
    Oneself(person, _): Oneself,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    match second_factor::remove(&orchestrator, &person).await {
        Ok(()) => Ok(go("/me")),
        Err(Error::StepUp(_)) => Ok(go("/step-up?next=%2Fme")),
        Err(error) => Err(error.into()),
    }
}

fn cookies(cookie: Option<HeaderValue>) -> HeaderMap {
    cookie
        .into_iter()
        .map(|cookie| (header::SET_COOKIE, cookie))
        .collect()
}

/// An error as a sentence on a page.
fn sentence(error: &Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    chars
        .next()
        .map(|first| first.to_uppercase().chain(chars).collect::<String>() + ".")
        .unwrap_or_default()
}
