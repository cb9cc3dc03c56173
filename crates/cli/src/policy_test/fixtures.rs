//! Fixtures: the agents, people and services that tests speak of.

use std::{collections::BTreeMap, sync::Arc};

use authz::{
    Agent, AgentId, AgentName, ApprovalRequestId, Arguments, Command, CommandKey, CommandName,
    Service, ServiceName, Target, Timestamp, User, UserId, agent::default_trust,
};
use handlers::{Catalog, CommandError, Parsed};
use serde_saphyr::Location;
use sha2::{Digest, Sha256};

use super::format::{AgentPatch, Call, ServicePatch, Spanned, UserPatch};

/// Everything that tests may speak of: fixtures over the built-in catalog.
#[derive(Clone)]
pub(crate) struct Fixtures {
    catalog: Arc<Catalog>,
    agents: BTreeMap<AgentName, Spanned<AgentPatch>>,
    users: BTreeMap<UserId, Spanned<UserPatch>>,
    services: BTreeMap<ServiceName, Spanned<ServicePatch>>,
}

/// A fixture that another can be laid over.
pub(super) trait Patch {
    /// What `other` says, else what this says.
    fn over(&mut self, other: Self);
}

macro_rules! patch {
    ($of:ty: $($field:ident),*) => {
        impl Patch for $of {
            fn over(&mut self, other: Self) {
                $(if other.$field.is_some() { self.$field = other.$field; })*
            }
        }
    };
}

patch!(AgentPatch: owner, teams, roles, env, trust, suspended, allowed);
patch!(UserPatch: teams, roles, active);
patch!(super::format::CommandPatch: risk, zones, pinned);

impl Patch for ServicePatch {
    fn over(&mut self, other: Self) {
        self.env = other.env.or(self.env);
        self.owners = other.owners.or_else(|| self.owners.take());
        self.zones = other.zones.or_else(|| self.zones.take());
        for (name, command) in other.commands {
            self.commands.entry(name).or_default().over(command);
        }
    }
}

/// Lays fixtures over fixtures: by name, then attribute by attribute.
pub(super) fn merged<K: Ord, P: Patch>(
    mut under: BTreeMap<K, Spanned<P>>,
    over: BTreeMap<K, Spanned<P>>,
) -> BTreeMap<K, Spanned<P>> {
    for (name, patch) in over {
        match under.get_mut(&name) {
            Some(known) => {
                known.value.over(patch.value);
                known.referenced = patch.referenced;
            }
            None => {
                under.insert(name, patch);
            }
        }
    }
    under
}

/// The id of a fixture's agent: always the same for a name.
pub(super) fn agent_id(name: &AgentName) -> AgentId {
    if name.as_str() == "local" {
        return AgentId::LOCAL;
    }
    let digest = hex::encode(Sha256::digest(name.as_str().as_bytes()));
    let part = |from: usize, to: usize| digest.get(from..to).unwrap_or_default();
    let text = format!(
        "{}-{}-4{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(12, 15),
        part(15, 18),
        part(18, 30)
    );
    text.parse().unwrap_or(AgentId::LOCAL)
}

/// An id for the request that a fixture's grant answers; nothing asks for it.
pub(super) fn approval_id(at: Timestamp) -> ApprovalRequestId {
    ApprovalRequestId::generate(at)
}

impl Fixtures {
    /// None yet: what the catalog has, and nobody.
    pub(crate) fn new(catalog: &Arc<Catalog>) -> Self {
        Self {
            catalog: Arc::clone(catalog),
            agents: BTreeMap::new(),
            users: BTreeMap::new(),
            services: BTreeMap::new(),
        }
    }

    /// Lays further ones over these.
    pub(super) fn lay(
        &mut self,
        agents: BTreeMap<AgentName, Spanned<AgentPatch>>,
        users: BTreeMap<UserId, Spanned<UserPatch>>,
        services: BTreeMap<ServiceName, Spanned<ServicePatch>>,
    ) {
        self.agents = merged(std::mem::take(&mut self.agents), agents);
        self.users = merged(std::mem::take(&mut self.users), users);
        self.services = merged(std::mem::take(&mut self.services), services);
    }

    /// What contradicts itself: with where it was said, if in this file.
    pub(super) fn problems(&self) -> impl Iterator<Item = (Option<Location>, String)> + '_ {
        let agents = self.agents.iter().flat_map(|(name, patch)| {
            let owner = patch
                .value
                .owner
                .iter()
                .filter_map(|owner| self.user(owner).err());
            let allowed = patch.value.allowed.iter().flatten();
            let allowed = allowed.filter_map(|service| self.has_service(service).err());
            owner
                .chain(allowed)
                .map(move |problem| (Some(patch.referenced), format!("agent `{name}`: {problem}")))
        });
        let services = self.services.iter().flat_map(|(name, patch)| {
            let known = self.catalog.service(name.as_str());
            let commands = patch.value.commands.iter().filter(move |(command, patch)| {
                let described = known.as_ref().is_some_and(|known| known.commands.iter().any(|info| info.target.key.name == **command));
                !described && patch.risk.is_none()
            });
            commands.map(move |(command, _)| {
                let message = format!("service `{name}`: the command `{command}` has no description, and so needs a `risk`");
                (Some(patch.referenced), message)
            })
        });
        agents.chain(services)
    }

    /// The names of all agents.
    pub(crate) fn agents(&self) -> impl Iterator<Item = &AgentName> {
        self.agents.keys()
    }

    /// Every command, of the catalog and of the fixtures, by key.
    pub(crate) fn targets(&self) -> Vec<Arc<Target>> {
        let described = self.catalog.services().into_iter().flat_map(|service| {
            let commands = service.commands.iter();
            commands
                .map(|command| command.target.key.clone())
                .collect::<Vec<_>>()
        });
        let added = self.services.iter().flat_map(|(service, patch)| {
            patch.value.commands.keys().map(|name| CommandKey {
                service: service.clone(),
                name: name.clone(),
            })
        });
        let keys: std::collections::BTreeSet<CommandKey> = described.chain(added).collect();
        keys.iter()
            .filter_map(|key| self.target(key).ok())
            .collect()
    }

    /// An agent.
    ///
    /// # Errors
    ///
    /// That there is none of this name, with the nearest.
    pub(crate) fn agent(&self, name: &AgentName) -> Result<Agent, String> {
        let Some(patch) = self.agents.get(name) else {
            return Err(absent(
                "agent",
                name.as_str(),
                self.agents.keys().map(AgentName::as_str),
            ));
        };
        let patch = patch.value.clone();
        Ok(Agent {
            id: agent_id(name),
            name: name.clone(),
            owner: patch.owner,
            teams: patch.teams.unwrap_or_default(),
            roles: patch.roles.unwrap_or_default(),
            env: patch.env.unwrap_or_default(),
            trust: patch.trust.unwrap_or(default_trust()),
            suspended: patch.suspended.unwrap_or(false),
            allowed_mcps: patch.allowed.unwrap_or_default(),
        })
    }

    /// A person.
    ///
    /// # Errors
    ///
    /// That there is none of this name, with the nearest.
    pub(crate) fn user(&self, id: &UserId) -> Result<User, String> {
        let Some(patch) = self.users.get(id) else {
            return Err(absent(
                "user",
                id.as_str(),
                self.users.keys().map(UserId::as_str),
            ));
        };
        let patch = patch.value.clone();
        Ok(User {
            id: id.clone(),
            name: id.to_string(),
            teams: patch.teams.unwrap_or_default(),
            roles: patch.roles.unwrap_or_default(),
            active: patch.active.unwrap_or(true),
        })
    }

    /// That there is such a service.
    pub(super) fn has_service(&self, name: &ServiceName) -> Result<(), String> {
        let described = self.catalog.services();
        let described = described.iter().map(|service| service.name.as_str());
        let names: Vec<&str> = described
            .chain(self.services.keys().map(ServiceName::as_str))
            .collect();
        if names.contains(&name.as_str()) {
            Ok(())
        } else {
            Err(absent("service", name.as_str(), names))
        }
    }

    /// A command as policies see it.
    pub(super) fn target(&self, key: &CommandKey) -> Result<Arc<Target>, String> {
        let service = self.catalog.service(key.service.as_str());
        let described = service.as_ref().and_then(|service| {
            let mut commands = service.commands.iter();
            commands.find(|command| command.target.key == *key)
        });
        match described {
            Some(command) => Ok(self.patched(&command.target)),
            None => self.added(&key.service, &key.name),
        }
    }

    /// A call as the gateway would understand it.
    ///
    /// # Errors
    ///
    /// What the agent would be told.
    pub(crate) fn command(&self, call: &Call) -> Result<Command, String> {
        let undescribed = |service: &str| {
            service.parse::<ServiceName>().ok().filter(|name| {
                self.services.contains_key(name) && self.catalog.service(service).is_none()
            })
        };
        let parsed = match call {
            Call::Slash(text) => {
                // Of a service without description, only the command's name can be understood.
                let (named, rest) = text
                    .trim()
                    .split_once(char::is_whitespace)
                    .unwrap_or((text.trim(), ""));
                if let Some(service) = named.strip_prefix("/mcp-").and_then(undescribed) {
                    let rest = rest.trim();
                    if rest.is_empty() || rest.contains(char::is_whitespace) {
                        return Err(format!(
                            "`{service}` has no description: write its calls with `service`, `operation` and `args`"
                        ));
                    }
                    return self.added_command(&service, rest, serde_json::Map::new());
                }
                self.catalog.parse_slash(text)
            }
            Call::Body {
                service,
                operation,
                args,
            } => {
                let added = |name: &ServiceName| {
                    operation
                        .parse()
                        .is_ok_and(|operation| self.added(name, &operation).is_ok())
                };
                if let Some(name) =
                    undescribed(service).or_else(|| service.parse().ok().filter(added))
                {
                    return self.added_command(&name, operation, args.clone());
                }
                self.catalog
                    .command(service, operation, serde_json::Value::Object(args.clone()))
            }
        };
        match parsed {
            Ok(Parsed::Command(command)) => Ok(Command {
                target: self.patched(&command.target),
                arguments: command.arguments,
            }),
            Ok(Parsed::Help { service }) => Err(format!(
                "the call asks `{service}` for help, which needs no decision"
            )),
            Err(error) => Err(told(&error)),
        }
    }

    fn added_command(
        &self,
        service: &ServiceName,
        name: &str,
        args: serde_json::Map<String, serde_json::Value>,
    ) -> Result<Command, String> {
        let name = name
            .parse()
            .map_err(|error: authz::id::InvalidId| error.to_string())?;
        Ok(Command {
            target: self.added(service, &name)?,
            arguments: Arguments::new(args),
        })
    }

    /// A command that only the fixtures have.
    fn added(&self, service: &ServiceName, name: &CommandName) -> Result<Arc<Target>, String> {
        self.has_service(service)?;
        let commands = self
            .services
            .get(service)
            .map(|patch| &patch.value.commands);
        let risk = commands.and_then(|commands| commands.get(name)?.risk);
        let Some(risk) = risk else {
            let known = self.catalog.service(service.as_str());
            let described = known
                .iter()
                .flat_map(|service| &service.commands)
                .map(|command| command.name.as_str());
            let added = commands
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str());
            let what = format!("command of `{service}`");
            return Err(absent(&what, name.as_str(), described.chain(added)));
        };
        let target = Target {
            key: CommandKey {
                service: service.clone(),
                name: name.clone(),
            },
            service: Arc::new(Service {
                name: service.clone(),
                env: authz::command::Environment::default(),
                owners: None,
                zones: std::collections::BTreeSet::new(),
            }),
            risk,
            zones: std::collections::BTreeSet::new(),
            pinned: true,
        };
        Ok(self.patched(&Arc::new(target)))
    }

    /// What the fixtures tell otherwise of a command and its service.
    fn patched(&self, target: &Arc<Target>) -> Arc<Target> {
        let Some(Spanned { value: patch, .. }) = self.services.get(&target.key.service) else {
            return Arc::clone(target);
        };
        let mut service = Service::clone(&target.service);
        service.env = patch.env.unwrap_or(service.env);
        service.owners = patch.owners.clone().or(service.owners);
        service.zones = patch.zones.clone().unwrap_or(service.zones);
        let mut patched = Target {
            service: Arc::new(service),
            ..Target::clone(target)
        };
        if let Some(command) = patch.commands.get(&target.key.name) {
            patched.risk = command.risk.unwrap_or(patched.risk);
            patched.zones = command.zones.clone().unwrap_or(patched.zones);
            patched.pinned = command.pinned.unwrap_or(patched.pinned);
        }
        Arc::new(patched)
    }
}

/// What the agent would be told, with what may have been meant.
fn told(error: &CommandError) -> String {
    match error {
        CommandError::UnknownService {
            nearest: Some(near),
            ..
        }
        | CommandError::UnknownCommand {
            nearest: Some(near),
            ..
        } => format!("{error}; did you mean `{near}`?"),
        CommandError::Arguments { usage, .. } => format!("{error}; usage: {usage}"),
        other => other.to_string(),
    }
}

fn absent<'a>(what: &str, name: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    match nearest(name, candidates) {
        Some(near) => format!("there is no {what} `{name}`; did you mean `{near}`?"),
        None => format!("there is no {what} `{name}`"),
    }
}

/// The candidate that takes the fewest edits, if they are few enough to be a slip.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let distance = |candidate: &str| crate::config::distance(name, candidate);
    candidates
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().div_ceil(3))
        .min()
        .map(|(_, candidate)| candidate)
}
