//! Tests of the engine in virtual time, on a real directory.

use std::os::unix::fs::symlink;

use super::*;
use crate::manifest::example;
use crate::manifest::source::load;
use crate::reconcile::desired::{Text, Validity};

fn manifest(name: &str, state: &str) -> String {
    example(name, &format!("id-{name}"), state)
}

#[test]
fn files_that_can_change_elsewhere_are_read_on_each_scan() {
    let seen = |change: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = dir.path().join("manifests");
        fs::create_dir(&root).expect("mkdir");
        fs::write(root.join("a.yaml"), manifest("a", "Running")).expect("write");
        change(&root);
        let mut engine = Engine::new(vec![root], Rules::default());
        engine.scan(clock::instant(), Again::None);
        engine.listing.is_local()
    };
    if !seen(&|_| {}) {
        return;
    }
    assert!(!seen(&|root| fs::hard_link(root.join("a.yaml"), root.join("../a")).expect("link")));
    assert!(!seen(&|root| symlink("a.yaml", root.join("b.yaml")).expect("symlink")));
    assert!(!seen(&|root| symlink("nowhere", root.join("b.yaml")).expect("symlink")));
}

#[test]
fn unrelated_files_cause_no_scan() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = fs::canonicalize(dir.path()).expect("it is there").join("manifests");
    fs::create_dir_all(root.join("team/deep")).expect("mkdir");
    fs::write(root.join("a.yaml"), manifest("a", "Running")).expect("write");
    fs::write(root.join("notes"), "x").expect("write");
    let mut engine = Engine::new(vec![root.clone()], Rules::default());
    engine.scan(clock::instant(), Again::None);
    fs::create_dir(root.join("new")).expect("mkdir");
    symlink("a.yaml", root.join("link")).expect("symlink");
    for (path, beside) in [
        ("sedAbC123", true),
        ("notes", true),
        ("team/deep/4913", true),
        ("a.yaml", false),
        ("gone.yaml", false),
        ("team", false),
        ("team/deep", false),
        ("new", false),
        ("link", false),
        ("", false),
        ("..", false),
    ] {
        assert_eq!(engine.is_beside(&root.join(path)), beside, "{path}");
    }
    fs::rename(root.join("team"), root.join("away")).expect("rename");
    assert!(!engine.is_beside(&root.join("team")), "what was below it is gone");
}

#[test]
fn many_files_give_the_same_on_any_number_of_cores() {
    let items: Vec<usize> = (0..5000).collect();
    for threads in [1, 2, 7] {
        assert_eq!(
            in_parallel(threads, &items, |item| item * 2),
            items.iter().map(|item| item * 2).collect::<Vec<_>>()
        );
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    for at in 0..300 {
        let text = if at % 50 == 7 { "][".into() } else { manifest(&format!("app-{}", at % 290), "Running") };
        fs::write(dir.path().join(format!("{at:03}.yaml")), text).expect("write");
    }
    let (declared, diagnostics, report) = load(vec![dir.path().to_owned()]);
    let mut alone = Store::new();
    for at in 0..300 {
        let file: Arc<str> = format!("{at:03}.yaml").into();
        let bytes = fs::read(dir.path().join(&*file)).expect("read");
        alone.apply([(file.clone(), FileState::Read(Arc::new(load::parse(&file, &bytes))))]);
    }
    assert_eq!(declared.len(), alone.declared().len());
    assert_eq!(diagnostics.len(), alone.diagnostics().len());
    assert_eq!(report.files, 300);
}

/// A root with these apps, each in a file of its own and running, read by an engine in virtual time.
struct Bench {
    dir: tempfile::TempDir,
    engine: Engine,
    now: Instant,
}

impl Bench {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let root = fs::canonicalize(dir.path()).expect("it is there").join("m");
        fs::create_dir(&root).expect("mkdir");
        let mut engine = Engine::new(vec![root], Rules::default());
        engine.expect_directories();
        engine.together = Duration::from_secs(10);
        let mut bench = Self { dir, engine, now: clock::instant() };
        for name in names {
            bench.write(&format!("{name}.yaml"), &manifest(name, "Running"));
        }
        bench.wait(1000);
        bench.wait(1000);
        bench.engine.changes = Changes::default();
        bench
    }

    fn path(&self, file: &str) -> PathBuf {
        self.engine.roots[0].given.join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("write");
    }

    /// Some milliseconds pass; pending files are read again and the tree is scanned.
    fn wait(&mut self, milliseconds: u64) {
        self.pause(milliseconds);
        self.engine.scan(self.now, Again::None);
    }

    /// The same without a scan.
    fn pause(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.engine.reread_pending(self.now);
    }

    /// A file was written in place and closed.
    fn close(&mut self, file: &str) {
        self.engine.end_write(&self.path(file));
        self.read(file, Arrival::Closed);
    }

    fn read(&mut self, file: &str, arrival: Arrival) {
        self.engine.read(&file.into(), &self.path(file), self.now, arrival);
        self.engine.commit(self.now);
    }

    /// Replaces a file as `sed -i` does.
    fn replace(&mut self, file: &str, text: &str) {
        self.write(".new", text);
        fs::rename(self.path(".new"), self.path(file)).expect("rename");
        self.read(file, Arrival::Whole);
    }

    fn state(&self, name: &str) -> &'static str {
        let declared = self.engine.store.declared().into_iter().find(|declared| declared.name.as_str() == name);
        declared.and_then(|declared| Some(declared.spec()?.state.as_str())).unwrap_or("-")
    }

    fn cause(&self) -> String {
        self.engine.report().cause.map(|cause| cause.to_string()).unwrap_or_default()
    }
}

/// A half-written manifest is a manifest: `suspend: true` is not written yet.
#[test]
fn a_text_is_not_accepted_while_its_file_is_open_however_long_that_takes() {
    for seen in [true, false] {
        let mut bench = Bench::new(&["a"]);
        let path = bench.path("a.yaml");
        let mut writer = fs::File::create(&path).expect("create");
        std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
        if seen {
            bench.engine.begin_write(&path, bench.now);
        }
        for _ in 0..30 {
            bench.wait(5000);
            assert_eq!(bench.state("a"), "Running", "seen: {seen}");
        }
        assert_eq!(bench.engine.take_texts(), [("a".parse().expect("a name"), Text::BeingWritten)], "seen: {seen}");
        drop(writer);
        if seen {
            bench.close("a.yaml");
        }
        bench.wait(1100);
        bench.wait(1100);
        assert_eq!(bench.state("a"), "Stopped", "seen: {seen}");
        assert_eq!(bench.engine.take_texts(), [("a".parse().expect("a name"), Text::Stable)], "seen: {seen}");
    }
}

/// Its clock may be wrong, or the file may be written again at this moment.
#[test]
fn the_first_load_waits_once_for_a_file_from_the_future() {
    let mut bench = Bench::new(&[]);
    bench.write("a.yaml", &manifest("a", "Stopped"));
    let file = fs::File::options().append(true).open(bench.path("a.yaml")).expect("open");
    file.set_modified(clock::system_time() + Duration::from_hours(1)).expect("set the time");
    drop(file);
    bench.engine = Engine::new(vec![bench.path("")], Rules::default());
    bench.wait(0);
    assert_eq!(bench.state("a"), "-");
    bench.pause(199);
    assert_eq!(bench.state("a"), "-");
    bench.pause(1);
    assert_eq!(bench.state("a"), "Stopped");
}

#[test]
fn the_first_load_does_not_accept_a_text_whose_file_is_open() {
    let mut bench = Bench::new(&[]);
    let mut writer = fs::File::create(bench.path("a.yaml")).expect("create");
    std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
    bench.engine = Engine::new(vec![bench.path("")], Rules::default());
    for _ in 0..10 {
        bench.wait(5000);
        assert_eq!(bench.state("a"), "-");
    }
    drop(writer);
    bench.wait(2000);
    assert_eq!(bench.state("a"), "Stopped");
}

#[test]
fn one_of_two_writers_closes_the_file() {
    let mut bench = Bench::new(&["a"]);
    let path = bench.path("a.yaml");
    let other = fs::File::options().append(true).open(&path).expect("open");
    bench.write("a.yaml", &manifest("a", "Stopped"));
    bench.engine.begin_write(&path, bench.now);
    bench.close("a.yaml");
    bench.pause(100);
    bench.wait(5000);
    assert_eq!(bench.state("a"), "Running");
    drop(other);
    bench.wait(1000);
    assert_eq!(bench.state("a"), "Stopped");
}

#[test]
fn being_written_belongs_to_the_inode() {
    let mut bench = Bench::new(&["a"]);
    let path = bench.path("a.yaml");
    let _writer = fs::File::create(&path).expect("create");
    bench.engine.begin_write(&path, bench.now);
    bench.wait(2000);
    // Another file takes its place: that one has no writer.
    bench.replace("a.yaml", &manifest("a", "Stopped"));
    assert_eq!(bench.state("a"), "Stopped");

    // And one that is renamed while it is written takes its writer with it.
    let mut bench = Bench::new(&["a"]);
    let (from, to) = (bench.path(".new"), bench.path("a.yaml"));
    let mut writer = fs::File::create(&from).expect("create");
    std::io::Write::write_all(&mut writer, manifest("a", "Stopped").as_bytes()).expect("write");
    bench.engine.begin_write(&from, bench.now);
    fs::rename(from, to).expect("rename");
    bench.read("a.yaml", Arrival::Whole);
    bench.wait(5000);
    assert_eq!(bench.state("a"), "Running");
    drop(writer);
    bench.close("a.yaml");
    bench.pause(100);
    assert_eq!(bench.state("a"), "Stopped");
}

#[test]
fn files_that_are_emptied_one_after_the_other_are_lost_together() {
    for empty in ["# nothing\n", "---\n", "apiVersion: campos-operator.dev/v1\nkind: AppList\nitems: []\n"] {
        let mut bench = Bench::new(&["a", "b", "c"]);
        bench.engine.together = Duration::from_secs(3);
        for name in ["a", "b", "c"] {
            bench.replace(&format!("{name}.yaml"), empty);
            bench.wait(200);
        }
        bench.wait(5000);
        for name in ["a", "b", "c"] {
            assert_eq!(bench.state(name), "Running", "{name} after {empty:?}");
        }
        assert!(bench.engine.report().cause.is_some_and(|cause| cause.starts_with("all 3 manifests")));
    }
    // All but some is an edit.
    let mut bench = Bench::new(&["a", "b", "c"]);
    bench.engine.together = Duration::from_secs(3);
    bench.replace("a.yaml", "# nothing\n");
    assert_eq!(bench.state("a"), "Running");
    bench.wait(400);
    bench.wait(400);
    assert_eq!((bench.state("a"), bench.state("b")), ("-", "Running"));
    assert!(bench.engine.report().available);
    // A moved object is never declared twice.
    bench.replace("b.yaml", "# moved\n");
    bench.write("d.yaml", &manifest("b", "Stopped"));
    bench.read("d.yaml", Arrival::Whole);
    assert_eq!(bench.state("b"), "Stopped");
    assert!(bench.engine.report().available);
}

#[test]
fn a_swapped_tree_waits_for_the_writers_of_its_files() {
    let mut bench = Bench::new(&[]);
    let dir = bench.dir.path().to_owned();
    for (tree, state) in [("v0", "Running"), ("v1", "Stopped")] {
        fs::create_dir(dir.join(tree)).expect("mkdir");
        fs::write(dir.join(tree).join("a.yaml"), manifest("a", state)).expect("write");
    }
    symlink("v0", dir.join("current")).expect("symlink");
    bench.engine = Engine::new(vec![dir.join("current")], Rules::default());
    bench.wait(5000);
    bench.wait(5000);
    assert_eq!(bench.state("a"), "Running");
    let writer = fs::File::options().append(true).open(dir.join("v1").join("a.yaml")).expect("open");
    symlink("v1", dir.join("next")).expect("symlink");
    fs::rename(dir.join("next"), dir.join("current")).expect("rename");
    bench.wait(100);
    bench.wait(5000);
    assert_eq!(bench.state("a"), "Running");
    drop(writer);
    bench.wait(5000);
    assert_eq!(bench.state("a"), "Stopped");
}

#[test]
fn a_text_that_does_not_last_for_the_quiet_time_is_not_accepted() {
    for gap in [0, 1, 50, 99] {
        let mut bench = Bench::new(&["a"]);
        bench.write("a.yaml", &manifest("a", "Stopped"));
        bench.close("a.yaml");
        bench.pause(gap);
        bench.write("a.yaml", &(manifest("a", "Running") + "# again\n"));
        bench.close("a.yaml");
        bench.pause(99);
        assert!(bench.engine.changes == Changes::default() && bench.state("a") == "Running", "gap {gap} ms");
        bench.write("a.yaml", &manifest("a", "Stopped"));
        bench.close("a.yaml");
        bench.pause(99);
        assert_eq!(bench.state("a"), "Running", "gap {gap} ms");
        bench.pause(1);
        assert_eq!(bench.state("a"), "Stopped", "gap {gap} ms");
    }
}

#[test]
fn a_rename_is_accepted_at_once_and_a_second_one_waits() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.replace("a.yaml", &manifest("a", "Stopped"));
    assert_eq!(bench.state("a"), "Stopped");
    bench.pause(500);
    bench.replace("a.yaml", &manifest("a", "Running"));
    bench.replace("b.yaml", &manifest("b", "Stopped"));
    assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Stopped"));
    bench.pause(50);
    bench.replace("a.yaml", &(manifest("a", "Running") + "# again\n"));
    bench.pause(99);
    assert_eq!(bench.state("a"), "Stopped");
    bench.pause(1);
    assert_eq!(bench.state("a"), "Running");
    bench.pause(1000);
    bench.replace("a.yaml", &manifest("a", "Stopped"));
    assert_eq!(bench.state("a"), "Stopped");
}

/// The new file is read before a scan confirms that the old one is gone.
#[test]
fn a_schedule_that_moves_is_never_declared_twice() {
    let mut bench = Bench::new(&[]);
    let office = "apiVersion: campos-operator.dev/v1\nkind: Schedule\nmetadata: {name: office}\nspec: {timeZone: UTC, windows: []}\n";
    bench.write("office.yaml", office);
    bench.write("a.yaml", &(manifest("a", "Running") + "  scheduleRef: office\n"));
    bench.wait(1000);
    bench.wait(1000);
    assert_eq!(bench.state("a"), "Running");
    bench.engine.changes = Changes::default();
    fs::rename(bench.path("office.yaml"), bench.path("moved.yaml")).expect("rename");
    bench.read("moved.yaml", Arrival::Whole);
    assert_eq!(bench.engine.report().problems.len(), 0);
    let changed = &bench.engine.changes.changed;
    assert!(changed.iter().all(|declared| declared.validity == Validity::Valid) && changed.len() == 1, "{changed:?}");
}

#[test]
fn a_swap_is_one_change_and_a_second_one_waits() {
    let mut bench = Bench::new(&[]);
    let flip = |bench: &mut Bench, tree: &str, states: [&str; 2]| {
        let dir = bench.dir.path().join(tree);
        fs::create_dir(&dir).expect("mkdir");
        for (name, state) in ["a", "b"].iter().zip(states) {
            fs::write(dir.join(format!("{name}.yaml")), manifest(name, state)).expect("write");
        }
        symlink(tree, bench.dir.path().join("new")).expect("symlink");
        fs::rename(bench.dir.path().join("new"), bench.dir.path().join("current")).expect("rename");
        bench.engine.scan(bench.now, Again::None);
    };
    bench.engine = Engine::new(vec![bench.dir.path().join("current")], Rules::default());
    flip(&mut bench, "t0", ["Running", "Running"]);
    bench.wait(1000);
    bench.wait(1000);
    flip(&mut bench, "t1", ["Stopped", "Running"]);
    assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Running"));
    for (at, states) in [["Running", "Stopped"], ["Stopped", "Running"], ["Running", "Stopped"]].iter().enumerate() {
        flip(&mut bench, &format!("u{at}"), *states);
        bench.wait(25);
        assert_eq!((bench.state("a"), bench.state("b")), ("Stopped", "Running"));
    }
    bench.pause(100);
    assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Stopped"));
}

#[test]
fn a_root_that_loses_all_its_objects_keeps_them_in_force() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    for name in ["a", "b", "c"] {
        fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
        bench.wait(20);
    }
    for _ in 0..20 {
        bench.wait(1000);
    }
    assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["Running"; 3]);
    assert!(bench.cause().starts_with("all 3 manifests under "), "{}", bench.cause());
    assert!(bench.cause().ends_with("if this is intended, restart, or set --allow-empty"));
    assert!(!bench.engine.is_releasing());

    // One of them is back: what is still missing is an edit like any other.
    bench.write("a.yaml", &manifest("a", "Running"));
    bench.wait(1000);
    assert_eq!((bench.cause().as_str(), bench.state("b")), ("", "Running"));
    for _ in 0..3 {
        bench.wait(1000);
    }
    assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["Running", "-", "-"]);
}

#[test]
fn removing_fewer_than_all_is_an_edit() {
    let mut bench = Bench::new(&["a", "b", "c"]);
    for name in ["a", "b"] {
        fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
    }
    bench.wait(20);
    bench.wait(1000);
    assert_eq!([bench.state("a"), bench.state("b"), bench.state("c")], ["-", "-", "Running"]);
    // The last one, but within a scan interval of the others.
    fs::remove_file(bench.path("c.yaml")).expect("remove");
    bench.wait(20);
    bench.wait(5000);
    assert_eq!((bench.state("c"), bench.cause().is_empty()), ("Running", false));
}

#[test]
fn the_last_one_alone_is_an_edit() {
    let mut bench = Bench::new(&["a", "b"]);
    fs::remove_file(bench.path("a.yaml")).expect("remove");
    bench.wait(20);
    bench.wait(1000);
    bench.wait(11_000);
    fs::remove_file(bench.path("b.yaml")).expect("remove");
    bench.wait(20);
    bench.wait(1000);
    assert_eq!((bench.state("a"), bench.state("b"), bench.cause().as_str()), ("-", "-", ""));
}

#[test]
fn with_allow_empty_everything_is_released() {
    let mut bench = Bench::new(&["a", "b"]);
    bench.engine.allow_empty = true;
    for name in ["a", "b"] {
        fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
    }
    bench.wait(20);
    bench.wait(1000);
    assert_eq!((bench.state("a"), bench.state("b"), bench.cause().as_str()), ("-", "-", ""));
}

#[test]
fn files_that_declare_nothing_any_more_are_a_loss_too() {
    let mut bench = Bench::new(&[]);
    bench.write("all.yaml", &format!("{}---\n{}", manifest("a", "Running"), manifest("b", "Running")));
    bench.wait(1000);
    bench.wait(1000);
    assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
    bench.replace("all.yaml", "# moved elsewhere\n");
    bench.wait(1000);
    assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
    assert!(!bench.cause().is_empty());
    bench.replace("all.yaml", &manifest("b", "Stopped"));
    bench.wait(1000);
    assert_eq!((bench.state("a"), bench.state("b"), bench.cause().as_str()), ("-", "Stopped", ""));
}

#[test]
fn each_root_is_lost_for_itself() {
    let mut bench = Bench::new(&["a", "b"]);
    let other = bench.dir.path().join("other");
    fs::create_dir(&other).expect("mkdir");
    for name in ["c", "d"] {
        fs::write(other.join(format!("{name}.yaml")), manifest(name, "Running")).expect("write");
    }
    bench.engine = Engine::new(vec![bench.path(""), other.clone()], Rules::default());
    bench.wait(1000);
    bench.wait(1000);
    fs::remove_file(other.join("c.yaml")).expect("remove");
    for name in ["a", "b"] {
        fs::remove_file(bench.path(&format!("{name}.yaml"))).expect("remove");
    }
    bench.wait(20);
    bench.wait(1000);
    assert_eq!(["a", "b", "c", "d"].map(|name| bench.state(name)), ["Running", "Running", "-", "Running"]);
    assert!(bench.cause().starts_with("all 2 manifests under "), "{}", bench.cause());
    // All that a root had moved to another one: nothing is lost.
    fs::rename(other.join("d.yaml"), bench.path("d.yaml")).expect("rename");
    bench.wait(1000);
    bench.wait(1000);
    assert_eq!((bench.state("d"), bench.cause().as_str()), ("Running", ""));
}

#[test]
fn a_file_in_the_place_of_a_root_is_no_manifest() {
    let mut bench = Bench::new(&["a", "b"]);
    fs::remove_dir_all(bench.path("")).expect("remove");
    fs::write(&bench.engine.roots[0].given, "").expect("write");
    bench.wait(5000);
    bench.wait(5000);
    assert_eq!((bench.state("a"), bench.state("b")), ("Running", "Running"));
    assert!(bench.cause().ends_with("is a file, not a directory"), "{}", bench.cause());
}
