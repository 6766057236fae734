//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.
//!
//! ```text
//! files --source--> Update ---+
//!                             +--> pass: note, plan(.., &attempts, now) --> Plan --execute--> Outcome --+--> status, log
//! API   --list, get--> Reading+                 ^                                                       |
//!                                               +---------------- attempts, next look <-----------------+
//! ```
//! Events mean only "look again": each turn of the loop decides anew from what the manifests say and what was seen.
//! Deciding is pure (`reconcile`), doing is dull (everything else).
//!
//! The rooms, in reading order:
//!
//! | module | the question it answers |
//! | --- | --- |
//! | [`reconcile`] | the core: what shall be done for each app? No I/O, no clock, no dice |
//! | [`manifest`] | what do the files ask for? A directory becomes `Desired` |
//! | [`platform`] | what can be asked of a platform? The port, and whether a list is whole |
//! | [`camposcloud`] | how does CamposCloud say it? Wire, client, verdicts, governor |
//! | [`operator`] | the shell: the loop that owns the clock and every task |
//! | [`status`] | what can be seen from outside? One writer, many readers; the history, the meters |
//! | [`http`] | what does the read-only port answer? Routes, events, metrics, the status page |
//! | [`service`] | what does systemd hear? Ready, alive, stopping, one line of status |
//! | [`simulator`] | a pretend CamposCloud, as a library and as a verb |
//! | [`cli`], [`settings`], [`commands`], [`telemetry`] | what was typed, what does it mean, how is it wired up and logged? |
//! | [`printable`] | which characters of other people's texts may reach a terminal, a log or a forge? |
//! | `tls`, `proxy` | which certificate authorities https trusts, and which proxy a request goes through |
//!
//! Arrows: `manifest -> reconcile <- camposcloud`; `operator` drives both, `status` reports, `http` shows, `service` tells
//! systemd, `commands` wires it all up. `simulator` knows `platform` and `camposcloud::{wire, error}`, never the client.

pub mod camposcloud;
pub mod cli;
pub mod commands;
pub mod http;
pub mod manifest;
pub mod operator;
pub mod platform;
pub mod printable;
mod proxy;
pub mod reconcile;
pub mod service;
pub mod settings;
pub mod simulator;
pub mod status;
pub mod telemetry;
mod tls;
