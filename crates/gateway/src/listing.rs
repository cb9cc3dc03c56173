//! What agents see of the catalog: only what policy lets them list.

use std::sync::Arc;

use authz::Timestamp;
use handlers::{
    Catalog,
    catalog::{CommandInfo, ServiceInfo},
};
use serde_json::{Map, Value, json};

use crate::{answer::put, health::Shown, sight::Sight};

/// One agent's view of the catalog.
pub(crate) struct Listing<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) sight: Arc<Sight>,
    pub(crate) now: Timestamp,
}

/// A service with what the agent may see of it.
struct Seen {
    service: Arc<ServiceInfo>,
    /// Places in its list of commands.
    commands: Vec<usize>,
    health: Option<Shown>,
}

impl Listing<'_> {
    fn seen(&self, service: Arc<ServiceInfo>) -> Option<Seen> {
        let commands = self.sight.seen(&service.commands, self.now);
        // A service of which nothing may be seen does not exist for this agent.
        if commands.is_empty() && !service.commands.is_empty() {
            return None;
        }
        let condition = self.catalog.condition(&service.name);
        Some(Seen {
            health: condition.map(|condition| Shown::of(&condition, self.now)),
            service,
            commands,
        })
    }

    fn all(&self) -> Vec<Seen> {
        self.catalog
            .services()
            .into_iter()
            .filter_map(|service| self.seen(service))
            .collect()
    }

    fn one(&self, name: &str) -> Option<Seen> {
        self.seen(self.catalog.service(name)?)
    }

    /// The names of what there is for this agent.
    pub(crate) fn names(&self) -> Vec<String> {
        self.all()
            .iter()
            .map(|seen| seen.service.name.to_string())
            .collect()
    }

    /// `GET /mcp/catalog`.
    pub(crate) fn catalog(&self) -> Value {
        let all = self.all();
        let services: Vec<_> = all
            .iter()
            .map(|seen| {
                let mut service = seen.summary();
                let handler = if seen.is_local() {
                    Value::Null
                } else {
                    json!({"capabilities": seen.capabilities()})
                };
                put(&mut service, "handler", handler);
                service
            })
            .collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "services": services,
            "statistics": statistics(&all),
            "timestamp": self.now,
        })
    }

    /// `GET /mcp/service/{name}`.
    pub(crate) fn service(&self, name: &str) -> Option<Value> {
        let seen = self.one(name)?;
        let mut service = seen.summary();
        put(&mut service, "capabilities", seen.capabilities());
        Some(json!({"service": service}))
    }

    /// `mcp.listServices`.
    pub(crate) fn summaries(&self) -> Value {
        self.all().iter().map(Seen::summary).collect()
    }

    /// `mcp.getCapabilities`.
    pub(crate) fn capabilities(&self, name: &str) -> Option<Value> {
        self.one(name).map(|seen| seen.capabilities())
    }

    /// `mcp.getStatistics`.
    pub(crate) fn statistics(&self) -> Value {
        statistics(&self.all())
    }

    /// `/mcp-x help`.
    pub(crate) fn help(&self, name: &str) -> Option<Value> {
        let seen = self.one(name)?;
        let commands: Vec<_> = seen
            .commands()
            .map(|command| {
                json!({
                    "name": command.name,
                    "description": command.description,
                    "usage": command.usage,
                    "risk": command.target.risk,
                })
            })
            .collect();
        Some(json!({
            "operation": "help",
            "service": seen.service.name,
            "description": seen.service.description,
            "count": commands.len(),
            "commands": commands,
        }))
    }
}

impl Seen {
    fn commands(&self) -> impl Iterator<Item = &CommandInfo> {
        let places = self.commands.iter();
        places.filter_map(|&place| self.service.commands.get(place))
    }

    fn is_local(&self) -> bool {
        self.service.location == "local"
    }

    fn summary(&self) -> Value {
        let names: Vec<_> = self
            .commands()
            .map(|command| command.name.as_str())
            .collect();
        let mut summary = json!({
            "name": self.service.name,
            "version": self.service.version,
            "description": self.service.description,
            "location": self.service.location,
            "status": self.service.status,
            "capabilities": names,
        });
        if let Some(message) = &self.service.error_message {
            put(&mut summary, "errorMessage", message.as_str());
        }
        if let Some(health) = &self.health {
            // Words and times always serialise.
            let health = serde_json::to_value(health).unwrap_or_default();
            put(&mut summary, "health", health);
        }
        summary
    }

    fn capabilities(&self) -> Value {
        self.commands().map(capability).collect()
    }
}

fn capability(command: &CommandInfo) -> Value {
    json!({
        "name": command.name,
        "description": command.description,
        "parameters": parameters(&command.arguments),
        "usage": command.usage,
        "risk": command.target.risk,
        "requiresAuth": true,
    })
}

/// The properties of a JSON Schema as the older list of parameters.
fn parameters(schema: &Value) -> Vec<Value> {
    let empty = Map::new();
    let properties = schema
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    properties
        .iter()
        .map(|(name, property)| {
            let mut parameter = json!({
                "name": name,
                "type": property.get("type").and_then(Value::as_str).unwrap_or("string"),
                "description": property.get("description").and_then(Value::as_str).unwrap_or_default(),
                "required": required.contains(&name.as_str()),
            });
            for key in ["default", "enum", "pattern"] {
                if let Some(value) = property.get(key) {
                    put(&mut parameter, key, value.clone());
                }
            }
            parameter
        })
        .collect()
}

fn statistics(all: &[Seen]) -> Value {
    let with_status = |status: &str| {
        all.iter()
            .filter(|seen| seen.service.status == status)
            .count()
    };
    let local = all.iter().filter(|seen| seen.is_local()).count();
    let services: Vec<_> = all
        .iter()
        .map(|seen| {
            json!({
                "name": seen.service.name,
                "status": seen.service.status,
                "location": seen.service.location,
                "capabilities": seen.commands.len(),
            })
        })
        .collect();
    json!({
        "total": all.len(),
        "active": with_status("active"),
        "inactive": with_status("inactive"),
        "error": with_status("error"),
        "serverSide": all.len() - local,
        "local": local,
        "services": services,
    })
}
