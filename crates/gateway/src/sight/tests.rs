use std::sync::OnceLock;

use authz::{Facts, Grant, GrantId, PolicySet, Risk, Scope, Slice, Source, slice::Action};
use contract::zones::{AssignedZones, GatewayZones, ZoneMember};
use proptest::prelude::*;

use super::*;
use crate::tests::world::{BOT, NOON, OTHER, agent, sources};

/// What policies may say about `list`: of the agent, its grants, the command, its zones,
/// and the time.
const RULES: [&str; 6] = [
    "@id(\"a\") permit (principal is Agent, action == Action::\"escalate\", resource is Command);",
    "@id(\"a\") permit (principal is Agent, action == Action::\"list\", resource is Command) when { !principal.suspended && resource.pinned };",
    "@id(\"a\") permit (principal in Role::\"reader\", action, resource is Command);
     @id(\"b\") forbid (principal is Agent, action == Action::\"list\", resource is Command in Zone::\"pci\") unless { principal.trust > 2 };",
    "@id(\"a\") permit (principal is Agent, action == Action::\"list\", resource is Command) when { principal.allowedServices.contains(resource.service) };
     @id(\"b\") permit (principal is Agent, action == Action::\"list\", resource is Command in Zone::\"pci\") when { context.now < datetime(\"2027-01-15T12:00:00Z\") };",
    "@id(\"a\") permit (principal is Agent, action == Action::\"list\", resource is Command) when { principal.hasTag(resource.key) && principal.getTag(resource.key).issued <= context.now && context.now < principal.getTag(resource.key).expires };",
    "@id(\"a\") permit (principal is Agent, action == Action::\"list\", resource is Command) when { principal.hasTag(resource.key) && resource.risk <= principal.getTag(resource.key).risk };
     @id(\"b\") forbid (principal is Agent, action, resource == Command::\"coolify/deploy\") when { resource.risk + 9223372036854775807 > 0 };",
];

fn sets() -> &'static [Arc<Active>] {
    static SETS: OnceLock<Vec<Arc<Active>>> = OnceLock::new();
    SETS.get_or_init(|| {
        let ours = sources();
        let load = |rules: &str| {
            let mut sources = ours.clone();
            sources.policies = vec![Source {
                name: "policies/test.cedar".to_owned(),
                text: rules.to_owned(),
            }];
            let (set, _) = PolicySet::load(&sources).unwrap();
            Arc::new(Active::new(set, Timestamp::from_millis(NOON)))
        };
        let mut sets: Vec<_> = RULES.iter().map(|rules| load(rules)).collect();
        let (set, _) = PolicySet::load(&ours).unwrap();
        sets.push(Arc::new(Active::new(set, Timestamp::from_millis(NOON))));
        sets
    })
}

fn target(command: &str, risk: Risk, pinned: bool) -> Arc<Target> {
    let key: authz::CommandKey = command.parse().unwrap();
    let service = authz::Service {
        name: key.service.clone(),
        env: authz::command::Environment::Prod,
        owners: None,
        zones: [].into(),
    };
    Arc::new(Target {
        key,
        service: Arc::new(service),
        risk,
        zones: [].into(),
        pinned,
    })
}

fn grant(number: u128, command: &str, risk: Risk) -> Grant {
    let id = |prefix: &str| format!("{prefix}_{number:032x}");
    Grant {
        id: id("grant").parse::<GrantId>().unwrap(),
        agent: BOT.parse().unwrap(),
        scope: Scope::Command {
            command: command.parse().unwrap(),
        },
        risk,
        issued: Timestamp::from_millis(NOON),
        expires: Timestamp::from_millis(NOON + 3_600_000),
        first: "sam".parse().unwrap(),
        second: None,
        single_use: false,
        approval: id("apr").parse().unwrap(),
    }
}

/// Who asks: one agent as it is at different times, and another one.
fn people() -> Vec<Facts> {
    let bot = |change: &dyn Fn(&mut Facts)| {
        let mut facts = agent(BOT, "bot", &["reader"], &["coolify"]);
        change(&mut facts);
        facts
    };
    vec![
        bot(&|_| {}),
        bot(&|facts| facts.version = 9),
        bot(&|facts| facts.agent.suspended = true),
        bot(&|facts| facts.agent.roles.clear()),
        bot(&|facts| facts.agent.trust = 3),
        bot(&|facts| facts.agent.allowed_mcps.clear()),
        bot(&|facts| facts.grants = vec![grant(1, "coolify/deploy", Risk::Read)]),
        bot(&|facts| facts.grants = vec![grant(2, "coolify/deploy", Risk::Destroy)]),
        agent(OTHER, "other", &[], &[]),
    ]
}

fn zones() -> Vec<GatewayZones> {
    let member = |command: Option<&str>| ZoneMember {
        service: "coolify".parse().unwrap(),
        command: command.map(|command| command.parse().unwrap()),
        zone: "pci".parse().unwrap(),
    };
    let of = |revision, members| GatewayZones { revision, members };
    vec![
        of(1, vec![]),
        of(2, vec![member(None)]),
        of(3, vec![member(Some("deploy"))]),
    ]
}

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Policies(usize),
    Zones(usize),
    /// The facts are fetched again.
    Facts(usize),
    /// The catalog has another command of the same name.
    Command(usize, Risk, bool),
    Later(i64),
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let risk = prop_oneof![Just(Risk::Read), Just(Risk::Write), Just(Risk::Destroy)];
    prop_oneof![
        1 => (0..=RULES.len()).prop_map(Step::Policies),
        1 => (0..zones().len()).prop_map(Step::Zones),
        2 => (0..people().len()).prop_map(Step::Facts),
        2 => (0..2_usize, risk, any::<bool>()).prop_map(|(at, risk, pinned)| Step::Command(at, risk, pinned)),
        1 => (-4_000_000..4_000_000_i64).prop_map(Step::Later),
        6 => (0..2_usize).prop_map(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    /// Whatever changes, what is remembered is what would be decided.
    #[test]
    fn what_is_remembered_is_what_would_be_decided(steps in prop::collection::vec(step(), 1..60)) {
        let sights = Sights::new();
        let names = ["coolify/deploy", "coolify/list-servers"];
        let mut active = &sets()[0];
        let mut assigned = zones()[0].clone();
        let mut known = Known::of(assigned.clone());
        let mut principal = Arc::new(Principal::new(people()[0].clone()));
        let mut commands = names.map(|name| target(name, Risk::Read, true));
        let mut now = Timestamp::from_millis(NOON);
        for step in steps {
            match step {
                Step::Policies(at) => active = &sets()[at],
                Step::Zones(at) => {
                    assigned = zones()[at].clone();
                    known = Known::of(assigned.clone());
                }
                Step::Facts(at) => principal = Arc::new(Principal::new(people()[at].clone())),
                Step::Command(at, risk, pinned) => commands[at] = target(names[at], risk, pinned),
                Step::Later(millis) => now = Timestamp::from_millis(NOON + millis),
                Step::Look(at) => {
                    let base = &commands[at];
                    let all: AssignedZones = assigned.members.iter().cloned().collect();
                    let placed = all.added_to(base).map_or_else(|| Arc::clone(base), Arc::new);
                    let slice = Slice::new(active.set(), &placed, Action::List);
                    let direct = decide::may_list(&slice, &principal, now);
                    let sight = sights.of(active, &known, &principal);
                    prop_assert_eq!(sight.sees(base, now), direct);
                    // And once more, from memory if it may be.
                    prop_assert_eq!(sight.sees(base, now), direct);
                }
            }
        }
    }
}

#[test]
fn what_depends_on_the_time_is_not_remembered() {
    let sights = Sights::new();
    let known = Known::of(zones()[1].clone());
    let principal = Arc::new(Principal::new(agent(BOT, "bot", &["reader"], &[])));
    let command = target("coolify/deploy", Risk::Read, true);
    let at = |offset| Timestamp::from_millis(NOON + offset);

    // In the zone `pci`: until noon of 15 January 2027.
    let noon = 1_800_014_400_000 - NOON;
    let sight = sights.of(&sets()[3], &known, &principal);
    assert!(sight.sees(&command, at(noon - 1)));
    assert!(!sight.sees(&command, at(noon)));
    assert_eq!(sight.kept(), 0);

    let sight = sights.of(&sets()[2], &known, &principal);
    assert!(!sight.sees(&command, at(0)));
    assert_eq!(sight.kept(), 1);
}

#[test]
fn facts_that_were_fetched_again_are_the_same_facts() {
    let sights = Sights::new();
    let known = Known::of(zones()[0].clone());
    let command = target("coolify/deploy", Risk::Read, true);
    let of = |facts: &Facts| {
        let principal = Arc::new(Principal::new(facts.clone()));
        sights.of(&sets()[1], &known, &principal)
    };
    let [first, later, suspended] = [0, 1, 2].map(|at| people()[at].clone());
    assert!(of(&first).sees(&command, Timestamp::from_millis(NOON)));
    assert_eq!(of(&later).kept(), 1);
    assert_eq!(of(&suspended).kept(), 0);
    assert!(!of(&suspended).sees(&command, Timestamp::from_millis(NOON)));
}
