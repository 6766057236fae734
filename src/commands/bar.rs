//! Progress bars for commands that wait. They are drawn on stderr, and only on a terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

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
                Some(_) => "{msg} {wide_bar} {pos} of {len}, {rate}, {eta} left",
                None => "{msg}: {pos}, {rate}",
            });
            // The templates are constants.
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            self.0.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn Write| {
                // The rate of the first instant means nothing.
                let rate = if state.elapsed().as_millis() < 500 { 0.0 } else { state.per_sec() };
                let _ = write!(text, "{rate:.0}/s");
            }));
            if !self.0.message().is_empty() {
                self.0.reset();
            }
            self.0.set_message(task);
        }
        if let Some(total) = total {
            self.0.set_length(total as u64);
        }
        self.0.set_position(done as u64);
    }

    /// Runs `print` while the bar is hidden.
    pub(super) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        // A bar without a task would be drawn in the style of the library.
        if self.0.message().is_empty() { print() } else { self.0.suspend(print) }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
