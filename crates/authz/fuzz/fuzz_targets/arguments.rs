//! Any JSON object as arguments: policies are told each value once, in the map of its
//! kind, and the command is decided without an error unless there are too many.
#![no_main]

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    sync::{Arc, LazyLock},
};

use authz::{
    Action, Agent, AgentId, Arguments, Circumstances, Command, Decision, Facts, PolicySet,
    PolicySources, Principal, Risk, Service, Slice, Source, Target, Timestamp,
    arguments::{self, MAX_DEPTH, MAX_VALUES, Told},
    command::{Canonical, Environment},
    decide,
};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

/// A policy that looks into every map, so that a map of a wrong kind would fail.
const POLICY: &str = r#"
    @id("x.permit")
    permit (principal is Agent, action in Action::"read", resource is Command);

    @id("x.forbid")
    forbid (principal is Agent, action in Action::"read", resource is Command)
    when {
      (context.args.text.hasTag("a") && context.args.text.getTag("a") like "\0never\0*") ||
      (context.args.number.hasTag("a") && context.args.number.getTag("a") < -9223372036854775807 - 1) ||
      (context.args.flag.hasTag("a") && context.args.flag.getTag("a") && !context.args.flag.getTag("a")) ||
      (context.args.list.hasTag("a") && context.args.list.getTag("a").contains("\0never\0"))
    };
"#;

static WORLD: LazyLock<(Principal, Slice)> = LazyLock::new(|| {
    let source = |name: &str, text: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let sources = PolicySources {
        schema: source(
            "schema.cedarschema",
            include_str!("../../../../schema.cedarschema"),
        ),
        policies: vec![source("a.cedar", POLICY)],
    };
    let (set, _) = PolicySet::load(&sources).unwrap();
    let bot = Principal::new(Facts {
        agent: Agent {
            id: AgentId::LOCAL,
            name: "local".parse().unwrap(),
            owner: None,
            teams: [].into(),
            roles: [].into(),
            env: Environment::Prod,
            trust: 1,
            suspended: false,
            allowed_mcps: [].into(),
        },
        grants: Vec::new(),
        version: 1,
    });
    let target = Arc::new(Target {
        key: "coolify/list-servers".parse().unwrap(),
        service: Arc::new(Service {
            name: "coolify".parse().unwrap(),
            env: Environment::Prod,
            owners: None,
            zones: [].into(),
        }),
        risk: Risk::Read,
        zones: [].into(),
        pinned: true,
    });
    (bot, Slice::new(&Arc::new(set), &target, Action::Invoke))
});

fuzz_target!(|data: &[u8]| {
    let Ok(values) = serde_json::from_slice::<Map<String, Value>>(data) else {
        return;
    };
    let arguments = Arguments::new(values);
    let told = arguments::told(&arguments);
    let mut leaves = Vec::new();
    flatten(arguments.values(), 1, &mut leaves);
    assert_eq!(told.len(), leaves.len());
    let mut names = HashSet::new();
    for ((name, told), leaf) in told.iter().zip(leaves) {
        assert!(names.insert(name), "two values are called {name:?}");
        assert_eq!(*told, expected(leaf), "{name:?}");
    }

    let (bot, slice) = &*WORLD;
    let command = Command {
        target: Arc::clone(slice.target()),
        arguments,
    };
    let now = Timestamp::from_millis(1_763_812_800_000);
    let at = Circumstances::new(now, Ipv4Addr::LOCALHOST.into());
    match decide(slice, bot, command, at) {
        Decision::Permit(_) => assert!(told.len() <= MAX_VALUES),
        Decision::Refuse(refused) => assert!(told.len() > MAX_VALUES, "{refused:?}"),
    }
});

/// The values that are told, in their order.
fn flatten<'a>(members: &'a Map<String, Value>, depth: usize, leaves: &mut Vec<&'a Value>) {
    for value in members.values() {
        match value {
            Value::Object(inner) if !inner.is_empty() && depth < MAX_DEPTH => {
                flatten(inner, depth + 1, leaves);
            }
            leaf => leaves.push(leaf),
        }
    }
}

/// What the documentation says, in other words than the code.
fn expected(value: &Value) -> Told {
    if let Some(text) = value.as_str() {
        Told::Text(text.to_owned())
    } else if let Some(flag) = value.as_bool() {
        Told::Flag(flag)
    } else if let (Some(number), false) = (value.as_i64(), value.is_f64()) {
        Told::Number(number)
    } else if let Some(items) = value.as_array()
        && items.iter().all(Value::is_string)
    {
        let items = items.iter().filter_map(Value::as_str);
        Told::List(items.map(str::to_owned).collect())
    } else {
        Told::Text(Canonical(value).to_string())
    }
}
