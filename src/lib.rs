//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.
//!
//! ```text
//! files --source--> Update ---+
//!                             +--> plan(.., &attempts, now) --> Plan --execute--> Outcome --+--> status, log, metrics
//! API   --list, get--> Reading+                 ^                                           |
//!                                               +------------ attempts, next wake-up <------+
//! ```
//! An event only means "check again": each iteration of the loop decides from the manifests and the newest readings.
//! Decisions are pure (`reconcile`); everything else is simple.
//!
//! The modules, in reading order:
//!
//! | module | content |
//! | --- | --- |
//! | [`reconcile`] | the core: the decision for each app, without I/O, clock or randomness |
//! | [`source`] | the port of a source of manifests: updates, and a report of the source |
//! | [`manifest`] | a directory as a source: YAML to `Declared`, diagnostics, watching; objects of an API by the same reader |
//! | [`kubernetes`] | custom resources: the CRDs, a source of them, their status; leader election over a Lease |
//! | [`platform`] | the port of a platform: list, get, stop, start, restart; completeness of a list |
//! | [`budget`] | the rate limiter of the account: budget, lanes, pauses, circuit breaker, refused account |
//! | [`camposcloud`] | the real API: wire, client, verdicts, token |
//! | [`operator`] | the shell: the loop that owns every task |
//! | [`clock`] | wall and monotonic time; the only module that reads a clock |
//! | [`status`] | the published state: one writer, many readers; history; meters |
//! | [`http`] | the read-only port: routes, events, metrics, the status page |
//! | [`notifications`] | messages to Discord, Slack or a webhook, one for each cause |
//! | [`service`] | systemd: ready, alive, stopping, one line of status |
//! | [`simulator`] | a simulated CamposCloud, as a library and as a command |
//! | [`cli`], [`environment`], [`settings`], [`commands`], [`telemetry`] | arguments, their variables, their meaning, the commands, the log |
//! | `proxy`, `tls`, `printable` | proxies and certificates of the environment; escaping of text |
//!
//! Imports: `manifest -> source -> reconcile <- platform <- camposcloud`; `operator` drives, `status` publishes,
//! `http`, `notifications`, `kubernetes` and `service` read it, `commands` wires everything up. There are no cycles.
//!
//! Glossary:
//! - *app / object*: the thing on CamposCloud / its manifest. *desired / observed*: declared / last read.
//! - *decision*: the result for one app. *reason*: its cause, from a closed list. *settled*: desired and observed
//!   agree.
//! - *action*: one call (stop, start, restart). *attempt*: one try of it. *outcome*: its result.
//! - *reading*: one observation of one app. *resync*: reading the whole list again. *single read*: GET of one app.
//! - *rate limiter, budget, lane*: control of the requests (act > confirm > observe). *probe*: the one request of an
//!   open breaker.
//! - *drift*: desired and observed differ without an edit. *stalled*: only an edit or a person helps.
//! - *released*: the manifest was removed, no call is sent. *stable*: the text of a file that no writer changes.
//! - *requeue*: schedule the next decision. *window*: a span of a schedule. *exception*: the events of a calendar,
//!   before windows.
//! - *group*: a class of reasons in an overview. *activity item*: a change in the history, with its results.
//! - *account*: one token, one `settings::Api`, one `Operator` with its rate limiter. *limit of changes*: holds the
//!   calls of a
//!   mass edit until it is approved (`reconcile::max_changes`, `operator::limit`).
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
