//! A line to an engine that can be counted on, cut and held.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// They are passed on.
    Open,
    /// They are kept back until the line is open again.
    Held,
    /// Connections are ended as soon as they are made.
    Cut,
    /// Each byte 0xEE on its way to the engine becomes another.
    Noisy,
    /// The next answer is lost, with its connection; then the line is open.
    LosesAnAnswer,
}

/// A TCP proxy on a port of its own.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: JoinHandle<()>,
}

struct Shared {
    line: watch::Sender<Line>,
    round_trips: AtomicUsize,
    bytes_up: AtomicUsize,
}

impl Proxy {
    pub(crate) async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            line: watch::Sender::new(Line::Open),
            round_trips: AtomicUsize::new(0),
            bytes_up: AtomicUsize::new(0),
        });
        let on_accept = Arc::clone(&shared);
        let acceptor = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (shared, target) = (Arc::clone(&on_accept), target.clone());
                tokio::spawn(async move {
                    let mut line = shared.line.subscribe();
                    tokio::select! {
                        _ = line.wait_for(|line| *line == Line::Cut) => {}
                        _ = pass(client, &target, &shared) => {}
                    }
                });
            }
        });
        Self { address, shared, acceptor }
    }

    /// From now on.
    pub(crate) fn set(&self, line: Line) {
        self.shared.line.send_replace(line);
    }

    /// How often a client has sent something after it had been answered.
    pub(crate) fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::SeqCst)
    }

    /// Bytes that clients have sent.
    pub(crate) fn bytes_up(&self) -> usize {
        self.shared.bytes_up.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.acceptor.abort();
        self.set(Line::Cut);
    }
}

async fn pass(mut client: TcpStream, target: &str, shared: &Shared) -> std::io::Result<()> {
    let mut server = TcpStream::connect(target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut line = shared.line.subscribe();
    let (mut up, mut down) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut answered = true;
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                shared.bytes_up.fetch_add(read, Ordering::SeqCst);
                if std::mem::take(&mut answered) {
                    shared.round_trips.fetch_add(1, Ordering::SeqCst);
                }
                let now = line.wait_for(|line| *line != Line::Held).await.map(|line| *line);
                if matches!(now, Ok(Line::Noisy)) {
                    up[..read].iter_mut().filter(|byte| **byte == 0xEE).for_each(|byte| *byte = 0xEF);
                }
                server.write_all(&up[..read]).await?;
            }
            read = server.read(&mut down) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                let _ = line.wait_for(|line| *line != Line::Held).await;
                let lost = |line: &mut Line| {
                    let lost = *line == Line::LosesAnAnswer;
                    if lost {
                        *line = Line::Open;
                    }
                    lost
                };
                if shared.line.send_if_modified(lost) {
                    return Ok(());
                }
                answered = true;
                client.write_all(&down[..read]).await?;
            }
        }
    }
}
