//! `metadata.labels` and `metadata.annotations` of an object, and the selectors that match labels.
//!
//! A sorted slice, not a map: one allocation for a few labels. The smallest map of strings takes half a kilobyte, for
//! each of ten thousand apps.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::app::AppName;

/// Immutable texts by key, in the order of the keys.
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

    /// Key and value, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, word)| (&**key, &**word))
    }
}

/// The cause why Kubernetes refuses a label; `None` for a valid label.
pub fn refused_by_kubernetes(key: &str, value: &str) -> Option<&'static str> {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let bounded = |text: &str, most: usize, inner: &[u8]| {
        let end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        text.len() <= most
            && (end(text.as_bytes().first()) && end(text.as_bytes().last()))
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || inner.contains(&byte))
    };
    let domain = |text: &str| text.len() <= 253 && text.split('.').all(|part| part.parse::<AppName>().is_ok());
    if !bounded(name, 63, b"-_.") {
        Some("a key is at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends")
    } else if prefix.is_some_and(|prefix| !domain(prefix)) {
        Some("the part of a key before `/` is a DNS name in lower case")
    } else if !value.is_empty() && !bounded(value, 63, b"-_.") {
        Some("a value is at most 63 letters, digits, `-`, `_` and `.`, with a letter or digit at both ends")
    } else {
        None
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
    /// Returns whether the labels that `label` looks up match.
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
    fn labels_that_kubernetes_refuses() {
        let long = "a".repeat(64);
        for (key, value) in [("team", "support"), ("a.b/c_D", ""), ("example.com/tier", "1.0-rc"), ("x", "A")] {
            assert_eq!(refused_by_kubernetes(key, value), None, "{key}={value}");
        }
        for (key, value) in [
            ("", ""),
            ("a b", ""),
            ("-a", ""),
            ("a/b/c", ""),
            ("/a", ""),
            ("A.b/c", ""),
            (&*long, ""),
            ("team", "Ana & Bob"),
            ("team", "-a"),
            ("team", "a."),
            ("team", "équipe"),
            ("team", &*long),
        ] {
            assert!(refused_by_kubernetes(key, value).is_some(), "{key}={value}");
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
