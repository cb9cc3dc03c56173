//! cvc5: found, tried, and asked, one process per question.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use crate::{config::Environment, exit::NoSolver};

/// How much longer than its own limit a solver may take to end.
const GRACE: Duration = Duration::from_secs(5);

/// The largest answer, in bytes: a counterexample has some thousands.
const MAX_ANSWER: u64 = 64 * 1024 * 1024;

const INSTALL: &str = "`cedargate policy prove` needs the solver cvc5. Debian, Ubuntu: apt-get install cvc5; else https://cvc5.github.io. $CVC5 or --solver names another place";

/// A solver that answers.
pub(super) struct Solver {
    pub(super) path: PathBuf,
    /// What it calls itself.
    pub(super) version: String,
    limit: Duration,
}

impl Solver {
    /// Finds the solver, and has it answer two questions that are known: one with an
    /// answer and one without. What says `unsat` to everything would prove everything.
    ///
    /// # Errors
    ///
    /// A [`NoSolver`], with how to install one.
    pub(super) fn find(
        named: Option<&Path>,
        environment: &Environment,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => match environment.get("CVC5")? {
                Some(path) => PathBuf::from(path),
                None => on_path(&environment.get("PATH")?.unwrap_or_default())
                    .ok_or_else(|| NoSolver(INSTALL.to_owned()))?,
            },
        };
        let mut solver = Self {
            path,
            version: String::new(),
            limit,
        };
        let known = [
            ("(assert (> x 3))", "sat"),
            ("(assert (and (> x 3) (< x 4)))", "unsat"),
        ];
        for (assertion, expected) in known {
            let script =
                format!("(set-logic ALL)\n(declare-const x Int)\n{assertion}\n(check-sat)\n");
            let wrong = match solver.answer(&script) {
                Ok(answer) if answer.trim() == expected => continue,
                Ok(answer) => format!(
                    "asked something that is `{expected}`, it said `{}`",
                    answer.trim().chars().take(100).collect::<String>()
                ),
                Err(why) => why,
            };
            let message = format!(
                "`{}` is no solver: {wrong}. {INSTALL}",
                solver.path.display()
            );
            return Err(NoSolver(message).into());
        }
        solver.version = solver.version();
        Ok(solver)
    }

    fn version(&self) -> String {
        let script = "(get-info :version)\n";
        let told = self.answer(script).unwrap_or_default();
        let version: String = told
            .split('"')
            .nth(1)
            .unwrap_or("of unknown version")
            .chars()
            .take(40)
            .collect();
        format!("cvc5 {version}")
    }

    /// What the solver prints when it is given a script.
    ///
    /// # Errors
    ///
    /// Why that is no answer: it could not be started, took too long, or failed.
    pub(super) fn answer(&self, script: &str) -> Result<String, String> {
        let mut child = Command::new(&self.path)
            .args(["--lang", "smt"])
            .arg(format!("--tlimit={}", self.limit.as_millis()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                format!(
                    "the solver `{}` does not start: {error}",
                    self.path.display()
                )
            })?;
        let answer = self.converse(&mut child, script);
        if answer.is_err() {
            let _ = child.kill();
        }
        // Else it would stay a zombie.
        let _ = child.wait();
        answer
    }

    fn converse(&self, child: &mut Child, script: &str) -> Result<String, String> {
        let began = Instant::now();
        let too_late = || {
            format!(
                "the solver did not answer within {} s",
                self.limit.as_secs()
            )
        };
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the solver has no input or output".to_owned());
        };
        let script = script.to_owned();
        // One that does not read what it is asked ends with a wrong answer, or none.
        thread::spawn(move || {
            let _ = input.write_all(script.as_bytes());
        });
        let (told, answered) = mpsc::channel();
        thread::spawn(move || {
            let mut answer = Vec::new();
            let read = output.take(MAX_ANSWER).read_to_end(&mut answer);
            let _ = told.send(read.map(|_| answer));
        });
        let answer = answered
            .recv_timeout(self.limit + GRACE)
            .map_err(|_| too_late())?
            .map_err(|error| format!("the solver's answer cannot be read: {error}"))?;
        let status = ended(child, began + self.limit + GRACE)?.ok_or_else(too_late)?;
        if !status.success() {
            return Err(if began.elapsed() >= self.limit {
                too_late()
            } else {
                format!("the solver failed: {status}")
            });
        }
        String::from_utf8(answer).map_err(|_| "the solver's answer is not UTF-8".to_owned())
    }
}

/// How a process ended, if it did by then.
fn ended(child: &mut Child, by: Instant) -> Result<Option<ExitStatus>, String> {
    loop {
        let status = child
            .try_wait()
            .map_err(|error| format!("the solver cannot be waited for: {error}"))?;
        if status.is_some() || Instant::now() >= by {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn on_path(path: &str) -> Option<PathBuf> {
    std::env::split_paths(path)
        .map(|folder| folder.join("cvc5"))
        .find(|file| file.is_file())
}
