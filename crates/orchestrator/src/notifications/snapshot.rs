//! Events as they stood when they happened: what messages are made of.

use authz::{Agent, Timestamp};
use contract::notifications::{AgentData, Data, Event, EventKind, PolicyData, RequestData};
use serde_json::Value;
use store::approvals::StoredApproval;

use crate::approvals;

/// An approval request. `base` is where people reach us.
pub(super) fn request(
    kind: EventKind,
    at: Timestamp,
    stored: &StoredApproval,
    base: &str,
) -> Event {
    let summary = approvals::summary(stored);
    let ask = &stored.new.ask;
    let data = RequestData {
        request_id: stored.new.id,
        agent_id: ask.agent.id,
        agent_name: ask.agent.name.clone(),
        teams: ask.agent.teams.clone(),
        command: ask.target.key.clone(),
        service: ask.target.key.service.clone(),
        risk: ask.target.risk,
        arguments: stored.new.arguments.clone(),
        digest: ask.digest.clone(),
        reason: stored.new.reason.clone(),
        status: summary.status,
        approvals_needed: summary.approvals_needed,
        approvals_given: summary.approvals_given,
        decided_by: stored
            .verdicts
            .iter()
            .map(|verdict| verdict.user.clone())
            .collect(),
        note: stored
            .verdicts
            .last()
            .map(|verdict| verdict.reason.clone())
            .unwrap_or_default(),
        opened: stored.opened,
        expires: stored.new.expires,
        url: format!("{}/approvals/{}", base.trim_end_matches('/'), stored.new.id),
    };
    Event {
        kind,
        timestamp: at,
        data: Data::Request(Box::new(data)),
    }
}

/// An agent.
pub(super) fn agent(kind: EventKind, at: Timestamp, agent: &Agent) -> Event {
    Event {
        kind,
        timestamp: at,
        data: Data::Agent(AgentData {
            agent_id: agent.id,
            agent_name: agent.name.clone(),
            teams: agent.teams.clone(),
            owner: agent.owner.clone(),
        }),
    }
}

/// A policy set.
pub(super) fn policy(kind: EventKind, at: Timestamp, data: PolicyData) -> Event {
    Event {
        kind,
        timestamp: at,
        data: Data::Policy(data),
    }
}

/// What an outbox holds; what is of another version is left out.
pub(super) fn events(items: &[Value]) -> Vec<Event> {
    items
        .iter()
        .filter_map(|item| serde_json::from_value(item.clone()).ok())
        .collect()
}

/// One line that says what happened. Names only: no words of an agent's.
pub(super) fn line(event: &Event) -> String {
    match &event.data {
        Data::Request(request) => {
            let what = format!("{} ({})", request.command, request.risk);
            let who = &request.agent_name;
            let by = request
                .decided_by
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" and ");
            match event.kind {
                EventKind::RequestAdvanced => {
                    format!("{by} approved {what} of {who}; one more must")
                }
                EventKind::RequestDecided => {
                    format!("{} by {by}: {what} of {who}", request.status.as_str())
                }
                EventKind::RequestWithdrawn => format!("{who} needs {what} no longer"),
                EventKind::RequestExpired => format!("nobody decided in time: {what} of {who}"),
                EventKind::RequestExpiring => format!("expires soon: {who} asks for {what}"),
                _ => format!("{who} asks for {what}"),
            }
        }
        Data::Agent(agent) if event.kind == EventKind::AgentResumed => {
            format!("agent {} may go on", agent.agent_name)
        }
        Data::Agent(agent) => format!("agent {} is suspended", agent.agent_name),
        Data::Policy(policy) if event.kind == EventKind::PolicyBroken => format!(
            "the policy folder is broken; {} stays in force",
            policy.policy_set.short()
        ),
        Data::Policy(policy) => format!("policy set {} is in force", policy.policy_set.short()),
        Data::Digest(digest) => format!("{} events", digest.events.len()),
        Data::Test(test) => format!("{} tries whether messages arrive here", test.tried_by),
    }
}

/// One line for several events.
pub(super) fn headline(events: &[Event]) -> String {
    match events {
        [] => "nothing".to_owned(),
        [event] => line(event),
        [first, ..] => {
            let opened = events
                .iter()
                .all(|event| event.kind == EventKind::RequestOpened);
            match (&first.data, opened) {
                (Data::Request(request), true) => {
                    let agent = request.agent_id;
                    let one_agent = events.iter().all(|event| {
                        matches!(&event.data, Data::Request(request) if request.agent_id == agent)
                    });
                    if one_agent {
                        format!("{} asks for {} things", request.agent_name, events.len())
                    } else {
                        format!("{} requests wait for people", events.len())
                    }
                }
                _ => format!("{} events", events.len()),
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use authz::{AgentId, Arguments, Risk};
    use contract::approvals::ApprovalStatus;
    use serde_json::json;

    use super::*;

    /// What `deploy-bot` of team `platform` asks for.
    pub(in super::super) fn request(kind: EventKind) -> Event {
        let Value::Object(arguments) = json!({"uuid": "a1", "note": "<!channel> & *bold*"}) else {
            unreachable!()
        };
        Event {
            kind,
            timestamp: "2026-11-22T10:00:00Z".parse().unwrap(),
            data: Data::Request(Box::new(RequestData {
                request_id: format!("apr_{:032x}", 7).parse().unwrap(),
                agent_id: AgentId::LOCAL,
                agent_name: "deploy-bot".parse().unwrap(),
                teams: BTreeSet::from(["platform".parse().unwrap()]),
                command: "coolify/deploy".parse().unwrap(),
                service: "coolify".parse().unwrap(),
                risk: Risk::Write,
                digest: Arguments::new(arguments.clone()).digest().clone(),
                arguments,
                reason: "release <https://evil.example|4.2> @here".to_owned(),
                status: ApprovalStatus::Pending,
                approvals_needed: 1,
                approvals_given: 0,
                decided_by: vec![],
                note: String::new(),
                opened: "2026-11-22T10:00:00Z".parse().unwrap(),
                expires: "2026-11-23T10:00:00Z".parse().unwrap(),
                url: "https://gate.example/approvals/apr_7".to_owned(),
            })),
        }
    }

    #[test]
    fn a_line_says_what_happened() {
        let opened = request(EventKind::RequestOpened);
        assert_eq!(line(&opened), "deploy-bot asks for coolify/deploy (write)");
        assert_eq!(
            headline(&[opened.clone(), opened.clone()]),
            "deploy-bot asks for 2 things"
        );
        assert_eq!(
            headline(&[opened, request(EventKind::RequestExpired)]),
            "2 events"
        );
        for kind in [
            EventKind::RequestExpired,
            EventKind::RequestWithdrawn,
            EventKind::RequestExpiring,
        ] {
            assert!(line(&request(kind)).contains("deploy-bot"), "{kind:?}");
        }
    }
}
