//! Cache and view counter in memory.
