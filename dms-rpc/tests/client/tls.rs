//! TLS: `https://`, and `wss://` by the same way.

use std::sync::Arc;

use axum::Router;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::routing::get;
use dms_core::DocumentId;
use dms_rpc::client::{ClientError, DmsClient};
use futures_util::StreamExt as _;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::support::{document, patiently};

struct TlsServer {
    url: String,
    /// The server's own certificate, in PEM.
    certificate: String,
    task: JoinHandle<()>,
}

impl TlsServer {
    async fn start(router: Router) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, router) = (acceptor.clone(), router.clone());
                tokio::spawn(async move {
                    // A client that doesn't trust the certificate hangs up.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { url, certificate: made.cert.pem(), task }
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[tokio::test]
async fn calls_and_live_connections_go_over_tls() {
    let id = DocumentId::generate();
    let live = |upgrade: WebSocketUpgrade| async {
        upgrade.on_upgrade(|mut socket| async move {
            let frame =
                json!({"type": "document.snapshot", "data": {"version": 1}, "timestamp": 1});
            socket.send(Message::text(frame.to_string())).await.unwrap();
            let _ = socket.recv().await;
        })
    };
    let router = Router::new()
        .route("/documents/{id}", get(move || async move { axum::Json(json!(document(id))) }))
        .route("/ws/{id}", get(live));
    let server = TlsServer::start(router).await;
    let client =
        DmsClient::builder(&server.url).root_certificates(&*server.certificate).build().unwrap();
    assert_eq!(client.document(id).await.unwrap(), document(id));
    let mut frames = client.live(id).await.unwrap();
    assert_eq!(patiently(frames.next()).await.unwrap().unwrap().version(), Some(1));
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_refused() {
    let server = TlsServer::start(Router::new()).await;
    let client = DmsClient::builder(&server.url).retries_max(0).build().unwrap();
    let error = client.document(DocumentId::generate()).await.unwrap_err();
    assert!(matches!(error, ClientError::Unreachable { unsent: true, .. }), "{error:?}");
}
