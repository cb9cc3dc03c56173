//! The Cedar entities and values that policies are told of, by typed constructors.
//!
//! Nothing here reads JSON: text that an agent sent can become a string and
//! nothing else. What is built here must fit `schema.cedarschema`; loading a
//! policy set checks that it does, so a decision need not.

use std::{collections::HashSet, net::IpAddr, sync::LazyLock, time::Duration};

use cedar_policy::{Context, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression};

use crate::{
    agent::Agent,
    approval::{Ask, Presence, Reach},
    command::{CommandKey, Environment, Service, Target},
    decide::Circumstances,
    grant::Grant,
    id::{AgentId, GrantId, RoleName, ServiceName, TeamName, UserId, ZoneName},
    internals::{DATETIME, IP},
    session::{Parts, Session},
    time::Timestamp,
    user::User,
};

/// Cedar did not take a value that was built for it. It means a fault of ours, or
/// arguments beyond the bounds of [`crate::arguments`]; whatever it is, it refuses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Malformed {
    /// Without the values of arguments, which may be secrets.
    pub(crate) text: String,
    /// Whether the agent can mend it: its arguments do not fit.
    pub(crate) misfit: bool,
}

impl Malformed {
    /// A fault that no agent can mend.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            misfit: false,
        }
    }

    /// Arguments that cannot be judged as they are.
    pub(crate) fn misfit(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            misfit: true,
        }
    }
}

/// The error with what caused it, as Cedar's say little by themselves.
pub(crate) fn malformed(error: impl std::error::Error) -> Malformed {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some repeat what caused them.
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    Malformed::new(text)
}

/// The names of the entity types, parsed once.
pub(crate) struct Types {
    pub(crate) action: EntityTypeName,
    pub(crate) agent: EntityTypeName,
    pub(crate) command: EntityTypeName,
    pub(crate) control_plane: EntityTypeName,
    env: EntityTypeName,
    pub(crate) escalation: EntityTypeName,
    pub(crate) flags: EntityTypeName,
    pub(crate) lists: EntityTypeName,
    pub(crate) numbers: EntityTypeName,
    reach: EntityTypeName,
    role: EntityTypeName,
    pub(crate) service: EntityTypeName,
    team: EntityTypeName,
    pub(crate) texts: EntityTypeName,
    pub(crate) user: EntityTypeName,
    zone: EntityTypeName,
}

pub(crate) static TYPES: LazyLock<Types> = LazyLock::new(|| {
    #[allow(
        clippy::expect_used,
        reason = "the names are literals below, and every test that decides reads them"
    )]
    let name = |text: &str| text.parse().expect("an entity type name");
    Types {
        action: name("Action"),
        agent: name("Agent"),
        command: name("Command"),
        control_plane: name("ControlPlane"),
        env: name("Env"),
        escalation: name("Escalation"),
        flags: name("FlagArgs"),
        lists: name("ListArgs"),
        numbers: name("NumberArgs"),
        reach: name("Reach"),
        role: name("Role"),
        service: name("Service"),
        team: name("Team"),
        texts: name("TextArgs"),
        user: name("User"),
        zone: name("Zone"),
    }
});

/// Names one entity.
pub(crate) fn uid(of: &EntityTypeName, id: impl AsRef<str>) -> EntityUid {
    EntityUid::from_type_name_and_id(of.clone(), EntityId::new(id))
}

pub(crate) fn action_uid(name: &str) -> EntityUid {
    uid(&TYPES.action, name)
}

pub(crate) fn agent_uid(id: AgentId) -> EntityUid {
    uid(&TYPES.agent, id.to_string())
}

pub(crate) fn command_uid(key: &CommandKey) -> EntityUid {
    uid(&TYPES.command, key.to_string())
}

pub(crate) fn service_uid(name: &ServiceName) -> EntityUid {
    uid(&TYPES.service, name.as_str())
}

pub(crate) fn zone_uid(name: &ZoneName) -> EntityUid {
    uid(&TYPES.zone, name.as_str())
}

pub(crate) fn user_uid(id: &UserId) -> EntityUid {
    uid(&TYPES.user, id.as_str())
}

fn team_uid(name: &TeamName) -> EntityUid {
    uid(&TYPES.team, name.as_str())
}

fn role_uid(name: &RoleName) -> EntityUid {
    uid(&TYPES.role, name.as_str())
}

fn text(value: impl Into<String>) -> RestrictedExpression {
    RestrictedExpression::new_string(value.into())
}

fn entity(value: EntityUid) -> RestrictedExpression {
    RestrictedExpression::new_entity_uid(value)
}

fn env(value: Environment) -> RestrictedExpression {
    entity(uid(&TYPES.env, value.as_str()))
}

fn datetime(value: Timestamp) -> RestrictedExpression {
    DATETIME.of(value.to_string(), RestrictedExpression::new_datetime)
}

fn duration(value: Duration) -> RestrictedExpression {
    let millis = i64::try_from(value.as_millis()).unwrap_or(i64::MAX);
    RestrictedExpression::new_duration(format!("{millis}ms"))
}

/// An address as Cedar writes it. An IPv4 address that arrived in IPv6 clothes is
/// the IPv4 address: otherwise a policy on `10.0.0.0/8` would miss half of them.
fn ip(value: IpAddr) -> RestrictedExpression {
    let text = match value.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        // Written out: Cedar does not read the forms that end in dotted decimals.
        IpAddr::V6(v6) => v6
            .segments()
            .map(|segment| format!("{segment:x}"))
            .join(":"),
    };
    IP.of(text, RestrictedExpression::new_ip)
}

fn record(fields: Vec<(&str, RestrictedExpression)>) -> Result<RestrictedExpression, Malformed> {
    RestrictedExpression::new_record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    )
    .map_err(malformed)
}

fn build(
    uid: EntityUid,
    attributes: Vec<(&str, RestrictedExpression)>,
    parents: impl IntoIterator<Item = EntityUid>,
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<Entity, Malformed> {
    let attributes = attributes
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    Entity::new_with_tags(uid, attributes, parents, tags).map_err(malformed)
}

/// An entity that is nothing but its tags.
pub(crate) fn tags(
    uid: EntityUid,
    tags: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<Entity, Malformed> {
    build(uid, Vec::new(), [], tags)
}

/// An agent with its grants as tags. Its teams and roles are names only: nothing
/// is asked of them but whether they are among its parents.
pub(crate) fn agent(
    agent: &Agent,
    grants: impl IntoIterator<Item = (String, RestrictedExpression)>,
) -> Result<Entity, Malformed> {
    let mut attributes = vec![
        ("name", text(agent.name.as_str())),
        ("env", env(agent.env)),
        ("trust", RestrictedExpression::new_long(agent.trust.into())),
        ("suspended", RestrictedExpression::new_bool(agent.suspended)),
        (
            "allowedServices",
            RestrictedExpression::new_set(
                agent
                    .allowed_mcps
                    .iter()
                    .map(|name| entity(service_uid(name))),
            ),
        ),
    ];
    if let Some(owner) = &agent.owner {
        attributes.push(("owner", entity(user_uid(owner))));
    }
    let parents = agent
        .teams
        .iter()
        .map(team_uid)
        .chain(agent.roles.iter().map(role_uid));
    build(agent_uid(agent.id), attributes, parents, grants)
}

/// A grant, as the value of an agent's tag.
pub(crate) fn grant(grant: &Grant) -> Result<RestrictedExpression, Malformed> {
    grant_record(
        grant.id,
        grant.risk.level(),
        (grant.issued, grant.expires),
        user_uid(&grant.first),
        grant.second.as_ref().map(user_uid),
        grant.single_use,
    )
}

/// A grant that nobody gave: what would be, if `people` approved this call for the
/// shortest time. `people` are placeholders that no user's id can equal.
pub(crate) fn hypothetical_grant(
    now: Timestamp,
    life: Duration,
    risk: i64,
    people: u8,
) -> Result<RestrictedExpression, Malformed> {
    let second = (people > 1).then(somebody_else);
    grant_record(
        GrantId::generate(now),
        risk,
        (now, now.plus(life)),
        uid(&TYPES.user, "?first"),
        second,
        false,
    )
}

/// A grant that is about to be given. If a second person is still to approve it, a
/// placeholder stands for them.
pub(crate) fn proposed_grant(
    grant: &Grant,
    second_to_come: bool,
) -> Result<RestrictedExpression, Malformed> {
    let second = grant.second.as_ref().map(user_uid);
    grant_record(
        grant.id,
        grant.risk.level(),
        (grant.issued, grant.expires),
        user_uid(&grant.first),
        second.or_else(|| second_to_come.then(somebody_else)),
        grant.single_use,
    )
}

/// A second person whom nobody knows yet. No user's id equals it: those begin with a
/// letter or a digit.
fn somebody_else() -> EntityUid {
    uid(&TYPES.user, "?second")
}

fn grant_record(
    id: GrantId,
    risk: i64,
    (issued, expires): (Timestamp, Timestamp),
    first: EntityUid,
    second: Option<EntityUid>,
    single_use: bool,
) -> Result<RestrictedExpression, Malformed> {
    let mut fields = vec![
        ("id", text(id.to_string())),
        ("risk", RestrictedExpression::new_long(risk)),
        ("issued", datetime(issued)),
        ("expires", datetime(expires)),
        ("first", entity(first)),
        ("singleUse", RestrictedExpression::new_bool(single_use)),
    ];
    if let Some(second) = second {
        fields.push(("second", entity(second)));
    }
    record(fields)
}

/// Under what key a grant on all of a service stands.
pub(crate) fn service_key(name: &ServiceName) -> String {
    format!("{name}/*")
}

pub(crate) fn service(service: &Service) -> Result<Entity, Malformed> {
    let mut attributes = vec![
        ("key", text(service_key(&service.name))),
        ("env", env(service.env)),
    ];
    if let Some(owners) = &service.owners {
        attributes.push(("owners", entity(team_uid(owners))));
    }
    build(
        service_uid(&service.name),
        attributes,
        service.zones.iter().map(zone_uid),
        [],
    )
}

pub(crate) fn command(target: &Target) -> Result<Entity, Malformed> {
    let service = service_uid(&target.service.name);
    let attributes = vec![
        ("key", text(target.key.to_string())),
        ("serviceKey", text(service_key(&target.service.name))),
        ("service", entity(service.clone())),
        ("risk", RestrictedExpression::new_long(target.risk.level())),
        ("pinned", RestrictedExpression::new_bool(target.pinned)),
    ];
    let parents = target.zones.iter().map(zone_uid).chain([service]);
    build(command_uid(&target.key), attributes, parents, [])
}

pub(crate) fn user(user: &User) -> Result<Entity, Malformed> {
    let parents = user
        .teams
        .iter()
        .map(team_uid)
        .chain(user.roles.iter().map(role_uid));
    build(
        user_uid(&user.id),
        vec![("active", RestrictedExpression::new_bool(user.active))],
        parents,
        [],
    )
}

/// The one escalation of a request; there is never a second one beside it.
pub(crate) fn escalation_uid() -> EntityUid {
    uid(&TYPES.escalation, "asked")
}

pub(crate) fn escalation(ask: &Ask, reach: Reach, life: Duration) -> Result<Entity, Malformed> {
    let mut attributes = vec![
        ("agent", entity(agent_uid(ask.agent.id))),
        ("command", entity(command_uid(&ask.target.key))),
        (
            "risk",
            RestrictedExpression::new_long(ask.scope(reach).1.level()),
        ),
        ("duration", duration(life)),
        ("reach", entity(uid(&TYPES.reach, reach.as_str()))),
        (
            "approvedBy",
            RestrictedExpression::new_set(ask.approved_by.iter().map(|id| entity(user_uid(id)))),
        ),
        (
            "approvals",
            RestrictedExpression::new_long(ask.approvals.into()),
        ),
    ];
    if let Some(requester) = &ask.requester {
        attributes.push(("requester", entity(user_uid(requester))));
    }
    build(escalation_uid(), attributes, [], [])
}

pub(crate) fn control_plane() -> Entity {
    Entity::new_no_attrs(control_plane_uid(), HashSet::new())
}

pub(crate) fn control_plane_uid() -> EntityUid {
    uid(&TYPES.control_plane, "cedargate")
}

/// Context of everything that people do.
pub(crate) fn person_context(at: Presence) -> Result<Context, Malformed> {
    let context = time_context(at.now)?;
    let Some(confirmed) = at.confirmed else {
        return Ok(context);
    };
    let age = record(vec![("age", duration(at.now.since(confirmed)))])?;
    context.merge([("mfa".to_owned(), age)]).map_err(malformed)
}

/// Context of `list`.
pub(crate) fn time_context(now: Timestamp) -> Result<Context, Malformed> {
    Context::from_pairs([("now".to_owned(), datetime(now))]).map_err(malformed)
}

/// Context of `read`, `write`, `destroy` and `escalate`.
///
/// `args` are the four argument entities, in the order text, number, flag, list.
pub(crate) fn call_context(
    at: Circumstances,
    of_session: Parts,
    digest: &str,
    call_key: &str,
    [texts, numbers, flags, lists]: [EntityUid; 4],
) -> Result<Context, Malformed> {
    let args = record(vec![
        ("text", entity(texts)),
        ("number", entity(numbers)),
        ("flag", entity(flags)),
        ("list", entity(lists)),
        ("digest", text(digest)),
    ])?;
    let session = (of_session != Parts::NONE)
        .then(|| session(at.session, at.now, of_session))
        .transpose()?;
    let pairs = [
        ("now".to_owned(), datetime(at.now)),
        ("ip".to_owned(), ip(at.ip)),
        ("args".to_owned(), args),
        ("callKey".to_owned(), text(call_key)),
    ];
    let session = session.map(|session| ("session".to_owned(), session));
    Context::from_pairs(pairs.into_iter().chain(session)).map_err(malformed)
}

/// Parts of the session of a call. It did not begin after the call, whatever became of the
/// clock.
fn session(
    session: Session,
    now: Timestamp,
    parts: Parts,
) -> Result<RestrictedExpression, Malformed> {
    let mut fields = Vec::with_capacity(4);
    if parts.hold(Parts::ID) {
        fields.push(("id", text(session.id.to_string())));
    }
    if parts.hold(Parts::STARTED) {
        fields.push(("startedAt", datetime(session.started.min(now))));
    }
    if parts.hold(Parts::CALLS) {
        let calls = RestrictedExpression::new_long(session.calls.into());
        fields.push(("calls", calls));
    }
    if parts.hold(Parts::TAINTED) {
        let tainted = RestrictedExpression::new_bool(session.tainted);
        fields.push(("tainted", tainted));
    }
    record(fields)
}
