//! Whether a schema fits what the gateway and the orchestrator tell policies.
//!
//! Decisions do not check entities and requests against the schema: that would cost
//! more than the decision. Instead samples of everything are checked once, here, with
//! every optional part present and with every optional part absent. A schema that
//! demands something which nobody provides is refused before any policy relies on it.

use std::net::{IpAddr, Ipv4Addr};

use cedar_policy::{Context, Entities, EntityUid, Request, RestrictedExpression, Schema};
use serde_json::{Value, json};

use super::{TypedAction, TypedActions, finding::Finding, index};
use crate::{
    agent::Agent,
    approval::{Ask, DURATIONS, Presence, Reach},
    arguments,
    command::{Arguments, CommandKey, Environment, Risk, Service, Target},
    decide::Circumstances,
    entities::{self, Malformed, TYPES, malformed},
    grant::{Grant, Scope},
    id::{AgentId, ApprovalRequestId, GrantId},
    session::Parts,
    time::Timestamp,
    user::User,
};

/// Checks the samples against the schema.
pub(super) fn check(schema: &Schema, file: &str, typed: &TypedActions) -> Result<(), Vec<Finding>> {
    let mut findings: Vec<Finding> = Vec::new();
    for env in [Environment::Dev, Environment::Staging, Environment::Prod] {
        for full in [false, true] {
            if let Err(error) = fits(schema, env, full) {
                let message = format!("the schema does not fit what policies are told: {error}");
                let finding = Finding::error(file, message)
                    .help("add what you like to the schema, but keep what it came with, and make additions optional");
                if !findings.contains(&finding) {
                    findings.push(finding);
                }
            }
        }
    }
    if findings.is_empty() {
        for (key, action) in typed {
            if let Err(error) = fits_typed(schema, key, action) {
                let message = format!(
                    "the typed action `{key}` does not fit what policies are told: {error}"
                );
                let finding = Finding::error(file, message).help(
                    "its principal is Agent, its resource Command, its context that of `write` and `input`",
                );
                findings.push(finding);
            }
        }
    }
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

/// Checks one sample of everything; `full` has every optional part.
fn fits(schema: &Schema, env: Environment, full: bool) -> Result<(), Malformed> {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let agent = agent(env, full)?;
    let target = target(env, full)?;
    let user = User {
        id: name("probe")?,
        name: "Probe".to_owned(),
        teams: some(full, "probe")?.into_iter().collect(),
        roles: some(full, "probe")?.into_iter().collect(),
        active: full,
    };
    let arguments = if full {
        json!({"text": "x", "number": 1, "flag": true, "list": ["x"], "empty": [], "in": {"side": null}})
    } else {
        json!({})
    };
    let arguments = Arguments::new(arguments.as_object().cloned().unwrap_or_default());

    let mut grants = Vec::new();
    if full {
        let scope = Scope::Service {
            service: target.service.name.clone(),
        };
        let grant = |second| Grant {
            id: GrantId::generate(now),
            agent: agent.id,
            scope: scope.clone(),
            risk: Risk::Write,
            issued: now,
            expires: now.plus(DURATIONS[0]),
            first: user.id.clone(),
            second,
            single_use: false,
            approval: ApprovalRequestId::generate(now),
        };
        grants.push(("one".to_owned(), entities::grant(&grant(None))?));
        grants.push((
            "two".to_owned(),
            entities::grant(&grant(Some(user.id.clone())))?,
        ));
        grants.push((
            "hypothetical".to_owned(),
            entities::hypothetical_grant(now, DURATIONS[0], 1, 2)?,
        ));
    }
    let ask = Ask {
        agent: agent.clone(),
        target: target.clone(),
        digest: arguments.digest().clone(),
        requester: full.then(|| user.id.clone()),
        approved_by: full.then(|| user.id.clone()).into_iter().collect(),
        approvals: 1,
    };

    let mut all = vec![
        entities::agent(&agent, grants)?,
        entities::service(&target.service)?,
        entities::command(&target)?,
        entities::user(&user)?,
        entities::control_plane(),
    ];
    all.extend(arguments::entities(&arguments)?);
    Entities::from_entities(all, Some(schema)).map_err(malformed)?;
    for reach in Reach::ALL {
        let escalation = entities::escalation(&ask, reach, DURATIONS[0])?;
        Entities::from_entities([escalation], Some(schema)).map_err(malformed)?;
    }

    let uids = Uids {
        user: entities::user_uid(&user.id),
        agent: entities::agent_uid(agent.id),
        command: entities::command_uid(&target.key),
    };
    fits_requests(schema, now, full, &uids, &arguments)
}

/// Who and what the samples of requests are about.
struct Uids {
    user: EntityUid,
    agent: EntityUid,
    command: EntityUid,
}

/// Checks a sample of each action's request.
fn fits_requests(
    schema: &Schema,
    now: Timestamp,
    full: bool,
    uids: &Uids,
    arguments: &Arguments,
) -> Result<(), Malformed> {
    let digest = arguments.digest().as_str();
    let moment = entities::time_context(now)?;
    let person = entities::person_context(Presence {
        now,
        confirmed: full.then_some(now),
    })?;
    for (action, principal, resource) in index::actions() {
        let by_person = *principal == TYPES.user;
        let principal = if by_person {
            uids.user.clone()
        } else {
            uids.agent.clone()
        };
        let resource = if *resource == TYPES.command {
            uids.command.clone()
        } else if *resource == TYPES.escalation {
            entities::escalation_uid()
        } else if *resource == TYPES.agent {
            uids.agent.clone()
        } else {
            entities::control_plane_uid()
        };
        if CALLS.contains(&action) {
            fits_call(schema, (principal, action, resource), |of_session| {
                call(full, of_session, digest, None)
            })?;
            continue;
        }
        let context = if by_person { &person } else { &moment };
        request(schema, principal, action, resource, context.clone())?;
    }
    Ok(())
}

/// The actions, other than typed ones, whose context is that of a call.
const CALLS: [&str; 4] = ["read", "write", "destroy", "escalate"];

/// A sample of a call's context.
fn call(
    full: bool,
    of_session: Parts,
    digest: &str,
    input: Option<RestrictedExpression>,
) -> Result<Context, Malformed> {
    let now = Timestamp::from_millis(1_700_000_000_000);
    let ip = if full {
        IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1_u16])
    } else {
        Ipv4Addr::LOCALHOST.into()
    };
    let at = Circumstances::new(now, ip);
    let uids = arguments::uids();
    let context = entities::call_context(at, of_session, digest, "probe/probe#0", uids)?;
    let input = input.map(|input| ("input".to_owned(), input));
    context.merge(input).map_err(malformed)
}

/// Checks that a call can be told of with its session; or else, under a schema from before
/// there were sessions, without.
fn fits_call(
    schema: &Schema,
    (principal, action, resource): (EntityUid, &str, EntityUid),
    context: impl Fn(Parts) -> Result<Context, Malformed>,
) -> Result<(), Malformed> {
    let told = |of_session| {
        let (principal, resource) = (principal.clone(), resource.clone());
        request(schema, principal, action, resource, context(of_session)?)
    };
    told(Parts::ALL).or_else(|error| told(Parts::NONE).map_err(|_| error))
}

/// The actions, other than typed ones, whose context has a session by this schema.
///
/// A schema that was written before there were sessions declares none. It goes on to load:
/// none of its policies can look at a session, and they are not told of it.
pub(crate) fn with_session(schema: &Schema) -> Result<Vec<&'static str>, Malformed> {
    let command = entities::command_uid(&name("probe/probe")?);
    let mut declare = Vec::new();
    for action in CALLS {
        let agent = entities::agent_uid(AgentId::LOCAL);
        let context = call(true, Parts::ALL, "0", None)?;
        if request(schema, agent, action, command.clone(), context).is_ok() {
            declare.push(action);
        }
    }
    Ok(declare)
}

/// Finds which typed actions' contexts have a session.
pub(super) fn find_sessions(schema: &Schema, typed: &mut TypedActions) {
    for (key, action) in typed {
        let sample = action.input.sample(true);
        let values = sample.as_object().cloned().unwrap_or_default();
        let fits = || {
            let context = call(true, Parts::ALL, "0", Some(action.input.input(&values)?))?;
            request(
                schema,
                entities::agent_uid(AgentId::LOCAL),
                &key.to_string(),
                entities::command_uid(key),
                context,
            )
        };
        action.session = fits().is_ok();
    }
}

/// Refuses a `session` that is declared, and not as what it is: policies would look at it
/// in vain.
pub(super) fn check_sessions(
    schema: &Schema,
    json: &Value,
    file: &str,
    typed: &TypedActions,
) -> Result<(), Vec<Finding>> {
    let told = with_session(schema).map_err(|error| vec![Finding::error(file, error.text)])?;
    let untold = CALLS.iter().filter(|action| !told.contains(action));
    let untold = untold.map(ToString::to_string).chain(
        typed
            .iter()
            .filter(|(_, action)| !action.session)
            .map(|(key, _)| key.to_string()),
    );
    let findings: Vec<Finding> = untold
        .filter(|action| mentions_session(json, action))
        .map(|action| {
            let message =
                format!("`session` in the context of `{action}` is not what policies are told");
            Finding::error(file, message).help(
                "declare it as `session: Session`, with `type Session = { id: String, startedAt: datetime, calls: Long, tainted: Bool };`",
            )
        })
        .collect();
    if findings.is_empty() {
        Ok(())
    } else {
        Err(findings)
    }
}

/// Whether an action's context has an attribute `session` by a schema's JSON.
fn mentions_session(json: &Value, action: &str) -> bool {
    let global = json.get("");
    let mut context = global
        .and_then(|names| names.get("actions")?.get(action)?.get("appliesTo"))
        .and_then(|applies| applies.get("context"));
    // Types may be other names of types; no chain of names is longer than this.
    for _ in 0..16 {
        let Some(found) = context else { return false };
        if let Some(attributes) = found.get("attributes") {
            return attributes.get("session").is_some();
        }
        let mut name = ["name", "type"]
            .iter()
            .filter_map(|key| found.get(key)?.as_str());
        let types = global.and_then(|names| names.get("commonTypes"));
        context = name.find_map(|name| types?.get(name));
    }
    false
}

/// Checks samples of a typed action's requests.
fn fits_typed(schema: &Schema, key: &CommandKey, action: &TypedAction) -> Result<(), Malformed> {
    for full in [false, true] {
        let sample = action.input.sample(full);
        let values = sample.as_object().cloned().unwrap_or_default();
        let asked = (
            entities::agent_uid(AgentId::LOCAL),
            &*key.to_string(),
            entities::command_uid(key),
        );
        fits_call(schema, asked, |of_session| {
            let input = action.input.input(&values)?;
            call(full, of_session, "0", Some(input))
        })?;
    }
    Ok(())
}

fn request(
    schema: &Schema,
    principal: EntityUid,
    action: &str,
    resource: EntityUid,
    context: Context,
) -> Result<(), Malformed> {
    Request::new(
        principal,
        entities::action_uid(action),
        resource,
        context,
        Some(schema),
    )
    .map(drop)
    .map_err(malformed)
}

fn agent(env: Environment, full: bool) -> Result<Agent, Malformed> {
    Ok(Agent {
        id: AgentId::LOCAL,
        name: name("probe")?,
        owner: some(full, "probe")?,
        teams: some(full, "probe")?.into_iter().collect(),
        roles: some(full, "probe")?.into_iter().collect(),
        env,
        trust: 1,
        suspended: false,
        allowed_mcps: some(full, "probe")?.into_iter().collect(),
    })
}

fn target(env: Environment, full: bool) -> Result<Target, Malformed> {
    let service = Service {
        name: name("probe")?,
        env,
        owners: some(full, "probe")?,
        zones: some(full, "probe")?.into_iter().collect(),
    };
    Ok(Target {
        key: name("probe/probe")?,
        service: service.into(),
        risk: Risk::Write,
        zones: some(full, "probe")?.into_iter().collect(),
        pinned: true,
    })
}

fn name<T: std::str::FromStr<Err: std::error::Error>>(text: &str) -> Result<T, Malformed> {
    text.parse().map_err(malformed)
}

fn some<T: std::str::FromStr<Err: std::error::Error>>(
    full: bool,
    text: &str,
) -> Result<Option<T>, Malformed> {
    full.then(|| name(text)).transpose()
}
