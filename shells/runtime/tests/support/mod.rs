//! A server on an ephemeral port and clients that speak HTTP/1 by hand, so that each byte counts.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use dms_runtime::settings::names::HTTP_ADDR;
use dms_runtime::{Drained, Server, ServerLimits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A wait that fails the test rather than hanging it.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("ends in time")
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<Drained>,
}

impl Running {
    pub(crate) async fn start(router: Router, limits: ServerLimits, grace: Duration) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(&HTTP_ADDR, address).await.expect("bound").with_limits(limits);
        let address = server.local_addr();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(server.serve(router, stop.clone(), grace));
        Self { address, stop, serving }
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.address).await.expect("connected")
    }

    pub(crate) async fn stopped(self) -> Drained {
        self.stop.cancel();
        patiently(self.serving).await.expect("no panic")
    }
}

/// One HTTP/1.1 connection.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) closes: bool,
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, unread: Vec::new() })
    }

    pub(crate) async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }

    pub(crate) async fn get(&mut self, path: &str) -> io::Result<Answer> {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).await?;
        self.answer().await
    }

    /// The next whole answer; `UnexpectedEof` if the connection ends before or within it.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let head_end = loop {
            if let Some(at) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.unread[..head_end]).to_lowercase();
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().expect("a number"));
        while self.unread.len() < head_end + length {
            self.more().await?;
        }
        let rest = self.unread.split_off(head_end + length);
        let body = std::mem::replace(&mut self.unread, rest).split_off(head_end);
        let closes = head.lines().any(|line| line == "connection: close");
        Ok(Answer { status: status.expect("a status"), closes, body })
    }

    /// Whether the server has closed the connection, without another byte.
    pub(crate) async fn closed(&mut self) -> bool {
        self.unread.is_empty()
            && matches!(self.more().await, Err(error) if error.kind() == io::ErrorKind::UnexpectedEof)
    }

    async fn more(&mut self) -> io::Result<()> {
        let mut bytes = vec![0; 16 * 1024];
        match self.stream.read(&mut bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.unread.extend_from_slice(&bytes[..read]);
                Ok(())
            }
        }
    }
}
