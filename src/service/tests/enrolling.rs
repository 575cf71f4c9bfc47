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
    let enrolled = enroll(&root, options(&server)).await.unwrap();
    let (config, set_aside) = (enrolled.config, enrolled.set_aside);
    assert_eq!(set_aside, None);
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

#[tokio::test]
async fn work_of_another_backend_or_customer_is_moved_aside_and_that_of_the_same_stays() {
    let (one, two) = (Backend::new(), Backend::new());
    let (server_one, server_two) = (one.serve(None), two.serve(None));
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path().join("root"));
    // Which backend, which customer, and whether the work of the enrollment before is there.
    let steps =
        [(&one, &server_one, "c1", false), (&one, &server_one, "c1", true), (&one, &server_one, "c2", false)];
    for (n, (backend, server, customer, stays)) in
        steps.into_iter().chain([(&two, &server_two, "c2", false)]).enumerate()
    {
        backend.answer_enrollment(
            StatusCode::OK,
            json!({"agent": format!("a{n}"), "token": "t-secret-1", "customer_id": customer}),
        );
        let enrolled = enroll(&root, options(server)).await.unwrap();
        let file = root.spool().join("e1/sourcecode.Commit/0.json.gz");
        assert_eq!(file.exists(), stays, "step {n}");
        assert_eq!(enrolled.set_aside.is_some(), n > 0 && !stays, "step {n}");
        if let Some(aside) = enrolled.set_aside {
            assert!(aside.join("spool/e1/sourcecode.Commit/0.json.gz").exists(), "step {n}");
            assert!(
                !root.checkpoints_db().exists() && aside.join("state/checkpoints.redb").exists(),
                "step {n}"
            );
        }
        // Work, and the end of this enrollment.
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, "").unwrap();
        std::fs::write(root.checkpoints_db(), "").unwrap();
        std::fs::remove_file(root.config_path()).unwrap();
    }
}

#[tokio::test]
async fn a_root_that_a_service_uses_is_not_enrolled() {
    let backend = Backend::new();
    let server = backend.serve(None);
    let dir = tempfile::tempdir().unwrap();
    let root = Root::at(dir.path());
    let _lock = root.lock().unwrap();
    let err = enroll(&root, options(&server)).await.unwrap_err();
    assert!(matches!(err, EnrollError::InUse(_)), "{err}");
    assert!(backend.taken("enroll").is_empty());
}
