//! Content in files.
//!
//! The path of a blob below the root is its key, so that a folder can be copied to an object store
//! as it is. What isn't a key is never touched or listed: content on its way in is in `.staging`,
//! in a folder of each running store, locked for as long as the store is open.
//!
//! A put is: write a staged file and make it durable; give it its name with a hard link, which fails
//! if the name is taken; make the name durable. Small content is made durable by a record in a
//! journal, which puts share and their files follow later; other content by a sync of the file and of
//! the folders whose entries are new. Whatever the moment the machine stops, once the folder is open
//! again the name is there with all of the content or isn't there.

mod directories;
mod error;
mod files;
mod journal;
mod publication;
mod read;
mod record;
mod staging;
mod walk;

pub use files::{FileBlobOptions, FileBlobStore};
