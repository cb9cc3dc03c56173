//! People, as administrators see them.

use std::collections::BTreeSet;

use authz::{RoleName, TeamName, User, UserId, time::Timestamp};
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

/// `GET /api/users/{id}` and `GET /api/whoami`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// The person.
    #[serde(flatten)]
    pub user: User,
    /// When they were added.
    pub created: Timestamp,
}
