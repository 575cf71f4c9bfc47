//! Seals of folders on a real disk.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use std::ffi::OsStr;

use super::*;
use crate::fs::RealFs;

fn seal(folder: &Path) -> Seal {
    of_folder(&RealFs, folder).unwrap()
}

/// A folder as a version has it, with a program of several pieces.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    std::fs::create_dir_all(at.join("integrations/empty")).unwrap();
    let large: Vec<u8> = (0..PIECE * 2 + 17).map(|it| (it * it % 251) as u8).collect();
    std::fs::write(at.join("outrider"), large).unwrap();
    std::fs::write(at.join("integrations/mock"), "mock").unwrap();
    std::fs::write(at.join("none"), "").unwrap();
    symlink("outrider", at.join("link")).unwrap();
    for (file, mode) in [("outrider", 0o755), ("integrations/mock", 0o755), ("none", 0o644)] {
        set_mode(&at.join(file), mode);
    }
    dir
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn whatever_changes_in_a_folder_its_seal_changes() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 13] = [
        ("a byte", |it| flip(&it.join("outrider"), PIECE + 5)),
        ("the last byte", |it| flip(&it.join("outrider"), PIECE * 2 + 16)),
        ("a byte more", |it| std::fs::write(it.join("none"), "x").unwrap()),
        ("a byte less", |it| std::fs::write(it.join("integrations/mock"), "moc").unwrap()),
        ("permissions", |it| set_mode(&it.join("none"), 0o600)),
        ("setuid", |it| set_mode(&it.join("outrider"), 0o4755)),
        ("permissions of a folder", |it| set_mode(&it.join("integrations"), 0o700)),
        ("permissions of the folder itself", |it| set_mode(it, 0o750)),
        ("another name", |it| std::fs::rename(it.join("none"), it.join("nome")).unwrap()),
        ("a file less", |it| std::fs::remove_file(it.join("none")).unwrap()),
        ("a folder less", |it| std::fs::remove_dir(it.join("integrations/empty")).unwrap()),
        ("a file with a name that is no text", |it| {
            let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"\xff");
            std::fs::write(it.join(name), "").unwrap();
        }),
        ("a link to elsewhere", |it| {
            std::fs::remove_file(it.join("link")).unwrap();
            symlink("none", it.join("link")).unwrap();
        }),
    ];
    let dir = folder();
    let before = seal(dir.path());
    for (what, change) in changes {
        let changed = folder();
        assert_eq!(seal(changed.path()), before, "the same again, elsewhere");
        change(changed.path());
        assert_ne!(seal(changed.path()), before, "{what}");
    }
}

fn flip(path: &Path, at: u64) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[usize::try_from(at).unwrap()] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn folders_whose_parts_run_into_each_other_have_different_seals() {
    let of = |files: &[(&str, &str)]| {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(dir.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        seal(dir.path())
    };
    let all = [
        of(&[("a", "bc"), ("d", "")]),
        of(&[("a", "b"), ("d", "c")]),
        of(&[("a", ""), ("d", "bc")]),
        of(&[("ab", "c"), ("d", "")]),
        of(&[("a/b", "c"), ("d", "")]),
        of(&[("a/b", "c"), ("a/d", "")]),
        of(&[("a/b", ""), ("a/d", "c")]),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(!all[at + 1..].contains(one), "{at}");
    }
}

#[test]
fn what_cannot_be_read_or_has_no_end_has_no_seal() {
    let dir = folder();
    assert!(of_folder(&RealFs, &dir.path().join("gone")).is_err());
    let huge = std::fs::File::create(dir.path().join("huge")).unwrap();
    huge.set_len(MOST_BYTES + 1).unwrap();
    let refused = of_folder(&RealFs, dir.path()).unwrap_err();
    assert!(refused.err.to_string().contains("expected at most"), "{refused}: {}", refused.err);
}

#[test]
fn a_seal_is_read_as_it_is_written() {
    let seal = seal(folder().path());
    assert_eq!(seal.to_string().len(), 64);
    assert_eq!(seal.to_string().parse(), Ok(seal));
    let text = seal.to_string();
    for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}00"), &text.replace(&text[..2], "+1")] {
        assert_eq!(bad.parse::<Seal>(), Err(()), "{bad:?}");
    }
}
