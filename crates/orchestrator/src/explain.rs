//! The playground: what would come of a command. Nothing is carried out or recorded.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use authz::{
    Agent, AgentRef, ApprovalRequestId, Arguments, Circumstances, Command, Grant, GrantId,
    PolicySet, PolicySetVersion, Principal, Session, Target, Timestamp, UserId, approval::Ask,
    explain::explain,
};
use contract::explain::{
    DEFAULT_IP, ExplainAnswer, ExplainCommand, HypotheticalGrant, HypotheticalSession, MAX_GRANTS,
};
use serde_json::{Map, Value};

use crate::{Orchestrator, activation::Loaded, error::Error, services, zones};

/// Of what is wrong with arguments, so much is said.
const MAX_PROBLEMS: usize = 8;

/// How long a grant lives that nobody gave.
const HYPOTHETICAL_LIFE: Duration = Duration::from_hours(1);

/// The stored policy set that was asked about last, so that asking again is quick.
#[derive(Debug, Default)]
pub(crate) struct LastLoaded(Mutex<Option<Arc<PolicySet>>>);

impl LastLoaded {
    fn get(&self, version: &PolicySetVersion) -> Option<Arc<PolicySet>> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_ref()
            .filter(|set| set.version() == version)
            .map(Arc::clone)
    }

    fn keep(&self, set: &Arc<PolicySet>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(set));
    }
}

/// A policy set by its version: the one in force, or a stored one.
///
/// # Errors
///
/// [`Error::NotFound`]; [`Error::InvalidPolicySet`] if this program cannot load it.
pub(crate) async fn policy_set(
    orchestrator: &Orchestrator,
    version: Option<&PolicySetVersion>,
) -> Result<Arc<PolicySet>, Error> {
    let in_force = orchestrator.in_force();
    let Some(version) = version.filter(|version| *version != in_force.set.version()) else {
        return Ok(Arc::clone(&in_force.set));
    };
    let last = &orchestrator.inner.last_loaded;
    if let Some(set) = last.get(version) {
        return Ok(set);
    }
    let stored = orchestrator.store().policy_set(version).await?;
    let loaded = Loaded::load(stored.sources)
        .await
        .map_err(Error::InvalidPolicySet)?;
    last.keep(&loaded.set);
    Ok(loaded.set)
}

/// Answers what would come of a command, and why.
///
/// # Errors
///
/// [`Error::NotFound`] for an agent, command or policy set that is not known;
/// [`Error::Invalid`] for arguments that do not fit the command.
pub(crate) async fn answer(
    orchestrator: &Orchestrator,
    question: ExplainCommand,
) -> Result<ExplainAnswer, Error> {
    if question.grants.len() > MAX_GRANTS {
        return Err(Error::field("grants", format!("at most {MAX_GRANTS}")));
    }
    let agent: AgentRef = question
        .agent
        .parse()
        .map_err(|error| Error::field("agent", error))?;
    let at = question.at.unwrap_or_else(|| orchestrator.now());
    let facts = orchestrator.store().facts(&agent, at).await?;
    let (gateway, service, command) =
        services::command(orchestrator, &question.command, question.gateway.as_deref()).await?;
    let target = service.target(&command);
    let zones = zones::now(orchestrator).await?;
    let target = Arc::new(zones.added_to(&target).unwrap_or(target));
    let arguments = fitting(&command.arguments, question.arguments)?;
    let set = policy_set(orchestrator, question.policy_set.as_ref()).await?;
    let circumstances = Circumstances {
        session: question
            .session
            .map_or(Session::fresh(at), |session| imagined(session, at)),
        ..Circumstances::new(at, question.ip.unwrap_or(DEFAULT_IP))
    };

    // Each policy is evaluated by itself, part by part: that is work for another thread.
    let explained = tokio::task::spawn_blocking(move || {
        let command = Command {
            target,
            arguments: Arguments::new(arguments),
        };
        let mut facts = facts;
        for grant in &question.grants {
            let given = given(*grant, &facts.agent, &command, at)?;
            facts.grants.push(given);
        }
        let grants = facts.grants.len();
        let principal = Principal::new(facts);
        let explanation = explain(&set, &principal, &command, circumstances);
        Ok::<_, Error>((set, principal, command, grants, explanation))
    });
    let (set, principal, command, grants, explanation) = explained
        .await
        .map_err(|error| Error::Bug(error.to_string()))??;
    Ok(ExplainAnswer {
        agent: principal.agent().id,
        agent_name: principal.agent().name.clone(),
        command: command.target.key.clone(),
        risk: command.target.risk,
        gateway,
        digest: command.arguments.digest().clone(),
        arguments: command.arguments.values().clone(),
        policy_set: set.version().clone(),
        in_force: set.version() == orchestrator.in_force().set.version(),
        at,
        ip: circumstances.ip,
        session: circumstances.session,
        grants,
        explanation,
    })
}

/// A session that nobody has.
fn imagined(session: HypotheticalSession, at: Timestamp) -> Session {
    Session {
        started: at.minus(Duration::from_secs(session.seconds)),
        calls: session.calls,
        tainted: session.tainted,
        ..Session::fresh(at)
    }
}

/// The arguments with their defaults, if they fit the schema.
///
/// # Errors
///
/// What is wrong with them.
fn fitting(schema: &Value, given: Map<String, Value>) -> Result<Map<String, Value>, Error> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|error| Error::Bug(format!("a command's schema is not usable: {error}")))?;
    let value = Value::Object(given);
    let problems: Vec<_> = validator
        .iter_errors(&value)
        .take(MAX_PROBLEMS)
        .map(|problem| {
            let place = problem.instance_path().to_string();
            if place.is_empty() {
                problem.to_string()
            } else {
                format!("`{}`: {problem}", place.trim_start_matches('/'))
            }
        })
        .collect();
    if !problems.is_empty() {
        return Err(Error::field("arguments", problems.join("; ")));
    }
    let Value::Object(mut values) = value else {
        return Err(Error::field("arguments", "must be an object"));
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        if let Some(default) = property.get("default")
            && !values.contains_key(name)
        {
            values.insert(name.clone(), default.clone());
        }
    }
    Ok(values)
}

/// A grant as an approval would yield it, from people who do not exist.
fn given(
    hypothetical: HypotheticalGrant,
    agent: &Agent,
    command: &Command,
    at: Timestamp,
) -> Result<Grant, Error> {
    if !(1..=2).contains(&hypothetical.approvals) {
        return Err(Error::field("grants", "approvals: 1 or 2"));
    }
    let somebody = |name: &str| -> Result<UserId, Error> {
        name.parse()
            .map_err(|error| Error::Bug(format!("a placeholder's name: {error}")))
    };
    let ask = Ask {
        agent: agent.clone(),
        target: Target::clone(&command.target),
        digest: command.arguments.digest().clone(),
        requester: None,
        approved_by: Vec::new(),
        approvals: hypothetical.approvals,
    };
    let (scope, risk, single_use) = ask.scope(hypothetical.reach);
    Ok(Grant {
        id: GrantId::generate(at),
        agent: agent.id,
        scope,
        risk: hypothetical.risk.unwrap_or(risk),
        issued: at,
        expires: at.plus(HYPOTHETICAL_LIFE),
        first: somebody("somebody")?,
        second: (hypothetical.approvals == 2)
            .then(|| somebody("somebody-else"))
            .transpose()?,
        single_use,
        approval: ApprovalRequestId::generate(at),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => panic!("an object"),
        }
    }

    #[test]
    fn arguments_are_checked_and_get_their_defaults() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "required": ["uuid"],
            "properties": {"uuid": {"type": "string"}, "lines": {"type": "integer", "default": 100}},
        });
        let fits = fitting(&schema, object(json!({"uuid": "a"}))).unwrap();
        assert_eq!(Value::Object(fits), json!({"uuid": "a", "lines": 100}));
        for (given, expected) in [
            (json!({}), "uuid"),
            (json!({"uuid": 1}), "`uuid`"),
            (json!({"uuid": "a", "more": 1}), "more"),
        ] {
            let error = fitting(&schema, object(given)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
