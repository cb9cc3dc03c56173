//! Logging in by token, the first start's link, and logging out.

use std::{sync::PoisonError, time::Duration};

use askama::Template;
use authz::UserId;
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use store::sessions::{Credential, Method};

use super::{Trouble, go, page_with};
use crate::{
    Orchestrator,
    api::Parameters,
    authenticate::{Person, Via},
    credential::Digest,
    error::Error,
    people::session::{Visit, cookie, cookie_name, end},
};

#[derive(Template)]
#[template(path = "login.html")]
struct LogIn {
    problem: Option<String>,
    next: String,
    /// The same for a query.
    next_encoded: String,
    /// What the provider's button says, if there is a provider.
    provider: Option<String>,
    /// Whether it was out of reach a moment ago.
    provider_down: bool,
    /// Whether somebody who had come from it just logged out here.
    left: bool,
}

/// The login page, perhaps with what went wrong.
pub(super) fn login_page(
    orchestrator: &Orchestrator,
    status: StatusCode,
    problem: Option<String>,
    next: &str,
) -> Response {
    login_page_of(orchestrator, status, problem, next, false)
}

fn login_page_of(
    orchestrator: &Orchestrator,
    status: StatusCode,
    problem: Option<String>,
    next: &str,
    left: bool,
) -> Response {
    let next = own_path(next);
    let provider = orchestrator.inner.people.provider.as_ref();
    page_with(
        status,
        &LogIn {
            problem,
            next_encoded: encoded(&next),
            next,
            provider: provider.map(|provider| provider.config.name.clone()),
            provider_down: provider.is_some_and(|provider| provider.is_down(orchestrator.now())),
            left: left && provider.is_some(),
        },
    )
}

#[derive(Debug, Deserialize)]
pub(crate) struct Next {
    #[serde(default)]
    pub(super) next: String,
}

/// What the login page is asked with.
#[derive(Debug, Deserialize)]
pub(crate) struct Asked {
    #[serde(default)]
    next: String,
    /// Not empty: somebody who had come from the provider just logged out here.
    #[serde(default)]
    left: String,
}

/// `GET /login`.
pub(crate) async fn form(
    State(orchestrator): State<Orchestrator>,
    Parameters(Asked { next, left }): Parameters<Asked>,
) -> Response {
    login_page_of(&orchestrator, StatusCode::OK, None, &next, !left.is_empty())
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
    visit: Result<Visit, Error>,
    State(orchestrator): State<Orchestrator>,
    credentials: Result<Form<Credentials>, FormRejection>,
) -> Result<Response, Trouble> {
    let visit = visit?;
    let Form(Credentials { token, next }) = credentials.map_err(Error::from)?;
    if let Err(error) = visit.may_try(&orchestrator) {
        return Ok(limited(&orchestrator, &error, &next));
    }
    let person = match Person::from_token(&orchestrator, token.trim(), Via::Token).await {
        Ok(person) => person,
        Err(Error::Unauthenticated) => {
            visit
                .refused(&orchestrator, "token", "nobody holds this token")
                .await;
            let problem =
                "No active user holds this token. An agent's token does not open this page.";
            return Ok(login_page(
                &orchestrator,
                StatusCode::UNAUTHORIZED,
                Some(problem.to_owned()),
                &next,
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let Credential::Token(token) = person.credential else {
        return Err(Error::Unauthenticated.into());
    };
    let cookie = visit
        .begin(
            &orchestrator,
            &person.user.id,
            Method::Token(token),
            person.expires,
            None,
        )
        .await?;
    Ok(([(header::SET_COOKIE, cookie)], go(&own_path(&next))).into_response())
}

/// The login page, for who was wrong too often.
pub(super) fn limited(orchestrator: &Orchestrator, error: &Error, next: &str) -> Response {
    let problem = format!("There were too many tries from where you are: {error}.");
    login_page(orchestrator, error.status(), Some(problem), next)
}

/// `POST /logout`: the session ends, it is not only forgotten.
pub(crate) async fn log_out(
    visit: Result<Visit, Error>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    let mut to = "/login";
    if let Some(person) = visit?.person {
        // Not straight to the provider: our forms lead nowhere else, and perhaps it is
        // only here that one wants to be logged out.
        if person.origin == Method::Oidc.as_str() && offers_logout(&orchestrator).await {
            to = "/login?left=oidc";
        }
        end(&orchestrator, &person, "logout").await?;
        tracing::info!(user = %person.user.id, "logout");
    }
    let gone = cookie(
        &orchestrator,
        cookie_name(&orchestrator),
        "",
        Duration::ZERO,
    )?;
    Ok(([(header::SET_COOKIE, gone)], go(to)).into_response())
}

/// Whether the provider is known to let browsers log out there.
async fn offers_logout(orchestrator: &Orchestrator) -> bool {
    match &orchestrator.inner.people.provider {
        None => false,
        Some(provider) => {
            let url = provider.logout_url(orchestrator.now()).await;
            url.is_ok_and(|url| url.is_some())
        }
    }
}

/// What the first start's link carries.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Code {
    code: String,
}

/// `GET /bootstrap?code=…`: logs the first admin in, once.
pub(crate) async fn bootstrap(
    visit: Result<Visit, Error>,
    State(orchestrator): State<Orchestrator>,
    Parameters(Code { code }): Parameters<Code>,
) -> Result<Response, Trouble> {
    let visit = visit?;
    visit.may_try(&orchestrator)?;
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
        visit
            .refused(
                &orchestrator,
                "bootstrap",
                "the link was used or has expired",
            )
            .await;
        return Err(Error::SpentLink.into());
    }
    let admin: UserId = "admin"
        .parse()
        .map_err(|error| Error::Bug(format!("{error}")))?;
    let cookie = visit
        .begin(&orchestrator, &admin, Method::Bootstrap, None, None)
        .await?;
    Ok(([(header::SET_COOKIE, cookie)], go("/approvals")).into_response())
}

/// A path of ours, or the inbox: never another site, and nothing that a browser could
/// read as one.
pub(crate) fn own_path(next: &str) -> String {
    let plain = next.bytes().all(|byte| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.' | b'@' | b'+')
    });
    let ours = next.starts_with('/') && !next.starts_with("//");
    let door = ["/login", "/logout", "/bootstrap", "/api/"]
        .iter()
        .any(|door| next.starts_with(door));
    if plain && ours && !door && next.len() <= 512 {
        next.to_owned()
    } else {
        "/approvals".to_owned()
    }
}

/// A path for a query: what is more than a plain path is left out.
pub(crate) fn encoded(path: &str) -> String {
    own_path(path).replace('/', "%2F").replace('+', "%2B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_login_one_stays_here() {
        for (next, expected) in [
            ("/approvals/apr_0193", "/approvals/apr_0193"),
            ("/users/dan+x@example.com", "/users/dan+x@example.com"),
            ("/me", "/me"),
            ("", "/approvals"),
            ("approvals", "/approvals"),
            ("//evil.example", "/approvals"),
            ("///evil.example", "/approvals"),
            ("/\\evil.example", "/approvals"),
            ("/%2fevil.example", "/approvals"),
            ("https://evil.example", "/approvals"),
            ("javascript:alert(1)", "/approvals"),
            ("/approvals\\@evil", "/approvals"),
            ("/approvals\r\nSet-Cookie: a=b", "/approvals"),
            ("/approvals\u{2215}evil", "/approvals"),
            ("/logout", "/approvals"),
            ("/login", "/approvals"),
            ("/bootstrap", "/approvals"),
        ] {
            assert_eq!(own_path(next), expected, "{next}");
        }
        assert_eq!(encoded("/users/a+b"), "%2Fusers%2Fa%2Bb");
    }
}
