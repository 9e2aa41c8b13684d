//! What the SQL databases have in common besides SQL: migrations, refusals, shapes of results.

mod refusal;
mod result;
mod schema;

pub(crate) use refusal::{
    already_exists, already_signed, completed_meanwhile, key_reused, unreadable,
};
pub(crate) use result::{format_named, live_at, page};
pub(crate) use schema::Schema;

/// Name of the dependency in errors and readiness.
pub(crate) const DATABASE: &str = "database";

/// Signatures of one document in one list.
pub(crate) const SIGNATURES_LIST_MAX: u32 = 1_000;
