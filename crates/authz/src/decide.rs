//! Decisions: permit or refuse one command, and why.

use std::{net::IpAddr, sync::Arc};

use cedar_policy::{
    AuthorizationError, Authorizer, Context, Entities, EntityUid, EvaluationError, Request,
    Response,
};
use serde::{Deserialize, Serialize};

use crate::{
    approval::Ruling,
    arguments,
    command::{ArgumentsDigest, Command, CommandKey},
    entities::{self, Malformed, malformed},
    facts::Principal,
    grant::{Grant, Scope},
    id::{AgentId, GrantId},
    internals::Shared,
    policy_set::{PolicySet, PolicySetVersion},
    session::{Parts, Session},
    slice::{Action, Slice},
    time::Timestamp,
};

/// What surrounds a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// When.
    pub now: Timestamp,
    /// The address that the call came from.
    pub ip: IpAddr,
    /// The session that it belongs to.
    pub session: Session,
}

impl Circumstances {
    /// A call in a [fresh](Session::fresh) session: for whoever knows of none.
    #[must_use]
    pub const fn new(now: Timestamp, ip: IpAddr) -> Self {
        Self {
            now,
            ip,
            session: Session::fresh(now),
        }
    }
}

/// Proof that the policy set permitted a command.
///
/// Only [`decide`] makes one, so code that takes a `Permit` cannot run for a
/// command that was never decided.
#[derive(Debug)]
pub struct Permit {
    agent: AgentId,
    command: Command,
    policies: Vec<String>,
    grant: Option<UsedGrant>,
    policy_set: PolicySetVersion,
}

/// The grant that a permit rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedGrant {
    /// Names it.
    pub id: GrantId,
    /// Whether it must be spent before the command leaves.
    pub single_use: bool,
}

impl Permit {
    /// To whom.
    #[must_use]
    pub fn agent(&self) -> AgentId {
        self.agent
    }

    /// What is permitted, exactly.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// The ids of the policies that permitted it.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// The grant without which policy would have refused.
    #[must_use]
    pub fn grant(&self) -> Option<UsedGrant> {
        self.grant
    }

    /// The policy set that decided.
    #[must_use]
    pub fn policy_set(&self) -> &PolicySetVersion {
        &self.policy_set
    }
}

/// Why a command was refused. It gives the command back, to be asked about.
#[derive(Debug)]
pub struct Refused {
    /// What was asked for.
    pub command: Command,
    /// The ids of the forbids that decided; empty when simply nothing permits it.
    pub policies: Vec<String>,
    /// Their `@advice`, in the same order.
    pub advice: Vec<String>,
    /// Policies that could not be evaluated. One that forbids refuses by itself.
    pub errors: Vec<PolicyError>,
    /// Whether an erroring `forbid` decided (reason `policy_error`).
    pub policy_error: bool,
    /// Whether no policy was asked, because the arguments cannot be judged as they are:
    /// `advice` says which of them is not as the schema's typed action wants it.
    pub misfit: bool,
    /// The policy set that decided.
    pub policy_set: PolicySetVersion,
}

/// A policy that failed while it was evaluated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyError {
    /// Its id; empty when the fault is not in a policy.
    pub policy: String,
    /// What went wrong, without the values that it went wrong with.
    pub message: String,
}

/// The answer.
#[derive(Debug)]
pub enum Decision {
    /// It may run.
    Permit(Permit),
    /// It may not.
    Refuse(Box<Refused>),
}

/// Decides one command of one agent.
///
/// `slice` must be that of the command's target and [`Action::Invoke`]; of anything
/// else the answer is no. An error in a `forbid` refuses; an error in a `permit`
/// grants nothing.
#[must_use]
pub fn decide(slice: &Slice, agent: &Principal, command: Command, at: Circumstances) -> Decision {
    let keys = keys(&command);
    let (verdict, grant) = match judge(slice, agent, &command, &keys, at) {
        Ok(answer) => answer,
        Err(error) => (Verdict::unable(error), None),
    };
    let policy_set = slice.policy_set().version().clone();
    if verdict.permitted {
        let agent = agent.agent().id;
        Decision::Permit(Permit {
            agent,
            command,
            policies: verdict.policies,
            grant,
            policy_set,
        })
    } else {
        Decision::Refuse(Box::new(Refused {
            command,
            advice: verdict.advice(slice.policy_set()),
            policies: verdict.policies,
            errors: verdict.errors,
            policy_error: verdict.policy_error,
            misfit: verdict.misfit,
            policy_set,
        }))
    }
}

/// Whether the agent may see that the command exists. `slice` is that of
/// [`Action::List`].
#[must_use]
pub fn may_list(slice: &Slice, agent: &Principal, now: Timestamp) -> bool {
    list(slice, agent, now).permitted
}

/// As [`may_list`], with the policies that decided.
#[must_use]
pub fn list(slice: &Slice, agent: &Principal, now: Timestamp) -> Ruling {
    let listed = || {
        if slice.action() != Action::List {
            return Err(Malformed::new("the slice is for another action"));
        }
        let context = entities::time_context(now)?;
        evaluate(slice, agent.uid(), &agent.entity()?, &[], context)
    };
    Ruling::of(slice.policy_set(), listed())
}

/// Under which keys a grant may cover a command, narrowest first.
fn keys(command: &Command) -> [String; 3] {
    keys_of(&command.target.key, command.arguments.digest())
}

pub(crate) fn keys_of(key: &CommandKey, digest: &ArgumentsDigest) -> [String; 3] {
    [
        Scope::Call {
            command: key.clone(),
            digest: digest.clone(),
        },
        Scope::Command {
            command: key.clone(),
        },
        Scope::Service {
            service: key.service.clone(),
        },
    ]
    .map(|scope| scope.key())
}

fn judge(
    slice: &Slice,
    agent: &Principal,
    command: &Command,
    keys: &[String; 3],
    at: Circumstances,
) -> Result<(Verdict, Option<UsedGrant>), Malformed> {
    let same = Arc::ptr_eq(slice.target(), &command.target) || *slice.target() == command.target;
    if slice.action() != Action::Invoke || !same {
        return Err(Malformed::new("the slice is not that of the command"));
    }
    let call = Call::with_key(command, &keys[0], at, slice.looks_at_session())?;
    let others = slice.policy_set().looks_beyond_own_grants();
    let judged = |kept: [bool; 3]| {
        let about_agent = agent.toward(keys, kept, others)?;
        call.evaluate(slice, agent.uid(), &about_agent)
    };
    let verdict = judged([true; 3])?;
    if !verdict.permitted {
        return Ok((verdict, None));
    }
    let mut grants: Vec<(usize, &Grant)> = keys
        .iter()
        .enumerate()
        .filter_map(|(place, key)| Some((place, agent.grant(key)?)))
        .collect();
    if grants.is_empty() || slice.permits_without_grants(&verdict.policies) {
        return Ok((verdict, None));
    }

    // Which grant does the permit rest on? One for many uses rather than one that
    // this call would spend; then the narrowest.
    if !slice.permits_only_with_grants(&verdict.policies) && judged([false; 3])?.permitted {
        return Ok((verdict, None));
    }
    grants.sort_by_key(|(_, grant)| grant.single_use);
    let mut used = None;
    // A single one needs no trial: with it, all was said already.
    for (place, grant) in grants.iter().filter(|_| grants.len() > 1) {
        let mut kept = [false; 3];
        if let Some(kept) = kept.get_mut(*place) {
            *kept = true;
        }
        if judged(kept)?.permitted {
            used = Some(*grant);
            break;
        }
    }
    // If it takes several together, one that is for a single use must not last.
    let used = used.or_else(|| grants.last().map(|(_, grant)| *grant));
    Ok((
        verdict,
        used.map(|grant| UsedGrant {
            id: grant.id,
            single_use: grant.single_use,
        }),
    ))
}

/// A command as policies see it, apart from who sends it.
pub(crate) struct Call<'a> {
    command: &'a Command,
    context: Context,
    arguments: Vec<Shared>,
}

impl<'a> Call<'a> {
    /// With these parts of the session of `at`. Most policies do not look at it, and what
    /// is not told costs nothing; under older schemas it must not be told.
    pub(crate) fn new(
        command: &'a Command,
        at: Circumstances,
        of_session: Parts,
    ) -> Result<Self, Malformed> {
        let [key, _, _] = keys(command);
        Self::with_key(command, &key, at, of_session)
    }

    /// As [`Self::new`], where the first of the command's keys is known.
    fn with_key(
        command: &'a Command,
        key: &str,
        at: Circumstances,
        of_session: Parts,
    ) -> Result<Self, Malformed> {
        let digest = command.arguments.digest().as_str();
        Ok(Self {
            command,
            context: entities::call_context(at, of_session, digest, key, arguments::uids())?,
            arguments: arguments::entities(&command.arguments)?
                .into_iter()
                .map(Shared::from)
                .collect(),
        })
    }

    /// What policies are told of the call: with its typed `input`, where the slice's set
    /// has types for the command. What does not fit them is refused before any is asked.
    pub(crate) fn context(&self, slice: &Slice) -> Result<Context, Malformed> {
        let context = self.context.clone();
        if slice.action() != Action::Invoke {
            return Ok(context);
        }
        let Some(typed) = slice.policy_set().typed(&self.command.target.key) else {
            return Ok(context);
        };
        let input = typed.input.input(self.command.arguments.values())?;
        context
            .merge([("input".to_owned(), input)])
            .map_err(malformed)
    }

    /// Everything that is known of the call and of who sends it.
    pub(crate) fn entities(
        &self,
        slice: &Slice,
        about_agent: &Shared,
    ) -> Result<Entities, Malformed> {
        let more = self.arguments.iter().chain([about_agent]);
        slice.cedar()?.entities.with(more)
    }

    pub(crate) fn evaluate(
        &self,
        slice: &Slice,
        agent: &EntityUid,
        about_agent: &Shared,
    ) -> Result<Verdict, Malformed> {
        let context = self.context(slice)?;
        evaluate(slice, agent, about_agent, &self.arguments, context)
    }
}

/// What the policies of a slice say.
fn evaluate(
    slice: &Slice,
    agent: &EntityUid,
    about_agent: &Shared,
    arguments: &[Shared],
    context: Context,
) -> Result<Verdict, Malformed> {
    let cedar = slice.cedar()?;
    let policies = slice.policies_for(agent, about_agent)?;
    let entities = cedar.entities.with(arguments.iter().chain([about_agent]))?;
    // Checked against the schema once, at load, for everything that we build.
    let request = Request::new(
        agent.clone(),
        cedar.action.clone(),
        cedar.resource.clone(),
        context,
        None,
    )
    .map_err(malformed)?;
    Ok(Verdict::of(
        slice.policy_set(),
        &Authorizer::new().is_authorized(&request, &policies, &entities),
    ))
}

/// What policies say, after the error rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) permitted: bool,
    /// The policies that decided, sorted; among them a `forbid` that failed.
    pub(crate) policies: Vec<String>,
    pub(crate) errors: Vec<PolicyError>,
    pub(crate) policy_error: bool,
    /// Nothing could be evaluated, because of the arguments.
    pub(crate) misfit: bool,
}

impl Verdict {
    /// Cedar skips a policy that fails, so a failing `forbid` would open the door:
    /// here it closes it.
    pub(crate) fn of(policies: &PolicySet, response: &Response) -> Self {
        let mut decided: Vec<String> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        let mut errors: Vec<PolicyError> =
            response.diagnostics().errors().map(policy_error).collect();
        errors.sort_by(|a, b| a.policy.cmp(&b.policy));
        // A policy that is not known here forbids, to be safe.
        let forbids = |id: &str| policies.notes(id).is_none_or(|notes| notes.forbids);
        let failed: Vec<String> = errors
            .iter()
            .filter(|error| forbids(&error.policy))
            .map(|error| error.policy.clone())
            .collect();
        let policy_error = !failed.is_empty();
        let permitted = response.decision() == cedar_policy::Decision::Allow && !policy_error;
        if policy_error {
            decided.retain(|id| forbids(id));
            decided.extend(failed);
        }
        decided.sort();
        Self {
            permitted,
            policies: decided,
            errors,
            policy_error,
            misfit: false,
        }
    }

    /// Nothing could be evaluated.
    pub(crate) fn unable(error: Malformed) -> Self {
        let errors = vec![PolicyError {
            policy: String::new(),
            message: error.text,
        }];
        Self {
            permitted: false,
            policies: Vec::new(),
            errors,
            // What an agent got wrong is no fault of whoever writes policies.
            policy_error: !error.misfit,
            misfit: error.misfit,
        }
    }

    /// What to tell whoever was refused.
    pub(crate) fn advice(&self, policies: &PolicySet) -> Vec<String> {
        let mut advice = policies.advice(&self.policies);
        if self.misfit {
            let reasons = self.errors.iter().map(|error| error.message.as_str());
            let reasons = reasons.collect::<Vec<_>>().join("; ");
            advice.push(format!(
                "The arguments cannot be judged: {reasons}. Send them so that they fit."
            ));
        }
        if self.policy_error {
            advice.push("A policy could not be evaluated, and then nothing is permitted. Tell whoever writes policies.".to_owned());
        }
        advice
    }
}

fn policy_error(error: &AuthorizationError) -> PolicyError {
    let AuthorizationError::PolicyEvaluationError(error) = error;
    let message = match error.inner() {
        // Their texts quote values, which may be secrets that an agent sent.
        EvaluationError::IntegerOverflow(_) => "integer overflow".to_owned(),
        EvaluationError::FailedExtensionFunctionExecution(_) => {
            "an extension function was given a value that it does not take".to_owned()
        }
        EvaluationError::NonValue(_) => "the expression has no value".to_owned(),
        other => other.to_string(),
    };
    PolicyError {
        policy: error.policy_id().to_string(),
        message,
    }
}

#[cfg(test)]
mod tests;
