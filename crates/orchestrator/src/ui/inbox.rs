//! The inbox: what waits for people, and what they decided.

use askama::Template;
use authz::{AgentId, CommandKey, Timestamp};
use axum::{Router, extract::State, response::Response, routing::get};
use futures_util::future::try_join_all;
use serde::Deserialize;
use store::{
    approvals::StoredApproval,
    inbox::{Group, Page, Waiting},
};

use super::{
    Frame, Trouble, Visitor,
    ask::{Asked, told, word},
    frame::{Pages, query},
    moment::Moment,
    page,
};
use crate::{Orchestrator, api::Parameters, authenticate::Person, error::Error};

/// Groups on a page.
const GROUPS: u32 = 20;

/// Requests of one group that are shown in full; the rest is a link away.
const SHOWN_OF_GROUP: u32 = 3;

/// Decided requests on a page.
const DECIDED: u32 = 40;

pub(crate) fn routes() -> Router<Orchestrator> {
    Router::new().route("/approvals", get(list))
}

/// Which part of the inbox.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Filter {
    /// `decided`, or what waits.
    view: String,
    /// In the agent's name or the command.
    q: String,
    risk: String,
    /// `oldest`, or the newest first.
    sort: String,
    /// Of decided ones.
    status: String,
    /// From 0.
    page: Option<u32>,
    /// See [`Frame::noting`].
    done: Option<String>,
}

impl Filter {
    /// Its query, for another page and with another notice.
    pub(crate) fn query(&self, page: u32, done: &str) -> String {
        let number = if page == 0 {
            String::new()
        } else {
            page.to_string()
        };
        query(&[
            ("view", &self.view),
            ("q", &self.q),
            ("risk", &self.risk),
            ("sort", &self.sort),
            ("status", &self.status),
            ("page", &number),
            ("done", done),
        ])
    }

    fn narrows(&self) -> bool {
        !(self.q.trim().is_empty() && self.risk.is_empty() && self.status.is_empty())
    }

    /// What it says, of what there is.
    fn checked(mut self) -> Self {
        let known = |word: &str, words: &[&str]| words.contains(&word);
        if !known(&self.risk, &["read", "write", "destroy"]) {
            self.risk.clear();
        }
        if !known(
            &self.status,
            &["approved", "rejected", "expired", "withdrawn"],
        ) {
            self.status.clear();
        }
        if self.sort != "oldest" {
            self.sort.clear();
        }
        if self.view != "decided" {
            self.view.clear();
        }
        self
    }
}

#[derive(Template)]
#[template(path = "inbox.html")]
struct Inbox {
    frame: Frame,
    filter: Filter,
    /// The query of this very page, to come back to after a decision.
    back: String,
    groups: Vec<Shown>,
    pages: Pages,
}

/// One agent's requests for one command.
struct Shown {
    id: String,
    agent: String,
    agent_path: String,
    command: String,
    count: u64,
    history: String,
    asks: Vec<Asked>,
    /// So many more are on a page of their own.
    more: u64,
    more_path: String,
}

#[derive(Template)]
#[template(path = "decided.html")]
struct DecidedPage {
    frame: Frame,
    filter: Filter,
    decided: Vec<Decided>,
    pages: Pages,
}

struct Decided {
    id: String,
    agent: String,
    agent_path: String,
    command: String,
    risk: authz::Risk,
    status: &'static str,
    by: String,
    reason: String,
    closed: Moment,
}

/// `GET /approvals`.
async fn list(
    Visitor { person, frame }: Visitor,
    State(orchestrator): State<Orchestrator>,
    filter: Result<Parameters<Filter>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(filter) = filter?;
    let filter = filter.checked();
    let number = filter.page.unwrap_or(0);
    let now = orchestrator.now();
    let pages = |more: bool| {
        Pages::numbered(number, more, |page| {
            format!("/approvals{}", filter.query(page, ""))
        })
    };
    if filter.view == "decided" {
        let wanted = Page {
            size: DECIDED,
            number,
        };
        let (decided, more) = orchestrator
            .store()
            .decided(&filter.q, &filter.status, wanted, now)
            .await?;
        return Ok(page(&DecidedPage {
            frame,
            decided: decided.iter().map(|stored| past(stored, now)).collect(),
            pages: pages(more),
            filter,
        }));
    }

    let waiting = Waiting {
        text: &filter.q,
        risk: &filter.risk,
        oldest_first: filter.sort == "oldest",
    };
    let wanted = Page {
        size: GROUPS,
        number,
    };
    let (groups, more) = orchestrator
        .store()
        .waiting(&waiting, wanted, SHOWN_OF_GROUP, now)
        .await?;
    let groups = groups
        .into_iter()
        .map(|group| shown(&orchestrator, &person, group, now));
    Ok(page(&Inbox {
        frame,
        groups: try_join_all(groups).await?,
        back: filter.query(number, ""),
        pages: pages(more),
        filter,
    }))
}

async fn shown(
    orchestrator: &Orchestrator,
    person: &Person,
    group: Group,
    now: Timestamp,
) -> Result<Shown, Error> {
    let history = orchestrator
        .store()
        .history(group.agent, &group.command)
        .await?;
    let asks: Vec<_> = group
        .oldest
        .iter()
        .map(|stored| Asked::new(orchestrator, person, stored, now))
        .collect();
    let in_full = u64::try_from(asks.len()).unwrap_or(u64::MAX);
    Ok(Shown {
        id: group_id(group.agent, &group.command),
        agent: asks
            .first()
            .map(|ask| ask.agent.clone())
            .unwrap_or_default(),
        agent_path: format!("/agents/{}", group.agent),
        more_path: format!("/agents/{}#waiting", group.agent),
        command: group.command.to_string(),
        count: group.count,
        history: told(&history, now),
        more: group.count.saturating_sub(in_full),
        asks,
    })
}

/// The same from one load to the next.
fn group_id(agent: AgentId, command: &CommandKey) -> String {
    format!("of-{agent}-{}-{}", command.service, command.name)
}

fn past(stored: &StoredApproval, now: Timestamp) -> Decided {
    let ask = &stored.new.ask;
    let by: Vec<_> = stored
        .verdicts
        .iter()
        .map(|verdict| verdict.user.to_string())
        .collect();
    Decided {
        id: stored.new.id.to_string(),
        agent: ask.agent.name.to_string(),
        agent_path: format!("/agents/{}", ask.agent.id),
        command: ask.target.key.to_string(),
        risk: ask.target.risk,
        status: word(stored.status),
        by: by.join(", "),
        reason: stored
            .verdicts
            .last()
            .map(|verdict| verdict.reason.clone())
            .unwrap_or_default(),
        closed: Moment::past(stored.decided.unwrap_or(stored.new.expires), now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_what_there_is_and_keeps_its_query() {
        let filter = Filter {
            view: "elsewhere".to_owned(),
            q: "a&b=c ü".to_owned(),
            risk: "write".to_owned(),
            sort: "' OR 1".to_owned(),
            status: "gone".to_owned(),
            ..Filter::default()
        };
        let filter = filter.checked();
        assert_eq!(filter.query(0, ""), "?q=a%26b%3Dc%20%C3%BC&risk=write");
        assert_eq!(
            filter.query(2, "approved"),
            "?q=a%26b%3Dc%20%C3%BC&risk=write&page=2&done=approved"
        );
        assert_eq!(Filter::default().query(0, ""), "");
        assert!(filter.narrows() && !Filter::default().narrows());
    }
}
