//! What an approval would do: the call decided again, with the grant that would come out.

use std::sync::Arc;

use super::{Ask, NotPermitted};
use crate::{
    command::{Arguments, Command},
    decide::{Call, Circumstances, Verdict},
    entities::{self, Malformed},
    facts::{Facts, Principal},
    grant::{Grant, Scope},
    policy_set::PolicySet,
    slice::{Action, Slice},
};

/// A grant that is about to be given for a call that was refused.
#[derive(Debug)]
pub struct Proposed<'a> {
    /// What was asked.
    pub ask: &'a Ask,
    /// The arguments, whole but for secrets.
    pub arguments: &'a serde_json::Map<String, serde_json::Value>,
    /// The agent as it is now.
    pub facts: &'a Facts,
    /// The grant.
    pub grant: &'a Grant,
    /// Whether a second person, not known yet, will have approved it too.
    pub second_to_come: bool,
}

/// Decides a call again under the policy set in force, as if the grant were there: an
/// approval must not give what would be refused all the same.
///
/// Where arguments were secret, policies are shown what stands in their place. If they
/// cannot be evaluated then, this cannot tell and says nothing: the call itself is decided
/// with the exact arguments in any case.
///
/// # Errors
///
/// What still forbids it, and what its authors tell people.
pub fn would_help(
    policies: &Arc<PolicySet>,
    proposed: &Proposed<'_>,
    at: Circumstances,
) -> Result<(), NotPermitted> {
    let Proposed {
        ask,
        arguments,
        facts,
        grant,
        second_to_come,
    } = *proposed;
    let exact = *Arguments::new(arguments.clone()).digest() == ask.digest;
    let command = Command {
        target: Arc::new(ask.target.clone()),
        // Policies and grants know the call by the digest of the exact arguments.
        arguments: Arguments::recorded(arguments.clone(), ask.digest.clone()),
    };
    let verdict = evaluate(policies, &command, facts, grant, second_to_come, at);
    let undecidable = match &verdict {
        Ok(verdict) if verdict.permitted => return Ok(()),
        Ok(verdict) => verdict.policy_error,
        Err(_) => true,
    };
    if undecidable && !exact {
        return Ok(());
    }
    let verdict = verdict.unwrap_or_else(Verdict::unable);
    let mut advice = verdict.advice(policies);
    if advice.is_empty() {
        advice.push(match &grant.scope {
            Scope::Service { .. } => {
                "A grant for the whole service does not cover this command.".to_owned()
            }
            Scope::Call { .. } | Scope::Command { .. } => {
                "Nothing permits this command, even with this approval.".to_owned()
            }
        });
    }
    Err(NotPermitted {
        policies: verdict.policies,
        advice,
        step_up: false,
    })
}

fn evaluate(
    policies: &Arc<PolicySet>,
    command: &Command,
    facts: &Facts,
    grant: &Grant,
    second_to_come: bool,
    at: Circumstances,
) -> Result<Verdict, Malformed> {
    let slice = Slice::new(policies, &command.target, Action::Invoke);
    let agent = Principal::new(facts.clone());
    let tag = entities::proposed_grant(grant, second_to_come)?;
    // In place of another under the same key: this one is in question.
    let known = agent.with_grants(|_| true, Some((grant.scope.key(), tag)))?;
    Call::new(command, at, slice.looks_at_session())?.evaluate(&slice, agent.uid(), &known)
}
