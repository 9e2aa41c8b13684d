//! Content in memory.
