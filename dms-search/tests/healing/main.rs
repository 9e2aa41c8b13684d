//! Rebuild, drift check and repair, on random schedules of changes, failures and crashes: afterwards
//! the index has what the database has.

#[path = "../common/mod.rs"]
mod common;
mod schedules;
mod steps;
mod unruly;
