//! Every record is read back as it was written; whatever else is refused.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::*;
use crate::seal::Seal;

/// Any text: letters, spaces, escapes, line ends, control characters, others.
fn text() -> impl Strategy<Value = String> {
    proptest::string::string_regex("([a-z0-9 \\\\]|[\\x00-\\x1f]|\\PC|\u{85}){0,40}").unwrap()
}

fn name() -> impl Strategy<Value = VersionName> {
    proptest::string::string_regex("[0-9a-z][0-9a-zA-Z.~+_-]{0,30}")
        .unwrap()
        .prop_map(|it| it.parse().unwrap())
}

fn moment() -> impl Strategy<Value = Moment> {
    (text(), any::<u64>()).prop_map(|(boot, ms)| Moment { boot: BootId(boot), ms })
}

fn seal() -> impl Strategy<Value = Seal> {
    proptest::string::string_regex("[0-9a-f]{64}").unwrap().prop_map(|it| it.parse().unwrap())
}

fn record() -> impl Strategy<Value = Record> {
    let names = (text(), text(), name(), name(), option::of(name()));
    let phases = (select(&Phase::ALL[..]), option::of(select(&Phase::ALL[..])));
    let why = (option::of(select(&Reason::ALL[..])), text(), any::<bool>());
    let trial = (option::of(moment()), any::<u32>(), any::<u32>(), option::of(text().prop_map(BootId)));
    let settings = (any::<u64>(), any::<u64>(), any::<bool>());
    let words = (select(&REACHES[..]), select(&TOLD[..]));
    let seals = (option::of(seal()), option::of(seal()));
    let key = proptest::string::string_regex("[a-z_]{1,12}").unwrap();
    let unknown = (vec((key, text()), 0..3), vec(foreign(), 0..3));
    (names, phases, why, trial, settings, words, seals, unknown).prop_map(
        |(names, phases, why, trial, settings, words, seals, unknown)| {
            let (attempt, command, from, to, earlier) = names;
            let (unknown, foreign) = unknown;
            let record = Record {
                attempt,
                command,
                from,
                to,
                earlier,
                phase: phases.0,
                ended_at: phases.1,
                reason: why.0,
                detail: why.1,
                retryable: why.2,
                deadline: trial.0,
                tries_left: trial.1,
                reboots_left: trial.2,
                tried_in: trial.3,
                green_for_ms: settings.0,
                bound_ms: settings.1,
                force: settings.2,
                old_reach: words.0.0,
                told: words.1.0,
                from_seal: seals.0,
                to_seal: seals.1,
                unknown,
                foreign: BTreeMap::new(),
            };
            foreign.into_iter().fold(record, as_newer)
        },
    )
}

/// A value that has a word which is not known.
fn foreign() -> impl Strategy<Value = (&'static str, String)> {
    let word = proptest::string::string_regex("new_[a-z0-9_]{0,36}").unwrap();
    (select(&[ENDED_AT, REASON, OLD_REACH, TOLD_KEY][..]), word)
}

/// As a record is read in which a newer program wrote this.
fn as_newer(mut record: Record, (key, word): (&'static str, String)) -> Record {
    match key {
        ENDED_AT => record.ended_at = None,
        REASON => record.reason = Some(Reason::Other),
        OLD_REACH => record.old_reach = OldReach::Unknown,
        _ => record.told = Told::No,
    }
    record.foreign.insert(key, word);
    record
}

fn stored() -> impl Strategy<Value = Stored> {
    (any::<u64>(), record()).prop_map(|(sequence, record)| Stored { sequence, record })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1000,
        rng_seed: RngSeed::Fixed(20_261_125),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_record_is_read_as_it_was_written(stored in stored()) {
        let text = encode(&stored);
        prop_assert_eq!(decode(text.as_bytes()), Ok(stored));
    }

    #[test]
    fn garbage_is_no_record(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn garbage_behind_the_header_is_no_record(tail in text()) {
        let text = format!("{HEADER}\n{tail}\n");
        let summed = format!("{text}crc32 {:08x}\n", crc32(text.as_bytes()));
        prop_assert!(decode(text.as_bytes()).is_err());
        prop_assert!(decode(summed.as_bytes()).is_err());
    }
}

fn example() -> Stored {
    let name = |text: &str| text.parse().unwrap();
    let record = Record {
        earlier: Some(name("0.1.0-cccccccc")),
        phase: Phase::Probation,
        reason: Some(Reason::Hang),
        detail: "did not answer\nwithin 2 s \\ twice".into(),
        deadline: Some(Moment { boot: BootId("68fe8a88-c332".into()), ms: 12_537_960 }),
        tried_in: Some(BootId("68fe8a88-c332".into())),
        to_seal: Some("01".repeat(32).parse().unwrap()),
        unknown: vec![("cohort".into(), "a b".into())],
        ..Record::new("7f3c".into(), "c-1".into(), name("0.2.0-aaaaaaaa"), name("0.3.0-SNAPSHOT-bbbbbbbb"))
    };
    Stored { sequence: 12, record }
}

#[test]
fn a_changed_or_cut_text_is_refused_at_every_byte() {
    let text = encode(&example()).into_bytes();
    assert_eq!(decode(&text), Ok(example()));
    let mut cases = 0;
    for at in 0..text.len() {
        for value in 0..=u8::MAX {
            let mut changed = text.clone();
            changed[at] = value;
            assert_eq!(decode(&changed).is_err(), value != text[at], "byte {at} as {value}");
            cases += 1;
        }
        assert!(decode(&text[..at]).is_err(), "cut at {at}");
        assert!(decode(&text[at + 1..]).is_err(), "without the first {at}");
        let mut zeroed = text.clone();
        zeroed[at..].fill(0);
        assert!(decode(&zeroed).is_err(), "zeros from {at}");
        let mut longer = text.clone();
        longer.insert(at, b'0');
        assert!(decode(&longer).is_err(), "a byte more at {at}");
        cases += 4;
    }
    println!("{cases} damaged texts were refused");
}

#[test]
fn says_what_is_wrong() {
    assert_eq!(decode(b""), Err(BadText::Empty));
    assert_eq!(decode(&[0; 700]), Err(BadText::Empty));
    assert_eq!(decode(&[b'x'; LIMIT + 1]), Err(BadText::TooLong));
    assert_eq!(decode(b"\xff\n"), Err(BadText::NotText));
    assert_eq!(decode(b"outrider-upgrade-journal 2\n"), Err(BadText::Schema("2".into())));
    assert_eq!(decode(b"{}\n"), Err(BadText::Line("header")));
    let text = encode(&example());
    assert_eq!(decode(text.trim_end().as_bytes()), Err(BadText::Checksum));
}

#[test]
fn a_whole_text_with_a_wrong_value_is_refused() {
    let text = encode(&example());
    let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
    let with = |from: &str, to: &str| {
        assert!(body.contains(from), "{from}");
        let body = body.replace(from, to) + "\n";
        decode(format!("{body}crc32 {:08x}\n", crc32(body.as_bytes())).as_bytes())
    };
    assert_eq!(with("phase probation", "phase probation"), Ok(example()));
    assert_eq!(with("phase probation", "phase flying"), Err(BadText::Line("phase")));
    assert_eq!(with("to 0.3.0", "to ../0.3.0"), Err(BadText::Line("to")));
    assert_eq!(with("sequence 12", "sequence 012"), Err(BadText::Line("order")));
    assert_eq!(with("tries_left 3", "tries_left -3"), Err(BadText::Line("tries_left")));
    assert_eq!(with("\nforce false", ""), Err(BadText::Line("force")));
    assert_eq!(with("\\0a", "\\0A"), Err(BadText::Line("order")));
    assert_eq!(with("to_seal 0101", "to_seal 010"), Err(BadText::Line("to_seal")));
    assert_eq!(with("to_seal 0101", "to_seal 0X01"), Err(BadText::Line("to_seal")));
}

#[test]
fn an_older_program_keeps_what_it_does_not_know() {
    // As one that knows no seals reads and writes it.
    let mut stored = example();
    let seal = stored.record.to_seal.take().unwrap();
    stored.record.unknown.insert(0, (TO_SEAL.into(), seal.to_string()));
    assert_eq!(encode(&stored), encode(&example()));
}

#[test]
fn a_word_that_is_not_known_is_kept_where_nothing_is_decided_by_it() {
    let with = |from: &str, to: &str| {
        let text = encode(&example());
        let (body, _) = text.trim_end().rsplit_once('\n').unwrap();
        assert!(body.contains(from), "{from}");
        let body = body.replace(from, to) + "\n";
        format!("{body}crc32 {:08x}\n", crc32(body.as_bytes()))
    };
    for (key, known) in [(ENDED_AT, ""), (REASON, "hang"), (OLD_REACH, "unknown"), (TOLD_KEY, "no")] {
        let line = |word: &str| format!("\n{key} {word}\n");
        let text = with(&line(known), &line("memory_2"));
        let stored = decode(text.as_bytes()).unwrap();
        let Record { ended_at, reason, old_reach, told, .. } = &stored.record;
        let found = (*ended_at, *reason, *old_reach, *told);
        let expected_reason = if key == REASON { Reason::Other } else { Reason::Hang };
        assert_eq!(found, (None, Some(expected_reason), OldReach::Unknown, Told::No), "{key}");
        assert_eq!(encode(&stored), text, "{key}: written as it was");
        for word in ["../x", "two words", "UP", &"x".repeat(WORD_MOST + 1)] {
            assert_eq!(decode(with(&line(known), &line(word)).as_bytes()), Err(BadText::Line(key)), "{word}");
        }
    }
    for key in ["phase probation", "force false"] {
        let (name, _) = key.split_once(' ').unwrap();
        assert!(decode(with(key, &format!("{name} memory")).as_bytes()).is_err(), "{key}: it decides");
    }
}
