//! `cedargate policy …`: its subcommands and their flags.

use std::path::PathBuf;

use authz::AgentRef;
use clap::{Args, Subcommand, ValueEnum};

/// `cedargate policy …`
#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check a folder of policies; exit code 1 if it could not be enforced
    Check {
        /// The folder of *.cedar [default: as `serve` would choose]
        folder: Option<PathBuf>,
        /// The schema [default: schema.cedarschema in or beside the folder]
        #[arg(long, value_name = "FILE")]
        schema: Option<PathBuf>,
    },
    /// What is in force at the orchestrator and at each gateway, and what is wrong with the folder
    Status,
    // --- tests of policies ---
    /// Run the tests beside the policies: exit code 1 if one fails, 2 if one cannot be read
    #[command(after_help = POLICY_TEST)]
    Test(PolicyTest),
    /// Write the tests in the form of Cedar's own tool, `cedar run-tests`
    #[command(after_help = POLICY_EXPORT)]
    Export(PolicyExport),
    /// Find the small faults in policies that no test would notice
    #[command(after_help = POLICY_COVERAGE)]
    Coverage(PolicyCoverage),
    /// What every agent of the fixtures may do with every command, as a text to review
    #[command(after_help = POLICY_MATRIX)]
    Matrix(PolicyMatrix),
    /// Why one call of one agent is permitted or refused, and what would change that
    #[command(after_help = POLICY_EXPLAIN)]
    Explain(PolicyExplain),
    /// Lay policies out in one way, keeping comments
    #[command(after_help = "Example: cedargate policy fmt --check policies")]
    Fmt(PolicyFmt),
    /// What changes from one policy set to another, for the agents of the fixtures and for
    /// recorded calls
    #[command(after_help = POLICY_DIFF)]
    Diff(PolicyDiff),
    /// Prove what holds whatever is asked: exit code 1 if it does not, with a counterexample
    #[command(after_help = super::prove::POLICY_PROVE)]
    Prove(super::PolicyProve),
    /// What is in force, and what beside it.
    #[command(flatten)]
    Sets(PolicySets),
}

/// `cedargate policy activate|rollback|history|shadow`
#[derive(Debug, Subcommand)]
pub enum PolicySets {
    /// Put a policy set in force at every gateway; exit code 1 if it could not be enforced
    #[command(
        after_help = "A folder is checked and stored by the orchestrator first. The orchestrator's own policy\nfolder acts again when it is edited.\nExamples: cedargate policy activate ./policies --reason 'ticket 412'\n          cedargate policy activate 3f9a1c0b77de"
    )]
    Activate {
        /// A folder of *.cedar, or the first digits of a stored version
        #[arg(value_name = "FOLDER|VERSION")]
        what: String,
        /// The schema [default: schema.cedarschema in or beside the folder]
        #[arg(long, value_name = "FILE")]
        schema: Option<PathBuf>,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
        /// Even if you could not activate another one then
        #[arg(long)]
        allow_lockout: bool,
    },
    /// Put the policy set before in force again; twice goes back by two
    Rollback {
        /// To this one: the first digits of its version
        #[arg(long, value_name = "VERSION")]
        to: Option<String>,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
        /// Even if you could not activate another one then
        #[arg(long)]
        allow_lockout: bool,
    },
    /// What was in force when, and who put it there, newest first
    History {
        /// At most so many
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        limit: u32,
    },
    /// Evaluate a policy set beside the one in force, and record what it would decide otherwise
    #[command(
        after_help = "It is never enforced. Differences are in the gateways' journals (`shadow`) and counted in\ncedargate_shadow_differences_total.\nExamples: cedargate policy shadow ./policies\n          cedargate policy shadow --off"
    )]
    Shadow {
        /// A folder of *.cedar, or the first digits of a stored version
        #[arg(
            value_name = "FOLDER|VERSION",
            required_unless_present = "off",
            conflicts_with = "off"
        )]
        what: Option<String>,
        /// The schema [default: schema.cedarschema in or beside the folder]
        #[arg(long, value_name = "FILE", conflicts_with = "off")]
        schema: Option<PathBuf>,
        /// Evaluate none any more
        #[arg(long)]
        off: bool,
        /// Why, for the audit trail
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// Which policies, where a command does not find them by what it is given.
#[derive(Debug, Default, Clone, Args)]
pub struct PolicyFrom {
    /// The folder of *.cedar [default: that of the tests; without tests, as `serve` would choose]
    #[arg(long, value_name = "FOLDER")]
    pub policies: Option<PathBuf>,
    /// The schema [default: schema.cedarschema in or beside the folder]
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
}

/// `cedargate policy test`
#[derive(Debug, Args)]
pub struct PolicyTest {
    /// *.test.yaml, tests of `cedar run-tests` in JSON, or folders of them [default: the folder of the policies]
    #[arg(value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// Which policies.
    #[command(flatten)]
    pub from: PolicyFrom,
    /// Only tests with this in their name or file
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// How to tell
    #[arg(long, value_enum, default_value_t)]
    pub format: ReportFormat,
    /// Stay, and run them again whenever a policy, a test or the schema is saved, until Ctrl-C
    #[arg(long, conflicts_with = "coverage")]
    pub watch: bool,
    /// Afterwards, find the faults that no test would notice, as `policy coverage` does
    #[arg(long)]
    pub coverage: bool,
    /// With --coverage: fail below this score, from 0 to 100
    #[arg(long, value_name = "PERCENT", requires = "coverage", value_parser = clap::value_parser!(u64).range(0..=100))]
    pub min_score: Option<u64>,
}

/// How a run of tests is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people
    #[default]
    Human,
    /// For scripts
    Json,
    /// JUnit's XML
    Junit,
    /// Annotations of GitHub Actions
    Github,
}

/// `cedargate policy export`
#[derive(Debug, Args)]
pub struct PolicyExport {
    /// *.test.yaml, or folders of them [default: the folder of the policies]
    #[arg(value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// Which policies.
    #[command(flatten)]
    pub from: PolicyFrom,
    /// Write to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub write: Option<PathBuf>,
}

/// `cedargate policy coverage`
#[derive(Debug, Args)]
pub struct PolicyCoverage {
    /// *.test.yaml, or folders of them [default: the folder of the policies]
    #[arg(value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// Which policies.
    #[command(flatten)]
    pub from: PolicyFrom,
    /// Fail below this score, from 0 to 100
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u64).range(0..=100))]
    pub min_score: Option<u64>,
}

/// `cedargate policy matrix`
#[derive(Debug, Args)]
pub struct PolicyMatrix {
    /// Which policies.
    #[command(flatten)]
    pub from: PolicyFrom,
    /// The agents, as in a test file [default: fixtures.yaml beside the policies]
    #[arg(long, value_name = "FILE")]
    pub fixtures: Option<PathBuf>,
    /// Write the matrix to this file
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub write: Option<PathBuf>,
    /// Compare it with this file; exit code 1 if it differs
    #[arg(long, value_name = "FILE")]
    pub check: Option<PathBuf>,
}

/// `cedargate policy explain`
#[derive(Debug, Args)]
pub struct PolicyExplain {
    /// Which policies.
    #[command(flatten)]
    pub from: PolicyFrom,
    /// The agents, as in a test file [default: fixtures.yaml beside the policies]
    #[arg(long, value_name = "FILE")]
    pub fixtures: Option<PathBuf>,
    /// Ask the orchestrator for the agent and its grants as they are now, and for the policies
    /// in force unless --policies names others
    #[arg(long, conflicts_with = "fixtures")]
    pub live: bool,
    /// Which of them; with --live an id will do
    #[arg(long, value_name = "NAME")]
    pub agent: AgentRef,
    /// What it sends
    #[arg(long, value_name = "COMMAND")]
    pub call: String,
    /// As if it had this grant, too, as a test writes it: `{call: this, by: [dan], for: 1h}`;
    /// may be repeated
    #[arg(long = "grant", value_name = "GRANT")]
    pub grants: Vec<String>,
    /// When [default: as the fixtures say; with --live, now]
    #[arg(long, value_name = "TIME")]
    pub now: Option<authz::Timestamp>,
    /// From which address
    #[arg(long, default_value = "127.0.0.1")]
    pub ip: std::net::IpAddr,
    /// In which session, as a test writes it: `{tainted: true, calls: 3, began: 20m}`
    /// [default: a fresh one]
    #[arg(long, value_name = "SESSION")]
    pub session: Option<String>,
}

/// `cedargate policy fmt`
#[derive(Debug, Args)]
pub struct PolicyFmt {
    /// *.cedar, or folders of them
    #[arg(required = true, value_name = "PATHS")]
    pub paths: Vec<PathBuf>,
    /// Change nothing; exit code 1 if something would change
    #[arg(long)]
    pub check: bool,
}

/// `cedargate policy diff`
#[derive(Debug, Args)]
pub struct PolicyDiff {
    /// Before: a folder, the first digits of a stored version, `active` or `shadow`
    #[arg(value_name = "BEFORE")]
    pub before: String,
    /// After: likewise
    #[arg(value_name = "AFTER")]
    pub after: String,
    /// The agents, as in a test file [default: fixtures.yaml in the folder after, or before]
    #[arg(long, value_name = "FILE")]
    pub fixtures: Option<PathBuf>,
    /// Decide recorded calls again: the folder of a gateway's journal, or one of its files;
    /// may be repeated
    #[arg(long = "journal", value_name = "PATH")]
    pub journals: Vec<PathBuf>,
    /// Decide the calls in the orchestrator's audit trail again
    #[arg(long)]
    pub audit: bool,
}

const POLICY_TEST: &str = "\
A test says what an agent sends and what should come of it (docs/policies.md has all keys):

  agents: {deploy-bot: {roles: [reader]}}
  tests:
    - name: a reader reads, and asks before it deploys
      agent: deploy-bot
      table:
        - {call: /mcp-coolify servers list, expect: {permit: [standing.reader]}}
        - {call: /mcp-coolify applications restart web, expect: {escalate: {approvals: 1}}}

Example: cedargate policy test policies --format junit > policies.xml";

const POLICY_EXPORT: &str = "\
Cedar's tool knows neither people who can lift a refusal nor how a call becomes a request: what a
test says of these stays behind, and is counted on standard error.

Example: cedargate policy export policies --write tests.json
         cat policies/*.cedar > all.cedar
         cedar run-tests --policies all.cedar --schema schema.cedarschema --tests tests.json";

const POLICY_DIFF: &str = "\
A recorded call is decided again as it was sent, at its time, on the facts that the journal's line
holds. What the record has not whole (arguments that are redacted or too long, lines without facts)
is decided on what there is, and counted apart. Exit code 1 if a line is damaged.

Examples: git worktree add ../before main && cedargate policy diff ../before/policies policies
          cedargate policy diff active policies --audit
          cedargate policy diff active shadow --journal /var/lib/cedargate/journal";

const POLICY_COVERAGE: &str = "\
Each policy is dropped once, each condition removed and turned round, each operand dropped, each
boundary moved, each scope widened. What still validates is tried on the tests; what none of them
notices is listed. The score is what they notice, of a hundred.

Example: cedargate policy coverage policies --min-score 95";

const POLICY_MATRIX: &str = "\
Example: cedargate policy matrix --policies policies --check policies/matrix.golden.txt";

const POLICY_EXPLAIN: &str = "\
Example: cedargate policy explain --policies policies --agent reader-bot --call '/mcp-coolify servers list'
         cedargate policy explain --live --agent deploy-bot --call '/mcp-coolify deploy app-1' \\
           --grant '{call: this, by: [dan], for: 1h}'";
