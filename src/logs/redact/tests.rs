//! What is starred, and what is not.

use base64::engine::general_purpose::STANDARD;

use super::*;

fn raw(text: &str) -> Box<RawValue> {
    serde_json::from_str(text).unwrap()
}

#[test]
fn secrets_are_found_by_their_keys_and_the_rest_is_left() {
    let config = raw(
        r#"{"url":"https://api.example.com","api_key":"K-123456","nested":[{"clientSecret":"s3cr3t!"}],
            "token_url":"https://example.com/token","headers":{"Authorization":"Bearer abcdefgh"},"page":100}"#,
    );
    let redactor = Redactor::from_config(&config, None);
    assert_eq!(
        redactor.redact("GET https://example.com/token with K-123456, s3cr3t! and abcdefgh"),
        "GET https://example.com/token with ***, *** and ***"
    );
    assert!(matches!(redactor.redact("nothing to hide"), Cow::Borrowed(_)));
}

#[test]
fn passwords_in_urls_are_starred_plain_and_decoded() {
    let config =
        raw(r#"{"repo":"https://ann:p%40ssword@git.example.com/a.git","clone":"https://git@host/b"}"#);
    let redactor = Redactor::from_config(&config, None);
    assert_eq!(
        redactor.redact("clone https://ann:p%40ssword@git.example.com"),
        "clone https://ann:***@git.example.com"
    );
    assert_eq!(redactor.redact("p@ssword and git@host"), "*** and git@host");
}

#[test]
fn what_the_schema_calls_write_only_is_a_secret() {
    let config = raw(r#"{"pin":"12345678","servers":[{"pass":"hunter22","host":"hostname"}]}"#);
    let schema =
        raw(r##"{"properties":{"pin":{"writeOnly":true},"servers":{"items":{"$ref":"#/$defs/server"}}},
            "$defs":{"server":{"properties":{"pass":{"allOf":[{"writeOnly":true}]}}}}}"##);
    let redactor = Redactor::from_config(&config, Some(&schema));
    assert_eq!(redactor.redact("12345678 hunter22 hostname"), "*** *** hostname");
}

#[test]
fn encoded_forms_are_starred_too() {
    let secret = "pa\"ss/wörd+1";
    let redactor = Redactor::new([secret.to_owned()]);
    let json = serde_json::to_string(secret).unwrap();
    assert_eq!(redactor.redact(&json), "\"***\"");
    assert_eq!(redactor.redact("?q=pa%22ss%2Fw%C3%B6rd%2B1&x"), "?q=***&x");
    for prefix in ["", "u:", "us:", "ann:"] {
        let encoded = STANDARD.encode(format!("{prefix}{secret}!"));
        let starred = redactor.redact(&encoded).into_owned();
        assert!(starred.contains("***") && starred.len() <= 14, "{prefix}: {encoded} → {starred}");
    }
}

#[test]
fn short_secrets_are_left_alone() {
    assert_eq!(Redactor::new(["abc".to_owned()]).redact("abc abcdef"), "abc abcdef");
}

#[test]
fn its_debug_text_shows_no_secret() {
    let text = format!("{:?}", Redactor::new(["topsecret".to_owned()]));
    assert!(!text.contains("topsecret"), "{text}");
}

#[test]
fn every_common_encoding_is_starred() {
    let secret = "Ab/C+d e\"f\\gÄ~!x";
    let redactor = Redactor::new([secret.to_owned()]);
    let json = r#"Ab/C+d e\"f\\gÄ~!x"#;
    for encoded in [
        // URL: all, RFC 3986, encodeURIComponent, quote, a form; hex in both cases.
        "Ab%2FC%2Bd%20e%22f%5Cg%C3%84%7E%21x",
        "Ab%2fC%2bd%20e%22f%5cg%c3%84~%21x",
        "Ab%2FC%2Bd%20e%22f%5Cg%C3%84~!x",
        "Ab/C%2Bd%20e%22f%5Cg%C3%84~%21x",
        "Ab%2FC%2Bd+e%22f%5Cg%C3%84~%21x",
        json,
        &json.replace('Ä', "\\u00c4"),
        &json.replace('Ä', "\\u00C4"),
        &json.replace('/', "\\/"),
        &json.replace('\\', "\\\\").replace('"', "\\\""),
        &secret.bytes().map(|it| format!("{it:02x}")).collect::<String>(),
        &secret.bytes().map(|it| format!("{it:02X}")).collect::<String>(),
    ] {
        assert_eq!(redactor.redact(&format!("<{encoded}>")), "<***>", "{encoded}");
    }
}

#[test]
fn the_beginning_of_a_secret_is_starred_where_a_text_was_cut_off() {
    let redactor = Redactor::new(["0123456789abcdef".to_owned()]);
    assert_eq!(redactor.redact("said 0123456789a"), "said ***");
    assert_eq!(
        redactor.redact("{\"token\":\"0123456789abc… and 01234567... x"),
        "{\"token\":\"***… and ***... x"
    );
    assert_eq!(redactor.redact("0123456789ab … (7 bytes more)"), "*** … (7 bytes more)");
    assert_eq!(redactor.redact("0123456 stays, 0123456"), "0123456 stays, 0123456");
    assert_eq!(redactor.redact("x 0123456789abcdef 0123456789"), "x *** ***");
    let twice = Redactor::new(["aaaaaaaaaaaaaaaaaaaa".to_owned()]);
    assert_eq!(twice.redact("aaaaaaaaaaaaaa"), "***");
}
