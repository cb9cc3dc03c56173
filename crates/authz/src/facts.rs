//! Facts: what Cedar is told about an agent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use cedar_policy::{Entities, EntityUid, RestrictedExpression};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    command::{ArgumentsDigest, CommandKey, Environment},
    entities::{self, Malformed, malformed},
    grant::Grant,
    id::{AgentId, AgentName, RoleName, ServiceName, TeamName, UserId},
};

/// Everything about one agent that a decision rests on, at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The agent itself.
    pub agent: Agent,
    /// Its grants that were neither expired, revoked nor spent when this was read.
    pub grants: Vec<Grant>,
    /// The feed's head when this was read: facts of a later version are newer.
    pub version: i64,
}

/// What a decision about one command rested on, as a record keeps it: the agent without its
/// names, and its grants that may cover the command.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Basis {
    /// As [`Agent::owner`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<UserId>,
    /// As [`Agent::teams`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub teams: BTreeSet<TeamName>,
    /// As [`Agent::roles`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<RoleName>,
    /// As [`Agent::env`].
    pub env: Environment,
    /// As [`Agent::trust`].
    pub trust: u8,
    /// As [`Agent::suspended`].
    #[serde(skip_serializing_if = "is_false")]
    pub suspended: bool,
    /// As [`Agent::allowed_mcps`].
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub allowed_mcps: BTreeSet<ServiceName>,
    /// The grants under the command's keys, narrowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Basis {
    /// The facts of an agent of that id and name.
    #[must_use]
    pub fn facts(self, id: AgentId, name: AgentName) -> Facts {
        Facts {
            agent: Agent {
                id,
                name,
                owner: self.owner,
                teams: self.teams,
                roles: self.roles,
                env: self.env,
                trust: self.trust,
                suspended: self.suspended,
                allowed_mcps: self.allowed_mcps,
            },
            grants: self.grants,
            version: 0,
        }
    }
}

/// An agent's facts as Cedar entities: built once per facts, used for many decisions.
#[derive(Debug)]
pub struct Principal {
    facts: Facts,
    uid: EntityUid,
    tags: BTreeMap<String, Tag>,
    /// What decisions start from. An error refuses whatever is asked.
    entities: Result<Entities, Malformed>,
}

/// One grant where policies look for it.
#[derive(Debug)]
pub(crate) struct Tag {
    pub(crate) grant: Grant,
    value: Result<RestrictedExpression, Malformed>,
}

impl Principal {
    /// Builds the entities: the agent with its grants as tags, its teams and roles.
    ///
    /// Of several grants under one key, the tag is the one with most approvers, then
    /// the highest risk, then one for many uses, then the latest expiry; the others
    /// come to light when it is gone. Which of them is expired cannot be told here,
    /// without a clock, and need not: an expired one that wins can only refuse, and a
    /// refusal is decided again on fresh facts, from which it has disappeared.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let mut grants: Vec<&Grant> = facts
            .grants
            .iter()
            .filter(|grant| grant.agent == facts.agent.id)
            .collect();
        grants.sort_by_key(|grant| {
            // The same person twice is one approver; policy says so as well.
            let two = grant
                .second
                .as_ref()
                .is_some_and(|second| *second != grant.first);
            (
                Reverse(two),
                Reverse(grant.risk),
                grant.single_use,
                Reverse(grant.expires),
                grant.id,
            )
        });
        let mut tags = BTreeMap::new();
        for grant in grants {
            tags.entry(grant.scope.key()).or_insert_with(|| Tag {
                value: entities::grant(grant),
                grant: grant.clone(),
            });
        }
        let entities = build(&facts.agent, &tags, |_| true, None);
        Self {
            uid: entities::agent_uid(facts.agent.id),
            facts,
            tags,
            entities,
        }
    }

    /// What it was built from.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The agent.
    #[must_use]
    pub fn agent(&self) -> &Agent {
        &self.facts.agent
    }

    /// What a decision about this command with arguments of that digest rests on, to be kept.
    #[must_use]
    pub fn basis(&self, command: &CommandKey, digest: &ArgumentsDigest) -> Basis {
        let agent = &self.facts.agent;
        Basis {
            owner: agent.owner.clone(),
            teams: agent.teams.clone(),
            roles: agent.roles.clone(),
            env: agent.env,
            trust: agent.trust,
            suspended: agent.suspended,
            allowed_mcps: agent.allowed_mcps.clone(),
            grants: crate::decide::keys_of(command, digest)
                .iter()
                .filter_map(|key| self.grant(key).cloned())
                .collect(),
        }
    }

    pub(crate) fn uid(&self) -> &EntityUid {
        &self.uid
    }

    /// The grant that policies find under a key.
    pub(crate) fn grant(&self, key: &str) -> Option<&Grant> {
        self.tags.get(key).map(|tag| &tag.grant)
    }

    /// The agent as it is.
    pub(crate) fn entities(&self) -> Result<Entities, Malformed> {
        self.entities.clone()
    }

    /// The agent as it would be with only the grants that `keep` wants, by key, and
    /// with one more.
    pub(crate) fn with_grants(
        &self,
        keep: impl Fn(&str) -> bool,
        more: Option<(String, RestrictedExpression)>,
    ) -> Result<Entities, Malformed> {
        build(&self.facts.agent, &self.tags, keep, more)
    }
}

fn build(
    agent: &Agent,
    tags: &BTreeMap<String, Tag>,
    keep: impl Fn(&str) -> bool,
    more: Option<(String, RestrictedExpression)>,
) -> Result<Entities, Malformed> {
    let replaced = more.as_ref().map(|(key, _)| key.clone());
    let mut values = Vec::with_capacity(tags.len() + 1);
    for (key, tag) in tags {
        if keep(key) && replaced.as_ref() != Some(key) {
            values.push((key.clone(), tag.value.clone()?));
        }
    }
    values.extend(more);
    let agent = entities::agent(agent, values)?;
    Entities::from_entities([agent], None).map_err(malformed)
}
