//! Policy sets that were ever in force.

use authz::{Finding, PolicySetVersion, PolicySources, time::Timestamp};

use crate::{Actor, Store, StoreError};

/// A policy set as stored.
#[derive(Clone, Debug)]
pub struct StoredPolicySet {
    /// Names it.
    pub version: PolicySetVersion,
    /// Its text.
    pub sources: PolicySources,
    /// Warnings found when it was stored.
    pub findings: Vec<Finding>,
    /// Since when it is, or was last, in force.
    pub activated: Timestamp,
    /// By whom: a user, or how.
    pub activated_by: String,
}

impl Store {
    /// Stores a set and puts it in force, unless it is. Event: `PolicySetActivated`.
    /// Says whether anything changed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn activate_policy_set(
        &self,
        version: &PolicySetVersion,
        sources: &PolicySources,
        findings: &[Finding],
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let _ = (version, sources, findings, actor);
        todo!()
    }

    /// The set in force, if there was ever one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn active_policy_set(&self) -> Result<Option<StoredPolicySet>, StoreError> {
        todo!()
    }

    /// One set.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn policy_set(&self, version: &PolicySetVersion) -> Result<StoredPolicySet, StoreError> {
        let _ = version;
        todo!()
    }
}
