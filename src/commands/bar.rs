//! Progress bars for commands that wait. They are drawn on stderr, and only on a terminal.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::operator::observe::Step;
use crate::telemetry;

/// A bar that disappears when it is dropped.
pub(super) struct Bar(ProgressBar);

impl Bar {
    pub(super) fn new() -> Self {
        let is_visible = io::stderr().is_terminal() && !telemetry::is_dumb();
        let target = if is_visible { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(ProgressBar::with_draw_target(None, target))
    }

    /// Shows one step of an observation.
    pub(super) fn step(&self, step: Step) {
        match step {
            Step::Listed { apps, total } => self.set("listing apps", apps, total),
            Step::Read { apps, total } => self.set("reading apps", apps, Some(total)),
        }
    }

    /// Shows a task, and how much of it is done; the total may be unknown.
    pub(super) fn set(&self, task: &'static str, done: usize, total: Option<usize>) {
        if self.0.message() != task || self.0.length().is_none() {
            let style = ProgressStyle::with_template(match total {
                Some(_) => "{msg} {wide_bar} {pos} of {len}, {per_sec}, {eta} left",
                None => "{msg}: {pos}, {per_sec}",
            });
            // The templates are constants.
            self.0.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            self.0.set_message(task);
            self.0.reset();
        }
        if let Some(total) = total {
            self.0.set_length(total as u64);
        }
        self.0.set_position(done as u64);
    }

    /// Prints between two drawings of the bar.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        self.0.suspend(print)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
