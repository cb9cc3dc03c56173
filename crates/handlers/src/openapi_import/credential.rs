//! Credentials: what the document's security schemes ask for, and where it stands.

use std::collections::BTreeMap;

use authz::ServiceName;
use serde_json::{Map, Value};

use super::{
    Notes,
    document::{Document, items, members, text},
    name::{variable_prefix, words},
};

/// One credential of the description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) variable: String,
    pub(super) place: Place,
    pub(super) optional: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Header {
        name: String,
        prefix: &'static str,
    },
    Query(String),
    /// The password; the user is in this variable.
    Basic {
        user: String,
    },
}

/// What operations ask for together.
type Set = Vec<String>;

/// How many operations a set is for.
#[derive(Clone, Copy, Debug)]
struct Count {
    operations: usize,
    /// The larger, the earlier in the document.
    order: usize,
    /// How many of them also go without.
    anonymous: usize,
}

/// What every command is sent with.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// Names of the schemes; none when the document asks for nothing.
    set: Set,
    pub(super) list: Vec<Credential>,
}

impl Credentials {
    /// What most of `operations` ask for, or what is `wanted`.
    pub(super) fn choose<'a>(
        document: &Document,
        operations: impl Iterator<Item = &'a Value>,
        service: &ServiceName,
        wanted: Option<&str>,
        notes: &mut Notes,
    ) -> Result<Self, String> {
        let mut counts: BTreeMap<Set, Count> = BTreeMap::new();
        for operation in operations {
            let sets = alternatives(document, operation);
            let anonymous = sets.iter().any(Vec::is_empty);
            for set in sets {
                if !set.is_empty() && set.iter().all(|name| kind(document, name).is_ok()) {
                    let order = usize::MAX - counts.len();
                    let count = counts.entry(set).or_insert(Count {
                        operations: 0,
                        order,
                        anonymous: 0,
                    });
                    count.operations += 1;
                    count.anonymous += usize::from(anonymous);
                }
            }
        }
        if let Some(wanted) = wanted {
            counts.retain(|set, _| set.iter().any(|name| name == wanted));
            if counts.is_empty() {
                let known: Vec<&str> = schemes(document).map(|(name, _)| name.as_str()).collect();
                let known = known.join("`, `");
                return Err(format!(
                    "no operation can be sent with the security scheme `{wanted}`; the document has `{known}`"
                ));
            }
        }
        let best = counts
            .iter()
            .max_by_key(|(_, count)| (count.operations, count.order));
        let Some((set, count)) = best else {
            notes.remark(
                "the document asks for no credential that a description can have: add `credential = { … }` if the service wants one",
            );
            return Ok(Self::default());
        };
        let optional = count.anonymous == count.operations;
        let single = set.len() == 1;
        let list = set.iter().filter_map(|name| {
            let place = kind(document, name).ok()?;
            Some(place.credential(service, (!single).then_some(name), optional))
        });
        let list: Vec<Credential> = list.collect();
        for credential in &list {
            if let Place::Query(name) = &credential.place {
                notes.remark(&format!(
                    "the credential goes into the query, as `{name}`: servers and proxies write addresses into their logs"
                ));
            }
        }
        Ok(Self {
            set: set.clone(),
            list,
        })
    }

    /// How an operation is sent: with what is chosen, without it, or not at all.
    pub(super) fn of(&self, document: &Document, operation: &Value) -> Result<bool, String> {
        let alternatives = alternatives(document, operation);
        if self.set.is_empty() {
            return Ok(true);
        }
        if alternatives.is_empty() {
            // What nothing is said of, is sent as the others.
            return Ok(security(document, operation).is_none());
        }
        let covered = |set: &Set| !set.is_empty() && set.iter().all(|name| self.set.contains(name));
        if alternatives.iter().any(covered) {
            return Ok(true);
        }
        if alternatives.iter().any(Vec::is_empty) {
            return Ok(false);
        }
        let asked: Vec<String> = alternatives.iter().map(|set| set.join(" and ")).collect();
        Err(format!(
            "wants another credential than the others: {}",
            super::document::line(&asked.join(", or "), 120)
        ))
    }
}

fn schemes(document: &Document) -> impl Iterator<Item = (&String, &Value)> {
    members(
        document
            .get("components")
            .and_then(|components| components.get("securitySchemes")),
    )
}

fn security<'a>(document: &'a Document, operation: &'a Value) -> Option<&'a Value> {
    operation
        .get("security")
        .or_else(|| document.get("security"))
}

/// What an operation may be sent with: one of these sets.
fn alternatives(document: &Document, operation: &Value) -> Vec<Set> {
    items(security(document, operation))
        .filter_map(Value::as_object)
        .map(|set: &Map<String, Value>| set.keys().cloned().collect())
        .collect()
}

/// Where a scheme's credential stands, before variables have names.
struct Kind {
    place: Place,
    /// How its variable ends.
    ending: &'static str,
}

/// A scheme that a description can have.
fn kind(document: &Document, name: &str) -> Result<Kind, ()> {
    let scheme = schemes(document)
        .find(|(known, _)| *known == name)
        .and_then(|(_, scheme)| document.follow(scheme).ok())
        .ok_or(())?;
    let authorization = |prefix| Place::Header {
        name: "Authorization".to_owned(),
        prefix,
    };
    let bearer = Kind {
        place: authorization("Bearer "),
        ending: "TOKEN",
    };
    match text(scheme, "type") {
        Some("http") => match text(scheme, "scheme")
            .map(str::to_ascii_lowercase)
            .as_deref()
        {
            Some("bearer") => Ok(bearer),
            Some("basic") => Ok(Kind {
                place: Place::Basic {
                    user: String::new(),
                },
                ending: "PASSWORD",
            }),
            _ => Err(()),
        },
        // Where the token comes from is not ours to say; how it is sent, is.
        Some("oauth2" | "openIdConnect") => Ok(bearer),
        Some("apiKey") => {
            let name = text(scheme, "name").unwrap_or_default().to_owned();
            let place = match text(scheme, "in") {
                Some("header") if http::HeaderName::try_from(&name).is_ok() => {
                    Place::Header { name, prefix: "" }
                }
                Some("query") if !name.is_empty() => Place::Query(name),
                _ => return Err(()),
            };
            Ok(Kind {
                place,
                ending: "API_KEY",
            })
        }
        _ => Err(()),
    }
}

impl Kind {
    fn credential(
        self,
        service: &ServiceName,
        scheme: Option<&String>,
        optional: bool,
    ) -> Credential {
        let mut prefix = variable_prefix(service);
        if let Some(scheme) = scheme {
            for word in words(scheme) {
                prefix.push('_');
                prefix.push_str(&word.to_ascii_uppercase());
            }
        }
        let place = match self.place {
            Place::Basic { .. } => Place::Basic {
                user: format!("{prefix}_USER"),
            },
            place => place,
        };
        Credential {
            variable: format!("{prefix}_{}", self.ending),
            place,
            optional,
        }
    }
}
