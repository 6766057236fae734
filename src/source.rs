//! The port of a source of manifests: the updates that it sends, and its report of itself.
//!
//! A directory (`manifest`) and custom resources (`kubernetes`) are its implementations.

use std::sync::Arc;

use crate::reconcile::app::AppName;
use crate::reconcile::desired::{Declared, Text};
use crate::reconcile::max_changes::Approval;

/// The state of a source of manifests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceReport {
    /// Whether the manifests could be read the last time.
    pub available: bool,
    /// The cause, if they could not.
    pub trouble: Option<Arc<str>>,
    /// Whether all of them were read at least once: before that, none is known to be removed.
    pub loaded: bool,
    /// Revision of the manifests: the name of the git-sync link's target, otherwise a content hash.
    pub revision: Arc<str>,
    /// Number of manifest files.
    pub files: usize,
    /// Number of other entries (dotfiles, other endings, backups).
    pub skipped: usize,
    /// Number of apps that the manifests declare.
    pub objects: usize,
    /// Number of Schedules and Approvals that they declare.
    pub others: usize,
    /// Number of mistakes.
    pub errors: usize,
    /// Number of warnings, such as one for each document that is not ours.
    pub warnings: usize,
    /// The approvals of plans that the manifests hold.
    pub approvals: Arc<[Approval]>,
    /// The first mistakes, each as one printable text with its place, in order of file and line.
    pub problems: Arc<[Arc<str>]>,
}

/// A change of the manifests, which the operator applies as a whole. An app that is in no list is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Apps that are new, or declared differently than before (spec, labels, place or validity).
    pub changed: Vec<Arc<Declared>>,
    /// Apps that no manifest declares any more: released, never stopped.
    pub removed: Vec<AppName>,
    /// Apps with a newer text that is not accepted yet, and those that no longer have one.
    pub texts: Vec<(AppName, Text)>,
    pub source: SourceReport,
}
