//! What the targets share: a package of any bytes is refused, or what is unpacked is what its list says.

use std::io::Write;

use outrider_upgrade::{Archive, FileList, RelPath, unpack, verify_tree};

/// The list of the packages in the fixtures.
const LIST: &[u8] = include_bytes!("../../fixtures/upgrade/valid/files.json");

/// Takes a package.
///
/// # Panics
/// When something else was unpacked than what was listed, which is what is looked for.
pub fn take(package: &[u8]) {
    let list = FileList::parse(LIST, 1 << 20).expect("a fixture");
    let running = RelPath::parse("versions/1.0.0-aaaaaaaa").expect("a path");
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let (path, staging) = (folder.path().join("package"), folder.path().join("staging"));
    let mut file = std::fs::File::create(&path).expect("a file");
    file.write_all(package).expect("written");
    std::fs::create_dir(&staging).expect("a folder");
    let Ok(mut archive) = Archive::open(&path) else { return };
    let Ok(plan) = archive.inspect(&list, Some(&running)) else {
        let written = std::fs::read_dir(&staging).expect("listed").count();
        assert_eq!(written, 0, "a refused package was written");
        return;
    };
    if unpack(&mut archive, &plan, &list, &staging).is_ok() {
        verify_tree(&staging, &list).expect("what was unpacked is what is listed");
    }
}
