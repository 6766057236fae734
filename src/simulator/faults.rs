//! Rules for the faults that the simulator injects, read from a file or built in a test. A seed makes a run repeatable.
//!
//! ```yaml
//! rules:                       # the first rule that fits a request applies
//!   - on: stop                 # list | get | start | stop | restart | me | any
//!     app: 60c72b2f9b1e8d001c8e4f3a   # only this app
//!     from: 0s                 # time since the start
//!     to: 10s
//!     times: 3                 # at most three requests
//!     probability: 0.5
//!     do: {status: 500}
//! revive:                      # another user starts an app again, this long after it stopped
//!   - {app: 60c72b2f9b1e8d001c8e4f3a, every: 10s}   # without `app`: every app
//! ```
//! `do` is any of: `status: N` (nothing takes effect), `headers: {retry-after: "5"}`, `body: html | empty | garbage |
//! huge (64 MiB) | other-app`, `delay: 2s`, `hang: true`, `drip: true` (a byte each 100 ms), `refuse: true` (no
//! connection), `reset: before | after` (the effect), `truncate: N` (bytes), `ignore: true` (a 200 without effect),
//! `effect-delay: 20s`, `stale: 30s` (age of the readings), `pages: lose | duplicate | shift | loop | empty`, `item:
//! tab | latin-1 | quote | surrogate | nan | no-id | open` (the first app of the account is broken on lists).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::reconcile::app::AppId;

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    #[serde(default)]
    pub rules: Vec<Rule>,
    #[serde(default)]
    pub revive: Vec<Revive>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub on: Endpoint,
    #[serde(default, deserialize_with = "app")]
    pub app: Option<AppId>,
    #[serde(default, deserialize_with = "time")]
    pub from: Option<Duration>,
    #[serde(default, deserialize_with = "time")]
    pub to: Option<Duration>,
    #[serde(default)]
    pub times: Option<u32>,
    #[serde(default)]
    pub probability: Option<f64>,
    #[serde(rename = "do")]
    pub act: Fault,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revive {
    #[serde(default, deserialize_with = "app")]
    pub app: Option<AppId>,
    #[serde(deserialize_with = "needed_time")]
    pub every: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Endpoint {
    List,
    Get,
    Start,
    Stop,
    Restart,
    Me,
    #[default]
    Any,
}

#[expect(clippy::struct_excessive_bools, reason = "spelled as in the file, where each stands alone")]
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Fault {
    pub status: Option<u16>,
    pub headers: BTreeMap<String, String>,
    pub body: Option<Body>,
    #[serde(deserialize_with = "time")]
    pub delay: Option<Duration>,
    pub hang: bool,
    pub drip: bool,
    pub refuse: bool,
    pub reset: Option<Reset>,
    pub truncate: Option<usize>,
    pub ignore: bool,
    #[serde(deserialize_with = "time")]
    pub effect_delay: Option<Duration>,
    #[serde(deserialize_with = "time")]
    pub stale: Option<Duration>,
    pub pages: Option<Pages>,
    pub item: Option<Item>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    Html,
    Empty,
    Garbage,
    Huge,
    OtherApp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    Before,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pages {
    /// Every second app is left out.
    Lose,
    Duplicate,
    /// The page begins one app early, as if one had been added before it.
    Shift,
    Loop,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Item {
    Tab,
    #[serde(rename = "latin-1")]
    Latin1,
    /// A quotation mark that is not escaped.
    Quote,
    Surrogate,
    Nan,
    NoId,
    /// The last brace is missing.
    Open,
}

impl Item {
    /// Returns whether the app of such an item cannot be read.
    pub fn is_unreadable(self) -> bool {
        matches!(self, Self::Quote | Self::NoId | Self::Open)
    }
}

impl Faults {
    pub fn parse(text: &str) -> Result<Self, serde_yaml::Error> {
        serde_yaml::from_str(text)
    }

    pub fn always(on: Endpoint, fault: Fault) -> Self {
        Self { rules: vec![Rule::new(on, fault)], revive: Vec::new() }
    }
}

impl Rule {
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
        serde::de::Error::custom(format!("{text:?} is not a duration; expected one with a unit, such as 10s or 2m"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_rules_is_read() {
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
    fn a_mistake_is_reported_with_its_place() {
        let error = Faults::parse("rules:\n  - {on: stop, doo: {}}\n").unwrap_err().to_string();
        assert!(error.contains("doo") && error.contains("line 2"), "{error}");
        assert!(Faults::parse("rules:\n  - {do: {delay: 5}}\n").is_err());
    }
}
