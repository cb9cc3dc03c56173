//! Services and commands: what gateways say that they can carry out, put together.

use std::collections::{BTreeMap, HashMap};

use authz::{CommandKey, ServiceName, Timestamp};
use contract::{
    catalog::{
        CatalogCommand, CatalogService, CommandsByRisk, ServiceAtGateway, ServiceSummary,
        ServiceView,
    },
    gateways::{GatewayStatus, ServiceHealth},
};

use crate::{Orchestrator, api::is_silent, error::Error};

/// One service, as each gateway describes it: the one that spoke last first.
#[derive(Clone, Debug)]
pub(crate) struct KnownService {
    pub(crate) described: Vec<Described>,
}

/// A service as one gateway describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) gateway: String,
    pub(crate) said: Timestamp,
    pub(crate) service: CatalogService,
    /// How it is there; none of a gateway that has fallen silent.
    pub(crate) health: Option<ServiceHealth>,
}

/// A command, with how gateways describe it.
#[derive(Clone, Debug)]
pub(crate) struct KnownCommand {
    /// As the gateway that spoke last describes it.
    pub(crate) command: CatalogCommand,
    /// Where it is otherwise: the gateway, and what it has instead, if anything.
    pub(crate) elsewhere: Vec<(String, Option<CatalogCommand>)>,
}

impl KnownService {
    /// As the gateway that spoke last describes it.
    pub(crate) fn latest(&self) -> Option<&Described> {
        self.described.first()
    }

    /// Whether gateways describe it differently: its definition, not whether it works.
    pub(crate) fn differs(&self) -> bool {
        let definition = |service: &CatalogService| CatalogService {
            status: String::new(),
            problem: None,
            ..service.clone()
        };
        let mut definitions = self.described.iter().map(|one| definition(&one.service));
        let first = definitions.next();
        definitions.any(|other| Some(&other) != first.as_ref())
    }

    /// Every command of any gateway, in the order of the first that has it.
    pub(crate) fn commands(&self) -> Vec<KnownCommand> {
        let mut known: Vec<KnownCommand> = Vec::new();
        for described in &self.described {
            for command in &described.service.commands {
                if known.iter().any(|known| known.command.name == command.name) {
                    continue;
                }
                let elsewhere = self
                    .described
                    .iter()
                    .filter_map(|other| {
                        let theirs = other
                            .service
                            .commands
                            .iter()
                            .find(|theirs| theirs.name == command.name);
                        (theirs != Some(command)).then(|| (other.gateway.clone(), theirs.cloned()))
                    })
                    .collect();
                known.push(KnownCommand {
                    command: command.clone(),
                    elsewhere,
                });
            }
        }
        known
    }

    /// As the API shows it.
    pub(crate) fn view(&self, with_commands: bool) -> Option<ServiceView> {
        let latest = &self.latest()?.service;
        let mut gateways: Vec<_> = self
            .described
            .iter()
            .map(|one| ServiceAtGateway {
                gateway: one.gateway.clone(),
                status: one.service.status.clone(),
                problem: one.service.problem.clone(),
                version: one.service.version.clone(),
                commands: one.service.commands.len(),
                said: one.said,
                health: one.health.clone(),
            })
            .collect();
        gateways.sort_by(|one, other| one.gateway.cmp(&other.gateway));
        Some(ServiceView {
            service: ServiceSummary {
                service: latest.service.clone(),
                kind: latest.kind.clone(),
                version: latest.version.clone(),
                description: latest.description.clone(),
                aliases: latest.aliases.clone(),
                commands_by_risk: CommandsByRisk::of(&latest.commands),
            },
            gateways,
            differs: self.differs(),
            commands: with_commands.then(|| {
                self.commands()
                    .into_iter()
                    .map(|one| without_definition(one.command))
                    .collect()
            }),
        })
    }
}

/// What a tool's server says of it has a route of its own.
fn without_definition(command: CatalogCommand) -> CatalogCommand {
    CatalogCommand {
        definition: None,
        ..command
    }
}

/// Every service that a gateway told of, by name.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn all(
    orchestrator: &Orchestrator,
) -> Result<BTreeMap<ServiceName, KnownService>, Error> {
    let mut services: BTreeMap<ServiceName, KnownService> = BTreeMap::new();
    let mut health = health(orchestrator).await?;
    for stored in orchestrator.store().gateway_catalogs().await? {
        let described: Vec<CatalogService> = match serde_json::from_value(stored.catalog) {
            Ok(described) => described,
            Err(error) => {
                // Of an older or newer gateway: it says it again when it is started anew.
                tracing::warn!(gateway = stored.gateway, %error, "a gateway's catalog cannot be read");
                continue;
            }
        };
        for service in described {
            services
                .entry(service.service.name.clone())
                .or_insert_with(|| KnownService {
                    described: Vec::new(),
                })
                .described
                .push(Described {
                    health: health.remove(&(stored.gateway.clone(), service.service.name.clone())),
                    gateway: stored.gateway.clone(),
                    said: stored.said,
                    service,
                });
        }
    }
    Ok(services)
}

/// How services are, by gateway and name, as gateways said that still speak.
async fn health(
    orchestrator: &Orchestrator,
) -> Result<HashMap<(String, ServiceName), ServiceHealth>, Error> {
    let now = orchestrator.now();
    let mut known = HashMap::new();
    for stored in orchestrator.store().gateways().await? {
        if is_silent(stored.seen, now) {
            continue;
        }
        // One of another version may speak otherwise: then nothing is known of it.
        let Ok(status) = serde_json::from_value::<GatewayStatus>(stored.status) else {
            continue;
        };
        for health in status.services {
            known.insert((stored.name.clone(), health.service.clone()), health);
        }
    }
    Ok(known)
}

/// One service.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn one(
    orchestrator: &Orchestrator,
    name: &ServiceName,
) -> Result<KnownService, Error> {
    all(orchestrator)
        .await?
        .remove(name)
        .ok_or_else(|| Error::NotFound(format!("no gateway has told of a service `{name}`")))
}

/// A command as one gateway describes it, or the one that spoke last: the gateway, the
/// service, the command.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(crate) async fn command(
    orchestrator: &Orchestrator,
    key: &CommandKey,
    gateway: Option<&str>,
) -> Result<(String, CatalogService, CatalogCommand), Error> {
    let unknown = || Error::NotFound(format!("no gateway has told of a command `{key}`"));
    let service = one(orchestrator, &key.service)
        .await
        .map_err(|error| match error {
            Error::NotFound(_) => unknown(),
            other => other,
        })?;
    service
        .described
        .into_iter()
        .filter(|one| gateway.is_none_or(|gateway| gateway == one.gateway))
        .find_map(|one| {
            let command = one
                .service
                .commands
                .iter()
                .find(|command| command.name == key.name)?
                .clone();
            Some((one.gateway, one.service, command))
        })
        .ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn described(
        gateway: &str,
        version: &str,
        status: &str,
        commands: &[(&str, &str)],
    ) -> Described {
        let commands: Vec<_> = commands
            .iter()
            .map(|(name, risk)| {
                json!({
                    "name": name, "summary": "", "risk": risk, "pinned": true,
                    "arguments": {"type": "object"}, "usage": name, "example": {},
                })
            })
            .collect();
        let service = json!({
            "name": "coolify", "kind": "http", "version": version, "description": "",
            "status": status, "commands": commands,
        });
        Described {
            gateway: gateway.to_owned(),
            said: Timestamp::from_millis(1),
            service: serde_json::from_value(service).unwrap(),
            health: None,
        }
    }

    #[test]
    fn gateways_that_differ_are_told_apart() {
        let same = KnownService {
            described: vec![
                described("b", "1", "active", &[("list", "read")]),
                described("a", "1", "error", &[("list", "read")]),
            ],
        };
        assert!(
            !same.differs(),
            "that one cannot reach it is another matter"
        );
        assert!(same.commands()[0].elsewhere.is_empty());
        let view = same.view(true).unwrap();
        let gateways: Vec<_> = view
            .gateways
            .iter()
            .map(|one| (one.gateway.as_str(), one.status.as_str()))
            .collect();
        assert_eq!(gateways, [("a", "error"), ("b", "active")]);

        let other = KnownService {
            described: vec![
                described("b", "1", "active", &[("list", "read"), ("drop", "destroy")]),
                described("a", "1", "active", &[("list", "write"), ("new", "read")]),
            ],
        };
        assert!(other.differs());
        let commands = other.commands();
        let names: Vec<_> = commands
            .iter()
            .map(|one| one.command.name.as_str())
            .collect();
        assert_eq!(names, ["list", "drop", "new"]);
        let (gateway, theirs) = &commands[0].elsewhere[0];
        assert_eq!(
            (gateway.as_str(), theirs.as_ref().unwrap().risk.as_str()),
            ("a", "write")
        );
        assert_eq!(commands[1].elsewhere, [("a".to_owned(), None)]);
        assert_eq!(commands[2].elsewhere, [("b".to_owned(), None)]);
    }
}
