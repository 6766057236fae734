//! Interfaces for packages, containers and service managers: health checks, `sd_notify`, certificates, man pages.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use campos_operator::clock::Clock;
use campos_operator::http::routes;
use campos_operator::operator::shutdown;
use campos_operator::service;
use campos_operator::simulator::world::Config;
use campos_operator::status::Board;
use sd_notify::NotifyState;
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::harness::{A, Daemon, Manifests, Simulator, TOKEN, binary, output, wait_until};

fn finished(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Answers every request with `answer`, until the test ends.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            assert!(head.count() > 0);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn health_is_an_exit_code_and_one_line() {
    // An unreachable server is no reason to restart the daemon.
    let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let mut command = binary();
    command.args(["run", "--listen", "127.0.0.1:0", "--api-url", &format!("http://{absent}"), "--manifests"]);
    command.arg(manifests.path());
    let daemon = Daemon::spawn(command);
    let url = format!("http://{}", daemon.address());
    let health = |server: &str| finished(&output(&["health", "--timeout", "10s", "--server", server]));
    assert_eq!(health(&url), (0, format!("healthy: {url}\n"), String::new()));
    daemon.freeze();
    let (code, stdout, stderr) = finished(&output(&["health", "--timeout", "200ms", "--server", &url]));
    assert_eq!((code, &*stdout), (1, ""));
    assert!(stderr.starts_with("error: unhealthy: no complete answer") && stderr.lines().count() == 1, "{stderr}");
    daemon.thaw();
    assert_eq!(health(&url).0, 0);
    for (answer, says) in [
        (
            "HTTP/1.1 503 X\r\ncontent-length: 32\r\n\r\n[-]loop failed\ncheck failed\n12345",
            "HTTP 503, [-]loop failed\n",
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "is not a campos-operator"),
        ("HTTP/1.1 404 X\r\ncontent-length: 0\r\n\r\n", "is not a campos-operator"),
        ("", "could not read from the daemon"),
    ] {
        let (code, stdout, stderr) = health(&answering(answer));
        assert_eq!((code, &*stdout), (1, ""), "{answer}");
        assert!(stderr.contains(says) && stderr.lines().count() == 1, "{says:?} is not in: {stderr}");
    }
    drop(daemon);
    let (code, _, stderr) = health(&url);
    assert!(code == 1 && stderr.contains("no daemon at"), "{stderr}");
}

/// In a container the port listens on every address, and a kubelet uses the address of the pod.
#[tokio::test]
async fn a_port_on_every_address_answers_probes_by_any_name() {
    for (loopback, expected) in [(false, 200), (true, 403)] {
        let router = routes(Board::default(), Clock::system(), loopback);
        for host in ["10.244.1.7:8080", "campos-operator.bots.svc:8080", "[fd00::7]:8080"] {
            let request = Request::get("/livez").header("host", host).body(Body::empty()).unwrap();
            assert_eq!(router.clone().oneshot(request).await.unwrap().status(), expected, "{host}");
        }
    }
}

/// A socket in the place of systemd, and the messages that it received.
struct ServiceManager {
    _directory: TempDir,
    /// Its address, as in `NOTIFY_SOCKET`.
    path: PathBuf,
    heard: Arc<Mutex<Vec<String>>>,
}

impl ServiceManager {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Self::listening(directory, path, socket)
    }

    /// At a name that is no file's.
    fn abstract_name() -> Self {
        let directory = tempfile::tempdir().unwrap();
        // Unique: it begins with the name of a new directory.
        let name = directory.path().join("notify").to_str().unwrap().to_owned();
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Self::listening(directory, format!("@{name}").into(), socket)
    }

    fn listening(directory: TempDir, path: PathBuf, socket: UnixDatagram) -> Self {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let lines = heard.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                lines.lock().unwrap().extend(text.lines().map(str::to_owned));
            }
        });
        Self { _directory: directory, path, heard }
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    #[track_caller]
    fn wait_for(&self, line: &str, times: usize) {
        let enough = || self.heard().iter().filter(|heard| *heard == line).count() >= times;
        wait_until(&format!("systemd hears {line} {times} time(s)"), enough, || format!("{:?}", self.heard()));
    }

    fn daemon(&self, url: &str, manifests: &Path, watchdog: Duration) -> Daemon {
        let mut command = binary();
        command.args(["run", "--listen", "127.0.0.1:0", "--api-url", url, "--manifests"]).arg(manifests);
        command.env("NOTIFY_SOCKET", &self.path).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        Daemon::spawn(command)
    }
}

#[test]
fn systemd_is_notified_of_the_start_the_status_and_the_end() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let systemd = ServiceManager::start();
    let mut daemon = systemd.daemon(&simulator.url(), manifests.path(), Duration::from_millis(100));
    systemd.wait_for("READY=1", 1);
    assert_eq!(systemd.heard()[0], "READY=1", "nothing comes before it");
    systemd.wait_for("STATUS=1 app: 1 ready, 0 need a person", 1);
    systemd.wait_for("WATCHDOG=1", 5);
    daemon.signal("-TERM");
    assert_eq!(daemon.ends().code(), Some(0));
    systemd.wait_for("STOPPING=1", 1);
    assert_eq!(systemd.heard().iter().filter(|heard| *heard == "READY=1").count(), 1);
}

#[test]
fn an_abstract_socket_gets_the_same_notifications() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let systemd = ServiceManager::abstract_name();
    let daemon = systemd.daemon(&simulator.url(), manifests.path(), Duration::from_millis(100));
    systemd.wait_for("READY=1", 1);
    systemd.wait_for("WATCHDOG=1", 2);
    drop(daemon);
}

#[test]
fn a_failing_server_neither_delays_the_start_nor_starves_the_watchdog() {
    let absent = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let systemd = ServiceManager::start();
    let daemon = systemd.daemon(&format!("http://{absent}"), manifests.path(), Duration::from_millis(100));
    systemd.wait_for("READY=1", 1);
    systemd.wait_for("WATCHDOG=1", 5);
    let waiting = "STATUS=waiting for the first complete list of apps";
    let waits = || systemd.heard().iter().any(|heard| heard.starts_with(waiting));
    wait_until("the status reports it", waits, || format!("{:?}", systemd.heard()));
    drop(daemon);
}

#[test]
fn a_service_manager_that_does_not_read_delays_nothing() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let start = || {
        let mut command = binary();
        command.args(["run", "--listen", "127.0.0.1:0", "--api-url", &simulator.url(), "--manifests"]);
        command.arg(manifests.path()).env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "2000");
        Daemon::spawn(command)
    };
    // No socket: logged once.
    let daemon = start();
    daemon.wait_for("could not report to the service manager");
    daemon.wait_for("app stopped");
    drop(daemon);
    // A socket without a reader: its queue is full after a few messages.
    let _deaf = UnixDatagram::bind(&path).unwrap();
    let mut daemon = start();
    daemon.wait_for("apps are as declared");
    manifests.set("bot", A, "Running");
    wait_until("the app is started", || simulator.online(A), || daemon.log());
    daemon.signal("-TERM");
    assert_eq!(daemon.ends().code(), Some(0));
}

/// The loop is stalled: nothing reports progress while virtual time passes.
#[tokio::test(start_paused = true)]
async fn a_stalled_loop_does_not_feed_the_watchdog() {
    let (board, clock) = (Board::default(), Clock::system());
    let (stopper, signals) = shutdown::pair();
    let (sender, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let beat = Some(Duration::from_secs(30));
    tokio::spawn(service::report(board.clone(), clock, signals, beat, move |states: &[NotifyState<'_>]| {
        for state in states {
            sender.send(state.to_string()).unwrap();
        }
    }));
    let mut after = async |seconds: u64| {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let mut lines = Vec::new();
        while let Ok(line) = heard.try_recv() {
            lines.push(line);
        }
        lines.retain(|line| !line.starts_with("STATUS="));
        lines
    };
    let interval = Duration::from_secs(55);
    assert_eq!(after(3600).await, [""; 0], "a loop that never went round is not ready");
    board.heartbeat(clock.now(), interval);
    assert_eq!(after(1).await, ["READY=1", "WATCHDOG=1"]);
    assert_eq!(after(170).await, ["WATCHDOG=1"; 5], "three intervals");
    assert_eq!(after(3600).await, [""; 0]);
    board.heartbeat(clock.now(), interval);
    assert_eq!(after(30).await, ["WATCHDOG=1"]);
    stopper.request_stop();
    assert_eq!(after(1).await, ["STOPPING=1"]);
}

/// The unit's command line, variables and credential, run without systemd.
#[test]
fn the_command_line_of_the_unit_works() {
    let unit = include_str!("../../deploy/systemd/campos-operator.service");
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Stopped")]);
    let (credentials, state) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    std::fs::write(credentials.path().join("token"), format!("{TOKEN}\n")).unwrap();
    let manifests_path = manifests.path().to_str().unwrap();
    let unit = unit.replace("%d", credentials.path().to_str().unwrap()).replace("%S", state.path().to_str().unwrap());
    // systemd reads `%%` as a percent sign.
    let unit = unit.replace("/etc/campos-operator/manifests", manifests_path).replace("%%", "%");
    let values = |key: &str| -> Vec<String> {
        let lines = unit.lines().filter_map(|line| line.strip_prefix(key)).flat_map(|value| value.split(' '));
        lines.map(str::to_owned).collect()
    };
    let start = values("ExecStart=");
    assert_eq!(start[0], "/usr/local/bin/campos-operator");
    let systemd = ServiceManager::start();
    let mut command = binary();
    command.args(&start[1..]).env_remove("CAMPOSCLOUD_TOKEN").env("NOTIFY_SOCKET", &systemd.path);
    command.envs(values("Environment=").iter().map(|pair| pair.split_once('=').unwrap()));
    // As the unit's EnvironmentFile may.
    command.env("CAMPOS_OPERATOR_API_URL", simulator.url()).env("CAMPOS_OPERATOR_LISTEN", "127.0.0.1:0");
    let daemon = Daemon::spawn(command);
    systemd.wait_for("READY=1", 1);
    daemon.wait_for("app stopped");
    assert!(state.path().join("campos-operator/history.jsonl").exists());
}

#[test]
fn every_command_has_a_man_page() {
    let main = finished(&output(&["man"]));
    assert!(main.0 == 0 && main.1.contains(".TH campos-operator 1") && main.2.is_empty(), "{main:?}");
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("man1");
    assert_eq!(finished(&output(&["man", "--out", out.to_str().unwrap()])), (0, String::new(), String::new()));
    let help = finished(&output(&["--help"])).1;
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A long summary continues in a line with more indentation.
    let names = commands.filter(|line| !line.starts_with("   ")).filter_map(|line| line.split_whitespace().next());
    let mut names: Vec<_> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 10 && names.contains(&"run"), "{help}");
    names.push("");
    for name in &names {
        let file = format!("campos-operator-{name}.1").replace("-.1", ".1");
        let page = std::fs::read_to_string(out.join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(page.contains(".SH SYNOPSIS") && page.contains("CAMPOS_OPERATOR_LOG_LEVEL"), "{file}");
    }
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), names.len(), "nothing else");
}
