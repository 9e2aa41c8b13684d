//! The use cases: what can be done with documents and signatures.

mod cache_invalidation;
mod content;
mod documents;
mod intake;
mod signatures;
mod sweeper;

pub use cache_invalidation::CacheInvalidation;
pub use content::bytes_stream;
pub use documents::{Created, DocumentLimits, Documents, DocumentsPorts};
pub use intake::{CreateDocument, Intake};
pub use signatures::{CreateSignature, ReconcileReport, Signatures, SignaturesPorts};
pub use sweeper::{SweepReport, Sweeper};
