//! The two databases, and all in which they differ.

use std::{sync::Arc, time::Duration};

use sqlx::{
    AssertSqlSafe, Connection, Executor, PgPool, Postgres, SqlSafeStr, Sqlite, SqlitePool,
    Transaction,
    migrate::{Migration, MigrationType, Migrator},
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{sync::watch, time::Instant};

use crate::StoreError;

/// How long is waited for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// By a caller, for a connection, and then for the lock of another writer.
    pub(crate) call: Duration,
    /// At the start, for other processes that bring the same SQLite file up to date.
    pub(crate) start: Duration,
}

/// Who waits for both has an answer after 14 seconds: before a request's own deadline, so
/// that it says why.
const PATIENCE: Patience = Patience {
    call: Duration::from_secs(7),
    start: Duration::from_mins(1),
};

/// Between two tries to open an SQLite file that others hold.
const START_PAUSE: Duration = Duration::from_millis(50);

/// Connections to PostgreSQL, per process: one listens, and writes queue for one row anyway.
const POSTGRES_CONNECTIONS: u32 = 11;

/// Connections that read SQLite while another writes it.
const SQLITE_READERS: u32 = 4;

/// Remembers everything that the control plane knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) database: Database,
    /// The newest sequence that this process committed.
    pub(crate) head: Arc<watch::Sender<i64>>,
}

/// The engine in use.
#[derive(Clone, Debug)]
pub(crate) enum Database {
    /// PostgreSQL.
    Postgres(PgPool),
    /// SQLite.
    Sqlite {
        /// One connection: writers wait for it here, in the order in which they came,
        /// instead of meeting "database is locked" there.
        writer: SqlitePool,
        /// Others, which can only read. The writer itself when the database is in
        /// memory, where a second connection would have to share a table lock.
        readers: SqlitePool,
    },
}

/// A transaction on the engine in use.
#[derive(Debug)]
pub(crate) enum Open {
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
}

/// Runs `$body` on the engine in use, outside of any transaction: for reading.
///
/// The body is compiled once per engine, so it has concrete types.
macro_rules! on {
    ($store:expr, |$pool:ident| $body:expr) => {
        match &$store.database {
            $crate::database::Database::Postgres($pool) => $body,
            $crate::database::Database::Sqlite { readers: $pool, .. } => $body,
        }
    };
}

/// Runs `$body` in the transaction of a [`crate::write::Write`].
macro_rules! within {
    ($write:expr, |$connection:ident| $body:expr) => {
        match &mut $write.open {
            $crate::database::Open::Postgres(transaction) => {
                let $connection = &mut **transaction;
                $body
            }
            $crate::database::Open::Sqlite(transaction) => {
                let $connection = &mut **transaction;
                $body
            }
        }
    };
}

pub(crate) use {on, within};

/// Every migration, oldest first. The files are part of the program; a test compares
/// this list with the folder.
pub(crate) const MIGRATIONS: &[(i64, &str, &str)] = &[
    (
        1,
        "control plane",
        include_str!("../../../migrations/0001_control_plane.sql"),
    ),
    (
        2,
        "policy activation",
        include_str!("../../../migrations/0002_policy_activation.sql"),
    ),
    (
        3,
        "approval workflow",
        include_str!("../../../migrations/0003_approval_workflow.sql"),
    ),
    (
        4,
        "people",
        include_str!("../../../migrations/0004_people.sql"),
    ),
    (
        5,
        "notifications",
        include_str!("../../../migrations/0005_notifications.sql"),
    ),
    (
        6,
        "console",
        include_str!("../../../migrations/0006_console.sql"),
    ),
    (
        7,
        "revisions",
        include_str!("../../../migrations/0007_revisions.sql"),
    ),
    (
        8,
        "inbox",
        include_str!("../../../migrations/0008_inbox.sql"),
    ),
    (
        9,
        "mcp tools",
        include_str!("../../../migrations/0009_mcp_tools.sql"),
    ),
    (
        10,
        "budgets",
        include_str!("../../../migrations/0010_budgets.sql"),
    ),
    (
        12,
        "zones",
        include_str!("../../../migrations/0012_zones.sql"),
    ),
];

pub(crate) fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().map(|&(version, name, sql)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    });
    Migrator::with_migrations(migrations.collect())
}

impl Store {
    /// Connects to `sqlite://path/to/file.db`, `sqlite::memory:` or
    /// `postgres://user@host/database`, and brings its tables up to date. Several
    /// processes may do so at once.
    ///
    /// SQLite's file is made if need be, readable by its owner only; its folder must exist.
    /// What is only in memory is gone when its one connection is, which a cancelled call may
    /// cause: good for a short test, and for nothing else.
    ///
    /// # Errors
    ///
    /// When the URL is of another kind, the database is out of reach or locked, or its
    /// tables are newer than this program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, PATIENCE, &migrator(MIGRATIONS)).await
    }

    /// As [`Store::open`], with less patience or other migrations.
    pub(crate) async fn open_with(
        url: &str,
        patience: Patience,
        migrator: &Migrator,
    ) -> Result<Self, StoreError> {
        let database = match url.split_once(':') {
            Some(("sqlite", _)) => Database::sqlite(url, patience, migrator).await?,
            Some(("postgres" | "postgresql", _)) => {
                Database::postgres(url, patience, migrator).await?
            }
            // Never the whole URL: it may hold a password.
            Some((scheme, _)) => return Err(StoreError::UnknownDatabase(format!("{scheme}:"))),
            None => {
                return Err(StoreError::UnknownDatabase(
                    "a text without scheme".to_owned(),
                ));
            }
        };
        let store = Self {
            database,
            head: Arc::new(watch::Sender::new(0)),
        };
        store.head.send_replace(store.feed_head().await?);
        Ok(store)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        self.feed_head().await.map(drop)
    }

    /// Lets go of the database, once everything begun is done.
    pub async fn close(&self) {
        match &self.database {
            Database::Postgres(pool) => pool.close().await,
            Database::Sqlite { writer, readers } => {
                readers.close().await;
                // Last, so that it can fold the write-ahead log into the file.
                writer.close().await;
            }
        }
    }
}

impl Database {
    async fn postgres(
        url: &str,
        patience: Patience,
        migrator: &Migrator,
    ) -> Result<Self, StoreError> {
        let options: PgConnectOptions = url.parse()?;
        let options = options.application_name("cedargate");

        // On a connection of its own, so that the advisory lock goes with it if this
        // fails, and so that the patience below does not apply to waiting for others
        // who migrate. Each migration is a transaction: who is killed in one leaves those
        // before, and the next start goes on from there.
        let migrations = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(patience.call)
            .connect_with(options.clone())
            .await?;
        let migrated = migrator.run(&migrations).await;
        migrations.close().await;
        migrated?;

        let pool = PgPoolOptions::new()
            .max_connections(POSTGRES_CONNECTIONS)
            .acquire_timeout(patience.call)
            .after_connect(move |connection, _| {
                // A writer that hangs must not hold the head of the feed for ever.
                let limits = format!(
                    "SET lock_timeout = {};
                     SET statement_timeout = '30s';
                     SET idle_in_transaction_session_timeout = '30s'",
                    patience.call.as_millis()
                );
                Box::pin(async move {
                    connection.execute(AssertSqlSafe(limits)).await?;
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Ok(Self::Postgres(pool))
    }

    /// Opens the file, and again if others hold it for longer than one call waits: on a slow
    /// disk several that bring it up to date, one after the other, take longer than that.
    async fn sqlite(
        url: &str,
        patience: Patience,
        migrator: &Migrator,
    ) -> Result<Self, StoreError> {
        let deadline = Instant::now() + patience.start;
        let mut waiting = false;
        loop {
            match Self::sqlite_now(url, patience, migrator).await {
                Err(StoreError::Locked(_)) if Instant::now() < deadline => {
                    if !waiting {
                        tracing::warn!("the database is locked by another process; waiting for it");
                        waiting = true;
                    }
                    tokio::time::sleep(START_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    async fn sqlite_now(
        url: &str,
        patience: Patience,
        migrator: &Migrator,
    ) -> Result<Self, StoreError> {
        let options: SqliteConnectOptions = url.parse()?;
        let options = options
            .create_if_missing(true)
            .foreign_keys(true)
            .busy_timeout(patience.call)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL, not NORMAL: with NORMAL the last commits before a power cut may be
            // gone, and a revocation that someone was told of would come undone. People
            // write a few times a minute and journals come in batches, so a sync for
            // each commit is affordable.
            .synchronous(SqliteSynchronous::Full);
        let memory = url.contains(":memory:") || url.contains("mode=memory");
        if !memory {
            make_private(options.get_filename())
                .map_err(|error| StoreError::Database(sqlx::Error::Io(error)))?;
        }

        // A connection is never closed for its age: in memory, the data would go with it.
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(patience.call)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let mut writers = pool(1).min_connections(1);
        if !memory {
            // When the disk is full SQLite undoes a transaction by itself, and the rollback
            // that follows fails: the connection then counts one transaction too many, and
            // would never begin another.
            writers = writers.before_acquire(|connection, _| {
                let usable = !connection.is_in_transaction();
                Box::pin(async move { Ok(usable) })
            });
        }
        let writer = writers
            .connect_with(options.clone())
            .await
            .map_err(queued)?;

        // sqlx's own migration lock does nothing on SQLite. In this transaction each
        // migration becomes a savepoint, and other processes wait. Who is killed in it
        // leaves nothing of it.
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await?;
        // `run` does the same, but its future is not `Send` for a borrowed connection.
        migrator.run_direct(None, &mut *transaction, false).await?;
        transaction.commit().await?;

        let readers = if memory {
            writer.clone()
        } else {
            pool(SQLITE_READERS)
                .connect_with(options.pragma("query_only", "ON"))
                .await
                .map_err(queued)?
        };
        Ok(Self::Sqlite { writer, readers })
    }

    /// Begins to write. On SQLite this takes the lock of the whole database; on
    /// PostgreSQL the head of the feed is the lock, and the caller's first statement.
    pub(crate) async fn begin(&self) -> Result<Open, StoreError> {
        Ok(match self {
            Self::Postgres(pool) => Open::Postgres(pool.begin().await?),
            // Plain BEGIN would read first and then fail to become a writer.
            Self::Sqlite { writer, .. } => {
                let begun = writer.begin_with("BEGIN IMMEDIATE").await;
                Open::Sqlite(begun.map_err(queued)?)
            }
        })
    }
}

/// What an error of SQLite's writer means: it is never away, but others may hold it.
pub(crate) fn queued(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolTimedOut => StoreError::Locked(error),
        error => error.into(),
    }
}

impl Open {
    /// Makes it last.
    pub(crate) async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(transaction) => transaction.commit().await?,
            Self::Sqlite(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    /// Undoes it, and waits until that is done.
    pub(crate) async fn rollback(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(transaction) => transaction.rollback().await?,
            Self::Sqlite(transaction) => transaction.rollback().await?,
        }
        Ok(())
    }
}

/// Makes the database's file, for its owner's eyes only, unless it is there. SQLite
/// gives the files beside it the same mode.
fn make_private(file: &std::path::Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(file) {
        Ok(made) => {
            // Closing it would, by the rules of POSIX, drop every lock that SQLite has on
            // this file by now in another thread. One descriptor for each database that
            // is ever made is the lesser evil.
            std::mem::forget(made);
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
