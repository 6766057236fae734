//! The port of a source of manifests: its updates, and its report.
//!
//! A directory (`manifest`) and custom resources (`kubernetes`) are its implementations.

use std::sync::Arc;

use crate::reconcile::app::AppName;
use crate::reconcile::desired::{Declared, Text};
use crate::reconcile::max_changes::Approval;

/// The state of a source of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceReport {
    /// Whether the last read of the manifests succeeded.
    pub available: bool,
    /// The cause of a failed read.
    pub cause: Option<Arc<str>>,
    /// Whether all manifests were read at least once. Before that, no manifest counts as removed.
    pub loaded: bool,
    /// Revision of the manifests: the name of the git-sync link's target, otherwise a content hash.
    pub revision: Arc<str>,
    /// Number of manifest files.
    pub files: usize,
    /// Number of other entries (dotfiles, other endings, backups).
    pub skipped: usize,
    /// Number of apps that the manifests declare.
    pub objects: usize,
    /// Number of declared Schedules and Approvals.
    pub others: usize,
    /// Number of errors.
    pub errors: usize,
    /// Number of warnings, such as one for each foreign document.
    pub warnings: usize,
    /// The approvals in the manifests.
    pub approvals: Arc<[Approval]>,
    /// The first errors, each as one printable text with its place, in order of file and line.
    pub problems: Arc<[Arc<str>]>,
}

/// A change of the manifests, which the operator applies as a whole. An app that is in no list is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Apps that are new, or declared differently than before (spec, labels, place or validity).
    pub changed: Vec<Arc<Declared>>,
    /// Apps that no manifest declares now: released, never stopped.
    pub removed: Vec<AppName>,
    /// Apps with a newer text that is not accepted yet, and those that no longer have one.
    pub texts: Vec<(AppName, Text)>,
    pub source: SourceReport,
}
