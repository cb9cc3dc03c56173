//! Commands: what an agent asks for, and what policy is told of it.

use std::{collections::BTreeSet, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use crate::{
    id::{CommandName, InvalidId, ServiceName, TeamName, ZoneName},
    schema::{self, described},
};

/// What a command may do to the world. The operator's verdict; hints may raise it only.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Risk {
    /// Changes nothing.
    Read,
    /// Changes something that can be changed back.
    Write,
    /// Deletes, stops or spends.
    Destroy,
}

impl Risk {
    /// 0, 1 or 2: what policies compare.
    #[must_use]
    pub const fn level(self) -> i64 {
        match self {
            Self::Read => 0,
            Self::Write => 1,
            Self::Destroy => 2,
        }
    }

    /// The word for it, which is also the name of its Cedar action.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Destroy => "destroy",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where an agent or a service lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// Development.
    Dev,
    /// Staging.
    Staging,
    /// Production: the default, so that forgetting to say is the careful choice.
    #[default]
    Prod,
}

impl Environment {
    /// The word for it, which is also its Cedar entity id.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dev => "dev",
            Self::Staging => "staging",
            Self::Prod => "prod",
        }
    }
}

/// Names a command of a service: `coolify/list-servers`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandKey {
    /// The service.
    pub service: ServiceName,
    /// The command.
    pub name: CommandName,
}

described! {
    CommandKey => schema::text(
        "Names a command of a service, for example `coolify/list-servers`.",
        "^[a-z0-9][a-z0-9._-]{0,63}/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$",
    );
    ArgumentsDigest => schema::text(
        "SHA-256 of canonical arguments in hexadecimal.",
        "^[0-9a-f]{64}$",
    );
}

impl fmt::Display for CommandKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.service, self.name)
    }
}

impl FromStr for CommandKey {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (service, name) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self {
            service: service.parse()?,
            name: name.parse()?,
        })
    }
}

impl Serialize for CommandKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommandKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// What policy is told of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Service {
    /// Its name.
    pub name: ServiceName,
    /// Where it lives.
    #[serde(default)]
    pub env: Environment,
    /// The team that answers for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owners: Option<TeamName>,
    /// Zones that it lies in.
    #[serde(default)]
    pub zones: BTreeSet<ZoneName>,
}

/// What policy is told of a command, whoever sends it and whatever the arguments.
///
/// The catalog makes each one once, at load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Target {
    /// Names it.
    pub key: CommandKey,
    /// The service that it belongs to.
    #[schema(value_type = Service)]
    pub service: Arc<Service>,
    /// What it may do.
    pub risk: Risk,
    /// Zones of its own, beyond its service's.
    #[serde(default)]
    pub zones: BTreeSet<ZoneName>,
    /// Whether its definition equals the reviewed one.
    pub pinned: bool,
}

/// SHA-256 of canonical arguments, in hexadecimal: binds an approval to exactly them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ArgumentsDigest(Box<str>);

impl ArgumentsDigest {
    /// 64 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ArgumentsDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ArgumentsDigest> for String {
    fn from(digest: ArgumentsDigest) -> Self {
        digest.0.into()
    }
}

/// Why a text is not an [`ArgumentsDigest`].
#[derive(Debug, thiserror::Error)]
#[error("a digest is 64 lower-case hexadecimal digits")]
pub struct InvalidDigest;

impl TryFrom<String> for ArgumentsDigest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = text.len() == 64
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if valid {
            Ok(Self(text.into()))
        } else {
            Err(InvalidDigest)
        }
    }
}

/// The arguments of one command, with their digest.
#[derive(Clone, Debug, PartialEq)]
pub struct Arguments {
    values: Map<String, Value>,
    digest: ArgumentsDigest,
}

impl Arguments {
    /// Takes the arguments and digests their [`Canonical`] form.
    #[must_use]
    pub fn new(values: Map<String, Value>) -> Self {
        let mut hash = Sha256::new();
        // Writing to a hash cannot fail, and a `Value` always serialises.
        let _ = serde_json::to_writer(HashWriter(&mut hash), &CanonicalMap(&values));
        let digest = ArgumentsDigest(hex::encode(hash.finalize()).into());
        Self { values, digest }
    }

    /// Arguments as a record keeps them: some may be left out or redacted, and the digest
    /// is that of the exact ones. To ask policies what they would have said; such a
    /// command must never be carried out.
    #[must_use]
    pub fn recorded(values: Map<String, Value>, digest: ArgumentsDigest) -> Self {
        Self { values, digest }
    }

    /// By name.
    #[must_use]
    pub fn values(&self) -> &Map<String, Value> {
        &self.values
    }

    /// What binds an approval to exactly these arguments.
    #[must_use]
    pub fn digest(&self) -> &ArgumentsDigest {
        &self.digest
    }
}

/// A value as canonical JSON: without white space, keys sorted by their UTF-8 bytes
/// at every level, numbers as they were understood.
///
/// Sorted here and not by the map: Cedar turns on `serde_json`'s `preserve_order`, so
/// that in this workspace a `Map` keeps the order in which it was sent.
pub struct Canonical<'a>(pub &'a Value);

impl Serialize for Canonical<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => CanonicalMap(members).serialize(serializer),
            Value::Array(items) => serializer.collect_seq(items.iter().map(Canonical)),
            scalar => scalar.serialize(serializer),
        }
    }
}

impl fmt::Display for Canonical<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

struct CanonicalMap<'a>(&'a Map<String, Value>);

impl Serialize for CanonicalMap<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members: Vec<(&String, &Value)> = self.0.iter().collect();
        members.sort_unstable_by_key(|(name, _)| *name);
        serializer.collect_map(
            members
                .into_iter()
                .map(|(name, value)| (name, Canonical(value))),
        )
    }
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// One command as an agent sent it: parsed, and not yet decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// What is asked for.
    pub target: Arc<Target>,
    /// With what.
    pub arguments: Arguments,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn digest(value: Value) -> String {
        let Value::Object(values) = value else {
            panic!("an object")
        };
        Arguments::new(values).digest().to_string()
    }

    #[test]
    fn the_digest_does_not_depend_on_the_order_of_keys() {
        assert_eq!(
            digest(json!({"a": {"x": 1, "y": [1, 2]}, "b": 2})),
            digest(json!({"b": 2, "a": {"y": [1, 2], "x": 1}}))
        );
    }

    #[test]
    fn different_arguments_have_different_digests() {
        let digests = [
            json!({}),
            json!({"a": 1}),
            json!({"a": "1"}),
            json!({"a": 1.0}),
            json!({"a": null}),
            json!({"a": [1]}),
        ];
        let distinct: BTreeSet<_> = digests.into_iter().map(digest).collect();
        assert_eq!(distinct.len(), 6);
    }

    #[test]
    fn a_key_is_a_service_and_a_command() {
        let key: CommandKey = "coolify/list-servers".parse().unwrap();
        assert_eq!(key.to_string(), "coolify/list-servers");
        for text in [
            "coolify",
            "coolify/",
            "/x",
            "coolify/*",
            "a/b/c",
            "coolify/x#1",
        ] {
            assert!(text.parse::<CommandKey>().is_err(), "{text}");
        }
    }
}
