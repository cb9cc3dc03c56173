//! Explanations: what came of one command, which parts of which policies were true of it
//! and which not, and what would change it.

mod explanation;

pub use self::explanation::{Change, Explanation, How, Verdict, explain};

use std::collections::HashSet;

use cedar_policy::{Expression, Policy, PolicyId, eval_expression};
use serde_json::{Value, json};

use crate::{
    approval::{Presence, Right},
    command::Command,
    decide::Circumstances,
    facts::Principal,
    mutate::{probe, text, whole},
    policy_set::PolicySet,
    question::Question,
    slice::Slice,
    user::User,
};

/// One policy, and what was true of it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PolicyTrace {
    /// Its id.
    pub id: String,
    /// Whether it forbids.
    pub forbids: bool,
    /// Whether it applied: scope and conditions all held.
    pub matched: bool,
    /// Scope and conditions, each `&&` taken apart.
    pub parts: Vec<PartTrace>,
}

impl PolicyTrace {
    /// The parts that kept it from applying.
    pub fn missing(&self) -> impl Iterator<Item = &PartTrace> {
        self.parts
            .iter()
            .filter(|part| part.outcome != Outcome::Held)
    }
}

/// One part of a policy.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
pub struct PartTrace {
    /// As Cedar writes it; `unless` stands before what must be false.
    pub text: String,
    /// Whether it is of the policy's scope, and not of its conditions.
    pub scope: bool,
    /// Whether it was as the policy wants it.
    pub outcome: Outcome,
    /// What it looked at, with its value.
    pub facts: Vec<(String, String)>,
}

/// What came of one part.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = PartOutcome)]
pub enum Outcome {
    /// It was as the policy wants it.
    Held,
    /// It was not.
    Failed,
    /// It has no value; before it, something had failed.
    NotReached,
    /// It has no value, and the policy failed for it.
    Error,
}

/// Every policy that could match the command under `slice`'s action, and what was true of
/// it: those that applied first, then those that came nearest.
///
/// Empty where the command cannot be judged at all. A whole-set slice is not needed: what
/// the slice leaves out has another action or resource in its scope.
#[must_use]
pub fn trace(
    slice: &Slice,
    agent: &Principal,
    command: &Command,
    at: Circumstances,
) -> Vec<PolicyTrace> {
    match (
        Question::of_agent(slice, agent, command, at),
        slice.for_anyone(),
    ) {
        (Ok(question), Ok(policies)) => question.trace(&policies),
        _ => Vec::new(),
    }
}

/// Every policy about what a person is about to do, and what was true of it, as [`trace`].
#[must_use]
pub fn trace_person(
    policies: &PolicySet,
    user: &User,
    right: &Right,
    at: Presence,
) -> Vec<PolicyTrace> {
    match (
        right.question(policies, user, at),
        policies.people(right.action()),
    ) {
        (Ok(question), Some(policies)) => question.trace(policies),
        _ => Vec::new(),
    }
}

impl Question {
    /// What is true of each of these policies: those that apply first, then those that
    /// come nearest.
    pub(crate) fn trace(&self, policies: &cedar_policy::PolicySet) -> Vec<PolicyTrace> {
        let mut traces: Vec<PolicyTrace> = policies
            .policies()
            .map(|policy| self.policy(policy))
            .collect();
        traces.sort_by(|a, b| {
            (!a.matched, a.missing().count(), &a.id).cmp(&(!b.matched, b.missing().count(), &b.id))
        });
        traces
    }

    fn policy(&self, policy: &Policy) -> PolicyTrace {
        let mut parts = Vec::new();
        let json = policy.to_json().unwrap_or_default();
        for member in ["principal", "action", "resource"] {
            let scope = json.get(member).unwrap_or(&Value::Null);
            if scope.get("op").and_then(Value::as_str) != Some("All") {
                parts.push(self.scope(member, scope));
            }
        }
        for condition in json
            .get("conditions")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let Some(body) = condition.get("body") else {
                continue;
            };
            let unless = condition.get("kind").and_then(Value::as_str) == Some("unless");
            let mut operands = Vec::new();
            flatten(body, if unless { "||" } else { "&&" }, &mut operands);
            for operand in operands {
                parts.push(self.part(operand, unless, &parts));
            }
        }
        PolicyTrace {
            id: policy.id().to_string(),
            forbids: policy.effect() == cedar_policy::Effect::Forbid,
            matched: parts.iter().all(|part| part.outcome == Outcome::Held),
            parts,
        }
    }

    fn scope(&self, member: &str, scope: &Value) -> PartTrace {
        let mut json = json!({
            "effect": "permit", "principal": {"op": "All"}, "action": {"op": "All"},
            "resource": {"op": "All"}, "conditions": [],
        });
        if let Some(place) = json.get_mut(member) {
            *place = scope.clone();
        }
        let policy = Policy::from_json(Some(PolicyId::new("probe")), json).ok();
        let written = policy
            .as_ref()
            .and_then(Policy::to_cedar)
            .unwrap_or_default();
        let written = written.split_whitespace().collect::<Vec<_>>().join(" ");
        // Between the bracket and the next part, whatever stands before.
        let inside = written
            .trim_start_matches("permit")
            .trim_start_matches([' ', '('])
            .trim_end_matches([';', ' ']);
        let inside = inside
            .strip_suffix(')')
            .unwrap_or(inside)
            .trim_end_matches([',', ' ']);
        let shown = match member {
            "principal" => inside.split(", action").next(),
            "action" => inside
                .strip_prefix("principal, ")
                .map(|rest| rest.trim_end_matches(", resource")),
            _ => inside.strip_prefix("principal, action, "),
        };
        let outcome = match policy.and_then(|policy| self.truth(policy)) {
            Some(true) => Outcome::Held,
            _ => Outcome::Failed,
        };
        PartTrace {
            text: shown.unwrap_or(inside).to_owned(),
            scope: true,
            outcome,
            facts: Vec::new(),
        }
    }

    fn part(&self, expression: &Value, unless: bool, before: &[PartTrace]) -> PartTrace {
        let failed = before.iter().any(|part| part.outcome != Outcome::Held);
        let outcome = match probe(expression).and_then(|policy| self.truth(policy)) {
            Some(value) if value != unless => Outcome::Held,
            Some(_) => Outcome::Failed,
            None if failed => Outcome::NotReached,
            None => Outcome::Error,
        };
        let mut facts = Vec::new();
        self.facts(expression, &mut facts);
        let mut known = HashSet::new();
        facts.retain(|(path, _)| known.insert(path.clone()));
        let written = text(expression);
        PartTrace {
            text: if unless {
                format!("unless {written}")
            } else {
                written
            },
            scope: false,
            outcome,
            facts,
        }
    }

    /// Whether a policy permits; none where it fails.
    fn truth(&self, policy: Policy) -> Option<bool> {
        let set = cedar_policy::PolicySet::from_policies([policy]).ok()?;
        let response = self.put(&set);
        if response.diagnostics().errors().next().is_some() {
            return None;
        }
        Some(response.decision() == cedar_policy::Decision::Allow)
    }

    /// The attributes that an expression looks at, with their values.
    fn facts(&self, expression: &Value, facts: &mut Vec<(String, String)>) {
        match expression {
            Value::Array(items) => items.iter().for_each(|item| self.facts(item, facts)),
            Value::Object(members) => {
                if members.contains_key(".") {
                    let path = whole(expression);
                    let value = path.parse::<Expression>().ok();
                    let value = value.and_then(|value| {
                        eval_expression(&self.request, &self.entities, &value).ok()
                    });
                    if let Some(value) = value {
                        facts.push((path, value.to_string()));
                        return;
                    }
                }
                members
                    .values()
                    .for_each(|member| self.facts(member, facts));
            }
            _ => {}
        }
    }
}

/// The operands of a chain of one operator, in order.
fn flatten<'a>(expression: &'a Value, operator: &str, operands: &mut Vec<&'a Value>) {
    match expression.get(operator) {
        Some(chain) => {
            for side in ["left", "right"] {
                if let Some(operand) = chain.get(side) {
                    flatten(operand, operator, operands);
                }
            }
        }
        None => operands.push(expression),
    }
}
