//! What is on the disk: where the links point, and which versions are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::clock::BootId;
use crate::error::FileError;
use crate::fs::{Fs, Kind, if_there, texts};
use crate::journal::Journal;
use crate::layout::{Layout, Link, TRASH};
use crate::name::VersionName;
use crate::phase::Phase;
use crate::record::Record;
use crate::seal::Condition;
use crate::trial;

/// What lies where a link should be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Points {
    /// Nothing.
    Missing,
    /// Something that is no link.
    NotALink,
    /// A link to something that is not a version's folder.
    Elsewhere,
    /// A link to this version; whether that is complete, the tree says.
    To(VersionName),
}

/// Both links.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Links {
    /// What `current` is.
    pub current: Points,
    /// What `previous` is.
    pub previous: Points,
}

/// The complete versions: those in place. A version is put under its final name by one rename, after it was verified and
/// synced, and loses that name by one rename before it is deleted; so what has the name is complete.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    /// The complete versions.
    pub versions: BTreeSet<VersionName>,
    /// Whether something was being deleted, and is not gone yet, or the record of a trial is there, which is over if no
    /// attempt is in progress.
    pub leftovers: bool,
}

impl Tree {
    /// Whether the version is complete.
    #[must_use]
    pub fn has(&self, version: &VersionName) -> bool {
        self.versions.contains(version)
    }

    /// The version that a link points to, when it is complete.
    #[must_use]
    pub fn whole<'a>(&self, points: &'a Points) -> Option<&'a VersionName> {
        match points {
            Points::To(version) if self.has(version) => Some(version),
            _ => None,
        }
    }

    /// The newest complete version by its name, of those that are wanted.
    pub(crate) fn newest(&self, is_wanted: impl Fn(&VersionName) -> bool) -> Option<&VersionName> {
        let wanted = self.versions.iter().filter(|it| is_wanted(it));
        wanted.max_by_key(|it| (it.age(), it.as_str().to_owned()))
    }
}

/// All that a decision depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The latest attempt.
    pub journal: Journal,
    /// The links.
    pub links: Links,
    /// The complete versions.
    pub tree: Tree,
    /// The versions that were held against their seals: to read all of a version takes a while, so it is done where a
    /// decision asks for it by [`crate::Act::Look`].
    pub looked: BTreeMap<VersionName, Condition>,
    /// Which start of the machine this is.
    pub boot: BootId,
}

impl Seen {
    /// Whether a version is known not to be what it was.
    #[must_use]
    pub fn is_changed(&self, version: &VersionName) -> bool {
        self.looked.get(version) == Some(&Condition::Changed)
    }

    /// Whether an attempt in progress was switched to, or is being: its phase says so, or `current` does where the record of
    /// the switch is lost, as with both slots of the journal.
    #[must_use]
    pub fn is_switched(&self, record: &Record) -> bool {
        match record.phase {
            Phase::Switched | Phase::Probation | Phase::RollingBack => true,
            Phase::Armed => {
                record.from != record.to && self.tree.whole(&self.links.current) == Some(&record.to)
            }
            _ => false,
        }
    }

    /// The version that a link points to, when it is complete and not known to have changed.
    #[must_use]
    pub fn sound<'a>(&self, points: &'a Points) -> Option<&'a VersionName> {
        self.tree.whole(points).filter(|it| !self.is_changed(it))
    }
}

/// What a link is.
pub(crate) fn points(fs: &dyn Fs, layout: &Layout, link: Link) -> Result<Points, FileError> {
    let path = layout.link(link);
    let failed = FileError::at("read the link", &path);
    match if_there(fs.meta(&path)) {
        Ok(None) => return Ok(Points::Missing),
        Ok(Some(meta)) if meta.kind != Kind::Link => return Ok(Points::NotALink),
        Ok(Some(_)) => {}
        Err(err) => return Err(failed(err)),
    }
    let target = fs.read_link(&path).map_err(failed)?;
    let version = target.strip_prefix("versions").ok().and_then(Path::to_str).and_then(|it| it.parse().ok());
    Ok(version.map_or(Points::Elsewhere, Points::To))
}

/// Both links.
pub(crate) fn links(fs: &dyn Fs, layout: &Layout) -> Result<Links, FileError> {
    Ok(Links { current: points(fs, layout, Link::Current)?, previous: points(fs, layout, Link::Previous)? })
}

/// The complete versions.
pub(crate) fn tree(fs: &dyn Fs, layout: &Layout) -> Result<Tree, FileError> {
    let folder = layout.versions();
    let names = if_there(fs.list(&folder)).map_err(FileError::at("list", &folder))?.unwrap_or_default();
    let names = texts(names);
    let versions = names.iter().filter_map(|it| it.parse().ok());
    let whole = versions.filter_map(|it: VersionName| match is_whole(fs, layout, &it) {
        Ok(true) => Some(Ok(it)),
        Ok(false) => None,
        Err(err) => Some(Err(err)),
    });
    let leftovers = names.iter().any(|it| it.starts_with(TRASH) || trial::NAMES.contains(&it.as_str()));
    Ok(Tree { versions: whole.collect::<Result<_, _>>()?, leftovers })
}

/// Whether a version's program is in place.
pub(crate) fn is_whole(fs: &dyn Fs, layout: &Layout, version: &VersionName) -> Result<bool, FileError> {
    let program = layout.program(version);
    match fs.meta(&program) {
        Ok(meta) => Ok(meta.kind == Kind::File),
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(err) => Err(FileError::at("look at", &program)(err)),
    }
}
