//! The write-ahead log of PostgreSQL, with a real server.
//!
//! Each test has a database of its own, which goes with its slots when the test ends. The server has
//! few slots, so no test holds more than three.

mod conformance;
mod database;
mod line;
mod private;
mod proxy;
mod rows;
mod slots;
