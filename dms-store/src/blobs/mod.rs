//! Content in files.
//!
//! The path of a blob below the root is its key, so that a folder can be copied to an object store
//! as it is. What isn't a key is never touched or listed: content on its way in is in `.staging`,
//! in a folder of each running store, locked for as long as the store is open.
//!
//! A put is: write a staged file and sync it; give it its name with a hard link, which fails if the
//! name is taken; sync the folders whose entries are new. Whatever the moment the machine stops, the
//! name is there with all of the content or isn't there.

mod directories;
mod error;
mod files;
mod publication;
mod read;
mod staging;
mod walk;

pub use files::{FileBlobOptions, FileBlobStore};
