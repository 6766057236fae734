//! The binary with manifests that are lost, half written or out of reach.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::thread;
use std::time::Duration;

use campos_operator::simulator::world::Config;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::harness::{A, B, Daemon, Manifests, Simulator, http, manifest, wait_until};

fn two() -> (Simulator, Manifests) {
    (Simulator::start(Config::default(), &[A, B]), Manifests::new(&[("a", A, "Running"), ("b", B, "Running")]))
}

fn is_ready(daemon: &Daemon) -> bool {
    http(daemon.address(), "GET", "/readyz").0 == 200
}

#[track_caller]
fn wait_until_ready(daemon: &Daemon) {
    wait_until("it is ready", || is_ready(daemon), || daemon.log());
}

#[test]
fn everything_that_disappears_at_once_is_held_and_reported_once() {
    let (simulator, manifests) = two();
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1s"]);
    wait_until_ready(&daemon);
    for name in ["a", "b"] {
        fs::remove_file(manifests.file(name)).unwrap();
    }
    daemon.wait_for("all 2 manifests under");
    assert!(!is_ready(&daemon));
    let items = http(daemon.address(), "GET", "/api/v1/apps").1;
    assert_eq!(items.matches("\"SourceUnavailable\"").count() % 2, 0, "{items}");
    assert!(items.contains("SourceUnavailable"), "{items}");
    // The same objects are back, so there was nothing to release.
    manifests.set("a", A, "Running");
    manifests.set("b", B, "Running");
    wait_until_ready(&daemon);
    let log = daemon.log();
    assert_eq!(log.matches("WARN").count(), 1, "{log}");
    assert!(!log.contains("released") && log.contains("--allow-empty"), "{log}");
}

#[test]
fn allow_empty_releases_everything() {
    let (simulator, manifests) = two();
    let daemon = Daemon::start(&simulator, &manifests, &["--allow-empty"]);
    wait_until_ready(&daemon);
    for name in ["a", "b"] {
        fs::remove_file(manifests.file(name)).unwrap();
    }
    daemon.wait_for_times("app released", 2);
    assert!(is_ready(&daemon));
}

#[test]
fn an_empty_directory_at_the_start_declares_nothing() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[]);
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    wait_until_ready(&daemon);
    daemon.wait_for("the directory has no manifests");
}

#[test]
fn a_call_that_was_not_sent_waits_for_a_pending_text() {
    let (simulator, manifests) = two();
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1h"]);
    wait_until_ready(&daemon);
    let mut writer = File::create(manifests.file("a")).unwrap();
    writer.write_all(manifest("a", A, "Stopped").as_bytes()).unwrap();
    writer.flush().unwrap();
    let shown = || http(daemon.address(), "GET", "/api/v1/apps/a").1.contains("BeingWritten");
    wait_until("the file is shown as being written", shown, || daemon.log());
    // A later edit of another app has long been acted on.
    manifests.set("b", B, "Stopped");
    wait_until("b is stopped", || !simulator.online(B), || daemon.log());
    assert_eq!(simulator.calls(), [format!("stop {B}")]);
    writer.write_all(b"  suspend: true\n").unwrap();
    drop(writer);
    let suspended = || http(daemon.address(), "GET", "/api/v1/apps/a").1.contains("\"Suspended\"");
    wait_until("a is suspended", suspended, || daemon.log());
    assert_eq!(simulator.calls(), [format!("stop {B}")]);
}

/// No event shows who writes to a file before it comes into the directory.
#[test]
fn a_file_that_comes_from_elsewhere_waits_for_its_writer() {
    let (simulator, manifests) = two();
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1h"]);
    wait_until_ready(&daemon);
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("new");
    let mut writer = File::create(&path).unwrap();
    writer.write_all(manifest("a", A, "Stopped").as_bytes()).unwrap();
    writer.flush().unwrap();
    fs::rename(&path, manifests.file("a")).unwrap();
    let shown = || http(daemon.address(), "GET", "/api/v1/apps/a").1.contains("BeingWritten");
    wait_until("the file is shown as being written", shown, || daemon.log());
    writer.write_all(b"  suspend: true\n").unwrap();
    drop(writer);
    let suspended = || http(daemon.address(), "GET", "/api/v1/apps/a").1.contains("\"Suspended\"");
    wait_until("a is suspended", suspended, || daemon.log());
    assert_eq!(simulator.calls(), <[String; 0]>::default());
}

#[test]
fn no_descriptor_left_is_no_invalid_manifest() {
    let (simulator, manifests) = two();
    let daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1h"]);
    wait_until_ready(&daemon);
    let pid = Pid::from_raw(daemon.pid().try_into().unwrap());
    let usual = getrlimit(Resource::Nofile);
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(3), ..usual }).unwrap();
    manifests.set("a", A, "Stopped");
    daemon.wait_for("too many open files in this process");
    prlimit(pid, Resource::Nofile, usual).unwrap();
    wait_until("a is stopped", || !simulator.online(A), || daemon.log());
    let log = daemon.log();
    assert!(!log.contains("InvalidManifest"), "{log}");
    assert_eq!(log.matches("SourceUnavailable").count(), 1, "{log}");
}

/// A FUSE file system without a server: every system call on it waits for an answer that never comes.
struct Hung(Option<File>, std::path::PathBuf);

impl Hung {
    fn mount(on: &std::path::Path) -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("hung", on, "fuse", flags, Some(&*options)).ok()?;
        Some(Self(Some(device), on.to_owned()))
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // Pending system calls get an error now.
        self.0 = None;
        let _ = rustix::mount::unmount(&self.1, rustix::mount::UnmountFlags::DETACH);
    }
}

#[test]
fn a_file_system_that_hangs_makes_it_unready_and_does_not_delay_its_end() {
    let (simulator, manifests) = two();
    let mut daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "1s", "--watch", "scan"]);
    wait_until_ready(&daemon);
    // Only root may mount.
    let Some(hung) = Hung::mount(manifests.path()) else { return };
    for _ in 0..600 {
        if !is_ready(&daemon) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!is_ready(&daemon));
    daemon.wait_for("no scan has finished for 3");
    daemon.signal("-TERM");
    assert!(daemon.ends().success());
    drop(hung);
}
