//! `override`, `suspend`, `resume` and `restart`: edits of a manifest, without a daemon or a token.
//!
//! The file is replaced as a whole, by a temporary file and a rename, so that no reader sees half of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use jiff::{RoundMode, SignedDuration, Timestamp, TimestampRound, Unit};
use similar::TextDiff;

use super::text::{escape, print};
use super::{Exit, variable};
use crate::cli::{EditArgs, OverrideArgs, RestartArgs, ResumeArgs, SuspendArgs};
use crate::clock;
use crate::manifest::diagnostic::nearest;
use crate::manifest::edit::{Change, Refusal, Written, by_hand, edit};
use crate::manifest::source;
use crate::reconcile::app::AppName;
use crate::reconcile::desired::{Declared, Policy, Spec, Target, Validity};
use crate::reconcile::state::Desired;
use crate::settings;

pub(super) fn override_(args: &OverrideArgs) -> anyhow::Result<Exit> {
    let place = Place::find(&args.edit)?;
    let Some(state) = args.state else { return place.change(&Change { field: "override", value: None }) };
    let now = clock::timestamp();
    let until =
        end(args.for_, args.until, now)?.context("expected an end: --for 4h, or --until 2026-11-27T03:00:00Z")?;
    may_call(&place, state, now)?;
    let mut fields = vec![("state", state.as_str().to_owned()), ("until", until.to_string())];
    fields.extend(args.reason.clone().map(|reason| ("reason", reason)));
    fields.extend(args.by.clone().or_else(|| author(&place.file)).map(|by| ("by", by)));
    place.change(&Change { field: "override", value: Some(Written::Map(fields)) })
}

pub(super) fn suspend(args: &SuspendArgs) -> anyhow::Result<Exit> {
    let place = Place::find(&args.edit)?;
    let until = end(args.for_, args.until, clock::timestamp())?;
    let mut fields = Vec::new();
    fields.extend(args.reason.clone().map(|reason| ("reason", reason)));
    fields.extend(until.map(|until| ("until", until.to_string())));
    let value = if fields.is_empty() { Written::True } else { Written::Map(fields) };
    place.change(&Change { field: "suspend", value: Some(value) })
}

pub(super) fn resume(args: &ResumeArgs) -> anyhow::Result<Exit> {
    Place::find(&args.edit)?.change(&Change { field: "suspend", value: None })
}

pub(super) fn restart(args: &RestartArgs) -> anyhow::Result<Exit> {
    let place = Place::find(&args.edit)?;
    let now = clock::timestamp();
    may_restart(&place, now)?;
    let due = now.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Trunc)).unwrap_or(now);
    place.change(&Change { field: "restart", value: Some(Written::Field("requestedAt", due.to_string())) })
}

/// The end from the flags.
fn end(length: Option<SignedDuration>, until: Option<Timestamp>, now: Timestamp) -> anyhow::Result<Option<Timestamp>> {
    let end = match (length, until) {
        (Some(length), _) => {
            let end = now.checked_add(length).context("--for: the end is out of the range of the calendar")?;
            Some(end.round(Unit::Second).unwrap_or(end))
        }
        (None, until) => until,
    };
    if let Some(end) = end.filter(|end| *end <= now) {
        bail!("--until {end}: expected a time in the future");
    }
    Ok(end)
}

/// Refuses a change without an effect: the operator sends no call for a suspended app, or against its policy.
fn may_call(place: &Place, state: Desired, now: Timestamp) -> anyhow::Result<()> {
    let (name, target) = (&place.name, place.spec.target(now));
    refuse_suspended(place, target, "an override")?;
    let allowed = match target.policy {
        Policy::Full => true,
        Policy::StopOnly => state == Desired::Stopped,
        Policy::ObserveOnly => false,
    };
    if !allowed {
        bail!("{name} has the policy {}, which does not allow {state}; change `policy` first", target.policy);
    }
    Ok(())
}

/// Refuses a restart without an effect.
fn may_restart(place: &Place, now: Timestamp) -> anyhow::Result<()> {
    let (name, target) = (&place.name, place.spec.target(now));
    refuse_suspended(place, target, "a restart")?;
    if target.policy != Policy::Full {
        bail!("{name} has the policy {}, which does not allow a restart; change `policy` first", target.policy);
    }
    if target.desired == Desired::Stopped {
        let because = place.spec.explain(target);
        bail!("{name} is declared Stopped by {because}; the operator restarts only apps that are declared Running");
    }
    Ok(())
}

fn refuse_suspended(place: &Place, target: Target, what: &str) -> anyhow::Result<()> {
    if !target.suspended {
        return Ok(());
    }
    let name = &place.name;
    let reason = place.spec.suspend.as_ref().and_then(|suspension| suspension.reason.as_deref());
    let reason = reason.map(|reason| format!(" ({})", escape(reason))).unwrap_or_default();
    bail!("{name} is suspended{reason}, so {what} would have no effect; first: campos-operator resume {name}")
}

/// The author of an edit: from git, otherwise from the system.
fn author(file: &Path) -> Option<String> {
    let directory = file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let git = Command::new("git").current_dir(directory).args(["config", "user.name"]).output();
    let name = git.ok().filter(|git| git.status.success()).and_then(|git| String::from_utf8(git.stdout).ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).or_else(|| variable("USER"))
}

/// The file that declares an app.
struct Place {
    name: AppName,
    spec: Spec,
    /// Its name in diagnostics.
    shown: Arc<str>,
    /// The target of all links.
    file: PathBuf,
    text: String,
    is_dry_run: bool,
}

impl Place {
    /// The only file that declares the app, if an edit is allowed.
    fn find(args: &EditArgs) -> anyhow::Result<Self> {
        let roots = &args.manifests.manifests;
        settings::existing_directories(roots)?;
        let (declared, ..) = source::load_with(roots.clone(), &settings::rules(&args.manifests.rules));
        let app = find(&declared, &args.name, roots)?;
        let shown = app.place.file.clone();
        if let Validity::Conflicting { message, .. } = &app.validity {
            bail!("{shown}: {message}");
        }
        let spec = app.spec().cloned().with_context(|| format!("{shown}: the manifest is not valid"))?;
        let path = match &roots[..] {
            [root] => root.join(&*shown),
            _ => PathBuf::from(&*shown),
        };
        let file = editable(&path, roots)?;
        let text = fs::read_to_string(&file).with_context(|| format!("could not read {}", path.display()))?;
        Ok(Self { name: app.name.clone(), spec, shown, file, text, is_dry_run: args.dry_run })
    }

    /// Makes a change, and prints it.
    fn change(&self, change: &Change) -> anyhow::Result<Exit> {
        let edited = edit(&self.shown, &self.text, &self.name, change).map_err(|refusal| match refusal {
            Refusal::Unsafe(_) => anyhow!("{}: {refusal}; {}", self.shown, by_hand(change)),
            Refusal::Invalid(_) | Refusal::Absent => anyhow!("{}: {refusal}", self.shown),
        })?;
        if edited == self.text {
            print(&format!("unchanged: {} needs no edit\n", self.shown))?;
            return Ok(Exit::Done);
        }
        let diff = TextDiff::from_lines(&self.text, &edited);
        let (old, new) = (format!("a/{}", self.shown), format!("b/{}", self.shown));
        let page = diff.unified_diff().header(&old, &new).to_string();
        if self.is_dry_run {
            print(&format!("{page}nothing was written (--dry-run)\n"))?;
            return Ok(Exit::Done);
        }
        replace(&self.file, &self.text, &edited).with_context(|| format!("could not write {}", self.shown))?;
        print(&format!(
            "{page}the operator applies the change when it reads the file; in a Git checkout, commit and push the change\n"
        ))?;
        Ok(Exit::Done)
    }
}

fn find<'a>(declared: &'a [Arc<Declared>], name: &str, roots: &[PathBuf]) -> anyhow::Result<&'a Declared> {
    let has_id = |app: &&Arc<Declared>| app.spec().is_some_and(|spec| spec.app_id.as_str() == name);
    let found = declared.iter().find(|app| app.name.as_str() == name).or_else(|| declared.iter().find(has_id));
    found.map(AsRef::as_ref).ok_or_else(|| {
        let read: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
        let near = nearest(name, declared.iter().map(|app| app.name.as_str()));
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        anyhow!("no manifest in {} declares an app named {}{hint}", read.join(", "), escape(name))
    })
}

/// The target of a path, unless another tool generates it, or it is out of the tree.
fn editable(path: &Path, roots: &[PathBuf]) -> anyhow::Result<PathBuf> {
    let file = fs::canonicalize(path).with_context(|| format!("could not read {}", path.display()))?;
    let roots = roots.iter().map(fs::canonicalize).collect::<Result<Vec<_>, _>>()?;
    if !roots.iter().any(|root| file.starts_with(root)) {
        bail!("{} is a link out of the directory of manifests; edit {}", path.display(), file.display());
    }
    let literal = std::path::absolute(path)?;
    let is_linked = literal != file;
    let is_published = |part: Component<'_>| {
        let part = part.as_os_str().to_string_lossy();
        let is_hash = (7..=64).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        // A ConfigMap's `..data` and `..2026_11_26`, or the worktree of git-sync.
        part.starts_with("..") && part.len() > 2 || is_hash
    };
    if is_linked && file.components().any(is_published) {
        bail!("another tool generates {} (a ConfigMap or git-sync); edit its repository", path.display());
    }
    Ok(file)
}

/// Replaces the text of a file, with the same mode and owner, unless the file has changed since it was read.
fn replace(file: &Path, old: &str, new: &str) -> anyhow::Result<()> {
    let name = file.file_name().context("it has no name")?.to_string_lossy().into_owned();
    // Hidden, so that no operator reads it.
    let temporary = file.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = write(&temporary, file, new).and_then(|()| {
        if fs::read(file)? != old.as_bytes() {
            return Err(io::Error::other("the file changed during the edit; run the command again"));
        }
        fs::rename(&temporary, file)
    });
    if written.is_err() {
        // The temporary file may not exist.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    // Sync the directory, so that the rename is on the disk.
    if let Some(directory) = file.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn write(temporary: &Path, like: &Path, text: &str) -> io::Result<()> {
    let metadata = fs::metadata(like)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(metadata.mode()).open(temporary)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (metadata.uid(), metadata.gid()) {
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))
            .map_err(|error| io::Error::other(format!("could not keep its owner: {error}")))?;
    }
    file.set_permissions(metadata.permissions())?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
