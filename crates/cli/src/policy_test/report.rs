//! What a run of tests found, for people, scripts, GitHub and readers of `JUnit`.

use std::{fmt::Write as _, time::Duration};

use authz::{
    PolicySet,
    explain::{Outcome, PolicyTrace},
    mutate::Place,
};
use serde_json::{Value, json};

use super::{case::Answer, format::Verdict};
use crate::{arguments::ReportFormat, output};

/// What came of one case.
pub(crate) struct Told {
    pub(crate) file: String,
    /// From 1.
    pub(crate) line: u64,
    pub(crate) name: String,
    pub(crate) expected: Verdict,
    pub(crate) came: Answer,
    /// Empty if it passed.
    pub(crate) wrong: Vec<String>,
    /// Of a failed case: what was true of each policy.
    pub(crate) traces: Vec<PolicyTrace>,
    pub(crate) took: Duration,
}

/// What came of a run.
pub(crate) struct Report<'a> {
    pub(crate) policies: &'a PolicySet,
    pub(crate) places: &'a [Place],
    pub(crate) cases: &'a [Told],
    /// Cases that a filter left out.
    pub(crate) left_out: usize,
    pub(crate) took: Duration,
}

/// How many policies that nearly applied are shown.
const NEAREST: usize = 2;

impl Report<'_> {
    /// Cases that did not go as expected.
    pub(crate) fn failed(&self) -> usize {
        self.cases
            .iter()
            .filter(|case| !case.wrong.is_empty())
            .count()
    }

    /// As a text of that format.
    pub(crate) fn text(&self, format: ReportFormat) -> anyhow::Result<String> {
        match format {
            ReportFormat::Human => Ok(output::printable_lines(&self.human())),
            ReportFormat::Json => output::json(&self.json()),
            ReportFormat::Junit => self.junit(),
            ReportFormat::Github => Ok(self.github()),
        }
    }

    fn summary(&self) -> String {
        let failed = self.failed();
        let mut text = format!("{} passed", self.cases.len() - failed);
        if failed > 0 {
            let _ = write!(text, ", {failed} FAILED");
        }
        if self.left_out > 0 {
            let _ = write!(text, ", {} left out", self.left_out);
        }
        let _ = write!(
            text,
            " · {} policies, version {} · {} ms",
            self.policies.len(),
            self.policies.version().short(),
            self.took.as_millis()
        );
        text
    }

    fn human(&self) -> String {
        let mut text = String::new();
        for case in self.cases.iter().filter(|case| !case.wrong.is_empty()) {
            let _ = writeln!(
                text,
                "FAILED  {}\n  --> {}:{}",
                case.name, case.file, case.line
            );
            for wrong in &case.wrong {
                let _ = writeln!(text, "  {wrong}");
            }
            text.push_str(&self.why(case));
            text.push('\n');
        }
        text + &self.summary()
    }

    /// Which policies decided, on what, and which nearly did.
    fn why(&self, case: &Told) -> String {
        let mut text = String::new();
        for trace in case.traces.iter().filter(|trace| trace.matched) {
            let verb = if trace.forbids { "forbids" } else { "permits" };
            let _ = writeln!(text, "  {} {verb}{}", trace.id, self.place(&trace.id));
            for (fact, value) in facts(trace.parts.iter().flat_map(|part| &part.facts)) {
                let _ = writeln!(text, "      {fact} = {value}");
            }
        }
        for advice in &case.came.advice {
            let _ = writeln!(text, "  advice: {advice}");
        }
        // What would have to apply for the expected answer: a permit, or a forbid.
        let forbids = !matches!(case.expected, Verdict::Permit | Verdict::Allow);
        let nearly = case
            .traces
            .iter()
            .filter(|trace| !trace.matched && trace.forbids == forbids);
        for trace in nearly.take(NEAREST) {
            let _ = writeln!(
                text,
                "  nearest: {}{} would {}, but",
                trace.id,
                self.place(&trace.id),
                if forbids { "forbid" } else { "permit" }
            );
            for part in trace
                .missing()
                .filter(|part| part.outcome != Outcome::NotReached)
            {
                let how = if part.outcome == Outcome::Error {
                    "fails"
                } else {
                    "not so"
                };
                let known = facts(&part.facts)
                    .map(|(fact, value)| format!("{fact} = {value}"))
                    .collect::<Vec<_>>()
                    .join(", ");
                let known = if known.is_empty() {
                    known
                } else {
                    format!("   ({known})")
                };
                let _ = writeln!(text, "      {how}: {}{known}", part.text);
            }
        }
        text
    }

    fn place(&self, policy: &str) -> String {
        let place = self.places.iter().find(|place| place.policy == policy);
        place
            .map(|place| format!(" ({}:{})", place.file, place.line))
            .unwrap_or_default()
    }

    fn json(&self) -> Value {
        let case = |case: &Told| {
            json!({
                "file": case.file, "line": case.line, "name": case.name,
                "passed": case.wrong.is_empty(), "expected": case.expected, "came": case.came,
                "wrong": case.wrong, "policies": case.traces,
            })
        };
        json!({
            "version": self.policies.version(),
            "policies": self.policies.len(),
            "passed": self.cases.len() - self.failed(),
            "failed": self.failed(),
            "left_out": self.left_out,
            "tests": self.cases.iter().map(case).collect::<Vec<_>>(),
        })
    }

    fn junit(&self) -> anyhow::Result<String> {
        use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};
        let mut report = Junit::new("cedargate policy test");
        let mut suites: Vec<TestSuite> = Vec::new();
        for told in self.cases {
            let status = if told.wrong.is_empty() {
                TestCaseStatus::success()
            } else {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(told.wrong.join("; "));
                status.set_description(format!(
                    "{}:{}\n{}\n{}",
                    told.file,
                    told.line,
                    told.wrong.join("\n"),
                    self.why(told)
                ));
                status
            };
            let mut case = TestCase::new(told.name.clone(), status);
            case.set_classname(told.file.clone());
            case.set_time(told.took);
            if suites
                .last()
                .is_none_or(|suite| suite.name.as_str() != told.file)
            {
                suites.push(TestSuite::new(told.file.clone()));
            }
            if let Some(suite) = suites.last_mut() {
                suite.add_test_case(case);
            }
        }
        report.add_test_suites(suites);
        Ok(report.to_string()?.trim_end().to_owned())
    }

    fn github(&self) -> String {
        let mut text = String::new();
        for case in self.cases.iter().filter(|case| !case.wrong.is_empty()) {
            let message = format!("{}\n{}", case.wrong.join("\n"), self.why(case));
            let _ = writeln!(
                text,
                "::error file={},line={},title={}::{}",
                github_property(&case.file),
                case.line,
                github_property(&case.name),
                github_data(message.trim_end())
            );
        }
        text + &github_data(&self.summary())
    }
}

/// Facts without repetition.
fn facts<'a>(
    facts: impl IntoIterator<Item = &'a (String, String)>,
) -> impl Iterator<Item = &'a (String, String)> {
    let mut known = std::collections::HashSet::new();
    facts
        .into_iter()
        .filter(move |(fact, _)| known.insert(fact))
}

/// As the text of a workflow command.
pub(crate) fn github_data(text: &str) -> String {
    output::printable_lines(text)
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

pub(crate) fn github_property(text: &str) -> String {
    github_data(text).replace(':', "%3A").replace(',', "%2C")
}
