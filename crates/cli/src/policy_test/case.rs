//! One case: what is asked, what should come, and whether it came.

use std::{collections::BTreeSet, sync::Arc};

use authz::{
    Action, Circumstances, Command, Decision, PolicySet, Principal, Slice, User, UserId,
    approval::{
        Ask, Choice, DURATIONS, Escalation, Presence, Right, Ruling, choices, derive, ruling,
    },
    decide::{self, decide},
    explain::{PolicyTrace, trace},
};

use super::{
    fixtures::{Fixtures, nearest},
    format::{Approver, Expect, Longest, Verdict},
};

/// A test, or one row of its table, with everything that it needs but the policies.
pub(crate) struct Case {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) name: String,
    pub(super) question: Question,
    pub(super) expect: Expect,
    /// Who may be asked to approve.
    pub(super) approvers: Fixtures,
}

/// What is asked of policies.
pub(super) enum Question {
    /// May this agent send this command?
    Invoke {
        principal: Arc<Principal>,
        command: Command,
        at: Circumstances,
        requester: Option<UserId>,
        approved_by: Vec<UserId>,
    },
    /// May it see that it exists?
    List {
        principal: Arc<Principal>,
        command: Command,
        at: Circumstances,
    },
    /// May this person do this?
    Person {
        user: User,
        right: Right,
        at: Presence,
    },
}

/// What policies say to a question.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Answer {
    pub(crate) verdict: Verdict,
    /// The policies that decided, sorted. Of an escalation, those that refused.
    pub(crate) policies: Vec<String>,
    pub(crate) advice: Vec<String>,
    /// The policies that could not be evaluated.
    pub(crate) errors: Vec<String>,
    /// Whether a permit rests on a grant.
    pub(crate) grant: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) approvals: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) workflow: Option<String>,
}

impl Case {
    /// Asks a policy set, as gateway and orchestrator would.
    pub(crate) fn ask(&self, policies: &Arc<PolicySet>) -> Answer {
        match &self.question {
            Question::Invoke {
                principal,
                command,
                at,
                ..
            } => invoke(policies, principal, command.clone(), *at),
            Question::List {
                principal,
                command,
                at,
            } => {
                let slice = Slice::new(policies, &command.target, Action::List);
                answer(decide::list(&slice, principal, at.now))
            }
            Question::Person { user, right, at } => answer(ruling(policies, user, right, *at)),
        }
    }

    /// Whether a set answers as expected: all that a mutant needs to be told.
    pub(crate) fn passes(&self, policies: &Arc<PolicySet>) -> bool {
        self.mismatches(policies, &self.ask(policies)).is_empty()
    }

    /// What came otherwise than expected; empty if nothing.
    pub(crate) fn mismatches(&self, policies: &Arc<PolicySet>, came: &Answer) -> Vec<String> {
        let mut wrong = Vec::new();
        let details = &self.expect.details;
        if came.verdict != self.expect.verdict {
            wrong.push(format!(
                "expected {}, came {}",
                self.expect.verdict, came.verdict
            ));
        }
        let decided: BTreeSet<&String> = came.policies.iter().collect();
        if let Some(expected) = &details.policies
            && expected.iter().collect::<BTreeSet<_>>() != decided
        {
            wrong.push(format!(
                "expected exactly {} to decide, came {}",
                names(expected),
                names(&came.policies)
            ));
        }
        let absent: Vec<&String> = details
            .including
            .iter()
            .filter(|id| !decided.contains(id))
            .collect();
        if !absent.is_empty() {
            wrong.push(format!(
                "expected {} among those that decide, came {}",
                names(absent),
                names(&came.policies)
            ));
        }
        let expected = details.policies.iter().flatten().chain(&details.including);
        for id in expected.filter(|id| policies.ids().binary_search(&id.as_str()).is_err()) {
            let near = nearest(id, policies.ids()).map(|near| format!("; did you mean `{near}`?"));
            wrong.push(format!(
                "there is no policy `{id}`{}",
                near.unwrap_or_default()
            ));
        }
        if let Some(part) = &details.advice
            && !came
                .advice
                .iter()
                .any(|advice| advice.contains(part.as_str()))
        {
            wrong.push(format!(
                "expected the advice `{part}`, came {}",
                names(&came.advice)
            ));
        }
        let errors: BTreeSet<String> = came.errors.iter().cloned().collect();
        if errors != details.errors {
            wrong.push(format!(
                "expected {} to fail, came {}",
                names(&details.errors),
                names(&errors)
            ));
        }
        if let Some(grant) = details.grant.filter(|grant| *grant != came.grant) {
            let [expected, came] = [grant, !grant].map(|rests| {
                if rests {
                    "that it rests on a grant"
                } else {
                    "that it rests on none"
                }
            });
            wrong.push(format!("expected {expected}, came {came}"));
        }
        if details.approvals.is_some() && details.approvals != came.approvals {
            wrong.push(format!(
                "expected {} approvals, came {}",
                number(details.approvals),
                number(came.approvals)
            ));
        }
        if details.workflow.is_some() && details.workflow != came.workflow {
            let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            wrong.push(format!(
                "expected the workflow {}, came {}",
                shown(&details.workflow),
                shown(&came.workflow)
            ));
        }
        wrong.extend(self.wrong_approvers(policies, came));
        wrong
    }

    fn wrong_approvers(&self, policies: &Arc<PolicySet>, came: &Answer) -> Vec<String> {
        let Question::Invoke {
            principal,
            command,
            at,
            requester,
            approved_by,
        } = &self.question
        else {
            return Vec::new();
        };
        let ask = Ask {
            agent: principal.agent().clone(),
            target: (*command.target).clone(),
            digest: command.arguments.digest().clone(),
            requester: requester.clone(),
            approved_by: approved_by.clone(),
            approvals: came.approvals.unwrap_or(1),
        };
        let mut wrong = Vec::new();
        for (id, expected) in &self.expect.details.approvers {
            let Ok(user) = self.approvers.user(id) else {
                continue;
            };
            // What they may once they proved a second factor, where that is needed.
            let presence = Presence::from(at.now).confirmed_now();
            let may = choices(policies, &user, &ask, presence);
            match expected {
                Approver::Longest(expected) => {
                    let longest = may.iter().map(|choice| choice.longest_seconds).max();
                    if longest != expected.0.map(|span| span.as_secs()) {
                        wrong.push(format!(
                            "expected that {id} may approve {}, came {}",
                            span(expected.0.map(|span| span.as_secs())),
                            span(longest)
                        ));
                    }
                }
                Approver::By(reaches) => {
                    for (reach, Longest(expected)) in reaches {
                        let of_reach = |choice: &&Choice| choice.reach == *reach;
                        let longest = may
                            .iter()
                            .find(of_reach)
                            .map(|choice| choice.longest_seconds);
                        if longest != expected.map(|span| span.as_secs()) {
                            wrong.push(format!(
                                "expected that {id} may approve {} of reach {}, came {}",
                                span(expected.map(|span| span.as_secs())),
                                reach.as_str(),
                                span(longest)
                            ));
                        }
                    }
                }
            }
        }
        wrong
    }

    /// What was true of each policy that could match; empty for people's rights.
    pub(crate) fn trace(&self, policies: &Arc<PolicySet>) -> Vec<PolicyTrace> {
        match &self.question {
            Question::Invoke {
                principal,
                command,
                at,
                ..
            } => {
                let slice = Slice::new(policies, &command.target, Action::Invoke);
                trace(&slice, principal, command, *at)
            }
            Question::List {
                principal,
                command,
                at,
            } => {
                let slice = Slice::new(policies, &command.target, Action::List);
                trace(&slice, principal, command, *at)
            }
            Question::Person { .. } => Vec::new(),
        }
    }

    /// What is expected, in a word.
    pub(crate) fn expected(&self) -> Verdict {
        self.expect.verdict
    }

    /// Durations that could never be a choice: a slip that would be expected in vain.
    pub(super) fn impossible_duration(&self) -> Option<u64> {
        let spans = self
            .expect
            .details
            .approvers
            .values()
            .flat_map(|approver| match approver {
                Approver::Longest(longest) => vec![longest.0],
                Approver::By(reaches) => reaches.values().map(|longest| longest.0).collect(),
            });
        spans
            .flatten()
            .find(|span| !DURATIONS.contains(span))
            .map(|span| span.as_secs())
    }
}

/// Decides one command, and if it is refused, whether people could lift that.
pub(crate) fn invoke(
    policies: &Arc<PolicySet>,
    principal: &Principal,
    command: Command,
    at: Circumstances,
) -> Answer {
    let target = Arc::clone(&command.target);
    let slice = Slice::new(policies, &target, Action::Invoke);
    let refused = match decide(&slice, principal, command, at) {
        Decision::Permit(permit) => {
            return Answer {
                verdict: Verdict::Permit,
                policies: permit.policies().to_vec(),
                advice: Vec::new(),
                errors: Vec::new(),
                grant: permit.grant().is_some(),
                approvals: None,
                workflow: None,
            };
        }
        Decision::Refuse(refused) => refused,
    };
    let asking = Slice::new(policies, &target, Action::Escalate);
    let errors = refused
        .errors
        .iter()
        .map(|error| error.policy.clone())
        .collect();
    match derive(&slice, &asking, principal, &refused, at) {
        Escalation::Hard { policies, advice } => Answer {
            verdict: Verdict::Hard,
            policies,
            advice,
            errors,
            grant: false,
            approvals: None,
            workflow: None,
        },
        Escalation::Liftable {
            approvals,
            workflow,
            policies: _,
        } => Answer {
            verdict: Verdict::Escalate,
            policies: refused.policies.clone(),
            advice: refused.advice.clone(),
            errors,
            grant: false,
            approvals: Some(approvals),
            workflow,
        },
    }
}

fn answer(ruling: Ruling) -> Answer {
    Answer {
        verdict: if ruling.permitted {
            Verdict::Permit
        } else {
            Verdict::Hard
        },
        policies: ruling.policies,
        advice: ruling.advice,
        errors: ruling
            .errors
            .into_iter()
            .map(|error| error.policy)
            .collect(),
        grant: false,
        approvals: None,
        workflow: None,
    }
}

fn names<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items
        .into_iter()
        .map(|item| format!("`{}`", item.as_ref()))
        .collect();
    if items.is_empty() {
        "none".to_owned()
    } else {
        items.join(", ")
    }
}

fn number(number: Option<u8>) -> String {
    number.map_or_else(|| "none".to_owned(), |number| number.to_string())
}

fn span(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "nothing".to_owned(), crate::output::span)
}
