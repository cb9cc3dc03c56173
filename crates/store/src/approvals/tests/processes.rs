//! Several processes on one database: real ones, each this program again.

use std::process::Stdio;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

use super::*;
use crate::Store;

/// Tells a process what to do: the database, the request and its own number.
const TASK: &str = "CEDARGATE_STORE_TASK";

const PROCESSES: usize = 5;
const PEOPLE_EACH: usize = 10;

fn person(number: usize) -> String {
    format!("user-{number}")
}

/// What one process does: waits for the word, and approves for ten people at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the tests below start it as processes of their own"]
async fn one_of_several() {
    let Ok(task) = std::env::var(TASK) else {
        return;
    };
    let parts: Vec<&str> = task.split(' ').collect();
    let [url, id, number] = parts.as_slice() else {
        panic!("`{task}`")
    };
    let (id, number): (ApprovalRequestId, usize) = (id.parse().unwrap(), number.parse().unwrap());
    let store = Store::open(url).await.unwrap();
    println!("\nready");
    let mut go = [0];
    tokio::io::stdin().read_exact(&mut go).await.unwrap();
    let approvals: Vec<_> = (0..PEOPLE_EACH)
        .map(|person| {
            let (store, by) = (
                store.clone(),
                super::processes::person(number * PEOPLE_EACH + person),
            );
            tokio::spawn(async move {
                let by: UserId = by.parse().unwrap();
                let choice = (Reach::Call, Duration::from_hours(1));
                store
                    .approve(id, said(&by, ""), choice, &actor(), |_| {
                        Ok::<_, StoreError>(())
                    })
                    .await
            })
        })
        .collect();
    for approval in approvals {
        match approval.await.unwrap() {
            Ok(Approved::Granted(..)) => println!("\ngranted"),
            Ok(Approved::Advanced(..)) => println!("\nadvanced"),
            Err(StoreError::Conflict(why)) if why.contains("already") => println!("\ndecided"),
            Err(error) => println!("\nerror {error:?}"),
        }
    }
    store.close().await;
}

fn start(url: &str, id: ApprovalRequestId, number: usize) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args([
            "approvals::tests::processes::one_of_several",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
        .env(TASK, format!("{url} {id} {number}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What fifty approvals from five processes came to.
async fn fifty_from_five(fixture: &Fixture, needed: u8) -> (ApprovalRequestId, Vec<String>) {
    let agent = fixture.agent("builder").await;
    let id = fixture.opened(&agent, json!({}), needed).await;
    for number in 0..PROCESSES * PEOPLE_EACH {
        fixture.user(&person(number)).await;
    }
    let mut children: Vec<_> = (0..PROCESSES)
        .map(|number| start(&fixture.url, id, number))
        .collect();
    let mut outputs = Vec::new();
    for child in &mut children {
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while lines.next_line().await.unwrap().expect("it gets ready") != "ready" {}
        outputs.push(lines);
    }
    for child in &mut children {
        child.stdin.take().unwrap().write_all(b"!").await.unwrap();
    }
    let mut outcomes = Vec::new();
    for mut lines in outputs {
        while let Some(line) = lines.next_line().await.unwrap() {
            if ["granted", "advanced", "decided"].contains(&line.as_str())
                || line.starts_with("error")
            {
                outcomes.push(line);
            }
        }
    }
    for mut child in children {
        assert!(child.wait().await.unwrap().success());
    }
    outcomes.sort();
    (id, outcomes)
}

on_both_engines! {
    async fn fifty_approvals_from_five_processes_yield_one_grant(fixture) {
        let (id, outcomes) = fifty_from_five(fixture, 1).await;
        let mut expected = vec!["decided"; 49];
        expected.push("granted");
        assert_eq!(outcomes, expected);
        let stored = fixture.store.approval(id, NOON).await.unwrap();
        assert_eq!((stored.status, stored.verdicts.len()), (Status::Approved, 1));
        assert_eq!(fixture.store.grants(None, true, NOON).await.unwrap().len(), 1);
        let events = changes(fixture, 0).await;
        let approved = events.iter().filter(|change| matches!(change, Change::ApprovalApproved { .. }));
        assert_eq!(approved.count(), 1);
        let trail = fixture.store.audit(0, 1_000, None).await.unwrap();
        assert_eq!(trail.iter().filter(|entry| entry.kind == "approved").count(), 1);
    }

    async fn of_fifty_approvals_from_five_processes_two_count_where_two_are_needed(fixture) {
        let (id, outcomes) = fifty_from_five(fixture, 2).await;
        let mut expected = vec!["advanced"];
        expected.extend(vec!["decided"; 48]);
        expected.push("granted");
        assert_eq!(outcomes, expected);
        let stored = fixture.store.approval(id, NOON).await.unwrap();
        assert_eq!(stored.verdicts.len(), 2);
        assert_eq!(fixture.store.grants(None, true, NOON).await.unwrap().len(), 1);
    }
}
