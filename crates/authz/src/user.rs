//! Users: the people who administer, approve and read.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::{RoleName, TeamName, UserId};

/// One person, as policies see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// The handle, unique and never reused.
    pub id: UserId,
    /// Shown to other people.
    pub name: String,
    /// Teams that they belong to.
    #[serde(default)]
    pub teams: BTreeSet<TeamName>,
    /// `admin`, `security`, `approver`, `viewer`, or roles of the operator's own.
    #[serde(default)]
    pub roles: BTreeSet<RoleName>,
    /// A user who is not active may do nothing.
    #[serde(default = "active")]
    pub active: bool,
}

const fn active() -> bool {
    true
}
