//! A line to Elasticsearch that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    is_open: watch::Sender<bool>,
}

impl Line {
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (is_open, _) = watch::channel(true);
        let (states, target) = (is_open.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Refused as well as can be once it was accepted.
                if *states.borrow() {
                    tokio::spawn(carry(stream, target.clone(), states.subscribe()));
                }
            }
        });
        Self { address, is_open }
    }

    pub(crate) fn cut(&self) {
        self.is_open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.is_open.send_replace(true);
    }
}

async fn carry(mut here: TcpStream, target: String, mut is_open: watch::Receiver<bool>) {
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    // Neither side is to wait for more.
    let _ = here.set_nodelay(true).and(there.set_nodelay(true));
    tokio::select! {
        // Either side may end it at any time.
        _ = copy_bidirectional(&mut here, &mut there) => {}
        _ = is_open.wait_for(|is_open| !is_open) => {}
    }
}
