//! Recorded calls, decided again by other policies: what would have come of them.
//!
//! A journal's line holds the call, the time, the address, and the facts about the agent that
//! the decision rested on. What it does not hold whole is a [`Doubt`] of the call; what cannot
//! be decided at all is counted. Nothing is left out without being told.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use authz::{
    AgentId, AgentName, Arguments, Circumstances, Command, CommandKey, Facts, PolicySet, Principal,
    Risk, Service, Session, Target, Timestamp, command::ArgumentsDigest, facts::Basis,
};
use contract::audit::JournalEntry;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use super::{
    Fixtures, Progress,
    case::{Answer, Slices},
    format::Verdict,
    workers,
};

/// What of a call is not as it was when it was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Some arguments are redacted or left out in the record.
    Arguments,
    /// The record has no facts: those of the fixtures were taken.
    Facts,
    /// The record does not know of sessions: a fresh one was taken.
    Session,
    /// The catalog does not have the command, or not with the risk of the record.
    Command,
}

impl Doubt {
    /// In words, after “so many calls”.
    pub(crate) const fn words(self) -> &'static str {
        match self {
            Self::Arguments => {
                "without the values of arguments that the record redacts or leaves out"
            }
            Self::Facts => "on facts of the fixtures, and from 127.0.0.1: the record has none",
            Self::Session => {
                "as the first of a session, without a taint: the record has no sessions"
            }
            Self::Command => "of commands that the catalog does not have, or not with that risk",
        }
    }

    /// For scripts.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Arguments => "arguments",
            Self::Facts => "facts",
            Self::Session => "session",
            Self::Command => "command",
        }
    }
}

/// The calls of a record.
#[derive(Default)]
pub(crate) struct Recorded {
    calls: Vec<Call>,
    /// Lines that cannot be read, with their places.
    pub(crate) damaged: Vec<String>,
    /// How many calls cannot be decided again, by why.
    pub(crate) left_out: BTreeMap<String, usize>,
    targets: Vec<Arc<Target>>,
    by_key: HashMap<(CommandKey, Risk), (usize, bool)>,
    principals: Vec<Principal>,
    by_facts: HashMap<(AgentId, String), usize>,
    seen: HashSet<(String, i64)>,
}

/// One of them.
struct Call {
    /// Where it is recorded.
    place: String,
    agent: usize,
    target: usize,
    arguments: Arguments,
    at: Circumstances,
    then: String,
    doubts: BTreeSet<Doubt>,
}

/// One of which the policies say different things.
pub(crate) struct Change {
    pub(crate) place: String,
    pub(crate) at: Timestamp,
    pub(crate) agent: String,
    pub(crate) command: CommandKey,
    /// What was decided.
    pub(crate) then: String,
    pub(crate) before: Answer,
    pub(crate) after: Answer,
    pub(crate) doubts: BTreeSet<Doubt>,
}

/// What came of deciding again.
pub(crate) struct Replay {
    /// How many calls.
    pub(crate) calls: usize,
    /// How many of them with which doubt.
    pub(crate) doubts: BTreeMap<Doubt, usize>,
    /// How many of them with any.
    pub(crate) doubtful: usize,
    /// In the order of the record.
    pub(crate) changes: Vec<Change>,
}

impl Recorded {
    /// Takes a line of a journal; what is not about a decision is passed over.
    pub(crate) fn add(&mut self, entry: &JournalEntry, place: &str, fixtures: &Fixtures) {
        if !matches!(entry.kind.as_str(), "intent" | "refusal") {
            return;
        }
        // A journal and the audit trail may both have it.
        if !self.seen.insert((entry.gateway.clone(), entry.sequence)) {
            return;
        }
        match self.call(entry, place, fixtures) {
            Ok(call) => self.calls.push(call),
            Err(Unusable::Damaged(why)) => self.damaged.push(format!("{place}: {why}")),
            Err(Unusable::LeftOut(why)) => *self.left_out.entry(why).or_default() += 1,
        }
    }

    fn call(
        &mut self,
        entry: &JournalEntry,
        place: &str,
        fixtures: &Fixtures,
    ) -> Result<Call, Unusable> {
        let damaged = |what: &str| Unusable::Damaged(format!("it has no {what} that can be read"));
        let read = |key: &str| entry.details.get(key);
        let agent = entry.agent.ok_or_else(|| damaged("agent"))?;
        let key = entry.command.as_ref().ok_or_else(|| damaged("command"))?;
        let risk: Risk = read("risk")
            .and_then(|risk| serde_json::from_value(risk.clone()).ok())
            .ok_or_else(|| damaged("risk"))?;
        let digest = read("digest")
            .and_then(Value::as_str)
            .and_then(|digest| ArgumentsDigest::try_from(digest.to_owned()).ok())
            .ok_or_else(|| damaged("digest"))?;
        let mut doubts = BTreeSet::new();

        let values = match read("arguments") {
            Some(Value::Object(values)) => values.clone(),
            Some(_) => return Err(damaged("arguments")),
            None => Map::new(),
        };
        let mut arguments = Arguments::new(values);
        if *arguments.digest() != digest {
            doubts.insert(Doubt::Arguments);
            // Grants are bound to the exact ones.
            arguments = Arguments::recorded(arguments.values().clone(), digest);
        }

        let (target, known) = self.target(key, risk, fixtures);
        if !known {
            doubts.insert(Doubt::Command);
        }
        let ip = match (read("ip"), read("facts")) {
            (None, None) => None,
            (Some(ip), _) => Some(
                ip.as_str()
                    .and_then(|ip| ip.parse().ok())
                    .ok_or_else(|| damaged("ip"))?,
            ),
            (None, Some(_)) => return Err(damaged("ip")),
        };
        let name = entry.agent_name.as_deref().unwrap_or_default();
        let name: AgentName = name.parse().map_err(|_| damaged("agent_name"))?;
        let agent = if let Some(facts) = read("facts") {
            let recorded = self.principal(agent, &name, facts);
            recorded.ok_or_else(|| damaged("facts"))?
        } else {
            doubts.insert(Doubt::Facts);
            self.fixture(&name, fixtures)?
        };
        let session = match (read("session"), read("facts")) {
            (Some(session), _) => Session::deserialize(session).map_err(|_| damaged("session"))?,
            (None, facts) => {
                if facts.is_some() {
                    doubts.insert(Doubt::Session);
                }
                Session::fresh(entry.at)
            }
        };
        Ok(Call {
            place: place.to_owned(),
            agent,
            target,
            arguments,
            at: Circumstances {
                now: entry.at,
                ip: ip.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()),
                session,
            },
            then: then(entry),
            doubts,
        })
    }

    /// The command as the catalog has it, with the risk of the record.
    fn target(&mut self, key: &CommandKey, risk: Risk, fixtures: &Fixtures) -> (usize, bool) {
        if let Some(found) = self.by_key.get(&(key.clone(), risk)) {
            return *found;
        }
        let (target, known) = match fixtures.target(key) {
            Ok(target) if target.risk == risk => (target, true),
            Ok(target) => (
                Arc::new(Target {
                    risk,
                    ..Target::clone(&target)
                }),
                false,
            ),
            Err(_) => {
                let service = Service {
                    name: key.service.clone(),
                    env: authz::command::Environment::default(),
                    owners: None,
                    zones: BTreeSet::new(),
                };
                let target = Target {
                    key: key.clone(),
                    service: Arc::new(service),
                    risk,
                    zones: BTreeSet::new(),
                    pinned: true,
                };
                (Arc::new(target), false)
            }
        };
        self.targets.push(target);
        let found = (self.targets.len() - 1, known);
        self.by_key.insert((key.clone(), risk), found);
        found
    }

    /// The agent with the facts of the record.
    fn principal(&mut self, id: AgentId, name: &AgentName, facts: &Value) -> Option<usize> {
        let key = (id, facts.to_string());
        if let Some(found) = self.by_facts.get(&key) {
            return Some(*found);
        }
        let basis: Basis = serde_json::from_value(facts.clone()).ok()?;
        Some(self.keep(key, basis.facts(id, name.clone())))
    }

    /// The agent as the fixtures have it.
    fn fixture(&mut self, name: &AgentName, fixtures: &Fixtures) -> Result<usize, Unusable> {
        let key = (AgentId::LOCAL, format!("fixture {name}"));
        if let Some(found) = self.by_facts.get(&key) {
            return Ok(*found);
        }
        let agent = fixtures.agent(name).map_err(|_| {
            Unusable::LeftOut(format!(
                "the record has no facts of `{name}`, and the fixtures have no agent of that name"
            ))
        })?;
        let facts = Facts {
            agent,
            grants: Vec::new(),
            version: 0,
        };
        Ok(self.keep(key, facts))
    }

    fn keep(&mut self, key: (AgentId, String), facts: Facts) -> usize {
        self.principals.push(Principal::new(facts));
        let found = self.principals.len() - 1;
        self.by_facts.insert(key, found);
        found
    }

    /// How many calls can be decided again.
    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }
}

enum Unusable {
    Damaged(String),
    LeftOut(String),
}

/// What was decided, in a word.
fn then(entry: &JournalEntry) -> String {
    let text = |key: &str| entry.details.get(key).and_then(Value::as_str);
    if entry.kind == "intent" {
        return Verdict::Permit.to_string();
    }
    let liftable = entry.details.contains_key("permitted_by_approval")
        || matches!(text("outcome"), Some("pending" | "rejected"));
    match text("reason") {
        Some("policy" | "policy_error" | "arguments") if liftable => Verdict::Escalate.to_string(),
        Some("policy" | "policy_error" | "arguments") => Verdict::Hard.to_string(),
        other => format!("not decided ({})", other.unwrap_or("no reason")),
    }
}

/// Decides every call by one set and by another.
pub(crate) fn replay(
    recorded: &Recorded,
    before: &Arc<PolicySet>,
    after: &Arc<PolicySet>,
) -> Replay {
    let slices: Vec<Option<(Slices, Slices)>> = recorded
        .targets
        .iter()
        .map(|target| {
            let (old, new) = (Slices::new(before, target), Slices::new(after, target));
            // The same policies say the same: nothing is to be decided.
            (!old.same(&new)).then_some((old, new))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let changes = Mutex::new(Vec::new());
    let progress = Mutex::new(Progress::new("calls decided:", recorded.calls.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(call) = recorded.calls.get(at) else {
                break;
            };
            if let Some(change) = changed(recorded, call, &slices)
                && let Ok(mut changes) = changes.lock()
            {
                changes.push((at, change));
            }
            if at.is_multiple_of(64)
                && let Ok(mut progress) = progress.lock()
            {
                progress.at(at);
            }
        }
    };
    workers::share(work);
    drop(progress);
    let mut changes = changes.into_inner().unwrap_or_default();
    changes.sort_by_key(|(at, _)| *at);
    let mut doubts = BTreeMap::new();
    for doubt in recorded.calls.iter().flat_map(|call| &call.doubts) {
        *doubts.entry(*doubt).or_default() += 1;
    }
    Replay {
        calls: recorded.calls.len(),
        doubtful: recorded
            .calls
            .iter()
            .filter(|call| !call.doubts.is_empty())
            .count(),
        doubts,
        changes: changes.into_iter().map(|(_, change)| change).collect(),
    }
}

fn changed(
    recorded: &Recorded,
    call: &Call,
    slices: &[Option<(Slices, Slices)>],
) -> Option<Change> {
    let (old, new) = slices.get(call.target)?.as_ref()?;
    let target = recorded.targets.get(call.target)?;
    let principal = recorded.principals.get(call.agent)?;
    let decide = |slices: &Slices| {
        let command = Command {
            target: Arc::clone(target),
            arguments: call.arguments.clone(),
        };
        slices.invoke(principal, command, call.at)
    };
    let (before, after) = (decide(old), decide(new));
    if before.verdict == after.verdict && before.approvals == after.approvals {
        return None;
    }
    Some(Change {
        place: call.place.clone(),
        at: call.at.now,
        agent: principal.agent().name.to_string(),
        command: target.key.clone(),
        then: call.then.clone(),
        before,
        after,
        doubts: call.doubts.clone(),
    })
}
