use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::{PolicySet, Source, Target, fixtures::*};

fn deploy() -> CommandKey {
    "coolify/deploy-application".parse().unwrap()
}

/// The shipped schema with a fragment, and the shipped policies with others.
fn with(fragment: &str, policies: &str) -> Result<Arc<PolicySet>, String> {
    let mut sources = shipped_sources();
    sources.schema.text.push_str(fragment);
    sources.policies.push(Source {
        name: "policies/more.cedar".to_owned(),
        text: policies.to_owned(),
    });
    PolicySet::load(&sources)
        .map(|(set, _)| Arc::new(set))
        .map_err(|findings| {
            let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
            findings.join("\n")
        })
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "uuid": {"type": "string", "minLength": 1},
            "env": {"type": "string", "enum": ["dev", "prod"]},
            "force": {"type": "boolean"},
            "replicas": {"type": "integer", "minimum": 0},
            "labels": {"type": "array", "items": {"type": "string"}},
            "ports": {"type": "array", "items": {"type": "integer"}},
            "limits": {
                "type": "object",
                "properties": {"memory \"max\"": {"type": "integer"}, "cpu": {"type": "number"}},
                "required": ["memory \"max\""],
            },
            "ratio": {"type": "number"},
            "either": {"type": ["string", "null"]},
            "any": {},
            "yes": true,
            "narrowed": {"type": "string", "not": {"const": "x"}},
            "tuple": {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}},
            "referred": {"type": "string", "$ref": "#/$defs/x"},
            "one": {"oneOf": [{"type": "string"}]},
            "free": {"type": "object"},
            "matrix": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}},
            "loose": {"type": "array"},
            "\u{202e}\n\u{0}é": {"type": "string"},
        },
        "required": ["uuid", "ratio"],
        "anyOf": [{"required": ["force"]}, {"required": ["env"]}],
    })
}

#[test]
fn a_fragment_types_what_can_be_typed_and_lists_the_rest() {
    let fragment = fragment(&deploy(), Risk::Write, &schema());
    let expected = r#"action "coolify/deploy-application" in [Action::"write"] appliesTo {
  principal: Agent,
  resource: Command,
  context: {
    now: datetime,
    ip: ipaddr,
    args: Args,
    callKey: String,
    session: Session,
    input: {
      "env"?: String,
      "force"?: Bool,
      "labels"?: Set<String>,
      "limits"?: {
        "memory \"max\"": Long,
      },
      "narrowed"?: String,
      "ports"?: Set<Long>,
      "replicas"?: Long,
      "uuid": String,
      "\u{202e}\u{a}\u{0}\u{e9}"?: String,
    },
  },
};
"#;
    assert_eq!(fragment.text, expected);
    let mut left_out: Vec<&str> = fragment.left_out.iter().map(|(path, _)| &**path).collect();
    left_out.sort_unstable();
    assert_eq!(
        left_out,
        [
            "any",
            "either",
            "free",
            "limits.cpu",
            "loose",
            "matrix",
            "one",
            "ratio",
            "referred",
            "tuple",
            "yes"
        ]
    );
    assert!(fragment.left_out.iter().all(|(_, why)| !why.is_empty()));

    // It loads, and says the same again.
    let set = with(&fragment.text, "").unwrap();
    assert_eq!(set.typed_commands().collect::<Vec<_>>(), [&deploy()]);
    let read = &set.typed(&deploy()).unwrap().input;
    let mut text = String::new();
    write_shape(read, 2, &mut text);
    assert!(expected.contains(&text), "{text}");
}

#[test]
fn odd_schemas_give_an_empty_input_and_say_why() {
    for odd in [
        json!(null),
        json!(true),
        json!([]),
        json!({}),
        json!({"type": "string"}),
        json!({"anyOf": []}),
        json!({"type": "object", "properties": {"a": {"type": "object", "properties": 3}}}),
    ] {
        let fragment = fragment(&deploy(), Risk::Read, &odd);
        assert!(
            fragment.text.contains("input: {},"),
            "{odd}: {}",
            fragment.text
        );
        assert_eq!(fragment.left_out.len(), 1, "{odd}");
        with(&fragment.text, "").unwrap();
    }
    let deep = (0..MAX_DEPTH + 2).fold(
        json!({"type": "string"}),
        |inner, _| json!({"type": "object", "properties": {"a": inner}}),
    );
    let fragment = fragment(&deploy(), Risk::Destroy, &deep);
    assert_eq!(fragment.left_out.len(), 1);
    with(&fragment.text, "").unwrap();
}

const POLICIES: &str = r#"
@id("typed.few-replicas")
@advice("At most three.")
forbid (principal is Agent, action == Action::"coolify/deploy-application", resource is Command)
when { context.input has replicas && context.input.replicas > 3 };

@id("typed.staging-only")
forbid (principal is Agent, action in Action::"write", resource in Zone::"frozen");

@id("typed.ours")
permit (principal is Agent, action == Action::"coolify/deploy-application", resource is Command)
when { context.input.uuid like "app-*" && !(context.input has force && context.input.force) };
"#;

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn policies_about_a_typed_command_see_its_input() {
    let policies = with(&fragment(&deploy(), Risk::Write, &schema()).text, POLICIES).unwrap();
    let frozen = |mut target: Target| {
        target.zones = ["frozen".parse().unwrap()].into();
        target
    };
    let plain = || target("coolify/deploy-application", Risk::Write);
    let bot = principal(agent(), Vec::new());
    let cases = [
        (
            "ours",
            plain(),
            json!({"uuid": "app-1", "ratio": 0.5}),
            "permit typed.ours",
        ),
        (
            "forced",
            plain(),
            json!({"uuid": "app-1", "force": true}),
            "refuse",
        ),
        ("another's", plain(), json!({"uuid": "db-1"}), "refuse"),
        (
            "too many",
            plain(),
            json!({"uuid": "app-1", "replicas": 4}),
            "refuse typed.few-replicas",
        ),
        (
            "just enough",
            plain(),
            json!({"uuid": "app-1", "replicas": 3, "labels": ["a"], "limits": {"memory \"max\"": 1}}),
            "permit typed.ours",
        ),
        (
            "what covers all writes covers it",
            frozen(plain()),
            json!({"uuid": "app-1"}),
            "refuse typed.staging-only",
        ),
        (
            "no uuid",
            plain(),
            json!({}),
            "error the typed action needs the argument `uuid`",
        ),
        (
            "a number for text",
            plain(),
            json!({"uuid": 1}),
            "error the typed action wants a string as the argument `uuid`",
        ),
        (
            "a fraction",
            plain(),
            json!({"uuid": "app-1", "replicas": 1.0}),
            "error the typed action wants a 64-bit integer as the argument `replicas`",
        ),
        (
            "a large integer",
            plain(),
            json!({"uuid": "app-1", "replicas": u64::MAX}),
            "error the typed action wants a 64-bit integer as the argument `replicas`",
        ),
        (
            "null",
            plain(),
            json!({"uuid": "app-1", "replicas": null}),
            "error the typed action wants a 64-bit integer as the argument `replicas`",
        ),
        (
            "text for a flag",
            plain(),
            json!({"uuid": "app-1", "force": "false"}),
            "error the typed action wants true or false as the argument `force`",
        ),
        (
            "a mixed list",
            plain(),
            json!({"uuid": "app-1", "ports": [1, "2"]}),
            "error the typed action wants a 64-bit integer as the argument `ports`",
        ),
        (
            "an entity",
            plain(),
            json!({"uuid": {"__entity": {"type": "Role", "id": "admin"}}}),
            "error the typed action wants a string as the argument `uuid`",
        ),
        (
            "within",
            plain(),
            json!({"uuid": "app-1", "limits": {}}),
            "error the typed action needs the argument `limits.memory \\\"max\\\"`",
        ),
        (
            "a raised risk",
            target("coolify/deploy-application", Risk::Destroy),
            json!({"uuid": "app-1"}),
            "error the schema declares the typed action of `coolify/deploy-application` in `write`, and the command's risk is `destroy`",
        ),
    ];
    for (name, target, arguments, expected) in cases {
        let command = command(target, arguments);
        let found = match decided(&policies, &bot, &command, NOON) {
            crate::Decision::Permit(permit) => format!("permit {}", permit.policies().join(" ")),
            crate::Decision::Refuse(refused) if refused.policy_error || refused.misfit => {
                assert_eq!(refused.policies.len(), 0, "{name}");
                // Whose fault it is decides who is told what.
                assert_eq!(refused.misfit, name != "a raised risk", "{name}");
                let message = &refused.errors[0].message;
                let told = refused.advice.iter().any(|advice| advice.contains(message));
                assert_eq!(told, refused.misfit, "{name}: {:?}", refused.advice);
                format!("error {message}")
            }
            crate::Decision::Refuse(refused) => format!("refuse {}", refused.policies.join(" ")),
        };
        assert_eq!(found.trim_end(), expected, "{name}");
    }

    // A grant and an escalation see it as they see any command.
    let asked = command(plain(), json!({"uuid": "db-1"}));
    let refused = refusal(decided(&policies, &bot, &asked, NOON));
    let escalation = crate::approval::derive(
        &slice(&policies, &asked, crate::Action::Invoke),
        &slice(&policies, &asked, crate::Action::Escalate),
        &bot,
        &refused,
        at(NOON),
    );
    assert!(
        matches!(&escalation, crate::approval::Escalation::Liftable { policies, .. } if policies == &["grant.call"]),
        "{escalation:?}"
    );
}

#[test]
fn strict_validation_covers_both_together() {
    let text = fragment(&deploy(), Risk::Write, &schema()).text;
    let forbid = |condition: &str| {
        format!(
            "@id(\"x\")\nforbid (principal is Agent, action == Action::\"coolify/deploy-application\", resource is Command)\nwhen {{ {condition} }};"
        )
    };
    for (condition, expected) in [
        ("context.input.ratio == 1", "ratio"),
        ("context.input.replicas > 1", "replicas"),
        ("context.input.uuid > 1", "Long"),
        ("context.input.nothing == 1", "nothing"),
    ] {
        let findings = with(&text, &forbid(condition)).unwrap_err();
        assert!(findings.contains(expected), "{condition}: {findings}");
    }
    with(&text, &forbid("context.input.uuid == context.args.digest")).unwrap();
    // The untyped actions have no input.
    let untyped = "@id(\"x\")\nforbid (principal is Agent, action in Action::\"write\", resource is Command)\nwhen { context.input.uuid == \"x\" };";
    assert!(with(&text, untyped).is_err());
}

#[test]
fn declarations_that_do_not_fit_are_refused_with_their_place() {
    let text = fragment(&deploy(), Risk::Write, &schema()).text;
    for (from, to, expected) in [
        ("in [Action::\"write\"]", "", "must be in one of"),
        (
            "in [Action::\"write\"]",
            "in [Action::\"invoke\"]",
            "must be in one of",
        ),
        (
            "in [Action::\"write\"]",
            "in [Action::\"write\", Action::\"read\"]",
            "must be in one of",
        ),
        (
            // By a group of the operator's own.
            "action \"coolify/deploy-application\" in [Action::\"write\"]",
            "action own in [Action::\"destroy\"];\naction \"coolify/deploy-application\" in [Action::\"write\", Action::\"own\"]",
            "must be in one of",
        ),
        (
            "coolify/deploy-application",
            "coolify/*",
            "no command can have this name",
        ),
        ("input:", "inputs:", "have an `input`"),
        ("input:", "input?:", "not optional"),
        ("\"uuid\": String", "\"uuid\": Agent", "not of `Agent`"),
        (
            "\"uuid\": String",
            "\"uuid\": Set<Set<String>>",
            "a set in `input`",
        ),
        ("    callKey: String,\n", "", "does not fit"),
        ("callKey: String", "callKey: Long", "does not fit"),
        (
            "callKey: String",
            "callKey: String, more: Bool",
            "does not fit",
        ),
        ("principal: Agent", "principal: User", "does not fit"),
        ("resource: Command", "resource: Service", "does not fit"),
    ] {
        assert!(text.contains(from), "{from}");
        let findings = with(&text.replace(from, to), "").unwrap_err();
        assert!(findings.contains(expected), "{to}: {findings}");
        assert!(findings.contains("schema.cedarschema"), "{findings}");
    }
}
