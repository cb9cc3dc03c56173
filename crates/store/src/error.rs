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
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] sqlx::Error),
    /// The migrations failed.
    #[error("the database cannot be brought up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
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
            _ => Self::Database(error),
        }
    }
}
