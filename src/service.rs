//! Reports to the service manager by `sd_notify(3)`: ready, alive, stopping, and one line of status.
//!
//! Ready means that the loop makes progress. It does not depend on CamposCloud: systemd would stop and repeat a start
//! that waits for CamposCloud. The status line shows the state of CamposCloud. The watchdog is notified only while
//! `/livez` returns 200.
//!
//! A separate thread sends the reports: a service manager that does not read must not block the loop of the operator.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::clock::Clock;
use crate::operator::shutdown::{Shutdown, Stage};
use crate::printable::escape;
use crate::reconcile::condition::Truth;
use crate::status::app::App;
use crate::status::{Board, Daemon};

/// Set by systemd, and by other service managers with its protocol.
const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";
/// Shortest time between two status lines: a bulk of stops is one change, not a thousand.
const STATUS_PAUSE: Duration = Duration::from_secs(1);

/// Reports the board to the service manager until the process ends. Does nothing without a service manager.
pub fn start(board: Board, clock: Clock, shutdown: Shutdown) -> io::Result<()> {
    let Some(socket) = std::env::var_os(SOCKET_VARIABLE) else { return Ok(()) };
    // Half of the allowed time, as `sd_watchdog_enabled(3)` recommends. Zero would be a busy loop.
    let beat = sd_notify::watchdog_enabled().map(|allowed| allowed / 2).filter(|beat| !beat.is_zero());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    std::thread::Builder::new().name("service".into()).spawn(move || {
        let mut reported = false;
        runtime.block_on(report(board, clock, shutdown, beat, |states| {
            if let Err(error) = notify(&socket, states)
                && !std::mem::replace(&mut reported, true)
            {
                tracing::warn!(%error, "could not report to the service manager; the operator continues");
            }
        }));
    })?;
    Ok(())
}

/// `@name` is a socket in the abstract namespace of Linux, which the library would read as a path.
#[cfg(target_os = "linux")]
fn notify(socket: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::ffi::OsStrExt as _;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(name) = socket.as_bytes().strip_prefix(b"@") else { return sd_notify::notify(states) };
    let text = states.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &SocketAddr::from_abstract_name(name)?).map(drop)
}

#[cfg(not(target_os = "linux"))]
fn notify(_: &OsStr, states: &[NotifyState<'_>]) -> io::Result<()> {
    sd_notify::notify(states)
}

/// Sends READY at the first heartbeat of the loop, WATCHDOG each `beat` while the loop is alive, STATUS when it
/// changes, and STOPPING at the first signal.
pub async fn report(
    board: Board,
    clock: Clock,
    mut shutdown: Shutdown,
    beat: Option<Duration>,
    mut send: impl FnMut(&[NotifyState<'_>]),
) {
    let mut changes = board.changes();
    board.started().await;
    let mut status = summary(&board);
    send(&[NotifyState::Ready, NotifyState::Status(&status)]);
    let mut beats = interval(beat.unwrap_or(Duration::MAX));
    // After a suspension of the machine, one is enough.
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report_at: Option<Instant> = None;
    let mut stopping = false;
    loop {
        tokio::select! {
            stage = shutdown.changed(), if !stopping => if stage != Stage::Running {
                stopping = true;
                send(&[NotifyState::Stopping, NotifyState::Status("shutting down: waiting for calls in flight")]);
            },
            _ = beats.tick(), if beat.is_some() => if board.alive(clock.now()) {
                send(&[NotifyState::Watchdog]);
            },
            // The board holds the sender, so this cannot fail.
            _ = changes.changed(), if report_at.is_none() => report_at = Some(Instant::now() + STATUS_PAUSE),
            () = sleep_until(report_at.unwrap_or_else(Instant::now)), if report_at.is_some() => {
                report_at = None;
                changes.mark_unchanged();
                let now = summary(&board);
                if now != status && !stopping {
                    send(&[NotifyState::Status(&now)]);
                    status = now;
                }
            }
        }
    }
}

/// The state of the apps in one line, with failures.
fn summary(board: &Board) -> String {
    let Daemon { source, observation, governor, dry_run, .. } = board.daemon();
    let apps = board.apps();
    let holds = |app: &App, kind| app.truths().any(|truth| truth == (kind, Truth::True));
    let count = |kind| apps.iter().filter(|app| holds(app, kind)).count();
    let mut text = if !source.loaded {
        "reading the manifests".to_owned()
    } else if !observation.complete_once {
        "waiting for the first complete list of apps".to_owned()
    } else {
        let noun = if apps.len() == 1 { "app" } else { "apps" };
        format!("{} {noun}: {} ready, {} need a person", apps.len(), count("Ready"), count("Stalled"))
    };
    let failures = [
        (dry_run, "dry run"),
        (source.loaded && !source.available, "could not read the manifests"),
        (governor.account_blocked, "the token is refused"),
        (governor.breaker_open, "CamposCloud does not answer"),
    ];
    for (_, failure) in failures.into_iter().filter(|(is_so, _)| *is_so) {
        text.push_str("; ");
        text.push_str(failure);
    }
    // A line break would begin another message.
    escape(&text).into_owned()
}
