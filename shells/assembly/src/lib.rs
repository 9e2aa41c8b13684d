//! What programs are assembled from.
//!
//! A program names its ports and gets them open: each from the backend that the settings' URL stands
//! for, watched by a health check, prepared and closed in order.
//!
//! - [`Assembly`]: the backends of one program, with its health and its background tasks.
//! - [`Tokens`]: what tokens are checked with, as the settings say.
//! - [`Indexing`], [`LiveFeed`], [`upkeep`]: the background tasks.
//! - [`service`]: from command line to drained stop, for programs that are little more than that.

mod assembly;
mod backends;
pub mod commands;
mod indexing;
mod live_feed;
mod preparation;
pub mod service;
mod tasks;
mod tokens;
pub mod upkeep;

pub use assembly::{Assembly, AssemblyOptions};
pub use backends::{ChangeSources, Reads, Repositories};
pub use indexing::{INDEX_CONSUMER, IndexState, Indexing, IndexingPorts};
pub use live_feed::LiveFeed;
pub use service::{Faces, run_service};
pub use tokens::Tokens;
