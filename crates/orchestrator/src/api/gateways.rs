//! Gateways, as they speak of themselves.

use std::time::Duration;

use authz::Timestamp;
use axum::{Json, extract::State};
use contract::gateways::{GatewayStatus, GatewayView};

use crate::{
    Orchestrator,
    authenticate::{May, View},
    error::Error,
};

/// Gateways speak every few seconds; one that did not for so long is gone or cut off.
const SILENT_AFTER: Duration = Duration::from_mins(1);

#[utoipa::path(
    get,
    path = "/api/gateways",
    tag = "planes",
    summary = "What each gateway enforces, and when it last said so",
    responses((status = 200, description = "By name", body = Vec<GatewayView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<GatewayView>>, Error> {
    let now = orchestrator.now();
    let in_force = orchestrator.in_force();
    let stored = orchestrator.store().gateways().await?;
    let views = stored.into_iter().map(|gateway| {
        let status: GatewayStatus = serde_json::from_value(gateway.status)
            .map_err(|error| Error::Bug(format!("a stored gateway is not readable: {error}")))?;
        Ok(GatewayView {
            silent: is_silent(gateway.seen, now),
            current: status.version.as_ref() == Some(in_force.set.version()),
            seen: gateway.seen,
            status,
        })
    });
    views.collect::<Result<_, Error>>().map(Json)
}

/// Whether a gateway that was heard of then is gone or cut off by now.
pub(crate) fn is_silent(seen: Timestamp, now: Timestamp) -> bool {
    seen.plus(SILENT_AFTER) < now
}
