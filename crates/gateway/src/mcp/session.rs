//! Whose a session or a task is: nobody else may use it, even who may use the service.

use std::time::Duration;

use authz::{AgentId, ServiceName};
use moka::sync::Cache;

/// So many sessions, and so many tasks, are remembered.
const MAX_BINDINGS: u64 = 200_000;

/// What nobody used for so long is forgotten; a client must then begin anew.
const IDLE: Duration = Duration::from_hours(24);

/// Something of an upstream's, bound to the agent that had it made.
#[derive(Clone, Debug)]
pub(crate) struct Bindings(Cache<(ServiceName, Box<str>), AgentId>);

impl Bindings {
    pub(crate) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(MAX_BINDINGS)
                .time_to_idle(IDLE)
                .build(),
        )
    }

    /// From now on it is this agent's, unless it is another's already: an upstream that
    /// gives one id twice does not make strangers share.
    pub(crate) fn bind(&self, service: &ServiceName, id: &str, agent: AgentId) {
        let key = (service.clone(), id.into());
        self.0.entry(key).or_insert(agent);
    }

    /// Whether it is this agent's.
    pub(crate) fn is_of(&self, service: &ServiceName, id: &str, agent: AgentId) -> bool {
        self.0.get(&(service.clone(), id.into())) == Some(agent)
    }

    /// It is no more.
    pub(crate) fn unbind(&self, service: &ServiceName, id: &str) {
        self.0.invalidate(&(service.clone(), id.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_of_one_agent_and_one_service() {
        let bindings = Bindings::new();
        let [one, other]: [ServiceName; 2] = ["one", "other"].map(|name| name.parse().unwrap());
        let stranger: AgentId = "7a2c9b63-0e1f-4b5f-9022-2e3d4c5b6f70".parse().unwrap();
        bindings.bind(&one, "s", AgentId::LOCAL);
        bindings.bind(&one, "s", stranger);
        assert!(bindings.is_of(&one, "s", AgentId::LOCAL));
        assert!(!bindings.is_of(&one, "s", stranger));
        assert!(!bindings.is_of(&other, "s", AgentId::LOCAL));
        assert!(!bindings.is_of(&one, "S", AgentId::LOCAL));
        bindings.unbind(&one, "s");
        assert!(!bindings.is_of(&one, "s", AgentId::LOCAL));
    }
}
