//! A check of the server of this bench: the same convergence against it and against `campos-operator simulate`, each as
//! `run --once`. Half of the apps are to be stopped and verified. Few apps, since the simulator keeps to the account's
//! limit of 180 requests a minute.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use anyhow::Context as _;

use crate::Plan;
use crate::daemon;
use crate::fleet::{Fleet, State};
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::Summary;

const PART: &str = "simulator";

/// Two pages, twice, and 60 calls: well within a minute's requests.
const APPS: u32 = 120;

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let mut fleet = Fleet::new(APPS)?;
    for app in 0..APPS / 2 {
        fleet.ask(app, State::Stopped)?;
    }
    let (mut here, mut there) = (Vec::new(), Vec::new());
    for _ in 0..plan.runs {
        here.push(converge(&fleet, &Server::start(APPS)?.url())?);
        let simulator = Simulator::start(&fleet)?;
        there.push(converge(&fleet, &simulator.url)?);
    }
    let (here, there) = (Summary::of(&here), Summary::of(&there));
    let measure = format!("run --once, {} stops verified", APPS / 2);
    let row = |subject, summary| Row::new(PART, &*measure, subject, Unit::Seconds, summary).with_apps(APPS);
    results.push(row("bench's server", here));
    results.push(row("simulate", there).against(here, "bench's server"));
    Ok(())
}

fn converge(fleet: &Fleet, url: &str) -> anyhow::Result<f64> {
    let manifests = fleet.manifests();
    let manifests = manifests.to_str().context("the temp directory has a plain name")?;
    let once = ["run", "--once", "--listen", "off", "--api-budget", "unlimited", "--api-url", url];
    Ok(daemon::timed(&[&once[..], &["--manifests", manifests]].concat())?.as_secs_f64())
}

/// A running simulator; dropping it ends it.
#[derive(Debug)]
struct Simulator {
    child: Child,
    url: String,
}

impl Simulator {
    fn start(fleet: &Fleet) -> anyhow::Result<Self> {
        let mut child = daemon::command()
            .args(["simulate", "--listen", "127.0.0.1:0", "--token", daemon::TOKEN, "--from"])
            .arg(fleet.manifests())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the simulator")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        let url = line.split_whitespace().last().context("the simulator prints its address")?.to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // It may have ended by itself; then the convergence failed with an error.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}
