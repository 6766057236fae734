//! The transport against servers on loopback that misbehave on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Behaviour of a server for a request.
enum Does {
    Answer(&'static str),
    /// Closes the connection properly.
    Close,
    /// Resets the connection.
    Reset,
    /// Sends a part of a response and closes.
    Part(&'static str),
    /// Says nothing.
    Nothing,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

/// A server on a free port. The script gets the number of the connection and that of the request on it, both from 1.
struct Server {
    port: u16,
    log: Arc<Mutex<Vec<(usize, usize)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    async fn start<F, S>(script: S) -> Self
    where
        S: Fn(usize, usize) -> F + Send + Sync + 'static,
        F: Future<Output = Does> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (entries, script) = (log.clone(), Arc::new(script));
        let task = tokio::spawn(async move {
            for connection in 1.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (entries, script) = (entries.clone(), script.clone());
                tokio::spawn(async move {
                    for request in 1.. {
                        if !read_head(&mut stream).await {
                            return;
                        }
                        entries.lock().unwrap().push((connection, request));
                        match script(connection, request).await {
                            Does::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                            Does::Close => return,
                            Does::Reset => return stream.set_zero_linger().unwrap(),
                            Does::Part(bytes) => return stream.write_all(bytes.as_bytes()).await.unwrap(),
                            Does::Nothing => std::future::pending().await,
                        }
                    }
                });
            }
        });
        Self { port, log, task }
    }

    fn log(&self) -> Vec<(usize, usize)> {
        self.log.lock().unwrap().clone()
    }

    fn client(&self) -> Transport {
        Transport::new(&self.ask().url, None, trusting())
    }

    fn ask(&self) -> Outgoing {
        ask(&format!("http://127.0.0.1:{}/", self.port))
    }
}

fn ask(url: &str) -> Outgoing {
    Outgoing {
        method: Method::POST,
        url: url.parse().unwrap(),
        authorization: HeaderValue::from_static("Bearer x"),
        idempotent: true,
        deadline: Duration::from_secs(20),
        cap: 1024,
    }
}

/// Reads up to the end of a request's head; `false` where there is none.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}

/// Trusts the authority of the tests and no other.
fn trusting() -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(include_str!("../../tls/testdata/authority.pem")));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn acceptor(certificate: &str, key: &str, protocol: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(certificates(certificate), PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap())
        .unwrap();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

#[track_caller]
fn answered(exchange: &Exchange, status: u16, repeats: u32) {
    let found = exchange.result.as_ref().map(|answer| answer.status).map_err(|lost| lost.error.to_string());
    assert_eq!((found, exchange.repeats), (Ok(status), repeats));
}

#[track_caller]
fn lost(exchange: Exchange, verdict: Verdict, repeats: u32) -> String {
    let lost = exchange.result.err().unwrap();
    assert_eq!((lost.verdict, exchange.repeats), (verdict, repeats), "{}", lost.error);
    lost.error.to_string()
}

/// Two requests: the first opens the connection, the second is met by `does`. New connections answer.
async fn second_meets(does: fn() -> Does) -> (Exchange, Vec<(usize, usize)>) {
    let server = Server::start(move |connection, request| async move {
        if (connection, request) == (1, 2) { does() } else { Does::Answer(OK) }
    })
    .await;
    let client = server.client();
    answered(&client.exchange(&server.ask()).await, 200, 0);
    let second = client.exchange(&server.ask()).await;
    (second, server.log())
}

#[tokio::test]
async fn a_dead_pooled_connection_is_not_a_failure() {
    for does in
        [|| Does::Reset, || Does::Close, || Does::Answer("HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")]
    {
        let (exchange, log) = second_meets(does).await;
        answered(&exchange, 200, 1);
        assert_eq!(log, [(1, 1), (1, 2), (2, 1)]);
    }
}

#[tokio::test]
async fn any_number_of_dead_connections_costs_nothing() {
    const POOLED: usize = 9;
    let together = Arc::new(Barrier::new(POOLED));
    let server = Server::start(move |connection, request| {
        let together = together.clone();
        async move {
            match (connection, request) {
                (1..=POOLED, 1) => {
                    together.wait().await;
                    Does::Answer(OK)
                }
                (1..=POOLED, _) => Does::Reset,
                _ => Does::Answer(OK),
            }
        }
    })
    .await;
    let client = Arc::new(server.client());
    let requests = || {
        let mut requests = tokio::task::JoinSet::new();
        for _ in 0..POOLED {
            let (client, ask) = (client.clone(), server.ask());
            requests.spawn(async move { client.exchange(&ask).await });
        }
        requests.join_all()
    };
    for exchange in requests().await {
        answered(&exchange, 200, 0);
    }
    for exchange in requests().await {
        answered(&exchange, 200, 1);
    }
    let mut dead = server.log().split_off(POOLED);
    dead.retain(|(connection, _)| *connection <= POOLED);
    dead.sort_unstable();
    assert_eq!(dead, (1..=POOLED).map(|connection| (connection, 2)).collect::<Vec<_>>());
    assert_eq!(server.log().len(), 3 * POOLED);
}

#[tokio::test]
async fn a_connection_opened_for_the_request_loses_the_response() {
    for does in [|| Does::Reset, || Does::Close] {
        let server = Server::start(move |_, _| async move { does() }).await;
        let text = lost(server.client().exchange(&server.ask()).await, Verdict::LostAnswer, 0);
        assert!(text.ends_with(&format!("(127.0.0.1:{})", server.port)), "{text}");
        assert_eq!(server.log(), [(1, 1)]);
    }
}

#[tokio::test]
async fn a_request_is_repeated_once() {
    let server = Server::start(|connection, request| async move {
        if (connection, request) == (1, 1) { Does::Answer(OK) } else { Does::Reset }
    })
    .await;
    let client = server.client();
    answered(&client.exchange(&server.ask()).await, 200, 0);
    lost(client.exchange(&server.ask()).await, Verdict::LostAnswer, 1);
    assert_eq!(server.log(), [(1, 1), (1, 2), (2, 1)]);
}

#[tokio::test]
async fn a_response_that_has_begun_is_a_lost_response() {
    for does in [
        || Does::Part("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"),
        || Does::Part("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        || Does::Answer("SSH-2.0-OpenSSH_9.6\r\n"),
    ] {
        let (exchange, log) = second_meets(does).await;
        lost(exchange, Verdict::LostAnswer, 0);
        assert_eq!(log, [(1, 1), (1, 2)]);
    }
    // The limit: reqwest does not distinguish these from no byte at all.
    for does in [|| Does::Part("H"), || Does::Part("HTTP/1.1 200 OK\r\ncontent-le")] {
        answered(&second_meets(does).await.0, 200, 1);
    }
}

#[tokio::test]
async fn any_part_of_a_response_on_a_new_connection_is_a_lost_response() {
    for does in [|| Does::Part("H"), || Does::Part("HTTP/1.1 200 OK\r\ncontent-le")] {
        let server = Server::start(move |_, _| async move { does() }).await;
        lost(server.client().exchange(&server.ask()).await, Verdict::LostAnswer, 0);
        assert_eq!(server.log(), [(1, 1)]);
    }
}

#[tokio::test]
async fn a_call_that_must_not_be_made_twice_gets_a_connection_of_its_own() {
    let server =
        Server::start(|connection, _| async move { if connection == 3 { Does::Reset } else { Does::Answer(OK) } })
            .await;
    let client = server.client();
    answered(&client.exchange(&server.ask()).await, 200, 0);
    let once = Outgoing { idempotent: false, ..server.ask() };
    answered(&client.exchange(&once).await, 200, 0);
    lost(client.exchange(&once).await, Verdict::LostAnswer, 0);
    assert_eq!(server.log(), [(1, 1), (2, 1), (3, 1)]);
}

#[tokio::test]
async fn a_timeout_is_never_repeated_and_the_other_connections_are_not_used_again() {
    let server = Server::start(|connection, request| async move {
        if (connection, request) == (1, 2) { Does::Nothing } else { Does::Answer(OK) }
    })
    .await;
    let client = server.client();
    answered(&client.exchange(&server.ask()).await, 200, 0);
    let hasty = Outgoing { deadline: Duration::from_millis(50), ..server.ask() };
    let text = lost(client.exchange(&hasty).await, Verdict::LostAnswer, 0);
    assert_eq!(text, format!("no whole answer within 50ms (127.0.0.1:{})", server.port));
    answered(&client.exchange(&server.ask()).await, 200, 0);
    assert_eq!(server.log(), [(1, 1), (1, 2), (2, 1)]);
}

#[tokio::test]
async fn a_repeat_without_a_connection_leaves_the_first_response_lost() {
    let stop = Arc::new(tokio::sync::Notify::new());
    let stopped = stop.clone();
    let server = Server::start(move |_, request| {
        let stopped = stopped.clone();
        async move {
            if request == 1 {
                return Does::Answer(OK);
            }
            stopped.notified().await;
            Does::Reset
        }
    })
    .await;
    let client = Arc::new(server.client());
    answered(&client.exchange(&server.ask()).await, 200, 0);
    let (again, ask) = (client.clone(), server.ask());
    let second = tokio::spawn(async move { again.exchange(&ask).await });
    while server.log().len() < 2 {
        tokio::task::yield_now().await;
    }
    server.task.abort();
    while TcpStream::connect(("127.0.0.1", server.port)).await.is_ok() {}
    stop.notify_one();
    lost(second.await.unwrap(), Verdict::LostAnswer, 1);
    // Without a connection before it, the refusal proves that nothing was done.
    let text = lost(client.exchange(&server.ask()).await, Verdict::Retry, 0);
    assert!(text.starts_with("connection refused (127.0.0.1:"), "{text}");
}

/// Serves HTTP/2 over TLS by hand: answers the first request of each connection (with `answers` set), and reports by a
/// GOAWAY that it did not process the others. nginx does so at `keepalive_requests 1`.
async fn one_request_a_connection(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answers: bool,
) -> std::io::Result<()> {
    const HEADERS: u8 = 1;
    const SETTINGS: u8 = 4;
    const GOAWAY: u8 = 7;
    let frame = |kind: u8, flags: u8, stream: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    };
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    stream.flush().await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?,
            (HEADERS, _) => {
                let first = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if answers {
                    // 0x88 is `:status: 200` in HPACK's static table; END_STREAM and END_HEADERS.
                    stream.write_all(&frame(HEADERS, 5, first, &[0x88])).await?;
                }
                let goaway: Vec<u8> = [if answers { first } else { 0 }.to_be_bytes(), [0; 4]].concat();
                stream.write_all(&frame(GOAWAY, 0, 0, &goaway)).await?;
                stream.flush().await?;
                // Closes only after the client does, so that nothing that was sent is lost.
                let mut rest = Vec::new();
                stream.read_to_end(&mut rest).await?;
                return Ok(());
            }
            _ => {}
        }
        stream.flush().await?;
    }
}

/// Starts such a server; returns its address and the number of connections that were used.
async fn goaway_server(answers: bool) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (certificate, key) =
        (include_str!("../../tls/testdata/server.pem"), include_str!("../../tls/testdata/server.key"));
    let acceptor = acceptor(certificate, key, "h2");
    let used = Arc::new(AtomicUsize::new(0));
    let count = used.clone();
    tokio::spawn(async move {
        loop {
            let stream = next_used(&listener).await;
            count.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move { one_request_a_connection(acceptor.accept(stream).await?, answers).await });
        }
    });
    (format!("https://localhost:{port}/"), used)
}

#[tokio::test]
async fn an_unprocessed_request_that_must_not_be_made_twice_is_left_to_the_caller() {
    let (url, used) = goaway_server(false).await;
    let once = Outgoing { idempotent: false, ..ask(&url) };
    lost(Transport::new(&once.url, None, trusting()).exchange(&once).await, Verdict::Retry, 0);
    assert_eq!(used.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn streams_that_a_goaway_leaves_unprocessed_are_not_lost_responses() {
    const REQUESTS: usize = 12;
    let (url, _) = goaway_server(true).await;
    let client = Arc::new(Transport::new(&ask(&url).url, None, trusting()));
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..REQUESTS {
        // Every unprocessed request may be sent twice.
        let (client, ask) = (client.clone(), ask(&url));
        requests.spawn(async move { client.exchange(&ask).await });
    }
    let mut repeats = 0;
    for exchange in requests.join_all().await {
        answered(&exchange, 200, exchange.repeats);
        repeats += exchange.repeats;
    }
    assert!(repeats > 0, "the requests did not share a connection, so the test shows nothing");
}

/// The next connection with a byte: the client may probe addresses.
async fn next_used(listener: &TcpListener) -> TcpStream {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        if let Ok(1..) = stream.peek(&mut [0]).await {
            return stream;
        }
    }
}

#[tokio::test]
async fn a_connection_that_another_request_leaves_meanwhile_is_a_reused_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ask = ask(&format!("https://localhost:{}/", listener.local_addr().unwrap().port()));
    let (certificate, key) =
        (include_str!("../../tls/testdata/server.pem"), include_str!("../../tls/testdata/server.key"));
    let acceptor = acceptor(certificate, key, "http/1.1");
    let busy = Arc::new(tokio::sync::Notify::new());
    let first_asked = busy.clone();
    tokio::spawn(async move {
        let mut first = acceptor.accept(next_used(&listener).await).await.unwrap();
        assert!(read_head(&mut first).await);
        first_asked.notify_one();
        // The second request opens a connection, which never gets ready. So it takes the first one, which then dies.
        let _slow = next_used(&listener).await;
        first.write_all(OK.as_bytes()).await.unwrap();
        assert!(read_head(&mut first).await);
        drop(first);
        let mut third = acceptor.accept(next_used(&listener).await).await.unwrap();
        assert!(read_head(&mut third).await);
        third.write_all(OK.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = Transport::new(&ask.url, None, trusting());
    let second = async {
        busy.notified().await;
        client.exchange(&ask).await
    };
    let (first, second) = tokio::join!(client.exchange(&ask), second);
    answered(&first, 200, 0);
    answered(&second, 200, 1);
}

/// The error of a request to a TLS server with a certificate of the tests.
async fn tls_error(certificate: &'static str, key: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let acceptor = acceptor(certificate, key, "http/1.1");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move { drop(acceptor.accept(stream).await) });
        }
    });
    let ask = ask(&format!("https://localhost:{port}/"));
    let text = lost(Transport::new(&ask.url, None, trusting()).exchange(&ask).await, Verdict::Retry, 0);
    text.replace(&format!("localhost:{port}"), "localhost")
}

#[tokio::test]
async fn a_certificate_error_says_what_is_wrong_with_it() {
    let text =
        tls_error(include_str!("../../tls/testdata/expired.pem"), include_str!("../../tls/testdata/expired.key")).await;
    assert!(text.starts_with("the certificate expired at 2021-01-01T00:00:00Z (localhost); "), "{text}");
    let text =
        tls_error(include_str!("../../tls/testdata/other.pem"), include_str!("../../tls/testdata/other.key")).await;
    assert!(text.starts_with("the certificate is for another host (localhost); check the host"), "{text}");
    let text =
        tls_error(include_str!("../../tls/testdata/authority.pem"), include_str!("../../tls/testdata/authority.key"))
            .await;
    assert!(text.starts_with("the certificate is that of an authority, not that of a server (localhost); "), "{text}");
}

#[tokio::test]
async fn other_protocols_are_named() {
    let server = Server::start(|_, _| async { Does::Part("SSH-2.0-OpenSSH_9.6\r\n") }).await;
    let text = lost(server.client().exchange(&server.ask()).await, Verdict::LostAnswer, 0);
    assert!(text.starts_with("the server does not speak HTTP (127.0.0.1:"), "{text}");

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            let _ = stream.read(&mut hello).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let ask = ask(&format!("https://localhost:{port}/"));
    let text = lost(Transport::new(&ask.url, None, trusting()).exchange(&ask).await, Verdict::Retry, 0);
    assert!(text.starts_with(&format!("the server does not speak TLS (localhost:{port}); ")), "{text}");
}

#[tokio::test]
async fn a_connection_that_does_not_come_about_within_the_deadline_is_named() {
    // Accepts without an answer to TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ask = ask(&format!("https://{address}/"));
    let client = Transport::new(&ask.url, None, trusting());
    tokio::time::pause();
    let text = lost(client.exchange(&ask).await, Verdict::Retry, 0);
    assert_eq!(text, format!("no connection within 5s ({address}); check the network and the firewall"));
}

#[tokio::test]
async fn a_name_that_has_no_address_is_named() {
    let ask = ask("https://name.invalid/");
    let text = lost(Transport::new(&ask.url, None, trusting()).exchange(&ask).await, Verdict::Retry, 0);
    assert!(text.starts_with("the name cannot be resolved (") && text.contains("(name.invalid:443); check"), "{text}");
}

#[tokio::test]
async fn a_proxy_that_refuses_is_named_without_its_password() {
    for (answer, expected) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "the proxy requires a password (407)"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy refuses the connection"),
    ] {
        let server = Server::start(move |_, _| async move { Does::Part(answer) }).await;
        let ask = ask("https://api.test/");
        let variable = format!("http://user:hush@127.0.0.1:{}", server.port);
        let proxy = Proxy::from_variables(&ask.url, true, |name| (name == "HTTPS_PROXY").then(|| variable.clone()));
        let client = Transport::new(&ask.url, proxy.unwrap(), trusting());
        assert!(!format!("{client:?}").contains("hush"), "{client:?}");
        let text = lost(client.exchange(&ask).await, Verdict::Retry, 0);
        let place = format!("(api.test:443, through the proxy 127.0.0.1:{}); ", server.port);
        assert!(text.starts_with(&format!("{expected} {place}")), "{text}");
    }
}
