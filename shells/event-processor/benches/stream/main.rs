//! The event processor under load, on real engines: `cargo bench -p event-processor`.
//!
//! It prints what it measures and judges nothing. Aimed at are 80 % of a plain bulk replay, half of the
//! writes found 10 ms after the engine's own refresh would show them, and less than 100 MB of memory
//! throughout. Engines, program and load share the machine: rates say something on a quiet one only.
//!
//! Needs PostgreSQL (whose role may make databases), Kafka, Connect and Elasticsearch, found by the
//! variables of `deploy/native/stack env`. Each part works in a database, topics and indices of its own,
//! which are removed afterwards.
//!
//! ```sh
//! cargo bench -p event-processor                        # everything: about half an hour
//! cargo bench -p event-processor --bench stream -- replay embedded    # some parts
//! ```
//!
//! - `replay`: a topic that is full already, into Elasticsearch. Beside it: the same bulk requests sent
//!   by themselves, on one connection and on two; and the program before an index that answers at once,
//!   which is where the requests are recorded.
//! - `embedded`: the same topic into tantivy, by the same parts in a process of its own, since this
//!   program has no embedded index; and the same entries given to the index directly.
//! - `steady`: from the answer to a write until a search of Elasticsearch finds it, at the refresh
//!   interval that the product sets; beside it the same for a document that is sent to Elasticsearch
//!   itself.
//! - `outage`: writes go on while the processor is killed, then while Elasticsearch can't be reached;
//!   how long it takes until the index equals the database once that is over.
//!
//! | variable | means | default |
//! |---|---|---|
//! | `DMS_BENCH_DOCUMENTS` | documents of `replay` and `embedded`; they take up to 4 KiB of memory each | 200000 |
//! | `DMS_BENCH_ROUNDS` | how often `replay` measures each | 2 |
//! | `DMS_BENCH_TEXTS` | bytes of known text of each document, several with commas between | 0,1024 |
//! | `DMS_BENCH_TIERS` | for `steady` and `outage`: `wal`, `kafka` | wal,kafka |
//! | `DMS_BENCH_RATES` | writes a second of `steady`, several with commas between | 5,50 |
//! | `DMS_BENCH_SECONDS` | how long each of `steady` lasts | 40 |
//! | `DMS_BENCH_OUTAGE_S` | how long the outage lasts | 60 |
//! | `DMS_BENCH_WRITES` | writes a second during it | 500 |
//! | `DMS_BENCH_PROCESSOR` | another build of the program to measure | |

mod connector;
mod documents;
mod elasticsearch;
mod embedded;
mod line;
mod outage;
mod processor;
mod recorder;
mod replay;
mod steady;
mod system;
mod topic;

use std::str::FromStr;
use std::time::Duration;

use crate::system::Tier;

/// Figures to print need no more than 52 bits.
#[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

pub(crate) fn print(what: &str, value: &str) {
    println!("{what:<58} {value}");
}

pub(crate) fn millis(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// What a variable says, or else the default.
fn setting<T: FromStr>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} can't be {text}")),
        Err(_) => default,
    }
}

/// The same of several.
fn settings<T: FromStr>(name: &str, default: &str) -> Vec<T> {
    let text = std::env::var(name).unwrap_or_else(|_| default.to_owned());
    let read = |part: &str| part.trim().parse().unwrap_or_else(|_| panic!("{name}: {part}"));
    text.split(',').map(read).collect()
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    if let Some(child) = embedded::Child::of_environment() {
        runtime.block_on(child.run());
        return;
    }
    // Cargo says `--bench`.
    let chosen: Vec<_> = std::env::args().skip(1).filter(|part| !part.starts_with('-')).collect();
    let is_chosen = |part: &str| chosen.is_empty() || chosen.iter().any(|chosen| chosen == part);
    let documents = setting("DMS_BENCH_DOCUMENTS", 200_000);
    let texts: Vec<usize> = settings("DMS_BENCH_TEXTS", "0,1024");
    let tiers: Vec<Tier> = settings("DMS_BENCH_TIERS", "wal,kafka");
    for text_bytes in texts {
        if is_chosen("replay") {
            let rounds = setting("DMS_BENCH_ROUNDS", 2);
            system::with(&runtime, None, async |system| {
                replay::measure(system, documents, text_bytes, rounds).await;
            });
        }
        if is_chosen("embedded") {
            system::with(&runtime, None, async |system| {
                embedded::measure(system, documents, text_bytes).await;
            });
        }
    }
    for tier in tiers {
        if is_chosen("steady") {
            let rates: Vec<f64> = settings("DMS_BENCH_RATES", "5,50");
            let lasts = Duration::from_secs(setting("DMS_BENCH_SECONDS", 40));
            system::with(&runtime, Some(tier), async |system| {
                steady::measure(system, tier, &rates, lasts).await;
            });
        }
        if is_chosen("outage") {
            let lasts = Duration::from_secs(setting("DMS_BENCH_OUTAGE_S", 60));
            let writes = setting("DMS_BENCH_WRITES", 500.0);
            system::with(&runtime, Some(tier), async |system| {
                outage::measure(system, tier, lasts, writes).await;
            });
        }
    }
}
