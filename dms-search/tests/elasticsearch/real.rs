//! On the real one.

use dms_core::conformance;

use super::support::{open, options};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Elasticsearch"]
async fn passes_the_suite() {
    let (index, cleanup) = open(&options());
    conformance::index::suite(&index).await;
    cleanup.remove().await;
}
