//! Who may use a service, by what was given to them: standing access and grants.

use authz::{AgentId, AgentName, GrantId, Risk, Scope, ServiceName, time::Timestamp};

use crate::{
    Store, StoreError,
    column::{from_json, from_word, parsed, row, statements},
    database::on,
};

/// An agent with standing access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The agent.
    pub agent: AgentId,
    /// Its name.
    pub name: AgentName,
    /// A suspended agent may do nothing, whatever it has.
    pub suspended: bool,
}

/// A grant that is good, with whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveGrant {
    /// Names it.
    pub id: GrantId,
    /// Whose.
    pub agent: AgentId,
    /// Their name.
    pub name: AgentName,
    /// For what.
    pub scope: Scope,
    /// Up to which risk.
    pub risk: Risk,
    /// Until when.
    pub expires: Timestamp,
    /// Spent by its first use.
    pub single_use: bool,
}

statements! {
    NAMES = "SELECT name FROM agents ORDER BY name LIMIT $1";
    STANDING = r"
        SELECT id, name, suspended FROM agents
        WHERE allowed_mcps LIKE $1 ESCAPE '\' ORDER BY name LIMIT $2";
    GRANTS = r"
        SELECT grants.id, grants.agent, agents.name, grants.scope, grants.risk, grants.expires,
            grants.single_use
        FROM grants JOIN agents ON agents.id = grants.agent
        WHERE grants.expires > $1 AND grants.revoked IS NULL AND grants.spent IS NULL
            AND (grants.scope LIKE $2 ESCAPE '\' OR grants.scope LIKE $3 ESCAPE '\')
        ORDER BY grants.expires, grants.id LIMIT $4";
}

row! {
    /// A grant and the name of its agent.
    GrantRow {
        id: String,
        agent: String,
        name: String,
        scope: String,
        risk: String,
        expires: i64,
        single_use: i64,
    }
}

/// A service's name within a pattern; names hold nothing that JSON would escape.
fn escaped(service: &ServiceName) -> String {
    service.as_str().replace('_', r"\_")
}

impl Store {
    /// What agents are called, by name; at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agent_names(&self, limit: u32) -> Result<Vec<String>, StoreError> {
        let rows: Vec<(String,)> = on!(self, |pool| sqlx::query_as(NAMES)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        Ok(rows.into_iter().map(|(name,)| name).collect())
    }

    /// The agents that may use a service without asking, by name; at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn standing_access(
        &self,
        service: &ServiceName,
        limit: u32,
    ) -> Result<Vec<Standing>, StoreError> {
        let pattern = format!("%\"{}\"%", escaped(service));
        let rows: Vec<(String, String, i64)> = on!(self, |pool| sqlx::query_as(STANDING)
            .bind(pattern)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter()
            .map(|(agent, name, suspended)| {
                Ok(Standing {
                    agent: parsed("agent", &agent)?,
                    name: parsed("agent", &name)?,
                    suspended: suspended == 1,
                })
            })
            .collect()
    }

    /// The grants for a service or commands of it that are good at `now`, the first to
    /// expire first; at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn live_grants_for(
        &self,
        service: &ServiceName,
        now: Timestamp,
        limit: u32,
    ) -> Result<Vec<LiveGrant>, StoreError> {
        let service = escaped(service);
        let rows: Vec<GrantRow> = on!(self, |pool| sqlx::query_as(GRANTS)
            .bind(now.as_millis())
            .bind(format!("%\"command\":\"{service}/%"))
            .bind(format!("%\"service\":\"{service}\"%"))
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter()
            .map(|row| {
                Ok(LiveGrant {
                    id: parsed("grant", &row.id)?,
                    agent: parsed("agent", &row.agent)?,
                    name: parsed("agent", &row.name)?,
                    scope: from_json("grant", &row.scope)?,
                    risk: from_word("grant", row.risk)?,
                    expires: Timestamp::from_millis(row.expires),
                    single_use: row.single_use == 1,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use authz::approval::Reach;

    use crate::testing::{NOON, actor, after, agent, on_both_engines};

    on_both_engines! {
        async fn those_are_found_to_whom_a_service_was_given(fixture) {
            let store = &fixture.store;
            // Theirs is `github`; the others' names only resemble it.
            for (name, service) in [("b", "github"), ("a", "github"), ("c", "git-hub"), ("d", "githubs")] {
                let mut agent = agent(name);
                agent.allowed_mcps = [service.parse().unwrap()].into();
                agent.suspended = name == "b";
                store.create_agent(&agent, &actor()).await.unwrap();
            }
            let github = "github".parse().unwrap();
            let standing = store.standing_access(&github, 10).await.unwrap();
            let names: Vec<_> = standing.iter().map(|one| (one.name.as_str(), one.suspended)).collect();
            assert_eq!(names, [("a", false), ("b", true)]);
            assert_eq!(store.standing_access(&github, 1).await.unwrap().len(), 1);
            assert_eq!(store.agent_names(3).await.unwrap(), ["a", "b", "c"]);
        }

        async fn grants_that_are_good_are_found_by_their_service(fixture) {
            let store = &fixture.store;
            let call = fixture.granted("one", Reach::Call).await;
            let service = fixture.granted("two", Reach::Service).await;
            let revoked = fixture.granted("three", Reach::Command).await;
            store.revoke_grant(revoked.id, "", &actor()).await.unwrap();
            let coolify = "coolify".parse().unwrap();
            let mut found: Vec<_> = store.live_grants_for(&coolify, NOON, 10).await.unwrap().into_iter().map(|grant| (grant.id, grant.name.to_string(), grant.scope)).collect();
            found.sort_by(|a, b| a.1.cmp(&b.1));
            assert_eq!(found, [(call.id, "one".to_owned(), call.scope), (service.id, "two".to_owned(), service.scope)]);
            assert!(store.live_grants_for(&"cool".parse().unwrap(), NOON, 10).await.unwrap().is_empty());
            assert!(store.live_grants_for(&coolify, after(3_600), 10).await.unwrap().is_empty(), "expired");
        }
    }
}
