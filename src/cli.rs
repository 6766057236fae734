//! What may a person type? Names, help and shapes; nothing is resolved or checked against the world yet.

#![expect(clippy::doc_markdown, reason = "these texts are read in a terminal, where backticks are noise")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::budget::Budget;

/// Reconciles a directory of YAML manifests with the apps of a CamposCloud account.
///
/// Each manifest declares whether one app shall be Running or Stopped. The operator compares that with what the server
/// says and calls stop or start, with retry and backoff, until the two agree.
#[derive(Debug, Parser)]
#[command(name = "campos-operator", version, max_term_width = 110, arg_required_else_help = true)]
#[command(after_help = "Every flag has an environment variable CAMPOS_OPERATOR_<FLAG>. The token comes from \
    CAMPOSCLOUD_TOKEN or --token-file, never from a flag.\n\nExit codes: 0 done, 1 any error (usage included), \
    2 changes (only plan --detailed-exitcode).")]
pub struct Cli {
    /// How the log looks.
    #[command(flatten)]
    pub log: LogArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command that concern its log.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// What to log: error, warn, info, debug, trace, or directives such as "info,campos_operator=debug"
    #[arg(long, global = true, env = "CAMPOS_OPERATOR_LOG_LEVEL", default_value = "info", value_name = "FILTER")]
    pub log_level: String,
    /// How to write the log, which goes to stderr
    #[arg(long, global = true, env = "CAMPOS_OPERATOR_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
    /// When to use colour; auto honours NO_COLOR
    #[arg(long, global = true, env = "CAMPOS_OPERATOR_COLOR", default_value = "auto", value_name = "WHEN")]
    pub color: Color,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

/// When colour is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: watch the manifests and keep the apps as they say
    #[command(
        after_help = "Examples:\n  campos-operator run --manifests ./manifests --token-file /run/secrets/token\n  \
        campos-operator run --dry-run          # decide and log, call nothing\n  \
        campos-operator run --once             # until settled, for a cron job or a pipeline\n  \
        campos-operator run --state-dir /var/lib/campos-operator    # keep the history on disk\n\nWhile it runs, \
        --listen answers (GET and HEAD alone): /api/v1/apps, /api/v1/status, /api/v1/history, /api/v1/events,\n\
        /metrics, /livez, /readyz; described by /openapi.json."
    )]
    Run(RunArgs),
    /// Show what `run` would do now, and call nothing
    #[command(
        after_help = "Examples:\n  campos-operator plan\n  campos-operator plan --detailed-exitcode   # 0 nothing \
        to do, 2 changes, 1 error\n  campos-operator plan -o json | jq '.actions'\n  campos-operator plan -o markdown | gh pr \
        comment 42 --body-file -"
    )]
    Plan(PlanArgs),
    /// Check manifests without any network
    #[command(
        after_help = "Examples:\n  campos-operator validate manifests/\n  campos-operator validate bots/ticket.yaml\n  \
        kustomize build . | campos-operator validate -\n  campos-operator validate -o github         # in a workflow: \
        annotates the pull request\n\nExit codes: 0 valid (warnings included), 1 not."
    )]
    Validate(ValidateArgs),
    /// Write a manifest for every app of the account, each with the state it has now
    #[command(
        after_help = "Applying what it writes changes nothing. Apps that DIR declares already are left alone, and no file \
        is replaced without --force.\n\nExamples:\n  campos-operator import --out bots\n  campos-operator import --team \
        60c72b2f9b1e8d001c8e4f00\n  campos-operator plan --manifests bots    # says: No changes"
    )]
    Import(ImportArgs),
    /// Print the JSON Schema of the manifest, for editors
    #[command(
        after_help = "Example:\n  campos-operator schema > manifests/.schema.json\n\nThen let a manifest begin with:\n  \
        # yaml-language-server: $schema=.schema.json"
    )]
    Schema,
    /// Serve a simulated CamposCloud API on loopback, to try things out against
    #[command(
        after_help = "Examples:\n  campos-operator simulate --from manifests\n  campos-operator simulate --apps 300 \
        --listen 127.0.0.1:8800\n  campos-operator simulate --apps 20 --faults faults.yaml\n\nThen, in another shell:\n  \
        CAMPOSCLOUD_TOKEN=simulated-token-0000 campos-operator run --api-url http://127.0.0.1:8800\n\nA file of faults; the first \
        rule that fits a request applies:\n  rules:\n    - on: stop             # list, get, start, stop, restart, me \
        or any\n      app: 60c72b2f9b1e8d001c8e4f3a\n      from: 0s             # since the start, until `to`\n      \
        to: 10s\n      times: 3\n      probability: 0.5\n      do: {status: 429, headers: {retry-after: \"5\"}}\n  \
        revive:                # somebody else starts an app again\n    - {app: 60c72b2f9b1e8d001c8e4f3a, every: \
        10s}\n\nWhat `do` may say: status, headers, body (html, empty, garbage, huge, other-app), delay, hang, drip, \
        refuse, reset (before, after), truncate, ignore, effect-delay, stale, pages (lose, duplicate, shift, loop, \
        empty)."
    )]
    Simulate(SimulateArgs),
    /// Show the main job in one process: simulator and operator on ./manifests
    #[command(
        after_help = "Examples:\n  campos-operator demo\n  campos-operator demo --manifests bots --listen off\n\nThen \
        edit a manifest and watch, on http://127.0.0.1:8080/ for instance."
    )]
    Demo(DemoArgs),
    /// Explain a schedule: which window decides, why, and what comes next
    #[command(after_help = "Examples:\n  campos-operator explain dev-bot                      # asks the daemon\n  \
        campos-operator explain -f manifests/dev-bot.yaml    # offline\n  campos-operator explain -f bots.yaml dev-bot --at \
        2026-12-24T02:00 --next 10")]
    Explain(ExplainArgs),
    /// Print shell completions
    #[command(after_help = "Examples:\n  campos-operator completions bash > \
        ~/.local/share/bash-completion/completions/campos-operator\n  campos-operator completions zsh > \
        ~/.zfunc/_campos-operator")]
    Completions {
        /// For which shell
        shell: Shell,
    },
    /// Print the manual page, or write those of every command
    #[command(after_help = "Examples:\n  campos-operator man | man -l -\n  campos-operator man --out \
        /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Show the apps of a running daemon: what is asked, what is seen, and why
    #[command(
        after_help = "NEXT is what comes next: a stop or start that the schedule will ask for, otherwise the next look. \
        AGE is how long Ready has been what it is.\n\nExamples:\n  campos-operator get\n  campos-operator get -l \
        team=support -l '!legacy' -o wide\n  campos-operator get -w                        # live, until ctrl-c\n  \
        campos-operator get ticket-bot -o yaml        # can be applied again\n  campos-operator get -o json | jq \
        '.items[] | select(.status.desired != .status.observed) | .metadata.name'"
    )]
    Get(GetArgs),
    /// Tell everything about one app in plain words, and what to do about it
    #[command(after_help = "Examples:\n  campos-operator describe ticket-bot\n  campos-operator describe ticket-bot \
        --server http://127.0.0.1:9090")]
    Describe(DescribeArgs),
    /// Show what was decided and called in the past, newest first
    #[command(after_help = "Examples:\n  campos-operator history                  # of all apps\n  campos-operator \
        history ticket-bot --limit 50\n  campos-operator history -o json | jq 'select(.answer.error)'")]
    History(HistoryArgs),
    /// Wait until apps are as you need them
    #[command(
        after_help = "Exit codes: 0 the condition holds for all, 1 not within --timeout; those that do not are named \
        with their reason.\n\nExamples:\n  campos-operator wait ticket-bot\n  campos-operator wait --all --timeout 5m\n  \
        campos-operator wait --for=condition=Stalled=False --all    # nothing needs a person\n  campos-operator wait \
        --for=condition=Reconciling=False ticket-bot music-bot"
    )]
    Wait(WaitArgs),
    /// Tell by the exit code whether a running daemon is alive, as /livez does
    #[command(
        after_help = "Alive means that its loop goes round; a CamposCloud that fails does not make it unhealthy.\n\n\
        Exit codes: 0 healthy, 1 not.\n\nExamples:\n  campos-operator health\n  campos-operator health --server \
        http://127.0.0.1:9090 --timeout 2s\n  HEALTHCHECK CMD [\"/campos-operator\", \"health\"]    # in a Dockerfile"
    )]
    Health(HealthArgs),
}

/// Where the manifests are.
#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// Directory of manifests, read recursively; may be given several times
    #[arg(long = "manifests", env = "CAMPOS_OPERATOR_MANIFESTS", default_value = "./manifests", value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// Follow links that lead out of the directory; within it (ConfigMaps, git-sync) they are always followed
    #[arg(long, env = "CAMPOS_OPERATOR_FOLLOW_LINKS")]
    pub follow_links: bool,
}

/// How changes of the manifests are noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchArg {
    /// At once, by the kernel's events; by scanning as well, and where there are none
    Auto,
    /// By scanning alone, each --scan-interval
    Scan,
}

/// How to reach CamposCloud.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Address of the API; plain http only to loopback
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_API_URL",
        hide_env_values = true,
        default_value = "https://api.camposcloud.com",
        value_name = "URL"
    )]
    pub api_url: String,
    /// Allow plain http to other hosts than loopback; the token then travels unencrypted
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_HTTP")]
    pub allow_http: bool,
    /// File that holds the token; read again when it changes [default: the token is in CAMPOSCLOUD_TOKEN]
    #[arg(long, env = "CAMPOS_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Act on windows and ends of suspensions although this machine's clock differs from the server's
    #[arg(long, env = "CAMPOS_OPERATOR_TRUST_CLOCK")]
    pub trust_clock: bool,
    /// Requests a minute that may be made, of the account's 180; "unlimited" for a private server
    #[arg(long, env = "CAMPOS_OPERATOR_API_BUDGET", default_value = "120", value_name = "N", value_parser = budget)]
    pub api_budget: Budget,
}

/// Which calls the daemon makes at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// Stop and start
    Full,
    /// Stop, never start
    StopOnly,
    /// Look and report, never call
    ObserveOnly,
}

/// `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// The API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// List the apps of this team, too: the plain list need not show them, and one list costs less than single reads; may be given several times
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Time between looks at the list of apps
    #[arg(long, env = "CAMPOS_OPERATOR_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub interval: Duration,
    /// Time between full scans of the manifests; file events make changes immediate
    #[arg(long, env = "CAMPOS_OPERATOR_SCAN_INTERVAL", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub scan_interval: Duration,
    /// Release every app when all manifests of a directory disappear at once, instead of reporting the directory as lost
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_EMPTY")]
    pub allow_empty: bool,
    /// How changes of the manifests are noticed
    #[arg(long, env = "CAMPOS_OPERATOR_WATCH", default_value = "auto", value_name = "HOW")]
    pub watch: WatchArg,
    /// Which calls are allowed; a manifest can only be stricter
    #[arg(long, env = "CAMPOS_OPERATOR_POLICY", default_value = "full", value_name = "POLICY")]
    pub policy: PolicyArg,
    /// Decide and report, but call neither stop nor start
    #[arg(long, env = "CAMPOS_OPERATOR_DRY_RUN")]
    pub dry_run: bool,
    /// Run until everything is settled, then exit: 0 settled, 1 not
    #[arg(long, env = "CAMPOS_OPERATOR_ONCE")]
    pub once: bool,
    /// With --once: give up after this time
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// How long an accepted call has to take effect before it counts as not effective
    #[arg(long, env = "CAMPOS_OPERATOR_CONFIRM_TIMEOUT", default_value = "120s", value_name = "TIME", value_parser = duration)]
    pub confirm_timeout: Duration,
    /// Address of the read-only HTTP port, or "off"; ":8080" is every address of the machine
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR", value_parser = listen)]
    pub listen: Listen,
    /// Another host name under which a loopback port answers, for a proxy in front of it; may be given several times
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_HOST", value_name = "NAME", value_delimiter = ',', value_parser = host)]
    pub allow_host: Vec<String>,
    /// Directory to keep the history in, as history.jsonl; without it the newest 1,000 entries are kept in memory
    #[arg(long, env = "CAMPOS_OPERATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// The manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// The API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// List the apps of this team, too: the plain list need not show them, and one list costs less than single reads; may be given several times
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Which calls are allowed; a manifest can only be stricter
    #[arg(long, env = "CAMPOS_OPERATOR_POLICY", default_value = "full", value_name = "POLICY")]
    pub policy: PolicyArg,
    /// The interval that the requests a minute are computed for
    #[arg(long, env = "CAMPOS_OPERATOR_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub interval: Duration,
    /// How to print the plan
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: PlanOutput,
    /// Exit 2 if there are changes
    #[arg(long, env = "CAMPOS_OPERATOR_DETAILED_EXITCODE")]
    pub detailed_exitcode: bool,
}

/// How a plan is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// For a person
    Text,
    /// For a script
    Json,
    /// For a pull request
    Markdown,
}

/// `validate`.
#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Files and directories; - reads stdin
    #[arg(default_value = "./manifests", value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Follow links that lead out of a directory
    #[arg(long, env = "CAMPOS_OPERATOR_FOLLOW_LINKS")]
    pub follow_links: bool,
    /// How to print what is wrong
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: ValidateOutput,
}

/// How diagnostics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ValidateOutput {
    /// For a person, with the line and what would fit
    Text,
    /// For a script
    Json,
    /// Workflow commands: annotations on a pull request on GitHub
    Github,
}

/// `import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// The API.
    #[command(flatten)]
    pub api: ApiArgs,
    /// Directory to write to; created if need be
    #[arg(long, env = "CAMPOS_OPERATOR_OUT", default_value = "./manifests", value_name = "DIR")]
    pub out: PathBuf,
    /// The apps of this team instead of your own; may be given several times
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Write files anew that are there already
    #[arg(long, env = "CAMPOS_OPERATOR_FORCE")]
    pub force: bool,
}

/// `explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// The app; with --file all of its apps, if left out
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Explain this manifest instead of asking the daemon
    #[arg(short, long, env = "CAMPOS_OPERATOR_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// The moment: RFC 3339, or a time of the app's zone such as 2026-12-24T02:00; now, if left out
    #[arg(long, env = "CAMPOS_OPERATOR_AT", value_name = "TIME")]
    pub at: Option<String>,
    /// How many changes to tell
    #[arg(long, env = "CAMPOS_OPERATOR_NEXT", default_value_t = 5, value_name = "N")]
    pub next: usize,
    /// The daemon's port
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = server
    )]
    pub server: String,
    /// What to print
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: ExplainOutput,
}

/// How an explanation is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// For a person.
    Text,
    /// For a script.
    Json,
}

/// `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Address to serve on; port 0 takes a free one
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8800", value_name = "ADDR", value_parser = address)]
    pub listen: SocketAddr,
    /// Number of made-up apps, all running
    #[arg(long, env = "CAMPOS_OPERATOR_APPS", default_value_t = 0, value_name = "N")]
    pub apps: u32,
    /// One running app for each manifest below this directory
    #[arg(long, env = "CAMPOS_OPERATOR_FROM", value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Seed of everything that is left to chance
    #[arg(long, env = "CAMPOS_OPERATOR_SEED", default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Hardship to simulate, in YAML; the format is below
    #[arg(long, env = "CAMPOS_OPERATOR_FAULTS", value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// The token to accept
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_SIMULATE_TOKEN",
        hide_env_values = true,
        default_value = crate::simulator::world::TOKEN,
        value_name = "TOKEN"
    )]
    pub token: String,
}

/// `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// The manifests.
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Address of the read-only HTTP port, or "off"; a taken port is replaced by a free one
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR", value_parser = listen)]
    pub listen: Listen,
}

/// Where the HTTP port listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// There.
    On(SocketAddr),
}

/// Where the daemon is.
#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// Address of the daemon's HTTP port
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = server
    )]
    pub server: String,
}

/// `get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// Apps by name; all of them if none is given
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// The daemon.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to print the apps [default: a table]
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", value_name = "FORMAT")]
    pub output: Option<GetOutput>,
    /// Only apps with this label: key=value, key!=value, key or !key; repeatable or separated by commas, all must hold
    #[arg(short = 'l', long, env = "CAMPOS_OPERATOR_SELECTOR", value_name = "LABEL", value_delimiter = ',')]
    #[arg(value_parser = selector, conflicts_with = "names")]
    pub selector: Vec<Selector>,
    /// Go on showing what changes: redrawn on a terminal, otherwise one line for each change
    // The variable is shared with a flag of the daemon that takes words, so only a plain yes counts as one.
    #[arg(short, long, env = "CAMPOS_OPERATOR_WATCH", value_parser = yes)]
    pub watch: bool,
}

/// How `get` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GetOutput {
    /// A table with more columns
    Wide,
    /// The objects as JSON
    Json,
    /// The objects as YAML, which can be applied again
    Yaml,
    /// The names alone
    Name,
}

/// One condition on labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// `key=value`
    Equal(String, String),
    /// `key!=value`; holds without the label, too
    NotEqual(String, String),
    /// `key`
    Present(String),
    /// `!key`
    Absent(String),
}

/// `describe`.
#[derive(Debug, Clone, Args)]
pub struct DescribeArgs {
    /// The app
    pub name: String,
    /// The daemon.
    #[command(flatten)]
    pub server: ServerArgs,
}

/// `history`.
#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Only of this app
    pub name: Option<String>,
    /// The daemon.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How to print the entries
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: HistoryOutput,
    /// At most so many, the newest
    #[arg(long, env = "CAMPOS_OPERATOR_LIMIT", default_value_t = 20, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

/// How `history` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryOutput {
    /// A table
    Text,
    /// One JSON object a line
    Json,
}

/// `wait`.
#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["names", "all"]))]
pub struct WaitArgs {
    /// Apps by name
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// All apps
    #[arg(long, env = "CAMPOS_OPERATOR_ALL")]
    pub all: bool,
    /// The daemon.
    #[command(flatten)]
    pub server: ServerArgs,
    /// What to wait for: condition=Ready, Reconciling or Stalled, with =False or =Unknown for another value than True
    #[arg(long = "for", env = "CAMPOS_OPERATOR_FOR", default_value = "condition=Ready", value_name = "CONDITION")]
    #[arg(value_parser = awaited)]
    pub awaited: Awaited,
    /// How long to wait
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

/// `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Directory to write one page for each command to; created if need be [default: print the main page]
    #[arg(long, env = "CAMPOS_OPERATOR_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// `health`.
#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    /// The daemon.
    #[command(flatten)]
    pub server: ServerArgs,
    /// How long to wait for the answer
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

/// A condition and the value it shall have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Awaited {
    /// `Ready`, `Reconciling` or `Stalled`.
    pub condition: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
}

fn awaited(text: &str) -> Result<Awaited, String> {
    let hint = "expected condition=Ready, condition=Ready=False, or the same with Reconciling or Stalled";
    let (condition, status) = match text.strip_prefix("condition=").ok_or(hint)?.split_once('=') {
        Some(both) => both,
        None => (text.trim_start_matches("condition="), "True"),
    };
    let word = |words: [&'static str; 3], typed: &str| words.into_iter().find(|word| word.eq_ignore_ascii_case(typed));
    let condition = word(["Ready", "Reconciling", "Stalled"], condition).ok_or(hint)?;
    Ok(Awaited { condition, status: word(["True", "False", "Unknown"], status).ok_or(hint)? })
}

fn selector(text: &str) -> Result<Selector, String> {
    let text = text.trim();
    let selector = if let Some((key, value)) = text.split_once("!=") {
        Selector::NotEqual(key.trim().into(), value.trim().into())
    } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Selector::Equal(key.trim().into(), value.trim().into())
    } else if let Some(key) = text.strip_prefix('!') {
        Selector::Absent(key.trim().into())
    } else {
        Selector::Present(text.into())
    };
    let (Selector::Equal(key, _) | Selector::NotEqual(key, _) | Selector::Present(key) | Selector::Absent(key)) =
        &selector;
    if key.is_empty() || key.contains(char::is_whitespace) {
        return Err("expected key=value, key!=value, key or !key".into());
    }
    Ok(selector)
}

#[expect(clippy::unnecessary_wraps, reason = "the signature that clap asks for")]
fn yes(text: &str) -> Result<bool, String> {
    Ok(["true", "1", "yes", "on"].contains(&text))
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    address(text).map(Listen::On).map_err(|hint| hint + ", or off")
}

/// `ADDRESS:PORT`; `localhost` is an address, and none at all is all of them.
fn address(text: &str) -> Result<SocketAddr, String> {
    let hint = || "expected ADDRESS:PORT, such as 127.0.0.1:8080, [::1]:8080, localhost:8080 or :8080".to_owned();
    let Some((host, port)) = text.rsplit_once(':') else { return Err(hint()) };
    let ip = match host {
        "" => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        host if host.trim_end_matches('.').eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
        _ => return text.parse().map_err(|_| hint()),
    };
    Ok(SocketAddr::new(ip, port.parse().map_err(|_| hint())?))
}

/// The address of a daemon's port; without a scheme it is http, and without a host this machine.
#[expect(clippy::unnecessary_wraps, reason = "the signature that clap asks for")]
fn server(text: &str) -> Result<String, String> {
    let host_and_port = text.rsplit_once(':').filter(|(host, port)| {
        let bare = !host.contains("//") && !host.contains('/') && !host.contains('@');
        bare && port.trim_end_matches('/').parse::<u16>().is_ok()
    });
    Ok(match host_and_port {
        Some(("", port)) => format!("http://127.0.0.1:{port}"),
        Some(_) => format!("http://{text}"),
        None => text.to_owned(),
    })
}

fn host(text: &str) -> Result<String, String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || "/@,?#".contains(c);
    let port = text.contains(':') && text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_err();
    if text.is_empty() || text.contains(odd) || port {
        return Err("expected a host name without a port, such as ops.example".into());
    }
    Ok(text.trim_start_matches('[').trim_end_matches(']').to_owned())
}

fn budget(text: &str) -> Result<Budget, String> {
    match text {
        "unlimited" => Ok(Budget::Unlimited),
        number => match number.parse() {
            Ok(rate @ 1..) => Ok(Budget::PerMinute(rate)),
            Ok(0) | Err(_) => Err("expected a whole number of requests a minute from 1, or unlimited".into()),
        },
    }
}

/// A time such as `90s`, `2m` or `1h 30m`; between a tenth of a second and a week.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = "expected a time with a unit, such as 500ms, 60s, 2m or 1h30m";
    let signed: jiff::SignedDuration = text.parse().map_err(|_| hint)?;
    let duration = Duration::try_from(signed).map_err(|_| hint)?;
    if duration < Duration::from_millis(100) || duration > Duration::from_hours(24 * 7) {
        return Err("expected a time between 100ms and 168h".into());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let example = format!("\n  campos-operator {}", command.get_name());
            assert!(help.contains("Example") && help.contains(&example), "{}", command.get_name());
        }
    }

    #[test]
    fn times_need_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for wrong in ["60", "", "-5s", "1ms", "1y", "abc"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn selectors() {
        let label = |text: &str| text.to_owned();
        assert_eq!(selector("team=support"), Ok(Selector::Equal(label("team"), label("support"))));
        assert_eq!(selector("team==support"), Ok(Selector::Equal(label("team"), label("support"))));
        assert_eq!(selector("team="), Ok(Selector::Equal(label("team"), label(""))));
        assert_eq!(selector("a/b!=c=d"), Ok(Selector::NotEqual(label("a/b"), label("c=d"))));
        assert_eq!(selector(" team "), Ok(Selector::Present(label("team"))));
        assert_eq!(selector("!team"), Ok(Selector::Absent(label("team"))));
        for wrong in ["", "=x", "!=x", "!", "a b", "team in (a)"] {
            assert!(selector(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn conditions_to_wait_for() {
        assert_eq!(awaited("condition=Ready"), Ok(Awaited { condition: "Ready", status: "True" }));
        assert_eq!(awaited("condition=stalled=false"), Ok(Awaited { condition: "Stalled", status: "False" }));
        for wrong in ["Ready", "condition=", "condition=Redy", "condition=Ready=maybe", "condition=Ready=", "delete"] {
            assert!(awaited(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn budgets_and_addresses() {
        assert_eq!(budget("unlimited"), Ok(Budget::Unlimited));
        assert_eq!(budget("30"), Ok(Budget::PerMinute(30)));
        assert!(budget("0").is_err() && budget("-1").is_err() && budget("lots").is_err());
        assert_eq!(listen("off"), Ok(Listen::Off));
        for (typed, meant) in [
            (":8080", "[::]:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("Localhost.:0", "127.0.0.1:0"),
            ("[::ffff:127.0.0.1]:1", "[::ffff:127.0.0.1]:1"),
            ("0.0.0.0:8080", "0.0.0.0:8080"),
        ] {
            assert_eq!(listen(typed), Ok(Listen::On(meant.parse().unwrap())), "{typed}");
        }
        for wrong in ["8080", "", ":", "localhost", "localhost:", ":99999", "ops.example:8080", "http://127.0.0.1:1"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
        for (typed, meant) in [
            (":8080", "http://127.0.0.1:8080"),
            ("localhost:8080", "http://localhost:8080"),
            ("127.0.0.1:8080/", "http://127.0.0.1:8080/"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("ops.example:80", "http://ops.example:80"),
            ("https://ops.example/campos", "https://ops.example/campos"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("ftp://x:1", "ftp://x:1"),
            ("8080", "8080"),
        ] {
            assert_eq!(server(typed), Ok(meant.to_owned()), "{typed}");
        }
        for (typed, meant) in
            [("ops.example", Some("ops.example")), ("[fd00::1]", Some("fd00::1")), ("10.0.0.1", Some("10.0.0.1"))]
        {
            assert_eq!(host(typed).ok().as_deref(), meant, "{typed}");
        }
        for wrong in ["", "ops.example:80", "http://x", "a b", "a/b", "a@b"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
