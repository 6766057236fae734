//! campos-operator: reconciles a directory of manifests with the apps of a CamposCloud account.

pub mod camposcloud;
pub mod platform;
pub mod reconcile;
