//! Zones that people put services and commands into, besides those that their descriptions
//! give.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use authz::{CommandName, Service, ServiceName, Target, ZoneName, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that is in a zone.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct ZoneMember {
    /// The service.
    pub service: ServiceName,
    /// One command of it; absent for the whole service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandName>,
    /// The zone.
    pub zone: ZoneName,
}

impl ZoneMember {
    /// Where it is put, and taken away: `PUT` and `DELETE`.
    #[must_use]
    pub fn path(&self) -> String {
        let Self {
            service,
            command,
            zone,
        } = self;
        match command {
            None => format!("/api/services/{service}/zones/{zone}"),
            Some(command) => format!("/api/services/{service}/commands/{command}/zones/{zone}"),
        }
    }
}

/// A member, and who made it one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZoneAssignment {
    /// What is in which zone.
    #[serde(flatten)]
    pub member: ZoneMember,
    /// The person, or how it came to be.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// `GET /api/zones`, and the answer to every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZoneAssignments {
    /// How often they were changed, from 1: `ETag` says it, `If-Match` asks for it.
    pub revision: i64,
    /// By service, command and zone; whole services first.
    pub assigned: Vec<ZoneAssignment>,
}

/// `GET /api/gateway/zones`: what gateways add to what they describe themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayZones {
    /// How often they were changed.
    pub revision: i64,
    /// Everything that is in a zone.
    pub members: Vec<ZoneMember>,
}

/// The same, to look up what is added to a command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignedZones {
    services: HashMap<ServiceName, OfService>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct OfService {
    /// Of the whole service.
    own: BTreeSet<ZoneName>,
    commands: HashMap<CommandName, BTreeSet<ZoneName>>,
}

impl FromIterator<ZoneMember> for AssignedZones {
    fn from_iter<T: IntoIterator<Item = ZoneMember>>(members: T) -> Self {
        let mut services: HashMap<ServiceName, OfService> = HashMap::new();
        for member in members {
            let service = services.entry(member.service).or_default();
            let zones = match member.command {
                None => &mut service.own,
                Some(command) => service.commands.entry(command).or_default(),
            };
            zones.insert(member.zone);
        }
        Self { services }
    }
}

impl AssignedZones {
    /// Whether something of this service was put into a zone.
    #[must_use]
    pub fn concern(&self, service: &ServiceName) -> bool {
        self.services.contains_key(service)
    }

    /// The command with the zones that it and its service were put into; nothing if it was
    /// put into none that it is not in already. Zones are added only.
    #[must_use]
    pub fn added_to(&self, target: &Target) -> Option<Target> {
        let assigned = self.services.get(&target.key.service)?;
        let own = assigned.commands.get(&target.key.name);
        let own = own.filter(|zones| !zones.is_subset(&target.zones));
        let service = (!assigned.own.is_subset(&target.service.zones)).then(|| {
            let zones = target.service.zones.union(&assigned.own).cloned().collect();
            Arc::new(Service {
                zones,
                ..Service::clone(&target.service)
            })
        });
        if own.is_none() && service.is_none() {
            return None;
        }
        let mut target = target.clone();
        target.zones.extend(own.into_iter().flatten().cloned());
        if let Some(service) = service {
            target.service = service;
        }
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member(text: &str) -> ZoneMember {
        let (what, zone) = text.split_once(' ').unwrap();
        let (service, command) = what
            .split_once('/')
            .map_or((what, None), |(service, command)| (service, Some(command)));
        ZoneMember {
            service: service.parse().unwrap(),
            command: command.map(|command| command.parse().unwrap()),
            zone: zone.parse().unwrap(),
        }
    }

    fn target(key: &str, own: &[&str], of_service: &[&str]) -> Target {
        let zones = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let key: authz::CommandKey = key.parse().unwrap();
        Target {
            service: Arc::new(Service {
                name: key.service.clone(),
                env: authz::command::Environment::Prod,
                owners: None,
                zones: zones(of_service),
            }),
            key,
            risk: authz::Risk::Read,
            zones: zones(own),
            pinned: true,
        }
    }

    #[test]
    fn zones_are_added_where_people_put_them_and_none_is_taken_away() {
        let assigned: AssignedZones = ["coolify pci", "coolify/deploy frozen", "github eu"]
            .into_iter()
            .map(member)
            .collect();
        let cases: [(_, &[&str], &[&str], _); 6] = [
            // The command, its zones, its service's; with what is assigned.
            (
                "coolify/list",
                &["a"],
                &["b"],
                Some((vec!["a"], vec!["b", "pci"])),
            ),
            (
                "coolify/deploy",
                &[],
                &[],
                Some((vec!["frozen"], vec!["pci"])),
            ),
            (
                "coolify/deploy",
                &[],
                &["pci"],
                Some((vec!["frozen"], vec!["pci"])),
            ),
            ("coolify/deploy", &["frozen"], &["pci"], None),
            ("coolify/list", &[], &["pci", "x"], None),
            ("cool/list", &[], &[], None),
        ];
        for (key, own, of_service, expected) in cases {
            let before = target(key, own, of_service);
            let names = |zones: &BTreeSet<ZoneName>| -> Vec<String> {
                zones.iter().map(ToString::to_string).collect()
            };
            let after = assigned.added_to(&before);
            let zones = after
                .as_ref()
                .map(|after| (names(&after.zones), names(&after.service.zones)));
            let expected = expected.map(|(own, of_service)| {
                let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect();
                (owned(own), owned(of_service))
            });
            assert_eq!(zones, expected, "{key} {own:?} {of_service:?}");
            // Everything else stays.
            if let Some(after) = after {
                let service = Service {
                    zones: before.service.zones.clone(),
                    ..Service::clone(&after.service)
                };
                let stripped = Target {
                    zones: before.zones.clone(),
                    service: Arc::new(service),
                    ..after
                };
                assert_eq!(stripped, before);
            }
        }
        assert_eq!(
            AssignedZones::default().added_to(&target("a/b", &[], &[])),
            None
        );
    }

    #[test]
    fn they_are_written_as_documented() {
        let written = json!({
            "revision": 3,
            "assigned": [
                {"service": "aws", "zone": "pci", "by": "dan", "at": "2026-11-22T12:00:00.000Z"},
                {"service": "coolify", "command": "deploy", "zone": "frozen", "by": "api", "at": "2026-11-22T12:00:00.000Z"},
            ],
        });
        let read: ZoneAssignments = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        let paths: Vec<_> = read.assigned.iter().map(|one| one.member.path()).collect();
        assert_eq!(
            paths,
            [
                "/api/services/aws/zones/pci",
                "/api/services/coolify/commands/deploy/zones/frozen"
            ]
        );
        let for_gateways = GatewayZones {
            revision: 3,
            members: vec![member("aws pci")],
        };
        assert_eq!(
            serde_json::to_value(&for_gateways).unwrap(),
            json!({"revision": 3, "members": [{"service": "aws", "zone": "pci"}]})
        );
    }
}
