//! What gateways can carry out: services and commands, as people see and try them.

use authz::{
    CommandKey, CommandName, Risk, Service, ServiceName, Target, ZoneName, time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};
use utoipa::ToSchema;

use crate::gateways::ServiceHealth;

/// `PUT /api/gateway/catalog`: everything that a gateway knows how to carry out. Sent at
/// its start and whenever the orchestrator does not have it (see
/// [`crate::gateways::GatewayTold`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GatewayCatalog {
    /// The gateway, as its journal names it.
    pub gateway: String,
    /// Names these contents: another catalog has another digest. At most 128 characters.
    pub digest: String,
    /// Its services, by name.
    pub services: Vec<CatalogService>,
}

/// A service of a gateway's catalog. Never an address or a credential.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogService {
    /// What policy is told of it: name, environment, owners, zones.
    #[serde(flatten)]
    pub service: Service,
    /// How its commands are carried out: `http`.
    pub kind: String,
    /// Of its description.
    pub version: String,
    /// What it is, in a sentence.
    pub description: String,
    /// `active`, or `error` when the gateway cannot use it.
    pub status: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Other names that agents may use.
    #[serde(default)]
    pub aliases: Vec<ServiceName>,
    /// Its commands, in the order of its description.
    pub commands: Vec<CatalogCommand>,
}

/// A command of a gateway's catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CatalogCommand {
    /// Its name within the service.
    pub name: CommandName,
    /// What it does, in a line.
    pub summary: String,
    /// What it may do to the world.
    pub risk: Risk,
    /// Zones of its own, beyond its service's.
    #[serde(default)]
    pub zones: BTreeSet<ZoneName>,
    /// Whether its definition equals the reviewed one.
    pub pinned: bool,
    /// JSON Schema of its arguments: an object.
    #[schema(value_type = Object)]
    pub arguments: Value,
    /// As a person would type it, with its arguments.
    pub usage: String,
    /// Arguments of an example call: an object.
    #[schema(value_type = Object)]
    pub example: Value,
    /// Of an MCP server's tool: its definition as the server tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
}

impl CatalogService {
    /// What policy is told of one of the commands.
    #[must_use]
    pub fn target(&self, command: &CatalogCommand) -> Target {
        Target {
            key: CommandKey {
                service: self.service.name.clone(),
                name: command.name.clone(),
            },
            service: Arc::new(self.service.clone()),
            risk: command.risk,
            zones: command.zones.clone(),
            pinned: command.pinned,
        }
    }
}

/// One line of `GET /api/services`, by name, and with its commands
/// `GET /api/services/{name}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceView {
    /// The service, as the gateway that spoke last describes it.
    #[serde(flatten)]
    pub service: ServiceSummary,
    /// Every gateway that has it, by name.
    pub gateways: Vec<ServiceAtGateway>,
    /// Whether the gateways describe it differently.
    pub differs: bool,
    /// Its commands; left out of the list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Vec<CatalogCommand>>,
}

/// What a list says of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceSummary {
    /// What policy is told of it.
    #[serde(flatten)]
    pub service: Service,
    /// How its commands are carried out: `http`.
    pub kind: String,
    /// Of its description.
    pub version: String,
    /// What it is, in a sentence.
    pub description: String,
    /// Other names that agents may use.
    pub aliases: Vec<ServiceName>,
    /// How many of its commands read, write and destroy.
    pub commands_by_risk: CommandsByRisk,
}

/// How many commands of each risk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CommandsByRisk {
    /// That change nothing.
    pub read: usize,
    /// That change something which can be changed back.
    pub write: usize,
    /// That delete, stop or spend.
    pub destroy: usize,
}

impl CommandsByRisk {
    /// Counts.
    #[must_use]
    pub fn of(commands: &[CatalogCommand]) -> Self {
        let count = |risk| {
            commands
                .iter()
                .filter(|command| command.risk == risk)
                .count()
        };
        Self {
            read: count(Risk::Read),
            write: count(Risk::Write),
            destroy: count(Risk::Destroy),
        }
    }

    /// All of them.
    #[must_use]
    pub const fn all(self) -> usize {
        self.read + self.write + self.destroy
    }
}

/// A service at one gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAtGateway {
    /// The gateway.
    pub gateway: String,
    /// `active`, or `error` when that gateway cannot use it.
    pub status: String,
    /// Why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Of its description there.
    pub version: String,
    /// How many commands it has there.
    pub commands: usize,
    /// When the gateway last sent its catalog.
    pub said: Timestamp,
    /// How it is there, as the gateway said last; absent when it has fallen silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<ServiceHealth>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_catalog_is_written_as_documented_and_gives_targets() {
        let written = json!({
            "gateway": "edge", "digest": "d1",
            "services": [{
                "name": "coolify", "env": "prod", "owners": "platform", "zones": ["pci"],
                "kind": "http", "version": "1", "description": "Deploys.", "status": "error",
                "problem": "`COOLIFY_API_URL` is not set", "aliases": ["cool"],
                "commands": [{
                    "name": "list-servers", "summary": "Lists servers.", "risk": "read",
                    "zones": ["eu"], "pinned": true, "arguments": {"type": "object"},
                    "usage": "servers list", "example": {},
                }],
            }],
        });
        let read: GatewayCatalog = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), written);
        let service = &read.services[0];
        let target = service.target(&service.commands[0]);
        assert_eq!(target.key.to_string(), "coolify/list-servers");
        assert_eq!((target.risk, target.zones.len()), (Risk::Read, 1));
        assert_eq!(target.service.owners.as_ref().unwrap().as_str(), "platform");
        let counted = CommandsByRisk::of(&service.commands);
        assert_eq!((counted.read, counted.all()), (1, 1));
    }
}
