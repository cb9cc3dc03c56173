//! Policy sets, as gateways fetch and people inspect them.

use authz::{Finding, PolicySetVersion, PolicySources, time::Timestamp};
use serde::{Deserialize, Serialize};

/// `GET /api/gateway/policy-set`: what is to be enforced.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicySetBundle {
    /// Names it; the reader checks that the sources have this digest.
    pub version: PolicySetVersion,
    /// Its text.
    pub sources: PolicySources,
    /// Since when it is in force.
    pub activated: Timestamp,
}

/// `GET /api/policy-set`: what is in force, and what is wrong with the folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PolicySetStatus {
    /// In force.
    pub version: PolicySetVersion,
    /// Since when.
    pub activated: Timestamp,
    /// By whom: a user, or `folder`.
    pub activated_by: String,
    /// How many policies.
    pub policies: usize,
    /// Warnings about the set in force.
    pub warnings: Vec<Finding>,
    /// Why the folder's present contents are not in force; empty when they are.
    pub rejected: Vec<Finding>,
    /// When the folder was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
}
