//! What is valid Cedar and a mistake nevertheless.

use cedar_policy::{ActionConstraint, Effect, Schema};

use serde_json::Value;

use super::{Placed, finding::Finding, syntax::MAX_DEPTH};
use crate::{command::Risk, entities};

/// How deep the JSON form of a policy may nest: about two levels per operator. What
/// explains policies and changes them walks it.
const MAX_JSON_DEPTH: usize = 2 * MAX_DEPTH;

/// Policies whose expressions are too deep to be evaluated safely.
pub(super) fn too_deep(policies: &[Placed<'_>]) -> Vec<Finding> {
    // Cedar folds constants, so a policy may be deeper than what is evaluated of it.
    let as_written = |placed: &Placed<'_>| {
        placed.chain >= MAX_DEPTH
            && placed
                .policy
                .to_json()
                .map_or(true, |json| depth(&json) > MAX_JSON_DEPTH)
    };
    policies
        .iter()
        .filter(|placed| placed.syntax.is_too_deep() || as_written(placed))
        .map(|placed| {
            placed
                .error("the policy's expression is nested too deep to be evaluated safely")
                .help("write a list (`[…].contains(…)`), or several policies")
        })
        .collect()
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
        if policy.effect() == Effect::Forbid
            && policy.annotation("workflow").is_some()
            && !placed.syntax.looks_at_grants()
        {
            warn(
                "no grant lifts this policy, so `@workflow` never applies",
                "remove it, or look at the agent's grants with `hasTag` and `getTag`",
            );
        }
        if let Some(attribute) = placed.syntax.person_looked_into() {
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
