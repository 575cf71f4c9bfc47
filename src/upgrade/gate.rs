//! What each entry of an archive has to pass, whatever the format: a confined name, no collision, no odd permissions, and
//! no more than its list makes room for.

use std::io::{self, Read};

use crate::files::FileList;
use crate::path::RelPath;
use crate::path_set::{Node, PathSet};
use crate::refusal::Refusal;

/// Entries beside the listed files and the folders they lie in: configuration, a readme, other folders.
const EXTRA_ENTRIES: usize = 256;
/// The content of all files that are not listed, in bytes.
const EXTRA_BYTES: u64 = 1 << 20;

/// What is read of a content that nobody wants, at a time, in bytes.
const SKIP: u64 = 256 << 10;

/// How far an archive may go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Files and folders.
    pub(crate) entries: usize,
    /// Content, unpacked.
    pub(crate) bytes: u64,
}

impl Bounds {
    /// What a list makes room for.
    pub(crate) fn of(list: &FileList) -> Self {
        let folders: std::collections::HashSet<_> =
            list.files().iter().flat_map(|file| file.path.ancestors()).collect();
        Self {
            entries: list.files().len() + folders.len() + EXTRA_ENTRIES,
            bytes: list.total_bytes().saturating_add(EXTRA_BYTES),
        }
    }
}

/// An entry that was let through.
#[derive(Debug)]
pub(crate) struct Entry {
    /// In the archive, with the top folder.
    pub(crate) name: RelPath,
    /// A file or a folder.
    pub(crate) node: Node,
    /// Of the content, as the archive says.
    pub(crate) size: u64,
}

/// What an archive says of an entry.
pub(crate) struct Header<'a> {
    /// A folder's may end in `/`.
    pub(crate) name: &'a [u8],
    pub(crate) node: Node,
    pub(crate) size: u64,
    /// Permissions, with the bits of setuid, setgid and sticky, and whatever stands above them.
    pub(crate) mode: u32,
}

/// Lets entries through, one after the other.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) bounds: Bounds,
    entries: usize,
    bytes: u64,
    names: PathSet,
}

impl Gate {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: 0, bytes: 0, names: PathSet::default() }
    }

    /// Counts an entry before anything else is done with it.
    pub(crate) fn count(&mut self) -> Result<(), Refusal> {
        if self.entries == self.bounds.entries {
            return Err(Refusal::TooManyEntries { limit: self.bounds.entries });
        }
        self.entries += 1;
        Ok(())
    }

    /// Lets an entry through that was counted.
    pub(crate) fn admit(&mut self, header: &Header<'_>) -> Result<Entry, Refusal> {
        let &Header { name, node, size, mode } = header;
        let name = match node {
            Node::Folder => name.strip_suffix(b"/").unwrap_or(name),
            Node::File => name,
        };
        let name = RelPath::from_bytes(name)?;
        self.names.insert(&name, node)?;
        if mode & 0o7000 != 0 {
            return Err(Refusal::SpecialBits { name, mode: mode & 0o7777 });
        }
        if node == Node::Folder && size != 0 {
            return Err(Refusal::FolderWithContent { name, bytes: size });
        }
        let left = self.bounds.bytes - self.bytes;
        if size > left {
            return Err(Refusal::TooLarge { name, bytes: size, left });
        }
        self.bytes += size;
        Ok(Entry { name, node, size })
    }
}

/// The content of an entry: as many bytes as it says, and then the end.
pub(crate) struct Content<'a> {
    data: &'a mut dyn Read,
    /// That were not read yet.
    left: u64,
}

impl<'a> Content<'a> {
    pub(crate) fn new(data: &'a mut dyn Read, size: u64) -> Self {
        Self { data, left: size }
    }

    /// Reads what nobody wanted, so that checksums are compared, and that the end is where it should be.
    pub(crate) fn finish(mut self, entry: &Entry) -> Result<(), Refusal> {
        self.skip().map_err(|err| Refusal::broken("a file", err))?;
        let lying = |found| Refusal::LyingSize { name: entry.name.clone(), declared: entry.size, found };
        if self.left > 0 {
            return Err(lying(entry.size - self.left));
        }
        match io::copy(&mut self.data.take(1), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(lying(entry.size.saturating_add(1))),
            Err(err) => Err(Refusal::broken("a file", err)),
        }
    }

    /// Reads to the end. Large pieces are inflated faster than the few kilobytes that are copied at a time otherwise.
    fn skip(&mut self) -> io::Result<()> {
        let size = usize::try_from(self.left.min(SKIP)).unwrap_or_default();
        let mut buffer = vec![0; size];
        while self.left > 0 {
            match self.read(&mut buffer) {
                Ok(0) => break,
                Ok(_) => {}
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(err),
            }
        }
        Ok(())
    }
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let read = self.data.read(&mut buffer[..most])?;
        self.left -= read as u64;
        Ok(read)
    }
}
