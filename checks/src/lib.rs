//! Rules of the repository that no compiler holds. They are the tests of this crate.
