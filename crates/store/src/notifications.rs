//! Where notifications go, and which accounts there are which people here. What waits to
//! be sent is in `outbox.rs`.

pub mod outbox;

use authz::{TargetName, UserId, time::Timestamp};
use serde_json::{Value, json};

use crate::{
    Actor, Store, StoreError,
    column::{from_json, is_exact, millis, parsed, row, statements, time, to_json},
    database::{on, within},
    users,
    write::Write,
};

/// What adds a target, or replaces what is given.
#[derive(Clone, Debug)]
pub struct NewTarget {
    /// Unique.
    pub name: TargetName,
    /// `webhook`, `slack` or `email`.
    pub kind: &'static str,
    /// What may be shown: an object.
    pub settings: Value,
    /// Its secrets, encrypted.
    pub sealed: String,
}

/// A target as stored.
#[derive(Clone, Debug)]
pub struct StoredTarget {
    /// Unique.
    pub name: TargetName,
    /// `webhook`, `slack` or `email`.
    pub kind: String,
    /// What may be shown.
    pub settings: Value,
    /// Its secrets, encrypted.
    pub sealed: String,
    /// Whether anything is sent there.
    pub enabled: bool,
    /// When it was added.
    pub created: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Attempts that failed since the last that did not.
    pub failures: u32,
    /// Nothing is sent there before this instant.
    pub open_until: Option<Timestamp>,
    /// Why the last failed attempt failed; kept until one does not.
    pub last_error: Option<String>,
    /// When something last arrived.
    pub last_delivered: Option<Timestamp>,
}

/// What changes about a target; what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TargetChange {
    /// Everything that may be shown.
    pub settings: Option<Value>,
    /// All of its secrets, encrypted.
    pub sealed: Option<String>,
    /// Whether anything is sent there.
    pub enabled: Option<bool>,
    /// For the audit trail: what was changed, in words.
    pub what: Vec<&'static str>,
}

/// An account elsewhere that is a person here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// As the target's system names it.
    pub account: String,
    /// The person.
    pub user: UserId,
    /// Since when.
    pub linked: Timestamp,
    /// By whom.
    pub linked_by: String,
}

statements! {
    INSERT = "
        INSERT INTO notification_targets
            (name, kind, settings, sealed, enabled, created, created_by, failures)
        VALUES ($1, $2, $3, $4, 1, $5, $6, 0)";
    TARGETS = "
        SELECT name, kind, settings, sealed, enabled, created, created_by, failures, open_until,
            last_error, last_delivered
        FROM notification_targets ORDER BY name";
    TARGET = "
        SELECT name, kind, settings, sealed, enabled, created, created_by, failures, open_until,
            last_error, last_delivered
        FROM notification_targets WHERE name = $1";
    // Whoever changes a target wants it tried again.
    CHANGE = "
        UPDATE notification_targets
        SET settings = $2, sealed = $3, enabled = $4, failures = 0, open_until = NULL, last_error = NULL
        WHERE name = $1";
    // What happened while nobody was to be told is not told later.
    BEGIN_AT_HEAD = "
        UPDATE notification_sender SET planned = $1
        WHERE id = 1 AND NOT EXISTS (SELECT 1 FROM notification_targets WHERE enabled = 1)";
    REMOVE_MESSAGES = "DELETE FROM notification_messages WHERE target = $1";
    REMOVE_ACCOUNTS = "DELETE FROM notification_accounts WHERE target = $1";
    REMOVE = "DELETE FROM notification_targets WHERE name = $1";
    LINK = "
        INSERT INTO notification_accounts (target, account, user_id, linked, linked_by)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (target, account) DO UPDATE
        SET user_id = excluded.user_id, linked = excluded.linked, linked_by = excluded.linked_by";
    UNLINK = "DELETE FROM notification_accounts WHERE target = $1 AND account = $2";
    ACCOUNTS = "
        SELECT account, user_id, linked, linked_by FROM notification_accounts
        WHERE target = $1 ORDER BY account";
    ACCOUNT = "
        SELECT account, user_id, linked, linked_by FROM notification_accounts
        WHERE target = $1 AND account = $2";
    TAKE_CALLBACK = "
        INSERT INTO notification_callbacks (digest, taken) VALUES ($1, $2)
        ON CONFLICT (digest) DO NOTHING";
    FORGET_CALLBACKS = "DELETE FROM notification_callbacks WHERE taken < $1";
}

row! {
    /// A target.
    TargetRow {
        name: String,
        kind: String,
        settings: String,
        sealed: String,
        enabled: i64,
        created: i64,
        created_by: String,
        failures: i64,
        open_until: Option<i64>,
        last_error: Option<String>,
        last_delivered: Option<i64>,
    }
}

row! {
    /// An account.
    AccountRow {
        account: String,
        user_id: String,
        linked: i64,
        linked_by: String,
    }
}

const WHAT: &str = "notification target";

impl TargetRow {
    fn target(self) -> Result<StoredTarget, StoreError> {
        Ok(StoredTarget {
            name: parsed(WHAT, &self.name)?,
            kind: self.kind,
            settings: from_json(WHAT, &self.settings)?,
            sealed: self.sealed,
            enabled: self.enabled != 0,
            created: Timestamp::from_millis(self.created),
            created_by: self.created_by,
            failures: u32::try_from(self.failures).unwrap_or(u32::MAX),
            open_until: time(self.open_until),
            last_error: self.last_error,
            last_delivered: time(self.last_delivered),
        })
    }
}

impl AccountRow {
    fn account(self) -> Result<Account, StoreError> {
        Ok(Account {
            account: self.account,
            user: parsed(WHAT, &self.user_id)?,
            linked: Timestamp::from_millis(self.linked),
            linked_by: self.linked_by,
        })
    }
}

fn not_found(name: &TargetName) -> StoreError {
    StoreError::NotFound(format!("notification target `{name}`"))
}

async fn find(write: &mut Write, name: &TargetName) -> Result<StoredTarget, StoreError> {
    let row: Option<TargetRow> = within!(write, |c| sqlx::query_as(TARGET)
        .bind(name.as_str())
        .fetch_optional(c)
        .await?);
    row.ok_or_else(|| not_found(name))?.target()
}

/// If this is the first target to be told anything, it is told what happens from now on.
async fn begin_at_head(write: &mut Write) -> Result<(), StoreError> {
    let head = write.before();
    within!(write, |c| sqlx::query(BEGIN_AT_HEAD)
        .bind(head)
        .execute(c)
        .await
        .map(drop)?);
    Ok(())
}

impl Store {
    /// Adds a target.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] when the name is taken.
    pub async fn create_notification_target(
        &self,
        new: &NewTarget,
        actor: &Actor,
    ) -> Result<StoredTarget, StoreError> {
        let settings = to_json(WHAT, &new.settings)?;
        let mut write = self.write(actor).await?;
        begin_at_head(&mut write).await?;
        let (at, by) = (write.at().as_millis(), write.by().to_owned());
        within!(write, |c| sqlx::query(INSERT)
            .bind(new.name.as_str())
            .bind(new.kind)
            .bind(settings)
            .bind(&new.sealed)
            .bind(at)
            .bind(by)
            .execute(c)
            .await
            .map(drop))
        .map_err(|error| {
            StoreError::taken(error, || {
                format!("there is a notification target `{}` already", new.name)
            })
        })?;
        let details = json!({ "target": new.name, "to": new.kind, "settings": new.settings });
        write.note("notification_target_added", details).await?;
        let stored = find(&mut write, &new.name).await?;
        write.commit().await?;
        Ok(stored)
    }

    /// All targets, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notification_targets(&self) -> Result<Vec<StoredTarget>, StoreError> {
        let rows: Vec<TargetRow> =
            on!(self, |pool| sqlx::query_as(TARGETS).fetch_all(pool).await?);
        rows.into_iter().map(TargetRow::target).collect()
    }

    /// One target.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn notification_target(&self, name: &TargetName) -> Result<StoredTarget, StoreError> {
        let row: Option<TargetRow> = on!(self, |pool| sqlx::query_as(TARGET)
            .bind(name.as_str())
            .fetch_optional(pool)
            .await?);
        row.ok_or_else(|| not_found(name))?.target()
    }

    /// Changes a target, and has it tried again if it had been failing.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn change_notification_target(
        &self,
        name: &TargetName,
        change: TargetChange,
        actor: &Actor,
    ) -> Result<StoredTarget, StoreError> {
        let mut write = self.write(actor).await?;
        let mut stored = find(&mut write, name).await?;
        if change.enabled == Some(true) && !stored.enabled {
            begin_at_head(&mut write).await?;
        }
        stored.enabled = change.enabled.unwrap_or(stored.enabled);
        stored.settings = change.settings.unwrap_or(stored.settings);
        stored.sealed = change.sealed.unwrap_or(stored.sealed);
        stored.failures = 0;
        stored.open_until = None;
        stored.last_error = None;
        let settings = to_json(WHAT, &stored.settings)?;
        within!(write, |c| sqlx::query(CHANGE)
            .bind(name.as_str())
            .bind(settings)
            .bind(&stored.sealed)
            .bind(i64::from(stored.enabled))
            .execute(c)
            .await
            .map(drop)?);
        let details = json!({
            "target": name,
            "changed": change.what,
            "enabled": stored.enabled,
            "settings": stored.settings,
        });
        write.note("notification_target_changed", details).await?;
        write.commit().await?;
        Ok(stored)
    }

    /// Removes a target with everything that was to be sent there, and its accounts.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn remove_notification_target(
        &self,
        name: &TargetName,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        find(&mut write, name).await?;
        for statement in [REMOVE_MESSAGES, REMOVE_ACCOUNTS, REMOVE] {
            within!(write, |c| sqlx::query(statement)
                .bind(name.as_str())
                .execute(c)
                .await
                .map(drop)?);
        }
        write
            .note("notification_target_removed", json!({ "target": name }))
            .await?;
        write.commit().await
    }

    /// From now on that account of the target's is this person.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] for an unknown target or person; [`StoreError::Conflict`]
    /// for an account that cannot be kept.
    pub async fn link_notification_account(
        &self,
        target: &TargetName,
        account: &str,
        user: &UserId,
        actor: &Actor,
    ) -> Result<Account, StoreError> {
        if !is_exact(account) {
            return Err(StoreError::Conflict(
                "an account's name cannot hold NUL".to_owned(),
            ));
        }
        let mut write = self.write(actor).await?;
        find(&mut write, target).await?;
        users::find(&mut write, user).await?;
        let (at, by) = (write.at(), write.by().to_owned());
        within!(write, |c| sqlx::query(LINK)
            .bind(target.as_str())
            .bind(account)
            .bind(user.as_str())
            .bind(at.as_millis())
            .bind(&by)
            .execute(c)
            .await
            .map(drop)?);
        let details = json!({ "target": target, "account": account, "person": user });
        write.note("notification_account_linked", details).await?;
        write.commit().await?;
        Ok(Account {
            account: account.to_owned(),
            user: user.clone(),
            linked: at,
            linked_by: by,
        })
    }

    /// That account is nobody from now on.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn unlink_notification_account(
        &self,
        target: &TargetName,
        account: &str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let missing = || StoreError::NotFound("such an account".to_owned());
        if !is_exact(account) {
            return Err(missing());
        }
        let mut write = self.write(actor).await?;
        let gone = within!(write, |c| sqlx::query(UNLINK)
            .bind(target.as_str())
            .bind(account)
            .execute(c)
            .await?
            .rows_affected());
        if gone == 0 {
            return Err(missing());
        }
        let details = json!({ "target": target, "account": account });
        write.note("notification_account_unlinked", details).await?;
        write.commit().await
    }

    /// The accounts of a target, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notification_accounts(
        &self,
        target: &TargetName,
    ) -> Result<Vec<Account>, StoreError> {
        let rows: Vec<AccountRow> = on!(self, |pool| sqlx::query_as(ACCOUNTS)
            .bind(target.as_str())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(AccountRow::account).collect()
    }

    /// Who that account is, if anybody.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn notification_account(
        &self,
        target: &TargetName,
        account: &str,
    ) -> Result<Option<Account>, StoreError> {
        if !is_exact(account) {
            return Ok(None);
        }
        let row: Option<AccountRow> = on!(self, |pool| sqlx::query_as(ACCOUNT)
            .bind(target.as_str())
            .bind(account)
            .fetch_optional(pool)
            .await?);
        row.map(AccountRow::account).transpose()
    }

    /// Whether this callback comes for the first time. `digest` names it; those taken
    /// before `forget_before` are forgotten, so a callback must be refused for its age by then.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn take_callback(
        &self,
        digest: &str,
        forget_before: Timestamp,
        actor: &Actor,
    ) -> Result<bool, StoreError> {
        let mut write = self.write(actor).await?;
        within!(write, |c| sqlx::query(FORGET_CALLBACKS)
            .bind(millis(Some(forget_before)))
            .execute(c)
            .await
            .map(drop)?);
        let at = write.at().as_millis();
        let taken = within!(write, |c| sqlx::query(TAKE_CALLBACK)
            .bind(digest)
            .bind(at)
            .execute(c)
            .await?
            .rows_affected());
        write.commit().await?;
        Ok(taken == 1)
    }
}

#[cfg(test)]
mod tests;
