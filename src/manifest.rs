//! A directory of manifests as a source: files on disk to `Declared` and `Update`.
//!
//! ```text
//! watch --"check again"--+
//!                        v
//! disk --scan--> bytes of changed files --load--> documents --store--> objects in force --source--> Update
//! ```
//! A scan of the tree decides; the watch only makes it prompt. `load` splits a file into documents, `yaml` makes a
//! marked tree of each, and `reader` fills the types of `schema`, `windows` and `restarts` from it, with `hints` for
//! errors; these, `diagnostic` and `store` are pure. `scan`, `watch` and `writers` read the disk. `engine` passes their
//! results through all of this; `tracked` is its record of each file. Only `source` owns a thread. `json_schema` prints
//! the schema of the types in `schema`. `objects` reads objects of an API instead of files. `schedules` resolves the
//! names of Schedules, and `calendar` reads their calendars. Invariant of the module: an unreadable object never counts
//! as "not declared".

mod calendar;
mod cron;
pub mod diagnostic;
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
pub mod warnings;
mod watch;
mod windows;
mod writers;
mod yaml;
mod zones;

/// The shortest manifest of an app, for tests and benchmarks. Appended lines belong to its `spec`.
pub fn example(name: &str, app_id: &str, state: &str) -> String {
    format!(
        "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata:\n  name: {name}\nspec:\n  appId: \"{app_id}\"\n  state: {state}\n"
    )
}
