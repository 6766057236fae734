//! Tests in real time, against a real disk, real events, real sockets and the built binary. Each waits for a state,
//! with a deadline.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the report")]

mod cli;
#[cfg(feature = "kubernetes")]
mod cluster;
#[cfg(feature = "kubernetes")]
mod custom_resources;
mod daemon;
mod delivery;
mod docs;
mod edits;
mod forecast;
mod foreign;
mod harness;
mod hostile;
mod import;
mod log;
mod losing;
mod mass_edits;
mod notifications;
mod pipes;
mod port;
mod process;
mod reference;
#[cfg(feature = "kubernetes")]
mod replicas;
mod restart;
mod schedules;
mod schema;
mod seeing;
mod simulator;
mod source;
mod storm;
mod transport;
mod verbs;
