//! A change log in memory, sources over it that tests can script, and a sink that records.

mod log;
mod sink;
mod source;
mod watched;

pub use log::{InMemoryChangeLog, InMemoryChangeSource};
pub use sink::{RecordingSink, SinkCall};
pub use source::{ScriptedChangeSource, SourceHistory};
