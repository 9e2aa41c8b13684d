//! The task that reads the log ahead of the consumer and keeps the server informed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dms_core::{Error, ErrorChain, Result};
use pg_walstream::{ReplicationError, parse_keepalive_message};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Request, is_publication_unknown, is_slot_in_use};
use super::decoder::{Decoded, WalDecoder};
use super::error::{position_lost, stream_failed};
use super::options::WalOptions;
use super::position::{Lsn, WalPosition};
use super::slot::Slot;
use super::state::{Phase, Shared, Start};

/// Bytes before the message in a frame of the log: tag, two positions, time.
const HEADER_BYTES: usize = 25;
/// Most frames between two looks at anything else.
const FRAMES_AT_ONCE_MAX: usize = 256;
/// How often a standby looks whether the slot is free: at first, and once it has waited for long.
const STANDBY_EVERY: Duration = Duration::from_millis(50);
const STANDBY_EVERY_MAX: Duration = Duration::from_secs(1);
/// How long the slot may be in use before that is worth a line: another process of ours may be
/// about to end.
const STANDBY_SILENT: Duration = Duration::from_secs(1);
/// How long the last word to the server may take.
const FAREWELL_MAX: Duration = Duration::from_millis(500);

/// Reads one connection.
pub(super) struct Reader {
    pub(super) shared: Arc<Shared>,
    pub(super) slot: Slot,
    pub(super) options: Arc<WalOptions>,
    /// Name of the slot that goes with the connection, for a transient consumer.
    pub(super) temporary_slot: Option<String>,
    pub(super) stop: CancellationToken,
}

impl Reader {
    /// Reads until it is stopped or something fails, and leaves the failure for the consumer.
    pub(super) async fn run(self) {
        let failure = match self.stop.run_until_cancelled(self.connect()).await {
            Some(Ok(connection)) => self.stream(connection).await,
            Some(Err(error)) => Some(error),
            None => None,
        };
        {
            let mut state = self.shared.lock();
            state.phase = Phase::Stopped;
            state.failure = failure;
        }
        self.shared.notify();
    }

    async fn connect(&self) -> Result<Connection> {
        let connection = match &self.temporary_slot {
            Some(name) => self.connect_transient(name).await?,
            None => self.connect_durable().await?,
        };
        let mut state = self.shared.lock();
        state.pid = connection.pid;
        state.system = Some(connection.system.clone());
        state.has_begun = true;
        state.phase = Phase::Streaming;
        drop(state);
        self.shared.notify();
        tracing::info!(slot = self.slot.name(), "change stream of the database connected");
        Ok(connection)
    }

    async fn connect_transient(&self, name: &str) -> Result<Connection> {
        if self.shared.lock().has_begun {
            return Err(position_lost("the connection that held the transient slot broke"));
        }
        self.slot.check_publication().await?;
        let connection = self.open(name, true, Lsn::default()).await.map_err(stream_failed)?;
        let begins_at = connection
            .begins_at
            .ok_or_else(|| Error::internal("the database gave an unknown place in its log"))?;
        let mut state = self.shared.lock();
        let wanted = state.ledger.delivered();
        if wanted != WalPosition::default() && wanted < WalPosition::between(begins_at) {
            return Err(position_lost("a transient consumer can't go back"));
        }
        state.ledger.begin(wanted.max(WalPosition::between(begins_at)));
        drop(state);
        Ok(connection)
    }

    /// Connects once no other consumer has the slot.
    async fn connect_durable(&self) -> Result<Connection> {
        let began = Instant::now();
        let mut pause = STANDBY_EVERY;
        let mut is_told = false;
        loop {
            let (from, _) = self.place().await?;
            let opened = self.open(self.slot.name(), false, from.lsn).await;
            match opened {
                Ok(connection) => {
                    self.check_system(&connection).await?;
                    // Now that nobody else moves the slot.
                    let (at, confirmed) = self.place().await?;
                    let mut state = self.shared.lock();
                    if at == state.ledger.delivered() {
                        state.ledger.resume(confirmed);
                    } else {
                        state.ledger.begin(at);
                    }
                    drop(state);
                    return Ok(connection);
                }
                Err(error) if is_slot_in_use(&error) => {
                    self.end_own_connection().await?;
                    if !is_told && began.elapsed() >= STANDBY_SILENT {
                        is_told = true;
                        tracing::info!(
                            slot = self.slot.name(),
                            "another consumer has the slot, standing by"
                        );
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(STANDBY_EVERY_MAX);
                }
                Err(error) => return Err(stream_failed(error)),
            }
        }
    }

    async fn open(
        &self,
        slot: &str,
        is_temporary: bool,
        from: Lsn,
    ) -> Result<Connection, ReplicationError> {
        let request = Request {
            url: self.options.replication_url(),
            slot: slot.to_owned(),
            publication: self.options.publication.clone(),
            is_temporary,
            from,
        };
        Connection::open(request).await
    }

    /// Where the stream is to go on, as the slot has it now, and what that has confirmed.
    async fn place(&self) -> Result<(WalPosition, Lsn)> {
        let (is_broken, start, delivered) = {
            let state = self.shared.lock();
            (state.is_slot_broken, state.start, state.ledger.delivered())
        };
        if is_broken {
            self.slot.drop_broken().await?;
            self.shared.lock().is_slot_broken = false;
        }
        let (slot, head) = self.slot.ensure().await?;
        if delivered.lsn > head {
            return Err(self.rewound().await?);
        }
        let at = match start {
            Some(Start::Slot) => self.slot.acknowledged(&slot).await?.max(delivered),
            _ => self.slot.after(delivered, &slot, head).await?,
        };
        Ok((at, slot.confirmed))
    }

    /// Positions belong to one system and one timeline of it.
    async fn check_system(&self, connection: &Connection) -> Result<()> {
        let known = self.shared.lock().system.clone();
        match known {
            Some(known) if known != connection.system => Err(self.rewound().await?),
            _ => Ok(()),
        }
    }

    /// The database isn't what it was: it was restored, or another took its place.
    async fn rewound(&self) -> Result<Error> {
        tracing::error!(
            slot = self.slot.name(),
            "the database was restored or replaced, its log is not the one that was read"
        );
        self.slot.forget().await?;
        self.shared.lock().system = None;
        Ok(position_lost("the database's log is not the one that was read"))
    }

    /// The server may not have noticed yet that our last connection is gone.
    async fn end_own_connection(&self) -> Result<()> {
        let pid = self.shared.lock().pid;
        match pid {
            Some(pid) => self.slot.terminate(pid).await,
            None => Ok(()),
        }
    }

    /// Reads until something fails, or until it is stopped.
    async fn stream(&self, mut connection: Connection) -> Option<Error> {
        let mut decoder = WalDecoder::new();
        let mut status = interval(self.options.status_every);
        status.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard_at = Instant::now();
        let mut told = Lsn::default();
        loop {
            let is_full = self.shared.lock().ledger.is_full();
            if is_full {
                // Nobody listens to the server.
                heard_at = Instant::now();
            }
            let done = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    let farewell = self.tell(&mut connection, &mut told, false);
                    drop(timeout(FAREWELL_MAX, farewell).await);
                    return None;
                }
                () = self.shared.control.notified() => {
                    let (is_asked, confirmed) = {
                        let mut state = self.shared.lock();
                        (std::mem::take(&mut state.is_asked), state.ledger.confirmed())
                    };
                    if is_asked || confirmed != told {
                        self.tell(&mut connection, &mut told, is_asked).await
                    } else {
                        Ok(())
                    }
                }
                _ = status.tick() => {
                    if heard_at.elapsed() > self.options.silence_max {
                        return Some(Error::unavailable("database", "the change stream is silent"));
                    }
                    // The answer shows that the server lives, and how far it is.
                    self.tell(&mut connection, &mut told, true).await
                }
                frame = connection.read(), if !is_full => {
                    heard_at = Instant::now();
                    self.take_all(frame, &mut decoder, &mut connection, &mut told).await
                }
            };
            if let Err(error) = done {
                return Some(error);
            }
        }
    }

    async fn tell(
        &self,
        connection: &mut Connection,
        told: &mut Lsn,
        wants_reply: bool,
    ) -> Result<()> {
        let (received, confirmed) = {
            let state = self.shared.lock();
            (state.ledger.received(), state.ledger.confirmed())
        };
        // A server that takes nothing in any more is as good as gone.
        let sent = connection.send_status(received, confirmed, wants_reply);
        match timeout(self.options.silence_max, sent).await {
            Ok(sent) => sent.map_err(stream_failed)?,
            Err(_) => return Err(Error::unavailable("database", "the change stream is stuck")),
        }
        *told = confirmed;
        Ok(())
    }

    /// Takes a frame and those that are there already, and then wakes the consumer.
    async fn take_all(
        &self,
        first: Result<Bytes, ReplicationError>,
        decoder: &mut WalDecoder,
        connection: &mut Connection,
        told: &mut Lsn,
    ) -> Result<()> {
        let mut next = Some(first);
        let mut count = 0;
        while let Some(frame) = next {
            let frame = frame.map_err(|error| {
                if is_publication_unknown(&error) {
                    self.shared.lock().is_slot_broken = true;
                }
                stream_failed(error)
            })?;
            let is_full = self.take(&frame, decoder, connection, told).await?;
            count += 1;
            if is_full || count == FRAMES_AT_ONCE_MAX {
                break;
            }
            next = tokio::select! {
                biased;
                frame = connection.read() => Some(frame),
                () = std::future::ready(()) => None,
            };
        }
        self.shared.notify();
        Ok(())
    }

    /// Takes a frame; whether no more should be read for now.
    async fn take(
        &self,
        frame: &Bytes,
        decoder: &mut WalDecoder,
        connection: &mut Connection,
        told: &mut Lsn,
    ) -> Result<bool> {
        match frame.first() {
            Some(b'w') if frame.len() > HEADER_BYTES => self.decode(frame, decoder),
            Some(b'k') => {
                let keepalive = parse_keepalive_message(frame).map_err(stream_failed)?;
                let is_moved = self.idle(Lsn(keepalive.wal_end)).await;
                if is_moved || keepalive.reply_requested {
                    self.tell(connection, told, false).await?;
                }
                Ok(false)
            }
            _ => Err(Error::unavailable("database", "the change stream has an unknown message")),
        }
    }

    fn decode(&self, frame: &Bytes, decoder: &mut WalDecoder) -> Result<bool> {
        let message = frame.slice(HEADER_BYTES..);
        let bytes = message.len();
        let decoded = decoder.decode(&message).map_err(|reason| {
            Error::unavailable("database", "the change stream can't be followed")
                .with_source(reason)
        })?;
        if decoded.is_empty() {
            return Ok(false);
        }
        let mut state = self.shared.lock();
        for decoded in decoded {
            match decoded {
                Decoded::Begin(commit) => state.ledger.begin_transaction(Lsn(commit)),
                Decoded::Record(record) => state.ledger.push(record, bytes),
                Decoded::Commit(end) => state.ledger.commit(Lsn(end)),
            }
        }
        Ok(state.ledger.is_full())
    }

    /// The server has sent everything up to `sent`; whether that may be confirmed although nothing
    /// came of it.
    async fn idle(&self, sent: Lsn) -> bool {
        let (idle_at, confirmed) = {
            let mut state = self.shared.lock();
            state.ledger.received_up_to(sent);
            (state.ledger.idle_at(), state.ledger.confirmed())
        };
        let Some(acknowledged) = idle_at else { return false };
        if sent.0.saturating_sub(confirmed.0) <= self.options.idle_bytes_max {
            return false;
        }
        // First what lets the consumer come back with an older position, then the confirmation.
        if self.temporary_slot.is_none()
            && let Err(error) = self.slot.skip(acknowledged, sent).await
        {
            let error = ErrorChain(&error).to_string();
            tracing::warn!(slot = self.slot.name(), error, "idle log not confirmed");
            return false;
        }
        self.shared.lock().ledger.skip_to(sent);
        true
    }
}
