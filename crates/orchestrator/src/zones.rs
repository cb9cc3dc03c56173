//! Zones that people put services and commands into, besides those that descriptions give.
//!
//! Whatever is decided here counts them: a verdict goes by those that the store has under
//! its lock, and what people are offered by those that this process heard of last.

use std::{
    borrow::Cow,
    sync::{Arc, PoisonError, RwLock},
};

use authz::approval::Ask;
use contract::zones::{
    AssignedZones, GatewayZones, ZoneAssignment as AssignmentView, ZoneAssignments as View,
    ZoneMember as MemberView,
};
use store::{
    Store, StoreError,
    feed::Change,
    zones::{ZoneAssignments, ZoneMember},
};

use crate::{
    Orchestrator,
    authenticate::Person,
    error::Error,
    events,
    precondition::{Precondition, Tag},
    services::{self, KnownService},
};

/// At most so many members in all: every gateway holds them.
const MAX_MEMBERS: usize = 5_000;

/// What this process heard of last.
#[derive(Debug)]
pub(crate) struct Heard(RwLock<(i64, Arc<AssignedZones>)>);

impl Heard {
    /// What the store has.
    pub(crate) async fn of(store: &Store) -> Result<Self, StoreError> {
        let zones = store.zones().await?;
        Ok(Self(RwLock::new((
            zones.revision,
            Arc::new(assigned(&zones)),
        ))))
    }

    fn get(&self) -> Arc<AssignedZones> {
        let heard = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&heard.1)
    }

    /// Takes it over, unless something newer is known.
    fn take(&self, zones: &ZoneAssignments) {
        let new = Arc::new(assigned(zones));
        let mut heard = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if heard.0 < zones.revision {
            *heard = (zones.revision, new);
        }
    }
}

impl Orchestrator {
    /// What people assigned, as this process heard of it last: for what is only shown.
    pub(crate) fn zones(&self) -> Arc<AssignedZones> {
        self.inner.zones.get()
    }
}

/// To look up what is added to a command.
pub(crate) fn assigned(zones: &ZoneAssignments) -> AssignedZones {
    zones
        .assigned
        .iter()
        .map(|one| member_view(&one.member))
        .collect()
}

/// The same, as it is now.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn now(orchestrator: &Orchestrator) -> Result<AssignedZones, StoreError> {
    Ok(assigned(&orchestrator.store().zones().await?))
}

/// What is asked, with the zones that the command is in besides those that it was in then.
pub(crate) fn placed<'a>(ask: &'a Ask, zones: &AssignedZones) -> Cow<'a, Ask> {
    match zones.added_to(&ask.target) {
        None => Cow::Borrowed(ask),
        Some(target) => Cow::Owned(Ask {
            target,
            ..ask.clone()
        }),
    }
}

/// Puts something that gateways know into a zone; no error if it is there.
///
/// # Errors
///
/// [`Error::NotFound`] if no gateway has told of it; [`Error::Changed`]; [`Error::Conflict`]
/// if there are too many.
pub(crate) async fn add(
    orchestrator: &Orchestrator,
    person: &Person,
    member: &ZoneMember,
    seen: &Precondition,
) -> Result<ZoneAssignments, Error> {
    // A slip of the pen must not look like a wall.
    let service = services::one(orchestrator, &member.service).await?;
    if let Some(command) = &member.command
        && !has_command(&service, command)
    {
        return Err(Error::NotFound(format!(
            "no gateway has told of a command `{}/{command}`",
            member.service
        )));
    }
    let actor = orchestrator.actor(person);
    let zones = orchestrator
        .store()
        .add_zone_member(member, &actor, |now| {
            seen.check(Tag(now.revision))?;
            if !now.has(member) && now.assigned.len() >= MAX_MEMBERS {
                return Err(Error::Conflict(format!(
                    "at most {MAX_MEMBERS} services and commands are put into zones here; \
                     give zones in descriptions instead"
                )));
            }
            Ok(())
        })
        .await?;
    changed(orchestrator, person, member, "zone_added", &zones);
    Ok(zones)
}

/// Takes something out of a zone; no error if it is not there.
///
/// # Errors
///
/// [`Error::Changed`]; [`Error::Conflict`] if it stays there for another reason: its
/// description, or its whole service.
pub(crate) async fn remove(
    orchestrator: &Orchestrator,
    person: &Person,
    member: &ZoneMember,
    seen: &Precondition,
) -> Result<ZoneAssignments, Error> {
    let service = services::all(orchestrator).await?.remove(&member.service);
    let actor = orchestrator.actor(person);
    let zones = orchestrator
        .store()
        .remove_zone_member(member, &actor, |now| {
            seen.check(Tag(now.revision))?;
            match why_it_stays(member, now, service.as_ref()) {
                // What people assigned can be taken back in any case.
                Some(why) if !now.has(member) => Err(Error::Conflict(why)),
                _ => Ok(()),
            }
        })
        .await?;
    changed(orchestrator, person, member, "zone_removed", &zones);
    Ok(zones)
}

fn changed(
    orchestrator: &Orchestrator,
    person: &Person,
    member: &ZoneMember,
    what: &'static str,
    zones: &ZoneAssignments,
) {
    orchestrator.inner.zones.take(zones);
    tracing::info!(
        service = %member.service,
        command = member.command.as_ref().map(ToString::to_string),
        zone = %member.zone,
        user = %person.user.id,
        revision = zones.revision,
        "{what}"
    );
}

fn has_command(service: &KnownService, name: &authz::CommandName) -> bool {
    let described = service.described.iter();
    let mut commands = described.flat_map(|one| &one.service.commands);
    commands.any(|command| command.name == *name)
}

/// Why something is in a zone that nobody put it into.
fn why_it_stays(
    member: &ZoneMember,
    now: &ZoneAssignments,
    known: Option<&KnownService>,
) -> Option<String> {
    let ZoneMember {
        service,
        command,
        zone,
    } = member;
    for described in known.into_iter().flat_map(|known| &known.described) {
        let gateway = &described.gateway;
        if described.service.service.zones.contains(zone) {
            return Some(format!(
                "its description puts service `{service}` into zone `{zone}` (at gateway `{gateway}`): take it out there"
            ));
        }
        let commands = &described.service.commands;
        let of = commands
            .iter()
            .find(|one| Some(&one.name) == command.as_ref());
        if let Some(of) = of.filter(|of| of.zones.contains(zone)) {
            return Some(format!(
                "its description puts command `{service}/{}` into zone `{zone}` (at gateway `{gateway}`): take it out there",
                of.name
            ));
        }
    }
    let whole = ZoneMember {
        command: None,
        ..member.clone()
    };
    (command.is_some() && now.has(&whole)).then(|| {
        format!("the whole service `{service}` is in zone `{zone}`: take the service out, or leave the command in")
    })
}

fn member_view(member: &ZoneMember) -> MemberView {
    MemberView {
        service: member.service.clone(),
        command: member.command.clone(),
        zone: member.zone.clone(),
    }
}

/// As people see them.
pub(crate) fn view(zones: ZoneAssignments) -> View {
    let assigned = zones.assigned.into_iter().map(|one| AssignmentView {
        member: member_view(&one.member),
        by: one.by,
        at: one.at,
    });
    View {
        revision: zones.revision,
        assigned: assigned.collect(),
    }
}

/// As gateways need them.
pub(crate) fn for_gateways(zones: &ZoneAssignments) -> GatewayZones {
    let members = zones.assigned.iter().map(|one| member_view(&one.member));
    GatewayZones {
        revision: zones.revision,
        members: members.collect(),
    }
}

/// Hears of what other orchestrators on the same database changed, for ever.
pub(crate) async fn follow(orchestrator: &Orchestrator) {
    let concerned = |change: &Change| matches!(change, Change::ZonesChanged { .. });
    events::keep_up(orchestrator, concerned, catch_up).await;
}

async fn catch_up(orchestrator: &Orchestrator) -> Result<(), StoreError> {
    let zones = orchestrator.store().zones().await?;
    orchestrator.inner.zones.take(&zones);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::testing;

    use super::*;

    /// Two orchestrators on one database: what one is told, the other shows soon.
    #[tokio::test]
    async fn what_another_orchestrator_changed_is_heard_of() {
        let (orchestrator, folder) = testing::orchestrator().await;
        let following = {
            let orchestrator = orchestrator.clone();
            tokio::spawn(async move { follow(&orchestrator).await })
        };
        let member = ZoneMember {
            service: "coolify".parse().unwrap(),
            command: None,
            zone: "pci".parse().unwrap(),
        };
        let other = testing::open(&folder).await;
        let added = other
            .add_zone_member(&member, &testing::actor(), |_| Ok::<_, StoreError>(()))
            .await
            .unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(20), async {
            while !orchestrator.zones().concern(&member.service) {
                tokio::task::yield_now().await;
            }
        });
        heard.await.unwrap();
        // An older answer that comes late changes nothing.
        orchestrator.inner.zones.take(&ZoneAssignments {
            revision: added.revision - 1,
            assigned: Vec::new(),
        });
        assert!(orchestrator.zones().concern(&member.service));
        following.abort();
    }
}
