//! Stands before Elasticsearch: answers bulk requests at once and keeps them, and lets everything else
//! through.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::Response;
use tokio::task::JoinHandle;

use crate::elasticsearch::Elasticsearch;

const REQUEST_BYTES_MAX: usize = 64 << 20;
/// About as long as what Elasticsearch says of a document, which has to be read.
const ITEM: &str = concat!(
    r#"{"index":{"_index":"documents-v1","_id":"0198c0de-0000-7000-8000-000000000000","_version":1,"#,
    r#""result":"created","_shards":{"total":1,"successful":1,"failed":0},"_seq_no":123456,"#,
    r#""_primary_term":1,"status":201}}"#
);

/// How the line before a document begins, as the product writes it.
const ACTION: &str = r#"{"index":{"_id":""#;
const ID_BYTES: usize = 36;

#[derive(Clone)]
struct Shared {
    elasticsearch: Elasticsearch,
    kept: Arc<Mutex<Kept>>,
}

/// What came.
#[derive(Default)]
struct Kept {
    wanted: u64,
    /// Ids of the documents so far: the drift check may send some a second time.
    documents: HashSet<Box<[u8]>>,
    requests: Vec<Bytes>,
    /// When the first request came, and of how many documents it was.
    first: Option<(Instant, u64)>,
    last: Option<Instant>,
}

pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    shared: Shared,
    server: JoinHandle<()>,
}

impl Recorder {
    /// Keeps requests until it has as many documents as wanted.
    pub(crate) async fn start(wanted: u64) -> Self {
        let kept = Arc::new(Mutex::new(Kept { wanted, ..Kept::default() }));
        let shared = Shared { elasticsearch: Elasticsearch::new(), kept };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let router = Router::new().fallback(answer).with_state(shared.clone());
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { address, shared, server }
    }

    pub(crate) fn is_complete(&self) -> bool {
        let kept = self.shared.lock();
        kept.count() >= kept.wanted
    }

    /// The requests; and how many documents came after those of the first request, in which time.
    pub(crate) fn finish(self) -> (Vec<Bytes>, u64, Duration) {
        self.server.abort();
        let mut kept = self.shared.lock();
        let (first, of_first) = kept.first.expect("something came");
        let took = kept.last.expect("something came") - first;
        (std::mem::take(&mut kept.requests), kept.count() - of_first, took)
    }
}

impl Kept {
    fn count(&self) -> u64 {
        self.documents.len() as u64
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    if request.uri().path().ends_with("/_bulk") {
        let body = to_bytes(request.into_body(), REQUEST_BYTES_MAX).await.expect("a whole request");
        return keep(&shared, body);
    }
    pass(&shared, request).await
}

fn keep(shared: &Shared, body: Bytes) -> Response {
    let mut kept = shared.lock();
    let before = kept.count();
    let (mut items, mut count) = (String::new(), 0);
    for line in body.split(|byte| *byte == b'\n') {
        // Before each document is a line that says which one it is.
        let Some(id) = line.strip_prefix(ACTION.as_bytes()).and_then(|rest| rest.get(..ID_BYTES))
        else {
            continue;
        };
        // Writing to a string can't fail.
        let _ = write!(items, "{}{ITEM}", if count == 0 { "" } else { "," });
        count += 1;
        if kept.count() < kept.wanted {
            kept.documents.insert(id.into());
        }
    }
    if kept.count() > before {
        let (now, documents) = (Instant::now(), kept.count());
        kept.first.get_or_insert((now, documents));
        kept.last = Some(now);
        kept.requests.push(body);
    }
    drop(kept);
    let answer = format!(r#"{{"errors":false,"took":1,"items":[{items}]}}"#);
    respond(StatusCode::OK, answer.into())
}

async fn pass(shared: &Shared, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, REQUEST_BYTES_MAX).await.expect("a whole request");
    let url = format!("{}{}", shared.elasticsearch.url, parts.uri);
    let mut passed = shared.elasticsearch.http.request(parts.method, url).body(body);
    // Elasticsearch wants both of the same version.
    for name in [ACCEPT, CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            passed = passed.header(name, value);
        }
    }
    let answer = passed.send().await.expect("Elasticsearch runs");
    let status = answer.status();
    respond(status, answer.bytes().await.expect("a whole answer").into())
}

fn respond(status: StatusCode, body: Body) -> Response {
    let response = Response::builder().status(status).header("x-elastic-product", "Elasticsearch");
    response.header(CONTENT_TYPE, "application/json").body(body).expect("a response")
}
