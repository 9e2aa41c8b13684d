//! Options, secrets, and what preparing makes of a bucket.

use dms_core::ErrorKind;
use dms_core::ports::BlobStore as _;
use dms_core::use_cases::bytes_stream;
use dms_store::s3::{S3BlobStore, S3Options};
use futures_util::TryStreamExt as _;

use crate::common::all_of;
use crate::support::{Bucket, ask, assert_absent, assert_unavailable, new_key};

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let good = || Bucket::named().options;
    S3BlobStore::new(good()).expect("good");
    let bad = [
        ("bucket", S3Options { bucket: String::new(), ..good() }),
        ("bucket", S3Options { bucket: "../x".to_owned(), ..good() }),
        ("bucket", S3Options { bucket: "Upper".to_owned(), ..good() }),
        ("prefix", S3Options { prefix: Some("a//b".to_owned()), ..good() }),
        ("prefix", S3Options { prefix: Some("/a".to_owned()), ..good() }),
        ("endpoint", S3Options { endpoint: Some("127.0.0.1:9000".to_owned()), ..good() }),
        (
            "endpoint",
            S3Options { endpoint: Some("http://u:hunter2secret@host".to_owned()), ..good() },
        ),
        ("region", S3Options { region: String::new(), ..good() }),
        ("access key id", S3Options { access_key_id: String::new(), ..good() }),
        (
            "secret access key",
            S3Options { secret_access_key: "hunter2secret\n".to_owned(), ..good() },
        ),
    ];
    for (field, options) in bad {
        let error = S3BlobStore::new(options).expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{field}");
        assert_eq!(error.fields()[0].field, field);
        assert!(!all_of(&error).contains("hunter2secret"), "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn secrets_are_not_told() {
    let mut bucket = Bucket::made().await;
    let right = bucket.options.clone();
    bucket.options.secret_access_key = "hunter2secret".to_owned();
    bucket.options.session_token = Some("hunter2secret".to_owned());
    assert!(!format!("{:?}", bucket.options).contains("hunter2secret"));
    bucket.options.session_token = None;
    let blobs = bucket.store();
    assert!(!format!("{blobs:?}").contains("hunter2secret"));
    let get = blobs.get(&new_key(), None).await.map(|_| ());
    let put = blobs.put(&new_key(), bytes_stream("x")).await.map(|_| ());
    for outcome in [blobs.check().await, blobs.prepare().await, get, put] {
        let error = outcome.expect_err("the secret is wrong");
        assert_unavailable(&error);
        assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    }
    bucket.options = right;
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn a_bucket_that_is_not_there_is_unavailable_until_it_is_made() {
    let mut bucket = Bucket::named();
    bucket.options.create_bucket = false;
    let blobs = bucket.store();
    assert_unavailable(&blobs.check().await.unwrap_err());
    assert_unavailable(&blobs.prepare().await.unwrap_err());
    assert_unavailable(&blobs.put(&new_key(), bytes_stream("x")).await.unwrap_err());
    let error = blobs.get(&new_key(), None).await.map(|_| ()).unwrap_err();
    assert_unavailable(&error);
    let error = blobs.list("").try_collect::<Vec<_>>().await.unwrap_err();
    assert_unavailable(&error);
    // In development the bucket comes with the first look at the store.
    bucket.options.create_bucket = true;
    bucket.store().check().await.expect("made");
    blobs.check().await.expect("there");
    bucket.remove().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs S3"]
async fn preparing_switches_versioning_on_and_can_be_done_again() {
    let bucket = Bucket::made().await;
    let blobs = bucket.store();
    blobs.prepare().await.expect("again");
    let (_, versioning) = ask("GET", &format!("{}?versioning=", bucket.options.bucket)).await;
    assert!(versioning.contains("<Status>Enabled</Status>"), "{versioning}");
    let key = new_key();
    blobs.put(&key, bytes_stream("x")).await.unwrap();
    blobs.delete(&key).await.unwrap();
    assert_absent(&blobs, &key).await;
    let (_, versions) =
        ask("GET", &format!("{}?prefix={key}&versions=", bucket.options.bucket)).await;
    assert_eq!(versions.matches("<Version>").count(), 1, "it can be had back: {versions}");
    for _ in 0..3 {
        blobs.check().await.unwrap();
    }
    let listed: Vec<_> = blobs.list("").try_collect().await.unwrap();
    assert_eq!(listed, [], "a check leaves nothing");
    assert_eq!(bucket.uploads(".check").await, 0);
    bucket.remove().await;
}
