//! Content in both directions.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Multipart};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use dms_core::use_cases::CreateDocument;
use dms_core::{DocumentId, SignatureId};
use dms_rpc::client::{ClientError, UploadContent};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio::net::TcpListener;

use super::support::{TestServer, document, patiently, problem};

fn fields(content_type: Option<&str>) -> CreateDocument {
    CreateDocument {
        title: "Vertrag „Süd“".into(),
        created_by: "ann".into(),
        content_type: content_type.map(str::to_owned),
    }
}

#[derive(Debug, Default, Clone, PartialEq)]
struct Received {
    names: Vec<String>,
    title: String,
    created_by: String,
    content_type: Option<String>,
    content: Bytes,
    length_known: bool,
}

/// Takes a multipart body apart.
async fn receiver() -> (TestServer, Arc<Mutex<Vec<Received>>>) {
    let all = Arc::<Mutex<Vec<Received>>>::default();
    let record = Arc::clone(&all);
    let handler = move |headers: HeaderMap, mut body: Multipart| {
        let record = Arc::clone(&record);
        async move {
            let mut received = Received {
                length_known: headers.contains_key("content-length"),
                ..Received::default()
            };
            while let Ok(Some(field)) = body.next_field().await {
                let name = field.name().unwrap().to_owned();
                received.names.push(name.clone());
                match &*name {
                    "title" => received.title = field.text().await.unwrap(),
                    "created_by" => received.created_by = field.text().await.unwrap(),
                    _ => {
                        received.content_type = field.content_type().map(str::to_owned);
                        match field.bytes().await {
                            Ok(content) => received.content = content,
                            Err(_) => return StatusCode::BAD_REQUEST.into_response(),
                        }
                    }
                }
            }
            record.lock().unwrap().push(received);
            (StatusCode::CREATED, Json(json!(document(DocumentId::generate())))).into_response()
        }
    };
    let limit = axum::extract::DefaultBodyLimit::disable();
    let router = Router::new().route("/documents", post(handler)).layer(limit);
    (TestServer::of(router).await, all)
}

#[tokio::test]
async fn content_is_uploaded_from_anywhere() {
    let (server, received) = receiver().await;
    let client = server.client();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "hello").unwrap();
    let chunks = || stream::iter(["he", "llo"].map(|chunk| Ok(Bytes::from(chunk))));
    let contents = [
        (UploadContent::bytes("hello"), true),
        (UploadContent::file(file.path()), true),
        (UploadContent::reader(&b"hello"[..], 5), true),
        (UploadContent::stream(chunks(), 5), true),
        (UploadContent::stream(chunks(), None), false),
    ];
    for (content, length_known) in contents {
        client.upload_document(&fields(Some("text/markdown")), content, None).await.unwrap();
        let expected = Received {
            names: ["title", "created_by", "file"].map(str::to_owned).into(),
            title: "Vertrag „Süd“".into(),
            created_by: "ann".into(),
            content_type: Some("text/markdown".into()),
            content: Bytes::from("hello"),
            length_known,
        };
        assert_eq!(received.lock().unwrap().pop().unwrap(), expected);
    }
}

#[tokio::test]
async fn a_large_file_is_sent_as_it_is_read() {
    let (server, received) = receiver().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    std::fs::write(file.path(), &content).unwrap();
    let upload = UploadContent::file(file.path());
    server.client().upload_document(&fields(None), upload, None).await.unwrap();
    let received = received.lock().unwrap();
    assert!(received[0].content == content);
    assert!(received[0].length_known);
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_an_upload_is_told() {
    let router = Router::new().fallback(|| async { problem(413, "content_too_large") });
    let server = TestServer::of(router).await;
    let client = server.client();
    let (fields, chunk) = (fields(None), Bytes::from(vec![0; 64 << 10]));
    for _ in 0..10 {
        let chunk = chunk.clone();
        let endless = stream::repeat_with(move || Ok(chunk.clone()));
        let content = UploadContent::stream(endless, None);
        let upload = client.upload_document(&fields, content, None);
        let error = patiently(upload).await.unwrap_err();
        assert_eq!(error.code(), Some("content_too_large"), "{error:?}");
    }
}

#[tokio::test]
async fn content_without_a_type_is_sent_without_one() {
    let (server, received) = receiver().await;
    let content = UploadContent::bytes("hello");
    server.client().upload_document(&fields(None), content, None).await.unwrap();
    assert_eq!(received.lock().unwrap()[0].content_type, None);
}

#[tokio::test]
async fn an_empty_file_is_uploaded() {
    let (server, received) = receiver().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    let content = UploadContent::file(file.path());
    server.client().upload_document(&fields(None), content, None).await.unwrap();
    assert!(received.lock().unwrap()[0].content.is_empty());
}

#[tokio::test]
async fn content_that_cannot_be_read_is_its_own_error() {
    let (server, _) = receiver().await;
    let client = server.client();
    let missing = UploadContent::file("/nonexistent/file");
    let broken = UploadContent::stream(
        stream::iter([Ok(Bytes::from("he")), Err(std::io::Error::other("disk"))]),
        None,
    );
    for content in [missing, broken] {
        let error = client.upload_document(&fields(None), content, None).await.unwrap_err();
        assert!(matches!(error, ClientError::Content(_)), "{error:?}");
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn many_uploads_share_few_connections() {
    let peers = Arc::<Mutex<HashSet<SocketAddr>>>::default();
    let record = Arc::clone(&peers);
    let handler = move |ConnectInfo(peer): ConnectInfo<SocketAddr>, body: Bytes| {
        let record = Arc::clone(&record);
        async move {
            record.lock().unwrap().insert(peer);
            drop(body);
            (StatusCode::CREATED, Json(json!(document(DocumentId::generate()))))
        }
    };
    let router = Router::new().route("/documents", post(handler));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(async move { axum::serve(listener, service).await });
    let client = dms_rpc::client::DmsClient::new(url).unwrap();
    let fields = fields(None);
    stream::iter(0..400)
        .map(|n| client.upload_document(&fields, UploadContent::bytes(format!("{n}")), None))
        .buffer_unordered(8)
        .try_for_each(|_| async { Ok(()) })
        .await
        .unwrap();
    let connections = peers.lock().unwrap().len();
    assert!(connections <= 16, "{connections} connections");
    server.abort();
}

#[tokio::test]
async fn content_is_read_whole_or_in_part() {
    let handler = |headers: HeaderMap| async move {
        match headers.get("range").map(|range| range.to_str().unwrap().to_owned()) {
            None => ([("content-type", "text/markdown")], "0123456789").into_response(),
            Some(range) => {
                assert_eq!(range, "bytes=2-4");
                let headers =
                    [("content-type", "text/markdown"), ("content-range", "bytes 2-4/10")];
                (StatusCode::PARTIAL_CONTENT, headers, "234").into_response()
            }
        }
    };
    let router = Router::new()
        .route("/documents/{id}/content", get(handler))
        .route("/signatures/{id}/image", get(handler));
    let server = TestServer::of(router).await;
    let client = server.client();
    let whole = client.content(DocumentId::generate(), ..).await.unwrap();
    assert_eq!((whole.content_type.as_str(), whole.size), ("text/markdown", Some(10)));
    assert_eq!(whole.into_bytes(10).await.unwrap(), "0123456789");
    let part = client.content(DocumentId::generate(), 2..5).await.unwrap();
    assert_eq!(part.size, Some(10));
    assert_eq!(part.into_bytes(10).await.unwrap(), "234");
    let image = client.signature_image(SignatureId::generate()).await.unwrap();
    assert_eq!(image.into_bytes(10).await.unwrap(), "0123456789");
}

#[tokio::test]
async fn no_more_is_read_than_asked_for() {
    let router = Router::new().fallback(|| async {
        Body::from_stream(stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from("x"))))
    });
    let server = TestServer::of(router).await;
    let content = server.client().content(DocumentId::generate(), ..).await.unwrap();
    let error = patiently(content.into_bytes(1_000)).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreadable(_)), "{error:?}");
}

#[tokio::test]
async fn content_that_stops_coming_is_given_up() {
    let router = Router::new().fallback(|| async {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from("x"))]);
        Body::from_stream(first.chain(stream::pending()))
    });
    let server = TestServer::of(router).await;
    let client = server.builder().idle_timeout(Duration::from_millis(30)).build().unwrap();
    let mut content = client.content(DocumentId::generate(), ..).await.unwrap();
    assert_eq!(content.try_next().await.unwrap().unwrap(), "x");
    let error = patiently(content.try_next()).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout(_)), "{error:?}");
    assert!(content.try_next().await.unwrap().is_none());
}
