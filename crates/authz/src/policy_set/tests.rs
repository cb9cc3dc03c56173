use super::*;
use crate::fixtures::*;

const PERMIT: &str =
    "@id(\"a.permit\")\npermit (principal is Agent, action in Action::\"read\", resource);\n";

/// What loading these policies with the shipped schema finds, one line each.
fn findings(policies: &str) -> Vec<String> {
    let found = match PolicySet::load(&only(policies)) {
        Ok((_, warnings)) => warnings,
        Err(findings) => findings,
    };
    found
        .iter()
        .map(|found| {
            let place = found.line.map_or(String::new(), |line| {
                format!(":{line}:{}", found.column.unwrap())
            });
            let id = found.policy.as_deref().unwrap_or("-");
            let severity = if found.severity == Severity::Error {
                "error"
            } else {
                "warning"
            };
            format!("{severity} {}{place} {id}: {}", found.file, found.message)
        })
        .collect()
}

#[test]
fn the_shipped_set_loads_without_warnings() {
    let sources = shipped_sources();
    let (set, warnings) = PolicySet::load(&sources)
        .map_err(|found| format!("{found:#?}"))
        .unwrap();
    assert_eq!(warnings, []);
    assert_eq!(set.len(), set.ids().len());
    assert_eq!(*set.version(), sources.version());
    let dotted = |id: &&str| id.contains('.');
    assert!(set.ids().iter().all(dotted), "{:?}", set.ids());
}

#[test]
fn every_shipped_forbid_has_advice() {
    let set = shipped();
    for (id, notes) in &set.notes {
        assert!(!notes.forbids || notes.advice.is_some(), "`{id}`");
    }
}

#[test]
fn the_version_depends_on_names_and_texts_and_not_on_order() {
    let sources = shipped_sources();
    let version = sources.version();
    assert_eq!(
        version.as_str().parse::<PolicySetVersion>().unwrap(),
        version
    );
    assert_eq!(version.short().len(), 12);
    assert!("x".repeat(64).parse::<PolicySetVersion>().is_err());

    let mut reversed = sources.clone();
    reversed.policies.reverse();
    assert_eq!(reversed.version(), version);

    let changes: [fn(&mut PolicySources); 5] = [
        |sources| sources.schema.text.push(' '),
        |sources| sources.policies[0].text.push(' '),
        |sources| sources.policies[0].name.push('x'),
        |sources| {
            sources.policies.pop();
        },
        // What moves from the end of one text to the beginning of the next name.
        |sources| {
            let letter = sources.policies[0].text.pop().unwrap();
            sources.policies[0].name.push(letter);
        },
    ];
    let mut versions = std::collections::BTreeSet::from([version]);
    for change in changes {
        let mut other = sources.clone();
        change(&mut other);
        assert!(versions.insert(other.version()));
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn mistakes_are_found_with_their_place() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("nothing", "", &["error a.cedar -: there are no policies"]),
        (
            "only a comment",
            "// permit\n",
            &["error a.cedar -: there are no policies"],
        ),
        (
            "no id",
            "\n  permit (principal, action, resource);",
            &["error a.cedar:2:3 -: the policy has no id"],
        ),
        (
            "an id that is none",
            "@id(\"a b\")\npermit (principal, action, resource);",
            &[
                "error a.cedar:1:1 -: the id `a b` is not made of words (letters, digits, `-`, `_`) with dots between",
            ],
        ),
        (
            "an empty id",
            "@id\npermit (principal, action, resource);",
            &[
                "error a.cedar:1:1 -: the id `` is not made of words (letters, digits, `-`, `_`) with dots between",
            ],
        ),
        (
            "the same id twice",
            &format!("{PERMIT}{PERMIT}"),
            &["error a.cedar:3:1 a.permit: the id `a.permit` is used already, at a.cedar:1"],
        ),
        (
            "a template",
            "@id(\"a\")\npermit (principal == ?principal, action, resource);",
            &[
                "error a.cedar:1:1 -: templates are not supported: `?principal` and `?resource` have no value here",
            ],
        ),
        (
            "an attribute that does not exist",
            "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.suspendet };",
            &["error a.cedar:3:8 a: attribute `suspendet` on entity type `Agent` not found"],
        ),
        (
            "an optional attribute without `has`",
            "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.owner == User::\"x\" };",
            &[
                "error a.cedar:3:8 a: unable to guarantee safety of access to optional attribute `owner` on entity type `Agent`",
            ],
        ),
        (
            "an environment that does not exist",
            "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { principal.env == Env::\"production\" };",
            &[
                "error a.cedar:3:25 a: entity `Env::\"production\"` is of an enumerated entity type, but `\"production\"` is not declared as a valid eid",
            ],
        ),
        (
            "text that is not Cedar",
            "@id(\"a\")\npermit (principal, action, resource) whenever { true };",
            &["error a.cedar:2:38 -: invalid policy condition: whenever"],
        ),
        (
            "too many levels",
            "@id(\"a\")\npermit (principal is User, action in Action::\"approve\", resource is Escalation)\nwhen { resource.command.service has owners && resource.command.service.owners in Team::\"x\" };",
            &[
                "error a.cedar:3:47 a: this policy requires level 4, which exceeds the maximum allowed level (3)",
            ],
        ),
        ("nothing wrong", PERMIT, &[]),
        (
            "a byte order mark and CRLF",
            "\u{feff}@id(\"a\")\r\npermit (principal is Agent, action in Action::\"read\", resource); // x\r\n",
            &[],
        ),
        (
            "an old Mac's line ends",
            "// x\r@id(\"a\")\rpermit (principal is Agent, action in Action::\"read\", resource);\r",
            &[],
        ),
        (
            "an impossible condition",
            "@id(\"a\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen { 1 == 2 };",
            &[
                "warning a.cedar:1:1 a: policy is impossible: the policy expression evaluates to false for all valid requests",
            ],
        ),
        (
            "`==` on a group of actions",
            "@id(\"a\")\npermit (principal is Agent, action == Action::\"write\", resource is Command);",
            &[
                "warning a.cedar:1:1 a: `action == Action::\"write\"` misses the actions that are added to this group",
            ],
        ),
        (
            "everything for everyone",
            "@id(\"a\")\npermit (principal is Agent, action in Action::\"invoke\", resource);",
            &["warning a.cedar:1:1 a: this permits destructive commands without any condition"],
        ),
        (
            "a workflow that nothing starts",
            "@id(\"a\")\n@workflow(\"x\")\nforbid (principal is Agent, action in Action::\"read\", resource);",
            &["warning a.cedar:1:1 a: no grant lifts this policy, so `@workflow` never applies"],
        ),
        (
            "a person's team, where only the id is known",
            "@id(\"a\")\nforbid (principal is Agent, action in Action::\"read\", resource)\nwhen { principal has owner && principal.owner.active };",
            &[
                "warning a.cedar:1:1 a: of the person in `owner` only the id is known here: what this looks for is never found",
            ],
        ),
    ];
    for (name, policies, expected) in cases {
        let found = findings(policies);
        assert!(
            found.len() == expected.len()
                && found
                    .iter()
                    .zip(*expected)
                    .all(|(found, expected)| found.starts_with(expected)),
            "{name}: {found:#?}"
        );
    }
}

#[test]
fn all_files_are_checked_and_every_mistake_is_told() {
    let mut sources = only("permit (principal, action, resource);");
    let file = |name: &str, text: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    sources.policies.push(file("b.cedar", "forbid ("));
    sources.policies.push(file("b.cedar", PERMIT));
    let found = PolicySet::load(&sources).unwrap_err();
    let of = |found: &[Finding]| {
        found
            .iter()
            .map(|found| format!("{}: {}", found.file, found.message))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of(&found),
        [
            "b.cedar: two files have this name",
            "b.cedar: `(` is never closed"
        ]
    );

    sources.policies.truncate(1);
    sources
        .policies
        .push(file("b.cedar", "permit (principal);"));
    let found = of(&PolicySet::load(&sources).unwrap_err());
    assert!(
        found.iter().any(|found| found.starts_with("a.cedar: "))
            && found.iter().any(|found| found.starts_with("b.cedar: ")),
        "{found:?}"
    );
}

#[test]
fn a_schema_must_fit_what_policies_are_told() {
    let cases = [
        ("entity Role in [Role];", "", "Role"),
        ("  second?: User,", "  second: User,", "second"),
        ("  owners?: Team,", "  owners: Team,", "owners"),
        ("\"service\"]", "\"servise\"]", "service"),
        ("  pinned: Bool,", "  pinned: Bool, cost: Long,", "cost"),
        ("  callKey: String,", "", "callKey"),
        ("  ip: ipaddr,", "  ip: String,", "context"),
        (
            "entity NumberArgs tags Long;",
            "entity NumberArgs tags String;",
            "NumberArgs",
        ),
        ("action list appliesTo", "action lists appliesTo", "list"),
        (
            "entity ControlPlane;",
            "entity ControlPlane;;",
            "unexpected token",
        ),
    ];
    for (old, new, expected) in cases {
        let mut sources = only(PERMIT);
        assert!(sources.schema.text.contains(old), "{old}");
        sources.schema.text = sources.schema.text.replacen(old, new, 1);
        let found = PolicySet::load(&sources).unwrap_err();
        assert!(
            found.iter().any(|found| found.message.contains(expected)),
            "{old}: {found:#?}"
        );
    }
    // What is optional, or new, does not matter to what we tell.
    let mut sources = only(PERMIT);
    sources.schema.text =
        sources
            .schema
            .text
            .replacen("  pinned: Bool,", "  pinned: Bool, cost?: Long,", 1);
    sources.schema.text.push_str("action audit appliesTo { principal: User, resource: ControlPlane, context: { now: datetime } };");
    assert_eq!(PolicySet::load(&sources).unwrap().1, []);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table of cases")]
fn hostile_text_is_refused_and_never_ends_the_process() {
    let policy = |condition: &str| {
        format!(
            "@id(\"a\")\npermit (principal is Agent, action in Action::\"read\", resource is Command)\nwhen {{ {condition} }};"
        )
    };
    let chain =
        |link: &str, operator: &str, count: usize| policy(&vec![link; count].join(operator));
    let mut cases = vec![
        (
            "parentheses, 60".to_owned(),
            policy(&format!("{}true{}", "(".repeat(60), ")".repeat(60))),
            true,
        ),
        (
            "a short chain".to_owned(),
            chain("principal.suspended", " || ", 80),
            true,
        ),
        (
            "a chain".to_owned(),
            chain("principal.suspended", " || ", 1_000),
            false,
        ),
        ("a long chain".to_owned(), chain("true", "&&", 3_900), false),
        (
            "a very long chain".to_owned(),
            chain("true", "&&", 300_000),
            false,
        ),
        (
            "sums".to_owned(),
            format!(
                "{} > 1 }};",
                policy("1 +").trim_end_matches(" };").to_owned() + &vec!["1"; 3_000].join("+")
            ),
            false,
        ),
        (
            "nots".to_owned(),
            policy(&format!("{}true", "!".repeat(100_000))),
            false,
        ),
        (
            "ifs".to_owned(),
            policy(&format!("{}true", "if true then true else ".repeat(3_000))),
            false,
        ),
        (
            "many ifs".to_owned(),
            policy(&format!(
                "{}true",
                "if true then true else ".repeat(100_000)
            )),
            false,
        ),
        (
            "attributes".to_owned(),
            policy(&format!("principal{}", ".a".repeat(3_000))),
            false,
        ),
        (
            "many attributes".to_owned(),
            policy(&format!("principal{}", ".a".repeat(500_000))),
            false,
        ),
        (
            "indexes".to_owned(),
            policy(&format!("principal{}", "[\"a\"]".repeat(100_000))),
            false,
        ),
        (
            "clauses".to_owned(),
            policy("true") + &"when { true }".repeat(3_000),
            false,
        ),
        (
            "many clauses".to_owned(),
            policy("true").trim_end_matches(';').to_owned()
                + &" when { true }".repeat(100_000)
                + ";",
            false,
        ),
        ("an open string".to_owned(), policy("\"abc"), false),
        (
            "an open comment and bracket".to_owned(),
            "permit ( // )".to_owned(),
            false,
        ),
        (
            "annotations".to_owned(),
            format!(
                "{}permit (principal, action, resource);",
                "@a(\"b\")".repeat(50_000)
            ),
            false,
        ),
        (
            "NUL".to_owned(),
            "permit\0(principal, action, resource);".to_owned(),
            false,
        ),
    ];
    for count in [150, 1_000, 10_000, 100_000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{", "}"),
            ("{\"a\":", "}"),
            ("-(", ")"),
            ("!(", ")"),
        ] {
            cases.push((
                format!("{count} {open}"),
                policy(&format!("{}{}", open.repeat(count), close.repeat(count))),
                false,
            ));
            cases.push((
                format!("{count} open {open}"),
                policy(&open.repeat(count)),
                false,
            ));
        }
    }
    for (name, text, valid) in cases {
        let loaded = PolicySet::load(&only(&text));
        match loaded {
            Ok(_) => assert!(valid, "{name} was loaded"),
            Err(findings) => {
                assert!(!valid, "{name}: {findings:#?}");
                assert!(
                    !findings.is_empty() && findings.len() <= MAX_FINDINGS,
                    "{name}"
                );
            }
        }
    }
}

#[test]
fn hostile_schemas_are_refused_and_never_end_the_process() {
    let nested = |count: usize| {
        format!(
            "type A = {}String{};",
            "Set<".repeat(count),
            ">".repeat(count)
        )
    };
    let records = |count: usize| {
        format!(
            "type A = {}String{};",
            "{a: ".repeat(count),
            "}".repeat(count)
        )
    };
    let chain = |count: usize, link: &dyn Fn(usize) -> String, last: String| {
        (0..count)
            .map(link)
            .chain([last])
            .collect::<Vec<String>>()
            .concat()
    };
    let aliases = |count: usize| {
        let link = |n: usize| format!("type A{n} = A{};", n + 1);
        chain(count, &link, format!("type A{count} = String;"))
    };
    let parents = |count: usize| {
        let link = |n: usize| format!("entity A{n} in [A{}];", n + 1);
        chain(count, &link, format!("entity A{count};"))
    };
    let more = [
        ("sets", nested(100), false),
        ("many sets", nested(100_000), false),
        ("records", records(1_000), false),
        ("aliases", aliases(1_500), true),
        ("many aliases", aliases(100_000), false),
        ("parents", parents(300), true),
        ("many parents", parents(100_000), false),
        (
            "a loop of aliases",
            "type A = B; type B = A;".to_owned(),
            false,
        ),
        ("a string", "entity \"".to_owned(), false),
    ];
    for (name, text, valid) in more {
        let mut sources = only(PERMIT);
        sources.schema.text.push_str(&text);
        assert_eq!(PolicySet::load(&sources).is_ok(), valid, "{name}");
    }
}

#[test]
fn sizes_are_bounded() {
    let mut sources = only(PERMIT);
    let comment = format!("//{}\n", "x".repeat(4_000_000));
    for n in 0..4 {
        sources.policies.push(Source {
            name: format!("{n}.cedar"),
            text: comment.clone(),
        });
    }
    assert!(PolicySet::load(&sources).is_ok());
    sources.policies.push(Source {
        name: "5.cedar".to_owned(),
        text: comment.clone(),
    });
    assert!(
        PolicySet::load(&sources).unwrap_err()[0]
            .message
            .contains("the policy set has")
    );
    sources.policies = vec![Source {
        name: "a.cedar".to_owned(),
        text: comment.repeat(2),
    }];
    assert!(
        PolicySet::load(&sources).unwrap_err()[0]
            .message
            .contains("the file has")
    );
}

#[test]
fn mistakes_in_the_schema_are_found_with_their_place() {
    let cases = [
        (
            "entity ControlPlane;",
            "entity ControlPlane;;",
            "unexpected token `;`",
        ),
        ("env: Env,", "env: Enw,", "Enw"),
        (
            "entity Zone in [Zone];",
            "entity Zone in [Zone]; entity Zone;",
            "Zone",
        ),
    ];
    for (old, new, expected) in cases {
        let mut sources = only(PERMIT);
        let at = sources.schema.text.find(old).unwrap();
        let line = sources.schema.text[..at].matches('\n').count() + 1;
        sources.schema.text = sources.schema.text.replacen(old, new, 1);
        let found = PolicySet::load(&sources).unwrap_err();
        assert!(found[0].message.contains(expected), "{found:#?}");
        assert_eq!(found[0].file, "schema.cedarschema");
        assert_eq!(found[0].line, u32::try_from(line).ok(), "{found:#?}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        failure_persistence: None,
        ..proptest::prelude::ProptestConfig::with_cases(48)
    })]

    /// Words of the language in any order: whatever comes of it, the checker survives.
    #[test]
    fn any_words_are_answered(words in proptest::collection::vec(proptest::sample::select(vec![
        "permit", "forbid", "(", ")", "{", "}", "[", "]", "principal", "action", "resource", "context", ",", ";",
        "when", "unless", "if", "then", "else", "==", "in", "is", "has", "like", "&&", "||", "!", "-", "+", ".",
        "@id(\"a\")", "\"*\"", "::", "Action::\"read\"", "Agent", "1", "9223372036854775808", "?principal", "//\n",
        "permit (principal is Agent, action in Action::\"read\", resource is Command)", "\u{feff}", "\r", "é",
    ]), 0..60)) {
        if let Err(findings) = PolicySet::load(&only(&words.join(" "))) {
            proptest::prop_assert!(!findings.is_empty());
            proptest::prop_assert!(findings.iter().all(|found| !found.message.contains("panicked")), "{findings:?}");
        }
    }
}
