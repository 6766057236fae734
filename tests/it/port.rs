//! The port and bad clients: slow ones, unread responses, odd heads.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{A, DEADLINE, Daemon, Manifests, Simulator, binary, http, manifest, output, wait_until};
use campos_operator::simulator::world::Config;

const SETTLED: &str = "apps are as declared";

/// Sends `head` as it stands and reads the response to its end.
fn raw(address: SocketAddr, head: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn status(address: SocketAddr, head: &str) -> u16 {
    raw(address, head).split(' ').nth(1).unwrap().parse().unwrap()
}

/// A daemon with one settled app.
fn settled(flags: &[&str]) -> (Simulator, Manifests, Daemon) {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, flags);
    daemon.wait_for(SETTLED);
    (simulator, manifests, daemon)
}

#[test]
fn heads_of_every_kind() {
    let (_simulator, _manifests, daemon) = settled(&["--allow-host", "Ops.Example.", "--allow-host", "second.example"]);
    let address = daemon.address();
    for path in ["/livez", "/healthz", "/readyz", "/readyz?verbose"] {
        assert_eq!(status(address, &format!("GET {path} HTTP/1.0\r\n\r\n")), 200, "{path}");
    }
    for path in ["/api/v1/apps", "/metrics", "/", "/livez/x"] {
        assert_eq!(status(address, &format!("GET {path} HTTP/1.0\r\n\r\n")), 403, "{path}");
    }
    let with = |lines: &str| status(address, &format!("GET /livez HTTP/1.1\r\n{lines}Connection: close\r\n\r\n"));
    for (lines, expected) in [
        ("Host: localhost.\r\n", 200),
        ("Host: LOCALHOST.:8080\r\n", 200),
        ("Host: [::ffff:127.0.0.1]:8080\r\n", 200),
        ("Host: 127.1.2.3\r\n", 200),
        ("Host: ops.example\r\n", 200),
        ("Host: OPS.example.:443\r\n", 200),
        ("Host: second.example\r\n", 200),
        ("Host: third.example\r\n", 403),
        ("Host: ops.example.evil.example\r\n", 403),
        ("Host: [::ffff:10.0.0.1]\r\n", 403),
        ("Host: localhost..\r\n", 403),
        ("", 403),
        ("Host: localhost\r\nHost: localhost\r\n", 400),
        ("Host: localhost\r\nhost: evil.example\r\n", 400),
    ] {
        assert_eq!(with(lines), expected, "{lines:?}");
    }
    assert_eq!(status(address, "POST /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n"), 400);
}

/// More slow connections than the port accepts, each of which returns when it is dropped.
#[test]
fn health_checks_are_answered_while_slow_clients_hold_every_place() {
    let (_simulator, manifests, daemon) = settled(&[]);
    let address = daemon.address();
    let slow = || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Padding: ").unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..600).map(|_| slow()).collect();
    wait_until("the places are taken", || daemon.descriptors() > 250, || daemon.descriptors().to_string());
    for round in 0..20 {
        let (sent, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || sent.send(http(address, "GET", "/livez")));
        assert_eq!(answered.recv_timeout(Duration::from_secs(2)), Ok((200, "ok\n".into())));
        for stream in held.iter_mut().skip(round).step_by(20) {
            if stream.write_all(b"x").is_err() {
                *stream = slow();
            }
        }
    }
    assert!(daemon.descriptors() < 320, "{}", daemon.descriptors());
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
}

/// The port takes a share of the process's own limit: with 64 files an edit is still read and called.
#[test]
fn readers_leave_the_operator_its_files_with_a_low_limit() {
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let run = format!(
        "ulimit -n 64; exec '{}' run --listen 127.0.0.1:0 --api-url {} --manifests '{}'",
        binary().get_program().to_str().unwrap(),
        simulator.url(),
        manifests.path().display()
    );
    let mut shell = std::process::Command::new("sh");
    shell.env_clear().env("PATH", "/usr/bin:/bin").env("CAMPOSCLOUD_TOKEN", crate::harness::TOKEN).args(["-c", &run]);
    let daemon = Daemon::spawn(shell);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let held: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(address).unwrap()).collect();
    wait_until("the places are taken", || daemon.descriptors() > 24, || daemon.descriptors().to_string());
    manifests.set("bot", A, "Stopped");
    daemon.wait_for("app stopped");
    assert_eq!(http(address, "GET", "/livez").0, 200);
    assert!(!daemon.log().contains("os error 24"), "{}", daemon.log());
    drop(held);
}

/// Ten megabytes for each of 60 clients that read nothing.
#[test]
fn unread_responses_use_bounded_memory() {
    let ids: Vec<String> = (0..50).map(|n| format!("id-{n}")).collect();
    let simulator = Simulator::start(Config::default(), &ids.iter().map(String::as_str).collect::<Vec<_>>());
    let manifests = Manifests::new(&[]);
    let note = format!("  annotations: {{note: {}}}\nspec:", "x".repeat(200_000));
    for id in &ids {
        manifests.put(id, &manifest(id, id, "Running").replace("spec:", &note));
    }
    let daemon = Daemon::start(&simulator, &manifests, &[]);
    daemon.wait_for(SETTLED);
    let address = daemon.address();
    let list = || http(address, "GET", "/api/v1/apps");
    wait_until("all are listed", || list().1.len() > 10_000_000, || list().1.len().to_string());
    let before = daemon.memory();
    let mut unread = Vec::new();
    for path in ["/api/v1/apps", "/api/v1/events", "/api/v1/apps"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(address).unwrap();
            // Otherwise the kernel would buffer ten megabytes.
            rustix::net::sockopt::set_socket_recv_buffer_size(&stream, 4096).unwrap();
            write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
            unread.push(stream);
        }
    }
    let ask = format!("GET /api/v1/apps HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let refused = || raw(address, &ask).chars().take(500).collect::<String>();
    wait_until("further ones are refused", || refused().starts_with("HTTP/1.1 503"), refused);
    assert!(refused().to_lowercase().contains("\r\nretry-after: "), "{}", refused());
    assert_eq!(http(address, "GET", "/livez").0, 200);
    // Apps change for the readers of the events.
    for id in &ids[..10] {
        manifests.put(id, &manifest(id, id, "Running").replace("spec:", &note.replace("note", "nota")));
    }
    let changed = || http(address, "GET", "/api/v1/apps/id-9").1.contains("nota");
    wait_until("the edits are seen", changed, || daemon.log());
    let grown = daemon.memory().saturating_sub(before) >> 20;
    // 32 MiB for the responses, and the memory to read ten large files again.
    assert!(grown < 96, "{grown} MiB more");
    drop(unread);
    wait_until("the room is free again", || list().0 == 200, || daemon.log());
}

#[test]
fn an_open_address_causes_one_warning() {
    let (_simulator, _manifests, daemon) = settled(&[]);
    assert!(!daemon.log().contains("other machines"), "{}", daemon.log());
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    for listen in ["0.0.0.0:0", ":0"] {
        let daemon = Daemon::start(&simulator, &manifests, &["--listen", listen]);
        daemon.wait_for(SETTLED);
        assert_eq!(daemon.log().matches("other machines can reach the HTTP port").count(), 1, "{}", daemon.log());
        let port = daemon.address().port();
        assert_eq!(http(SocketAddr::from(([127, 0, 0, 1], port)), "GET", "/livez").0, 200);
    }
}

#[test]
fn short_forms_of_addresses_are_accepted() {
    let (_simulator, _manifests, daemon) = settled(&[]);
    let port = daemon.address().port();
    for server in [format!(":{port}"), format!("localhost:{port}"), format!("http://127.0.0.1:{port}/")] {
        let health = output(&["health", "--server", &server]);
        assert!(health.status.success(), "{server}: {}", String::from_utf8_lossy(&health.stderr));
    }
    let simulator = Simulator::start(Config::default(), &[A]);
    let manifests = Manifests::new(&[("bot", A, "Running")]);
    let daemon = Daemon::start(&simulator, &manifests, &["--listen", "localhost:0"]);
    assert!(daemon.address().ip().is_loopback());
}
