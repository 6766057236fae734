//! Signals. The first SIGTERM, SIGINT or SIGQUIT drains; the second ends the process even if a task is blocked.
//!
//! A separate thread receives them: the second signal must not wait for the loop, a file system or another thread.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{info, warn};

/// Time for a clean exit after the second signal.
const GRACE: Duration = Duration::from_secs(1);
/// Time for the thread of the log to write the last line.
const FINAL_LOG_GRACE: Duration = Duration::from_millis(100);

/// Effect of SIGHUP.
#[derive(Debug, Clone)]
pub enum Hangup {
    /// As SIGTERM: the terminal has closed.
    Terminate,
    /// Increments the count: the source and the token are read again.
    Reload(watch::Sender<u64>),
}

impl Hangup {
    /// For a daemon: reloads, unless it was started from a terminal.
    pub fn of_daemon(reloads: watch::Sender<u64>) -> Self {
        if io::stdin().is_terminal() || io::stderr().is_terminal() { Self::Terminate } else { Self::Reload(reloads) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// First signal: no new calls; waits for calls in flight.
    Draining,
    /// Second signal: exits at once.
    Aborting,
}

#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

/// The sending end, for a signal handler or a test.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Stage>);

pub fn pair() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Stopper(sender), Shutdown(receiver))
}

impl Stopper {
    /// Requests a shutdown; the second request aborts calls in flight.
    pub fn request_stop(&self) {
        self.0.send_modify(|stage| {
            *stage = match stage {
                Stage::Running => Stage::Draining,
                Stage::Draining | Stage::Aborting => Stage::Aborting,
            }
        });
    }

    /// Requests a shutdown on every SIGTERM, SIGINT and SIGQUIT from now on, and ends the process [`GRACE`] after the
    /// second one. SIGUSR1 and SIGUSR2 are ignored.
    ///
    /// # Errors
    /// If no thread can be started, or no handler set up.
    pub fn on_signals(self, hangup: Hangup) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut signals = {
            let _runtime = runtime.enter();
            Signals::new()?
        };
        std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    match (signals.next().await, &hangup) {
                        (Kind::Hangup, Hangup::Reload(reloads)) => reloads.send_modify(|count| *count += 1),
                        (Kind::User, _) => {}
                        (Kind::End(_) | Kind::Hangup, _) => {
                            self.request_stop();
                            if *self.0.borrow() == Stage::Aborting {
                                break;
                            }
                        }
                    }
                }
                tokio::time::sleep(GRACE).await;
            });
            warn!("second signal: exiting now, although a task is still blocked");
            std::thread::sleep(FINAL_LOG_GRACE);
            end();
        })?;
        Ok(())
    }
}

#[expect(clippy::exit, reason = "the main thread may be blocked")]
fn end() -> ! {
    std::process::exit(1)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    End(&'static str),
    Hangup,
    User,
}

struct Signals {
    ends: [(&'static str, Signal); 3],
    hangup: Signal,
    users: [Signal; 2],
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            ends: [
                ("SIGTERM", signal(SignalKind::terminate())?),
                ("SIGINT", signal(SignalKind::interrupt())?),
                ("SIGQUIT", signal(SignalKind::quit())?),
            ],
            hangup: signal(SignalKind::hangup())?,
            users: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    async fn next(&mut self) -> Kind {
        let [(term, terminate), (int, interrupt), (quit, quits)] = &mut self.ends;
        let [first, second] = &mut self.users;
        let kind = tokio::select! {
            _ = terminate.recv() => Kind::End(term),
            _ = interrupt.recv() => Kind::End(int),
            _ = quits.recv() => Kind::End(quit),
            _ = self.hangup.recv() => Kind::Hangup,
            _ = first.recv() => Kind::User,
            _ = second.recv() => Kind::User,
        };
        if let Kind::End(signal) = kind {
            info!(signal, "signal received");
        }
        kind
    }
}

impl Shutdown {
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits for the next stage. Never returns once the sending end is gone.
    pub async fn changed(&mut self) -> Stage {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.stage()
    }
}
