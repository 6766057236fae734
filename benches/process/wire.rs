//! HTTP/1.1 written by hand: the least that one keep-alive request can cost.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// The most that one read takes.
const CHUNK: usize = 64 * 1024;

/// A connection that stays open.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    host: SocketAddr,
    buffer: Vec<u8>,
    chunk: Box<[u8]>,
}

impl Wire {
    pub(crate) fn open(host: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, host, buffer: Vec::with_capacity(CHUNK), chunk: vec![0; CHUNK].into() })
    }

    /// Sends a request without a body and reads the whole answer. Returns the answer's body.
    pub(crate) fn ask(&mut self, method: &str, target: &str) -> io::Result<&[u8]> {
        let host = self.host;
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer bench\r\ncontent-length: 0\r\n\r\n"
        );
        self.stream.write_all(request.as_bytes())?;
        self.buffer.clear();
        loop {
            if let Some(head) = self.buffer.windows(4).take(4096).position(|window| window == b"\r\n\r\n") {
                let length = content_length(&self.buffer[..head])?;
                while self.buffer.len() < head + 4 + length {
                    self.fill()?;
                }
                return Ok(&self.buffer[head + 4..head + 4 + length]);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> io::Result<()> {
        match self.stream.read(&mut self.chunk)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.buffer.extend_from_slice(&self.chunk[..length]);
                Ok(())
            }
        }
    }
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    let head = str::from_utf8(head).map_err(io::Error::other)?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    length.and_then(|(_, value)| value.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
