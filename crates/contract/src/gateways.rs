//! What gateways report about themselves.

use authz::{PolicySetVersion, ServiceName, time::Timestamp};
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
    /// How its services are, by name.
    #[serde(default)]
    pub services: Vec<ServiceHealth>,
}

/// How a service is at a gateway, as far as its last commands showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceHealth {
    /// The service.
    pub service: ServiceName,
    /// In a word.
    pub state: HealthState,
    /// Since when, by the gateway's clock; absent where it never was otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// `closed`, `open` or `half_open`, of services that have a circuit breaker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<String>,
    /// How many commands failed in a row.
    #[serde(default)]
    pub failures: u32,
    /// How the last of them failed: `unreachable`, `timeout`, `broken`, `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<Timestamp>,
    /// How many requests are under way, where that is limited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_flight: Option<u64>,
    /// What to set, or what is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How a service is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthState {
    /// It answers, or was not asked yet.
    Healthy,
    /// Its last commands failed, or it is left alone for a while; it is tried again.
    Degraded,
    /// It cannot be used before somebody sets something.
    Unconfigured,
}

impl HealthState {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unconfigured => "unconfigured",
        }
    }
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
