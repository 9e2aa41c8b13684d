//! What keeps an index equal to the rows: the sink that follows the change stream, the rebuild, the
//! check that nothing differs, and the measure of how soon searches find what is new.

mod drift;
mod follow;
mod persist;
mod rebuild;
mod searchable;
mod sink;
mod texts;
mod walk;

pub use self::drift::{
    Drift, DriftReport, DriftWatch, DriftWatchOptions, VerifyOptions, repair, verify,
};
pub use self::rebuild::{
    RebuildOptions, RebuildProgress, RebuildReport, needs_rebuild, rebuild, rebuild_beside,
};
pub use self::searchable::{SearchableWatch, SearchableWatchOptions};
pub use self::sink::{IndexingOptions, IndexingSink};
pub use self::walk::DriftKind;
