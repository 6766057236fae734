//! The way of a request to the server: dead connections, certificates, proxies, addresses with passwords.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use campos_operator::simulator::world::Config;

use crate::harness::{A, B, Daemon, Manifests, Simulator, binary, wait_until};

/// Passes connections on to a server, and resets those that were declared dead at their next byte.
struct Relay {
    address: SocketAddr,
    opened: Arc<AtomicUsize>,
    dead: Arc<AtomicUsize>,
    died: Arc<AtomicUsize>,
}

impl Relay {
    fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let relay = Self { address, opened: Arc::default(), dead: Arc::default(), died: Arc::default() };
        let (opened, dead, died) = (relay.opened.clone(), relay.dead.clone(), relay.died.clone());
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let number = opened.fetch_add(1, Ordering::SeqCst) + 1;
                let (dead, died) = (dead.clone(), died.clone());
                thread::spawn(move || pass_on(client, TcpStream::connect(server).unwrap(), number, &dead, &died));
            }
        });
        relay
    }

    fn kill_all(&self) {
        self.dead.store(self.opened.load(Ordering::SeqCst), Ordering::SeqCst);
    }

    fn died(&self) -> usize {
        self.died.load(Ordering::SeqCst)
    }
}

fn pass_on(mut client: TcpStream, mut server: TcpStream, number: usize, dead: &AtomicUsize, died: &AtomicUsize) {
    let (mut back, mut answers) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let answering = thread::spawn(move || {
        // Either end may go away at any time.
        let _ = std::io::copy(&mut answers, &mut back);
    });
    let mut bytes = [0; 4096];
    while let Ok(1..) = client.peek(&mut bytes) {
        if number <= dead.load(Ordering::SeqCst) {
            died.fetch_add(1, Ordering::SeqCst);
            break;
        }
        let Ok(length) = client.read(&mut bytes) else { break };
        if server.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
    let _ = answering.join();
    // Dropping a socket with unread bytes sends a reset.
}

#[test]
fn after_a_failover_the_first_attempt_of_a_call_succeeds() {
    let simulator = Simulator::start(Config::default(), &[A, B]);
    let relay = Relay::start(simulator.address);
    let manifests = Manifests::new(&[("bot-a", A, "Running"), ("bot-b", B, "Running")]);
    let mut command = binary();
    command.args(["run", "--listen", "off", "--api-url", &format!("http://{}/v1", relay.address), "--manifests"]);
    command.arg(manifests.path());
    let daemon = Daemon::spawn(command);
    manifests.set("bot-a", A, "Stopped");
    daemon.wait_for("app stopped");
    relay.kill_all();
    manifests.set("bot-b", B, "Stopped");
    wait_until("bot-b is stopped", || !simulator.online(B), || daemon.log());
    daemon.wait_for_times("app stopped", 2);
    let log = daemon.log();
    assert!(relay.died() > 0, "no dead connection was used, so the test shows nothing");
    assert!(!log.contains("WARN") && !log.contains("attempt=2"), "{log}");
}

/// Runs `plan` with variables, and returns what it wrote to stderr. It fails.
fn plan(url: &str, variables: &[(&str, &str)]) -> String {
    let manifests = Manifests::new(&[("bot-a", A, "Running")]);
    let mut command = binary();
    command.args(["plan", "--api-url", url, "--manifests"]).arg(manifests.path());
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    stderr
}

/// An address where nothing listens.
fn closed() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_connection_error_is_one_line_with_host_cause_and_remedy() {
    let closed = closed();
    let stderr = plan(&format!("http://{closed}"), &[]);
    assert!(stderr.contains(&format!("connection refused ({closed}); check --api-url")), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_certificate_file_that_is_missing_or_empty_warns() {
    let url = format!("https://{}", closed());
    let empty = tempfile::NamedTempFile::new().unwrap();
    for file in ["/nowhere/ca.pem", empty.path().to_str().unwrap()] {
        let stderr = plan(&url, &[("SSL_CERT_FILE", file)]);
        assert!(stderr.contains(&format!("SSL_CERT_FILE={file}: ")), "{stderr}");
        assert!(stderr.contains("no certificate authority is trusted"), "{stderr}");
    }
    let stderr = plan(&url, &[("SSL_CERT_FILE", "")]);
    assert!(!stderr.contains("SSL_CERT_FILE") && stderr.contains("connection refused"), "{stderr}");
}

#[test]
fn the_proxy_variables_are_read_as_documented() {
    let (server, proxy) = (closed(), closed());
    let (url, through) = (format!("https://{server}"), format!("http://user:hush@{proxy}"));
    let stderr = plan(&url, &[("HTTPS_PROXY", &through)]);
    assert!(stderr.contains(&format!("connection refused ({server}, through the proxy {proxy})")), "{stderr}");
    for variables in [
        &[("HTTPS_PROXY", &*through), ("NO_PROXY", "*")][..],
        &[("https_proxy", ""), ("ALL_PROXY", "")],
        &[("HTTP_PROXY", &*through)],
    ] {
        let stderr = plan(&url, variables);
        assert!(stderr.contains(&format!("connection refused ({server})")), "{variables:?} {stderr}");
    }
    let stderr = plan(&url, &[("HTTPS_PROXY", "http://user:hush@:x")]);
    assert!(stderr.contains("HTTPS_PROXY is not the address of a proxy") && !stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_password_in_an_address_is_never_shown() {
    for arguments in [
        &["plan", "--api-url", "https://user:hush@host"][..],
        &["run", "--api-url", "https://user:hush@host:port:port"],
        &["import", "--api-url", "user:hush@host"],
        &["get", "--server", "http://user:hush@127.0.0.1:1"],
        &["health", "--server", "http://user:hush@host:port"],
        &["wait", "--all", "--for=condition=Ready", "--server", "user:hush@"],
    ] {
        let output = binary().args(arguments).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert_eq!(output.status.code(), Some(1), "{arguments:?} {text}");
        assert!(text.contains("user name or a password") && !text.contains("hush"), "{arguments:?} {text}");
    }
    for (verb, variable) in [("run", "CAMPOS_OPERATOR_API_URL"), ("get", "CAMPOS_OPERATOR_SERVER")] {
        let output = binary().args([verb, "--help"]).env(variable, "https://user:hush@host").output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains(variable) && !help.contains("hush"), "{help}");
    }
}
