use serde_json::json;

use super::*;
use crate::{Command, Service, command::Environment, fixtures::*};

/// What asking would do about a command that `agent` may not send.
fn derived(policies: &Arc<PolicySet>, agent: Agent, target: Target) -> Escalation {
    let command: Command = command(target, json!({}));
    let bot = principal(agent, Vec::new());
    let refused = refusal(decided(policies, &bot, &command, NOON));
    derive(
        &slice(policies, &command, Action::Invoke),
        &slice(policies, &command, Action::Escalate),
        &bot,
        &refused,
        at(NOON),
    )
}

fn liftable(approvals: u8, workflow: &str) -> Escalation {
    Escalation::Liftable {
        approvals,
        workflow: Some(workflow.to_owned()),
        policies: vec!["grant.call".to_owned()],
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn every_rung_of_the_ladder() {
    let shipped = shipped();
    let pci = shipped_with(
        "@id(\"escalate.not-pci\")\n@advice(\"People do this.\")\nforbid (principal is Agent, action in Action::\"escalate\", resource in Zone::\"pci\");",
    );
    let never = shipped_with(
        "@id(\"wall.never\")\n@advice(\"Not at all.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command);",
    );
    let three = shipped_with(
        "@id(\"wall.known\")\n@workflow(\"known\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nunless { principal.hasTag(context.callKey) && principal.getTag(context.callKey).first == User::\"dan\" };",
    );
    let read = || target("coolify/list-servers", Risk::Read);
    let write = || target("coolify/deploy", Risk::Write);
    let destroy = || target("coolify/delete", Risk::Destroy);
    let suspended = Agent {
        suspended: true,
        ..agent()
    };
    let unpinned = Target {
        pinned: false,
        ..read()
    };
    let elsewhere = Target {
        service: Arc::new(Service {
            env: Environment::Dev,
            ..Service::clone(&write().service)
        }),
        ..write()
    };
    let in_pci = Target {
        zones: ["pci".parse().unwrap()].into(),
        ..read()
    };

    let cases = [
        ("read", &shipped, agent(), read(), Ok(liftable(1, "owner"))),
        (
            "write",
            &shipped,
            agent(),
            write(),
            Ok(liftable(1, "owner")),
        ),
        (
            "destroy",
            &shipped,
            agent(),
            destroy(),
            Ok(liftable(2, "two-person")),
        ),
        (
            "suspended",
            &shipped,
            suspended,
            read(),
            Err(("guard.suspended-agent", "This agent is suspended.")),
        ),
        (
            "unpinned",
            &shipped,
            agent(),
            unpinned,
            Err(("guard.unpinned-command", "Nobody has reviewed")),
        ),
        (
            "elsewhere",
            &shipped,
            agent(),
            elsewhere,
            Err(("guard.env-crossing", "Agents change")),
        ),
        (
            "not to be asked for",
            &pci,
            agent(),
            in_pci,
            Err(("escalate.not-pci", "People do this.")),
        ),
        (
            "asked for outside",
            &pci,
            agent(),
            read(),
            Ok(liftable(1, "owner")),
        ),
        (
            "a wall without a door",
            &never,
            agent(),
            write(),
            Err(("wall.never", "Not at all.")),
        ),
        // Which people will approve is not known: a wall that asks for one of them stays.
        (
            "a wall for one person",
            &three,
            agent(),
            write(),
            Err(("wall.known", "")),
        ),
    ];
    for (name, policies, agent, target, expected) in cases {
        match (derived(policies, agent, target), expected) {
            (found @ Escalation::Liftable { .. }, Ok(expected)) => {
                assert_eq!(found, expected, "{name}");
            }
            (Escalation::Hard { policies, advice }, Err((policy, text))) => {
                assert_eq!(policies, [policy], "{name}");
                assert!(
                    advice.first().map_or("", String::as_str).starts_with(text),
                    "{name}: {advice:?}"
                );
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn one_of_two_approvals_still_asks_for_two() {
    let policies = shipped();
    let command = command(target("coolify/delete", Risk::Destroy), json!({}));
    let (scope, risk, _) = ask(&agent(), &command.target, 2).scope(Reach::Call);
    let bot = principal(agent(), vec![grant(agent().id, scope, risk)]);
    let refused = refusal(decided(&policies, &bot, &command, NOON));
    let (invoke, escalate) = (
        slice(&policies, &command, Action::Invoke),
        slice(&policies, &command, Action::Escalate),
    );
    assert_eq!(
        derive(&invoke, &escalate, &bot, &refused, at(NOON)),
        liftable(2, "two-person")
    );
    // The slices in the wrong order say no.
    assert!(matches!(
        derive(&escalate, &invoke, &bot, &refused, at(NOON)),
        Escalation::Hard { .. }
    ));
}

/// Noon, a second factor just proved.
const PROVED: Presence = Presence {
    now: NOON,
    confirmed: Some(NOON),
};

/// What somebody may approve, as `reach:hours` (`m` for minutes).
fn chosen(policies: &Arc<PolicySet>, user: &User, ask: &Ask) -> String {
    let choices = choices(policies, user, ask, PROVED);
    let one = |choice: &Choice| {
        format!(
            "{}:{}h",
            choice.reach.as_str(),
            choice.longest_seconds / 3_600
        )
    };
    choices.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn who_may_approve_what_and_for_how_long() {
    let policies = shipped();
    let in_team = |mut user: User, team: &str| {
        user.teams = [team.parse().unwrap()].into();
        user
    };
    let inactive = |mut user: User| {
        user.active = false;
        user
    };
    let all = |hours: u8| format!("once:{hours}h call:{hours}h command:{hours}h service:{hours}h");
    let write = ask(&agent(), &target("coolify/deploy", Risk::Write), 1);
    let destroy = ask(&agent(), &target("coolify/delete", Risk::Destroy), 2);
    let access = ask(&agent(), &target("coolify/service-access", Risk::Write), 1);
    let asked_by_dan = Ask {
        requester: Some("dan".parse().unwrap()),
        ..write.clone()
    };
    let approved_by_dan = Ask {
        approved_by: vec!["dan".parse().unwrap()],
        ..destroy.clone()
    };
    let nobody_s = Ask {
        target: Target {
            service: Arc::new(Service {
                owners: None,
                ..Service::clone(&write.target.service)
            }),
            ..write.target.clone()
        },
        ..write.clone()
    };
    let cases = [
        ("nobody", user("dan", &[]), &write, String::new()),
        ("viewer", user("dan", &["viewer"]), &write, String::new()),
        ("admin", user("dan", &["admin"]), &write, String::new()),
        ("approver", user("dan", &["approver"]), &write, all(8)),
        (
            "admin and approver",
            user("dan", &["admin", "approver"]),
            &write,
            all(8),
        ),
        ("security", user("dan", &["security"]), &write, all(24)),
        (
            "owning team",
            in_team(user("dan", &[]), "ops"),
            &write,
            all(1),
        ),
        (
            "another team",
            in_team(user("dan", &[]), "sales"),
            &write,
            String::new(),
        ),
        (
            "no owning team",
            in_team(user("dan", &[]), "ops"),
            &nobody_s,
            String::new(),
        ),
        (
            "inactive",
            inactive(user("dan", &["security"])),
            &write,
            String::new(),
        ),
        (
            "the agent's owner",
            user("olga", &["security"]),
            &write,
            String::new(),
        ),
        (
            "the requester",
            user("dan", &["security"]),
            &asked_by_dan,
            String::new(),
        ),
        (
            "destroy",
            user("dan", &["approver"]),
            &destroy,
            "once:8h call:8h command:8h".to_owned(),
        ),
        (
            "twice",
            user("dan", &["approver"]),
            &approved_by_dan,
            String::new(),
        ),
        (
            "the second one",
            user("sam", &["approver"]),
            &approved_by_dan,
            "once:8h call:8h command:8h".to_owned(),
        ),
        (
            "access to a service",
            user("dan", &["approver"]),
            &access,
            "service:8h".to_owned(),
        ),
    ];
    for (name, user, ask, expected) in cases {
        assert_eq!(chosen(&policies, &user, ask), expected, "{name}");
        // What may be chosen is what may be done.
        for reach in Reach::ALL {
            let longest = choices(&policies, &user, ask, PROVED)
                .into_iter()
                .find(|choice| choice.reach == reach);
            for duration in DURATIONS {
                let may = may_approve(&policies, &user, ask, reach, duration, PROVED);
                let expected =
                    longest.is_some_and(|choice| duration.as_secs() <= choice.longest_seconds);
                assert_eq!(
                    may.is_ok(),
                    expected,
                    "{name}, {reach:?}, {duration:?}: {may:?}"
                );
                assert!(may.err().is_none_or(|not| !not.advice.is_empty()), "{name}");
            }
        }
        // Whoever may approve may reject, and nobody else.
        assert_eq!(
            may_reject(&policies, &user, ask, NOON).is_ok(),
            !expected.is_empty(),
            "{name}"
        );
    }
}

#[test]
fn people_are_told_why_not() {
    let policies = shipped();
    let write = ask(&agent(), &target("coolify/deploy", Risk::Write), 1);
    let access = ask(&agent(), &target("coolify/service-access", Risk::Write), 1);
    let approve = |id: &str, roles: &[&str], ask: &Ask, reach, duration| {
        may_approve(&policies, &user(id, roles), ask, reach, duration, NOON).unwrap_err()
    };
    let owner = approve("olga", &["approver"], &write, Reach::Call, HOUR);
    assert_eq!(owner.policies, ["decide.not-the-owner"]);
    assert_eq!(
        owner.to_string(),
        "policy does not permit this: Somebody else must decide this: you answer for the agent that asks."
    );
    let long = approve("dan", &["approver"], &write, Reach::Call, 24 * HOUR);
    assert_eq!(long.advice, ["You may grant this for at most 8 hours."]);
    let no_role = approve("dan", &["viewer"], &write, Reach::Call, HOUR);
    assert_eq!(
        no_role.advice,
        ["None of your roles and teams gives you this right."]
    );
    let reach = approve("dan", &["security"], &access, Reach::Call, HOUR);
    assert_eq!(
        reach.advice,
        ["Access to a service can be granted for the whole service only."]
    );
    let nothing = approve("dan", &["security"], &write, Reach::Call, Duration::ZERO);
    assert_eq!(
        nothing.advice,
        ["A grant must live longer than no time at all."]
    );
    // Durations beside the usual ones are judged as they are.
    assert!(
        may_approve(
            &policies,
            &user("dan", &["approver"]),
            &write,
            Reach::Call,
            3 * HOUR,
            NOON
        )
        .is_ok()
    );
    assert!(
        may_approve(
            &policies,
            &user("dan", &["security"]),
            &write,
            Reach::Call,
            25 * HOUR,
            NOON
        )
        .is_err()
    );
}

#[test]
fn who_could_do_it_with_a_second_factor_is_told_so() {
    let policies = shipped();
    let destroy = ask(&agent(), &target("coolify/delete", Risk::Destroy), 2);
    let proved = |minutes| Presence {
        now: NOON,
        confirmed: Some(NOON.minus(Duration::from_mins(minutes))),
    };
    let approve = |id: &str, roles: &[&str], reach, at| {
        may_approve(&policies, &user(id, roles), &destroy, reach, HOUR, at)
    };
    assert_eq!(
        choices(&policies, &user("dan", &["approver"]), &destroy, NOON),
        []
    );
    for at in [Presence::from(NOON), proved(16)] {
        let not = approve("dan", &["approver"], Reach::Call, at).unwrap_err();
        assert_eq!(
            (not.policies.as_slice(), not.step_up),
            (
                ["approve.destroy-takes-a-second-factor".to_owned()].as_slice(),
                true
            )
        );
    }
    // Nor does a clock that was turned back keep anybody from what they proved.
    let later = Presence {
        now: NOON,
        confirmed: Some(NOON.plus(HOUR)),
    };
    for at in [proved(0), proved(15), later] {
        assert_eq!(approve("dan", &["approver"], Reach::Call, at), Ok(()));
    }
    // Whom it would not help is not asked for it.
    for (id, roles, reach) in [
        ("dan", ["viewer"], Reach::Call),
        ("olga", ["approver"], Reach::Call),
        ("dan", ["approver"], Reach::Service),
    ] {
        for at in [Presence::from(NOON), proved(0)] {
            let not = approve(id, &roles, reach, at).unwrap_err();
            assert!(!not.step_up, "{id} {roles:?} {reach:?}: {not:?}");
        }
    }
    // A policy set may ask for it before anything else, too.
    let strict = shipped_with(
        "@id(\"x\")\nforbid (principal is User, action in Action::\"administer\", resource)\nunless { context has mfa && context.mfa.age <= duration(\"5m\") };",
    );
    let admin = user("dan", &["admin"]);
    let manage = |at| may_administer(&strict, &admin, Administration::ManageUsers, at);
    assert!(manage(Presence::from(NOON)).unwrap_err().step_up);
    assert!(manage(proved(5)).is_ok());
}

#[test]
fn a_forbid_that_fails_stops_people_too() {
    let policies = shipped_with(
        "@id(\"x\")\nforbid (principal is User, action, resource is Escalation)\nwhen { resource.approvals * 9223372036854775807 > 1 };",
    );
    let ask = ask(&agent(), &target("coolify/delete", Risk::Destroy), 2);
    let dan = user("dan", &["approver"]);
    assert_eq!(choices(&policies, &dan, &ask, NOON), []);
    let not = may_reject(&policies, &dan, &ask, NOON).unwrap_err();
    assert_eq!(not.policies, ["x"]);
    assert!(not.advice[0].contains("could not be evaluated"), "{not:?}");
}

#[test]
fn who_may_revoke_and_administer() {
    use Administration::{ManageAgents, ManagePolicies, ManageUsers, View};
    let policies = shipped();
    let cases: [(&str, &[&str], bool, &[Administration]); 7] = [
        ("dan", &[], false, &[]),
        ("olga", &[], true, &[]),
        ("dan", &["viewer"], false, &[View]),
        ("dan", &["approver"], true, &[View]),
        (
            "dan",
            &["security"],
            true,
            &[View, ManageAgents, ManagePolicies],
        ),
        ("dan", &["admin"], true, &[View, ManageAgents, ManageUsers]),
        (
            "dan",
            &["admin", "security"],
            true,
            &[View, ManageAgents, ManageUsers, ManagePolicies],
        ),
    ];
    for (id, roles, revokes, administers) in cases {
        let mut user = user(id, roles);
        assert_eq!(
            may_revoke(&policies, &user, &agent(), NOON).is_ok(),
            revokes,
            "{id} {roles:?}"
        );
        for what in [View, ManageAgents, ManageUsers, ManagePolicies] {
            let may = may_administer(&policies, &user, what, NOON);
            assert_eq!(
                may.is_ok(),
                administers.contains(&what),
                "{id} {roles:?} {what:?}"
            );
        }
        user.active = false;
        let not = may_revoke(&policies, &user, &agent(), NOON).unwrap_err();
        assert_eq!(not.policies, ["people.active"], "{id} {roles:?}");
        assert!(
            may_administer(&policies, &user, View, NOON).is_err(),
            "{id} {roles:?}"
        );
    }
}

#[test]
fn access_to_a_service_is_the_service_for_writing() {
    let ask = ask(
        &agent(),
        &target("coolify/service-access", Risk::Destroy),
        1,
    );
    for reach in Reach::ALL {
        let (scope, risk, single_use) = ask.scope(reach);
        assert_eq!(
            (scope.key().as_str(), risk, single_use),
            ("coolify/*", Risk::Write, false)
        );
    }
}

/// What agents may do, by what they are, and what people may do, by role: one table
/// each, so that a change of policy shows in review as `yes` becoming `-`.
#[allow(clippy::too_many_lines, reason = "two tables")]
fn rights() -> String {
    use Administration::{ManageAgents, ManagePolicies, ManageUsers, View};
    use std::fmt::Write as _;

    let policies = shipped();
    let mut text = "What people may do, and which policy says no.\n\n".to_owned();
    // Columns as wide as their widest cell.
    let table = |rows: &[Vec<String>]| {
        let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap();
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let _ = write!(line, "{cell:0$}  ", width(column));
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    };
    let answer = |may: Result<(), NotPermitted>| match may {
        Ok(()) => "yes".to_owned(),
        Err(not) if not.policies.is_empty() => "-".to_owned(),
        Err(not) => not.policies.join(","),
    };
    let mut rows = vec![
        [
            "",
            "view",
            "manageAgents",
            "manageUsers",
            "managePolicies",
            "approve 1h",
            "approve 8h",
            "approve 24h",
            "approve destroy",
            "approve all (destroy)",
            "reject",
            "revoke",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    let inactive = |mut user: User| {
        user.active = false;
        user
    };
    let mut team = user("dan", &[]);
    team.teams = ["ops".parse().unwrap()].into();
    let people = [
        ("nobody", user("dan", &[])),
        ("viewer", user("dan", &["viewer"])),
        ("approver", user("dan", &["approver"])),
        ("security", user("dan", &["security"])),
        ("admin", user("dan", &["admin"])),
        ("owning team", team),
        ("agent's owner", user("olga", &["security", "admin"])),
        ("requester", user("rob", &["security", "admin"])),
        ("approved before", user("ann", &["security", "admin"])),
        ("inactive", inactive(user("dan", &["security", "admin"]))),
        ("unknown role", user("dan", &["emperor"])),
    ];
    for (name, user) in people {
        let asked = |key, risk, approvals| Ask {
            requester: Some("rob".parse().unwrap()),
            approved_by: vec!["ann".parse().unwrap()],
            ..ask(&agent(), &target(key, risk), approvals)
        };
        let write = asked("coolify/deploy", Risk::Write, 1);
        let destroy = asked("coolify/delete", Risk::Destroy, 2);
        let administer = |what| answer(may_administer(&policies, &user, what, NOON));
        let approve = |ask, reach, hours| {
            answer(may_approve(
                &policies,
                &user,
                ask,
                reach,
                hours * HOUR,
                PROVED,
            ))
        };
        rows.push(vec![
            name.to_owned(),
            administer(View),
            administer(ManageAgents),
            administer(ManageUsers),
            administer(ManagePolicies),
            approve(&write, Reach::Call, 1),
            approve(&write, Reach::Call, 8),
            approve(&write, Reach::Call, 24),
            approve(&destroy, Reach::Call, 1),
            approve(&destroy, Reach::Service, 1),
            answer(may_reject(&policies, &user, &write, NOON)),
            answer(may_revoke(&policies, &user, &agent(), NOON)),
        ]);
    }
    text.push_str(&table(&rows));

    text.push_str(
        "\nWhat agents may do without a grant; `1` and `2`: once so many people approve.\n\n",
    );
    let mut rows = vec![
        ["", "read", "write", "destroy", "list"]
            .map(str::to_owned)
            .to_vec(),
    ];
    let change = |change: fn(&mut Agent)| {
        let mut agent = agent();
        change(&mut agent);
        agent
    };
    let plain = || target("coolify/x", Risk::Read);
    let agents = [
        ("ordinary", change(|_| {}), plain()),
        (
            "reader",
            change(|agent| agent.roles = ["reader".parse().unwrap()].into()),
            plain(),
        ),
        (
            "own service",
            change(|agent| agent.allowed_mcps = ["coolify".parse().unwrap()].into()),
            plain(),
        ),
        (
            "own, untrusted",
            change(|agent| {
                agent.allowed_mcps = ["coolify".parse().unwrap()].into();
                agent.trust = 0;
            }),
            plain(),
        ),
        (
            "own, suspended",
            change(|agent| {
                agent.allowed_mcps = ["coolify".parse().unwrap()].into();
                agent.suspended = true;
            }),
            plain(),
        ),
        (
            "own, in staging",
            change(|agent| {
                agent.allowed_mcps = ["coolify".parse().unwrap()].into();
                agent.env = Environment::Staging;
            }),
            plain(),
        ),
        (
            "own, unpinned",
            change(|agent| agent.allowed_mcps = ["coolify".parse().unwrap()].into()),
            Target {
                pinned: false,
                ..plain()
            },
        ),
        (
            "approver",
            change(|agent| {
                agent.roles = [
                    "approver".parse().unwrap(),
                    "admin".parse().unwrap(),
                    "security".parse().unwrap(),
                ]
                .into();
            }),
            plain(),
        ),
    ];
    for (name, agent, target) in agents {
        let bot = principal(agent, Vec::new());
        let mut cells = vec![name.to_owned()];
        for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
            let command: Command = command(
                Target {
                    risk,
                    ..target.clone()
                },
                json!({}),
            );
            let decision = decided(&policies, &bot, &command, NOON);
            cells.push(match decision {
                crate::Decision::Permit(_) => "yes".to_owned(),
                crate::Decision::Refuse(refused) => match derive(
                    &slice(&policies, &command, Action::Invoke),
                    &slice(&policies, &command, Action::Escalate),
                    &bot,
                    &refused,
                    at(NOON),
                ) {
                    Escalation::Liftable { approvals, .. } => approvals.to_string(),
                    Escalation::Hard { policies, .. } => policies.join(","),
                },
            });
        }
        let command = command(target, json!({}));
        let listed = crate::decide::may_list(&slice(&policies, &command, Action::List), &bot, NOON);
        cells.push(if listed { "yes" } else { "-" }.to_owned());
        rows.push(cells);
    }
    text.push_str(&table(&rows));
    text
}

#[test]
fn rights_are_as_reviewed() {
    let found = rights();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/approval/rights.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &found).unwrap();
    }
    assert!(
        found == include_str!("rights.txt"),
        "the shipped policies give other rights than `rights.txt` says; if that is meant, run this test with UPDATE_GOLDEN=1 and review the difference\n{found}"
    );
}

/// What an approval by `dan` of this reach would do for a call with these arguments, of
/// which people were shown `shown`.
fn helps(
    policies: &Arc<PolicySet>,
    agent: Agent,
    target: &Target,
    (arguments, shown): (serde_json::Value, serde_json::Value),
    reach: Reach,
    second_to_come: bool,
) -> Result<(), NotPermitted> {
    let exact = command(target.clone(), arguments);
    let shown = command(target.clone(), shown);
    let ask = Ask {
        digest: exact.arguments.digest().clone(),
        ..ask(&agent, target, 1)
    };
    let (scope, risk, single_use) = ask.scope(reach);
    let grant = crate::Grant {
        single_use,
        ..grant(agent.id, scope, risk)
    };
    let facts = crate::Facts {
        agent,
        grants: Vec::new(),
        version: 1,
    };
    let proposed = Proposed {
        ask: &ask,
        arguments: shown.arguments.values(),
        facts: &facts,
        grant: &grant,
        second_to_come,
    };
    would_help(policies, &proposed, at(NOON))
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn an_approval_helps_only_if_the_call_would_be_permitted() {
    let shipped = shipped();
    let never = shipped_with(
        "@id(\"wall.never\")\n@advice(\"Not at all.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command);",
    );
    let not_prod = shipped_with(
        "@id(\"wall.web\")\n@advice(\"Never the web server.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nwhen { context.args.text.hasTag(\"server\") && context.args.text.getTag(\"server\") == \"web\" };",
    );
    let write = target("coolify/deploy", Risk::Write);
    let destroy = target("coolify/delete", Risk::Destroy);
    let suspended = Agent {
        suspended: true,
        ..agent()
    };
    let same = |arguments: serde_json::Value| (arguments.clone(), arguments);
    let cases = [
        (
            "this call",
            &shipped,
            agent(),
            &write,
            same(json!({"server": "a"})),
            Reach::Call,
            false,
            Ok(()),
        ),
        (
            "once",
            &shipped,
            agent(),
            &write,
            same(json!({})),
            Reach::Once,
            false,
            Ok(()),
        ),
        (
            "service",
            &shipped,
            agent(),
            &write,
            same(json!({})),
            Reach::Service,
            false,
            Ok(()),
        ),
        (
            "one where two are needed",
            &shipped,
            agent(),
            &destroy,
            same(json!({})),
            Reach::Call,
            false,
            Err("wall.destroy-needs-two"),
        ),
        (
            "the first of two",
            &shipped,
            agent(),
            &destroy,
            same(json!({})),
            Reach::Call,
            true,
            Ok(()),
        ),
        (
            "suspended since",
            &shipped,
            suspended,
            &write,
            same(json!({})),
            Reach::Call,
            false,
            Err("guard.suspended-agent"),
        ),
        (
            "forbidden since",
            &never,
            agent(),
            &write,
            same(json!({})),
            Reach::Call,
            false,
            Err("wall.never"),
        ),
        (
            "these arguments",
            &not_prod,
            agent(),
            &write,
            same(json!({"server": "web"})),
            Reach::Command,
            false,
            Err("wall.web"),
        ),
        (
            "other arguments",
            &not_prod,
            agent(),
            &write,
            same(json!({"server": "db"})),
            Reach::Command,
            false,
            Ok(()),
        ),
        (
            "the call is known by its exact arguments",
            &shipped,
            agent(),
            &write,
            (
                json!({"token": "hunter2"}),
                json!({"token": crate::redact::REDACTED}),
            ),
            Reach::Call,
            false,
            Ok(()),
        ),
        (
            "a secret elsewhere hides no wall",
            &not_prod,
            agent(),
            &write,
            (
                json!({"server": "web", "token": "x"}),
                json!({"server": "web", "token": crate::redact::REDACTED}),
            ),
            Reach::Call,
            false,
            Err("wall.web"),
        ),
    ];
    for (name, policies, agent, target, arguments, reach, second, expected) in cases {
        let answer = helps(policies, agent, target, arguments, reach, second);
        match (answer, expected) {
            (Ok(()), Ok(())) => {}
            (
                Err(NotPermitted {
                    policies, advice, ..
                }),
                Err(policy),
            ) => {
                assert_eq!(policies, [policy], "{name}");
                assert!(!advice.is_empty(), "{name}");
            }
            (answer, expected) => panic!("{name}: {answer:?} and not {expected:?}"),
        }
    }
}

#[test]
fn what_cannot_be_told_without_a_secret_is_left_to_the_call_itself() {
    // The policy fails for a large number.
    let failing = shipped_with(
        "@id(\"wall.sum\")\n@advice(\"Not so many.\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nwhen { context.args.number.hasTag(\"n\") && context.args.number.getTag(\"n\") + 1 > 100 };",
    );
    let write = target("coolify/deploy", Risk::Write);
    let helps = |arguments| helps(&failing, agent(), &write, arguments, Reach::Call, false);
    let large = json!({"n": i64::MAX});
    assert_eq!(
        helps((large.clone(), large)).unwrap_err().policies,
        ["wall.sum"]
    );
    let exact = json!({"n": i64::MAX, "token": "hunter2"});
    let shown = json!({"n": i64::MAX, "token": crate::redact::REDACTED});
    assert_eq!(helps((exact, shown)), Ok(()));
}
