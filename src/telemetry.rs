//! The log: to stderr, as text or JSON. Stdout is for data.
//!
//! An event is one line, for any text: characters that act on a terminal are escaped (`printable`).

use std::fmt;
use std::io::{self, Write};
use std::sync::OnceLock;

use tracing::field::Field;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

use crate::cli::{Color, LogArgs, LogFormat};
use crate::clock::Clock;
use crate::printable;

#[derive(Debug, thiserror::Error)]
#[error(
    "--log-level {0:?}: expected error, warn, info, debug, trace, or directives such as info,campos_operator=debug"
)]
pub struct UnreadableFilter(String);

/// Lines that wait for a slow reader; further ones are lost.
const LINES: usize = 10_000;

static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines of the log that were lost since the start because the reader of stderr was too slow.
pub fn lines_lost() -> u64 {
    LOST.get().map_or(0, |lost| u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX))
}

/// Sets up the log of the process. Dropping the guard flushes it.
///
/// A separate thread writes the lines: a reader of stderr that stops reading (a blocked `docker logs`, a full disk
/// behind a pipe) loses lines of the log, and never delays an app.
pub fn start(args: &LogArgs) -> Result<WorkerGuard, UnreadableFilter> {
    let unreadable = |_| UnreadableFilter(args.log_level.clone());
    // For `EnvFilter`, a single word that is no level is a module, and all other modules are off.
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    let is_level = |word: &str| levels.contains(&word.trim().to_ascii_lowercase().as_str());
    if !args.log_level.split(',').all(|part| part.contains('=') || is_level(part)) {
        return Err(UnreadableFilter(args.log_level.clone()));
    }
    let filter = EnvFilter::builder().parse(&args.log_level).map_err(unreadable)?;
    // It logs each bad certificate at each attempt; the operator logs the failure once.
    let filter = filter.add_directive("rustls_platform_verifier=off".parse().map_err(unreadable)?);
    // It logs every event, and a log file among the manifests has an event for each line.
    let filter = filter.add_directive("notify=warn".parse().map_err(unreadable)?);
    // It logs a rule of a calendar that fits no date, without its place.
    let filter = filter.add_directive("rrule=off".parse().map_err(unreadable)?);
    // It logs each answer that is an error, with its whole body; the operator logs the failure once.
    let filter = filter.add_directive("kube_client=off".parse().map_err(unreadable)?);
    let writer = NonBlockingBuilder::default().buffered_lines_limit(LINES).thread_name("log");
    let (writer, guard) = writer.finish(std::io::stderr());
    // Only tests start a second log; the first one is counted.
    let _ = LOST.set(writer.error_counter());
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // A closed stderr must not end the operator.
        .log_internal_errors(false)
        .with_target(false);
    match args.log_format {
        LogFormat::Json => {
            builder.with_writer(ValidJson(writer)).json().flatten_event(true).with_timer(Stamp).init();
        }
        LogFormat::Text => {
            let builder =
                builder.with_writer(writer).fmt_fields(text_fields()).with_ansi(colour(args.color, &std::io::stderr()));
            // The journal has its own timestamps.
            if std::env::var_os("JOURNAL_STREAM").is_some() {
                builder.without_time().init();
            } else {
                builder.with_timer(Stamp).init();
            }
        }
    }
    Ok(guard)
}

/// Formats the message and the fields of an event as text: `message name=value`, as `tracing` does, each escaped.
fn text_fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let value = format!("{value:?}");
        let value = printable::escape(&value);
        match field.name() {
            "message" => writer.write_str(&value),
            // The origin of a line of the `log` crate.
            name if name.starts_with("log.") => Ok(()),
            name if writer.has_ansi_escapes() => write!(writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m{value}"),
            name => write!(writer, "{name}={value}"),
        }
    })
    .delimited(" ")
}

/// Escapes the characters of JSON lines that JSON itself would pass: DEL, C1, format characters.
#[derive(Debug, Clone)]
struct ValidJson<W>(W);

impl<W: Write> Write for ValidJson<W> {
    /// Takes a whole line, as the subscriber writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(printable::json(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for ValidJson<W> {
    type Writer = ValidJson<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        ValidJson(self.0.make_writer())
    }
}

/// Returns whether colour goes to `stream`.
pub fn colour(when: Color, stream: &impl std::io::IsTerminal) -> bool {
    match when {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => {
            let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            stream.is_terminal() && !no_color && !is_dumb()
        }
    }
}

/// Returns whether the terminal supports neither colour nor a moving cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Timestamps in RFC 3339, UTC, to the millisecond.
struct Stamp;

impl tracing_subscriber::fmt::time::FormatTime for Stamp {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(w, "{:.3}", Clock::wall_now())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;
    use tracing_subscriber::fmt::SubscriberBuilder;

    use super::*;
    use crate::printable::tests::{assert_harmless, hostile};

    /// The line of an event with `text` in its message and in fields of each kind.
    fn logged(text: &str, json: bool, ansi: bool) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = || {
            let fields = (text, std::fmt::Error);
            tracing::warn!(name = fields.0, shown = %fields.0, dumped = ?fields.0, error = %fields.1, "said {text}");
        };
        let builder = SubscriberBuilder::default().with_ansi(ansi).without_time().with_target(false);
        let sink = written.clone();
        let writer = move || Sink(sink.clone());
        if json {
            let log_as_json = builder.with_writer(ValidJson(writer)).json().flatten_event(true).finish();
            tracing::subscriber::with_default(log_as_json, log);
        } else {
            tracing::subscriber::with_default(builder.with_writer(writer).fmt_fields(text_fields()).finish(), log);
        }
        let written = written.lock().unwrap().clone();
        String::from_utf8(written).unwrap()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_looks_as_before() {
        assert_eq!(
            logged("a \"b\"", false, false),
            " WARN said a \"b\" name=\"a \\\"b\\\"\" shown=a \"b\" dumped=\"a \\\"b\\\"\" error=an error occurred when \
             formatting an argument\n"
        );
    }

    proptest! {
        #[test]
        fn one_event_is_one_harmless_line(text in hostile()) {
            for ansi in [false, true] {
                let line = logged(&text, false, ansi);
                let plain = line.replace("\x1b[3m", "").replace("\x1b[2m", "").replace("\x1b[0m", "").replace("\x1b[33m", "");
                assert_harmless(&plain);
                prop_assert_eq!(line.matches('\n').count(), 1, "{}", line);
            }
            let line = logged(&text, true, false);
            prop_assert!(!line.trim_end().contains(printable::acts), "{}", line);
            let value: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(&value["shown"], &text);
        }
    }
}
