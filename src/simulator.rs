//! A simulated CamposCloud, as a library and as a command.
//!
//! `world` is the API as a pure state machine, `faults` the rules for its faults. The operator reaches it through
//! `port` in process, on a virtual clock, or through `http` over real sockets. Undocumented parts of the real server
//! are settings, so that tests can try each possibility. `lease` is the Lease of leader election.

pub mod faults;
pub mod http;
pub mod lease;
pub mod port;
pub mod world;
