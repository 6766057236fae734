//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.
//!
//! ```text
//! files --source--> Update ----+
//!                              +--> plan(objects, attempts, now) --> Plan --execute--> Outcome --> status, log, metrics
//! API   --list, get--> Reading +                 ^                                        |
//!                                                +---------- attempts, next wake-up <-----+
//! ```
//! An event only means "check again": each iteration of the loop decides from the manifests and the newest readings.
//! Decisions are pure: they are in `reconcile`, without I/O.
//!
//! The modules, in reading order:
//!
//! | module | content |
//! | --- | --- |
//! | [`reconcile`] | the core: the decision for each app, without I/O, clock or randomness; `state` has the actions, `desired` the types of a manifest |
//! | [`source`] | the port of a source of manifests: updates, and a report of the source |
//! | [`manifest`] | a directory as a source: YAML to `reconcile::desired::Declared`, diagnostics, watching; `schema` has the fields, `objects` reads the objects of a Kubernetes API |
//! | [`kubernetes`] | custom resources: the CRDs, a source of them, their status; leader election over a Lease: `elector` has the rules, `election` the task and the fence |
//! | [`platform`] | the port of a hosting API: list, get, and act (stop, start, restart); completeness of a list |
//! | [`budget`] | the rate limiter of the account: budget, lanes, pauses, circuit breaker, refused account |
//! | [`camposcloud`] | the platform itself: its requests (`client`) and JSON (`wire`), what an error means (`error`), token |
//! | [`operator`] | the loop: owns every task, applies plans, sends requests, publishes |
//! | [`clock`] | wall and monotonic time; the only module that reads a clock |
//! | [`status`] | the published state: one writer, many readers; history; the values of the metrics (`meters`) |
//! | [`http`] | the read-only server: routes, a stream of events, metrics, the status page |
//! | [`notifications`] | messages to Discord, Slack or a webhook (`hook`), one for each cause |
//! | [`service`] | systemd: readiness, watchdog, one line of text |
//! | [`simulator`] | a simulated CamposCloud and a simulated Lease; a library and a command |
//! | [`cli`], [`environment`], [`settings`], [`commands`], [`telemetry`] | arguments, their variables, their meaning, the commands, the log |
//! | `proxy`, `tls`, `printable` | proxies and certificates of the environment; escaping of text |
//!
//! `a -> b` means that a imports b: `manifest -> source -> reconcile`, `camposcloud -> platform -> reconcile`. `operator`
//! imports these ports; `http`, `notifications`, `kubernetes` and `service` read `status`; `commands` starts everything.
//! There are no cycles.
//!
//! Glossary:
//! - *app / object*: the app on CamposCloud / its manifest. *desired / observed*: declared / last read.
//! - *decision*: the result for one app. *reason*: why it is so, from a closed list. *settled*: desired and observed
//!   agree.
//! - *action*: one call (stop, start, restart). *attempt*: one try of it. *outcome*: its result.
//! - *reading*: one observation of one app. *resync*: reading the whole list again. *single read*: GET of one app.
//! - *rate limiter, budget, lane*: control of the requests (act > confirm > observe). *probe*: the one request of an
//!   open circuit breaker.
//! - *drift*: desired and observed differ without an edit. *stalled*: only an edit or a person helps.
//! - *released*: the manifest was removed, no call is sent. *requeue*: schedule the next decision.
//! - *stable*: a file is not being written, so its text is complete.
//! - *window*: a span of a schedule. *exception*: an event of a calendar; it takes precedence over windows.
//! - *group*: a class of reasons in an overview. *activity item*: a change in the history, with its results.
//! - *account*: one token, one `settings::Api`, one `Operator` with its rate limiter; a process has one.
//! - *limit of changes*: `--max-stops` and `--max-starts`; `reconcile::max_changes` counts, `operator::limit` holds calls.
//! - *publish*: put on the status board.

pub mod budget;
pub mod camposcloud;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod environment;
pub mod http;
pub mod kubernetes;
pub mod manifest;
pub mod notifications;
pub mod operator;
pub mod platform;
pub mod printable;
mod proxy;
pub mod reconcile;
pub mod service;
pub mod settings;
pub mod simulator;
pub mod source;
pub mod status;
pub mod telemetry;
mod tls;
