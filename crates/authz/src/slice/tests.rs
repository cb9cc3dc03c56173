use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    Agent, Circumstances, PolicySources, Risk, Service, Session, decide::Call, fixtures::*, typed,
};

/// Scopes over a small world, so that they often match and often do not.
fn scope() -> impl Strategy<Value = String> {
    let principal = prop_oneof![
        Just("principal"),
        Just("principal is Agent"),
        Just("principal is User"),
        Just("principal in Role::\"reader\""),
        Just("principal in Team::\"none\""),
        Just("principal is Agent in Role::\"reader\""),
        Just("principal == User::\"dan\""),
        Just("principal == Agent::\"6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f\""),
        Just("principal in Agent::\"6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f\""),
        Just("principal == Agent::\"00000000-0000-0000-0000-000000000000\""),
        Just("principal == Role::\"reader\""),
        Just("principal is User in Role::\"reader\""),
        Just("principal in Team::\"ops\""),
    ];
    let action = prop_oneof![
        Just("action"),
        Just("action == Action::\"read\""),
        Just("action in Action::\"write\""),
        Just("action in Action::\"invoke\""),
        Just("action in [Action::\"destroy\", Action::\"list\", Action::\"read\"]"),
        Just("action in [Action::\"approve\", Action::\"escalate\"]"),
        Just("action == Action::\"coolify/deploy\""),
        Just("action in [Action::\"list\", Action::\"coolify/deploy\"]"),
    ];
    let resource = prop_oneof![
        Just("resource"),
        Just("resource is Command"),
        Just("resource is Escalation"),
        Just("resource == Command::\"coolify/deploy\""),
        Just("resource == Command::\"coolify/other\""),
        Just("resource in Command::\"coolify/deploy\""),
        Just("resource in Service::\"coolify\""),
        Just("resource == Service::\"coolify\""),
        Just("resource in Service::\"github\""),
        Just("resource in Zone::\"pci\""),
        Just("resource is Command in Zone::\"both\""),
        Just("resource is Agent in Team::\"ops\""),
    ];
    // Three fail, each for a few requests or for all; the last three do for `list`.
    let condition = prop_oneof![
        4 => Just("true"),
        2 => Just("false"),
        1 => Just("resource in Zone::\"pci\""),
        1 => Just("User::\"gone\".active"),
        1 => Just("principal in Role::\"reader\" && User::\"gone\".active"),
        1 => Just("9223372036854775807 + 1 > 0"),
        1 => Just("context.session.tainted"),
        1 => Just("context.session.calls > 3 && context.session.startedAt < context.now"),
        1 => Just("context.session has tainted && context.session.id like \"ses_*\""),
    ];
    (any::<bool>(), principal, action, resource, condition).prop_map(
        |(forbid, principal, action, resource, condition)| {
            let effect = if forbid { "forbid" } else { "permit" };
            format!("{effect} ({principal}, {action}, {resource}) when {{ {condition} }};")
        },
    )
}

/// Without validation, which would refuse most of these.
fn unchecked(policies: &[String]) -> Arc<PolicySet> {
    let text = |(n, policy): (usize, &String)| format!("@id(\"p{n}\")\n{policy}\n");
    let text: String = policies.iter().enumerate().map(text).collect();
    let mut sources = only(&text);
    // The command may have a typed action of its own.
    let typed = typed::fragment(
        &"coolify/deploy".parse().unwrap(),
        Risk::Write,
        &json!({"type": "object"}),
    );
    sources.schema.text.push_str(&typed.text);
    Arc::new(PolicySet::unchecked(&sources))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_slice_decides_as_the_whole_set(
        policies in prop::collection::vec(scope(), 1..40),
        reader in any::<bool>(),
        pci in any::<bool>(),
        service_zone in any::<bool>(),
        typed in any::<bool>(),
        tainted in any::<bool>(),
    ) {
        let policies = unchecked(&policies);
        let mut agent: Agent = agent();
        if reader {
            agent.roles = ["reader".parse().unwrap()].into();
            agent.teams = ["ops".parse().unwrap(), "unheard-of".parse().unwrap()].into();
        }
        let bot = principal(agent, Vec::new());
        for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
            let mut target = target(if typed { "coolify/deploy" } else { "coolify/other" }, risk);
            if pci {
                target.zones = ["pci".parse().unwrap(), "both".parse().unwrap()].into();
            }
            if service_zone {
                let zones = ["both".parse().unwrap()].into();
                target.service = Arc::new(Service { zones, ..Service::clone(&target.service) });
            }
            let command = command(target, json!({}));
            let session = Session { tainted, calls: if tainted { 3 } else { 4 }, ..Session::fresh(NOON) };
            let at = Circumstances { session, ..at(NOON) };
            for action in [Action::Invoke, Action::Escalate, Action::List] {
                let answer = |slice: &Slice, of_session| {
                    let call = Call::new(&command, at, of_session).unwrap();
                    call.evaluate(slice, bot.uid(), &bot.entity().unwrap())
                };
                let slice = Slice::new(&policies, &command.target, action);
                let whole = Slice::whole(&policies, &command.target, action);
                prop_assert!(slice.len() <= whole.len());
                // To leave the session out where nothing looks at it changes nothing.
                let told = answer(&slice, slice.looks_at_session());
                let of_session = if action == Action::List { Parts::NONE } else { Parts::ALL };
                let all = answer(&whole, of_session);
                prop_assert_eq!(&told, &all, "{:?} {:?}", risk, action);
                if !slice.looks_at_context() {
                    // Then it is the same at another time, from elsewhere, in another session.
                    let elsewhere = Circumstances::new(NOON.plus(std::time::Duration::from_hours(7)), "192.0.2.7".parse().unwrap());
                    let call = Call::new(&command, elsewhere, of_session).unwrap();
                    let again = call.evaluate(&slice, bot.uid(), &bot.entity().unwrap());
                    prop_assert_eq!(again, told, "{:?} {:?}", risk, action);
                }
            }
        }
    }
}

/// What a generated command takes: name, JSON Schema, a value that fits, and a condition
/// that reads it, which may be false.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    schema: Value,
    value: Value,
    required: bool,
    condition: String,
}

/// Any name, also such as no Cedar identifier can be, and any type that can be typed;
/// a fraction cannot, and policies find it in the untyped arguments alone.
fn field() -> impl Strategy<Value = Field> {
    let name = prop_oneof![Just("uuid".to_owned()), "[a-z]{1,6}", "[ -~é\u{202e}]{1,8}"];
    let kind = prop_oneof![
        "[a-z ]{0,5}".prop_map(|text| (
            json!({"type": "string"}),
            json!(text),
            format!("== {text:?}")
        )),
        any::<i64>().prop_map(|n| (json!({"type": "integer"}), json!(n), "< 0".to_owned())),
        any::<bool>().prop_map(|b| (json!({"type": "boolean"}), json!(b), "== true".to_owned())),
        prop::collection::vec(0..3_i64, 0..3).prop_map(|list| (
            json!({"type": "array", "items": {"type": "integer"}}),
            json!(list),
            ".contains(1)".to_owned(),
        )),
        any::<i32>().prop_map(|n| (
            json!({"type": "number"}),
            json!(f64::from(n) / 8.0),
            String::new()
        )),
    ];
    (name, kind, any::<bool>()).prop_map(|(name, (schema, value, test), required)| {
        let quoted = serde_json::to_string(&name)
            .unwrap()
            .replace('\u{202e}', "\\u{202e}");
        let condition = if test.is_empty() {
            format!("context.args.text.hasTag({quoted})")
        } else {
            let gap = if test.starts_with('.') { "" } else { " " };
            let read = format!("context.input[{quoted}]{gap}{test}");
            if required {
                read
            } else {
                format!("context.input has {quoted} && {read}")
            }
        };
        Field {
            name,
            schema,
            value,
            required,
            condition,
        }
    })
}

/// A schema with typed actions of two commands, one of them in a group of the operator's
/// own; policies that read what those are given, strictly valid; and the arguments.
fn world() -> impl Strategy<Value = (PolicySources, Vec<(&'static str, Value)>)> {
    let fields = || prop::collection::vec(field(), 0..5);
    let policy = (
        any::<bool>(),
        0..5_usize,
        0..4_usize,
        any::<prop::sample::Index>(),
    );
    (fields(), fields(), any::<bool>(), prop::collection::vec(policy, 1..16)).prop_map(
        |(first, second, misfit, policies)| {
            let keys = ["coolify/deploy", "github/merge"];
            let mut schema = shipped_sources().schema.text;
            schema.push_str("action \"own group\";\n");
            let mut calls = Vec::new();
            let mut conditions: [Vec<String>; 2] = Default::default();
            for (n, (key, fields)) in keys.iter().zip([first, second]).enumerate() {
                let fields: std::collections::BTreeMap<String, Field> =
                    fields.into_iter().map(|field| (field.name.clone(), field)).collect();
                let properties: serde_json::Map<String, Value> =
                    fields.values().map(|field| (field.name.clone(), field.schema.clone())).collect();
                let required: Vec<&str> = fields.values().filter(|field| field.required).map(|field| field.name.as_str()).collect();
                let json_schema = json!({"type": "object", "properties": properties, "required": required});
                let text = typed::fragment(&key.parse().unwrap(), Risk::Write, &json_schema).text;
                let text = match n {
                    0 => text,
                    _ => text.replacen("Action::\"write\"]", "Action::\"write\", Action::\"own group\"]", 1),
                };
                schema.push_str(&text);
                conditions[n] = fields.values().map(|field| field.condition.clone()).collect();
                // What is optional may be missing; what is required may be of no type.
                let mut given: serde_json::Map<String, Value> = fields.values().map(|field| (field.name.clone(), field.value.clone())).collect();
                if let Some(field) = fields.values().find(|field| field.required == misfit) {
                    if misfit { given.insert(field.name.clone(), Value::Null); } else { given.remove(&field.name); }
                }
                calls.push((*key, Value::Object(given)));
            }
            calls.push(("github/list", json!({"any": [1, "two"]})));
            let texts: Vec<String> = policies.into_iter().enumerate().map(|(n, (forbid, action, resource, condition))| {
                let effect = if forbid { "forbid" } else { "permit" };
                let (action, typed) = [
                    ("in Action::\"write\"", None),
                    ("in [Action::\"read\", Action::\"own group\"]", None),
                    ("== Action::\"coolify/deploy\"", Some(0)),
                    ("in Action::\"own group\"", Some(1)),
                    ("in [Action::\"github/merge\"]", Some(1)),
                ][action];
                let resource = ["", " in Service::\"github\"", " == Command::\"coolify/deploy\"", " in Zone::\"pci\""][resource];
                let read = typed.map(|typed: usize| &conditions[typed]).filter(|all| !all.is_empty());
                let condition = match read {
                    Some(all) => format!("when {{ {} }}", all[condition.index(all.len())]),
                    None => "when { principal.trust >= 1 }".to_owned(),
                };
                let is = if resource.starts_with(" ==") { "" } else { " is Command" };
                format!("@id(\"p{n}\")\n{effect} (principal is Agent, action {action}, resource{is}{resource})\n{condition};\n")
            }).collect();
            let mut sources = only(&texts.concat());
            sources.schema.text = schema;
            (sources, calls)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_slice_decides_as_the_whole_set_whatever_the_schema((sources, calls) in world()) {
        // What our generator writes and what reads it stand before strict validation.
        let policies = match PolicySet::load(&sources) {
            Ok((policies, _)) => Arc::new(policies),
            Err(findings) => {
                let text = &sources.policies[0].text;
                return Err(TestCaseError::fail(format!("{}\n{text}\n{findings:?}", sources.schema.text)));
            }
        };
        let bot = principal(agent(), Vec::new());
        for (key, arguments) in calls {
            let risk = if key == "github/list" { Risk::Read } else { Risk::Write };
            let mut target = target(key, risk);
            target.zones = ["pci".parse().unwrap()].into();
            let command = command(target, arguments);
            let call = Call::new(&command, at(NOON), Parts::ALL).unwrap();
            for action in [Action::Invoke, Action::Escalate, Action::List] {
                // Also what is said of arguments that do not fit.
                let answer = |slice: &Slice| call.evaluate(slice, bot.uid(), &bot.entity().unwrap()).map_err(|error| error.text);
                let slice = Slice::new(&policies, &command.target, action);
                let whole = Slice::whole(&policies, &command.target, action);
                prop_assert_eq!(answer(&slice), answer(&whole), "{} {:?}", key, action);
            }
        }
    }
}

#[test]
fn a_slice_of_many_policies_holds_the_few_that_can_match() {
    let policies: Vec<String> = (0..400)
        .map(|n| format!("permit (principal in Role::\"r\", action in Action::\"read\", resource in Service::\"s{n}\");"))
        .collect();
    let policies = unchecked(&policies);
    let slice = |key, risk, action| Slice::new(&policies, &Arc::new(target(key, risk)), action);
    assert_eq!(slice("s7/list", Risk::Read, Action::Invoke).len(), 1);
    assert_eq!(slice("s7/stop", Risk::Write, Action::Invoke).len(), 0);
    assert!(slice("other/list", Risk::Read, Action::Invoke).is_empty());
    assert!(slice("s7/list", Risk::Read, Action::List).is_empty());
}

#[test]
fn policies_about_others_are_not_evaluated() {
    let policies: Vec<String> = (0..3_000)
        .map(|n| {
            format!("permit (principal in Team::\"t{n}\", action in Action::\"read\", resource);")
        })
        .collect();
    let policies = unchecked(&policies);
    let slice = Slice::new(
        &policies,
        &Arc::new(target("s/list", Risk::Read)),
        Action::Invoke,
    );
    assert_eq!(slice.len(), 3_000);
    let evaluated = |teams: &[String]| {
        let agent = Agent {
            teams: teams.iter().map(|team| team.parse().unwrap()).collect(),
            ..agent()
        };
        let bot = principal(agent, Vec::new());
        let policies = slice.policies_for(bot.uid(), &bot.entity().unwrap());
        policies.unwrap().num_of_policies()
    };
    assert_eq!(evaluated(&[]), 0);
    assert_eq!(evaluated(&["unheard-of".to_owned()]), 0);
    let two = ["t7".to_owned(), "t2999".to_owned()];
    assert_eq!((evaluated(&two), evaluated(&two)), (2, 2));
    // More combinations than it keeps: none is forgotten wrongly.
    for n in 0..2 * MAX_NARROWED {
        assert_eq!(evaluated(&[format!("t{n}")]), 1, "{n}");
    }
    assert_eq!(evaluated(&two), 2);
}
