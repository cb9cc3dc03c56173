//! What waits for people, as the inbox shows it: in groups, page by page, whatever the number.

use authz::time::Timestamp;

use crate::{Store, StoreError, column::statements, database::on};

statements! {
    COUNT_PENDING = "SELECT COUNT(*) FROM approvals WHERE status = 'pending' AND $1 < expires";
}

impl Store {
    /// How many requests are pending at `now`.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn count_pending(&self, now: Timestamp) -> Result<u64, StoreError> {
        let (count,): (i64,) = on!(self, |pool| sqlx::query_as(COUNT_PENDING)
            .bind(now.as_millis())
            .fetch_one(pool)
            .await?);
        Ok(u64::try_from(count).unwrap_or(0))
    }
}
