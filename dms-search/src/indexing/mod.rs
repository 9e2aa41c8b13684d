//! What keeps an index up to date with the rows: the sink that follows the change stream, and the
//! rebuild.

mod rebuild;
mod sink;
mod texts;

pub use self::rebuild::{RebuildOptions, RebuildProgress, RebuildReport, needs_rebuild, rebuild};
pub use self::sink::{IndexingOptions, IndexingSink};
