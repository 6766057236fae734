//! A directory of manifests as a source: files on disk to `Declared` and `Update`.
//!
//! ```text
//! watch --"check again"--+
//!                        v
//! disk --scan--> bytes of changed files --load--> documents --store--> objects in force --source--> Update
//! ```
//! A scan of the tree is the truth; the watch only makes it prompt. `load` cuts a file into documents, `yaml` makes a
//! marked tree of each, and `reader` fills the types of `schema`, `windows` and `restarts` from it, with `hints` for mistakes; these,
//! `diagnostic` and `store` are pure. `scan`, `watch` and `writers` read the disk. `engine` passes what they find through
//! all of this; `tracked` is its record of each file. Only `source` owns a thread. `json_schema` prints what `schema` reads.
//! `objects` reads objects of an API in place of files. `schedules` resolves the names of Schedules, and `calendar` reads the calendars that these name.
//! Invariant of the module: what cannot be read is never taken for "not declared".

mod calendar;
mod cron;
pub mod diagnostic;
pub mod doubts;
pub mod edit;
mod engine;
mod foreign;
mod hints;
pub mod json_schema;
pub mod load;
#[cfg(test)]
mod mistakes;
pub mod objects;
mod reader;
mod recognize;
mod restarts;
mod scan;
mod schedules;
pub mod schema;
mod second_opinion;
pub mod source;
pub mod store;
mod tracked;
mod watch;
mod windows;
mod writers;
mod yaml;
mod zones;

/// The shortest manifest of an app, for tests and benchmarks. Lines that are appended belong to its `spec`.
pub fn example(name: &str, app_id: &str, state: &str) -> String {
    format!(
        "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata:\n  name: {name}\nspec:\n  appId: \"{app_id}\"\n  state: {state}\n"
    )
}
