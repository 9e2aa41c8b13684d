//! The gRPC server and client over real connections, on documents that do what a test says.
#![cfg(feature = "grpc")]

mod authentication;
mod calls;
mod client;
mod connections;
mod deadlines;
mod discovery;
mod support;
