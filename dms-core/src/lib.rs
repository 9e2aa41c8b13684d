//! Documents and signatures: the vocabulary, the ports and the use cases. This crate does no I/O.
//!
//! Start with the use cases, [`Documents`] and [`Signatures`]. They work on the traits in [`ports`];
//! `dms-store`, `dms-cdc`, `dms-search`, `dms-realtime` and `dms-rpc` implement those.
//!
//! [`Documents`]: use_cases::Documents
//! [`Signatures`]: use_cases::Signatures

mod caller;
#[cfg(feature = "conformance")]
pub mod conformance;
mod error;
pub mod fake;
pub mod model;
pub mod ports;
pub mod use_cases;
pub mod validate;

pub use caller::{Caller, Claims, RequestId, Visitor};
pub use error::{Error, ErrorChain, ErrorKind, FieldError, Result};
pub use model::{
    AppliedStatus, Document, DocumentId, DocumentPage, DocumentPatch, DocumentStatus, Frame,
    ListQuery, NewDocument, NewSignature, Sha256, Signature, SignatureId, ViewStats,
};
