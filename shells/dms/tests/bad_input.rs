//! Bad input is refused with the status and code of the contract, and nothing is stored.

mod support;

use futures_util::StreamExt as _;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use support::live::{Live, token};
use support::{Server, Tier, tier};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Value,
}

async fn send(request: reqwest::RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let bytes = response.bytes().await.expect("a whole body");
    Answer { status, headers, body: serde_json::from_slice(&bytes).unwrap_or(Value::Null) }
}

impl Answer {
    #[track_caller]
    fn is_problem(&self, what: &str, status: u16, code: &str) {
        assert_eq!(
            (self.status, &self.body["code"]),
            (status, &json!(code)),
            "{what}: {}",
            self.body
        );
        assert_eq!(self.headers[CONTENT_TYPE], "application/problem+json", "{what}");
        assert_eq!(self.body["status"], status, "{what}");
        let id = self.headers["x-request-id"].to_str().expect("a request id");
        // What reaches no service is answered by the gateway, whose body is one for all.
        if !(tier() == Tier::Full && code == "route_not_found") {
            assert_eq!(self.body["request_id"], id, "{what}");
        }
        assert!(self.body["title"].is_string() && self.body["type"].is_string(), "{what}");
    }

    #[track_caller]
    fn names(&self, what: &str, field: &str) {
        let errors = self.body["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.iter().any(|error| error["field"] == field);
        assert!(named, "{what}: {field} isn't named in {}", self.body);
    }
}

async fn nothing_is_stored(server: &Server) {
    let (_, page) = server.get("/documents").await;
    assert_eq!(page, json!({"documents": [], "next_cursor": null}));
    let blobs = server.data.join("blobs");
    let left: Vec<_> = walk(&blobs).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

fn walk(folder: &std::path::Path) -> Box<dyn Iterator<Item = std::path::PathBuf>> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Box::new(std::iter::empty()) };
    Box::new(entries.flatten().flat_map(|entry| -> Box<dyn Iterator<Item = _>> {
        let path = entry.path();
        if path.is_dir() {
            walk(&path)
        } else {
            // The store's own locks and journals are no content.
            let own = |e: &std::ffi::OsStr| e == "lock" || e == "journal";
            Box::new(Some(path).into_iter().filter(move |path| !path.extension().is_some_and(own)))
        }
    }))
}

fn start(folder: &tempfile::TempDir) -> Server {
    Server::start_with(&folder.path().join("data"), &[("DMS_MAX_CONTENT_BYTES", "65536")])
}

#[tokio::test]
async fn bodies_in_json() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let post = |body: String| {
        let request = server.client.post(server.url("/documents"));
        send(request.header(CONTENT_TYPE, "application/json").body(body))
    };
    for malformed in
        ["", "{", "{\"title\":", "[1,2", "nonsense", "{\"title\":\"\u{1}\"}", "\"\\ud800"]
    {
        post(malformed.into()).await.is_problem(malformed, 400, "malformed_request");
    }
    let good = json!({"title": "t", "content": "c", "created_by": "ann"});
    let with = |field: &str, value: Value| {
        let mut body = good.clone();
        body[field] = value;
        body.to_string()
    };
    for (field, value) in [
        ("title", json!(7)),
        ("title", json!(null)),
        ("title", json!("")),
        ("title", json!(" \t ")),
        ("title", json!("x".repeat(501))),
        ("title", json!("nul \u{0} inside")),
        ("title", json!("line\nbreak")),
        ("created_by", json!("")),
        ("created_by", json!("x".repeat(321))),
        ("created_by", json!(["ann"])),
        ("content", json!({})),
        ("content_type", json!("no media type")),
        ("content_type", json!(format!("text/{}", "x".repeat(130)))),
        ("content_encoding", json!("rot13")),
        ("surprise", json!(true)),
    ] {
        let what = format!("{field} = {}", value.to_string().chars().take(40).collect::<String>());
        let answer = post(with(field, value)).await;
        answer.is_problem(&what, 422, "validation_failed");
        answer.names(&what, field);
    }
    for missing in ["title", "content", "created_by"] {
        let mut body = good.clone();
        body.as_object_mut().expect("an object").remove(missing);
        let answer = post(body.to_string()).await;
        answer.is_problem(missing, 422, "validation_failed");
    }
    let mut base64 = good.clone();
    base64["content_encoding"] = json!("base64");
    base64["content"] = json!("not*base64");
    let answer = post(base64.to_string()).await;
    answer.is_problem("base64", 422, "validation_failed");
    answer.names("base64", "content");
    let request = server.client.post(server.url("/documents")).header(CONTENT_TYPE, "text/xml");
    send(request.body("<a/>")).await.is_problem("text/xml", 415, "unsupported_media_type");
    nothing_is_stored(&server).await;
}

#[tokio::test]
async fn bodies_that_are_too_large_or_cut_short() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let large = "x".repeat(65_537);
    let body = json!({"title": "t", "content": large, "created_by": "ann"});
    let answer = send(server.client.post(server.url("/documents")).json(&body)).await;
    answer.is_problem("content over the limit", 413, "content_too_large");

    let form = |content: Part| {
        Form::new().text("title", "t").text("created_by", "ann").part("file", content)
    };
    let upload = |form: Form| send(server.client.post(server.url("/documents")).multipart(form));
    upload(form(Part::bytes(vec![b'x'; 65_537]))).await.is_problem(
        "file",
        413,
        "content_too_large",
    );
    // Chunked, without a length, and far larger than what is taken.
    let chunks =
        futures_util::stream::iter((0..4_000).map(|_| std::io::Result::Ok(vec![b'x'; 65_536])));
    let endless = Part::stream(reqwest::Body::wrap_stream(chunks));
    let request = server.client.post(server.url("/documents")).multipart(form(endless));
    // The server may close while we still send: an error then, and never a 2xx.
    if let Ok(response) = request.send().await {
        assert_eq!(response.status(), 413);
    }
    for (what, form) in [
        ("no title", Form::new().text("created_by", "a").part("file", Part::bytes(vec![1]))),
        ("no creator", Form::new().text("title", "t").part("file", Part::bytes(vec![1]))),
        ("no file", Form::new().text("title", "t").text("created_by", "a")),
        ("an unknown part", form(Part::bytes(vec![1])).text("surprise", "x")),
        (
            "title after the file is empty",
            Form::new()
                .text("created_by", "a")
                .part("file", Part::bytes(vec![1]))
                .text("title", ""),
        ),
    ] {
        upload(form).await.is_problem(what, 422, "validation_failed");
    }
    let cut = "--b\r\ncontent-disposition: form-data; name=\"title\"\r\n\r\nt\r\n--b\r\n\
               content-disposition: form-data; name=\"created_by\"\r\n\r\na\r\n--b\r\n\
               content-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhalf of it";
    let request = server.client.post(server.url("/documents"));
    let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=b").body(cut);
    send(request).await.is_problem("truncated multipart", 400, "malformed_request");
    gone_in_the_middle(&server).await;
    support::eventually("what was begun to be removed", async || {
        walk(&server.data.join("blobs")).next().is_none().then_some(())
    })
    .await;
    nothing_is_stored(&server).await;
}

/// A client that leaves in the middle of an upload.
async fn gone_in_the_middle(server: &Server) {
    let mut socket = tokio::net::TcpStream::connect(server.http).await.expect("a connection");
    let part = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\nhalf";
    let head = "POST /documents HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\
                content-type: multipart/form-data; boundary=b\r\n\r\n";
    socket.write_all(format!("{head}{part}").as_bytes()).await.expect("a write");
    socket.flush().await.expect("a flush");
    drop(socket);
}

#[tokio::test]
async fn ids_cursors_filters_and_ranges() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    for (path, field) in [
        ("/documents?limit=0", "limit"),
        ("/documents?limit=101", "limit"),
        ("/documents?limit=ten", "limit"),
        ("/documents?limit=-1", "limit"),
        ("/documents?cursor=broken", "cursor"),
        ("/documents?cursor=%00%ff", "cursor"),
        ("/documents?status=archived", "status"),
        ("/search?status=archived", "status"),
        ("/search?size=101", "size"),
        ("/search?from=9995&size=10", "from"),
        ("/search?from=4294967295&size=100", "from"),
        ("/search?size=99999999999999999999", "size"),
        ("/aggregations/title", "field"),
        ("/aggregations/status?size=0", "size"),
        ("/documents/no-uuid", "document_id"),
        ("/signatures/no-uuid", "signature_id"),
    ] {
        let answer = send(server.client.get(server.url(path))).await;
        answer.is_problem(path, 422, "validation_failed");
        answer.names(path, field);
    }
    let nobody = "01900000-0000-7000-8000-000000000000";
    for path in ["", "/content", "/stats", "/signatures", "/events"] {
        let path = format!("/documents/{nobody}{path}");
        send(server.client.get(server.url(&path))).await.is_problem(&path, 404, "not_found");
    }
    send(server.client.get(server.url("/nowhere"))).await.is_problem(
        "route",
        404,
        "route_not_found",
    );
    let put = send(server.client.put(server.url("/documents"))).await;
    put.is_problem("method", 405, "method_not_allowed");

    let id = server.create("t", "0123456789").await;
    let content = |range: &'static str| {
        send(
            server
                .client
                .get(server.url(&format!("/documents/{id}/content")))
                .header("range", range),
        )
    };
    for (range, status, shown) in [
        ("bytes=2-4", 206, Some("bytes 2-4/10")),
        ("bytes=-3", 206, Some("bytes 7-9/10")),
        ("bytes=8-99", 206, Some("bytes 8-9/10")),
        ("bytes=10-", 416, Some("bytes */10")),
        ("bytes=-0", 416, Some("bytes */10")),
        ("bytes=4-2", 200, None),
        ("bytes=x", 200, None),
        ("lines=1-2", 200, None),
        ("bytes=99999999999999999999-", 416, Some("bytes */10")),
    ] {
        let answer = content(range).await;
        assert_eq!(answer.status, status, "{range}");
        let header = answer.headers.get("content-range").map(|v| v.to_str().expect("text"));
        assert_eq!(header, shown, "{range}");
    }
}

#[tokio::test]
async fn hostile_searches_answer_and_find_nothing_wrong() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    server.create("harmless", "nothing to see").await;
    server.search_until("q=harmless", 1).await;
    let deep = "(".repeat(900);
    for text in [
        "\"",
        "\"unclosed",
        "* OR *",
        "title:*",
        "content:/.*/",
        "a AND",
        "NOT",
        "((((",
        "~~~~^^^^",
        "[* TO *]",
        "{!xjoin}",
        "\\",
        "--",
        "+-+-",
        "\u{0}\u{1}",
        "' OR 1=1 --",
        "${jndi:ldap://x}",
        "<script>alert(1)</script>",
        "𝕬𝖇𝖈 \u{650} \u{202e}",
        deep.as_str(),
    ] {
        let request = server.client.get(server.url("/search")).query(&[("q", text)]);
        let answer = send(request).await;
        assert_eq!(answer.status, 200, "{text:?}: {}", answer.body);
    }
    let long = "x".repeat(1_001);
    let answer = send(server.client.get(server.url("/search")).query(&[("q", &long)])).await;
    answer.is_problem("a long query", 422, "validation_failed");
    let _ = server.create("<script>alert(1)</script> beacon", "a & b <i>beacon</i>").await;
    let found = server.search_until("q=beacon", 1).await;
    let highlights = found["documents"][0]["highlights"].to_string();
    assert!(highlights.contains("<em>beacon</em>"), "{highlights}");
    assert!(!highlights.contains("<script>") && !highlights.contains("<i>"), "{highlights}");
}

#[tokio::test]
async fn signatures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let id = server.create("t", "c").await;
    let good = json!({"document_id": id, "signer_email": "a@example.org", "signer_name": "A", "signature_data": "aGk="});
    for (field, value) in [
        ("document_id", json!("no-uuid")),
        ("signer_email", json!("nobody")),
        ("signer_email", json!(format!("{}@example.org", "x".repeat(320)))),
        ("signer_name", json!("")),
        ("signer_name", json!("x".repeat(201))),
        ("signature_data", json!("")),
        ("signature_data", json!("***")),
        ("signature_data", json!("data:image/png,raw")),
        ("surprise", json!(1)),
    ] {
        let mut body = good.clone();
        body[field] = value;
        let answer = send(server.client.post(server.url("/signatures")).json(&body)).await;
        answer.is_problem(field, 422, "validation_failed");
        answer.names(field, field);
    }
    let mut nobody = good.clone();
    nobody["document_id"] = json!("01900000-0000-7000-8000-000000000000");
    let answer = send(server.client.post(server.url("/signatures")).json(&nobody)).await;
    answer.is_problem("no such document", 404, "not_found");
    let (_, signatures) = server.get(&format!("/documents/{id}/signatures")).await;
    assert_eq!(signatures, json!({"signatures": []}));
    let is_image = |path: std::path::PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("signatures,"))
    };
    assert!(!walk(&server.data.join("blobs")).any(is_image), "no image is kept");

    // Two signers with one address, at once.
    let url = server.url("/signatures");
    let sign = || send(server.client.post(&url).json(&good));
    let (one, other) = tokio::join!(sign(), sign());
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409], "{} {}", one.body, other.body);
    let refused = if one.status == 409 { one } else { other };
    refused.is_problem("signed twice", 409, "already_signed");
    let (_, document) = server.get(&format!("/documents/{id}")).await;
    assert_eq!((&document["status"], &document["version"]), (&json!("signed"), &json!(2)));
}

#[tokio::test]
async fn writers_with_one_version() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let id = server.create("t", "c").await;
    let url = server.url(&format!("/documents/{id}"));
    let patch = |title: &'static str| {
        let request = server.client.patch(&url).header("if-match", "\"1\"");
        send(request.json(&json!({"title": title})))
    };
    let (one, other) = tokio::join!(patch("one"), patch("other"));
    let mut statuses = [one.status, other.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
    let refused = if one.status == 412 { one } else { other };
    refused.is_problem("an old version", 412, "version_mismatch");
    assert_eq!(refused.headers["etag"], "\"2\"");
    for (body, field) in [
        (json!({"status": "archived"}), "status"),
        (json!({"title": ""}), "title"),
        (json!({"version": 9}), "version"),
        (json!({"title": 1}), "title"),
    ] {
        let answer = send(server.client.patch(&url).json(&body)).await;
        answer.is_problem(field, 422, "validation_failed");
        answer.names(field, field);
    }
    let (_, document) = server.get(&format!("/documents/{id}")).await;
    assert_eq!(document["version"], 2);
}

#[tokio::test]
async fn idempotency_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let body = json!({"title": "t", "content": "c", "created_by": "ann"});
    let post = |key: &'static str, body: &Value| {
        send(server.client.post(server.url("/documents")).header("idempotency-key", key).json(body))
    };
    let first = post("k", &body).await;
    let again = post("k", &body).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    let mut other = body.clone();
    other["title"] = json!("other");
    post("k", &other).await.is_problem("another body", 422, "idempotency_key_reused");
    let long: &'static str = Box::leak("k".repeat(256).into_boxed_str());
    post(long, &body).await.is_problem("a long key", 422, "validation_failed");
    let many = futures_util::stream::iter(0..20)
        .map(|_| post("many", &body))
        .buffer_unordered(20)
        .collect::<Vec<_>>()
        .await;
    let mut ids: Vec<_> =
        many.iter().filter(|a| a.status == 201).map(|a| a.body["id"].to_string()).collect();
    assert!(many.iter().all(|answer| [201, 409].contains(&answer.status)));
    ids.dedup();
    assert_eq!(ids.len(), 1, "one key, one document");
    let (_, page) = server.get("/documents").await;
    assert_eq!(page["documents"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn tokens_and_frames() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    let id = server.create("t", "c").await;
    let good = token(&server).await;
    let forged = format!("{}x", &good[..good.len() - 2]);
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ1IiwiZXhwIjo5OTk5OTk5OTk5fQ.";
    for bad in ["", "x", "a.b.c", &forged, none] {
        assert_eq!(Live::try_connect(&server, &id, bad).await.err(), Some(401), "{bad:?}");
    }
    let nobody = "01900000-0000-7000-8000-000000000000";
    assert_eq!(Live::try_connect(&server, nobody, &good).await.err(), Some(404));

    let mut live = Live::connect(&server, &id).await;
    assert_eq!(live.frame().await["type"], "document.snapshot");
    live.send(Message::Text("x".repeat(100_000).into())).await;
    let code = live.close_code().await;
    assert_eq!(code, 1009, "an oversized frame");

    let mut live = Live::connect(&server, &id).await;
    assert_eq!(live.frame().await["type"], "document.snapshot");
    let request = server.client.delete(server.url(&format!("/documents/{id}")));
    assert_eq!(request.send().await.expect("an answer").status(), 204);
    assert_eq!(live.frame().await["type"], "document.deleted");
    assert_eq!(live.close_code().await, 4404);
}

#[tokio::test]
async fn required_authentication_covers_everything_but_health() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let secret = "0123456789abcdef0123456789abcdef";
    let variables = [("DMS_AUTH", "required"), ("DMS_JWT_SECRET", secret)];
    let server = Server::start_with(&folder.path().join("data"), &variables);
    for path in ["/documents", "/search", "/aggregations/status", "/openapi.json", "/docs/"] {
        let answer = send(server.client.get(server.url(path))).await;
        answer.is_problem(path, 401, "unauthenticated");
        assert!(answer.headers.contains_key("www-authenticate"), "{path}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(server.get(path).await.0 / 100, 2, "{path}");
    }
    let answer = send(server.client.get(server.url("/auth/token?user_id=u&email=u@x.org"))).await;
    assert_eq!(answer.status, 404, "no development tokens with a configured key");
    let issue = |arguments: &[&str]| {
        let mut command = support::dms();
        command.args(["token", "u123"]).args(arguments).envs(variables);
        let output = support::run(&mut command);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let list = |token: String| send(server.client.get(server.url("/documents")).bearer_auth(token));
    assert_eq!(list(issue(&[])).await.status, 200);
    let expired = issue(&["--ttl", "1"]);
    support::eventually("the token to expire", async || {
        let answer = list(expired.clone()).await;
        (answer.status == 401 && answer.body["code"] == "token_expired").then_some(())
    })
    .await;
    assert!(!server.log().contains(secret));
}

#[tokio::test]
async fn requests_that_are_no_http() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = start(&folder);
    for garbage in ["\0\0\0\0\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut socket = tokio::net::TcpStream::connect(server.http).await.expect("a connection");
        socket.write_all(garbage.as_bytes()).await.expect("a write");
        let mut answer = Vec::new();
        let read = tokio::time::timeout(support::PATIENCE, socket.read_to_end(&mut answer));
        read.await.expect("an end").ok();
        let answer = String::from_utf8_lossy(&answer);
        // The gateway knows better what is wrong with a version.
        let is_refusal = answer.starts_with("HTTP/1.1 400")
            || support::tier() == support::Tier::Full && answer.starts_with("HTTP/1.1 505");
        assert!(answer.is_empty() || is_refusal, "{garbage:?}: {answer}");
    }
    let id = server.create("still", "alive").await;
    assert_eq!(server.get(&format!("/documents/{id}")).await.0, 200);
}
