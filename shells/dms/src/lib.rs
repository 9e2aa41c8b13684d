//! The whole product in one process.
//!
//! [`Dms::builder`] takes a folder and gives a running product: a router to mount in any axum program,
//! the use cases to call without HTTP, and a clean [`shutdown`](Dms::shutdown). Several run side by
//! side. Every port can be the caller's own.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use dms::Dms;
//!
//! let dms = Dms::builder("dms-data").start().await?;
//! let app = axum::Router::new().nest("/archive", dms.router());
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! axum::serve(listener, app).await?;
//! dms.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The program `dms` is a short `main` over this library; [`cli`] has its commands.

mod builder;
pub mod cli;
pub mod import;
mod instance;
mod web;

pub use builder::DmsBuilder;
pub use dms_assembly::{ChangeSources, IndexState, Repositories};
pub use instance::Dms;
