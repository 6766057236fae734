//! Flags and environment -> checked settings.
//!
//! Errors are reported before anything is opened or called: plain http to a public host, a missing token, an unknown
//! environment variable.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::CommandFactory as _;
use reqwest::Url;
use secrecy::SecretString;

use crate::budget::Budget;
use crate::camposcloud::token::TokenSource;
use crate::cli::{
    ApiArgs, Cli, KubernetesArgs, LevelArg, LimitArgs, MANIFESTS, PolicyArg, RulesArgs, RunArgs, SourceArg, SourceArgs,
    WatchArg,
};
use crate::http;
use crate::kubernetes;
use crate::manifest::diagnostic::nearest;
use crate::manifest::source::{Options, Rules, STDIN};
use crate::notifications;
use crate::notifications::causes::Level;
use crate::notifications::hook::{Hook, HookError, Service};
use crate::operator;
use crate::platform::Team;
use crate::reconcile::desired::Policy;
use crate::reconcile::max_changes::Limits;

/// Variable of the token. It has the prefix of the vendor.
pub const TOKEN_VARIABLE: &str = "CAMPOSCLOUD_TOKEN";
/// The largest token that is read from a pipe, in bytes.
const MAX_TOKEN: u64 = 64 * 1024;
const PREFIX: &str = "CAMPOS_OPERATOR_";
/// Looks like the variable of the token, but no flag reads it.
const TEMPTING_VARIABLE: &str = "CAMPOS_OPERATOR_TOKEN";

#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("unknown environment variable {name}{}", hint.as_ref().map(|hint| format!("; did you mean {hint}?")).unwrap_or_default())]
    UnknownVariable { name: String, hint: Option<String> },
    #[error(
        "{0}: the address contains a user name or a password (its value is not shown); remove everything up to the @, and \
         put the token into {TOKEN_VARIABLE} or a file (--token-file)"
    )]
    Userinfo(&'static str),
    #[error("{TEMPTING_VARIABLE}: put the token into {TOKEN_VARIABLE} or a file (--token-file)")]
    TokenVariable,
    #[error("--api-url {url}: {why}")]
    ApiUrl {
        /// Without user name and password.
        url: String,
        why: &'static str,
    },
    #[error("no token: set {TOKEN_VARIABLE}, or --token-file to the file that holds it")]
    NoToken,
    #[error("two tokens: both {TOKEN_VARIABLE} and --token-file are set; keep one")]
    TwoTokens,
    #[error("--token-file {path}: could not read the token from the pipe: {why}")]
    TokenPipe { path: PathBuf, why: String },
    #[error("--lease-duration must be at least {} s: a call starts only with 10 s of the lease left", kubernetes::SHORTEST_LEASE.as_secs())]
    ShortLease,
    #[error("{0}: this build has no support for Kubernetes; build it with `cargo build --features kubernetes`")]
    NoKubernetes(&'static str),
    #[error("two sources: both --source kubernetes and --manifests are set; keep one")]
    TwoSources,
    #[error("--manifests {path}: {why}")]
    Manifests { path: PathBuf, why: String },
}

#[derive(Debug, Clone)]
pub struct Api {
    pub url: Url,
    pub token: Arc<TokenSource>,
}

/// Refuses a variable with the prefix of the operator that no flag reads: a typing error must not silently select the
/// default.
pub fn check_environment(names: impl IntoIterator<Item = String>) -> Result<(), SettingsError> {
    let mut known = BTreeSet::new();
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        known.extend(command.get_arguments().filter_map(|arg| Some(arg.get_env()?.to_string_lossy().into_owned())));
        commands.extend(command.get_subcommands().cloned());
    }
    for name in names {
        if name == TEMPTING_VARIABLE {
            return Err(SettingsError::TokenVariable);
        }
        if name.starts_with(PREFIX) && !known.contains(&name) {
            // Without the prefix, which would make every name near.
            let flags = known.iter().filter_map(|known| known.strip_prefix(PREFIX));
            let hint = nearest(&name[PREFIX.len()..], flags).map(|near| format!("{PREFIX}{near}"));
            return Err(SettingsError::UnknownVariable { name, hint });
        }
    }
    Ok(())
}

/// The API's address and token. `environment` looks up a variable.
pub fn api(args: &ApiArgs, environment: impl Fn(&str) -> Option<String>) -> Result<Api, SettingsError> {
    let url = api_url(&args.api_url, args.allow_http)?;
    let token = environment(TOKEN_VARIABLE).map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let token = match (token, &args.token_file) {
        (Some(_), Some(_)) => return Err(SettingsError::TwoTokens),
        (Some(token), None) => TokenSource::fixed(SecretString::from(token)),
        (None, Some(path)) => match piped_token(path)? {
            Some(token) => TokenSource::fixed(token),
            None => TokenSource::file(path.clone()),
        },
        (None, None) => return Err(SettingsError::NoToken),
    };
    Ok(Api { url, token: Arc::new(token) })
}

/// The token from a pipe, which can be read only once; `None` for a file.
fn piped_token(path: &Path) -> Result<Option<SecretString>, SettingsError> {
    let is_pipe = std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    if !is_pipe {
        return Ok(None);
    }
    let wrong = |why: String| SettingsError::TokenPipe { path: path.to_owned(), why };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|error| wrong(error.to_string()))?;
    file.take(MAX_TOKEN).read_to_string(&mut text).map_err(|error| wrong(error.to_string()))?;
    let token = text.trim();
    if token.is_empty() { Err(wrong("it is empty".into())) } else { Ok(Some(SecretString::from(token.to_owned()))) }
}

fn api_url(text: &str, allow_http: bool) -> Result<Url, SettingsError> {
    let wrong = |why| SettingsError::ApiUrl { url: text.to_owned(), why };
    without_userinfo("--api-url", text)?;
    let mut url: Url = text.parse().map_err(|_| wrong("not an address; expected https://HOST[:PORT][/PATH]"))?;
    let host = url.host_str().ok_or_else(|| wrong("has no host; expected https://HOST[:PORT][/PATH]"))?;
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("has a query or a fragment; expected https://HOST[:PORT][/PATH]"));
    }
    match url.scheme() {
        "https" => {}
        "http" if allow_http || http::is_loopback_host(host) => {}
        "http" => {
            return Err(wrong("plain http would send the token unencrypted; use https, or allow it with --allow-http"));
        }
        _ => return Err(wrong("neither https nor http")),
    }
    // The vendor's documents show addresses with the version, which the client's paths contain already.
    if let Some(path) = url.path().trim_end_matches('/').strip_suffix("/v1").map(|path| format!("{path}/")) {
        url.set_path(&path);
    }
    Ok(url)
}

/// Refuses an address that may contain `user:password@`, without repeating it: logs and the list of processes
/// show addresses.
pub fn without_userinfo(flag: &'static str, text: &str) -> Result<(), SettingsError> {
    // An `@` in a path is refused as well: the text may not parse, and no valid address needs one.
    if text.contains('@') { Err(SettingsError::Userinfo(flag)) } else { Ok(()) }
}

/// Requests a minute that CamposCloud allows an account.
const ACCOUNT_LIMIT: u32 = 180;

/// The warning about a budget above the limit of the account.
pub fn budget_warning(budget: Budget) -> Option<String> {
    match budget {
        Budget::PerMinute(rate) if rate > ACCOUNT_LIMIT => Some(format!(
            "--api-budget {rate} is above the limit of the account, {ACCOUNT_LIMIT} requests a minute: the server will refuse \
             requests (429); for a private server use `unlimited`"
        )),
        Budget::PerMinute(_) | Budget::Unlimited => None,
    }
}

/// Refuses a missing directory at the start. Later, the daemon waits for a missing directory.
pub fn existing_directories(paths: &[PathBuf]) -> Result<(), SettingsError> {
    for path in paths {
        let wrong = |why: String| SettingsError::Manifests { path: path.clone(), why };
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(wrong(
                    "not a directory; `run` reads directories only, so set the directory of the file".into(),
                ));
            }
            Err(error) => return Err(wrong(error.to_string())),
        }
    }
    Ok(())
}

/// Refuses a path that does not exist, for a command that also reads files and pipes. `-` is stdin.
pub fn existing_paths(paths: &[PathBuf]) -> Result<(), SettingsError> {
    for path in paths.iter().filter(|path| path.as_os_str() != STDIN) {
        let wrong = |error: std::io::Error| SettingsError::Manifests { path: path.clone(), why: error.to_string() };
        std::fs::metadata(path).map_err(wrong)?;
    }
    Ok(())
}

pub fn source(args: &RunArgs) -> Options {
    Options {
        scan_interval: args.scan_interval,
        watch: args.watch == WatchArg::Auto,
        rules: rules(&args.manifests.rules),
        allow_empty: args.allow_empty,
    }
}

/// The receivers of messages.
///
/// # Errors
/// A file that has no usable URL.
pub fn notifications(args: &RunArgs) -> Result<notifications::Settings, HookError> {
    let notify = &args.notify;
    let files = [
        (Service::Discord, &notify.notify_discord_file, None),
        (Service::Slack, &notify.notify_slack_file, None),
        (Service::Webhook, &notify.notify_webhook_file, notify.notify_webhook_secret_file.as_deref()),
    ];
    let hooks = files
        .into_iter()
        .filter_map(|(service, file, secret)| Some(Hook::from_files(service, file.as_deref()?, secret)));
    Ok(notifications::Settings {
        hooks: hooks.collect::<Result<_, _>>()?,
        level: match notify.notify_level {
            LevelArg::Info => Level::Info,
            LevelArg::Warning => Level::Warning,
            LevelArg::Person => Level::Person,
        },
        state_dir: args.state_dir.clone(),
    })
}

pub fn rules(args: &RulesArgs) -> Rules {
    Rules { follow_links: args.follow_links, exclude: args.exclude.clone() }
}

/// The settings of the Kubernetes API; `None` if no flag needs it.
///
/// # Errors
/// If the lease is too short for a call, there are two sources, or this build has no support for Kubernetes.
pub fn kubernetes(
    args: &RunArgs,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Option<kubernetes::Settings>, SettingsError> {
    let KubernetesArgs { source, leader_elect, lease_name, lease_duration, pod_name } = &args.kubernetes;
    let namespace = source.namespace.clone();
    let source = reads_custom_resources(source, &args.manifests.manifests, environment)?;
    if !source && !leader_elect {
        return Ok(None);
    }
    if !kubernetes::SUPPORTED {
        return Err(SettingsError::NoKubernetes("--leader-elect"));
    }
    if *lease_duration < kubernetes::SHORTEST_LEASE {
        return Err(SettingsError::ShortLease);
    }
    let (name, pod) = (lease_name.clone(), pod_name.clone());
    let lease = kubernetes::Lease { name, duration: *lease_duration, pod };
    Ok(Some(kubernetes::Settings { namespace, election: leader_elect.then_some(lease), source }))
}

/// Returns whether custom resources are the source of the objects.
///
/// # Errors
/// If directories are given, too, or this build has no support for Kubernetes.
pub fn reads_custom_resources(
    args: &SourceArgs,
    directories: &[PathBuf],
    environment: impl Fn(&str) -> Option<String>,
) -> Result<bool, SettingsError> {
    if args.source == SourceArg::Directory {
        return Ok(false);
    }
    if !kubernetes::SUPPORTED {
        return Err(SettingsError::NoKubernetes("--source kubernetes"));
    }
    // The image sets a directory; only the directory of a flag is an error.
    let from_image =
        environment("CAMPOS_OPERATOR_MANIFESTS").is_some_and(|directory| *directories == [Path::new(&directory)]);
    if !from_image && *directories != [Path::new(MANIFESTS)] {
        return Err(SettingsError::TwoSources);
    }
    Ok(true)
}

/// The teams to list, without duplicates.
pub fn teams(names: &[String]) -> Vec<Team> {
    let mut known = BTreeSet::new();
    names.iter().filter(|name| known.insert(name.as_str())).map(|name| name.as_str().into()).collect()
}

pub fn limits(args: &LimitArgs) -> Limits {
    Limits { stops: args.max_stops, starts: args.max_starts }
}

pub fn operator(args: &RunArgs, salt: u64) -> operator::Settings {
    operator::Settings {
        interval: args.interval,
        confirm_timeout: args.confirm_timeout,
        policy: args.policy.into(),
        dry_run: args.dry_run,
        budget: args.api.api_budget,
        teams: teams(&args.team),
        once: args.once.then_some(args.timeout),
        trust_clock: args.api.trust_clock,
        limits: limits(&args.limits),
        salt,
    }
}

impl From<PolicyArg> for Policy {
    fn from(policy: PolicyArg) -> Self {
        match policy {
            PolicyArg::Full => Self::Full,
            PolicyArg::StopOnly => Self::StopOnly,
            PolicyArg::ObserveOnly => Self::ObserveOnly,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn url(text: &str, allow_http: bool, problem: Option<&str>) {
        let said = api_url(text, allow_http).err().map(|error| error.to_string());
        match problem {
            None => assert_eq!(said, None),
            Some(part) => assert!(said.as_deref().is_some_and(|said| said.contains(part)), "{said:?}"),
        }
    }

    #[test]
    fn the_token_never_travels_in_the_clear() {
        url("https://api.camposcloud.com", false, None);
        url("https://proxy.example/campos/", false, None);
        url("http://127.0.0.1:8800", false, None);
        url("http://[::1]:8800", false, None);
        url("http://localhost:8800", false, None);
        url("http://api.camposcloud.com", false, Some("unencrypted"));
        url("http://127.0.0.1.example.com", false, Some("unencrypted"));
        url("http://10.0.0.1", false, Some("unencrypted"));
        url("http://10.0.0.1", true, None);
        url("ftp://x", false, Some("neither"));
        url("api.camposcloud.com", false, Some("not an address"));
        url("https://x/?a=b", false, Some("query"));
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        for text in [
            "https://user:hush@host",
            "https://hush@host/v1",
            "https://user:hush@host:port:port",
            "https://user:h#u@sh@host",
            "https://us er:hush@[host",
            "https:user:hush@host",
            "user:hush@host",
            "ftp://user:hush@host",
            "http://user:hush@10.0.0.1",
            "user:hush@",
        ] {
            let error = api_url(text, false).unwrap_err();
            assert!(matches!(error, SettingsError::Userinfo("--api-url")), "{error:?}");
            let (plain, debug) = (error.to_string(), format!("{error:?}"));
            assert!(plain.contains("user name or a password") && !plain.contains("user:"), "{plain}");
            assert!(!plain.contains("hush") && !debug.contains("hush"), "{plain} {debug}");
        }
    }

    #[test]
    fn a_trailing_version_is_no_part_of_the_address() {
        let same = |text: &str, url: &str| assert_eq!(api_url(text, false).unwrap().as_str(), url);
        same("https://api.test/v1", "https://api.test/");
        same("https://api.test/v1/", "https://api.test/");
        same("https://api.test/proxy/v1//", "https://api.test/proxy/");
        same("https://api.test/proxy", "https://api.test/proxy");
        same("https://api.test/v10", "https://api.test/v10");
        same("https://api.test/xv1", "https://api.test/xv1");
        same("https://v1", "https://v1/");
    }

    #[test]
    fn an_unknown_variable_is_an_error() {
        let check = |name: &str| check_environment([name.to_owned()]).map_err(|error| error.to_string());
        assert_eq!(check("CAMPOS_OPERATOR_INTERVAL"), Ok(()));
        assert_eq!(check("PATH"), Ok(()));
        assert_eq!(
            check("CAMPOS_OPERATOR_INTERVALL"),
            Err("unknown environment variable CAMPOS_OPERATOR_INTERVALL; did you mean CAMPOS_OPERATOR_INTERVAL?".into())
        );
        assert_eq!(
            check("CAMPOS_OPERATOR_TOKEN"),
            Err("CAMPOS_OPERATOR_TOKEN: put the token into CAMPOSCLOUD_TOKEN or a file (--token-file)".into())
        );
        assert_eq!(check("CAMPOS_OPERATOR_X"), Err("unknown environment variable CAMPOS_OPERATOR_X".into()));
    }

    #[test]
    fn every_flag_has_its_variable() {
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            for arg in command.get_arguments() {
                let Some(long) = arg.get_long().filter(|long| !["help", "version"].contains(long)) else { continue };
                // `simulate --token` has its own variable, so that it contains no real token.
                let long_name =
                    if (command.get_name(), long) == ("simulate", "token") { "simulate-token" } else { long };
                let expected = format!("{PREFIX}{}", long_name.to_uppercase().replace('-', "_"));
                assert_eq!(arg.get_env().map(|name| name.to_string_lossy().into_owned()), Some(expected), "--{long}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
