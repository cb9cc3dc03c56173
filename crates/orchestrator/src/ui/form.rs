//! What people write in forms, as names and numbers.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use crate::error::Error;

/// Names between commas, spaces and line ends.
pub(crate) fn names<T>(field: &str, text: &str) -> Result<BTreeSet<T>, Error>
where
    T: FromStr<Err: Display> + Ord,
{
    text.split(|letter: char| letter == ',' || letter.is_whitespace())
        .filter(|name| !name.is_empty())
        .map(|name| name.parse().map_err(|error| Error::field(field, error)))
        .collect()
}

/// One name.
pub(crate) fn name<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<T, Error> {
    text.trim()
        .parse()
        .map_err(|error| Error::field(field, error))
}

/// One name, or none.
pub(crate) fn maybe<T: FromStr<Err: Display>>(field: &str, text: &str) -> Result<Option<T>, Error> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    name(field, text).map(Some)
}

/// The other way round.
pub(crate) fn listed<T: Display>(names: &BTreeSet<T>) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use authz::TeamName;

    use super::*;

    #[test]
    fn names_are_told_apart() {
        let teams: BTreeSet<TeamName> = names("teams", " ops,data\n ops , web ").unwrap();
        assert_eq!(listed(&teams), "data, ops, web");
        assert!(names::<TeamName>("teams", "").unwrap().is_empty());
        let error = names::<TeamName>("teams", "ops, <b>").unwrap_err();
        assert!(
            error.to_string().starts_with("teams: `<b>` is not"),
            "{error}"
        );
        assert_eq!(maybe::<TeamName>("team", "  ").unwrap(), None);
        assert!(maybe::<TeamName>("team", "a b").is_err());
    }
}
