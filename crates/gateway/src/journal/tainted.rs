//! Agents that had read what anybody may have written when the gateway ended.

use std::{collections::BTreeSet, io, path::Path};

use authz::{AgentId, Timestamp};
use serde::Deserialize;

use super::disk;

#[derive(Deserialize)]
struct Line {
    at: Timestamp,
    #[serde(default)]
    agent: Option<AgentId>,
    /// Of a command whose answer is untrusted content.
    #[serde(default)]
    untrusted: bool,
    #[serde(default)]
    session: Option<Session>,
}

#[derive(Deserialize)]
struct Session {
    #[serde(default)]
    tainted: bool,
}

/// The agents that, by the lines since then, were tainted or set out to become so. Read
/// from the end, no further than needed.
///
/// # Errors
///
/// When a file cannot be read.
pub(crate) fn tainted(folder: &Path, since: Timestamp) -> io::Result<Vec<AgentId>> {
    let mut tainted = BTreeSet::new();
    'files: for (_, path) in disk::files(folder)?.into_iter().rev() {
        let text = std::fs::read_to_string(&path)?;
        for text in text.lines().rev() {
            // Whether the chain holds is for others to say.
            let Ok(line) = serde_json::from_str::<Line>(text) else {
                continue;
            };
            if line.at < since {
                break 'files;
            }
            let was = line.untrusted || line.session.is_some_and(|session| session.tainted);
            if let Some(agent) = line.agent.filter(|_| was) {
                tainted.insert(agent);
            }
        }
    }
    Ok(tainted.into_iter().collect())
}
