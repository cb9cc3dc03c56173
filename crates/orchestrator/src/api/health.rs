//! Whether we are well.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use contract::health::{Checks, DatabaseCheck, Health, PolicySetCheck, Readiness};

use crate::{Orchestrator, policy_folder};

/// A database that takes longer is not ready.
const PING_DEADLINE: Duration = Duration::from_secs(2);

#[utoipa::path(
    get,
    path = "/health",
    tag = "planes",
    summary = "Whether the process answers",
    responses((status = 200, description = "It does", body = Health))
)]
pub(crate) async fn health(State(orchestrator): State<Orchestrator>) -> Json<Health> {
    Json(Health {
        status: "healthy".to_owned(),
        service: "orchestrator-3-stream".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        websocket_connections: orchestrator.inner.sockets.load(Ordering::Relaxed),
        timestamp: orchestrator.now(),
    })
}

#[utoipa::path(
    get,
    path = "/ready",
    tag = "planes",
    summary = "Whether it can do its work",
    responses((status = 200, description = "It can", body = Readiness), (status = 503, description = "Its database does not answer, or no policy set is in force", body = Readiness))
)]
pub(crate) async fn ready(State(orchestrator): State<Orchestrator>) -> Response {
    let database = match tokio::time::timeout(PING_DEADLINE, orchestrator.store().ping()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the database does not answer"
            );
            Some("the database does not answer")
        }
        Err(_) => Some("the database does not answer in time"),
    };
    let in_force = orchestrator.in_force();
    let policies = in_force.set.len();
    let loaded = policies > 0;
    let ready = database.is_none() && loaded;
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Readiness {
        status: if ready { "ready" } else { "not ready" }.to_owned(),
        checks: Checks {
            database: DatabaseCheck {
                ok: database.is_none(),
                detail: database.map(str::to_owned),
            },
            policy_set: PolicySetCheck {
                ok: loaded,
                version: in_force.set.version().clone(),
                policies,
                folder_ok: policy_folder::is_whole(&orchestrator),
            },
        },
    };
    (status, Json(body)).into_response()
}
