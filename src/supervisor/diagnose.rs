//! Why a program could not be started, in words that lead to a repair.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::spawn::is_executable;

/// How much of a program is read to see what it is: more than any `#!` line and the head of any executable.
const HEAD: u64 = 4096;

/// A program that could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// A bare name that no folder of `PATH` has.
    #[error("start {}: no such program in the folders of PATH ({})", name.display(), path.display())]
    NotOnPath {
        /// What was looked for.
        name: PathBuf,
        /// Where.
        path: OsString,
    },
    /// There is no such file.
    #[error("start {}: there is no such file", program.display())]
    NotFound {
        /// The program.
        program: PathBuf,
    },
    /// A folder is no program.
    #[error("start {}: it is a folder, expected a program", program.display())]
    IsDirectory {
        /// The program.
        program: PathBuf,
    },
    /// The file has no permission to be executed.
    #[error("start {}: the file is not executable", program.display())]
    NotExecutable {
        /// The program.
        program: PathBuf,
    },
    /// The file is executable, yet the system denies it.
    #[error("start {}: permission denied, although the file is executable", program.display())]
    Denied {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        err: io::Error,
    },
    /// The file is no program of this system.
    #[error("start {}: found {found}, expected a program for {}", program.display(), this_system())]
    WrongFormat {
        /// The program.
        program: PathBuf,
        /// What the file is.
        found: String,
    },
    /// The program is there, but what should run it is not.
    #[error("start {}: what should run it is missing: {interpreter:?}", program.display())]
    NoInterpreter {
        /// The program.
        program: PathBuf,
        /// The path on its `#!` line, or the loader that it was built for.
        interpreter: String,
    },
    /// The folder to run in.
    #[error("start {}: the folder to run it in, {}, is missing or no folder", program.display(), cwd.display())]
    BadFolder {
        /// The program.
        program: PathBuf,
        /// The folder.
        cwd: PathBuf,
    },
    /// Somebody has the file open for writing.
    #[error("start {}: the file is being written", program.display())]
    Busy {
        /// The program.
        program: PathBuf,
    },
    /// Anything else: limits of the system, mostly.
    #[error("start {}", program.display())]
    Other {
        /// The program.
        program: PathBuf,
        /// What the system said.
        #[source]
        err: io::Error,
    },
}

impl SpawnError {
    /// What a person can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NotOnPath { .. } => "install it, or give its full path".to_owned(),
            Self::NotFound { .. } => "check the path, or install the program again".to_owned(),
            Self::IsDirectory { .. } => "give the path of the program in that folder".to_owned(),
            Self::NotExecutable { program } => format!("make it executable: chmod +x {}", program.display()),
            Self::Denied { .. } => {
                "look whether its file system is mounted with noexec, whether each folder on the \
                way to it may be entered, and whether a security module forbids it"
                    .to_owned()
            }
            Self::WrongFormat { .. } => format!("install the version of it for {}", this_system()),
            Self::NoInterpreter { interpreter, .. } if interpreter.ends_with('\r') => {
                "the script has line ends of Windows: save it with those of Unix".to_owned()
            }
            Self::NoInterpreter { interpreter, .. } => {
                format!("install {interpreter}, or a version of the program that does not need it")
            }
            Self::BadFolder { .. } => "create the folder".to_owned(),
            Self::Busy { .. } => "wait until it is written, then try again".to_owned(),
            Self::Other { err, .. } => return limit_hint(err).map(str::to_owned),
        };
        Some(hint)
    }

    /// Whether trying again later may help without a change by a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. } => true,
            Self::Other { err, .. } => limit_hint(err).is_some(),
            _ => false,
        }
    }
}

fn limit_hint(err: &io::Error) -> Option<&'static str> {
    match err.kind() {
        ErrorKind::WouldBlock => Some("the limit of processes is reached: end some, or raise it"),
        ErrorKind::OutOfMemory => Some("the system is short of memory: free some, or raise the limit"),
        _ if cfg!(unix) && matches!(err.raw_os_error(), Some(EMFILE | ENFILE)) => {
            Some("the limit of open files is reached: raise it")
        }
        _ => None,
    }
}

/// Too many open files in this process, and in the system; these numbers are the same on each Unix we run on.
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;
/// "Exec format error".
const ENOEXEC: i32 = 8;
/// macOS: "Bad CPU type in executable".
const EBADARCH: i32 = 86;
/// Windows: "%1 is not a valid Win32 application".
const ERROR_BAD_EXE_FORMAT: i32 = 193;

/// Finds out why `program` could not be started in `cwd`, by looking at both.
pub(crate) fn diagnose(program: &Path, cwd: Option<&Path>, err: io::Error) -> SpawnError {
    let program = program.to_owned();
    if let Some(cwd) = cwd
        && !cwd.is_dir()
    {
        return SpawnError::BadFolder { program, cwd: cwd.to_owned() };
    }
    if program.is_dir() {
        return SpawnError::IsDirectory { program };
    }
    match err.kind() {
        ErrorKind::NotFound if program.exists() => match interpreter(&head(&program)) {
            Some(interpreter) => SpawnError::NoInterpreter { program, interpreter },
            None => SpawnError::Other { program, err },
        },
        ErrorKind::NotFound => SpawnError::NotFound { program },
        ErrorKind::PermissionDenied if program.exists() && !is_executable(&program) => {
            SpawnError::NotExecutable { program }
        }
        ErrorKind::PermissionDenied => SpawnError::Denied { program, err },
        ErrorKind::ExecutableFileBusy => SpawnError::Busy { program },
        _ if is_format_error(&err) => {
            let found = format_of(&head(&program));
            SpawnError::WrongFormat { program, found }
        }
        _ => SpawnError::Other { program, err },
    }
}

fn is_format_error(err: &io::Error) -> bool {
    match err.raw_os_error() {
        Some(ENOEXEC) => cfg!(unix),
        Some(EBADARCH) => cfg!(target_vendor = "apple"),
        Some(ERROR_BAD_EXE_FORMAT) => cfg!(windows),
        _ => false,
    }
}

/// The first bytes of a file; none where it cannot be read, which is no reason to fail a diagnosis.
fn head(file: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    let read = File::open(file).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    if read.is_err() {
        head.clear();
    }
    head
}

/// What an executable says should run it: the program of its `#!` line, or its loader.
fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(rest) = head.strip_prefix(b"#!") {
        let line = rest.split(|byte| *byte == b'\n').next()?;
        // A carriage return belongs to the path for the system, so it is kept to be shown.
        let path = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t')).next()?;
        return Some(String::from_utf8_lossy(path).into_owned());
    }
    head.starts_with(b"\x7fELF").then(|| loader(head).unwrap_or_else(|| "its dynamic loader".to_owned()))
}

/// The loader that an ELF file names: linkers put that text first of all that begin with `/`.
fn loader(head: &[u8]) -> Option<String> {
    let start = head.iter().position(|byte| *byte == b'/')?;
    let text = head[start..].split(|byte| *byte == 0).next()?;
    let text = std::str::from_utf8(text).ok()?;
    text.chars().all(|c| c.is_ascii_graphic()).then(|| text.to_owned())
}

/// What a file that is no program of this system is.
fn format_of(head: &[u8]) -> String {
    match head {
        [] => "an empty file".to_owned(),
        [0x7f, b'E', b'L', b'F', ..] => elf(head),
        [b'M', b'Z', ..] => "a Windows program".to_owned(),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xca, 0xfe, 0xba, 0xbe, ..] => "a macOS program".to_owned(),
        [b'P', b'K', 3, 4, ..] => "a zip archive".to_owned(),
        [0x1f, 0x8b, ..] => "a gzip archive".to_owned(),
        _ if head.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            "a text file without a #! line".to_owned()
        }
        _ => "a file of an unknown format".to_owned(),
    }
}

fn elf(head: &[u8]) -> String {
    let machine = match head.get(18..20) {
        Some([0x03, 0]) => "x86",
        Some([0x28, 0]) => "arm",
        Some([0x3e, 0]) => "x86_64",
        Some([0xb7, 0]) => "aarch64",
        Some([0xf3, 0]) => "riscv64",
        Some([0x15, 0] | [0, 0x15]) => "powerpc64",
        Some([0, 0x16]) => "s390x",
        _ => "another processor",
    };
    if machine == std::env::consts::ARCH {
        return "a damaged program".to_owned();
    }
    format!("a Linux or BSD program for {machine}")
}

fn this_system() -> String {
    format!("{} on {}", std::env::consts::OS, std::env::consts::ARCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_head() {
        let mut arm = b"\x7fELF\x02\x01\x01".to_vec();
        arm.resize(18, 0);
        arm.extend([0xb7, 0]);
        if cfg!(not(target_arch = "aarch64")) {
            assert_eq!(format_of(&arm), "a Linux or BSD program for aarch64");
        }
        assert_eq!(format_of(b""), "an empty file");
        assert_eq!(format_of(b"MZ\x90\0"), "a Windows program");
        assert_eq!(format_of(b"echo hi\n"), "a text file without a #! line");
        assert_eq!(format_of(b"\x01\x02\xff"), "a file of an unknown format");
    }

    #[test]
    fn an_interpreter_is_read_from_script_and_program() {
        assert_eq!(interpreter(b"#! /usr/bin/env python3\n").as_deref(), Some("/usr/bin/env"));
        assert_eq!(interpreter(b"#!/bin/sh\r\necho").as_deref(), Some("/bin/sh\r"));
        let elf = b"\x7fELF\x02\x01\0\0/lib64/ld-linux-x86-64.so.2\0rest";
        assert_eq!(interpreter(elf).as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(interpreter(b"\x7fELF\x02").as_deref(), Some("its dynamic loader"));
        assert_eq!(interpreter(b"echo"), None);
    }
}
