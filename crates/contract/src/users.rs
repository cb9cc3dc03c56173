//! People, as administrators see them.

use std::collections::BTreeSet;

use authz::{RoleName, SessionId, TeamName, User, UserId, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/users`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The handle.
    pub id: UserId,
    /// Shown to other people; the handle if empty.
    #[serde(default)]
    pub name: String,
    /// Teams.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// Roles.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
}

/// `PATCH /api/users/{id}`: what is absent stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeUser {
    /// Shown to other people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Teams, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teams: Option<BTreeSet<TeamName>>,
    /// Roles, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roles: Option<BTreeSet<RoleName>>,
    /// `false` ends every credential and session of theirs at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
}

/// `GET /api/users/{id}` and `GET /api/whoami`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// The person.
    #[serde(flatten)]
    pub user: User,
    /// When they were added.
    pub created: Timestamp,
    /// When they last used a credential or a session; accurate to a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Whether they enrolled a second factor.
    #[serde(default)]
    pub second_factor: bool,
    /// How often they were changed, from 1: `ETag` says it, `If-Match` asks for it.
    #[serde(default)]
    pub revision: i64,
}

/// `GET /api/me`: oneself, as seen through the credential of the request.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct MeView {
    /// The person.
    #[serde(flatten)]
    pub user: UserView,
    /// `api`, `cli` or `ui`.
    pub via: String,
    /// When the credential or session ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// When a second factor was last proved with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed: Option<Timestamp>,
    /// Unused recovery codes.
    #[serde(default)]
    pub recovery_codes: u32,
}

/// One session of a person's browser: `GET /api/users/{id}/sessions`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionView {
    /// Names it.
    pub id: SessionId,
    /// How it began: `token`, `oidc` or `bootstrap`.
    pub method: String,
    /// From where, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// What the browser says it is.
    pub browser: String,
    /// When it began.
    pub created: Timestamp,
    /// When it ends, whatever is done with it.
    pub expires: Timestamp,
    /// Last seen; accurate to a minute.
    pub last_used: Timestamp,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// `POST /api/me/step-up` and `POST /api/me/second-factor/enrol`.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Code {
    /// Six digits of the device, or a recovery code.
    pub code: String,
}

/// The answer to `POST /api/me/step-up`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SteppedUp {
    /// When the second factor was proved. How long that is good for is for policy to say.
    pub confirmed: Timestamp,
    /// Unused recovery codes.
    pub recovery_codes: u32,
}

/// The answer to `POST /api/me/second-factor`: shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct BegunSecondFactor {
    /// What the device shares with us, in Base32.
    pub secret: String,
    /// The same as `otpauth://totp/…`, as authenticators read it.
    pub uri: String,
}

/// The answer to `POST /api/me/second-factor/enrol`: shown once.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct EnrolledSecondFactor {
    /// Each is good once, in place of a code.
    pub recovery_codes: Vec<String>,
}
