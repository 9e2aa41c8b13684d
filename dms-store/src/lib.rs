//! dms-store
