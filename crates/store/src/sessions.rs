//! Sessions of people's browsers: rows of their own, so that what a browser holds is no
//! credential, and ends by rest, by age, by hand, or with the credential that opened it.

use std::time::Duration;

use authz::{SessionId, TokenId, UserId, time::Timestamp};
use serde_json::{Value, json};

use crate::{
    Actor, Store, StoreError,
    column::{is_exact, millis, parsed, prose, row, statements, time},
    database::{Database, on, within},
    feed::Change,
    users::{self, Holder},
    write::Write,
};

/// How exact [`Session::last_used`] is: a use sooner after the last is not noted.
const USE_NOTED_EVERY: Duration = Duration::from_mins(1);

/// What ended so long ago is forgotten at that person's next login.
const KEPT: Duration = Duration::from_hours(30 * 24);

/// How somebody logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// With this credential.
    Token(TokenId),
    /// At the provider of identities.
    Oidc,
    /// By the first start's link.
    Bootstrap,
}

impl Method {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Oidc => "oidc",
            Self::Bootstrap => "bootstrap",
        }
    }

    const fn token(self) -> Option<TokenId> {
        match self {
            Self::Token(token) => Some(token),
            Self::Oidc | Self::Bootstrap => None,
        }
    }
}

/// One session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// SHA-256 of the cookie in hexadecimal.
    pub digest: String,
    /// How it began.
    pub method: Method,
    /// From where, as far as known.
    pub address: Option<String>,
    /// What the browser says it is.
    pub browser: String,
    /// When it began.
    pub created: Timestamp,
    /// Not from this instant on, whatever is done with it.
    pub expires: Timestamp,
    /// How long it may rest.
    pub idle: Duration,
    /// Last seen, to the minute.
    pub last_used: Timestamp,
    /// When a second factor was last proved in it.
    pub confirmed: Option<Timestamp>,
}

/// What a person shows that they are who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A credential, with each request.
    Token(TokenId),
    /// A session.
    Session(SessionId),
}

statements! {
    INSERT = "
        INSERT INTO sessions (id, digest, user_id, method, token, address, browser, created, expires,
            idle, last_used, confirmed)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
    FORGET = "
        DELETE FROM sessions WHERE user_id = $1 AND (ended < $2 OR expires < $2)";
    BY_DIGEST = "
        SELECT s.id, s.digest, s.method, s.token, s.address, s.browser, s.created, s.expires,
            s.idle, s.last_used, s.confirmed,
            u.id AS holder, u.name, u.teams, u.roles, u.active
        FROM sessions s JOIN users u ON u.id = s.user_id LEFT JOIN tokens t ON t.id = s.token
        WHERE s.digest = $1 AND u.active = 1 AND s.ended IS NULL
            AND $2 < s.expires AND $2 < s.last_used + s.idle
            AND (s.token IS NULL OR (t.revoked IS NULL AND (t.expires IS NULL OR $2 < t.expires)))";
    OF_USER = "
        SELECT s.id, s.digest, s.method, s.token, s.address, s.browser, s.created, s.expires,
            s.idle, s.last_used, s.confirmed
        FROM sessions s LEFT JOIN tokens t ON t.id = s.token
        WHERE s.user_id = $1 AND s.ended IS NULL
            AND $2 < s.expires AND $2 < s.last_used + s.idle
            AND (s.token IS NULL OR (t.revoked IS NULL AND (t.expires IS NULL OR $2 < t.expires)))
        ORDER BY s.last_used DESC, s.id DESC";
    NOTE_USE = "UPDATE sessions SET last_used = $2 WHERE id = $1 AND last_used <= $3";
    END = "
        UPDATE sessions SET ended = $3
        WHERE id = $1 AND user_id = $2 AND ended IS NULL AND $3 < expires";
    END_ALL = "
        UPDATE sessions SET ended = $3
        WHERE user_id = $1 AND id <> $2 AND ended IS NULL AND $3 < expires";
    CONFIRM_SESSION = "
        UPDATE sessions SET confirmed = $3, digest = COALESCE($4, digest), last_used = $3
        WHERE id = $1 AND user_id = $2 AND ended IS NULL AND $3 < expires";
    CONFIRM_TOKEN = "
        UPDATE tokens SET confirmed = $3
        WHERE id = $1 AND user_id = $2 AND revoked IS NULL AND (expires IS NULL OR $3 < expires)";
}

row! {
    /// A session.
    SessionRow {
        id: String,
        digest: String,
        method: String,
        token: Option<String>,
        address: Option<String>,
        browser: String,
        created: i64,
        expires: i64,
        idle: i64,
        last_used: i64,
        confirmed: Option<i64>,
    }
}

row! {
    /// A session's holder.
    HolderRow {
        holder: String,
        name: String,
        teams: String,
        roles: String,
        active: i64,
    }
}

/// A session and whose it is.
struct HeldRow(SessionRow, HolderRow);

impl<'r, R> sqlx::FromRow<'r, R> for HeldRow
where
    R: sqlx::Row,
    SessionRow: sqlx::FromRow<'r, R>,
    HolderRow: sqlx::FromRow<'r, R>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self(SessionRow::from_row(row)?, HolderRow::from_row(row)?))
    }
}

impl TryFrom<SessionRow> for Session {
    type Error = StoreError;

    fn try_from(row: SessionRow) -> Result<Self, StoreError> {
        let corrupt = |why: String| StoreError::Corrupt {
            what: "session",
            why,
        };
        let method = match (row.method.as_str(), row.token) {
            ("token", Some(token)) => Method::Token(parsed("session", &token)?),
            ("oidc", None) => Method::Oidc,
            ("bootstrap", None) => Method::Bootstrap,
            (method, _) => return Err(corrupt(format!("the method `{method}`"))),
        };
        Ok(Self {
            id: parsed("session", &row.id)?,
            digest: row.digest,
            method,
            address: row.address,
            browser: row.browser,
            created: Timestamp::from_millis(row.created),
            expires: Timestamp::from_millis(row.expires),
            idle: Duration::from_millis(
                u64::try_from(row.idle).map_err(|error| corrupt(error.to_string()))?,
            ),
            last_used: Timestamp::from_millis(row.last_used),
            confirmed: time(row.confirmed),
        })
    }
}

/// Ends every live session of a user but `except`; says how many.
pub(crate) async fn end_all(
    write: &mut Write,
    user: &UserId,
    except: Option<SessionId>,
) -> Result<u64, StoreError> {
    let at = write.at().as_millis();
    let except = except.map(|id| id.to_string()).unwrap_or_default();
    Ok(within!(write, |c| sqlx::query(END_ALL)
        .bind(user.as_str())
        .bind(except)
        .bind(at)
        .execute(c)
        .await?
        .rows_affected()))
}

/// Notes that a second factor was proved with this credential, and gives a session
/// another digest: what was known of it before proves nothing any more.
pub(crate) async fn confirm(
    write: &mut Write,
    user: &UserId,
    credential: Credential,
    rotated: Option<&str>,
) -> Result<(), StoreError> {
    let at = write.at().as_millis();
    let changed = match credential {
        Credential::Token(token) => within!(write, |c| sqlx::query(CONFIRM_TOKEN)
            .bind(token.to_string())
            .bind(user.as_str())
            .bind(at)
            .execute(c)
            .await?
            .rows_affected()),
        Credential::Session(session) => within!(write, |c| sqlx::query(CONFIRM_SESSION)
            .bind(session.to_string())
            .bind(user.as_str())
            .bind(at)
            .bind(rotated)
            .execute(c)
            .await?
            .rows_affected()),
    };
    if changed == 1 {
        Ok(())
    } else {
        Err(StoreError::NotFound("a live credential".to_owned()))
    }
}

impl Store {
    /// Begins a session, and ends the one that the browser had before.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when the user is unknown or not active.
    pub async fn begin_session(
        &self,
        user: &UserId,
        session: &Session,
        before: Option<SessionId>,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        if !is_exact(&session.digest) {
            return Err(StoreError::Conflict("a digest cannot hold NUL".to_owned()));
        }
        let mut write = self.write(actor).await?;
        if !users::find(&mut write, user).await?.user.active {
            return Err(StoreError::NotFound(format!("an active user `{user}`")));
        }
        within!(write, |c| sqlx::query(FORGET)
            .bind(user.as_str())
            .bind(actor.at.minus(KEPT).as_millis())
            .execute(c)
            .await
            .map(drop)?);
        if let Some(before) = before {
            within!(write, |c| sqlx::query(END)
                .bind(before.to_string())
                .bind(user.as_str())
                .bind(actor.at.as_millis())
                .execute(c)
                .await
                .map(drop)?);
        }
        let address = session.address.as_deref().map(prose);
        let idle = i64::try_from(session.idle.as_millis()).unwrap_or(i64::MAX / 2);
        within!(write, |c| sqlx::query(INSERT)
            .bind(session.id.to_string())
            .bind(&session.digest)
            .bind(user.as_str())
            .bind(session.method.as_str())
            .bind(session.method.token().map(|token| token.to_string()))
            .bind(address)
            .bind(prose(&session.browser))
            .bind(session.created.as_millis())
            .bind(session.expires.as_millis())
            .bind(idle)
            .bind(session.last_used.as_millis())
            .bind(millis(session.confirmed))
            .execute(c)
            .await
            .map(drop)?);
        let details = json!({
            "session": session.id,
            "method": session.method.as_str(),
            "token": session.method.token(),
            "browser": session.browser,
            "second_factor": session.confirmed.is_some(),
            "expires": session.expires,
        });
        write.note("login", details).await?;
        write.commit().await
    }

    /// Whose live session at `now` has this digest. `used`: note that it was used.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`].
    pub async fn user_by_session(
        &self,
        digest: &str,
        now: Timestamp,
        used: bool,
    ) -> Result<(Holder, Session), StoreError> {
        let unknown = || StoreError::NotFound("a live session with this digest".to_owned());
        if !is_exact(digest) {
            return Err(unknown());
        }
        let row: Option<HeldRow> = on!(self, |pool| sqlx::query_as(BY_DIGEST)
            .bind(digest)
            .bind(now.as_millis())
            .fetch_optional(pool)
            .await?);
        let HeldRow(session, holder) = row.ok_or_else(unknown)?;
        let mut session = Session::try_from(session)?;
        let holder = Holder {
            user: users::user(
                &holder.holder,
                holder.name,
                &holder.teams,
                &holder.roles,
                holder.active,
            )?,
            confirmed: session.confirmed,
        };
        if used {
            self.note_session_use(&mut session, now).await;
        }
        Ok((holder, session))
    }

    /// As [`Store::note_use`]: if it fails, the session only ends sooner by rest.
    async fn note_session_use(&self, session: &mut Session, now: Timestamp) {
        let threshold = now.minus(USE_NOTED_EVERY);
        if threshold < session.last_used {
            return;
        }
        let (id, now_millis) = (session.id.to_string(), now.as_millis());
        let noted = match &self.database {
            Database::Postgres(pool) => sqlx::query(NOTE_USE)
                .bind(id)
                .bind(now_millis)
                .bind(threshold.as_millis())
                .execute(pool)
                .await
                .map(drop),
            Database::Sqlite { writer, .. } => sqlx::query(NOTE_USE)
                .bind(id)
                .bind(now_millis)
                .bind(threshold.as_millis())
                .execute(writer)
                .await
                .map(drop),
        };
        match noted {
            Ok(()) => session.last_used = now,
            Err(error) => {
                tracing::warn!(session = %session.id, %error, "the use of a session was not noted");
            }
        }
    }

    /// A user's live sessions at `now`, the one used last first.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when the user is unknown.
    pub async fn sessions(
        &self,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Vec<Session>, StoreError> {
        self.user(user).await?;
        let rows: Vec<SessionRow> = on!(self, |pool| sqlx::query_as(OF_USER)
            .bind(user.as_str())
            .bind(now.as_millis())
            .fetch_all(pool)
            .await?);
        rows.into_iter().map(Session::try_from).collect()
    }

    /// Ends one session. `kind` is what the audit trail calls it: `logout` or
    /// `session_ended`. Event: `UserChanged`.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when this user has no such live session.
    pub async fn end_session(
        &self,
        user: &UserId,
        session: SessionId,
        kind: &'static str,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        let ended = within!(write, |c| sqlx::query(END)
            .bind(session.to_string())
            .bind(user.as_str())
            .bind(actor.at.as_millis())
            .execute(c)
            .await?
            .rows_affected());
        if ended == 0 {
            return Err(StoreError::NotFound(format!("a live session `{session}`")));
        }
        let details = json!({ "subject": user, "session": session });
        finish(write, user, kind, details).await
    }

    /// Ends every live session of a user but `except`; says how many. Event:
    /// `UserChanged`, if there was one.
    ///
    /// # Errors
    ///
    /// [`StoreError::NotFound`] when the user is unknown.
    pub async fn end_sessions(
        &self,
        user: &UserId,
        except: Option<SessionId>,
        actor: &Actor,
    ) -> Result<u64, StoreError> {
        let mut write = self.write(actor).await?;
        users::find(&mut write, user).await?;
        let ended = end_all(&mut write, user, except).await?;
        if ended == 0 {
            write.abandon().await?;
            return Ok(0);
        }
        let details = json!({ "subject": user, "ended": ended, "except": except });
        finish(write, user, "sessions_ended", details).await?;
        Ok(ended)
    }

    /// Records what happened at a door without changing anything: a refused login, say.
    ///
    /// # Errors
    ///
    /// When the database fails.
    pub async fn note(
        &self,
        kind: &'static str,
        details: Value,
        actor: &Actor,
    ) -> Result<(), StoreError> {
        let mut write = self.write(actor).await?;
        write.note(kind, details).await?;
        write.commit().await
    }
}

async fn finish(
    mut write: Write,
    user: &UserId,
    kind: &'static str,
    details: Value,
) -> Result<(), StoreError> {
    write
        .announce(&Change::UserChanged { user: user.clone() })
        .await?;
    write.note(kind, details).await?;
    write.commit().await
}

#[cfg(test)]
mod tests;
