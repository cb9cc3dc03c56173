//! What every page for people stands in: who is logged in, where they may go, and what the
//! last thing that they did came to.

use std::fmt::Write as _;

use authz::{Timestamp, User, approval::Administration};

use super::moment::Moment;
use crate::{Orchestrator, authenticate::Person, error::Error};

/// A place that the navigation leads to.
struct Place {
    name: &'static str,
    path: &'static str,
    /// In `assets/icons.svg`.
    icon: &'static str,
    /// Whoever policy lets do this sees it.
    may: Administration,
}

/// The navigation, in its order. A page that is no place of its own (one agent, one
/// request) lies below one by its path.
const PLACES: &[Place] = &[
    Place {
        name: "Overview",
        path: "/overview",
        icon: "overview",
        may: Administration::View,
    },
    Place {
        name: "Approvals",
        path: "/approvals",
        icon: "approvals",
        may: Administration::View,
    },
    Place {
        name: "Agents",
        path: "/agents",
        icon: "agents",
        may: Administration::View,
    },
    Place {
        name: "Services",
        path: "/services",
        icon: "services",
        may: Administration::View,
    },
    Place {
        name: "Policies",
        path: "/policies",
        icon: "policies",
        may: Administration::View,
    },
    Place {
        name: "Playground",
        path: "/playground",
        icon: "playground",
        may: Administration::View,
    },
    Place {
        name: "Audit trail",
        path: "/audit",
        icon: "audit",
        may: Administration::View,
    },
    Place {
        name: "Users",
        path: "/users",
        icon: "users",
        may: Administration::View,
    },
];

/// What every page needs: `page.html` shows it.
pub(crate) struct Frame {
    pub(crate) now: Timestamp,
    pub(crate) user: User,
    /// Requests that wait for people.
    pub(crate) pending: u64,
    /// What the last form did.
    pub(crate) notice: Option<&'static str>,
    /// Why the last form did nothing.
    pub(crate) problem: Option<String>,
    entries: Vec<Entry>,
}

/// One line of the navigation.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) icon: &'static str,
    /// The page lies there.
    pub(crate) here: bool,
    /// What waits there; nothing is shown for 0.
    pub(crate) count: u64,
}

impl Frame {
    /// For a page at `path`.
    pub(crate) async fn new(
        orchestrator: &Orchestrator,
        person: &Person,
        path: &str,
    ) -> Result<Self, Error> {
        let now = orchestrator.now();
        let pending = orchestrator.store().count_pending(now).await?;
        let entries = PLACES
            .iter()
            .filter(|place| person.may(orchestrator, place.may).is_ok())
            .map(|place| Entry {
                name: place.name,
                path: place.path,
                icon: place.icon,
                here: lies_below(path, place.path),
                count: if place.path == "/approvals" {
                    pending
                } else {
                    0
                },
            });
        Ok(Self {
            now,
            user: person.user.clone(),
            pending,
            notice: None,
            problem: None,
            entries: entries.collect(),
        })
    }

    /// The same, with what the last form did, by the name in `?done=`.
    pub(crate) fn noting(self, done: Option<&str>) -> Self {
        let notice = done.and_then(|done| {
            let (_, notice) = NOTICES.iter().find(|(name, _)| *name == done)?;
            Some(*notice)
        });
        Self { notice, ..self }
    }

    /// The same, with why the last form did nothing.
    pub(crate) fn warning(self, problem: Option<String>) -> Self {
        Self { problem, ..self }
    }

    /// What happened then, as of this page.
    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "templates have references at hand"
    )]
    pub(crate) fn past(&self, at: &Timestamp) -> Moment {
        Moment::past(*at, self.now)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

/// What forms say after they did something: they go to a page with `?done=` and one of
/// these names, so that a link can make a page say nothing else.
const NOTICES: &[(&str, &str)] = &[
    ("approved", "Approved. The agent's next try goes through."),
    (
        "advanced",
        "Your approval is saved. One more person has to approve.",
    ),
    (
        "rejected",
        "Rejected. The agent is told, and not to ask again for a while.",
    ),
    ("in-force", "In force. Gateways enforce it within a second."),
    (
        "rolled-back",
        "Rolled back. Gateways enforce it within a second.",
    ),
    (
        "shadowed",
        "Gateways evaluate it beside what is in force. It decides nothing.",
    ),
    (
        "zone-added",
        "It is in the zone. Gateways go by it within a second.",
    ),
    (
        "zone-removed",
        "It is out of the zone. Gateways go by that within a second.",
    ),
    ("unshadowed", "Gateways evaluate only what is in force."),
    ("saved", "Saved."),
    (
        "agent-created",
        "The agent is registered. Give it a credential below.",
    ),
    (
        "suspended",
        "Suspended. Every gateway refuses whatever it sends.",
    ),
    ("session-ended", "The session has ended."),
    (
        "second-factor-removed",
        "Their second factor is removed. They can enrol another.",
    ),
    ("resumed", "Resumed. What it may do is as before."),
    ("grant-revoked", "The grant is revoked."),
    ("token-revoked", "The credential is revoked."),
    (
        "user-created",
        "The user is added. Give them a token below.",
    ),
    (
        "deactivated",
        "Deactivated. Their sessions and credentials have ended.",
    ),
    (
        "activated",
        "Active again. They need a new token to log in.",
    ),
];

fn lies_below(path: &str, place: &str) -> bool {
    path.strip_prefix(place)
        .is_some_and(|rest| rest.is_empty() || (place != "/" && rest.starts_with('/')))
}

/// Newer and older pages of a list.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pages {
    pub(crate) back: Option<String>,
    pub(crate) back_name: &'static str,
    pub(crate) on: Option<String>,
    pub(crate) on_name: &'static str,
    /// Between them: where one is.
    pub(crate) place: String,
}

impl Pages {
    /// Page `number`, from 0, of a list that goes on if `more`; `path` leads to another.
    pub(crate) fn numbered(number: u32, more: bool, path: impl Fn(u32) -> String) -> Self {
        Self {
            back: number.checked_sub(1).map(&path),
            back_name: "Previous",
            on: more.then(|| path(number.saturating_add(1))),
            on_name: "Next",
            place: format!("page {}", number.saturating_add(1)),
        }
    }

    pub(crate) fn several(&self) -> bool {
        self.back.is_some() || self.on.is_some()
    }
}

/// A query of these names and values, encoded; empty values are left out.
pub(crate) fn query(values: &[(&str, &str)]) -> String {
    let mut query = String::new();
    for (name, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(name);
        query.push('=');
        query.push_str(&encoded(value));
    }
    query
}

/// A text as one part of a path, or one value of a query.
pub(crate) fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever a page goes to with `?done=` is known here: else nothing would be said.
    #[test]
    fn every_form_has_its_notice() {
        let sources = [
            include_str!("agent.rs"),
            include_str!("agents.rs"),
            include_str!("request.rs"),
            include_str!("users.rs"),
        ];
        for source in sources {
            for rest in source.split("?done=").skip(1) {
                let name = rest.split(['"', '#', '`']).next().unwrap_or_default();
                let known = NOTICES.iter().any(|(known, _)| *known == name);
                assert!(known || name.starts_with('{'), "{name}");
            }
        }
    }

    #[test]
    fn values_are_encoded() {
        let query = query(&[("a", "1 &2"), ("b", ""), ("c", "ü/?#")]);
        assert_eq!(query, "?a=1%20%262&c=%C3%BC%2F%3F%23");
    }

    #[test]
    fn pages_lead_back_and_on() {
        let path = |page| format!("/?page={page}");
        let first = Pages::numbered(0, false, path);
        assert!(!first.several());
        let second = Pages::numbered(1, true, path);
        assert_eq!(
            (
                second.back.as_deref(),
                second.on.as_deref(),
                second.place.as_str()
            ),
            (Some("/?page=0"), Some("/?page=2"), "page 2")
        );
    }

    #[test]
    fn a_page_lies_below_its_place() {
        for (path, place, here) in [
            ("/approvals", "/approvals", true),
            ("/approvals/apr_1", "/approvals", true),
            ("/approvals-of-others", "/approvals", false),
            ("/agents", "/approvals", false),
            ("/", "/", true),
            ("/agents", "/", false),
        ] {
            assert_eq!(lies_below(path, place), here, "{path} below {place}");
        }
    }
}
