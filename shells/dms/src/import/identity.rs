//! What makes two files the same document: title and content, for one creator.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use dms_core::Sha256;
use sha2::{Digest as _, Sha256 as Hasher};

/// How much of a file is read at a time.
const CHUNK_BYTES: usize = 64 << 10;

/// A document's identity for an import: half a SHA-256 of title and content hash, so that a million
/// of them take 16 MB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 16]);

impl Identity {
    /// The identity of content under a title.
    pub fn new(title: &str, content: &Sha256) -> Self {
        let digest: [u8; 32] =
            Hasher::new().chain_update(content.as_bytes()).chain_update(title).finalize().into();
        let mut half = [0; 16];
        half.copy_from_slice(&digest[..16]);
        Self(half)
    }

    /// The key that makes a repeated upload safe even if its first answer was lost.
    pub fn idempotency_key(&self, created_by: &str) -> String {
        let creator = Sha256::of(created_by.as_bytes());
        let mut hasher = Hasher::new();
        hasher.update(self.0);
        hasher.update(creator.as_bytes());
        format!("import-{}", Sha256::from_bytes(hasher.finalize().into()))
    }
}

/// Documents that are already there.
pub type Known = HashSet<Identity>;

/// Hashes a file; gives its size too.
///
/// # Errors
/// If the file can't be read.
pub fn hash_file(path: &Path) -> std::io::Result<(u64, Sha256)> {
    let mut file = File::open(path)?;
    let mut hasher = Hasher::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut size = 0;
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((size, Sha256::from_bytes(hasher.finalize().into())));
        }
        size += read as u64;
        hasher.update(&chunk[..read]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn title_content_and_creator_make_the_key() {
        let content = Sha256::of(b"content");
        let identity = Identity::new("title", &content);
        assert_eq!(identity, Identity::new("title", &content));
        assert_ne!(identity, Identity::new("other", &content));
        assert_ne!(identity, Identity::new("title", &Sha256::of(b"other")));
        assert_ne!(identity.idempotency_key("ann"), identity.idempotency_key("bob"));
    }

    #[test]
    fn a_file_hashes_as_its_bytes() {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        let content = vec![7; CHUNK_BYTES + 1];
        std::io::Write::write_all(&mut file, &content).expect("a write");
        let (size, hash) = hash_file(file.path()).expect("a readable file");
        assert_eq!((size, hash), (content.len() as u64, Sha256::of(&content)));
    }
}
