//! The vocabulary: what there is, without how it is kept.

pub mod change;
mod digest;
mod document;
pub mod highlight;
mod id;
mod live;
pub mod search;
mod signature;
pub mod text;
pub mod text_query;
pub mod timestamp;
pub mod words;

pub use digest::Sha256;
pub use document::{
    Document, DocumentPage, DocumentPatch, DocumentStatus, ListQuery, NewDocument, ViewStats,
};
pub use id::{DocumentId, SignatureId};
pub use live::Frame;
pub use signature::{AppliedStatus, NewSignature, Signature};
