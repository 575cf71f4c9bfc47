//! The release's side: a folder made into a package, the same bytes every time.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use outrider_home::{FileError, atomic};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::archive::Format;
use crate::confined::failed;
use crate::digest::{self, CopyError, Sha512Sum};
use crate::files::{FileList, ListError, ListedFile, Mode};
use crate::identity::Identity;
use crate::manifest::{ACTIVE_COMMIT, MANIFEST, Manifest, ManifestError, older_home};
use crate::mappings::{MappingError, PathMappings};
use crate::path::{PathError, RelPath};
use crate::tree::{TreeError, list_folder};

/// The time of every file: 1980-01-01, in seconds since 1970. A zip knows none before it.
const TIME: u64 = 315_532_800;
/// How hard a package is compressed. It is packed once and unpacked often.
const LEVEL: u32 = 9;

/// What is packed.
#[derive(Debug, Clone, Copy)]
pub struct Recipe<'a> {
    /// The content of the version's folder: the programs, `integrations/`. It holds no `manifest.yaml`.
    pub folder: &'a Path,
    /// Which build it is.
    pub package: &'a Identity,
    /// The system it is for, as `linux`.
    pub os: &'a str,
    /// The processor it is for, as `x86_64`.
    pub arch: &'a str,
    /// The most that all files together may have.
    pub most_bytes: u64,
}

/// A package that was made.
#[derive(Debug)]
pub struct Packed {
    /// Where it is. Its `.sha512` stands beside it.
    pub archive: PathBuf,
    /// In bytes.
    pub size: u64,
    /// Of the package.
    pub sha512: Sha512Sum,
    /// Its files, with the manifest; to be signed.
    pub list: FileList,
}

/// A folder that was not packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder cannot be listed.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The files with the manifest make no list.
    #[error("the files of the package make no list")]
    List(#[from] ListError),
    /// The folder has a manifest of its own, in place of which one would be written.
    #[error("{} has a {MANIFEST}: expected none, it is written here", folder.display())]
    OwnManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// A path of the package is too long.
    #[error("a path of the package cannot be used")]
    Path(#[from] PathError),
    /// The manifest cannot be made.
    #[error("the package's mappings cannot be made")]
    Mappings(#[from] MappingError),
    /// The manifest cannot be made.
    #[error("the package's manifest cannot be made")]
    Manifest(#[from] ManifestError),
    /// A file was another one when it was packed than when it was listed.
    #[error("{} changed while it was packed", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

impl From<zip::result::ZipError> for Failed {
    fn from(err: zip::result::ZipError) -> Self {
        Self::Archive(err.into())
    }
}

/// What ends the writing of an archive.
enum Failed {
    /// At the archive, which adds its name.
    Archive(io::Error),
    Other(PackError),
}

impl<T: Into<PackError>> From<T> for Failed {
    fn from(err: T) -> Self {
        Self::Other(err.into())
    }
}

/// Packs a folder into `<into>/outrider-<version>[-SNAPSHOT]-<os>-<arch>` with the format's ending, and writes its
/// `.sha512` beside it. The same folder makes the same bytes.
///
/// # Errors
/// When the folder holds what a package cannot, or something cannot be read or written.
pub fn pack(recipe: &Recipe<'_>, format: Format, into: &Path) -> Result<Packed, PackError> {
    let contents = Contents::of(recipe)?;
    let name = format!("{}{}", contents.top, format.ending());
    let (archive, part) = (into.join(&name), into.join(format!(".{name}.part")));
    let written = write(&contents, recipe.folder, format, &part);
    let (size, sha512) = written.inspect_err(|_| {
        // The next try writes it anew in any case.
        std::fs::remove_file(&part).unwrap_or_default();
    })?;
    std::fs::rename(&part, &archive).map_err(failed("rename into place", &archive))?;
    let line = format!("{sha512}  {name}\n");
    atomic::write(&into.join(format!("{name}.sha512")), line.as_bytes(), Mode::Data.bits())?;
    Ok(Packed { archive, size, sha512, list: contents.list })
}

/// Writes the archive to `part`; tells its size and its hash.
fn write(
    contents: &Contents,
    folder: &Path,
    format: Format,
    part: &Path,
) -> Result<(u64, Sha512Sum), PackError> {
    let file = File::create(part).map_err(failed("make", part))?;
    let written = match format {
        Format::TarGz => write_tar_gz(contents, folder, &file),
        Format::Zip => write_zip(contents, folder, &file),
    };
    written.map_err(|failure| match failure {
        Failed::Archive(err) => failed("write", part)(err).into(),
        Failed::Other(err) => err,
    })?;
    file.sync_all().map_err(failed("sync", part))?;
    let mut written = File::open(part).map_err(failed("open", part))?;
    Ok(digest::sum(&mut written, u64::MAX, &mut Vec::new()).map_err(failed("read", part))?)
}

/// An entry of a package.
struct Item {
    /// In the archive.
    name: RelPath,
    mode: Mode,
    source: Source,
}

enum Source {
    /// A text that is made here.
    Text(String),
    /// The place of a listed file.
    Listed(usize),
}

/// What a package holds, in the order of names.
struct Contents {
    top: RelPath,
    items: Vec<Item>,
    list: FileList,
}

impl Contents {
    fn of(recipe: &Recipe<'_>) -> Result<Self, PackError> {
        let &Recipe { folder, package, os, arch, most_bytes } = recipe;
        let found = list_folder(folder, package.clone(), os, arch, most_bytes)?;
        let own = RelPath::parse(MANIFEST)?;
        if found.find(&own).is_some() {
            return Err(PackError::OwnManifest { folder: folder.to_owned() });
        }
        let top = RelPath::parse(&format!("outrider-{}-{os}-{arch}", package.release()))?;
        let home = RelPath::parse(&older_home(&package.hash))?;
        let target = format!("versions/{}", package.directory_name());
        let manifest_target = format!("{target}/{MANIFEST}");
        let mappings = PathMappings::new([(home.as_str(), &*target), (MANIFEST, &*manifest_target)], None)?;
        let manifest = Manifest { identity: package.clone(), home: home.clone(), mappings }.to_yaml();
        let (size, sha512) = digest::sum(&mut manifest.as_bytes(), u64::MAX, &mut Vec::new())
            .map_err(failed("hash", Path::new(MANIFEST)))?;
        let mut files = found.files().to_vec();
        files.push(ListedFile { path: own.clone(), size, sha512, mode: Mode::Data });
        let list = FileList::new(package.clone(), os, arch, files, most_bytes)?;
        let mut items = vec![
            Item { name: top.join(&own)?, mode: Mode::Data, source: Source::Text(manifest) },
            Item {
                name: top.join(&RelPath::parse(ACTIVE_COMMIT)?)?,
                mode: Mode::Data,
                source: Source::Text(format!("{}\n", package.hash)),
            },
        ];
        let inner = top.join(&home)?;
        for (place, file) in list.files().iter().enumerate().filter(|(_, file)| file.path != own) {
            items.push(Item {
                name: inner.join(&file.path)?,
                mode: file.mode,
                source: Source::Listed(place),
            });
        }
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Self { top, items, list })
    }

    /// The size of an item, in bytes.
    fn size(&self, item: &Item) -> u64 {
        match &item.source {
            Source::Text(text) => text.len() as u64,
            Source::Listed(place) => self.list.files()[*place].size,
        }
    }

    /// Writes the content of an item; a file has to be the one that was listed.
    fn copy(&self, item: &Item, folder: &Path, to: &mut dyn Write) -> Result<(), Failed> {
        let place = match &item.source {
            Source::Text(text) => return to.write_all(text.as_bytes()).map_err(Failed::Archive),
            Source::Listed(place) => *place,
        };
        let listed = &self.list.files()[place];
        let path = folder.join(listed.path.to_path());
        let mut file = File::open(&path).map_err(failed("open", &path))?;
        let copied = digest::copy(&mut file, to, listed.size, &mut Vec::new());
        match copied {
            Ok((size, sha512)) if size == listed.size && sha512 == listed.sha512 => Ok(()),
            Ok(_) => Err(PackError::Changed { path }.into()),
            Err(CopyError::Read(err)) => Err(failed("read", &path)(err).into()),
            Err(CopyError::Write(err)) => Err(Failed::Archive(err)),
        }
    }
}

fn write_tar_gz(contents: &Contents, folder: &Path, file: &File) -> Result<(), Failed> {
    let mut gzip = GzEncoder::new(BufWriter::new(file), Compression::new(LEVEL));
    for item in &contents.items {
        let size = contents.size(item);
        let mut header = tar::Header::new_ustar();
        header.set_path(item.name.as_str()).map_err(Failed::Archive)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(size);
        header.set_mode(item.mode.bits());
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        gzip.write_all(header.as_bytes()).map_err(Failed::Archive)?;
        contents.copy(item, folder, &mut gzip)?;
        let padding = size.next_multiple_of(512) - size;
        io::copy(&mut io::repeat(0).take(padding), &mut gzip).map_err(Failed::Archive)?;
    }
    gzip.write_all(&[0; 1024]).map_err(Failed::Archive)?;
    gzip.finish().and_then(|mut inner| inner.flush()).map_err(Failed::Archive)
}

fn write_zip<W: Write + Seek>(contents: &Contents, folder: &Path, file: W) -> Result<(), Failed> {
    let mut zip = ZipWriter::new(BufWriter::new(file));
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(i64::from(LEVEL)))
        .last_modified_time(DateTime::DEFAULT);
    for item in &contents.items {
        zip.start_file(item.name.as_str(), options.unix_permissions(item.mode.bits()))?;
        contents.copy(item, folder, &mut zip)?;
    }
    zip.finish()?.flush().map_err(Failed::Archive)
}

#[cfg(test)]
#[cfg(unix)]
mod tests;
