//! Approvals of mass changes: documents among the manifests that release the calls of one plan.
//!
//! A plan's id depends on the manifests alone, so the same tree has the same id everywhere and after each restart.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;

use super::app::AppName;
use super::desired::Place;

/// Id of a plan: 12 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanId(u64);

impl PlanId {
    const DIGITS: usize = 12;
}

impl fmt::Display for PlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0width$x}", self.0, width = Self::DIGITS)
    }
}

/// The text is not 12 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPlanId;

impl fmt::Display for NotAPlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("is not the id of a plan: 12 of the digits 0-9 and a-f")
    }
}

impl std::error::Error for NotAPlanId {}

impl FromStr for PlanId {
    type Err = NotAPlanId;

    fn from_str(text: &str) -> Result<Self, NotAPlanId> {
        let digit = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        if text.len() != Self::DIGITS || !text.bytes().all(digit) {
            return Err(NotAPlanId);
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| NotAPlanId)
    }
}

/// A document that approves the calls of one plan until its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// `metadata.name`.
    pub name: AppName,
    pub plan: PlanId,
    pub until: Timestamp,
    pub reason: Option<Arc<str>>,
    /// The person who approves.
    pub by: Option<Arc<str>>,
    pub place: Place,
}

impl Approval {
    /// Whether the approval is in force at `wall`.
    pub fn holds(&self, wall: Timestamp) -> bool {
        wall < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_id_is_exactly_twelve_hex_digits() {
        for text in ["7f3a9c01b2d4", "000000000000", "00000000000a"] {
            assert_eq!(text.parse::<PlanId>().unwrap().to_string(), text);
        }
        for text in ["", "7f3a9c01b2d", "7f3a9c01b2d4a", "7F3A9C01B2D4", "+f3a9c01b2d4", "7f3a9c01b2dg", "é3a9c01b2d4"]
        {
            assert_eq!(text.parse::<PlanId>(), Err(NotAPlanId), "{text}");
        }
    }

    #[test]
    fn an_approval_ends_at_exactly_its_end() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let approval = Approval {
            name: "a".parse().unwrap(),
            plan: PlanId(1),
            until: at(100),
            reason: None,
            by: None,
            place: Place { file: "a.yaml".into(), line: 1 },
        };
        assert!(approval.holds(at(99)) && !approval.holds(at(100)));
    }
}
