//! The start time and the size of the program.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::Plan;
use crate::daemon::{self, Daemon};
use crate::fleet::Fleet;
use crate::results::{Results, Row, Unit};
use crate::server::Server;
use crate::stats::Summary;
use crate::wire::Wire;

const PART: &str = "startup";
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(plan: &Plan, results: &mut Results) -> anyhow::Result<()> {
    let runs = plan.runs * 4;
    let version: Vec<f64> =
        (0..runs).map(|_| Ok(daemon::timed(&["--version"])?.as_secs_f64())).collect::<anyhow::Result<_>>()?;
    results.push(Row::new(PART, "--version to its end", "operator", Unit::Seconds, Summary::of(&version)));
    let (fleet, server) = (Fleet::new(10)?, Server::start(10)?);
    let alive: Vec<f64> = (0..runs).map(|_| start_to_livez(&fleet, &server)).collect::<anyhow::Result<_>>()?;
    results.push(Row::new(PART, "start to /livez", "operator", Unit::Seconds, Summary::of(&alive)).with_apps(10));
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
    let size = std::fs::metadata(daemon::binary())?.len() as f64;
    results.push(Row::new(PART, "size of the binary", "operator", Unit::Bytes, Summary::of(&[size])));
    Ok(())
}

/// From the start until the port answers that the daemon lives.
fn start_to_livez(fleet: &Fleet, server: &Server) -> anyhow::Result<f64> {
    // A free port; with port 0 the address would be unknown before the daemon answers.
    let address = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?;
    let daemon = Daemon::start(fleet, server, &["--listen", &address.to_string()])?;
    loop {
        if Wire::open(address).and_then(|mut wire| wire.ask("GET", "/livez").map(drop)).is_ok() {
            return Ok(daemon.started.elapsed().as_secs_f64());
        }
        anyhow::ensure!(daemon.started.elapsed() < PATIENCE, "/livez did not answer within {PATIENCE:?}");
        thread::sleep(Duration::from_micros(200));
    }
}
