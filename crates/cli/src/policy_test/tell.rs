//! A request that a proof found, told as a test file: whole in itself, as small as it can
//! be, and tried before it is shown.

use std::{collections::BTreeMap, fmt::Write as _, fs, sync::Arc};

use authz::{
    AgentName, CommandKey, RoleName, ServiceName, TeamName, UserId, ZoneName, mutate::Workshop,
    prove::Counterexample,
};
use handlers::Catalog;
use serde_json::{Map, Value, json};

use super::{SUFFIX, case::Case, format::Verdict, read::cases};

/// How often a test is looked through for what it can do without.
const ROUNDS: usize = 4;

/// Tells a request as a test of this name, in which `verdict` is expected.
///
/// `shows` says whether a case still shows what the request shows. None if no case does:
/// then the request cannot be told as a call, or as what a person may do.
pub(crate) fn tell(
    found: &Counterexample,
    name: &str,
    verdict: Verdict,
    (catalog, workshop): (&Arc<Catalog>, &Workshop),
    shows: impl Fn(&Case) -> bool,
) -> Option<String> {
    let folder = tempfile::tempdir().ok()?;
    let path = folder.path().join(format!("told{SUFFIX}"));
    let works = |draft: &Value| {
        fs::write(&path, text(draft)).is_ok()
            && cases(std::slice::from_ref(&path), catalog, workshop)
                .is_ok_and(|cases| cases.first().is_some_and(&shows))
    };
    let mut draft = Teller::new(found, catalog).draft(name, verdict)?;
    if !works(&draft) {
        return None;
    }
    for plain in [plain_times, one_environment] {
        let plain = plain(&draft);
        if works(&plain) {
            draft = plain;
        }
    }
    for _ in 0..ROUNDS {
        let before = draft.clone();
        shrink(&mut draft, "", &works);
        if draft == before {
            break;
        }
    }
    Some(text(&draft))
}

/// Every grant issued now, for an hour, at the time that tests start from.
fn plain_times(draft: &Value) -> Value {
    let mut plain = draft.clone();
    if let Some(members) = plain.as_object_mut() {
        members.remove("now");
    }
    let grants = plain
        .pointer_mut("/test/grants")
        .and_then(Value::as_array_mut);
    for grant in grants
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        grant.remove("issued");
        grant.insert("for".to_owned(), json!("1h"));
    }
    plain
}

/// Agents and services all in the environment that is not mentioned.
fn one_environment(draft: &Value) -> Value {
    let mut plain = draft.clone();
    for key in ["agents", "services"] {
        let members = plain.get_mut(key).and_then(Value::as_object_mut);
        for member in members.into_iter().flat_map(Map::values_mut) {
            if let Some(member) = member.as_object_mut() {
                member.remove("env");
            }
        }
    }
    plain
}

/// Without these there is no test, or another one.
const NEEDED: [&str; 8] = [
    "/agents",
    "/users",
    "/services",
    "/test",
    "/test/name",
    "/test/expect",
    "/test/call/service",
    "/test/call/operation",
];

/// Leaves out whatever can be, the larger before its parts.
fn shrink(draft: &mut Value, path: &str, works: &impl Fn(&Value) -> bool) {
    let Some(place) = draft.pointer(path) else {
        return;
    };
    let inner: Vec<String> = match place {
        Value::Object(members) => members.keys().map(|key| escaped(key)).collect(),
        // From the end, so that what was left out moves nothing.
        Value::Array(items) => (0..items.len()).rev().map(|at| at.to_string()).collect(),
        _ => Vec::new(),
    };
    for key in inner {
        let path_of_it = format!("{path}/{key}");
        if !NEEDED.contains(&path_of_it.as_str()) {
            let mut without = draft.clone();
            match without.pointer_mut(path) {
                Some(Value::Object(members)) => {
                    members.remove(&key.replace("~1", "/").replace("~0", "~"));
                }
                Some(Value::Array(items)) => {
                    if let Ok(at) = key.parse::<usize>() {
                        items.remove(at);
                    }
                }
                _ => {}
            }
            if works(&without) {
                *draft = without;
                continue;
            }
        }
        shrink(draft, &path_of_it, works);
    }
}

/// A key as a part of a JSON pointer.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Makes a test of a request: names that are valid, attributes in our words.
struct Teller<'a> {
    found: &'a Counterexample,
    catalog: &'a Catalog,
    /// By type and id.
    entities: BTreeMap<(&'a str, &'a str), &'a Value>,
    /// What entities are called, by type and id.
    names: BTreeMap<(String, String), String>,
    agents: Map<String, Value>,
    users: Map<String, Value>,
    services: Map<String, Value>,
}

impl<'a> Teller<'a> {
    fn new(found: &'a Counterexample, catalog: &'a Catalog) -> Self {
        let entities = found.entities.as_array();
        let entities = entities.into_iter().flatten().filter_map(|entity| {
            let uid = reference(entity.get("uid")?)?;
            Some((uid, entity))
        });
        Self {
            found,
            catalog,
            entities: entities.collect(),
            names: BTreeMap::new(),
            agents: Map::new(),
            users: Map::new(),
            services: Map::new(),
        }
    }

    /// The test, with all that it is about; none if there is no word for it.
    fn draft(mut self, name: &str, verdict: Verdict) -> Option<Value> {
        let mut test = Map::new();
        let set = |test: &mut Map<String, Value>, key: &str, value: Value| {
            test.insert(key.to_owned(), value);
        };
        set(&mut test, "name", json!(name));
        let found = self.found;
        let (kind, id) = (found.resource.0.as_str(), found.resource.1.as_str());
        match (found.principal.0.as_str(), found.action.as_str()) {
            ("Agent", action) => {
                // The first of its kind has the plainest name.
                self.command(id)?;
                let agent = self.agent(&found.principal.1);
                let grants = self.grants();
                set(&mut test, "agent", json!(agent));
                if action == "list" {
                    set(&mut test, "may", json!("list"));
                }
                set(&mut test, "call", self.call(id)?);
                if !grants.is_empty() {
                    set(&mut test, "grants", Value::Array(grants));
                }
            }
            ("User", "approve" | "reject") => {
                let of = self.attributes(kind, id)?;
                let user = self.user(&found.principal.1);
                set(&mut test, "may", json!(found.action));
                set(&mut test, "user", json!(user));
                let agent = self.agent(reference(of.get("agent")?)?.1);
                set(&mut test, "agent", json!(agent));
                set(
                    &mut test,
                    "call",
                    self.call(reference(of.get("command")?)?.1)?,
                );
                if found.action == "approve" {
                    set(&mut test, "reach", json!(reference(of.get("reach")?)?.1));
                    set(&mut test, "for", json!(span(millis(of.get("duration")?)?)?));
                }
                if let Some(requester) = of.get("requester").and_then(reference) {
                    let requester = self.user(requester.1);
                    set(&mut test, "requester", json!(requester));
                }
                let so_far = of.get("approvedBy").and_then(Value::as_array);
                let so_far: Vec<String> = so_far
                    .into_iter()
                    .flatten()
                    .filter_map(reference)
                    .map(|(_, id)| self.user(id))
                    .collect();
                set(&mut test, "approved_by", json!(so_far));
            }
            ("User", action) => {
                let user = self.user(&found.principal.1);
                let may = match action {
                    "revoke" => {
                        let agent = self.agent(id);
                        set(&mut test, "agent", json!(agent));
                        "revoke"
                    }
                    "view" => "view",
                    "manageAgents" => "manage-agents",
                    "manageUsers" => "manage-users",
                    "managePolicies" => "manage-policies",
                    _ => return None,
                };
                set(&mut test, "may", json!(may));
                set(&mut test, "user", json!(user));
            }
            _ => return None,
        }
        if let Some(mfa) = found.context.get("mfa") {
            set(&mut test, "mfa", json!(span(millis(mfa.get("age")?)?)?));
        }
        let now = found.context.get("now").and_then(millis)?;
        if let Some(session) = found.context.get("session") {
            let began = now.checked_sub(millis(session.get("startedAt")?)?)?;
            let (tainted, calls) = (session.get("tainted")?, session.get("calls")?);
            // As far as it is not a fresh one.
            let mut told = Map::new();
            for (key, value, usual) in [
                ("tainted", tainted.clone(), json!(false)),
                ("calls", calls.clone(), json!(0)),
                ("began", json!(span(began)?), json!("0s")),
            ] {
                if value != usual {
                    told.insert(key.to_owned(), value);
                }
            }
            if !told.is_empty() {
                set(&mut test, "session", Value::Object(told));
            }
        }
        set(&mut test, "expect", json!(verdict.to_string()));
        Some(json!({
            "now": authz::Timestamp::from_millis(now).to_string(),
            "ip": found.context.get("ip").and_then(argument).and_then(address),
            "agents": self.agents,
            "users": self.users,
            "services": self.services,
            "test": test,
        }))
    }

    fn entity(&self, kind: &str, id: &str) -> Option<&'a Value> {
        self.entities
            .iter()
            .find(|(uid, _)| **uid == (kind, id))
            .map(|(_, entity)| *entity)
    }

    fn attributes(&self, kind: &str, id: &str) -> Option<&'a Map<String, Value>> {
        self.entity(kind, id)?.get("attrs")?.as_object()
    }

    /// What an entity is in, of one type, by valid names.
    fn within<T: std::str::FromStr>(&mut self, entity: (&str, &str), kind: &str) -> Vec<String> {
        let parents = self
            .entity(entity.0, entity.1)
            .and_then(|entity| entity.get("parents")?.as_array());
        let ids: Vec<&str> = parents
            .into_iter()
            .flatten()
            .filter_map(reference)
            .filter(|(of, _)| *of == kind)
            .map(|(_, id)| id)
            .collect();
        ids.into_iter().map(|id| self.name::<T>(kind, id)).collect()
    }

    /// A name for an entity: its id, if that is a name.
    fn name<T: std::str::FromStr>(&mut self, kind: &str, id: &str) -> String {
        let uid = (kind.to_owned(), id.to_owned());
        if let Some(name) = self.names.get(&uid) {
            return name.clone();
        }
        // What policies speak of keeps its name; what a solver made up gets one.
        let made_up = id.len() < 3 || id.parse::<T>().is_err();
        let mut number = 1;
        let mut name = if made_up {
            kind.to_lowercase()
        } else {
            id.to_owned()
        };
        while self
            .names
            .iter()
            .any(|((of, _), other)| of == kind && *other == name)
        {
            number += 1;
            name = format!("{}-{number}", kind.to_lowercase());
        }
        self.names.insert(uid, name.clone());
        name
    }

    fn agent(&mut self, id: &str) -> String {
        let attributes = self.attributes("Agent", id).cloned().unwrap_or_default();
        let own = attributes.get("name").and_then(Value::as_str);
        let name = own
            .filter(|name| name.len() > 2 && name.parse::<AgentName>().is_ok())
            .unwrap_or("agent")
            .to_owned();
        let mut agent = Map::new();
        if let Some(owner) = attributes.get("owner").and_then(reference) {
            agent.insert("owner".to_owned(), json!(self.user(owner.1)));
        }
        let teams = self.within::<TeamName>(("Agent", id), "Team");
        let roles = self.within::<RoleName>(("Agent", id), "Role");
        let allowed = attributes.get("allowedServices").and_then(Value::as_array);
        let allowed: Vec<String> = allowed
            .into_iter()
            .flatten()
            .filter_map(reference)
            .map(|(_, id)| self.service(id))
            .collect();
        agent.insert("teams".to_owned(), json!(teams));
        agent.insert("roles".to_owned(), json!(roles));
        agent.insert("allowed".to_owned(), json!(allowed));
        if let Some((_, env)) = attributes.get("env").and_then(reference) {
            agent.insert("env".to_owned(), json!(env));
        }
        // A solver does not know that trust is small, where it does not matter.
        let trust = attributes
            .get("trust")
            .filter(|trust| trust.as_u64().is_some_and(|trust| trust <= u8::MAX.into()));
        for (key, value) in [("trust", trust), ("suspended", attributes.get("suspended"))] {
            if let Some(value) = value {
                agent.insert(key.to_owned(), value.clone());
            }
        }
        self.agents.insert(name.clone(), Value::Object(agent));
        name
    }

    fn user(&mut self, id: &str) -> String {
        let name = self.name::<UserId>("User", id);
        if self.users.contains_key(&name) {
            return name;
        }
        let teams = self.within::<TeamName>(("User", id), "Team");
        let roles = self.within::<RoleName>(("User", id), "Role");
        let mut user = Map::new();
        user.insert("teams".to_owned(), json!(teams));
        user.insert("roles".to_owned(), json!(roles));
        if let Some(active) = self.attributes("User", id).and_then(|of| of.get("active")) {
            user.insert("active".to_owned(), active.clone());
        }
        self.users.insert(name.clone(), Value::Object(user));
        name
    }

    fn service(&mut self, id: &str) -> String {
        let name = self.name::<ServiceName>("Service", id);
        if self.services.contains_key(&name) {
            return name;
        }
        let mut service = Map::new();
        let attributes = self.attributes("Service", id);
        if let Some((_, env)) = attributes.and_then(|of| reference(of.get("env")?)) {
            service.insert("env".to_owned(), json!(env));
        }
        if let Some((_, team)) = attributes.and_then(|of| reference(of.get("owners")?)) {
            let owners = self.name::<TeamName>("Team", team);
            service.insert("owners".to_owned(), json!(owners));
        }
        let zones = self.within::<ZoneName>(("Service", id), "Zone");
        service.insert("zones".to_owned(), json!(zones));
        self.services.insert(name.clone(), Value::Object(service));
        name
    }

    /// The service and the name of a command.
    fn command(&mut self, id: &str) -> Option<(String, String)> {
        let attributes = self.attributes("Command", id)?;
        let service_id = reference(attributes.get("service")?)?.1;
        let service = self.service(service_id);
        let key = id
            .parse::<CommandKey>()
            .ok()
            .filter(|key| key.service.as_str() == service);
        let name = key.map_or_else(|| "command".to_owned(), |key| key.name.to_string());
        Some((service, name))
    }

    fn call(&mut self, id: &str) -> Option<Value> {
        let (service, name) = self.command(id)?;
        let attributes = self.attributes("Command", id)?;
        let risk = match attributes.get("risk").and_then(Value::as_i64)? {
            0 => "read",
            1 => "write",
            _ => "destroy",
        };
        let zones = self.within::<ZoneName>(("Command", id), "Zone");
        let command = json!({
            "risk": risk,
            "zones": zones,
            "pinned": attributes.get("pinned").cloned().unwrap_or(json!(true)),
        });
        if let Some(Value::Object(service)) = self.services.get_mut(&service) {
            service.insert("commands".to_owned(), json!({name.as_str(): command}));
        }
        // A command that is described takes only what its description says.
        let known = self.catalog.service(&service);
        let example = known.as_ref().and_then(|known| {
            let mut commands = known.commands.iter();
            commands.find(|command| command.name == name)
        });
        let mut args = example
            .and_then(|command| command.example.as_object().cloned())
            .unwrap_or_default();
        match self.found.context.get("input").and_then(Value::as_object) {
            Some(input) => args.extend(input.clone()),
            None => args.extend(self.arguments()),
        }
        Some(json!({"service": service, "operation": name, "args": args}))
    }

    /// The arguments, from the tags of the entities that stand for them.
    fn arguments(&self) -> Map<String, Value> {
        let mut args = Map::new();
        for kind in ["text", "number", "flag", "list"] {
            let entity = self
                .found
                .context
                .get("args")
                .and_then(|args| reference(args.get(kind)?))
                .and_then(|(kind, id)| self.entity(kind, id));
            let tags = entity.and_then(|entity| entity.get("tags")?.as_object());
            for (path, value) in tags.into_iter().flatten() {
                put(&mut args, &parts(path), value.clone());
            }
        }
        args
    }

    fn grants(&mut self) -> Vec<Value> {
        let found = self.found;
        let of = |name: &str| {
            self.attributes(&found.resource.0, &found.resource.1)
                .and_then(|of| of.get(name)?.as_str())
        };
        let keys = [
            (found.context.get("callKey").and_then(Value::as_str), 'x'),
            (of("key"), 'c'),
            (of("serviceKey"), 's'),
        ];
        let tags = self
            .entity("Agent", &found.principal.1)
            .and_then(|agent| agent.get("tags")?.as_object());
        let mut grants = Vec::new();
        for (key, reach) in keys {
            let grant = key.and_then(|key| tags?.get(key)?.as_object());
            let told = grant.and_then(|grant| self.grant(grant, reach));
            grants.extend(told);
        }
        grants
    }

    fn grant(&mut self, grant: &Map<String, Value>, reach: char) -> Option<Value> {
        let (service, command) = self.command(&self.found.resource.1)?;
        let issued = millis(grant.get("issued")?)?;
        let life = millis(grant.get("expires")?)?.checked_sub(issued)?;
        let people = ["first", "second"].map(|slot| grant.get(slot).and_then(reference));
        let by: Vec<String> = people
            .into_iter()
            .flatten()
            .map(|(_, id)| self.user(id))
            .collect();
        let (key, of) = match reach {
            'x' => ("call", "this".to_owned()),
            'c' => ("command", format!("{service}/{command}")),
            _ => ("service", service),
        };
        let risk = match grant.get("risk").and_then(Value::as_i64)? {
            0 => "read",
            1 => "write",
            _ => "destroy",
        };
        Some(json!({
            key: of,
            "by": by,
            "for": span(life)?,
            "risk": risk,
            "issued": authz::Timestamp::from_millis(issued).to_string(),
        }))
    }
}

/// The type and id that a value of Cedar's JSON names.
fn reference(value: &Value) -> Option<(&str, &str)> {
    let value = value.get("__entity").unwrap_or(value);
    Some((value.get("type")?.as_str()?, value.get("id")?.as_str()?))
}

/// The one argument of an extension's value.
fn argument(value: &Value) -> Option<&str> {
    value.get("__extn")?.get("arg")?.as_str()
}

/// An address, of what Cedar takes for a network of one.
fn address(text: &str) -> Option<&str> {
    let alone = text
        .strip_suffix("/32")
        .or_else(|| text.strip_suffix("/128"));
    alone.unwrap_or(text).parse::<std::net::IpAddr>().ok()?;
    Some(alone.unwrap_or(text))
}

/// A time or a span of Cedar's JSON in milliseconds.
fn millis(value: &Value) -> Option<i64> {
    let extension = value.get("__extn")?;
    match extension.get("fn")?.as_str()? {
        "offset" => {
            let [time, span] = extension.get("args")?.as_array()?.as_slice() else {
                return None;
            };
            millis(time)?.checked_add(millis(span)?)
        }
        "datetime" => {
            let text = argument(value)?;
            let whole = if text.contains('T') {
                text.to_owned()
            } else {
                format!("{text}T00:00:00Z")
            };
            Some(whole.parse::<authz::Timestamp>().ok()?.as_millis())
        }
        "duration" => argument(value)?.strip_suffix("ms")?.parse().ok(),
        _ => None,
    }
}

/// A span as tests write it.
fn span(millis: i64) -> Option<String> {
    let millis = u64::try_from(millis).ok()?;
    let mut text = String::new();
    let mut rest = millis;
    for (unit, name) in [
        (86_400_000, "d"),
        (3_600_000, "h"),
        (60_000, "m"),
        (1_000, "s"),
        (1, "ms"),
    ] {
        if rest >= unit {
            let _ = write!(text, "{}{name}", rest / unit);
            rest %= unit;
        }
    }
    Some(if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    })
}

/// The names within the name of a tag: see `authz::arguments`.
fn parts(path: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut letters = path.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '.' => parts.push(String::new()),
            letter => {
                let letter = match letter {
                    '\\' => letters.next().unwrap_or('\\'),
                    other => other,
                };
                if let Some(part) = parts.last_mut() {
                    part.push(letter);
                }
            }
        }
    }
    parts
}

fn put(args: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            args.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = args
                .entry(first.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// A draft as a test file.
fn text(draft: &Value) -> String {
    let mut text = String::new();
    for key in ["now", "ip"] {
        if let Some(value) = draft.get(key).filter(|value| !value.is_null()) {
            let _ = writeln!(text, "{key}: {}", flow(value));
        }
    }
    for key in ["agents", "users", "services"] {
        let members = draft.get(key).and_then(Value::as_object);
        let members = members.filter(|members| !members.is_empty());
        for (at, (name, value)) in members.into_iter().flatten().enumerate() {
            if at == 0 {
                let _ = writeln!(text, "{key}:");
            }
            let _ = writeln!(text, "  {}: {}", scalar(name), flow(value));
        }
    }
    text.push_str("tests:\n");
    let asked = draft.get("test");
    let order = [
        "name",
        "agent",
        "call",
        "grants",
        "may",
        "user",
        "reach",
        "for",
        "requester",
        "approved_by",
        "mfa",
        "session",
        "expect",
    ];
    for key in order {
        let Some(value) = asked.and_then(|asked| asked.get(key)) else {
            continue;
        };
        let mark = if key == "name" { "-" } else { " " };
        let _ = writeln!(text, "  {mark} {key}: {}", flow(value));
    }
    text
}

/// A value on one line.
fn flow(value: &Value) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Value::String(text) => scalar(text),
        Value::Array(items) => format!("[{}]", list(items.iter().map(flow).collect())),
        Value::Object(members) => {
            let member =
                |(key, value): (&String, &Value)| format!("{}: {}", scalar(key), flow(value));
            format!("{{{}}}", list(members.iter().map(member).collect()))
        }
        other => other.to_string(),
    }
}

/// Text as it is where YAML takes it for text, else in quotes.
fn scalar(text: &str) -> String {
    let words = ["yes", "no", "on", "off", "y", "n", "true", "false", "null"];
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_-./@".contains(&byte);
    let is_span = text.parse::<super::format::Span>().is_ok();
    let plain = text.bytes().all(letter)
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && !words.contains(&text.to_ascii_lowercase().as_str());
    if plain || is_span {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_yaml_would_take_for_something_else_is_in_quotes() {
        for (value, expected) in [
            ("abc/d-e", "abc/d-e"),
            ("1h30m", "1h30m"),
            ("yes", "\"yes\""),
            ("1e3", "\"1e3\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("\u{1}\"", "\"\\u0001\\\"\""),
        ] {
            assert_eq!(scalar(value), expected);
        }
        let value = json!({"a": [1, true, "x y"], "null": {}});
        assert_eq!(flow(&value), "{a: [1, true, \"x y\"], \"null\": {}}");
    }

    #[test]
    fn spans_and_times_are_read_and_written() {
        for (millis, expected) in [(0, "0s"), (3_600_000, "1h"), (90_061_001, "1d1h1m1s1ms")] {
            assert_eq!(span(millis).unwrap(), expected);
            let read: super::super::format::Span = expected.parse().unwrap();
            assert_eq!(i64::try_from(read.0.as_millis()).unwrap(), millis);
        }
        assert_eq!(span(-1), None);
        let duration = |text: &str| json!({"__extn": {"fn": "duration", "arg": text}});
        let day = json!({"__extn": {"fn": "datetime", "arg": "1970-01-02"}});
        let later = json!({"__extn": {"fn": "offset", "args": [day, duration("5ms")]}});
        assert_eq!(millis(&later), Some(86_400_005));
        assert_eq!(millis(&duration("5s")), None);
    }

    #[test]
    fn what_is_not_needed_is_left_out() {
        let mut draft =
            json!({"agents": {"a": {"x": 1, "y": [1, 2, 3]}}, "test": {"name": "n", "z": 1}});
        shrink(&mut draft, "", &|draft| {
            draft
                .pointer("/agents/a/y")
                .and_then(Value::as_array)
                .is_some_and(|items| items.contains(&json!(2)))
        });
        assert_eq!(
            draft,
            json!({"agents": {"a": {"y": [2]}}, "test": {"name": "n"}})
        );
    }

    #[test]
    fn names_within_names_are_told_apart() {
        assert_eq!(parts("a.b"), ["a", "b"]);
        assert_eq!(parts("a\\.b"), ["a.b"]);
        assert_eq!(parts("a\\\\.b"), ["a\\", "b"]);
        let mut args = Map::new();
        put(&mut args, &parts("a.b"), json!(1));
        put(&mut args, &parts("a.c"), json!(2));
        assert_eq!(Value::Object(args), json!({"a": {"b": 1, "c": 2}}));
    }
}
