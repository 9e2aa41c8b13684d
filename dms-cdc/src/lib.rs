//! dms-cdc
