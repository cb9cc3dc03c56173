//! Logging in and out: a session is a credential of the user's, in a cookie.

use std::{sync::PoisonError, time::Duration};

use askama::Template;
use authz::{Timestamp, UserId};
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use secrecy::ExposeSecret;
use serde::Deserialize;
use store::Actor;

use super::{Trouble, go, page, page_with};
use crate::{
    Orchestrator,
    api::Parameters,
    authenticate::{Person, SESSION_COOKIE, Via},
    credential::Digest,
    error::Error,
};

/// A session ends after this.
const SESSION_LIFETIME: Duration = Duration::from_hours(12);

#[derive(Template)]
#[template(path = "login.html")]
struct LogIn {
    problem: Option<&'static str>,
    next: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    next: String,
}

/// `GET /login`.
pub(crate) async fn form(Parameters(Next { next }): Parameters<Next>) -> Response {
    page(&LogIn {
        problem: None,
        next: own_path(next),
    })
}

/// What the form sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    token: String,
    #[serde(default)]
    next: String,
}

/// `POST /login`.
pub(crate) async fn log_in(
    State(orchestrator): State<Orchestrator>,
    credentials: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, Trouble> {
    let Form(Credentials { token, next }) = credentials.map_err(Error::from)?;
    let next = own_path(next);
    let person = match Person::from_token(&orchestrator, token.trim(), Via::Session).await {
        Ok(person) => person,
        Err(Error::Unauthenticated) => {
            tracing::warn!("login_refused");
            let problem =
                Some("No active user holds this token. An agent's token does not open this page.");
            return Ok(page_with(
                StatusCode::UNAUTHORIZED,
                &LogIn { problem, next },
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let cookie = begin(&orchestrator, &person.user.id, person.expires, "ui").await?;
    Ok(([(header::SET_COOKIE, cookie)], go(&next)).into_response())
}

/// `POST /logout`: the session's credential is revoked, not only forgotten.
pub(crate) async fn log_out(
    State(orchestrator): State<Orchestrator>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    match Person::from_headers(&orchestrator, &headers).await {
        Ok(person) if person.via == Via::Session => {
            orchestrator
                .end_user_token(&person.user.id, person.token, &orchestrator.actor(&person))
                .await?;
        }
        Ok(_) | Err(Error::Unauthenticated) => {}
        Err(error) => return Err(error.into()),
    }
    let cookie = cookie(&orchestrator, "", Duration::ZERO)?;
    Ok(([(header::SET_COOKIE, cookie)], go("/login")).into_response())
}

/// What the first start's link carries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    code: String,
}

/// `GET /bootstrap?code=…`: logs the first admin in, once.
pub(crate) async fn bootstrap(
    State(orchestrator): State<Orchestrator>,
    Parameters(Code { code }): Parameters<Code>,
) -> Result<Response, Trouble> {
    let now = orchestrator.now();
    let code = Digest::of(&code);
    let good = orchestrator
        .inner
        .bootstrap
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take_if(|(expected, expires)| expected.matches(code) && now < *expires)
        .is_some();
    if !good {
        return Err(Error::SpentLink.into());
    }
    let admin: UserId = "admin"
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let cookie = begin(&orchestrator, &admin, None, "bootstrap").await?;
    tracing::info!(user = %admin, "login_link_used");
    Ok(([(header::SET_COOKIE, cookie)], go("/approvals")).into_response())
}

/// A new session, which does not outlive the credential that opened it.
async fn begin(
    orchestrator: &Orchestrator,
    user: &UserId,
    until: Option<Timestamp>,
    via: &'static str,
) -> Result<HeaderValue, Error> {
    let actor = Actor {
        user: Some(user.clone()),
        via,
        from: None,
        at: orchestrator.now(),
    };
    let lifetime = until.map_or(SESSION_LIFETIME, |until| {
        SESSION_LIFETIME.min(until.since(actor.at))
    });
    let (token, _) = orchestrator
        .new_user_token(user, "session", Some(lifetime), &actor)
        .await?;
    tracing::info!(user = %user, "login");
    cookie(orchestrator, token.expose_secret(), lifetime)
}

fn cookie(
    orchestrator: &Orchestrator,
    value: &str,
    lifetime: Duration,
) -> Result<HeaderValue, Error> {
    let secure = if orchestrator.inner.config.public_url.starts_with("https://") {
        "; Secure"
    } else {
        ""
    };
    let seconds = lifetime.as_secs();
    let text = format!(
        "{SESSION_COOKIE}={value}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}"
    );
    let mut cookie = HeaderValue::from_str(&text).map_err(|error| Error::Bug(error.to_string()))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// A path of one of our pages, or the inbox: never another site.
fn own_path(next: String) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'@' | b'+')
    };
    // A second slash would make it another host.
    let local = match next.as_bytes() {
        [b'/', first, ..] => first.is_ascii_alphanumeric(),
        _ => false,
    };
    if local && next.bytes().all(plain) && !next.starts_with("/login") {
        next
    } else {
        "/approvals".to_owned()
    }
}

/// A path for a query: what is more than a plain path is left out.
pub(crate) fn encoded(path: &str) -> String {
    own_path(path.to_owned())
        .replace('/', "%2F")
        .replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_login_one_stays_here() {
        for (next, expected) in [
            ("/approvals/apr_0193", "/approvals/apr_0193"),
            ("/users/dan@example.com", "/users/dan@example.com"),
            ("", "/approvals"),
            ("/", "/approvals"),
            ("/login", "/approvals"),
            ("/./evil", "/approvals"),
            ("//evil.example", "/approvals"),
            ("https://evil.example", "/approvals"),
            ("/approvals\\@evil", "/approvals"),
            ("/approvals\r\nSet-Cookie: a=b", "/approvals"),
        ] {
            assert_eq!(own_path(next.to_owned()), expected, "{next}");
        }
    }
}
