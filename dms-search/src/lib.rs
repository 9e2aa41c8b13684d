//! dms-search
