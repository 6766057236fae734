//! A directory of manifests, and the two ways in which people edit one.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context as _;
use tempfile::TempDir;

/// Largest number of manifests in one directory; more go to another one.
const PER_DIRECTORY: u32 = 1_000;

/// The state in a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Stopped,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Stopped => "Stopped",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::Running => Self::Stopped,
            Self::Stopped => Self::Running,
        }
    }
}

/// How an edit reaches the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A new file beside the old one takes its place, as `sed -i` and editors do.
    Rename,
    /// The same from a directory that is not watched, as `mv` does. No event shows whether its writer has finished.
    Move,
    /// The file is truncated, written and closed, as a shell's `>` does.
    InPlace,
}

impl Way {
    pub(crate) const ALL: [Self; 3] = [Self::Rename, Self::Move, Self::InPlace];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Rename => "rename",
            Self::Move => "move from elsewhere",
            Self::InPlace => "in-place write",
        }
    }
}

/// A prepared edit.
#[derive(Debug)]
pub(crate) enum Edit {
    Rename { from: PathBuf, to: PathBuf },
    InPlace { file: PathBuf, text: String },
}

impl Edit {
    /// Makes the edit. Returns the time just before its last step, the rename or the close.
    pub(crate) fn make(self) -> anyhow::Result<Instant> {
        match self {
            Self::Rename { from, to } => {
                let at = Instant::now();
                fs::rename(from, to)?;
                Ok(at)
            }
            Self::InPlace { file, text } => {
                let mut file = File::create(file)?;
                file.write_all(text.as_bytes())?;
                let at = Instant::now();
                drop(file);
                Ok(at)
            }
        }
    }
}

/// A directory of manifests, one for each app.
#[derive(Debug)]
pub(crate) struct Fleet {
    root: TempDir,
    wanted: Vec<State>,
}

impl Fleet {
    /// Writes `apps` manifests that all say Running, with modification times in the past, so that they count as stable.
    pub(crate) fn new(apps: u32) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("campos-operator-bench-").tempdir().context("a temp directory")?;
        let fleet = Self { root, wanted: vec![State::Running; apps as usize] };
        fs::create_dir(fleet.staging())?;
        for app in (0..apps).step_by(PER_DIRECTORY as usize) {
            fs::create_dir_all(fleet.path(app).parent().context("a file is in a directory")?)?;
        }
        fleet.age()?;
        Ok(fleet)
    }

    pub(crate) fn apps(&self) -> u32 {
        u32::try_from(self.wanted.len()).unwrap_or(u32::MAX)
    }

    /// The directory that is watched.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.path().join("manifests")
    }

    /// A directory of the same file system that is not watched.
    pub(crate) fn staging(&self) -> PathBuf {
        self.root.path().join("staging")
    }

    fn path(&self, app: u32) -> PathBuf {
        self.manifests().join(format!("{:03}/app-{app:06}.yaml", app / PER_DIRECTORY))
    }

    fn text(&self, app: u32) -> String {
        let (id, state) = (app_id(app), self.wanted[app as usize].as_str());
        let team = app % 20;
        format!(
            "apiVersion: campos-operator.dev/v1\nkind: App\nmetadata:\n  name: app-{app:06}\n  \
             labels: {{team: team-{team}}}\nspec:\n  appId: {id}\n  state: {state}\n"
        )
    }

    /// Sets the state of an app before the operator starts.
    pub(crate) fn ask(&mut self, app: u32, state: State) -> anyhow::Result<()> {
        self.wanted[app as usize] = state;
        self.write_aged(app)
    }

    /// Gives all manifests old modification times.
    pub(crate) fn age(&self) -> anyhow::Result<()> {
        (0..self.apps()).try_for_each(|app| self.write_aged(app))
    }

    /// Writes all manifests again, as a clone or a mounted volume does just before the start.
    pub(crate) fn refresh(&self) -> anyhow::Result<()> {
        (0..self.apps()).try_for_each(|app| Ok(fs::write(self.path(app), self.text(app))?))
    }

    /// Writes the manifest with an old modification time. The operator waits for files that were modified just now.
    fn write_aged(&self, app: u32) -> anyhow::Result<()> {
        let mut file = File::create(self.path(app))?;
        file.write_all(self.text(app).as_bytes())?;
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_hours(480_000))?;
        Ok(())
    }

    /// Prepares an edit that flips an app.
    pub(crate) fn prepare(&mut self, app: u32, way: Way) -> anyhow::Result<Edit> {
        let wanted = &mut self.wanted[app as usize];
        *wanted = wanted.other();
        let text = self.text(app);
        Ok(match way {
            Way::Rename | Way::Move => {
                let to = self.path(app);
                let beside = to.with_file_name(format!(".{app}.new"));
                let from = if way == Way::Rename { beside } else { self.staging().join(app.to_string()) };
                fs::write(&from, text)?;
                Edit::Rename { from, to }
            }
            Way::InPlace => Edit::InPlace { file: self.path(app), text },
        })
    }
}

/// The id of an app on the simulated platform, in the form of real ones, with its number in the last eight digits.
pub(crate) fn app_id(app: u32) -> String {
    format!("60c72b2f9b1e8d00{app:08x}")
}

/// The number in an id.
pub(crate) fn app_of(id: &str) -> Option<u32> {
    u32::from_str_radix(id.strip_prefix("60c72b2f9b1e8d00")?, 16).ok()
}

/// The kind of the file system that holds `path`, as the mount table calls it.
pub(crate) fn filesystem(path: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let held = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (at, kind) = (fields.next()?, fields.next()?);
        path.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    held.max_by_key(|(length, _)| *length).map_or_else(|| "unknown".into(), |(_, kind)| kind)
}
