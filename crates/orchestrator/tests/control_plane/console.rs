//! What operators look at: services, explanations, the audit trail, numbers, policy sets;
//! as API and as pages.

use std::time::Duration;

use axum::http::StatusCode;
use contract::{
    audit::{JournalLine, ShipJournal, Verification},
    catalog::GatewayCatalog,
    explain::{ExplainCommand, HypotheticalGrant, HypotheticalSession},
    gateways::GatewayStatus,
    overview::Range,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    pages::{SAME, get, log_in, post},
    plane::Plane,
};

/// What somebody may write who wants to be taken for markup, SQL, a terminal's commands, or
/// text in another order.
const HOSTILE: &str = "<script>alert('x')</script>\"'; DROP TABLE audit; --\u{1b}[31m\u{202e}gpj";

/// That nothing of it came through.
fn harmless(page: &str, what: &str) {
    assert!(!page.contains("<script>alert"), "{what}: markup");
    assert!(
        !page.contains('\u{1b}') && !page.contains('\u{202e}'),
        "{what}: hidden letters"
    );
    assert!(
        !page.contains("style=\""),
        "{what}: the policy of contents forbids it"
    );
}

pub(crate) fn catalog(gateway: &str, digest: &str) -> GatewayCatalog {
    let command = |name: &str, risk: &str, arguments: Value| {
        json!({
            "name": name, "summary": format!("{name} {HOSTILE}"), "risk": risk, "pinned": true,
            "arguments": {
                "type": "object", "additionalProperties": false, "properties": arguments,
            },
            "usage": name, "example": {},
        })
    };
    serde_json::from_value(json!({
        "gateway": gateway, "digest": digest,
        "services": [{
            "name": "coolify", "env": "prod", "owners": "platform", "zones": ["pci"],
            "kind": "http", "version": "1", "description": HOSTILE, "status": "error",
            "problem": HOSTILE, "aliases": ["cool"],
            "commands": [
                command("list-servers", "read", json!({
                    "tag": {"type": "string", "description": HOSTILE, "default": "all"},
                })),
                command("deploy", "write", json!({"uuid": {"type": "string", "maxLength": 10}})),
            ],
        }],
    }))
    .unwrap()
}

/// A gateway that has told what it is and can do.
pub(crate) async fn told(plane: &Plane, gateway: &str) {
    let status = GatewayStatus {
        gateway: gateway.to_owned(),
        software: "1.0.0".to_owned(),
        version: None,
        since: None,
        last_known_good: true,
        shadow: None,
        problem: None,
        catalog: Some("d1".to_owned()),
        services: Vec::new(),
    };
    let told = plane.gateway.report_status(&status).await.unwrap();
    assert!(told.catalog_wanted);
    plane
        .gateway
        .report_catalog(&catalog(gateway, "d1"))
        .await
        .unwrap();
    let told = plane.gateway.report_status(&status).await.unwrap();
    assert!(!told.catalog_wanted, "it is known now");
}

/// A gateway's journal, as it writes one.
struct Journal {
    gateway: &'static str,
    previous: String,
    sequence: i64,
}

impl Journal {
    fn new(gateway: &'static str) -> Self {
        Self {
            gateway,
            previous: "0".repeat(64),
            sequence: 0,
        }
    }

    fn line(&mut self, plane: &Plane, kind: &str, details: Value) -> JournalLine {
        self.sequence += 1;
        let mut entry = json!({
            "sequence": self.sequence, "previous": self.previous, "at": plane.now(),
            "gateway": self.gateway, "kind": kind,
        });
        let members = entry.as_object_mut().unwrap();
        let Value::Object(details) = details else {
            panic!("an object")
        };
        members.extend(details);
        let text = entry.to_string();
        let hash = hex::encode(Sha256::digest(&text));
        self.previous.clone_from(&hash);
        JournalLine {
            sequence: self.sequence,
            text: format!("{},\"hash\":\"{hash}\"}}", &text[..text.len() - 1]),
        }
    }

    async fn ship(&self, plane: &Plane, lines: Vec<JournalLine>) {
        let ship = ShipJournal {
            gateway: self.gateway.to_owned(),
            lines,
        };
        let stored = plane.gateway.ship_journal(&ship).await.unwrap();
        assert_eq!(stored.through, self.sequence);
    }
}

/// One permitted command, one refusal and one that was put before people, of this agent.
async fn decided(plane: &Plane, agent: authz::AgentId) -> Journal {
    let mut journal = Journal::new("edge");
    let of = |decision: &str, more: Value| {
        let mut details = json!({
            "decision": decision, "agent": agent, "agent_name": "bot",
            "command": "coolify/list-servers", "arguments": {"tag": HOSTILE},
        });
        details
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        details
    };
    let lines = vec![
        journal.line(plane, "start", json!({})),
        journal.line(
            plane,
            "intent",
            of(
                "dec_1",
                json!({"decision_us": 150, "policies": ["standing.access"]}),
            ),
        ),
        journal.line(
            plane,
            "outcome",
            of("dec_1", json!({"status": "success", "duration_ms": 40})),
        ),
        journal.line(
            plane,
            "refusal",
            of(
                "dec_2",
                json!({
                    "command": "coolify/deploy", "outcome": "refused", "reason": "policy",
                    "policies": ["wall.one", HOSTILE], "decision_us": 90,
                }),
            ),
        ),
        journal.line(
            plane,
            "refusal",
            of(
                "dec_3",
                json!({"outcome": "pending", "reason": "policy", "policies": []}),
            ),
        ),
    ];
    journal.ship(plane, lines).await;
    journal
}

#[tokio::test]
async fn services_are_those_that_gateways_told_of() {
    let plane = Plane::new().await;
    assert!(plane.admin.services().await.unwrap().is_empty());
    told(&plane, "edge").await;
    let services = plane.admin.services().await.unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].service.commands_by_risk.all(), 2);
    assert_eq!(
        (services[0].commands.as_ref(), services[0].differs),
        (None, false)
    );
    let coolify = plane
        .admin
        .service(&"coolify".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(coolify.commands.unwrap()[1].name.as_str(), "deploy");
    assert_eq!(coolify.gateways[0].status, "error");

    // Another gateway takes other arguments.
    plane.pass(Duration::from_secs(1));
    told(&plane, "other").await;
    let mut other = catalog("other", "d2");
    other.services[0].commands.pop();
    plane.gateway.report_catalog(&other).await.unwrap();
    assert!(plane.admin.services().await.unwrap()[0].differs);

    let missing = plane
        .admin
        .service(&"nowhere".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(missing.status(), Some(StatusCode::NOT_FOUND));
    for wrong in ["", "a\u{7}b"] {
        let error = plane
            .gateway
            .report_catalog(&catalog(wrong, "d"))
            .await
            .unwrap_err();
        assert_eq!(error.status(), Some(StatusCode::BAD_REQUEST), "{wrong}");
    }
    let error = plane
        .admin
        .report_catalog(&catalog("x", "d"))
        .await
        .unwrap_err();
    assert_eq!(
        error.status(),
        Some(StatusCode::UNAUTHORIZED),
        "not for people"
    );
}

fn question(agent: &str, command: &str) -> ExplainCommand {
    ExplainCommand {
        agent: agent.to_owned(),
        command: command.parse().unwrap(),
        arguments: Map::new(),
        gateway: None,
        policy_set: None,
        at: None,
        ip: None,
        session: None,
        grants: Vec::new(),
    }
}

#[tokio::test]
async fn explanations_have_no_effect() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let agent = plane.agent("bot", None).await.agent;
    let (security, _) = plane.person("sam", &["security"]).await;
    let recorded = plane.admin.audit(0, 1_000, None).await.unwrap().len();

    let asked = plane
        .admin
        .explain(&question("bot", "coolify/list-servers"))
        .await
        .unwrap();
    assert_eq!(
        (asked.agent, asked.in_force, asked.grants),
        (agent.id, true, 0)
    );
    assert_eq!(asked.explanation.verdict.as_str(), "escalate");
    assert_eq!(
        asked.arguments["tag"], "all",
        "the default is part of the command"
    );

    // With a grant that nobody gave.
    let granted = ExplainCommand {
        grants: vec![HypotheticalGrant {
            reach: authz::approval::Reach::Call,
            approvals: 1,
            risk: None,
        }],
        ..question("bot", "coolify/list-servers")
    };
    let permitted = plane.admin.explain(&granted).await.unwrap();
    assert_eq!(permitted.explanation.verdict.as_str(), "permit");
    assert!(permitted.explanation.grant.is_some());

    // In a session that nobody has.
    assert_eq!(asked.session, authz::Session::fresh(asked.at));
    let imagined = ExplainCommand {
        session: Some(HypotheticalSession {
            tainted: true,
            calls: 4,
            seconds: 60,
        }),
        ..question("bot", "coolify/list-servers")
    };
    let session = plane.admin.explain(&imagined).await.unwrap().session;
    assert!(session.tainted && session.calls == 4);

    // Under a stored version that permits everything to everyone.
    let mut sources = plane
        .admin
        .policy_set(&asked.policy_set)
        .await
        .unwrap()
        .sources
        .unwrap();
    sources.policies = vec![authz::Source {
        name: "open.cedar".to_owned(),
        text: "@id(\"open.all\") permit (principal, action in [Action::\"invoke\", Action::\"list\"], resource);".to_owned(),
    }];
    let push = contract::policy_sets::PushPolicySet {
        sources,
        then: contract::policy_sets::Then::Store,
        reason: String::new(),
        allow_lockout: false,
    };
    assert!(security.push_policy_set(&push).await.unwrap().changed);
    let version = plane
        .admin
        .policy_sets()
        .await
        .unwrap()
        .into_iter()
        .find(|set| !set.active)
        .unwrap()
        .version;
    for _ in 0..2 {
        let other = ExplainCommand {
            policy_set: Some(version.clone()),
            ..question("bot", "coolify/deploy")
        };
        let open = plane.admin.explain(&other).await.unwrap();
        assert_eq!(
            (open.explanation.policies.as_slice(), open.in_force),
            (["open.all".to_owned()].as_slice(), false)
        );
    }

    for (name, wrong, status) in [
        ("agent", question("nobody", "coolify/deploy"), 404),
        ("command", question("bot", "coolify/fly"), 404),
        (
            "gateway",
            ExplainCommand {
                gateway: Some("none".to_owned()),
                ..question("bot", "coolify/deploy")
            },
            404,
        ),
        (
            "policy set",
            ExplainCommand {
                policy_set: Some("0".repeat(64).parse().unwrap()),
                ..question("bot", "coolify/deploy")
            },
            404,
        ),
        (
            "arguments",
            ExplainCommand {
                arguments: json!({"uuid": "x".repeat(11)}).as_object().unwrap().clone(),
                ..question("bot", "coolify/deploy")
            },
            400,
        ),
        (
            "grants",
            ExplainCommand {
                grants: vec![HypotheticalGrant {
                    reach: authz::approval::Reach::Call,
                    approvals: 3,
                    risk: None,
                }],
                ..question("bot", "coolify/deploy")
            },
            400,
        ),
        (
            "many",
            ExplainCommand {
                grants: vec![
                    HypotheticalGrant {
                        reach: authz::approval::Reach::Call,
                        approvals: 1,
                        risk: None
                    };
                    9
                ],
                ..question("bot", "coolify/deploy")
            },
            400,
        ),
    ] {
        let error = plane.admin.explain(&wrong).await.unwrap_err();
        assert_eq!(error.status().unwrap().as_u16(), status, "{name}: {error}");
    }
    let after = plane.admin.audit(0, 1_000, None).await.unwrap();
    let kinds: Vec<_> = after[recorded..]
        .iter()
        .map(|entry| entry.kind.as_str())
        .collect();
    assert_eq!(kinds, ["policy_set_stored"], "what was asked left no trace");
    assert!(plane.admin.approvals(true).await.unwrap().is_empty());
    let (viewer, _) = plane.person("vera", &["viewer"]).await;
    viewer
        .explain(&question("bot", "coolify/deploy"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_trail_is_searched_paged_and_exported() {
    let plane = Plane::new().await;
    let agent = plane.agent("bot", None).await.agent;
    decided(&plane, agent.id).await;
    let token = Some(plane.admin_token.as_str());
    let found = async |query: &str| {
        let answer = plane
            .call("GET", &format!("/api/audit?{query}"), token, None)
            .await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.body);
        let entries = answer.json();
        let kinds: Vec<_> = entries
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["kind"].as_str().unwrap().to_owned())
            .collect();
        (kinds, answer.header("link").to_owned())
    };
    for (query, expected) in [
        (
            "order=newest&agent=bot&kind=refusal",
            vec!["refusal", "refusal"],
        ),
        ("order=newest&outcome=pending", vec!["refusal"]),
        ("order=newest&decision=dec_1", vec!["outcome", "intent"]),
        ("order=newest&command=coolify/deploy", vec!["refusal"]),
        (
            "order=newest&service=coolify&outcome=permitted",
            vec!["intent"],
        ),
        (
            "order=newest&user=admin&kind=agent_created",
            vec!["agent_created"],
        ),
        ("order=newest&text=WALL.one", vec!["refusal"]),
        ("order=newest&agent=nobody", vec![]),
        ("order=newest&until=2020-01-01T00:00:00Z", vec![]),
        ("agent=bot&command=coolify/deploy", vec!["refusal"]),
    ] {
        assert_eq!(found(query).await.0, expected, "{query}");
    }

    // Page by page to the end.
    let (mut kinds, mut link) = found("order=newest&limit=3").await;
    while let Some(next) = link
        .strip_prefix("</api/audit?")
        .and_then(|rest| rest.split('>').next())
    {
        let (more, after) = found(next).await;
        kinds.extend(more);
        link = after;
    }
    let all = plane.admin.audit(0, 1_000, None).await.unwrap();
    assert_eq!(kinds.len(), all.len());

    let export = plane
        .call("GET", "/api/audit/export?agent=bot", token, None)
        .await;
    assert_eq!(
        (export.status.as_u16(), export.header("content-type")),
        (200, "application/x-ndjson")
    );
    let lines: Vec<Value> = export
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 5, "four of its commands, and its making");
    assert_eq!(lines[0]["kind"], "refusal");
    let none = plane
        .call("GET", "/api/audit/export?agent=nobody", token, None)
        .await;
    assert_eq!((none.status.as_u16(), none.body.as_str()), (200, ""));

    for wrong in [
        "kind=refusal",
        "order=sideways",
        "nonsense=1",
        "order=newest&limit=0",
        "order=newest&before=x",
        "order=newest&after=1",
        "order=newest&agent=%00",
    ] {
        let answer = plane
            .call("GET", &format!("/api/audit?{wrong}"), token, None)
            .await;
        assert_eq!(answer.status, 400, "{wrong}: {}", answer.body);
    }
    let unknown = plane
        .call("GET", "/api/audit?agent=nobody", token, None)
        .await;
    assert_eq!(unknown.status, 404);
}

async fn verified(plane: &Plane) -> Vec<Verification> {
    let token = Some(plane.admin_token.as_str());
    let begun = plane
        .call("POST", "/api/audit/verification", token, None)
        .await;
    assert_eq!(begun.status, 202);
    loop {
        let answer = plane
            .call("GET", "/api/audit/verification", token, None)
            .await;
        let found: Vec<Verification> = serde_json::from_str(&answer.body).unwrap();
        if found.iter().all(|one| !one.running) {
            return found;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn stored_journals_are_verified() {
    let plane = Plane::new().await;
    let agent = plane.agent("bot", None).await.agent;
    let mut journal = decided(&plane, agent.id).await;
    let many: Vec<_> = (0..1_500)
        .map(|number| journal.line(&plane, "start", json!({"n": number})))
        .collect();
    for some in many.chunks(400) {
        let ship = ShipJournal {
            gateway: "edge".to_owned(),
            lines: some.to_vec(),
        };
        plane.gateway.ship_journal(&ship).await.unwrap();
    }
    let found = verified(&plane).await;
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].verified, found[0].broken.as_ref()), (1_505, None));

    // Somebody edits the database.
    let database = format!(
        "sqlite://{}",
        plane.folder.path().join("plane.db").display()
    );
    plane.edit(&database, "UPDATE audit SET entry = REPLACE(entry, 'start', 'stirt') WHERE gateway_sequence = 1200").await;
    let found = verified(&plane).await;
    assert_eq!(found[0].verified, 1_199);
    assert_eq!(found[0].broken.as_ref().unwrap().sequence, 1_200);

    let cookie = log_in(&plane, &plane.admin_token).await;
    let page = get(&plane, "/audit/verification", &cookie).await;
    assert!(page.body.contains("broken at line 1200"), "{}", page.body);
    let entry = get(&plane, "/audit?kind=stirt", &cookie).await;
    assert_eq!(entry.status, 200);
    let id = plane
        .admin
        .audit(0, 1_000, None)
        .await
        .unwrap()
        .iter()
        .find(|entry| entry.entry["sequence"] == 4)
        .unwrap()
        .id;
    let whole = get(&plane, &format!("/audit/{id}"), &cookie).await;
    assert!(whole.body.contains(">verified<"), "{}", whole.body);
}

#[tokio::test]
async fn numbers_come_from_what_gateways_recorded() {
    let plane = Plane::new().await;
    let agent = plane.agent("bot", None).await.agent;
    decided(&plane, agent.id).await;
    for range in Range::ALL {
        let overview = plane.admin.overview(range).await.unwrap();
        assert_eq!(
            (
                overview.total.permitted,
                overview.total.refused,
                overview.total.pending
            ),
            (1, 1, 1)
        );
        assert_eq!(
            overview
                .slots
                .iter()
                .map(|slot| slot.decisions.all())
                .sum::<u64>(),
            3
        );
        assert_eq!(
            (overview.decision_times.count, overview.command_times.count),
            (2, 1)
        );
        assert!(overview.command_times.p50_ms.unwrap() <= 50.0);
        assert_eq!(overview.refused_agents[0].name.as_deref(), Some("bot"));
        assert_eq!(
            overview.refused_by_policy.len(),
            3,
            "two policies, and none"
        );
        assert_eq!(overview.refused_commands[0].count, 1);
    }
    // An hour later the last hour is empty, the day is not.
    plane.pass(Duration::from_mins(61));
    assert_eq!(
        plane.admin.overview(Range::Hour).await.unwrap().total.all(),
        0
    );
    assert_eq!(
        plane.admin.overview(Range::Day).await.unwrap().total.all(),
        3
    );
    let wrong = plane
        .call(
            "GET",
            "/api/overview?range=1y",
            Some(&plane.admin_token),
            None,
        )
        .await;
    assert_eq!(wrong.status, 400);
}

#[tokio::test]
async fn pages_show_what_is_hostile_as_text() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let agent = plane.agent("bot", None).await.agent;
    decided(&plane, agent.id).await;
    let cookie = log_in(&plane, &plane.admin_token).await;
    let refusal = plane
        .admin
        .audit(0, 100, Some(agent.id))
        .await
        .unwrap()
        .into_iter()
        .find(|entry| entry.kind == "refusal")
        .unwrap()
        .id;
    let hostile = "%3Cscript%3Ealert%28%27x%27%29%3C%2Fscript%3E%1B%5B31m%E2%80%AE%27%3B--";
    for (path, shown) in [
        ("/overview".to_owned(), "no policy permits it"),
        ("/overview?range=7d".to_owned(), "bot"),
        ("/services".to_owned(), "coolify"),
        (format!("/services?q={hostile}"), "Nothing found"),
        ("/services?q=deploy".to_owned(), "coolify/deploy"),
        ("/services/coolify".to_owned(), "list-servers"),
        (
            format!("/services/coolify?q={hostile}&risk={hostile}"),
            "Nothing found",
        ),
        ("/policies".to_owned(), "In force".to_lowercase().leak()),
        (
            "/policies?file=schema.cedarschema".to_owned(),
            "schema.cedarschema",
        ),
        (format!("/policies?file={hostile}"), ".cedar"),
        ("/policies/difference".to_owned(), "Nothing differs"),
        ("/playground".to_owned(), "Decide"),
        ("/playground?command=coolify/list-servers".to_owned(), "tag"),
        (
            format!("/playground?command={hostile}&agent={hostile}&arguments={hostile}"),
            "Decide",
        ),
        ("/audit".to_owned(), "wall.one"),
        (format!("/audit?text={hostile}"), "Nothing found"),
        (
            format!("/audit?kind={hostile}&outcome={hostile}&user={hostile}"),
            "Nothing found",
        ),
        (format!("/audit?agent={hostile}"), "is not"),
        (format!("/audit/{refusal}"), "wall.one"),
        ("/audit/verification".to_owned(), "edge"),
    ] {
        let page = get(&plane, &path, &cookie).await;
        assert_eq!(page.status, 200, "{path}: {}", page.body);
        assert!(
            page.body.contains(shown),
            "{path}: no `{shown}` in {}",
            page.body
        );
        harmless(&page.body, &path);
        let without = get(&plane, &path, "").await;
        assert_eq!(without.status, 303, "{path} is for people who logged in");
    }
    for (path, status) in [
        ("/services/nowhere", 404),
        ("/services/%3Cscript%3E", 404),
        ("/audit/0", 404),
        ("/audit/x", 404),
        ("/policies/nonsense", 404),
        ("/policies/difference?from=nonsense", 404),
        ("/overview?range=1y", 400),
    ] {
        let page = get(&plane, path, &cookie).await;
        assert_eq!(page.status, status, "{path}");
        harmless(&page.body, path);
    }
}

#[tokio::test]
async fn the_playground_answers_on_its_page() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    plane.agent("bot", None).await;
    let cookie = log_in(&plane, &plane.admin_token).await;
    let ask = async |form: &str| post(&plane, "/playground", &cookie, form, SAME).await;

    let refused =
        ask("agent=bot&command=coolify%2Flist-servers&arguments=%7B%7D&grant=&at=&ip=").await;
    assert_eq!(refused.status, 200, "{}", refused.body);
    assert!(
        refused.body.contains("Needs an approval"),
        "{}",
        refused.body
    );
    harmless(&refused.body, "the answer");
    let granted =
        ask("agent=bot&command=coolify%2Flist-servers&grant=call%3A1&at=2026-11-22T10%3A30").await;
    assert!(
        granted.body.contains("on the strength of a grant"),
        "{}",
        granted.body
    );
    for (form, told) in [
        (
            "agent=bot&command=coolify%2Fdeploy&arguments=%5B1%5D",
            "an object is wanted",
        ),
        (
            "agent=bot&command=coolify%2Fdeploy&arguments=%7B%22uuid%22%3A1%7D",
            "uuid",
        ),
        ("agent=nobody&command=coolify%2Fdeploy", "nobody"),
        ("agent=bot&command=coolify%2Ffly", "no gateway has told"),
    ] {
        let wrong = ask(form).await;
        assert_eq!(wrong.status, 422, "{form}");
        assert!(
            wrong.body.contains("class=\"problem\"") && wrong.body.contains(told),
            "{form}: {}",
            wrong.body
        );
    }
    let elsewhere = post(
        &plane,
        "/playground",
        &cookie,
        "agent=bot",
        ("sec-fetch-site", "cross-site"),
    )
    .await;
    assert_eq!(elsewhere.status, 403);
}

#[tokio::test]
async fn policy_sets_are_changed_on_their_pages() {
    let plane = Plane::new().await;
    let (_, security) = plane.person("sam", &["security"]).await;
    let cookie = log_in(&plane, &security).await;
    let before = plane.admin.policy_set_status().await.unwrap().version;
    let folder = plane.folder.path().join("policies");
    // What is invisible no policy set may hold; the rest may stand in a comment and a text.
    let hostile = HOSTILE.replace(['\u{1b}', '\u{202e}'], "");
    let policy = format!(
        "// {hostile}\n@id(\"more.one\")\n@advice(\"{}\")\nforbid (principal, action == Action::\"list\", resource)\nwhen {{ context.now == datetime(\"2020-01-01\") }};\n",
        hostile.replace('"', "")
    );
    std::fs::write(folder.join("more.cedar"), policy).unwrap();
    let status = plane.orchestrator.reread_policies().await.unwrap();
    assert!(status.rejected.is_empty(), "{:?}", status.rejected);
    let after = status.version;
    assert_ne!(before, after);

    let page = get(&plane, "/policies?file=more.cedar", &cookie).await;
    assert!(
        page.body.contains("<span class=\"e\">forbid</span>"),
        "{}",
        page.body
    );
    harmless(&page.body, "the source");
    let path = format!(
        "/policies/difference?from={}&to={}",
        before.as_str(),
        after.as_str()
    );
    let page = get(&plane, &path, &cookie).await;
    assert!(
        page.body.contains("more.one") && page.body.contains("class=\"added\""),
        "{}",
        page.body
    );
    harmless(&page.body, "the difference");

    // Broken, it says where.
    std::fs::write(
        folder.join("more.cedar"),
        "@id(\"more.one\")\nforbid (principal, action, resouce);\n",
    )
    .unwrap();
    plane.orchestrator.reread_policies().await.unwrap();
    let page = get(&plane, "/policies", &cookie).await;
    assert!(
        page.body.contains("The policy folder is broken") && page.body.contains("more.cedar:2"),
        "{}",
        page.body
    );
    assert!(page.body.contains('^'), "with a caret: {}", page.body);

    let activate = format!("/policies/{}/activate", before.as_str());
    let shadow = format!("version={}&reason=try", before.as_str());
    for (path, form, done) in [
        (
            "/policies/shadow",
            shadow.as_str(),
            "/policies?done=shadowed",
        ),
        (
            "/policies/shadow",
            "reason=enough",
            "/policies?done=unshadowed",
        ),
        (activate.as_str(), "reason=back", "/policies?done=in-force"),
        (
            "/policies/rollback",
            "reason=forth&allow_lockout=yes",
            "/policies?done=rolled-back",
        ),
    ] {
        let answer = post(&plane, path, &cookie, form, SAME).await;
        assert_eq!(
            (answer.status.as_u16(), answer.header("location")),
            (303, done),
            "{path}: {}",
            answer.body
        );
    }
    assert_eq!(
        plane.admin.policy_set_status().await.unwrap().version,
        after
    );
    // Back to the beginning, before which there is nothing.
    let back = post(&plane, "/policies/rollback", &cookie, "reason=more", SAME).await;
    assert_eq!(back.status, 303);
    let again = post(&plane, "/policies/rollback", &cookie, "reason=more", SAME).await;
    assert_eq!(again.status, 200);
    assert!(
        again.body.contains("there is no version before"),
        "{}",
        again.body
    );
    let page = get(&plane, "/policies?done=in-force", &cookie).await;
    assert!(page.body.contains("In force. Gateways enforce it"));

    let (_, viewer) = plane.person("vera", &["viewer"]).await;
    let cookie = log_in(&plane, &viewer).await;
    let page = get(&plane, "/policies", &cookie).await;
    assert_eq!(page.status, 200);
    assert!(
        !page.body.contains("Roll back"),
        "a viewer is not offered it"
    );
    for path in [activate.as_str(), "/policies/rollback", "/policies/shadow"] {
        let answer = post(&plane, path, &cookie, "reason=x", SAME).await;
        assert_eq!(answer.status, 403, "{path}");
    }
    let page = get(&plane, &format!("/policies/{}", before.as_str()), &cookie).await;
    assert!(page.body.contains("When it was in force"));
}
