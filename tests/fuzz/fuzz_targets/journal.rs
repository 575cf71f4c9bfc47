//! The journal of versions: whatever stands in its two slots, the launcher starts something, and a record that was read is
//! written again as it was.
#![no_main]

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use outrider_versions::launch::prepare;
use outrider_versions::{Journal, Versions};

const VERSIONS: [&str; 2] = ["1.0.0-00000000", "1.1.0-11111111"];

fuzz_target!(|bytes: &[u8]| {
    let folder = tempfile::tempdir_in("/dev/shm").expect("a folder");
    let root = folder.path();
    for version in VERSIONS {
        let home = root.join("versions").join(version);
        std::fs::create_dir_all(&home).expect("a folder");
        std::fs::write(home.join("outrider"), "#!/bin/sh\n").expect("written");
    }
    for (link, version) in ["previous", "current"].iter().zip(VERSIONS) {
        symlink(Path::new("versions").join(version), root.join(link)).expect("a link");
    }
    std::fs::create_dir(root.join("upgrade")).expect("a folder");
    // A zero is between the slots.
    for (slot, text) in ["journal.a", "journal.b"].iter().zip(bytes.splitn(2, |it| *it == 0)) {
        std::fs::write(root.join("upgrade").join(slot), summed(text)).expect("written");
    }
    let versions = Versions::of(root);
    let seen = versions.see().expect("what is there is read");
    if let Journal::Attempt(record) = &seen.journal {
        let writer = versions.write(Duration::ZERO).expect("nobody else writes");
        writer.update(|_| {}).expect("written again");
        let again = versions.see().expect("read again");
        assert_eq!(again.journal.record(), Some(&**record));
    }
    let start = prepare(&versions).expect("both versions are complete");
    assert!(start.program.exists(), "{start:?}");
});

/// With the right checksum, which chance would never find: what it guards is looked at here.
fn summed(text: &[u8]) -> Vec<u8> {
    let body = text.split_inclusive(|it| *it == b'\n').filter(|it| !it.starts_with(b"crc32 "));
    let mut summed: Vec<u8> = body.flatten().copied().collect();
    let line = format!("crc32 {:08x}\n", crc32fast::hash(&summed));
    summed.extend(line.bytes());
    summed
}
