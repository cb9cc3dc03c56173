//! The pages where people decide. Rendered here, complete without a script; one small
//! script of ours makes them live.

mod agent;
mod agents;
mod ask;
mod budgets;
mod cedar;
mod difference;
mod form;
mod frame;
mod inbox;
mod me;
mod moment;
mod oidc;
mod overview;
mod playground;
mod policies;
mod request;
mod services;
mod session;
pub(crate) mod text;
mod tokens;
mod tool;
mod trail;
mod users;

use askama::Template;
use axum::{
    Router,
    extract::{FromRequestParts, Query},
    http::{HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};

use serde::Deserialize;

pub(crate) use self::frame::Frame;
use crate::{
    Orchestrator,
    authenticate::{May, Person, View},
    error::Error,
};

/// Every page.
pub(crate) fn routes(orchestrator: &Orchestrator) -> Router {
    public().merge(pages()).with_state(orchestrator.clone())
}

/// Open to everyone.
fn public() -> Router<Orchestrator> {
    Router::new()
        .route("/", get(|| async { Redirect::to("/approvals") }))
        .route("/login", get(session::form).post(session::log_in))
        .route("/logout", post(session::log_out))
        .route("/bootstrap", get(session::bootstrap))
        .route("/login/oidc", get(oidc::log_in))
        .route("/logout/oidc", get(oidc::log_out))
        .route("/login/oidc/callback", get(oidc::callback))
        .route(
            "/assets/style.css",
            asset(
                "text/css; charset=utf-8",
                include_str!("../assets/style.css"),
            ),
        )
        .route(
            "/assets/console.css",
            asset(
                "text/css; charset=utf-8",
                include_str!("../assets/console.css"),
            ),
        )
        .route(
            "/assets/live.js",
            asset(
                "text/javascript; charset=utf-8",
                include_str!("../assets/live.js"),
            ),
        )
        .route(
            "/assets/icon.svg",
            asset("image/svg+xml", include_str!("../assets/icon.svg")),
        )
        .route(
            "/assets/icons.svg",
            asset("image/svg+xml", include_str!("../assets/icons.svg")),
        )
}

/// For people: each takes a [`Visitor`].
fn pages() -> Router<Orchestrator> {
    Router::new()
        .merge(inbox::routes())
        .merge(overview::routes())
        .merge(services::routes())
        .merge(tool::routes())
        .merge(policies::routes())
        .merge(playground::routes())
        .merge(trail::routes())
        .merge(request::routes())
        .merge(agents::routes())
        .merge(agent::routes())
        .merge(users::routes())
        .merge(oneself())
}

/// For everyone who has a session, about themselves: each takes an [`me::Oneself`] or a
/// [`Person`].
fn oneself() -> Router<Orchestrator> {
    Router::new()
        .route("/me", get(me::show))
        .route("/me/link", get(oidc::link))
        .route("/me/sessions/end", post(me::end_sessions))
        .route("/me/sessions/{session}/end", post(me::end_session))
        .route("/me/tokens", post(me::create_token))
        .route("/me/tokens/{token}/revoke", post(me::revoke_token))
        .route("/me/second-factor", post(me::begin_second_factor))
        .route("/me/second-factor/enrol", post(me::enrol_second_factor))
        .route("/me/second-factor/remove", post(me::remove_second_factor))
        .route("/step-up", get(me::step_up_form).post(me::step_up))
        .route("/step-up/oidc", get(oidc::step_up))
}

fn asset(kind: &'static str, text: &'static str) -> axum::routing::MethodRouter<Orchestrator> {
    const HEADERS: [HeaderName; 2] = [header::CONTENT_TYPE, header::CACHE_CONTROL];
    get(move || async move {
        let [content_type, cache_control] = HEADERS;
        // Not for long: an upgrade changes them under the same name.
        (
            [(content_type, kind), (cache_control, "public, max-age=300")],
            text,
        )
    })
}

/// Somebody who may look at pages, and the frame of the one that they ask for.
pub(crate) struct Visitor {
    pub(crate) person: Person,
    pub(crate) frame: Frame,
}

/// What any page's query may hold.
#[derive(Deserialize)]
struct Done {
    /// What the last form did.
    done: Option<String>,
}

impl FromRequestParts<Orchestrator> for Visitor {
    type Rejection = Trouble;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Trouble> {
        let person = match May::<View>::from_request_parts(parts, orchestrator).await {
            Ok(May(person, _)) => person,
            Err(Error::Unauthenticated) if parts.method == Method::GET => {
                return Err(Trouble::LogIn {
                    next: parts.uri.path().to_owned(),
                });
            }
            Err(error) => return Err(Trouble::Error(error)),
        };
        let frame = Frame::new(orchestrator, &person, parts.uri.path()).await?;
        // A query that cannot be read is for the page to refuse.
        let done = Query::<Done>::try_from_uri(&parts.uri)
            .ok()
            .and_then(|Query(query)| query.done);
        Ok(Self {
            frame: frame.noting(done.as_deref()),
            person,
        })
    }
}

/// Why a page is not shown.
pub(crate) enum Trouble {
    /// First log in, then come back.
    LogIn { next: String },
    /// Something went wrong; a page says what.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    heading: &'a str,
    message: String,
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Self::LogIn { next } => {
                let next = session::encoded(&next);
                Redirect::to(&format!("/login?next={next}")).into_response()
            }
            Self::Error(error) => {
                error.log();
                let status = error.status();
                let heading = status.canonical_reason().unwrap_or("Not possible");
                (
                    status,
                    page(&Message {
                        heading,
                        message: error.to_string(),
                    }),
                )
                    .into_response()
            }
        }
    }
}

/// A page, or the news that we cannot write it.
fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => Error::Bug(error.to_string()).into_response(),
    }
}

/// A page with a status other than 200.
fn page_with(status: StatusCode, template: &impl Template) -> Response {
    (status, page(template)).into_response()
}

/// Goes to a page after a form was sent.
fn go(path: &str) -> Response {
    match HeaderValue::from_str(path) {
        Ok(path) => (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response(),
        Err(_) => Redirect::to("/approvals").into_response(),
    }
}
