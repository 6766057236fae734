//! The source of manifests on a real directory with real inotify events.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use campos_operator::manifest::example;
use campos_operator::manifest::source::{Options, Rules, Source, SourceHandle, load};
use campos_operator::reconcile::desired::{Declared, Validity};
use campos_operator::source::{SourceReport, Update};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(10);
const NO_RULES: Rules = Rules { follow_links: false, exclude: Vec::new() };
/// An interval after which no test waits: events show every change after the first scan.
pub(crate) const EVENTS_ONLY: Options =
    Options { scan_interval: Duration::from_hours(1), watch: true, rules: NO_RULES, allow_empty: false };
pub(crate) const SCANS_ONLY: Options =
    Options { scan_interval: Duration::from_millis(100), watch: false, rules: NO_RULES, allow_empty: false };

/// The sum of all updates.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) apps: BTreeMap<String, Arc<Declared>>,
    pub(crate) report: Option<SourceReport>,
    /// Every state that each app was reported with, and `-` for each release.
    pub(crate) past: Vec<(String, String)>,
}

impl View {
    fn take(&mut self, update: Update) {
        for name in update.removed {
            self.past.push((name.to_string(), "-".into()));
            assert!(self.apps.remove(name.as_str()).is_some(), "{name} was removed and never declared");
        }
        for declared in update.changed {
            self.past.push((declared.name.to_string(), state(&declared)));
            self.apps.insert(declared.name.to_string(), declared);
        }
        self.report = Some(update.source);
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.apps.get(name).map_or_else(|| "-".into(), state)
    }

    pub(crate) fn available(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.available)
    }

    pub(crate) fn ever(&self, name: &str, state: &str) -> bool {
        self.past.iter().any(|(app, past)| app == name && past == state)
    }
}

pub(crate) fn state(declared: &Arc<Declared>) -> String {
    let state = declared.spec().map_or("none", |spec| spec.state.as_str());
    match &declared.validity {
        Validity::Valid => state.to_owned(),
        Validity::Invalid { .. } => format!("{state} Invalid"),
        Validity::Conflicting { reason, .. } => format!("{state} {reason}"),
    }
}

pub(crate) struct Bench {
    pub(crate) dir: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) view: Arc<(Mutex<View>, Condvar)>,
    _handle: SourceHandle,
}

impl Bench {
    /// Starts a source on `root`, a path below a new directory that `prepare` fills.
    pub(crate) fn start(root: &str, options: Options, prepare: impl FnOnce(&Path)) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary directory"), root, options, prepare)
    }

    /// The same, in a directory of a chosen file system.
    pub(crate) fn start_in(dir: TempDir, root: &str, options: Options, prepare: impl FnOnce(&Path)) -> Self {
        prepare(dir.path());
        let root = dir.path().join(root);
        let view = Arc::new((Mutex::new(View::default()), Condvar::new()));
        let sink = view.clone();
        let handle = Source::start(vec![root.clone()], options, move |update| {
            sink.0.lock().expect("no test thread panics with it").take(update);
            sink.1.notify_all();
        })
        .expect("a thread can be started");
        let bench = Self { dir, root, view, _handle: handle };
        bench.until("it speaks", |view| view.report.is_some());
        bench
    }

    /// Starts with one file, `a.yaml`, that wants `a` running.
    pub(crate) fn with_a() -> Self {
        let bench = Self::start("m", EVENTS_ONLY, |dir| {
            fs::create_dir(dir.join("m")).expect("mkdir");
            fs::write(dir.join("m/a.yaml"), app("a", "Running")).expect("write");
        });
        bench.until_state("a", "Running");
        bench
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    #[track_caller]
    pub(crate) fn until(&self, what: &str, reached: impl Fn(&View) -> bool) {
        let guard = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (guard, _) = self
            .view
            .1
            .wait_timeout_while(guard, DEADLINE, |view| !reached(view))
            .unwrap_or_else(PoisonError::into_inner);
        assert!(reached(&guard), "never: {what}; past: {:#?}, report: {:#?}", guard.past, guard.report);
    }

    #[track_caller]
    pub(crate) fn until_state(&self, name: &str, state: &str) {
        self.until(&format!("{name} is {state}"), |view| view.state(name) == state);
    }

    #[track_caller]
    pub(crate) fn never(&self, name: &str, state: &str) {
        let guard = self.view.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(!guard.ever(name, state), "{name} was {state}: {:#?}", guard.past);
    }
}

pub(crate) fn app(name: &str, state: &str) -> String {
    example(name, &format!("id-of-{name}"), state)
}

#[test]
fn a_rename_over_the_file() {
    let bench = Bench::with_a();
    fs::write(bench.path(".a.yaml.tmp"), app("a", "Stopped")).expect("write");
    fs::rename(bench.path(".a.yaml.tmp"), bench.path("a.yaml")).expect("rename");
    bench.until_state("a", "Stopped");
    bench.never("a", "-");
}

#[test]
fn a_write_in_place_in_pieces_is_seen_once_and_whole() {
    let bench = Bench::with_a();
    let text = app("a", "Stopped") + "  policy: StopOnly\n";
    let mut file = OpenOptions::new().write(true).truncate(true).open(bench.path("a.yaml")).expect("open");
    for byte in text.bytes() {
        file.write_all(&[byte]).expect("write");
        file.flush().expect("flush");
        std::thread::sleep(Duration::from_millis(2));
    }
    // Everything is written, but not closed: nothing of it may be known yet.
    bench.never("a", "Stopped");
    bench.never("a", "Running Invalid");
    drop(file);
    bench.until_state("a", "Stopped");
    let view = bench.view.0.lock().expect("no test thread panics with it");
    assert_eq!(view.past.len(), 2, "{:?}", view.past);
    assert!(view.apps["a"].spec().is_some_and(|spec| spec.policy.is_some()));
}

#[test]
fn sed_in_place() {
    let bench = Bench::with_a();
    let done =
        Command::new("sed").args(["-i", "s/Running/Stopped/"]).arg(bench.path("a.yaml")).status().expect("sed runs");
    assert!(done.success());
    bench.until_state("a", "Stopped");
    bench.never("a", "-");
}

#[test]
fn a_move_is_no_change_but_of_place() {
    let bench = Bench::with_a();
    fs::rename(bench.path("a.yaml"), bench.path("b.yaml")).expect("rename");
    bench.until("it is in b.yaml", |view| view.apps.get("a").is_some_and(|a| &*a.place.file == "b.yaml"));
    fs::create_dir(bench.path("sub")).expect("mkdir");
    fs::rename(bench.path("b.yaml"), bench.path("sub/c.yaml")).expect("rename");
    bench.until("it is in sub/c.yaml", |view| view.apps.get("a").is_some_and(|a| &*a.place.file == "sub/c.yaml"));
    bench.until_state("a", "Running");
    bench.never("a", "-");
    bench.never("a", "Running DuplicateName");
}

#[test]
fn a_deleted_file_releases_and_a_new_one_declares() {
    let bench = Bench::with_a();
    fs::remove_file(bench.path("a.yaml")).expect("remove");
    bench.until_state("a", "-");
    fs::create_dir_all(bench.path("deep/er")).expect("mkdir");
    fs::write(bench.path("deep/er/b.yaml"), app("b", "Stopped")).expect("write");
    bench.until_state("b", "Stopped");
}

#[test]
fn a_broken_file_holds_and_is_mended() {
    let bench = Bench::with_a();
    fs::write(bench.path("a.yaml"), app("a", "Stopped").replace("state", "sate")).expect("write");
    bench.until_state("a", "Running Invalid");
    bench.until("the error is reported", |view| view.report.as_ref().is_some_and(|report| report.problems.len() == 1));
    fs::write(bench.path("a.yaml"), "").expect("write");
    bench.until("the empty file is reported", |view| {
        view.report.as_ref().is_some_and(|report| report.problems.iter().any(|problem| problem.contains("empty")))
    });
    fs::write(bench.path("a.yaml"), app("a", "Stopped")).expect("write");
    bench.until_state("a", "Stopped");
    bench.until("no problem is left", |view| view.report.as_ref().is_some_and(|report| report.problems.is_empty()));
    bench.never("a", "-");
}

#[test]
fn a_broken_file_that_moves_still_holds() {
    let bench = Bench::with_a();
    // Now even its name is unreadable.
    fs::write(bench.path("a.yaml"), "][").expect("write");
    bench.until_state("a", "Running Invalid");
    fs::rename(bench.path("a.yaml"), bench.path("b.yaml")).expect("rename");
    bench.until("it is in b.yaml", |view| view.apps.get("a").is_some_and(|a| &*a.place.file == "b.yaml"));
    fs::write(bench.path("b.yaml"), app("a", "Stopped")).expect("write");
    bench.until_state("a", "Stopped");
    bench.never("a", "-");
    bench.never("a", "Running DuplicateName");
}

/// Makes `..{version}` with one file and swaps `..data` to it, as the kubelet does.
pub(crate) fn swap_config_map(root: &Path, version: &str, state: &str) {
    let old = fs::read_link(root.join("..data")).ok();
    let real = format!("..{version}");
    fs::create_dir(root.join(&real)).expect("mkdir");
    fs::write(root.join(&real).join("a.yaml"), app("a", state)).expect("write");
    symlink(&real, root.join("..data_tmp")).expect("symlink");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("rename");
    if let Some(old) = old {
        fs::remove_dir_all(root.join(old)).expect("rmdir");
    }
}

#[test]
fn a_config_map_swap() {
    let bench = Bench::start("m", EVENTS_ONLY, |dir| {
        fs::create_dir(dir.join("m")).expect("mkdir");
        swap_config_map(&dir.join("m"), "2026_0", "Running");
        symlink("..data/a.yaml", dir.join("m/a.yaml")).expect("symlink");
    });
    bench.until_state("a", "Running");
    for round in 1..=20 {
        let state = if round % 2 == 0 { "Running" } else { "Stopped" };
        swap_config_map(&bench.root, &format!("2026_{round}"), state);
        bench.until_state("a", state);
    }
    bench.never("a", "-");
}

/// Checks a commit out beside the others and flips the link to it, as git-sync does; the old tree goes at once.
pub(crate) fn flip_git_sync(dir: &Path, commit: &str, state: &str) {
    let old = fs::read_link(dir.join("current")).ok();
    let tree = format!(".worktrees/{commit}");
    fs::create_dir_all(dir.join(&tree).join("apps")).expect("mkdir");
    fs::write(dir.join(&tree).join("apps/a.yaml"), app("a", state)).expect("write");
    symlink(&tree, dir.join("tmp-link")).expect("symlink");
    fs::rename(dir.join("tmp-link"), dir.join("current")).expect("rename");
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).expect("rmdir");
    }
}

#[test]
fn a_git_sync_flip() {
    let bench = Bench::start("current/apps", EVENTS_ONLY, |dir| flip_git_sync(dir, "00000000", "Running"));
    bench.until_state("a", "Running");
    bench.until("the revision is the commit", |view| {
        view.report.as_ref().is_some_and(|report| &*report.revision == "00000000")
    });
    for round in 1..=20 {
        let state = if round % 2 == 0 { "Running" } else { "Stopped" };
        flip_git_sync(bench.dir.path(), &format!("{round:08}"), state);
        bench.until_state("a", state);
    }
    bench.never("a", "-");
    // The new tree is watched, too.
    fs::write(bench.path("b.yaml"), app("b", "Stopped")).expect("write");
    bench.until_state("b", "Stopped");
}

#[test]
fn the_root_is_deleted_and_made_again() {
    let bench = Bench::with_a();
    fs::rename(&bench.root, bench.dir.path().join("elsewhere")).expect("rename");
    bench.until("it is unavailable", |view| !view.available());
    bench.until_state("a", "Running");
    fs::create_dir(bench.dir.path().join("m.new")).expect("mkdir");
    fs::write(bench.dir.path().join("m.new/a.yaml"), app("a", "Stopped")).expect("write");
    fs::rename(bench.dir.path().join("m.new"), &bench.root).expect("rename");
    bench.until_state("a", "Stopped");
    bench.until("it is available", View::available);
    bench.never("a", "-");
    fs::write(bench.path("b.yaml"), app("b", "Running")).expect("write");
    bench.until_state("b", "Running");
}

/// File systems give the number of a directory that was just removed to the next one: it is another all the same.
#[test]
fn a_root_that_is_made_anew_is_watched_anew() {
    let bench = Bench::with_a();
    for round in 0..4 {
        fs::remove_dir_all(&bench.root).expect("remove");
        fs::create_dir(&bench.root).expect("mkdir");
        let name = format!("n{round}");
        fs::write(bench.path("a.yaml"), app("a", "Running")).expect("write");
        fs::write(bench.path("n.yaml"), app(&name, "Running")).expect("write");
        bench.until_state(&name, "Running");
        for state in ["Stopped", "Running"] {
            fs::write(bench.path(".tmp"), app("a", state)).expect("write");
            fs::rename(bench.path(".tmp"), bench.path("a.yaml")).expect("rename");
            bench.until_state("a", state);
        }
    }
}

/// A file that was written before it had a name: no event shows that it is complete.
#[test]
fn a_file_that_is_given_its_name_when_it_is_written() {
    let bench = Bench::with_a();
    let (flags, mode) = (rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::RDWR, rustix::fs::Mode::from(0o644));
    // Not every file system has such files.
    let Ok(file) = rustix::fs::open(&bench.root, flags, mode) else { return };
    let mut file = fs::File::from(file);
    file.write_all(app("b", "Stopped").as_bytes()).expect("write");
    let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
    let follow = rustix::fs::AtFlags::SYMLINK_FOLLOW;
    rustix::fs::linkat(rustix::fs::CWD, from, rustix::fs::CWD, bench.path("b.yaml"), follow).expect("link");
    bench.until_state("b", "Stopped");
}

#[test]
fn the_root_appears_later() {
    let bench = Bench::start("not/yet", EVENTS_ONLY, |_| {});
    bench.until("it is unavailable", |view| {
        !view.available() && view.report.as_ref().is_some_and(|report| !report.loaded)
    });
    fs::create_dir_all(&bench.root).expect("mkdir");
    fs::write(bench.path("a.yaml"), app("a", "Stopped")).expect("write");
    bench.until_state("a", "Stopped");
}

#[test]
fn an_emptied_directory_releases() {
    let bench = Bench::with_a();
    fs::remove_dir_all(&bench.root).expect("rmdir");
    fs::create_dir(&bench.root).expect("mkdir");
    bench.until_state("a", "-");
    bench.until("it is available", View::available);
}

#[test]
fn without_events_scanning_does_it_all() {
    let bench = Bench::start("m", SCANS_ONLY, |dir| {
        fs::create_dir(dir.join("m")).expect("mkdir");
        fs::write(dir.join("m/a.yaml"), app("a", "Running")).expect("write");
    });
    bench.until_state("a", "Running");
    fs::write(bench.path("a.yaml"), app("a", "Stopped")).expect("write");
    bench.until_state("a", "Stopped");
    fs::rename(bench.path("a.yaml"), bench.path("b.yaml")).expect("rename");
    bench.until("it is in b.yaml", |view| view.apps.get("a").is_some_and(|a| &*a.place.file == "b.yaml"));
    bench.never("a", "-");
    fs::remove_file(bench.path("b.yaml")).expect("remove");
    bench.until_state("a", "-");
}

#[test]
fn links_out_of_the_tree_are_refused_unless_followed() {
    for (follow_links, options) in [(false, EVENTS_ONLY), (true, EVENTS_ONLY), (true, SCANS_ONLY)] {
        let bench = Bench::start("m", Options { rules: Rules { follow_links, ..NO_RULES }, ..options }, |dir| {
            fs::create_dir_all(dir.join("m")).expect("mkdir");
            fs::create_dir_all(dir.join("shared/team")).expect("mkdir");
            fs::write(dir.join("shared/a.yaml"), app("a", "Running")).expect("write");
            fs::write(dir.join("shared/team/b.yaml"), app("b", "Running")).expect("write");
            symlink("../shared/a.yaml", dir.join("m/a.yaml")).expect("symlink");
            symlink("../shared/team", dir.join("m/team")).expect("symlink");
            fs::write(dir.join("m/own.yaml"), app("own", "Running")).expect("write");
        });
        bench.until_state("own", "Running");
        if !follow_links {
            bench.until("both are reported", |view| {
                view.report.as_ref().is_some_and(|report| report.problems.len() == 2)
            });
            let view = bench.view.0.lock().expect("no test thread panics with it");
            let reported = view.report.as_ref().map(|report| report.problems.join("\n")).unwrap_or_default();
            assert!(
                reported.contains("a.yaml: the link leads out") && reported.contains("team: the link"),
                "{reported}"
            );
            assert_eq!(view.apps.len(), 1);
            continue;
        }
        bench.until_state("a", "Running");
        bench.until_state("b", "Running");
        // Changes there are detected, as in the tree.
        let shared = bench.dir.path().join("shared");
        fs::write(shared.join(".new"), app("a", "Stopped")).expect("write");
        fs::rename(shared.join(".new"), shared.join("a.yaml")).expect("rename");
        fs::write(shared.join("team/b.yaml"), app("b", "Stopped")).expect("write");
        fs::write(shared.join("team/c.yaml"), app("c", "Stopped")).expect("write");
        for name in ["a", "b", "c"] {
            bench.until_state(name, "Stopped");
        }
    }
}

#[test]
fn a_file_that_never_rests_keeps_nobody_waiting() {
    let bench = Bench::start("m", SCANS_ONLY, |dir| fs::create_dir(dir.join("m")).expect("mkdir"));
    let restless = bench.path("restless.yaml");
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let until = stop.clone();
    let writer = std::thread::spawn(move || {
        let mut count = 0;
        while !until.load(std::sync::atomic::Ordering::Relaxed) {
            count += 1;
            fs::write(&restless, format!("{}# {count}\n", app("restless", "Stopped"))).expect("write");
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    fs::write(bench.path("a.yaml"), app("a", "Stopped")).expect("write");
    bench.until_state("a", "Stopped");
    bench.never("restless", "Stopped");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    writer.join().expect("the writer ends");
    bench.until_state("restless", "Stopped");
}

#[test]
fn many_files_at_once() {
    let bench = Bench::with_a();
    for number in 0..2000 {
        fs::write(bench.path(&format!("n{number}.yaml")), app(&format!("n{number}"), "Stopped")).expect("write");
    }
    bench.until("all are there", |view| view.apps.len() == 2001);
    for number in 0..2000 {
        fs::remove_file(bench.path(&format!("n{number}.yaml"))).expect("remove");
    }
    bench.until("all are released", |view| view.apps.len() == 1);
    bench.never("a", "-");
}

/// A signal that requested a scan once made the thread forget the request to end.
#[test]
fn it_ends_amid_a_storm_of_events() {
    for _ in 0..20 {
        let bench = Bench::with_a();
        for number in 0..50 {
            fs::create_dir(bench.path(&format!("d{number}"))).expect("mkdir");
            fs::remove_dir(bench.path(&format!("d{number}"))).expect("rmdir");
        }
        drop(bench);
    }
}

#[test]
fn an_unreadable_file_is_held() {
    let bench = Bench::with_a();
    fs::set_permissions(bench.path("a.yaml"), fs::Permissions::from_mode(0o000)).expect("chmod");
    if fs::read(bench.path("a.yaml")).is_ok() {
        // Root reads everything; a directory in the file's place cannot be read by any user.
        fs::remove_file(bench.path("a.yaml")).expect("remove");
        fs::create_dir(bench.path("a.yaml")).expect("mkdir");
    }
    bench.until_state("a", "Running Invalid");
    bench.never("a", "-");
}

#[test]
fn load_reads_everything_once() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    fs::write(dir.path().join("a.yaml"), app("a", "Stopped")).expect("write");
    fs::write(dir.path().join("b.yaml"), app("b", "Stopped").replace("id-of-b", "id-of-a")).expect("write");
    fs::write(dir.path().join("c.yaml"), app("c", "stopped")).expect("write");
    let (declared, diagnostics, report) = load(vec![dir.path().to_owned()]);
    let states: Vec<_> = declared.iter().map(|declared| format!("{} {}", declared.name, state(declared))).collect();
    assert_eq!(states, ["a none DuplicateAppId", "b none DuplicateAppId", "c none Invalid"]);
    let reported: String = diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    insta::assert_snapshot!(reported, @r#"
    error: the appId id-of-a is claimed by more than one app
     --> a.yaml:6:10
      |
    6 |   appId: "id-of-a"
      |          ^^^^^^^^^
     ::: b.yaml:6: also claimed by b
      = help: an app on the platform belongs to one manifest; remove the others
    error: the appId id-of-a is claimed by more than one app
     --> b.yaml:6:10
      |
    6 |   appId: "id-of-a"
      |          ^^^^^^^^^
     ::: a.yaml:6: also claimed by a
      = help: an app on the platform belongs to one manifest; remove the others
    error: unknown state "stopped"
     --> c.yaml:7:10
      |
    7 |   state: stopped
      |          ^^^^^^^ expected Running or Stopped
      = help: did you mean `Stopped`?
    "#);
    assert!(report.available && report.loaded);
    let (declared, _, report) = load(vec![dir.path().join("nowhere")]);
    assert!(declared.is_empty() && !report.available && report.cause.is_some());
}

/// A figure, not a verdict: `cargo test --release --test it -- --ignored --nocapture ten_thousand`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn ten_thousand_files_are_loaded() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let old = std::time::SystemTime::now() - Duration::from_mins(1);
    for number in 0..10_000 {
        let path = dir.path().join(format!("n{number}.yaml"));
        fs::write(&path, app(&format!("n{number}"), "Stopped")).expect("write");
        fs::File::options().write(true).open(&path).expect("open").set_modified(old).expect("utimes");
    }
    let started = std::time::Instant::now();
    for entry in fs::read_dir(dir.path()).expect("readdir") {
        fs::read(entry.expect("an entry").path()).expect("read");
    }
    let plain = started.elapsed();
    let started = std::time::Instant::now();
    let (declared, diagnostics, _) = load(vec![dir.path().to_owned()]);
    eprintln!("10,000 files: plain read {plain:?}, loaded and validated {:?}", started.elapsed());
    assert_eq!((declared.len(), diagnostics.len()), (10_000, 0));
}

/// A figure, not a verdict: from the rename to the update, in a directory of 1,000 files.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures")]
fn an_edit_is_reported_at_once() {
    let bench = Bench::with_a();
    for number in 0..1000 {
        fs::write(bench.path(&format!("n{number}.yaml")), app(&format!("n{number}"), "Stopped")).expect("write");
    }
    bench.until("all are there", |view| view.apps.len() == 1001);
    let mut took = Vec::new();
    for round in 0..300 {
        let state = if round % 2 == 0 { "Stopped" } else { "Running" };
        fs::write(bench.path(".tmp"), app("a", state)).expect("write");
        let started = std::time::Instant::now();
        fs::rename(bench.path(".tmp"), bench.path("a.yaml")).expect("rename");
        bench.until_state("a", state);
        took.push(started.elapsed());
    }
    took.sort();
    eprintln!("edit to update: p50 {:?}, p99 {:?}", took[150], took[297]);
}

#[test]
fn several_roots() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    for name in ["one", "two"] {
        fs::create_dir(dir.path().join(name)).expect("mkdir");
        fs::write(dir.path().join(name).join("same.yaml"), app(name, "Running")).expect("write");
    }
    let (declared, diagnostics, report) = load(vec![dir.path().join("one"), dir.path().join("two")]);
    assert_eq!((declared.len(), diagnostics.len(), report.files), (2, 0, 2));
    assert!(declared[0].place.file.ends_with("/one/same.yaml"), "{}", declared[0].place);
}

#[test]
fn the_examples_are_valid() {
    let (declared, diagnostics, report) = load(vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests")]);
    let reported: String = diagnostics.iter().map(|diagnostic| diagnostic.render(false)).collect();
    assert_eq!(reported, "");
    assert!(report.files >= 6 && declared.len() >= 8, "{} files, {} apps", report.files, declared.len());
    assert!(declared.iter().all(|declared| declared.validity == Validity::Valid));
}
