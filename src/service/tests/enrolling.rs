//! Enrolling against a scripted backend.

use axum::http::StatusCode;
use serde_json::json;

use super::*;
use crate::enroll::{EnrollError, EnrollOptions, enroll};

fn options(server: &Server) -> EnrollOptions {
    EnrollOptions {
        backend: format!("http://{}", server.addr),
        code: "code-1".into(),
        channel: "dev".into(),
        ca_file: None,
        allow_http: false,
    }
}

#[tokio::test]
async fn an_enrolled_root_has_its_identity_and_is_not_enrolled_twice() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.answer_enrollment(
        StatusCode::OK,
        json!({"agent": "a7", "token": "t-secret-1", "customer_id": "c9"}),
    );
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().join("root"));
    let config = enroll(&root, options(&server)).await.unwrap();
    let saved = Config::load(&root).unwrap();
    assert_eq!((config.agent.as_str(), saved.token.expose()), ("a7", "t-secret-1"));
    assert_eq!(saved.customer_id.as_deref(), Some("c9"));
    let err = enroll(&root, options(&server)).await.unwrap_err();
    assert!(matches!(err, EnrollError::Already { .. }), "{err}");
    assert!(err.hint().unwrap().contains("unenroll"));
    let status = crate::status(&root);
    assert!(status.enrolled && status.unknown.is_empty(), "{status:?}");
}

#[tokio::test]
async fn an_enrollment_whose_answer_was_lost_is_repeated_as_the_same_request() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.answer_enrollment(StatusCode::BAD_GATEWAY, json!({"message": "gone"}));
    backend.answer_enrollment(StatusCode::OK, json!({"agent": "a7", "token": "t-secret-1"}));
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let err = enroll(&root, options(&server)).await.unwrap_err();
    assert!(err.to_string().contains("502"), "{err}");
    assert!(!root.config_path().exists());
    enroll(&root, options(&server)).await.unwrap();
    let asked = backend.taken("enroll");
    assert_eq!(asked[0]["request"], asked[1]["request"]);
}

#[tokio::test]
async fn a_refused_code_and_a_backend_that_is_down_are_told_apart() {
    let backend = Backend::new();
    let server = backend.serve(None);
    backend.answer_enrollment(
        StatusCode::FORBIDDEN,
        json!({"message": "the code has expired", "hint": "ask for a new one"}),
    );
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let err = enroll(&root, options(&server)).await.unwrap_err();
    assert!(
        matches!(&err, EnrollError::Refused { message, .. } if message.contains("the code has expired")),
        "{err}"
    );
    assert!(!err.is_usage());
    let options = options(&server);
    drop(server);
    let err = enroll(&root, options).await.unwrap_err();
    assert!(matches!(err, EnrollError::Unreachable { .. }), "{err}");
    assert!(err.hint().unwrap().contains("is the backend running"));
}
