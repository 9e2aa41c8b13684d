//! The gateway's file leads each public path to its service, and everything else nowhere.

mod support;

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;
use support::kong::{Route, Router};
use support::open_api::{answer, example, operations};
use support::{object, texts, yaml};

/// Every public operation, and the service that answers it.
const PUBLIC: [(&str, &str, &str); 16] = [
    ("GET", "/aggregations/{field}", "search-service"),
    ("GET", "/documents", "document-service"),
    ("POST", "/documents", "document-service"),
    ("GET", "/documents/{id}", "document-service"),
    ("PATCH", "/documents/{id}", "document-service"),
    ("DELETE", "/documents/{id}", "document-service"),
    ("GET", "/documents/{id}/content", "document-service"),
    ("GET", "/documents/{document_id}/events", "websocket-service"),
    ("GET", "/documents/{id}/signatures", "signature-service"),
    ("GET", "/documents/{id}/stats", "document-service"),
    ("GET", "/search", "search-service"),
    ("POST", "/signatures", "signature-service"),
    ("GET", "/signatures/{id}", "signature-service"),
    ("GET", "/signatures/{id}/image", "signature-service"),
    ("GET", "/ws/{document_id}", "websocket-service"),
    // Not in the document: the document itself.
    ("GET", "/openapi.json", "document-service"),
];

/// The page and its files.
const PAGE: [&str; 3] = ["/docs", "/docs/", "/docs/swagger-ui.css"];

/// What is served, and isn't for the public.
const PRIVATE: [&str; 4] = ["/auth/token", "/healthz", "/metrics", "/readyz"];

/// Where the WebSocket and the event stream are.
const LIVE: [&str; 2] = ["/ws/{document_id}", "/documents/{document_id}/events"];

fn gateway() -> Value {
    yaml("deploy/kong/kong.yml")
}

fn plugin(file: &Value, name: &str) -> Value {
    let plugins = file["plugins"].as_array().expect("plugins that hold for all routes");
    let found: Vec<_> = plugins.iter().filter(|one| one["name"] == name).collect();
    let [plugin] = found[..] else { panic!("{} plugins {name}", found.len()) };
    plugin["config"].clone()
}

fn service<'a>(file: &'a Value, name: &str) -> &'a Value {
    let services = file["services"].as_array().expect("services");
    services.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("no service {name}"))
}

fn taken<'a>(router: &'a Router, method: &str, path: &str) -> &'a Route {
    router.route(method, path).unwrap_or_else(|| panic!("{method} {path} takes no route"))
}

/// What a route without a service answers.
struct OwnAnswer {
    status: u16,
    content_type: String,
    body: Value,
}

impl OwnAnswer {
    /// To a request with this id.
    fn of(route: &Route, id: &str) -> Self {
        let plugin = &route.settings["plugins"][0];
        // request-termination, which runs earlier, can't name the request.
        assert_eq!(plugin["name"], "post-function", "{}", route.name);
        let lua = texts(&plugin["config"]["access"]).join("\n");
        let shape = r#"^local id = kong\.request\.get_header\("X-Request-Id"\)
local body = '(.*)' \.\. id \.\. '(.*)'
return kong\.response\.exit\(([0-9]+), body, \{ \["Content-Type"\] = "(.*)" \}\)
$"#;
        let shape = Regex::new(shape).expect("a pattern");
        let found = shape.captures(&lua).unwrap_or_else(|| panic!("another answer: {lua}"));
        let body = [&found[1], id, &found[2]].concat();
        Self {
            status: found[3].parse().expect("a status"),
            content_type: found[4].to_owned(),
            body: serde_json::from_str(&body).expect("JSON"),
        }
    }
}

#[tokio::test]
async fn the_table_of_public_operations_is_what_the_product_serves() {
    let served: BTreeSet<_> = operations()
        .await
        .into_iter()
        .filter(|operation| !PRIVATE.contains(&operation.path.as_str()))
        .map(|operation| (operation.method, operation.path))
        .collect();
    let table: BTreeSet<_> = PUBLIC
        .iter()
        .map(|(method, path, _)| ((*method).to_owned(), (*path).to_owned()))
        .filter(|(_, path)| path != "/openapi.json")
        .collect();
    assert_eq!(table, served);
}

#[test]
fn each_public_path_reaches_its_service_under_both_prefixes() {
    let router = Router::new(&gateway());
    let page = PAGE.map(|path| ("GET", path, "document-service"));
    for (method, path, service) in PUBLIC.into_iter().chain(page) {
        for prefix in ["", "/v1"] {
            let path = format!("{prefix}{}", example(path));
            // A wrong method is answered by the service, and a preflight has to find a route.
            for method in [method, "OPTIONS", "PUT"] {
                let route = taken(&router, method, &path);
                assert_eq!(route.service.as_deref(), Some(service), "{method} {path}");
            }
        }
    }
}

#[test]
fn nothing_else_reaches_a_service() {
    let router = Router::new(&gateway());
    let others = [
        "/",
        "/v1",
        "/v2/documents",
        "/v1/v1/documents",
        "/documentsx",
        "/x/documents",
        "/METRICS",
        "/metrics/",
        "/metrics/documents",
        "/auth",
        "/auth/token/",
        "/ws",
        "/ws/",
        "/openapi.json/metrics",
        "/document.DocumentService/GetDocument",
    ];
    for path in PRIVATE.into_iter().chain(others) {
        for prefix in ["", "/v1"] {
            let path = format!("{prefix}{path}");
            for method in ["GET", "POST", "OPTIONS"] {
                let route = taken(&router, method, &path);
                assert_eq!(route.service, None, "{method} {path}");
                assert_eq!(OwnAnswer::of(route, "an-id").status, 404, "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn an_unknown_path_is_answered_as_the_services_answer_it() {
    let router = Router::new(&gateway());
    let gateways = OwnAnswer::of(taken(&router, "GET", "/nothing"), "an-id");
    assert_eq!(gateways.content_type, "application/problem+json");
    let (status, body) = answer("/nothing", "an-id").await;
    assert_eq!((gateways.status, gateways.body), (status.as_u16(), body));
}

#[test]
fn live_connections_stay_open_and_nothing_they_say_waits() {
    let file = gateway();
    let router = Router::new(&file);
    for path in LIVE {
        let route = taken(&router, "GET", &example(path));
        assert_eq!(route.settings["response_buffering"], false, "{path}");
        let service = service(&file, route.service.as_deref().expect("a service"));
        for timeout in ["read_timeout", "write_timeout"] {
            // The service pings each 25 s, and gives a silent peer up after 60 s.
            assert!(service[timeout].as_u64() >= Some(600_000), "{path}: {timeout}");
        }
    }
}

#[test]
fn other_requests_end_soon_and_are_tried_once() {
    let file = gateway();
    for service in file["services"].as_array().expect("services") {
        let name = &service["name"];
        assert_eq!(service["retries"], 0, "{name}");
        assert!(service["connect_timeout"].as_u64() <= Some(2_000), "{name}");
        if name != "websocket-service" {
            assert!(service["read_timeout"].as_u64() <= Some(60_000), "{name}");
        }
    }
}

#[test]
fn uploads_and_downloads_are_not_held() {
    let file = gateway();
    let router = Router::new(&file);
    for path in ["/documents", "/documents/{id}/content", "/signatures", "/signatures/{id}/image"] {
        let route = taken(&router, "GET", &example(path));
        for buffering in ["request_buffering", "response_buffering"] {
            assert_eq!(route.settings[buffering], false, "{path}: {buffering}");
        }
    }
}

#[test]
fn paths_and_hosts_arrive_as_they_were_sent() {
    let file = gateway();
    let router = Router::new(&file);
    for (method, path, _) in PUBLIC {
        let route = taken(&router, method, &example(path));
        assert_eq!(route.settings["strip_path"], false, "{path}");
        assert_eq!(route.settings["preserve_host"], true, "{path}");
    }
}

#[tokio::test]
async fn browsers_of_listed_origins_may_send_credentials_and_every_header_there_is() {
    let cors = plugin(&gateway(), "cors");
    assert_eq!(cors["credentials"], true);
    assert_eq!(cors["preflight_continue"], false);
    let origins = texts(&cors["origins"]);
    assert!(!origins.is_empty());
    for origin in origins {
        let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let host = host.unwrap_or_else(|| panic!("{origin} has no scheme"));
        // Kong takes anything else for a pattern.
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-:".contains(c);
        assert!(!host.is_empty() && host.chars().all(plain), "{origin}");
    }
    let allowed = texts(&cors["headers"]);
    let methods = texts(&cors["methods"]);
    let always = ["Authorization", "Content-Type", "Range", "Last-Event-ID", "X-Request-Id"];
    let always = always.map(str::to_owned);
    for operation in operations().await {
        assert!(methods.contains(&operation.method), "{operation:?}");
        for header in operation.headers.iter().chain(&always) {
            let found = allowed.iter().any(|one| one.eq_ignore_ascii_case(header));
            assert!(found, "{header} of {} {}", operation.method, operation.path);
        }
    }
    let exposed = texts(&cors["exposed_headers"]);
    for header in ["ETag", "Location", "Retry-After", "X-Request-Id", "Content-Range"] {
        assert!(exposed.iter().any(|one| one == header), "{header}");
    }
}

#[test]
fn requests_are_counted_in_redis_and_pass_without_it() {
    let rate = plugin(&gateway(), "rate-limiting");
    assert_eq!(rate["policy"], "redis");
    assert_eq!(rate["limit_by"], "ip");
    assert_eq!(rate["fault_tolerant"], true);
    assert!(rate["second"].as_u64() > Some(0));
    let compose = yaml("docker-compose.yml");
    let services = object(&compose["services"]);
    let host = rate["redis"]["host"].as_str().expect("a host");
    assert!(services.contains_key(host), "no {host} in the compose file");
    // Kong's vault of variables: `redis-password` is the variable REDIS_PASSWORD.
    assert_eq!(rate["redis"]["password"], "{vault://env/redis-password}");
    let command = texts(&services["kong"]["command"]).join("\n");
    assert!(command.contains("REDIS_PASSWORD=$$(cat /run/dms/cache/password)"), "{command}");
}

#[test]
fn each_request_has_an_id() {
    let file = gateway();
    let id = plugin(&file, "correlation-id");
    assert_eq!(id["header_name"], "X-Request-Id");
    assert_eq!(id["echo_downstream"], true);
    // One that isn't sane is dropped before.
    let lua = texts(&plugin(&file, "pre-function")["access"]).join("\n");
    assert!(lua.contains(r#"kong.service.request.clear_header("X-Request-Id")"#), "{lua}");
}

#[test]
fn the_largest_document_fits_in_base64_and_little_more_does() {
    const DOCUMENT_BYTES_MAX: u64 = 26_214_400;
    let size = plugin(&gateway(), "request-size-limiting");
    assert_eq!(size["size_unit"], "megabytes");
    assert_eq!(size["require_content_length"], false);
    let bytes = size["allowed_payload_size"].as_u64().expect("a size") << 20;
    assert!(bytes >= DOCUMENT_BYTES_MAX / 3 * 4 + (1 << 20), "{bytes}");
    assert!(bytes <= DOCUMENT_BYTES_MAX * 2, "{bytes}");
}

#[test]
fn services_are_where_the_compose_file_has_them() {
    let file = gateway();
    let compose = object(&yaml("docker-compose.yml")["services"]);
    for service in file["services"].as_array().expect("services") {
        assert_eq!(service["name"], service["host"]);
        let host = service["host"].as_str().expect("a host");
        let address = compose[host]["environment"]["DMS_HTTP_ADDR"].as_str().expect("an address");
        assert_eq!(address, format!("0.0.0.0:{}", service["port"]), "{host}");
    }
}
