//! A tar.gz of any bytes; and a tar of any bytes within a gzip that is whole.
#![no_main]

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        outrider_fuzz::take(bytes);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
    gzip.write_all(bytes).expect("in memory");
    outrider_fuzz::take(&gzip.finish().expect("in memory"));
});
