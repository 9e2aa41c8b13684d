//! The index in Elasticsearch.

mod real;
mod support;
