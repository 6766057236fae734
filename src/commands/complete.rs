//! Shell completion: the script of a shell calls this program, which completes names of apps and labels.
//!
//! Names come from a running daemon, otherwise from the manifests; commands that edit use only the manifests. After an
//! error, the completion is empty: a shell cannot show a message.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, ValueHint};
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use super::client::Daemon;
use super::{runtime, variable};
use crate::cli::{Cli, MANIFESTS};
use crate::manifest::source;
use crate::manifest::source::Rules;
use crate::reconcile::reason::Reason;

/// Set by the script of a shell. Not `COMPLETE`, which another program may set for a daemon.
const VARIABLE: &str = "CAMPOS_OPERATOR_COMPLETE";
/// Time limit for the answer of the daemon.
const DEADLINE: Duration = Duration::from_secs(1);

/// Completes a command line for the script of a shell; returns false if no shell requested a completion.
pub(super) fn complete() -> Result<bool, clap::Error> {
    CompleteEnv::with_factory(command)
        .var(VARIABLE)
        .try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref())
}

/// The script that registers the completion in a shell.
pub(super) fn script(shell: Shell) -> anyhow::Result<String> {
    let (name, mut script) = ("campos-operator", Vec::new());
    let shells = Shells::builtins();
    let shell = shells.completer(&shell.to_string()).expect("the two lists of shells are of one library");
    shell.write_registration(VARIABLE, name, name, name, &mut script)?;
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Returns the command line with a completer for names, labels, reasons and directories.
fn command() -> Command {
    Cli::command().mut_subcommands(|command| {
        let edits = ["override", "suspend", "resume", "restart"].contains(&command.get_name());
        command.mut_args(|arg| match arg.get_id().as_str() {
            "name" | "names" if edits => completed(arg, || names(false)),
            "name" | "names" => completed(arg, || names(true)),
            "selector" => completed(arg, labels),
            "reason" if !edits => completed(arg, || Reason::ALL.map(|reason| reason.as_str().to_owned()).into()),
            _ if arg.get_value_names().is_some_and(|names| names[0] == "DIR") => arg.value_hint(ValueHint::DirPath),
            _ => arg,
        })
    })
}

fn completed(arg: Arg, all: fn() -> BTreeSet<String>) -> Arg {
    arg.add(ArgValueCompleter::new(move |typed: &OsStr| {
        let typed = typed.to_string_lossy();
        let all = all().into_iter().filter(|one| one.starts_with(&*typed) && is_plain(one));
        all.map(CompletionCandidate::new).collect::<Vec<_>>()
    }))
}

/// Returns true if a shell needs no quotes for the text.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/=".contains(c))
}

/// An app of the daemon or of the manifests: its name and labels.
type Candidate = (String, Vec<String>);

fn names(with_daemon: bool) -> BTreeSet<String> {
    candidates(with_daemon).into_iter().map(|(name, _)| name).collect()
}

fn labels() -> BTreeSet<String> {
    candidates(true).into_iter().flat_map(|(_, labels)| labels).collect()
}

fn candidates(with_daemon: bool) -> Vec<Candidate> {
    let typed: Vec<OsString> = std::env::args_os().collect();
    let declared = || declared(&typed);
    if with_daemon { published(&typed).unwrap_or_else(declared) } else { declared() }
}

/// The values of a flag on the typed command line, which bash splits at `:` and `=`.
fn values_of(flag: &str, typed: &[OsString]) -> Vec<String> {
    let typed: Vec<_> = typed.iter().map(|word| word.to_string_lossy()).collect();
    let line = typed.join("\0").replace("\0:\0", ":").replace("\0=\0", "=");
    let words: Vec<&str> = line.split('\0').collect();
    let joined = words.iter().filter_map(|word| word.strip_prefix(flag)?.strip_prefix('='));
    let apart = words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1]);
    joined.chain(apart).map(str::to_owned).collect()
}

fn published(typed: &[OsString]) -> Option<Vec<Candidate>> {
    let server = values_of("--server", typed).pop().or_else(|| variable("CAMPOS_OPERATOR_SERVER"));
    let daemon = Daemon::new(&server.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned())).ok()?;
    let apps = runtime().ok()?.block_on(async { tokio::time::timeout(DEADLINE, daemon.apps()).await }).ok()?.ok()?;
    let labels =
        |app: &super::client::App| app.metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Some(apps.values().map(|app| (app.name().to_owned(), labels(app))).collect())
}

fn declared(typed: &[OsString]) -> Vec<Candidate> {
    let mut roots: Vec<PathBuf> = values_of("--manifests", typed).into_iter().map(PathBuf::from).collect();
    if roots.is_empty() {
        roots.push(variable("CAMPOS_OPERATOR_MANIFESTS").unwrap_or_else(|| MANIFESTS.to_owned()).into());
    }
    let (declared, _, _) = source::load_with(roots, &Rules::default());
    let labels = |declared: &crate::reconcile::desired::Declared| {
        let object = declared.object.iter();
        object.flat_map(|object| object.labels.iter()).map(|(key, value)| format!("{key}={value}")).collect()
    };
    declared.iter().map(|declared| (declared.name.to_string(), labels(declared))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_from_the_typed_line() {
        let typed = ["op", "--", "op", "get", "--server", "http://a", "--manifests=x", "--manifests", "y"];
        let typed: Vec<OsString> = typed.map(OsString::from).into();
        assert_eq!(values_of("--server", &typed), ["http://a"]);
        assert_eq!(values_of("--manifests", &typed), ["x", "y"]);
        let split = ["get", "--server", "http", ":", "//127.0.0.1", ":", "80", "--manifests", "=", "x"];
        let split: Vec<OsString> = split.map(OsString::from).into();
        assert_eq!(values_of("--server", &split), ["http://127.0.0.1:80"]);
        assert_eq!(values_of("--manifests", &split), ["x"]);
    }

    #[test]
    fn texts_that_a_shell_would_expand_are_not_offered() {
        assert!(is_plain("ticket-bot") && is_plain("team=support") && is_plain("a.b/c"));
        for text in ["", "a b", "$(x)", "a*", "`x`", "a;b", "ação"] {
            assert!(!is_plain(text), "{text}");
        }
    }
}
