//! Desired and observed states, and the calls that lead from one to the other.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// A state that a manifest can declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
pub enum Desired {
    /// Online.
    Running,
    /// Not online.
    Stopped,
}

impl Desired {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// State of an app at the last reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Observed {
    /// Online.
    Running,
    /// Not online.
    Stopped,
    /// Still being created.
    Creating,
    /// Suspended by the platform.
    Suspended,
    /// The platform answered 404 on a direct read. Never just absent from a list.
    Missing,
    /// Not read yet, unreadable, an unknown word without `online`, or stale.
    Unknown,
}

impl Observed {
    pub const ALL: [Self; 6] =
        [Self::Running, Self::Stopped, Self::Creating, Self::Suspended, Self::Missing, Self::Unknown];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
            Self::Creating => "Creating",
            Self::Suspended => "Suspended",
            Self::Missing => "Missing",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One call that changes an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// `POST /v1/apps/{appId}/stop`. Orders before `Start`: stops free memory.
    Stop,
    /// `POST /v1/apps/{appId}/start`.
    Start,
    /// `POST /v1/apps/{appId}/restart`.
    Restart,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Start => "start",
            Self::Restart => "restart",
        }
    }

    /// Returns whether two calls have the same effect as one.
    pub const fn is_idempotent(self) -> bool {
        match self {
            Self::Stop | Self::Start => true,
            Self::Restart => false,
        }
    }

    /// The state that the call leads to.
    pub const fn aims_at(self) -> Desired {
        match self {
            Self::Stop => Desired::Stopped,
            Self::Start | Self::Restart => Desired::Running,
        }
    }

    /// The stop or start that brings an app to `desired`.
    pub const fn toward(desired: Desired) -> Self {
        match desired {
            Desired::Stopped => Self::Stop,
            Desired::Running => Self::Start,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
