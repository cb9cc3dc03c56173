//! What is valid Cedar and a mistake nevertheless.

use cedar_policy::{ActionConstraint, Effect, Schema};
use serde_json::Value;

use super::{Placed, finding::Finding};
use crate::{command::Risk, entities};

/// How deep the JSON form of an expression may nest: about two levels per operator.
/// Cedar gives up, mid-decision, on an expression that does not fit the stack; this
/// many fit 2 MiB of it, and 8 MiB in a build without optimisation.
const MAX_DEPTH: usize = 240;

/// Attributes that hold a person of whom a decision knows only who it is.
const PEOPLE: [&str; 4] = ["owner", "first", "second", "requester"];

/// Policies whose expressions are too deep to be evaluated safely.
pub(super) fn too_deep(policies: &[Placed<'_>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for placed in policies {
        match placed.policy.to_json() {
            Ok(json) => {
                // Several `when` and `unless` become one chain.
                let clauses = json
                    .get("conditions")
                    .and_then(Value::as_array)
                    .map_or(0, Vec::len);
                if depth(&json) + 2 * clauses > MAX_DEPTH {
                    let finding = placed
                        .error("the policy's expression is nested too deep to be evaluated safely");
                    findings.push(
                        finding.help("write a list (`[…].contains(…)`), or several policies"),
                    );
                }
            }
            Err(error) => findings.push(placed.error(error.to_string())),
        }
    }
    findings
}

/// Warnings about policies that passed validation.
pub(super) fn check(
    schema: &Schema,
    policies: &[Placed<'_>],
) -> Result<Vec<Finding>, Vec<Finding>> {
    let risks =
        [Risk::Read, Risk::Write, Risk::Destroy].map(|risk| entities::action_uid(risk.as_str()));
    let destroy = entities::action_uid(Risk::Destroy.as_str());
    let actions = schema
        .action_entities()
        .map_err(|error| vec![Finding::error("schema", error.to_string())])?;
    let groups_of_destroy: Vec<_> = actions
        .ancestors(&destroy)
        .into_iter()
        .flatten()
        .chain([&destroy])
        .collect();

    let mut warnings = Vec::new();
    for placed in policies {
        let policy = &placed.policy;
        let mut warn = |message: &str, help: &str| {
            warnings.push(placed.error(message).help(help).warning());
        };
        let action = policy.action_constraint();
        if let ActionConstraint::Eq(action) = &action
            && (risks.contains(action) || schema.action_groups().any(|group| group == action))
        {
            warn(
                &format!("`action == {action}` misses the actions that are added to this group"),
                "write `action in …`",
            );
        }
        let covers_destroy = match &action {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(action) => *action == destroy,
            ActionConstraint::In(actions) => actions
                .iter()
                .any(|action| groups_of_destroy.contains(&action)),
        };
        if policy.effect() == Effect::Permit && covers_destroy && !policy.has_non_scope_constraint()
        {
            warn(
                "this permits destructive commands without any condition",
                "name the actions, or add a `when`",
            );
        }
        let json = policy
            .to_json()
            .map_err(|error| vec![placed.error(error.to_string())])?;
        if policy.effect() == Effect::Forbid
            && policy.annotation("workflow").is_some()
            && !mentions_tags(&json)
        {
            warn(
                "no grant lifts this policy, so `@workflow` never applies",
                "remove it, or look at the agent's grants with `hasTag` and `getTag`",
            );
        }
        if let Some(attribute) = person_looked_into(&json) {
            warn(
                &format!(
                    "of the person in `{attribute}` only the id is known here: what this looks for is never found"
                ),
                "compare the person with `==`",
            );
        }
    }
    Ok(warnings)
}

fn depth(json: &Value) -> usize {
    let within = |values: &mut dyn Iterator<Item = &Value>| values.map(depth).max().unwrap_or(0);
    match json {
        Value::Array(items) => 1 + within(&mut items.iter()),
        Value::Object(members) => 1 + within(&mut members.values()),
        _ => 0,
    }
}

fn mentions_tags(json: &Value) -> bool {
    match json {
        Value::Array(items) => items.iter().any(mentions_tags),
        Value::Object(members) => members
            .iter()
            .any(|(name, value)| name == "hasTag" || name == "getTag" || mentions_tags(value)),
        _ => false,
    }
}

/// The attribute that holds a person whose attributes, tags or groups are asked for.
fn person_looked_into(json: &Value) -> Option<&str> {
    match json {
        Value::Array(items) => items.iter().find_map(person_looked_into),
        Value::Object(members) => members.iter().find_map(|(operator, operands)| {
            let left = operands
                .get("left")
                .filter(|_| matches!(operator.as_str(), "." | "has" | "in" | "hasTag" | "getTag"));
            let attribute = left.and_then(|left| left.get(".")?.get("attr")?.as_str());
            attribute
                .filter(|name| PEOPLE.contains(name))
                .or_else(|| person_looked_into(operands))
        }),
        _ => None,
    }
}
