//! A replica that may lag and may be away: lists are read from it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dms_core::{ErrorChain, ErrorKind, Result};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use tokio::time::Instant;

use super::connections::{Connections, Statement};

/// How long a replica that didn't answer isn't asked again.
const PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Replica {
    connections: Connections,
    paused_until: Mutex<Option<Instant>>,
}

impl Replica {
    pub(super) fn new(connections: Connections) -> Self {
        Self { connections, paused_until: Mutex::default() }
    }

    /// Runs a statement here, or on the `database` while this is away.
    pub(super) async fn read<O>(
        &self,
        statement: impl Fn() -> Statement<O>,
        database: &Connections,
    ) -> Result<Vec<O>>
    where
        O: for<'r> FromRow<'r, PgRow> + Send + Unpin + 'static,
    {
        let paused = self.paused_until().is_some_and(|until| Instant::now() < until);
        if !paused {
            match self.connections.read(statement()).await {
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tracing::warn!(error = %ErrorChain(&error), "replica away, asking the database");
                    self.pause();
                }
                answer => return answer,
            }
        }
        database.read(statement()).await
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
    }

    fn paused_until(&self) -> Option<Instant> {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&self) {
        let until = Instant::now() + PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }
}
