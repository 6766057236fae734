//! Groups of apps in an overview: settled apps, and apps that need attention.

use std::fmt;
use std::str::FromStr;

/// Group of an app in an overview, the most urgent first. Closed: the names are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// App that needs an edit or another action of a person.
    NeedsPerson,
    /// App with failing calls, or calls without effect; the operator retries.
    InTrouble,
    /// App without a trusted reading.
    Unknown,
    /// App that is being stopped, started or restarted.
    InProgress,
    /// App that a suspension, a policy or a dry run holds.
    Held,
    /// App whose desired and observed states agree.
    Settled,
}

impl Group {
    pub const ALL: [Self; 6] =
        [Self::NeedsPerson, Self::InTrouble, Self::Unknown, Self::InProgress, Self::Held, Self::Settled];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NeedsPerson => "NeedsPerson",
            Self::InTrouble => "InTrouble",
            Self::Unknown => "Unknown",
            Self::InProgress => "InProgress",
            Self::Held => "Held",
            Self::Settled => "Settled",
        }
    }

    /// Name of the group's number in JSON.
    pub const fn field(self) -> &'static str {
        match self {
            Self::NeedsPerson => "needsPerson",
            Self::InTrouble => "inTrouble",
            Self::Unknown => "unknown",
            Self::InProgress => "inProgress",
            Self::Held => "held",
            Self::Settled => "settled",
        }
    }

    /// Verb phrase after a number of apps: `2 need a person`.
    pub const fn label(self, count: usize) -> &'static str {
        match self {
            Self::NeedsPerson if count == 1 => "needs a person",
            Self::NeedsPerson => "need a person",
            Self::InTrouble => "in trouble",
            Self::Unknown => "not known",
            Self::InProgress => "in progress",
            Self::Held => "held",
            Self::Settled => "settled",
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Error for a text that is not the name of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownGroup;

impl FromStr for Group {
    type Err = UnknownGroup;

    fn from_str(text: &str) -> Result<Self, UnknownGroup> {
        Self::ALL.into_iter().find(|group| group.as_str() == text).ok_or(UnknownGroup)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_page_and_the_http_port_name_every_group() {
        let page = include_str!("../http/page/page.js");
        let described: Value = serde_json::from_str(include_str!("../http/openapi.json")).unwrap();
        assert_eq!(
            described["components"]["schemas"]["Group"]["enum"],
            Value::from(Group::ALL.map(Group::as_str).to_vec())
        );
        for group in Group::ALL {
            assert!(page.contains(&format!("group: \"{group}\"")), "{group}");
            assert_eq!(group.as_str().parse(), Ok(group));
        }
    }
}
