//! One `.zip` a trick.

use crate::testing::zip_bytes::{Item, end, file, zip};
use crate::testing::{HASH, PROGRAM, TOP, fixtures, is_current, manifest};

fn below(path: &str) -> String {
    format!("{TOP}/{path}")
}

fn program() -> Item {
    Item { mode: 0o100_755, ..file(&below("data/outrider-012345/outrider"), PROGRAM) }
}

/// What a good package has.
fn good() -> Vec<Item> {
    vec![
        file(&below(".outrider.active.commit"), format!("{HASH}\n").as_bytes()),
        program(),
        file(&below("manifest.yaml"), manifest().as_bytes()),
    ]
}

/// A good package, and these behind it.
fn and(items: &[Item]) -> Vec<u8> {
    zip(&[&good(), items].concat())
}

/// A good package, with a file of that name behind it.
fn named(name: &str) -> Vec<u8> {
    and(&[file(name, b"x")])
}

/// A good package whose program is changed.
fn but(change: impl FnOnce(&mut Item)) -> Vec<u8> {
    let mut items = good();
    change(&mut items[1]);
    zip(&items)
}

/// A good package, changed behind the packing.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = and(&[]);
    change(&mut bytes);
    bytes
}

fn names() -> Vec<(&'static str, Vec<u8>)> {
    let long = "a/".repeat(64) + "x";
    vec![
        ("name_parent", named(&below("../../etc/x"))),
        ("name_absolute", named("/etc/x")),
        ("name_drive", named("C:/x")),
        ("name_backslash", named(&below("data\\..\\..\\x"))),
        ("name_nul", named(&below("data/x\0.txt"))),
        ("name_current", named(&format!("./{TOP}/x"))),
        ("name_empty", named("")),
        ("name_reserved", named(&below("data/com1"))),
        ("name_trailing_space", named(&below("data/x "))),
        ("name_too_deep", named(&below(&long))),
        ("name_too_long", named(&below(&"x".repeat(600)))),
        ("name_not_utf8", and(&[Item { name: [TOP.as_bytes(), b"/\xff"].concat(), ..program() }])),
        ("name_local_other", but(|it| it.local_name = Some(below("data/outrider-012345/outriser").into()))),
        ("twice", and(&[program()])),
        ("case_collision", named(&below("data/outrider-012345/OUTRIDER"))),
        ("unicode_collision", and(&[file(&below("\u{e9}"), b""), file(&below("e\u{301}"), b"")])),
        ("file_over_folder", named(&below("data/outrider-012345"))),
        (
            "folder_over_file",
            and(&[Item { mode: 0o040_755, ..file(&below("data/outrider-012345/outrider/"), b"") }]),
        ),
        ("outside_top", named("elsewhere/x")),
        ("mapped_over_another", named(&below("versions/1.2.3-01234567/outrider"))),
    ]
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let of = |mode| and(&[Item { mode, ..file(&below("data/outrider-012345/link"), b"/etc/passwd") }]);
    vec![
        ("link_symbolic", of(0o120_777)),
        ("device_character", of(0o020_644)),
        ("device_block", of(0o060_644)),
        ("fifo", of(0o010_644)),
        ("socket", of(0o140_644)),
        ("folder_without_slash", of(0o040_755)),
        ("file_with_slash", and(&[file(&below("data/x/"), b"")])),
        ("mode_setuid", of(0o104_755)),
        ("mode_setgid", of(0o102_755)),
        ("mode_sticky", of(0o101_755)),
        ("folder_with_content", and(&[Item { mode: 0o040_755, ..file(&below("data/x/"), b"x") }])),
    ]
}

fn sizes() -> Vec<(&'static str, Vec<u8>)> {
    let lying = |size| and(&[Item { size, ..file(&below("x"), b"xyz") }]);
    vec![
        ("size_too_small", lying(2)),
        ("size_too_large", lying(5)),
        ("size_of_3_gb", lying(3 << 30)),
        ("listed_too_small", but(|it| it.content.truncate(5))),
        ("listed_too_large", but(|it| it.content.extend(b"more"))),
        ("checksum", but(|it| it.crc ^= 1)),
        ("overlap_same_content", and(&[Item { overlaps: true, ..program() }])),
        ("overlap_other_name", {
            let mut items = good();
            items.push(Item { name: below("x").into(), overlaps: true, ..items[2].clone() });
            zip(&items)
        }),
        ("overlap_data", {
            // The second header lies in the content of the first.
            let inner = zip(&[file(&below("y"), b"y")]);
            let local = inner[..inner.len() - 22].to_vec();
            let mut bytes = and(&[file(&below("x"), &local), file(&below("y"), b"y")]);
            let directory = bytes.windows(4).rposition(|it| it == b"PK\x01\x02").unwrap();
            let target = bytes.windows(4).position(|it| it == b"PK\x03\x04").unwrap();
            let inner = bytes.windows(local.len()).position(|it| it == local).unwrap();
            assert_eq!(target, 0);
            bytes[directory + 42..directory + 46]
                .copy_from_slice(&u32::try_from(inner).unwrap().to_le_bytes());
            bytes
        }),
    ]
}

fn methods() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("encrypted", but(|it| it.flags = 1)),
        ("encrypted_strongly", but(|it| it.flags = 0x41)),
        ("method_bzip2", but(|it| it.method = 12)),
        ("method_lzma", but(|it| it.method = 14)),
        ("method_zstd", but(|it| it.method = 93)),
        ("method_aes", but(|it| it.method = 99)),
        ("method_implode", but(|it| it.method = 6)),
        ("method_deflate64", but(|it| it.method = 9)),
        ("deflate_garbage", but(|it| it.method = 8)),
    ]
}

fn layouts() -> Vec<(&'static str, Vec<u8>)> {
    let hidden =
        |entries: usize| [&good()[..entries], &[Item { hidden: true, ..file(&below("x"), b"x") }]].concat();
    vec![
        ("nothing", end(0, 0, 0)),
        ("hidden_entry", zip(&hidden(3))),
        (
            "count_too_small",
            changed(|it| {
                let at = it.len() - 22;
                (it[at + 8], it[at + 10]) = (2, 2);
            }),
        ),
        (
            "count_too_large",
            changed(|it| {
                let at = it.len() - 22;
                (it[at + 8], it[at + 10]) = (4, 4);
            }),
        ),
        (
            "several_disks",
            changed(|it| {
                let at = it.len() - 22;
                it[at + 4] = 1;
            }),
        ),
        (
            "zip64",
            changed(|it| {
                let at = it.len() - 22;
                it[at + 8..at + 12].fill(0xff);
            }),
        ),
        (
            "comment",
            changed(|it| {
                let at = it.len() - 2;
                it[at] = 4;
                it.extend(b"more");
            }),
        ),
        ("bytes_in_front", changed(|it| *it = [b"PK\x03\x04".as_slice(), &it[..]].concat())),
        ("bytes_behind", changed(|it| it.extend(b"more"))),
        (
            "two_ends",
            changed(|it| {
                let again = it[it.len() - 22..].to_vec();
                it.extend(again);
            }),
        ),
        ("cut", changed(|it| it.truncate(it.len() - 1))),
        ("only_end_of_directory", changed(|it| drop(it.drain(4..100)))),
        ("no_commit", zip(&good()[1..])),
        ("no_listed_file", zip(&[good()[0].clone(), good()[2].clone()])),
    ]
}

/// Writes the fixtures, or holds them against what they should be; tells their names.
pub(super) fn write() -> Vec<String> {
    let folder = Item { mode: 0o040_755, ..file(&below("etc/"), b"") };
    is_current(&fixtures("valid").join("package.zip"), &and(&[folder, file(&below("etc/x"), b"")]));
    let mut written: Vec<String> = Vec::new();
    for (name, bytes) in [names(), kinds(), sizes(), methods(), layouts()].concat() {
        let name = format!("{name}.zip");
        is_current(&fixtures("invalid").join(&name), &bytes);
        assert!(!written.contains(&name), "{name}");
        written.push(name);
    }
    written
}
