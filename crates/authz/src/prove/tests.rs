use std::{
    io::Write as _,
    process::{Command as Process, Stdio},
};

use serde_json::json;

use super::*;
use crate::{
    Action, Agent, Grant, Risk, Scope, Session, Timestamp,
    approval::{Administration, Presence, Reach, Right, ruling},
    decide::{self, Call, Circumstances, Decision},
    fixtures::*,
    slice::Slice,
};

/// The real solver.
fn cvc5(script: &str) -> Result<String, String> {
    let mut child = Process::new(std::env::var("CVC5").unwrap_or_else(|_| "cvc5".to_owned()))
        .args(["--lang", "smt", "--tlimit=120000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cvc5 is needed (apt-get install cvc5): {error}"));
    let mut input = child.stdin.take().unwrap();
    input.write_all(script.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(format!("the solver failed: {}", output.status));
    }
    Ok(String::from_utf8(output.stdout).unwrap())
}

fn theory(sources: &PolicySources, invariants: &str) -> Theory {
    let source = Source {
        name: "own.cedar".to_owned(),
        text: invariants.to_owned(),
    };
    let invariants = if invariants.is_empty() {
        vec![]
    } else {
        vec![source]
    };
    Theory::new(sources, &invariants, None).unwrap_or_else(|findings| panic!("{}", findings[0]))
}

/// What comes of the claims about one policy, worst first: `Agent write Command: refuted`.
fn told(theory: &Theory, id: &str, kind: Kind, solve: Solve<'_>) -> Vec<String> {
    let claims = theory.claims().iter().filter(|claim| {
        claim.kind == kind && claim.policy.as_ref().is_none_or(|place| place.id == id)
    });
    let mut told = Vec::new();
    for claim in claims {
        for at in &claim.environments {
            let verdict = match theory.settle(claim, *at, solve) {
                Verdict::Holds => "holds".to_owned(),
                Verdict::Refuted(_) => "refuted".to_owned(),
                Verdict::Unknown(why) => format!("unknown, {why}"),
            };
            told.push(format!("{}: {verdict}", theory.environment(*at)));
        }
    }
    told
}

/// A wall, and the same with a hole in it.
const WALL: &str = "@id(\"wall\") forbid (principal is Agent, action in Action::\"write\", resource is Command) unless { principal.trust >= 2 };
@id(\"open\") permit (principal is Agent, action in Action::\"invoke\", resource is Command);";
const HOLE: &str = "@id(\"wall\") forbid (principal is Agent, action in Action::\"write\", resource is Command) unless { principal.trust >= 2 || resource.pinned };
@id(\"open\") permit (principal is Agent, action in Action::\"invoke\", resource is Command);";
const NO_WRITE: &str = "@id(\"never.write\") forbid (principal is Agent, action in Action::\"write\", resource is Command) when { principal.trust < 2 };";

#[test]
fn an_invariant_holds_or_is_refuted_by_a_request() {
    let told = |policies, invariants| {
        let theory = theory(&only(policies), invariants);
        told(&theory, "never.write", Kind::Never, &cvc5)
    };
    assert_eq!(told(WALL, NO_WRITE), ["Agent write Command: holds"]);
    assert_eq!(told(HOLE, NO_WRITE), ["Agent write Command: refuted"]);

    let theory = theory(&only(HOLE), NO_WRITE);
    let claims = theory.claims().iter();
    let claim = claims
        .clone()
        .find(|claim| claim.kind == Kind::Never)
        .unwrap();
    let Verdict::Refuted(found) = theory.settle(claim, claim.environments[0], &cvc5) else {
        panic!("refuted")
    };
    assert!(found.permitted && found.policies == ["open"], "{found:?}");
    assert_eq!(
        (found.action.as_str(), found.principal.0.as_str()),
        ("write", "Agent")
    );
    // Only what the request leads to, and no time as a span.
    let entities = found.entities.as_array().unwrap();
    assert!(
        entities
            .iter()
            .all(|entity| entity["uid"]["type"] != "Action"),
        "{found:?}"
    );
    assert_eq!(
        found.context["now"]["__extn"]["fn"], "datetime",
        "{found:?}"
    );
    let official = found.official_test("a name", false);
    assert_eq!(official["decision"], "deny");
    assert_eq!(official["request"]["action"], "Action::\"write\"");
    let (subject, standard) = theory.sets(claim).unwrap();
    assert_eq!((subject.len(), standard.unwrap().len()), (2, 3));
}

#[test]
fn a_permit_must_always_be_permitted() {
    let always = |condition| {
        format!(
            "@id(\"always.read\") permit (principal is Agent, action in Action::\"read\", resource is Command) when {{ {condition} }};"
        )
    };
    let policies = format!(
        "{WALL}\n@id(\"guard\") forbid (principal is Agent, action, resource) when {{ principal.suspended }};"
    );
    let told = |condition| {
        let theory = theory(&only(&policies), &always(condition));
        told(&theory, "always.read", Kind::Always, &cvc5)
    };
    assert_eq!(told("!principal.suspended"), ["Agent read Command: holds"]);
    assert_eq!(told("principal.trust > 0"), ["Agent read Command: refuted"]);
}

#[test]
fn a_forbid_that_can_fail_is_found() {
    let amount = "context.args.number.getTag(\"amount\")";
    let policies = |condition: &str| {
        only(&format!(
            "@id(\"sum\") forbid (principal is Agent, action in Action::\"write\", resource is Command) when {{ context.args.number.hasTag(\"amount\") && {condition} }};"
        ))
    };
    let told = |condition: &str| {
        told(
            &theory(&policies(condition), ""),
            "sum",
            Kind::NeverFails,
            &cvc5,
        )
    };
    assert_eq!(
        told(&format!("{amount} * 2 > 10")),
        ["Agent write Command: refuted"]
    );
    assert_eq!(
        told(&format!("{amount} > 5")),
        ["Agent write Command: holds"]
    );
    // What could fail, but for what is true of every agent and every grant.
    assert_eq!(
        told("principal.trust * 1000000 > 5"),
        ["Agent write Command: holds"]
    );
    let life = "principal.hasTag(resource.key) && principal.getTag(resource.key).expires.durationSince(principal.getTag(resource.key).issued) > duration(\"1h\")";
    assert_eq!(told(life), ["Agent write Command: holds"]);
}

#[test]
fn a_set_that_permits_more_than_before_is_found() {
    let told = |new: &str, old: &str| {
        let old = only(old).policies;
        let theory = Theory::new(&only(new), &[], Some(&old)).unwrap();
        let told = told(&theory, "", Kind::NotWider, &cvc5);
        assert_eq!(told.len(), 12, "{told:?}");
        told.into_iter()
            .filter(|told| !told.ends_with("holds"))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(WALL, HOLE), Vec::<String>::new());
    assert_eq!(told(HOLE, WALL), ["Agent write Command: refuted"]);
    // Nothing is asked where nothing changed.
    let old = only(WALL).policies;
    let laid_out = WALL
        .replace("forbid (", "forbid   (")
        .replace("@id(\"wall\")", "@id(\"wall\") @advice(\"new\")");
    let theory = Theory::new(&only(&laid_out), &[], Some(&old)).unwrap();
    let nobody = |_: &str| -> Result<String, String> { panic!("asked") };
    let claim = theory
        .claims()
        .iter()
        .find(|claim| claim.kind == Kind::NotWider)
        .unwrap();
    for at in &claim.environments {
        assert!(matches!(theory.settle(claim, *at, &nobody), Verdict::Holds));
    }
}

#[test]
fn where_an_old_forbid_can_fail_the_comparison_says_so() {
    let failing = "@id(\"old\") forbid (principal is Agent, action in Action::\"write\", resource is Command) when { context.args.number.hasTag(\"a\") && context.args.number.getTag(\"a\") * 2 > 1 };\n";
    let old = only(&format!("{WALL}\n{failing}")).policies;
    let theory = Theory::new(&only(WALL), &[], Some(&old)).unwrap();
    let told = told(&theory, "old", Kind::NeverFails, &cvc5);
    assert_eq!(told, ["Agent write Command: refuted"]);
}

#[test]
fn what_can_match_nothing_is_told_apart() {
    let can_match = |condition: &str| {
        let invariant = format!(
            "@id(\"never.write\") forbid (principal is Agent, action in Action::\"write\", resource is Command) when {{ {condition} }};"
        );
        let theory = theory(&only(WALL), &invariant);
        let claim = theory
            .claims()
            .iter()
            .find(|claim| claim.kind == Kind::Never)
            .unwrap();
        theory
            .can_match(claim, claim.environments[0], &cvc5)
            .unwrap()
    };
    assert!(can_match("principal.trust == 255"));
    assert!(!can_match("principal.trust == 256"));
    assert!(!can_match("resource.risk == 2"));
}

#[test]
fn only_a_plain_answer_proves_anything() {
    let theory = theory(&only(WALL), NO_WRITE);
    for (answer, why) in [
        (Ok(""), "the solver said nothing"),
        (Ok("unknown\n"), "the solver does not know"),
        (Ok("unsat\n(error \"no\")\n"), "not understood"),
        (Ok("(error \"no\")\nunsat\n"), "not understood"),
        (Ok("UNSAT"), "not understood"),
        (Ok("sat"), "model"),
        (Err("it took too long"), "it took too long"),
    ] {
        let solve = |_: &str| answer.map(str::to_owned).map_err(str::to_owned);
        let told = told(&theory, "never.write", Kind::Never, &solve);
        assert!(
            told.len() == 1
                && told[0].starts_with("Agent write Command: unknown")
                && told[0].contains(why),
            "{answer:?}: {told:?}"
        );
    }
    // One that makes up a counterexample is not believed either.
    let liar = |script: &str| {
        Ok(if script.contains("get-model") {
            "sat\n(\n)\n"
        } else {
            "sat\n"
        }
        .to_owned())
    };
    let told = told(&theory, "never.write", Kind::Never, &liar);
    assert!(
        told[0].starts_with("Agent write Command: unknown"),
        "{told:?}"
    );
}

#[test]
fn an_invariant_with_a_slip_is_refused_with_its_place() {
    for (invariant, expected) in [
        (
            "@id(\"a\") forbid (principal is Agent, action in Action::\"wirte\", resource);",
            "wirte",
        ),
        (
            "@id(\"a\") forbid (principal is Agent, action in Action::\"write\", resource) when { principal.trsut < 1 };",
            "trsut",
        ),
        (
            "@id(\"a\") forbid (principal is User, action in Action::\"write\", resource);",
            "policy is impossible",
        ),
        ("forbid (principal, action, resource);", "no id"),
        (
            "@id(\"a\") forbid (principal, action, resource)",
            "unexpected",
        ),
        ("", "no policies"),
    ] {
        let source = Source {
            name: "own.cedar".to_owned(),
            text: invariant.to_owned(),
        };
        let Err(findings) = Theory::new(&only(WALL), &[source], None) else {
            panic!("{invariant}")
        };
        let text = findings[0].to_string();
        assert!(
            text.starts_with("error: ") && text.contains("own.cedar") && text.contains(expected),
            "{text}"
        );
    }
}

/// The world as a set that permits exactly in it.
fn in_the_world(theory: &Theory, name: &str) -> Arc<PolicySet> {
    let environment = theory
        .environments
        .iter()
        .find(|of| of.name == name)
        .unwrap();
    let all = vec![world::everything().unwrap()];
    let policies = environment.world.among(all, false).unwrap();
    assemble(
        theory.version.clone(),
        &theory.schema,
        theory.typed.clone(),
        policies,
    )
    .map(Arc::new)
    .unwrap()
}

/// Literals, typed actions and all.
fn about_everything() -> Theory {
    let mut sources = shipped_sources();
    let typed = crate::typed::fragment(
        &"coolify/deploy".parse().unwrap(),
        Risk::Write,
        &json!({"type": "object", "properties": {"force": {"type": "boolean"}}}),
    );
    sources.schema.text.push_str(&typed.text);
    sources.policies.push(Source {
        name: "literals.cedar".to_owned(),
        text: "@id(\"literals\") permit (principal is Agent, action in Action::\"invoke\", resource in Service::\"coolify\") when { resource == Command::\"coolify/other\" || resource == Command::\"coolify/deploy\" || resource in Service::\"github\" };".to_owned(),
    });
    theory(&sources, "")
}

/// Agents and grants of every kind that there is.
fn agents() -> Vec<(Agent, Vec<Grant>)> {
    let mut odd = agent();
    odd.trust = u8::MAX;
    odd.suspended = true;
    odd.owner = None;
    let mut agents = vec![(agent(), Vec::new()), (odd, Vec::new())];
    let times = [0, i64::MAX].map(Timestamp::from_millis);
    for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
        for scope in [
            Scope::Command {
                command: "coolify/deploy".parse().unwrap(),
            },
            Scope::Service {
                service: "coolify".parse().unwrap(),
            },
            Scope::Call {
                command: "coolify/other".parse().unwrap(),
                digest: command(target("coolify/other", risk), json!({}))
                    .arguments
                    .digest()
                    .clone(),
            },
        ] {
            for (issued, expires) in [(NOON, NOON), (times[0], times[1])] {
                let mut given = grant(agent().id, scope.clone(), risk);
                (given.issued, given.expires) = (issued, expires);
                given.second = Some(given.first.clone());
                agents.push((agent(), vec![given]));
            }
        }
    }
    agents
}

#[test]
fn every_call_that_is_decided_is_of_this_world() {
    // Without optimisation, its many conditions do not fit a test's stack.
    apart(|| {
        every_call();
        Ok(())
    })
    .unwrap();
}

fn every_call() {
    let theory = about_everything();
    let mut asked = 0;
    for (key, risk, arguments, action) in [
        ("coolify/other", Risk::Read, json!({"a": 1}), "read"),
        ("coolify/other", Risk::Write, json!({}), "write"),
        ("github/delete", Risk::Destroy, json!({}), "destroy"),
        ("vault/put", Risk::Destroy, json!({}), "destroy"),
        (
            "coolify/deploy",
            Risk::Write,
            json!({"force": true}),
            "coolify/deploy",
        ),
    ] {
        let mut about = target(key, risk);
        about.pinned = false;
        about.zones = ["pci".parse().unwrap()].into();
        let command = command(about, arguments);
        let set = |action: &str| in_the_world(&theory, &format!("Agent {action} Command"));
        let (invoke, list, escalate) = (set(action), set("list"), set("escalate"));
        for (agent, grants) in agents() {
            let principal = principal(agent, grants);
            for now in [
                Timestamp::from_millis(0),
                NOON,
                Timestamp::from_millis(i64::MAX),
            ] {
                let session = Session {
                    started: Timestamp::from_millis(if now == NOON { i64::MAX } else { 0 }),
                    calls: u32::MAX,
                    tainted: now == NOON,
                    ..Session::fresh(now)
                };
                let at = Circumstances {
                    session,
                    ..Circumstances::new(now, [10, 0, 0, 7].into())
                };
                let told = format!("{key} {risk:?} {now}");
                let slice = slice(&invoke, &command, Action::Invoke);
                match decide::decide(&slice, &principal, command.clone(), at) {
                    Decision::Permit(_) => {}
                    Decision::Refuse(refused) => panic!("{told}: {refused:?}"),
                }
                let listing = Slice::new(&list, &command.target, Action::List);
                assert!(decide::list(&listing, &principal, now).permitted, "{told}");
                let asking = Slice::new(&escalate, &command.target, Action::Escalate);
                let verdict = Call::new(&command, at, asking.looks_at_session())
                    .unwrap()
                    .evaluate(&asking, principal.uid(), &principal.entity().unwrap())
                    .unwrap();
                assert!(verdict.permitted, "{told}");
                asked += 1;
            }
        }
    }
    assert_eq!(asked, 5 * 20 * 3);
}

#[test]
fn every_right_that_is_asked_for_is_of_this_world() {
    // Without optimisation, its many conditions do not fit a test's stack.
    apart(|| {
        every_right();
        Ok(())
    })
    .unwrap();
}

fn every_right() {
    let theory = about_everything();
    let person = user("dan", &["approver"]);
    let mut asked = 0;
    let mut is_of_it = |action: &str, resource: &str, right: Right| {
        let set = in_the_world(&theory, &format!("User {action} {resource}"));
        for now in [
            Timestamp::from_millis(0),
            NOON,
            Timestamp::from_millis(i64::MAX),
        ] {
            for at in [Presence::from(now), Presence::from(now).confirmed_now()] {
                let ruling = ruling(&set, &person, &right, at);
                assert!(ruling.permitted, "{right:?}: {ruling:?}");
                asked += 1;
            }
        }
    };
    // What they were granted is not looked at.
    for (agent, _) in agents().into_iter().take(2) {
        is_of_it("revoke", "Agent", Right::Revoke(agent.clone()));
        for (key, risk) in [
            ("coolify/other", Risk::Read),
            ("coolify/other", Risk::Destroy),
            ("coolify/service-access", Risk::Read),
        ] {
            for approvals in [1, 2] {
                let asks = || Box::new(ask(&agent, &target(key, risk), approvals));
                is_of_it("reject", "Escalation", Right::Reject(asks()));
                for reach in Reach::ALL {
                    for life in [0, 3_600, 1 << 40].map(std::time::Duration::from_secs) {
                        is_of_it("approve", "Escalation", Right::Approve(asks(), reach, life));
                    }
                }
            }
        }
    }
    for (name, what) in [
        ("view", Administration::View),
        ("manageAgents", Administration::ManageAgents),
        ("manageUsers", Administration::ManageUsers),
        ("managePolicies", Administration::ManagePolicies),
    ] {
        is_of_it(name, "ControlPlane", Right::Administer(what));
    }
    assert_eq!(asked, 6 * (2 + 2 * 3 * 2 * 13 + 4));
}

#[test]
fn every_kind_of_request_has_a_world_that_is_not_empty() {
    let theory = about_everything();
    assert_eq!(theory.environments.len(), 13);
    for environment in &theory.environments {
        let never = apart(|| {
            let policy = environment.world.before(&world::everything()?, true)?;
            let policy = theory.compile(&policy, environment)?;
            Oracle::ask(&cvc5, async |oracle| {
                oracle.check_never_matches_opt(&policy).await
            })
        });
        assert_eq!(never, Ok(false), "{}", environment.name);
    }
}
