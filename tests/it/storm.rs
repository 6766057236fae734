//! The source of manifests in a storm: seeded operations on a real tree against a plain rescan of it, swaps by the
//! hundred, a queue of events that overflows, and writers that take their time.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use campos_operator::manifest::source::{Options, load};
use campos_operator::reconcile::desired::{Declared, Validity};
use campos_operator::simulator::world::Config;
use campos_operator::source::SourceReport;
use tempfile::TempDir;

use crate::harness::{A, B, Daemon, Manifests, Simulator, manifest, wait_until};
use crate::source::{Bench, EVENTS_ONLY, SCANS_ONLY, app, flip_git_sync, swap_config_map};

/// A generator small enough to be read: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(end).unwrap()).unwrap()
    }

    fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }
}

/// A tree that is reached through a link, as git-sync makes it, and holds a ConfigMap, as the kubelet makes it.
struct Tree {
    dir: PathBuf,
    dice: Dice,
    commits: u32,
    swaps: u32,
    /// Whether mistakes are over.
    sound: bool,
}

impl Tree {
    fn root(&self) -> PathBuf {
        self.dir.join("current/apps")
    }

    /// Some path for a manifest. Few names, so that operations meet.
    fn file(&mut self) -> PathBuf {
        let directory = self.dice.pick(&["", "sub", "sub/deep", "team"]);
        self.root().join(directory).join(format!("f{}.yaml", self.dice.below(4)))
    }

    /// Some text: one app or two, sometimes with a mistake that leaves the name readable.
    fn text(&mut self) -> String {
        let mut one = || {
            let name = format!("n{}", self.dice.below(16));
            let text = app(&name, self.dice.pick(&["Running", "Stopped"]));
            if !self.sound && self.dice.below(6) == 0 { text.replace("state", "sate") } else { text }
        };
        let first = one();
        if first.len() % 3 == 0 { format!("{first}---\n{}", one()) } else { first }
    }

    /// One operation. Many fail, since what they act on is not there: then nothing happened.
    fn operate(&mut self) -> std::io::Result<()> {
        let (file, other, text) = (self.file(), self.file(), self.text());
        let beside = self.root().join(".beside.tmp");
        match self.dice.below(20) {
            0..4 => {
                fs::write(&beside, text)?;
                fs::rename(&beside, file)
            }
            4..7 => fs::write(file, text),
            7..9 => {
                let mut written = File::create(file)?;
                for piece in text.as_bytes().chunks(1 + self.dice.below(60)) {
                    written.write_all(piece)?;
                }
                Ok(())
            }
            9..12 => fs::remove_file(file),
            12 => fs::rename(file, other),
            13 => File::options().write(true).open(file)?.set_modified(SystemTime::UNIX_EPOCH),
            14 => fs::set_permissions(file, fs::Permissions::from_mode(self.dice.pick(&[&0o600, &0o644]).to_owned())),
            15 => fs::create_dir_all(self.root().join(self.dice.pick(&["sub", "sub/deep", "team"]))),
            16 => match self.dice.below(3) {
                0 => fs::remove_dir_all(self.root().join("sub")),
                1 => fs::rename(self.root().join("sub"), self.root().join("team/moved")),
                _ => fs::rename(self.root().join("team"), self.root().join("team2")),
            },
            17 => self.swap(),
            18 => self.flip(),
            _ => self.replace_root(),
        }
    }

    /// Fixes every file with a mistake, here and below: some in place, some by a rename.
    fn fix(&mut self, directory: &Path) -> std::io::Result<()> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                self.fix(&path)?;
            } else if fs::read_to_string(&path)?.contains("sate") {
                let text = self.text();
                if self.dice.below(2) == 0 {
                    fs::write(path, text)?;
                } else {
                    fs::write(directory.join(".fixed"), text)?;
                    fs::rename(directory.join(".fixed"), path.canonicalize()?)?;
                }
            }
        }
        Ok(())
    }

    /// `map/..data` is swapped to a new directory.
    fn swap(&mut self) -> std::io::Result<()> {
        self.swaps += 1;
        let map = self.root().join("map");
        fs::create_dir_all(&map)?;
        let old = fs::read_link(map.join("..data"));
        let fresh = format!("..{}", self.swaps);
        fs::create_dir(map.join(&fresh))?;
        for name in ["one.yaml", "two.yaml"] {
            fs::write(map.join(&fresh).join(name), self.text())?;
            if fs::symlink_metadata(map.join(name)).is_err() {
                symlink(Path::new("..data").join(name), map.join(name))?;
            }
        }
        symlink(&fresh, map.join("..data_tmp"))?;
        fs::rename(map.join("..data_tmp"), map.join("..data"))?;
        fs::remove_dir_all(map.join(old?))
    }

    /// The link above the root is flipped to a changed copy; the old tree is deleted at once.
    fn flip(&mut self) -> std::io::Result<()> {
        self.commits += 1;
        let old = fs::read_link(self.dir.join("current"))?;
        let fresh = PathBuf::from(format!(".worktrees/{:08}", self.commits));
        copy(&self.dir.join(&old), &self.dir.join(&fresh))?;
        fs::write(self.dir.join(&fresh).join("apps/f0.yaml"), self.text())?;
        symlink(&fresh, self.dir.join("tmp-link"))?;
        fs::rename(self.dir.join("tmp-link"), self.dir.join("current"))?;
        fs::remove_dir_all(self.dir.join(old))
    }

    /// The root is renamed away and another one put in its place.
    fn replace_root(&mut self) -> std::io::Result<()> {
        let (root, old, fresh) = (self.root(), self.dir.join("current/old"), self.dir.join("current/new"));
        copy(&root, &fresh)?;
        fs::write(fresh.join("f1.yaml"), self.text())?;
        fs::rename(&root, &old)?;
        fs::rename(&fresh, &root)?;
        fs::remove_dir_all(old)
    }
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The part of a source's state that does not depend on the past. No event causes a count of hidden files.
fn essence<'a>(
    apps: impl Iterator<Item = &'a Arc<Declared>>,
    report: &SourceReport,
) -> (BTreeMap<String, String>, SourceReport) {
    let one = |declared: &Arc<Declared>| {
        let what = match &declared.validity {
            Validity::Valid => format!("{:?}", declared.object),
            Validity::Invalid { message, .. } => format!("invalid: {message}"),
            Validity::Conflicting { reason, message } => format!("{reason}: {message}"),
        };
        (declared.name.to_string(), format!("{} {what}", declared.place))
    };
    (apps.map(one).collect(), SourceReport { skipped: 0, ..report.clone() })
}

/// Batches of operations; after each, the state of the source must become that of a new load of the same tree.
fn model(dir: TempDir, options: Options, seed: u64, batches: usize, operations: usize) -> usize {
    let mut tree = Tree { dir: dir.path().to_owned(), dice: Dice(seed), commits: 0, swaps: 0, sound: false };
    let bench = Bench::start_in(dir, "current/apps", options, |dir| flip_git_sync(dir, "00000000", "Running"));
    let mut done = 0;
    for batch in 0..batches {
        for _ in 0..=tree.dice.below(operations) {
            done += usize::from(tree.operate().is_ok());
        }
        tree.sound = true;
        tree.fix(&tree.root()).unwrap();
        tree.sound = false;
        let (declared, _, report) = load(vec![tree.root()]);
        let fresh = essence(declared.iter(), &report);
        let said = || {
            let view = bench.view.0.lock().unwrap_or_else(PoisonError::into_inner);
            view.report.as_ref().map(|report| essence(view.apps.values(), report))
        };
        wait_until(
            &format!("batch {batch} of seed {seed} is read as it is"),
            || said().is_some_and(|said| said == fresh),
            || format!("seen:  {:#?}\nfresh: {fresh:#?}", said()),
        );
    }
    done
}

fn on_disk() -> TempDir {
    TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn in_memory() -> TempDir {
    TempDir::new_in("/dev/shm").unwrap()
}

#[test]
fn after_any_storm_it_ends_as_a_new_load_in_memory() {
    let done = model(in_memory(), EVENTS_ONLY, 1, 20, 160);
    eprintln!("{done} operations");
}

/// More of the same: `STORM=50 cargo it -- --ignored any_storm`.
#[test]
#[ignore = "as long as one likes"]
fn any_storm_ends_as_a_new_load() {
    let seeds: u64 = std::env::var("STORM").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(10);
    for seed in 100..100 + seeds {
        let dir = if seed % 2 == 0 { in_memory() } else { on_disk() };
        let options = if seed % 5 == 0 { SCANS_ONLY } else { EVENTS_ONLY };
        model(dir, options, seed, 10, 20 + 40 * usize::try_from(seed % 7).unwrap());
    }
}

#[test]
fn after_any_storm_it_ends_as_a_new_load_on_disk() {
    let done = model(on_disk(), EVENTS_ONLY, 2, 20, 160);
    eprintln!("{done} operations");
}

#[test]
fn after_any_storm_it_ends_as_a_new_load_by_scanning() {
    let done = model(on_disk(), SCANS_ONLY, 3, 8, 160) + model(in_memory(), SCANS_ONLY, 4, 8, 160);
    eprintln!("{done} operations");
}

/// Makes a change a hundred times and waits each time until it is accepted.
fn hundred(bench: &Bench, mut change: impl FnMut(u32, &str)) {
    for number in 1..=100 {
        let state = if number % 2 == 0 { "Running" } else { "Stopped" };
        change(number, state);
        bench.until_state("a", state);
    }
    bench.never("a", "-");
    bench.never("a", "Running Invalid");
    bench.never("a", "Stopped Invalid");
}

#[test]
fn a_hundred_config_map_swaps() {
    for options in [EVENTS_ONLY, SCANS_ONLY] {
        let bench = Bench::start("m", options, |dir| {
            fs::create_dir(dir.join("m")).unwrap();
            swap_config_map(&dir.join("m"), "0", "Running");
            symlink("..data/a.yaml", dir.join("m/a.yaml")).unwrap();
        });
        bench.until_state("a", "Running");
        hundred(&bench, |number, state| swap_config_map(&bench.root, &number.to_string(), state));
    }
}

#[test]
fn a_hundred_git_sync_flips() {
    for options in [EVENTS_ONLY, SCANS_ONLY] {
        let bench = Bench::start("current/apps", options, |dir| flip_git_sync(dir, "00000000", "Running"));
        bench.until_state("a", "Running");
        hundred(&bench, |number, state| flip_git_sync(bench.dir.path(), &format!("{number:08}"), state));
    }
}

#[test]
fn an_overflow_of_events_loses_nothing() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let manifests = Manifests::new(&[("n0", A, "Running"), ("other", B, "Running")]);
    // Only the overflow itself shows that something happened.
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1h"]);
    daemon.wait_for("apps are as declared");
    daemon.freeze();
    for number in 0..20_000 {
        fs::rename(manifests.file(&format!("n{number}")), manifests.file(&format!("n{}", number + 1))).unwrap();
    }
    // These come when the kernel's queue is full, so no event shows them.
    manifests.put("n20000", &manifest("n0", A, "Stopped"));
    manifests.put("other", &manifest("other", B, "Stopped"));
    daemon.thaw();
    daemon.wait_for("overflowed");
    let calls = || {
        let mut calls = simulator.calls();
        calls.sort();
        calls
    };
    wait_until("both are stopped", || calls() == [format!("stop {A}"), format!("stop {B}")], || daemon.log());
    // And the watch is a new one that works.
    manifests.set("other", B, "Running");
    wait_until("one runs again", || simulator.online(B), || daemon.log());
}

/// Writes `text` over a second, a byte at a time, and leaves the file open for the caller to close.
fn drip(path: &Path, text: &str) -> File {
    let mut file = OpenOptions::new().write(true).truncate(true).open(path).unwrap();
    let pace = Duration::from_secs(1) / u32::try_from(text.len()).unwrap();
    for byte in text.bytes() {
        file.write_all(&[byte]).unwrap();
        std::thread::sleep(pace);
    }
    file
}

#[test]
fn a_slow_writer_is_waited_for() {
    for options in [EVENTS_ONLY, SCANS_ONLY] {
        let bench = Bench::start("m", options, |dir| {
            fs::create_dir(dir.join("m")).unwrap();
            fs::write(dir.join("m/a.yaml"), app("a", "Running")).unwrap();
        });
        bench.until_state("a", "Running");
        // Up to its last line it is a manifest, too, and says `state: Stopped`.
        let file = drip(&bench.path("a.yaml"), &(app("a", "Stopped") + "  suspend: {reason: not yet}\n"));
        assert_eq!(bench.view.0.lock().unwrap().past.len(), 1, "nothing was said while it was written");
        drop(file);
        bench.until_state("a", "Stopped");
        let view = bench.view.0.lock().unwrap();
        assert_eq!(view.past.len(), 2, "{:?}", view.past);
        assert!(view.apps["a"].spec().is_some_and(|spec| spec.suspend.is_some()));
    }
}

#[test]
fn a_slow_writer_causes_no_call() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "100ms"]);
    daemon.wait_for("apps are as declared");
    drop(drip(&manifests.file("bot"), &(manifest("bot", A, "Stopped") + "  suspend: {reason: not yet}\n")));
    daemon.wait_for("reason=\"Suspended\"");
    assert_eq!(simulator.calls(), [""; 0]);
    manifests.set("bot", A, "Stopped");
    wait_until("it is stopped", || !simulator.online(A), || daemon.log());
}
