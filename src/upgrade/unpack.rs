//! The second reading: the listed files, written below a folder that nothing else is in.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use outrider_home::FileError;

use crate::archive::{Archive, ArchiveError, Plan, Stop};
use crate::confined::{Folder, failed, set_mode};
use crate::digest::{self, CopyError};
use crate::files::{FileList, ListedFile};
use crate::path::RelPath;
use crate::refusal::Refusal;

/// Written files that wait to be synced.
const UNSYNCED: usize = 16;

/// Writes the listed files of a package that was inspected, by the same list, below `staging`, an empty folder. When this
/// returns, each file has its listed size, hash and permissions, and all of it is durable, but for the name of `staging`
/// itself. What was written before a failure stays there, for the caller to remove.
///
/// # Errors
/// When something cannot be written, or the package is not what was inspected or not what its list says.
pub fn unpack(
    archive: &mut Archive,
    plan: &Plan,
    list: &FileList,
    staging: &Path,
) -> Result<(), ArchiveError> {
    let staging_folder = Folder::open(staging)?;
    if !staging_folder.entries()?.is_empty() {
        let err = std::io::ErrorKind::DirectoryNotEmpty.into();
        return Err(failed("unpack into", staging)(err).into());
    }
    let (written, unsynced) = sync_channel(UNSYNCED);
    thread::scope(|scope| {
        let syncing = scope.spawn(move || sync_all(unsynced));
        let mut writer = Writer {
            list,
            staging: staging_folder,
            folders: BTreeSet::new(),
            files: 0,
            buffer: Vec::new(),
            written,
        };
        let walked = archive.walk(plan.bounds, &mut |entry, data| match plan.files.get(&entry.name) {
            Some(place) => writer.write(*place, data),
            None => Ok(()),
        });
        let Writer { files, folders, staging, written, .. } = writer;
        drop(written);
        let synced = syncing.join().unwrap_or_else(|panicked| std::panic::resume_unwind(panicked));
        // Where a file could not be synced, the walk ended for that, or would have.
        synced?;
        walked?;
        if files < plan.files.len() {
            let why = Refusal::Layout { problem: "it changed while it was read".to_owned() };
            return Err(archive.refused(why));
        }
        Ok(sync_folders(&staging, &folders)?)
    })
}

/// Makes files durable while the next are written: the disk is slower than what is written to it.
fn sync_all(files: Receiver<(File, PathBuf)>) -> Result<(), FileError> {
    for (file, at) in files {
        file.sync_all().map_err(failed("sync", &at))?;
    }
    Ok(())
}

struct Writer<'a> {
    list: &'a FileList,
    staging: Folder,
    /// That were made.
    folders: BTreeSet<&'a str>,
    files: usize,
    buffer: Vec<u8>,
    /// To whoever makes them durable.
    written: SyncSender<(File, PathBuf)>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, place: usize, data: &mut dyn Read) -> Result<(), Stop> {
        let listed = &self.list.files()[place];
        let (file, at) = self.create(&listed.path)?;
        self.fill(&file, &at, listed, data)?;
        set_mode(&file, listed.mode.bits()).map_err(failed("set the permissions of", &at))?;
        self.files += 1;
        // Nobody takes it any more where one before could not be synced; that error is told.
        self.written.send((file, at)).map_err(|_| unsynced(self.staging.path()))?;
        Ok(())
    }

    fn create(&mut self, path: &'a RelPath) -> Result<(File, PathBuf), Stop> {
        self.folders.extend(path.ancestors());
        let mut segments = path.segments();
        let name = segments.next_back().unwrap_or_default();
        let mut inner: Option<Folder> = None;
        for segment in segments {
            inner = Some(inner.as_ref().unwrap_or(&self.staging).folder_made(segment)?);
        }
        let folder = inner.as_ref().unwrap_or(&self.staging);
        Ok((folder.create(name)?, folder.path().join(name)))
    }

    fn fill(&mut self, file: &File, at: &Path, listed: &ListedFile, data: &mut dyn Read) -> Result<(), Stop> {
        let ListedFile { path, size, sha512, .. } = listed;
        let (found, hash) =
            digest::copy(data, &mut &*file, *size, &mut self.buffer).map_err(|err| match err {
                CopyError::Read(err) => Stop::Refused(Refusal::broken("a file", err)),
                CopyError::Write(err) => Stop::File(failed("write", at)(err)),
            })?;
        if found != *size {
            return Err(Refusal::Size { path: path.clone(), found, listed: *size }.into());
        }
        if hash != *sha512 {
            return Err(Refusal::Hash { path: path.clone() }.into());
        }
        Ok(())
    }
}

/// The walk is over, for a file that was not synced.
fn unsynced(staging: &Path) -> FileError {
    failed("sync the files below", staging)(std::io::ErrorKind::BrokenPipe.into())
}

/// Makes durable which files the folders hold, the innermost first.
fn sync_folders(staging: &Folder, folders: &BTreeSet<&str>) -> Result<(), FileError> {
    for folder in folders.iter().rev() {
        let mut inner: Option<Folder> = None;
        for segment in folder.split('/') {
            inner = Some(inner.as_ref().unwrap_or(staging).folder(segment)?);
        }
        inner.as_ref().unwrap_or(staging).sync()?;
    }
    staging.sync()
}
