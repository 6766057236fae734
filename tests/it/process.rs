//! The end of the process, signals, file systems that do not answer, and file permissions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use campos_operator::simulator::world::Config;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::harness::{A, Daemon, Manifests, Simulator, TOKEN, binary, http, wait_until};

const SETTLED: &str = "apps are as declared";

/// A daemon with its token in a file of mode `mode`.
fn with_token_file(simulator: &Simulator, manifests: &Manifests, directory: &Path, mode: u32) -> Daemon {
    let token = directory.join("token");
    fs::write(&token, TOKEN).unwrap();
    fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
    let mut command = binary();
    command.env_remove("CAMPOSCLOUD_TOKEN");
    command.args(["run", "--listen", "127.0.0.1:0", "--scan-interval", "1s", "--api-url", &simulator.url()]);
    command.arg("--token-file").arg(&token).arg("--manifests").arg(manifests.path());
    let daemon = Daemon::spawn(command);
    daemon.wait_for(SETTLED);
    daemon
}

/// A file system whose server never answers, mounted over a directory.
struct Hung<'a> {
    _server: fs::File,
    at: &'a Path,
}

impl<'a> Hung<'a> {
    /// `None` if this machine allows no mount.
    fn over(at: &'a Path) -> Option<Self> {
        use std::os::fd::AsRawFd as _;
        let server = fs::File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        mount("hung", at, "fuse", MountFlags::empty(), Some(&*options)).ok()?;
        Some(Self { _server: server, at })
    }
}

impl Drop for Hung<'_> {
    fn drop(&mut self) {
        unmount(self.at, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_token_file_on_a_hung_mount_stops_nothing() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = with_token_file(&simulator, &manifests, directory.path(), 0o600);
    assert!(!daemon.log().contains("can read the token file"), "{}", daemon.log());
    let Some(_hung) = Hung::over(directory.path()) else {
        eprintln!("LEFT OUT: this machine allows no mount");
        return;
    };
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    daemon.wait_for("the file system of the token file does not answer");
    assert_eq!(http(daemon.address(), "GET", "/livez").0, 200);
    daemon.signal("-TERM");
    assert_eq!(daemon.ends().code(), Some(0));
}

#[test]
fn manifests_on_a_hung_mount_do_not_delay_the_exit() {
    for signals in [1, 2] {
        let simulator = Simulator::start(Config::default(), &[A]);
        let manifests = Manifests::new(&[("bot", A, "Running")]);
        let mut daemon = Daemon::start(&simulator, &manifests, &["--scan-interval", "100ms"]);
        daemon.wait_for(SETTLED);
        let Some(_hung) = Hung::over(manifests.path()) else {
            eprintln!("LEFT OUT: this machine allows no mount");
            return;
        };
        // The source waits for the file system by now, or soon.
        let stuck = || daemon.waits_in("fuse");
        wait_until("a scan is stuck", stuck, || daemon.log());
        for _ in 0..signals {
            daemon.signal("-TERM");
        }
        assert!(daemon.ends().code().is_some());
    }
}

#[test]
fn each_signal_has_its_documented_effect() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = with_token_file(&simulator, &manifests, directory.path(), 0o644);
    assert_eq!(daemon.log().matches("other users of this machine can read the token file").count(), 1);
    for signal in ["-USR1", "-USR2", "-HUP"] {
        daemon.signal(signal);
    }
    daemon.wait_for("SIGHUP: scanning the manifests and reading the token again");
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    daemon.signal("-QUIT");
    assert_eq!(daemon.ends().code(), Some(0));
    assert!(daemon.log().contains("signal=\"SIGQUIT\""), "{}", daemon.log());
}

/// SIGHUP retries a refused token at once, and scans the tree when nothing else would.
#[test]
fn a_hangup_reads_token_and_manifests_again() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--watch", "scan", "--scan-interval", "1h"]);
    daemon.wait_for(SETTLED);
    manifests.set("bot", A, "Stopped");
    daemon.signal("-HUP");
    daemon.wait_for("app stopped");
}

#[test]
fn a_hangup_ends_the_demo_and_the_simulator() {
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    for arguments in
        [vec!["demo", "--listen", "off", "--manifests"], vec!["simulate", "--listen", "127.0.0.1:0", "--from"]]
    {
        let mut command = binary();
        command.env_remove("CAMPOSCLOUD_TOKEN").args(&arguments).arg(manifests.path());
        let mut daemon = Daemon::spawn(command);
        // The simulator logs nothing at its start.
        if arguments[0] == "demo" {
            daemon.wait_for(SETTLED);
        }
        wait_until("it handles signals", || daemon.catches(1), || daemon.log());
        daemon.signal("-USR1");
        daemon.signal("-HUP");
        assert_eq!(daemon.ends().code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn only_the_owner_can_read_the_history() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let state = tempfile::tempdir().unwrap();
    let mut shell = Command::new("sh");
    let run = format!("umask 000; exec '{}' run \"$@\"", binary().get_program().to_str().unwrap());
    shell.env_clear().env("PATH", "/usr/bin:/bin").env("CAMPOSCLOUD_TOKEN", TOKEN).stdin(Stdio::null());
    shell.args(["-c", &run, "sh", "--listen", "off", "--api-url", &simulator.url(), "--manifests"]);
    shell.arg(manifests.path()).arg("--state-dir").arg(state.path());
    let daemon = Daemon::spawn(shell);
    daemon.wait_for("app stopped");
    let file = state.path().join("history.jsonl");
    wait_until("it is written", || file.exists(), || daemon.log());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}
