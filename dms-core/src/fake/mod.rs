//! In-memory implementations of every port, for tests and for trying things out.
//!
//! They pass the same conformance suites as the real backends. Each starts empty and keeps what it
//! is given until it is dropped.

mod blobs;
mod cache;
mod index;
mod outside;
mod repositories;
mod stream;
