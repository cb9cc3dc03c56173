//! Services and commands: what there is, where, in which zones, and who may use it.

mod zones;

use std::collections::BTreeMap;

use askama::Template;
use authz::{CommandName, Risk, Scope, ServiceName, approval::Administration};
use axum::{
    Router,
    extract::State,
    response::Response,
    routing::{get, post},
};
use contract::{
    catalog::{CatalogCommand, CommandsByRisk},
    gateways::{HealthState, ServiceHealth},
};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;
use store::audit::AuditFilter;

use self::zones::{Placed, ZoneRow};
use super::{
    Frame, Trouble, Visitor,
    budgets::BudgetRow,
    moment::Moment,
    page,
    trail::{Names, TrailRow},
};
use crate::{
    Orchestrator,
    api::{Named, Parameters},
    audit_query::encoded,
    error::Error,
    services::{self, KnownCommand, KnownService},
    tools,
};

/// So many agents and grants are shown of one service.
const SHOWN_ACCESS: u32 = 100;

/// So many of the latest decisions.
const SHOWN_LATELY: u32 = 12;

/// So many commands are shown that a search finds over all services.
const SHOWN_FOUND: usize = 200;

pub(super) fn routes() -> Router<Orchestrator> {
    Router::new()
        .route("/services", get(list))
        .route("/services/{service}", get(show))
        .route("/services/{service}/zones", post(zones::add))
        .route("/services/{service}/zones/remove", post(zones::remove))
}

#[derive(Template)]
#[template(path = "services.html")]
struct List {
    frame: Frame,
    search: String,
    services: Vec<ServiceRow>,
    /// Commands that a search found.
    commands: Vec<CommandRow>,
    more: bool,
    none: bool,
}

struct ServiceRow {
    name: String,
    description: String,
    kind: String,
    env: &'static str,
    owners: String,
    zones: Vec<String>,
    /// `active` or `error`, at how many gateways.
    active: usize,
    failing: usize,
    /// At how many of the former its last commands failed.
    degraded: usize,
    differs: bool,
    commands: CommandsByRisk,
}

struct CommandRow {
    service: String,
    name: String,
    /// Of its place on the service's page.
    anchor: String,
    summary: String,
    risk: Risk,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Search {
    #[serde(default)]
    q: String,
}

/// `GET /services?q=`.
async fn list(
    Visitor { frame, .. }: Visitor,
    State(orchestrator): State<Orchestrator>,
    search: Result<Parameters<Search>, Error>,
) -> Result<Response, Trouble> {
    let Parameters(Search { q }) = search?;
    let wanted = q.trim().to_lowercase();
    let known = services::all(&orchestrator).await?;
    let placed = Placed::now(&orchestrator).await?;
    let none = known.is_empty();
    let mut commands = Vec::new();
    if !wanted.is_empty() {
        for (name, service) in &known {
            let found = service.commands().into_iter().filter(|known| {
                let command = &known.command;
                holds(&wanted, &format!("{name}/{}", command.name))
                    || holds(&wanted, &command.summary)
                    || holds(&wanted, &command.usage)
            });
            commands.extend(found.map(|known| CommandRow {
                service: name.to_string(),
                name: known.command.name.to_string(),
                anchor: anchor(known.command.name.as_str()),
                summary: known.command.summary,
                risk: known.command.risk,
            }));
        }
    }
    let more = commands.len() > SHOWN_FOUND;
    commands.truncate(SHOWN_FOUND);
    let services = known
        .values()
        .filter_map(|known| service_row(known, &placed))
        .filter(|row| {
            wanted.is_empty()
                || holds(&wanted, &row.name)
                || holds(&wanted, &row.description)
                || holds(&wanted, &row.owners)
                || row.zones.iter().any(|zone| holds(&wanted, zone))
        })
        .collect();
    Ok(page(&List {
        frame,
        search: q,
        services,
        commands,
        more,
        none,
    }))
}

fn holds(wanted: &str, text: &str) -> bool {
    text.to_lowercase().contains(wanted)
}

fn anchor(command: &str) -> String {
    format!("command-{command}")
}

fn service_row(known: &KnownService, placed: &Placed) -> Option<ServiceRow> {
    let latest = &known.latest()?.service;
    let active = known
        .described
        .iter()
        .filter(|one| one.service.status == "active")
        .count();
    Some(ServiceRow {
        name: latest.service.name.to_string(),
        description: latest.description.clone(),
        kind: latest.kind.clone(),
        env: latest.service.env.as_str(),
        owners: latest
            .service
            .owners
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        zones: placed.names(&latest.service.name, None, &latest.service.zones),
        degraded: known
            .described
            .iter()
            .filter_map(|one| one.health.as_ref())
            .filter(|health| health.state == HealthState::Degraded)
            .count(),
        active,
        failing: known.described.len() - active,
        differs: known.differs(),
        commands: CommandsByRisk::of(&latest.commands),
    })
}

#[derive(Template)]
#[template(path = "service.html")]
struct ServicePage {
    frame: Frame,
    service: ServiceRow,
    zones: Vec<ZoneRow>,
    /// This person may put commands into zones; then all of their names.
    may_assign: bool,
    command_names: Vec<String>,
    /// The zone that somebody wrote, if nothing came of it.
    zone_wanted: Option<String>,
    version: String,
    aliases: Vec<String>,
    gateways: Vec<GatewayRow>,
    search: String,
    risk: String,
    commands: Vec<CommandDetails>,
    total: usize,
    standing: Vec<(String, bool)>,
    grants: Vec<GrantRow>,
    budgets: Vec<BudgetRow>,
    lately: Vec<TrailRow>,
    trail: String,
}

struct GatewayRow {
    name: String,
    status: String,
    problem: Option<String>,
    version: String,
    commands: usize,
    said: Moment,
    health: Option<HealthRow>,
}

/// How a service is at a gateway.
struct HealthRow {
    state: &'static str,
    since: Option<Moment>,
    /// What is known of why, in words.
    why: Vec<String>,
    retry: Option<Moment>,
    in_flight: Option<u64>,
}

impl HealthRow {
    fn new(health: &ServiceHealth, now: authz::Timestamp) -> Self {
        let mut why = Vec::new();
        if let Some(breaker) = health.breaker.as_deref().filter(|word| *word != "closed") {
            why.push(format!("breaker {}", breaker.replace('_', " ")));
        }
        if health.failures > 0 {
            why.push(format!("{} failed in a row", health.failures));
        }
        if let Some(error) = &health.last_error {
            why.push(format!("last: {error}"));
        }
        Self {
            state: health.state.as_str(),
            since: health.since.map(|since| Moment::past(since, now)),
            why,
            retry: health.retry_at.map(|at| Moment::until(at, now)),
            in_flight: health.in_flight,
        }
    }
}

struct CommandDetails {
    anchor: String,
    key: String,
    name: String,
    summary: String,
    risk: Risk,
    usage: String,
    zones: Vec<String>,
    pinned: bool,
    /// Of an MCP server: it has a definition that people review.
    is_tool: bool,
    warnings: usize,
    arguments: Vec<ArgumentRow>,
    example: String,
    try_it: String,
    /// Gateways where it is otherwise, and how.
    elsewhere: Vec<String>,
}

/// One argument, as its JSON Schema says.
pub(super) struct ArgumentRow {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) required: bool,
    pub(super) description: String,
    /// What restricts it: a list of values, limits, a pattern, a default.
    pub(super) rules: Vec<String>,
}

struct GrantRow {
    agent: String,
    scope: String,
    risk: Risk,
    expires: Moment,
    single_use: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandSearch {
    #[serde(default)]
    q: String,
    #[serde(default)]
    risk: String,
    /// For the frame, which reads it itself.
    #[serde(default, rename = "done")]
    _done: Option<IgnoredAny>,
}

/// `GET /services/{name}?q=&risk=`.
async fn show(
    visitor: Visitor,
    State(orchestrator): State<Orchestrator>,
    name: Result<Named<ServiceName>, Error>,
    search: Result<Parameters<CommandSearch>, Error>,
) -> Result<Response, Trouble> {
    let (Named(name), Parameters(search)) = (name?, search?);
    let shown = service_page(&orchestrator, visitor, &name, search).await?;
    Ok(page(&shown))
}

async fn service_page(
    orchestrator: &Orchestrator,
    Visitor { frame, person }: Visitor,
    name: &ServiceName,
    search: CommandSearch,
) -> Result<ServicePage, Error> {
    let CommandSearch { q, risk, .. } = search;
    let known = services::one(orchestrator, name).await?;
    let placed = Placed::now(orchestrator).await?;
    let (Some(service), Some(latest)) = (service_row(&known, &placed), known.latest()) else {
        return Err(Error::NotFound(format!(
            "no gateway has told of a service `{name}`"
        )));
    };
    let store = orchestrator.store();
    let now = orchestrator.now();
    let tools = tools::all(orchestrator, name).await?;
    let warned: BTreeMap<CommandName, usize> = tools
        .into_iter()
        .map(|tool| (tool.name, tool.warnings.len()))
        .collect();
    let commands = known.commands();
    let command_names = commands.iter().map(|one| one.command.name.to_string());
    let command_names = command_names.collect();
    let zones = placed.rows(name, &latest.service.service, &commands, now);
    let may_assign = person
        .may(orchestrator, Administration::ManagePolicies)
        .is_ok();
    let total = commands.len();
    let wanted = q.trim().to_lowercase();
    let shown = commands.into_iter().filter(|known| {
        let command = &known.command;
        (risk.is_empty() || command.risk.as_str() == risk)
            && (holds(&wanted, command.name.as_str())
                || holds(&wanted, &command.summary)
                || holds(&wanted, &command.usage))
    });
    let standing = store.standing_access(name, SHOWN_ACCESS).await?;
    let grants = store.live_grants_for(name, now, SHOWN_ACCESS).await?;
    let filter = AuditFilter {
        service: Some(name.to_string()),
        ..AuditFilter::default()
    };
    let lately = store.audit_search(&filter, None, SHOWN_LATELY).await?;
    let names = Names::of(orchestrator, &lately.rows).await?;
    Ok(ServicePage {
        version: latest.service.version.clone(),
        aliases: latest
            .service
            .aliases
            .iter()
            .map(ToString::to_string)
            .collect(),
        gateways: gateway_rows(&known, now),
        commands: shown
            .map(|known| {
                let warnings = warned.get(&known.command.name).copied().unwrap_or(0);
                details(name, known, &placed, warnings)
            })
            .collect(),
        total,
        standing: standing
            .into_iter()
            .map(|one| (one.name.to_string(), one.suspended))
            .collect(),
        grants: grants
            .into_iter()
            .map(|grant| GrantRow {
                agent: grant.name.to_string(),
                scope: scope(&grant.scope),
                risk: grant.risk,
                expires: Moment::until(grant.expires, now),
                single_use: grant.single_use,
            })
            .collect(),
        lately: lately
            .rows
            .iter()
            .map(|row| TrailRow::of(row, &names, now))
            .collect(),
        trail: format!("/audit?service={}", encoded(name.as_str())),
        budgets: BudgetRow::today(orchestrator, None, Some(name)).await?,
        service,
        search: q,
        risk,
        zones,
        may_assign,
        command_names,
        zone_wanted: None,
        frame,
    })
}

fn gateway_rows(known: &KnownService, now: authz::Timestamp) -> Vec<GatewayRow> {
    let mut rows: Vec<_> = known
        .described
        .iter()
        .map(|one| GatewayRow {
            name: one.gateway.clone(),
            status: one.service.status.clone(),
            problem: one.service.problem.clone(),
            version: one.service.version.clone(),
            commands: one.service.commands.len(),
            said: Moment::past(one.said, now),
            health: one
                .health
                .as_ref()
                .map(|health| HealthRow::new(health, now)),
        })
        .collect();
    rows.sort_by(|one, other| one.name.cmp(&other.name));
    rows
}

fn scope(scope: &Scope) -> String {
    match scope {
        Scope::Call { command, digest } => {
            let digest: String = digest.as_str().chars().take(8).collect();
            format!("{command}, one call ({digest}…)")
        }
        Scope::Command { command } => format!("{command}, any arguments"),
        Scope::Service { service } => format!("all of {service}"),
    }
}

fn details(
    service: &ServiceName,
    known: KnownCommand,
    placed: &Placed,
    warnings: usize,
) -> CommandDetails {
    let KnownCommand { command, elsewhere } = known;
    let key = format!("{service}/{}", command.name);
    CommandDetails {
        anchor: anchor(command.name.as_str()),
        try_it: format!("/playground?command={}", encoded(&key)),
        key,
        name: command.name.to_string(),
        risk: command.risk,
        zones: placed.names(service, Some(&command.name), &command.zones),
        pinned: command.pinned,
        is_tool: command.definition.is_some(),
        warnings,
        arguments: arguments(&command.arguments),
        example: pretty(&command.example),
        elsewhere: elsewhere
            .iter()
            .map(|(gateway, theirs)| otherwise(gateway, &command, theirs.as_ref()))
            .collect(),
        summary: command.summary,
        usage: command.usage,
    }
}

/// How a gateway's command differs.
fn otherwise(gateway: &str, ours: &CatalogCommand, theirs: Option<&CatalogCommand>) -> String {
    let Some(theirs) = theirs else {
        return format!("{gateway} does not have it");
    };
    if theirs.risk != ours.risk {
        return format!("{gateway} says that its risk is {}", theirs.risk);
    }
    if theirs.arguments != ours.arguments {
        return format!("{gateway} takes other arguments");
    }
    format!("{gateway} describes it otherwise")
}

/// An example's JSON; nothing for no arguments.
pub(super) fn pretty(value: &Value) -> String {
    if value.as_object().is_some_and(serde_json::Map::is_empty) {
        return String::new();
    }
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// The arguments that a schema describes; those that must be given first.
pub(super) fn arguments(schema: &Value) -> Vec<ArgumentRow> {
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let mut rows: Vec<_> = properties
        .into_iter()
        .flatten()
        .map(|(name, property)| ArgumentRow {
            name: name.clone(),
            kind: kind(property),
            required: required.contains(&name.as_str()),
            description: text_of(property, "description"),
            rules: rules(property),
        })
        .collect();
    rows.sort_by_key(|row| !row.required);
    rows
}

fn text_of(property: &Value, name: &str) -> String {
    property
        .get(name)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn kind(property: &Value) -> String {
    let kind = text_of(property, "type");
    match property.get("items") {
        Some(items) => format!("{kind} of {}", text_of(items, "type")),
        None => kind,
    }
}

fn rules(property: &Value) -> Vec<String> {
    let mut rules = Vec::new();
    if let Some(values) = property.get("enum").and_then(Value::as_array) {
        let values: Vec<_> = values
            .iter()
            .map(|value| {
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            })
            .collect();
        rules.push(format!("one of {}", values.join(", ")));
    }
    for (name, words) in [
        ("minimum", "at least"),
        ("maximum", "at most"),
        ("maxLength", "characters, at most"),
        ("pattern", "matches"),
        ("default", "default"),
    ] {
        if let Some(value) = property.get(name) {
            let value = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            rules.push(format!("{words} {value}"));
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_told_in_words() {
        let rows = arguments(&json!({
            "type": "object", "required": ["uuid"],
            "properties": {
                "lines": {"type": "integer", "minimum": 1, "maximum": 10, "default": 5},
                "uuid": {"type": "string", "description": "Which.", "pattern": "^a", "maxLength": 3},
                "kinds": {"type": "array", "items": {"type": "string"}, "enum": ["a", 1]},
            },
        }));
        assert_eq!((rows[0].name.as_str(), rows[0].required), ("uuid", true));
        assert_eq!(rows[0].rules, ["characters, at most 3", "matches ^a"]);
        assert_eq!(rows[1].rules, ["at least 1", "at most 10", "default 5"]);
        assert_eq!(
            (rows[2].kind.as_str(), rows[2].rules[0].as_str()),
            ("array of string", "one of a, 1")
        );
        assert!(arguments(&json!(null)).is_empty());
        assert_eq!(
            (pretty(&json!({})), pretty(&json!({"a": 1}))),
            (String::new(), "{\n  \"a\": 1\n}".to_owned())
        );
    }
}
