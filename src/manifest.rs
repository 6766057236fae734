//! A directory -> Desired: the manifests on disk, as values the core can work with.
//!
//! ```text
//! watch --"look again"--+
//!                       v
//! disk --scan--> bytes of changed files --load--> documents --catalog--> which objects are in force --source--> Update
//! ```
//! A scan of the tree is the truth; the watch only makes it prompt. `load` cuts a file into documents, `yaml` makes a tree
//! with marks of each, and `reader` fills the types of `schema` and `windows` from it, with `hints` for what is wrong;
//! these, `diagnostic` and `catalog` are pure. `scan`, `watch` and `writers` touch the disk, and `engine`, which takes what
//! they find through all of this and knows each file by what `tracked` keeps; only `source` owns a thread. `json_schema`
//! gives editors what `schema` reads.
//! Invariant of the room: nothing that cannot be read is ever taken for "not declared".

pub mod diagnostic;
pub mod doubts;
mod engine;
mod hints;
pub mod json_schema;
pub mod load;
#[cfg(test)]
mod mistakes;
mod reader;
mod scan;
pub mod schema;
mod second_opinion;
pub mod source;
pub mod store;
mod tracked;
mod watch;
mod windows;
mod writers;
mod yaml;
