//! A search index in memory.
