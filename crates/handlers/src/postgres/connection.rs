//! Connections of one role to one database: few, kept for a while, and as new for each
//! command.
//!
//! A command has a connection for itself. Whatever becomes of the command, its transaction is
//! rolled back unless it wrote, and the session is reset before another command gets it; if
//! that is not certain, the connection is closed. A command that is given up closes its
//! connection at once, and the server ends the statement (`client_connection_check_interval`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use sqlx::{ConnectOptions as _, PgConnection};
use tokio::time::{Instant, timeout};

use super::{
    address::{Address, Limits, Role},
    failure::Failure,
    role::{self, Remarks},
};
use crate::{
    catalog::{Condition, State},
    http::resilience::{Closed, Gate, Pass},
};

/// No connection is used for longer: roles change, and servers move.
const LONGEST_LIFE: Duration = Duration::from_mins(5);

/// Rolling back and resetting take no time, or something is wrong.
const RESET: Duration = Duration::from_secs(2);

/// The way of one role to one database.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) role: Role,
    pub(super) limits: Limits,
    gate: Arc<Gate>,
    max_connections: usize,
    address: ArcSwap<Result<Address, String>>,
    idle: Mutex<Vec<Idle>>,
    /// Counts addresses: a connection of one before is not used again.
    generation: AtomicU64,
    open: Arc<AtomicUsize>,
    waiting: Arc<AtomicUsize>,
    errors: AtomicU64,
    /// What the role may do, as far as nobody was told yet.
    remarks: Mutex<Option<Remarks>>,
    /// Why the role is not used.
    refused: ArcSwap<Option<String>>,
}

#[derive(Debug)]
struct Idle {
    open: Open,
    since: Instant,
}

/// A connection, counted while it is open.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    generation: u64,
    opened: Instant,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A transaction of one command. Given up, its connection is closed.
#[derive(Debug)]
pub(super) struct Session {
    open: Open,
}

impl Access {
    pub(super) fn new(
        role: Role,
        limits: Limits,
        max_connections: usize,
        address: Result<Address, String>,
    ) -> Self {
        Self {
            role,
            limits,
            gate: Gate::new(max_connections),
            max_connections,
            address: ArcSwap::from_pointee(address),
            idle: Mutex::default(),
            generation: AtomicU64::new(0),
            open: Arc::default(),
            waiting: Arc::default(),
            errors: AtomicU64::new(0),
            remarks: Mutex::default(),
            refused: ArcSwap::default(),
        }
    }

    /// Takes another address, if it is another. Commands under way keep theirs.
    pub(super) fn replace(&self, address: Result<Address, String>) -> bool {
        if **self.address.load() == address {
            return false;
        }
        self.address.store(Arc::new(address));
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.refused.store(Arc::new(None));
        self.idle().clear();
        true
    }

    /// What it is made of now, or what to set.
    pub(super) fn address(&self) -> arc_swap::Guard<Arc<Result<Address, String>>> {
        self.address.load()
    }

    /// Why it cannot be used: nothing is configured, or the role may do too much.
    pub(super) fn unavailable(&self) -> Option<String> {
        match &**self.address() {
            Err(reason) => Some(reason.clone()),
            Ok(_) => self.refused.load().as_ref().clone(),
        }
    }

    /// What is worth telling of the role; told once for each address.
    pub(super) fn remarks(&self) -> Option<Remarks> {
        self.remarks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// As the gateway before this one told of its pools.
    pub(super) fn pool(&self) -> Value {
        let total = self.open.load(Ordering::Relaxed);
        json!({
            "total": total,
            "idle": self.idle().len(),
            "waiting": self.waiting.load(Ordering::Relaxed),
            "maxConnections": self.max_connections,
            "connectionErrors": self.errors.load(Ordering::Relaxed),
        })
    }

    /// A command's place, waited for no longer than a statement may run.
    pub(super) async fn enter(&self) -> Result<Pass, Closed> {
        let _counted = Counted::new(&self.waiting);
        self.gate.enter(self.limits.statement).await
    }

    /// How the database is, as far as its last commands showed.
    pub(super) fn condition(&self) -> Condition {
        let condition = self.gate.condition();
        // A role that may do too much is sent nothing, however well its database is.
        if condition.state == State::Healthy && self.unavailable().is_some() {
            return Condition {
                in_flight: condition.in_flight,
                ..Condition::of(State::Degraded)
            };
        }
        condition
    }

    /// Begins a transaction on a connection that is as new.
    pub(super) async fn begin(self: &Arc<Self>) -> Result<Session, Failure> {
        let begin = match self.role {
            Role::Reader => "BEGIN READ ONLY",
            Role::Writer => "BEGIN READ WRITE",
        };
        // A server that was started anew, or closed what was idle, is noticed here, where
        // nothing was done yet.
        while let Some(mut open) = self.take() {
            let first = timeout(RESET, sqlx::raw_sql(begin).execute(&mut open.connection));
            if matches!(first.await, Ok(Ok(_))) {
                return Ok(Session { open });
            }
        }
        let mut open = self.connect().await?;
        sqlx::raw_sql(begin).execute(&mut open.connection).await?;
        Ok(Session { open })
    }

    async fn connect(self: &Arc<Self>) -> Result<Open, Failure> {
        let generation = self.generation.load(Ordering::Relaxed);
        let address = self.address.load_full();
        let options = match &*address {
            Ok(address) => &address.options,
            Err(reason) => return Err(Failure::Role(reason.clone())),
        };
        let failed = |error| {
            self.errors.fetch_add(1, Ordering::Relaxed);
            Failure::Connect(error)
        };
        let connection = timeout(self.limits.connect, options.connect())
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
            .map_err(failed)?;
        let mut open = Open {
            connection,
            generation,
            opened: Instant::now(),
            _counted: Counted::new(&self.open),
        };
        match role::check(&mut open.connection, self.role).await {
            Ok(remarks) => {
                self.refused.store(Arc::new(None));
                let mut told = self.remarks.lock().unwrap_or_else(PoisonError::into_inner);
                *told = Some(remarks);
                Ok(open)
            }
            Err(failure) => {
                if let Failure::Role(reason) = &failure {
                    self.refused.store(Arc::new(Some(reason.clone())));
                }
                Err(failure)
            }
        }
    }

    /// One that is not too old.
    fn take(&self) -> Option<Open> {
        let generation = self.generation.load(Ordering::Relaxed);
        let mut idle = self.idle();
        while let Some(Idle { open, since }) = idle.pop() {
            if open.generation == generation
                && since.elapsed() < self.limits.idle
                && open.opened.elapsed() < LONGEST_LIFE
            {
                return Some(open);
            }
        }
        None
    }

    /// Ends a command's transaction and keeps the connection for the next, as if it were new.
    pub(super) async fn end(self: &Arc<Self>, session: Session) {
        let Session { mut open } = session;
        let reset = async {
            sqlx::raw_sql("ROLLBACK")
                .execute(&mut open.connection)
                .await?;
            // Settings, roles, cursors, prepared statements, listeners, temporary tables,
            // advisory locks: nothing is left for whoever comes next.
            sqlx::raw_sql("DISCARD ALL")
                .execute(&mut open.connection)
                .await
        };
        if !matches!(timeout(RESET, reset).await, Ok(Ok(_))) {
            return;
        }
        if open.generation != self.generation.load(Ordering::Relaxed) {
            return;
        }
        let idle = Idle {
            open,
            since: Instant::now(),
        };
        self.idle().push(idle);
        let access = Arc::downgrade(self);
        let after = self.limits.idle;
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            if let Some(access) = access.upgrade() {
                let limit = access.limits.idle;
                access.idle().retain(|idle| idle.since.elapsed() < limit);
            }
        });
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    pub(super) fn connection(&mut self) -> &mut PgConnection {
        &mut self.open.connection
    }

    /// Makes permanent what was written.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        sqlx::raw_sql("COMMIT")
            .execute(&mut self.open.connection)
            .await?;
        Ok(())
    }
}
