//! Leadership, as the operator needs it: whether it may send requests, and who leads.

use std::sync::Arc;

use tokio::sync::watch;

use crate::status::Leader;

/// Leadership of this process among its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Whether enough of the lease is left to start a request.
    pub may_send: bool,
    /// Number of times that this process acquired the lease; readings of an earlier term are ignored.
    pub term: u64,
    /// This process.
    pub identity: Arc<str>,
    /// The process that holds the lease, if that is known.
    pub holder: Option<Arc<str>>,
    /// Whether the last request for the lease was answered.
    pub readable: bool,
}

impl Leadership {
    /// Whether another process leads.
    pub fn is_standby(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| *holder != self.identity)
    }

    pub fn published(&self) -> Leader {
        let Self { identity, holder, readable, .. } = self.clone();
        Leader { leading: self.may_send, identity, holder, readable }
    }
}

/// Waits for a change. Never returns without leader election, or once its task has ended.
pub(super) async fn changed(lead: &mut Option<watch::Receiver<Leadership>>) {
    if let Some(lead) = lead
        && lead.changed().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}
