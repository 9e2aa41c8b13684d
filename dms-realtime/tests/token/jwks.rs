//! Verification with keys from an endpoint.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use dms_core::ports::TokenVerifier as _;
use dms_realtime::token::{JwksOptions, JwtVerifier, TokenRules};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::keys::{ED25519, P256, P384, RSA, SECRET, claims, clock, hs256};

/// What the endpoint answers.
#[derive(Clone)]
enum Answer {
    Keys(Vec<Value>),
    Body(String),
    Status(StatusCode),
    Redirect,
    Hang,
}

#[derive(Clone)]
struct Endpoint {
    answer: Arc<Mutex<Answer>>,
    requests: Arc<AtomicUsize>,
}

struct Served {
    endpoint: Endpoint,
    url: String,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    fn answer(&self, answer: Answer) {
        *self.endpoint.answer.lock().expect("not poisoned") = answer;
    }

    fn requests(&self) -> usize {
        self.endpoint.requests.load(Ordering::SeqCst)
    }

    fn verifier(&self, options: JwksOptions) -> JwtVerifier {
        JwtVerifier::with_jwks(&self.url, options, TokenRules::default(), clock())
            .expect("a good url")
    }
}

async fn keys(State(endpoint): State<Endpoint>) -> Response {
    endpoint.requests.fetch_add(1, Ordering::SeqCst);
    let answer = endpoint.answer.lock().expect("not poisoned").clone();
    match answer {
        Answer::Keys(keys) => json!({ "keys": keys }).to_string().into_response(),
        Answer::Body(body) => body.into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Redirect => Redirect::temporary("/elsewhere").into_response(),
        Answer::Hang => std::future::pending().await,
    }
}

async fn serve(answer: Answer) -> Served {
    let endpoint = Endpoint { answer: Arc::new(Mutex::new(answer)), requests: Arc::default() };
    let elsewhere = json!({ "keys": [P256.jwk("p")] }).to_string();
    let router = Router::new()
        .route("/keys", get(keys))
        .route("/elsewhere", get(|| async { elsewhere }))
        .with_state(endpoint.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/keys", listener.local_addr().expect("an address"));
    let task = tokio::spawn(async move {
        axum::serve(listener, router).await.expect("serving doesn't fail");
    });
    Served { endpoint, url, task }
}

/// Never rests between two fetches.
fn eager() -> JwksOptions {
    JwksOptions { refresh_interval_min: Duration::ZERO, ..JwksOptions::default() }
}

/// Keys are old at once.
fn forgetful() -> JwksOptions {
    JwksOptions { age_max: Duration::ZERO, ..eager() }
}

async fn code(verifier: &JwtVerifier, token: &str) -> Result<String, &'static str> {
    verifier.verify(token).await.map(|claims| claims.sub).map_err(|error| error.code())
}

#[tokio::test]
async fn keys_are_fetched_once_and_chosen_by_their_id() {
    let served = serve(Answer::Keys(vec![RSA.jwk("r"), P256.jwk("p"), ED25519.jwk("e")])).await;
    let verifier = served.verifier(JwksOptions::default());
    for (pair, kid) in [(&RSA, "r"), (&P256, "p"), (&ED25519, "e")] {
        let token = pair.sign_with_kid(Some(kid), &claims());
        assert_eq!(code(&verifier, &token).await, Ok("ann".into()), "{kid}");
    }
    assert_eq!(served.requests(), 1);
}

#[tokio::test]
async fn a_key_is_accepted_for_its_own_algorithm_only() {
    let served = serve(Answer::Keys(vec![RSA.jwk("r"), P256.jwk("p")])).await;
    let verifier = served.verifier(JwksOptions::default());
    let wrong_key = P256.sign_with_kid(Some("r"), &claims());
    assert_eq!(code(&verifier, &wrong_key).await, Err("token_invalid"));
    for secret in [SECRET, RSA.public_pem.as_bytes()] {
        assert_eq!(code(&verifier, &hs256(secret, &claims())).await, Err("token_invalid"));
    }
}

#[tokio::test]
async fn keys_for_other_uses_and_unknown_kinds_are_passed_over() {
    let mut for_encryption = P256.jwk("enc");
    for_encryption["use"] = json!("enc");
    let mut other_algorithm = RSA.jwk("ps");
    other_algorithm["alg"] = json!("PS256");
    let secret =
        json!({"kty": "oct", "kid": "oct", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"});
    let strange = json!({"kty": "lattice", "kid": "strange"});
    let keys = vec![
        for_encryption,
        other_algorithm,
        secret,
        strange,
        P384.jwk("p384"),
        json!(7),
        P256.jwk("p"),
    ];
    let served = serve(Answer::Keys(keys)).await;
    let verifier = served.verifier(JwksOptions::default());
    assert!(code(&verifier, &P256.sign_with_kid(Some("p"), &claims())).await.is_ok());
    for token in [
        P256.sign_with_kid(Some("enc"), &claims()),
        RSA.sign_with_kid(Some("ps"), &claims()),
        P384.sign_with_kid(Some("p384"), &claims()),
        hs256(SECRET, &claims()),
    ] {
        assert_eq!(code(&verifier, &token).await, Err("token_invalid"));
    }
}

#[tokio::test]
async fn a_token_without_a_key_id_needs_an_unambiguous_key() {
    let served = serve(Answer::Keys(vec![RSA.jwk("r"), P256.jwk("p")])).await;
    let verifier = served.verifier(eager());
    assert!(code(&verifier, &P256.sign(&claims())).await.is_ok());
    served.answer(Answer::Keys(vec![P256.jwk("p"), P256.jwk("q")]));
    let verifier = served.verifier(eager());
    assert_eq!(code(&verifier, &P256.sign(&claims())).await, Err("token_invalid"));
}

#[tokio::test]
async fn a_new_key_is_found_when_a_token_names_it() {
    let served = serve(Answer::Keys(vec![RSA.jwk("old")])).await;
    let verifier = served.verifier(eager());
    assert!(code(&verifier, &RSA.sign_with_kid(Some("old"), &claims())).await.is_ok());
    served.answer(Answer::Keys(vec![RSA.jwk("old"), P256.jwk("new")]));
    assert!(code(&verifier, &P256.sign_with_kid(Some("new"), &claims())).await.is_ok());
    assert_eq!(served.requests(), 2);
}

#[tokio::test]
async fn unknown_key_ids_do_not_cause_a_fetch_each() {
    let served = serve(Answer::Keys(vec![RSA.jwk("r")])).await;
    let verifier = served.verifier(JwksOptions::default());
    for i in 0..20 {
        let token = P256.sign_with_kid(Some(&format!("unknown-{i}")), &claims());
        assert_eq!(code(&verifier, &token).await, Err("token_invalid"));
    }
    assert_eq!(served.requests(), 1);
}

#[tokio::test]
async fn concurrent_tokens_share_one_fetch() {
    let served = serve(Answer::Keys(vec![P256.jwk("p")])).await;
    let verifier = served.verifier(eager());
    let token = P256.sign_with_kid(Some("p"), &claims());
    let all = (0..16).map(|_| verifier.verify(&token));
    let results = futures_util::future::join_all(all).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(served.requests(), 1);
}

#[tokio::test]
async fn old_keys_stay_in_force_while_the_endpoint_is_down() {
    let served = serve(Answer::Keys(vec![P256.jwk("p")])).await;
    let verifier = served.verifier(forgetful());
    let token = P256.sign_with_kid(Some("p"), &claims());
    assert!(code(&verifier, &token).await.is_ok());
    served.answer(Answer::Status(StatusCode::INTERNAL_SERVER_ERROR));
    assert!(code(&verifier, &token).await.is_ok());
    assert_eq!(served.requests(), 2);
    let unknown = P256.sign_with_kid(Some("q"), &claims());
    assert_eq!(code(&verifier, &unknown).await, Err("unavailable"));
}

#[tokio::test]
async fn old_keys_are_fetched_anew_no_more_often_than_the_interval() {
    let served = serve(Answer::Keys(vec![P256.jwk("p")])).await;
    let options = JwksOptions { age_max: Duration::ZERO, ..JwksOptions::default() };
    let verifier = served.verifier(options);
    let token = P256.sign_with_kid(Some("p"), &claims());
    for _ in 0..5 {
        assert!(code(&verifier, &token).await.is_ok());
    }
    assert_eq!(served.requests(), 1);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_once_keys_are_fetched_anew() {
    let served = serve(Answer::Keys(vec![P256.jwk("p")])).await;
    let verifier = served.verifier(forgetful());
    let token = P256.sign_with_kid(Some("p"), &claims());
    assert!(code(&verifier, &token).await.is_ok());
    served.answer(Answer::Keys(vec![P256.jwk("q")]));
    assert_eq!(code(&verifier, &token).await, Err("token_invalid"));
}

#[tokio::test]
async fn without_keys_the_answer_is_unavailable_and_not_that_the_token_is_bad() {
    let small = JwksOptions { body_bytes_max: 1_000, keys_max: 2, ..JwksOptions::default() };
    let token = P256.sign_with_kid(Some("p"), &claims());
    for answer in [
        Answer::Status(StatusCode::SERVICE_UNAVAILABLE),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Redirect,
        Answer::Body(String::new()),
        Answer::Body("<html>".into()),
        Answer::Body("{}".into()),
        Answer::Body(json!({"keys": [], "pad": "x".repeat(2_000)}).to_string()),
        Answer::Keys(vec![P256.jwk("p"); 3]),
    ] {
        let served = serve(answer).await;
        let verifier = served.verifier(small);
        let error = verifier.verify(&token).await.expect_err("no keys");
        assert!(error.is_retryable() && error.dependency() == Some("jwks"), "{error:?}");
        assert!(verifier.check().await.is_err());
    }
}

#[tokio::test]
async fn an_endpoint_that_hangs_is_given_up() {
    let served = serve(Answer::Hang).await;
    let options = JwksOptions { timeout: Duration::from_millis(50), ..JwksOptions::default() };
    let verifier = served.verifier(options);
    let token = P256.sign_with_kid(Some("p"), &claims());
    assert_eq!(code(&verifier, &token).await, Err("unavailable"));
}

#[tokio::test]
async fn an_abandoned_fetch_does_not_block_the_next() {
    let served = serve(Answer::Hang).await;
    let verifier = served.verifier(JwksOptions::default());
    let token = P256.sign_with_kid(Some("p"), &claims());
    tokio::select! {
        _ = verifier.verify(&token) => panic!("the endpoint hangs"),
        () = async { while served.requests() == 0 { tokio::task::yield_now().await } } => {}
    }
    served.answer(Answer::Keys(vec![P256.jwk("p")]));
    let fetched = async {
        while code(&verifier, &token).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), fetched).await.expect("fetched at last");
}

#[tokio::test]
async fn check_fetches_keys_ahead_of_the_first_token() {
    let served = serve(Answer::Keys(vec![P256.jwk("p")])).await;
    let verifier = served.verifier(JwksOptions::default());
    verifier.check().await.expect("keys are there");
    verifier.check().await.expect("keys are still there");
    assert!(code(&verifier, &P256.sign_with_kid(Some("p"), &claims())).await.is_ok());
    assert_eq!(served.requests(), 1);
}

#[tokio::test]
async fn keys_that_are_given_need_no_endpoint() {
    let given =
        |set: &str| JwtVerifier::with_key_set(set.as_bytes(), TokenRules::default(), clock());
    let set = json!({"keys": [P256.jwk("p"), ED25519.jwk("e"), {"kty": "new"}]});
    let verifier = given(&set.to_string()).expect("a set");
    verifier.check().await.expect("keys are there");
    assert!(code(&verifier, &P256.sign_with_kid(Some("p"), &claims())).await.is_ok());
    assert!(code(&verifier, &P256.sign_with_kid(None, &claims())).await.is_ok());
    for token in [P256.sign_with_kid(Some("e"), &claims()), hs256(SECRET, &claims())] {
        assert_eq!(code(&verifier, &token).await, Err("token_invalid"));
    }
    for bad in ["", "[]", "{}", r#"{"keys":{}}"#] {
        assert_eq!(given(bad).expect_err("no set").fields()[0].field, "key_set", "{bad}");
    }
}

#[test]
fn only_http_urls_are_accepted() {
    for url in ["", "keys", "ftp://host/keys", "file:///etc/passwd"] {
        let refused =
            JwtVerifier::with_jwks(url, JwksOptions::default(), TokenRules::default(), clock());
        let error = refused.expect_err("refused");
        assert_eq!(error.fields()[0].field, "jwks_url", "{url}");
    }
    assert_eq!(P256.algorithm, Algorithm::ES256);
}
