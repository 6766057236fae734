//! Kubernetes: custom resources as a source of manifests, and leader election over a Lease.
//!
//! Only the CRDs and the election itself are in builds without the cargo feature `kubernetes`.

use std::time::Duration;

pub mod crd;
pub mod election;
pub mod elector;
#[cfg(feature = "kubernetes")]
pub mod events;
#[cfg(feature = "kubernetes")]
pub mod lease;
#[cfg(feature = "kubernetes")]
pub mod pod;
#[cfg(feature = "kubernetes")]
pub mod source;
#[cfg(feature = "kubernetes")]
pub mod status;

/// Whether this build can reach a Kubernetes API.
pub const SUPPORTED: bool = cfg!(feature = "kubernetes");
/// Shortest accepted lease: a call needs 10 s of it, and a renewal is sent each third of it.
pub const SHORTEST_LEASE: Duration = Duration::from_secs(15);

/// Settings of the parts that need a Kubernetes API.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `None`: the namespace of the pod, or of the current context.
    pub namespace: Option<String>,
    pub election: Option<Lease>,
    /// Whether custom resources are the source of manifests.
    pub source: bool,
}

/// The Lease of leader election.
#[derive(Debug, Clone)]
pub struct Lease {
    pub name: String,
    pub duration: Duration,
    /// The pod of this process, which gets the label of the leader.
    pub pod: Option<String>,
}

/// A namespace of a Kubernetes API.
#[cfg(feature = "kubernetes")]
pub struct Cluster {
    client: kube::Client,
    pub namespace: String,
}

#[cfg(feature = "kubernetes")]
impl Cluster {
    /// Reads the service account of the pod, or the kubeconfig.
    ///
    /// # Errors
    /// If there is neither, or it cannot be used.
    pub async fn connect(namespace: Option<&str>) -> Result<Self, kube::Error> {
        let client = kube::Client::try_default().await?;
        let namespace = namespace.unwrap_or_else(|| client.default_namespace()).to_owned();
        Ok(Self { client, namespace })
    }

    /// Starts the leader election.
    pub fn elect(&self, lease: &Lease, salt: u64, clock: crate::clock::Clock) -> election::Election {
        let elector = elector::Elector::new(lease::identity(salt), lease.duration);
        let (namespace, identity) = (&*self.namespace, &**elector.identity());
        tracing::info!(namespace, lease = lease.name, identity, "leader election started");
        let leases = lease::KubernetesLeases::new(self.client.clone(), namespace, &lease.name, clock);
        let election = election::Election::start(leases, elector, clock);
        if let Some(pod) = &lease.pod {
            let api = kube::Api::namespaced(self.client.clone(), self.client.default_namespace());
            pod::start(api, pod.clone(), election.lead.clone());
        }
        election
    }

    /// Lists the custom resources once.
    ///
    /// # Errors
    /// If one of them cannot be listed.
    pub async fn load(&self) -> Result<crate::manifest::source::Loaded, String> {
        source::load(&self.client, &self.namespace).await
    }

    /// Watches the custom resources, and passes each change to `deliver`. Returns the registry of stored Apps.
    pub fn follow(
        &self,
        allow_empty: bool,
        deliver: impl FnMut(crate::source::Update) + Send + 'static,
    ) -> std::sync::Arc<status::Registry> {
        let registry = std::sync::Arc::default();
        source::start(&self.client, &self.namespace, allow_empty, std::sync::Arc::clone(&registry), deliver);
        registry
    }

    /// Writes the status and the Events of each App that changes, while this process leads.
    pub fn write_status(
        &self,
        registry: std::sync::Arc<status::Registry>,
        board: crate::status::Board,
        lead: Option<tokio::sync::watch::Receiver<crate::operator::lead::Leadership>>,
    ) -> tokio::task::JoinHandle<()> {
        let (client, namespace) = (self.client.clone(), self.namespace.clone());
        events::start(client, namespace, std::sync::Arc::clone(&registry), board.clone(), lead.clone());
        status::start(source::api(&self.client, &self.namespace, "apps", "App"), registry, board, lead)
    }
}

/// An error with its causes, on one line, without repeated causes.
#[cfg(feature = "kubernetes")]
fn chain(error: &kube::Error) -> String {
    // The text of kube repeats the whole answer.
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
