//! `simulate`: a simulated CamposCloud on a port.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, bail};

use super::text::print;
use super::{Exit, runtime};
use crate::cli::SimulateArgs;
use crate::clock::Clock;
use crate::manifest::source;
use crate::operator::shutdown::{self, Hangup};
use crate::simulator::faults::Faults;
use crate::simulator::http;
use crate::simulator::port::SharedWorld;
use crate::simulator::world::{Config, World};

pub(super) fn simulate(args: &SimulateArgs) -> anyhow::Result<Exit> {
    let faults = args.faults.as_deref().map(faults).transpose()?.unwrap_or_default();
    let config = Config { token: args.token.clone(), seed: args.seed, faults, ..Config::default() };
    let clock = Clock::system();
    let world = seeded(config, args.apps, args.from.as_deref(), clock)?;
    let listener =
        http::bind(args.listen).with_context(|| format!("--listen {}: could not bind the port", args.listen))?;
    let address = listener.local_addr()?;
    runtime()?.block_on(async {
        let (stopper, mut shutdown) = shutdown::pair();
        stopper.on_signals(Hangup::Terminate).context("could not set up the signal handlers")?;
        // On stdout: scripts read the port from it.
        print(&format!("simulating CamposCloud on http://{address}\n"))?;
        tokio::select! {
            served = http::serve(listener, world, clock) => served.context("could not serve"),
            _ = shutdown.changed() => Ok(()),
        }
    })?;
    Ok(Exit::Done)
}

/// A world with `apps` generated apps, and one running app for each manifest below `from`.
pub(super) fn seeded(config: Config, apps: u32, from: Option<&Path>, clock: Clock) -> anyhow::Result<SharedWorld> {
    let now = clock.wall();
    let mut world = World::new(config, now);
    world.add_fleet(apps, now);
    if let Some(directory) = from {
        let (declared, diagnostics, report) = source::load(vec![directory.to_owned()]);
        if let Some(cause) = report.cause {
            bail!("could not read the manifests: {cause}");
        }
        if let Some(first) = diagnostics.first() {
            bail!("{} errors in the manifests; the first is {}", diagnostics.len(), first.one_line());
        }
        for declared in &declared {
            if let Some(spec) = declared.spec() {
                world.add(spec.app_id.clone(), declared.name.as_str(), now);
            }
        }
    }
    Ok(Arc::new(Mutex::new(world)))
}

fn faults(path: &Path) -> anyhow::Result<Faults> {
    let text = std::fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))?;
    Faults::parse(&text).with_context(|| format!("{}", path.display()))
}
