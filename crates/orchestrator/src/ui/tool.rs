//! One tool of an MCP server: what changed since somebody reviewed it, and what to look at.

use askama::Template;
use authz::{CommandName, ServiceName, approval::Administration, command::ArgumentsDigest};
use axum::{
    Form, Router,
    extract::{State, rejection::FormRejection},
    response::Response,
    routing::{get, post},
};
use contract::tools::{ApproveTool, ToolState, WithdrawTools};
use serde::Deserialize;

use super::{Frame, Trouble, Visitor, go, moment::Moment, page};
use crate::{
    Orchestrator,
    api::NamedWithin,
    authenticate::{ManagePolicies, May},
    error::Error,
    tools,
};

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/services/{service}/tools/{tool}", get(show))
        .route("/services/{service}/tools/{tool}/approve", post(approve))
        .route("/services/{service}/tools/{tool}/withdraw", post(withdraw))
}

#[derive(Template)]
#[template(path = "tool.html")]
struct ToolPage {
    frame: Frame,
    service: String,
    name: String,
    state: ToolState,
    risk: String,
    digest: String,
    reviewer: String,
    reviewed: Option<Moment>,
    differs_at: Vec<String>,
    warnings: Vec<Warning>,
    lines: Vec<Line>,
    may_manage: bool,
    problem: Option<String>,
}

struct Warning {
    kind: &'static str,
    place: String,
    excerpt: String,
}

/// A line of the difference.
struct Line {
    /// `added`, `removed` or `same`.
    class: &'static str,
    sign: &'static str,
    text: String,
}

impl Line {
    fn of(line: &str) -> Self {
        let (class, sign) = match line.get(..1) {
            Some("+") => ("added", "+"),
            Some("-") => ("removed", "−"),
            _ => ("same", ""),
        };
        Self {
            class,
            sign,
            text: line.get(2..).unwrap_or_default().to_owned(),
        }
    }
}

/// `GET /services/{service}/tools/{tool}`.
async fn show(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    name: Result<NamedWithin<ServiceName, CommandName>, Error>,
) -> Result<Response, Trouble> {
    let NamedWithin(service, tool) = name?;
    one(&orchestrator, visitor, &service, &tool, None).await
}

async fn one(
    orchestrator: &Orchestrator,
    visitor: Visitor,
    service: &ServiceName,
    tool: &CommandName,
    problem: Option<String>,
) -> Result<Response, Trouble> {
    let Visitor { person, frame } = visitor;
    let details = tools::one(orchestrator, service, tool).await?;
    let now = orchestrator.now();
    let tool = details.tool;
    let review = tool.review.as_ref();
    // What nothing was changed of is shown as it is.
    let lines = if details.difference.is_empty() {
        tools::lines(details.definition.as_ref())
    } else {
        details.difference
    };
    Ok(page(&ToolPage {
        frame,
        service: service.to_string(),
        name: tool.name.to_string(),
        state: tool.state,
        risk: tool.risk.map(|risk| risk.to_string()).unwrap_or_default(),
        digest: tool
            .digest
            .map(|digest| digest.to_string())
            .unwrap_or_default(),
        reviewer: review.map(|review| review.by.clone()).unwrap_or_default(),
        reviewed: review.map(|review| Moment::past(review.at, now)),
        differs_at: tool.differs_at,
        warnings: tool
            .warnings
            .into_iter()
            .map(|warning| Warning {
                kind: warning.kind.as_str(),
                place: warning.place,
                excerpt: warning.excerpt,
            })
            .collect(),
        lines: lines.iter().map(|line| Line::of(line)).collect(),
        may_manage: person
            .may(orchestrator, Administration::ManagePolicies)
            .is_ok(),
        problem,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    /// Of the definition that the page showed.
    digest: String,
}

/// `POST /services/{service}/tools/{tool}/approve`.
async fn approve(
    May(person, ..): May<ManagePolicies>,
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    name: Result<NamedWithin<ServiceName, CommandName>, Error>,
    sent: Result<Form<Seen>, FormRejection>,
) -> Result<Response, Trouble> {
    let NamedWithin(service, tool) = name?;
    let Form(Seen { digest }) = sent.map_err(Error::from)?;
    let digest =
        ArgumentsDigest::try_from(digest).map_err(|error| Error::field("digest", error))?;
    let approval = ApproveTool {
        name: tool.clone(),
        digest,
    };
    match tools::approve(&orchestrator, &person, &service, &[approval]).await {
        Ok(_) => Ok(go(&format!("/services/{service}/tools/{tool}"))),
        Err(Error::Conflict(problem)) => {
            one(&orchestrator, visitor, &service, &tool, Some(problem)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /services/{service}/tools/{tool}/withdraw`.
async fn withdraw(
    May(person, ..): May<ManagePolicies>,
    State(orchestrator): State<Orchestrator>,
    name: Result<NamedWithin<ServiceName, CommandName>, Error>,
) -> Result<Response, Trouble> {
    let NamedWithin(service, tool) = name?;
    let withdrawal = WithdrawTools { tools: vec![tool] };
    tools::withdraw(&orchestrator, &person, &service, &withdrawal).await?;
    Ok(go(&format!("/services/{service}")))
}
