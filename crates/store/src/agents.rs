//! Agents, their credentials, and their facts.

use authz::{Agent, AgentId, AgentRef, Facts, TokenId, time::Timestamp};

use crate::{Actor, Store, StoreError};

/// An agent as stored.
#[derive(Clone, Debug)]
pub struct StoredAgent {
    /// The agent.
    pub agent: Agent,
    /// When it was created.
    pub created: Timestamp,
}

/// A credential as stored: its digest only.
#[derive(Clone, Debug)]
pub struct Token {
    /// Names it.
    pub id: TokenId,
    /// SHA-256 in hexadecimal.
    pub digest: String,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// Not from this instant on.
    pub expires: Option<Timestamp>,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
    /// Last seen, to the minute.
    pub last_used: Option<Timestamp>,
}

impl Store {
    /// Adds an agent. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the name or id is taken.
    pub async fn create_agent(&self, agent: &Agent, actor: &Actor) -> Result<StoredAgent, StoreError> {
        let _ = (agent, actor);
        todo!()
    }

    /// Adds the built-in agent `local` unless it is there.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ensure_agent(&self, agent: &Agent, actor: &Actor) -> Result<(), StoreError> {
        let _ = (agent, actor);
        todo!()
    }

    /// Changes an agent under lock: `change` gets it as it is now. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn change_agent(
        &self,
        agent: &AgentRef,
        actor: &Actor,
        change: impl FnOnce(&mut Agent) + Send,
    ) -> Result<StoredAgent, StoreError> {
        let _ = (agent, actor, change);
        todo!()
    }

    /// One agent.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent(&self, agent: &AgentRef) -> Result<StoredAgent, StoreError> {
        let _ = agent;
        todo!()
    }

    /// All agents, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agents(&self) -> Result<Vec<StoredAgent>, StoreError> {
        todo!()
    }

    /// The agent with its live grants at `now`, and the feed's head, read at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn facts(&self, agent: &AgentRef, now: Timestamp) -> Result<Facts, StoreError> {
        let _ = (agent, now);
        todo!()
    }

    /// Adds a credential. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn create_agent_token(&self, agent: AgentId, token: &Token, actor: &Actor) -> Result<(), StoreError> {
        let _ = (agent, token, actor);
        todo!()
    }

    /// An agent's credentials, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agent_tokens(&self, agent: AgentId) -> Result<Vec<Token>, StoreError> {
        let _ = agent;
        todo!()
    }

    /// Revokes a credential. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when this agent has no such live credential.
    pub async fn revoke_agent_token(&self, agent: AgentId, token: TokenId, actor: &Actor) -> Result<(), StoreError> {
        let _ = (agent, token, actor);
        todo!()
    }

    /// Whose live credential at `now` has this digest. Notes its use, at most once a
    /// minute and without a feed event.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent_by_token(&self, digest: &str, now: Timestamp) -> Result<(AgentId, Token), StoreError> {
        let _ = (digest, now);
        todo!()
    }
}
