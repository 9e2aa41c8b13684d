//! What every service of the family shares.
//!
//! The `main` of a service is: [`Program::parse`] → [`Settings::read`] → [`telemetry::init`] → build →
//! [`Server::bind`] → serve until [`wait_for_signal`] → drain.
//!
//! ```
//! use std::time::Duration;
//!
//! use axum::{Router, routing::get};
//! use dms_runtime::settings::names::HTTP_ADDR;
//! use dms_runtime::{HealthRegistry, Server, StartupError, metrics_handle};
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), StartupError> {
//! let server = Server::bind(&HTTP_ADDR, ([127, 0, 0, 1], 0).into()).await?;
//! let health = HealthRegistry::new();
//! let router = Router::new().route("/", get(async || "hello")).merge(health.router(metrics_handle()));
//! let stop = CancellationToken::new();
//! let serving = tokio::spawn(server.serve(router, stop.clone(), Duration::from_secs(20)));
//! health.set_serving();
//!
//! // wait_for_signal().await
//! health.set_draining();
//! stop.cancel();
//! let drained = serving.await.expect("serving does not panic");
//! assert_eq!(drained.cut_off, 0);
//! # Ok(())
//! # }
//! ```
//!
//! - [`settings`]: everything an operator can decide, from options, variables and files.
//! - [`telemetry`] and [`metrics_handle`]: logs and numbers.
//! - [`health`]: `/healthz`, `/readyz`, `/metrics` and the client that asks.
//! - [`live`]: the routes of WebSocket, event streams and development tokens.
//! - [`Server`]: HTTP/1, HTTP/2 and gRPC on one listener, drained without losing a request.
//! - [`Supervisor`]: background tasks that are watched and end before the program does.
//! - [`DataDirectory`]: the folder of embedded backends, held by one process.

mod cli;
mod data_directory;
pub mod health;
pub mod live;
mod metrics;
mod secret;
mod server;
pub mod settings;
mod signal;
mod startup_error;
mod supervisor;
pub mod telemetry;

pub use cli::{Cli, HealthcheckCommand, Program, report, report_arguments};
pub use data_directory::DataDirectory;
pub use health::HealthRegistry;
pub use metrics::{MetricsHandle, metrics_handle};
pub use secret::Secret;
pub use server::{Drained, Server, ServerLimits};
pub use settings::{SettingFlags, Settings};
pub use signal::wait_for_signal;
pub use startup_error::{ExitStatus, StartupError};
pub use supervisor::{Backoff, Leftover, Supervisor, TaskResult};
