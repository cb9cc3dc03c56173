//! Policy sets: every version that was stored, which is in force, which was when, and
//! which is evaluated beside it.

use authz::{Finding, PolicySetVersion, PolicySources, time::Timestamp};

use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{from_json, from_word, is_exact, prose, row, statements, to_json},
    database::{on, within},
    feed::Change,
    write::Write,
};

/// A version, without its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicySetHead {
    /// Names it.
    pub version: PolicySetVersion,
    /// Warnings found when it was stored, or last put in force.
    pub findings: Vec<Finding>,
    /// When it was stored.
    pub stored: Timestamp,
    /// By whom: a user, or how.
    pub stored_by: String,
    /// How it came: `folder`, `api`, `ui`.
    pub stored_via: String,
    /// Whether it is in force.
    pub active: bool,
}

/// A version with its sources.
#[derive(Clone, Debug)]
pub struct StoredPolicySet {
    /// What is known of it.
    pub head: PolicySetHead,
    /// Its text.
    pub sources: PolicySources,
}

/// The version in force.
#[derive(Clone, Debug)]
pub struct ActivePolicySet {
    /// Names it.
    pub version: PolicySetVersion,
    /// Its text.
    pub sources: PolicySources,
    /// How it came to be in force.
    pub activation: Activation,
}

/// How an activation came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A version was put in force.
    Activated,
    /// The version before was put in force again.
    RolledBack,
}

impl Kind {
    /// As stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// One time that a version was put in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// Its place: one more than the one before.
    pub id: i64,
    /// Which version.
    pub version: PolicySetVersion,
    /// As something new, or back to what was.
    pub kind: Kind,
    /// When.
    pub at: Timestamp,
    /// By whom: a user, or how.
    pub by: String,
    /// How: `folder`, `api`, `ui`.
    pub via: String,
    /// Why, in the person's words; may be empty.
    pub reason: String,
}

/// The version that gateways evaluate beside the one in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadow {
    /// Which.
    pub version: PolicySetVersion,
    /// Since when.
    pub since: Timestamp,
    /// By whom.
    pub by: String,
}

/// A version to be stored.
#[derive(Clone, Copy, Debug)]
pub struct NewPolicySet<'a> {
    /// Names it: the digest of the sources.
    pub version: &'a PolicySetVersion,
    /// Its text.
    pub sources: &'a PolicySources,
    /// Warnings about it.
    pub findings: &'a [Finding],
}

statements! {
    STORE = "
        INSERT INTO policy_sets (version, sources, findings, stored, stored_by, stored_via, active)
        VALUES ($1, $2, $3, $4, $5, $6, 0)
        ON CONFLICT (version) DO UPDATE SET findings = excluded.findings";
    ACTIVE_VERSION = "SELECT version FROM policy_sets WHERE active = 1";
    RETIRE = "UPDATE policy_sets SET active = 0 WHERE active = 1";
    ACTIVATE = "UPDATE policy_sets SET active = 1 WHERE version = $1";
    LAST_ACTIVATION = "SELECT COALESCE(MAX(id), 0) FROM policy_activations";
    INSERT_ACTIVATION = "
        INSERT INTO policy_activations (id, version, kind, activated, activated_by, via, reason)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    ACTIVATIONS = "
        SELECT id, version, kind, activated, activated_by, via, reason
        FROM policy_activations ORDER BY id DESC LIMIT $1";
    STEPS = "SELECT version, kind FROM policy_activations ORDER BY id";
    ACTIVE = "
        SELECT policy_sets.version AS version, sources, id, kind, activated, activated_by, via, reason
        FROM policy_sets JOIN policy_activations ON policy_activations.version = policy_sets.version
        WHERE active = 1 ORDER BY id DESC LIMIT 1";
    HEADS = "
        SELECT version, findings, stored, stored_by, stored_via, active
        FROM policy_sets ORDER BY stored DESC, version LIMIT $1";
    BY_VERSION = "
        SELECT version, findings, stored, stored_by, stored_via, active
        FROM policy_sets WHERE version = $1";
    SOURCES = "SELECT sources FROM policy_sets WHERE version = $1";
    FOLDER = "SELECT version FROM policy_folder WHERE id = 1";
    TAKE_FOLDER = "
        INSERT INTO policy_folder (id, version, taken) VALUES (1, $1, $2)
        ON CONFLICT (id) DO UPDATE SET version = excluded.version, taken = excluded.taken";
    SHADOW = "SELECT version, since, set_by FROM policy_shadow WHERE id = 1";
    SET_SHADOW = "
        INSERT INTO policy_shadow (id, version, since, set_by) VALUES (1, $1, $2, $3)
        ON CONFLICT (id) DO UPDATE
            SET version = excluded.version, since = excluded.since, set_by = excluded.set_by";
    END_SHADOW = "DELETE FROM policy_shadow WHERE id = 1";
}

row! {
    /// A version without its sources.
    HeadRow {
        version: String,
        findings: String,
        stored: i64,
        stored_by: String,
        stored_via: String,
        active: i64,
    }
}

row! {
    /// An activation.
    ActivationRow {
        id: i64,
        version: String,
        kind: String,
        activated: i64,
        activated_by: String,
        via: String,
        reason: String,
    }
}

row! {
    /// The version in force.
    ActiveRow {
        sources: String,
        id: i64,
        version: String,
        kind: String,
        activated: i64,
        activated_by: String,
        via: String,
        reason: String,
    }
}

impl TryFrom<HeadRow> for PolicySetHead {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        Ok(Self {
            version: from_word("policy set", row.version)?,
            findings: from_json("policy set", &row.findings)?,
            stored: Timestamp::from_millis(row.stored),
            stored_by: row.stored_by,
            stored_via: row.stored_via,
            active: row.active == 1,
        })
    }
}

impl TryFrom<ActivationRow> for Activation {
    type Error = StoreError;

    fn try_from(row: ActivationRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.id,
            version: from_word("policy set", row.version)?,
            kind: kind(&row.kind)?,
            at: Timestamp::from_millis(row.activated),
            by: row.activated_by,
            via: row.via,
            reason: row.reason,
        })
    }
}

fn kind(text: &str) -> Result<Kind, StoreError> {
    [Kind::Activated, Kind::RolledBack]
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| StoreError::Corrupt {
            what: "activation",
            why: format!("`{}` is no kind of it", text.escape_debug()),
        })
}

impl Store {
    /// Stores a version without putting it in force. Says whether it is new.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn store_policy_set(
        &self,
        new: NewPolicySet<'_>,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        let stored = store(&mut write, new).await?;
        write.commit().await?;
        Ok(stored)
    }

    /// Puts a stored version in force, unless it is. Says whether anything changed.
    /// Events: `PolicySetActivated`, and `PolicySetShadowed` if it was the shadow.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for a version that is not stored.
    pub async fn activate_policy_set(
        &self,
        version: &PolicySetVersion,
        kind: Kind,
        reason: &str,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        match activate(&mut write, version, kind, reason).await {
            Ok(true) => {
                write.commit().await?;
                Ok(true)
            }
            Ok(false) => {
                write.abandon().await?;
                Ok(false)
            }
            Err(error) => {
                write.abandon().await?;
                Err(error)
            }
        }
    }

    /// Takes the folder's contents over: stores them and puts them in force, unless they
    /// are what was taken from the folder last. So what a person put in force since stays
    /// until the folder holds something else. Says whether the version in force changed.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_policy_folder(
        &self,
        new: NewPolicySet<'_>,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        let taken: Option<(String,)> =
            within!(write, |c| sqlx::query_as(FOLDER).fetch_optional(c).await?);
        if taken.is_some_and(|(taken,)| taken == new.version.as_str()) {
            write.abandon().await?;
            return Ok(false);
        }
        store(&mut write, new).await?;
        let at = write.at().as_millis();
        within!(write, |c| sqlx::query(TAKE_FOLDER)
            .bind(new.version.as_str())
            .bind(at)
            .execute(c)
            .await
            .map(drop)?);
        let activated = activate(&mut write, new.version, Kind::Activated, "").await?;
        write.commit().await?;
        Ok(activated)
    }

    /// What was taken from the folder last.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn policy_folder(&self) -> Result<Option<PolicySetVersion>, StoreError> {
        let row: Option<(String,)> = on!(self, |pool| sqlx::query_as(FOLDER)
            .fetch_optional(pool)
            .await?);
        row.map(|(version,)| from_word("policy set", version))
            .transpose()
    }

    /// The set in force, if there was ever one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn active_policy_set(&self) -> Result<Option<ActivePolicySet>, StoreError> {
        let row: Option<ActiveRow> = on!(self, |pool| sqlx::query_as(ACTIVE)
            .fetch_optional(pool)
            .await?);
        row.map(|row| {
            let activation = Activation::try_from(ActivationRow {
                id: row.id,
                version: row.version,
                kind: row.kind,
                activated: row.activated,
                activated_by: row.activated_by,
                via: row.via,
                reason: row.reason,
            })?;
            Ok(ActivePolicySet {
                version: activation.version.clone(),
                sources: from_json("policy set", &row.sources)?,
                activation,
            })
        })
        .transpose()
    }

    /// The version that was in force before the present one and is to be returned to:
    /// rolling back twice goes back by two, it does not go forth again.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn policy_set_before(&self) -> Result<Option<PolicySetVersion>, StoreError> {
        let steps: Vec<(String, String)> =
            on!(self, |pool| sqlx::query_as(STEPS).fetch_all(pool).await?);
        let mut path: Vec<String> = Vec::new();
        for (version, how) in steps {
            let known = path.iter().rposition(|earlier| *earlier == version);
            match (kind(&how)?, known) {
                (Kind::RolledBack, Some(place)) => path.truncate(place + 1),
                (Kind::RolledBack | Kind::Activated, _) => path.push(version),
            }
        }
        path.pop();
        path.pop()
            .map(|version| from_word("policy set", version))
            .transpose()
    }

    /// The newest activations, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn policy_activations(&self, limit: u32) -> Result<Vec<Activation>, StoreError> {
        let rows: Vec<ActivationRow> = on!(self, |pool| sqlx::query_as(ACTIVATIONS)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(Activation::try_from).collect()
    }

    /// The newest versions, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn policy_sets(&self, limit: u32) -> Result<Vec<PolicySetHead>, StoreError> {
        let rows: Vec<HeadRow> = on!(self, |pool| sqlx::query_as(HEADS)
            .bind(i64::from(limit))
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(PolicySetHead::try_from).collect()
    }

    /// One version.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn policy_set(
        &self,
        version: &PolicySetVersion,
    ) -> Result<StoredPolicySet, StoreError> {
        if !is_exact(version.as_str()) {
            return Err(unknown(version));
        }
        let head: Option<HeadRow> = on!(self, |pool| sqlx::query_as(BY_VERSION)
            .bind(version.as_str())
            .fetch_optional(pool)
            .await?);
        let head = head.ok_or_else(|| unknown(version))?.try_into()?;
        // A version's sources never change, so the two belong together.
        let (sources,): (String,) = on!(self, |pool| sqlx::query_as(SOURCES)
            .bind(version.as_str())
            .fetch_one(pool)
            .await?);
        Ok(StoredPolicySet {
            head,
            sources: from_json("policy set", &sources)?,
        })
    }

    /// Has gateways evaluate a stored version beside the one in force, or none. Says
    /// whether anything changed. Event: `PolicySetShadowed`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for a version that is not stored,
    /// [`StoreError::Conflict`] for the one in force.
    pub async fn shadow_policy_set(
        &self,
        version: Option<&PolicySetVersion>,
        reason: &str,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        if let Some(version) = version.filter(|version| !is_exact(version.as_str())) {
            return Err(unknown(version));
        }
        let mut write = self.write(actor).await?;
        match shadow(&mut write, version, reason).await {
            Ok(true) => {
                write.commit().await?;
                Ok(true)
            }
            unchanged => {
                write.abandon().await?;
                unchanged
            }
        }
    }

    /// The version that gateways evaluate beside the one in force.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn policy_shadow(&self) -> Result<Option<Shadow>, StoreError> {
        let row: Option<(String, i64, String)> = on!(self, |pool| sqlx::query_as(SHADOW)
            .fetch_optional(pool)
            .await?);
        row.map(|(version, since, by)| {
            Ok(Shadow {
                version: from_word("policy set", version)?,
                since: Timestamp::from_millis(since),
                by,
            })
        })
        .transpose()
    }
}

fn unknown(version: &PolicySetVersion) -> StoreError {
    StoreError::NotFound(format!("policy set `{}`", version.short().escape_debug()))
}

async fn stored(write: &mut Write, version: &PolicySetVersion) -> Result<bool, StoreError> {
    let row: Option<HeadRow> = within!(write, |c| sqlx::query_as(BY_VERSION)
        .bind(version.as_str())
        .fetch_optional(c)
        .await?);
    Ok(row.is_some())
}

/// Stores a version, or what was found about it anew. Says whether it is new.
async fn store(write: &mut Write, new: NewPolicySet<'_>) -> Result<bool, StoreError> {
    if !is_exact(new.version.as_str()) {
        return Err(StoreError::Conflict(
            "a policy set version cannot hold NUL".to_owned(),
        ));
    }
    let known = stored(write, new.version).await?;
    let sources = to_json("policy set", new.sources)?;
    let findings = to_json("policy set", new.findings)?;
    let (at, by, via) = (write.at().as_millis(), write.by().to_owned(), write.via());
    within!(write, |c| sqlx::query(STORE)
        .bind(new.version.as_str())
        .bind(sources)
        .bind(findings)
        .bind(at)
        .bind(by)
        .bind(via)
        .execute(c)
        .await
        .map(drop)?);
    if !known {
        write
            .note(
                "policy_set_stored",
                json!({ "version": new.version, "warnings": new.findings.len() }),
            )
            .await?;
    }
    Ok(!known)
}

/// Puts a stored version in force, unless it is.
async fn activate(
    write: &mut Write,
    version: &PolicySetVersion,
    kind: Kind,
    reason: &str,
) -> Result<bool, StoreError> {
    if !is_exact(version.as_str()) || !stored(write, version).await? {
        return Err(unknown(version));
    }
    let active: Option<(String,)> = within!(write, |c| sqlx::query_as(ACTIVE_VERSION)
        .fetch_optional(c)
        .await?);
    let before = active.map(|(active,)| active);
    if before.as_deref() == Some(version.as_str()) {
        return Ok(false);
    }

    let (last,): (i64,) = within!(write, |c| sqlx::query_as(LAST_ACTIVATION)
        .fetch_one(c)
        .await?);
    let (at, by, via) = (write.at().as_millis(), write.by().to_owned(), write.via());
    let reason = prose(reason);
    within!(write, |c| sqlx::query(RETIRE).execute(c).await.map(drop)?);
    within!(write, |c| sqlx::query(ACTIVATE)
        .bind(version.as_str())
        .execute(c)
        .await
        .map(drop)?);
    within!(write, |c| sqlx::query(INSERT_ACTIVATION)
        .bind(last + 1)
        .bind(version.as_str())
        .bind(kind.as_str())
        .bind(at)
        .bind(by)
        .bind(via)
        .bind(reason.as_str())
        .execute(c)
        .await
        .map(drop)?);
    write
        .announce(&Change::PolicySetActivated {
            version: version.clone(),
        })
        .await?;
    let record = match kind {
        Kind::Activated => "policy_set_activated",
        Kind::RolledBack => "policy_set_rolled_back",
    };
    write
        .note(
            record,
            json!({ "version": version, "before": before, "reason": reason }),
        )
        .await?;
    // What is in force differs from itself in nothing.
    let shadowed: Option<(String, i64, String)> =
        within!(write, |c| sqlx::query_as(SHADOW).fetch_optional(c).await?);
    if shadowed.is_some_and(|(shadow, _, _)| shadow == version.as_str()) {
        shadow(write, None, "it is in force").await?;
    }
    Ok(true)
}

/// Sets or ends the shadow, unless it is so.
async fn shadow(
    write: &mut Write,
    version: Option<&PolicySetVersion>,
    reason: &str,
) -> Result<bool, StoreError> {
    let present: Option<(String, i64, String)> =
        within!(write, |c| sqlx::query_as(SHADOW).fetch_optional(c).await?);
    let before = present.map(|(version, _, _)| version);
    if before.as_deref() == version.map(PolicySetVersion::as_str) {
        return Ok(false);
    }
    if let Some(version) = version {
        if !stored(write, version).await? {
            return Err(unknown(version));
        }
        let active: Option<(String,)> = within!(write, |c| sqlx::query_as(ACTIVE_VERSION)
            .fetch_optional(c)
            .await?);
        if active.is_some_and(|(active,)| active == version.as_str()) {
            return Err(StoreError::Conflict(format!(
                "policy set `{}` is in force: nothing would differ",
                version.short()
            )));
        }
        let (since, by) = (write.at().as_millis(), write.by().to_owned());
        within!(write, |c| sqlx::query(SET_SHADOW)
            .bind(version.as_str())
            .bind(since)
            .bind(by)
            .execute(c)
            .await
            .map(drop)?);
    } else {
        within!(write, |c| sqlx::query(END_SHADOW)
            .execute(c)
            .await
            .map(drop)?);
    }
    write
        .announce(&Change::PolicySetShadowed {
            version: version.cloned(),
        })
        .await?;
    write
        .note(
            "policy_set_shadowed",
            json!({ "version": version, "before": before, "reason": prose(reason) }),
        )
        .await?;
    Ok(true)
}

#[cfg(test)]
mod tests;
