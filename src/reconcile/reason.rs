//! The closed list of reasons, which conditions, logs, metrics and history share word for word.

use std::fmt;

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
