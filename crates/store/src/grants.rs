//! Grants.

use authz::{AgentId, DecisionId, Grant, GrantId, time::Timestamp};

use crate::{Actor, Store, StoreError};

/// A grant as stored.
#[derive(Clone, Debug)]
pub struct StoredGrant {
    /// The grant.
    pub grant: Grant,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
    /// Since when its single use is spent.
    pub spent: Option<Timestamp>,
}

impl Store {
    /// Grants, newest first, of one agent or all; live ones at `now` only, unless `all`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn grants(&self, agent: Option<AgentId>, all: bool, now: Timestamp) -> Result<Vec<StoredGrant>, StoreError> {
        let _ = (agent, all, now);
        todo!()
    }

    /// One grant.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn grant(&self, id: GrantId) -> Result<StoredGrant, StoreError> {
        let _ = id;
        todo!()
    }

    /// Takes a grant back. Event: `GrantEnded`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it had ended.
    pub async fn revoke_grant(&self, id: GrantId, reason: &str, actor: &Actor) -> Result<StoredGrant, StoreError> {
        let _ = (id, reason, actor);
        todo!()
    }

    /// Uses up a single-use grant. Event: `GrantEnded`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not for one use, or
    /// is spent, revoked or expired.
    pub async fn spend_grant(&self, id: GrantId, decision: DecisionId, actor: &Actor) -> Result<(), StoreError> {
        let _ = (id, decision, actor);
        todo!()
    }
}
