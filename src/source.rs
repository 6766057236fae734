//! The port of a source of manifests: the updates that it sends, and its report of itself.
//!
//! A directory is one implementation (`manifest`).

use std::sync::Arc;

use crate::reconcile::app::AppName;
use crate::reconcile::desired::{Declared, Text};

/// How the source of manifests is doing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SourceReport {
    /// Whether every directory of manifests could be read the last time.
    pub available: bool,
    /// Why not, where not.
    pub trouble: Option<Arc<str>>,
    /// Whether the whole of it was read at least once: before that, nothing is known to be removed.
    pub loaded: bool,
    /// The snapshot's revision: the git-sync link's target name, else a content hash.
    pub revision: Arc<str>,
    /// How many manifest files there are.
    pub files: usize,
    /// How many entries were passed over (dotfiles, other endings, backups).
    pub skipped: usize,
    /// What is wrong with the files, each as one printable text with its place, in order of file and line.
    pub problems: Arc<[Arc<str>]>,
}

/// What the source says when something changed: the port through which manifests reach the operator.
///
/// An update is applied as a whole. An app that is in neither list is as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Apps that are new, or declared differently than before (spec, labels, place or standing).
    pub changed: Vec<Arc<Declared>>,
    /// Apps that no manifest declares any more: released, never stopped.
    pub removed: Vec<AppName>,
    /// Apps with a newer text that is not accepted yet, and those that have none any more.
    pub texts: Vec<(AppName, Text)>,
    /// The source's own state.
    pub source: SourceReport,
}
