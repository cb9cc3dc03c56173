//! How services are, as agents, people, Prometheus and the orchestrator hear of it.

use authz::Timestamp;
use contract::gateways::{HealthState, ServiceHealth};
use handlers::{
    Catalog,
    catalog::{Breaker, Condition, State},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::Gateway;

/// How a service is, without what only operators need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = ServiceHealth)]
pub(crate) struct Shown {
    /// `healthy`, `degraded` or `unconfigured`.
    state: &'static str,
    /// Since when, if it was ever otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// `closed`, `open` or `half_open`, of services that have a circuit breaker.
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<&'static str>,
    /// How the last command failed: `unreachable`, `timeout`, `broken`, `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_error: Option<&'static str>,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_at: Option<Timestamp>,
}

impl Shown {
    pub(crate) fn of(condition: &Condition, now: Timestamp) -> Self {
        Self {
            state: condition.state.as_str(),
            since: condition.lasting.map(|lasting| now.minus(lasting)),
            breaker: condition.breaker.map(Breaker::as_str),
            last_error: condition.last_error,
            retry_at: condition.retry_in.map(|left| now.plus(left)),
        }
    }
}

/// A longer reason is cut.
const MAX_REASON_CHARS: usize = 300;

/// How every service is, for the orchestrator.
pub(crate) fn services(catalog: &Catalog, now: Timestamp) -> Vec<ServiceHealth> {
    let conditions = catalog.conditions();
    let told = conditions.map(|(name, condition)| ServiceHealth {
        service: name.clone(),
        state: match condition.state {
            State::Healthy => HealthState::Healthy,
            State::Degraded => HealthState::Degraded,
            State::Unconfigured => HealthState::Unconfigured,
        },
        since: condition.lasting.map(|lasting| now.minus(lasting)),
        breaker: condition.breaker.map(|breaker| breaker.as_str().to_owned()),
        failures: condition.failures,
        last_error: condition.last_error.map(str::to_owned),
        retry_at: condition.retry_in.map(|left| now.plus(left)),
        in_flight: condition
            .in_flight
            .map(|count| u64::try_from(count).unwrap_or(u64::MAX)),
        reason: condition
            .reason
            .map(|reason| reason.chars().take(MAX_REASON_CHARS).collect()),
    });
    told.collect()
}

/// What of it is worth telling at once: states and breakers.
pub(crate) fn digest(catalog: &Catalog) -> Vec<(&'static str, Option<&'static str>)> {
    let conditions = catalog.conditions();
    let words = conditions.map(|(_, condition)| {
        let breaker = condition.breaker.map(Breaker::as_str);
        (condition.state.as_str(), breaker)
    });
    words.collect()
}

impl Gateway {
    /// Everything, as Prometheus reads it, with how services are now.
    pub(crate) fn metrics_text(&self) -> Result<Vec<u8>, prometheus::Error> {
        for (name, condition) in self.catalog.conditions() {
            self.metrics.service(name.as_str(), &condition);
        }
        self.metrics.text()
    }
}
