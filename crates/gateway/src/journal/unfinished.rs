//! Commands that had begun when the gateway ended, of which nobody recorded the outcome.

use std::{collections::HashSet, io, path::Path, time::Duration};

use authz::{AgentId, AgentName, CommandKey, DecisionId, Timestamp};
use serde::Deserialize;

use super::disk;

/// No command takes longer: what began so long before the end is not looked for.
const LONGEST: Duration = Duration::from_hours(24);

/// A command whose outcome nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Unfinished {
    pub(super) decision: DecisionId,
    #[serde(default)]
    pub(super) agent: Option<AgentId>,
    #[serde(default)]
    pub(super) agent_name: Option<AgentName>,
    #[serde(default)]
    pub(super) command: Option<CommandKey>,
}

#[derive(Deserialize)]
struct Line {
    at: Timestamp,
    kind: String,
    #[serde(default)]
    decision: Option<DecisionId>,
    /// Of a `start` within a run.
    #[serde(default)]
    resumed: bool,
}

/// The commands that began in the last run of the gateway and have no outcome, oldest
/// first. Read from the end, so that as little is held as was under way at once.
///
/// # Errors
///
/// When a file cannot be read.
pub(super) fn unfinished(folder: &Path) -> io::Result<Vec<Unfinished>> {
    let mut closed: HashSet<DecisionId> = HashSet::new();
    let mut open = Vec::new();
    let mut newest: Option<Timestamp> = None;
    'files: for (_, path) in disk::files(folder)?.into_iter().rev() {
        let text = std::fs::read_to_string(&path)?;
        for text in text.lines().rev() {
            // Whether the chain holds is for others to say.
            let Ok(line) = serde_json::from_str::<Line>(text) else {
                continue;
            };
            let newest = *newest.get_or_insert(line.at);
            let over = match (line.kind.as_str(), line.decision) {
                ("start", _) => !line.resumed,
                ("outcome", Some(decision)) => {
                    closed.insert(decision);
                    false
                }
                ("intent", Some(decision)) => {
                    if !closed.remove(&decision)
                        && let Ok(unfinished) = serde_json::from_str(text)
                    {
                        open.push(unfinished);
                    }
                    false
                }
                _ => false,
            };
            if over || newest.since(line.at) > LONGEST {
                break 'files;
            }
        }
    }
    open.reverse();
    Ok(open)
}
