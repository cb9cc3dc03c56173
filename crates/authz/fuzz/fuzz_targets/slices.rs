//! Any policies over a small world: a slice decides as the whole set, with the same
//! policies, advice and errors.
#![no_main]

use std::{fmt::Write as _, net::Ipv4Addr, sync::Arc};

use authz::{
    Action, Agent, Arguments, Circumstances, Command, Decision, Facts, PolicySet, PolicySources,
    Principal, Risk, Service, Slice, Source, Target, Timestamp, command::Environment, decide,
    decide::may_list,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Map;

const SCHEMA: &str = include_str!("../../../../schema.cedarschema");
const AGENT: &str = "6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f";

const PRINCIPALS: [&str; 8] = [
    "principal is Agent",
    "principal in Role::\"reader\"",
    "principal is Agent in Team::\"ops\"",
    "principal in Team::\"none\"",
    "principal == Agent::\"6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f\"",
    "principal in Agent::\"6f1b8a52-9f0d-4a4e-8f11-1d2c3b4a5e6f\"",
    "principal == Agent::\"00000000-0000-0000-0000-000000000000\"",
    "principal is Agent in Role::\"reader\"",
];
const ACTIONS: [&str; 6] = [
    "action in Action::\"read\"",
    "action == Action::\"write\"",
    "action in Action::\"invoke\"",
    "action in [Action::\"destroy\", Action::\"list\", Action::\"read\"]",
    "action in [Action::\"write\", Action::\"escalate\"]",
    "action in Action::\"list\"",
];
const RESOURCES: [&str; 9] = [
    "resource",
    "resource is Command",
    "resource == Command::\"coolify/deploy\"",
    "resource == Command::\"coolify/other\"",
    "resource in Command::\"coolify/deploy\"",
    "resource in Service::\"coolify\"",
    "resource in Service::\"github\"",
    "resource in Zone::\"pci\"",
    "resource is Command in Zone::\"both\"",
];
/// The last three fail for some requests.
const CONDITIONS: [&str; 8] = [
    "",
    "when { principal.trust >= 1 }",
    "unless { principal.suspended }",
    "when { resource in Zone::\"pci\" }",
    "when { principal.allowedServices.contains(resource.service) }",
    "when { resource.risk + 9223372036854775806 > 0 }",
    "when { principal has owner && principal.owner.active }",
    "unless { principal.trust * 9223372036854775807 + resource.risk >= 0 }",
];

fn pick<'a>(from: &[&'a str], byte: u8) -> &'a str {
    from[usize::from(byte) % from.len()]
}

fuzz_target!(|data: &[u8]| {
    let Some((&[flags, facts], policies)) = data.split_first_chunk::<2>() else {
        return;
    };
    let mut text = String::new();
    for (n, chunk) in policies.chunks_exact(4).take(40).enumerate() {
        let &[principal, action, resource, rest] = chunk else {
            return;
        };
        let effect = if rest & 0x80 == 0 { "permit" } else { "forbid" };
        let advice = if rest & 0x40 == 0 {
            ""
        } else {
            "@advice(\"No.\")"
        };
        let _ = writeln!(
            text,
            "@id(\"p{n}\")\n{advice}{effect} ({}, {}, {}) {};",
            pick(&PRINCIPALS, principal),
            pick(&ACTIONS, action),
            pick(&RESOURCES, resource),
            pick(&CONDITIONS, rest & 0x3f),
        );
    }
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let sources = PolicySources {
        schema: source("schema.cedarschema", SCHEMA),
        policies: vec![source("a.cedar", &text)],
    };
    let Ok((set, _)) = PolicySet::load(&sources) else {
        return;
    };
    let set = Arc::new(set);

    let bit = |byte: u8, n: u8| byte & (1 << n) != 0;
    let some = |wanted: bool, name: &str| wanted.then(|| name.to_owned());
    let bot = Principal::new(Facts {
        agent: Agent {
            id: AGENT.parse().unwrap(),
            name: "build-bot".parse().unwrap(),
            owner: some(bit(facts, 0), "olga").map(|name| name.parse().unwrap()),
            teams: some(bit(facts, 1), "ops")
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            roles: some(bit(facts, 2), "reader")
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
            env: Environment::Prod,
            trust: u8::from(bit(facts, 3)) * 2,
            suspended: bit(facts, 4),
            allowed_mcps: some(bit(facts, 5), "coolify")
                .iter()
                .map(|name| name.parse().unwrap())
                .collect(),
        },
        grants: Vec::new(),
        version: 1,
    });
    let zones = |pci: bool, both: bool| {
        let names = [some(pci, "pci"), some(both, "both")];
        names
            .iter()
            .flatten()
            .map(|name| name.parse().unwrap())
            .collect()
    };
    let now = Timestamp::from_millis(1_763_812_800_000);
    let at = Circumstances::new(now, Ipv4Addr::LOCALHOST.into());
    for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
        let target = Arc::new(Target {
            key: "coolify/deploy".parse().unwrap(),
            service: Arc::new(Service {
                name: "coolify".parse().unwrap(),
                env: Environment::Prod,
                owners: None,
                zones: zones(bit(flags, 0), bit(flags, 1)),
            }),
            risk,
            zones: zones(bit(flags, 2), bit(flags, 3)),
            pinned: true,
        });
        let decided = |slice: &Slice| {
            let command = Command {
                target: Arc::clone(&target),
                arguments: Arguments::new(Map::new()),
            };
            match decide(slice, &bot, command, at) {
                Decision::Permit(permit) => format!("permit {:?}", permit.policies()),
                Decision::Refuse(refused) => format!(
                    "refuse {:?} {:?} {:?} {}",
                    refused.policies, refused.advice, refused.errors, refused.policy_error
                ),
            }
        };
        let slice = Slice::new(&set, &target, Action::Invoke);
        let whole = Slice::whole(&set, &target, Action::Invoke);
        // The second answer comes from what the first one left behind.
        for _ in 0..2 {
            assert_eq!(decided(&slice), decided(&whole), "{risk:?}\n{text}");
        }
        let slice = Slice::new(&set, &target, Action::List);
        let whole = Slice::whole(&set, &target, Action::List);
        assert_eq!(
            may_list(&slice, &bot, at.now),
            may_list(&whole, &bot, at.now),
            "{text}"
        );
    }
});
