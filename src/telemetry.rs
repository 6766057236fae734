//! Where does the log go, and how does it look? To stderr, as text or JSON; stdout is for data.

use std::sync::OnceLock;

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::cli::{Color, LogArgs, LogFormat};
use crate::operator::clock::Clock;

/// The filter that was asked for cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {0:?}: expected error, warn, info, debug, trace, or directives such as info,campos_operator=debug"
)]
pub struct UnreadableFilter(String);

/// So many lines wait for a reader that is slow; further ones are lost.
const LINES: usize = 10_000;

/// Counts the lines that were lost.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// How many lines of the log were lost since the start, because nobody read them in time.
pub fn lines_lost() -> u64 {
    LOST.get().map_or(0, |lost| u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX))
}

/// Sets the process's log up. What is returned flushes it when it is dropped.
///
/// Lines are written by a thread of their own: a reader of stderr that stops reading (a stuck `docker logs`, a full disk
/// behind a pipe) costs lines of the log, never the reconciling of an app.
pub fn start(args: &LogArgs) -> Result<WorkerGuard, UnreadableFilter> {
    let unreadable = |_| UnreadableFilter(args.log_level.clone());
    // A single word that is no level would be taken for the name of a module, and silence everything else.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| levels.contains(&word.trim().to_ascii_lowercase().as_str());
    if !args.log_level.split(',').all(|part| part.contains('=') || is_level(part)) {
        return Err(UnreadableFilter(args.log_level.clone()));
    }
    let filter = EnvFilter::builder().parse(&args.log_level).map_err(unreadable)?;
    // It tells of each bad certificate at each try; the failure that comes of it is told once, by us.
    let filter = filter.add_directive("rustls_platform_verifier=off".parse().map_err(unreadable)?);
    // It tells of every event, and a log beside the manifests is an event for each line that it tells.
    let filter = filter.add_directive("notify=warn".parse().map_err(unreadable)?);
    let writer = NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log");
    let (writer, guard) = writer.finish(std::io::stderr());
    // A second log in one process would be a test's; the first one is counted.
    let _ = LOST.set(writer.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A closed stderr must not take the operator down with it.
        .log_internal_errors(false)
        .with_target(false);
    match args.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_timer(Stamp).init(),
        LogFormat::Text => {
            let builder = builder.with_ansi(colour(args.color, &std::io::stderr()));
            // The journal stamps every line itself.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                builder.without_time().init();
            } else {
                builder.with_timer(Stamp).init();
            }
        }
    }
    Ok(guard)
}

/// Whether colour goes to `stream`.
pub fn colour(when: Color, stream: &impl std::io::IsTerminal) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Stamps lines as RFC 3339 in UTC, to the millisecond.
struct Stamp;

impl tracing_subscriber::fmt::time::FormatTime for Stamp {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", Clock::wall_now())
    }
}
