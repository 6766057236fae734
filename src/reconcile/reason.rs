//! The closed list of reasons, which conditions, logs, metrics and history share word for word.
//!
//! A new reason is one row here. The compiler then requires its message (`operator::describe`), and tests
//! require its rows in `docs/operations.md` and `http/openapi.json`.

use std::fmt;
use std::str::FromStr;

use super::group::Group;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident ($group:ident): $advice:literal,)*) => {
        /// Cause of a decision. Closed: the names are a contract.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
        }

        impl Reason {
            pub const ALL: [Self; [$(Self::$name),*].len()] = [$(Self::$name),*];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// Group of an app that has this reason and is neither ready nor stalled.
            pub const fn group(self) -> Group {
                match self {
                    $(Self::$name => Group::$group,)*
                }
            }

            /// One sentence about the reason.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($doc),*).trim_start(),)*
                }
            }

            /// The next step for a person, if there is one.
            pub fn advice(self, file: &str) -> String {
                let advice = match self {
                    $(Self::$name => $advice,)*
                };
                advice.replace("{file}", file)
            }
        }
    };
}

reasons! {
    /// Desired and observed agree.
    Settled (Settled): "None. The app is as declared.",
    /// A stop was sent and is not verified yet.
    Stopping (InProgress): "None. The operator verifies the call.",
    /// A start was sent and is not verified yet.
    Starting (InProgress): "None. The operator verifies the call.",
    /// Desired and observed differ, and the call is the next step.
    Drifted (InProgress): "None. The operator sends the call when the rate limiter admits it.",
    /// A call failed; the next attempt waits.
    BackingOff (InTrouble):
        "None yet. The operator retries. If the error of the last action lasts, fix the cause that it names.",
    /// The manifest suspends the app.
    Suspended (Held): "To let the operator act on the app again, remove `suspend` from {file}.",
    /// A policy forbids the necessary call.
    PolicyForbids (Held):
        "Change the app in the dashboard of CamposCloud, or set `policy` in {file} or --policy of the daemon.",
    /// `--dry-run` holds the call.
    DryRun (Held): "To let the daemon act, start it without --dry-run.",
    /// There is no fresh reading of the app.
    NotObserved (Unknown):
        "Wait for the next read. If this lasts, /api/v1/status of the daemon shows why the list of apps is \
         incomplete.",
    /// The platform is creating the app.
    BeingCreated (InProgress): "None. The operator continues when the platform has created the app.",
    /// The platform suspended the app.
    SuspendedByPlatform (NeedsPerson):
        "Find the cause in the dashboard of CamposCloud; the operator cannot end this suspension.",
    /// The platform has no such app.
    AppNotFound (NeedsPerson):
        "Check spec.appId in {file}, and that the token's account owns the app. If the app is gone, remove the \
         manifest.",
    /// The token may not change this app.
    Forbidden (NeedsPerson):
        "Ask the owner of the app's team to grant canChangeStatusApplication to the owner of the token.",
    /// The operator does not understand the answer of the platform.
    UnexpectedAnswer (InTrouble):
        "Check the last action and the status page of CamposCloud. If the answer does not change, report a bug.",
    /// A stop was accepted, and no reading showed the app stopped within --confirm-timeout.
    StopNotEffective (InTrouble):
        "Check the app in the dashboard of CamposCloud: the platform accepts the call, and the app does not change.",
    /// A start was accepted, and no reading showed the app running within --confirm-timeout.
    StartNotEffective (InTrouble):
        "Check the app in the dashboard of CamposCloud: the platform accepts the call, and the app does not change.",
    /// A restart is required, or was sent and is not verified yet.
    Restarting (InProgress): "None. The operator reads the app, sends the restart if it is still necessary, and then verifies it.",
    /// A restart was accepted, and no reading showed a later start of the app within --confirm-timeout.
    RestartNotEffective (NeedsPerson):
        "Check the app in the dashboard of CamposCloud. The restart is not sent again for the same cause: to retry, \
         set a new `restart.requestedAt` in {file}.",
    /// The app left its desired state several times within an hour.
    Contested (InTrouble):
        "Find the other client that changes the app (a person, another tool, a second operator), and stop it.",
    /// The newest text of the manifest is invalid; the last good one is in force.
    InvalidManifest (NeedsPerson): "Fix {file}; `campos-operator validate` lists all its errors.",
    /// Several manifests have this `appId`.
    DuplicateAppId (NeedsPerson):
        "Keep one of the manifests with the appId of {file}; `campos-operator validate` lists them.",
    /// Several manifests have this name.
    DuplicateName (NeedsPerson):
        "Rename all but one of the apps with the name in {file}; `campos-operator validate` lists them.",
    /// The directory of manifests cannot be read; the last good ones are in force.
    SourceUnavailable (NeedsPerson): "Mount the directory of manifests again, or make it readable for the daemon.",
    /// A process has the file of the newest text open for writing; the last complete one is in force.
    BeingWritten (InTrouble): "Close {file} in the program that writes it (`fuser {file}` names it).",
    /// The list was incomplete, and did not show this app.
    ObservationIncomplete (Unknown):
        "Wait for the next read. If this lasts, /api/v1/status of the daemon shows why the list of apps is \
         incomplete.",
    /// The server refuses the token: the operator sends no call.
    AccountBlocked (NeedsPerson): "Replace the token by a valid one (CAMPOSCLOUD_TOKEN, or the --token-file).",
    /// The account may not make the necessary requests: the operator sends no call.
    AccountForbidden (NeedsPerson):
        "Check the plan of the account, the scopes of the token and the permissions of its teams.",
    /// The platform does not answer.
    ApiUnavailable (InTrouble): "Wait: the operator retries. The status page of CamposCloud may show the cause.",
    /// The rate limit of the account pauses requests.
    RateLimited (InProgress):
        "Wait: the operator retries. If this is frequent, lower --api-budget, or find other clients of the account.",
    /// The wall clock differs from the server's, and the desired state depends on the time.
    ClockDoubtful (NeedsPerson):
        "Set the clock of this machine (check NTP). If the server's clock is wrong, start the daemon with \
         --trust-clock.",
    /// More calls follow from edits than --max-stops or --max-starts allows.
    TooManyChanges (NeedsPerson):
        "Revert the edits, or commit an Approval of the plan that /api/v1/status names; `campos-operator plan --max-stops ..` prints the Approval.",
    /// Another replica leads, and only the leader sends requests.
    Standby (Unknown): "None. Read the status of the leader, which /api/v1/status names.",
}

impl Reason {
    /// Returns whether the reason concerns the whole account, so that it is reported once and not for each app.
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
    use crate::reconcile::state::Action;

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

    #[test]
    fn the_http_port_describes_every_action() {
        let described: Value = serde_json::from_str(include_str!("../http/openapi.json")).unwrap();
        let actions = [Action::Stop, Action::Start, Action::Restart].map(|action| Value::from(action.as_str()));
        let found: Vec<_> =
            lists(&described["components"]).into_iter().filter(|list| list.contains(&actions[0])).collect();
        assert!(found.len() >= 2 && found.iter().all(|list| list.starts_with(&actions)), "{found:?}");
    }

    fn lists(value: &Value) -> Vec<&Vec<Value>> {
        match value {
            Value::Array(list) => std::iter::once(list).chain(list.iter().flat_map(lists)).collect(),
            Value::Object(fields) => fields.values().flat_map(lists).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
        }
    }
}
