//! Agents and their credentials.

use authz::{AgentRef, TokenId};
use http::Method;

use super::Client;
use crate::{
    agents::{
        AgentView, ChangeAgent, CreateAgent, CreateToken, CreatedToken, Member, Suspend, TokenView,
    },
    error::Error,
};

/// Agents read at a time.
const AGENTS_PAGE: usize = 1_000;

impl Client {
    /// All agents, by name.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agents(&self) -> Result<Vec<AgentView>, Error> {
        let mut agents: Vec<AgentView> = Vec::new();
        loop {
            let after = agents
                .last()
                .map(|view| format!("&after={}", view.agent.name))
                .unwrap_or_default();
            let page: Vec<AgentView> = self
                .get(&format!("/api/agents?limit={AGENTS_PAGE}{after}"))
                .await?;
            let whole = page.len() < AGENTS_PAGE;
            agents.extend(page);
            if whole {
                return Ok(agents);
            }
        }
    }

    /// One agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agent(&self, agent: &AgentRef) -> Result<AgentView, Error> {
        self.get(&format!("/api/agents/{agent}")).await
    }

    /// Creates an agent; 409 if the name is taken.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_agent(&self, create: &CreateAgent) -> Result<AgentView, Error> {
        self.post("/api/agents", create).await
    }

    /// Changes an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_agent(
        &self,
        agent: &AgentRef,
        change: &ChangeAgent,
    ) -> Result<AgentView, Error> {
        self.call(Method::PATCH, &format!("/api/agents/{agent}"), Some(change))
            .await
    }

    /// Changes an agent that is at this revision still; 412 if it is not.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn change_agent_at(
        &self,
        agent: &AgentRef,
        revision: i64,
        change: &ChangeAgent,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}");
        self.call_if(Method::PATCH, &path, Some(change), Some(revision))
            .await
    }

    /// Stops an agent: everything that it sends is refused from now on.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn suspend_agent(
        &self,
        agent: &AgentRef,
        suspend: &Suspend,
    ) -> Result<AgentView, Error> {
        self.post(&format!("/api/agents/{agent}/suspend"), suspend)
            .await
    }

    /// Lets a suspended agent go on.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn resume_agent(
        &self,
        agent: &AgentRef,
        suspend: &Suspend,
    ) -> Result<AgentView, Error> {
        self.post(&format!("/api/agents/{agent}/resume"), suspend)
            .await
    }

    /// Adds a service, a role or a team to an agent's; what is there already stays.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn add_to_agent(
        &self,
        agent: &AgentRef,
        member: &Member,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}/{member}");
        self.call(Method::PUT, &path, None::<&()>).await
    }

    /// Removes a service, a role or a team from an agent's; what is not there is no error.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn remove_from_agent(
        &self,
        agent: &AgentRef,
        member: &Member,
    ) -> Result<AgentView, Error> {
        let path = format!("/api/agents/{agent}/{member}");
        self.delete(&path).await
    }

    /// Makes a credential for an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn create_agent_token(
        &self,
        agent: &AgentRef,
        create: &CreateToken,
    ) -> Result<CreatedToken, Error> {
        self.post(&format!("/api/agents/{agent}/tokens"), create)
            .await
    }

    /// An agent's credentials, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn agent_tokens(&self, agent: &AgentRef) -> Result<Vec<TokenView>, Error> {
        self.get(&format!("/api/agents/{agent}/tokens")).await
    }

    /// Revokes a credential of an agent.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn revoke_agent_token(&self, agent: &AgentRef, token: TokenId) -> Result<(), Error> {
        self.delete(&format!("/api/agents/{agent}/tokens/{token}"))
            .await
    }
}
