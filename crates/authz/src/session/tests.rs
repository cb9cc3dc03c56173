use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{
    Action, Circumstances, Command, Decision, PolicySet, PolicySources, Risk, Slice,
    approval::{Escalation, derive},
    decide,
    explain::explain,
    fixtures::*,
    run_tests::CedarQuestion,
    typed,
};

const PERMIT: &str = "@id(\"all\")\npermit (principal is Agent, action in [Action::\"invoke\", Action::\"escalate\", Action::\"list\"], resource is Command)\nwhen { principal.trust > 0 };\n";

/// A forbid, beside the permit of everything.
fn forbidding(action: &str, condition: &str) -> PolicySources {
    only(&format!(
        "{PERMIT}@id(\"wall\")\nforbid (principal is Agent, action in Action::\"{action}\", resource is Command)\n{condition};\n"
    ))
}

/// The schema as it was before there were sessions.
fn old(mut sources: PolicySources) -> PolicySources {
    let text = &mut sources.schema.text;
    let from = text.find("type Session").unwrap();
    let to = from + text[from..].find("};").unwrap() + 2;
    text.replace_range(from..to, "");
    let member = "  session: Session,\n";
    assert!(text.contains(member));
    *text = text.replace(member, "");
    sources
}

fn refused(sources: &PolicySources) -> String {
    let findings = PolicySet::load(sources).unwrap_err();
    let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
    findings.join("\n")
}

fn call(risk: Risk) -> Command {
    command(target("coolify/probe", risk), json!({"uuid": "a"}))
}

fn within(session: Session) -> Circumstances {
    Circumstances {
        session,
        ..at(NOON)
    }
}

fn permitted(set: &Arc<PolicySet>, risk: Risk, session: Session) -> bool {
    let command = call(risk);
    let slice = slice(set, &command, Action::Invoke);
    let bot = principal(agent(), Vec::new());
    matches!(
        decide(&slice, &bot, command, within(session)),
        Decision::Permit(_)
    )
}

#[test]
fn policies_look_at_the_session_of_a_call() {
    let id: AgentSessionId = "ses_0193a1b2c3d4e5f60718293a4b5c6d7e".parse().unwrap();
    let session = Session {
        id,
        started: NOON,
        calls: 3,
        tainted: false,
    };
    let hour_ago = Timestamp::from_millis(NOON.as_millis() - 3_600_000);
    let later = NOON.plus(HOUR);
    let cases = [
        ("context.session.tainted", session, true),
        (
            "context.session.tainted",
            Session {
                tainted: true,
                ..session
            },
            false,
        ),
        ("context.session.calls >= 4", session, true),
        (
            "context.session.calls >= 4",
            Session {
                calls: 4,
                ..session
            },
            false,
        ),
        (
            "context.session.calls < 4294967295",
            Session {
                calls: u32::MAX,
                ..session
            },
            true,
        ),
        (
            "context.now.durationSince(context.session.startedAt) >= duration(\"1h\")",
            session,
            true,
        ),
        (
            "context.now.durationSince(context.session.startedAt) >= duration(\"1h\")",
            Session {
                started: hour_ago,
                ..session
            },
            false,
        ),
        // A clock that went back makes no session of the future.
        (
            "context.session.startedAt > context.now",
            Session {
                started: later,
                ..session
            },
            true,
        ),
        (
            "context.session.id == \"ses_0193a1b2c3d4e5f60718293a4b5c6d7e\"",
            session,
            false,
        ),
        (
            "context.session.id like \"ses_*\"",
            Session::fresh(NOON),
            false,
        ),
        ("context.session.id == \"\"", Session::fresh(NOON), true),
    ];
    for (condition, session, expected) in cases {
        let set = load(&forbidding("write", &format!("when {{ {condition} }}")));
        assert_eq!(
            permitted(&set, Risk::Write, session),
            expected,
            "{condition} of {session:?}"
        );
    }
}

/// What is not told costs nothing, and must not be missed.
#[test]
fn of_a_session_is_told_what_some_policy_may_look_at() {
    let told = |sources: &PolicySources, risk| {
        let set = load(sources);
        let command = call(risk);
        slice(&set, &command, Action::Invoke).looks_at_session()
    };
    let tainted_and_calls = Parts::TAINTED.and(Parts::CALLS);
    for (condition, expected) in [
        ("when { context.session.tainted }", Parts::TAINTED),
        (
            "unless { resource.risk < 1 || !context.session.tainted }",
            Parts::TAINTED,
        ),
        (
            "when { context.session.tainted } unless { context.session.calls < 3 }",
            tainted_and_calls,
        ),
        (
            "when { if context.session.tainted then true else context.session.calls > 3 }",
            tainted_and_calls,
        ),
        ("when { [context.session.calls].contains(3) }", Parts::CALLS),
        ("when { context.session.id like \"ses_*\" }", Parts::ID),
        (
            "when { context.session.startedAt < context.now }",
            Parts::STARTED,
        ),
        // The whole of it is looked at.
        ("when { {a: context.session}.a.tainted }", Parts::ALL),
        (
            "when { (if resource.pinned then context.session else context.session).calls > 3 }",
            Parts::ALL,
        ),
        (
            "when { (if resource.pinned then context else context).callKey like \"x*\" }",
            Parts::ALL,
        ),
        (
            "when { context.args.text.hasTag(context.callKey) }",
            Parts::NONE,
        ),
        (
            "when { context.ip.isIpv6() && context.now > datetime(\"2025-01-01\") }",
            Parts::NONE,
        ),
        ("when { principal.suspended }", Parts::NONE),
    ] {
        let sources = forbidding("write", condition);
        assert_eq!(told(&sources, Risk::Write), expected, "{condition}");
        assert_eq!(
            told(&sources, Risk::Read),
            Parts::NONE,
            "{condition}: of another action"
        );
    }
}

#[test]
fn a_schema_from_before_there_were_sessions_goes_on_to_load() {
    let sources = old(only(PERMIT));
    let (set, warnings) = PolicySet::load(&sources).unwrap();
    assert_eq!(warnings, []);
    let set = Arc::new(set);
    let tainted = Session {
        tainted: true,
        ..Session::fresh(NOON)
    };
    for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
        assert!(permitted(&set, risk, tainted));
        let command = call(risk);
        let slice = slice(&set, &command, Action::Invoke);
        assert_eq!(
            (slice.declares_session(), slice.looks_at_session()),
            (Parts::NONE, Parts::NONE)
        );
    }

    // Its policies cannot look at sessions, and are told why.
    let findings = refused(&old(forbidding(
        "write",
        "when { context.session.tainted }",
    )));
    assert!(findings.contains("session"), "{findings}");
    assert!(findings.contains("a.cedar:"), "{findings}");

    // What the checker of policies took for impossible is not possible afterwards.
    let sources = old(forbidding(
        "write",
        "when { context has session && context.session.tainted }",
    ));
    let set = load(&sources);
    assert!(permitted(&set, Risk::Write, tainted));
    let command = call(Risk::Write);
    let looks = slice(&set, &command, Action::Invoke).looks_at_session();
    assert_eq!(looks, Parts::NONE);
}

#[test]
fn a_session_is_declared_as_what_it_is_or_not_at_all() {
    for (from, to) in [
        ("  session: Session,\n", "  session: String,\n"),
        ("  session: Session,\n", "  session?: String,\n"),
        ("  session: Session,\n", "  session?: { id: String },\n"),
        ("  calls: Long, ", "  calls: String, "),
        ("  tainted: Bool, ", "  tainted: Bool, more: Bool, "),
    ] {
        let mut sources = only(PERMIT);
        assert!(sources.schema.text.contains(from), "{from}");
        sources.schema.text = sources.schema.text.replacen(from, to, 1);
        let findings = refused(&sources);
        assert!(
            findings.contains("session") && findings.contains("schema.cedarschema"),
            "{to}: {findings}"
        );
    }
    // Optional, it is always there.
    let mut sources = forbidding(
        "write",
        "when { context has session && context.session.tainted }",
    );
    sources.schema.text =
        sources
            .schema
            .text
            .replacen("  session: Session,\n", "  session?: Session,\n", 1);
    let set = load(&sources);
    let fresh = Session::fresh(NOON);
    assert!(permitted(&set, Risk::Write, fresh));
    assert!(!permitted(
        &set,
        Risk::Write,
        Session {
            tainted: true,
            ..fresh
        }
    ));
}

#[test]
fn typed_actions_have_sessions_where_they_are_declared() {
    let key: crate::CommandKey = "coolify/probe".parse().unwrap();
    let schema = json!({"type": "object", "properties": {"uuid": {"type": "string"}}});
    let fragment = typed::fragment(&key, Risk::Write, &schema).text;
    let member = "    session: Session,\n";
    assert!(fragment.contains(member));
    let tainted = Session {
        tainted: true,
        ..Session::fresh(NOON)
    };
    let wall = "when { context.session.tainted }";

    let mut sources = forbidding("write", wall);
    sources.schema.text.push_str(&fragment);
    let set = load(&sources);
    assert!(permitted(&set, Risk::Write, Session::fresh(NOON)));
    assert!(!permitted(&set, Risk::Write, tainted));

    // One that was written earlier has none: other policies do not mind, those that look
    // at sessions do not load.
    let without = fragment.replace(member, "");
    let mut sources = forbidding("destroy", wall);
    sources.schema.text.push_str(&without);
    assert!(permitted(&load(&sources), Risk::Write, tainted));
    let mut sources = forbidding("write", wall);
    sources.schema.text.push_str(&without);
    let findings = refused(&sources);
    assert!(
        findings.contains("session") && findings.contains("coolify/probe"),
        "{findings}"
    );
    let mut sources = only(PERMIT);
    let wrong = fragment.replace(member, "    session?: { tainted: String },\n");
    sources.schema.text.push_str(&wrong);
    let findings = refused(&sources);
    assert!(
        findings.contains("`session` in the context of `coolify/probe`"),
        "{findings}"
    );
}

#[test]
fn people_can_lift_what_a_tainted_session_refuses_if_policy_says_so() {
    let tainted = Session {
        tainted: true,
        ..Session::fresh(NOON)
    };
    let derived = |sources: &PolicySources, session: Session| {
        let set = load(sources);
        let command = call(Risk::Write);
        let bot = principal(agent(), Vec::new());
        let invoke = slice(&set, &command, Action::Invoke);
        let asking = slice(&set, &command, Action::Escalate);
        let refused = refusal(decide(&invoke, &bot, command, within(session)));
        derive(&invoke, &asking, &bot, &refused, within(session))
    };
    let lifted = forbidding(
        "write",
        "when { context.session.tainted } unless { principal.hasTag(context.callKey) }",
    );
    assert!(matches!(
        derived(&lifted, tainted),
        Escalation::Liftable { approvals: 1, .. }
    ));
    let never = forbidding("write", "when { context.session.tainted }");
    assert!(matches!(derived(&never, tainted), Escalation::Hard { .. }));

    // Only whether it may ask depends on the session.
    let mut asking = lifted;
    asking.policies[0].text.push_str(
        "@id(\"asks\")\nforbid (principal is Agent, action == Action::\"escalate\", resource)\nwhen { context.session.calls > 9 };\n",
    );
    asking.policies[0].text = asking.policies[0].text.replace(
        "when { context.session.tainted }",
        "when { resource.pinned }",
    );
    assert!(matches!(
        derived(
            &asking,
            Session {
                calls: 9,
                ..tainted
            }
        ),
        Escalation::Liftable { .. }
    ));
    match derived(
        &asking,
        Session {
            calls: 10,
            ..tainted
        },
    ) {
        Escalation::Hard { policies, .. } => assert_eq!(policies, ["asks"]),
        liftable @ Escalation::Liftable { .. } => panic!("{liftable:?}"),
    }
}

#[test]
fn the_shipped_set_lets_people_see_what_a_tainted_agent_changes() {
    let set = shipped();
    let allowed = || crate::Agent {
        allowed_mcps: ["coolify".parse().unwrap()].into(),
        ..agent()
    };
    let tainted = within(Session {
        tainted: true,
        ..Session::fresh(NOON)
    });
    let decided = |risk, grants, at| {
        let command = call(risk);
        let bot = principal(allowed(), grants);
        let slice = slice(&set, &command, Action::Invoke);
        decide(&slice, &bot, command, at)
    };
    permit(decided(Risk::Write, vec![], at(NOON)));
    permit(decided(Risk::Read, vec![], tainted));
    let refused = refusal(decided(Risk::Write, vec![], tainted));
    assert_eq!(refused.policies, ["wall.tainted-session"]);

    let command = call(Risk::Write);
    let key = command.target.key.clone();
    let of_call = crate::Scope::Call {
        command: key.clone(),
        digest: command.arguments.digest().clone(),
    };
    for (scope, opens) in [
        (of_call, true),
        (
            crate::Scope::Command {
                command: key.clone(),
            },
            true,
        ),
        (
            crate::Scope::Service {
                service: key.service,
            },
            false,
        ),
    ] {
        let grants = vec![grant(agent().id, scope.clone(), Risk::Write)];
        let decision = decided(Risk::Write, grants, tainted);
        assert_eq!(matches!(decision, Decision::Permit(_)), opens, "{scope:?}");
    }
}

#[test]
fn sets_of_one_text_under_an_older_schema_are_not_the_same() {
    let sources = forbidding(
        "write",
        "when { context has session && context.session.tainted }",
    );
    let (new, old) = (load(&sources), load(&old(sources)));
    let command = call(Risk::Write);
    let invoke = |set| Slice::new(set, &command.target, Action::Invoke);
    assert!(invoke(&new).same(&invoke(&new)));
    assert!(!invoke(&new).same(&invoke(&old)));
}

#[test]
fn explanations_and_exported_tests_tell_of_the_session() {
    let sources = forbidding("write", "when { context.session.tainted }");
    let command = call(Risk::Write);
    let bot = principal(agent(), Vec::new());
    let tainted = within(Session {
        tainted: true,
        calls: 7,
        ..Session::fresh(NOON)
    });
    let explanation = explain(&load(&sources), &bot, &command, tainted);
    let facts: Vec<_> = explanation
        .traces
        .iter()
        .flat_map(|trace| &trace.parts)
        .flat_map(|part| &part.facts)
        .collect();
    let told = ("context.session.tainted".to_owned(), "true".to_owned());
    assert!(facts.contains(&&told), "{facts:?}");

    let written = |set: &Arc<PolicySet>| {
        let slice = slice(set, &command, Action::Invoke);
        let question = CedarQuestion::of_agent(&slice, &bot, &command, tainted).unwrap();
        let answer = question.ask(set).unwrap();
        let test = question.written("x", &answer, &answer.reason).unwrap();
        test["request"]["context"]["session"].clone()
    };
    // Cedar's own tool wants all that the schema demands, and nothing else.
    let session = written(&load(&only(PERMIT)));
    assert_eq!(session["calls"], 7);
    assert_eq!(session["tainted"], true);
    assert_eq!(written(&load(&old(only(PERMIT)))), serde_json::Value::Null);
}
