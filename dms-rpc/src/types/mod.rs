//! What REST takes and gives, as the server and the typed client both read it.
//!
//! Documents and signatures themselves are [`dms_core::Document`] and [`dms_core::Signature`]. Bodies
//! of writes refuse unknown fields; answers may grow fields, which readers skip.

mod documents;
mod problem;
#[cfg(feature = "server")]
pub(crate) mod schema;
mod search;
mod signatures;
mod token;

pub use documents::{
    ContentEncoding, CreateDocumentBody, DocumentListBody, PatchDocumentBody, StatsBody,
};
pub use problem::{FieldProblem, ProblemBody};
pub use search::{AggregationBody, SearchBody};
pub use signatures::{CreateSignatureBody, SignatureListBody};
pub use token::TokenBody;

#[cfg(test)]
mod tests;
