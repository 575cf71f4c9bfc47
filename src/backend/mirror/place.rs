//! Files of the mirror's folder, and nothing beside it.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A file that may be sent.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) length: u64,
    /// Its strong `ETag`, with the quotes.
    pub(super) tag: String,
}

/// Opens a file below a folder; nothing where there is none that may be sent. `path` is what stood in the address, decoded.
pub(super) fn open(folder: &Path, path: &str) -> io::Result<Option<Found>> {
    let Some(relative) = relative(path) else { return Ok(None) };
    let resolved =
        fs::canonicalize(folder).and_then(|folder| Ok((fs::canonicalize(folder.join(relative))?, folder)));
    let Some((place, folder)) = missing_is_none(resolved)? else { return Ok(None) };
    // Links are followed by now: one may lead elsewhere within the folder. Looked at before it is opened, since opening
    // a pipe would wait for who writes into it.
    if !place.starts_with(&folder) || !missing_is_none(fs::metadata(&place))?.is_some_and(|it| it.is_file()) {
        return Ok(None);
    }
    let Some(file) = missing_is_none(File::open(&place))? else { return Ok(None) };
    let about = file.metadata()?;
    Ok(about.is_file().then(|| Found { length: about.len(), tag: tag(&about), file }))
}

/// The path within the folder; nothing where it could lead out of it, or is not meant to be seen.
fn relative(path: &str) -> Option<PathBuf> {
    let is_plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.contains(|c: char| matches!(c, '\\' | ':') || c.is_control())
    };
    path.split('/').all(is_plain).then(|| path.split('/').collect())
}

fn missing_is_none<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(err) if is_missing(&err) => Ok(None),
        Err(err) => Err(err),
    }
}

fn is_missing(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename
    )
}

/// Another one for another file, and for the same one after it was written to, even with its old time put back.
fn tag(about: &Metadata) -> String {
    let nanos = |time: io::Result<SystemTime>| {
        time.ok().and_then(|it| it.duration_since(UNIX_EPOCH).ok()).map_or(0, |it| it.as_nanos())
    };
    #[cfg(unix)]
    let (id, changed) = {
        use std::os::unix::fs::MetadataExt as _;
        (about.ino(), i128::from(about.ctime()) * 1_000_000_000 + i128::from(about.ctime_nsec()))
    };
    #[cfg(not(unix))]
    let (id, changed) = (0u64, nanos(about.created()));
    format!("\"{:x}-{id:x}-{:x}-{changed:x}\"", about.len(), nanos(about.modified()))
}

/// Why a folder cannot be served.
///
/// Nobody is asked for a token there: with the data folder in it, or as another part of the data folder, it would give
/// away what the backend keeps to itself.
pub(crate) fn guard(data: &Path, own: &Path, releases: &Path) -> Option<&'static str> {
    // What is not there yet can only be compared by its name.
    let real =
        |path: &Path| fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or(path.into());
    let (data, own, releases) = (real(data), real(own), real(releases));
    if data.starts_with(&releases) {
        Some("the backend's data folder lies in it")
    } else if releases.starts_with(&data) && !releases.starts_with(&own) {
        Some("it is a private part of the backend's data folder")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("releases/targets")).unwrap();
        fs::write(dir.path().join("secret"), "hunter2").unwrap();
        fs::write(dir.path().join("releases/targets/a.tar.gz"), "0123456789").unwrap();
        fs::write(dir.path().join("releases/.new"), "half").unwrap();
        dir
    }

    fn found(dir: &tempfile::TempDir, path: &str) -> bool {
        open(&dir.path().join("releases"), path).unwrap().is_some()
    }

    #[test]
    fn only_files_of_the_folder_are_found() {
        let dir = folder();
        assert!(found(&dir, "targets/a.tar.gz"));
        let outside = dir.path().join("secret").display().to_string();
        for path in [
            "",
            "targets",
            "targets/",
            "nothing",
            "targets/a.tar.gz/x",
            "targets//a.tar.gz",
            ".new",
            "../secret",
            "targets/../../secret",
            "targets/./a.tar.gz",
            "..\\secret",
            "C:secret",
            "a\0b",
            &outside,
            &"x".repeat(300),
        ] {
            assert!(!found(&dir, path), "{path:?}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_within_the_folder_only() {
        use std::os::unix::fs::symlink;
        let dir = folder();
        let releases = dir.path().join("releases");
        symlink("targets/a.tar.gz", releases.join("newest")).unwrap();
        symlink("../secret", releases.join("out")).unwrap();
        symlink(dir.path(), releases.join("up")).unwrap();
        symlink("nowhere", releases.join("dangling")).unwrap();
        assert!(found(&dir, "newest"));
        for path in ["out", "up/secret", "up", "dangling"] {
            assert!(!found(&dir, path), "{path}");
        }
        // The folder itself may be one.
        symlink(&releases, dir.path().join("link")).unwrap();
        assert!(open(&dir.path().join("link"), "newest").unwrap().is_some());
    }

    #[test]
    fn a_tag_is_another_one_as_soon_as_the_file_is() {
        let dir = folder();
        let tag = || open(&dir.path().join("releases"), "targets/a.tar.gz").unwrap().unwrap().tag;
        let path = dir.path().join("releases/targets/a.tar.gz");
        let first = tag();
        assert_eq!(tag(), first);
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        fs::write(dir.path().join("other"), "9876543210").unwrap();
        File::options().write(true).open(dir.path().join("other")).unwrap().set_modified(time).unwrap();
        fs::rename(dir.path().join("other"), &path).unwrap();
        assert_ne!(tag(), first);
        assert!(first.starts_with('"') && first.ends_with('"'));
    }

    #[test]
    fn what_the_backend_keeps_to_itself_is_not_served() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        fs::create_dir_all(data.join("exports")).unwrap();
        let own = data.join("releases");
        let refused = |releases: &Path| guard(&data, &own, releases);
        assert_eq!(refused(&own), None);
        assert_eq!(refused(&dir.path().join("mirror")), None);
        for bad in [dir.path(), &data, Path::new("/")] {
            assert!(refused(bad).unwrap().contains("data folder lies in it"), "{bad:?}");
        }
        assert!(refused(&data.join("exports")).unwrap().contains("a private part"));
    }
}
