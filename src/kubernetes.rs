//! Kubernetes: manifests as custom resources.

pub mod crd;
