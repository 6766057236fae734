//! What hardship is the operator put through? Rules, read from a file or built in a test; seeded, so that it repeats.
//!
//! ```yaml
//! rules:                       # the first rule that fits a request applies
//!   - on: stop                 # list | get | start | stop | restart | me | any
//!     app: 60c72b2f9b1e8d001c8e4f3a   # only this app
//!     from: 0s                 # only from then on, since the start
//!     to: 10s                  # only until then
//!     times: 3                 # only so often
//!     probability: 0.5         # only by this chance
//!     do: {status: 500}
//! revive:                      # somebody else starts an app again
//!   - {app: 60c72b2f9b1e8d001c8e4f3a, every: 10s}
//! ```
//! `do` is any of: `status: N` (nothing takes effect), `headers: {retry-after: "5"}`, `body: html | empty | garbage | huge |
//! other-app`, `delay: 2s`, `hang: true`, `drip: true` (a byte each 100 ms), `refuse: true` (no connection), `reset: before |
//! after` (the effect), `truncate: N` (bytes), `ignore: true` (a 200 without effect), `effect-delay: 20s`, `stale: 30s`
//! (readings of so long ago), `pages: lose | duplicate | shift | loop | empty`, `item: tab | latin-1 | quote | surrogate | nan |
//! no-id | open` (the first app of the account is broken on lists).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::reconcile::app::AppId;

/// All hardship.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// The first that fits a request applies.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Apps that somebody else starts again.
    #[serde(default)]
    pub revive: Vec<Revive>,
}

/// When something goes wrong, and how.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests.
    #[serde(default)]
    pub on: Endpoint,
    /// Only for this app.
    #[serde(default, deserialize_with = "app")]
    pub app: Option<AppId>,
    /// Only from then on, since the start.
    #[serde(default, deserialize_with = "time")]
    pub from: Option<Duration>,
    /// Only until then, since the start.
    #[serde(default, deserialize_with = "time")]
    pub to: Option<Duration>,
    /// Only so often.
    #[serde(default)]
    pub times: Option<u32>,
    /// Only by this chance, from 0 to 1.
    #[serde(default)]
    pub probability: Option<f64>,
    /// What goes wrong.
    #[serde(rename = "do")]
    pub act: Fault,
}

/// Somebody else who keeps starting an app.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revive {
    /// Which; every one, if absent.
    #[serde(default, deserialize_with = "app")]
    pub app: Option<AppId>,
    /// How long after it stopped.
    #[serde(deserialize_with = "needed_time")]
    pub every: Duration,
}

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    /// `GET /v1/apps`.
    List,
    /// `GET /v1/apps/{appId}`.
    Get,
    /// `POST /v1/apps/{appId}/start`.
    Start,
    /// `POST /v1/apps/{appId}/stop`.
    Stop,
    /// `POST /v1/apps/{appId}/restart`.
    Restart,
    /// `GET /v1/users/@me`.
    Me,
    /// All of them.
    #[default]
    Any,
}

/// What goes wrong with one answer.
#[expect(clippy::struct_excessive_bools, reason = "spelled as in the file, where each stands alone")]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Fault {
    /// This status, and nothing takes effect.
    pub status: Option<u16>,
    /// Headers to add, lower-case names.
    pub headers: BTreeMap<String, String>,
    /// Another body.
    pub body: Option<Body>,
    /// The answer comes so much later.
    #[serde(deserialize_with = "time")]
    pub delay: Option<Duration>,
    /// The answer never comes.
    pub hang: bool,
    /// The answer comes a byte each 100 ms.
    pub drip: bool,
    /// There is no connection.
    pub refuse: bool,
    /// The connection breaks instead of an answer.
    pub reset: Option<Reset>,
    /// The answer ends after so many bytes of its body.
    pub truncate: Option<usize>,
    /// A 200 that did nothing.
    pub ignore: bool,
    /// What was called takes effect so much later.
    #[serde(deserialize_with = "time")]
    pub effect_delay: Option<Duration>,
    /// Readings are of so long ago.
    #[serde(deserialize_with = "time")]
    pub stale: Option<Duration>,
    /// The list is wrong.
    pub pages: Option<Pages>,
    /// The first app of the account is broken where it is listed.
    pub item: Option<Item>,
}

/// Another body than the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// A web page.
    Html,
    /// Nothing.
    Empty,
    /// No JSON.
    Garbage,
    /// More than anybody should read: 64 MiB.
    Huge,
    /// An answer about another app.
    OtherApp,
}

/// When the connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// Before anything took effect.
    Before,
    /// After it did: the answer is lost.
    After,
}

/// How a list is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pages {
    /// Every second app is left out.
    Lose,
    /// The first app of the page stands on it twice.
    Duplicate,
    /// The page begins one app early, as if one had been added before it.
    Shift,
    /// There is always another page.
    Loop,
    /// There is nothing.
    Empty,
}

/// How an item of a list is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    /// Its name holds a raw tab.
    Tab,
    /// Its name holds a byte that is not UTF-8.
    #[serde(rename = "latin-1")]
    Latin1,
    /// Its name holds a quotation mark that is not escaped.
    Quote,
    /// Its name holds half of a surrogate pair.
    Surrogate,
    /// One of its numbers is NaN.
    Nan,
    /// It has no `_id`.
    NoId,
    /// Its last brace is missing.
    Open,
}

impl Item {
    /// Whether nothing can be known of the app.
    pub fn is_unreadable(self) -> bool {
        matches!(self, Self::Quote | Self::NoId | Self::Open)
    }
}

impl Faults {
    /// Reads a file of faults.
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    /// Nothing goes wrong but `fault`, on every request to `on`.
    pub fn always(on: Endpoint, fault: Fault) -> Self {
        Self { rules: vec![Rule::new(on, fault)], revive: Vec::new() }
    }
}

impl Rule {
    /// A rule without conditions.
    pub fn new(on: Endpoint, act: Fault) -> Self {
        Self { on, app: None, from: None, to: None, times: None, probability: None, act }
    }
}

fn app<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<AppId>, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("app {text:?} {error}")))
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    needed_time(deserializer).map(Some)
}

fn needed_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let signed = text.parse::<jiff::SignedDuration>().ok();
    signed.and_then(|signed| Duration::try_from(signed).ok()).ok_or_else(|| {
        serde::de::Error::custom(format!("{text:?} is no time; expected one with a unit, such as 10s or 2m"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_what_goes_wrong() {
        let faults = Faults::parse(
            "rules:\n  - {on: stop, from: 0s, to: 10s, do: {status: 500}}\n  - on: list\n    probability: 0.5\n    do: \
             {pages: lose, delay: 2s}\nrevive:\n  - {app: a1, every: 10s}\n",
        )
        .unwrap();
        assert_eq!(faults.rules[0].to, Some(Duration::from_secs(10)));
        assert_eq!(faults.rules[1].act.pages, Some(Pages::Lose));
        assert_eq!(faults.revive[0].every, Duration::from_secs(10));
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let error = Faults::parse("rules:\n  - {on: stop, doo: {}}\n").unwrap_err().to_string();
        assert!(error.contains("doo") && error.contains("line 2"), "{error}");
        assert!(Faults::parse("rules:\n  - {do: {delay: 5}}\n").is_err());
    }
}
