//! Flags from environment variables.
//!
//! clap reads the variable of a flag like a typed value. This module removes the variables that clap would misread: an
//! empty variable is unset, several words mean yes and no, and one variable may be for flags of several commands.

use std::ffi::{OsStr, OsString};

use clap::builder::BoolishValueParser;
use clap::error::ContextKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// Error for a variable with an invalid value for the flag of the command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable}: {problem}")]
pub struct BadVariable {
    variable: String,
    problem: String,
}

/// Parses a command line.
///
/// # Errors
/// The error of the command line, or of a variable of the command.
pub fn parse(
    command: Command,
    arguments: impl IntoIterator<Item = OsString>,
    read: &dyn Fn(&OsStr) -> Option<OsString>,
) -> Result<ArgMatches, Result<BadVariable, clap::Error>> {
    let whole = command.clone();
    let mut bad = Vec::new();
    let command = prepared(command, &[], &whole, read, &mut bad);
    let matches = command.try_get_matches_from(arguments).map_err(Err)?;
    let chosen = matches.subcommand_name();
    let applies = |path: &[String]| path.first().is_none_or(|name| Some(name.as_str()) == chosen);
    match bad.into_iter().find(|(path, _)| applies(path)) {
        Some((_, bad)) => Err(Ok(bad)),
        None => Ok(matches),
    }
}

/// The command, without the variables of other commands; variables with bad values are added to `bad`.
fn prepared(
    command: Command,
    path: &[String],
    whole: &Command,
    read: &dyn Fn(&OsStr) -> Option<OsString>,
    bad: &mut Vec<(Vec<String>, BadVariable)>,
) -> Command {
    let command = command.mut_args(|arg| {
        let arg = if is_switch(&arg) { arg.value_parser(BoolishValueParser::new()) } else { arg };
        let Some(variable) = arg.get_env().map(OsStr::to_owned) else { return arg };
        let Some(value) = read(&variable) else { return arg.env(None) };
        if value.is_empty() {
            return arg.env(None);
        }
        let Err(problem) = check(&arg, &value) else { return arg };
        let others = every_arg(whole).filter(|other| other.get_env() == Some(&variable));
        if others.into_iter().all(|other| check(other, &value).is_err()) {
            let variable = variable.to_string_lossy().into_owned();
            bad.push((path.to_vec(), BadVariable { variable, problem }));
        }
        arg.env(None)
    });
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| {
        let below = [path, std::slice::from_ref(&name)].concat();
        command.mut_subcommand(name, |command| prepared(command, &below, whole, read, bad))
    })
}

fn is_switch(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

fn every_arg(command: &Command) -> Box<dyn Iterator<Item = &Arg> + '_> {
    Box::new(command.get_arguments().chain(command.get_subcommands().flat_map(every_arg)))
}

/// Parses a value like a typed value of the argument.
fn check(arg: &Arg, value: &OsStr) -> Result<(), String> {
    let parser = if is_switch(arg) { BoolishValueParser::new().into() } else { arg.get_value_parser().clone() };
    let mut alone = Arg::new("value").long("value").value_parser(parser).action(ArgAction::Append);
    if let Some(delimiter) = arg.get_value_delimiter() {
        alone = alone.value_delimiter(delimiter);
    }
    let mut typed = OsString::from("--value=");
    typed.push(value);
    let flag = Command::new("flag").arg(alone);
    let Err(error) = flag.try_get_matches_from([OsString::from("flag"), typed]) else { return Ok(()) };
    let shown = format!("invalid value {:?}", value.to_string_lossy());
    let words = match error.get(ContextKind::ValidValue) {
        _ if is_switch(arg) => "expected true, yes, on or 1, or false, no, off or 0".to_owned(),
        Some(words) => format!("expected one of {words}"),
        None => std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
    };
    Err(if words.is_empty() { shown } else { format!("{shown}: {words}") })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, FromArgMatches as _};

    use super::*;
    use crate::cli::Cli;

    fn parsed(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Cli, String> {
        let read = |name: &OsStr| {
            let found = variables.iter().find(|(known, _)| OsStr::new(known) == name);
            found.map(|(_, value)| OsString::from(value))
        };
        let arguments = std::iter::once("campos-operator").chain(arguments.iter().copied()).map(OsString::from);
        match parse(Cli::command(), arguments, &read) {
            Ok(matches) => Ok(Cli::from_arg_matches(&matches).unwrap()),
            Err(Ok(bad)) => Err(bad.to_string()),
            Err(Err(error)) => Err(error.to_string()),
        }
    }

    #[test]
    fn words_for_yes_and_no() {
        let command = Cli::command();
        let dry_run = every_arg(&command).find(|arg| arg.get_id() == "dry_run").unwrap();
        for word in ["true", "1", "yes", "on", "YES", "y", "t", "false", "0", "no", "off", "Off", "n", "f"] {
            assert_eq!(check(dry_run, OsStr::new(word)), Ok(()), "{word}");
        }
        let error = parsed(&["run"], &[("CAMPOS_OPERATOR_DRY_RUN", "maybe")]).unwrap_err();
        assert!(error.starts_with("CAMPOS_OPERATOR_DRY_RUN: invalid value \"maybe\": expected true"), "{error}");
    }

    /// For every flag of every command: an empty variable counts as unset, and the error of a bad value has its
    /// variable.
    #[test]
    fn an_empty_variable_is_unset() {
        for arg in every_arg(&Cli::command()) {
            if let Some(variable) = arg.get_env().and_then(OsStr::to_str) {
                for command in ["run", "plan", "validate", "get", "import", "simulate", "demo", "man"] {
                    assert!(parsed(&[command], &[(variable, "")]).is_ok(), "{variable} {command}");
                }
            }
        }
    }

    #[test]
    fn a_value_of_another_command_is_ignored() {
        assert!(parsed(&["plan"], &[("CAMPOS_OPERATOR_OUTPUT", "wide")]).is_ok());
        assert!(parsed(&["plan"], &[("CAMPOS_OPERATOR_OUTPUT", "markdown")]).is_ok());
        let error = parsed(&["plan"], &[("CAMPOS_OPERATOR_OUTPUT", "pdf")]).unwrap_err();
        assert!(error.starts_with("CAMPOS_OPERATOR_OUTPUT: invalid value \"pdf\": expected one of"), "{error}");
        assert!(parsed(&["schema"], &[("CAMPOS_OPERATOR_OUTPUT", "pdf")]).is_ok(), "no flag of it reads the variable");
        assert!(parsed(&["get"], &[("CAMPOS_OPERATOR_WATCH", "scan")]).is_ok());
        assert!(parsed(&["run"], &[("CAMPOS_OPERATOR_WATCH", "true")]).is_ok());
        let error = parsed(&["run"], &[("CAMPOS_OPERATOR_INTERVAL", "60")]).unwrap_err();
        assert!(error.starts_with("CAMPOS_OPERATOR_INTERVAL: invalid value \"60\": expected a time"), "{error}");
        let error = parsed(&["run"], &[("CAMPOS_OPERATOR_LOG_FORMAT", "xml")]).unwrap_err();
        assert!(error.starts_with("CAMPOS_OPERATOR_LOG_FORMAT"), "{error}");
    }
}
