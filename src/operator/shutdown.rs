//! When to stop: the first signal drains, the second aborts.

use tokio::sync::watch;

/// How far the shutdown has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Not asked to stop.
    Running,
    /// Asked once: nothing new, let calls end.
    Draining,
    /// Asked twice: at once.
    Aborting,
}

/// The listening end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Stage>);

/// The asking end: what a signal handler or a test holds.
#[derive(Debug, Clone)]
pub struct Stopper(watch::Sender<Stage>);

/// A connected pair.
pub fn pair() -> (Stopper, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Stopper(sender), Shutdown(receiver))
}

impl Stopper {
    /// Asks to stop; the second time, to stop at once.
    pub fn ask(&self) {
        self.0.send_modify(|stage| {
            *stage = match stage {
                Stage::Running => Stage::Draining,
                Stage::Draining | Stage::Aborting => Stage::Aborting,
            }
        });
    }

    /// Asks on every SIGTERM and SIGINT from now on. Must be called within a runtime.
    pub fn on_signals(self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                self.ask();
            }
        });
        Ok(())
    }
}

impl Shutdown {
    /// How far it has come.
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits for the next step. Never returns once the asking end is gone.
    pub async fn changed(&mut self) -> Stage {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.stage()
    }
}
