//! Who may call.

use std::sync::Arc;
use std::task::Poll;

use axum::body::{Body, Bytes};
use axum::http::{Method, StatusCode};
use dms_core::fake::StaticTokenVerifier;
use dms_core::ports::MockTokenVerifier;
use dms_core::{Error, Result};
use serde_json::json;

use super::bed::{Bed, Plan, request};
use super::open_api::{document, operations};
use crate::auth::Authentication;
use crate::rest::Access;

fn verifier() -> Arc<StaticTokenVerifier> {
    let verifier = StaticTokenVerifier::new();
    verifier.accept_subject("good", "ann");
    verifier.accept_subject("other", "bob");
    verifier.expire("old");
    Arc::new(verifier)
}

fn guarded() -> Bed {
    Plan::requiring(Authentication::Required(verifier())).build()
}

fn unread() -> Body {
    Body::from_stream(futures_util::stream::poll_fn(|_| -> Poll<Option<Result<Bytes>>> {
        panic!("a stranger's body was read")
    }))
}

#[tokio::test]
async fn every_operation_and_the_page_ask_for_a_token_before_anything_else() {
    let open = document(&Bed::new()).await;
    let bed = guarded();
    let mut all = operations(&open);
    assert!(all.len() >= 13, "{all:?}");
    for path in ["/openapi.json", "/docs", "/docs/", "/docs/swagger-ui.css"] {
        all.push((Method::GET, path.into()));
    }
    for (method, path) in all {
        for prefix in ["", "/v1"] {
            let path = format!("{prefix}{}", path.replace('{', "%7B").replace('}', "%7D"));
            let answer = bed.send(request(method.clone(), &path, &[], unread())).await;
            answer.problem(401, "unauthenticated");
            assert_eq!(answer.header("www-authenticate"), "Bearer", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn a_valid_token_opens_and_an_invalid_one_is_told_apart() {
    let bed = guarded();
    let ask = async |header: &str| bed.get_with("/documents", &[("authorization", header)]).await;
    assert_eq!(ask("Bearer good").await.status, StatusCode::OK);
    assert_eq!(ask("bearer good").await.status, StatusCode::OK);
    for (header, code) in [("Bearer old", "token_expired"), ("Bearer bad", "token_invalid")] {
        let answer = ask(header).await;
        answer.problem(401, code);
        assert_eq!(answer.header("www-authenticate"), "Bearer error=\"invalid_token\"");
    }
    ask("Basic Z29vZA==").await.problem(401, "unauthenticated");
    bed.get("/documents?token=good").await.problem(401, "unauthenticated");
}

#[tokio::test]
async fn a_verifier_out_of_reach_is_a_503_and_no_invitation() {
    let mut verifier = MockTokenVerifier::new();
    verifier.expect_verify().returning(|_| Err(Error::unavailable("keys", "no answer")));
    let bed = Plan::requiring(Authentication::Required(Arc::new(verifier))).build();
    let answer = bed.get_with("/documents", &[("authorization", "Bearer x")]).await;
    answer.problem(503, "unavailable");
    assert!(!answer.headers.contains_key("www-authenticate"));
}

#[tokio::test]
async fn views_are_counted_by_who_the_token_is_for() {
    let bed = guarded();
    let as_ann = [("authorization", "Bearer good")];
    let body = json!({"title": "t", "content": "", "created_by": "ann"});
    let made = bed.post_with("/documents", &as_ann, &body).await;
    let path = made.header("location").to_owned();
    for token in ["good", "other", "good"] {
        bed.get_with(&path, &[("authorization", &format!("Bearer {token}"))]).await;
    }
    let stats = bed.get_with(&format!("{path}/stats"), &as_ann).await.json();
    assert_eq!((&stats["total_views"], &stats["unique_views"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn addresses_that_proxies_report_count_only_if_proxies_are_trusted() {
    for (trusted_proxies, unique) in [(0, 1), (1, 2)] {
        let access = Access { trusted_proxies, ..Access::default() };
        let bed = Plan { access, ..Plan::default() }.build();
        let path = format!("/documents/{}", bed.document("t", "").await);
        for client in ["198.51.100.1", "198.51.100.2"] {
            bed.get_with(&path, &[("x-forwarded-for", client)]).await;
        }
        let stats = bed.get(&format!("{path}/stats")).await.json();
        assert_eq!(stats["unique_views"], unique);
    }
}
