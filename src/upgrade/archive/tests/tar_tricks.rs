//! One `.tar.gz` a trick.

use crate::testing::tar_bytes::{Item, blocks, file, gzip, of_kind, tar};
use crate::testing::{HASH, PROGRAM, TOP, fixtures, is_current, manifest};

fn below(path: &str) -> String {
    format!("{TOP}/{path}")
}

fn program() -> Item {
    Item { mode: 0o755, ..file(&below("data/outrider-012345/outrider"), PROGRAM) }
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
    gzip(&tar(&[&good(), items].concat()))
}

/// A good package, with a file of that name behind it.
fn named(name: &str) -> Vec<u8> {
    and(&[file(name, b"x")])
}

/// A good package in which the entry at that place is another.
fn but(place: usize, item: Item) -> Vec<u8> {
    let mut items = good();
    items[place] = item;
    gzip(&tar(&items))
}

/// A good package, changed behind the packing.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = and(&[]);
    change(&mut bytes);
    bytes
}

/// A PAX field of the size of the entry behind it.
fn pax_size() -> Item {
    Item { content: b"17 size=99999999\n".to_vec(), ..of_kind("PaxHeaders/x", b'x') }
}

fn named_badly() -> Vec<(&'static str, Vec<u8>)> {
    let long = "a/".repeat(64) + "x";
    vec![
        ("name_parent", named(&below("../../etc/x"))),
        ("name_parent_first", named("../x")),
        ("name_absolute", named("/etc/x")),
        ("name_drive", named("C:/x")),
        ("name_backslash", named(&below("data\\..\\..\\x"))),
        ("name_backslash_share", named("\\\\server\\share\\x")),
        ("name_current", named(&format!("./{TOP}/x"))),
        ("name_empty_segment", named(&below("data//x"))),
        ("name_empty", named("")),
        ("name_file_with_slash", named(&below("data/x/"))),
        ("name_control", named(&below("data/x\ny"))),
        ("name_invisible", named(&below("data/x\u{200d}y"))),
        ("name_reserved", named(&below("data/NUL.txt"))),
        ("name_trailing_dot", named(&below("data/x."))),
        ("name_stream", named(&below("data/x:y"))),
        ("name_too_deep", named(&below(&long))),
        (
            "name_not_utf8",
            and(&[Item { name: [TOP.as_bytes(), b"/\xc0\xae\xc0\xae/x"].concat(), ..program() }]),
        ),
        ("twice", and(&[program()])),
        ("twice_other_content", and(&[Item { content: b"#!/bin/sh\nexit 1\n".to_vec(), ..program() }])),
        ("case_collision", named(&below("data/outrider-012345/OUTRIDER"))),
        ("case_collision_folder", named(&below("Data/outrider-012345/x"))),
        ("unicode_collision", and(&[file(&below("\u{e9}"), b""), file(&below("e\u{301}"), b"")])),
        ("file_over_folder", named(&below("data/outrider-012345"))),
        ("folder_over_file", and(&[of_kind(&below("data/outrider-012345/outrider/"), b'5')])),
        ("file_in_file", named(&below("data/outrider-012345/outrider/x"))),
        ("mapped_over_another", named(&below("versions/1.2.3-01234567/outrider"))),
        ("outside_top", named("elsewhere/x")),
        ("outside_top_prefix", named(&format!("{TOP}x/x"))),
        ("top_is_file", gzip(&tar(&[file(TOP, b"x")]))),
        ("top_of_another", {
            let renamed =
                |it: &Item| Item { name: [b"outrider-1.2.30", &it.name[TOP.len()..]].concat(), ..it.clone() };
            gzip(&tar(&good().iter().map(renamed).collect::<Vec<_>>()))
        }),
    ]
}

fn kinds() -> Vec<(&'static str, Vec<u8>)> {
    let inner = below("data/outrider-012345/link");
    let mode = |mode| and(&[Item { mode, ..file(&inner, b"") }]);
    vec![
        ("link_symbolic", and(&[of_kind(&inner, b'2')])),
        ("link_symbolic_then_through", and(&[of_kind(&inner, b'2'), file(&format!("{inner}/x"), b"x")])),
        ("link_hard", and(&[of_kind(&inner, b'1')])),
        ("device_character", and(&[of_kind(&inner, b'3')])),
        ("device_block", and(&[of_kind(&inner, b'4')])),
        ("fifo", and(&[of_kind(&inner, b'6')])),
        ("sparse", and(&[of_kind(&inner, b'S')])),
        ("contiguous", and(&[of_kind(&inner, b'7')])),
        ("unknown_kind", and(&[of_kind(&inner, b'Z')])),
        ("volume_header", and(&[of_kind("label", b'V')])),
        ("mode_setuid", mode(0o4755)),
        ("mode_setgid", mode(0o2755)),
        ("mode_sticky", mode(0o1777)),
        ("folder_with_content", and(&[Item { kind: b'5', ..file(&below("data/x/"), b"content") }])),
        ("pax_size", and(&[pax_size(), file(&inner, b"x")])),
        ("pax_size_then_long_name", and(&[pax_size(), of_kind("././@LongLink", b'L'), file(&inner, b"x")])),
        (
            "pax_path",
            and(&[Item { content: b"16 path=/etc/xx\n".to_vec(), ..of_kind("PaxHeaders/x", b'x') }]),
        ),
        ("pax_global", and(&[Item { kind: b'g', ..pax_size() }])),
        ("long_name", and(&[Item { content: b"/etc/x\0".to_vec(), ..of_kind("././@LongLink", b'L') }])),
        ("long_link", and(&[Item { content: b"/etc/x\0".to_vec(), ..of_kind("././@LongLink", b'K') }])),
    ]
}

fn sizes() -> Vec<(&'static str, Vec<u8>)> {
    let lying = |size| Item { size: Some(size), ..file(&below("x"), b"x") };
    vec![
        ("size_beyond_end", and(&[lying(5000)])),
        ("size_of_10_gb", and(&[lying(10 << 30)])),
        ("size_largest", and(&[lying(u64::MAX)])),
        ("size_hides_next", and(&[lying(513), file(&below("y"), b"y")])),
        ("manifest_of_10_gb", but(2, Item { size: Some(10 << 30), ..file(&below("manifest.yaml"), b"x") })),
        ("manifest_of_65_kb", but(2, Item { size: Some(65 << 10), ..file(&below("manifest.yaml"), b"x") })),
        ("commit_of_1_kb", but(0, file(&below(".outrider.active.commit"), &[b'a'; 1024]))),
        ("listed_with_other_size", but(1, Item { content: b"x".to_vec(), ..program() })),
    ]
}

fn contents() -> Vec<(&'static str, Vec<u8>)> {
    let manifest_of = |text: &str| but(2, file(&below("manifest.yaml"), text.as_bytes()));
    vec![
        ("nothing", gzip(&tar(&[]))),
        ("no_commit", gzip(&tar(&good()[1..]))),
        ("no_listed_file", gzip(&tar(&[good()[0].clone(), good()[2].clone()]))),
        ("commit_garbage", but(0, file(&below(".outrider.active.commit"), b"../../../x\n"))),
        ("commit_of_another", but(0, file(&below(".outrider.active.commit"), b"fedcba9876543210\n"))),
        ("manifest_garbage", manifest_of("\u{1}\u{2}")),
        ("manifest_of_another", manifest_of(&manifest().replace("version: 1.2.3", "version: 1.2.4"))),
        ("manifest_snapshot", manifest_of(&manifest().replace("snapshot: false", "snapshot: true"))),
        ("manifest_alias_bomb", manifest_of("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")),
        ("manifest_home_empty", manifest_of(&manifest().replace("'data/outrider-012345'\n", "''\n"))),
        ("manifest_out_of_tree", manifest_of(&manifest().replace(": 'versions/", ": '../versions/"))),
        ("manifest_over_running", manifest_of(&manifest().replace("1.2.3-01234567", "1.0.0-aaaaaaaa"))),
        ("manifest_home_unmapped", {
            let home = "versioned-home: 'versions/1.0.0-aaaaaaaa'";
            manifest_of(&manifest().replace("versioned-home: 'data/outrider-012345'", home))
        }),
    ]
}

fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let mut spoiled = tar(&good());
    spoiled[3] ^= 1;
    let mut behind = tar(&good());
    behind.extend(blocks(&file(&below("x"), b"x")));
    let mut one_zero = tar(&good());
    one_zero.truncate(one_zero.len() - 512);
    one_zero.extend(blocks(&file(&below("x"), b"x")));
    vec![
        ("header_checksum", gzip(&spoiled)),
        ("entry_behind_end", gzip(&behind)),
        ("entry_behind_one_zero", gzip(&one_zero)),
        ("bytes_behind_gzip", changed(|it| it.extend(b"more"))),
        ("second_gzip", changed(|it| it.extend(gzip(&tar(&good()))))),
        ("cut", changed(|it| it.truncate(it.len() - 700))),
        ("cut_checksum", changed(|it| it.truncate(it.len() - 4))),
        ("gzip_checksum", changed(|it| *it.iter_mut().nth_back(5).unwrap() ^= 1)),
        ("gzip_length", changed(|it| *it.iter_mut().nth_back(1).unwrap() ^= 1)),
        ("gzip_method", changed(|it| it[2] = 7)),
        ("not_a_package", b"<html>404</html>".to_vec()),
        ("empty", Vec::new()),
    ]
}

/// Writes the fixtures, or holds them against what they should be; tells their names.
pub(super) fn write() -> Vec<String> {
    is_current(
        &fixtures("valid").join("package.tar.gz"),
        &and(&[of_kind(&below("etc/"), b'5'), file(&below("etc/x"), b"")]),
    );
    let mut names: Vec<String> = Vec::new();
    for (name, bytes) in [named_badly(), kinds(), sizes(), contents(), streams()].concat() {
        let name = format!("{name}.tar.gz");
        is_current(&fixtures("invalid").join(&name), &bytes);
        assert!(!names.contains(&name), "{name}");
        names.push(name);
    }
    names
}
