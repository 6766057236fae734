//! `spec.restart` as written, and its conversion to the type of the core.

use schemars::JsonSchema;
use serde::Deserialize;

use super::cron::pattern;
use super::diagnostic::Mark;
use super::reader::Reader;
use super::schema::{RFC_3339, moment};
use super::windows::CRON;
use super::yaml::{Finding, Node};
use crate::reconcile::restart;
use crate::reconcile::schedule::fits_no_date;

/// Restarts of the app while it is running.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename = "`restart`", rename_all = "camelCase")]
#[schemars(extend("minProperties" = 1))]
pub struct Restart<'a> {
    /// A time for one restart: RFC 3339, with its zone, such as 2026-12-24T06:00:00Z.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = RFC_3339))]
    pub requested_at: Option<&'a str>,
    /// Cron pattern of repeated restarts: minute, hour, day of month, month, day of week, in the zone of the schedule,
    /// otherwise in UTC.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = CRON))]
    pub cron: Option<&'a str>,
    /// Whether to restart the app when the platform reports that a restart is required.
    #[serde(default)]
    #[schemars(with = "bool")]
    pub when_required: Option<bool>,
}

impl Restart<'_> {
    /// Converts the restarts to the type of the core, and reports errors. `node`: their tree.
    pub(super) fn read(&self, node: &Node, reader: &Reader) -> Option<restart::Restart> {
        let requested_at =
            self.requested_at.and_then(|at| reader.check(node.get("requestedAt"), moment("requestedAt", at)));
        let cron = self.cron.and_then(|cron| reader.check(node.get("cron"), repeated(cron)));
        let when_required = self.when_required.unwrap_or(false);
        let is_empty = self.requested_at.is_none() && self.cron.is_none() && self.when_required.is_none();
        if is_empty && !reader.meant(&["requestedAt", "cron", "whenRequired"]) {
            let finding = Finding::new(Mark::START, "`restart` has none of its fields");
            let hint = "write `requestedAt`, `cron` or `whenRequired: true`";
            return reader.check(Some(node), Err(finding.hint(hint)));
        }
        Some(restart::Restart { requested_at, cron: cron.map(Box::new), when_required })
    }
}

fn repeated(text: &str) -> Result<croner::Cron, Finding> {
    let cron = pattern(text)?;
    if fits_no_date(&cron) {
        return Err(
            Finding::new(Mark::START, "the restart never occurs: no such date exists").hint("check day and month")
        );
    }
    Ok(cron)
}
