//! A simulated CamposCloud on a free port, the built binary, and waiting with a deadline.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use campos_operator::clock::Clock;
pub(crate) use campos_operator::manifest::example as manifest;
use campos_operator::reconcile::app::AppId;
use campos_operator::simulator::faults::Endpoint;
use campos_operator::simulator::http;
use campos_operator::simulator::port::{SharedWorld, lock};
use campos_operator::simulator::world::{Config, Logged, World};
use tempfile::TempDir;

/// Generous: only a broken test reaches it.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
/// The token of the tests' account. Tests search all output for it.
pub(crate) const TOKEN: &str = "hush-hush-token-of-the-tests";

pub(crate) const A: &str = "60c72b2f9b1e8d001c8e4f3a";
pub(crate) const B: &str = "60c72b2f9b1e8d001c8e4f3b";

/// Waits until `done`, or fails with the text of `state`.
#[track_caller]
pub(crate) fn wait_until(what: &str, done: impl FnMut() -> bool, state: impl Fn() -> String) {
    wait_within(DEADLINE, what, done, state);
}

/// Waits until `done` for at most `limit`.
#[track_caller]
pub(crate) fn wait_within(limit: Duration, what: &str, mut done: impl FnMut() -> bool, state: impl Fn() -> String) {
    let step = Duration::from_millis(5);
    for _ in 0..limit.as_millis() / step.as_millis() {
        if done() {
            return;
        }
        thread::sleep(step);
    }
    panic!("waited in vain until {what}:\n{}", state());
}

/// The simulated CamposCloud behind real HTTP.
pub(crate) struct Simulator {
    pub(crate) world: SharedWorld,
    pub(crate) clock: Clock,
    pub(crate) address: SocketAddr,
}

impl Simulator {
    /// With a running app for each of `ids`.
    pub(crate) fn start(config: Config, ids: &[&str]) -> Self {
        let clock = Clock::system();
        let mut world = World::new(Config { token: TOKEN.into(), ..config }, clock.wall());
        for id in ids {
            world.add(id.parse().unwrap(), id, clock.wall());
        }
        let world = Arc::new(Mutex::new(world));
        let listener = http::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = listener.local_addr().unwrap();
        let served = world.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(http::serve(listener, served, clock)).unwrap();
        });
        Self { world, clock, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn online(&self, id: &str) -> bool {
        let id: AppId = id.parse().unwrap();
        lock(&self.world).online(&id, self.clock.wall()).unwrap()
    }

    pub(crate) fn count(&self, endpoint: Endpoint) -> usize {
        lock(&self.world).count(endpoint)
    }

    /// Every stop and start so far, as `stop a1`.
    pub(crate) fn calls(&self) -> Vec<String> {
        let verb = |logged: &Logged| match logged.endpoint {
            Some(Endpoint::Stop) => Some("stop"),
            Some(Endpoint::Start) => Some("start"),
            Some(Endpoint::List | Endpoint::Get | Endpoint::Restart | Endpoint::Me | Endpoint::Any) | None => None,
        };
        let world = lock(&self.world);
        let call = |logged: &Logged| Some(format!("{} {}", verb(logged)?, logged.app.as_ref()?));
        world.log().filter_map(call).collect()
    }
}

/// A directory of manifests.
pub(crate) struct Manifests(pub(crate) TempDir);

impl Manifests {
    pub(crate) fn new(apps: &[(&str, &str, &str)]) -> Self {
        let manifests = Self(tempfile::tempdir().unwrap());
        for (name, id, state) in apps {
            manifests.put(name, &manifest(name, id, state));
        }
        manifests
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(format!("{name}.yaml"))
    }

    /// Replaces a file as a careful editor does: writes another file and renames it.
    pub(crate) fn put(&self, name: &str, text: &str) {
        let beside = self.0.path().join(format!(".{name}.tmp"));
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.file(name)).unwrap();
    }

    pub(crate) fn set(&self, name: &str, id: &str, state: &str) {
        self.put(name, &manifest(name, id, state));
    }
}

/// The binary, with an environment of its own.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_campos-operator"));
    command.env_clear().env("PATH", "/usr/bin:/bin").env("CAMPOSCLOUD_TOKEN", TOKEN).stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn output(arguments: &[&str]) -> Output {
    let output = binary().args(arguments).output().unwrap();
    assert_no_secrets(&String::from_utf8_lossy(&output.stderr));
    assert_no_secrets(&String::from_utf8_lossy(&output.stdout));
    output
}

/// A running `demo` on the manifests of the repository.
pub(crate) struct Demo {
    daemon: Daemon,
    _manifests: TempDir,
}

impl Demo {
    /// Starts it on a copy in which the suspension of shop-web does not end, so that its counts are the same on any
    /// day.
    pub(crate) fn start() -> Self {
        fn copy(from: &Path, to: &Path) {
            fs::create_dir(to).unwrap();
            for entry in fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let target = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    copy(&entry.path(), &target);
                } else {
                    let text = fs::read_to_string(entry.path()).unwrap();
                    fs::write(target, text.replace("until: 2027-", "until: 9000-")).unwrap();
                }
            }
        }
        let top = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests"), &top.path().join("manifests"));
        let mut command = binary();
        command.current_dir(top.path()).args(["demo", "--listen", "127.0.0.1:0"]);
        Self { daemon: Daemon::spawn(command), _manifests: top }
    }
}

impl std::ops::Deref for Demo {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
    }
}

/// A running `run`.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Daemon {
    /// Starts `run` on `manifests` against `simulator`, with further flags.
    pub(crate) fn start(simulator: &Simulator, manifests: &Manifests, flags: &[&str]) -> Self {
        let mut command = binary();
        command.args(["run", "--api-url", &simulator.url(), "--manifests"]);
        command.arg(manifests.path()).args(flags);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command)
    }

    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, lines) = (child.stderr.take().unwrap(), log.clone());
        thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock().unwrap();
                lines.push_str(&line);
                lines.push('\n');
            }
        });
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        self.wait_for_times(text, 1);
    }

    #[track_caller]
    pub(crate) fn wait_for_times(&self, text: &str, times: usize) {
        let enough = || self.log().matches(text).count() >= times;
        wait_until(&format!("the log says {text:?} {times} time(s)"), enough, || self.log());
    }

    /// The address of its HTTP port.
    #[track_caller]
    pub(crate) fn address(&self) -> SocketAddr {
        self.wait_for("listen=");
        let log = self.log();
        let after = log.split("listen=").nth(1).unwrap().trim_start_matches('"');
        after.split(['"', ' ', '\n']).next().unwrap().parse().unwrap()
    }

    /// The text in `/proc` that every user of the machine can read.
    pub(crate) fn command_line(&self) -> String {
        fs::read_to_string(format!("/proc/{}/cmdline", self.child.id())).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Number of its open files and connections.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Its resident memory, in bytes.
    pub(crate) fn memory(&self) -> usize {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    }

    /// Returns whether a thread of it waits in a function of the kernel whose name has `part` in it.
    pub(crate) fn waits_in(&self, part: &str) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        tasks.flatten().any(|task| fs::read_to_string(task.path().join("wchan")).is_ok_and(|name| name.contains(part)))
    }

    /// Returns whether it handles the signal of this number.
    pub(crate) fn catches(&self, signal: u32) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (signal - 1) & 1 == 1
    }

    /// Stops the process where it stands, as a debugger or an overloaded machine would.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
        let stat = format!("/proc/{}/stat", self.child.id());
        let state = || fs::read_to_string(&stat).unwrap();
        wait_until("the process stands still", || state().contains(") T "), state);
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    pub(crate) fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        let log = self.log.clone();
        let child = &mut self.child;
        wait_until(
            "the process ends",
            || {
                status = child.try_wait().unwrap();
                status.is_some()
            },
            || log.lock().unwrap().clone(),
        );
        status.unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !thread::panicking() {
            assert_no_secrets(&self.log());
        }
    }
}

/// A `get -w` whose lines can be waited for.
pub(crate) struct Watch {
    child: Child,
    pub(crate) lines: Receiver<String>,
}

impl Watch {
    pub(crate) fn start(server: &str, arguments: &[&str]) -> Self {
        let mut command = binary();
        command.args(["get", "-w", "--server", server]).args(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines }
    }

    /// The next line with `text`; skips the lines before it.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("waited in vain for {text:?}"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Nothing that the platform or the user keeps secret is in `text`.
#[track_caller]
pub(crate) fn assert_no_secrets(text: &str) {
    for secret in [TOKEN, "SIM_SECRET", "example.invalid"] {
        assert!(!text.contains(secret), "{secret} is in:\n{text}");
    }
}

/// One HTTP request, whole: the status and the body.
pub(crate) fn http(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_no_secrets(&answer);
    (status, body)
}
