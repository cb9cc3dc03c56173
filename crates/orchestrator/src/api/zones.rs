//! Zones that people put services and commands into.

use std::{collections::HashMap, str::FromStr};

use authz::{CommandName, ServiceName, ZoneName};
use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use contract::zones::{GatewayZones, ZoneAssignments};
use store::zones::ZoneMember;

use super::nothing;
use crate::{
    Orchestrator,
    authenticate::{GatewayCaller, ManagePolicies, May, View},
    error::Error,
    precondition::{Precondition, Tag, Tagged},
    zones,
};

/// What the path names, as [`super::Named`]: without a `command` the whole service.
pub(crate) struct Member(ZoneMember);

impl FromRequestParts<Orchestrator> for Member {
    type Rejection = Error;

    async fn from_request_parts(
        parts: &mut Parts,
        orchestrator: &Orchestrator,
    ) -> Result<Self, Error> {
        let Path(named): Path<HashMap<String, String>> =
            Path::from_request_parts(parts, orchestrator)
                .await
                .map_err(nothing)?;
        Ok(Self(ZoneMember {
            service: part(&named, "service")?.ok_or_else(|| nothing("a service"))?,
            command: part(&named, "command")?,
            zone: part(&named, "zone")?.ok_or_else(|| nothing("a zone"))?,
        }))
    }
}

fn part<T: FromStr<Err: std::fmt::Display>>(
    named: &HashMap<String, String>,
    name: &str,
) -> Result<Option<T>, Error> {
    let text = named.get(name);
    text.map(|text| text.parse().map_err(nothing)).transpose()
}

#[utoipa::path(
    get,
    path = "/api/zones",
    tag = "services",
    summary = "What people put into zones, besides what descriptions give",
    responses((status = 200, description = "All of it", body = ZoneAssignments, headers(("ETag" = String, description = "The revision of all of it"))))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Tagged<ZoneAssignments>, Error> {
    Ok(tagged(orchestrator.store().zones().await?))
}

#[utoipa::path(
    put,
    path = "/api/services/{service}/zones/{zone}",
    tag = "services",
    summary = "Put a service into a zone; no error if it is there",
    params(("service" = ServiceName, Path), ("zone" = ZoneName, Path), Precondition),
    responses((status = 200, description = "All that people put into zones", body = ZoneAssignments, headers(("ETag" = String, description = "The revision of all of it"))), (status = 409, description = "There are too many"))
)]
pub(crate) async fn add_service(
    may: May<ManagePolicies>,
    orchestrator: State<Orchestrator>,
    member: Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    add(may, orchestrator, member, seen).await
}

#[utoipa::path(
    delete,
    path = "/api/services/{service}/zones/{zone}",
    tag = "services",
    summary = "Take a service out of a zone; no error if it was not there",
    params(("service" = ServiceName, Path), ("zone" = ZoneName, Path), Precondition),
    responses((status = 200, description = "All that people put into zones", body = ZoneAssignments, headers(("ETag" = String, description = "The revision of all of it"))), (status = 409, description = "It is there for another reason than that somebody put it there"))
)]
pub(crate) async fn remove_service(
    may: May<ManagePolicies>,
    orchestrator: State<Orchestrator>,
    member: Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    remove(may, orchestrator, member, seen).await
}

#[utoipa::path(
    put,
    path = "/api/services/{service}/commands/{command}/zones/{zone}",
    tag = "services",
    summary = "Put one command of a service into a zone; no error if it is there",
    params(("service" = ServiceName, Path), ("command" = CommandName, Path), ("zone" = ZoneName, Path), Precondition),
    responses((status = 200, description = "All that people put into zones", body = ZoneAssignments, headers(("ETag" = String, description = "The revision of all of it"))), (status = 409, description = "There are too many"))
)]
pub(crate) async fn add_command(
    may: May<ManagePolicies>,
    orchestrator: State<Orchestrator>,
    member: Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    add(may, orchestrator, member, seen).await
}

#[utoipa::path(
    delete,
    path = "/api/services/{service}/commands/{command}/zones/{zone}",
    tag = "services",
    summary = "Take one command of a service out of a zone; no error if it was not there",
    params(("service" = ServiceName, Path), ("command" = CommandName, Path), ("zone" = ZoneName, Path), Precondition),
    responses((status = 200, description = "All that people put into zones", body = ZoneAssignments, headers(("ETag" = String, description = "The revision of all of it"))), (status = 409, description = "It is there for another reason than that somebody put it there"))
)]
pub(crate) async fn remove_command(
    may: May<ManagePolicies>,
    orchestrator: State<Orchestrator>,
    member: Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    remove(may, orchestrator, member, seen).await
}

async fn add(
    May(person, _): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Member(member): Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    let zones = zones::add(&orchestrator, &person, &member, &seen).await?;
    Ok(tagged(zones))
}

async fn remove(
    May(person, _): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    Member(member): Member,
    seen: Precondition,
) -> Result<Tagged<ZoneAssignments>, Error> {
    let zones = zones::remove(&orchestrator, &person, &member, &seen).await?;
    Ok(tagged(zones))
}

fn tagged(zones: store::zones::ZoneAssignments) -> Tagged<ZoneAssignments> {
    Tagged(Tag(zones.revision), zones::view(zones))
}

#[utoipa::path(
    get,
    path = "/api/gateway/zones",
    tag = "gateway",
    summary = "What people put into zones: what gateways add to what they describe",
    responses((status = 200, description = "All of it", body = GatewayZones))
)]
pub(crate) async fn for_gateways(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<GatewayZones>, Error> {
    let zones = orchestrator.store().zones().await?;
    Ok(Json(zones::for_gateways(&zones)))
}
