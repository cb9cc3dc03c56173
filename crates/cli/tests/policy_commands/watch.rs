//! `policy test --watch`: again at each change, until Ctrl-C.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use crate::{edit, without_tests};

struct Watch {
    process: Child,
    out: BufReader<ChildStdout>,
}

impl Watch {
    /// What it prints until it waits for the next change.
    fn run(&mut self) -> String {
        let mut text = String::new();
        while !text.ends_with("watching; Ctrl-C ends it\n") {
            assert!(
                self.out.read_line(&mut text).unwrap() > 0,
                "it ended: {text}"
            );
        }
        text
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn tests_run_again_when_something_is_saved_and_go_on_after_mistakes() {
    let folder = without_tests();
    fs::write(
        folder.path().join("policies/own.test.yaml"),
        "include: [fixtures.yaml]\ntests:\n  - {name: readers read, agent: reader-bot, call: /mcp-coolify servers list, expect: permit}\n",
    )
    .unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_cedargate"))
        .current_dir(folder.path())
        .env_clear()
        .args(["policy", "test", "policies", "--watch"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(process.stdout.take().unwrap());
    let mut watch = Watch { process, out };
    assert!(watch.run().starts_with("1 passed"));

    // A save may be seen in two steps; each run tells what there is then.
    let mut until = |expected: &str| {
        loop {
            let text = watch.run();
            if text.starts_with(expected) {
                break;
            }
        }
    };
    edit(
        folder.path(),
        "policies/standing.cedar",
        "trust >= 1",
        "trust >= 2",
    );
    until("FAILED  readers read");
    edit(
        folder.path(),
        "policies/standing.cedar",
        "trust >= 2",
        "trust >= ",
    );
    until("watching");
    edit(
        folder.path(),
        "policies/standing.cedar",
        "trust >= ",
        "trust >= 1",
    );
    until("1 passed");
    edit(
        folder.path(),
        "schema.cedarschema",
        "\nentity Team",
        "\nentty Team",
    );
    until("watching");
    edit(
        folder.path(),
        "schema.cedarschema",
        "\nentty Team",
        "\nentity Team",
    );
    until("1 passed");
    edit(
        folder.path(),
        "policies/own.test.yaml",
        "expect: permit",
        "expect: hard",
    );
    until("FAILED  readers read");

    let asked = Command::new("kill")
        .args(["-INT", &watch.process.id().to_string()])
        .status()
        .unwrap();
    assert!(asked.success());
    assert_eq!(
        watch.process.wait().unwrap().code(),
        Some(1),
        "that of the last run"
    );
    let mut told = String::new();
    watch
        .process
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut told)
        .unwrap();
    for part in ["standing.cedar:", "schema.cedarschema:"] {
        assert!(told.contains(part), "`{part}` is not in\n{told}");
    }
}
