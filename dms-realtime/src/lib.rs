//! dms-realtime
