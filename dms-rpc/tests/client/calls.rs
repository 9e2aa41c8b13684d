//! What each call sends, and what it makes of the answer.

use dms_core::model::search::{AggregationField, AggregationQuery, SearchFilter, SearchQuery};
use dms_core::use_cases::CreateDocument;
use dms_core::{DocumentId, DocumentStatus, SignatureId};
use dms_rpc::client::DocumentQuery;
use dms_rpc::types::{CreateSignatureBody, PatchDocumentBody};
use futures_util::TryStreamExt as _;
use serde_json::{Value, json};

use super::support::{TestServer, document};

fn fields() -> CreateDocument {
    CreateDocument {
        title: "Contract".into(),
        created_by: "ann".into(),
        content_type: Some("text/markdown".into()),
    }
}

fn signature(id: SignatureId, document_id: DocumentId) -> Value {
    json!({
        "id": id,
        "document_id": document_id,
        "signer_email": "ann@example.org",
        "signer_name": "Ann",
        "image_key": format!("signatures/{id}/image"),
        "image_content_type": "image/png",
        "created_at": "2026-01-02T03:04:05.678901Z",
        "document_status": "signed",
    })
}

#[tokio::test]
async fn text_is_sent_as_text() {
    let id = DocumentId::generate();
    let server = TestServer::giving(json!(document(id))).await;
    let created = server.client().create_document(&fields(), "héllo", None).await.unwrap();
    assert_eq!(created, document(id));
    let asked = server.asked_once();
    assert_eq!(asked.line, "POST /documents");
    let expected = json!({
        "title": "Contract",
        "content": "héllo",
        "created_by": "ann",
        "content_type": "text/markdown",
    });
    assert_eq!(asked.json(), expected);
    assert!(asked.header("idempotency-key").is_some());
}

#[tokio::test]
async fn bytes_are_sent_in_base64() {
    let server = TestServer::giving(json!(document(DocumentId::generate()))).await;
    let fields = CreateDocument { content_type: None, ..fields() };
    let content = vec![0xff, 0x00, 0xfe];
    server.client().create_document(&fields, content, Some("k-1")).await.unwrap();
    let asked = server.asked_once();
    assert_eq!(asked.json()["content"], "/wD+");
    assert_eq!(asked.json()["content_encoding"], "base64");
    assert_eq!(asked.json().get("content_type"), None);
    assert_eq!(asked.header("idempotency-key"), Some("k-1"));
}

#[tokio::test]
async fn the_token_and_the_name_of_the_client_are_sent() {
    let server = TestServer::giving(json!(document(DocumentId::generate()))).await;
    let builder = server.builder().bearer_token("secret").user_agent("importer/1");
    assert!(!format!("{builder:?}").contains("secret"));
    builder.build().unwrap().document(DocumentId::generate()).await.unwrap();
    let asked = server.asked_once();
    assert_eq!(asked.header("authorization"), Some("Bearer secret"));
    assert_eq!(asked.header("user-agent"), Some("importer/1"));
}

#[tokio::test]
async fn a_base_url_may_have_a_path() {
    let id = DocumentId::generate();
    let server = TestServer::giving(json!(document(id))).await;
    for base in ["/v1", "/v1/"] {
        let client = dms_rpc::client::DmsClient::new(format!("{}{base}", server.url)).unwrap();
        client.document(id).await.unwrap();
    }
    assert!(server.asked().iter().all(|asked| asked.line == format!("GET /v1/documents/{id}")));
}

#[tokio::test]
async fn an_unchanged_document_is_not_sent_again() {
    let id = DocumentId::generate();
    let server = TestServer::answering(|_| axum::http::StatusCode::NOT_MODIFIED).await;
    assert_eq!(server.client().document_if_changed(id, 3).await.unwrap(), None);
    assert_eq!(server.asked_once().header("if-none-match"), Some("\"3\""));
    let server = TestServer::giving(json!(document(id))).await;
    let changed = server.client().document_if_changed(id, 3).await.unwrap();
    assert_eq!(changed, Some(document(id)));
}

#[tokio::test]
async fn every_page_is_listed_and_none_before_it_is_needed() {
    let ids: Vec<_> = (0..5).map(|_| DocumentId::generate()).collect();
    let pages = [&ids[..2], &ids[2..4], &ids[4..]].map(<[_]>::to_vec);
    let server = TestServer::answering(move |n| {
        let documents: Vec<_> = pages[n].iter().copied().map(document).collect();
        let next = (n < 2).then(|| format!("after-{n}"));
        axum::Json(json!({"documents": documents, "next_cursor": next}))
    })
    .await;
    let query = DocumentQuery {
        limit: Some(2),
        status: Some(DocumentStatus::Viewed),
        created_by: Some("Ann & Bob".into()),
        cursor: None,
    };
    let mut documents = std::pin::pin!(server.client().documents(query));
    assert_eq!(documents.try_next().await.unwrap().unwrap().id, ids[0]);
    assert_eq!(server.asked().len(), 1);
    let rest: Vec<_> = documents.map_ok(|document| document.id).try_collect().await.unwrap();
    assert_eq!(rest, ids[1..]);
    let lines: Vec<_> = server.asked().into_iter().map(|asked| asked.line).collect();
    let filter = "status=viewed&created_by=Ann+%26+Bob";
    let expected = [
        format!("GET /documents?limit=2&{filter}"),
        format!("GET /documents?limit=2&cursor=after-0&{filter}"),
        format!("GET /documents?limit=2&cursor=after-1&{filter}"),
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn changes_name_the_version_they_expect() {
    let id = DocumentId::generate();
    let server = TestServer::giving(json!(document(id))).await;
    let client = server.client();
    let patch = PatchDocumentBody { status: Some(DocumentStatus::Signed), title: None };
    client.update_document(id, &patch, Some(4)).await.unwrap();
    client.delete_document(id, None).await.unwrap();
    let asked = server.asked();
    assert_eq!(asked[0].line, format!("PATCH /documents/{id}"));
    assert_eq!(asked[0].json(), json!({"status": "signed"}));
    assert_eq!(asked[0].header("if-match"), Some("\"4\""));
    assert_eq!(asked[1].line, format!("DELETE /documents/{id}"));
    assert_eq!(asked[1].header("if-match"), None);
}

#[tokio::test]
async fn stats_are_read() {
    let id = DocumentId::generate();
    let body = json!({"document_id": id, "total_views": 5, "unique_views": 2});
    let server = TestServer::giving(body).await;
    let stats = server.client().stats(id).await.unwrap();
    assert_eq!((stats.document_id, stats.total_views, stats.unique_views), (id, 5, 2));
    assert_eq!(server.asked_once().line, format!("GET /documents/{id}/stats"));
}

#[tokio::test]
async fn documents_are_signed_and_signatures_read() {
    let (id, document_id) = (SignatureId::generate(), DocumentId::generate());
    let server = TestServer::answering(move |n| {
        let signature = signature(id, document_id);
        axum::Json(if n == 1 { json!({"signatures": [signature]}) } else { signature })
    })
    .await;
    let client = server.client();
    let body = CreateSignatureBody {
        document_id,
        signer_email: "ann@example.org".into(),
        signer_name: "Ann".into(),
        signature_data: "aGk=".into(),
    };
    assert_eq!(client.sign(&body, None).await.unwrap().id, id);
    assert_eq!(client.signatures(document_id).await.unwrap().len(), 1);
    assert_eq!(client.signature(id).await.unwrap().document_id, document_id);
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /signatures");
    assert_eq!(asked[0].json()["signature_data"], "aGk=");
    assert!(asked[0].header("idempotency-key").is_some());
    assert_eq!(asked[1].line, format!("GET /documents/{document_id}/signatures"));
    assert_eq!(asked[2].line, format!("GET /signatures/{id}"));
}

#[tokio::test]
async fn a_search_sends_what_is_set() {
    let mut hit = json!(document(DocumentId::generate()));
    hit["score"] = json!(1.5);
    hit["highlights"] = json!({"title": ["<em>Contract</em>"], "content": []});
    let answer = json!({"total": 1, "documents": [hit], "took_ms": 2, "from": 0, "size": 10});
    let server = TestServer::giving(answer).await;
    let query = SearchQuery {
        text: Some("a b".into()),
        filter: SearchFilter { status: Some(DocumentStatus::Signed), ..SearchFilter::default() },
        ..SearchQuery::default()
    };
    let found = server.client().search(&query).await.unwrap();
    assert_eq!(found.documents[0].highlights.title, ["<em>Contract</em>"]);
    assert_eq!(server.asked_once().line, "GET /search?q=a+b&status=signed&from=0&size=10");
}

#[tokio::test]
async fn an_aggregation_names_its_field() {
    let answer = json!({"field": "created_by", "values": [{"key": "ann", "count": 3}]});
    let server = TestServer::giving(answer).await;
    let query = AggregationQuery {
        field: AggregationField::CreatedBy,
        text: None,
        filter: SearchFilter::default(),
        size: 5,
    };
    let counted = server.client().aggregate(&query).await.unwrap();
    assert_eq!((counted.values[0].key.as_str(), counted.values[0].count), ("ann", 3));
    assert_eq!(server.asked_once().line, "GET /aggregations/created_by?size=5");
}

#[tokio::test]
async fn a_development_token_is_asked_for_by_name() {
    let answer = json!({
        "access_token": "t",
        "token_type": "bearer",
        "user_id": "ann",
        "email": "ann@example.org",
    });
    let server = TestServer::giving(answer).await;
    let token = server.client().development_token("ann", "ann@example.org").await.unwrap();
    assert_eq!(token.access_token, "t");
    let line = server.asked_once().line;
    assert_eq!(line, "GET /auth/token?user_id=ann&email=ann%40example.org");
}

#[tokio::test]
async fn readiness_is_an_answer_either_way() {
    let server = TestServer::answering(|n| {
        let status = if n == 0 { 200 } else { 503 };
        let status = axum::http::StatusCode::from_u16(status).unwrap();
        (status, axum::Json(json!({"database": n})))
    })
    .await;
    let client = server.client();
    let (ready, unready) = (client.readiness().await.unwrap(), client.readiness().await.unwrap());
    assert!(ready.ready);
    assert!(!unready.ready);
    assert_eq!(unready.report, json!({"database": 1}));
    client.health().await.unwrap_err();
    assert_eq!(server.asked().len(), 3);
}
