//! `health`: is the daemon alive? For a container's health check, where there is neither a shell nor curl.

use super::client::Daemon;
use super::text::{escape, print};
use super::{Exit, runtime};
use crate::cli::HealthArgs;

pub(super) fn health(args: &HealthArgs) -> anyhow::Result<Exit> {
    let daemon = Daemon::new(&args.server.server)?;
    runtime()?.block_on(daemon.alive(args.timeout))?;
    print(&format!("healthy: {}\n", escape(&args.server.server)))?;
    Ok(Exit::Done)
}
