//! What was proved, for people, scripts and GitHub.

use std::{collections::BTreeSet, fmt::Write as _, path::Path, time::Duration};

use authz::prove::{Claim, Counterexample, Kind, Of, Theory};
use orchestrator::policy_folder;
use serde_json::{Value, json};

use super::solver::Solver;
use crate::{
    arguments::ProofFormat,
    output,
    policy_test::{github_data, github_property},
};

/// What came of a claim.
pub(super) struct Outcome<'a> {
    pub(super) claim: &'a Claim,
    /// By kind of request.
    pub(super) results: Vec<(String, Came)>,
}

/// What came of a claim for one kind of request.
pub(super) enum Came {
    Holds,
    Refuted {
        found: Box<Counterexample>,
        /// As a test that fails.
        test: Option<String>,
    },
    /// The invariant matches nothing at all.
    Vacuous,
    Unknown(String),
}

impl Came {
    fn word(&self) -> &'static str {
        match self {
            Self::Holds => "proved",
            Self::Refuted { .. } => "false",
            Self::Vacuous => "vacuous",
            Self::Unknown(_) => "not-proved",
        }
    }
}

/// What came of everything.
pub(super) struct Report<'a> {
    pub(super) theory: &'a Theory,
    pub(super) folder: &'a str,
    pub(super) old: Option<&'a Path>,
    pub(super) invariants: Option<&'a Path>,
    pub(super) solver: &'a Solver,
    pub(super) outcomes: &'a [Outcome<'a>],
    pub(super) took: Duration,
}

/// How many kinds of request are named behind a claim that holds.
const NAMED: usize = 6;

/// How many counterexamples are shown to people for one claim; JSON has all.
const SHOWN: usize = 2;

/// What is claimed, in a line.
pub(super) fn name(claim: &Claim) -> String {
    let id = claim.policy.as_ref().map_or("", |place| place.id.as_str());
    match claim.kind {
        Kind::NeverFails => format!("{id} can always be evaluated"),
        Kind::Never | Kind::Always => id.to_owned(),
        Kind::NotWider => "nothing is permitted that was not before".to_owned(),
    }
}

/// Whether it is proved, and claimed of every policy.
fn is_routine(outcome: &Outcome<'_>) -> bool {
    outcome.claim.kind == Kind::NeverFails && outcome.word() == "proved"
}

impl Outcome<'_> {
    /// `proved`, `false`, `vacuous` or `not-proved`: the worst of all kinds of request.
    fn word(&self) -> &'static str {
        let words: BTreeSet<&str> = self
            .results
            .iter()
            .map(|(_, result)| result.word())
            .collect();
        for word in ["false", "vacuous", "not-proved"] {
            if words.contains(word) {
                return word;
            }
        }
        // An invariant about no kind of request says nothing.
        if self.results.is_empty() && matches!(self.claim.kind, Kind::Never | Kind::Always) {
            return "vacuous";
        }
        "proved"
    }
}

impl Report<'_> {
    /// How many claims were proved, are false (or say nothing), and neither.
    pub(super) fn counts(&self) -> (usize, usize, usize) {
        let of = |words: &[&str]| {
            let outcomes = self.outcomes.iter();
            outcomes
                .filter(|outcome| words.contains(&outcome.word()))
                .count()
        };
        (
            of(&["proved"]),
            of(&["false", "vacuous"]),
            of(&["not-proved"]),
        )
    }

    /// As a text of that format.
    pub(super) fn text(&self, format: ProofFormat) -> anyhow::Result<String> {
        match format {
            ProofFormat::Human => Ok(output::printable_lines(&self.human())),
            ProofFormat::Json => output::json(&self.json()),
            ProofFormat::Github => Ok(self.github()),
        }
    }

    fn summary(&self) -> String {
        let (proved, wrong, unknown) = self.counts();
        let mut text = format!("{proved} proved");
        if wrong > 0 {
            let _ = write!(text, ", {wrong} FALSE");
        }
        if unknown > 0 {
            let _ = write!(text, ", {unknown} NOT PROVED");
        }
        let _ = write!(
            text,
            " · {} policies, version {} · {} · {:.1} s",
            self.theory.policies(),
            self.theory.version().short(),
            self.solver.version,
            self.took.as_secs_f64()
        );
        text
    }

    fn human(&self) -> String {
        let mut text = self.summed_up();
        for outcome in self.outcomes.iter().filter(|outcome| !is_routine(outcome)) {
            let mark = match outcome.word() {
                "proved" => "✔",
                "not-proved" => "?",
                _ => "✘",
            };
            let _ = writeln!(
                text,
                "{mark} {}{}",
                name(outcome.claim),
                where_proved(outcome)
            );
            text.push_str(&self.details(outcome));
        }
        text.push('\n');
        text + &self.summary()
    }

    /// What is claimed of every policy, and was proved, in a line for all.
    fn summed_up(&self) -> String {
        let mut text = String::new();
        let all = [
            (Of::Set, "no `forbid` can fail"),
            (Of::Invariants, "every invariant can be evaluated"),
            (Of::Old, "no `forbid` of before can fail"),
        ];
        for (whose, what) in all {
            let of = |outcome: &&Outcome<'_>| {
                let of = outcome.claim.policy.as_ref().map(|place| place.of);
                outcome.claim.kind == Kind::NeverFails && of == Some(whose)
            };
            let (routine, rest): (Vec<_>, Vec<_>) = self
                .outcomes
                .iter()
                .filter(of)
                .partition(|outcome| is_routine(outcome));
            if !routine.is_empty() && rest.is_empty() {
                let _ = writeln!(
                    text,
                    "✔ {what}   {}",
                    super::super::count_policies(routine.len())
                );
            }
        }
        text
    }

    /// What to say of a claim that was not proved.
    fn details(&self, outcome: &Outcome<'_>) -> String {
        let mut text = String::new();
        if outcome.word() == "proved" {
            return text;
        }
        if let Some(place) = &outcome.claim.policy {
            let _ = writeln!(text, "  --> {}:{}", self.file(outcome.claim), place.line);
            if let Some(advice) = &place.advice {
                let _ = writeln!(text, "  {advice}");
            }
        }
        if outcome.word() == "vacuous" {
            text.push_str(VACUOUS);
            text.push('\n');
            return text;
        }
        let others: Vec<&str> = outcome
            .results
            .iter()
            .filter(|(_, result)| matches!(result, Came::Holds))
            .map(|(environment, _)| action(environment))
            .collect();
        if !others.is_empty() {
            let _ = writeln!(text, "  proved for {}", others.join(", "));
        }
        let mut shown = 0;
        for (environment, result) in &outcome.results {
            match result {
                Came::Unknown(why) => {
                    let _ = writeln!(text, "  not proved for {environment}: {why}");
                }
                Came::Refuted { found, test } => {
                    shown += 1;
                    let _ = writeln!(text, "  not so for {environment}: {}", what(found));
                    if shown <= SHOWN {
                        text.push_str(&example(found, test.as_deref()));
                    }
                }
                Came::Holds | Came::Vacuous => {}
            }
        }
        text
    }

    /// The file of the policy that a claim is about.
    fn file(&self, claim: &Claim) -> String {
        let Some(place) = &claim.policy else {
            return String::new();
        };
        let folder = Path::new(self.folder);
        let path = match (place.of, self.invariants) {
            (Of::Invariants, Some(named)) => {
                let own = policy_folder::INVARIANTS;
                let file = Path::new(&place.file);
                named.join(file.strip_prefix(own).unwrap_or(file))
            }
            (Of::Old, _) => self.old.unwrap_or(folder).join(&place.file),
            (Of::Set | Of::Invariants, _) => folder.join(&place.file),
        };
        path.display().to_string()
    }

    fn json(&self) -> Value {
        let (proved, wrong, unknown) = self.counts();
        let result = |claim: &Claim, result: &Came| match result {
            Came::Refuted { found, test } => json!({
                "counterexample": found,
                "test": test,
                "official_test": official(claim, found),
            }),
            Came::Unknown(why) => json!({"reason": why}),
            Came::Holds | Came::Vacuous => json!({}),
        };
        let outcome = |outcome: &Outcome<'_>| {
            let results = outcome.results.iter().map(|(environment, of)| {
                let mut value = result(outcome.claim, of);
                if let Some(members) = value.as_object_mut() {
                    members.insert("environment".to_owned(), json!(environment));
                    members.insert("result".to_owned(), json!(of.word()));
                }
                value
            });
            json!({
                "claim": name(outcome.claim),
                "kind": outcome.claim.kind,
                "policy": outcome.claim.policy,
                "result": outcome.word(),
                "environments": results.collect::<Vec<_>>(),
            })
        };
        json!({
            "version": self.theory.version(),
            "policies": self.theory.policies(),
            "solver": {"path": self.solver.path, "version": self.solver.version},
            "proved": proved,
            "false": wrong,
            "not_proved": unknown,
            "claims": self.outcomes.iter().map(outcome).collect::<Vec<_>>(),
        })
    }

    fn github(&self) -> String {
        let mut text = String::new();
        for outcome in self
            .outcomes
            .iter()
            .filter(|outcome| outcome.word() != "proved")
        {
            let place = outcome
                .claim
                .policy
                .as_ref()
                .map_or_else(String::new, |place| {
                    format!(
                        "file={},line={},",
                        github_property(&self.file(outcome.claim)),
                        place.line
                    )
                });
            let _ = writeln!(
                text,
                "::error {place}title={}::{}",
                github_property(&name(outcome.claim)),
                github_data(self.details(outcome).trim_end())
            );
        }
        text + &github_data(&self.summary())
    }
}

/// For which kinds of request a claim is proved.
fn where_proved(outcome: &Outcome<'_>) -> String {
    if outcome.word() != "proved" {
        return String::new();
    }
    let actions: BTreeSet<&str> = outcome
        .results
        .iter()
        .map(|(environment, _)| action(environment))
        .collect();
    let named: Vec<&str> = actions.iter().copied().take(NAMED).collect();
    let more = match actions.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("   {}{more}", named.join(", "))
}

const VACUOUS: &str =
    "  it matches nothing that could ever be asked, and so says nothing: is there a slip in it?";

/// The action of a kind of request: `Agent write Command` → `write`.
fn action(environment: &str) -> &str {
    environment.split(' ').nth(1).unwrap_or(environment)
}

/// What the policies say to a request.
fn what(found: &Counterexample) -> String {
    let by = |ids: &[String]| match ids {
        [] => "no policy permits it".to_owned(),
        ids => format!("by {}", ids.join(", ")),
    };
    let answer = if found.permitted {
        "permitted"
    } else {
        "refused"
    };
    let mut text = format!("{answer}, {}", by(&found.policies));
    if !found.errors.is_empty() {
        let _ = write!(text, "; cannot be evaluated: {}", found.errors.join(", "));
    }
    text
}

/// A counterexample to look at and to keep.
fn example(found: &Counterexample, told: Option<&str>) -> String {
    let mut text = String::new();
    if let Some(told) = told {
        text.push_str("  A test that fails, to put beside the policies as *.test.yaml:\n\n");
        indent(&mut text, told);
    } else {
        text.push_str("  It cannot be told as a call of an agent or a right of a person:\n\n");
        indent(&mut text, &readable(found));
    }
    text.push('\n');
    text
}

fn indent(text: &mut String, lines: &str) {
    for line in lines.lines() {
        let _ = writeln!(text, "    {line}");
    }
}

/// A request as Cedar's entities, each on a line.
fn readable(found: &Counterexample) -> String {
    let literal = |(kind, id): &(String, String)| format!("{kind}::{}", Value::from(id.as_str()));
    let mut text = format!(
        "{} {} {}\ncontext {}\n",
        literal(&found.principal),
        found.action,
        literal(&found.resource),
        value(&found.context)
    );
    for entity in found.entities.as_array().into_iter().flatten() {
        let part = |name: &str| entity.get(name).map(value).filter(|text| text.len() > 2);
        text.push_str(&part("uid").unwrap_or_default());
        for (name, before) in [("parents", " in "), ("attrs", " "), ("tags", " tags ")] {
            if let Some(part) = part(name) {
                let _ = write!(text, "{before}{part}");
            }
        }
        text.push('\n');
    }
    text
}

/// A value of Cedar's JSON as policies would write it.
fn value(json: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match json {
        Value::Object(members) => {
            let text = |of: &Value, key: &str| of.get(key).and_then(Value::as_str).map(Value::from);
            let entity = json.get("__entity").unwrap_or(json);
            if let (Some(kind), Some(id)) = (entity.get("type"), text(entity, "id")) {
                return format!("{}::{id}", kind.as_str().unwrap_or_default());
            }
            let extension = json.get("__extn");
            if let Some((name, argument)) =
                extension.and_then(|of| Some((of.get("fn")?.as_str()?, text(of, "arg")?)))
            {
                return format!("{name}({argument})");
            }
            let member = |(key, of): (&String, &Value)| format!("{key}: {}", value(of));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        Value::Array(items) => format!("[{}]", list(items.iter().map(value).collect())),
        other => other.to_string(),
    }
}

/// As a test of `cedar run-tests`, of what is claimed.
pub(super) fn official(claim: &Claim, found: &Counterexample) -> Value {
    let permit = match claim.kind {
        Kind::Always => true,
        Kind::Never | Kind::NotWider => false,
        Kind::NeverFails => found.permitted,
    };
    found.official_test(&name(claim), permit)
}
