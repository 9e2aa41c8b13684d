//! URLs, secrets and certificates.

use std::sync::Arc;

use dms_core::ErrorKind;
use dms_core::conformance::views;
use dms_store::cache::CacheOptions;
use dms_store::redis::{RedisClient, RedisDocumentCache, RedisOptions, RedisViewCounter};

use crate::common::all_of;
use crate::support::{Keys, address, options};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn secrets_are_not_told() {
    let url = format!("redis://jane:hunter2secret@{}/0", address());
    let client = RedisClient::new(&url, options()).unwrap();
    assert!(!format!("{client:?}").contains("hunter2secret"));
    let error = client.check().await.unwrap_err();
    assert_eq!(error.dependency(), Some("cache"));
    assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    let cache = RedisDocumentCache::new(client, CacheOptions::default());
    assert!(!format!("{cache:?}").contains("hunter2secret"));
}

#[test]
fn other_urls_are_refused_and_not_repeated() {
    for url in [
        "",
        "redis",
        "http://jane:hunter2secret@host",
        "redis://jane:hunter2secret@host/x",
        "redis://jane:hunter2secret@host:99999",
        "redis://jane:hunter2secret@",
        "rediss://jane:hunter2secret@host#insecure",
    ] {
        let error = RedisClient::new(url, RedisOptions::default()).expect_err(url);
        assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
        assert!(!all_of(&error).contains("hunter2secret"), "{}", all_of(&error));
    }
    let options = RedisOptions {
        root_certificates_pem: Some(
            b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----".to_vec(),
        ),
        ..RedisOptions::default()
    };
    let error = RedisClient::new("rediss://host", options).expect_err("no certificate");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

/// In front of Redis, with a certificate of its own for `localhost`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Redis"]
async fn tls_to_a_server_whose_authority_is_given() {
    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::aws_lc_rs;

    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key =
        tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut redis = tokio::net::TcpStream::connect(address()).await.unwrap();
                if let Ok(mut client) = acceptor.accept(client).await {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut redis).await;
                }
            });
        }
    });
    let keys = Keys::new();
    let url = format!("rediss://localhost:{port}");
    let stranger = RedisClient::new(&url, keys.options.clone()).unwrap();
    let error = stranger.check().await.expect_err("its authority isn't known");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let trusting = RedisOptions {
        root_certificates_pem: Some(made.cert.pem().into_bytes()),
        ..keys.options.clone()
    };
    let client = RedisClient::new(&url, trusting).unwrap();
    client.check().await.expect("TLS");
    views::suite(&RedisViewCounter::new(client)).await;
    server.abort();
}
