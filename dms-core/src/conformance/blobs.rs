//! Content: [`BlobStore`].

use std::collections::HashSet;
use std::future::poll_fn;
use std::ops::Range;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use crate::ports::{BlobInfo, BlobStore, ByteStream};
use crate::use_cases::bytes_stream;
use crate::{DocumentId, Error, ErrorKind, Result, SignatureId};

/// Around the sizes at which implementations change their way of writing.
const SIZES: [usize; 11] = [
    0,
    1,
    1_023,
    65_537,
    (256 << 10) - 1,
    256 << 10,
    (256 << 10) + 1,
    (1 << 20) - 1,
    (1 << 20) + 1,
    3_000_017,
    (5 << 20) + 3,
];

/// Large enough for every way of writing that streams.
const LARGE: usize = 2_000_003;

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// Checks everything that [`BlobStore`] promises. Leaves blobs under new ids behind.
///
/// # Panics
/// If a promise is broken.
pub async fn suite(blobs: &dyn BlobStore) {
    blobs.check().await.expect("check");
    round_trips(blobs).await;
    chunk_sizes(blobs).await;
    absent(blobs).await;
    created_once(blobs).await;
    concurrent_puts(blobs).await;
    failing_streams(blobs).await;
    dropped_puts(blobs).await;
    puts_dropped_anywhere(blobs).await;
    ranges(blobs).await;
    deletion(blobs).await;
    listing(blobs).await;
    refused_keys(blobs).await;
}

fn new_key() -> String {
    format!("{}/content", DocumentId::generate())
}

/// Content whose every position differs from its neighbours', and differs by `seed`.
fn content(size: usize, seed: u8) -> Bytes {
    let low = |i: usize| i.to_le_bytes()[0];
    (0..size).map(|i| low(i % 251) ^ low(i >> 10) ^ seed).collect()
}

fn in_chunks(content: &Bytes, chunk_bytes: usize) -> ByteStream {
    let content = content.clone();
    let starts = (0..content.len()).step_by(chunk_bytes);
    let chunks: Vec<_> = starts
        .map(|start| Ok(content.slice(start..content.len().min(start + chunk_bytes))))
        .collect();
    stream::iter(chunks).boxed()
}

async fn read(blobs: &dyn BlobStore, key: &str, range: Option<Range<u64>>) -> Result<(u64, Bytes)> {
    let blob = blobs.get(key, range).await?;
    let chunks: Vec<Bytes> = blob.stream.try_collect().await.expect("reading a blob");
    Ok((blob.size, Bytes::from(chunks.concat())))
}

async fn assert_content(blobs: &dyn BlobStore, key: &str, expected: &Bytes, step: &str) {
    let (size, read) = read(blobs, key, None).await.expect(step);
    assert_eq!(size, expected.len() as u64, "{step}: size");
    assert!(read == *expected, "{step}: content of {} bytes differs", expected.len());
}

async fn listed(blobs: &dyn BlobStore, prefix: &str) -> Vec<BlobInfo> {
    let mut listed: Vec<_> = blobs.list(prefix).try_collect().await.expect("list");
    listed.sort_by(|a: &BlobInfo, b| a.key.cmp(&b.key));
    listed
}

async fn is_visible(blobs: &dyn BlobStore, key: &str) -> bool {
    let readable = match blobs.get(key, None).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
            false
        }
    };
    readable || !listed(blobs, key).await.is_empty()
}

fn assert_taken(error: &Error, step: &str) {
    assert_eq!(error.kind(), ErrorKind::Conflict, "{step}: {error:?}");
    assert_eq!(error.code(), "already_exists", "{step}: {error:?}");
}

/// Lets other tasks and threads go on for a moment.
async fn breathe() {
    std::thread::sleep(Duration::from_millis(1));
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Polls once; gives the output if there is one.
async fn poll_once<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    poll_fn(|cx| match future.poll_unpin(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

async fn round_trips(blobs: &dyn BlobStore) {
    for size in SIZES {
        let step = format!("round trip of {size} bytes");
        let (key, content) = (new_key(), content(size, 1));
        let stored = blobs.put(&key, bytes_stream(content.clone())).await.expect(&step);
        assert_eq!(stored, size as u64, "{step}: size put");
        assert_content(blobs, &key, &content, &step).await;
    }
    let (key, content) = (format!("signatures/{}/image", SignatureId::generate()), content(99, 2));
    blobs.put(&key, bytes_stream(content.clone())).await.expect("put of an image");
    assert_content(blobs, &key, &content, "an image").await;
    let key = format!("{}/{}/{}", DocumentId::generate(), "x".repeat(128), "y".repeat(34));
    assert_eq!(key.len(), 200, "the longest key");
    blobs.put(&key, bytes_stream(content.clone())).await.expect("put under the longest key");
    assert_content(blobs, &key, &content, "under the longest key").await;
    assert_eq!(listed(blobs, &key).await.len(), 1, "the longest key is listed");
}

async fn chunk_sizes(blobs: &dyn BlobStore) {
    for (size, chunk_bytes) in
        [(5_003, 1), (70_001, 7), (LARGE, 977), (LARGE, 65_537), (LARGE, 262_143), (LARGE, 999_999)]
    {
        let step = format!("{size} bytes in chunks of {chunk_bytes}");
        let (key, content) = (new_key(), content(size, 3));
        let empty = || stream::iter([Ok(Bytes::new())]);
        let chunks = empty().chain(in_chunks(&content, chunk_bytes)).chain(empty()).boxed();
        assert_eq!(blobs.put(&key, chunks).await.expect(&step), size as u64, "{step}: size put");
        assert_content(blobs, &key, &content, &step).await;
    }
}

async fn absent(blobs: &dyn BlobStore) {
    let id = DocumentId::generate();
    for key in [format!("{id}/content"), format!("{id}"), format!("{id}/content/more")] {
        assert!(!is_visible(blobs, &key).await, "{key} was never put");
        blobs.delete(&key).await.expect("delete of nothing");
    }
}

async fn created_once(blobs: &dyn BlobStore) {
    for (first, second) in [(10, 10), (10, LARGE), (LARGE, 10), (LARGE, LARGE), (0, 5), (5, 0)] {
        let step = format!("put of {second} bytes over {first}");
        let (key, kept) = (new_key(), content(first, 4));
        blobs.put(&key, bytes_stream(kept.clone())).await.expect(&step);
        let error = blobs
            .put(&key, in_chunks(&content(second, 5), 100_000))
            .await
            .expect_err("the key is taken");
        assert_taken(&error, &step);
        assert_content(blobs, &key, &kept, &step).await;
        assert_eq!(listed(blobs, &key).await.len(), 1, "{step}: one blob");
    }
}

async fn concurrent_puts(blobs: &dyn BlobStore) {
    for size in [1_000, LARGE] {
        for round in 0..4 {
            let key = new_key();
            let contents: Vec<_> = (0..8).map(|seed| content(size, seed)).collect();
            let puts = contents.iter().map(|content| blobs.put(&key, in_chunks(content, 70_000)));
            let mut winners = Vec::new();
            for (seed, outcome) in join_all(puts).await.into_iter().enumerate() {
                match outcome {
                    Ok(_) => winners.push(seed),
                    Err(error) => assert_taken(&error, "concurrent puts"),
                }
            }
            assert_eq!(winners.len(), 1, "winners of round {round} with {size} bytes");
            assert_content(blobs, &key, &contents[winners[0]], "the winner's").await;
        }
    }
}

async fn failing_streams(blobs: &dyn BlobStore) {
    for size in [0, 1_000, LARGE] {
        let step = format!("a stream that fails after {size} bytes");
        let key = new_key();
        let failure = stream::iter([Err(Error::too_large(7)), Ok(Bytes::from_static(b"more"))]);
        let error = blobs
            .put(&key, in_chunks(&content(size, 6), 100_000).chain(failure).boxed())
            .await
            .expect_err(&step);
        assert_eq!(error.kind(), ErrorKind::TooLarge, "{step}: {error:?}");
        assert!(!is_visible(blobs, &key).await, "{step} leaves nothing");
        let whole = content(size, 7);
        blobs.put(&key, bytes_stream(whole.clone())).await.expect(&step);
        assert_content(blobs, &key, &whole, &step).await;
    }
}

async fn dropped_puts(blobs: &dyn BlobStore) {
    for size in [0, 1_000, LARGE] {
        let step = format!("a put dropped while it waits for more than {size} bytes");
        let id = DocumentId::generate();
        let key = format!("{id}/content");
        let waiting = in_chunks(&content(size, 8), 100_000).chain(stream::pending()).boxed();
        let mut put = blobs.put(&key, waiting);
        for _ in 0..50 {
            assert!(poll_once(&mut put).await.is_none(), "{step}: the stream hasn't ended");
            breathe().await;
        }
        assert!(!is_visible(blobs, &key).await, "{step}: not visible before it is whole");
        assert!(listed(blobs, &id.to_string()).await.is_empty(), "{step}: nothing listed");
        drop(put);
        assert!(!is_visible(blobs, &key).await, "{step} leaves nothing");
        let whole = content(size, 9);
        blobs.put(&key, bytes_stream(whole.clone())).await.expect(&step);
        assert_content(blobs, &key, &whole, &step).await;
    }
}

/// Drops a put after ever more polls, until one is so late that it has ended.
async fn puts_dropped_anywhere(blobs: &dyn BlobStore) {
    for size in [1_000, LARGE] {
        for polls in 1.. {
            let step = format!("a put of {size} bytes dropped after {polls} polls");
            let key = new_key();
            let mut put = blobs.put(&key, in_chunks(&content(size, 10), 300_000));
            let mut outcome = None;
            for poll in 0..polls {
                // Not before the first poll: some rounds shall end while the store is at work.
                if poll > 0 && polls % 2 == 0 {
                    breathe().await;
                }
                outcome = poll_once(&mut put).await;
                if outcome.is_some() {
                    break;
                }
            }
            drop(put);
            if let Some(outcome) = outcome {
                outcome.expect(&step);
                break;
            }
            let whole = content(10, 11);
            put_once_free(blobs, &key, &whole, &step).await;
            assert_content(blobs, &key, &whole, &step).await;
            assert!(polls < 100_000, "{step}: still not done");
        }
    }
}

/// Puts as soon as what a dropped put left on its way is withdrawn.
async fn put_once_free(blobs: &dyn BlobStore, key: &str, content: &Bytes, step: &str) {
    let began = Instant::now();
    loop {
        match blobs.put(key, bytes_stream(content.clone())).await {
            Ok(_) => return,
            Err(error) => assert_taken(&error, step),
        }
        assert!(began.elapsed() < PATIENCE, "{step}: the key stays taken");
        breathe().await;
    }
}

async fn ranges(blobs: &dyn BlobStore) {
    for size in [10, 1_500_000] {
        let (key, content) = (new_key(), content(size, 12));
        blobs.put(&key, bytes_stream(content.clone())).await.expect("put");
        for (start, end) in [
            (0, 1),
            (0, size),
            (0, size - 1),
            (1, size),
            (size / 3, size / 2),
            (size - 1, size),
            (size / 2, size),
        ] {
            let step = format!("bytes {start}..{end} of {size}");
            let range = Some(start as u64..end as u64);
            let (whole, part) = read(blobs, &key, range).await.expect(&step);
            assert_eq!(whole, size as u64, "{step}: size of the whole");
            assert!(part == content.slice(start..end), "{step} differ");
        }
        let size = size as u64;
        for range in [0..size + 1, size..size + 1, size + 5..size + 9, 1..u64::MAX] {
            let step = format!("bytes {range:?} of {size}");
            let error = read(blobs, &key, Some(range)).await.expect_err(&step);
            assert_eq!(error.kind(), ErrorKind::RangeNotSatisfiable, "{step}: {error:?}");
            assert_eq!(error.content_size(), Some(size), "{step}: says the size");
        }
    }
    let key = new_key();
    let error = read(blobs, &key, Some(0..1)).await.expect_err("a range of nothing");
    assert_eq!(error.kind(), ErrorKind::NotFound, "a range of nothing: {error:?}");
    blobs.put(&key, bytes_stream("")).await.expect("put of nothing");
    let error = read(blobs, &key, Some(0..1)).await.expect_err("a range of an empty blob");
    assert_eq!(error.kind(), ErrorKind::RangeNotSatisfiable, "range of an empty blob: {error:?}");
}

async fn deletion(blobs: &dyn BlobStore) {
    let id = DocumentId::generate();
    let (key, sibling) = (format!("{id}/content"), format!("{id}/other"));
    for round in 0..3 {
        let content = content(100, round);
        blobs.put(&key, bytes_stream(content.clone())).await.expect("put");
        blobs.put(&sibling, bytes_stream("sibling")).await.expect("put of a sibling");
        blobs.delete(&key).await.expect("delete");
        assert!(!is_visible(blobs, &key).await, "deleted");
        blobs.delete(&key).await.expect("delete again");
        assert_content(blobs, &sibling, &Bytes::from_static(b"sibling"), "the sibling stays").await;
        blobs.delete(&sibling).await.expect("delete of the sibling");
        assert!(listed(blobs, &id.to_string()).await.is_empty(), "both deleted");
    }
    // Deleting what is being stored beside must not get in its way.
    let puts = (0..40).map(|i| {
        let key = format!("{id}/part-{i}");
        async move {
            blobs.put(&key, bytes_stream("x")).await.expect("put beside deletes");
            blobs.delete(&key).await.expect("delete beside puts");
        }
    });
    join_all(puts).await;
    assert!(listed(blobs, &id.to_string()).await.is_empty(), "everything deleted");
}

async fn listing(blobs: &dyn BlobStore) {
    let id = SignatureId::generate();
    let mut keys: Vec<_> = (0..30).map(|i| format!("{id}/a/{i:02}")).collect();
    keys.push(format!("{id}/b"));
    keys.push(format!("{id}-beside/a"));
    for (size, key) in keys.iter().enumerate() {
        blobs.put(key, bytes_stream(content(size, 0))).await.expect("put");
    }
    for prefix in [
        format!("{id}"),
        format!("{id}/"),
        format!("{id}/a"),
        format!("{id}/a/"),
        format!("{id}/a/1"),
        format!("{id}/a/11"),
        format!("{id}/b"),
        format!("{id}-"),
        format!("{id}/c"),
        format!("{id}/a/11/"),
        format!("{id}/b/"),
        format!("/{id}"),
        format!("{id}/../{id}"),
    ] {
        let expected: Vec<_> = keys
            .iter()
            .enumerate()
            .filter(|(_, key)| key.starts_with(&prefix))
            .map(|(size, key)| (key.clone(), size as u64))
            .collect();
        let mut listed: Vec<_> =
            listed(blobs, &prefix).await.into_iter().map(|blob| (blob.key, blob.size)).collect();
        listed.sort_by_key(|(_, size)| *size);
        assert_eq!(listed, expected, "blobs that begin with {prefix:?}");
    }
    let everything: HashSet<_> = listed(blobs, "").await.into_iter().map(|blob| blob.key).collect();
    assert!(keys.iter().all(|key| everything.contains(key)), "listing of everything");
    let at = listed(blobs, &keys[0]).await[0].modified_at;
    assert!(listed(blobs, &keys[0]).await[0].modified_at == at, "a blob's time stays");
}

async fn refused_keys(blobs: &dyn BlobStore) {
    let long = "x".repeat(129);
    let deep = "x/".repeat(300) + "x";
    let too_long = format!("{}/{}", "x".repeat(128), "y".repeat(72));
    for key in [
        "", "/", "/x", "x/", "x//y", ".", "..", "../x", "x/..", "x/../y", "x/./y", ".x", "x/.y",
        "x y", "x\\y", "x\0y", "x\ny", "C:x", "~", "é", "x#1", "x,y", "%2e%2e", &long, &deep,
        &too_long,
    ] {
        let error = blobs.put(key, bytes_stream("x")).await.expect_err(key);
        assert_eq!(error.kind(), ErrorKind::Internal, "put under {key:?}: {error:?}");
        let error = blobs.get(key, None).await.map(|_| ()).expect_err(key);
        assert_eq!(error.kind(), ErrorKind::Internal, "get of {key:?}: {error:?}");
        let error = blobs.delete(key).await.expect_err(key);
        assert_eq!(error.kind(), ErrorKind::Internal, "delete of {key:?}: {error:?}");
    }
}
