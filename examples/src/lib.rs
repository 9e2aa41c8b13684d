//! dms-examples
