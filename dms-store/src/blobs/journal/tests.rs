//! What a journal brings back, and when it takes no more.

use std::fs;

use super::volume::VOLUME_BYTES;
use super::*;
use crate::blobs::name::path_of;

struct World {
    root: tempfile::TempDir,
    folder: PathBuf,
    journal: Journal,
}

/// A journal that takes records.
fn running() -> World {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join(".staging/0");
    fs::create_dir_all(&folder).unwrap();
    let journal = Journal::new(root.path(), &folder);
    while journal.record("first/content", &[]).is_none() {
        std::thread::yield_now();
    }
    World { root, folder, journal }
}

impl World {
    fn path(&self, key: &str) -> PathBuf {
        path_of(self.root.path(), key)
    }

    /// What a put does.
    fn put(&self, key: &str, content: &[u8]) {
        let recorded = self.journal.record(key, &[Bytes::copy_from_slice(content)]);
        let recorded = recorded.expect("recorded");
        fs::write(self.path(key), content).unwrap();
        assert!(recorded.counts(key));
    }

    fn remove(&self, key: &str) {
        self.journal.forget(key);
        fs::remove_file(self.path(key)).unwrap();
    }
}

#[test]
fn a_replay_restores_what_is_torn_or_missing_and_nothing_that_was_removed() {
    let world = running();
    for key in ["whole", "torn", "missing", "removed", "again"] {
        world.put(&format!("{key}/content"), key.as_bytes());
    }
    world.remove("removed/content");
    world.remove("again/content");
    world.put("again/content", b"something else");
    let recorded = world.journal.record("unnamed/content", &[Bytes::from_static(b"x")]);
    drop(recorded);
    // As a power failure may leave it.
    fs::write(world.path("torn/content"), "").unwrap();
    fs::remove_file(world.path("missing/content")).unwrap();

    replay(world.root.path(), &world.folder).unwrap();
    let read = |key: &str| fs::read_to_string(world.path(&format!("{key}/content"))).ok();
    assert_eq!(read("whole").as_deref(), Some("whole"));
    assert_eq!(read("torn").as_deref(), Some("torn"));
    assert_eq!(read("missing").as_deref(), Some("missing"));
    assert_eq!(read("again").as_deref(), Some("something else"));
    assert_eq!(read("removed"), None);
    assert_eq!(read("unnamed").as_deref(), Some("x"), "left to the sweeper");
    replay(world.root.path(), &world.folder).expect("any number of times");
    assert!(world.journal.close(), "nothing is left to be replayed");
    fs::remove_file(world.path("whole/content")).unwrap();
    replay(world.root.path(), &world.folder).unwrap();
    assert_eq!(read("whole"), None, "a closed journal has no records");
}

#[test]
fn volumes_take_turns_and_wait_for_puts_under_way() {
    let world = running();
    let content = [Bytes::from(vec![7; CONTENT_BYTES_MAX])];
    let mut held = Vec::new();
    while let Some(recorded) = world.journal.record(&format!("{}/content", held.len()), &content) {
        held.push(recorded);
    }
    let both = 2 * VOLUME_BYTES / (CONTENT_BYTES_MAX + 100);
    assert!((both - 2..=both).contains(&held.len()), "{} records", held.len());
    assert!(world.journal.record("one-more/content", &[]).is_none(), "both are full");
    held.clear();
    while world.journal.record("one-more/content", &content).is_none() {
        std::thread::yield_now();
    }
    assert!(world.journal.close());
    assert!(world.journal.record("late/content", &[]).is_none(), "closed");
}

#[test]
fn a_taken_back_record_does_not_count() {
    let world = running();
    let recorded = world.journal.record("a/content", &[]).unwrap();
    assert!(recorded.counts("a/content"));
    world.journal.forget("a/content");
    world.journal.forget("never-recorded/content");
    assert!(!recorded.counts("a/content"));
}

#[test]
fn files_that_cannot_be_synced_are_written_anew() {
    let world = running();
    world.put("a/content", b"hello");
    let volumes: Vec<_> = record::VOLUMES.iter().map(|name| world.folder.join(name)).collect();
    fs::write(world.path("a/content"), "lost").unwrap();
    restore(world.root.path(), &world.folder, &volumes, Existing::Replaced).unwrap();
    assert_eq!(fs::read(world.path("a/content")).unwrap(), b"hello");
}
