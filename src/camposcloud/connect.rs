//! The address that a new connection goes to.
//!
//! reqwest divides the connect deadline among the addresses of a family, so a dead first one costs seconds.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Head start of an address over the next one (RFC 8305, "Happy Eyeballs"): the cost of a dead first address.
const HEAD_START: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(super) struct NameError(#[source] pub(super) io::Error);

/// Resolves the name of a host. The address that accepts a connection first is the first one.
///
/// It tries each address with a connection that it closes at once, so a new connection to a host with several addresses
/// costs one more TCP handshake. New connections are rare: the pool keeps them for an hour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver {
    /// The port of the server, or of its proxy.
    pub(super) port: u16,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let port = self.port;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), port)).await.map_err(NameError)?;
            let mut addresses = by_turns(found.collect());
            if addresses.len() > 1
                && let Some(first) = first_connected(addresses.clone(), TcpStream::connect).await
            {
                addresses.retain(|address| *address != first);
                addresses.push_front(first);
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Alternates between the families of addresses, because mostly a whole family does not work.
fn by_turns(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().copied() else { return VecDeque::new() };
    let (same, other): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv4() == first.is_ipv4());
    let mut other = other.into_iter();
    let mut turns = VecDeque::new();
    for address in same {
        turns.push_back(address);
        turns.extend(other.next());
    }
    turns.extend(other);
    turns
}

/// The first address that accepts a connection. Each has a head start over the next; a refusal ends it at once.
async fn first_connected<T, F>(
    mut addresses: VecDeque<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Option<SocketAddr>
where
    F: Future<Output = io::Result<T>> + Send + 'static,
{
    let mut attempts = JoinSet::new();
    loop {
        if let Some(address) = addresses.pop_front() {
            let attempt = connect(address);
            attempts.spawn(async move { attempt.await.is_ok().then_some(address) });
        }
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Some(address))) => return Some(address),
                Some(_) => {}
                None => return None,
            },
            () = tokio::time::sleep(HEAD_START), if !addresses.is_empty() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// Connects if the first octet is a 1, waits forever at a 2, refuses otherwise. Returns the address and the time.
    async fn connect(texts: &[&str]) -> (Option<SocketAddr>, Duration) {
        let began = tokio::time::Instant::now();
        let connected = first_connected(addresses(texts).into(), |address| async move {
            match address.to_string().as_bytes()[0] {
                b'1' => Ok(()),
                b'2' => std::future::pending().await,
                _ => Err(io::ErrorKind::ConnectionRefused.into()),
            }
        })
        .await;
        (connected, began.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_first_address_costs_250_ms() {
        let case = async |texts: &[&str], milliseconds: u64| {
            let (connected, took) = connect(texts).await;
            assert_eq!(connected.unwrap().port(), 1, "{texts:?}");
            assert_eq!(took, Duration::from_millis(milliseconds), "{texts:?}");
        };
        case(&["1.0.0.1:1"], 0).await;
        case(&["2.0.0.1:2", "1.0.0.1:1"], 250).await;
        case(&["2.0.0.1:2", "2.0.0.2:2", "1.0.0.1:1"], 500).await;
        case(&["3.0.0.1:2", "1.0.0.1:1"], 0).await;
        case(&["2.0.0.1:2", "3.0.0.1:2", "1.0.0.1:1"], 250).await;
        assert_eq!(connect(&["3.0.0.1:2", "3.0.0.2:2"]).await.0, None);
        assert_eq!(connect(&[]).await.0, None);
    }

    #[test]
    fn the_families_of_addresses_take_turns() {
        let sorted = by_turns(addresses(&["[::1]:1", "[::2]:1", "1.0.0.1:1", "1.0.0.2:1", "1.0.0.3:1"]));
        assert_eq!(sorted, addresses(&["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "1.0.0.3:1"]));
        assert_eq!(by_turns(addresses(&["1.0.0.1:1"])), addresses(&["1.0.0.1:1"]));
    }
}
