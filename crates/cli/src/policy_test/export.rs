//! Writing tests in the form of Cedar's own tool, `cedar run-tests`.

use std::{collections::BTreeSet, sync::Arc};

use authz::{Action, PolicySet, Slice, run_tests::CedarQuestion};
use serde_json::Value;

use super::{
    case::{Case, Question},
    format::{Details, Verdict},
};

/// Tests in that form, and what it could not take.
pub(crate) struct Exported {
    /// In the order of the cases.
    pub(crate) tests: Vec<Value>,
    /// How many of them said more than that form can.
    pub(crate) shortened: usize,
    /// Those that it cannot say at all, and why.
    pub(crate) left_out: Vec<String>,
}

/// Writes cases, which all pass on these policies.
pub(crate) fn export(cases: &[Case], policies: &Arc<PolicySet>) -> Exported {
    let mut exported = Exported {
        tests: Vec::new(),
        shortened: 0,
        left_out: Vec::new(),
    };
    for case in cases {
        match case.exported(policies) {
            Ok(test) => {
                exported.tests.push(test);
                exported.shortened += usize::from(case.says_more());
            }
            Err(why) => exported
                .left_out
                .push(format!("{}:{}: {}: {why}", case.file, case.line, case.name)),
        }
    }
    exported
}

impl Case {
    fn exported(&self, policies: &Arc<PolicySet>) -> Result<Value, String> {
        let own;
        let question = match &self.question {
            Question::Invoke {
                principal,
                command,
                at,
                ..
            } => {
                let slice = Slice::new(policies, &command.target, Action::Invoke);
                own = CedarQuestion::of_agent(&slice, principal, command, *at)?;
                &own
            }
            Question::List {
                principal,
                command,
                at,
            } => {
                let slice = Slice::new(policies, &command.target, Action::List);
                own = CedarQuestion::of_agent(&slice, principal, command, *at)?;
                &own
            }
            Question::Person { user, right, at } => {
                own = CedarQuestion::of_person(policies, user, right, *at)?;
                &own
            }
            Question::Cedar(question) => question,
        };
        let answer = question.ask(policies)?;
        let permitted = matches!(self.ask(policies).verdict, Verdict::Permit | Verdict::Allow);
        if answer.allow != permitted {
            return Err(
                "a forbid fails: that refuses here, and Cedar by itself leaves it out".to_owned(),
            );
        }
        let details = &self.expect.details;
        let named = details.policies.iter().flatten().chain(&details.including);
        // Of a refusal for good, those that keep people from lifting it may be others.
        let reason: BTreeSet<String> = named
            .filter(|id| answer.reason.contains(*id))
            .cloned()
            .collect();
        question.written(&self.name, &answer, &reason)
    }

    /// Whether it expects what the other form cannot say.
    fn says_more(&self) -> bool {
        let Details {
            policies,
            including: _,
            advice,
            errors: _,
            num_errors: _,
            grant,
            approvals,
            workflow,
            approvers,
        } = &self.expect.details;
        let ladder = matches!(&self.question, Question::Invoke { .. })
            && matches!(self.expect.verdict, Verdict::Hard | Verdict::Escalate);
        ladder
            || policies.is_some()
            || advice.is_some()
            || grant.is_some()
            || approvals.is_some()
            || workflow.is_some()
            || !approvers.is_empty()
    }
}
