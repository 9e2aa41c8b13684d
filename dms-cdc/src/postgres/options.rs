//! What a source is told.

use std::fmt;
use std::time::Duration;

use dms_core::{Error, Result};

/// Longest name of a slot or publication, in bytes.
const NAME_BYTES_MAX: usize = 63;

/// How a [`WalChangeSource`](super::WalChangeSource) works.
#[derive(Clone)]
pub struct WalOptions {
    /// `postgres://…`, straight to the database: a pooler doesn't take replication. Unix sockets
    /// aren't supported. The role needs `REPLICATION`, and may make a table.
    pub url: String,
    /// The replication slot, one for each durable consumer; lower-case letters, digits and
    /// underscores, at most 63.
    pub slot: String,
    /// The publication that streams the tables `documents` and `signatures`.
    pub publication: String,
    /// Most bytes of changes that are read ahead of the consumer; a single larger change comes all
    /// the same.
    pub queue_bytes_max: usize,
    /// How much of the log that isn't for the consumer may pass before it is confirmed while nothing
    /// else happens. Less than a segment, 16 MiB, frees nothing.
    pub idle_bytes_max: u64,
    /// How often the server is told that the consumer lives.
    pub status_every: Duration,
    /// How long the server may be silent before the connection counts as dead.
    pub silence_max: Duration,
}

impl WalOptions {
    /// Options with the publication `cdc`, 8 MiB of read-ahead, 16 MiB of idle log, a word to the
    /// server each second, and 30 s of silence.
    pub fn new(url: impl Into<String>, slot: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            slot: slot.into(),
            publication: "cdc".into(),
            queue_bytes_max: 8 << 20,
            idle_bytes_max: 16 << 20,
            status_every: Duration::from_secs(1),
            silence_max: Duration::from_secs(30),
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        let is_slot_char = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_';
        if self.slot.is_empty()
            || self.slot.len() > NAME_BYTES_MAX
            || !self.slot.bytes().all(is_slot_char)
        {
            return Err(Error::invalid(
                "slot",
                "must be 1 to 63 lower-case letters, digits and underscores",
            ));
        }
        let is_name_char = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        if self.publication.is_empty()
            || self.publication.len() > NAME_BYTES_MAX
            || !self.publication.bytes().all(is_name_char)
        {
            return Err(Error::invalid(
                "publication",
                "must be 1 to 63 letters, digits and underscores",
            ));
        }
        if self.status_every.is_zero() || self.silence_max.is_zero() {
            return Err(Error::invalid("status_every", "must be longer than nothing"));
        }
        Ok(())
    }

    /// The URL for the replication connection.
    pub(super) fn replication_url(&self) -> String {
        let separator = if self.url.contains('?') { '&' } else { '?' };
        let timeout_ms = self.silence_max.as_millis();
        format!(
            "{}{separator}replication=database&connect_timeout=2&tcp_user_timeout={timeout_ms}",
            self.url
        )
    }
}

impl fmt::Debug for WalOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password in more than one place.
        f.debug_struct("WalOptions")
            .field("slot", &self.slot)
            .field("publication", &self.publication)
            .field("queue_bytes_max", &self.queue_bytes_max)
            .field("idle_bytes_max", &self.idle_bytes_max)
            .field("status_every", &self.status_every)
            .field("silence_max", &self.silence_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_server_would_refuse_are_refused_here() {
        let with = |slot: &str, publication: &str| {
            let options =
                WalOptions { publication: publication.into(), ..WalOptions::new("", slot) };
            options.validate()
        };
        with("dms_index_2", "Cdc_1").expect("fine");
        for slot in ["", "Index", "a-b", "a'b", "ä", &"a".repeat(64)] {
            with(slot, "cdc").expect_err(slot);
        }
        for publication in ["", "a\"b", "a,b", "a b"] {
            with("slot", publication).expect_err(publication);
        }
    }

    #[test]
    fn debug_keeps_the_secret() {
        let options = WalOptions::new("postgres://docs:hunter2@db/docs?password=hunter3", "s");
        assert!(!format!("{options:?}").contains("hunter"));
    }
}
