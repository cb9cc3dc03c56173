//! Agents, their credentials, and their facts.

use authz::{Agent, AgentId, AgentRef, Facts, Grant, TokenId, UserId, time::Timestamp};
use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{from_json, from_word, is_exact, parsed, prose, row, statements, to_json},
    database::{on, within},
    feed::Change,
    grants::GrantRow,
    tokens::{self, Holder, TokenRow},
    write::{Record, Write},
};

/// An agent as stored.
#[derive(Clone, Debug)]
pub struct StoredAgent {
    /// The agent.
    pub agent: Agent,
    /// When it was created.
    pub created: Timestamp,
    /// How often it was changed, from 1. Credentials and grants do not count.
    pub revision: i64,
}

/// A change of an agent, as the audit trail names it.
#[derive(Clone, Copy, Debug)]
pub struct AgentChange<'a> {
    /// `agent_changed`, `agent_suspended` or `agent_resumed`.
    pub kind: &'static str,
    /// Why, in the words of who does it; may be empty.
    pub reason: &'a str,
}

impl AgentChange<'_> {
    /// One without a name or a reason of its own.
    pub const PLAIN: Self = Self {
        kind: "agent_changed",
        reason: "",
    };
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

statements! {
    INSERT = "
        INSERT INTO agents (id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
        ON CONFLICT (id) DO NOTHING";
    UPDATE = "
        UPDATE agents SET name = $2, owner = $3, teams = $4, roles = $5, env = $6, trust = $7,
            suspended = $8, allowed_mcps = $9, revision = revision + 1
        WHERE id = $1";
    BY_ID = "
        SELECT id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created,
            revision
        FROM agents WHERE id = $1";
    BY_NAME = "
        SELECT id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created,
            revision
        FROM agents WHERE name = $1";
    ALL = "
        SELECT id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created,
            revision
        FROM agents ORDER BY name";
    PAGE = "
        SELECT id, name, owner, teams, roles, env, trust, suspended, allowed_mcps, created,
            revision
        FROM agents WHERE name > $1 ORDER BY name LIMIT $2";
    // One statement each, so that agent, grants and head are of one moment.
    FACTS_BY_ID = "
        SELECT a.id, a.name, a.owner, a.teams, a.roles, a.env, a.trust, a.suspended,
            a.allowed_mcps, a.created, a.revision, h.sequence,
            g.id AS grant_id, g.approval, g.scope, g.risk, g.issued, g.expires,
            g.first_user, g.second_user, g.single_use
        FROM agents a
        JOIN feed_head h ON h.id = 1
        LEFT JOIN grants g ON g.agent = a.id AND g.revoked IS NULL AND g.spent IS NULL
            AND g.ended IS NULL AND $2 < g.expires
        WHERE a.id = $1 ORDER BY g.issued, g.id";
    FACTS_BY_NAME = "
        SELECT a.id, a.name, a.owner, a.teams, a.roles, a.env, a.trust, a.suspended,
            a.allowed_mcps, a.created, a.revision, h.sequence,
            g.id AS grant_id, g.approval, g.scope, g.risk, g.issued, g.expires,
            g.first_user, g.second_user, g.single_use
        FROM agents a
        JOIN feed_head h ON h.id = 1
        LEFT JOIN grants g ON g.agent = a.id AND g.revoked IS NULL AND g.spent IS NULL
            AND g.ended IS NULL AND $2 < g.expires
        WHERE a.name = $1 ORDER BY g.issued, g.id";
    TOKENS = "
        SELECT id, digest, label, created, expires, revoked, last_used
        FROM tokens WHERE agent = $1 ORDER BY created DESC, id DESC";
    BY_TOKEN = "
        SELECT agent AS holder, id, digest, label, created, expires, revoked, last_used
        FROM tokens
        WHERE digest = $1 AND agent IS NOT NULL AND revoked IS NULL AND (expires IS NULL OR $2 < expires)";
}

row! {
    /// An agent.
    AgentRow {
        id: String,
        name: String,
        owner: Option<String>,
        teams: String,
        roles: String,
        env: String,
        trust: i64,
        suspended: i64,
        allowed_mcps: String,
        created: i64,
        revision: i64,
    }
}

row! {
    /// An agent beside one of its live grants, if it has any.
    FactsRow {
        id: String,
        name: String,
        owner: Option<String>,
        teams: String,
        roles: String,
        env: String,
        trust: i64,
        suspended: i64,
        allowed_mcps: String,
        created: i64,
        revision: i64,
        sequence: i64,
        grant_id: Option<String>,
        approval: Option<String>,
        scope: Option<String>,
        risk: Option<String>,
        issued: Option<i64>,
        expires: Option<i64>,
        first_user: Option<String>,
        second_user: Option<String>,
        single_use: Option<i64>,
    }
}

row! {
    /// A credential and whose it is.
    HeldRow {
        holder: String,
        id: String,
        digest: String,
        label: String,
        created: i64,
        expires: Option<i64>,
        revoked: Option<i64>,
        last_used: Option<i64>,
    }
}

impl TryFrom<AgentRow> for StoredAgent {
    type Error = StoreError;

    fn try_from(row: AgentRow) -> Result<Self, StoreError> {
        let agent = Agent {
            id: parsed("agent", &row.id)?,
            name: parsed("agent", &row.name)?,
            owner: row.owner.map(|owner| parsed("agent", &owner)).transpose()?,
            teams: from_json("agent", &row.teams)?,
            roles: from_json("agent", &row.roles)?,
            env: from_word("agent", row.env)?,
            trust: u8::try_from(row.trust).map_err(|error| StoreError::Corrupt {
                what: "agent",
                why: error.to_string(),
            })?,
            suspended: row.suspended != 0,
            allowed_mcps: from_json("agent", &row.allowed_mcps)?,
        };
        Ok(Self {
            agent,
            created: Timestamp::from_millis(row.created),
            revision: row.revision,
        })
    }
}

impl FactsRow {
    fn split(self) -> Result<(AgentRow, Option<Grant>), StoreError> {
        let grant = match (
            self.grant_id,
            self.approval,
            self.scope,
            self.risk,
            self.first_user,
        ) {
            (Some(id), Some(approval), Some(scope), Some(risk), Some(first_user)) => Some(
                GrantRow {
                    id,
                    agent: self.id.clone(),
                    approval,
                    scope,
                    risk,
                    issued: self.issued.unwrap_or_default(),
                    expires: self.expires.unwrap_or_default(),
                    first_user,
                    second_user: self.second_user,
                    single_use: self.single_use.unwrap_or_default(),
                    revoked: None,
                    spent: None,
                    ended: None,
                }
                .grant()?,
            ),
            _ => None,
        };
        let agent = AgentRow {
            id: self.id,
            name: self.name,
            owner: self.owner,
            teams: self.teams,
            roles: self.roles,
            env: self.env,
            trust: self.trust,
            suspended: self.suspended,
            allowed_mcps: self.allowed_mcps,
            created: self.created,
            revision: self.revision,
        };
        Ok((agent, grant))
    }
}

fn not_found(agent: impl std::fmt::Display) -> StoreError {
    StoreError::NotFound(format!("agent `{agent}`"))
}

/// The agent, read within a write.
pub(crate) async fn find(write: &mut Write, agent: &AgentRef) -> Result<StoredAgent, StoreError> {
    let (sql, key) = match agent {
        AgentRef::Id(id) => (BY_ID, id.to_string()),
        AgentRef::Name(name) => (BY_NAME, name.to_string()),
    };
    let row: Option<AgentRow> = within!(write, |c| sqlx::query_as(sql)
        .bind(key)
        .fetch_optional(c)
        .await?);
    row.ok_or_else(|| not_found(agent))?.try_into()
}

/// The agent with its live grants as of the write.
pub(crate) async fn facts(write: &mut Write, agent: AgentId) -> Result<Facts, StoreError> {
    let at = write.at().as_millis();
    let rows: Vec<FactsRow> = within!(write, |c| sqlx::query_as(FACTS_BY_ID)
        .bind(agent.to_string())
        .bind(at)
        .fetch_all(c)
        .await?);
    gather(rows, &AgentRef::Id(agent))
}

fn gather(rows: Vec<FactsRow>, agent: &AgentRef) -> Result<Facts, StoreError> {
    let mut found = None;
    let mut grants = Vec::new();
    for row in rows {
        let version = row.sequence;
        let (agent, grant) = row.split()?;
        found = Some((agent, version));
        grants.extend(grant);
    }
    let (row, version) = found.ok_or_else(|| not_found(agent))?;
    let StoredAgent { agent, .. } = row.try_into()?;
    Ok(Facts {
        agent,
        grants,
        version,
    })
}

/// Adds it, unless its id is there; says whether it did.
async fn insert(write: &mut Write, agent: &Agent) -> Result<bool, StoreError> {
    let teams = to_json("agent", &agent.teams)?;
    let roles = to_json("agent", &agent.roles)?;
    let allowed_mcps = to_json("agent", &agent.allowed_mcps)?;
    let created = write.at().as_millis();
    let added = within!(write, |c| sqlx::query(INSERT)
        .bind(agent.id.to_string())
        .bind(agent.name.as_str())
        .bind(agent.owner.as_ref().map(UserId::as_str))
        .bind(teams)
        .bind(roles)
        .bind(agent.env.as_str())
        .bind(i64::from(agent.trust))
        .bind(i64::from(agent.suspended))
        .bind(allowed_mcps)
        .bind(created)
        .execute(c)
        .await
        .map(|done| done.rows_affected()))
    .map_err(|error| name_taken(error, agent))?;
    Ok(added == 1)
}

/// Writes what may be changed of it.
async fn update(write: &mut Write, agent: &Agent) -> Result<(), StoreError> {
    let teams = to_json("agent", &agent.teams)?;
    let roles = to_json("agent", &agent.roles)?;
    let allowed_mcps = to_json("agent", &agent.allowed_mcps)?;
    within!(write, |c| sqlx::query(UPDATE)
        .bind(agent.id.to_string())
        .bind(agent.name.as_str())
        .bind(agent.owner.as_ref().map(UserId::as_str))
        .bind(teams)
        .bind(roles)
        .bind(agent.env.as_str())
        .bind(i64::from(agent.trust))
        .bind(i64::from(agent.suspended))
        .bind(allowed_mcps)
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| name_taken(error, agent))
}

fn name_taken(error: sqlx::Error, agent: &Agent) -> StoreError {
    StoreError::taken(error, || {
        format!("there is an agent named `{}` already", agent.name)
    })
}

impl Store {
    /// Adds an agent. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the name or id is taken.
    pub async fn create_agent(
        &self,
        agent: &Agent,
        actor: &Actor,
    ) -> Result<StoredAgent, StoreError> {
        let mut write = self.write(actor).await?;
        if !insert(&mut write, agent).await? {
            return Err(StoreError::Conflict(format!(
                "there is an agent with id `{}` already",
                agent.id
            )));
        }
        write
            .announce(&Change::AgentChanged { agent: agent.id })
            .await?;
        write
            .record(Record {
                kind: "agent_created",
                agent: Some(agent.id),
                command: None,
                details: json!({ "after": agent }),
            })
            .await?;
        write.commit().await?;
        Ok(StoredAgent {
            agent: agent.clone(),
            created: actor.at,
            revision: 1,
        })
    }

    /// Adds the built-in agent `local` unless it is there.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn ensure_agent(&self, agent: &Agent, actor: &Actor) -> Result<(), StoreError> {
        match self.agent(&AgentRef::Id(agent.id)).await {
            Ok(_) => return Ok(()),
            Err(StoreError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let mut write = self.write(actor).await?;
        if !insert(&mut write, agent).await? {
            // Another process was first.
            return write.abandon().await;
        }
        write
            .announce(&Change::AgentChanged { agent: agent.id })
            .await?;
        write
            .record(Record {
                kind: "agent_created",
                agent: Some(agent.id),
                command: None,
                details: json!({ "after": agent }),
            })
            .await?;
        write.commit().await
    }

    /// Changes an agent under lock: `change` gets it as it is now. Event: `AgentChanged`,
    /// if anything but the id, which stays, is different then.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when its new name is taken.
    pub async fn change_agent(
        &self,
        agent: &AgentRef,
        actor: &Actor,
        change: impl FnOnce(&mut Agent) + Send,
    ) -> Result<StoredAgent, StoreError> {
        self.change_agent_if(agent, AgentChange::PLAIN, actor, |_, agent| {
            change(agent);
            Ok::<_, StoreError>(())
        })
        .await
    }

    /// As [`Store::change_agent`], and nothing happens if `change`, which gets the agent as
    /// it is stored under the lock besides, refuses.
    ///
    /// # Errors
    ///
    /// Those of [`Store::change_agent`], and those of `change`.
    pub async fn change_agent_if<E: From<StoreError>>(
        &self,
        agent: &AgentRef,
        what: AgentChange<'_>,
        actor: &Actor,
        change: impl FnOnce(&StoredAgent, &mut Agent) -> Result<(), E> + Send,
    ) -> Result<StoredAgent, E> {
        let mut write = self.write(actor).await?;
        let before = find(&mut write, agent).await?;
        let mut after = before.agent.clone();
        if let Err(error) = change(&before, &mut after) {
            write.abandon().await?;
            return Err(error);
        }
        // Grants and journals name the agent by its id.
        after.id = before.agent.id;
        if after == before.agent {
            write.abandon().await?;
            return Ok(before);
        }
        update(&mut write, &after).await?;
        write
            .announce(&Change::AgentChanged { agent: after.id })
            .await?;
        let mut details = json!({ "before": before.agent, "after": after });
        if let (false, Some(details)) = (what.reason.is_empty(), details.as_object_mut()) {
            details.insert("reason".to_owned(), prose(what.reason).into());
        }
        write
            .record(Record {
                kind: what.kind,
                agent: Some(after.id),
                command: None,
                details,
            })
            .await?;
        write.commit().await?;
        Ok(StoredAgent {
            agent: after,
            created: before.created,
            revision: before.revision + 1,
        })
    }

    /// One agent.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent(&self, agent: &AgentRef) -> Result<StoredAgent, StoreError> {
        let (sql, key) = match agent {
            AgentRef::Id(id) => (BY_ID, id.to_string()),
            AgentRef::Name(name) => (BY_NAME, name.to_string()),
        };
        let row: Option<AgentRow> = on!(self, |pool| sqlx::query_as(sql)
            .bind(key)
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| not_found(agent))?.try_into()
    }

    /// All agents, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agents(&self) -> Result<Vec<StoredAgent>, StoreError> {
        let rows: Vec<AgentRow> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        rows.into_iter().map(StoredAgent::try_from).collect()
    }

    /// Agents by name, those after `after`, at most `limit`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agents_after(
        &self,
        after: &str,
        limit: u32,
    ) -> Result<Vec<StoredAgent>, StoreError> {
        if !is_exact(after) {
            return Ok(Vec::new());
        }
        let rows: Vec<AgentRow> = on!(self, |pool| sqlx::query_as(PAGE)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(StoredAgent::try_from).collect()
    }

    /// The agent with its live grants at `now`, and the feed's head, read at once.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn facts(&self, agent: &AgentRef, now: Timestamp) -> Result<Facts, StoreError> {
        let (sql, key) = match agent {
            AgentRef::Id(id) => (FACTS_BY_ID, id.to_string()),
            AgentRef::Name(name) => (FACTS_BY_NAME, name.to_string()),
        };
        let rows: Vec<FactsRow> = on!(self, |pool| sqlx::query_as(sql)
            .bind(key)
            .bind(now.as_millis())
            .fetch_all(pool)
            .await?);

        gather(rows, agent)
    }

    /// Adds a credential. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn create_agent_token(
        &self,
        agent: AgentId,
        token: &Token,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        find(&mut write, &AgentRef::Id(agent)).await?;
        tokens::insert(&mut write, Holder::Agent(&agent.to_string()), token).await?;
        let details = json!({ "token": token.id, "label": token.label, "expires": token.expires });
        write.announce(&Change::AgentChanged { agent }).await?;
        write
            .record(Record {
                kind: "credential_created",
                agent: Some(agent),
                command: None,
                details,
            })
            .await?;
        write.commit().await
    }

    /// An agent's credentials, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn agent_tokens(&self, agent: AgentId) -> Result<Vec<Token>, StoreError> {
        let rows: Vec<TokenRow> = on!(self, |pool| sqlx::query_as(TOKENS)
            .bind(agent.to_string())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(Token::try_from).collect()
    }

    /// Revokes a credential. Event: `AgentChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when this agent has no such live credential.
    pub async fn revoke_agent_token(
        &self,
        agent: AgentId,
        token: TokenId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        tokens::revoke(&mut write, Holder::Agent(&agent.to_string()), token).await?;
        let details = json!({ "token": token });
        write.announce(&Change::AgentChanged { agent }).await?;
        write
            .record(Record {
                kind: "credential_revoked",
                agent: Some(agent),
                command: None,
                details,
            })
            .await?;
        write.commit().await
    }

    /// Whose live credential at `now` has this digest. Notes its use, at most once a
    /// minute and without a feed event.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn agent_by_token(
        &self,
        digest: &str,
        now: Timestamp,
    ) -> Result<(AgentId, Token), StoreError> {
        let unknown =
            || StoreError::NotFound("a live credential of an agent with this digest".to_owned());
        if !is_exact(digest) {
            return Err(unknown());
        }
        let row: Option<HeldRow> = on!(self, |pool| sqlx::query_as(BY_TOKEN)
            .bind(digest)
            .bind(now.as_millis())
            .fetch_optional(pool)
            .await?);
        let row = row.ok_or_else(unknown)?;
        let agent = parsed("token", &row.holder)?;
        let mut token = Token::try_from(TokenRow {
            id: row.id,
            digest: row.digest,
            label: row.label,
            created: row.created,
            expires: row.expires,
            revoked: row.revoked,
            last_used: row.last_used,
        })?;
        self.note_use(&mut token, now).await;
        Ok((agent, token))
    }
}

#[cfg(test)]
mod tests;
