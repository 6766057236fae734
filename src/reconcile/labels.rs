//! Which free words does an object carry? `metadata.labels` and `metadata.annotations`.
//!
//! A sorted slice and not a map: one allocation for the few that there are, where the smallest map of strings takes half
//! a kilobyte, and that for each of ten thousand apps.

use std::collections::BTreeMap;

/// Words by key, in the order of the keys. Cheap to keep; not made to be changed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The word of a key.
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

#[cfg(test)]
mod tests {
    use super::*;

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
