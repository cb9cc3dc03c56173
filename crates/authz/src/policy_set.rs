//! Policy sets: loading, checking, and what their annotations say.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// One file of a policy set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The file's name, relative to the folder, with `/`.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The sources of one policy set: schema and policies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySources {
    /// `schema.cedarschema`.
    pub schema: Source,
    /// `policies/**/*.cedar`, in any order.
    pub policies: Vec<Source>,
}

impl PolicySources {
    /// SHA-256 of the canonical sources: sorted by name, each with its name and length.
    #[must_use]
    pub fn version(&self) -> PolicySetVersion {
        todo!()
    }
}

/// Names one policy set: the digest of its sources in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PolicySetVersion(Arc<str>);

impl PolicySetVersion {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve digits: enough for people.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

impl fmt::Display for PolicySetVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The set is not used.
    Error,
    /// The set is used, and someone should look.
    Warning,
}

/// Something wrong with a policy set, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The file.
    pub file: String,
    /// From 1; absent when the finding has no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// From 1, in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The policy's id, when it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What is wrong, lower case and without full stop.
    pub message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// The line at fault and a caret under the place, as two lines of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", self.message)?;
        write!(f, "\n  --> {}", self.file)?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, " (policy `{policy}`)")?;
        }
        for line in self.excerpt.iter().flat_map(|excerpt| excerpt.lines()) {
            write!(f, "\n   | {line}")?;
        }
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// A policy set that was parsed, strictly validated and indexed.
#[derive(Debug)]
pub struct PolicySet {
    version: PolicySetVersion,
}

impl PolicySet {
    /// Parses, validates and indexes a policy set; what it returns beside the set is warnings.
    ///
    /// Safe on hostile text: sizes and nesting are limited before Cedar's parser sees
    /// it, and the work is done on a thread with a large stack.
    ///
    /// # Errors
    ///
    /// Every finding, if one is an error: the set is loaded whole or not at all.
    pub fn load(sources: &PolicySources) -> Result<(Self, Vec<Finding>), Vec<Finding>> {
        let _ = sources;
        todo!()
    }

    /// Names this set.
    #[must_use]
    pub fn version(&self) -> &PolicySetVersion {
        &self.version
    }

    /// How many policies it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        todo!()
    }

    /// Whether it holds none; then everything is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
