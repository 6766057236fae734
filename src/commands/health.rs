//! `health`: exit code 0 if the daemon is alive. Health check of an image without a shell.

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
