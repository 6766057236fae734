//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.

pub mod camposcloud;
pub mod cli;
pub mod http;
pub mod manifest;
pub mod operator;
pub mod platform;
pub mod reconcile;
pub mod settings;
pub mod status;
pub mod telemetry;
