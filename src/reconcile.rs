//! The core: decisions as pure functions, without async, I/O, clock or randomness.

pub mod app;
pub mod attempts;
pub mod backoff;
pub mod clock_check;
pub mod condition;
pub mod decide;
pub mod desired;
pub mod forecast;
pub mod group;
pub mod labels;
pub mod max_changes;
pub mod moment;
pub mod outcome;
pub mod plan;
pub mod reading;
pub mod reason;
pub mod redacted;
pub mod restart;
pub mod schedule;
pub mod state;
