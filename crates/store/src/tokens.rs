//! Credentials, of agents and of users alike: digests, in one table, so that none can
//! be both.

use std::time::Duration;

use authz::{TokenId, time::Timestamp};

use crate::{
    Store, StoreError,
    agents::Token,
    column::{is_exact, millis, parsed, prose, row, statements, time},
    database::{Database, within},
    write::Write,
};

/// How exact [`Token::last_used`] is: a use sooner after the last is not noted.
const USE_NOTED_EVERY: Duration = Duration::from_mins(1);

statements! {
    INSERT = "
        INSERT INTO tokens (id, digest, agent, user_id, label, created, expires, revoked, last_used)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    REVOKE_OF_AGENT = "
        UPDATE tokens SET revoked = $3
        WHERE id = $1 AND agent = $2 AND revoked IS NULL AND (expires IS NULL OR $3 < expires)";
    REVOKE_OF_USER = "
        UPDATE tokens SET revoked = $3
        WHERE id = $1 AND user_id = $2 AND revoked IS NULL AND (expires IS NULL OR $3 < expires)";
    NOTE_USE = "
        UPDATE tokens SET last_used = $2
        WHERE id = $1 AND (last_used IS NULL OR last_used <= $3)";
}

row! {
    /// A credential.
    pub(crate) TokenRow {
        id: String,
        digest: String,
        label: String,
        created: i64,
        expires: Option<i64>,
        revoked: Option<i64>,
        last_used: Option<i64>,
    }
}

impl TryFrom<TokenRow> for Token {
    type Error = StoreError;

    fn try_from(row: TokenRow) -> Result<Self, StoreError> {
        Ok(Self {
            id: parsed("token", &row.id)?,
            digest: row.digest,
            label: row.label,
            created: Timestamp::from_millis(row.created),
            expires: time(row.expires),
            revoked: time(row.revoked),
            last_used: time(row.last_used),
        })
    }
}

/// Whose credential it is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Holder<'a> {
    /// An agent's, by id.
    Agent(&'a str),
    /// A user's.
    User(&'a str),
}

/// Adds a credential of someone who exists.
pub(crate) async fn insert(
    write: &mut Write,
    holder: Holder<'_>,
    token: &Token,
) -> Result<(), StoreError> {
    if !is_exact(&token.digest) {
        return Err(StoreError::Conflict("a digest cannot hold NUL".to_owned()));
    }
    let (agent, user) = match holder {
        Holder::Agent(id) => (Some(id), None),
        Holder::User(id) => (None, Some(id)),
    };
    within!(write, |c| sqlx::query(INSERT)
        .bind(token.id.to_string())
        .bind(&token.digest)
        .bind(agent)
        .bind(user)
        .bind(prose(&token.label))
        .bind(token.created.as_millis())
        .bind(millis(token.expires))
        .bind(millis(token.revoked))
        .bind(millis(token.last_used))
        .execute(c)
        .await
        .map(drop))
    // The digest is not for messages, even though it is not the secret.
    .map_err(|error| {
        StoreError::taken(error, || {
            format!("credential `{}` exists already", token.id)
        })
    })
}

/// Ends a live credential.
pub(crate) async fn revoke(
    write: &mut Write,
    holder: Holder<'_>,
    token: TokenId,
) -> Result<(), StoreError> {
    let (sql, holder) = match holder {
        Holder::Agent(id) => (REVOKE_OF_AGENT, id),
        Holder::User(id) => (REVOKE_OF_USER, id),
    };
    let at = write.at().as_millis();
    let changed = within!(write, |c| sqlx::query(sql)
        .bind(token.to_string())
        .bind(holder)
        .bind(at)
        .execute(c)
        .await?
        .rows_affected());
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound(format!("a live credential `{token}`")))
    }
}

impl Store {
    /// Notes that a credential was used, unless that was noted within the minute. One
    /// statement of its own, without the head of the feed: nobody decides by it, and
    /// it must not make authentication wait for writers, nor fail with them.
    pub(crate) async fn note_use(&self, token: &mut Token, now: Timestamp) {
        let threshold = now.minus(USE_NOTED_EVERY);
        if token.last_used.is_some_and(|last| threshold < last) {
            return;
        }
        let noted = match &self.database {
            Database::Postgres(pool) => sqlx::query(NOTE_USE)
                .bind(token.id.to_string())
                .bind(now.as_millis())
                .bind(threshold.as_millis())
                .execute(pool)
                .await
                .map(drop),
            Database::Sqlite { writer, .. } => sqlx::query(NOTE_USE)
                .bind(token.id.to_string())
                .bind(now.as_millis())
                .bind(threshold.as_millis())
                .execute(writer)
                .await
                .map(drop),
        };
        match noted {
            Ok(()) => token.last_used = Some(now),
            Err(error) => {
                tracing::warn!(token = %token.id, %error, "the use of a credential was not noted");
            }
        }
    }
}
