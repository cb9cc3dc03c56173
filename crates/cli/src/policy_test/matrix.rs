//! The matrix: what each agent of the fixtures may do with each command, as a text to
//! keep beside the policies, so that a change of policy shows in review.

use std::{collections::BTreeMap, fmt::Write as _, net::Ipv4Addr, sync::Arc};

use authz::{
    AgentName, Arguments, Circumstances, Command, Facts, PolicySet, Principal, Risk, Timestamp,
};

use super::{Fixtures, Verdict, invoke};

/// Agents × commands.
pub(crate) struct Matrix {
    agents: Vec<AgentName>,
    /// By command: its risk, and an answer per agent.
    rows: BTreeMap<String, (Risk, Vec<Cell>)>,
}

/// What comes of one command of one agent without any grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    Permit,
    /// People can lift it: so many.
    Ask(u8),
    Hard,
}

/// One call of which two policy sets say different things.
pub(crate) struct Change {
    pub(crate) command: String,
    pub(crate) agent: String,
    pub(crate) before: String,
    pub(crate) after: String,
}

impl Cell {
    fn text(self) -> String {
        match self {
            Self::Permit => "✔".to_owned(),
            Self::Ask(people) => format!("?{people}"),
            Self::Hard => "✘".to_owned(),
        }
    }
}

impl Matrix {
    /// Asks about every command of every agent, without arguments.
    pub(crate) fn new(
        policies: &Arc<PolicySet>,
        fixtures: &Fixtures,
        now: Timestamp,
    ) -> Result<Self, String> {
        let agents: Vec<AgentName> = fixtures.agents().cloned().collect();
        let principals = agents.iter().map(|name| {
            let agent = fixtures.agent(name)?;
            Ok(Principal::new(Facts {
                agent,
                grants: Vec::new(),
                version: 0,
            }))
        });
        let principals = principals.collect::<Result<Vec<_>, String>>()?;
        let at = Circumstances::new(now, Ipv4Addr::LOCALHOST.into());
        let mut rows = BTreeMap::new();
        for target in fixtures.targets() {
            let cells = principals.iter().map(|principal| {
                let command = Command {
                    target: Arc::clone(&target),
                    arguments: Arguments::new(serde_json::Map::new()),
                };
                let answer = invoke(policies, principal, command, at);
                match answer.verdict {
                    Verdict::Permit => Cell::Permit,
                    Verdict::Escalate => Cell::Ask(answer.approvals.unwrap_or(1)),
                    // The last three are no answer to a call.
                    Verdict::Hard | Verdict::Refuse | Verdict::Allow | Verdict::Deny => Cell::Hard,
                }
            });
            rows.insert(target.key.to_string(), (target.risk, cells.collect()));
        }
        Ok(Self { agents, rows })
    }

    /// As text: one line per command, one column per agent.
    pub(crate) fn text(&self) -> String {
        let mut text = String::from(
            "# What each agent may do without a grant. Written by `cedargate policy matrix --write`.\n# ✔ permit · ?1 ?2 refused, and so many people can lift it · ✘ refused for good\n",
        );
        let width = self
            .rows
            .keys()
            .map(|key| key.chars().count())
            .max()
            .unwrap_or(0);
        let mut header = format!("{:width$}  risk   ", "command");
        for agent in &self.agents {
            let _ = write!(header, "  {agent}");
        }
        let _ = writeln!(text, "{}", header.trim_end());
        for (key, (risk, cells)) in &self.rows {
            let mut line = format!("{key:width$}  {:7}", risk.as_str());
            for (agent, cell) in self.agents.iter().zip(cells) {
                let column = agent.as_str().chars().count();
                let _ = write!(line, "  {:column$}", cell.text());
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text
    }

    /// Where the answers differ from another text's: lines of one and of the other.
    pub(crate) fn differences(&self, golden: &str) -> Vec<String> {
        let now = self.text();
        let of = |text: &str| -> BTreeMap<String, String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines
                .map(|line| {
                    (
                        line.split_whitespace()
                            .next()
                            .unwrap_or_default()
                            .to_owned(),
                        line.to_owned(),
                    )
                })
                .collect()
        };
        let (before, after) = (of(golden), of(&now));
        let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let mut differences = Vec::new();
        for key in keys {
            let (old, new) = (before.get(key), after.get(key));
            if old != new {
                differences.extend(old.map(|line| format!("- {line}")));
                differences.extend(new.map(|line| format!("+ {line}")));
            }
        }
        if differences.is_empty() && golden.replace("\r\n", "\n") != now {
            differences.push("the text differs in its comments or layout".to_owned());
        }
        differences
    }

    /// How many calls it is about.
    pub(crate) fn len(&self) -> usize {
        self.rows.values().map(|(_, cells)| cells.len()).sum()
    }

    /// What another matrix of the same fixtures says otherwise.
    pub(crate) fn changes(&self, other: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (key, (_, cells)) in &self.rows {
            let new = other
                .rows
                .get(key)
                .map(|(_, cells)| cells.as_slice())
                .unwrap_or_default();
            for ((agent, before), after) in self.agents.iter().zip(cells).zip(new) {
                if before != after {
                    changes.push(Change {
                        command: key.clone(),
                        agent: agent.to_string(),
                        before: before.text(),
                        after: after.text(),
                    });
                }
            }
        }
        changes
    }

    /// For scripts.
    pub(crate) fn json(&self) -> serde_json::Value {
        let row = |(key, (risk, cells)): (&String, &(Risk, Vec<Cell>))| {
            let answers: serde_json::Map<String, serde_json::Value> = self
                .agents
                .iter()
                .zip(cells)
                .map(|(agent, cell)| {
                    let value = match cell {
                        Cell::Permit => serde_json::json!({"verdict": "permit"}),
                        Cell::Ask(people) => {
                            serde_json::json!({"verdict": "escalate", "approvals": people})
                        }
                        Cell::Hard => serde_json::json!({"verdict": "hard"}),
                    };
                    (agent.to_string(), value)
                })
                .collect();
            serde_json::json!({"command": key, "risk": risk, "agents": answers})
        };
        self.rows.iter().map(row).collect()
    }
}
