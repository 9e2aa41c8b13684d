//! A server that answers what a test wants.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Header lines in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// Ids of the documents of a bulk request, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        let actions = self.body.lines().step_by(2);
        let id = |line| {
            let action: Value = serde_json::from_str(line).unwrap();
            action["index"]["_id"].as_str().unwrap().to_owned()
        };
        actions.map(id).collect()
    }
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    /// These bytes, then the end of the connection.
    Raw(&'static str),
    /// Nothing, and the connection stays open.
    Silence,
}

type Script = Arc<dyn Fn(&Asked) -> Reply + Send + Sync>;

/// Listens until it is dropped.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    /// Answers bulk requests as `script` says, and everything else like an index in good order.
    pub(crate) async fn new(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let script: Script = Arc::new(script);
        let seen = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&script), Arc::clone(&seen)));
            }
        });
        Self { url, asked, task }
    }

    /// The bulk requests so far.
    pub(crate) fn bulks(&self) -> Vec<Asked> {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|asked| asked.path.contains("/_bulk")).cloned().collect()
    }
}

async fn serve(mut stream: TcpStream, script: Script, seen: Arc<Mutex<Vec<Asked>>>) {
    while let Some(asked) = read(&mut stream).await {
        seen.lock().unwrap().push(asked.clone());
        let is_mapping = asked.path.ends_with("/_mapping");
        let reply = if is_mapping { Reply::Json(200, mapping()) } else { script(&asked) };
        match reply {
            Reply::Json(status, body) => {
                let body = body.to_string();
                let head = format!(
                    "HTTP/1.1 {status} X\r\nX-elastic-product: Elasticsearch\r\n\
                     content-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                if stream.write_all(format!("{head}{body}").as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Raw(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                let _ = stream.shutdown().await;
                return;
            }
            Reply::Silence => std::future::pending().await,
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut first = head.lines().next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let lower = head.to_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0);
    while bytes.len() < end + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8_lossy(&bytes[end..]).into_owned();
    // Values of headers keep their case.
    Some(Asked { method, path, head, body })
}

fn mapping() -> Value {
    let meta = json!({ "dms": { "mapping": 1, "built": true } });
    json!({ "documents-v1": { "mappings": { "_meta": meta, "properties": {} } } })
}

/// An item of an answer to a bulk request.
pub(crate) fn item(id: &str, status: u16, error: &str) -> Value {
    match error {
        "" => json!({ "index": { "_id": id, "status": status } }),
        name => json!({ "index": {
            "_id": id, "status": status, "error": { "type": name, "reason": "scripted" },
        } }),
    }
}

/// An answer to a bulk request.
pub(crate) fn items(items: &[Value]) -> Reply {
    Reply::Json(200, json!({ "took": 1, "errors": true, "items": items }))
}
