//! Facts: what Cedar is told about an agent.

use std::{cmp::Reverse, collections::BTreeMap};

use cedar_policy::{Entities, EntityUid, RestrictedExpression};
use serde::{Deserialize, Serialize};

use crate::{
    agent::Agent,
    entities::{self, Malformed, malformed},
    grant::Grant,
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
