//! What the tests of this crate decide about: the shipped policy set and a small fleet.

use std::{fs, net::IpAddr, path::Path, sync::Arc, time::Duration};

use serde_json::{Map, Value};

use crate::{
    Action, Agent, AgentId, ApprovalRequestId, Arguments, Circumstances, Command, Decision, Facts,
    Grant, GrantId, Permit, PolicySet, PolicySources, Principal, Refused, Risk, Scope, Service,
    Slice, Source, Target, Timestamp, User, approval::Ask, command::Environment, decide,
};

/// Noon of some day.
pub(crate) const NOON: Timestamp = Timestamp::from_millis(1_763_812_800_000);

pub(crate) const HOUR: Duration = Duration::from_hours(1);

/// The schema and policies at the repository's root.
pub(crate) fn shipped_sources() -> PolicySources {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let source = |name: String| Source {
        text: fs::read_to_string(root.join(&name)).unwrap(),
        name,
    };
    let mut policies = Vec::new();
    for entry in fs::read_dir(root.join("policies")).unwrap() {
        let path = entry.unwrap().path();
        if path
            .extension()
            .is_some_and(|extension| extension == "cedar")
        {
            let name = path.file_name().unwrap().to_str().unwrap();
            policies.push(source(format!("policies/{name}")));
        }
    }
    PolicySources {
        schema: source("schema.cedarschema".to_owned()),
        policies,
    }
}

/// The shipped policy set.
pub(crate) fn shipped() -> Arc<PolicySet> {
    load(&shipped_sources())
}

/// The shipped policy set with further policies.
pub(crate) fn shipped_with(policies: &str) -> Arc<PolicySet> {
    let mut sources = shipped_sources();
    sources.policies.push(Source {
        name: "policies/more.cedar".to_owned(),
        text: policies.to_owned(),
    });
    load(&sources)
}

/// These policies, with the shipped schema.
pub(crate) fn only(policies: &str) -> PolicySources {
    let schema = shipped_sources().schema;
    PolicySources {
        schema,
        policies: vec![Source {
            name: "a.cedar".to_owned(),
            text: policies.to_owned(),
        }],
    }
}

pub(crate) fn load(sources: &PolicySources) -> Arc<PolicySet> {
    match PolicySet::load(sources) {
        Ok((set, _)) => Arc::new(set),
        Err(findings) => {
            panic!(
                "{}",
                findings
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            )
        }
    }
}

/// An ordinary agent of production, without any right.
pub(crate) fn agent() -> Agent {
    Agent {
        id: "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f".parse().unwrap(),
        name: "build-bot".parse().unwrap(),
        owner: Some("olga".parse().unwrap()),
        teams: [].into(),
        roles: [].into(),
        env: Environment::Prod,
        trust: 1,
        suspended: false,
        allowed_mcps: [].into(),
    }
}

/// A command of a service of production that team `ops` owns.
pub(crate) fn target(key: &str, risk: Risk) -> Target {
    let key: crate::CommandKey = key.parse().unwrap();
    let service = Service {
        name: key.service.clone(),
        env: Environment::Prod,
        owners: Some("ops".parse().unwrap()),
        zones: [].into(),
    };
    Target {
        key,
        service: Arc::new(service),
        risk,
        zones: [].into(),
        pinned: true,
    }
}

pub(crate) fn command(target: Target, arguments: Value) -> Command {
    let Value::Object(values) = arguments else {
        panic!("an object")
    };
    Command {
        target: Arc::new(target),
        arguments: Arguments::new(values),
    }
}

/// A grant that was issued at noon for an hour, approved by `dan`.
pub(crate) fn grant(agent: AgentId, scope: Scope, risk: Risk) -> Grant {
    Grant {
        id: GrantId::generate(NOON),
        agent,
        scope,
        risk,
        issued: NOON,
        expires: NOON.plus(HOUR),
        first: "dan".parse().unwrap(),
        second: None,
        single_use: false,
        approval: ApprovalRequestId::generate(NOON),
    }
}

pub(crate) fn principal(agent: Agent, grants: Vec<Grant>) -> Principal {
    Principal::new(Facts {
        agent,
        grants,
        version: 1,
    })
}

pub(crate) fn user(id: &str, roles: &[&str]) -> User {
    User {
        id: id.parse().unwrap(),
        name: id.to_owned(),
        teams: [].into(),
        roles: roles.iter().map(|role| role.parse().unwrap()).collect(),
        active: true,
    }
}

pub(crate) fn ask(agent: &Agent, target: &Target, approvals: u8) -> Ask {
    Ask {
        agent: agent.clone(),
        target: target.clone(),
        digest: Arguments::new(Map::new()).digest().clone(),
        requester: None,
        approved_by: Vec::new(),
        approvals,
    }
}

pub(crate) fn at(now: Timestamp) -> Circumstances {
    Circumstances::new(now, IpAddr::from([10, 0, 0, 7]))
}

pub(crate) fn slice(policies: &Arc<PolicySet>, command: &Command, action: Action) -> Slice {
    Slice::new(policies, &command.target, action)
}

pub(crate) fn decided(
    policies: &Arc<PolicySet>,
    agent: &Principal,
    command: &Command,
    now: Timestamp,
) -> Decision {
    decide(
        &slice(policies, command, Action::Invoke),
        agent,
        command.clone(),
        at(now),
    )
}

pub(crate) fn permit(decision: Decision) -> Permit {
    match decision {
        Decision::Permit(permit) => permit,
        Decision::Refuse(refused) => panic!("refused: {refused:?}"),
    }
}

pub(crate) fn refusal(decision: Decision) -> Refused {
    match decision {
        Decision::Permit(permit) => panic!("permitted: {permit:?}"),
        Decision::Refuse(refused) => *refused,
    }
}
