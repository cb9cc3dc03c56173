//! Mutants: a policy set with one small fault, to find out whether tests would notice.
//!
//! Each is the set with one policy dropped, one condition removed or turned round, one
//! operand of `&&` and `||` dropped, one comparison's boundary moved, one part of a scope
//! widened, or one action left out. Only what still validates is a mutant: the rest, the
//! validator notices. What changes nothing by construction (`principal is Agent` where only
//! agents act) is none either.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cedar_policy::{
    ActionConstraint, EntityTypeName, EntityUid, Policy, PolicyId, PrincipalConstraint,
    ResourceConstraint, Schema, ValidationMode, Validator,
};
use serde_json::{Map, Value, json};

use crate::{
    entities::action_uid,
    policy_set::{
        Finding, Part, Parts, PolicySet, PolicySetVersion, PolicySources, assemble, index,
        on_large_stack, parts,
    },
};

mod places;
mod print;

pub(crate) use self::print::{text, whole};

/// A policy set that mutants are made of.
pub struct Workshop {
    parts: Parts,
    version: PolicySetVersion,
}

/// One fault.
#[derive(Clone, Debug)]
pub struct Mutant {
    /// The policy that it is in.
    pub policy: String,
    /// The file of that.
    pub file: String,
    /// Where the fault is, from 1.
    pub line: u32,
    /// What was done, as in “`principal.trust >= 1` dropped”.
    pub what: String,
    /// Whether it is in the scope: then the policy may match what it could not match before.
    pub scope: bool,
    at: usize,
    /// None where the policy is dropped.
    changed: Option<Policy>,
}

/// Where a policy stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its id.
    pub policy: String,
    /// The file.
    pub file: String,
    /// The line of its first character, from 1.
    pub line: u32,
}

/// A change to a policy's JSON, with what to say of it.
struct Change {
    what: String,
    line: u32,
    json: Value,
    /// It is in the scope.
    scope: bool,
}

impl Workshop {
    /// Takes a policy set apart.
    ///
    /// # Errors
    ///
    /// What is wrong with it: only a valid set has mutants.
    pub fn new(sources: &PolicySources) -> Result<Self, Vec<Finding>> {
        Ok(Self {
            parts: on_large_stack(|| parts(sources))?,
            version: sources.version(),
        })
    }

    /// What the policies were validated against.
    pub(crate) fn schema(&self) -> &Schema {
        &self.parts.schema
    }

    /// Where each policy stands, in the order of files.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let place = |part: &Part| Place {
            policy: part.id.clone(),
            file: part.file.clone(),
            line: part.line,
        };
        self.parts.policies.iter().map(place).collect()
    }

    /// Every mutant, in the order of files.
    ///
    /// # Errors
    ///
    /// When a policy has no JSON form, or there is no thread to work on.
    pub fn mutants(&self) -> Result<Vec<Mutant>, Vec<Finding>> {
        let validator = Validator::new(self.parts.schema.clone());
        let next = AtomicUsize::new(0);
        // To validate is most of the work: it is shared by all cores.
        let work = || {
            let mut mutants = Vec::new();
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(part) = self.parts.policies.get(at) else {
                    break;
                };
                mutants.push((at, self.of_policy(at, part, &validator)));
            }
            Ok(mutants)
        };
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let mut mutants = Vec::new();
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers)
                .map(|_| scope.spawn(|| on_large_stack(work)))
                .collect();
            for worker in workers {
                let panicked = || vec![Finding::error("policies", "a worker panicked")];
                mutants.extend(worker.join().map_err(|_| panicked())??);
            }
            Ok::<(), Vec<Finding>>(())
        })?;
        mutants.sort_by_key(|(at, _)| *at);
        Ok(mutants
            .into_iter()
            .flat_map(|(_, mutants)| mutants)
            .collect())
    }

    /// The set with that fault. It keeps the version of the sound one.
    ///
    /// # Errors
    ///
    /// When the policies cannot be put together.
    pub fn with(&self, mutant: &Mutant) -> Result<Arc<PolicySet>, String> {
        let policies = self.parts.policies.iter().enumerate();
        let policies = policies.filter_map(|(at, part)| {
            if at == mutant.at {
                mutant.changed.clone()
            } else {
                Some(part.policy.clone())
            }
        });
        assemble(
            self.version.clone(),
            &self.parts.schema,
            self.parts.typed.clone(),
            policies.collect(),
        )
        .map(Arc::new)
        .map_err(|error| error.text)
    }

    fn of_policy(&self, at: usize, part: &Part, validator: &Validator) -> Vec<Mutant> {
        let mutant = |line, what, scope, changed| Mutant {
            policy: part.id.clone(),
            file: part.file.clone(),
            line,
            what,
            scope,
            at,
            changed,
        };
        let mut mutants = vec![mutant(part.line, "policy dropped".to_owned(), false, None)];
        let Ok(json) = part.policy.to_json() else {
            return mutants;
        };
        let mut changes = scope_changes(part, &json, &self.parts.schema);
        changes.extend(condition_changes(part, &json));
        for change in changes {
            let Ok(policy) = Policy::from_json(Some(PolicyId::new(&part.id)), change.json) else {
                continue;
            };
            // A scope that matches the same in other words is no fault.
            let same_scope = change.scope
                && names_entities(&policy) == names_entities(&part.policy)
                && matched(&policy, &self.parts.schema)
                    == matched(&part.policy, &self.parts.schema);
            if !same_scope && is_valid(validator, &policy) {
                mutants.push(mutant(change.line, change.what, change.scope, Some(policy)));
            }
        }
        mutants
    }
}

fn is_valid(validator: &Validator, policy: &Policy) -> bool {
    cedar_policy::PolicySet::from_policies([policy.clone()]).is_ok_and(|set| {
        validator
            .validate(&set, ValidationMode::Strict)
            .validation_passed()
    })
}

/// The policy's JSON with one member replaced.
fn replaced(json: &Value, path: &str, value: Value) -> Value {
    let mut json = json.clone();
    if let Some(place) = json.pointer_mut(path) {
        *place = value;
    }
    json
}

fn scope_changes(part: &Part, json: &Value, schema: &Schema) -> Vec<Change> {
    let policy = &part.policy;
    let lines = places::scope(&part.text, part.line);
    let all = || json!({"op": "All"});
    let is = |kind: &EntityTypeName| json!({"op": "is", "entity_type": kind.to_string()});
    let mut changes = Vec::new();
    let mut add = |member: &str, line: u32, what: String, value: Value| {
        changes.push(Change {
            what,
            line,
            json: replaced(json, &format!("/{member}"), value),
            scope: true,
        });
    };

    let principal = match policy.principal_constraint() {
        PrincipalConstraint::Any => None,
        PrincipalConstraint::IsIn(kind, _) => Some(is(&kind)),
        PrincipalConstraint::Is(_) | PrincipalConstraint::In(_) | PrincipalConstraint::Eq(_) => {
            Some(all())
        }
    };
    if let Some(value) = principal {
        add(
            "principal",
            lines.principal,
            "`principal` widened".to_owned(),
            value,
        );
    }
    let resource = match policy.resource_constraint() {
        ResourceConstraint::Any => None,
        ResourceConstraint::IsIn(kind, _) => Some(is(&kind)),
        ResourceConstraint::Is(_) | ResourceConstraint::In(_) | ResourceConstraint::Eq(_) => {
            Some(all())
        }
    };
    if let Some(value) = resource {
        add(
            "resource",
            lines.resource,
            "`resource` widened".to_owned(),
            value,
        );
    }

    changes.extend(action_changes(policy, json, lines.action, schema));
    changes
}

/// The scope's action widened, and where it names several, each left out.
fn action_changes(policy: &Policy, json: &Value, line: u32, schema: &Schema) -> Vec<Change> {
    let named = match policy.action_constraint() {
        ActionConstraint::Any => Vec::new(),
        ActionConstraint::Eq(action) => vec![action],
        ActionConstraint::In(actions) => actions,
    };
    let mut changes = Vec::new();
    let mut add = |what: String, value: Value| {
        changes.push(Change {
            what,
            line,
            json: replaced(json, "/action", value),
            scope: true,
        });
    };
    if !named.is_empty() {
        let all = json!({"op": "All"});
        add("`action` widened to every action".to_owned(), all);
    }
    let Ok(groups) = schema.action_entities() else {
        return changes;
    };
    let entity =
        |uid: &EntityUid| json!({"type": uid.type_name().to_string(), "id": uid.id().unescaped()});
    for (index, action) in named.iter().enumerate() {
        for parent in groups.ancestors(action).into_iter().flatten() {
            let is_member = |uid: &EntityUid| {
                let mut above = groups.ancestors(uid).into_iter().flatten();
                above.any(|group| group == parent)
            };
            // Nothing is added where its other members are named already.
            let mut members = groups
                .iter()
                .map(cedar_policy::Entity::uid)
                .filter(is_member);
            if members.any(|uid| !named.contains(&uid)) {
                let value = json!({"op": "in", "entity": entity(parent)});
                add(format!("`{action}` widened to `{parent}`"), value);
            }
        }
        if named.len() > 1 {
            let kept = named.iter().enumerate().filter(|(at, _)| *at != index);
            let kept: Vec<Value> = kept.map(|(_, uid)| entity(uid)).collect();
            let value = json!({"op": "in", "entities": kept});
            add(format!("`{action}` left out"), value);
        }
    }
    changes
}

/// What a policy's scope can match: positions in [`index::actions`].
fn matched(policy: &Policy, schema: &Schema) -> Vec<usize> {
    let Ok(groups) = schema.action_entities() else {
        return Vec::new();
    };
    let matches = |action: &EntityUid, named: &[EntityUid]| {
        let mut above = groups.ancestors(action).into_iter().flatten();
        named.contains(action) || above.any(|group| named.contains(group))
    };
    let fits = |(name, principal, resource): (&str, &EntityTypeName, &EntityTypeName)| {
        let acts = match policy.action_constraint() {
            ActionConstraint::Any => true,
            ActionConstraint::Eq(action) => action == action_uid(name),
            ActionConstraint::In(actions) => matches(&action_uid(name), &actions),
        };
        let by = match policy.principal_constraint() {
            PrincipalConstraint::Is(kind) | PrincipalConstraint::IsIn(kind, _) => {
                kind == *principal
            }
            PrincipalConstraint::Eq(who) => who.type_name() == principal,
            PrincipalConstraint::Any | PrincipalConstraint::In(_) => true,
        };
        let on = match policy.resource_constraint() {
            ResourceConstraint::Is(kind) | ResourceConstraint::IsIn(kind, _) => kind == *resource,
            ResourceConstraint::Eq(what) => what.type_name() == resource,
            ResourceConstraint::Any | ResourceConstraint::In(_) => true,
        };
        acts && by && on
    };
    let all = index::actions().into_iter().enumerate();
    all.filter(|(_, act)| fits(*act))
        .map(|(at, _)| at)
        .collect()
}

/// Whether a policy's scope names an entity that principal or resource must be or lie in.
fn names_entities(policy: &Policy) -> [bool; 2] {
    [
        !matches!(
            policy.principal_constraint(),
            PrincipalConstraint::Any | PrincipalConstraint::Is(_)
        ),
        !matches!(
            policy.resource_constraint(),
            ResourceConstraint::Any | ResourceConstraint::Is(_)
        ),
    ]
}

fn condition_changes(part: &Part, json: &Value) -> Vec<Change> {
    let conditions = json.get("conditions").and_then(Value::as_array);
    let lines = places::conditions(&part.text, part.line);
    let mut changes = Vec::new();
    for (index, condition) in conditions.into_iter().flatten().enumerate() {
        let place = lines.get(index);
        let line = place.map_or(part.line, |place| place.line);
        let kind = condition
            .get("kind")
            .and_then(Value::as_str)
            .unwrap_or("when");
        let other = if kind == "when" { "unless" } else { "when" };
        let path = format!("/conditions/{index}");
        let mut removed = json.clone();
        if let Some(list) = removed.get_mut("conditions").and_then(Value::as_array_mut) {
            list.remove(index);
        }
        changes.push(Change {
            what: format!("`{kind}` removed"),
            line,
            json: removed,
            scope: false,
        });
        changes.push(Change {
            what: format!("`{kind}` turned into `{other}`"),
            line,
            json: replaced(json, &format!("{path}/kind"), json!(other)),
            scope: false,
        });
        let Some(body) = condition.get("body") else {
            continue;
        };
        let mut walk = Walk {
            place,
            line,
            operators: 0,
            found: Vec::new(),
        };
        walk.expression(body, &format!("{path}/body"));
        // If the text has other operators than the tree, no line within is certain.
        let certain = place.is_some_and(|place| place.operators.len() == walk.operators);
        for found in walk.found {
            changes.push(Change {
                what: found.what,
                line: if certain { found.line } else { line },
                json: replaced(json, &found.path, found.value),
                scope: false,
            });
        }
    }
    changes
}

/// A walk through an expression in the order of its text.
struct Walk<'a> {
    place: Option<&'a places::Condition>,
    line: u32,
    /// Operators met so far.
    operators: usize,
    found: Vec<Found>,
}

struct Found {
    path: String,
    value: Value,
    what: String,
    line: u32,
}

/// The operators that are counted, in the tree as in the text.
const COUNTED: [&str; 8] = ["&&", "||", "==", "!=", "<", "<=", ">", ">="];

/// Each comparison with the one that differs at the boundary, or in everything.
const MOVED: [(&str, &str); 6] = [
    ("<", "<="),
    ("<=", "<"),
    (">", ">="),
    (">=", ">"),
    ("==", "!="),
    ("!=", "=="),
];

impl Walk<'_> {
    /// The line after so many operators.
    fn line_after(&self, operators: usize) -> u32 {
        let after = |place: &places::Condition| {
            operators.checked_sub(1).map_or(Some(place.body), |last| {
                place.operators.get(last).map(|operator| operator.next)
            })
        };
        self.place.and_then(after).unwrap_or(self.line)
    }

    fn expression(&mut self, json: &Value, path: &str) {
        match json {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.expression(item, &format!("{path}/{index}"));
                }
            }
            Value::Object(members) => self.operation(members, path),
            _ => {}
        }
    }

    fn operation(&mut self, members: &Map<String, Value>, path: &str) {
        for (operator, operands) in members {
            let inner = format!("{path}/{}", operator.replace('~', "~0").replace('/', "~1"));
            if operator == "Value" {
                continue;
            }
            let (Some(left), Some(right)) = (operands.get("left"), operands.get("right")) else {
                if operator == "!"
                    && let Some(arg) = operands.get("arg")
                {
                    let what = format!("`!` before `{}` dropped", text(arg));
                    let line = self.line_after(self.operators);
                    self.found.push(Found {
                        path: path.to_owned(),
                        value: arg.clone(),
                        what,
                        line,
                    });
                }
                self.expression(operands, &inner);
                continue;
            };
            let before = self.line_after(self.operators);
            self.expression(left, &format!("{inner}/left"));
            let counted = COUNTED.contains(&operator.as_str());
            self.operators += usize::from(counted);
            let after = self.line_after(self.operators);
            if operator == "&&" || operator == "||" {
                let mut drop = |kept: &Value, dropped: &Value, line| {
                    // Of `(a && b) && c`, dropping `a && b` is two faults at once.
                    if dropped.get(operator).is_none() {
                        self.found.push(Found {
                            path: path.to_owned(),
                            value: kept.clone(),
                            what: format!("`{}` dropped", text(dropped)),
                            line,
                        });
                    }
                };
                drop(left, right, after);
                drop(right, left, before);
            } else if let Some((_, moved)) = MOVED.iter().find(|(from, _)| from == operator) {
                self.found.push(Found {
                    path: path.to_owned(),
                    value: json!({*moved: {"left": left, "right": right}}),
                    what: format!(
                        "`{operator}` turned into `{moved}` in `{}`",
                        text(&json!({operator.as_str(): {"left": left, "right": right}}))
                    ),
                    line: before,
                });
            }
            self.expression(right, &format!("{inner}/right"));
        }
    }
}

/// A policy that permits where an expression is true.
pub(crate) fn probe(expression: &Value) -> Option<Policy> {
    let json = json!({
        "effect": "permit",
        "principal": {"op": "All"},
        "action": {"op": "All"},
        "resource": {"op": "All"},
        "conditions": [{"kind": "when", "body": expression}],
    });
    Policy::from_json(Some(PolicyId::new("probe")), json).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{only, shipped_sources};

    fn mutants(policy: &str) -> Vec<(u32, String)> {
        let workshop = Workshop::new(&only(policy)).unwrap();
        let mutants = workshop.mutants().unwrap();
        for mutant in &mutants {
            workshop.with(mutant).unwrap();
        }
        mutants
            .into_iter()
            .map(|mutant| (mutant.line, mutant.what))
            .collect()
    }

    #[test]
    fn every_kind_of_fault_is_made_where_it_stands() {
        let found = mutants(
            "@id(\"x\")\npermit (\n  principal in Role::\"r\",\n  action in [Action::\"read\", Action::\"write\"],\n  resource in Service::\"s\"\n)\nwhen {\n  // a && b \"{\n  principal is Agent &&\n  principal.trust >= 1 &&\n  (resource.pinned || !principal.suspended)\n};\n",
        );
        let expected = [
            (1, "policy dropped"),
            (3, "`principal` widened"),
            (5, "`resource` widened"),
            (4, "`Action::\"read\"` widened to `Action::\"invoke\"`"),
            (4, "`Action::\"read\"` left out"),
            (4, "`Action::\"write\"` widened to `Action::\"invoke\"`"),
            (4, "`Action::\"write\"` left out"),
            (7, "`when` removed"),
            (7, "`when` turned into `unless`"),
            (9, "`principal is Agent` dropped"),
            (10, "`principal.trust >= 1` dropped"),
            (10, "`>=` turned into `>` in `principal.trust >= 1`"),
            (11, "`resource.pinned || !principal.suspended` dropped"),
            (11, "`!principal.suspended` dropped"),
            (11, "`resource.pinned` dropped"),
            (11, "`!` before `principal.suspended` dropped"),
        ];
        for (line, what) in expected {
            assert!(
                found.contains(&(line, what.to_owned())),
                "{line} {what} not in {found:#?}"
            );
        }
    }

    #[test]
    fn what_does_not_validate_or_changes_nothing_is_no_mutant() {
        let found = mutants(
            "@id(\"x\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.hasTag(context.callKey) && principal.getTag(context.callKey).risk > 0 };\n",
        );
        let none = |part: &str| !found.iter().any(|(_, what)| what.contains(part));
        // `context.callKey` is not there for every action, and a tag is not to be got unseen.
        assert!(none("every action"), "{found:#?}");
        assert!(
            none("`principal.hasTag(context.callKey)` dropped"),
            "{found:#?}"
        );
        // Only agents read, and only commands are read.
        assert!(
            none("`principal` widened") && none("`resource` widened"),
            "{found:#?}"
        );
    }

    #[test]
    fn the_shipped_set_has_mutants_of_every_policy() {
        let workshop = Workshop::new(&shipped_sources()).unwrap();
        let mutants = workshop.mutants().unwrap();
        for place in workshop.places() {
            assert!(
                mutants.iter().any(|mutant| mutant.policy == place.policy),
                "{place:?}"
            );
        }
    }
}
