//! The suite of the port of this name.
