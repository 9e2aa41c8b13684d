//! dms-rpc
