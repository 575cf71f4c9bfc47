//! What becomes of something that was sent: a pure function of the answer, and of the clock where that names a date.
//!
//! # Invariants
//! - Only what may work later is sent again. What was written in part was written: the rest would fail the same way.
//! - A refusal of key, database, index or address keeps what waits: a person can put it right. That holds for one document
//!   as for a whole body.
//! - An answer of success that is none of the protocol's, as the page of a proxy, is no success.

use std::collections::HashMap;
use std::time::Duration;

use crate::encode::{Body, bulk, otlp};

/// How much of an answer is repeated in messages, in characters.
const QUOTED: usize = 200;

/// What an output did with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It has it.
    Taken,
    /// It has it but for some points, which it will never take.
    Partly {
        /// How many, where it says so.
        refused: Option<usize>,
        /// Why.
        why: String,
    },
    /// It judged the parts of it one by one: some are to be sent again, by themselves.
    Apart {
        /// Those to be sent again, in order.
        left: Vec<Body>,
        /// How many points it will never take, and why.
        refused: Option<(usize, String)>,
        /// Why it did not take what is left, where that is to wait.
        later: Option<Wait>,
    },
    /// Not now.
    Later {
        /// Why.
        why: String,
        /// How long it asks to be left alone.
        after: Option<Duration>,
    },
    /// Not with this key, or not at this address.
    Denied {
        /// Why.
        why: String,
    },
    /// Not in one piece.
    TooLarge {
        /// Why.
        why: String,
    },
    /// Never: sent again, it would be refused again.
    Refused {
        /// Why.
        why: String,
    },
}

/// Why something has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) why: String,
    /// Whether a person has to do something first.
    pub(crate) denied: bool,
}

impl Verdict {
    /// The same with its reasons as `say` repeats them.
    pub(crate) fn said(self, say: impl Fn(&str) -> String) -> Self {
        match self {
            Self::Taken => Self::Taken,
            Self::Partly { refused, why } => Self::Partly { refused, why: say(&why) },
            Self::Apart { left, refused, later } => Self::Apart {
                left,
                refused: refused.map(|(points, why)| (points, say(&why))),
                later: later.map(|it| Wait { why: say(&it.why), ..it }),
            },
            Self::Later { why, after } => Self::Later { why: say(&why), after },
            Self::Denied { why } => Self::Denied { why: say(&why) },
            Self::TooLarge { why } => Self::TooLarge { why: say(&why) },
            Self::Refused { why } => Self::Refused { why: say(&why) },
        }
    }
}

/// An answer, as far as it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) content_type: Option<&'a str>,
    pub(crate) bytes: &'a [u8],
    /// Whether these are only the beginning.
    pub(crate) cut: bool,
}

/// An answer of success with a page in it, which no receiver of points gives: something else stands in its place.
pub(crate) fn page(answer: &Answer<'_>) -> Option<Verdict> {
    let is_page = answer.content_type.is_some_and(|it| it.trim_start().starts_with("text/html"));
    (is_page && (200..300).contains(&answer.status)).then(|| {
        let said = quoted(&String::from_utf8_lossy(answer.bytes));
        let why =
            format!("it answers {} with a page, as a proxy or another program does: {said}", answer.status);
        Verdict::Denied { why }
    })
}

/// Reads the answer of a receiver of HTTP. `retry_after` is the header of that name.
pub(crate) fn judge(status: u16, retry_after: Option<&str>, body: &str) -> Verdict {
    let why = || {
        let said = quoted(body);
        if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") }
    };
    match status {
        200..=299 => Verdict::Taken,
        400 | 422 if body.contains("partial write") => Verdict::Partly { refused: dropped(body), why: why() },
        408 | 425 | 429 | 500..=599 => {
            let after = retry_after.and_then(|it| crate::retry_after::wait(it, jiff::Timestamp::now()));
            Verdict::Later { why: why(), after }
        }
        300..=399 | 401 | 403 | 404 | 405 | 407 => Verdict::Denied { why: why() },
        413 => Verdict::TooLarge { why: why() },
        _ => Verdict::Refused { why: why() },
    }
}

/// Reads what an OpenTelemetry receiver says of what it has taken.
pub(crate) fn judge_otlp(answer: &Answer<'_>) -> Verdict {
    match otlp::refused(answer.bytes) {
        Ok(None) => Verdict::Taken,
        Ok(Some((refused, said))) => Verdict::Partly { refused: Some(refused), why: quoted(&said) },
        Err(_) if answer.cut => {
            let why = "it takes a part, and says more of the rest than is read".to_owned();
            Verdict::Partly { refused: None, why }
        }
        Err(err) => {
            let said = quoted(&String::from_utf8_lossy(answer.bytes));
            let why = format!(
                "it answers {} with what is no ExportMetricsServiceResponse of protobuf ({err}): {said}",
                answer.status
            );
            Verdict::Denied { why }
        }
    }
}

/// Reads what Datadog says beside its success: what it did not keep it does not count.
pub(crate) fn judge_datadog(answer: &Answer<'_>) -> Verdict {
    #[derive(serde::Deserialize)]
    struct Said {
        #[serde(default)]
        errors: Vec<serde_json::Value>,
    }
    // Of a success of which nothing more is said, or only a part is read, nothing else is known.
    let errors = serde_json::from_slice::<Said>(answer.bytes).map(|it| it.errors).unwrap_or_default();
    let Some(first) = errors.first() else { return Verdict::Taken };
    let said = quoted(first.as_str().map_or_else(|| first.to_string(), str::to_owned).as_str());
    let more = if errors.len() > 1 { format!(" (and {} more)", errors.len() - 1) } else { String::new() };
    let why = format!("it answers {}, and with errors: {said}{more}", answer.status);
    // At least so many.
    Verdict::Partly { refused: Some(errors.len()), why }
}

/// Reads what Elasticsearch says of each document, in their order.
pub(crate) fn judge_bulk(answer: &Answer<'_>, body: &Body) -> Verdict {
    let Ok(read) = serde_json::from_slice::<BulkAnswer>(answer.bytes) else {
        if answer.cut && body.parts.len() > 1 {
            // It says more than is read. What it has taken it will say to have.
            let all: Vec<usize> = (0..body.parts.len()).collect();
            let (first, second) = all.split_at(all.len() / 2);
            let left = vec![bulk::only(body, first), bulk::only(body, second)];
            return Verdict::Apart { left, refused: None, later: None };
        }
        let why = format!("its answer is none of _bulk: {}", quoted(&String::from_utf8_lossy(answer.bytes)));
        return Verdict::Later { why, after: None };
    };
    if !read.errors {
        return Verdict::Taken;
    }
    let (mut again, mut later, mut refused, mut why_refused) = (Vec::new(), None::<Wait>, 0, None);
    for (at, part) in body.parts.iter().enumerate() {
        let item = read.items.get(at).and_then(|it| it.values().next());
        let why = || match item {
            Some(it) => format!("a document gets {}: {}", it.status, quoted(&it.error.to_string())),
            None => "it says nothing of some documents".to_owned(),
        };
        let denied = match item.map(|it| it.status) {
            // It is there already: this is not the first time that it was sent.
            Some(200..=299 | 409) => continue,
            Some(408 | 429 | 500..=599) | None => false,
            // No right to write, or no index: not the document's fault.
            Some(401 | 403 | 404) => true,
            Some(_) => {
                refused += part.points;
                why_refused.get_or_insert_with(why);
                continue;
            }
        };
        again.push(at);
        if later.as_ref().is_none_or(|it| denied && !it.denied) {
            later = Some(Wait { why: why(), denied });
        }
    }
    let left = if again.is_empty() { Vec::new() } else { vec![bulk::only(body, &again)] };
    Verdict::Apart { left, refused: why_refused.map(|why| (refused, why)), later }
}

#[derive(serde::Deserialize)]
struct BulkAnswer {
    errors: bool,
    #[serde(default)]
    items: Vec<HashMap<String, BulkItem>>,
}

#[derive(serde::Deserialize)]
struct BulkItem {
    status: u16,
    #[serde(default)]
    error: serde_json::Value,
}

/// The number in `… dropped=3`.
fn dropped(body: &str) -> Option<usize> {
    let rest = body.split("dropped=").nth(1)?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// The start of a text, on one line.
pub(crate) fn quoted(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(QUOTED).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(status: u16, body: &str) -> &'static str {
        match judge(status, Some("7"), body) {
            Verdict::Taken => "taken",
            Verdict::Partly { .. } => "partly",
            Verdict::Apart { .. } => "apart",
            Verdict::Later { after: Some(after), .. } if after == Duration::from_secs(7) => "later",
            Verdict::Later { .. } => "later, and not when it asked for",
            Verdict::Denied { .. } => "denied",
            Verdict::TooLarge { .. } => "too large",
            Verdict::Refused { .. } => "refused",
        }
    }

    #[test]
    fn every_answer_has_its_verdict() {
        for (status, body, expected) in [
            (200, "", "taken"),
            (202, r#"{"errors":[]}"#, "taken"),
            (204, "", "taken"),
            (307, "", "denied"),
            (400, r#"{"error":"unable to parse 'x': missing fields"}"#, "refused"),
            (400, r#"{"error":"partial write: field type conflict: … dropped=1"}"#, "partly"),
            (422, r#"{"message":"failure writing points: partial write: … dropped=2"}"#, "partly"),
            (422, "", "refused"),
            (401, r#"{"error":"authorization failed"}"#, "denied"),
            (403, "", "denied"),
            (404, r#"{"error":"database not found: \"x\""}"#, "denied"),
            (408, "", "later"),
            (413, "", "too large"),
            (429, "", "later"),
            (500, r#"{"error":"timeout"}"#, "later"),
            (503, "partial write", "later"),
        ] {
            assert_eq!(word(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_refused_points_are_counted_where_it_says_how_many() {
        let partly = |body: &str| match judge(400, None, body) {
            Verdict::Partly { refused, .. } => refused,
            other => panic!("{other:?}"),
        };
        assert_eq!(partly("partial write: x dropped=12\"}"), Some(12));
        assert_eq!(partly("partial write: points beyond retention policy"), None);
    }

    #[test]
    fn an_answer_is_shortened_and_stays_on_its_line() {
        let Verdict::Refused { why } = judge(400, None, &format!("a\nb{}", "c".repeat(1000))) else {
            panic!()
        };
        assert!(why.starts_with("it answers 400: a bccc") && why.chars().count() < 230, "{why}");
    }

    #[test]
    fn a_date_in_retry_after_is_a_time_to_wait_and_anything_else_costs_nothing() {
        let after = |header| match judge(503, Some(header), "") {
            Verdict::Later { after, .. } => after,
            other => panic!("{other:?}"),
        };
        assert!(after("Sat, 06 Nov 2094 08:49:37 GMT").unwrap() > Duration::from_secs(1000));
        assert_eq!(after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn each_document_is_judged_by_itself() {
        let part = |end, points| crate::encode::Part { end, points };
        let body = Body {
            bytes: b"a\nA\nb\nB\nc\nC\nd\nD\n".to_vec(),
            points: 10,
            parts: vec![part(4, 1), part(8, 2), part(12, 3), part(16, 4)],
        };
        let answer = br#"{"errors":true,"items":[{"create":{"status":201}},{"create":{"status":429,"error":{"type":"busy"}}},
            {"create":{"status":400,"error":{"type":"mapper_parsing_exception","reason":"no"}}},{"create":{"status":409}}]}"#;
        let judged = |bytes: &[u8]| judge_bulk(&answered(bytes, false), &body);
        let Verdict::Apart { left, refused, later } = judged(answer) else { panic!() };
        assert_eq!((left.len(), left[0].points, left[0].bytes.as_slice()), (1, 2, &b"b\nB\n"[..]));
        let (points, why) = refused.unwrap();
        assert!(points == 3 && why.contains("400") && why.contains("mapper_parsing_exception"), "{why}");
        let later = later.unwrap();
        assert!(later.why.contains("429") && !later.denied);
        assert_eq!(judged(br#"{"took":3,"errors":false}"#), Verdict::Taken);
        assert!(matches!(judged(b"<html>"), Verdict::Later { .. }));
        let short = judged(br#"{"errors":true,"items":[]}"#);
        assert!(matches!(&short, Verdict::Apart { left, .. } if left[0].points == 10), "{short:?}");
        // More is said than is read.
        let Verdict::Apart { left, refused: None, later: None } =
            judge_bulk(&answered(br#"{"errors":true,"items":[{"cr"#, true), &body)
        else {
            panic!()
        };
        assert_eq!((left.len(), left[0].points, left[1].points), (2, 3, 7));
    }

    #[test]
    fn a_document_that_a_person_can_let_in_is_kept() {
        let part = |end, points| crate::encode::Part { end, points };
        let body = Body { bytes: b"a\nA\nb\nB\n".to_vec(), points: 2, parts: vec![part(4, 1), part(8, 1)] };
        for status in [401, 403, 404] {
            let answer = format!(
                r#"{{"errors":true,"items":[{{"create":{{"status":503}}}},{{"create":{{"status":{status},"error":{{"type":"no"}}}}}}]}}"#
            );
            let Verdict::Apart { left, refused: None, later: Some(later) } =
                judge_bulk(&answered(answer.as_bytes(), false), &body)
            else {
                panic!()
            };
            assert!(later.denied && later.why.contains(&status.to_string()) && left[0].points == 2);
        }
    }

    #[test]
    fn a_page_or_another_answer_of_success_is_none() {
        let html =
            Answer { status: 200, content_type: Some("text/html; charset=utf-8"), bytes: b"<p>", cut: false };
        assert!(matches!(page(&html), Some(Verdict::Denied { why }) if why.contains("page")));
        assert_eq!(page(&Answer { content_type: Some("application/json"), ..html }), None);
        assert_eq!(page(&Answer { status: 404, ..html }), None, "it says no by itself");
        assert!(matches!(judge_otlp(&html), Verdict::Denied { .. }));
        assert_eq!(judge_otlp(&answered(b"", false)), Verdict::Taken);
        // partial_success { rejected_data_points: 3, error_message: … } that is cut off
        let partial = b"\x0a\x7f\x08\x03\x12\x7bol";
        assert!(matches!(judge_otlp(&answered(partial, true)), Verdict::Partly { refused: None, .. }));
    }

    #[test]
    fn a_success_of_datadog_with_errors_is_told() {
        for quiet in [&br#"{"errors":[]}"#[..], b"{}", b"", b"ok"] {
            assert_eq!(judge_datadog(&answered(quiet, false)), Verdict::Taken);
        }
        let told = judge_datadog(&answered(br#"{"errors":["a point is too old",{"x":1}]}"#, false));
        let Verdict::Partly { refused: Some(2), why } = told else { panic!("{told:?}") };
        assert_eq!(why, "it answers 200, and with errors: a point is too old (and 1 more)");
    }

    fn answered(bytes: &[u8], cut: bool) -> Answer<'_> {
        Answer { status: 200, content_type: None, bytes, cut }
    }
}
