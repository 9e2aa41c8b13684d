//! gRPC: the documents served to other services, and reached from them.
//!
//! - [`DocumentServer`] answers the calls of `proto/document_service.proto`; [`GrpcServer`] puts
//!   authentication, deadlines, bounds, health and reflection around it and serves it.
//! - [`GrpcDocumentClient`] is the [`DocumentClient`](dms_core::ports::DocumentClient) of another
//!   process.

mod authentication;
mod connections;
mod convert;
mod document_client;
mod document_server;
mod gate;
mod health;
mod server;
mod status;

pub use authentication::{GrpcAuthentication, ServiceToken};
pub use document_client::{GrpcClientConfig, GrpcDocumentClient};
pub use document_server::DocumentServer;
pub use health::GrpcHealth;
pub use server::{GrpcLimits, GrpcServer};

/// Messages, client and server of `proto/document_service.proto`, as generated from it.
pub mod proto {
    #![allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        reason = "generated code; whether it trips a lint depends on the generator's version"
    )]

    include!("generated/document.rs");

    /// The encoded file descriptor set of the protocol, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/document.bin");
}
