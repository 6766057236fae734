//! The simulated world behind real HTTP. The faults of a response's delivery happen on the socket.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_stream::StreamExt as _;
use tracing::info;

use super::port::{SharedWorld, lock};
use super::world::{Delivery, Request, Response};
use crate::clock::Clock;

/// Makes `hyper` break the connection, as it does when a service or body fails.
#[derive(Debug, thiserror::Error)]
#[error("the fault rules break the connection here")]
pub struct Broken;

/// Serves `world` on `listener` until the task is dropped.
pub async fn serve(listener: std::net::TcpListener, world: SharedWorld, clock: Clock) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors: wait until some connections end.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Responses are small, and the client waits for each: Nagle's algorithm would only cost 40 ms.
        let _ = stream.set_nodelay(true);
        let world = world.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(world.clone(), clock, request));
            // The client or a fault rule ended the connection.
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Binds an address for [`serve`], so that the port is known before it is announced.
pub fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn answer(
    world: SharedWorld,
    clock: Clock,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<BoxBody<Bytes, Broken>>, Broken> {
    let bearer = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    let received = Request {
        method: request.method().as_str().to_owned(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        bearer: bearer.and_then(|value| value.strip_prefix("Bearer ")).map(ToOwned::to_owned),
    };
    let Response { status, headers, body, delay, delivery } = lock(&world).handle(&received, clock.wall());
    let fault = (delivery != Delivery::Whole).then_some(delivery);
    info!(
        method = received.method,
        path = received.path,
        query = received.query,
        status,
        fault = fault.map(tracing::field::debug),
        "request"
    );
    tokio::time::sleep(delay).await;
    let body = match delivery {
        Delivery::Refused | Delivery::Reset => return Err(Broken),
        Delivery::Hang => std::future::pending().await,
        Delivery::Whole => Full::new(Bytes::from(body)).map_err(|never: Infallible| match never {}).boxed(),
        Delivery::Truncated(bytes) => {
            let part = Bytes::copy_from_slice(&body[..bytes.min(body.len())]);
            let frames = tokio_stream::iter([Ok(Frame::data(part)), Err(Broken)]);
            return respond(status, headers, Some(body.len()), BodyExt::boxed(StreamBody::new(frames)));
        }
        Delivery::Drip => {
            let bytes = tokio_stream::iter(body).throttle(Duration::from_millis(100));
            StreamBody::new(bytes.map(|byte| Ok(Frame::data(Bytes::copy_from_slice(&[byte]))))).boxed()
        }
    };
    respond(status, headers, None, body)
}

fn respond(
    status: u16,
    headers: Vec<(String, String)>,
    length: Option<usize>,
    body: BoxBody<Bytes, Broken>,
) -> Result<hyper::Response<BoxBody<Bytes, Broken>>, Broken> {
    let mut response = hyper::Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    if let Some(length) = length {
        response = response.header("content-length", length);
    }
    // Only a fault file can set a status or header that is not valid HTTP.
    response.body(body).map_err(|_| Broken)
}
