//! To the provider of identities and back.

use std::time::Duration;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use store::{Actor, identities::Identity, sessions::Method};

use super::{
    Trouble, go,
    me::Oneself,
    session::{Next, encoded, limited, login_page, own_path},
};
use crate::{
    Orchestrator,
    api::Parameters,
    error::Error,
    people::{
        oidc::{Claims, Failure, Flow, Provider, Purpose, admit},
        second_factor,
        session::{Visit, cookie, cookie_value, is_secure},
    },
};

/// How long a cookie for the way there and back lives.
const LIFETIME: Duration = Duration::from_mins(10);

fn flow_cookie_name(orchestrator: &Orchestrator) -> &'static str {
    if is_secure(orchestrator) {
        "__Host-cedargate_oidc"
    } else {
        "cedargate_oidc"
    }
}

fn provider(orchestrator: &Orchestrator) -> Result<&Provider, Error> {
    orchestrator
        .inner
        .people
        .provider
        .as_ref()
        .ok_or_else(|| Error::NotFound("a provider of identities is not configured".to_owned()))
}

/// `GET /login/oidc`.
pub(crate) async fn log_in(
    State(orchestrator): State<Orchestrator>,
    Parameters(Next { next }): Parameters<Next>,
) -> Result<Response, Trouble> {
    depart(&orchestrator, Purpose::LogIn, &next).await
}

/// `GET /logout/oidc`: to the provider, for who logged out here and wants to there.
pub(crate) async fn log_out(State(orchestrator): State<Orchestrator>) -> Result<Response, Trouble> {
    let url = match provider(&orchestrator)?
        .logout_url(orchestrator.now())
        .await
    {
        Ok(Some(url)) => url,
        Ok(None) => {
            let message = "the provider of identities offers no logout";
            return Err(Error::NotFound(message.to_owned()).into());
        }
        Err(error) => {
            let error = Error::Provider(error);
            error.log();
            return Ok(unavailable(&orchestrator, &error, Purpose::LogIn, ""));
        }
    };
    Ok(go(&url))
}

/// `GET /step-up/oidc`: for whoever has a session already.
pub(crate) async fn step_up(
    _: Oneself,
    State(orchestrator): State<Orchestrator>,
    Parameters(Next { next }): Parameters<Next>,
) -> Result<Response, Trouble> {
    depart(&orchestrator, Purpose::StepUp, &next).await
}

/// `GET /me/link`: says at the provider who one is there. Whoever links an identity can
/// log in by it for ever after, so a browser left open is not enough.
pub(crate) async fn link(
    Oneself(person, _): Oneself,
    State(orchestrator): State<Orchestrator>,
) -> Result<Response, Trouble> {
    match second_factor::may_change(&orchestrator, &person).await {
        Ok(()) => depart(&orchestrator, Purpose::Link, "/me").await,
        Err(Error::StepUp(_)) => Ok(go("/step-up?next=%2Fme%2Flink")),
        Err(error) => Err(error.into()),
    }
}

async fn depart(
    orchestrator: &Orchestrator,
    purpose: Purpose,
    next: &str,
) -> Result<Response, Trouble> {
    let provider = provider(orchestrator)?;
    let now = orchestrator.now();
    let flow = Flow::begin(purpose, own_path(next), now);
    let url = match provider.authorization_url(&flow, now).await {
        Ok(url) => url,
        Err(error) => {
            let error = Error::Provider(error);
            error.log();
            return Ok(unavailable(orchestrator, &error, purpose, next));
        }
    };
    let name = flow_cookie_name(orchestrator);
    let cookie = cookie(orchestrator, name, &flow.cookie(), LIFETIME)?;
    let url = HeaderValue::from_str(&url).map_err(|error| Error::Bug(error.to_string()))?;
    Ok((
        StatusCode::SEE_OTHER,
        [(header::SET_COOKIE, cookie), (header::LOCATION, url)],
    )
        .into_response())
}

fn unavailable(
    orchestrator: &Orchestrator,
    error: &Error,
    purpose: Purpose,
    next: &str,
) -> Response {
    match purpose {
        Purpose::LogIn => login_page(
            orchestrator,
            error.status(),
            Some(format!("{error}. Log in by token meanwhile.")),
            next,
        ),
        Purpose::StepUp | Purpose::Link => {
            Trouble::Error(Error::Conflict(error.to_string())).into_response()
        }
    }
}

/// What a provider sends a browser back with.
#[derive(Deserialize)]
pub(crate) struct Returned {
    #[serde(default)]
    state: String,
    #[serde(default)]
    code: String,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    error: Option<String>,
}

/// `GET /login/oidc/callback`.
pub(crate) async fn callback(
    visit: Result<Visit, Error>,
    State(orchestrator): State<Orchestrator>,
    Parameters(returned): Parameters<Returned>,
    headers: HeaderMap,
) -> Result<Response, Trouble> {
    let visit = visit?;
    let provider = provider(&orchestrator)?;
    let name = flow_cookie_name(&orchestrator);
    let flow = cookie_value(&headers, name)
        .and_then(|text| Flow::from_cookie(text, orchestrator.now()))
        .filter(|flow| flow.is_answered_by(&returned.state));
    // One question, one answer: whatever comes of it, the browser forgets the question.
    let forget = cookie(&orchestrator, name, "", Duration::ZERO)?;
    let response = if let Some(flow) = flow {
        arrive(&orchestrator, provider, &visit, &flow, &returned).await?
    } else {
        if let Err(error) = visit.may_try(&orchestrator) {
            return Ok(limited(&orchestrator, &error, ""));
        }
        let why = "nobody here asked for this, or too long ago";
        visit.refused(&orchestrator, "oidc", why).await;
        let problem = "This login was not begun in this browser, or too long ago. Begin again.";
        refused(&orchestrator, problem, "")
    };
    let (mut parts, body) = response.into_parts();
    parts.headers.append(header::SET_COOKIE, forget);
    Ok(Response::from_parts(parts, body))
}

fn refused(orchestrator: &Orchestrator, problem: &str, next: &str) -> Response {
    login_page(
        orchestrator,
        StatusCode::UNAUTHORIZED,
        Some(problem.to_owned()),
        next,
    )
}

async fn arrive(
    orchestrator: &Orchestrator,
    provider: &Provider,
    visit: &Visit,
    flow: &Flow,
    returned: &Returned,
) -> Result<Response, Trouble> {
    if let Err(error) = visit.may_try(orchestrator) {
        return Ok(limited(orchestrator, &error, &flow.next));
    }
    if let Some(error) = &returned.error {
        tracing::info!(error = format!("{error:.100}"), "login_cancelled");
        let problem = if error == "access_denied" {
            "You cancelled at the provider, or it let you not in.".to_owned()
        } else {
            format!("The provider says: {error:.100}.")
        };
        return Ok(match flow.purpose {
            Purpose::LogIn => refused(orchestrator, &problem, &flow.next),
            Purpose::StepUp => go(&format!("/step-up?next={}", encoded(&flow.next))),
            Purpose::Link => go("/me"),
        });
    }
    let now = orchestrator.now();
    let redeemed = provider
        .redeem(flow, &returned.code, returned.iss.as_deref(), now)
        .await;
    let claims = match redeemed {
        Ok(claims) => claims,
        Err(Failure::Refused(why)) => {
            visit.refused(orchestrator, "oidc", why.0).await;
            let problem = format!("The provider's answer is not believed: {}.", why.0);
            return Ok(refused(orchestrator, &problem, &flow.next));
        }
        Err(Failure::Unavailable(error)) => {
            let error = Error::Provider(error);
            error.log();
            return Ok(unavailable(orchestrator, &error, flow.purpose, &flow.next));
        }
    };
    let settled = match flow.purpose {
        Purpose::LogIn => enter(orchestrator, provider, visit, &claims).await,
        Purpose::StepUp => confirm(orchestrator, provider, visit, &claims).await,
        Purpose::Link => link_to(orchestrator, provider, visit, &claims).await,
    };
    match settled {
        Ok(cookie) => {
            let headers: HeaderMap = cookie
                .into_iter()
                .map(|cookie| (header::SET_COOKIE, cookie))
                .collect();
            Ok((headers, go(&own_path(&flow.next))).into_response())
        }
        Err(Error::LoginRefused(why)) => {
            visit.refused(orchestrator, "oidc", &why).await;
            Ok(login_page(
                orchestrator,
                StatusCode::FORBIDDEN,
                Some(format!("You are not let in: {why}.")),
                &flow.next,
            ))
        }
        Err(error) => Err(error.into()),
    }
}

/// A new session.
async fn enter(
    orchestrator: &Orchestrator,
    provider: &Provider,
    visit: &Visit,
    claims: &Claims,
) -> Result<Option<HeaderValue>, Error> {
    let actor = Actor {
        user: None,
        via: "oidc",
        from: visit.from,
        at: orchestrator.now(),
    };
    let user = admit(orchestrator, provider, claims, &actor).await?;
    let confirmed = claims.second_factor(provider).map(|at| at.min(actor.at));
    visit
        .begin(orchestrator, &user.id, Method::Oidc, None, confirmed)
        .await
        .map(Some)
}

/// The person of the session has shown themselves to the provider again.
async fn confirm(
    orchestrator: &Orchestrator,
    provider: &Provider,
    visit: &Visit,
    claims: &Claims,
) -> Result<Option<HeaderValue>, Error> {
    let person = visit.person.as_ref().ok_or(Error::Unauthenticated)?;
    let stranger = || {
        Error::LoginRefused(
            "whoever showed themselves to the provider is not who is logged in here".to_owned(),
        )
    };
    match orchestrator
        .store()
        .user_by_identity(&identity(provider, claims))
        .await
    {
        Ok(stored) if stored.user.id == person.user.id => {}
        Ok(_) | Err(store::StoreError::NotFound(_)) => return Err(stranger()),
        Err(error) => return Err(error.into()),
    }
    let config = &provider.config;
    let particular = !config.mfa_acr.is_empty() || !config.mfa_amr.is_empty();
    if particular && claims.second_factor(provider).is_none() {
        return Err(Error::LoginRefused(
            "the provider asked for no second factor".to_owned(),
        ));
    }
    let how = if particular {
        "provider's second factor"
    } else {
        "provider asked again"
    };
    second_factor::vouched(orchestrator, person, how.to_owned()).await
}

/// Whoever is logged in here is that person there.
async fn link_to(
    orchestrator: &Orchestrator,
    provider: &Provider,
    visit: &Visit,
    claims: &Claims,
) -> Result<Option<HeaderValue>, Error> {
    let person = visit.person.as_ref().ok_or(Error::Unauthenticated)?;
    second_factor::may_change(orchestrator, person).await?;
    orchestrator
        .store()
        .link_identity(
            &identity(provider, claims),
            &person.user.id,
            &orchestrator.actor(person),
        )
        .await?;
    Ok(None)
}

fn identity(provider: &Provider, claims: &Claims) -> Identity {
    Identity {
        issuer: provider.config.issuer.clone(),
        subject: claims.subject.clone(),
    }
}
