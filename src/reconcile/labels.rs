//! `metadata.labels` and `metadata.annotations` of an object, and the selectors that match labels.
//!
//! A sorted slice and not a map: one allocation for the few that there are, where the smallest map of strings takes
//! half a kilobyte, and that for each of ten thousand apps.

use std::collections::BTreeMap;
use std::str::FromStr;

/// Immutable words by key, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, word)| &**word)
    }

    /// Key and word, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, word)| (&**key, &**word))
    }
}

impl<'a> From<BTreeMap<&'a str, &'a str>> for Labels {
    fn from(words: BTreeMap<&'a str, &'a str>) -> Self {
        Self(words.into_iter().map(|(key, word)| (key.into(), word.into())).collect())
    }
}

/// One requirement on the labels of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    Equal(String, String),
    /// Matches without the label as well.
    NotEqual(String, String),
    Present(String),
    Absent(String),
}

impl Selector {
    /// Whether the labels that `label` looks up match.
    pub fn matches<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Equal(key, value) => label(key) == Some(value),
            Self::NotEqual(key, value) => label(key) != Some(value),
            Self::Present(key) => label(key).is_some(),
            Self::Absent(key) => label(key).is_none(),
        }
    }
}

impl FromStr for Selector {
    type Err = String;

    /// Reads `key=value`, `key==value`, `key!=value`, `key` or `!key`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let selector = if let Some((key, value)) = text.split_once("!=") {
            Self::NotEqual(key.trim().into(), value.trim().into())
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            Self::Equal(key.trim().into(), value.trim().into())
        } else if let Some(key) = text.strip_prefix('!') {
            Self::Absent(key.trim().into())
        } else {
            Self::Present(text.into())
        };
        let (Self::Equal(key, _) | Self::NotEqual(key, _) | Self::Present(key) | Self::Absent(key)) = &selector;
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c.is_control() || "()!=,".contains(c)) {
            return Err(format!("{key:?} is not a label key; expected key=value, key!=value, key or !key"));
        }
        Ok(selector)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors() {
        let case = |text: &str, expected| assert_eq!(text.parse(), Ok(expected), "{text}");
        let word = |text: &str| text.to_owned();
        case("team=support", Selector::Equal(word("team"), word("support")));
        case("team==support", Selector::Equal(word("team"), word("support")));
        case("team=", Selector::Equal(word("team"), word("")));
        case("a/b!=c=d", Selector::NotEqual(word("a/b"), word("c=d")));
        case(" team ", Selector::Present(word("team")));
        case("!team", Selector::Absent(word("team")));
        for wrong in ["", "=x", "!=x", "!", "a b", "team in (a)", "!a!"] {
            assert!(wrong.parse::<Selector>().is_err(), "{wrong}");
        }
        let matches =
            |selector: &str| selector.parse::<Selector>().unwrap().matches(|key| (key == "team").then_some("support"));
        for selector in ["team=support", "team!=shop", "none!=x", "team", "!none"] {
            assert!(matches(selector), "{selector}");
        }
        for selector in ["team=shop", "team!=support", "none", "!team"] {
            assert!(!matches(selector), "{selector}");
        }
    }

    #[test]
    fn a_word_is_found_by_its_key() {
        let words = [("team", "support"), ("a", ""), ("z/9", "x")];
        let labels = Labels::from(BTreeMap::from(words));
        for (key, word) in words {
            assert_eq!(labels.get(key), Some(word));
        }
        assert_eq!(labels.get("te"), None);
        assert_eq!(labels.get(""), None);
        assert_eq!(labels.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "team", "z/9"]);
        assert!(Labels::default().is_empty());
    }
}
