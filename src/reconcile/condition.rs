//! Why is it so? `Reason`, the closed list, and the three conditions folded from it.
//!
//! The same word stands in conditions, logs, metrics and history.

use std::fmt;

use super::decide::Decision;
use super::desired::{Standing, Text};

/// Why an app is as it is. Closed: the design's list, word for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Desired and observed agree.
    Settled,
    /// A stop was called and is not verified yet.
    Stopping,
    /// A start was called and is not verified yet.
    Starting,
    /// They differ, and the call is about to be made.
    Drifted,
    /// A call failed; the next one waits for its time.
    BackingOff,
    /// The manifest suspends the app.
    Suspended,
    /// The policy forbids the call that would be needed.
    PolicyForbids,
    /// `--dry-run`: the call that would be made is not.
    DryRun,
    /// There is no fresh reading of the app.
    NotObserved,
    /// The platform is still creating the app.
    BeingCreated,
    /// The platform suspended the app.
    SuspendedByPlatform,
    /// The platform knows no such app.
    AppNotFound,
    /// The token may not change this app.
    Forbidden,
    /// The platform answered something that nobody can make sense of.
    UnexpectedAnswer,
    /// A stop was accepted, and the app was still not seen stopped in time.
    StopNotEffective,
    /// A start was accepted, and the app was still not seen running in time.
    StartNotEffective,
    /// The app keeps coming back after it was settled.
    Contested,
    /// The newest text of the manifest is not valid; the last good one is in force.
    InvalidManifest,
    /// Several manifests name this app.
    DuplicateAppId,
    /// Several manifests bear this name.
    DuplicateName,
    /// The directory of manifests cannot be read; the last good ones are in force.
    SourceUnavailable,
    /// A process has the file of the newest text open for writing; the last complete one is in force.
    BeingWritten,
    /// The list of apps did not come whole, and this app was not in what came.
    ObservationIncomplete,
    /// The token is not accepted: nothing is called.
    AccountBlocked,
    /// The account may not do what is needed: no app is called.
    AccountForbidden,
    /// The platform does not answer.
    ApiUnavailable,
    /// The account's budget of requests is used up for now.
    RateLimited,
    /// The wall clock differs from the server's, and what is asked of the app depends on the time.
    ClockDoubtful,
}

impl Reason {
    /// Every reason, in the design's order.
    pub const ALL: [Self; 28] = [
        Self::Settled,
        Self::Stopping,
        Self::Starting,
        Self::Drifted,
        Self::BackingOff,
        Self::Suspended,
        Self::PolicyForbids,
        Self::DryRun,
        Self::NotObserved,
        Self::BeingCreated,
        Self::SuspendedByPlatform,
        Self::AppNotFound,
        Self::Forbidden,
        Self::UnexpectedAnswer,
        Self::StopNotEffective,
        Self::StartNotEffective,
        Self::Contested,
        Self::InvalidManifest,
        Self::DuplicateAppId,
        Self::DuplicateName,
        Self::SourceUnavailable,
        Self::BeingWritten,
        Self::ObservationIncomplete,
        Self::AccountBlocked,
        Self::AccountForbidden,
        Self::ApiUnavailable,
        Self::RateLimited,
        Self::ClockDoubtful,
    ];

    /// The word used everywhere.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Settled => "Settled",
            Self::Stopping => "Stopping",
            Self::Starting => "Starting",
            Self::Drifted => "Drifted",
            Self::BackingOff => "BackingOff",
            Self::Suspended => "Suspended",
            Self::PolicyForbids => "PolicyForbids",
            Self::DryRun => "DryRun",
            Self::NotObserved => "NotObserved",
            Self::BeingCreated => "BeingCreated",
            Self::SuspendedByPlatform => "SuspendedByPlatform",
            Self::AppNotFound => "AppNotFound",
            Self::Forbidden => "Forbidden",
            Self::UnexpectedAnswer => "UnexpectedAnswer",
            Self::StopNotEffective => "StopNotEffective",
            Self::StartNotEffective => "StartNotEffective",
            Self::Contested => "Contested",
            Self::InvalidManifest => "InvalidManifest",
            Self::DuplicateAppId => "DuplicateAppId",
            Self::DuplicateName => "DuplicateName",
            Self::SourceUnavailable => "SourceUnavailable",
            Self::BeingWritten => "BeingWritten",
            Self::ObservationIncomplete => "ObservationIncomplete",
            Self::AccountBlocked => "AccountBlocked",
            Self::AccountForbidden => "AccountForbidden",
            Self::ApiUnavailable => "ApiUnavailable",
            Self::RateLimited => "RateLimited",
            Self::ClockDoubtful => "ClockDoubtful",
        }
    }

    /// Whether it concerns the whole account, so that it is told once and not of each app.
    pub const fn is_account_wide(self) -> bool {
        matches!(self, Self::AccountBlocked | Self::AccountForbidden | Self::ApiUnavailable | Self::RateLimited)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The three values of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// Not known.
    Unknown,
}

impl Truth {
    /// The word of Kubernetes conditions.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }

    const fn of(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// Ready, Reconciling and Stalled of one app, as kstatus reads them, and the one reason for all three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// It is as its manifest asks, and the manifest is sound.
    pub ready: Truth,
    /// Something is still on its way without anybody's doing.
    pub reconciling: Truth,
    /// Only an edit or a person helps.
    pub stalled: Truth,
    /// Why.
    pub reason: Reason,
}

/// Folds the decision, the manifest's standing and the source's state into conditions.
///
/// An invalid manifest keeps its last good spec in force, so the decision goes on beneath; but nobody shall read
/// `Ready` where the newest text was refused, and what is refused stays refused until a person mends it.
pub fn fold(decision: Decision, standing: &Standing, source_available: bool, text: Text) -> Conditions {
    let (ready, reconciling, stalled) = match decision {
        Decision::Settled(_) => (Truth::True, false, false),
        Decision::Act(_) => (Truth::False, true, false),
        Decision::Wait {
            reason: Reason::NotObserved | Reason::ObservationIncomplete | Reason::ClockDoubtful, ..
        } => (Truth::Unknown, true, false),
        Decision::Wait { .. } => (Truth::False, true, false),
        Decision::Held { .. } => (Truth::False, false, false),
        Decision::Stalled(_) => (Truth::False, false, true),
    };
    let plain = Conditions {
        ready,
        reconciling: Truth::of(reconciling),
        stalled: Truth::of(stalled),
        reason: decision.reason(),
    };
    match standing {
        Standing::Sound if !source_available => Conditions {
            ready: if ready == Truth::True { Truth::Unknown } else { ready },
            // While something is on its way its own reason is told: it is the more pressing news.
            reason: if reconciling { plain.reason } else { Reason::SourceUnavailable },
            ..plain
        },
        Standing::Sound | Standing::Invalid { .. } if text == Text::BeingWritten => Conditions {
            ready: if ready == Truth::True { Truth::Unknown } else { ready },
            reconciling: Truth::True,
            reason: if reconciling { plain.reason } else { Reason::BeingWritten },
            ..plain
        },
        Standing::Invalid { .. } => {
            Conditions { ready: Truth::False, stalled: Truth::True, reason: Reason::InvalidManifest, ..plain }
        }
        Standing::Sound | Standing::Conflicting { .. } => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(decision: Decision, standing: &Standing, source: bool, expected: &str) {
        told(decision, standing, source, Text::Pending, expected);
    }

    #[track_caller]
    fn told(decision: Decision, standing: &Standing, source: bool, text: Text, expected: &str) {
        let Conditions { ready, reconciling, stalled, reason } = fold(decision, standing, source, text);
        let said = format!("{} {} {} {reason}", ready.as_str(), reconciling.as_str(), stalled.as_str());
        assert_eq!(said, expected, "{decision:?} {standing:?}");
    }

    #[test]
    fn conditions_follow_the_decision() {
        let (sound, invalid) =
            (Standing::Sound, Standing::Invalid { message: "x".into(), since: jiff::Timestamp::UNIX_EPOCH });
        let settled = Decision::Settled(Reason::Settled);
        let stopping = Decision::Wait { reason: Reason::Stopping, until: None };
        case(settled, &sound, true, "True False False Settled");
        case(stopping, &sound, true, "False True False Stopping");
        case(
            Decision::Wait { reason: Reason::NotObserved, until: None },
            &sound,
            true,
            "Unknown True False NotObserved",
        );
        case(Decision::Stalled(Reason::AppNotFound), &sound, true, "False False True AppNotFound");
        case(settled, &invalid, true, "False False True InvalidManifest");
        case(stopping, &invalid, true, "False True True InvalidManifest");
        case(settled, &sound, false, "Unknown False False SourceUnavailable");
        case(stopping, &sound, false, "False True False Stopping");
        told(settled, &sound, true, Text::BeingWritten, "Unknown True False BeingWritten");
        told(settled, &sound, false, Text::BeingWritten, "Unknown False False SourceUnavailable");
        told(stopping, &sound, true, Text::BeingWritten, "False True False Stopping");
        told(settled, &invalid, true, Text::BeingWritten, "Unknown True False BeingWritten");
    }
}
