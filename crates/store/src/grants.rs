//! Grants.

use authz::{AgentId, AgentName, DecisionId, Grant, GrantId, UserId, time::Timestamp};

use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{from_json, from_word, parsed, prose, row, statements, time, to_json},
    database::{on, within},
    feed::Change,
    write::{Record, Write},
};

/// A grant as stored.
#[derive(Clone, Debug)]
pub struct StoredGrant {
    /// The grant.
    pub grant: Grant,
    /// Since when it is revoked.
    pub revoked: Option<Timestamp>,
    /// Since when its single use is spent.
    pub spent: Option<Timestamp>,
    /// Since when it is known to have expired: for good, even if a clock goes back.
    pub ended: Option<Timestamp>,
}

statements! {
    INSERT = "
        INSERT INTO grants (id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    BY_ID = "
        SELECT id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use, revoked, spent, ended
        FROM grants WHERE id = $1";
    ALL = "
        SELECT id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use, revoked, spent, ended
        FROM grants ORDER BY issued DESC, id DESC";
    LIVE = "
        SELECT id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use, revoked, spent, ended
        FROM grants WHERE revoked IS NULL AND spent IS NULL AND ended IS NULL AND $1 < expires
        ORDER BY issued DESC, id DESC";
    OF_AGENT = "
        SELECT id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use, revoked, spent, ended
        FROM grants WHERE agent = $1
        ORDER BY issued DESC, id DESC";
    LIVE_OF_AGENT = "
        SELECT id, agent, approval, scope, risk, issued, expires, first_user, second_user,
            single_use, revoked, spent, ended
        FROM grants WHERE agent = $1 AND revoked IS NULL AND spent IS NULL AND ended IS NULL
            AND $2 < expires
        ORDER BY issued DESC, id DESC";
    HOLDERS = "
        SELECT id, name FROM agents WHERE id IN (SELECT agent FROM grants) ORDER BY name";
    REVOKE = "
        UPDATE grants SET revoked = $2
        WHERE id = $1 AND revoked IS NULL AND spent IS NULL AND ended IS NULL
            AND $2 < expires";
    SPEND = "
        UPDATE grants SET spent = $2, spent_on = $3
        WHERE id = $1 AND single_use = 1 AND revoked IS NULL AND spent IS NULL AND ended IS NULL
            AND $2 < expires";
    COUNT_OVERDUE = "
        SELECT COUNT(*) FROM grants
        WHERE ended IS NULL AND revoked IS NULL AND spent IS NULL AND expires <= $1";
    EXPIRE = "
        UPDATE grants SET ended = expires
        WHERE id IN (
            SELECT id FROM grants
            WHERE ended IS NULL AND revoked IS NULL AND spent IS NULL AND expires <= $1
            ORDER BY expires, id LIMIT $2
        )
        RETURNING id, agent";
}

/// So many grants are marked in one transaction, so that none lasts long.
const EXPIRED_AT_ONCE: i64 = 500;

row! {
    /// A grant.
    pub(crate) GrantRow {
        id: String,
        agent: String,
        approval: String,
        scope: String,
        risk: String,
        issued: i64,
        expires: i64,
        first_user: String,
        second_user: Option<String>,
        single_use: i64,
        revoked: Option<i64>,
        spent: Option<i64>,
        ended: Option<i64>,
    }
}

impl GrantRow {
    /// The grant, without what became of it.
    pub(crate) fn grant(self) -> Result<Grant, StoreError> {
        Ok(Grant {
            id: parsed("grant", &self.id)?,
            agent: parsed("grant", &self.agent)?,
            scope: from_json("grant", &self.scope)?,
            risk: from_word("grant", self.risk)?,
            issued: Timestamp::from_millis(self.issued),
            expires: Timestamp::from_millis(self.expires),
            first: parsed("grant", &self.first_user)?,
            second: self
                .second_user
                .map(|user| parsed("grant", &user))
                .transpose()?,
            single_use: self.single_use != 0,
            approval: parsed("grant", &self.approval)?,
        })
    }
}

impl TryFrom<GrantRow> for StoredGrant {
    type Error = StoreError;

    fn try_from(row: GrantRow) -> Result<Self, StoreError> {
        let (revoked, spent, ended) = (time(row.revoked), time(row.spent), time(row.ended));
        Ok(Self {
            grant: row.grant()?,
            revoked,
            spent,
            ended,
        })
    }
}

impl StoredGrant {
    /// Whether it gives a right at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.over(now).is_none()
    }

    /// Why it gives no right at `now`, if it does not.
    fn over(&self, now: Timestamp) -> Option<String> {
        let id = self.grant.id;
        if self.revoked.is_some() {
            Some(format!("grant `{id}` is revoked"))
        } else if self.spent.is_some() {
            Some(format!("grant `{id}` is spent"))
        } else if self.ended.is_some() || now >= self.grant.expires {
            Some(format!("grant `{id}` has expired"))
        } else {
            None
        }
    }
}

fn not_found(id: GrantId) -> StoreError {
    StoreError::NotFound(format!("grant `{id}`"))
}

/// Adds a grant.
pub(crate) async fn insert(write: &mut Write, grant: &Grant) -> Result<(), StoreError> {
    let scope = to_json("grant", &grant.scope)?;
    within!(write, |c| sqlx::query(INSERT)
        .bind(grant.id.to_string())
        .bind(grant.agent.to_string())
        .bind(grant.approval.to_string())
        .bind(scope)
        .bind(grant.risk.as_str())
        .bind(grant.issued.as_millis())
        .bind(grant.expires.as_millis())
        .bind(grant.first.as_str())
        .bind(grant.second.as_ref().map(UserId::as_str))
        .bind(i64::from(grant.single_use))
        .execute(c)
        .await
        .map(drop))
    .map_err(|error| {
        StoreError::taken(error, || {
            format!("request `{}` has a grant already", grant.approval)
        })
    })
}

async fn find(write: &mut Write, id: GrantId) -> Result<StoredGrant, StoreError> {
    let row: Option<GrantRow> = within!(write, |c| sqlx::query_as(BY_ID)
        .bind(id.to_string())
        .fetch_optional(c)
        .await?);
    row.ok_or_else(|| not_found(id))?.try_into()
}

impl Store {
    /// Grants, newest first, of one agent or all; live ones at `now` only, unless `all`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn grants(
        &self,
        agent: Option<AgentId>,
        all: bool,
        now: Timestamp,
    ) -> Result<Vec<StoredGrant>, StoreError> {
        let rows: Vec<GrantRow> = match (agent.map(|agent| agent.to_string()), all) {
            (None, true) => on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?),
            (None, false) => {
                on!(self, |pool| sqlx::query_as(LIVE)
                    .bind(now.as_millis())
                    .fetch_all(pool)
                    .await?)
            }
            (Some(agent), true) => {
                on!(self, |pool| sqlx::query_as(OF_AGENT)
                    .bind(agent)
                    .fetch_all(pool)
                    .await?)
            }
            (Some(agent), false) => on!(self, |pool| sqlx::query_as(LIVE_OF_AGENT)
                .bind(agent)
                .bind(now.as_millis())
                .fetch_all(pool)
                .await?),
        };
        rows.into_iter().map(StoredGrant::try_from).collect()
    }

    /// The names of the agents that have, or had, a grant.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn grant_holders(&self) -> Result<Vec<(AgentId, AgentName)>, StoreError> {
        let rows: Vec<(String, String)> =
            on!(self, |pool| sqlx::query_as(HOLDERS).fetch_all(pool).await?);
        rows.iter()
            .map(|(id, name)| Ok((parsed("agent", id)?, parsed("agent", name)?)))
            .collect()
    }

    /// One grant.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn grant(&self, id: GrantId) -> Result<StoredGrant, StoreError> {
        let row: Option<GrantRow> = on!(self, |pool| sqlx::query_as(BY_ID)
            .bind(id.to_string())
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| not_found(id))?.try_into()
    }

    /// Takes a grant back. Event: `GrantEnded`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it had ended.
    pub async fn revoke_grant(
        &self,
        id: GrantId,
        reason: &str,
        actor: &Actor,
    ) -> Result<StoredGrant, StoreError> {
        let mut write = self.write(actor).await?;
        let mut stored = find(&mut write, id).await?;
        if let Some(why) = stored.over(actor.at) {
            return Err(StoreError::Conflict(why));
        }
        within!(write, |c| sqlx::query(REVOKE)
            .bind(id.to_string())
            .bind(actor.at.as_millis())
            .execute(c)
            .await
            .map(drop)?);
        stored.revoked = Some(actor.at);

        let agent = stored.grant.agent;
        write
            .announce(&Change::GrantEnded { grant: id, agent })
            .await?;
        let details = json!({ "grant": id, "scope": stored.grant.scope, "reason": prose(reason) });
        write
            .record(Record {
                kind: "revoked",
                agent: Some(agent),
                command: None,
                details,
            })
            .await?;
        write.commit().await?;
        Ok(stored)
    }

    /// Uses up a single-use grant. Event: `GrantEnded`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`]; [`StoreError::Conflict`] when it is not for one use, or
    /// is spent, revoked or expired.
    pub async fn spend_grant(
        &self,
        id: GrantId,
        decision: DecisionId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        let stored = find(&mut write, id).await?;
        if let Some(why) = stored.over(actor.at) {
            return Err(StoreError::Conflict(why));
        }
        let spent = within!(write, |c| sqlx::query(SPEND)
            .bind(id.to_string())
            .bind(actor.at.as_millis())
            .bind(decision.to_string())
            .execute(c)
            .await?
            .rows_affected());
        if spent != 1 {
            return Err(StoreError::Conflict(format!(
                "grant `{id}` is not for a single use"
            )));
        }

        let agent = stored.grant.agent;
        write
            .announce(&Change::GrantEnded { grant: id, agent })
            .await?;
        let details = json!({ "grant": id, "decision": decision });
        write
            .record(Record {
                kind: "spent",
                agent: Some(agent),
                command: None,
                details,
            })
            .await?;
        write.commit().await
    }

    /// Marks grants past their expiry, and says which. Event each: `GrantEnded`. They gave
    /// no right before that either; from now on they give none even if a clock goes back.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn expire_grants(
        &self,
        actor: &Actor,
    ) -> Result<Vec<(GrantId, AgentId)>, StoreError> {
        let (overdue,): (i64,) = on!(self, |pool| sqlx::query_as(COUNT_OVERDUE)
            .bind(actor.at.as_millis())
            .fetch_one(pool)
            .await?);
        let mut ended = Vec::new();
        if overdue == 0 {
            return Ok(ended);
        }
        loop {
            let batch = self.expire_some_grants(actor).await?;
            let last = i64::try_from(batch.len()).is_ok_and(|found| found < EXPIRED_AT_ONCE);
            ended.extend(batch);
            if last {
                return Ok(ended);
            }
        }
    }

    async fn expire_some_grants(
        &self,
        actor: &Actor,
    ) -> Result<Vec<(GrantId, AgentId)>, StoreError> {
        let mut write = self.write(actor).await?;
        let rows: Vec<(String, String)> = within!(write, |c| sqlx::query_as(EXPIRE)
            .bind(actor.at.as_millis())
            .bind(EXPIRED_AT_ONCE)
            .fetch_all(c)
            .await?);
        let mut ended = Vec::with_capacity(rows.len());
        for (grant, agent) in rows {
            ended.push((
                parsed::<GrantId>("grant", &grant)?,
                parsed::<AgentId>("grant", &agent)?,
            ));
        }
        // RETURNING has no order of its own.
        ended.sort();
        for &(grant, agent) in &ended {
            write.announce(&Change::GrantEnded { grant, agent }).await?;
            write
                .record(Record {
                    kind: "grant_expired",
                    agent: Some(agent),
                    command: None,
                    details: json!({ "grant": grant }),
                })
                .await?;
        }
        if ended.is_empty() {
            write.abandon().await?;
        } else {
            write.commit().await?;
        }
        Ok(ended)
    }
}

#[cfg(test)]
mod tests;
