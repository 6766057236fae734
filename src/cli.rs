//! Command line: names, help and shapes of flags. Nothing here reads files or opens connections.

#![expect(clippy::doc_markdown, reason = "a terminal shows these texts with their backticks")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use jiff::{SignedDuration, SpanRelativeTo, Timestamp};

use crate::budget::Budget;
use crate::manifest::diagnostic::nearest;
use crate::manifest::schema::state_meant;
use crate::reconcile::app::AppName;
use crate::reconcile::labels::Selector;
use crate::reconcile::max_changes::Limit;
use crate::reconcile::reason::Reason;
use crate::reconcile::state::Desired;

/// Keep the apps of a CamposCloud account in the state declared by a directory of YAML manifests
///
/// Each manifest declares that one app is Running or Stopped. The operator compares the manifests with the apps, and
/// calls stop, start or restart, with retries and backoff, until they agree.
#[derive(Debug, Parser)]
#[command(name = "campos-operator", version, max_term_width = 110, arg_required_else_help = true)]
#[command(
    after_help = "Every flag has an environment variable: CAMPOS_OPERATOR_ and the name of the flag (simulate --token: \
    CAMPOS_OPERATOR_SIMULATE_TOKEN). The token comes from CAMPOSCLOUD_TOKEN or from the file of --token-file, never from \
    the command line.\n\nExit codes: 0 success, 1 any error (also wrong usage), \
    2 changes (only plan --detailed-exitcode)."
)]
pub struct Cli {
    #[command(flatten)]
    pub log: LogArgs,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of the log, which every command has.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Level of the log: error, warn, info, debug, trace, or directives such as "info,campos_operator=debug"
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "CAMPOS_OPERATOR_LOG_LEVEL",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log_level: String,
    /// Format of the log, which goes to stderr
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "CAMPOS_OPERATOR_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,
    /// Use of color; auto: on a terminal, unless NO_COLOR or TERM=dumb is set
    #[arg(
        long,
        global = true,
        help_heading = "Global options",
        env = "CAMPOS_OPERATOR_COLOR",
        default_value = "auto",
        value_name = "WHEN"
    )]
    pub color: Color,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Readable lines.
    Text,
    /// One JSON object for each line.
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the operator: watch the manifests, and keep the apps in the declared state
    #[command(
        after_help = "Examples:\n  campos-operator run --manifests ./manifests --token-file /run/secrets/token\n  \
        campos-operator run --dry-run          # log decisions, send no call\n  \
        campos-operator run --once             # exit when nothing is left to do, for cron or CI\n  \
        campos-operator run --state-dir /var/lib/campos-operator    # keep the history on disk\n\nThe \
        port of --listen serves a status page (/), /api/v1/apps, /api/v1/status, /api/v1/history,\n\
        /api/v1/forecast, /api/v1/events, /metrics, /livez and /readyz (GET and HEAD only). /openapi.json describes it."
    )]
    Run(Box<RunArgs>),
    /// Show the calls that `run` would send now, and send none
    #[command(
        after_help = "Examples:\n  campos-operator plan\n  campos-operator plan --detailed-exitcode   # exit code 0: \
        no changes, 2: changes, 1: an error, or an app is stuck\n  campos-operator plan -o json | jq '.actions'\n  campos-operator plan -o markdown | gh pr \
        comment 42 --body-file -"
    )]
    Plan(PlanArgs),
    /// Check manifests offline
    #[command(
        after_help = "Examples:\n  campos-operator validate manifests/\n  campos-operator validate bots/ticket.yaml\n  \
        kustomize build . | campos-operator validate -\n  campos-operator validate -o github         # in a workflow: \
        annotates the pull request\n\nExit codes: 0 valid (also with warnings), 1 invalid."
    )]
    Validate(ValidateArgs),
    /// Write one manifest for each app of the account, with the present state of the app
    #[command(
        after_help = "The manifests declare the present state, so `run` changes nothing. `import` skips apps that DIR already \
        declares, and overwrites no file without --force.\n\nExamples:\n  campos-operator import --out bots\n  campos-operator import --team \
        60c72b2f9b1e8d001c8e4f00\n  campos-operator plan --manifests bots    # prints: No changes"
    )]
    Import(ImportArgs),
    /// Print the JSON Schema of the manifest, for editors
    #[command(
        after_help = "Example:\n  campos-operator schema > manifests/.schema\n\nThen begin each manifest with this line:\n  \
        # yaml-language-server: $schema=.schema\n\nCustomResourceDefinitions for Kubernetes:\n  \
        campos-operator schema --crd | kubectl apply --server-side -f -"
    )]
    Schema(SchemaArgs),
    /// Serve a simulated CamposCloud API for tests and rehearsals, by default on a loopback address
    #[command(
        after_help = "Examples:\n  campos-operator simulate --from manifests\n  campos-operator simulate --apps 300 \
        --listen 127.0.0.1:8800\n  campos-operator simulate --apps 20 --faults faults.yaml\n\nThen, in another shell:\n  \
        CAMPOSCLOUD_TOKEN=simulated-token-0000 campos-operator run --api-url http://127.0.0.1:8800\n\nA file of faults; the first \
        rule that matches a request applies:\n  rules:\n    - on: stop             # list, get, start, stop, restart, me \
        or any\n      app: 60c72b2f9b1e8d001c8e4f3a\n      from: 0s             # since the start, until `to`\n      \
        to: 10s\n      times: 3\n      probability: 0.5\n      do: {status: 429, headers: {retry-after: \"5\"}}\n  \
        revive:                # another client starts the app again\n    - {app: 60c72b2f9b1e8d001c8e4f3a, every: \
        10s}\n\nKeys of `do`: status, headers, body (html, empty, garbage, huge, other-app), delay, hang, drip, \
        refuse, reset (before, after), truncate, ignore, effect-delay, stale, pages (lose, duplicate, shift, loop, \
        empty)."
    )]
    Simulate(SimulateArgs),
    /// Run the operator and a simulated CamposCloud in one process, on ./manifests
    #[command(
        after_help = "Examples:\n  campos-operator demo\n  campos-operator demo --manifests bots --listen off\n\nThen \
        edit a manifest, and watch the app on http://127.0.0.1:8080/."
    )]
    Demo(DemoArgs),
    /// Explain a schedule: the window that decides, its reason, and the next changes
    #[command(
        after_help = "Examples:\n  campos-operator explain dev-bot                      # queries the daemon\n  \
        campos-operator explain -f manifests/dev-bot.yaml    # offline\n  campos-operator explain -f bots.yaml dev-bot --at \
        2026-12-24T02:00 --next 10"
    )]
    Explain(ExplainArgs),
    /// Forecast the stops and starts that the manifests cause in the next days
    #[command(
        after_help = "Works offline. With a token, the command also reads the memory of the apps, for the MB hours that schedules save.\n\n\
        Examples:\n  campos-operator forecast\n  campos-operator forecast --days 30 -o json\n  campos-operator forecast -o ics > \
        fleet.ics    # for a calendar"
    )]
    Forecast(ForecastArgs),
    /// Override the desired state of an app until a time, by an edit of its manifest
    #[command(
        after_help = "The command changes only `spec.override` in the file, and prints the change. It needs neither a daemon nor \
        a token.\n\nExamples:\n  campos-operator override ticket-bot Running --for 4h --reason hotfix\n  \
        campos-operator override ticket-bot Stopped --until 2026-11-27T03:00:00Z\n  campos-operator override ticket-bot --clear"
    )]
    Override(OverrideArgs),
    /// Suspend an app, by an edit of its manifest: the operator observes it, and sends no call
    #[command(
        after_help = "Examples:\n  campos-operator suspend ticket-bot --reason migration\n  campos-operator suspend ticket-bot \
        --for 2d --reason migration --dry-run"
    )]
    Suspend(SuspendArgs),
    /// Resume a suspended app, by an edit of its manifest
    #[command(after_help = "Example:\n  campos-operator resume ticket-bot")]
    Resume(ResumeArgs),
    /// Request a restart of an app, by an edit of its manifest
    #[command(after_help = "Example:\n  campos-operator restart ticket-bot")]
    Restart(RestartArgs),
    /// Print shell completions
    #[command(
        after_help = "The completion script runs campos-operator to list names and labels of apps: from the daemon (--server) if it \
        answers, otherwise from the manifests. Commands that edit manifests read names only from the manifests.\n\nExamples:\n  campos-operator completions bash > \
        ~/.local/share/bash-completion/completions/campos-operator\n  campos-operator completions zsh > \
        ~/.zfunc/_campos-operator"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, or write one page for each command
    #[command(after_help = "Examples:\n  campos-operator man | man -l -\n  campos-operator man --out \
        /usr/local/share/man/man1")]
    Man(ManArgs),
    /// Show the apps of a running daemon: desired state, observed state, and reason
    #[command(
        visible_aliases = ["list", "ls"],
        after_help = "NEXT shows the next event: stop or start (a change by the schedule), read (the next read), or retry (the next \
        attempt after a failure, or at the end of a pause). \
        AGE is the time since READY last changed. On a terminal, apps that need attention come first; \
        in a pipe, the order is by name.\n\nExamples:\n  campos-operator get\n  campos-operator get --not-ready\n  \
        campos-operator get --reason AppNotFound,Forbidden --sort-by age\n  campos-operator get -l \
        team=support -l '!legacy' -o wide\n  campos-operator get -w                        # follow changes until Ctrl-C\n  \
        campos-operator get ticket-bot -o yaml        # a manifest that you can apply again\n  campos-operator get -o json | jq \
        '.items[] | select(.status.desired != .status.observed) | .metadata.name'"
    )]
    Get(GetArgs),
    /// Show the state of the daemon and of all apps on one screen
    #[command(
        after_help = "Exit codes: 0, or 1 if anything needs a person.\n\nExamples:\n  campos-operator status\n  \
        campos-operator status --transitions 20    # the next change of each app\n  campos-operator status -o json \
        | jq '.status.apps'"
    )]
    Status(StatusArgs),
    /// Show everything about one app: its state, the cause, and the next step
    #[command(after_help = "Examples:\n  campos-operator describe ticket-bot\n  campos-operator describe ticket-bot \
        --server http://127.0.0.1:9090")]
    Describe(DescribeArgs),
    /// Show past changes and calls, newest first
    #[command(after_help = "Each row is one change with its results; equal rows are combined. -o json prints each \
        decision and call. Times are in UTC.\n\nExamples:\n  campos-operator history                  # of all apps\n  campos-operator \
        history ticket-bot --limit 50\n  campos-operator history -o json | jq 'select(.answer.error)'")]
    History(HistoryArgs),
    /// Wait until apps meet a condition
    ///
    /// Prints each app when its condition is met. Waits for a daemon that has not started yet. --all skips suspended
    /// apps.
    #[command(after_help = "Exit codes: 0 all apps meet the condition, 1 --timeout ended first (the output lists \
        the other apps and their reasons).\n\nExamples:\n  campos-operator wait ticket-bot\n  campos-operator wait --all --timeout 5m\n  \
        campos-operator wait --for=condition=Stalled=False --all    # nothing needs a person\n  campos-operator wait \
        --for=condition=Reconciling=False ticket-bot music-bot")]
    Wait(WaitArgs),
    /// Exit with 0 if a running daemon is alive, as /livez reports it
    #[command(
        after_help = "A daemon is alive while its loop makes progress. A failure of CamposCloud does not make it unhealthy.\n\n\
        Exit codes: 0 alive, 1 not alive.\n\nExamples:\n  campos-operator health\n  campos-operator health --server \
        http://127.0.0.1:9090 --timeout 2s\n  HEALTHCHECK CMD [\"/campos-operator\", \"health\"]    # in a Dockerfile"
    )]
    Health(HealthArgs),
    /// Print the version
    #[command(after_help = "Example:\n  campos-operator version")]
    Version,
}

/// The default of --manifests.
pub const MANIFESTS: &str = "./manifests";

#[derive(Debug, Clone, Args)]
pub struct ManifestArgs {
    /// Directory of manifests, read recursively; repeatable
    #[arg(long = "manifests", env = "CAMPOS_OPERATOR_MANIFESTS", default_value = MANIFESTS, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    #[command(flatten)]
    pub rules: RulesArgs,
}

#[derive(Debug, Clone, Args)]
pub struct ForecastArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    /// Number of days
    #[arg(long, env = "CAMPOS_OPERATOR_DAYS", default_value = "7", value_name = "N", value_parser = clap::value_parser!(u16).range(1..=366))]
    pub days: u16,
    /// Allowed calls; a manifest can only be stricter
    #[arg(long, env = "CAMPOS_OPERATOR_POLICY", default_value = "full", value_name = "POLICY")]
    pub policy: PolicyArg,
    /// Format of the forecast
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: ForecastOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ForecastOutput {
    /// A table
    Text,
    /// One JSON object
    Json,
    /// An iCalendar file with one event for each bulk of calls
    Ics,
}

/// The app whose manifest is edited.
#[derive(Debug, Clone, Args)]
pub struct EditArgs {
    /// Name of the app, or its appId
    pub name: String,
    /// Print the change, and write nothing
    #[arg(long, env = "CAMPOS_OPERATOR_DRY_RUN")]
    pub dry_run: bool,
    #[command(flatten)]
    pub manifests: ManifestArgs,
}

#[derive(Debug, Clone, Args)]
pub struct OverrideArgs {
    #[command(flatten)]
    pub edit: EditArgs,
    /// The desired state until the end: Running or Stopped
    #[arg(value_parser = state, required_unless_present = "clear")]
    pub state: Option<Desired>,
    /// Duration, such as 4h or 2d
    #[arg(long = "for", env = "CAMPOS_OPERATOR_FOR", value_name = "TIME", value_parser = length, conflicts_with = "until")]
    pub for_: Option<SignedDuration>,
    /// End: RFC 3339, such as 2026-11-27T03:00:00Z
    #[arg(long, env = "CAMPOS_OPERATOR_UNTIL", value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Reason
    #[arg(long, env = "CAMPOS_OPERATOR_REASON")]
    pub reason: Option<String>,
    /// Author [default: user.name of git, otherwise USER]
    #[arg(long, env = "CAMPOS_OPERATOR_BY", value_name = "NAME")]
    pub by: Option<String>,
    /// Remove the override
    #[arg(long, env = "CAMPOS_OPERATOR_CLEAR", conflicts_with_all = ["state", "for_", "until", "reason", "by"])]
    pub clear: bool,
}

#[derive(Debug, Clone, Args)]
pub struct SuspendArgs {
    #[command(flatten)]
    pub edit: EditArgs,
    /// Duration, such as 4h or 2d
    #[arg(long = "for", env = "CAMPOS_OPERATOR_FOR", value_name = "TIME", value_parser = length, conflicts_with = "until")]
    pub for_: Option<SignedDuration>,
    /// End: RFC 3339, such as 2026-11-27T03:00:00Z [default: until you resume the app]
    #[arg(long, env = "CAMPOS_OPERATOR_UNTIL", value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
    /// Reason
    #[arg(long, env = "CAMPOS_OPERATOR_REASON")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    pub edit: EditArgs,
}

#[derive(Debug, Clone, Args)]
pub struct RestartArgs {
    #[command(flatten)]
    pub edit: EditArgs,
}

/// Rules that select files below a directory.
#[derive(Debug, Clone, Args)]
pub struct RulesArgs {
    /// Follow links that lead out of the directory; links within it (ConfigMaps, git-sync) are always followed
    #[arg(long, env = "CAMPOS_OPERATOR_FOLLOW_LINKS")]
    pub follow_links: bool,
    /// Skip files and directories that match this pattern, as a line of .gitignore; repeatable. To skip files always,
    /// write the patterns into .camposignore
    #[arg(long, env = "CAMPOS_OPERATOR_EXCLUDE", value_name = "GLOB", value_parser = crate::manifest::source::check_glob)]
    pub exclude: Vec<String>,
}

/// Detection of changes of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WatchArg {
    /// File events, and scans
    Auto,
    /// Scans only, every --scan-interval
    Scan,
}

#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// URL of the API; plain http only for loopback addresses (see --allow-http)
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_API_URL",
        hide_env_values = true,
        default_value = "https://api.camposcloud.com",
        value_name = "URL"
    )]
    pub api_url: String,
    /// Allow plain http to hosts other than loopback; the token is then sent unencrypted
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_HTTP")]
    pub allow_http: bool,
    /// File with the token, read again when it changes; a pipe is read once [default: the token is in
    /// CAMPOSCLOUD_TOKEN]
    #[arg(long, env = "CAMPOS_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Trust the clock of this machine for windows and ends of suspensions, even if the clock of the server differs
    /// (for run and plan)
    #[arg(long, env = "CAMPOS_OPERATOR_TRUST_CLOCK")]
    pub trust_clock: bool,
    /// Limit of requests a minute, of the 180 that the account has; "unlimited" for a private server
    #[arg(long, env = "CAMPOS_OPERATOR_API_BUDGET", default_value = "120", value_name = "N", value_parser = budget)]
    pub api_budget: Budget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PolicyArg {
    /// Stop, start and restart
    Full,
    /// Stop, never start
    StopOnly,
    /// Observe and report, never call
    ObserveOnly,
}

#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    /// Also list the apps of this team, which the list of the account may not show; costs fewer requests than single
    /// reads; repeatable
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Time between reads of the list of apps
    #[arg(long, env = "CAMPOS_OPERATOR_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub interval: Duration,
    /// Time between scans of all manifests; with file events, most changes take effect at once
    #[arg(long, env = "CAMPOS_OPERATOR_SCAN_INTERVAL", default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub scan_interval: Duration,
    /// Release the apps if all manifests of a directory disappear at once, instead of keeping them in force
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_EMPTY")]
    pub allow_empty: bool,
    /// Detection of changes of manifests
    #[arg(long, env = "CAMPOS_OPERATOR_WATCH", default_value = "auto", value_name = "MODE")]
    pub watch: WatchArg,
    /// Allowed calls; a manifest can only be stricter
    #[arg(long, env = "CAMPOS_OPERATOR_POLICY", default_value = "full", value_name = "POLICY")]
    pub policy: PolicyArg,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Decide and report, but send no call
    #[arg(long, env = "CAMPOS_OPERATOR_DRY_RUN")]
    pub dry_run: bool,
    /// Exit when nothing is left to do: 0 if all apps are settled, suspended, or held by a policy or --dry-run; 1 if not
    #[arg(long, env = "CAMPOS_OPERATOR_ONCE")]
    pub once: bool,
    /// With --once: exit with 1 after this time
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
    /// Time in which an accepted call must take effect
    #[arg(long, env = "CAMPOS_OPERATOR_CONFIRM_TIMEOUT", default_value = "120s", value_name = "TIME", value_parser = duration)]
    pub confirm_timeout: Duration,
    /// Address of the read-only HTTP port, or "off"; ":8080" means all addresses of the machine
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR", value_parser = listen)]
    pub listen: Listen,
    /// Another host name that a loopback port accepts, for a proxy in front of it; repeatable
    #[arg(long, env = "CAMPOS_OPERATOR_ALLOW_HOST", value_name = "NAME", value_delimiter = ',', value_parser = host)]
    pub allow_host: Vec<String>,
    /// URL template for links to manifests, such as https://forge/me/fleet/blob/{revision}/{file}#L{line}
    #[arg(long, env = "CAMPOS_OPERATOR_SOURCE_LINK", value_name = "TEMPLATE", value_parser = source_link)]
    pub source_link: Option<String>,
    #[command(flatten)]
    pub notify: NotifyArgs,
    /// Directory for the history (history.jsonl); without it, only the newest 1,000 entries are kept, in memory
    #[arg(long, env = "CAMPOS_OPERATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub kubernetes: KubernetesArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SourceArg {
    /// The directories of --manifests
    Directory,
    /// Custom resources of --namespace
    Kubernetes,
}

/// Parses the name of a Kubernetes object, which becomes a part of a URL.
fn object_name(text: &str) -> Result<String, String> {
    for label in text.split('.') {
        label.parse::<AppName>().map_err(|malformed| format!("the name {malformed}"))?;
    }
    Ok(text.to_owned())
}

/// Source of the manifests.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Source of the manifests
    #[arg(long, env = "CAMPOS_OPERATOR_SOURCE", default_value = "directory", value_name = "SOURCE")]
    pub source: SourceArg,
    /// Namespace of the custom resources and of the Lease [default: that of the pod, or of the current context]
    #[arg(long, env = "CAMPOS_OPERATOR_NAMESPACE", value_name = "NS", value_parser = object_name)]
    pub namespace: Option<String>,
}

/// The Kubernetes API.
#[derive(Debug, Clone, Args)]
pub struct KubernetesArgs {
    #[command(flatten)]
    pub source: SourceArgs,
    /// Send requests to CamposCloud only while this process holds a Lease in Kubernetes; for two or more replicas
    #[arg(long, env = "CAMPOS_OPERATOR_LEADER_ELECT", conflicts_with = "once")]
    pub leader_elect: bool,
    /// Name of the Lease
    #[arg(long, env = "CAMPOS_OPERATOR_LEASE_NAME", default_value = "campos-operator", value_name = "NAME", value_parser = object_name)]
    pub lease_name: String,
    /// Time after which another replica takes over from a leader that does not renew the Lease; 15s or more
    #[arg(long, env = "CAMPOS_OPERATOR_LEASE_DURATION", default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub lease_duration: Duration,
    /// With --leader-elect: the pod of this process, which gets the label campos-operator.dev/leader
    #[arg(long, env = "CAMPOS_OPERATOR_POD_NAME", value_name = "NAME", requires = "leader_elect")]
    pub pod_name: Option<String>,
}

/// Limits of the calls that edits cause.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Hold all stops that edits cause, if they are more than N, or P% of the declared apps [default: no limit]
    #[arg(long, env = "CAMPOS_OPERATOR_MAX_STOPS", value_name = "N|P%")]
    pub max_stops: Option<Limit>,
    /// Hold all starts that edits cause, if they are more than N, or P% of the declared apps [default: no limit]
    #[arg(long, env = "CAMPOS_OPERATOR_MAX_STARTS", value_name = "N|P%")]
    pub max_starts: Option<Limit>,
}

/// Flags of notifications.
#[derive(Debug, Clone, Args)]
pub struct NotifyArgs {
    /// File with the URL of a Discord webhook, for one message about each cause; the URL is a secret
    #[arg(long, env = "CAMPOS_OPERATOR_NOTIFY_DISCORD_FILE", value_name = "FILE")]
    pub notify_discord_file: Option<PathBuf>,
    /// File with the URL of a Slack webhook
    #[arg(long, env = "CAMPOS_OPERATOR_NOTIFY_SLACK_FILE", value_name = "FILE")]
    pub notify_slack_file: Option<PathBuf>,
    /// File with the URL of another webhook, which gets JSON
    #[arg(long, env = "CAMPOS_OPERATOR_NOTIFY_WEBHOOK_FILE", value_name = "FILE")]
    pub notify_webhook_file: Option<PathBuf>,
    /// File with the secret that signs the body for --notify-webhook-file (X-Campos-Signature)
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_NOTIFY_WEBHOOK_SECRET_FILE",
        value_name = "FILE",
        requires = "notify_webhook_file"
    )]
    pub notify_webhook_secret_file: Option<PathBuf>,
    /// Minimum level of the messages
    #[arg(long, env = "CAMPOS_OPERATOR_NOTIFY_LEVEL", default_value = "warning", value_name = "LEVEL")]
    pub notify_level: LevelArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LevelArg {
    /// Calls that took effect, and all messages of `warning` and `person`
    Info,
    /// Causes that may end by themselves, scheduled stops with `warn`, and all messages of `person`
    Warning,
    /// Only causes that need a person
    Person,
}

#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// Print CustomResourceDefinitions of App, Schedule and Approval instead, as YAML
    #[arg(long, env = "CAMPOS_OPERATOR_CRD")]
    pub crd: bool,
}

#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub api: ApiArgs,
    /// Also list the apps of this team, which the list of the account may not show; costs fewer requests than single
    /// reads; repeatable
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Allowed calls; a manifest can only be stricter
    #[arg(long, env = "CAMPOS_OPERATOR_POLICY", default_value = "full", value_name = "POLICY")]
    pub policy: PolicyArg,
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Interval of `run`, for the number of requests a minute in the plan
    #[arg(long, env = "CAMPOS_OPERATOR_INTERVAL", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub interval: Duration,
    /// Format of the plan
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: PlanOutput,
    /// Exit with 2 if there are changes, but with 1 in any case if an app is stuck (only an edit or a person helps) or
    /// held by --max-stops or --max-starts
    #[arg(long, env = "CAMPOS_OPERATOR_DETAILED_EXITCODE")]
    pub detailed_exitcode: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanOutput {
    /// Text
    Text,
    /// For scripts
    Json,
    /// For pull requests
    Markdown,
}

#[derive(Debug, Clone, Args)]
pub struct ValidateArgs {
    /// Files, directories and pipes; "-" reads stdin
    #[arg(env = "CAMPOS_OPERATOR_MANIFESTS", default_value = MANIFESTS, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub rules: RulesArgs,
    /// Format of the errors
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: ValidateOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ValidateOutput {
    /// Text, with the line and the valid values
    Text,
    /// For scripts
    Json,
    /// Workflow commands, which annotate a pull request on GitHub
    Github,
}

#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    #[command(flatten)]
    pub api: ApiArgs,
    /// Directory for the manifests; created if it does not exist
    #[arg(long, env = "CAMPOS_OPERATOR_OUT", default_value = "./manifests", value_name = "DIR")]
    pub out: PathBuf,
    /// Import the apps of this team instead of your own; repeatable
    #[arg(long, env = "CAMPOS_OPERATOR_TEAM", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub team: Vec<String>,
    /// Overwrite existing files
    #[arg(long, env = "CAMPOS_OPERATOR_FORCE")]
    pub force: bool,
}

#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// Name of the app; optional with --file, for all apps of the file
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Explain this manifest, without a daemon; "-" reads stdin
    #[arg(short, long, env = "CAMPOS_OPERATOR_FILE", value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Time to explain: RFC 3339, or a time in the time zone of the app, such as 2026-12-24T02:00 [default: now]
    #[arg(long, env = "CAMPOS_OPERATOR_AT", value_name = "TIME")]
    pub at: Option<String>,
    /// Number of changes to show
    #[arg(long, env = "CAMPOS_OPERATOR_NEXT", default_value_t = 5, value_name = "N")]
    pub next: usize,
    /// URL of the HTTP port of the daemon
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_SERVER",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        value_name = "URL",
        value_parser = server
    )]
    pub server: String,
    /// Format of the explanation
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: ExplainOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExplainOutput {
    /// Text.
    Text,
    /// For scripts.
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Address of the simulated API; port 0 selects a free port
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8800", value_name = "ADDR", value_parser = address)]
    pub listen: SocketAddr,
    /// Number of generated apps, all running
    #[arg(long, env = "CAMPOS_OPERATOR_APPS", default_value_t = 0, value_name = "N")]
    pub apps: u32,
    /// Generate one running app for each manifest below this directory
    #[arg(long, env = "CAMPOS_OPERATOR_FROM", value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Seed of all random choices
    #[arg(long, env = "CAMPOS_OPERATOR_SEED", default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// File of faults to inject, in YAML; see the format in the help text
    #[arg(long, env = "CAMPOS_OPERATOR_FAULTS", value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Token that the API accepts
    #[arg(
        long,
        env = "CAMPOS_OPERATOR_SIMULATE_TOKEN",
        hide_env_values = true,
        default_value = crate::simulator::world::TOKEN,
        value_name = "TOKEN"
    )]
    pub token: String,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    #[command(flatten)]
    pub manifests: ManifestArgs,
    /// Address of the read-only HTTP port, or "off"; if the port is in use, a free one is selected
    #[arg(long, env = "CAMPOS_OPERATOR_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR", value_parser = listen)]
    pub listen: Listen,
}

/// Address of the HTTP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    Off,
    On(SocketAddr),
}

#[derive(Debug, Clone, Args)]
pub struct ServerArgs {
    /// URL of the HTTP port of the daemon
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

#[expect(clippy::struct_excessive_bools, reason = "flags of a command line")]
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// Names of apps [default: all apps]
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Format of the apps [default: a table]
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", value_name = "FORMAT")]
    pub output: Option<GetOutput>,
    /// Only apps with this label: key=value, key!=value, key or !key; repeatable, or separated by commas; all must
    /// match
    #[arg(short = 'l', long, env = "CAMPOS_OPERATOR_SELECTOR", value_name = "LABEL", value_delimiter = ',')]
    #[arg(conflicts_with = "names")]
    pub selector: Vec<Selector>,
    /// Show the apps of the account that no manifest declares
    #[arg(long, env = "CAMPOS_OPERATOR_UNDECLARED", conflicts_with_all = ["names", "selector", "watch"])]
    pub undeclared: bool,
    /// Only apps with one of these reasons; repeatable, or separated by commas
    #[arg(long, env = "CAMPOS_OPERATOR_REASON", value_name = "REASON", value_delimiter = ',', value_parser = reason)]
    #[arg(conflicts_with_all = ["names", "undeclared"])]
    pub reason: Vec<Reason>,
    /// Only apps that are not ready
    #[arg(long, env = "CAMPOS_OPERATOR_NOT_READY", conflicts_with_all = ["names", "undeclared"])]
    pub not_ready: bool,
    /// Order of the apps [default: group on a terminal, otherwise name]
    #[arg(long, env = "CAMPOS_OPERATOR_SORT_BY", value_name = "COLUMN", conflicts_with = "undeclared")]
    pub sort_by: Option<SortBy>,
    /// Omit the header line
    #[arg(long, env = "CAMPOS_OPERATOR_NO_HEADERS")]
    pub no_headers: bool,
    /// Follow changes: on a terminal, redraw the table; otherwise, print one line for each change
    #[arg(short, long, env = "CAMPOS_OPERATOR_WATCH")]
    pub watch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SortBy {
    /// Apps that need attention first
    Group,
    Name,
    Desired,
    Observed,
    Reason,
    /// The earliest change, attempt or read first
    Next,
    /// The latest change of READY first
    Age,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GetOutput {
    /// A table with more columns
    Wide,
    /// The objects as JSON
    Json,
    /// The objects as YAML, which you can apply again
    Yaml,
    /// Only the names
    Name,
}

#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Format of the status
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: StatusOutput,
    /// List only the next change of each app, at most N, earliest first
    #[arg(long, env = "CAMPOS_OPERATOR_TRANSITIONS", value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub transitions: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StatusOutput {
    /// One screen
    Text,
    /// One JSON object
    Json,
}

#[derive(Debug, Clone, Args)]
pub struct DescribeArgs {
    /// Name of the app, or its appId
    pub name: String,
    #[command(flatten)]
    pub server: ServerArgs,
}

#[derive(Debug, Clone, Args)]
pub struct HistoryArgs {
    /// Only entries of this app
    pub name: Option<String>,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Format of the entries
    #[arg(short, long, env = "CAMPOS_OPERATOR_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub output: HistoryOutput,
    /// Maximum number of rows (-o json: of entries); the newest are shown
    #[arg(long, env = "CAMPOS_OPERATOR_LIMIT", default_value_t = 20, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum HistoryOutput {
    /// A table
    Text,
    /// One JSON object for each line
    Json,
}

#[derive(Debug, Clone, Args)]
#[command(group = clap::ArgGroup::new("which").required(true).args(["names", "all"]))]
pub struct WaitArgs {
    /// Names of apps
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Wait for all apps
    #[arg(long, env = "CAMPOS_OPERATOR_ALL")]
    pub all: bool,
    #[command(flatten)]
    pub server: ServerArgs,
    /// Condition: condition=Ready, condition=Reconciling or condition=Stalled; add =False or =Unknown for a value other
    /// than True. "create" waits until a manifest declares the app, "delete" until no manifest does
    #[arg(long = "for", env = "CAMPOS_OPERATOR_FOR", default_value = "condition=Ready", value_name = "CONDITION")]
    #[arg(value_parser = awaited)]
    pub awaited: Awaited,
    /// Exit with 1 after this time
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Directory for the pages, one for each command; created if it does not exist [default: print the main page]
    #[arg(long, env = "CAMPOS_OPERATOR_OUT", value_name = "DIR")]
    pub out: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct HealthArgs {
    #[command(flatten)]
    pub server: ServerArgs,
    /// Exit with 1 if there is no answer within this time
    #[arg(long, env = "CAMPOS_OPERATOR_TIMEOUT", default_value = "5s", value_name = "TIME", value_parser = duration)]
    pub timeout: Duration,
}

/// The condition of `wait`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    Condition {
        /// `Ready`, `Reconciling` or `Stalled`.
        condition: &'static str,
        /// `True`, `False` or `Unknown`.
        status: &'static str,
    },
    /// A manifest declares the app.
    Create,
    /// No manifest declares the app.
    Delete,
}

fn awaited(text: &str) -> Result<Awaited, String> {
    match text {
        "create" => return Ok(Awaited::Create),
        "delete" => return Ok(Awaited::Delete),
        _ => {}
    }
    let hint =
        "expected condition=Ready, condition=Ready=False, the same with Reconciling or Stalled, create, or delete";
    let (condition, status) = match text.strip_prefix("condition=").ok_or(hint)?.split_once('=') {
        Some(both) => both,
        None => (text.trim_start_matches("condition="), "True"),
    };
    let word = |words: [&'static str; 3], typed: &str| words.into_iter().find(|word| word.eq_ignore_ascii_case(typed));
    let condition = word(["Ready", "Reconciling", "Stalled"], condition).ok_or(hint)?;
    Ok(Awaited::Condition { condition, status: word(["True", "False", "Unknown"], status).ok_or(hint)? })
}

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen::Off);
    }
    address(text).map(Listen::On).map_err(|hint| hint + ", or off")
}

/// Parses `ADDRESS:PORT`. `localhost` counts as an address, and an empty address means all addresses.
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

/// Parses the URL of a daemon. The default scheme is http, and the default host is this machine.
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

fn source_link(text: &str) -> Result<String, String> {
    let hint = "expected an http or https address with {file}, such as \
        https://github.com/me/fleet/blob/{revision}/{file}#L{line}";
    let filled = |with: &str| {
        let parts = ["{revision}", "{file}", "{line}"];
        reqwest::Url::parse(&parts.iter().fold(text.to_owned(), |text, part| text.replace(part, with)))
    };
    let (Ok(one), Ok(other)) = (filled("x"), filled("y")) else { return Err(hint.into()) };
    let odd = |c: char| c.is_whitespace() || c.is_control() || "\"<>\\^`|".contains(c);
    let is_address = ["http", "https"].contains(&one.scheme()) && one.host_str().is_some_and(|host| !host.is_empty());
    // The file name must not choose the server, and an address is published with what is in it.
    let is_safe = one.host_str() == other.host_str() && one.username().is_empty() && one.password().is_none();
    let braces = text.replace("{revision}", "").replace("{file}", "").replace("{line}", "").contains(['{', '}']);
    if !is_address || !is_safe || !text.contains("{file}") || braces || text.contains(odd) {
        return Err(hint.into());
    }
    Ok(text.to_owned())
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
fn state(text: &str) -> Result<Desired, String> {
    let states = [Desired::Running, Desired::Stopped];
    states.into_iter().find(|state| state.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| {
        let meant = state_meant(text).map(|state| format!("; did you mean {state}?"));
        format!("expected Running or Stopped{}", meant.unwrap_or_default())
    })
}

fn reason(text: &str) -> Result<Reason, String> {
    let exact = Reason::ALL.into_iter().find(|reason| reason.as_str().eq_ignore_ascii_case(text));
    exact.ok_or_else(|| {
        let near = nearest(text, Reason::ALL.map(Reason::as_str));
        let near = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("no such reason; docs/operations.md lists them{near}")
    })
}

fn moment(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected a time as in RFC 3339, such as 2026-11-27T03:00:00Z".to_owned())
}

/// A length of time, which may have days.
fn length(text: &str) -> Result<SignedDuration, String> {
    let hint = "expected a length of time with a unit, such as 90m, 4h or 2d";
    let span: jiff::Span = text.parse().map_err(|_| hint)?;
    let length = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| hint)?;
    if length < SignedDuration::from_secs(1) { Err(hint.into()) } else { Ok(length) }
}

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
    fn links_to_sources_name_the_file() {
        for good in ["https://forge/me/fleet/blob/{revision}/{file}#L{line}", "HTTPS://forge:8443/{file}"] {
            assert!(source_link(good).is_ok(), "{good}");
        }
        for wrong in [
            "forge/{file}",
            "javascript:{file}",
            "https://forge/",
            "https://forge/{file}/{branch}",
            "https://a b/{file}",
            "https://{file}",
            "https://forge.{file}/x",
            "https://user:password@forge/{file}",
            "https://forge/{file}\"onclick",
            "https://forge/<script>{file}",
        ] {
            assert!(source_link(wrong).is_err(), "{wrong}");
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
    fn conditions_to_wait_for() {
        assert_eq!(awaited("condition=Ready"), Ok(Awaited::Condition { condition: "Ready", status: "True" }));
        assert_eq!(
            awaited("condition=stalled=false"),
            Ok(Awaited::Condition { condition: "Stalled", status: "False" })
        );
        for wrong in ["Ready", "condition=", "condition=Redy", "condition=Ready=maybe", "condition=Ready=", "deleted"] {
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
