//! `cedargate policy prove …`

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `cedargate policy prove`
#[derive(Debug, Args)]
pub struct PolicyProve {
    /// The folder of *.cedar [default: as `serve` would choose]
    pub folder: Option<PathBuf>,
    /// The schema [default: schema.cedarschema in or beside the folder]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// What must hold, as *.cedar [default: invariants/ in the folder]
    #[arg(long, value_name = "FOLDER")]
    pub invariants: Option<PathBuf>,
    /// Prove, too, that nothing is permitted that this folder's policies do not permit
    #[arg(long, value_name = "FOLDER")]
    pub against: Option<PathBuf>,
    /// Only claims with this in their name
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// How to tell
    #[arg(long, value_enum, default_value_t)]
    pub format: ProofFormat,
    /// Write each counterexample into this folder, as a test that fails
    #[arg(long, value_name = "FOLDER")]
    pub write_tests: Option<PathBuf>,
    /// The solver cvc5 [env: CVC5] [default: cvc5 on the PATH]
    #[arg(long, value_name = "FILE")]
    pub solver: Option<PathBuf>,
    /// The longest that the solver may think about one question
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub time_limit: u64,
    /// How many solvers run at a time [default: one per core]
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub jobs: Option<u16>,
}

/// How proofs are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ProofFormat {
    /// For people
    #[default]
    Human,
    /// For scripts
    Json,
    /// Annotations of GitHub Actions
    Github,
}

pub(super) const POLICY_PROVE: &str = "\
Proves, for everything that could ever be asked, that no `forbid` can fail, that the invariants
hold, and with --against that nothing more is permitted than before. What is not so is shown by a
request, as a test to keep. Needs cvc5 (Debian: apt-get install cvc5). See docs/policies.md.

Exit codes: 0 all was proved · 1 something is not so · 2 policies, invariants or command line are
wrong · 5 there is no solver · 6 something was neither proved nor refuted

Examples: cedargate policy prove policies
          git worktree add ../before main && cedargate policy prove policies --against ../before/policies";
