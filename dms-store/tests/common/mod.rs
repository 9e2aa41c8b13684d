//! What tests of several engines need.

use std::time::Duration;

use dms_core::{Error, ErrorChain};

/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Everything an error says.
pub(crate) fn all_of(error: &Error) -> String {
    format!("{} {error:?}", ErrorChain(error))
}
