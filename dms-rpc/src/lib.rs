//! What crosses a process boundary: the REST and gRPC servers, the typed clients, and what they
//! share.
//!
//! | feature | gives |
//! |---|---|
//! | `server` | `rest`: the REST routers, their `OpenAPI` document and its page |
//! | `grpc` | `grpc`: the document service's server and client |
//! | `client` | `client`: the typed HTTP and WebSocket client |
//!
//! Without features there are the [`types`] on the wire, the table from errors to statuses in
//! [`problem`], and the bearer tokens of [`auth`].

pub mod auth;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "grpc")]
pub mod grpc;
pub mod problem;
#[cfg(feature = "server")]
pub mod rest;
pub mod types;
