//! A directory -> Desired: the manifests on disk, as values the core can work with.
//!
//! ```text
//! watch --"look again"--+
//!                       v
//! disk --scan--> bytes of changed files --load--> documents --catalog--> which objects are in force --source--> Update
//! ```
//! A scan of the tree is the truth; the watch only makes it prompt. `schema`, `yaml`, `load`, `diagnostic` and `catalog`
//! are pure; `scan`, `watch` and `writers` touch the disk, and `engine`, which takes what they find through all of this
//! and knows each file by what `tracked` keeps; only `source` owns a thread. `json_schema` tells editors what `schema` reads.
//! Invariant of the room: nothing that cannot be read is ever taken for "not declared".

pub mod catalog;
mod clock;
pub mod diagnostic;
pub mod doubts;
mod engine;
pub mod json_schema;
pub mod load;
#[cfg(test)]
mod mistakes;
mod scan;
pub mod schema;
pub mod source;
mod tracked;
mod watch;
mod windows;
mod writers;
mod yaml;
