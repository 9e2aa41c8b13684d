//! What is run with hostile bytes: one function for each parser of what strangers send.
//!
//! `fuzz/run` runs them instrumented, with inputs that libFuzzer breeds; the test of this crate runs
//! them with the seeds and with what it makes of those. A function returns, or panics if it has found
//! something. Each asks for more than that nothing panics: what is said next to it.

#![expect(clippy::missing_panics_doc, reason = "a panic is how a target tells what it has found")]

mod bed;
mod changes;
mod live;
mod requests;
mod search;
mod settings;
mod text;
mod tokens;

pub use changes::{dead_letter, debezium, pgoutput};
pub use live::{event_stream, last_event_id};
pub use requests::{conditions, cursor, form, json_body, range};
pub use search::search_text;
pub use settings::settings;
pub use text::{extract, signature_image};
pub use tokens::{key_set, presented_token, token};

/// A parser with its invariants.
pub type Target = fn(&[u8]);

/// All of them. The seeds of each are in the folder of its name in `fuzz/seeds`.
pub const TARGETS: &[(&str, Target)] = &[
    ("conditions", conditions),
    ("cursor", cursor),
    ("dead_letter", dead_letter),
    ("debezium", debezium),
    ("event_stream", event_stream),
    ("extract", extract),
    ("form", form),
    ("json_body", json_body),
    ("key_set", key_set),
    ("last_event_id", last_event_id),
    ("pgoutput", pgoutput),
    ("presented_token", presented_token),
    ("range", range),
    ("search_text", search_text),
    ("settings", settings),
    ("signature_image", signature_image),
    ("token", token),
];

/// The first byte, which chooses among variants of a target, and the rest.
fn choice(input: &[u8]) -> Option<(u8, &[u8])> {
    input.split_first().map(|(first, rest)| (*first, rest))
}
