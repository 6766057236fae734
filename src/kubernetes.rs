//! Kubernetes: manifests as custom resources, and leader election over a Lease.
//!
//! Everything but the CRDs needs the cargo feature `kubernetes`.

use std::time::Duration;

pub mod crd;
#[cfg(feature = "kubernetes")]
pub mod elector;
#[cfg(feature = "kubernetes")]
pub mod lease;

/// Whether this build can reach a Kubernetes API.
pub const SUPPORTED: bool = cfg!(feature = "kubernetes");
/// The shortest lease that is accepted: a call needs 10 s of it, and renewals come every third.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(15);

/// Settings of leader election.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: that of the pod, or of the current context.
    pub namespace: Option<String>,
    /// Name of the Lease.
    pub lease: String,
    pub duration: Duration,
}

/// Starts to take part in the election of a leader.
///
/// # Errors
/// If there is neither a service account nor a kubeconfig that can be used.
#[cfg(feature = "kubernetes")]
pub async fn elect(settings: &Settings, salt: u64, clock: crate::clock::Clock) -> Result<lease::Election, kube::Error> {
    let client = kube::Client::try_default().await?;
    let namespace = settings.namespace.as_deref().unwrap_or_else(|| client.default_namespace()).to_owned();
    let elector = elector::Elector::new(lease::identity(salt), settings.duration);
    tracing::info!(
        namespace,
        lease = settings.lease,
        identity = &**elector.identity(),
        "taking part in the election of a leader"
    );
    let leases = lease::KubernetesLeases::new(client, &namespace, &settings.lease, clock);
    Ok(lease::Election::start(leases, elector, clock))
}
