//! The HTTP client against a server that records requests and answers as a test says.
#![cfg(feature = "client")]

mod calls;
mod content;
mod errors;
mod live;
#[cfg(feature = "server")]
mod rest;
mod retries;
mod support;
mod tls;
