//! What is run with hostile bytes: one function for each parser of what strangers send.
//!
//! `fuzz/run` runs them instrumented, with inputs that libFuzzer breeds; the test of this crate runs
//! them with the seeds and with what it makes of those. A function returns, or panics if it has found
//! something. Each asks for more than that nothing panics: what is said next to it.

#![expect(clippy::missing_panics_doc, reason = "a panic is how a target tells what it has found")]

#[cfg(feature = "requests")]
mod bed;
#[cfg(feature = "changes")]
mod changes;
#[cfg(feature = "live")]
mod live;
#[cfg(feature = "requests")]
mod requests;
#[cfg(feature = "search")]
mod search;
#[cfg(feature = "settings")]
mod settings;
#[cfg(feature = "text")]
mod text;
#[cfg(feature = "tokens")]
mod tokens;
#[cfg(feature = "wal")]
mod wal;

#[cfg(feature = "changes")]
pub use changes::{dead_letter, debezium};
#[cfg(feature = "live")]
pub use live::{event_stream, last_event_id};
#[cfg(feature = "requests")]
pub use requests::{conditions, cursor, form, json_body, range};
#[cfg(feature = "search")]
pub use search::search_text;
#[cfg(feature = "settings")]
pub use settings::settings;
#[cfg(feature = "text")]
pub use text::{extract, signature_image};
#[cfg(feature = "tokens")]
pub use tokens::{key_set, presented_token, token};
#[cfg(feature = "wal")]
pub use wal::pgoutput;

/// A parser with its invariants.
pub type Target = fn(&[u8]);

/// All that are built. The seeds of each are in the folder of its name in `fuzz/seeds`.
pub const TARGETS: &[(&str, Target)] = &[
    #[cfg(feature = "requests")]
    ("conditions", conditions),
    #[cfg(feature = "requests")]
    ("cursor", cursor),
    #[cfg(feature = "changes")]
    ("dead_letter", dead_letter),
    #[cfg(feature = "changes")]
    ("debezium", debezium),
    #[cfg(feature = "live")]
    ("event_stream", event_stream),
    #[cfg(feature = "text")]
    ("extract", extract),
    #[cfg(feature = "requests")]
    ("form", form),
    #[cfg(feature = "requests")]
    ("json_body", json_body),
    #[cfg(feature = "tokens")]
    ("key_set", key_set),
    #[cfg(feature = "live")]
    ("last_event_id", last_event_id),
    #[cfg(feature = "wal")]
    ("pgoutput", pgoutput),
    #[cfg(feature = "tokens")]
    ("presented_token", presented_token),
    #[cfg(feature = "requests")]
    ("range", range),
    #[cfg(feature = "search")]
    ("search_text", search_text),
    #[cfg(feature = "settings")]
    ("settings", settings),
    #[cfg(feature = "text")]
    ("signature_image", signature_image),
    #[cfg(feature = "tokens")]
    ("token", token),
];

/// The first byte, which chooses among variants of a target, and the rest.
#[cfg(any(
    feature = "live",
    feature = "requests",
    feature = "text",
    feature = "tokens",
    feature = "wal"
))]
fn choice(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}
