//! Asks a running service whether it is ready.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Report;

/// How long the answer may take.
pub const HEALTHCHECK_TIME_MAX: Duration = Duration::from_secs(2);

/// What is read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Why a service isn't ready; one line.
#[derive(Debug)]
pub struct NotReady(String);

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotReady {}

/// Asks the service at `address` (`GET /readyz`), within [`HEALTHCHECK_TIME_MAX`].
///
/// # Errors
/// It can't be reached, doesn't answer in time, or says that it isn't ready.
pub async fn healthcheck(address: SocketAddr) -> Result<(), NotReady> {
    match tokio::time::timeout(HEALTHCHECK_TIME_MAX, ask(address)).await {
        Ok(Ok(answer)) => judge(address, &answer),
        Ok(Err(error)) => Err(NotReady(format!("no service at {address}: {error}"))),
        Err(_) => Err(NotReady(format!("no answer from {address} within 2 s"))),
    }
}

async fn ask(address: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

fn judge(address: SocketAddr, answer: &[u8]) -> Result<(), NotReady> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let status: Option<u16> = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split_whitespace().nth(1))
        .and_then(|code| code.parse().ok());
    match (status, serde_json::from_str::<Report>(body)) {
        (Some(200), Ok(_)) => Ok(()),
        (Some(_), Ok(report)) => {
            let status = format!("{:?}", report.status).to_lowercase();
            let down: Vec<_> = report.down().collect();
            let down = if down.is_empty() {
                String::new()
            } else {
                format!(", down: {}", down.join(", "))
            };
            Err(NotReady(format!("{address} is not ready: {status}{down}")))
        }
        (Some(status), Err(_)) => Err(NotReady(format!(
            "{address} answers with status {status}, not like a service of ours"
        ))),
        (None, _) => Err(NotReady(format!("{address} does not speak HTTP"))),
    }
}
