//! Second factors: a device that shows codes, recovery codes for the day it is lost, and
//! how often somebody was wrong.

use std::time::Duration;

use authz::{UserId, time::Timestamp};
use serde_json::json;

use crate::{
    Actor, Store, StoreError,
    column::{is_exact, row, statements, time},
    database::{on, within},
    feed::Change,
    sessions::{self, Credential},
    users,
    write::Write,
};

/// So many wrong codes cost nothing: fingers slip.
const FREE_FAILURES: i64 = 3;

/// The first wait after those; it doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_mins(15);

/// What is enrolled.
#[derive(Clone)]
pub struct SecondFactor {
    /// What the device shares with us, in Base32.
    pub secret: Option<String>,
    /// Since when.
    pub enrolled: Option<Timestamp>,
    /// The time step of the last code that was used: none up to it is good again.
    pub step: i64,
    /// What the device that is being enrolled shares with us.
    pub pending: Option<String>,
    /// Since when that waits for its first code.
    pub pending_since: Option<Timestamp>,
    /// Unused recovery codes.
    pub recovery_codes: u32,
}

impl std::fmt::Debug for SecondFactor {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondFactor")
            .field("enrolled", &self.enrolled)
            .field("pending_since", &self.pending_since)
            .field("recovery_codes", &self.recovery_codes)
            .finish_non_exhaustive()
    }
}

/// What somebody shows as a second factor.
#[derive(Debug)]
pub enum Proof<F> {
    /// A code of the device: given what it shares with us and the last step used, the
    /// step of the code, if it is one.
    Code(F),
    /// A recovery code's digest.
    Recovery(String),
    /// The provider of identities asked again; its word for how.
    Provider(String),
}

/// Where a proof counts.
#[derive(Clone, Debug)]
pub struct Place {
    /// The credential that is confirmed by it.
    pub credential: Credential,
    /// What the login began with; wrong codes are counted by it.
    pub origin: String,
    /// The session's next digest.
    pub rotated: Option<String>,
}

/// What came of a proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proved {
    /// It is good.
    Yes,
    /// It is not; the next one is looked at from then on.
    No(Timestamp),
    /// It was not looked at: too many were wrong. The next one is from then on.
    NotYet(Timestamp),
}

statements! {
    BY_USER = "
        SELECT secret, enrolled, step, pending, pending_since,
            (SELECT COUNT(*) FROM recovery_codes WHERE user_id = second_factors.user_id AND used IS NULL)
                AS codes
        FROM second_factors WHERE user_id = $1";
    BEGIN = "
        INSERT INTO second_factors (user_id, secret, enrolled, step, pending, pending_since)
        VALUES ($1, NULL, NULL, 0, $2, $3)
        ON CONFLICT (user_id) DO UPDATE
        SET pending = excluded.pending, pending_since = excluded.pending_since";
    ENROL = "
        UPDATE second_factors
        SET secret = pending, enrolled = $2, step = $3, pending = NULL, pending_since = NULL
        WHERE user_id = $1 AND pending IS NOT NULL";
    REMOVE = "DELETE FROM second_factors WHERE user_id = $1";
    REMOVE_CODES = "DELETE FROM recovery_codes WHERE user_id = $1";
    INSERT_CODE = "INSERT INTO recovery_codes (user_id, digest, used) VALUES ($1, $2, NULL)";
    USE_STEP = "UPDATE second_factors SET step = $2 WHERE user_id = $1 AND step < $2";
    USE_CODE = "
        UPDATE recovery_codes SET used = $3 WHERE user_id = $1 AND digest = $2 AND used IS NULL";
    FAILURES = "SELECT failures, blocked_until FROM wrong_codes WHERE user_id = $1 AND origin = $2";
    FAILED = "
        INSERT INTO wrong_codes (user_id, origin, failures, blocked_until) VALUES ($1, $2, $3, $4)
        ON CONFLICT (user_id, origin) DO UPDATE
        SET failures = excluded.failures, blocked_until = excluded.blocked_until";
    FORGIVE = "DELETE FROM wrong_codes WHERE user_id = $1 AND origin = $2";
    FORGIVE_ALL = "DELETE FROM wrong_codes WHERE user_id = $1";
}

row! {
    /// A second factor.
    FactorRow {
        secret: Option<String>,
        enrolled: Option<i64>,
        step: i64,
        pending: Option<String>,
        pending_since: Option<i64>,
        codes: i64,
    }
}

impl From<FactorRow> for SecondFactor {
    fn from(row: FactorRow) -> Self {
        Self {
            secret: row.secret,
            enrolled: time(row.enrolled),
            step: row.step,
            pending: row.pending,
            pending_since: time(row.pending_since),
            recovery_codes: u32::try_from(row.codes).unwrap_or_default(),
        }
    }
}

async fn find(write: &mut Write, user: &UserId) -> Result<Option<SecondFactor>, StoreError> {
    let row: Option<FactorRow> = within!(write, |c| sqlx::query_as(BY_USER)
        .bind(user.as_str())
        .fetch_optional(c)
        .await?);
    Ok(row.map(SecondFactor::from))
}

async fn clear(write: &mut Write, user: &UserId, sql: &'static str) -> Result<u64, StoreError> {
    Ok(within!(write, |c| sqlx::query(sql)
        .bind(user.as_str())
        .execute(c)
        .await?
        .rows_affected()))
}

/// When the next code is looked at after so many wrong ones.
fn wait(failures: i64) -> Duration {
    let beyond = failures.saturating_sub(FREE_FAILURES);
    match u32::try_from(beyond) {
        _ if beyond <= 0 => Duration::ZERO,
        Ok(beyond @ 1..=16) => LONGEST_WAIT.min(FIRST_WAIT * (1 << (beyond - 1))),
        _ => LONGEST_WAIT,
    }
}

impl Store {
    /// What a user enrolled, or began to.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn second_factor(&self, user: &UserId) -> Result<Option<SecondFactor>, StoreError> {
        let row: Option<FactorRow> = on!(self, |pool| sqlx::query_as(BY_USER)
            .bind(user.as_str())
            .fetch_optional(pool)
            .await?);
        Ok(row.map(SecondFactor::from))
    }

    /// Keeps the secret of a device that a user enrols, until its first code comes. What
    /// is enrolled stays as it is.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when the user is unknown.
    pub async fn begin_second_factor(
        &self,
        user: &UserId,
        secret: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        users::find(&mut write, user).await?;
        within!(write, |c| sqlx::query(BEGIN)
            .bind(user.as_str())
            .bind(secret)
            .bind(actor.at.as_millis())
            .execute(c)
            .await
            .map(drop)?);
        write
            .note("second_factor_begun", json!({ "subject": user }))
            .await?;
        write.commit().await
    }

    /// Enrols the device whose first code has come, with recovery codes in place of all
    /// earlier ones, and confirms the credential by it. `check` is given what the device
    /// shares with us, and answers with the code's step; `None`, and nothing changes.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when no enrolment is under way, or it began before `since`.
    pub async fn enrol_second_factor(
        &self,
        user: &UserId,
        since: Timestamp,
        recovery_codes: &[String],
        place: &Place,
        actor: &Actor,
        check: impl FnOnce(&str) -> Option<i64> + Send,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        let factor = find(&mut write, user).await?;
        let pending = factor
            .filter(|factor| factor.pending_since.is_some_and(|begun| since <= begun))
            .and_then(|factor| factor.pending)
            .ok_or_else(|| {
                StoreError::Conflict("no enrolment is under way; begin again".to_owned())
            })?;
        let Some(step) = check(&pending) else {
            write.abandon().await?;
            return Ok(false);
        };
        within!(write, |c| sqlx::query(ENROL)
            .bind(user.as_str())
            .bind(actor.at.as_millis())
            .bind(step)
            .execute(c)
            .await
            .map(drop)?);
        clear(&mut write, user, REMOVE_CODES).await?;
        clear(&mut write, user, FORGIVE_ALL).await?;
        for digest in recovery_codes {
            within!(write, |c| sqlx::query(INSERT_CODE)
                .bind(user.as_str())
                .bind(digest)
                .execute(c)
                .await
                .map(drop)?);
        }
        sessions::confirm(&mut write, user, place.credential, place.rotated.as_deref()).await?;
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        let details = json!({ "subject": user, "recovery_codes": recovery_codes.len() });
        write.note("second_factor_enrolled", details).await?;
        write.commit().await?;
        Ok(true)
    }

    /// Removes a user's second factor and recovery codes. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when there is none.
    pub async fn remove_second_factor(
        &self,
        user: &UserId,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        if clear(&mut write, user, REMOVE).await? == 0 {
            return Err(StoreError::NotFound(format!(
                "a second factor of user `{user}`"
            )));
        }
        clear(&mut write, user, REMOVE_CODES).await?;
        clear(&mut write, user, FORGIVE_ALL).await?;
        write
            .announce(&Change::UserChanged { user: user.clone() })
            .await?;
        write
            .note("second_factor_removed", json!({ "subject": user }))
            .await?;
        write.commit().await
    }

    /// Looks at a proof, under lock, and if it is good confirms the credential by it: no
    /// code is good twice. Wrong ones are counted, and looked at ever more seldom.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when the credential has ended.
    pub async fn prove_second_factor<F>(
        &self,
        user: &UserId,
        proof: Proof<F>,
        place: &Place,
        actor: &Actor,
    ) -> Result<Proved, StoreError>
    where
        F: FnOnce(&str, i64) -> Option<i64> + Send,
    {
        let mut write = self.write(actor).await?;
        let before: Option<(i64, i64)> = within!(write, |c| sqlx::query_as(FAILURES)
            .bind(user.as_str())
            .bind(&place.origin)
            .fetch_optional(c)
            .await?);
        let (failures, blocked_until) = before.unwrap_or_default();
        let blocked_until = Timestamp::from_millis(blocked_until);
        // Recovery codes cannot be guessed, so nobody is kept from using one.
        if matches!(proof, Proof::Code(_)) && actor.at < blocked_until {
            write.abandon().await?;
            return Ok(Proved::NotYet(blocked_until));
        }

        let (how, good) = match proof {
            Proof::Provider(how) => (how, true),
            Proof::Recovery(digest) => {
                let changed = if is_exact(&digest) {
                    within!(write, |c| sqlx::query(USE_CODE)
                        .bind(user.as_str())
                        .bind(&digest)
                        .bind(actor.at.as_millis())
                        .execute(c)
                        .await?
                        .rows_affected())
                } else {
                    0
                };
                ("recovery code".to_owned(), changed == 1)
            }
            Proof::Code(check) => {
                let factor = find(&mut write, user).await?;
                let step = factor.and_then(|factor| {
                    let step = check(factor.secret.as_deref()?, factor.step)?;
                    (factor.step < step).then_some(step)
                });
                if let Some(step) = step {
                    within!(write, |c| sqlx::query(USE_STEP)
                        .bind(user.as_str())
                        .bind(step)
                        .execute(c)
                        .await
                        .map(drop)?);
                }
                ("code".to_owned(), step.is_some())
            }
        };
        if good {
            sessions::confirm(&mut write, user, place.credential, place.rotated.as_deref()).await?;
            within!(write, |c| sqlx::query(FORGIVE)
                .bind(user.as_str())
                .bind(&place.origin)
                .execute(c)
                .await
                .map(drop)?);
            let details = json!({ "subject": user, "method": how });
            write.note("step_up", details).await?;
            write.commit().await?;
            return Ok(Proved::Yes);
        }
        let failures = failures.saturating_add(1);
        let next = actor.at.plus(wait(failures));
        within!(write, |c| sqlx::query(FAILED)
            .bind(user.as_str())
            .bind(&place.origin)
            .bind(failures)
            .bind(next.as_millis())
            .execute(c)
            .await
            .map(drop)?);
        let details = json!({ "subject": user, "method": how, "failures": failures });
        write.note("step_up_refused", details).await?;
        write.commit().await?;
        Ok(Proved::No(next))
    }
}

#[cfg(test)]
mod tests;
