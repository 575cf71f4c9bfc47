//! What errors of the backend mean.

use outrider_protocol::fault::Fault;

use super::*;

#[test]
fn a_refusal_that_time_can_mend_is_tried_again_and_another_is_not() {
    let status = |status| CallError::Status { status, message: String::new(), retry_after: None };
    let rpc = |error| CallError::Rpc { method: "command.ended", error };
    let rows = [
        (rpc(RpcError::failed(Fault::Backend, Retry::Later, "disk full")), Verdict::Again),
        (rpc(RpcError::failed(Fault::Caller, Retry::No, "not yours")), Verdict::GiveUp),
        (rpc(RpcError::new(code::INVALID_PARAMS, "what?")), Verdict::GiveUp),
        (rpc(RpcError::new(code::NO_COMMAND, "whose?")), Verdict::GiveUp),
        (rpc(RpcError::new(code::INTERNAL, "panic")), Verdict::Again),
        (status(StatusCode::PAYLOAD_TOO_LARGE), Verdict::GiveUp),
        (status(StatusCode::BAD_GATEWAY), Verdict::Again),
        (status(StatusCode::TOO_MANY_REQUESTS), Verdict::Again),
        (CallError::Token { status: StatusCode::UNAUTHORIZED, message: String::new() }, Verdict::Again),
    ];
    for (error, verdict) in rows {
        assert_eq!(error.verdict(), verdict, "{error}");
    }
}

#[test]
fn a_wait_that_is_asked_for_is_read_as_seconds_and_as_a_time_and_is_bounded() {
    let now: Timestamp = "2026-11-21T08:00:00Z".parse().unwrap();
    let rows = [
        ("7", Some(7)),
        (" 0 ", Some(0)),
        ("Sat, 21 Nov 2026 08:00:30 GMT", Some(30)),
        ("Sat, 21 Nov 2026 07:00:00 GMT", Some(0)),
        ("999999999", Some(600)),
        ("soon", None),
    ];
    for (text, seconds) in rows {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        assert_eq!(retry_after(&headers, now), seconds.map(Duration::from_secs), "{text}");
    }
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}

#[test]
fn a_ca_file_without_a_certificate_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let err = Http::anonymous("https://localhost", Some(&path), &Limits::default()).unwrap_err();
    assert!(matches!(err, SetupError::CaFile { .. }), "{err}");
    std::fs::write(&path, "hello").unwrap();
    let err = Http::anonymous("https://localhost", Some(&path), &Limits::default()).unwrap_err();
    assert!(matches!(err, SetupError::NoCertificate { .. }), "{err}");
}

#[test]
fn an_address_that_is_none_is_quoted() {
    let err = Http::anonymous("backend", None, &Limits::default()).unwrap_err().to_string();
    assert!(err.contains("\"backend\" is no URL"), "{err}");
}
