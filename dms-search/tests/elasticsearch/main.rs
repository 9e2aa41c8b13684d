//! The index in Elasticsearch.

#[path = "../common/mod.rs"]
mod common;
mod faults;
mod real;
mod scripted;
mod support;
