use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::*;
use crate::fixtures::*;

/// The real solver.
fn cvc5(script: &str) -> Result<String, String> {
    let mut child = Command::new(std::env::var("CVC5").unwrap_or_else(|_| "cvc5".to_owned()))
        .args(["--lang", "smt", "--tlimit=60000"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    Ok(String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap())
}

#[test]
fn explore() {
    let began = std::time::Instant::now();
    let inv = std::fs::read_to_string("/tmp/inv.cedar").unwrap_or_default();
    let invs = if inv.is_empty() {
        vec![]
    } else {
        vec![Source {
            name: "inv.cedar".into(),
            text: inv,
        }]
    };
    let theory = match Theory::new(&shipped_sources(), &invs, None) {
        Ok(t) => t,
        Err(f) => {
            for f in f {
                println!("{f}");
            }
            panic!()
        }
    };
    println!("theory {:?}", began.elapsed());
    for claim in theory.claims() {
        for at in &claim.environments {
            let began = std::time::Instant::now();
            let verdict = theory.settle(claim, *at, &cvc5);
            println!(
                "{:?} {:?} {}: {:?} in {:?}",
                claim.kind,
                claim.policy.as_ref().map(|p| &p.id),
                theory.environment(*at),
                verdict,
                began.elapsed()
            );
        }
    }
}
