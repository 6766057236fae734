//! The Lease in a Kubernetes API, for the election.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::chain;
use super::election::Leases;
use super::elector::{Answer, Record, Request};
use crate::clock::Clock;

/// The Lease in a Kubernetes API.
pub struct KubernetesLeases {
    api: Api<Lease>,
    name: String,
    clock: Clock,
}

impl KubernetesLeases {
    pub fn new(client: Client, namespace: &str, name: &str, clock: Clock) -> Self {
        Self { api: Api::namespaced(client, namespace), name: name.to_owned(), clock }
    }

    /// The object for a record. Its times are for display and for other tools.
    fn object(&self, record: &Record) -> Lease {
        let now = self.clock.wall();
        let spec = LeaseSpec {
            holder_identity: Some(record.holder.as_deref().unwrap_or_default().to_owned()),
            lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
            lease_transitions: i32::try_from(record.transitions).ok(),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        };
        let version = Some(record.version.to_string()).filter(|version| !version.is_empty());
        let metadata = ObjectMeta { name: Some(self.name.clone()), resource_version: version, ..ObjectMeta::default() };
        Lease { metadata, spec: Some(spec) }
    }
}

fn record(lease: Lease) -> Record {
    let spec = lease.spec.unwrap_or_default();
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or_default();
    Record {
        holder: spec.holder_identity.filter(|holder| !holder.is_empty()).map(Into::into),
        duration: Duration::from_secs(seconds),
        transitions: spec.lease_transitions.and_then(|count| u32::try_from(count).ok()).unwrap_or_default(),
        version: lease.metadata.resource_version.unwrap_or_default().into(),
    }
}

impl Leases for KubernetesLeases {
    async fn send(&self, request: &Request) -> Result<Answer, String> {
        let options = PostParams::default();
        let stored = match request {
            Request::Read => self.api.get(&self.name).await,
            Request::Create(record) => self.api.create(&options, &self.object(record)).await,
            Request::Replace(record) => self.api.replace(&self.name, &options, &self.object(record)).await,
        };
        match stored {
            Ok(lease) => Ok(Answer::Stored(record(lease))),
            // After a create, this is the namespace.
            Err(kube::Error::Api(status)) if status.code == 404 && !matches!(request, Request::Create(_)) => {
                Ok(Answer::Absent)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Answer::Conflict),
            Err(error) => Err(chain(&error)),
        }
    }
}

/// Unique name of this process: the host (in a cluster, the pod), and a random number.
pub fn identity(salt: u64) -> Arc<str> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}_{salt:016x}").into()
}
