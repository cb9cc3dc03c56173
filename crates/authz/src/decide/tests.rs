use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    Risk,
    approval::{self, Choice, Escalation, Reach},
    fixtures::*,
};

#[test]
fn the_demo_story() {
    let policies = shipped();
    let mut agent = agent();
    agent.allowed_mcps = ["github".parse().unwrap()].into();
    let coolify = command(target("coolify/list-servers", Risk::Read), json!({}));
    let github = command(
        target("github/create-issue", Risk::Write),
        json!({"title": "x"}),
    );

    let bot = principal(agent.clone(), Vec::new());
    assert_eq!(
        permit(decided(&policies, &bot, &github, NOON)).policies(),
        ["standing.allowed-services"]
    );

    let refused = refusal(decided(&policies, &bot, &coolify, NOON));
    assert_eq!(
        (
            refused.policies.len(),
            refused.errors.len(),
            refused.policy_error
        ),
        (0, 0, false)
    );
    let escalation = approval::derive(
        &slice(&policies, &coolify, Action::Invoke),
        &slice(&policies, &coolify, Action::Escalate),
        &bot,
        &refused,
        at(NOON),
    );
    assert_eq!(
        escalation,
        Escalation::Liftable {
            approvals: 1,
            workflow: Some("owner".to_owned()),
            policies: vec!["grant.call".to_owned()],
        }
    );

    let ask = ask(&agent, &coolify.target, 1);
    let ada = user("ada", &["admin", "approver"]);
    let choices = approval::choices(&policies, &ada, &ask, NOON);
    assert_eq!(
        choices,
        Reach::ALL.map(|reach| Choice {
            reach,
            longest_seconds: 8 * 3_600
        })
    );

    let (scope, risk, _) = ask.scope(Reach::Call);
    let grant = grant(agent.id, scope, risk);
    let bot = principal(agent, vec![grant.clone()]);
    let permit = permit(decided(&policies, &bot, &coolify, NOON));
    assert_eq!(permit.policies(), ["grant.call"]);
    assert_eq!(
        permit.grant(),
        Some(UsedGrant {
            id: grant.id,
            single_use: false
        })
    );
}

/// How a decision went, in one word or the policies that made it.
fn outcome(decision: Decision) -> String {
    match decision {
        Decision::Permit(permit) => format!("permit {}", permit.policies().join(" ")),
        Decision::Refuse(refused) => format!("refuse {}", refused.policies.join(" "))
            .trim_end()
            .to_owned(),
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn guards_walls_and_standing_access() {
    let policies = shipped();
    let change = |change: fn(&mut crate::Agent)| {
        let mut agent = agent();
        agent.allowed_mcps = ["github".parse().unwrap()].into();
        change(&mut agent);
        agent
    };
    let of = |key, risk, change: fn(&mut crate::Target)| {
        let mut target = target(key, risk);
        change(&mut target);
        target
    };
    let dev = |target: &mut crate::Target| {
        let mut service = crate::Service::clone(&target.service);
        service.env = crate::command::Environment::Dev;
        target.service = service.into();
    };
    let reader = |agent: &mut crate::Agent| agent.roles = ["reader".parse().unwrap()].into();
    let allowed = |_: &mut crate::Agent| {};
    let local = |agent: &mut crate::Agent| {
        agent.id = AgentId::LOCAL;
        agent.name = "local".parse().unwrap();
        agent.owner = None;
        agent.roles = ["reader".parse().unwrap()].into();
        agent.allowed_mcps = [].into();
    };
    let suspended = |agent: &mut crate::Agent| agent.suspended = true;
    let distrusted = |agent: &mut crate::Agent| {
        agent.trust = 0;
        agent.roles = ["reader".parse().unwrap()].into();
    };
    let plain = |_: &mut crate::Target| {};
    let unpinned = |target: &mut crate::Target| target.pinned = false;
    let cases = [
        (
            "local reads",
            change(local),
            of("coolify/list-servers", Risk::Read, plain),
            "permit standing.reader",
        ),
        (
            "local does not write",
            change(local),
            of("coolify/restart", Risk::Write, plain),
            "refuse",
        ),
        (
            "a reader reads elsewhere",
            change(reader),
            of("coolify/list-servers", Risk::Read, dev),
            "permit standing.reader",
        ),
        (
            "a reader reads what it may write",
            change(reader),
            of("github/list", Risk::Read, plain),
            "permit standing.allowed-services standing.reader",
        ),
        (
            "an unpinned command",
            change(reader),
            of("coolify/x", Risk::Read, unpinned),
            "refuse guard.unpinned-command",
        ),
        (
            "an allowed service, read",
            change(allowed),
            of("github/list", Risk::Read, plain),
            "permit standing.allowed-services",
        ),
        (
            "an allowed service, write",
            change(allowed),
            of("github/create", Risk::Write, plain),
            "permit standing.allowed-services",
        ),
        (
            "an allowed service, destroy",
            change(allowed),
            of("github/delete", Risk::Destroy, plain),
            "refuse wall.destroy-needs-two",
        ),
        (
            "an allowed service elsewhere, write",
            change(allowed),
            of("github/create", Risk::Write, dev),
            "refuse guard.env-crossing",
        ),
        (
            "an allowed service elsewhere, destroy",
            change(allowed),
            of("github/delete", Risk::Destroy, dev),
            "refuse guard.env-crossing wall.destroy-needs-two",
        ),
        (
            "another service",
            change(allowed),
            of("coolify/list-servers", Risk::Read, plain),
            "refuse",
        ),
        (
            "suspended",
            change(suspended),
            of("github/list", Risk::Read, plain),
            "refuse guard.suspended-agent",
        ),
        (
            "not trusted",
            change(distrusted),
            of("github/list", Risk::Read, plain),
            "refuse",
        ),
    ];
    for (name, agent, target, expected) in cases {
        let command = command(target, json!({}));
        let decision = decided(&policies, &principal(agent, Vec::new()), &command, NOON);
        assert_eq!(outcome(decision), expected, "{name}");
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn what_grants_are_worth() {
    type Change = fn(&mut Grant);
    let policies = shipped();
    let call = command(target("coolify/deploy", Risk::Write), json!({"uuid": "a"}));
    let other = command(target("coolify/deploy", Risk::Write), json!({"uuid": "b"}));
    let delete = command(
        target("coolify/delete", Risk::Destroy),
        json!({"uuid": "a"}),
    );
    let scope = |reach, command: &Command| {
        let mut ask = ask(&agent(), &command.target, 1);
        ask.digest = command.arguments.digest().clone();
        ask.scope(reach).0
    };
    let (this, any, service) = (
        scope(Reach::Call, &call),
        scope(Reach::Command, &call),
        scope(Reach::Service, &call),
    );
    let (delete_this, delete_any) = (scope(Reach::Call, &delete), scope(Reach::Command, &delete));
    let as_is: Change = |_| {};
    let two: Change = |grant| grant.second = Some("sam".parse().unwrap());
    let one_twice: Change = |grant| grant.second = Some("dan".parse().unwrap());
    let read_only: Change = |grant| grant.risk = Risk::Read;
    let long: Change = |grant| grant.expires = NOON.plus(24 * HOUR + Duration::from_millis(1));
    let a_day: Change = |grant| grant.expires = NOON.plus(24 * HOUR);
    let another_agent: Change = |grant| grant.agent = AgentId::LOCAL;
    let milli = Duration::from_millis(1);
    let cases = [
        (
            "no time has passed",
            &this,
            as_is,
            &call,
            NOON,
            "permit grant.call",
        ),
        (
            "just before it is issued",
            &this,
            as_is,
            &call,
            NOON.minus(milli),
            "refuse",
        ),
        (
            "just before it expires",
            &this,
            as_is,
            &call,
            NOON.plus(HOUR).minus(milli),
            "permit grant.call",
        ),
        (
            "the instant that it expires",
            &this,
            as_is,
            &call,
            NOON.plus(HOUR),
            "refuse",
        ),
        ("other arguments", &this, as_is, &other, NOON, "refuse"),
        (
            "any arguments",
            &any,
            as_is,
            &other,
            NOON,
            "permit grant.command",
        ),
        (
            "a command's expires too",
            &any,
            as_is,
            &other,
            NOON.plus(HOUR),
            "refuse",
        ),
        (
            "another command",
            &any,
            as_is,
            &delete,
            NOON,
            "refuse wall.destroy-needs-two",
        ),
        (
            "the service",
            &service,
            as_is,
            &other,
            NOON,
            "permit grant.service",
        ),
        (
            "a service's expires too",
            &service,
            as_is,
            &other,
            NOON.plus(HOUR),
            "refuse",
        ),
        (
            "approved for reading",
            &service,
            read_only,
            &other,
            NOON,
            "refuse",
        ),
        (
            "approved for reading, one call",
            &this,
            read_only,
            &call,
            NOON,
            "refuse",
        ),
        (
            "a day",
            &any,
            a_day,
            &call,
            NOON.plus(23 * HOUR),
            "permit grant.command",
        ),
        ("more than a day", &any, long, &call, NOON, "refuse"),
        (
            "more than a day, one call",
            &this,
            long,
            &call,
            NOON,
            "refuse",
        ),
        (
            "more than a day, the service",
            &service,
            long,
            &call,
            NOON,
            "refuse",
        ),
        (
            "another agent's",
            &any,
            another_agent,
            &call,
            NOON,
            "refuse",
        ),
        (
            "one approval does not destroy",
            &delete_this,
            as_is,
            &delete,
            NOON,
            "refuse wall.destroy-needs-two",
        ),
        (
            "nor does one person's twice",
            &delete_this,
            one_twice,
            &delete,
            NOON,
            "refuse wall.destroy-needs-two",
        ),
        (
            "two do",
            &delete_this,
            two,
            &delete,
            NOON,
            "permit grant.call",
        ),
        (
            "two do, by command",
            &delete_any,
            two,
            &delete,
            NOON,
            "permit grant.command",
        ),
        (
            "two do not once expired",
            &delete_this,
            two,
            &delete,
            NOON.plus(HOUR),
            "refuse wall.destroy-needs-two",
        ),
        (
            "two do not by service",
            &service,
            two,
            &delete,
            NOON,
            "refuse wall.destroy-needs-two",
        ),
    ];
    for (name, scope, change, command, now, expected) in cases {
        let mut grant = grant(agent().id, scope.clone(), command.target.risk);
        change(&mut grant);
        let decision = decided(&policies, &principal(agent(), vec![grant]), command, now);
        assert_eq!(outcome(decision), expected, "{name}");
    }
}

#[test]
fn the_grant_that_a_permit_rests_on() {
    let policies = shipped();
    let command = command(target("coolify/deploy", Risk::Write), json!({}));
    let ask = ask(&agent(), &command.target, 1);
    let grants = |reaches: &[Reach]| -> Vec<Grant> {
        let of = |&reach: &Reach| {
            let (scope, risk, single_use) = ask.scope(reach);
            Grant {
                single_use,
                ..grant(agent().id, scope, risk)
            }
        };
        reaches.iter().map(of).collect()
    };
    let cases: [(&str, &[Reach], Option<usize>); 8] = [
        ("none", &[], None),
        ("one call, once", &[Reach::Once], Some(0)),
        ("one call", &[Reach::Call], Some(0)),
        ("the service", &[Reach::Service], Some(0)),
        ("the narrowest", &[Reach::Service, Reach::Command], Some(1)),
        (
            "the narrowest of three",
            &[Reach::Service, Reach::Call, Reach::Command],
            Some(1),
        ),
        (
            "not the one that would be spent",
            &[Reach::Once, Reach::Service],
            Some(1),
        ),
        (
            "nor under the same key",
            &[Reach::Once, Reach::Call],
            Some(1),
        ),
    ];
    for (name, reaches, expected) in cases {
        let grants = grants(reaches);
        let bot = principal(agent(), grants.clone());
        let used = match decided(&policies, &bot, &command, NOON) {
            Decision::Permit(permit) => permit.grant(),
            Decision::Refuse(_) => None,
        };
        let expected = expected.map(|at| UsedGrant {
            id: grants[at].id,
            single_use: grants[at].single_use,
        });
        assert_eq!(used, expected, "{name}");
    }

    // What it may do anyway rests on no grant, and spends none.
    let mut allowed = agent();
    allowed.allowed_mcps = ["coolify".parse().unwrap()].into();
    let bot = principal(allowed, grants(&[Reach::Once]));
    assert_eq!(
        permit(decided(&policies, &bot, &command, NOON)).grant(),
        None
    );

    // Nor does what a policy permits that looks at grants and may do without.
    for condition in [
        "principal.hasTag(context.callKey) || principal.trust >= 1",
        "!principal.hasTag(resource.serviceKey)",
        "if principal.hasTag(resource.key) then false else true",
    ] {
        let loose = shipped_with(&format!(
            "@id(\"loose.permit\")\npermit (principal is Agent, action in Action::\"write\", resource is Command)\nwhen {{ {condition} }};"
        ));
        let bot = principal(agent(), grants(&[Reach::Once]));
        let used = permit(decided(&loose, &bot, &command, NOON)).grant();
        assert_eq!(used, None, "{condition}");
    }

    // Where it takes two grants together, the one for a single use is spent.
    let wall = shipped_with(
        "@id(\"wall.both\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nunless { principal.hasTag(context.callKey) && principal.hasTag(resource.serviceKey) };",
    );
    let both = grants(&[Reach::Once, Reach::Service]);
    let bot = principal(agent(), both.clone());
    let used = permit(decided(&wall, &bot, &command, NOON)).grant();
    assert_eq!(
        used,
        Some(UsedGrant {
            id: both[0].id,
            single_use: true
        })
    );
}

#[test]
fn of_grants_under_one_key_the_strongest_counts() {
    let policies = shipped();
    let command = command(target("coolify/delete", Risk::Destroy), json!({}));
    let (scope, risk, _) = ask(&agent(), &command.target, 2).scope(Reach::Call);
    let weak = Grant {
        expires: NOON.plus(9 * HOUR),
        ..grant(agent().id, scope, risk)
    };
    let strong = Grant {
        second: Some("sam".parse().unwrap()),
        ..grant(agent().id, weak.scope.clone(), risk)
    };
    for grants in [
        vec![weak.clone(), strong.clone()],
        vec![strong.clone(), weak.clone()],
    ] {
        let used = permit(decided(
            &policies,
            &principal(agent(), grants),
            &command,
            NOON,
        ))
        .grant();
        assert_eq!(used.map(|grant| grant.id), Some(strong.id));
    }
}

#[test]
fn an_error_in_a_forbid_refuses_and_one_in_a_permit_grants_nothing() {
    let forbid = |condition: &str| {
        shipped_with(&format!(
            "@id(\"x.forbid\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {condition} }};"
        ))
    };
    let mut reader = agent();
    reader.roles = ["reader".parse().unwrap()].into();
    let bot = principal(reader, Vec::new());
    let secret = "hunter2";
    let arguments = json!({"amount": i64::MAX, "fraction": secret});
    let command = command(target("coolify/list-servers", Risk::Read), arguments);

    // All of these are strictly valid.
    let overflow =
        "context.args.number.hasTag(\"amount\") && context.args.number.getTag(\"amount\") * 2 > 10";
    let extension = "context.args.text.hasTag(\"fraction\") && decimal(\"1.0\").lessThan(decimal(\"2.0\")) && context.args.number.getTag(\"missing\") > 1";
    let missing_entity = "principal has owner && principal.owner.active";
    for (name, condition) in [("overflow", overflow), ("missing entity", missing_entity)] {
        let refused = refusal(decided(&forbid(condition), &bot, &command, NOON));
        assert!(refused.policy_error, "{name}");
        assert_eq!(refused.policies, ["x.forbid"], "{name}");
        assert_eq!(refused.errors.len(), 1, "{name}");
        assert_eq!(refused.errors[0].policy, "x.forbid", "{name}");
        assert!(!refused.advice.is_empty(), "{name}");
        let message = &refused.errors[0].message;
        assert!(
            !message.contains(secret) && !message.contains("9223372036854775807"),
            "{message}"
        );
        let hard = approval::derive(
            &Slice::new(&forbid(condition), &command.target, Action::Invoke),
            &Slice::new(&forbid(condition), &command.target, Action::Escalate),
            &bot,
            &refused,
            at(NOON),
        );
        assert!(
            matches!(hard, Escalation::Hard { policies, .. } if policies == ["x.forbid"]),
            "{name}"
        );
    }
    // A tag without `hasTag` before it never gets so far.
    let unguarded = only(&format!(
        "@id(\"x\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {extension} }};"
    ));
    assert!(PolicySet::load(&unguarded).is_err());

    let permits = shipped_with(&format!(
        "@id(\"x.permit\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {overflow} }};"
    ));
    assert_eq!(
        permit(decided(&permits, &bot, &command, NOON)).policies(),
        ["standing.reader"]
    );
    let refused = refusal(decided(
        &permits,
        &principal(agent(), Vec::new()),
        &command,
        NOON,
    ));
    assert_eq!(
        (
            refused.policy_error,
            refused.errors.len(),
            refused.policies.len()
        ),
        (false, 1, 0)
    );
}

#[test]
fn the_deepest_expression_that_loads_fits_the_stack() {
    let condition = vec!["principal.suspended"; 110].join(" || ");
    let policies = shipped_with(&format!(
        "@id(\"x\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {condition} }};"
    ));
    let command = command(target("coolify/list-servers", Risk::Read), json!({}));
    let small = std::thread::Builder::new().stack_size(8 * 1024 * 1024);
    let refused = small.spawn(move || {
        refusal(decided(
            &policies,
            &principal(agent(), Vec::new()),
            &command,
            NOON,
        ))
    });
    assert_eq!(refused.unwrap().join().unwrap().errors, []);
}

#[test]
fn addresses_are_seen_whatever_their_form() {
    let policies = load(&only(
        "@id(\"x\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { context.ip.isInRange(ip(\"10.0.0.0/8\")) || context.ip.isInRange(ip(\"fd00::/8\")) };",
    ));
    let command = command(target("coolify/list-servers", Risk::Read), json!({}));
    let slice = slice(&policies, &command, Action::Invoke);
    for (ip, expected) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        ("11.1.2.3", false),
        ("fd00::1", true),
        ("::10.1.2.3", false),
        ("::1", false),
    ] {
        let at = Circumstances::new(NOON, ip.parse().unwrap());
        match decide(&slice, &principal(agent(), Vec::new()), command.clone(), at) {
            Decision::Permit(_) => assert!(expected, "{ip}"),
            Decision::Refuse(refused) => {
                assert!(!expected, "{ip}");
                assert_eq!(refused.errors, [], "{ip}");
            }
        }
    }
}

#[test]
fn a_slice_of_something_else_refuses() {
    let policies = shipped();
    let mut reader = agent();
    reader.roles = ["reader".parse().unwrap()].into();
    let bot = principal(reader, Vec::new());
    let this = command(target("coolify/list-servers", Risk::Read), json!({}));
    let other = command(target("coolify/delete", Risk::Destroy), json!({}));
    for slice in [
        slice(&policies, &this, Action::List),
        slice(&policies, &other, Action::Invoke),
    ] {
        let refused = refusal(decide(&slice, &bot, this.clone(), at(NOON)));
        assert!(
            refused.policy_error && refused.errors[0].message.contains("slice"),
            "{refused:?}"
        );
    }
    assert!(!may_list(
        &slice(&policies, &this, Action::Invoke),
        &bot,
        NOON
    ));
}

#[test]
fn agents_see_what_exists_unless_suspended() {
    let policies = shipped();
    let command = command(target("coolify/delete", Risk::Destroy), json!({}));
    let list = slice(&policies, &command, Action::List);
    assert!(may_list(&list, &principal(agent(), Vec::new()), NOON));
    let suspended = crate::Agent {
        suspended: true,
        ..agent()
    };
    assert!(!may_list(&list, &principal(suspended, Vec::new()), NOON));
}

#[test]
fn more_arguments_than_policies_can_be_told_refuse() {
    let mut allowed = agent();
    allowed.allowed_mcps = ["github".parse().unwrap()].into();
    let bot = principal(allowed, Vec::new());
    let many = |count: usize| {
        (0..count)
            .map(|n| (format!("a{n}"), json!(n)))
            .collect::<serde_json::Map<_, _>>()
    };
    let policies = shipped();
    let command = |count| command(target("github/create", Risk::Write), many(count).into());
    permit(decided(
        &policies,
        &bot,
        &command(arguments::MAX_VALUES),
        NOON,
    ));
    let refused = refusal(decided(
        &policies,
        &bot,
        &command(arguments::MAX_VALUES + 1),
        NOON,
    ));
    assert!(
        refused.misfit && refused.errors[0].message.contains("1025 arguments"),
        "{refused:?}"
    );
}

/// Strict validation lets none of these load. If one came through all the same, by a
/// fault of Cedar's validator or of ours, it must not open a door.
#[test]
fn what_cedar_itself_would_let_through() {
    let deep = vec!["principal.suspended"; 1_900].join(" || ");
    let cases = [
        ("missing attribute", "principal.nickname == \"x\"", false),
        (
            "missing attribute of an optional kind",
            "resource.service.owners in Team::\"x\"",
            false,
        ),
        ("missing tag", "principal.getTag(\"none\").risk > 0", false),
        ("missing entity", "principal.owner.active", false),
        ("missing context", "context.user == \"x\"", false),
        (
            "wrong type",
            "principal.trust == principal.trust && principal.name > 1",
            false,
        ),
        ("wrong type of a condition", "principal.trust", false),
        (
            "wrong extension value",
            "ip(principal.name).isLoopback()",
            false,
        ),
        ("recursion limit", &*deep, false),
        (
            "integer overflow",
            "principal.trust + 9223372036854775807 > 0",
            true,
        ),
        (
            "negation of the least integer",
            "-(principal.trust - 9223372036854775807 - 2) > 0",
            true,
        ),
    ];
    let mut reader = agent();
    reader.roles = ["reader".parse().unwrap()].into();
    let mut target = target("coolify/list-servers", Risk::Read);
    target.service = Arc::new(crate::Service {
        owners: None,
        ..crate::Service::clone(&target.service)
    });
    let command = command(target, json!({}));
    // Parsing and dropping the deepest takes more stack than a test has.
    let big = std::thread::Builder::new().stack_size(512 * 1024 * 1024);
    let cases = cases.map(|(name, condition, loads)| (name, condition.to_owned(), loads));
    big.spawn(move || {
        for (name, condition, loads) in &cases {
            let with = |effect: &str| {
                let mut sources = shipped_sources();
                let standing = "@id(\"standing\")\npermit (principal in Role::\"reader\", action in Action::\"read\", resource);\n";
                let text = format!("{standing}@id(\"x\")\n{effect} (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {condition} }};");
                sources.policies = vec![crate::Source { name: "a.cedar".to_owned(), text }];
                sources
            };
            let loaded = PolicySet::load(&with("forbid")).is_ok();
            assert_eq!(loaded, *loads, "{name}");

            let decision = |effect| {
                let policies = Arc::new(PolicySet::unchecked(&with(effect)));
                let bot = principal(reader.clone(), Vec::new());
                let (policies, command) = (&policies, &command);
                std::thread::scope(|scope| {
                    let small = std::thread::Builder::new().stack_size(1024 * 1024);
                    let decided = small.spawn_scoped(scope, || decided(policies, &bot, command, NOON));
                    decided.unwrap().join().unwrap()
                })
            };
            let Decision::Refuse(refused) = decision("forbid") else {
                panic!("{name}: permitted");
            };
            assert!(refused.policy_error, "{name}: {refused:?}");
            assert_eq!(refused.policies, ["x"], "{name}");
            assert_eq!(refused.errors.len(), 1, "{name}");
            let permit = permit(decision("permit"));
            assert_eq!(permit.policies(), ["standing"], "{name}");
        }
    })
    .unwrap()
    .join()
    .unwrap();
}

#[test]
fn another_agents_memory_takes_a_grant_for_this_very_command() {
    let policies = shipped();
    let mut shared = target("mem0/search-shared", Risk::Read);
    shared.zones = ["shared-memory".parse().unwrap()].into();
    let bot = crate::Agent {
        allowed_mcps: ["mem0".parse().unwrap()].into(),
        ..agent()
    };
    let command = command(shared, json!({"agent": "other"}));
    let with = |scope: Option<Scope>| {
        let grants = scope.map(|scope| grant(bot.id, scope, Risk::Read));
        let bot = principal(bot.clone(), grants.into_iter().collect());
        decided(&policies, &bot, &command, NOON)
    };
    let key = &command.target.key;
    let of_service = Scope::Service {
        service: key.service.clone(),
    };
    for scope in [None, Some(of_service)] {
        let refused = refusal(with(scope));
        assert_eq!(refused.policies, ["memory.shared-by-grant"]);
    }
    permit(with(Some(Scope::Command {
        command: key.clone(),
    })));
}

#[test]
fn every_guard_and_wall_is_tested_by_name() {
    // A new forbid without a case of its own shows here.
    let tests = [
        include_str!("tests.rs"),
        include_str!("../approval/tests.rs"),
        include_str!("../approval/rights.txt"),
        include_str!("../session/tests.rs"),
    ]
    .concat();
    let policies = shipped();
    for id in policies.ids() {
        if policies.notes(id).is_none_or(|notes| !notes.forbids) {
            continue;
        }
        assert!(tests.contains(id), "no test mentions {id}");
    }
}
