//! Ids and names of apps as newtypes, parsed once at the edge.
//!
//! `AppName` is the identity of an object in the manifests, `AppId` that of an app on the platform. A value of either
//! type is always well-formed, so nothing behind the edge has to check again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The longest `appId` that is accepted, in characters.
pub const MAX_APP_ID: usize = 128;
/// The longest DNS-1123 label, in characters.
pub const MAX_APP_NAME: usize = 63;

/// The app's `_id` on the platform: opaque, `[A-Za-z0-9_-]{1,128}`.
///
/// Not checked as hex: one example in the vendor's `OpenAPI` file ends in "g".
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppId(Arc<str>);

/// `metadata.name`: a DNS-1123 label, the identity of the object among the manifests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppName(Arc<str>);

/// Explains why a text is not an [`AppId`] or [`AppName`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(String);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

impl AppId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() {
            return Err(Malformed("is empty".into()));
        }
        if let Some(odd) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            return Err(Malformed(format!("contains {odd:?}; an app id consists of letters, digits, '_' and '-'")));
        }
        if text.len() > MAX_APP_ID {
            return Err(Malformed(format!("has {} characters; at most {MAX_APP_ID} are allowed", text.len())));
        }
        Ok(Self(text.into()))
    }
}

impl AppName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AppName {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() {
            return Err(Malformed("is empty".into()));
        }
        if let Some(odd) = text.chars().find(|&c| !inner(c)) {
            return Err(Malformed(format!(
                "contains {odd:?}; a name consists of lower-case letters, digits and '-' (a DNS-1123 label)"
            )));
        }
        if text.starts_with('-') || text.ends_with('-') {
            return Err(Malformed("begins or ends with '-'; a name begins and ends with a letter or digit".into()));
        }
        if text.len() > MAX_APP_NAME {
            return Err(Malformed(format!("has {} characters; at most {MAX_APP_NAME} are allowed", text.len())));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AppName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn id(text: &str, good: bool) {
        assert_eq!(text.parse::<AppId>().is_ok(), good, "{text:?}");
    }

    #[track_caller]
    fn name(text: &str, good: bool) {
        assert_eq!(text.parse::<AppName>().is_ok(), good, "{text:?}");
    }

    #[test]
    fn ids_are_opaque_but_bounded() {
        id("60c72b2f9b1e8d001c8e4f3a", true);
        id("60c72b2f9b1e8d001c8e4f3g", true);
        id("a_B-9", true);
        id("", false);
        id("../users/@me", false);
        id("a b", false);
        id(&"x".repeat(128), true);
        id(&"x".repeat(129), false);
    }

    #[test]
    fn names_are_dns_1123_labels() {
        name("ticket-bot", true);
        name("7", true);
        name("Ticket-bot", false);
        name("-bot", false);
        name("bot-", false);
        name("bot.web", false);
        name(&"x".repeat(63), true);
        name(&"x".repeat(64), false);
    }
}
