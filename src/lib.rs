//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.

pub mod manifest;
pub mod platform;
pub mod reconcile;
