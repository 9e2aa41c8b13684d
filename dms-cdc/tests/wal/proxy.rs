//! A line to the server that can be cut and frozen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Bytes pass.
    Open,
    /// Nothing passes, and nobody is told.
    Frozen,
    /// Connections are closed.
    Cut,
}

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    line: watch::Sender<Line>,
    /// Bytes that came from the server.
    pub(crate) received: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("port");
        let address = listener.local_addr().expect("address");
        let (line, _) = watch::channel(Line::Open);
        let received = Arc::new(AtomicU64::new(0));
        let (told, count) = (line.clone(), Arc::clone(&received));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let up = pump(client_read, server_write, told.subscribe(), Arc::default());
                let down = pump(server_read, client_write, told.subscribe(), Arc::clone(&count));
                tokio::spawn(async move {
                    tokio::select! {
                        () = up => {}
                        () = down => {}
                    }
                });
            }
        })
        .abort_handle();
        Self { address, line, received, task }
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Line::Cut);
        self.task.abort();
    }
}

async fn pump(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    count: Arc<AtomicU64>,
) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let state = *line.borrow_and_update();
        match state {
            Line::Cut => return,
            Line::Frozen => {
                if line.changed().await.is_err() {
                    return;
                }
            }
            Line::Open => {
                tokio::select! {
                    changed = line.changed() => if changed.is_err() { return },
                    read = from.read(&mut bytes) => {
                        let Ok(length @ 1..) = read else { return };
                        if to.write_all(&bytes[..length]).await.is_err() {
                            return;
                        }
                        count.fetch_add(length as u64, Ordering::Relaxed);
                    }
                }
            }
        }
    }
}
