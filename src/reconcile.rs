//! THE CORE. Deciding is pure: below this line there is no async, no I/O, no clock and no dice.
//!
//! It sees only std, the time-zone library's types and the `backoff` crate's policy (in `backoff`).

pub mod app;
pub mod attempts;
pub mod backoff;
pub mod condition;
pub mod decide;
pub mod desired;
pub mod doubt;
pub mod labels;
pub mod moment;
pub mod outcome;
pub mod plan;
pub mod reading;
pub mod reason;
pub mod redacted;
pub mod schedule;
pub mod state;
