//! Proofs: what holds of a policy set whatever is asked of it.
//!
//! Where a test asks about one call, a proof is about all of them: every agent, command,
//! grant, person and time that the schema can describe. A [`Theory`] is a policy set with
//! what is claimed of it; each [`Claim`] is settled for one kind of request at a time, by
//! asking a solver in SMT-LIB. The solver is an argument: this crate writes questions and
//! reads answers, and runs nothing.
//!
//! Two things are not taken on the solver's word: a claim holds only by a plain `unsat`, and
//! a counterexample counts only if Cedar itself, given that request, agrees.

mod counterexample;
mod oracle;
mod world;

use std::{
    collections::BTreeSet,
    sync::{Arc, OnceLock},
};

use cedar_policy::{
    ActionConstraint, Effect, Entities, Policy, PolicyId, PrincipalConstraint, RequestEnv,
    ResourceConstraint, Schema,
};
use cedar_policy_symcc::{CompiledPolicy, CompiledPolicySet, Env};
use serde::Serialize;
use serde_json::Value;

pub use self::counterexample::Counterexample;
use self::{oracle::Oracle, world::World};
use crate::{
    command::CommandKey,
    entities::{Malformed, TYPES, malformed},
    policy_set::{
        Finding, Part, Parts, PolicySet, PolicySetVersion, PolicySources, STACK, Source,
        TypedAction, TypedActions, assemble, on_large_stack, parts, with_session,
    },
};

/// Answers an SMT-LIB script with what the solver prints, or says why there is no answer.
pub type Solve<'a> = &'a (dyn Fn(&str) -> Result<String, String> + Sync);

/// A policy set, and everything that is claimed of it.
pub struct Theory {
    version: PolicySetVersion,
    schema: Schema,
    actions: Entities,
    typed: TypedActions,
    policies: Vec<Part>,
    invariants: Vec<Part>,
    /// What the set may not exceed.
    old: Option<Vec<Part>>,
    environments: Vec<Environment>,
    claims: Vec<Claim>,
}

/// One kind of request: who does what to what.
struct Environment {
    cedar: RequestEnv,
    name: String,
    world: World,
    /// The policies that can match, where the world is as it is.
    compiled: OnceLock<Result<CompiledPolicySet, String>>,
}

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// This policy can be evaluated, whatever is asked.
    NeverFails,
    /// The set permits nothing that this invariant, a `forbid`, matches.
    Never,
    /// The set permits everything that this invariant, a `permit`, matches.
    Always,
    /// The set permits nothing that the old set does not.
    NotWider,
}

/// Whose a policy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Of {
    /// The set that is looked into.
    Set,
    /// An invariant.
    Invariants,
    /// The set that it is compared with.
    Old,
}

/// One claim.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What is claimed.
    pub kind: Kind,
    /// Of which policy, if of one.
    pub policy: Option<Place>,
    /// The kinds of request that it is settled for, as positions.
    pub environments: Vec<usize>,
    at: usize,
}

/// A policy that a claim is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Whose it is.
    pub of: Of,
    /// Its id.
    pub id: String,
    /// Its file.
    pub file: String,
    /// From 1.
    pub line: u32,
    /// Its `@advice`: what to tell if it does not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What came of a claim for one kind of request.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It was proved.
    Holds,
    /// It is not so: here is why.
    Refuted(Box<Counterexample>),
    /// Neither was found, for this reason. It is no proof.
    Unknown(String),
}

impl Theory {
    /// Takes a valid set and what is claimed of it: that no `forbid` fails, these
    /// invariants, and that it permits no more than `old`.
    ///
    /// `old` is read with the schema of the new set, as only what both speak of can be
    /// compared.
    ///
    /// # Errors
    ///
    /// What is wrong with any of them. An invariant that the validator warns of is wrong:
    /// one that can match nothing would hold in vain.
    pub fn new(
        sources: &PolicySources,
        invariants: &[Source],
        old: Option<&[Source]>,
    ) -> Result<Self, Vec<Finding>> {
        on_large_stack(|| Self::read(sources, invariants, old))
    }

    fn read(
        sources: &PolicySources,
        invariants: &[Source],
        old: Option<&[Source]>,
    ) -> Result<Self, Vec<Finding>> {
        let broken = |error: Malformed| vec![Finding::error(&sources.schema.name, error.text)];
        let Parts {
            schema,
            typed,
            policies,
            ..
        } = parts(sources)?;
        let with = |policies: &[Source]| {
            parts(&PolicySources {
                schema: sources.schema.clone(),
                policies: policies.to_vec(),
            })
        };
        let invariants = if invariants.is_empty() {
            Vec::new()
        } else {
            let parts = with(invariants)?;
            if !parts.warnings.is_empty() {
                return Err(parts
                    .warnings
                    .into_iter()
                    .map(Finding::into_error)
                    .collect());
            }
            parts.policies
        };
        let old = old.map(with).transpose()?.map(|parts| parts.policies);
        let actions = schema
            .action_entities()
            .map_err(malformed)
            .map_err(broken)?;
        let all = || {
            let old = old.iter().flatten();
            policies.iter().chain(&invariants).chain(old)
        };
        let literals: BTreeSet<_> = all()
            .flat_map(|part| part.policy.entity_literals())
            .collect();
        let with_session = with_session(&schema).map_err(broken)?;
        let mut environments = Vec::new();
        for cedar in schema.request_envs() {
            let world = World::new(
                &cedar,
                &actions,
                &literals,
                &typed,
                has_session(&cedar, &with_session, &typed),
            )
            .map_err(broken)?;
            let name = format!(
                "{} {} {}",
                cedar.principal(),
                cedar.action().id().unescaped(),
                cedar.resource()
            );
            environments.push(Environment {
                cedar,
                name,
                world,
                compiled: OnceLock::new(),
            });
        }
        // Cedar gives them in the order of a hash map.
        environments.sort_by(|a, b| a.name.cmp(&b.name));
        let mut theory = Self {
            version: sources.version(),
            actions,
            schema,
            typed,
            policies,
            invariants,
            old,
            environments,
            claims: Vec::new(),
        };
        theory.claims = theory.everything_claimed();
        Ok(theory)
    }

    fn everything_claimed(&self) -> Vec<Claim> {
        let claim = |kind, of, at, part: &Part| Claim {
            kind,
            policy: Some(place(of, part)),
            environments: self.where_applies(&part.policy),
            at,
        };
        let mut claims = Vec::new();
        for (at, part) in self.policies.iter().enumerate() {
            if part.policy.effect() == Effect::Forbid {
                claims.push(claim(Kind::NeverFails, Of::Set, at, part));
            }
        }
        // An invariant that fails says nothing of that request.
        for (at, part) in self.invariants.iter().enumerate() {
            claims.push(claim(Kind::NeverFails, Of::Invariants, at, part));
            let kind = match part.policy.effect() {
                Effect::Forbid => Kind::Never,
                Effect::Permit => Kind::Always,
            };
            claims.push(claim(kind, Of::Invariants, at, part));
        }
        let Some(old) = &self.old else {
            return claims;
        };
        // Where an old `forbid` fails, the old set refuses, and Cedar would not say so.
        for (at, part) in old.iter().enumerate() {
            let same = |new: &&Part| same(&new.policy, &part.policy);
            if part.policy.effect() == Effect::Forbid && !self.policies.iter().any(|new| same(&new))
            {
                claims.push(claim(Kind::NeverFails, Of::Old, at, part));
            }
        }
        claims.push(Claim {
            kind: Kind::NotWider,
            policy: None,
            environments: (0..self.environments.len()).collect(),
            at: 0,
        });
        claims
    }

    /// What is claimed, in the order of files.
    #[must_use]
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// What a kind of request is called: `Agent write Command`.
    #[must_use]
    pub fn environment(&self, at: usize) -> &str {
        self.environments
            .get(at)
            .map_or("", |environment| &environment.name)
    }

    /// How many policies the set has.
    #[must_use]
    pub fn policies(&self) -> usize {
        self.policies.len()
    }

    /// Names the set.
    #[must_use]
    pub fn version(&self) -> &PolicySetVersion {
        &self.version
    }

    /// Whether a claim holds for one of its kinds of request.
    #[must_use]
    pub fn settle(&self, claim: &Claim, environment: usize, solve: Solve<'_>) -> Verdict {
        let Some(environment) = self.environments.get(environment) else {
            return Verdict::Unknown("there is no such kind of request".to_owned());
        };
        apart(|| Ok(self.verdict(claim, environment, solve))).unwrap_or_else(Verdict::Unknown)
    }

    fn verdict(&self, claim: &Claim, environment: &Environment, solve: Solve<'_>) -> Verdict {
        let found = match self.ask(claim, environment, false, solve) {
            Ok(None) => return Verdict::Holds,
            Ok(Some(found)) => found,
            Err(why) => return Verdict::Unknown(why),
        };
        // One within bounds that can be told as a test, if there is any.
        let plain = self.ask(claim, environment, true, solve).ok().flatten();
        let mut why = String::new();
        for found in plain.iter().chain([&found]) {
            match self.confirmed(claim, environment, found) {
                Ok(counterexample) => return Verdict::Refuted(Box::new(counterexample)),
                Err(reason) => why = reason,
            }
        }
        Verdict::Unknown(why)
    }

    /// Whether there is any such request that an invariant matches: what matches none
    /// holds in vain.
    ///
    /// # Errors
    ///
    /// Why that was not found out.
    pub fn can_match(
        &self,
        claim: &Claim,
        environment: usize,
        solve: Solve<'_>,
    ) -> Result<bool, String> {
        let (Some(environment), Some(part)) =
            (self.environments.get(environment), self.part(claim))
        else {
            return Ok(false);
        };
        apart(|| {
            let policy = environment.world.before(&part.policy, false)?;
            let policy = self.compile(&policy, environment)?;
            let never = Oracle::ask(solve, async |oracle| {
                oracle.check_never_matches_opt(&policy).await
            })?;
            Ok(!never)
        })
    }

    /// The set that a counterexample is about, and one that answers as is claimed; there is
    /// no such one where the claim is that a policy can be evaluated.
    ///
    /// # Errors
    ///
    /// When they cannot be put together.
    pub fn sets(&self, claim: &Claim) -> Result<(Arc<PolicySet>, Option<Arc<PolicySet>>), String> {
        let of = |parts: &[Part]| -> Vec<Policy> {
            parts.iter().map(|part| part.policy.clone()).collect()
        };
        let assemble = |policies: Vec<Policy>| {
            assemble(
                self.version.clone(),
                &self.schema,
                self.typed.clone(),
                policies,
            )
            .map(Arc::new)
            .map_err(|error| error.text)
        };
        let subject = match (claim.kind, &claim.policy, &self.old) {
            (Kind::NeverFails, Some(place), _) if place.of == Of::Invariants => {
                of(&self.invariants)
            }
            (Kind::NeverFails, Some(place), Some(old)) if place.of == Of::Old => of(old),
            _ => of(&self.policies),
        };
        let standard = match claim.kind {
            Kind::NeverFails => None,
            // Enforced beside the set, so that it shows in what the agent is told.
            Kind::Never => Some(
                self.part(claim)
                    .map(|part| part.policy.clone())
                    .into_iter()
                    .chain(of(&self.policies))
                    .collect(),
            ),
            Kind::Always => Some(self.standard(claim)?),
            Kind::NotWider => Some(of(self.old.as_deref().unwrap_or_default())),
        };
        Ok((assemble(subject)?, standard.map(assemble).transpose()?))
    }

    /// An invariant as a set that just keeps it.
    fn standard(&self, claim: &Claim) -> Result<Vec<Policy>, String> {
        let part = self.part(claim).ok_or("there is no such policy")?;
        Ok(match claim.kind {
            Kind::Never => vec![world::everything()?, part.policy.clone()],
            _ => vec![part.policy.clone()],
        })
    }

    fn part(&self, claim: &Claim) -> Option<&Part> {
        let of = claim.policy.as_ref()?.of;
        match of {
            Of::Set => self.policies.get(claim.at),
            Of::Invariants => self.invariants.get(claim.at),
            Of::Old => self.old.as_ref()?.get(claim.at),
        }
    }

    /// A request against the claim, if the solver finds one.
    fn ask(
        &self,
        claim: &Claim,
        environment: &Environment,
        plain: bool,
        solve: Solve<'_>,
    ) -> Result<Option<Env>, String> {
        if claim.kind == Kind::NeverFails {
            let part = self.part(claim).ok_or("there is no such policy")?;
            // Most cannot fail in any world, and that is found out sooner.
            let bare = self.compile(&part.policy, environment)?;
            let holds = Oracle::ask(solve, async |oracle| {
                oracle.check_never_errors_opt(&bare).await
            });
            if holds == Ok(true) {
                return Ok(None);
            }
            let policy = environment.world.before(&part.policy, plain)?;
            let policy = self.compile(&policy, environment)?;
            return Oracle::ask(solve, async |oracle| {
                oracle
                    .check_never_errors_with_counterexample_opt(&policy)
                    .await
            });
        }
        let compile = |policies: Vec<Policy>| self.compile_set(policies, environment);
        let (left, right);
        let (less, more) = match claim.kind {
            Kind::Always => {
                left = compile(environment.world.among(self.standard(claim)?, plain)?)?;
                right = compile(self.applying(&self.policies, environment))?;
                (&left, &right)
            }
            Kind::Never => {
                right = compile(self.standard(claim)?)?;
                if plain {
                    left = self.within(environment, true)?;
                    (&left, &right)
                } else {
                    (self.whole(environment)?, &right)
                }
            }
            Kind::NeverFails | Kind::NotWider => {
                let old = self.applying(self.old.as_deref().unwrap_or_default(), environment);
                let new = self.applying(&self.policies, environment);
                // Most requests are of kinds that an edit does not touch.
                if new.len() == old.len()
                    && new.iter().all(|new| old.iter().any(|old| same(new, old)))
                {
                    return Ok(None);
                }
                right = compile(old)?;
                if plain {
                    left = self.within(environment, true)?;
                    (&left, &right)
                } else {
                    (self.whole(environment)?, &right)
                }
            }
        };
        Oracle::ask(solve, async |oracle| {
            oracle
                .check_implies_with_counterexample_opt(less, more)
                .await
        })
    }

    /// The set, compiled once for all claims.
    fn whole<'a>(&self, environment: &'a Environment) -> Result<&'a CompiledPolicySet, String> {
        let compiled = environment
            .compiled
            .get_or_init(|| self.within(environment, false));
        compiled.as_ref().map_err(Clone::clone)
    }

    fn within(&self, environment: &Environment, plain: bool) -> Result<CompiledPolicySet, String> {
        let policies = self.applying(&self.policies, environment);
        self.compile_set(environment.world.among(policies, plain)?, environment)
    }

    fn compile_set(
        &self,
        policies: Vec<Policy>,
        environment: &Environment,
    ) -> Result<CompiledPolicySet, String> {
        let set = cedar_policy::PolicySet::from_policies(policies)
            .map_err(|error| malformed(error).text)?;
        CompiledPolicySet::compile(&set, &environment.cedar, &self.schema)
            .map_err(|error| malformed(error).text)
    }

    fn compile(
        &self,
        policy: &Policy,
        environment: &Environment,
    ) -> Result<CompiledPolicy, String> {
        CompiledPolicy::compile(policy, &environment.cedar, &self.schema)
            .map_err(|error| malformed(error).text)
    }

    /// Those that can match such a request.
    fn applying(&self, parts: &[Part], environment: &Environment) -> Vec<Policy> {
        parts
            .iter()
            .filter(|part| self.applies(&part.policy, &environment.cedar))
            .map(|part| part.policy.clone())
            .collect()
    }

    fn where_applies(&self, policy: &Policy) -> Vec<usize> {
        let environments = self.environments.iter().enumerate();
        environments
            .filter(|(_, environment)| self.applies(policy, &environment.cedar))
            .map(|(at, _)| at)
            .collect()
    }

    /// Whether a policy's scope can match a kind of request.
    fn applies(&self, policy: &Policy, environment: &RequestEnv) -> bool {
        let action = environment.action();
        let acts = match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(other) => other == *action,
            ActionConstraint::In(others) => {
                let mut above = self.actions.ancestors(action).into_iter().flatten();
                others.contains(action) || above.any(|group| others.contains(group))
            }
        };
        let by = match policy.principal_constraint() {
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
                kind == *environment.principal()
            }
            PrincipalConstraint::Eq(who) => who.type_name() == environment.principal(),
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        };
        let on = match policy.resource_constraint() {
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => {
                kind == *environment.resource()
            }
            ResourceConstraint::Eq(what) => what.type_name() == environment.resource(),
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        };
        acts && by && on
    }
}

fn place(of: Of, part: &Part) -> Place {
    Place {
        of,
        id: part.id.clone(),
        file: part.file.clone(),
        line: part.line,
        advice: part
            .policy
            .annotation("advice")
            .filter(|text| !text.is_empty())
            .map(str::to_owned),
    }
}

/// Whether two policies say the same, whatever their layout and annotations.
fn same(a: &Policy, b: &Policy) -> bool {
    let meaning = |policy: &Policy| {
        let mut json = policy.to_json().ok()?;
        json.as_object_mut()?.remove("annotations");
        Some(json)
    };
    let (a, b): (Option<Value>, Option<Value>) = (meaning(a), meaning(b));
    a.is_some() && a == b
}

/// Whether requests of one kind tell of a session.
fn has_session(environment: &RequestEnv, untyped: &[&str], typed: &TypedActions) -> bool {
    let action = environment.action().id().unescaped();
    let is_it =
        |(key, known): (&CommandKey, &TypedAction)| known.session && key.to_string() == action;
    *environment.principal() == TYPES.agent
        && *environment.resource() == TYPES.command
        && (untyped.contains(&action) || typed.iter().any(is_it))
}

/// Does work that recurses as deep as policies nest, on a thread with a large stack. A
/// panic in the compiler that we call is no proof, and no end of all others.
fn apart<T: Send>(work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .map_err(|error| format!("there is no thread to find out on: {error}"))?
            .join()
            .unwrap_or_else(|_| {
                Err("the question cannot be written: the compiler panicked".to_owned())
            })
    })
}

/// A policy of ours, from its text.
fn own(id: &str, text: &str) -> Result<Policy, String> {
    Policy::parse(Some(PolicyId::new(id)), text).map_err(|error| malformed(error).text)
}

#[cfg(test)]
mod tests;
