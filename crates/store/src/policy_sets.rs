//! Policy sets that were ever in force.

use authz::{Finding, PolicySetVersion, PolicySources, time::Timestamp};

use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{from_json, from_word, is_exact, row, statements, to_json},
    database::{on, within},
    feed::Change,
    write::Record,
};

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

statements! {
    ACTIVE_VERSION = "SELECT version FROM policy_sets WHERE active = 1";
    RETIRE = "UPDATE policy_sets SET active = 0 WHERE active = 1";
    ACTIVATE = "
        INSERT INTO policy_sets (version, sources, findings, activated, activated_by, active)
        VALUES ($1, $2, $3, $4, $5, 1)
        ON CONFLICT (version) DO UPDATE
            SET findings = excluded.findings, activated = excluded.activated,
                activated_by = excluded.activated_by, active = 1";
    ACTIVE = "
        SELECT version, sources, findings, activated, activated_by
        FROM policy_sets WHERE active = 1";
    BY_VERSION = "
        SELECT version, sources, findings, activated, activated_by
        FROM policy_sets WHERE version = $1";
}

row! {
    /// A policy set.
    PolicySetRow {
        version: String,
        sources: String,
        findings: String,
        activated: i64,
        activated_by: String,
    }
}

impl TryFrom<PolicySetRow> for StoredPolicySet {
    type Error = StoreError;

    fn try_from(row: PolicySetRow) -> Result<Self, StoreError> {
        Ok(Self {
            version: from_word("policy set", row.version)?,
            sources: from_json("policy set", &row.sources)?,
            findings: from_json("policy set", &row.findings)?,
            activated: Timestamp::from_millis(row.activated),
            activated_by: row.activated_by,
        })
    }
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
        if !is_exact(version.as_str()) {
            return Err(StoreError::Conflict(
                "a policy set version cannot hold NUL".to_owned(),
            ));
        }
        let mut write = self.write(actor).await?;
        let active: Option<(String,)> = within!(write, |c| sqlx::query_as(ACTIVE_VERSION)
            .fetch_optional(c)
            .await?);
        let before = active.map(|(active,)| active);
        if before.as_deref() == Some(version.as_str()) {
            write.abandon().await?;
            return Ok(false);
        }

        let sources = to_json("policy set", sources)?;
        let listed = to_json("policy set", findings)?;
        let (at, by) = (write.at().as_millis(), write.by().to_owned());
        within!(write, |c| sqlx::query(RETIRE).execute(c).await.map(drop)?);
        within!(write, |c| sqlx::query(ACTIVATE)
            .bind(version.as_str())
            .bind(sources)
            .bind(listed)
            .bind(at)
            .bind(by)
            .execute(c)
            .await
            .map(drop)?);
        write
            .announce(&Change::PolicySetActivated {
                version: version.clone(),
            })
            .await?;
        let details = json!({ "version": version, "before": before, "warnings": findings.len() });
        write
            .record(Record {
                kind: "policy_set_activated",
                agent: None,
                command: None,
                details,
            })
            .await?;
        write.commit().await?;
        Ok(true)
    }

    /// The set in force, if there was ever one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn active_policy_set(&self) -> Result<Option<StoredPolicySet>, StoreError> {
        let row: Option<PolicySetRow> = on!(self, |pool| sqlx::query_as(ACTIVE)
            .fetch_optional(pool)
            .await?);
        row.map(StoredPolicySet::try_from).transpose()
    }

    /// One set.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn policy_set(
        &self,
        version: &PolicySetVersion,
    ) -> Result<StoredPolicySet, StoreError> {
        let unknown =
            || StoreError::NotFound(format!("policy set `{}`", version.short().escape_debug()));
        if !is_exact(version.as_str()) {
            return Err(unknown());
        }
        let row: Option<PolicySetRow> = on!(self, |pool| sqlx::query_as(BY_VERSION)
            .bind(version.as_str())
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(unknown)?.try_into()
    }
}

#[cfg(test)]
mod tests;
