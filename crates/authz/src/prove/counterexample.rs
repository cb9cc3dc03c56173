//! Counterexamples: a request that shows a claim to be wrong, as Cedar itself sees it.

use std::collections::{BTreeMap, BTreeSet};

use cedar_policy::{AuthorizationError, Authorizer, Decision, Effect, Policy, PolicySet, Response};
use cedar_policy_symcc::Env;
use serde::Serialize;
use serde_json::{Value, json};

use super::{Claim, Environment, Kind, Of, Theory};
use crate::{Timestamp, entities::malformed, policy_set::Part};

/// A request that shows a claim to be wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Counterexample {
    /// Who, did what, to what.
    pub principal: (String, String),
    /// The action's name.
    pub action: String,
    /// The resource's type and id.
    pub resource: (String, String),
    /// The context, in Cedar's JSON.
    pub context: Value,
    /// What is known of principal, resource and whatever they lead to, in Cedar's JSON.
    pub entities: Value,
    /// Whether the set permits it.
    pub permitted: bool,
    /// The policies that decide so.
    pub policies: Vec<String>,
    /// The policies that cannot be evaluated.
    pub errors: Vec<String>,
}

impl Counterexample {
    /// As a test in the form of `cedar run-tests`, of what should come of the request.
    #[must_use]
    pub fn official_test(&self, name: &str, permit: bool) -> Value {
        let literal = |(kind, id): &(String, String)| format!("{kind}::{}", quoted(id));
        json!({
            "name": name,
            "request": {
                "principal": literal(&self.principal),
                "action": format!("Action::{}", quoted(&self.action)),
                "resource": literal(&self.resource),
                "context": self.context,
            },
            "entities": self.entities,
            "decision": if permit { "allow" } else { "deny" },
            "reason": [],
            "num_errors": 0,
        })
    }
}

/// As Cedar writes text.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.escape_default())
}

/// Leaves out the entities that nothing leads to, and those that are nothing but a name;
/// writes times as times.
fn tidy(mut context: Value, entities: &Value, request: [(String, String); 2]) -> (Value, Value) {
    write_times(&mut context);
    let mut known = BTreeMap::new();
    let mut order = Vec::new();
    for mut entity in entities.as_array().cloned().unwrap_or_default() {
        write_times(&mut entity);
        if let Some(uid) = entity.get("uid").and_then(name) {
            order.push(uid.clone());
            known.insert(uid, entity);
        }
    }
    let mut reached = BTreeSet::new();
    let mut next: Vec<(String, String)> = request.into();
    references(&context, &mut next);
    while let Some(uid) = next.pop() {
        if let Some(entity) = known.get(&uid)
            && reached.insert(uid)
        {
            references(entity, &mut next);
        }
    }
    let says_something = |entity: &Value| {
        let empty = |member: &str| match entity.get(member) {
            Some(Value::Object(members)) => members.is_empty(),
            Some(Value::Array(items)) => items.is_empty(),
            _ => true,
        };
        !(empty("attrs") && empty("parents") && empty("tags"))
    };
    order.sort();
    let kept = order
        .iter()
        .filter(|uid| reached.contains(uid))
        .filter_map(|uid| known.remove(uid))
        .filter(says_something);
    (context, Value::Array(kept.collect()))
}

/// The type and id in `{"type": …, "id": …}`.
fn name(value: &Value) -> Option<(String, String)> {
    let text = |key: &str| value.get(key)?.as_str().map(str::to_owned);
    Some((text("type")?, text("id")?))
}

/// Every entity that a value names.
fn references(value: &Value, found: &mut Vec<(String, String)>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Object(members) => {
            found.extend(name(value));
            members
                .values()
                .for_each(|member| references(member, found));
        }
        _ => {}
    }
}

/// Cedar writes a solver's times as spans since 1970; a date says more.
fn write_times(value: &mut Value) {
    if let Some(time) = since_1970(value) {
        *value = json!({"__extn": {"fn": "datetime", "arg": time.to_string()}});
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(write_times),
        Value::Object(members) => members.values_mut().for_each(write_times),
        _ => {}
    }
}

fn since_1970(value: &Value) -> Option<Timestamp> {
    let extension = |value: &Value, name: &str| {
        let extension = value.get("__extn")?;
        (extension.get("fn")? == name).then(|| extension.clone())
    };
    let offset = extension(value, "offset")?;
    let [from, span] = offset.get("args")?.as_array()?.as_slice() else {
        return None;
    };
    if extension(from, "datetime")?.get("arg")? != "1970-01-01" {
        return None;
    }
    let span = extension(span, "duration")?;
    let millis: i64 = span
        .get("arg")?
        .as_str()?
        .strip_suffix("ms")?
        .parse()
        .ok()?;
    let time = Timestamp::from_millis(millis);
    (time.as_millis() == millis).then_some(time)
}

impl Theory {
    /// What the solver found, if it is true.
    pub(super) fn confirmed(
        &self,
        claim: &Claim,
        environment: &Environment,
        found: &Env,
    ) -> Result<Counterexample, String> {
        let told = self.judged(claim, environment, found)?;
        let request = &found.request;
        let names = |uid: Option<&cedar_policy::EntityUid>| {
            uid.map_or_else(Default::default, |uid| {
                (uid.type_name().to_string(), uid.id().unescaped().to_owned())
            })
        };
        let context = request.context().map_or_else(
            || Ok(Value::Null),
            |context| {
                context
                    .to_json_value()
                    .map_err(|error| wrong(malformed(error).text))
            },
        )?;
        let ids = |ids: Vec<String>| {
            let mut ids = ids;
            ids.sort();
            ids
        };
        let entities = found
            .entities
            .to_json_value()
            .map_err(|error| wrong(malformed(error).text))?;
        let (principal, resource) = (names(request.principal()), names(request.resource()));
        let (context, entities) = tidy(context, &entities, [principal.clone(), resource.clone()]);
        Ok(Counterexample {
            principal,
            action: names(request.action()).1,
            resource,
            context,
            entities,
            permitted: permits(&told),
            policies: ids(told
                .diagnostics()
                .reason()
                .map(ToString::to_string)
                .collect()),
            errors: ids(told
                .diagnostics()
                .errors()
                .map(|error| match error {
                    AuthorizationError::PolicyEvaluationError(error) => {
                        error.policy_id().to_string()
                    }
                })
                .collect()),
        })
    }

    /// What Cedar says to the request, if that contradicts the claim.
    fn judged(
        &self,
        claim: &Claim,
        environment: &Environment,
        found: &Env,
    ) -> Result<Response, String> {
        let entities = found
            .entities
            .clone()
            .upsert_entities(self.actions.iter().cloned(), None)
            .map_err(|error| wrong(malformed(error).text))?;
        let decide = |policies: Vec<Policy>| -> Result<Response, String> {
            let set =
                PolicySet::from_policies(policies).map_err(|error| wrong(malformed(error).text))?;
            Ok(Authorizer::new().is_authorized(&found.request, &set, &entities))
        };

        let of = |parts| self.applying(parts, environment);
        let of_set = decide(of(&self.policies))?;
        // Where a `forbid` fails, the gateway refuses, whatever Cedar says.
        let failing = of_set.diagnostics().errors().find_map(|error| {
            let AuthorizationError::PolicyEvaluationError(error) = error;
            let id: &str = error.policy_id().as_ref();
            let forbids = |part: &&Part| part.id == id && part.policy.effect() == Effect::Forbid;
            self.policies.iter().find(forbids)
        });
        if let Some(part) = failing.filter(|_| matches!(claim.kind, Kind::Never | Kind::NotWider)) {
            return Err(format!(
                "it would not be so where `{}` fails, but failing refuses: prove first that it cannot fail",
                part.id
            ));
        }
        match (claim.kind, self.part(claim)) {
            (Kind::NeverFails, Some(part)) => {
                let alone = decide(vec![part.policy.clone()])?;
                if alone.diagnostics().errors().next().is_none() {
                    return Err(wrong("the policy can be evaluated"));
                }
                let of = claim.policy.as_ref().map(|place| place.of);
                Ok(if of == Some(Of::Set) { of_set } else { alone })
            }
            (Kind::Never, _) => {
                let kept = decide(self.standard(claim)?)?;
                if !permits(&of_set) || permits(&kept) {
                    return Err(wrong("the set does not permit it"));
                }
                Ok(of_set)
            }
            (Kind::Always, _) => {
                let kept = decide(self.standard(claim)?)?;
                if permits(&of_set) || !permits(&kept) {
                    return Err(wrong("the set permits it"));
                }
                Ok(of_set)
            }
            (Kind::NotWider, _) => {
                let old = decide(of(self.old.as_deref().unwrap_or_default()))?;
                if !permits(&of_set) || permits(&old) {
                    return Err(wrong("both sets answer alike"));
                }
                Ok(of_set)
            }
            (Kind::NeverFails, None) => Err("there is no such policy".to_owned()),
        }
    }
}

fn permits(response: &Response) -> bool {
    response.decision() == Decision::Allow
}

fn wrong(error: impl std::fmt::Display) -> String {
    format!("the solver's counterexample is none: {error}")
}
