//! The world: what gateway and orchestrator always build, and the schema cannot say.
//!
//! A solver knows only the schema, and would refute claims by a command of risk 17, or by
//! one whose service is not the one that its key names. What is written here is true of
//! every request that is ever decided, because `entities.rs` builds them so.

use std::collections::BTreeSet;

use cedar_policy::{Entities, EntityUid, Policy, PolicyId, RequestEnv};
use serde_json::{Value, json};

use super::own;
use crate::{
    command::{CommandKey, Risk},
    entities::{self, Malformed, TYPES, malformed},
    policy_set::TypedActions,
};

/// What is true of every request of one kind.
pub(super) struct World {
    /// As a condition.
    always: Value,
    /// Likewise, with bounds that tests can be written in.
    plain: Value,
}

/// Of how many commands and services that policies name it is said what they are. Beyond
/// it less is known, and less can be proved.
const MAX_LITERALS: usize = 200;

/// The first and the last time that a [`crate::Timestamp`] can be.
const TIMES: [&str; 2] = ["1970-01-01", "9999-12-31"];

impl World {
    pub(super) fn new(
        environment: &RequestEnv,
        actions: &Entities,
        literals: &BTreeSet<EntityUid>,
        typed: &TypedActions,
        with_session: bool,
    ) -> Result<Self, Malformed> {
        let action = environment.action();
        let above: Vec<&EntityUid> = actions.ancestors(action).into_iter().flatten().collect();
        let within = |name: &str| {
            let group = entities::action_uid(name);
            *action == group || above.contains(&&group)
        };
        let between = |time: &str, [from, to]: [&str; 2]| {
            format!("datetime(\"{from}\") <= {time} && {time} <= datetime(\"{to}\")")
        };
        let mut always = vec![between("context.now", TIMES)];
        let mut plain = vec![between("context.now", ["2026-01-01", "2027-01-01"])];
        if *environment.principal() == TYPES.agent {
            always.push("principal.trust >= 0 && principal.trust <= 255".to_owned());
        }
        if *environment.principal() == TYPES.user {
            let age = |bound: &str| {
                format!("(if context has mfa then context.mfa.age {bound} else true)")
            };
            always.push(age(">= duration(\"0ms\")"));
            plain.push(age("<= duration(\"48h\")"));
        }
        if with_session {
            let started = "context.session.startedAt";
            always.push(between(started, TIMES));
            always.push(format!("{started} <= context.now"));
            always.push(format!(
                "context.session.calls >= 0 && context.session.calls <= {}",
                u32::MAX
            ));
            plain.push(between(started, ["2025-06-01", "2027-01-01"]));
            plain.push("context.session.calls <= 1000".to_owned());
        }
        let is_command = *environment.resource() == TYPES.command;
        if is_command {
            always.push("resource.risk >= 0 && resource.risk <= 2".to_owned());
            always.push("resource in resource.service".to_owned());
            always.push("resource.service.key == resource.serviceKey".to_owned());
            always.push("resource.key != resource.serviceKey".to_owned());
            for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
                if within(risk.as_str()) {
                    always.push(format!("resource.risk == {}", risk.level()));
                }
            }
            if let Some(key) = typed.keys().find(|key| {
                action.type_name() == &TYPES.action && action.id().unescaped() == key.to_string()
            }) {
                always.push(format!("resource == {}", entities::command_uid(key)));
            }
            always.extend(of_literals(literals));
        }
        if is_command && *environment.principal() == TYPES.agent {
            let mut keys = vec!["resource.key", "resource.serviceKey"];
            if within("invoke") || within("escalate") {
                always.push("context.callKey != resource.key".to_owned());
                always.push("context.callKey != resource.serviceKey".to_owned());
                plain.push("context.ip.isIpv4()".to_owned());
                keys.push("context.callKey");
            }
            for key in keys {
                let grant = format!("principal.getTag({key})");
                let if_any =
                    |what: &str| format!("(if principal.hasTag({key}) then {what} else true)");
                let times = |bounds| {
                    let issued = between(&format!("{grant}.issued"), bounds);
                    let expires = between(&format!("{grant}.expires"), bounds);
                    format!("{issued} && {expires}")
                };
                always.push(if_any(&format!(
                    "{grant}.risk >= 0 && {grant}.risk <= 2 && {grant}.issued <= {grant}.expires && {}",
                    times(TIMES)
                )));
                plain.push(if_any(&times(["2025-06-01", "2027-06-01"])));
            }
        }
        if *environment.resource() == TYPES.escalation {
            always.push("resource.risk >= 0 && resource.risk <= 2".to_owned());
            always.push("resource.approvals >= 1 && resource.approvals <= 2".to_owned());
            always.push("resource.duration >= duration(\"0ms\")".to_owned());
            plain.push("resource.duration <= duration(\"48h\")".to_owned());
            plain.push("resource.risk == resource.command.risk".to_owned());
            plain.push("resource.command in resource.command.service".to_owned());
            plain.push("resource.approvals == (if resource.risk == 2 then 2 else 1)".to_owned());
        }
        let condition = |conjuncts: &[String]| {
            let text = format!(
                "permit (principal, action, resource) when {{ {} }};",
                balanced(conjuncts)
            );
            let policy = own("?world", &text).map_err(Malformed::new)?;
            let mut json = policy.to_json().map_err(malformed)?;
            json.pointer_mut("/conditions/0/body")
                .map(Value::take)
                .ok_or_else(|| Malformed::new("a condition has no body".to_owned()))
        };
        plain.splice(0..0, always.iter().cloned());
        Ok(Self {
            always: condition(&always)?,
            plain: condition(&plain)?,
        })
    }

    fn condition(&self, plain: bool) -> &Value {
        if plain { &self.plain } else { &self.always }
    }

    /// A policy that looks at the world first.
    pub(super) fn before(&self, policy: &Policy, plain: bool) -> Result<Policy, String> {
        let mut json = policy.to_json().map_err(|error| malformed(error).text)?;
        if let Some(conditions) = json.get_mut("conditions").and_then(Value::as_array_mut) {
            let world = json!({"kind": "when", "body": self.condition(plain)});
            conditions.insert(0, world);
        }
        Policy::from_json(Some(policy.id().clone()), json).map_err(|error| malformed(error).text)
    }

    /// A set that permits in this world only.
    pub(super) fn among(
        &self,
        mut policies: Vec<Policy>,
        plain: bool,
    ) -> Result<Vec<Policy>, String> {
        let json = json!({
            "effect": "forbid",
            "principal": {"op": "All"},
            "action": {"op": "All"},
            "resource": {"op": "All"},
            "conditions": [{"kind": "unless", "body": self.condition(plain)}],
        });
        // No `@id` can be this.
        let policy = Policy::from_json(Some(PolicyId::new("?world")), json);
        policies.push(policy.map_err(|error| malformed(error).text)?);
        Ok(policies)
    }
}

/// All of these, in a tree as flat as can be: a chain would be as deep as it is long.
fn balanced(conjuncts: &[String]) -> String {
    match conjuncts {
        [] => "true".to_owned(),
        [one] => format!("({one})"),
        several => {
            let (left, right) = several.split_at(several.len() / 2);
            format!("({} && {})", balanced(left), balanced(right))
        }
    }
}

/// What is true of the commands and services that policies name.
fn of_literals(literals: &BTreeSet<EntityUid>) -> Vec<String> {
    let mut known = Vec::new();
    for literal in literals {
        let id = literal.id().unescaped();
        if *literal.type_name() == TYPES.command {
            let Ok(key) = id.parse::<CommandKey>() else {
                continue;
            };
            let service = entities::service_uid(&key.service);
            known.push(format!(
                "(resource != {literal} || (resource.key == \"{key}\" && resource.service == {service}))"
            ));
        } else if let Some(Ok(name)) =
            (literal.type_name() == &TYPES.service).then(|| id.parse::<crate::ServiceName>())
        {
            let key = entities::service_key(&name);
            known.push(format!(
                "(resource.service == {literal} || !(resource in {literal}))"
            ));
            known.push(format!(
                "(resource.service != {literal} || resource.serviceKey == \"{key}\")"
            ));
        }
    }
    known.truncate(MAX_LITERALS);
    known
}

/// A policy that permits everything.
pub(super) fn everything() -> Result<Policy, String> {
    own("?all", "permit (principal, action, resource);")
}
