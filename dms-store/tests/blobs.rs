//! Content in files.
#![cfg(feature = "files")]

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dms_core::ports::{BlobInfo, BlobStore as _};
use dms_core::use_cases::bytes_stream;
use dms_core::{DocumentId, ErrorKind, SignatureId};
use dms_store::blobs::{FileBlobOptions, FileBlobStore};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

async fn open(root: &Path) -> FileBlobStore {
    FileBlobStore::open(root, FileBlobOptions::default()).await.expect("open")
}

async fn listed(blobs: &FileBlobStore) -> Vec<BlobInfo> {
    blobs.list("").try_collect().await.expect("list")
}

async fn content(blobs: &FileBlobStore, key: &str) -> Bytes {
    let stream = blobs.get(key, None).await.expect("get").stream;
    let chunks: Vec<Bytes> = stream.try_collect().await.expect("read");
    chunks.concat().into()
}

/// Where the file of a blob is.
fn path_of(root: &Path, key: &str) -> PathBuf {
    root.join(key.replace('/', ","))
}

/// Every file below `folder`, locks and journals aside.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    // Folders may go while this looks.
    let Ok(entries) = std::fs::read_dir(folder) else { return found };
    for entry in entries.map(|entry| entry.expect("entry")) {
        if entry.file_type().expect("type").is_dir() {
            found.extend(files(&entry.path()));
        } else if entry.path().extension().is_none_or(|it| it != "lock" && it != "journal") {
            found.push(entry.path().display().to_string());
        }
    }
    found
}

#[tokio::test]
async fn passes_the_suite_on_one_thread() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    dms_core::conformance::blobs::suite(&blobs).await;
    let all = listed(&blobs).await.len();
    assert_eq!(files(folder.path()).len(), all, "no file but the blobs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn passes_the_suite_on_many_threads_with_few_steps_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileBlobOptions { concurrent_steps_max: 2, ..FileBlobOptions::default() };
    let blobs = FileBlobStore::open(&folder.path().join("a/b"), options).await.unwrap();
    dms_core::conformance::blobs::suite(&blobs).await;
}

#[tokio::test]
async fn a_blob_is_one_file_in_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    blobs.put("an-id/content", bytes_stream("hello")).await.unwrap();
    blobs.put("an-id/content/more", bytes_stream("more")).await.unwrap();
    blobs.put("an-id", bytes_stream("less")).await.expect("no key is in the way of another");
    let names = || {
        let entries = std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap);
        let mut names: Vec<_> = entries.map(|it| it.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(), [".staging", "an-id", "an-id,content", "an-id,content,more"]);
    assert_eq!(std::fs::read(folder.path().join("an-id,content")).unwrap(), b"hello");
    blobs.delete("an-id/content").await.unwrap();
    assert_eq!(names(), [".staging", "an-id", "an-id,content,more"]);
}

#[tokio::test]
async fn what_is_no_blob_is_neither_listed_nor_read() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    let pending = stream::iter([Ok(Bytes::from(vec![7; 1 << 20]))]).chain(stream::pending());
    let mut put = blobs.put("unfinished/content", pending.boxed());
    while files(folder.path()).is_empty() {
        assert!(futures_util::future::poll_immediate(&mut put).await.is_none());
        tokio::task::yield_now().await;
    }
    std::fs::create_dir_all(folder.path().join("lost+found/x")).unwrap();
    std::fs::write(folder.path().join("lost+found/x/content"), "x").unwrap();
    for name in [".hidden", ",x", "x,", "x,,y", "x,.y", "lost+found.txt~", "x y"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    std::fs::create_dir(folder.path().join("a-folder")).unwrap();
    std::fs::write(folder.path().join("a-folder/content"), "x").unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("/etc", folder.path().join("link")).unwrap();
    assert_eq!(listed(&blobs).await, []);
    let error = blobs.get("a-folder", None).await.map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    blobs.delete("a-folder").await.expect("no blob there");
    assert!(folder.path().join("a-folder").exists());
    drop(put);
}

#[tokio::test]
async fn two_stores_on_one_folder_give_a_key_once() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (open(folder.path()).await, open(folder.path()).await);
    for _ in 0..50 {
        let key = format!("{}/content", DocumentId::generate());
        let (first, second) = tokio::join!(
            one.put(&key, bytes_stream("one")),
            other.put(&key, bytes_stream("other")),
        );
        let winner = match (first, second) {
            (Ok(_), Err(error)) => ("one", error),
            (Err(error), Ok(_)) => ("other", error),
            outcome => panic!("one of both wins: {outcome:?}"),
        };
        assert_eq!(winner.1.code(), "already_exists");
        assert_eq!(content(&one, &key).await, winner.0);
    }
}

#[tokio::test]
async fn a_put_that_takes_too_long_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = FileBlobOptions { step_timeout: Duration::ZERO, ..FileBlobOptions::default() };
    let hasty = FileBlobStore::open(folder.path(), options).await.unwrap();
    let (mut stored, mut refused) = (Vec::new(), 0);
    for i in 0..200 {
        let key = format!("{i}/content");
        match hasty.put(&key, bytes_stream(vec![1; if i % 2 == 0 { 10 } else { 1 << 20 }])).await {
            Ok(_) => stored.push(path_of(folder.path(), &key).display().to_string()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
                assert_eq!(error.dependency(), Some("storage"));
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "some take longer than no time at all");
    stored.sort();
    let began = Instant::now();
    loop {
        let mut files = files(folder.path());
        files.sort();
        if files == stored {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{files:?} but stored {stored:?}");
        tokio::task::yield_now().await;
    }
}

/// A pipe without a writer stands for storage that hangs: opening it blocks.
#[cfg(unix)]
#[tokio::test]
async fn storage_that_hangs_costs_a_bounded_wait_and_a_bounded_number_of_threads() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        FileBlobOptions { step_timeout: Duration::from_millis(50), concurrent_steps_max: 1 };
    let blobs = FileBlobStore::open(folder.path(), options).await.unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for _ in 0..3 {
        let error = blobs.get("pipe", None).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let error = blobs.put("x/content", bytes_stream("x")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert_eq!(blobs.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    // Opening both ends never blocks, and lets the thread that hangs go on.
    let _both = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let began = Instant::now();
    while blobs.check().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(20), "it doesn't recover");
    }
    assert_eq!(files(folder.path()), [pipe.display().to_string()], "nothing was stored late");
}

#[tokio::test]
async fn a_store_whose_folder_is_gone_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("blobs");
    let blobs = open(&root).await;
    blobs.check().await.unwrap();
    std::fs::remove_dir_all(&root).unwrap();
    assert_eq!(blobs.check().await.unwrap_err().kind(), ErrorKind::Unavailable);
    let error = blobs.put("x/content", bytes_stream("x")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let error = blobs.list("").try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "a missing store isn't an empty one");
    assert!(!root.exists(), "nor is it made again");
}

#[tokio::test]
async fn a_folder_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = FileBlobStore::open(file.path(), FileBlobOptions::default()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_blob_being_read_may_be_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(folder.path()).await;
    let whole: Bytes = (0..3_000_000_u32).map(|i| (i % 253) as u8).collect();
    blobs.put("x/content", bytes_stream(whole.clone())).await.unwrap();
    let reading = blobs.get("x/content", None).await.unwrap();
    blobs.delete("x/content").await.unwrap();
    let chunks: Vec<Bytes> = reading.stream.try_collect().await.unwrap();
    assert!(chunks.concat() == whole);
}

const CHILD_ROOT: &str = "DMS_TEST_BLOBS_ROOT";

/// Content that says which key it belongs to, and whether it is whole.
fn content_of(key: &str) -> Vec<u8> {
    let repeats = 1 + key.bytes().map(usize::from).sum::<usize>() % 20_000;
    let mut content = key.repeat(repeats).into_bytes();
    content.extend_from_slice(b"end");
    content
}

/// Not a test by itself: what [`what_was_acknowledged_survives_kill`] kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_puts_until_it_is_killed() {
    let Some(root) = std::env::var_os(CHILD_ROOT) else { return };
    let blobs = open(Path::new(&root)).await;
    stream::repeat(())
        .for_each_concurrent(8, |()| async {
            let key = format!("{}/content", DocumentId::generate());
            blobs.put(&key, bytes_stream(content_of(&key))).await.expect("put");
            println!("put {key}");
        })
        .await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_puts_until_it_is_killed", "--nocapture"])
            .env(CHILD_ROOT, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut lines = lines.filter_map(|line| line.split_once("put ").map(|it| it.1.to_owned()));
        let mut acknowledged: Vec<_> = lines.by_ref().take(40).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(lines);
        assert!(acknowledged.len() >= 40);
        let blobs = open(folder.path()).await;
        for key in &acknowledged {
            assert!(content(&blobs, key).await == content_of(key), "{key} is whole");
        }
        let listed = listed(&blobs).await;
        for blob in &listed {
            assert_eq!(blob.size, content_of(&blob.key).len() as u64, "{} is whole", blob.key);
        }
        assert_eq!(files(folder.path()).len(), listed.len(), "unfinished content is swept");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Has each blob in a folder of its own, as it once was.
fn into_folders(root: &Path) {
    for entry in std::fs::read_dir(root).unwrap().map(Result::unwrap) {
        let key = entry.file_name().into_string().unwrap().replace(',', "/");
        if entry.file_type().unwrap().is_file() {
            std::fs::create_dir_all(root.join(&key).parent().unwrap()).unwrap();
            std::fs::rename(entry.path(), root.join(&key)).unwrap();
        }
    }
    std::fs::write(root.join(".staging/opening.lock"), "").unwrap();
}

/// Whatever of it a start has done that was cut off.
#[tokio::test]
async fn content_in_folders_of_its_own_is_moved_out_once() {
    let mut keys: Vec<_> = (0..4).map(|_| format!("{}/content", DocumentId::generate())).collect();
    keys.extend((0..3).map(|_| format!("signatures/{}/image", SignatureId::generate())));
    keys.sort();
    for done in 0..=keys.len() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = open(folder.path()).await;
        for key in &keys {
            blobs.put(key, bytes_stream(content_of(key))).await.unwrap();
        }
        drop(blobs);
        into_folders(folder.path());
        let foreign = ["somebody-s/content", "somebody-s/own/file", "signatures.bak/x/image"];
        for path in foreign.map(|path| folder.path().join(path)) {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "foreign").unwrap();
        }
        for (at, key) in keys.iter().enumerate().take(done) {
            std::fs::rename(folder.path().join(key), path_of(folder.path(), key)).unwrap();
            if at + 1 < done {
                std::fs::remove_dir(folder.path().join(key).parent().unwrap()).unwrap();
            }
        }
        let blobs = open(folder.path()).await;
        for key in &keys {
            assert!(content(&blobs, key).await == content_of(key), "{key} after {done}");
        }
        let mut listed: Vec<_> = listed(&blobs).await.into_iter().map(|blob| blob.key).collect();
        listed.sort();
        assert_eq!(listed, keys, "after {done}");
        let mut left: Vec<_> = keys.iter().map(|key| path_of(folder.path(), key)).collect();
        left.extend(foreign.map(|path| folder.path().join(path)));
        let mut left: Vec<_> = left.iter().map(|path| path.display().to_string()).collect();
        left.sort();
        let mut found = files(folder.path());
        found.sort();
        assert_eq!(found, left, "others' files stay where they are");
        let gone = |key: &String| !folder.path().join(key).parent().unwrap().exists();
        assert!(keys.iter().all(gone) && !folder.path().join("signatures").exists());

        // The next start doesn't look at everything again.
        drop(blobs);
        let late = folder.path().join(&keys[0]);
        std::fs::create_dir_all(late.parent().unwrap()).unwrap();
        std::fs::write(&late, "x").unwrap();
        assert!(content(&open(folder.path()).await, &keys[0]).await == content_of(&keys[0]));
        assert!(late.exists());
    }
}

/// The disk after a power failure: the journal is there, the files that weren't synced are torn or
/// missing.
#[tokio::test]
async fn what_was_acknowledged_is_restored_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("blobs");
    let blobs = open(&root).await;
    let journal = root.join(".staging/0/0.journal");
    let is_recording = || std::fs::read(&journal).is_ok_and(|bytes| bytes.iter().any(|b| *b > 0));
    let began = Instant::now();
    while !is_recording() {
        assert!(began.elapsed() < Duration::from_secs(20), "the journal isn't used");
        let key = format!("{}/content", DocumentId::generate());
        blobs.put(&key, bytes_stream("first")).await.unwrap();
    }
    let mut kept = Vec::new();
    for size in [0, 1, 1_000, 32 << 10, 100 << 10] {
        for _ in 0..3 {
            let key = format!("{}/content", DocumentId::generate());
            let content = Bytes::from(vec![b'x'; size]);
            blobs.put(&key, bytes_stream(content.clone())).await.unwrap();
            kept.push((key, content));
        }
    }
    let removed = format!("{}/content", DocumentId::generate());
    blobs.put(&removed, bytes_stream("removed")).await.unwrap();
    blobs.delete(&removed).await.unwrap();

    let disk = folder.path().join("disk");
    copy_folder(&root, &disk);
    for (at, (key, content)) in kept.iter().enumerate() {
        // Larger content is synced as a file.
        if content.len() <= 32 << 10 {
            match at % 3 {
                0 => std::fs::write(path_of(&disk, key), "").unwrap(),
                1 => std::fs::remove_file(path_of(&disk, key)).unwrap(),
                _ => {}
            }
        }
    }
    let disk_of_before = folder.path().join("disk-of-before");
    copy_folder(&disk, &disk_of_before);
    into_folders(&disk_of_before);
    for disk in [&disk, &disk_of_before] {
        let restored = open(disk).await;
        for (key, expected) in &kept {
            let found = content(&restored, key).await;
            assert!(found == *expected, "{key} of {} bytes in {disk:?}", expected.len());
        }
        let error = restored.get(&removed, None).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(files(disk).len(), listed(&restored).await.len(), "no file but the blobs");
    }
    drop(blobs);
    for root in [root, disk, disk_of_before] {
        let left = std::fs::read_dir(root.join(".staging")).unwrap().count();
        assert_eq!(left, 1, "closed stores leave the lock of opening only");
    }
}
