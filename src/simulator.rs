//! A pretend CamposCloud, usable as a library and as a verb.
//!
//! `world` is the API as a pure state machine, `faults` the hardship it can be put through; `port` lets the operator talk
//! to it in process, on a virtual clock, and `http` over real sockets. What nobody documents about the real server is a
//! setting here, so that the operator can be tried against either answer.

pub mod faults;
pub mod http;
pub mod port;
pub mod world;
