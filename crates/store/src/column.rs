//! How values are written in columns, and read back.

use std::{fmt::Display, str::FromStr};

use authz::time::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::StoreError;

/// Declares what one row of a result looks like, by column name, for either engine.
macro_rules! row {
    ($(#[$meta:meta])* $vis:vis $name:ident { $($(#[$note:meta])* $field:ident: $type:ty),+ $(,)? }) => {
        $(#[$meta])*
        $vis struct $name { $($(#[$note])* pub(crate) $field: $type),+ }

        impl<'r, R> sqlx::FromRow<'r, R> for $name
        where
            R: sqlx::Row,
            for<'a> &'a str: sqlx::ColumnIndex<R>,
            String: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
            i64: sqlx::Decode<'r, R::Database> + sqlx::Type<R::Database>,
        {
            fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
                Ok(Self { $($field: row.try_get(stringify!($field))?),+ })
            }
        }
    };
}

/// Declares a module's SQL, so that one test can have both engines prepare all of it.
macro_rules! statements {
    ($($(#[$meta:meta])* $name:ident = $sql:expr;)+) => {
        $($(#[$meta])* const $name: &str = $sql;)+

        /// Every statement of this module, by name.
        #[cfg(test)]
        pub(crate) const STATEMENTS: &[(&str, &str)] = &[$((stringify!($name), $sql)),+];
    };
}

pub(crate) use {row, statements};

/// A column's text as an id, a name, or another type with a text form.
pub(crate) fn parsed<T: FromStr<Err: Display>>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    text.parse().map_err(|error: T::Err| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// A column's JSON.
pub(crate) fn from_json<T: DeserializeOwned>(
    what: &'static str,
    text: &str,
) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// A word that a type writes in JSON as a bare string, such as `prod`.
pub(crate) fn from_word<T: DeserializeOwned>(
    what: &'static str,
    word: String,
) -> Result<T, StoreError> {
    serde_json::from_value(serde_json::Value::String(word)).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// JSON for a column.
pub(crate) fn to_json<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt {
        what,
        why: error.to_string(),
    })
}

/// A time for a column that may be empty.
pub(crate) fn millis(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_millis)
}

/// A column's time, if it holds one.
pub(crate) fn time(millis: Option<i64>) -> Option<Timestamp> {
    millis.map(Timestamp::from_millis)
}

/// What people and agents wrote, as both engines can keep it: PostgreSQL has no NUL in
/// TEXT, so each becomes U+FFFD, on both, and is seen to have been something odd.
pub(crate) fn prose(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Whether a text that must be kept exactly, or not at all, can be kept exactly: it
/// cannot if it holds NUL. Looking for one that cannot be kept finds nothing.
pub(crate) fn is_exact(text: &str) -> bool {
    !text.contains('\0')
}
