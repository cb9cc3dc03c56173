//! Policy sets, as gateways fetch and people inspect, activate and shadow them.

use authz::{Finding, PolicySetVersion, PolicySources, time::Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// `GET /api/gateway/policy-set`: what is to be enforced; and
/// `GET /api/gateway/shadow-policy-set`: what is to be evaluated beside it, or `null`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicySetBundle {
    /// Names it; the reader checks that the sources have this digest.
    pub version: PolicySetVersion,
    /// Its text.
    pub sources: PolicySources,
    /// Since when it is in force, or evaluated.
    pub activated: Timestamp,
}

/// `GET /api/policy-set`: what is in force, and what is wrong with the folder.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicySetStatus {
    /// In force.
    pub version: PolicySetVersion,
    /// Since when.
    pub activated: Timestamp,
    /// By whom: a user, or `folder`.
    pub activated_by: String,
    /// Why, in their words; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// How many policies.
    pub policies: usize,
    /// Warnings about the set in force.
    pub warnings: Vec<Finding>,
    /// What the folder holds, when it could be read whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder: Option<PolicySetVersion>,
    /// Whether something else than the folder's valid contents is in force, because a
    /// person activated it: the folder acts again when its contents change.
    #[serde(default)]
    pub folder_held: bool,
    /// Why the folder's present contents are not in force; empty when they are valid.
    pub rejected: Vec<Finding>,
    /// When the folder was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// What gateways evaluate beside the set in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStatus>,
}

/// A policy set that is evaluated and never enforced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShadowStatus {
    /// Which.
    pub version: PolicySetVersion,
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
}

/// One stored version: `GET /api/policy-sets`, newest first, and with its sources
/// `GET /api/policy-sets/{version}`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicySetView {
    /// Names it.
    pub version: PolicySetVersion,
    /// When it was stored.
    pub stored: Timestamp,
    /// By whom: a user, or `folder`.
    pub stored_by: String,
    /// How it came: `folder`, `api` or `ui`.
    pub stored_via: String,
    /// Whether it is in force.
    pub active: bool,
    /// Warnings about it.
    pub findings: Vec<Finding>,
    /// Its text; left out of lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<PolicySources>,
}

/// What to do with a pushed set once it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// Put it in force.
    #[default]
    Activate,
    /// Evaluate it beside the one in force.
    Shadow,
    /// Nothing: it can be activated later by its version.
    Store,
}

/// `POST /api/policy-sets`: a policy set, to be checked, stored, and put in force or
/// beside it. Refused with 422 and the findings if it could not be enforced.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PushPolicySet {
    /// Its text.
    pub sources: PolicySources,
    /// What to do then. Default: activate.
    #[serde(default)]
    pub then: Then,
    /// Why, for the audit trail.
    #[serde(default)]
    pub reason: String,
    /// Activate it even if it would not let the caller activate another.
    #[serde(default)]
    pub allow_lockout: bool,
}

/// `POST /api/policy-sets/{version}/activate`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ActivatePolicySet {
    /// Why, for the audit trail.
    pub reason: String,
    /// Activate it even if it would not let the caller activate another.
    pub allow_lockout: bool,
}

/// `POST /api/policy-set/rollback`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RollBack {
    /// To which version; the one in force before the present one if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<PolicySetVersion>,
    /// Why, for the audit trail.
    pub reason: String,
    /// Roll back even if that version would not let the caller activate another.
    pub allow_lockout: bool,
}

/// `POST /api/policy-set/shadow`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ShadowPolicySet {
    /// The stored version to evaluate beside the one in force; none if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<PolicySetVersion>,
    /// Why, for the audit trail.
    pub reason: String,
}

/// The answer to everything that changes what is in force or beside it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PolicySetChanged {
    /// Whether anything changed: else it was so already.
    pub changed: bool,
    /// What is so now.
    pub status: PolicySetStatus,
}

/// One line of `GET /api/policy-activations?limit=`: newest first.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ActivationView {
    /// Its place: one more than the one before.
    pub id: i64,
    /// What was put in force.
    pub version: PolicySetVersion,
    /// `activated` or `rolled_back`.
    pub kind: String,
    /// When.
    pub at: Timestamp,
    /// By whom: a user, or `folder`.
    pub by: String,
    /// How: `folder`, `api` or `ui`.
    pub via: String,
    /// Why; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}
