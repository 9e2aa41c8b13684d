//! The whole product below a path of another axum program.

use std::error::Error;

use axum::Router;
use axum::routing::get;
use dms::Dms;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let dms = Dms::builder(folder.path()).start().await?;
    let app = Router::new()
        .route("/", get(|| async { "documents are at /archive/documents" }))
        .nest("/archive", dms.router());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/archive/documents; ends with Ctrl-C", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { tokio::signal::ctrl_c().await.unwrap_or_default() })
        .await?;
    dms.shutdown().await?;
    Ok(())
}
