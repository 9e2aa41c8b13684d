//! A line that can be cut, frozen, slowed and closed by half.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Open,
    /// Bytes pass after a pause.
    Slow(Duration),
    /// Nothing passes, and nobody is told.
    Frozen,
    /// The server's half is closed as soon as it says something; the other one stays open.
    HalfClosed,
    /// Documents of one creator become such as the index can't take.
    Garbled,
    /// Connections are closed, new ones at once.
    Cut,
}

/// The creator whose documents don't pass a garbled line.
pub(crate) const GARBLED: &str = "refused";

pub(crate) struct Proxy {
    pub(crate) address: String,
    line: watch::Sender<Line>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let (line, _) = watch::channel(Line::Open);
        let told = line.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, told) = (server.clone(), told.clone());
                tokio::spawn(async move {
                    if *told.borrow() == Line::Cut {
                        return;
                    }
                    let Ok(server) = TcpStream::connect(&server).await else { return };
                    let (client_read, client_write) = client.into_split();
                    let (server_read, server_write) = server.into_split();
                    let up = pump(client_read, server_write, told.subscribe(), false);
                    let down = pump(server_read, client_write, told.subscribe(), true);
                    let mut cut = told.subscribe();
                    tokio::select! {
                        ((), ()) = async { tokio::join!(up, down) } => {}
                        _ = cut.wait_for(|line| *line == Line::Cut) => {}
                    }
                });
            }
        })
        .abort_handle();
        Self { address, line, task }
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
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut line: watch::Receiver<Line>,
    is_answer: bool,
) {
    let mut bytes = vec![0; 16 << 10];
    loop {
        let Ok(length @ 1..) = from.read(&mut bytes).await else { return };
        let Ok(now) = line.wait_for(|line| *line != Line::Frozen).await.map(|now| *now) else {
            return;
        };
        match now {
            Line::Slow(pause) => tokio::time::sleep(pause).await,
            Line::Garbled if !is_answer => garble(&mut bytes[..length]),
            Line::HalfClosed if is_answer => {
                // Half of what it says, too.
                let _ = to.write_all(&bytes[..length / 2]).await;
                let _ = to.shutdown().await;
                return;
            }
            _ => {}
        }
        if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}

/// An object of the same length in place of a name.
fn garble(bytes: &mut [u8]) {
    let (name, object) = (format!("\"{GARBLED}\""), br#"{"a":111}"#);
    for at in 0..bytes.len().saturating_sub(name.len() - 1) {
        if bytes[at..].starts_with(name.as_bytes()) {
            bytes[at..at + object.len()].copy_from_slice(object);
        }
    }
}
