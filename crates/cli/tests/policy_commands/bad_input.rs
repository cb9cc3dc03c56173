//! Every command on what people may have there by mistake.

use std::{fs, path::Path};

use crate::{cedargate, folder};

/// How each command is called on `policies`.
const COMMANDS: &[(&str, &[&str])] = &[
    ("check", &["check", "policies"]),
    ("test", &["test", "policies"]),
    ("export", &["export", "policies"]),
    ("coverage", &["coverage", "policies"]),
    ("matrix", &["matrix", "--policies", "policies"]),
    (
        "explain",
        &[
            "explain",
            "--policies",
            "policies",
            "--agent",
            "reader-bot",
            "--call",
            "/mcp-coolify servers list",
        ],
    ),
    ("diff", &["diff", "policies", "policies"]),
    ("fmt", &["fmt", "--check", "policies"]),
];

/// What is broken, for which commands that is nothing, and what must be told.
struct Broken {
    name: &'static str,
    by: fn(&Path),
    not_for: &'static [&'static str],
    told: &'static [&'static str],
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::write(folder.join(file), text).unwrap();
}

fn remove_policies(folder: &Path) {
    fs::remove_dir_all(folder.join("policies")).unwrap();
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is a table")]
fn each_command_says_what_is_wrong_and_where() {
    let cases = [
        Broken {
            name: "a missing folder",
            by: remove_policies,
            not_for: &[],
            told: &["policies"],
        },
        Broken {
            name: "an empty folder",
            by: |folder| {
                remove_policies(folder);
                fs::create_dir(folder.join("policies")).unwrap();
            },
            not_for: &[],
            told: &["policies"],
        },
        Broken {
            name: "a file instead of a folder",
            by: |folder| {
                remove_policies(folder);
                write(folder, "policies", "permit (principal, action, resource);");
            },
            // A file can be laid out, whatever it is called; its tests are beside it.
            not_for: &["fmt"],
            told: &["no "],
        },
        Broken {
            name: "a missing schema",
            by: |folder| fs::remove_file(folder.join("schema.cedarschema")).unwrap(),
            not_for: &["fmt"],
            told: &["schema"],
        },
        Broken {
            name: "a schema that does not parse",
            by: |folder| write(folder, "schema.cedarschema", "entity Agent in [Team = {\n"),
            not_for: &["fmt"],
            told: &["schema.cedarschema:1:"],
        },
        Broken {
            name: "policies for another schema",
            by: |folder| {
                let photos = "entity User; entity Photo; action view appliesTo { principal: User, resource: Photo, context: {} };";
                write(folder, "schema.cedarschema", photos);
            },
            not_for: &["fmt"],
            told: &["schema.cedarschema"],
        },
        Broken {
            name: "a policy of another schema",
            by: |folder| {
                write(
                    folder,
                    "policies/photos.cedar",
                    "@id(\"photos.view\")\npermit (principal, action == Action::\"viewPhoto\", resource is Photo);\n",
                );
            },
            not_for: &["fmt"],
            told: &["photos.cedar:"],
        },
        Broken {
            name: "a policy that does not parse",
            by: |folder| {
                write(
                    folder,
                    "policies/broken.cedar",
                    "@id(\"x\")\npermit (principal action, resource);\n",
                );
            },
            not_for: &[],
            told: &["broken.cedar:2:"],
        },
        Broken {
            name: "a slip in a key of a test",
            by: |folder| {
                write(
                    folder,
                    "policies/slip.test.yaml",
                    "include: [fixtures.yaml]\ntests:\n  - agnet: reader-bot\n    call: /mcp-coolify servers list\n    expect: permit\n",
                );
            },
            not_for: &["check", "matrix", "explain", "diff", "fmt"],
            told: &[
                "slip.test.yaml:3:",
                "unknown key `agnet`",
                "did you mean `agent`?",
            ],
        },
        Broken {
            name: "a slip in a key of an official test",
            by: |folder| {
                write(
                    folder,
                    "policies/slip.test.json",
                    "[\n {\"request\": {}, \"entities\": [], \"decison\": \"allow\", \"reason\": [], \"num_errors\": 0}\n]",
                );
            },
            not_for: &["check", "matrix", "explain", "diff", "fmt"],
            told: &[
                "slip.test.json:2",
                "no `decision`",
                "is `decison` meant to be `decision`?",
            ],
        },
        Broken {
            name: "fixtures that contradict the schema",
            by: |folder| {
                write(
                    folder,
                    "policies/fixtures.yaml",
                    "agents:\n  reader-bot: {env: moon}\n",
                );
            },
            not_for: &["check", "fmt"],
            told: &["fixtures.yaml:2:", "moon", "prod"],
        },
        Broken {
            name: "fixtures that contradict themselves",
            by: |folder| {
                write(
                    folder,
                    "policies/fixtures.yaml",
                    "agents:\n  reader-bot: {owner: olga}\n",
                );
            },
            not_for: &["check", "fmt"],
            told: &["no user `olga`"],
        },
        Broken {
            name: "fixtures with a number that is too large",
            by: |folder| {
                write(
                    folder,
                    "policies/fixtures.yaml",
                    "agents:\n  reader-bot: {trust: 256}\n",
                );
            },
            not_for: &["check", "fmt"],
            told: &["fixtures.yaml:2:"],
        },
        Broken {
            name: "fixtures that are no text",
            by: |folder| fs::write(folder.join("policies/fixtures.yaml"), [0xff, 0xfe, 0]).unwrap(),
            not_for: &["check", "fmt"],
            told: &["fixtures.yaml", "UTF-8"],
        },
    ];
    for Broken {
        name,
        by,
        not_for,
        told,
    } in cases
    {
        let folder = folder();
        by(folder.path());
        for (command, arguments) in COMMANDS
            .iter()
            .filter(|(command, _)| !not_for.contains(command))
        {
            // Where fixtures are missing with the policies, that is told as well.
            let (code, out, err) = cedargate(folder.path(), arguments);
            let all = format!("{out}{err}");
            let expected = if *command == "check" { 1 } else { 2 };
            assert_eq!(code, expected, "{name}, {command}: {all}");
            for part in told {
                assert!(
                    all.contains(part),
                    "{name}, {command}: `{part}` is not in\n{all}"
                );
            }
            assert!(!all.contains("panicked"), "{name}, {command}: {all}");
        }
    }
}
