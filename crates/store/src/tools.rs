//! Which definitions of MCP servers' tools somebody reviewed.

use authz::{CommandName, ServiceName, command::ArgumentsDigest, time::Timestamp};
use serde_json::{Value, json};

use crate::{
    Actor, Store, StoreError,
    column::{from_json, is_exact, parsed, row, statements, to_json},
    database::{on, within},
    feed::Change,
};

/// A reviewed definition.
#[derive(Clone, Debug, PartialEq)]
pub struct ReviewedTool {
    /// The service.
    pub service: ServiceName,
    /// The tool.
    pub tool: CommandName,
    /// Of the definition.
    pub digest: ArgumentsDigest,
    /// All of it.
    pub definition: Value,
    /// Who reviewed it, or how.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// A definition to be reviewed.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolDefinition {
    /// The tool.
    pub tool: CommandName,
    /// Of the definition.
    pub digest: ArgumentsDigest,
    /// All of it.
    pub definition: Value,
}

statements! {
    REVIEW = "
        INSERT INTO mcp_tools (service, tool, digest, definition, reviewer, reviewed)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (service, tool) DO UPDATE
            SET digest = excluded.digest, definition = excluded.definition,
                reviewer = excluded.reviewer, reviewed = excluded.reviewed
            WHERE mcp_tools.digest <> excluded.digest";
    WITHDRAW = "DELETE FROM mcp_tools WHERE service = $1 AND tool = $2";
    OF_SERVICE = "
        SELECT service, tool, digest, definition, reviewer, reviewed FROM mcp_tools
        WHERE service = $1 ORDER BY tool";
    DIGESTS = "SELECT service, tool, digest FROM mcp_tools ORDER BY service, tool";
}

row! {
    /// A reviewed definition.
    ToolRow {
        service: String,
        tool: String,
        digest: String,
        definition: String,
        reviewer: String,
        reviewed: i64,
    }
}

fn digest(text: String) -> Result<ArgumentsDigest, StoreError> {
    ArgumentsDigest::try_from(text).map_err(|error| StoreError::Corrupt {
        what: "digest",
        why: error.to_string(),
    })
}

impl TryFrom<ToolRow> for ReviewedTool {
    type Error = StoreError;

    fn try_from(row: ToolRow) -> Result<Self, StoreError> {
        Ok(Self {
            service: parsed("service", &row.service)?,
            tool: parsed("tool", &row.tool)?,
            digest: digest(row.digest)?,
            definition: from_json("definition", &row.definition)?,
            by: row.reviewer,
            at: Timestamp::from_millis(row.reviewed),
        })
    }
}

impl Store {
    /// Takes definitions as reviewed, in place of those before; says how many were not yet.
    /// Event: `ToolsReviewed`, if there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] for a definition that cannot be kept.
    pub async fn review_tools(
        &self,
        service: &ServiceName,
        tools: &[ToolDefinition],
        actor: &Actor,
    ) -> Result<usize, StoreError> {
        let mut write = self.write(actor).await?;
        let (by, at) = (write.by().to_owned(), write.at().as_millis());
        let mut reviewed = Vec::new();
        for ToolDefinition {
            tool,
            digest,
            definition,
        } in tools
        {
            let text = to_json("definition", definition)?;
            if !is_exact(&text) {
                return Err(StoreError::Conflict(format!(
                    "the definition of `{tool}` cannot hold NUL"
                )));
            }
            let rows = within!(write, |c| sqlx::query(REVIEW)
                .bind(service.as_str())
                .bind(tool.as_str())
                .bind(digest.as_str())
                .bind(text)
                .bind(by.as_str())
                .bind(at)
                .execute(c)
                .await?
                .rows_affected());
            if rows > 0 {
                reviewed.push(json!({"tool": tool, "digest": digest}));
            }
        }
        let count = reviewed.len();
        if count == 0 {
            write.abandon().await?;
            return Ok(0);
        }
        write
            .tools_changed("tools_reviewed", service, reviewed)
            .await?;
        write.commit().await?;
        Ok(count)
    }

    /// Takes reviews back; says how many there were. Event: `ToolsReviewed`, if there was one.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn withdraw_tools(
        &self,
        service: &ServiceName,
        tools: &[CommandName],
        actor: &Actor,
    ) -> Result<usize, StoreError> {
        let mut write = self.write(actor).await?;
        let mut withdrawn = Vec::new();
        for tool in tools {
            let rows = within!(write, |c| sqlx::query(WITHDRAW)
                .bind(service.as_str())
                .bind(tool.as_str())
                .execute(c)
                .await?
                .rows_affected());
            if rows > 0 {
                withdrawn.push(json!({"tool": tool}));
            }
        }
        let count = withdrawn.len();
        if count == 0 {
            write.abandon().await?;
            return Ok(0);
        }
        write
            .tools_changed("tools_withdrawn", service, withdrawn)
            .await?;
        write.commit().await?;
        Ok(count)
    }

    /// The reviewed definitions of one service, by tool.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reviewed_tools(
        &self,
        service: &ServiceName,
    ) -> Result<Vec<ReviewedTool>, StoreError> {
        let rows: Vec<ToolRow> = on!(self, |pool| sqlx::query_as(OF_SERVICE)
            .bind(service.as_str())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(ReviewedTool::try_from).collect()
    }

    /// The digests of all reviewed definitions: service, tool, digest.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn reviewed_digests(
        &self,
    ) -> Result<Vec<(ServiceName, CommandName, ArgumentsDigest)>, StoreError> {
        let rows: Vec<(String, String, String)> =
            on!(self, |pool| sqlx::query_as(DIGESTS).fetch_all(pool).await?);
        rows.into_iter()
            .map(|(service, tool, text)| {
                Ok((
                    parsed("service", &service)?,
                    parsed("tool", &tool)?,
                    digest(text)?,
                ))
            })
            .collect()
    }
}

impl crate::write::Write {
    async fn tools_changed(
        &mut self,
        kind: &'static str,
        service: &ServiceName,
        tools: Vec<Value>,
    ) -> Result<(), StoreError> {
        self.note(kind, json!({"service": service, "tools": tools}))
            .await?;
        self.announce(&Change::ToolsReviewed {
            service: service.clone(),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{after, at, on_both_engines};

    fn definition(tool: &str, description: &str) -> ToolDefinition {
        let definition = json!({"name": tool, "description": description});
        let members = definition.as_object().unwrap().clone();
        ToolDefinition {
            tool: tool.parse().unwrap(),
            digest: authz::Arguments::new(members).digest().clone(),
            definition,
        }
    }

    on_both_engines! {
        async fn a_review_is_kept_replaced_and_withdrawn(fixture) {
            let store = &fixture.store;
            let (files, other) = ("files".parse().unwrap(), "other".parse().unwrap());
            let head = store.feed_head().await.unwrap();
            let both = [definition("read", "a"), definition("write", "ä\u{200b}")];
            assert_eq!(store.review_tools(&files, &both, &at(after(1))).await.unwrap(), 2);
            assert_eq!(store.review_tools(&other, &both[..1], &at(after(2))).await.unwrap(), 1);
            assert_eq!(store.review_tools(&files, &both, &at(after(3))).await.unwrap(), 0, "nothing new");
            let changed = definition("read", "b");
            assert_eq!(store.review_tools(&files, std::slice::from_ref(&changed), &at(after(4))).await.unwrap(), 1);
            let reviewed = store.reviewed_tools(&files).await.unwrap();
            let told: Vec<_> = reviewed.iter().map(|one| (one.tool.as_str(), &one.definition, one.at)).collect();
            assert_eq!(told, [("read", &changed.definition, after(4)), ("write", &both[1].definition, after(1))]);

            assert_eq!(store.withdraw_tools(&files, &["write".parse().unwrap(), "none".parse().unwrap()], &at(after(5))).await.unwrap(), 1);
            assert_eq!(store.withdraw_tools(&files, &["write".parse().unwrap()], &at(after(6))).await.unwrap(), 0);
            let digests = store.reviewed_digests().await.unwrap();
            assert_eq!(digests, [(files.clone(), changed.tool, changed.digest), (other.clone(), both[0].tool.clone(), both[0].digest.clone())]);

            let feed: Vec<_> = store.feed_after(head, 10).await.unwrap().into_iter().map(|event| event.change).collect();
            let announced = |service: &ServiceName| Change::ToolsReviewed { service: service.clone() };
            assert_eq!(feed, [announced(&files), announced(&other), announced(&files), announced(&files)]);
        }
    }
}
