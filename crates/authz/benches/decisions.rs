//! What a decision costs, from ten policies to ten thousand, and what is around it.
//!
//! ```text
//! cargo bench -p authz --bench decisions              prints times and ratios
//! cargo bench -p authz --bench decisions -- --check   and fails where a promise is broken
//! cargo bench -p authz --bench decisions -- grants    only that part: policies, grants or fleet
//! ```
//!
//! Ratios are what to look at: both sides of each are measured in the same run, so a
//! slow or busy machine changes them little. Each time is CPU time of this process, the
//! best of several batches.

#![allow(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark may stop where it stands, and its numbers are small"
)]

use std::{
    fmt::Write as _, hint::black_box, net::Ipv4Addr, process::ExitCode, sync::Arc, time::Duration,
};

use authz::{
    Action, Agent, AgentId, ApprovalRequestId, Arguments, Circumstances, Command, Decision, Facts,
    Grant, GrantId, PolicySet, PolicySources, Principal, Risk, Scope, Service, Slice, Source,
    Target, Timestamp, command::Environment, decide,
};
use serde_json::{Map, Value, json};

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NOON: Timestamp = Timestamp::from_millis(1_763_812_800_000);

/// The shipped policies, to which others are added.
const SHIPPED: [(&str, &str); 7] = [
    (
        "administration",
        include_str!("../../../policies/administration.cedar"),
    ),
    ("approval", include_str!("../../../policies/approval.cedar")),
    (
        "escalation",
        include_str!("../../../policies/escalation.cedar"),
    ),
    ("grants", include_str!("../../../policies/grants.cedar")),
    ("guards", include_str!("../../../policies/guards.cedar")),
    ("standing", include_str!("../../../policies/standing.cedar")),
    ("walls", include_str!("../../../policies/walls.cedar")),
];

/// By what the added policies differ.
#[derive(Clone, Copy)]
enum Differ {
    /// Each is about another service.
    Services,
    /// Each is about another team, and every service.
    Teams,
    /// Half and half.
    Both,
}

fn sources(count: usize, differ: Differ) -> PolicySources {
    let source = |name: String, text: &str| Source {
        name,
        text: text.to_owned(),
    };
    let mut text = String::new();
    for n in 0..count {
        let by_service = match differ {
            Differ::Services => true,
            Differ::Teams => false,
            Differ::Both => n % 2 == 0,
        };
        let (principal, resource) = if by_service {
            (
                "principal is Agent".to_owned(),
                format!("resource in Service::\"s{n}\""),
            )
        } else {
            (
                format!("principal in Team::\"t{n}\""),
                "resource is Command".to_owned(),
            )
        };
        let effect = if n % 4 == 3 { "forbid" } else { "permit" };
        let _ = writeln!(
            text,
            "@id(\"more.p{n}\")\n{effect} ({principal}, action in Action::\"write\", {resource})\nwhen {{ principal.trust >= 3 && context.args.text.hasTag(\"uuid\") }};"
        );
    }
    let mut policies: Vec<Source> = SHIPPED
        .iter()
        .map(|(name, text)| source(format!("policies/{name}.cedar"), text))
        .collect();
    policies.push(source("policies/more.cedar".to_owned(), &text));
    PolicySources {
        schema: source(
            "schema.cedarschema".to_owned(),
            include_str!("../../../schema.cedarschema"),
        ),
        policies,
    }
}

fn load(count: usize, differ: Differ) -> (Arc<PolicySet>, Duration) {
    let sources = sources(count, differ);
    let began = cpu();
    match PolicySet::load(&sources) {
        Ok((set, _)) => (Arc::new(set), cpu().saturating_sub(began)),
        Err(findings) => {
            eprintln!("{}", findings.first().unwrap());
            std::process::exit(1);
        }
    }
}

/// What this process has used of the processor.
fn cpu() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// The best time per call, over batches of about 20 ms.
fn time<T>(mut call: impl FnMut() -> T) -> Duration {
    let began = cpu();
    black_box(call());
    let batch =
        (20_000_000 / cpu().saturating_sub(began).as_nanos().max(1)).clamp(1, 100_000) as u32;
    (0..9)
        .map(|_| {
            let began = cpu();
            for _ in 0..batch {
                black_box(call());
            }
            cpu().saturating_sub(began) / batch
        })
        .min()
        .unwrap()
}

fn target() -> Arc<Target> {
    Arc::new(Target {
        key: "s4/restart-application".parse().unwrap(),
        service: Arc::new(Service {
            name: "s4".parse().unwrap(),
            env: Environment::Prod,
            owners: Some("ops".parse().unwrap()),
            zones: ["pci".parse().unwrap()].into(),
        }),
        risk: Risk::Write,
        zones: [].into(),
        pinned: true,
    })
}

fn facts(id: AgentId, grants: usize) -> Facts {
    let grant = |n: usize| Grant {
        id: GrantId::generate(NOON),
        agent: id,
        scope: Scope::Command {
            // The first is for what is asked.
            command: match n {
                0 => "s4/restart-application".parse().unwrap(),
                n => format!("s4/other-{n}").parse().unwrap(),
            },
        },
        risk: Risk::Write,
        issued: NOON,
        expires: NOON.plus(Duration::from_hours(1)),
        first: "dan".parse().unwrap(),
        second: None,
        single_use: false,
        approval: ApprovalRequestId::generate(NOON),
    };
    Facts {
        agent: Agent {
            id,
            name: "build-bot".parse().unwrap(),
            owner: Some("olga".parse().unwrap()),
            teams: ["t1".parse().unwrap(), "t5".parse().unwrap()].into(),
            roles: ["reader".parse().unwrap()].into(),
            env: Environment::Prod,
            trust: 1,
            suspended: false,
            allowed_mcps: ["github".parse().unwrap(), "n8n".parse().unwrap()].into(),
        },
        grants: (0..grants).map(grant).collect(),
        version: 1,
    }
}

fn arguments() -> Map<String, Value> {
    let Value::Object(arguments) =
        json!({"uuid": "vgsco4o", "force": true, "labels": ["a", "b"], "retries": 3})
    else {
        return Map::new();
    };
    arguments
}

fn decided(slice: &Slice, agent: &Principal, command: &Command) -> bool {
    let at = Circumstances::new(NOON, Ipv4Addr::LOCALHOST.into());
    matches!(
        decide(slice, agent, command.clone(), at),
        Decision::Permit(_)
    )
}

fn micros(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1_000.0
}

fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_nanos() as f64 / b.as_nanos().max(1) as f64
}

/// What is promised, and whether it held.
#[derive(Default)]
struct Promises(Vec<(String, bool)>);

impl Promises {
    fn that(&mut self, what: impl Into<String>, holds: bool) {
        self.0.push((what.into(), holds));
    }
}

fn main() -> ExitCode {
    let mut promises = Promises::default();
    let target = target();
    let command = Command {
        target: Arc::clone(&target),
        arguments: Arguments::new(arguments()),
    };
    let bot = Principal::new(facts(AgentId::LOCAL, 3));
    let parts: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if wanted("policies") {
        by_policies(&mut promises, &target, &command, &bot);
    }
    if wanted("grants") {
        by_grants(&mut promises, &target, &command);
    }
    if wanted("fleet") {
        by_fleet(&mut promises, &target, &command);
    }

    let mut broken = false;
    println!();
    for (what, holds) in &promises.0 {
        println!("{} {what}", if *holds { "holds: " } else { "BROKEN:" });
        broken |= !holds;
    }
    if broken && std::env::args().any(|argument| argument == "--check") {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

fn by_policies(promises: &mut Promises, target: &Arc<Target>, command: &Command, bot: &Principal) {
    for (differ, name) in [
        (Differ::Services, "by service"),
        (Differ::Teams, "by team"),
        (Differ::Both, "half and half"),
    ] {
        println!("\nPolicies that differ {name}:");
        println!(
            "added   load ms  slice µs  decision µs  ×10   whole set µs  whole/slice  authorize µs"
        );
        let mut least = None;
        for count in [10, 100, 1_000, 10_000] {
            let (set, loading) = load(count, differ);
            let slice = Slice::new(&set, target, Action::Invoke);
            let whole = Slice::whole(&set, target, Action::Invoke);
            assert!(decided(&slice, bot, command) && decided(&whole, bot, command));
            let building = time(|| Slice::new(&set, target, Action::Invoke));
            let sliced = time(|| decided(&slice, bot, command));
            let all = time(|| decided(&whole, bot, command));
            let least = *least.get_or_insert(sliced);
            let flat = ratio(sliced, least);
            // Facts and slice are cached; the command is new.
            let authorize = time(|| {
                let command = Command {
                    target: Arc::clone(target),
                    arguments: Arguments::new(arguments()),
                };
                decided(&slice, bot, &command)
            });
            println!(
                "{count:>5} {:>9.1} {:>9.1} {:>12.1} {flat:>5.2} {:>14.1} {:>12.1} {:>13.1}",
                micros(loading) / 1_000.0,
                micros(building),
                micros(sliced),
                micros(all),
                ratio(all, sliced),
                micros(authorize),
            );
            if count == 10_000 {
                promises.that(format!("flat within 2× {name}: {flat:.2}"), flat < 2.0);
                promises.that(
                    format!(
                        "10,000 policies {name} load within 2 s: {:.2} s",
                        loading.as_secs_f64()
                    ),
                    loading < Duration::from_secs(2),
                );
                promises.that(
                    format!(
                        "authorizing at 10,000 policies {name} takes less than 30 µs: {:.1} µs",
                        micros(authorize)
                    ),
                    authorize < Duration::from_micros(30),
                );
            }
        }
    }
}

fn by_grants(promises: &mut Promises, target: &Arc<Target>, command: &Command) {
    let (set, _) = load(10, Differ::Both);
    let slice = Slice::new(&set, target, Action::Invoke);

    println!("\nGrants on the agent:\ncount  facts JSON to principal µs  decision µs");
    for grants in [0, 3, 50] {
        let known = facts(AgentId::LOCAL, grants);
        let answer = serde_json::to_string(&known).unwrap();
        let building = time(|| Principal::new(serde_json::from_str(&answer).unwrap()));
        let bot = Principal::new(known);
        let deciding = time(|| decided(&slice, &bot, command));
        println!(
            "{grants:>5} {:>28.1} {:>12.1}",
            micros(building),
            micros(deciding)
        );
        promises.that(
            format!(
                "facts with {grants} grants are ready within 1 ms: {:.1} µs",
                micros(building)
            ),
            building < Duration::from_millis(1),
        );
    }
}

fn by_fleet(promises: &mut Promises, target: &Arc<Target>, command: &Command) {
    let (set, _) = load(10, Differ::Both);
    let slice = Slice::new(&set, target, Action::Invoke);

    println!("\nGrants in the fleet, ten on each agent:\ncount  decision µs  ×10");
    let mut least = None;
    for grants in [10, 100, 1_000, 10_000] {
        let fleet: Vec<Principal> = (0..grants / 10)
            .map(|_| Principal::new(facts(AgentId::generate(NOON), 10)))
            .collect();
        let mut next = fleet.iter().cycle();
        let deciding = time(|| decided(&slice, next.next().unwrap(), command));
        let flat = ratio(deciding, *least.get_or_insert(deciding));
        println!("{grants:>5} {:>12.1} {flat:>5.2}", micros(deciding));
        if grants == 10_000 {
            promises.that(
                format!("flat within 2× by grants in the fleet: {flat:.2}"),
                flat < 2.0,
            );
        }
    }
}
