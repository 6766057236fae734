//! Which verb was asked for, and how does it end? One file per verb; text and exit code come from one value.

mod client;
mod demo;
mod describe;
mod explain;
mod get;
mod health;
mod history;
mod import;
mod man;
mod plan;
mod run;
mod simulate;
mod text;
mod validate;
mod wait;

use std::io;
use std::process::ExitCode;

use clap::error::{ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser as _};

use crate::cli::{Cli, Command};
use crate::manifest::json_schema::json_schema;
use crate::{settings, telemetry};
use text::{escape, print_data, tell, tell_error};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: any error, usage included.
    Failed,
    /// 2: there are changes, and `--detailed-exitcode` asked to be told. Nothing else ever exits 2.
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

/// Parses the command line and does what it says.
pub fn main() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            if asked_for || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
                // Where even that cannot be printed there is nobody to tell.
                let _ = error.print();
            } else {
                tell(usage(error).trim_end());
            }
            return if asked_for { Exit::Done } else { Exit::Failed };
        }
    };
    match dispatch(&cli) {
        Ok(exit) => exit,
        // A reader that went away (`| head`) is not an error of ours.
        Err(error) if broken_pipe(&error) => Exit::Done,
        Err(error) => {
            tell_error(&error);
            Exit::Failed
        }
    }
}

/// What is wrong with the command line. Arguments are repeated in it, each on one line and escaped.
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
                // Ours, like the usage: no argument is in them.
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
        Command::Schema => {
            print_data(&json_schema())?;
            Ok(Exit::Done)
        }
        Command::Simulate(args) => simulate::simulate(args),
        Command::Demo(args) => demo::demo(args),
        Command::Explain(args) => explain::explain(args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "campos-operator", &mut script);
            // Of a name with a hyphen bash would complete the verbs and nothing after them: clap-rs/clap#6421.
            let script = String::from_utf8_lossy(&script).replace("campos__subcmd__operator", "campos__operator");
            print_data(&script)?;
            Ok(Exit::Done)
        }
        Command::Man(args) => man::man(args),
        Command::Get(args) => get::get(args, cli.log.color),
        Command::Describe(args) => describe::describe(args, cli.log.color),
        Command::History(args) => history::history(args),
        Command::Wait(args) => wait::wait(args),
        Command::Health(args) => health::health(args),
    }
}

/// A runtime of one thread: the loop is one thread's work, and a hop to another costs more than it gains (a POST's
/// round trip took 71-84 µs on a multi-thread runtime and 9-14 µs on this one, measured on two cores).
fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| Runtime(Some(runtime)))
}

/// A runtime whose end waits for nothing: a file or a name server that does not answer must not hold the process.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.as_ref().expect("it is taken at its end only").block_on(future)
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::tests::assert_page;
    use crate::printable::tests::hostile;

    proptest::proptest! {
        #[test]
        fn what_is_wrong_with_an_argument_is_told_harmlessly(text in hostile()) {
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
                if let Err(error) = Cli::try_parse_from(arguments) {
                    let page = usage(error);
                    assert_page(&page, &page);
                    assert!(!page.lines().any(|line| line.starts_with("INJECTED")), "{page}");
                }
            }
        }
    }
}
