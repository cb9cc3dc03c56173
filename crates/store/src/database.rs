//! The two databases, and all in which they differ.

use crate::StoreError;

/// Remembers everything that the control plane knows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    _database: (),
}

impl Store {
    /// Connects to `sqlite://path/to/file.db`, `sqlite::memory:` or
    /// `postgres://user@host/database`, and brings its tables up to date. Several
    /// processes may do so at once.
    ///
    /// # Errors
    ///
    /// When the URL is of another kind, the database is out of reach, or its tables
    /// are newer than this program.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let _ = url;
        todo!()
    }

    /// Whether the database answers.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        todo!()
    }
}
