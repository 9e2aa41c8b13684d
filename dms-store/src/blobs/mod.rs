//! Content in files.
//!
//! A blob is one file in the root, its name the key with a comma for each `/`. What isn't the name of a key
//! is never touched or listed: content on its way in is in `.staging`, in a folder of each running
//! store, locked for as long as the store is open.
//!
//! A put is: write a staged file and make it durable; give it its name with a hard link, which fails
//! if the name is taken; make the name durable. Small content is made durable by a record in a
//! journal, which puts share and their files follow later; other content by a sync of the file and of
//! the root. Whatever the moment the machine stops, once the folder is open
//! again the name is there with all of the content or isn't there.

mod directories;
mod error;
mod files;
mod journal;
mod layout;
mod name;
mod publication;
mod read;
mod record;
mod staging;
mod walk;

pub use files::{FileBlobOptions, FileBlobStore};
