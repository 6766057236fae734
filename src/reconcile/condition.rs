//! The three conditions of an app, folded from its decision.

use super::decide::Decision;
use super::desired::{Text, Validity};
use super::group::Group;
use super::reason::Reason;

/// The three values of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Truth {
    True,
    False,
    Unknown,
}

impl Truth {
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
    /// The app is in its desired state, and its manifest is valid.
    pub ready: Truth,
    /// The operator still works on the app.
    pub reconciling: Truth,
    /// Only an edit or a person helps.
    pub stalled: Truth,
    pub reason: Reason,
}

impl Conditions {
    pub const fn group(self) -> Group {
        match (self.stalled, self.ready) {
            (Truth::True, _) => Group::NeedsPerson,
            (_, Truth::True) => Group::Settled,
            (Truth::False | Truth::Unknown, Truth::False | Truth::Unknown) => self.reason.group(),
        }
    }
}

/// Folds the decision, the manifest's validity and the source's state into conditions.
///
/// An invalid manifest keeps its last good spec in force, which the decision uses. But an app whose newest text is
/// invalid is not `Ready`, and is stalled until a person fixes it.
pub fn fold(decision: Decision, validity: &Validity, source_available: bool, text: Text) -> Conditions {
    let (ready, reconciling, stalled) = match decision {
        Decision::Settled(_) => (Truth::True, false, false),
        Decision::Act(_) => (Truth::False, true, false),
        Decision::Wait {
            reason: Reason::NotObserved | Reason::ObservationIncomplete | Reason::ClockDoubtful, ..
        } => (Truth::Unknown, true, false),
        Decision::Wait { .. } => (Truth::False, true, false),
        // This hold needs an approval or a revert; every other hold is intended.
        Decision::Held { reason: Reason::TooManyChanges, .. } => (Truth::False, false, true),
        Decision::Held { .. } => (Truth::False, false, false),
        Decision::Stalled(_) => (Truth::False, false, true),
    };
    let plain = Conditions {
        ready,
        reconciling: Truth::of(reconciling),
        stalled: Truth::of(stalled),
        reason: decision.reason(),
    };
    match validity {
        Validity::Valid if !source_available => Conditions {
            ready: if ready == Truth::True { Truth::Unknown } else { ready },
            // A call in progress is the more urgent reason.
            reason: if reconciling { plain.reason } else { Reason::SourceUnavailable },
            ..plain
        },
        Validity::Valid | Validity::Invalid { .. } if text == Text::BeingWritten => Conditions {
            ready: if ready == Truth::True { Truth::Unknown } else { ready },
            reconciling: Truth::True,
            reason: if reconciling { plain.reason } else { Reason::BeingWritten },
            ..plain
        },
        Validity::Invalid { .. } => {
            Conditions { ready: Truth::False, stalled: Truth::True, reason: Reason::InvalidManifest, ..plain }
        }
        Validity::Valid | Validity::Conflicting { .. } => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn case(decision: Decision, validity: &Validity, source: bool, expected: &str) {
        with_text(decision, validity, source, Text::Pending, expected);
    }

    #[track_caller]
    fn with_text(decision: Decision, validity: &Validity, source: bool, text: Text, expected: &str) {
        let Conditions { ready, reconciling, stalled, reason } = fold(decision, validity, source, text);
        let folded = format!("{} {} {} {reason}", ready.as_str(), reconciling.as_str(), stalled.as_str());
        assert_eq!(folded, expected, "{decision:?} {validity:?}");
    }

    #[test]
    fn groups_follow_the_conditions() {
        let (yes, no, unknown) = (Truth::True, Truth::False, Truth::Unknown);
        let group = |ready, stalled, reason| Conditions { ready, reconciling: no, stalled, reason }.group();
        assert_eq!(group(yes, no, Reason::Settled), Group::Settled);
        assert_eq!(group(no, yes, Reason::InvalidManifest), Group::NeedsPerson);
        assert_eq!(group(yes, yes, Reason::Settled), Group::NeedsPerson, "stalled is more urgent than ready");
        assert_eq!(group(no, no, Reason::Stopping), Group::InProgress);
        assert_eq!(group(no, no, Reason::RateLimited), Group::InProgress, "a pause ends by itself");
        assert_eq!(group(no, no, Reason::AccountBlocked), Group::NeedsPerson);
        assert_eq!(group(no, no, Reason::BackingOff), Group::InTrouble);
        assert_eq!(group(unknown, no, Reason::NotObserved), Group::Unknown);
        assert_eq!(group(no, no, Reason::Suspended), Group::Held);
    }

    #[test]
    fn conditions_follow_the_decision() {
        let (sound, invalid) =
            (Validity::Valid, Validity::Invalid { message: "x".into(), since: jiff::Timestamp::UNIX_EPOCH });
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
        with_text(settled, &sound, true, Text::BeingWritten, "Unknown True False BeingWritten");
        with_text(settled, &sound, false, Text::BeingWritten, "Unknown False False SourceUnavailable");
        with_text(stopping, &sound, true, Text::BeingWritten, "False True False Stopping");
        with_text(settled, &invalid, true, Text::BeingWritten, "Unknown True False BeingWritten");
    }
}
