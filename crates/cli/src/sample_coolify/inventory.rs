//! What the sample Coolify holds, and how it changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::parameter;

/// Every time that the sample shows: it has no clock.
const THEN: &str = "2026-01-01T00:00:00.000000Z";

/// What there is several of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Application,
    Database,
    Project,
    Server,
    Service,
}

impl Kind {
    /// By the first segment of a path.
    pub(super) fn of(segment: &str) -> Option<Self> {
        Some(match segment {
            "applications" => Self::Application,
            "databases" => Self::Database,
            "projects" => Self::Project,
            "servers" => Self::Server,
            "services" => Self::Service,
            _ => return None,
        })
    }

    /// As messages begin.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Database => "Database",
            Self::Project => "Project",
            Self::Server => "Server",
            Self::Service => "Service",
        }
    }
}

/// Everything, by kind and in order.
#[derive(Debug)]
pub(super) struct Inventory {
    things: BTreeMap<Kind, Vec<Value>>,
    deployments: Vec<Value>,
    envs: BTreeMap<String, Vec<Value>>,
    made: u32,
}

/// Like Coolify's: 24 lower-case letters and digits.
fn uuid(word: &str, number: u32) -> String {
    let width = 24_usize.saturating_sub(word.len());
    format!("{word}{number:0width$}")
}

fn server(number: u32, ip: &str) -> Value {
    json!({
        "uuid": uuid("sampleserver", number),
        "name": format!("sample-server-{number}"),
        "description": "Part of Cedargate's sample Coolify; no such machine exists",
        "ip": ip,
        "user": "root",
        "port": 22,
        "proxy_type": "TRAEFIK",
        "proxy": {"type": "TRAEFIK", "status": "running"},
        "high_disk_usage_notification_sent": false,
        "unreachable_notification_sent": false,
        "unreachable_count": 0,
        "swarm_cluster": "",
        "log_drain_notification_sent": false,
        "is_reachable": true,
        "is_usable": true,
        "settings": {
            "concurrent_builds": 2,
            "is_reachable": true,
            "is_usable": true,
            "is_build_server": false,
            "is_metrics_enabled": false,
            "created_at": THEN,
            "updated_at": THEN,
        },
    })
}

fn application(number: u32, word: &str, status: &str) -> Value {
    json!({
        "uuid": uuid("sampleapp", number),
        "name": format!("sample-{word}"),
        "description": null,
        "fqdn": format!("https://{word}.sample.invalid"),
        "git_repository": format!("sample/{word}"),
        "git_branch": "main",
        "git_commit_sha": "HEAD",
        "build_pack": "nixpacks",
        "ports_exposes": "3000",
        "status": status,
        "environment_id": 1,
        "destination_id": 0,
        "created_at": THEN,
        "updated_at": THEN,
    })
}

fn database(number: u32, word: &str, kind: &str, status: &str) -> Value {
    json!({
        "uuid": uuid("sampledatabase", number),
        "name": format!("sample-{word}"),
        "description": null,
        "database_type": kind,
        "type": kind,
        "image": "sample:1",
        "is_public": false,
        "public_port": null,
        "status": status,
        "created_at": THEN,
        "updated_at": THEN,
    })
}

impl Inventory {
    pub(super) fn new() -> Self {
        let service = json!({
            "uuid": uuid("sampleservice", 1),
            "name": "sample-analytics",
            "description": "Part of Cedargate's sample Coolify",
            "service_type": "umami",
            "status": "running:healthy",
            "server_id": 1,
            "environment_id": 1,
            "created_at": THEN,
            "updated_at": THEN,
        });
        let project = json!({
            "id": 1,
            "uuid": uuid("sampleproject", 1),
            "name": "sample-project",
            "description": "Part of Cedargate's sample Coolify",
        });
        let things = BTreeMap::from([
            (
                Kind::Server,
                vec![server(1, "192.0.2.10"), server(2, "192.0.2.11")],
            ),
            (
                Kind::Application,
                vec![
                    application(1, "shop", "running:healthy"),
                    application(2, "blog", "exited:unhealthy"),
                ],
            ),
            (
                Kind::Database,
                vec![
                    database(1, "orders", "standalone-postgresql", "running:healthy"),
                    database(2, "cache", "standalone-redis", "running:healthy"),
                ],
            ),
            (Kind::Service, vec![service]),
            (Kind::Project, vec![project]),
        ]);
        let env = json!({
            "uuid": uuid("sampleenv", 1),
            "key": "NODE_ENV",
            "value": "production",
            "is_preview": false,
            "is_literal": false,
            "is_multiline": false,
            "is_shown_once": false,
            "created_at": THEN,
            "updated_at": THEN,
        });
        let envs = BTreeMap::from([(uuid("sampleapp", 1), vec![env])]);
        Self {
            things,
            deployments: Vec::new(),
            envs,
            made: 1,
        }
    }

    fn next(&mut self) -> u32 {
        self.made = self.made.saturating_add(1);
        self.made
    }

    fn all(&self, kind: Kind) -> &[Value] {
        self.things.get(&kind).map_or(&[], Vec::as_slice)
    }

    pub(super) fn list(&self, kind: Kind) -> Value {
        Value::from(self.all(kind).to_vec())
    }

    pub(super) fn find(&self, kind: Kind, uuid: &str) -> Option<Value> {
        self.all(kind)
            .iter()
            .find(|thing| thing.get("uuid").is_some_and(|own| own == uuid))
            .cloned()
    }

    pub(super) fn delete(&mut self, kind: Kind, uuid: &str) {
        if let Some(things) = self.things.get_mut(&kind) {
            things.retain(|thing| thing.get("uuid").is_none_or(|own| own != uuid));
        }
    }

    pub(super) fn create_project(&mut self, name: &str, description: Option<&Value>) -> Value {
        let number = self.next();
        let uuid = uuid("sampleproject", number);
        let project = json!({"id": number, "uuid": uuid, "name": name, "description": description.and_then(Value::as_str).unwrap_or_default()});
        self.things.entry(Kind::Project).or_default().push(project);
        json!({"uuid": uuid})
    }

    /// Starts, stops or restarts.
    pub(super) fn act(&mut self, kind: Kind, uuid: &str, verb: &str) -> Value {
        let status = if verb == "stop" {
            "exited:unhealthy"
        } else {
            "running:healthy"
        };
        let thing = self.things.get_mut(&kind).and_then(|things| {
            things
                .iter_mut()
                .find(|thing| thing.get("uuid").is_some_and(|own| own == uuid))
        });
        if let Some(Value::Object(thing)) = thing {
            thing.insert("status".to_owned(), status.into());
        }
        match (kind, verb) {
            (Kind::Application, "start" | "restart") => {
                let deployment = self.queue(uuid, verb == "restart");
                let words = if verb == "start" {
                    "Deployment"
                } else {
                    "Restart"
                };
                json!({"message": format!("{words} request queued."), "deployment_uuid": deployment})
            }
            (_, "start") => json!({"message": format!("{} starting request queued.", kind.word())}),
            (_, "stop") => json!({"message": format!("{} stopping request queued.", kind.word())}),
            _ => json!({"message": format!("{} restarting request queued.", kind.word())}),
        }
    }

    /// Queues a deployment of an application and names it.
    fn queue(&mut self, application: &str, restart_only: bool) -> String {
        let number = self.next();
        let deployment = uuid("sampledeployment", number);
        let name = self
            .find(Kind::Application, application)
            .and_then(|found| found.get("name").cloned())
            .unwrap_or_default();
        self.deployments.push(json!({
            "id": number,
            "application_id": application,
            "deployment_uuid": deployment,
            "application_name": name,
            "server_name": "sample-server-1",
            "status": "in_progress",
            "commit": "HEAD",
            "force_rebuild": false,
            "is_api": true,
            "is_webhook": false,
            "restart_only": restart_only,
            "created_at": THEN,
            "updated_at": THEN,
        }));
        deployment
    }

    /// Deploys what has this uuid, if anything has.
    pub(super) fn deploy(&mut self, uuid: &str) -> Option<Value> {
        for kind in [Kind::Application, Kind::Service, Kind::Database] {
            let Some(found) = self.find(kind, uuid) else {
                continue;
            };
            let name = found
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default();
            if kind == Kind::Application {
                let deployment = self.queue(uuid, false);
                let message = format!("Application {name} deployment queued.");
                return Some(
                    json!({"message": message, "resource_uuid": uuid, "deployment_uuid": deployment}),
                );
            }
            let message = format!("{} {name} started.", kind.word());
            self.act(kind, uuid, "start");
            return Some(json!({"message": message, "resource_uuid": uuid}));
        }
        None
    }

    pub(super) fn running_deployments(&self) -> Value {
        let running = |deployment: &&Value| {
            deployment
                .get("status")
                .is_some_and(|status| status == "queued" || status == "in_progress")
        };
        self.deployments.iter().filter(running).cloned().collect()
    }

    pub(super) fn deployment(&self, uuid: &str) -> Option<Value> {
        self.deployments
            .iter()
            .find(|deployment| {
                deployment
                    .get("deployment_uuid")
                    .is_some_and(|own| own == uuid)
            })
            .cloned()
    }

    /// Cancels, or says in what state it is that cannot be cancelled.
    pub(super) fn cancel_deployment(&mut self, uuid: &str) -> Option<Result<Value, String>> {
        let deployment = self
            .deployments
            .iter_mut()
            .find(|deployment| {
                deployment
                    .get("deployment_uuid")
                    .is_some_and(|own| own == uuid)
            })?
            .as_object_mut()?;
        let status = deployment
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or_default();
        if !matches!(status, "queued" | "in_progress") {
            return Some(Err(status.to_owned()));
        }
        deployment.insert("status".to_owned(), "cancelled-by-user".into());
        Some(Ok(json!({
            "message": "Deployment cancelled successfully.",
            "deployment_uuid": uuid,
            "status": "cancelled-by-user",
        })))
    }

    /// Newest first; Coolify wraps this one, whatever its OpenAPI document says.
    pub(super) fn history(&self, application: &str, query: &str) -> Value {
        let number = |name, default| {
            parameter(query, name)
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let of_it: Vec<&Value> = self
            .deployments
            .iter()
            .rev()
            .filter(|deployment| {
                deployment
                    .get("application_id")
                    .is_some_and(|own| own == application)
            })
            .collect();
        let count = of_it.len();
        let page: Vec<Value> = of_it
            .into_iter()
            .skip(number("skip", 0))
            .take(number("take", 10))
            .cloned()
            .collect();
        json!({"count": count, "deployments": page})
    }

    /// The last lines of what is running; absent if it is not.
    pub(super) fn logs(&self, kind: Kind, uuid: &str, query: &str) -> Option<String> {
        let thing = self.find(kind, uuid)?;
        if !thing
            .get("status")
            .and_then(Value::as_str)?
            .starts_with("running")
        {
            return None;
        }
        let name = thing.get("name").and_then(Value::as_str)?;
        let wanted = parameter(query, "lines")
            .and_then(|text| text.parse().ok())
            .unwrap_or(100)
            .min(10_000);
        let lines = [
            "starting",
            "connected to the database",
            "listening on port 3000",
            "GET / 200",
        ];
        let skip = lines.len().saturating_sub(wanted);
        let lines = lines
            .iter()
            .skip(skip)
            .map(|line| format!("{name}: {line}"));
        Some(lines.collect::<Vec<_>>().join("\n"))
    }

    pub(super) fn envs(&self, uuid: &str) -> Value {
        Value::from(self.envs.get(uuid).cloned().unwrap_or_default())
    }

    pub(super) fn set_env(&mut self, of: &str, key: &str, value: Option<&Value>) -> Value {
        let name = uuid("sampleenv", self.next());
        let env = json!({
            "uuid": name, "key": key, "value": value, "is_preview": false, "is_literal": false,
            "is_multiline": false, "is_shown_once": false, "created_at": THEN, "updated_at": THEN,
        });
        let envs = self.envs.entry(of.to_owned()).or_default();
        envs.retain(|env| env.get("key").is_none_or(|own| own != key));
        envs.push(env);
        json!({"uuid": name})
    }

    fn deployable(&self) -> impl Iterator<Item = (Kind, &Value)> {
        [Kind::Application, Kind::Database, Kind::Service]
            .into_iter()
            .flat_map(|kind| self.all(kind).iter().map(move |thing| (kind, thing)))
    }

    pub(super) fn resources(&self) -> Value {
        let with_type = |(kind, thing): (Kind, &Value)| {
            let mut thing = thing.clone();
            if let Value::Object(thing) = &mut thing {
                thing.insert("type".to_owned(), kind.word().to_lowercase().into());
            }
            thing
        };
        self.deployable().map(with_type).collect()
    }

    /// Everything runs on the first server.
    pub(super) fn server_resources(&self, uuid: &str) -> Value {
        if self
            .all(Kind::Server)
            .first()
            .is_none_or(|first| first.get("uuid").is_none_or(|own| own != uuid))
        {
            return json!([]);
        }
        self.deployable()
            .zip(1_u32..)
            .map(|((kind, thing), id)| {
                json!({
                    "id": id, "uuid": thing.get("uuid"), "name": thing.get("name"),
                    "type": kind.word().to_lowercase(), "status": thing.get("status"),
                    "created_at": THEN, "updated_at": THEN,
                })
            })
            .collect()
    }

    pub(super) fn server_domains(&self, uuid: &str) -> Value {
        let Some(server) = self.find(Kind::Server, uuid) else {
            return json!([]);
        };
        let domains: Vec<&str> = self
            .all(Kind::Application)
            .iter()
            .filter_map(|application| application.get("fqdn")?.as_str()?.strip_prefix("https://"))
            .collect();
        json!([{"ip": server.get("ip"), "domains": domains}])
    }

    pub(super) fn environments(&self, project: &str) -> Option<Value> {
        self.find(Kind::Project, project)?;
        Some(json!([{
            "id": 1, "uuid": uuid("sampleenvironment", 1), "name": "production", "project_id": 1,
            "description": "", "created_at": THEN, "updated_at": THEN,
        }]))
    }

    pub(super) fn environment(&self, project: &str, name: &str) -> Option<Value> {
        self.environments(project)?
            .as_array()?
            .iter()
            .find(|environment| {
                ["name", "uuid"]
                    .iter()
                    .any(|key| environment.get(key).is_some_and(|own| own == name))
            })
            .cloned()
    }

    pub(super) fn team() -> Value {
        json!({
            "id": 0, "name": "sample-team", "description": "Part of Cedargate's sample Coolify",
            "personal_team": true, "created_at": THEN, "updated_at": THEN, "show_boarding": false,
        })
    }

    pub(super) fn teams() -> Value {
        json!([Self::team()])
    }

    pub(super) fn members() -> Value {
        json!([{"id": 0, "name": "sample-member", "email": "member@sample.invalid"}])
    }
}
