//! Facts: what Cedar is told about an agent.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{OnceLock, PoisonError, RwLock},
};

use cedar_policy::{EntityUid, RestrictedExpression};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    command::{ArgumentsDigest, CommandKey, Environment},
    entities::{self, Malformed},
    grant::Grant,
    id::{AgentId, AgentName, GrantId, RoleName, ServiceName, TeamName, UserId},
    internals::Shared,
};

/// Everything about one agent that a decision rests on, at one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
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
    /// The grants, by where policies look for them.
    grants: BTreeMap<String, Grant>,
    /// The agent with all its grants. An error refuses whatever is asked.
    whole: OnceLock<Result<Shared, Malformed>>,
    /// The agent without any grant: what most decisions need.
    bare: OnceLock<Result<Shared, Malformed>>,
    /// The agent with just these grants: what commands need that they are for.
    some: RwLock<HashMap<Own, Shared>>,
}

/// The grants that cover one command, narrowest first.
type Own = [Option<GrantId>; 3];

/// How many combinations of grants are kept; beyond that it begins anew.
const MAX_SOME: usize = 256;

impl Principal {
    /// The agent with its grants as tags, its teams and roles.
    ///
    /// Of several grants under one key, the tag is the one with most approvers, then
    /// the highest risk, then one for many uses, then the latest expiry; the others
    /// come to light when it is gone. Which of them is expired cannot be told here,
    /// without a clock, and need not: an expired one that wins can only refuse, and a
    /// refusal is decided again on fresh facts, from which it has disappeared.
    #[must_use]
    pub fn new(facts: Facts) -> Self {
        let mut sorted: Vec<&Grant> = facts
            .grants
            .iter()
            .filter(|grant| grant.agent == facts.agent.id)
            .collect();
        sorted.sort_by_key(|grant| {
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
        let mut grants = BTreeMap::new();
        for grant in sorted {
            grants
                .entry(grant.scope.key())
                .or_insert_with(|| grant.clone());
        }
        Self {
            uid: entities::agent_uid(facts.agent.id),
            facts,
            grants,
            whole: OnceLock::new(),
            bare: OnceLock::new(),
            some: RwLock::default(),
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
        self.grants.get(key)
    }

    /// The agent as it is.
    pub(crate) fn entity(&self) -> Result<Shared, Malformed> {
        self.whole
            .get_or_init(|| self.with_grants(|_| true, None))
            .clone()
    }

    /// The agent as a command sees it, of whose `keys` only those in `kept` count.
    ///
    /// Its other grants are there too where `others`; else they are left out, which
    /// changes nothing for policies that look for a grant under those keys only.
    pub(crate) fn toward(
        &self,
        keys: &[String; 3],
        kept: [bool; 3],
        others: bool,
    ) -> Result<Shared, Malformed> {
        if others {
            let dropped = |key: &str| keys.iter().zip(kept).any(|(own, kept)| own == key && !kept);
            return if kept == [true; 3] {
                self.entity()
            } else {
                self.with_grants(|key| !dropped(key), None)
            };
        }
        let mut own: Own = [None; 3];
        for ((own, key), kept) in own.iter_mut().zip(keys).zip(kept) {
            *own = self.grant(key).filter(|_| kept).map(|grant| grant.id);
        }
        if own == [None; 3] {
            let bare = || self.with_grants(|_| false, None);
            return self.bare.get_or_init(bare).clone();
        }
        // What is kept is whole even if another thread panicked meanwhile.
        let known = self.some.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entity) = known.get(&own) {
            return Ok(entity.clone());
        }
        drop(known);
        let wanted = |key: &str| {
            keys.iter()
                .zip(own)
                .any(|(name, own)| name == key && own.is_some())
        };
        let entity = self.with_grants(wanted, None)?;
        let mut known = self.some.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_SOME {
            known.clear();
        }
        known.insert(own, entity.clone());
        Ok(entity)
    }

    /// The agent as it would be with only the grants that `keep` wants, by key, and
    /// with one more.
    pub(crate) fn with_grants(
        &self,
        keep: impl Fn(&str) -> bool,
        more: Option<(String, RestrictedExpression)>,
    ) -> Result<Shared, Malformed> {
        let replaced = more.as_ref().map(|(key, _)| key.as_str());
        let mut tags = Vec::new();
        for (key, grant) in &self.grants {
            if keep(key) && replaced != Some(key.as_str()) {
                tags.push((key.clone(), entities::grant(grant)?));
            }
        }
        tags.extend(more);
        entities::agent(&self.facts.agent, tags).map(Shared::from)
    }
}
