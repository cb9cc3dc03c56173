//! A policy set that is evaluated beside the one in force, and never enforced.

use std::panic::{AssertUnwindSafe, catch_unwind};

use authz::{
    Circumstances, Command, PolicySetVersion, Principal,
    approval::Escalation,
    shadow::{Fate, preview},
};

use crate::{policy::Active, zones::Placed};

/// What a shadow would have decided otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Difference {
    /// The shadow.
    pub(crate) version: PolicySetVersion,
    /// `permit`, `escalate` or `refuse`; `error` if it could not be evaluated at all.
    pub(crate) decision: &'static str,
    /// The policies that would have decided.
    pub(crate) policies: Vec<String>,
}

/// What a refusal is, as a fate.
pub(crate) const fn fate(refused: &Escalation) -> Fate {
    match refused {
        Escalation::Hard { .. } => Fate::Refuse,
        Escalation::Liftable { .. } => Fate::Escalate,
    }
}

/// What the shadow would have decided, if that is something else. On the same facts, at
/// the same time; whatever goes wrong in it stays in it.
pub(crate) fn compare(
    shadow: &Active,
    enforced: Fate,
    principal: &Principal,
    (command, placed): (&Command, &Placed),
    at: Circumstances,
) -> Option<Difference> {
    let version = shadow.version().clone();
    // Nothing shared is left half changed by a panic: slices are made whole or not at all.
    let previewed = catch_unwind(AssertUnwindSafe(|| {
        let slices = shadow.slices(placed);
        preview(slices.invoke(), slices.escalate(), principal, command, at)
    }));
    match previewed {
        Ok(preview) if preview.fate == enforced => None,
        Ok(preview) => Some(Difference {
            version,
            decision: preview.fate.as_str(),
            policies: preview.policies,
        }),
        Err(_) => {
            tracing::error!(
                shadow = version.short(),
                command = %command.target.key,
                "the shadow policy set cannot be evaluated; what is enforced is not concerned"
            );
            Some(Difference {
                version,
                decision: "error",
                policies: Vec::new(),
            })
        }
    }
}
