//! Checking the stored journals: that every line is what its gateway wrote, in its order.
//!
//! One check runs at a time, in the background, some lines at once, so that it neither
//! holds a request nor keeps the database from others. What it found stays in memory.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use contract::audit::{BrokenLine, JournalEntry, Verification};

use crate::{Orchestrator, api::hash_of, error::Error};

/// So many lines are read at once.
const LINES_AT_ONCE: u32 = 1_000;

/// The hash before a chain's first line.
const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What was found, and whether somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Verifications(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    running: bool,
    found: BTreeMap<String, Verification>,
}

impl Verifications {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while holding it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was found so far, by gateway.
    pub(crate) fn found(&self) -> Vec<Verification> {
        self.state().found.values().cloned().collect()
    }
}

/// The end of what was checked.
struct Head {
    sequence: i64,
    hash: String,
}

/// Begins to check every gateway's stored lines, unless that is under way.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn begin(orchestrator: &Orchestrator) -> Result<(), Error> {
    let heads = orchestrator.store().journal_heads().await?;
    let began = orchestrator.now();
    {
        let mut state = orchestrator.inner.verifications.state();
        if state.running {
            return Ok(());
        }
        state.running = true;
        state.found = heads
            .into_iter()
            .map(|(gateway, stored, _)| {
                let verification = Verification {
                    gateway: gateway.clone(),
                    stored,
                    verified: 0,
                    running: true,
                    broken: None,
                    began,
                    ended: None,
                };
                (gateway, verification)
            })
            .collect();
    }
    let orchestrator = orchestrator.clone();
    let closing = orchestrator.inner.closing.clone();
    tokio::spawn(async move {
        let ended = closing
            .run_until_cancelled(check_all(&orchestrator))
            .await
            .unwrap_or(Ok(()));
        if let Err(error) = ended {
            error.log();
        }
        let mut state = orchestrator.inner.verifications.state();
        state.running = false;
        for verification in state.found.values_mut() {
            verification.running = false;
        }
    });
    Ok(())
}

async fn check_all(orchestrator: &Orchestrator) -> Result<(), Error> {
    let wanted: Vec<_> = orchestrator.inner.verifications.found();
    for Verification {
        gateway, stored, ..
    } in wanted
    {
        let broken = check(orchestrator, &gateway, stored).await?;
        if let Some(broken) = &broken {
            tracing::error!(
                gateway,
                line = broken.sequence,
                reason = broken.reason,
                "audit_chain_broken"
            );
        }
        let ended = orchestrator.now();
        note(orchestrator, &gateway, |verification| {
            verification.broken = broken;
            verification.running = false;
            verification.ended = Some(ended);
        });
    }
    Ok(())
}

fn note(orchestrator: &Orchestrator, gateway: &str, change: impl FnOnce(&mut Verification)) {
    if let Some(verification) = orchestrator
        .inner
        .verifications
        .state()
        .found
        .get_mut(gateway)
    {
        change(verification);
    }
}

/// Checks one gateway's lines up to `stored`; says where they break.
async fn check(
    orchestrator: &Orchestrator,
    gateway: &str,
    stored: i64,
) -> Result<Option<BrokenLine>, Error> {
    let mut head = Head {
        sequence: 0,
        hash: NO_HASH.to_owned(),
    };
    while head.sequence < stored {
        let lines = orchestrator
            .store()
            .journal_lines(gateway, head.sequence, LINES_AT_ONCE)
            .await?;
        if lines.is_empty() {
            return Ok(Some(BrokenLine {
                sequence: head.sequence + 1,
                reason: "it is missing".to_owned(),
            }));
        }
        let named = gateway.to_owned();
        let checked = tokio::task::spawn_blocking(move || follow(&named, head, lines)).await;
        let (reached, broken) = checked.map_err(|error| Error::Bug(error.to_string()))?;
        head = reached;
        let verified = head.sequence;
        note(orchestrator, gateway, |verification| {
            verification.verified = verified;
        });
        if broken.is_some() {
            return Ok(broken);
        }
    }
    Ok(None)
}

/// Checks lines that should follow `head`: how far they do, and what is wrong with the next.
fn follow(gateway: &str, head: Head, lines: Vec<(i64, String)>) -> (Head, Option<BrokenLine>) {
    let mut head = head;
    for (sequence, text) in lines {
        let next = head.sequence + 1;
        let reason = match follows(gateway, &head, sequence, &text) {
            Ok(hash) => {
                head = Head {
                    sequence,
                    hash: hash.to_owned(),
                };
                continue;
            }
            Err(reason) => reason,
        };
        let broken = BrokenLine {
            sequence: next,
            reason: reason.to_owned(),
        };
        return (head, Some(broken));
    }
    (head, None)
}

fn follows<'a>(
    gateway: &str,
    head: &Head,
    sequence: i64,
    text: &'a str,
) -> Result<&'a str, &'static str> {
    if sequence != head.sequence + 1 {
        return Err("it is missing");
    }
    let hash = hash_of(text).ok_or("it was changed: its hash is not that of its text")?;
    let entry: JournalEntry = serde_json::from_str(text).map_err(|_| "it is not a journal line")?;
    if entry.sequence != sequence || entry.gateway != gateway {
        return Err("it is another line, put in its place");
    }
    if entry.previous != head.hash {
        return Err("it does not hold the hash of the line before");
    }
    Ok(hash)
}

/// What can be told of one line alone, and of it and the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineCheck {
    /// It is as written, and follows the one before.
    Whole,
    /// What is wrong with it.
    Broken(&'static str),
}

/// Checks one stored line of a gateway's journal with the one before it.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn check_line(
    orchestrator: &Orchestrator,
    gateway: &str,
    sequence: i64,
) -> Result<LineCheck, Error> {
    let lines = orchestrator
        .store()
        .journal_lines(gateway, (sequence - 2).max(0), 2)
        .await?;
    let head = match lines.iter().find(|(place, _)| *place == sequence - 1) {
        Some((place, text)) => match hash_of(text) {
            Some(hash) => Head {
                sequence: *place,
                hash: hash.to_owned(),
            },
            None => return Ok(LineCheck::Broken("the line before it was changed")),
        },
        None if sequence == 1 => Head {
            sequence: 0,
            hash: NO_HASH.to_owned(),
        },
        None => return Ok(LineCheck::Broken("the line before it is missing")),
    };
    let Some((place, text)) = lines.iter().find(|(place, _)| *place == sequence) else {
        return Ok(LineCheck::Broken("it is missing"));
    };
    Ok(match follows(gateway, &head, *place, text) {
        Ok(_) => LineCheck::Whole,
        Err(reason) => LineCheck::Broken(reason),
    })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    /// A chain of so many lines, as a gateway writes them.
    fn chain(gateway: &str, lines: i64) -> Vec<(i64, String)> {
        let mut previous = NO_HASH.to_owned();
        (1..=lines)
            .map(|sequence| {
                let body = format!(
                    "{{\"sequence\":{sequence},\"previous\":\"{previous}\",\"at\":\"2026-11-22T10:00:00.000Z\",\"gateway\":\"{gateway}\",\"kind\":\"start\""
                );
                let hash = hex::encode(Sha256::digest(format!("{body}}}")));
                previous.clone_from(&hash);
                (sequence, format!("{body},\"hash\":\"{hash}\"}}"))
            })
            .collect()
    }

    fn checked(lines: Vec<(i64, String)>) -> (i64, Option<(i64, String)>) {
        let head = Head {
            sequence: 0,
            hash: NO_HASH.to_owned(),
        };
        let (head, broken) = follow("edge", head, lines);
        (
            head.sequence,
            broken.map(|broken| (broken.sequence, broken.reason)),
        )
    }

    #[test]
    fn a_chain_breaks_where_it_was_touched() {
        let whole = chain("edge", 5);
        assert_eq!(checked(whole.clone()), (5, None));

        let mut edited = whole.clone();
        edited[2].1 = edited[2].1.replace("10:00", "11:00");
        let (verified, broken) = checked(edited);
        assert_eq!((verified, broken.as_ref().unwrap().0), (2, 3));
        assert!(broken.unwrap().1.contains("changed"));

        let mut missing = whole.clone();
        missing.remove(1);
        assert_eq!(checked(missing), (1, Some((2, "it is missing".to_owned()))));

        // Rewritten with a hash of its own: then the next does not follow.
        let mut rewritten = whole.clone();
        let line = &mut rewritten[1].1;
        let body = line
            .split(",\"hash\":")
            .next()
            .unwrap()
            .replace("10:00", "12:00");
        let hash = hex::encode(Sha256::digest(format!("{body}}}")));
        *line = format!("{body},\"hash\":\"{hash}\"}}");
        let (verified, broken) = checked(rewritten);
        assert_eq!((verified, broken.as_ref().unwrap().0), (2, 3));
        assert!(broken.unwrap().1.contains("the line before"));

        let (verified, broken) = checked(chain("another", 2));
        assert_eq!((verified, broken.unwrap().0), (0, 1));
    }
}
