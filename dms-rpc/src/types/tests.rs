use dms_core::{Error, ErrorKind};

use super::*;

#[test]
fn writes_refuse_unknown_fields() {
    let unknown = r#"{"title":"t","content":"c","created_by":"a","colour":"red"}"#;
    assert!(serde_json::from_str::<CreateDocumentBody>(unknown).is_err());
    assert!(serde_json::from_str::<PatchDocumentBody>(r#"{"version":3}"#).is_err());
    assert!(serde_json::from_str::<CreateSignatureBody>(r#"{"extra":1}"#).is_err());
}

#[test]
fn what_may_be_left_out_may_be_left_out() {
    let body: CreateDocumentBody =
        serde_json::from_str(r#"{"title":"t","content":"c","created_by":"a"}"#).unwrap();
    assert_eq!((body.content_type, body.content_encoding), (None, None));
    let body: PatchDocumentBody = serde_json::from_str("{}").unwrap();
    assert_eq!(body, PatchDocumentBody::default());
}

#[test]
fn a_problem_of_the_client_tells_what_is_wrong() {
    let body = ProblemBody::new(&Error::invalid("title", "must have 1 to 500 characters"), "r-1");
    assert_eq!((body.status, body.code.as_str()), (422, "validation_failed"));
    assert_eq!(body.errors[0].field, "title");
    assert_eq!(body.request_id, "r-1");
}

#[test]
fn a_problem_inside_tells_nothing_of_its_cause() {
    for kind in [ErrorKind::Internal, ErrorKind::Unavailable, ErrorKind::Timeout] {
        let error = Error::new(kind, "secret host db-7").with_source("secret cause");
        let text = serde_json::to_string(&ProblemBody::new(&error, "r-1")).unwrap();
        assert!(!text.contains("secret"), "{text}");
    }
}

#[test]
fn a_token_does_not_show_in_debug_output() {
    let body = TokenBody {
        access_token: "secret".into(),
        token_type: "bearer".into(),
        user_id: "ann".into(),
        email: "ann@example.org".into(),
    };
    assert!(!format!("{body:?}").contains("secret"));
}
