use serde_json::json;

use super::*;
use crate::{
    Risk, Scope,
    fixtures::{NOON, agent, at, command, grant, principal, shipped, target},
};

#[test]
fn a_refusal_says_who_could_lift_it_and_what_else_would() {
    let policies = shipped();
    let read = command(target("coolify/list-servers", Risk::Read), json!({}));
    let explanation = explain(&policies, &principal(agent(), vec![]), &read, at(NOON));
    assert_eq!(
        (explanation.verdict, explanation.approvals),
        (Verdict::Escalate, Some(1))
    );
    assert_eq!(explanation.permitted_by_approval, ["grant.call"]);
    assert!(!explanation.traces.is_empty());
    let first = &explanation.changes[0];
    assert_eq!(
        (first.how, first.verdict),
        (How::Grant, Some(Verdict::Permit))
    );
    let standing = explanation
        .changes
        .iter()
        .find(|change| change.how == How::StandingAccess);
    assert_eq!(standing.unwrap().verdict, Some(Verdict::Permit));
    let written = serde_json::to_value(&explanation).unwrap();
    let read_back: Explanation = serde_json::from_value(written.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read_back).unwrap(), written);
}

#[test]
fn a_permit_names_its_grant_and_what_it_rests_on() {
    let policies = shipped();
    let write = command(target("coolify/deploy", Risk::Write), json!({}));
    let scope = Scope::Command {
        command: "coolify/deploy".parse().unwrap(),
    };
    let given = grant(agent().id, scope, Risk::Write);
    let id = given.id;
    let explanation = explain(
        &policies,
        &principal(agent(), vec![given]),
        &write,
        at(NOON),
    );
    assert_eq!(
        (explanation.verdict, explanation.grant),
        (Verdict::Permit, Some(id))
    );
    let without = &explanation.changes[0];
    assert_eq!(without.how, How::Without);
    assert_eq!(without.policy.as_ref(), explanation.policies.first());
}

#[test]
fn what_would_be_otherwise_is_found_by_deciding_again() {
    let policies = shipped();
    let read = command(target("coolify/list-servers", Risk::Read), json!({}));
    let mut suspended = agent();
    suspended.suspended = true;
    suspended.allowed_mcps.insert("coolify".parse().unwrap());
    let explanation = explain(&policies, &principal(suspended, vec![]), &read, at(NOON));
    assert_eq!(explanation.verdict, Verdict::Hard);
    let again = explanation
        .changes
        .iter()
        .find(|change| change.how == How::NotSuspended)
        .unwrap();
    assert_eq!(again.verdict, Some(Verdict::Permit));
    // It has standing access already, and nobody is asked about a suspended agent.
    assert!(
        explanation
            .changes
            .iter()
            .all(|change| !matches!(change.how, How::StandingAccess | How::Grant))
    );
}
