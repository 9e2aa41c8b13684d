//! The replication connection.

use std::io;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use pg_walstream::{CancellationToken, PgReplicationConnection, ReplicationError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::position::Lsn;

/// How long it may take until the server streams.
const OPEN_MAX: Duration = Duration::from_secs(5);
/// How long a temporary slot may wait for the transactions that run already.
const CREATE_MAX: Duration = Duration::from_secs(30);

/// Values are read in these forms, whatever the role or the database has set.
const SETTINGS: [&str; 4] = [
    "SET application_name = 'dms-cdc'",
    "SET datestyle = 'ISO'",
    "SET timezone = 'UTC'",
    "SET statement_timeout = 0",
];

/// What is streamed.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) url: String,
    pub(super) slot: String,
    pub(super) publication: String,
    /// The slot is made, and goes with the connection.
    pub(super) is_temporary: bool,
    /// Transactions that commit before it don't come.
    pub(super) from: Lsn,
}

/// A connection that streams.
pub(super) struct Connection {
    inner: Option<PgReplicationConnection>,
    never: CancellationToken,
    /// The server's process.
    pub(super) pid: Option<i32>,
    /// System identifier and timeline, which positions belong to.
    pub(super) system: (String, String),
    /// Where a temporary slot begins.
    pub(super) begins_at: Option<Lsn>,
}

impl Connection {
    /// Connects and starts the stream.
    ///
    /// The client library blocks until the server has answered, so this happens in a thread, which
    /// is left to itself if the server doesn't.
    pub(super) async fn open(request: Request) -> Result<Self, ReplicationError> {
        let max = if request.is_temporary { CREATE_MAX } else { OPEN_MAX };
        let (send, opened) = oneshot::channel();
        let runtime = Handle::current();
        in_thread("dms-wal-open", move || {
            let _context = runtime.enter();
            // Nobody waits any more: the connection is closed by being dropped.
            drop(send.send(open(&request)));
        })?;
        match timeout(max, opened).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(_)) => Err(ReplicationError::backend("the connecting thread ended")),
            Err(_) => Err(ReplicationError::timeout("no answer to the start of the stream")),
        }
    }

    /// The next message of the server. Dropping the future loses nothing.
    pub(super) async fn read(&mut self) -> Result<Bytes, ReplicationError> {
        match &mut self.inner {
            Some(inner) => inner.get_copy_data_async(&self.never).await,
            None => Err(ReplicationError::backend("the connection is closed")),
        }
    }

    /// Tells the server what was received and what it need not keep.
    pub(super) async fn send_status(
        &mut self,
        received: Lsn,
        confirmed: Lsn,
        wants_reply: bool,
    ) -> Result<(), ReplicationError> {
        let Some(inner) = &mut self.inner else {
            return Err(ReplicationError::backend("the connection is closed"));
        };
        let received = received.max(confirmed).0;
        inner.send_standby_status_update(received, confirmed.0, confirmed.0, wants_reply).await
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            // Closing blocks until the farewell is written.
            drop(in_thread("dms-wal-close", move || drop(inner)));
        }
    }
}

fn open(request: &Request) -> Result<Connection, ReplicationError> {
    let mut inner = PgReplicationConnection::connect(&request.url)?;
    for setting in SETTINGS {
        inner.exec(setting)?;
    }
    let pid = inner.exec("SELECT pg_backend_pid()")?.get_value(0, 0);
    let identity = inner.identify_system()?;
    let system = (
        identity.get_value(0, 0).unwrap_or_default(),
        identity.get_value(0, 1).unwrap_or_default(),
    );
    let mut begins_at = None;
    if request.is_temporary {
        // Names are of letters, digits and underscores.
        let sql = format!(
            "CREATE_REPLICATION_SLOT {} TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT",
            request.slot
        );
        let point = inner.exec(&sql)?.get_value(0, 1);
        begins_at = point.and_then(|point| point.parse().ok());
    }
    let publication = format!("\"{}\"", request.publication);
    let options = [("proto_version", "1"), ("publication_names", publication.as_str())];
    inner.start_replication(&request.slot, request.from.0, &options)?;
    Ok(Connection {
        inner: Some(inner),
        never: CancellationToken::new(),
        pid: pid.and_then(|pid| pid.parse().ok()),
        system,
        begins_at,
    })
}

fn in_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}

/// Whether another consumer has the slot.
pub(super) fn is_slot_in_use(error: &ReplicationError) -> bool {
    // `object_in_use`; the library has the code in its text only.
    error.to_string().contains("[55006]")
}

/// Whether the log was written before the publication: then it can never be decoded.
pub(super) fn is_publication_unknown(error: &ReplicationError) -> bool {
    let text = error.to_string();
    text.contains("[42704]") && text.contains("publication")
}
