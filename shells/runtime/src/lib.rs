//! dms-runtime
