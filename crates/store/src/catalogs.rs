//! What gateways can carry out.

use authz::time::Timestamp;
use serde_json::Value;

use crate::{
    Actor, Store, StoreError,
    column::{from_json, is_exact, row, statements, to_json},
    database::{on, within},
};

/// A gateway's catalog, as it last sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredCatalog {
    /// The gateway.
    pub gateway: String,
    /// Names the contents.
    pub digest: String,
    /// When it was sent.
    pub said: Timestamp,
    /// The contents.
    pub catalog: Value,
}

statements! {
    SAY = "
        INSERT INTO gateway_catalogs (gateway, digest, said, catalog) VALUES ($1, $2, $3, $4)
        ON CONFLICT (gateway) DO UPDATE
            SET digest = excluded.digest, said = excluded.said, catalog = excluded.catalog";
    DIGEST = "SELECT digest FROM gateway_catalogs WHERE gateway = $1";
    ALL = "
        SELECT gateway, digest, said, catalog FROM gateway_catalogs
        WHERE gateway IN (SELECT name FROM gateways) ORDER BY said DESC, gateway";
    FORGET_GONE = "DELETE FROM gateway_catalogs WHERE gateway NOT IN (SELECT name FROM gateways)";
}

row! {
    /// A catalog.
    CatalogRow {
        gateway: String,
        digest: String,
        said: i64,
        catalog: String,
    }
}

impl Store {
    /// Keeps what a gateway can carry out, in place of what it said before; forgets the
    /// catalogs of gateways that are forgotten. No event, and nothing in the audit trail.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] for a name that cannot be kept.
    pub async fn keep_gateway_catalog(
        &self,
        gateway: &str,
        digest: &str,
        catalog: &Value,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if !is_exact(gateway) || !is_exact(digest) {
            return Err(StoreError::Conflict(
                "a gateway's name and digest cannot hold NUL".to_owned(),
            ));
        }
        let text = to_json("catalog", catalog)?;
        let mut write = self.write(actor).await?;
        let said = write.at().as_millis();
        within!(write, |c| sqlx::query(FORGET_GONE)
            .execute(c)
            .await
            .map(drop)?);
        within!(write, |c| sqlx::query(SAY)
            .bind(gateway)
            .bind(digest)
            .bind(said)
            .bind(text)
            .execute(c)
            .await
            .map(drop)?);
        write.commit().await
    }

    /// The digest of the catalog that a gateway sent last.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn gateway_catalog_digest(
        &self,
        gateway: &str,
    ) -> Result<Option<String>, StoreError> {
        if !is_exact(gateway) {
            return Ok(None);
        }
        let row: Option<(String,)> = on!(self, |pool| sqlx::query_as(DIGEST)
            .bind(gateway)
            .fetch_optional(pool)
            .await?);
        Ok(row.map(|(digest,)| digest))
    }

    /// The catalogs of all gateways that were heard of lately, newest first.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn gateway_catalogs(&self) -> Result<Vec<StoredCatalog>, StoreError> {
        let rows: Vec<CatalogRow> = on!(self, |pool| sqlx::query_as(ALL).fetch_all(pool).await?);
        rows.into_iter()
            .map(|row| {
                Ok(StoredCatalog {
                    catalog: from_json("catalog", &row.catalog)?,
                    gateway: row.gateway,
                    digest: row.digest,
                    said: Timestamp::from_millis(row.said),
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::{ODD_TEXTS, after, at, on_both_engines};

    on_both_engines! {
        async fn the_last_catalog_of_each_gateway_is_kept(fixture) {
            let store = &fixture.store;
            for (second, gateway, digest) in [(0, "a", "1"), (1, "b", "1"), (2, "a", "2")] {
                store.keep_gateway_status(gateway, &json!({}), &at(after(second))).await.unwrap();
                store.keep_gateway_catalog(gateway, digest, &json!([digest]), &at(after(second))).await.unwrap();
            }
            assert_eq!(store.gateway_catalog_digest("a").await.unwrap().as_deref(), Some("2"));
            assert_eq!(store.gateway_catalog_digest("c").await.unwrap(), None);
            assert_eq!(store.gateway_catalog_digest("a\0").await.unwrap(), None);
            let all = store.gateway_catalogs().await.unwrap();
            let said: Vec<_> = all.iter().map(|one| (one.gateway.as_str(), one.digest.as_str(), one.said, &one.catalog[0])).collect();
            assert_eq!(said, [("a", "2", after(2), &json!("2")), ("b", "1", after(1), &json!("1"))]);

            // A gateway that is forgotten takes its catalog along.
            let week = 7 * 24 * 60 * 60;
            store.keep_gateway_status("a", &json!({}), &at(after(week + 2))).await.unwrap();
            assert_eq!(store.gateway_catalogs().await.unwrap().len(), 1);
            store.keep_gateway_catalog("a", "3", &json!([]), &at(after(week + 2))).await.unwrap();
            assert_eq!(store.gateway_catalog_digest("b").await.unwrap(), None);
        }

        async fn odd_names_are_kept_as_they_are(fixture) {
            let store = &fixture.store;
            for text in ODD_TEXTS {
                store.keep_gateway_status(text, &json!({}), &at(after(0))).await.unwrap();
                store.keep_gateway_catalog(text, text, &json!({"text": text}), &at(after(0))).await.unwrap();
                assert_eq!(store.gateway_catalog_digest(text).await.unwrap().as_deref(), Some(text));
            }
            let all = store.gateway_catalogs().await.unwrap();
            assert_eq!(all.len(), ODD_TEXTS.len());
            assert!(all.iter().all(|one| one.catalog["text"] == one.gateway.as_str()));
            assert!(matches!(store.keep_gateway_catalog("a\0", "", &json!({}), &at(after(0))).await, Err(StoreError::Conflict(_))));
        }
    }
}
