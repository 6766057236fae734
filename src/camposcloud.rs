//! The real CamposCloud API. Bytes on the wire become the core's words here, and nowhere else.
//!
//! Facts about the server are from the vendor's published `OpenAPI` files (2025-09 "v1", 2026-03 "v2"), its guide pages
//! and its Python and TypeScript SDKs; undocumented behaviour is tolerated either way.

mod cause;
pub mod client;
mod connect;
pub mod error;
mod json;
mod packed;
pub mod token;
mod transport;
pub mod wire;
