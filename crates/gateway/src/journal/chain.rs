//! The chain: how a line is written, and how one is checked.

use contract::audit::JournalEntry;
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What stands between a line's own members and its hash.
const HASH_MEMBER: &str = ",\"hash\":\"";

/// A hash is so many hexadecimal digits.
const HASH_DIGITS: usize = 64;

/// The end of a chain: what the next line names as its predecessor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last line's place, from 1; 0 for an empty chain.
    pub sequence: i64,
    /// The last line's hash in hexadecimal; 64 zeros for an empty chain.
    pub hash: String,
}

impl Head {
    /// The head of an empty chain.
    #[must_use]
    pub fn empty() -> Self {
        Self {
            sequence: 0,
            hash: "0".repeat(HASH_DIGITS),
        }
    }
}

/// What a line says, before it has its place in the chain: JSON without the opening
/// brace, so that the writer need only put the place before it.
#[derive(Clone, Debug)]
pub(super) struct Record(String);

/// The members of a line that its author sets, in the order of [`JournalEntry`].
#[derive(Serialize)]
pub(super) struct Members<'a> {
    pub(super) at: authz::Timestamp,
    pub(super) gateway: &'a str,
    pub(super) kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision: Option<authz::DecisionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<authz::AgentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent_name: Option<&'a authz::AgentName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<&'a authz::CommandKey>,
    #[serde(flatten)]
    pub(super) details: Map<String, Value>,
}

impl Record {
    pub(super) fn new(members: &Members<'_>) -> Self {
        // Names and numbers and JSON values always serialise; should that ever change, the
        // line is unreadable and the chain's own check says so.
        let mut text = serde_json::to_string(members).unwrap_or_default();
        if text.starts_with('{') {
            text.remove(0);
        }
        Self(text)
    }

    /// Gives the record its place after `head`: writes the line, without its line feed, to
    /// the end of `lines`; the chain's new head.
    pub(super) fn link(&self, head: &Head, lines: &mut Vec<u8>) -> Head {
        let sequence = head.sequence.saturating_add(1);
        let begin = format!("{{\"sequence\":{sequence},\"previous\":\"{}\",", head.hash);
        let own = self.0.as_bytes();
        let mut digest = Sha256::new();
        digest.update(begin.as_bytes());
        digest.update(own);
        let hash = hex::encode(digest.finalize());
        lines.reserve(begin.len() + own.len() + HASH_MEMBER.len() + HASH_DIGITS + 3);
        lines.extend_from_slice(begin.as_bytes());
        // The hash comes before the brace that ends the line.
        lines.extend_from_slice(own.strip_suffix(b"}").unwrap_or(own));
        lines.extend_from_slice(HASH_MEMBER.as_bytes());
        lines.extend_from_slice(hash.as_bytes());
        lines.extend_from_slice(b"\"}");
        Head { sequence, hash }
    }
}

/// Checks a line against its own hash; gives what it says and the head that it makes.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn check(line: &str) -> Result<(JournalEntry, Head), &'static str> {
    let Some((body, hash)) = line
        .strip_suffix("\"}")
        .and_then(|rest| rest.rsplit_once(HASH_MEMBER))
        .filter(|(_, hash)| hash.len() == HASH_DIGITS)
    else {
        return Err("it does not end with a hash");
    };
    let mut digest = Sha256::new();
    digest.update(body.as_bytes());
    digest.update(b"}");
    if hex::encode(digest.finalize()) != hash {
        return Err("it was changed: its hash is not that of its text");
    }
    let entry: JournalEntry = serde_json::from_str(line).map_err(|_| "it is not a journal line")?;
    let head = Head {
        sequence: entry.sequence,
        hash: hash.to_owned(),
    };
    Ok((entry, head))
}

/// Checks that a line follows `head`.
///
/// # Errors
///
/// What is wrong with it.
pub(super) fn follows(line: &str, head: &Head) -> Result<(JournalEntry, Head), &'static str> {
    let (entry, next) = check(line)?;
    if entry.sequence != head.sequence.saturating_add(1) {
        return Err("its sequence does not follow the line before");
    }
    if entry.previous != head.hash {
        return Err("it does not hold the hash of the line before");
    }
    Ok((entry, next))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(kind: &str) -> Record {
        let Value::Object(details) = json!({"arguments": {"name": "}\"x\n"}, "status": "success"})
        else {
            panic!()
        };
        Record::new(&Members {
            at: authz::Timestamp::from_millis(1_000),
            gateway: "gateway-1",
            kind,
            decision: None,
            agent: Some(authz::AgentId::LOCAL),
            agent_name: None,
            command: Some(&"coolify/list-servers".parse().unwrap()),
            details,
        })
    }

    fn link(record: &Record, head: &Head) -> (String, Head) {
        let mut lines = Vec::new();
        let head = record.link(head, &mut lines);
        (String::from_utf8(lines).unwrap(), head)
    }

    #[test]
    fn a_line_is_the_documented_entry_and_its_hash_covers_the_rest() {
        let (line, head) = link(&record("intent"), &Head::empty());
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["sequence"], 1);
        assert_eq!(value["previous"], "0".repeat(64));
        assert_eq!(value["hash"], Value::String(head.hash.clone()));

        let without = line.replace(&format!(",\"hash\":\"{}\"", head.hash), "");
        assert_eq!(hex::encode(Sha256::digest(without.as_bytes())), head.hash);

        let (entry, checked) = follows(&line, &Head::empty()).unwrap();
        assert_eq!(checked, head);
        assert_eq!(entry.kind, "intent");
        assert_eq!(entry.command.unwrap().to_string(), "coolify/list-servers");
        assert_eq!(entry.details["status"], "success");
    }

    #[test]
    fn any_changed_byte_is_found() {
        let (first, head) = link(&record("intent"), &Head::empty());
        let (second, _) = link(&record("outcome"), &head);
        assert!(follows(&second, &head).is_ok());
        for position in 0..second.len() {
            let mut bytes = second.clone().into_bytes();
            bytes[position] = if bytes[position] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(
                follows(&changed, &head).is_err(),
                "byte {position}: {changed}"
            );
        }
        assert!(follows(&first, &head).is_err(), "a line repeated");
        assert!(follows(&second, &Head::empty()).is_err(), "a line missing");
    }
}
