//! `PostgreSQL`, straight and through `PgBouncer`.
#![cfg(feature = "postgres")]

mod bed;
mod cancelled;
mod conformance;
mod pooler;
mod proxy;
mod schema;
mod unreachable;
