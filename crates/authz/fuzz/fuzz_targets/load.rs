//! Any text as policies or as schema: it loads or it is refused, with findings that
//! can be shown; whatever loads can decide.
#![no_main]

use std::{net::Ipv4Addr, sync::Arc};

use authz::{
    Action, Agent, AgentId, Arguments, Circumstances, Command, Facts, PolicySet, PolicySources,
    Principal, Risk, Service, Slice, Source, Target, Timestamp, command::Environment, decide,
    policy_set::Severity,
};
use libfuzzer_sys::fuzz_target;
use serde_json::Map;

const SCHEMA: &str = include_str!("../../../../schema.cedarschema");
const POLICIES: &str = include_str!("../../../../policies/standing.cedar");

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let (schema, policies) = match kind % 3 {
        0 => (text.to_owned(), POLICIES.to_owned()),
        1 => (format!("{SCHEMA}\n{text}"), POLICIES.to_owned()),
        _ => (SCHEMA.to_owned(), text.to_owned()),
    };
    let sources = PolicySources {
        schema: source("schema.cedarschema", &schema),
        policies: vec![source("policies/fuzz.cedar", &policies)],
    };
    match PolicySet::load(&sources) {
        Err(findings) => {
            assert!(
                findings
                    .iter()
                    .any(|finding| finding.severity == Severity::Error)
            );
            for finding in &findings {
                assert!(!finding.to_string().is_empty());
                let text = if finding.file == "schema.cedarschema" {
                    &schema
                } else {
                    &policies
                };
                if let Some(line) = finding.line {
                    assert!(line >= 1 && line as usize <= text.split('\n').count());
                }
            }
        }
        Ok((set, _)) => answers(&Arc::new(set)),
    }
});

fn answers(set: &Arc<PolicySet>) {
    let bot = Principal::new(Facts {
        agent: Agent {
            id: AgentId::LOCAL,
            name: "local".parse().unwrap(),
            owner: Some("olga".parse().unwrap()),
            teams: ["ops".parse().unwrap()].into(),
            roles: ["reader".parse().unwrap()].into(),
            env: Environment::Prod,
            trust: 1,
            suspended: false,
            allowed_mcps: ["coolify".parse().unwrap()].into(),
        },
        grants: Vec::new(),
        version: 1,
    });
    for risk in [Risk::Read, Risk::Write, Risk::Destroy] {
        let target = Arc::new(Target {
            key: "coolify/deploy".parse().unwrap(),
            service: Arc::new(Service {
                name: "coolify".parse().unwrap(),
                env: Environment::Prod,
                owners: None,
                zones: [].into(),
            }),
            risk,
            zones: [].into(),
            pinned: true,
        });
        let command = Command {
            target: Arc::clone(&target),
            arguments: Arguments::new(Map::new()),
        };
        let now = Timestamp::from_millis(1_763_812_800_000);
        let at = Circumstances::new(now, Ipv4Addr::LOCALHOST.into());
        let _ = decide(&Slice::new(set, &target, Action::Invoke), &bot, command, at);
    }
}
