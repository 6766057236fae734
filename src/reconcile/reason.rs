//! The closed list of reasons, which conditions, logs, metrics and history share word for word.
//!
//! A new reason is one row here. The compiler then requires its message (`operator::describe`) and its advice
//! (`commands::describe`), and tests require its rows in `docs/operations.md` and `http/openapi.json`.

use std::fmt;
use std::str::FromStr;

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Cause of a decision. Closed: the names are a contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)*
        }

        impl Reason {
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }
        }
    };
}

reasons! {
    /// Desired and observed agree.
    Settled,
    /// A stop was sent and is not verified yet.
    Stopping,
    /// A start was sent and is not verified yet.
    Starting,
    /// Desired and observed differ, and the call is the next step.
    Drifted,
    /// A call failed; the next attempt waits.
    BackingOff,
    /// The manifest suspends the app.
    Suspended,
    /// A policy forbids the necessary call.
    PolicyForbids,
    /// `--dry-run` holds the call.
    DryRun,
    /// There is no fresh reading of the app.
    NotObserved,
    /// The platform is creating the app.
    BeingCreated,
    /// The platform suspended the app.
    SuspendedByPlatform,
    /// The platform knows no such app.
    AppNotFound,
    /// The token may not change this app.
    Forbidden,
    /// The operator does not understand the answer of the platform.
    UnexpectedAnswer,
    /// A stop was accepted, and no reading showed the app stopped in time.
    StopNotEffective,
    /// A start was accepted, and no reading showed the app running in time.
    StartNotEffective,
    /// The app left its desired state again and again.
    Contested,
    /// The newest text of the manifest is invalid; the last good one is in force.
    InvalidManifest,
    /// Several manifests have this `appId`.
    DuplicateAppId,
    /// Several manifests have this name.
    DuplicateName,
    /// The directory of manifests cannot be read; the last good ones are in force.
    SourceUnavailable,
    /// A process has the file of the newest text open for writing; the last complete one is in force.
    BeingWritten,
    /// The list was incomplete, and did not show this app.
    ObservationIncomplete,
    /// The server refuses the token: nothing is called.
    AccountBlocked,
    /// The account may not make the necessary requests: no app is called.
    AccountForbidden,
    /// The platform does not answer.
    ApiUnavailable,
    /// The account's budget of requests is used up for now.
    RateLimited,
    /// The wall clock differs from the server's, and the desired state depends on the time.
    ClockDoubtful,
}

impl Reason {
    /// Whether it concerns the whole account, so that it is reported once and not for each app.
    pub const fn is_account_wide(self) -> bool {
        matches!(self, Self::AccountBlocked | Self::AccountForbidden | Self::ApiUnavailable | Self::RateLimited)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not one of the closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(text: &str) -> Result<Self, UnknownReason> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == text).ok_or(UnknownReason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_http_port_describes_every_reason() {
        let described: Value = serde_json::from_str(include_str!("../http/openapi.json")).unwrap();
        let words: Vec<Value> = Reason::ALL.iter().map(|reason| reason.as_str().into()).collect();
        let schemas = &described["components"]["schemas"];
        assert_eq!(schemas["Reason"]["enum"], Value::from(words.clone()));
        // The reason of a history entry may be absent.
        let found =
            lists(schemas).into_iter().filter(|list| list.last() == Some(&Value::Null) && list.contains(&words[0]));
        assert_eq!(found.collect::<Vec<_>>(), [&[words.clone(), vec![Value::Null]].concat()]);
    }

    fn lists(value: &Value) -> Vec<&Vec<Value>> {
        match value {
            Value::Array(list) => std::iter::once(list).chain(list.iter().flat_map(lists)).collect(),
            Value::Object(fields) => fields.values().flat_map(lists).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
        }
    }

    #[test]
    fn the_page_names_reasons_of_the_list() {
        let page = include_str!("../http/page/page.js");
        let (_, set) = page.split_once("const TROUBLE = new Set([").unwrap();
        let words: Vec<&str> =
            set.split_once("])").unwrap().0.split(',').map(|word| word.trim().trim_matches('"')).collect();
        assert!(words.len() > 5 && words.iter().all(|word| word.parse::<Reason>().is_ok()), "{words:?}");
        let held = Reason::ALL.into_iter().filter(|reason| reason.is_account_wide());
        assert!(held.map(Reason::as_str).all(|word| words.contains(&word)), "{words:?}");
        assert!(!Reason::Settled.is_account_wide() && !Reason::Forbidden.is_account_wide());
    }
}
