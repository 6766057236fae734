//! The label by which a Service selects the leader: this process sets it on its own pod.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::chain;
use crate::operator::lead::Leadership;

/// The label, `true` on the pod of the leader.
pub const LABEL: &str = "campos-operator.dev/leader";
/// Deadline of one request.
const DEADLINE: Duration = Duration::from_secs(5);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Sets the leader label of the pod `name` whenever the leadership of this process changes.
pub fn start(api: Api<Pod>, name: String, lead: watch::Receiver<Leadership>) {
    tokio::spawn(follow(api, name, lead));
}

async fn follow(api: Api<Pod>, name: String, mut lead: watch::Receiver<Leadership>) {
    // Unknown at the start: the label of the previous container may remain.
    let mut labelled = None;
    let mut failed = false;
    loop {
        let leads = {
            let lead = lead.borrow_and_update();
            // Keep the label while the API server does not answer.
            lead.may_send || (labelled == Some(true) && !lead.is_standby() && lead.holder.is_some())
        };
        if labelled != Some(leads) {
            let patch = json!({"metadata": {"labels": {LABEL: leads.to_string()}}});
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
            let request = timeout(DEADLINE, api.patch_metadata(&name, &parameters, &patch)).await;
            let failure = match request {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(chain(&error)),
                Err(_) => Some(format!("no answer within {} s", DEADLINE.as_secs())),
            };
            if let Some(cause) = failure {
                if !failed {
                    warn!(pod = name, cause, "could not label the pod; retrying");
                }
                failed = true;
                sleep(RETRY).await;
                continue;
            }
            (labelled, failed) = (Some(leads), false);
        }
        if lead.changed().await.is_err() {
            return;
        }
    }
}
