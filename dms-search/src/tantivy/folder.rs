//! The folder of an index: opened, or made anew.
//!
//! ```text
//! DIR/lock                    held by the process that has the index open
//! DIR/documents-FINGERPRINT/  tantivy's files; another schema has another name
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use dms_core::model::change::Position;
use dms_core::{Error, ErrorChain, Result};
use serde::{Deserialize, Serialize};
use tantivy::tokenizer::TextAnalyzer;
use tantivy::{Index, IndexReader, ReloadPolicy};

use super::DEPENDENCY;
use super::directory::IndexDirectory;
use super::error::{failed, io_failed};
use super::schema::{Fields, WORDS, fingerprint, settings};
use super::tokenizer::WordTokenizer;

const LOCK_FILE: &str = "lock";
const FOLDER_PREFIX: &str = "documents-";

/// What is stored with each commit.
#[derive(Serialize, Deserialize)]
struct Payload {
    schema: String,
    position: Option<Position>,
}

/// An index that is ready for use.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) reader: IndexReader,
    pub(super) fields: Fields,
    pub(super) position: Option<Position>,
    pub(super) path: PathBuf,
    pub(super) lock: File,
}

/// Opens the index in `dir`; makes an empty one if there is none that can be used.
pub(super) fn open(dir: &Path, verify_bytes_max: u64) -> Result<Opened> {
    fs::create_dir_all(dir).map_err(io_failed("index folder can't be made"))?;
    let lock = lock(dir)?;
    let (schema, _) = Fields::new();
    let path = dir.join(format!("{FOLDER_PREFIX}{}", fingerprint(&schema)?));
    remove_leftovers(dir, &path);
    let existed = path.exists();
    let (index, reader, fields, position) = match usable(&path, verify_bytes_max) {
        Ok(parts) => parts,
        Err(error) => {
            tracing::warn!(path = %path.display(), error = %ErrorChain(&error), "index is damaged, starting afresh");
            fs::remove_dir_all(&path).map_err(io_failed("damaged index can't be removed"))?;
            usable(&path, verify_bytes_max)?
        }
    };
    // A new folder is nothing to worry about; one that lost its position is.
    if position.is_none() && existed {
        tracing::warn!(path = %path.display(), "index has no position, it must be rebuilt");
    }
    Ok(Opened { index, reader, fields, position, path, lock })
}

fn lock(dir: &Path) -> Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join(LOCK_FILE))
        .map_err(io_failed("index lock can't be opened"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(Error::unavailable(DEPENDENCY, "index folder is in use")
                .with_source(io::Error::from(io::ErrorKind::WouldBlock)))
        }
        Err(TryLockError::Error(error)) => Err(io_failed("index lock can't be taken")(error)),
    }
}

/// Removes indexes of other schemas; they are never read again.
fn remove_leftovers(dir: &Path, current: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.starts_with(FOLDER_PREFIX) && path != current {
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::warn!(path = %path.display(), "removed index of another schema"),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "index of another schema can't be removed");
                }
            }
        }
    }
}

type Parts = (Index, IndexReader, Fields, Option<Position>);

/// Opens what is there, or an empty index, as far as it can be used.
fn usable(path: &Path, verify_bytes_max: u64) -> Result<Parts> {
    // On files that make no sense tantivy may panic instead of giving an error.
    catch_unwind(AssertUnwindSafe(|| try_open(path, verify_bytes_max)))
        .unwrap_or_else(|_| Err(Error::internal("opening the index panicked")))
}

fn try_open(path: &Path, verify_bytes_max: u64) -> Result<Parts> {
    fs::create_dir_all(path).map_err(io_failed("index folder can't be made"))?;
    let (schema, fields) = Fields::new();
    let fingerprint = fingerprint(&schema)?;
    let directory = IndexDirectory::open(path).map_err(failed("index folder can't be opened"))?;
    let index = Index::builder()
        .schema(schema)
        .settings(settings())
        .open_or_create(directory)
        .map_err(failed("index can't be opened"))?;
    index.tokenizers().register(WORDS, TextAnalyzer::from(WordTokenizer::default()));
    if size_bytes(path)? <= verify_bytes_max {
        let damaged = index.validate_checksum().map_err(failed("index can't be verified"))?;
        if !damaged.is_empty() {
            return Err(Error::internal(format!("{} files have wrong checksums", damaged.len())));
        }
    }
    let reader = index
        .reader_builder()
        .reload_policy(ReloadPolicy::Manual)
        // A block may hold a document of the largest size; the page cache has it anyway.
        .doc_store_cache_num_blocks(0)
        .try_into()
        .map_err(failed("index can't be read"))?;
    let position = stored_position(&index, &fingerprint)?;
    Ok((index, reader, fields, position))
}

/// The position of the last commit; none if there was no commit that had one.
pub(super) fn stored_position(index: &Index, fingerprint: &str) -> Result<Option<Position>> {
    let metas = index.load_metas().map_err(failed("index metadata can't be read"))?;
    let Some(payload) = metas.payload else { return Ok(None) };
    let payload: Payload = serde_json::from_str(&payload)
        .map_err(|e| Error::internal("index payload can't be read").with_source(e))?;
    if payload.schema != fingerprint {
        return Err(Error::internal("index was written with another schema"));
    }
    Ok(payload.position)
}

/// What to store with a commit.
pub(super) fn payload(fingerprint: &str, position: Option<&Position>) -> Result<String> {
    let payload = Payload { schema: fingerprint.to_owned(), position: position.cloned() };
    serde_json::to_string(&payload)
        .map_err(|e| Error::internal("index payload can't be written").with_source(e))
}

/// Bytes of all files in a folder without subfolders.
pub(super) fn size_bytes(path: &Path) -> Result<u64> {
    let unreadable = io_failed("index folder can't be read");
    let mut bytes = 0;
    for entry in fs::read_dir(path).map_err(&unreadable)? {
        // A file may be removed between being listed and being looked at.
        bytes += entry.map_err(&unreadable)?.metadata().map_or(0, |metadata| metadata.len());
    }
    Ok(bytes)
}
