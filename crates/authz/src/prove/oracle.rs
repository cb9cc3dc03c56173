//! The solver as Cedar's symbolic compiler sees it: questions out, answers in.

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use cedar_policy_symcc::{
    CedarSymCompiler, ResetMode, SmtLibScript,
    err::{Error, SolverError},
    solver::{Decision, DecisionWithModel, Solver},
};
use tokio::io::AsyncWrite;

use super::Solve;
use crate::entities::malformed;

/// Collects one script, and has it answered.
pub(super) struct Oracle<'a> {
    script: Vec<u8>,
    solve: Solve<'a>,
}

impl<'a> Oracle<'a> {
    /// Asks one question. What `question` awaits is always ready: nothing here waits but
    /// `solve`, which blocks.
    pub(super) fn ask<T>(
        solve: Solve<'a>,
        question: impl AsyncFnOnce(
            &mut CedarSymCompiler<Self>,
        ) -> Result<T, cedar_policy_symcc::err::Error>,
    ) -> Result<T, String> {
        let oracle = Self {
            script: Vec::new(),
            solve,
        };
        let answer = now(async {
            // One script per question: there is nothing to reset.
            let mut compiler = CedarSymCompiler::new(oracle)?.with_reset_mode(ResetMode::Comment);
            question(&mut compiler).await
        });
        match answer {
            None => Err("the question was not answered at once".to_owned()),
            Some(Ok(answer)) => Ok(answer),
            Some(Err(Error::SolverUnknown)) => Err("the solver does not know".to_owned()),
            Some(Err(Error::SolverError(SolverError::Solver(why)))) => Err(why),
            Some(Err(error)) => Err(malformed(error).text),
        }
    }

    /// What the solver prints when these commands follow the script.
    fn run(&self, commands: &str) -> Result<String, SolverError> {
        let script = str::from_utf8(&self.script)
            .map_err(|_| SolverError::Solver("the question is not UTF-8".to_owned()))?;
        (self.solve)(&format!("{script}{commands}")).map_err(SolverError::Solver)
    }
}

impl Solver for Oracle<'_> {
    fn smtlib_input(&mut self) -> &mut (dyn AsyncWrite + Unpin + Send) {
        &mut self.script
    }

    async fn enable_models(&mut self) -> Result<(), SolverError> {
        self.smtlib_input()
            .set_option("produce-models", "true")
            .await
            .map_err(Into::into)
    }

    async fn check_sat(&mut self) -> Result<Decision, SolverError> {
        let answer = self.run("(check-sat)\n")?;
        // The whole of what it prints: an error beside it would make it worth nothing.
        match answer.trim() {
            "sat" => Ok(Decision::Sat),
            "unsat" => Ok(Decision::Unsat),
            "unknown" => Ok(Decision::Unknown),
            other => Err(SolverError::Solver(not_understood(other))),
        }
    }

    async fn check_sat_with_model(&mut self) -> Result<DecisionWithModel, SolverError> {
        match self.check_sat().await? {
            Decision::Unsat => Ok(DecisionWithModel::Unsat),
            Decision::Unknown => Ok(DecisionWithModel::Unknown),
            Decision::Sat => {
                let answer = self.run("(check-sat)\n(get-model)\n")?;
                match answer.trim().strip_prefix("sat") {
                    Some(model) => Ok(DecisionWithModel::Sat {
                        model: format!("{}\n", model.trim()),
                    }),
                    None => Err(SolverError::Solver(not_understood(&answer))),
                }
            }
        }
    }
}

/// An answer that is none.
fn not_understood(answer: &str) -> String {
    let shown: String = answer.chars().take(200).collect();
    match shown.trim() {
        "" => "the solver said nothing".to_owned(),
        shown => format!("the solver's answer is not understood: `{shown}`"),
    }
}

/// The result of a future that is ready.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}
