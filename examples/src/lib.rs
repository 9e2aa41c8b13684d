//! Small programs, one for each kind of user; `cargo run -p dms-examples --example NAME`.
//!
//! | example | for somebody who |
//! |---|---|
//! | `embed` | mounts the whole product in a program of their own |
//! | `client` | calls a running server |
//! | `index` | takes one crate alone: the search index |
//! | `fakes` | tests their own code without any service |
