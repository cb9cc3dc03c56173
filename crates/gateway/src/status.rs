//! What the gateway says of itself, to whoever asks.

use authz::{PolicySetVersion, ServiceName, Timestamp};
use handlers::catalog::State;
use http::{Response, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    Gateway,
    answer::{self, Body},
    health,
};

/// `GET /health`: that this process answers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// `healthy`.
    status: &'static str,
    timestamp: Timestamp,
    version: &'static str,
    /// Seconds since its start.
    uptime: u64,
}

/// `GET /ready`: whether commands can be decided, recorded and carried out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready` or `not_ready`.
    status: &'static str,
    timestamp: Timestamp,
    version: &'static str,
    checks: Checks,
}

/// What readiness rests on.
#[derive(Debug, Serialize, ToSchema)]
struct Checks {
    policy_set: PolicySetCheck,
    zones: ZonesCheck,
    orchestrator: Check,
    journal: Check,
    services: ServicesCheck,
}

/// Whether one thing is as it should be.
#[derive(Debug, Serialize, ToSchema)]
struct Check {
    /// `ok` or `error`.
    status: &'static str,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// How services are. None of them makes the gateway not ready: it decides and records all
/// the same, and for the others it works.
#[derive(Debug, Serialize, ToSchema)]
struct ServicesCheck {
    /// `ok`, or `degraded` when one that is configured is not well.
    status: &'static str,
    /// `false`: the gateway is ready, however they are.
    decides_readiness: bool,
    healthy: usize,
    degraded: usize,
    unconfigured: usize,
    /// Those that are configured and not well, by name.
    unwell: Vec<ServiceUnwell>,
}

/// A service that is not well.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceUnwell {
    name: ServiceName,
    #[serde(flatten)]
    health: health::Shown,
}

/// Whether a policy set is enforced, and which.
#[derive(Debug, Serialize, ToSchema)]
struct PolicySetCheck {
    #[serde(flatten)]
    check: Check,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<PolicySetVersion>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// `orchestrator`, or `last_known_good` when it is from this gateway's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

/// Whether it is known which zones people put services and commands into.
#[derive(Debug, Serialize, ToSchema)]
struct ZonesCheck {
    #[serde(flatten)]
    check: Check,
    /// How often they were changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    /// `orchestrator`, or `last_known` when it is from this gateway's disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<&'static str>,
}

/// `GET /info`: what this is, and nothing that helps an attacker.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Info {
    /// `cedargate`.
    name: &'static str,
    version: &'static str,
    description: &'static str,
    /// Seconds since its start.
    uptime: u64,
    timestamp: Timestamp,
}

/// `GET /mcp/catalog` for who shows no identity.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceList {
    version: &'static str,
    services: Vec<ServiceThere>,
    message: &'static str,
    timestamp: Timestamp,
}

/// That a service is set up, and nothing of its commands.
#[derive(Debug, Serialize, ToSchema)]
struct ServiceThere {
    name: ServiceName,
    version: String,
    /// `active`, or `error` when it is not configured.
    status: String,
}

impl Check {
    fn of(ok: bool, error: &'static str) -> Self {
        Self {
            status: if ok { "ok" } else { "error" },
            error: (!ok).then_some(error),
        }
    }
}

impl Gateway {
    /// `GET /mcp/catalog` for who shows no identity: which services are set up, so that a
    /// deployment can be checked, and none of their commands.
    pub(crate) fn services(&self) -> Response<Body> {
        let known = self.catalog.services();
        let services = known.iter().map(|service| ServiceThere {
            name: service.name.clone(),
            version: service.version.clone(),
            status: service.status.clone(),
        });
        let body = ServiceList {
            version: env!("CARGO_PKG_VERSION"),
            services: services.collect(),
            message: "Commands are shown to agents: send a credential.",
            timestamp: self.clock.now(),
        };
        answer::json(StatusCode::OK, &body)
    }

    fn services_check(&self) -> ServicesCheck {
        let now = self.clock.now();
        let mut check = ServicesCheck {
            status: "ok",
            decides_readiness: false,
            healthy: 0,
            degraded: 0,
            unconfigured: 0,
            unwell: Vec::new(),
        };
        for (name, condition) in self.catalog.conditions() {
            match condition.state {
                State::Healthy => check.healthy += 1,
                State::Unconfigured => check.unconfigured += 1,
                State::Degraded => {
                    check.degraded += 1;
                    check.status = "degraded";
                    check.unwell.push(ServiceUnwell {
                        name: name.clone(),
                        health: health::Shown::of(&condition, now),
                    });
                }
            }
        }
        check
    }

    /// `GET /health`: that this process answers.
    pub(crate) fn health(&self) -> Response<Body> {
        let body = Health {
            status: "healthy",
            timestamp: self.clock.now(),
            version: env!("CARGO_PKG_VERSION"),
            uptime: self.started.elapsed().as_secs(),
        };
        answer::json(StatusCode::OK, &body)
    }

    /// `GET /ready`: whether commands can be decided, recorded and carried out.
    pub(crate) fn ready(&self) -> Response<Body> {
        let (policies, orchestrator, journal) = (
            self.policies.current(),
            self.connected.get(),
            self.journal.is_writable(),
        );
        let loaded = policies.is_some();
        let source = if self.policies.is_last_known_good() {
            "last_known_good"
        } else {
            "orchestrator"
        };
        let policy_set = PolicySetCheck {
            check: Check::of(loaded, "no policy set is loaded yet"),
            version: policies.as_ref().map(|active| active.version().clone()),
            since: policies.as_ref().map(|active| active.since()),
            source: loaded.then_some(source),
        };
        let known = self.zones.current();
        let zones_source = if self.zones.is_last_known() {
            "last_known"
        } else {
            "orchestrator"
        };
        let zones = ZonesCheck {
            check: Check::of(known.is_some(), "nothing is known yet of assigned zones"),
            revision: known.as_ref().map(|known| known.revision()),
            source: known.is_some().then_some(zones_source),
        };
        let ready = loaded && known.is_some() && orchestrator && journal;
        let body = Readiness {
            status: if ready { "ready" } else { "not_ready" },
            timestamp: self.clock.now(),
            version: env!("CARGO_PKG_VERSION"),
            checks: Checks {
                policy_set,
                zones,
                orchestrator: Check::of(orchestrator, "the orchestrator cannot be reached"),
                journal: Check::of(journal, "the journal cannot be written"),
                services: self.services_check(),
            },
        };
        answer::json(
            if ready {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            },
            &body,
        )
    }

    /// `GET /info`: what this is, and nothing that helps an attacker.
    pub(crate) fn info(&self) -> Response<Body> {
        let body = Info {
            name: "cedargate",
            version: env!("CARGO_PKG_VERSION"),
            description: "An authorization gateway for AI agents",
            uptime: self.started.elapsed().as_secs(),
            timestamp: self.clock.now(),
        };
        answer::json(StatusCode::OK, &body)
    }
}
