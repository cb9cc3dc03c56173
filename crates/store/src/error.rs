//! Why the store did not do what was asked.

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row.
    #[error("{0} is not found")]
    NotFound(String),
    /// Another row has the name, or the row is no longer in the state that the write needs.
    #[error("{0}")]
    Conflict(String),
    /// There are as many as there may be.
    #[error("{0}")]
    TooMany(String),
    /// Another process, or a person at a prompt, holds what this needs. It may pass.
    #[error("the database is locked by somebody else, for longer than a request can wait")]
    Locked(#[source] sqlx::Error),
    /// The database is down, starting, going away, or has no connection free. It may pass.
    #[error("the database does not answer")]
    Unreachable(#[source] sqlx::Error),
    /// The database has no room left on its disk.
    #[error("the database has no room left on its disk")]
    Full(#[source] sqlx::Error),
    /// The database failed in another way.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// A later version of this program changed the tables.
    #[error(
        "its tables are those of a later version (migration {0}): start that version, or go back \
         to a backup from before it"
    )]
    Newer(i64),
    /// The tables were not made by this program's migrations.
    #[error(
        "its tables were made by another build (whose migration {0} was not the same): start that \
         build, or go back to a backup"
    )]
    Foreign(i64),
    /// A migration failed; nothing of it was kept.
    #[error("the database cannot be brought up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// A row holds what this version cannot read.
    #[error("a stored {what} is not readable: {why}")]
    Corrupt {
        /// Of which kind.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The database URL is of no known kind.
    #[error("`{0}` is neither a `sqlite:` nor a `postgres:` URL")]
    UnknownDatabase(String),
}

impl StoreError {
    /// Says in our words what a broken uniqueness rule means; other errors pass.
    pub(crate) fn taken(error: sqlx::Error, message: impl FnOnce() -> String) -> Self {
        match &error {
            sqlx::Error::Database(database) if database.is_unique_violation() => {
                Self::Conflict(message())
            }
            _ => Self::from(error),
        }
    }

    /// Whether the same may well succeed in a moment.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Locked(_) | Self::Unreachable(_) | Self::Full(_))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error::{Database, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed};

        let kind = match &error {
            Io(_) | Tls(_) | Protocol(_) | PoolTimedOut | PoolClosed | WorkerCrashed => {
                Self::Unreachable
            }
            Database(database) => {
                let code = database.code().unwrap_or_default();
                if database
                    .try_downcast_ref::<sqlx::sqlite::SqliteError>()
                    .is_some()
                {
                    of_sqlite(&code)
                } else {
                    of_postgres(&code)
                }
            }
            _ => Self::Database,
        };
        kind(error)
    }
}

type Kind = fn(sqlx::Error) -> StoreError;

/// By the result code, of which the lower byte is the primary one.
fn of_sqlite(code: &str) -> Kind {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const FULL: i32 = 13;
    // Too many begin to read at the same moment.
    const PROTOCOL: i32 = 15;
    match code.parse::<i32>().map(|code| code & 0xff) {
        Ok(BUSY | LOCKED | PROTOCOL) => StoreError::Locked,
        Ok(FULL) => StoreError::Full,
        _ => StoreError::Database,
    }
}

/// By the SQLSTATE, of which the first two letters are the class.
fn of_postgres(code: &str) -> Kind {
    match code {
        // lock_timeout, statement_timeout, idle_in_transaction_session_timeout,
        // a deadlock, serialization_failure
        "55P03" | "57014" | "25P03" | "40P01" | "40001" => StoreError::Locked,
        // Going away, crashed, starting, dropped, too many connections, a standby.
        "57P01" | "57P02" | "57P03" | "57P04" | "53300" | "25006" => StoreError::Unreachable,
        "53100" => StoreError::Full,
        code if code.starts_with("08") => StoreError::Unreachable,
        _ => StoreError::Database,
    }
}

impl From<sqlx::migrate::MigrateError> for StoreError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        use sqlx::migrate::MigrateError::{
            Execute, ExecuteMigration, VersionMismatch, VersionMissing,
        };

        match error {
            VersionMissing(migration) => Self::Newer(migration),
            VersionMismatch(migration) => Self::Foreign(migration),
            Execute(cause) => match Self::from(cause) {
                Self::Database(cause) => Self::Migrate(Execute(cause)),
                passing => passing,
            },
            ExecuteMigration(cause, migration) => match Self::from(cause) {
                Self::Database(cause) => Self::Migrate(ExecuteMigration(cause, migration)),
                passing => passing,
            },
            other => Self::Migrate(other),
        }
    }
}
