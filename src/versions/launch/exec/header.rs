//! Whether a file can be a program of this machine.
//!
//! The call by which one program becomes another hands what the kernel does not know as a program to the shell, which
//! would read a damaged one as a script. So the first bytes are looked at before.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// `ENOEXEC`, for which std has no word.
pub(super) const NO_PROGRAM: i32 = 8;
/// Where the machine is named, in the format that Linux knows.
const HEADER: usize = 20;
const ELF: &[u8] = b"\x7fELF";

/// An error where the file is no program of the kind that this one is, nor a script that names its interpreter.
pub(super) fn check(program: &Path) -> io::Result<()> {
    let own = std::env::current_exe().and_then(|it| first_bytes(&it)).unwrap_or_default();
    if is_program(&first_bytes(program)?, &own) {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(NO_PROGRAM))
    }
}

fn first_bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(HEADER as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_program(bytes: &[u8], own: &[u8]) -> bool {
    // Word size, byte order and machine.
    let kind = |it: &[u8]| Some((it.get(4..6)?.to_vec(), it.get(18..20)?.to_vec()));
    if bytes.starts_with(b"#!") {
        return true;
    }
    if own.starts_with(ELF) {
        return bytes.starts_with(ELF) && kind(bytes).is_some() && kind(bytes) == kind(own);
    }
    // Another system: the same first bytes as this program has.
    bytes.len() >= 4 && own.get(..4) == bytes.get(..4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_programs_of_this_machine_and_scripts() {
        let own = first_bytes(&std::env::current_exe().unwrap()).unwrap();
        assert!(is_program(&own, &own));
        assert!(is_program(b"#!/bin/sh\n", &own));
        for bad in [&b""[..], b"\0\0\0\0", b"\x7fELF", b"garbage", b"\x7fELF no program at all", &own[..19]] {
            assert!(!is_program(bad, &own), "{bad:?}");
        }
        let mut other = own.clone();
        other[18] ^= 1;
        assert!(!is_program(&other, &own), "another machine");
    }
}
