//! How many small blobs a second are stored durably: `cargo bench -p dms-store --features files --bench blobs`.

use std::time::Instant;

use dms_core::DocumentId;
use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use dms_store::blobs::{FileBlobOptions, FileBlobStore};
use futures_util::{StreamExt as _, stream};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    const PUTS: u32 = 5_000;
    // Removed at the end only: the file system gives blocks back during the commits that follow.
    let folder = tempfile::tempdir().unwrap();
    for concurrent in [1, 16, 32, 64, 128] {
        let root = folder.path().join(concurrent.to_string());
        let blobs = FileBlobStore::open(&root, FileBlobOptions::default()).await.unwrap();
        let puts = if concurrent == 1 { PUTS / 10 } else { PUTS };
        let began = Instant::now();
        let keys: Vec<_> = stream::iter(0..puts)
            .map(|_| {
                let blobs = blobs.clone();
                tokio::spawn(async move {
                    let key = format!("{}/content", DocumentId::generate());
                    blobs.put(&key, bytes_stream(vec![7; 1_024])).await.unwrap();
                    key
                })
            })
            .buffer_unordered(concurrent)
            .map(Result::unwrap)
            .collect()
            .await;
        let took = began.elapsed().as_secs_f64();
        println!("{concurrent:>4} at a time: {:>6.0} puts/s", f64::from(puts) / took);
        let began = Instant::now();
        stream::iter(&keys)
            .for_each_concurrent(concurrent, |key| {
                let blobs = &blobs;
                async move {
                    blobs.get(key, None).await.unwrap();
                }
            })
            .await;
        let took = began.elapsed().as_secs_f64();
        println!("{concurrent:>4} at a time: {:>6.0} gets/s", f64::from(puts) / took);
    }
}
