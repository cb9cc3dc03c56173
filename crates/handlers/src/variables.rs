//! Variables: what a service reads of its configuration, and whether that changed since.

use std::cell::RefCell;

/// Reads variables, and remembers what they held.
pub(crate) struct Variables<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    values: RefCell<Vec<Option<String>>>,
}

/// What the variables held that something was made of. Never shown.
#[derive(PartialEq, Eq)]
pub(crate) struct Values(Vec<Option<String>>);

impl<'a> Variables<'a> {
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            variable,
            values: RefCell::default(),
        }
    }

    /// What a variable holds; nothing where that is blank.
    pub(crate) fn read(&self, name: &str) -> Option<String> {
        // Files and shells add newlines to values; no address or credential has any of its own.
        let value = (self.variable)(name)
            .map(|value| value.trim().to_owned())
            .filter(|value| !value.is_empty());
        self.values.borrow_mut().push(value.clone());
        value
    }

    /// What was read, in its order.
    pub(crate) fn into_values(self) -> Values {
        Values(self.values.into_inner())
    }
}

impl std::fmt::Debug for Values {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Values")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_remembered_and_never_shown() {
        let read = |secret: &str| {
            let variable = |name: &str| match name {
                "TOKEN" => Some(format!("{secret}\n")),
                "BLANK" => Some(" ".to_owned()),
                _ => None,
            };
            let variables = Variables::new(&variable);
            assert_eq!(variables.read("TOKEN").as_deref(), Some(secret));
            assert_eq!(
                (variables.read("BLANK"), variables.read("NONE")),
                (None, None)
            );
            variables.into_values()
        };
        assert_eq!(read("s3cr3t"), read("s3cr3t"));
        assert_ne!(read("s3cr3t"), read("another"));
        assert_eq!(format!("{:?}", read("s3cr3t")), "Values");
    }
}
