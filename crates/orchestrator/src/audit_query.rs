//! What people ask of the audit trail: a query's parameters, as a filter and a place.

use authz::{AgentRef, Timestamp};
use contract::audit::AuditFilter;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use store::{
    StoreError,
    audit::{AuditFilter as Stored, Place},
};

use crate::{Orchestrator, error::Error};

/// A parameter is at most so many characters.
const MAX_CHARS: usize = 500;

/// What may stand in a query's value: little enough to be safe anywhere.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'/');

/// A query of the trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct AuditQuery {
    pub(crate) filter: AuditFilter,
    /// Newest first, before this place.
    pub(crate) before: Option<Place>,
    pub(crate) limit: Option<u32>,
    /// Newest first.
    pub(crate) newest: bool,
    /// Oldest first, after this entry.
    pub(crate) after: Option<i64>,
}

impl AuditQuery {
    /// Reads parameters; those that are empty, as a form sends them, are as absent.
    ///
    /// # Errors
    ///
    /// Which parameter is unknown or wrong.
    pub(crate) fn read(parameters: Vec<(String, String)>) -> Result<Self, Error> {
        let mut query = Self::default();
        for (name, value) in parameters {
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            if value.chars().count() > MAX_CHARS {
                return Err(Error::field(
                    &name.chars().take(32).collect::<String>(),
                    format!("at most {MAX_CHARS} characters"),
                ));
            }
            query.take(&name, value)?;
        }
        Ok(query)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Error> {
        let filter = &mut self.filter;
        let text = || Some(value.to_owned());
        match name {
            "agent" => filter.agent = text(),
            "command" => filter.command = text(),
            "service" => filter.service = text(),
            "user" => filter.user = text(),
            "kind" => filter.kind = text(),
            "outcome" => filter.outcome = text(),
            "decision" => filter.decision = text(),
            "gateway" => filter.gateway = text(),
            "from" => filter.from = Some(time(name, value)?),
            "until" => filter.until = Some(time(name, value)?),
            "text" => filter.text = text(),
            "before" => {
                self.before = Some(place(value).ok_or_else(|| {
                    Error::field("before", "a place that an earlier answer gave")
                })?);
            }
            "limit" => {
                let limit = value
                    .parse()
                    .ok()
                    .filter(|limit| (1..=1_000).contains(limit));
                self.limit = Some(limit.ok_or_else(|| Error::field("limit", "from 1 to 1000"))?);
            }
            "order" => match value {
                "newest" => self.newest = true,
                "oldest" => self.newest = false,
                _ => return Err(Error::field("order", "`newest` or `oldest`")),
            },
            "after" => {
                let after = value.parse().ok();
                self.after = Some(after.ok_or_else(|| Error::field("after", "an entry's id"))?);
            }
            other => {
                let name: String = other
                    .chars()
                    .take(32)
                    .flat_map(char::escape_default)
                    .collect();
                return Err(Error::Invalid(format!("unknown parameter `{name}`")));
            }
        }
        Ok(())
    }

    /// As the store takes it. An agent that is not known is none: nothing is found.
    ///
    /// # Errors
    ///
    /// What is no agent's id or name, or when the store fails.
    pub(crate) async fn stored(
        &self,
        orchestrator: &Orchestrator,
    ) -> Result<Option<Stored>, Error> {
        let filter = self.filter.clone();
        let agent = match &filter.agent {
            None => None,
            Some(agent) => {
                let agent: AgentRef = agent
                    .parse()
                    .map_err(|error| Error::field("agent", error))?;
                match agent {
                    // Of an agent that is gone, the trail stays.
                    AgentRef::Id(id) => Some(id),
                    named @ AgentRef::Name(_) => match orchestrator.store().agent(&named).await {
                        Ok(stored) => Some(stored.agent.id),
                        Err(StoreError::NotFound(_)) => return Ok(None),
                        Err(error) => return Err(error.into()),
                    },
                }
            }
        };
        Ok(Some(Stored {
            agent,
            command: filter.command,
            service: filter.service,
            user: filter.user,
            kind: filter.kind,
            outcome: filter.outcome,
            decision: filter.decision,
            gateway: filter.gateway,
            from: filter.from,
            until: filter.until,
            text: filter.text,
        }))
    }

    /// The filter as a query, without a place: `agent=build-bot&kind=refusal`.
    pub(crate) fn text(&self) -> String {
        let filter = &self.filter;
        let times = [("from", filter.from), ("until", filter.until)]
            .map(|(name, time)| (name, time.map(|time| time.to_string())));
        let texts = [
            ("agent", &filter.agent),
            ("command", &filter.command),
            ("service", &filter.service),
            ("user", &filter.user),
            ("kind", &filter.kind),
            ("outcome", &filter.outcome),
            ("decision", &filter.decision),
            ("gateway", &filter.gateway),
            ("text", &filter.text),
        ];
        texts
            .into_iter()
            .chain(times.iter().map(|(name, time)| (*name, time)))
            .filter_map(|(name, value)| Some(format!("{name}={}", encoded(value.as_deref()?))))
            .collect::<Vec<_>>()
            .join("&")
    }

    /// The query of the page that begins before `place`.
    pub(crate) fn page_before(&self, place: Place) -> String {
        let filter = self.text();
        let joint = if filter.is_empty() { "" } else { "&" };
        format!("{filter}{joint}before={}", place_text(place))
    }

    /// Whether the filter wants more than an agent and a command.
    pub(crate) fn wants_search(&self) -> bool {
        let plain = AuditFilter {
            agent: self.filter.agent.clone(),
            command: self.filter.command.clone(),
            ..AuditFilter::default()
        };
        self.filter != plain
    }
}

/// A value for a query.
pub(crate) fn encoded(value: &str) -> String {
    utf8_percent_encode(value, PLAIN).to_string()
}

fn place_text(place: Place) -> String {
    format!("{}.{}", place.at.as_millis(), place.id)
}

fn place(text: &str) -> Option<Place> {
    let (at, id) = text.split_once('.')?;
    Some(Place {
        at: Timestamp::from_millis(at.parse().ok()?),
        id: id.parse().ok()?,
    })
}

/// A time: RFC 3339, or as a browser's form writes it, which is taken as UTC.
pub(crate) fn time(name: &str, text: &str) -> Result<Timestamp, Error> {
    let candidates = [text.to_owned(), format!("{text}Z"), format!("{text}:00Z")];
    candidates
        .iter()
        .find_map(|text| text.parse().ok())
        .ok_or_else(|| Error::field(name, "a time such as 2026-11-22T10:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parameters: &[(&str, &str)]) -> Result<AuditQuery, Error> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        AuditQuery::read(parameters.iter().map(owned).collect())
    }

    #[test]
    fn a_query_is_read_and_written() {
        let query = read(&[
            ("agent", " build-bot "),
            ("kind", ""),
            ("text", "a&b=ü <x>"),
            ("from", "2026-11-22T10:30"),
            ("until", "2026-11-22T12:00:00+01:00"),
            ("before", "1790000000000.17"),
        ])
        .unwrap();
        assert_eq!(query.filter.kind, None, "an empty field of a form");
        assert_eq!(query.before.unwrap().id, 17);
        let text = query.text();
        assert_eq!(
            text,
            "agent=build-bot&text=a%26b%3D%C3%BC%20%3Cx%3E&from=2026-11-22T10%3A30%3A00.000Z&until=2026-11-22T11%3A00%3A00.000Z"
        );
        assert_eq!(
            query.page_before(query.before.unwrap()),
            format!("{text}&before=1790000000000.17")
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let long = "x".repeat(501);
        for (name, value) in [
            ("nonsense", "1"),
            ("before", "now"),
            ("limit", "0"),
            ("limit", "1001"),
            ("order", "random"),
            ("from", "yesterday"),
            ("text", long.as_str()),
        ] {
            let error = read(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn more_than_agent_and_command_is_a_search() {
        assert!(
            !read(&[("agent", "a"), ("command", "b/c")])
                .unwrap()
                .wants_search()
        );
        assert!(
            read(&[("agent", "a"), ("kind", "refusal")])
                .unwrap()
                .wants_search()
        );
    }
}
