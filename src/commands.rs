//! The commands, one file each, and the exit code. Text and exit code of a command come from one value.

mod bar;
mod client;
mod columns;
mod complete;
mod demo;
mod describe;
mod edit;
mod explain;
mod forecast;
mod get;
mod health;
mod history;
mod import;
mod man;
mod plan;
mod run;
mod simulate;
mod status;
mod text;
mod validate;
mod wait;

use std::ffi::OsStr;
use std::io;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _};

use crate::cli::{Cli, Command};
use crate::kubernetes::crd::crds;
use crate::manifest::diagnostic::nearest;
use crate::manifest::json_schema::json_schema;
use crate::{environment, settings, telemetry};
use text::{escape, print_data, print_error, print_note};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// Exit code 1: any error, usage included.
    Failed,
    /// Exit code 2: `plan --detailed-exitcode` found changes. Nothing else exits 2.
    Changes,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Done => Self::SUCCESS,
            Exit::Failed => Self::FAILURE,
            Exit::Changes => Self::from(2),
        }
    }
}

/// Parses the command line and runs the command.
pub fn main() -> Exit {
    match complete::complete() {
        Ok(false) => {}
        Ok(true) => return Exit::Done,
        Err(error) => {
            print_note(&escape(&error.to_string()));
            return Exit::Failed;
        }
    }
    let read = |name: &OsStr| std::env::var_os(name);
    let parsed = environment::parse(Cli::command(), std::env::args_os(), &read);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches).map_err(Err)) {
        Ok(cli) => cli,
        Err(Ok(bad)) => {
            print_error(&bad.into());
            return Exit::Failed;
        }
        Err(Err(error)) => {
            let requested = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let printed = if requested || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                error.print()
            } else {
                print_note(usage(error).trim_end());
                Ok(())
            };
            let lost = printed.is_err_and(|error| error.kind() != io::ErrorKind::BrokenPipe);
            return if requested && !lost { Exit::Done } else { Exit::Failed };
        }
    };
    match dispatch(&cli) {
        Ok(exit) => exit,
        Err(error) => {
            print_error(&error);
            Exit::Failed
        }
    }
}

/// The command for a word of another tool.
fn meant(word: &str) -> Option<&'static str> {
    Some(match word.to_lowercase().as_str() {
        "start" | "serve" | "daemon" | "apply" | "up" | "watch" | "reconcile" | "sync" => "run",
        "diff" | "preview" | "dry-run" => "plan",
        "lint" | "check" | "verify" | "test" | "fmt" => "validate",
        "pull" | "export" | "init" | "fetch" | "generate" => "import",
        "apps" | "ps" | "show" | "top" => "get",
        "inspect" | "info" => "describe",
        "logs" | "log" | "events" | "audit" => "history",
        "pause" | "hold" | "ignore" => "suspend",
        "unsuspend" | "unpause" | "continue" => "resume",
        "reboot" | "rollout" | "bounce" | "recycle" => "restart",
        "predict" | "upcoming" | "savings" => "forecast",
        "timers" | "summary" | "overview" | "cluster-info" => "status",
        "ping" | "healthcheck" | "ready" | "live" => "health",
        "completion" => "completions",
        "mock" | "fake" => "simulate",
        "doc" | "docs" | "manual" => "man",
        _ => return None,
    })
}

/// The error message of a wrong command line. Each argument is escaped and on one line.
fn usage(mut error: clap::Error) -> String {
    let repeated = error.context().filter_map(|(kind, value)| {
        let escaped = |text: &String| escape(text).into_owned();
        Some((
            kind,
            match value {
                ContextValue::String(text) => ContextValue::String(escaped(text)),
                ContextValue::Strings(texts) => ContextValue::Strings(texts.iter().map(escaped).collect()),
                ContextValue::StyledStrs(texts) => {
                    ContextValue::StyledStrs(texts.iter().map(|text| escaped(&text.to_string()).into()).collect())
                }
                // These contain no arguments.
                ContextValue::None
                | ContextValue::Bool(_)
                | ContextValue::StyledStr(_)
                | ContextValue::Number(_)
                | _ => {
                    return None;
                }
            },
        ))
    });
    for (kind, value) in repeated.collect::<Vec<_>>() {
        error.insert(kind, value);
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(typed)) = error.get(ContextKind::InvalidSubcommand)
        && let commands =
            Cli::command().get_subcommands().map(|command| command.get_name().to_owned()).collect::<Vec<_>>()
        && let Some(command) = meant(typed).or_else(|| nearest(typed, commands.iter().map(String::as_str)))
    {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![command.to_owned()]));
    }
    error.render().to_string()
}

fn dispatch(cli: &Cli) -> anyhow::Result<Exit> {
    let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    settings::check_environment(names)?;
    let _log = telemetry::start(&cli.log)?;
    match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Plan(args) => plan::plan(args, cli.log.color),
        Command::Validate(args) => validate::validate(args, cli.log.color),
        Command::Import(args) => import::import(args),
        Command::Schema(args) => {
            print_data(&if args.crd { crds()? } else { json_schema() })?;
            Ok(Exit::Done)
        }
        Command::Simulate(args) => simulate::simulate(args),
        Command::Demo(args) => demo::demo(args),
        Command::Explain(args) => explain::explain(args),
        Command::Forecast(args) => forecast::forecast(args),
        Command::Override(args) => edit::override_(args),
        Command::Suspend(args) => edit::suspend(args),
        Command::Resume(args) => edit::resume(args),
        Command::Restart(args) => edit::restart(args),
        Command::Completions { shell } => {
            print_data(&complete::script(*shell)?)?;
            Ok(Exit::Done)
        }
        Command::Man(args) => man::man(args),
        Command::Get(args) => get::get(args, cli.log.color),
        Command::Status(args) => status::status(args, cli.log.color),
        Command::Describe(args) => describe::describe(args, cli.log.color),
        Command::History(args) => history::history(args),
        Command::Wait(args) => wait::wait(args),
        Command::Health(args) => health::health(args),
        Command::Version => {
            print_data(concat!("campos-operator ", env!("CARGO_PKG_VERSION"), "\n"))?;
            Ok(Exit::Done)
        }
    }
}

/// A runtime of one thread. The loop uses one thread, and a multi-thread runtime is slower (measured on two cores:
/// 71-84 µs for a POST instead of 9-14 µs).
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Runtime(Some(runtime)))
}

/// A runtime that is dropped without a wait: a file or a name server that does not answer must not delay the exit.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("only drop takes it").block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    proptest::proptest! {
        #[test]
        fn usage_errors_are_harmless(text in hostile()) {
            let text = text + "\nINJECTED";
            for arguments in [
                vec![text.clone()],
                vec!["get".into(), format!("--{text}")],
                vec!["get".into(), "-o".into(), text.clone()],
                vec!["run".into(), "--interval".into(), text.clone()],
                vec!["run".into(), "--api-budget".into(), text.clone()],
                vec!["run".into(), "--listen".into(), text.clone()],
                vec!["get".into(), "-l".into(), text.clone()],
                vec!["wait".into(), format!("--for={text}"), "a".into()],
                vec!["schema".into(), text.clone()],
            ] {
                let arguments = std::iter::once("campos-operator".to_owned()).chain(arguments);
                if let Err(error) = Cli::command().try_get_matches_from(arguments) {
                    let page = usage(error);
                    assert_page(&page, &page);
                    assert!(!page.lines().any(|line| line.starts_with("INJECTED")), "{page}");
                }
            }
        }
    }
}
