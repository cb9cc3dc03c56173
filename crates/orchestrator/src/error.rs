//! Why the orchestrator did not do what was asked, and how it says so.

use std::time::Duration;

use axum::{
    Json,
    extract::rejection::{FormRejection, JsonRejection, QueryRejection},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use contract::error::ErrorBody;
use store::StoreError;

/// Why the orchestrator did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("this needs the credential of an active user: `Authorization: Bearer cgu_…`")]
    Unauthenticated,
    #[error("this needs the control token: `Authorization: Bearer …`")]
    NotAGateway,
    #[error("this login link was used or has expired")]
    SpentLink,
    #[error(transparent)]
    NotPermitted(#[from] authz::approval::NotPermitted),
    #[error("{0}")]
    StepUp(String),
    #[error("log in again first: this takes a login of the last 15 minutes")]
    NotFresh,
    #[error("this code is wrong, or was used already")]
    WrongCode,
    #[error("too many tries; the next one is in {} s", .0.as_secs().max(1))]
    TooManyTries(Duration),
    #[error("{0}")]
    LoginRefused(String),
    #[error("the provider of identities cannot be used now")]
    Provider(#[source] crate::people::oidc::Unavailable),
    #[error("the request comes from a page of another site")]
    CrossSite,
    #[error("`{0}` may not open a WebSocket here")]
    ForeignOrigin(String),
    #[error("{0}")]
    NotFound(String),
    #[error("`{0}` does not take this method")]
    WrongMethod(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    Conflict(String),
    #[error("it was changed meanwhile: look at it again (it is at {0} now)")]
    Changed(String),
    #[error("{0}: send `If-Match` with the `ETag` of what you saw")]
    NeedsPrecondition(&'static str),
    #[error("{0}")]
    TooMany(String),
    #[error("this approval would not help, policy would refuse the call all the same: {}", .0.advice.join(" "))]
    WouldNotHelp(authz::approval::NotPermitted),
    #[error("the policy set could not be enforced:\n{}", crate::policy_folder::text(.0))]
    InvalidPolicySet(Vec<authz::Finding>),
    #[error(transparent)]
    Forged(#[from] crate::notifications::Forged),
    #[error("account `{0}` is linked to nobody here: ask an administrator to link it")]
    UnknownAccount(String),
    #[error("policy refuses this for good: {0}")]
    NotLiftable(String),
    #[error("a body is at most {0} bytes")]
    TooLarge(usize),
    #[error("the body must be JSON: `Content-Type: application/json`")]
    NotJson,
    #[error("the body must be a form: `Content-Type: application/x-www-form-urlencoded`")]
    NotAForm,
    #[error("too many WebSockets are open")]
    TooManySockets,
    #[error("too many follow the feed already")]
    TooManyStreams,
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    #[error(transparent)]
    Store(StoreError),
    #[error("a bug of ours: {0}")]
    Bug(String),
}

/// When to try again while the database is locked, or away, or slow.
const SOON: Duration = Duration::from_secs(2);

/// A body is at most so many bytes.
pub(crate) const MAX_BODY_BYTES: usize = 1024 * 1024;

impl Error {
    /// The status that says it.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated | Self::NotAGateway | Self::SpentLink | Self::Forged(_) => {
                StatusCode::UNAUTHORIZED
            }
            Self::NotPermitted(_)
            | Self::StepUp(_)
            | Self::NotFresh
            | Self::WrongCode
            | Self::LoginRefused(_)
            | Self::CrossSite
            | Self::ForeignOrigin(_)
            | Self::UnknownAccount(_)
            | Self::NotLiftable(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::InvalidPolicySet(_) | Self::WouldNotHelp(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany(_) | Self::TooManyTries(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::WrongMethod(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Invalid(_) => StatusCode::BAD_REQUEST,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::Changed(_) => StatusCode::PRECONDITION_FAILED,
            Self::NeedsPrecondition(_) => StatusCode::PRECONDITION_REQUIRED,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotJson | Self::NotAForm => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::TooManySockets
            | Self::TooManyStreams
            | Self::Timeout(_)
            | Self::Store(_)
            | Self::Provider(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Bug(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The same in a word, where a program can do something about it.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self {
            Self::StepUp(_) => Some("step_up_required"),
            Self::NotPermitted(not) if not.step_up => Some("step_up_required"),
            Self::NotFresh => Some("login_required"),
            Self::WrongCode => Some("wrong_code"),
            Self::TooManyTries(_) => Some("too_many_tries"),
            _ => None,
        }
    }

    /// Tells the operator what the caller is not told, once, where it is answered.
    pub(crate) fn log(&self) {
        if self.status().is_server_error() {
            tracing::error!(error = self as &dyn std::error::Error, "a request failed");
        }
    }

    /// About one field of a body.
    pub(crate) fn field(name: &str, what: impl std::fmt::Display) -> Self {
        Self::Invalid(format!("{name}: {what}"))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound(_) => Self::NotFound(error.to_string()),
            StoreError::Conflict(what) => Self::Conflict(what),
            StoreError::TooMany(what) => Self::TooMany(what),
            StoreError::Corrupt { .. } => Self::Bug(error.to_string()),
            StoreError::Locked(_)
            | StoreError::Unreachable(_)
            | StoreError::Full(_)
            | StoreError::Database(_)
            | StoreError::Newer(_)
            | StoreError::Foreign(_)
            | StoreError::Migrate(_)
            | StoreError::UnknownDatabase(_) => Self::Store(error),
        }
    }
}

impl From<JsonRejection> for Error {
    fn from(rejection: JsonRejection) -> Self {
        from_body(rejection.status(), &rejection.body_text(), Self::NotJson)
    }
}

impl From<FormRejection> for Error {
    fn from(rejection: FormRejection) -> Self {
        from_body(rejection.status(), &rejection.body_text(), Self::NotAForm)
    }
}

impl From<QueryRejection> for Error {
    fn from(rejection: QueryRejection) -> Self {
        Self::Invalid(concise(&rejection.body_text()))
    }
}

fn from_body(status: StatusCode, text: &str, wrong_type: Error) -> Error {
    match status {
        StatusCode::UNSUPPORTED_MEDIA_TYPE => wrong_type,
        StatusCode::PAYLOAD_TOO_LARGE => Error::TooLarge(MAX_BODY_BYTES),
        _ => Error::Invalid(concise(text)),
    }
}

/// The part of a rejection that names the field, not the Rust type.
fn concise(text: &str) -> String {
    const WRAPPINGS: [&str; 4] = [
        "Failed to deserialize the JSON body into the target type: ",
        "Failed to parse the request body as JSON: ",
        "Failed to deserialize form body: ",
        "Failed to deserialize query string: ",
    ];
    WRAPPINGS
        .iter()
        .find_map(|wrapping| text.strip_prefix(wrapping))
        .unwrap_or(text)
        .to_owned()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.log();
        let status = self.status();
        let mut response = (
            status,
            Json(ErrorBody {
                detail: self.to_string(),
                reason: self.reason().map(str::to_owned),
            }),
        )
            .into_response();
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let retry_after = match &self {
            Self::TooManyTries(wait) => Some(*wait),
            Self::Store(error) if error.may_pass() => Some(SOON),
            Self::Timeout(_) => Some(SOON),
            _ => None,
        };
        if let Some(wait) = retry_after {
            // Rounded up: whoever comes back then is let in.
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            if let Ok(seconds) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
            }
        }
        response
    }
}
