//! THE CORE. Deciding is pure: below this line there is no async, no I/O, no clock and no dice.

pub mod action;
pub mod app;
pub mod condition;
pub mod desired;
pub mod moment;
pub mod observed;
