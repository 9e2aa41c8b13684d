//! A small HTTP/1.1 load generator: keep-alive connections, one request in flight on each, little
//! work per request, since it shares the machine with what it measures.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its status, and the body's place in the connection's buffer.
pub(crate) struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
}

impl Connection {
    pub(crate) async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a whole request and reads the whole answer, which must have a `content-length`.
    pub(crate) async fn call(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let (head_end, length) = loop {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break (end + 4, content_length(&self.buffer[..end])?);
            }
        };
        while self.buffer.len() < head_end + length {
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = std::str::from_utf8(&self.buffer[9..12])
            .ok()
            .and_then(|status| status.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        Ok(Answer { status, body: &self.buffer[head_end..head_end + length] })
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn content_length(head: &[u8]) -> io::Result<usize> {
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.trim_ascii();
        if line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:") {
            return std::str::from_utf8(line[15..].trim_ascii())
                .ok()
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
    Ok(0)
}

/// A `GET` as bytes.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: bench\r\n\r\n").into_bytes()
}

/// A request with a JSON body as bytes.
pub(crate) fn json(method: &str, path: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What a load gave.
pub(crate) struct Load {
    pub per_second: f64,
    pub p50: Duration,
    pub p99: Duration,
    pub failures: u64,
}

/// Sends `total` requests, the n-th made by `request(n)`, over `connections` connections.
pub(crate) async fn load(
    address: SocketAddr,
    connections: usize,
    total: u64,
    expected: u16,
    request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> io::Result<Load> {
    let request = Arc::new(request);
    let next = Arc::new(AtomicU64::new(0));
    let started = Instant::now();
    let mut tasks = Vec::with_capacity(connections);
    for _ in 0..connections {
        let (request, next) = (Arc::clone(&request), Arc::clone(&next));
        tasks.push(tokio::spawn(async move {
            let mut connection = Connection::open(address).await?;
            let mut latencies = Vec::new();
            let mut failures = 0;
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= total {
                    return io::Result::Ok((latencies, failures));
                }
                let bytes = request(n);
                let sent = Instant::now();
                let answer = connection.call(&bytes).await?;
                failures += u64::from(answer.status != expected);
                latencies.push(sent.elapsed());
            }
        }));
    }
    let mut latencies = Vec::new();
    let mut failures = 0;
    for task in tasks {
        let (of_task, failed) = task.await.map_err(io::Error::other)??;
        latencies.extend(of_task);
        failures += failed;
    }
    let elapsed = started.elapsed();
    latencies.sort_unstable();
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index below the length"
        )]
        let index = (latencies.len() as f64 * share) as usize;
        latencies.get(index).copied().unwrap_or_default()
    };
    #[expect(clippy::cast_precision_loss, reason = "a rate to print")]
    let per_second = total as f64 / elapsed.as_secs_f64();
    Ok(Load { per_second, p50: at(0.5), p99: at(0.99), failures })
}
