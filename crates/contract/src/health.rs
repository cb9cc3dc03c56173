//! Whether the orchestrator is well, as probes and operators ask.

use authz::{PolicySetVersion, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /health`: that the process answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// `healthy`.
    pub status: String,
    /// `orchestrator-3-stream`.
    pub service: String,
    /// Of the software.
    pub version: String,
    /// WebSockets that are open.
    pub websocket_connections: usize,
    /// By its clock.
    pub timestamp: Timestamp,
}

/// `GET /ready`: whether the orchestrator can do its work; 503 if not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Readiness {
    /// `ready` or `not ready`.
    pub status: String,
    /// What was looked at.
    pub checks: Checks,
}

/// What [`Readiness`] rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReadinessChecks)]
pub struct Checks {
    /// Whether the database answers.
    pub database: DatabaseCheck,
    /// Whether a policy set is in force.
    pub policy_set: PolicySetCheck,
}

/// Whether the database answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseCheck {
    /// It does.
    pub ok: bool,
    /// What is wrong.
    pub detail: Option<String>,
}

/// Whether a policy set is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PolicySetCheck {
    /// One with policies is.
    pub ok: bool,
    /// Which.
    pub version: PolicySetVersion,
    /// How many policies it has.
    pub policies: usize,
    /// Whether the policy folder can be read and put in force as it is.
    pub folder_ok: bool,
}
