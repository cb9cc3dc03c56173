//! Whether we are well.

use std::{sync::atomic::Ordering, time::Duration};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::{Orchestrator, policy_folder};

/// A database that takes longer is not ready.
const PING_DEADLINE: Duration = Duration::from_secs(2);

/// `GET /health`: the process answers.
pub(crate) async fn health(State(orchestrator): State<Orchestrator>) -> Json<Value> {
    Json(json!({
        "status": "healthy",
        "service": "orchestrator-3-stream",
        "version": env!("CARGO_PKG_VERSION"),
        "websocket_connections": orchestrator.inner.sockets.load(Ordering::Relaxed),
        "timestamp": orchestrator.now(),
    }))
}

/// `GET /ready`: it can do its work. A broken policy folder does not stop it.
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
    let body = json!({
        "status": if ready { "ready" } else { "not ready" },
        "checks": {
            "database": { "ok": database.is_none(), "detail": database },
            "policy_set": {
                "ok": loaded,
                "version": in_force.set.version(),
                "policies": policies,
                "folder_ok": policy_folder::is_whole(&orchestrator),
            },
        },
    });
    (status, Json(body)).into_response()
}
