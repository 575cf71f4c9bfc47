//! A manifest of any bytes is refused, or is what is read of it when it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use outrider_upgrade::Manifest;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes, None) {
        let again = Manifest::parse(manifest.to_yaml().as_bytes(), None).expect("what was written is read");
        assert_eq!(again, manifest);
        drop(manifest.target_home());
    }
});
