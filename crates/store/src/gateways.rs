//! What gateways say about themselves.

use authz::time::Timestamp;
use serde_json::Value;
use std::time::Duration;

use crate::{
    Actor, Store, StoreError, activity,
    column::{from_json, is_exact, row, statements, to_json},
    database::{on, within},
};

/// A gateway that said nothing for so long is forgotten: it is gone, or has another name.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(7 * 24);

/// A gateway as it last spoke of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredGateway {
    /// Its name.
    pub name: String,
    /// When it last spoke.
    pub seen: Timestamp,
    /// What it said.
    pub status: Value,
}

statements! {
    SAY = "
        INSERT INTO gateways (name, seen, status) VALUES ($1, $2, $3)
        ON CONFLICT (name) DO UPDATE SET seen = excluded.seen, status = excluded.status";
    FORGET = "DELETE FROM gateways WHERE seen < $1";
    ALL = "SELECT name, seen, status FROM gateways ORDER BY name";
}

row! {
    /// A gateway.
    GatewayRow {
        name: String,
        seen: i64,
        status: String,
    }
}

impl Store {
    /// Keeps what a gateway said last, and forgets those that have long been silent, and
    /// counters that are kept no longer.
    /// No event, and nothing in the audit trail: it is said every few seconds.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] for a name that cannot be kept.
    pub async fn keep_gateway_status(
        &self,
        name: &str,
        status: &Value,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if !is_exact(name) {
            return Err(StoreError::Conflict(
                "a gateway's name cannot hold NUL".to_owned(),
            ));
        }
        let text = to_json("gateway status", status)?;
        let mut write = self.write(actor).await?;
        let seen = write.at().as_millis();
        let long_ago =
            seen.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX));
        within!(write, |c| sqlx::query(SAY)
            .bind(name)
            .bind(seen)
            .bind(text)
            .execute(c)
            .await
            .map(drop)?);
        within!(write, |c| sqlx::query(FORGET)
            .bind(long_ago)
            .execute(c)
            .await
            .map(drop)?);
        let now = write.at();
        activity::forget(&mut write, now).await?;
        write.commit().await
    }

    /// Every gateway that was heard of lately, by name.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn gateways(&self) -> Result<Vec<StoredGateway>, StoreError> {
        let rows: Vec<GatewayRow> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        rows.into_iter()
            .map(|row| {
                Ok(StoredGateway {
                    status: from_json("gateway status", &row.status)?,
                    name: row.name,
                    seen: Timestamp::from_millis(row.seen),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{after, at, on_both_engines};

    on_both_engines! {
        async fn the_last_word_of_each_gateway_is_kept(fixture) {
            let store = &fixture.store;
            let head = store.feed_head().await.unwrap();
            store.keep_gateway_status("b", &json!({"version": "1"}), &at(after(0))).await.unwrap();
            store.keep_gateway_status("a", &json!({"version": "1"}), &at(after(1))).await.unwrap();
            store.keep_gateway_status("b", &json!({"version": "2"}), &at(after(2))).await.unwrap();
            let gateways = store.gateways().await.unwrap();
            let said: Vec<_> = gateways.iter().map(|gateway| (gateway.name.as_str(), gateway.seen, gateway.status["version"].as_str().unwrap())).collect();
            assert_eq!(said, [("a", after(1), "1"), ("b", after(2), "2")]);
            assert_eq!(store.feed_head().await.unwrap(), head, "nothing to follow");

            let week = 7 * 24 * 60 * 60;
            store.keep_gateway_status("a", &json!({"version": "3"}), &at(after(week + 2))).await.unwrap();
            assert_eq!(store.gateways().await.unwrap().len(), 2, "a week is not over");
            store.keep_gateway_status("a", &json!({"version": "3"}), &at(after(week + 3))).await.unwrap();
            assert_eq!(store.gateways().await.unwrap().len(), 1);
            assert!(matches!(store.keep_gateway_status("a\0b", &json!({}), &at(after(1))).await, Err(StoreError::Conflict(_))));
        }
    }
}
