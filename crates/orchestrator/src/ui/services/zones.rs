//! Which zones a service and its commands are in, and by whom; putting them in and taking
//! them out.

use std::collections::{BTreeMap, BTreeSet};

use authz::{CommandName, Service, ServiceName, Timestamp, ZoneName, approval::Administration};
use axum::{
    Form,
    extract::{State, rejection::FormRejection},
    response::Response,
};
use serde::Deserialize;
use store::zones::{ZoneAssignment, ZoneAssignments, ZoneMember};

use super::{CommandSearch, service_page};
use crate::{
    Orchestrator,
    api::Named,
    error::Error,
    precondition::Precondition,
    services::KnownCommand,
    ui::{
        Trouble, Visitor,
        form::{maybe, name},
        go,
        moment::Moment,
        page_with,
    },
    zones,
};

/// What people put into zones, as of this page.
pub(super) struct Placed(ZoneAssignments);

/// One zone that something of the service is in.
pub(super) struct ZoneRow {
    pub(super) zone: String,
    /// Empty for the whole service.
    pub(super) command: String,
    /// Its description says so.
    pub(super) described: bool,
    pub(super) assigned: Option<Assigned>,
}

/// Somebody put it there.
pub(super) struct Assigned {
    pub(super) by: String,
    pub(super) at: Moment,
}

impl Placed {
    /// As it is now.
    pub(super) async fn now(orchestrator: &Orchestrator) -> Result<Self, Error> {
        Ok(Self(orchestrator.store().zones().await?))
    }

    fn of<'a>(&'a self, service: &'a ServiceName) -> impl Iterator<Item = &'a ZoneAssignment> {
        let assigned = self.0.assigned.iter();
        assigned.filter(move |one| one.member.service == *service)
    }

    /// Every zone of a service or of one command, by name.
    pub(super) fn names(
        &self,
        service: &ServiceName,
        command: Option<&CommandName>,
        described: &BTreeSet<ZoneName>,
    ) -> Vec<String> {
        let assigned = self
            .of(service)
            .filter(|one| one.member.command.as_ref() == command)
            .map(|one| &one.member.zone);
        let names: BTreeSet<_> = described.iter().chain(assigned).collect();
        names.into_iter().map(ToString::to_string).collect()
    }

    /// Everything of a service that is in a zone, the whole service first.
    pub(super) fn rows(
        &self,
        name: &ServiceName,
        service: &Service,
        commands: &[KnownCommand],
        now: Timestamp,
    ) -> Vec<ZoneRow> {
        let mut rows: BTreeMap<Place<'_>, ZoneRow> = BTreeMap::new();
        let own = service.zones.iter().map(|zone| (None, zone));
        let of_commands = commands.iter().flat_map(|known| {
            let command = &known.command;
            command.zones.iter().map(|zone| (Some(&command.name), zone))
        });
        for place in own.chain(of_commands) {
            rows.entry(place)
                .or_insert_with(|| ZoneRow::at(place))
                .described = true;
        }
        for one in self.of(name) {
            let place = (one.member.command.as_ref(), &one.member.zone);
            rows.entry(place)
                .or_insert_with(|| ZoneRow::at(place))
                .assigned = Some(Assigned {
                by: one.by.clone(),
                at: Moment::past(one.at, now),
            });
        }
        rows.into_values().collect()
    }
}

/// Which command, or the whole service, in which zone.
type Place<'a> = (Option<&'a CommandName>, &'a ZoneName);

impl ZoneRow {
    fn at((command, zone): Place<'_>) -> Self {
        Self {
            zone: zone.to_string(),
            command: command.map(ToString::to_string).unwrap_or_default(),
            described: false,
            assigned: None,
        }
    }
}

/// What both forms send.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    #[serde(default)]
    zone: String,
    /// Empty for the whole service.
    #[serde(default)]
    command: String,
}

/// What is done.
#[derive(Clone, Copy)]
enum Wanted {
    Added,
    Removed,
}

/// `POST /services/{name}/zones`.
pub(super) async fn add(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    name: Result<Named<ServiceName>, Error>,
    form: Result<Form<Change>, FormRejection>,
) -> Result<Response, Trouble> {
    change(visitor, &orchestrator, name, form, Wanted::Added).await
}

/// `POST /services/{name}/zones/remove`.
pub(super) async fn remove(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    name: Result<Named<ServiceName>, Error>,
    form: Result<Form<Change>, FormRejection>,
) -> Result<Response, Trouble> {
    change(visitor, &orchestrator, name, form, Wanted::Removed).await
}

async fn change(
    visitor: Visitor,
    orchestrator: &Orchestrator,
    service: Result<Named<ServiceName>, Error>,
    form: Result<Form<Change>, FormRejection>,
    wanted: Wanted,
) -> Result<Response, Trouble> {
    let person = &visitor.person;
    person.may(orchestrator, Administration::ManagePolicies)?;
    let Named(service) = service?;
    let Form(change) = form.map_err(Error::from)?;
    let save = async {
        let member = ZoneMember {
            service: service.clone(),
            command: maybe("command", &change.command)?,
            zone: name("zone", &change.zone)?,
        };
        // One member more or less undoes nothing that somebody else does at once.
        let seen = Precondition::Absent;
        match wanted {
            Wanted::Added => zones::add(orchestrator, person, &member, &seen).await,
            Wanted::Removed => zones::remove(orchestrator, person, &member, &seen).await,
        }
    };
    let Err(error) = save.await else {
        let done = match wanted {
            Wanted::Added => "zone-added",
            Wanted::Removed => "zone-removed",
        };
        return Ok(go(&format!("/services/{service}?done={done}#zones")));
    };
    error.log();
    let visitor = Visitor {
        frame: visitor.frame.warning(Some(error.to_string())),
        person: visitor.person,
    };
    let mut shown = service_page(orchestrator, visitor, &service, CommandSearch::default()).await?;
    shown.zone_wanted = Some(change.zone);
    Ok(page_with(error.status(), &shown))
}
