//! What the gateway says of itself, to whoever asks.

use http::{Response, StatusCode};
use serde_json::json;

use crate::{
    Gateway,
    answer::{self, Body},
};

impl Gateway {
    /// `GET /mcp/catalog` for who shows no identity: which services are set up, so that a
    /// deployment can be checked, and none of their commands.
    pub(crate) fn services(&self) -> Response<Body> {
        let services: Vec<_> = self
            .catalog
            .services()
            .iter()
            .map(|service| {
                json!({
                    "name": service.name,
                    "version": service.version,
                    "status": service.status,
                })
            })
            .collect();
        let body = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "services": services,
            "message": "Commands are shown to agents: send a credential.",
            "timestamp": self.clock.now(),
        });
        answer::json(StatusCode::OK, &body)
    }

    /// `GET /health`: that this process answers.
    pub(crate) fn health(&self) -> Response<Body> {
        let body = json!({
            "status": "healthy",
            "timestamp": self.clock.now(),
            "version": env!("CARGO_PKG_VERSION"),
            "uptime": self.started.elapsed().as_secs(),
        });
        answer::json(StatusCode::OK, &body)
    }

    /// `GET /ready`: whether commands can be decided, recorded and carried out.
    pub(crate) fn ready(&self) -> Response<Body> {
        let check = |ok: bool, error: &str| {
            if ok {
                json!({"status": "ok"})
            } else {
                json!({"status": "error", "error": error})
            }
        };
        let (policies, orchestrator, journal) = (
            self.policies.current(),
            self.connected.get(),
            self.journal.is_writable(),
        );
        let policy_set = match &policies {
            None => check(false, "no policy set is loaded yet"),
            Some(active) => json!({
                "status": "ok",
                "version": active.version(),
                "since": active.since(),
                "source": if self.policies.is_last_known_good() { "last_known_good" } else { "orchestrator" },
            }),
        };
        let known = self.zones.current();
        let zones = match &known {
            None => check(false, "nothing is known yet of assigned zones"),
            Some(known) => json!({
                "status": "ok",
                "revision": known.revision(),
                "source": if self.zones.is_last_known() { "last_known" } else { "orchestrator" },
            }),
        };
        let ready = policies.is_some() && known.is_some() && orchestrator && journal;
        let body = json!({
            "status": if ready { "ready" } else { "not_ready" },
            "timestamp": self.clock.now(),
            "version": env!("CARGO_PKG_VERSION"),
            "checks": {
                "policy_set": policy_set,
                "zones": zones,
                "orchestrator": check(orchestrator, "the orchestrator cannot be reached"),
                "journal": check(journal, "the journal cannot be written"),
            },
        });
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
        let body = json!({
            "name": "cedargate",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "An authorization gateway for AI agents",
            "uptime": self.started.elapsed().as_secs(),
            "timestamp": self.clock.now(),
        });
        answer::json(StatusCode::OK, &body)
    }
}
