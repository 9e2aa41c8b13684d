//! The connection, and what makes it anew.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use dms_core::{Error, ErrorChain, Result};
use redis::aio::{MultiplexedConnection, SendError};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, RedisResult};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::error::unavailable;

/// Pauses between attempts to connect: the first, doubled until the last.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// One connection for all requests, made when the first one asks for it. When it breaks, a task makes
/// it anew; until then requests are refused at once. Dropping this ends the task.
pub(super) struct Link {
    line: Arc<Line>,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Line {
    client: redis::Client,
    connect_timeout: Duration,
    requests_max: usize,
    state: watch::Sender<State>,
}

enum State {
    /// Nobody asked yet, or the first answer is awaited.
    Unused,
    Up(Lease),
    Down(RedisError),
}

/// The connection, for one request.
#[derive(Clone)]
pub(super) struct Lease {
    pub(super) connection: MultiplexedConnection,
    /// Tells the connection from earlier and later ones.
    number: u64,
}

impl Link {
    pub(super) fn new(
        client: redis::Client,
        connect_timeout: Duration,
        requests_max: usize,
    ) -> Self {
        let state = watch::Sender::new(State::Unused);
        let line = Arc::new(Line { client, connect_timeout, requests_max, state });
        Self { line, keeper: Mutex::default() }
    }

    /// The connection. Waits for the first one to be made; later on it is there or it isn't.
    pub(super) async fn lease(&self) -> Result<Lease> {
        // Whoever finds the connection missing makes sure that somebody works on it: the task may
        // have gone with the runtime that it was started on.
        if !matches!(*self.line.state.borrow(), State::Up(_)) {
            self.ensure_keeper();
        }
        let mut state = self.line.state.subscribe();
        let known = state.wait_for(|state| !matches!(state, State::Unused)).await;
        match known.as_deref() {
            Ok(State::Up(lease)) => Ok(lease.clone()),
            Ok(State::Down(cause)) => Err(away(cause)),
            Ok(State::Unused) | Err(_) => Err(unavailable("cache isn't connected")),
        }
    }

    /// Gives up the connection of `lease`, unless there is a new one by now.
    pub(super) fn lost(&self, lease: &Lease, cause: RedisError) {
        self.line.lost(lease.number, cause);
    }

    fn ensure_keeper(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let task = tokio::spawn(keep(Arc::clone(&self.line)));
            *keeper = Some(AbortOnDropHandle::new(task));
        }
    }
}

fn away(cause: &RedisError) -> Error {
    unavailable("cache is away").with_source(cause.clone())
}

/// Makes the connection, and anew whenever it is lost.
async fn keep(line: Arc<Line>) {
    let mut pause = PAUSE_MIN;
    for number in 1.. {
        match line.connect(number).await {
            Ok(connection) => {
                let up_at = Instant::now();
                line.up(Lease { connection, number });
                let mut state = line.state.subscribe();
                let down = state.wait_for(|state| !matches!(state, State::Up(_)));
                if down.await.is_err() {
                    return;
                }
                if up_at.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                    continue;
                }
            }
            Err(error) => line.down(error),
        }
        tokio::time::sleep(pause).await;
        pause = PAUSE_MAX.min(pause * 2);
    }
}

impl Line {
    async fn connect(self: &Arc<Self>, number: u64) -> RedisResult<MultiplexedConnection> {
        let line = Arc::downgrade(self);
        let config = AsyncConnectionConfig::new()
            // This and the deadlines of requests are watched here, not there.
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(self.requests_max)
            .set_push_sender(move |push: PushInfo| -> Result<(), SendError> {
                on_push(&line, number, &push);
                Ok(())
            });
        let attempt = async {
            let mut connection =
                self.client.get_multiplexed_async_connection_with_config(&config).await?;
            // One that is still loading its data accepts connections.
            redis::cmd("PING").exec_async(&mut connection).await?;
            Ok(connection)
        };
        let timed_out = |_| Err(io::Error::from(io::ErrorKind::TimedOut).into());
        tokio::time::timeout(self.connect_timeout, attempt).await.unwrap_or_else(timed_out)
    }

    fn up(&self, lease: Lease) {
        let before = self.state.send_replace(State::Up(lease));
        if matches!(before, State::Down(_)) {
            tracing::info!("cache is back");
        }
    }

    fn down(&self, cause: RedisError) {
        self.state.send_if_modified(|state| {
            let news = !matches!(state, State::Down(_));
            if news {
                tracing::warn!(error = %ErrorChain(&cause), "cache is away");
            }
            *state = State::Down(cause);
            news
        });
    }

    fn lost(&self, number: u64, cause: RedisError) {
        self.state.send_if_modified(|state| {
            let ours = matches!(state, State::Up(lease) if lease.number == number);
            if ours {
                tracing::warn!(error = %ErrorChain(&cause), "cache is away");
                *state = State::Down(cause);
            }
            ours
        });
    }
}

/// An idle connection that the server ends is replaced before anybody needs it.
fn on_push(line: &Weak<Line>, number: u64, push: &PushInfo) {
    if push.kind == PushKind::Disconnection
        && let Some(line) = line.upgrade()
    {
        line.lost(number, io::Error::from(io::ErrorKind::ConnectionReset).into());
    }
}
