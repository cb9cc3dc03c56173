//! What every page for people stands in: who is logged in, where they may go, and what the
//! last thing that they did came to.

use authz::{Timestamp, User, approval::Administration};

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
];

/// What every page needs: `page.html` shows it.
pub(crate) struct Frame {
    pub(crate) now: Timestamp,
    pub(crate) user: User,
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
    (
        "activated",
        "In force. Gateways enforce it within a second.",
    ),
    (
        "rolled-back",
        "Rolled back. Gateways enforce it within a second.",
    ),
    (
        "shadowed",
        "Gateways evaluate it beside what is in force. It decides nothing.",
    ),
    ("unshadowed", "Gateways evaluate only what is in force."),
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
    pub(crate) fn several(&self) -> bool {
        self.back.is_some() || self.on.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
