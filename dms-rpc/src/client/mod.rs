//! The typed HTTP client: every call of the REST interface, and live updates over `WebSockets` or
//! server-sent events.
//!
//! A [`DmsClient`] keeps connections alive and can be used from any number of tasks. There is one
//! layer of repetitions: reads are repeated, and so is every `POST`, which always goes with an
//! `Idempotency-Key`; pauses grow, with jitter, and last at least as long as `Retry-After` says.
//! Other writes are repeated only if no connection could be made.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dms_core::use_cases::CreateDocument;
//! use dms_rpc::client::DmsClient;
//!
//! let client = DmsClient::new("http://127.0.0.1:8000")?;
//! let fields = CreateDocument {
//!     title: "Contract".into(),
//!     created_by: "ann@example.org".into(),
//!     content_type: None,
//! };
//! let document = client.create_document(&fields, "It is agreed.", None).await?;
//! println!("{}", document.id);
//! # Ok(())
//! # }
//! ```

mod builder;
mod content;
mod documents;
mod error;
mod events;
mod idle;
mod live;
mod search;
mod service;
mod signatures;
#[doc(hidden)]
pub mod sse;
mod transport;

use std::fmt;
use std::sync::Arc;

pub use builder::DmsClientBuilder;
pub use content::{DownloadContent, UploadContent};
pub use documents::DocumentQuery;
pub use error::{ClientError, ClientResult, CloseCode, Problem};
pub use events::{EventStream, LiveEvent};
pub use live::LiveStream;
pub use service::Readiness;
pub use transport::KEY_HELD_MAX;

/// Calls a document management system over HTTP. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct DmsClient {
    inner: Arc<transport::Inner>,
}

impl DmsClient {
    /// A client of the system at `http://HOST` or `https://HOST`, with defaults for the rest.
    ///
    /// # Errors
    /// [`ClientError::Request`] for any other address.
    pub fn new(base_url: impl Into<String>) -> ClientResult<Self> {
        Self::builder(base_url).build()
    }

    /// Sets up a client of the system at `http://HOST` or `https://HOST`.
    pub fn builder(base_url: impl Into<String>) -> DmsClientBuilder {
        DmsClientBuilder::new(base_url)
    }
}

impl fmt::Debug for DmsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmsClient").finish_non_exhaustive()
    }
}
