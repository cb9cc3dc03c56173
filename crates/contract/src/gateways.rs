//! What gateways report about themselves.

use authz::{PolicySetVersion, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `POST /api/gateway/status`: what a gateway enforces. Sent after every change and
/// every few seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayStatus {
    /// The gateway, as its journal names it.
    pub gateway: String,
    /// Which version of Cedargate it is.
    pub software: String,
    /// What it enforces; nothing yet if absent: then it refuses every command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<PolicySetVersion>,
    /// Since when, by its own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Whether that is from its own disk, because the orchestrator's could not be had.
    #[serde(default)]
    pub last_known_good: bool,
    /// What it evaluates beside it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<PolicySetVersion>,
    /// Why it does not enforce, or evaluate, what the orchestrator wants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The digest of its catalog ([`crate::catalog::GatewayCatalog`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub catalog: Option<String>,
}

/// The answer to [`GatewayStatus`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayTold {
    /// Whether the orchestrator does not have the catalog of that digest, and wants it.
    #[serde(default)]
    pub catalog_wanted: bool,
}

/// One line of `GET /api/gateways`, by name: every gateway heard of in the last week.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GatewayView {
    /// What it said last.
    #[serde(flatten)]
    pub status: GatewayStatus,
    /// When, by the orchestrator's clock.
    pub seen: Timestamp,
    /// Whether that is so long ago that it must be gone or cut off.
    pub silent: bool,
    /// Whether it enforces what is in force here.
    pub current: bool,
}
