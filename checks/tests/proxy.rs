//! The reverse proxy that is generated from Kong's file behaves as the file says: nginx itself, in
//! front of stand-ins that say which service they are.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::kong::Router;
use support::open_api::{self, example, operations};
use support::{root, text, yaml};

/// A stand-in for a service. It answers each request with its name, the path it saw and the headers
/// it was sent; a wish to upgrade it grants.
fn stand_in(name: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (name, stream) = (name.clone(), stream.expect("a connection"));
            thread::spawn(move || answer(&name, stream));
        }
    });
    address
}

fn answer(name: &str, mut stream: TcpStream) {
    let Some(head) = head(&mut BufReader::new(&stream)) else { return };
    let upgrade = head.to_ascii_lowercase().contains("\r\nupgrade: websocket\r\n");
    let status = if upgrade { "101 Switching Protocols" } else { "200 OK" };
    let upgraded = if upgrade { "Upgrade: websocket\r\nConnection: Upgrade\r\n" } else { "" };
    let body = if upgrade { "" } else { head.as_str() };
    let length =
        if upgrade { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let answer = format!(
        "HTTP/1.1 {status}\r\n{upgraded}{length}X-Service: {name}\r\n\
         X-Request-Id: of-the-service\r\n\r\n{body}"
    );
    // The proxy may have left.
    let _ = stream.write_all(answer.as_bytes());
}

/// Everything up to the empty line.
fn head(reader: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// nginx, with settings generated from the repository's file. Stopped with this value.
struct Proxy {
    nginx: Child,
    address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Proxy {
    fn start() -> Self {
        Self::start_with(&text("deploy/kong/kong.yml"))
    }

    fn start_with(kong: &str) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        // A port that is free now; nginx takes none of its own choice.
        let address = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("it");
        let file = home.path().join("kong.yml");
        std::fs::write(&file, kong).expect("a file");
        let mut generator = Command::new("/usr/bin/python3");
        generator
            .arg(root().join("deploy/native/gateway.py"))
            .args(["--listen", &address.to_string(), "--home"])
            .arg(home.path());
        for service in yaml("deploy/kong/kong.yml")["services"].as_array().expect("services") {
            let name = service["name"].as_str().expect("a name").to_owned();
            generator.args(["--upstream", &format!("{name}={}", stand_in(name.clone()))]);
        }
        let generated = generator.arg(file).output().expect("python3");
        assert!(generated.status.success(), "{}", String::from_utf8_lossy(&generated.stderr));
        let settings = home.path().join("nginx.conf");
        std::fs::write(&settings, generated.stdout).expect("a file");
        let nginx = Command::new("nginx")
            .arg("-c")
            .arg(&settings)
            .args(["-e", "stderr", "-g", "daemon off;"])
            .stdin(Stdio::null())
            .spawn()
            .expect("nginx");
        let mut proxy = Self { nginx, address, _home: home };
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(proxy.nginx.try_wait().expect("its state").is_none(), "nginx has ended");
            assert!(started.elapsed() < Duration::from_secs(30), "nginx doesn't listen");
            thread::sleep(Duration::from_millis(10));
        }
        proxy
    }

    /// Status, headers and body of the answer to a request without a body.
    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: gateway.example\r\n");
        for (name, value) in headers {
            request.extend([*name, ": ", *value, "\r\n"]);
        }
        if !headers.iter().any(|(name, _)| *name == "Connection") {
            request += "Connection: close\r\n";
        }
        stream.write_all((request + "\r\n").as_bytes()).expect("a request");
        let mut reader = BufReader::new(stream);
        let head = head(&mut reader).expect("an answer");
        let mut body = String::new();
        reader.read_to_string(&mut body).expect("the whole of it");
        Answer { head, body }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let pid = self.nginx.id().to_string();
        // TERM ends its workers too.
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.nginx.wait();
    }
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: String,
}

impl Answer {
    fn status(&self) -> &str {
        self.head.split(' ').nth(1).expect("a status")
    }

    fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }

    fn header(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} comes more than once: {all:?}");
        all.first().copied()
    }
}

#[tokio::test]
#[ignore = "needs nginx and python3-yaml"]
async fn each_operation_goes_where_the_file_says() {
    let proxy = Proxy::start();
    let router = Router::new(&yaml("deploy/kong/kong.yml"));
    let mut reached = 0;
    for operation in operations().await {
        for prefix in ["", "/v1"] {
            let path = format!("{prefix}{}", operation.example());
            let route = router.route(&operation.method, &path).expect("a route");
            let answer = proxy.ask(&operation.method, &path, &[]);
            assert_eq!(answer.header("X-Service"), route.service.as_deref(), "{path}");
            if route.service.is_some() {
                let line = format!("{} {path} HTTP/1.1", operation.method);
                assert!(answer.body.starts_with(&line), "{path}: {}", answer.body);
                assert!(answer.body.contains("\r\nHost: gateway.example\r\n"), "{}", answer.body);
                reached += 1;
            }
        }
    }
    assert!(reached > 20, "{reached}");
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn what_is_not_public_is_answered_like_an_unknown_path() {
    let proxy = Proxy::start();
    for path in [
        "/metrics",
        "/readyz",
        "/healthz",
        "/auth/token?user_id=u",
        "/v1/metrics",
        "/documents/../metrics",
        "/documents/%2e%2e/metrics",
        "/documents/..%2Fmetrics",
        "//metrics",
    ] {
        let answer = proxy.ask("GET", path, &[]);
        assert_eq!(answer.status(), "404", "{path}: {answer:?}");
        assert_eq!(answer.header("X-Service"), None, "{path}");
        assert_eq!(answer.header("Content-Type"), Some("application/problem+json"), "{path}");
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        assert_eq!(body["code"], "route_not_found", "{path}");
        assert_eq!(body["request_id"].as_str(), answer.header("X-Request-Id"), "{path}");
    }
}

#[tokio::test]
#[ignore = "needs nginx and python3-yaml"]
async fn an_unknown_path_is_answered_as_the_services_answer_it() {
    let proxy = Proxy::start();
    let answer = proxy.ask("GET", "/nothing", &[("X-Request-Id", "abc-1")]);
    let (status, body) = open_api::answer("/nothing", "abc-1").await;
    assert_eq!(answer.status(), status.as_str());
    assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON"), body);
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn a_connection_can_become_a_web_socket() {
    let proxy = Proxy::start();
    let headers = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    let answer = proxy.ask("GET", &example("/ws/{id}"), &headers);
    assert_eq!(answer.status(), "101", "{answer:?}");
    assert_eq!(answer.header("X-Service"), Some("websocket-service"));
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn an_answer_has_one_request_id_the_callers_if_it_is_sane() {
    let proxy = Proxy::start();
    let answer = proxy.ask("GET", "/search", &[("X-Request-Id", "abc-1")]);
    assert_eq!(answer.header("X-Request-Id"), Some("abc-1"));
    assert!(answer.body.contains("\r\nX-Request-Id: abc-1\r\n"), "{}", answer.body);
    for path in ["/search", "/nothing"] {
        let answer = proxy.ask("GET", path, &[("X-Request-Id", "not sane")]);
        let id = answer.header("X-Request-Id").expect("an id");
        assert!(!id.is_empty() && id != "not sane", "{path}: {id}");
    }
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn browsers_of_listed_origins_get_credentials_and_others_nothing() {
    let proxy = Proxy::start();
    let preflight = |origin| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "PATCH")];
        proxy.ask("OPTIONS", "/documents/x", &headers)
    };
    let listed = preflight("http://localhost:3000");
    assert_eq!(listed.status(), "200");
    assert_eq!(listed.header("X-Service"), None);
    let header = |name| listed.header(name).unwrap_or_else(|| panic!("no {name}"));
    assert_eq!(header("Access-Control-Allow-Origin"), "http://localhost:3000");
    assert_eq!(header("Access-Control-Allow-Credentials"), "true");
    assert!(header("Access-Control-Allow-Methods").contains("PATCH"));
    assert!(header("Access-Control-Allow-Headers").contains("If-Match"));
    let other = preflight("http://elsewhere.example");
    assert_eq!(other.header("Access-Control-Allow-Origin"), None);
    assert_eq!(other.header("Access-Control-Allow-Credentials"), None);

    let plain = proxy.ask("GET", "/search", &[("Origin", "http://localhost:3000")]);
    assert_eq!(plain.header("Access-Control-Allow-Origin"), Some("http://localhost:3000"));
    assert!(plain.header("Access-Control-Expose-Headers").is_some_and(|all| all.contains("ETag")));
    // Without a method that is to follow it is a request like any other.
    let options = proxy.ask("OPTIONS", "/search", &[("Origin", "http://localhost:3000")]);
    assert_eq!(options.header("X-Service"), Some("search-service"));
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn a_body_that_nobody_would_take_is_refused_before_it_is_sent() {
    let proxy = Proxy::start();
    let answer = proxy.ask("POST", "/documents", &[("Content-Length", "99999999999")]);
    assert_eq!(answer.status(), "413", "{answer:?}");
    assert_eq!(answer.header("X-Service"), None);
}

#[test]
#[ignore = "needs nginx and python3-yaml"]
fn a_client_that_asks_too_often_is_told_when_to_come_back() {
    let file = text("deploy/kong/kong.yml");
    let strict = file.replace("second: 500", "second: 1");
    assert_ne!(strict, file);
    let proxy = Proxy::start_with(&strict);
    let refused = (0..50)
        .map(|_| proxy.ask("GET", "/search", &[]))
        .find(|answer| answer.status() == "429")
        .expect("one of fifty is refused");
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(refused.header("X-Service"), None);
    assert!(refused.header("X-Request-Id").is_some());
}
