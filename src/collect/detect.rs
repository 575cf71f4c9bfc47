//! Which hierarchies a host has, and where each controller is: v1, v2, or both at once.
//!
//! # Invariants
//! - A controller that is bound to a v1 hierarchy is read there, and nowhere else. The others, and what belongs to no
//!   controller (pressure, `cgroup.events`), are read from the unified tree where it is mounted. So a hybrid host is read
//!   as it is, and not as one of the two that it is not.
//! - Of several mounts of one hierarchy the one below the base folder counts, then the one that shows all of it.

use std::path::{Path, PathBuf};

use crate::parse::{self, Mount};

/// What can be bound to a hierarchy of its own in v1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the kernel's names")]
pub enum Controller {
    Memory,
    Cpu,
    Cpuacct,
    Blkio,
    Pids,
    Cpuset,
    Hugetlb,
}

impl Controller {
    /// All of them; the first one that a host has is the one whose tree is walked.
    pub const ALL: [Self; 7] =
        [Self::Memory, Self::Cpu, Self::Cpuacct, Self::Blkio, Self::Pids, Self::Cpuset, Self::Hugetlb];

    pub(crate) fn v1_name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Cpuacct => "cpuacct",
            Self::Blkio => "blkio",
            Self::Pids => "pids",
            Self::Cpuset => "cpuset",
            Self::Hugetlb => "hugetlb",
        }
    }
}

/// How a host's hierarchies are mixed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Controllers in hierarchies of their own, no unified tree.
    V1,
    /// One tree.
    V2,
    /// Some controllers in hierarchies of their own, and a unified tree beside them.
    Hybrid,
}

/// The hierarchies of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    unified: Option<PathBuf>,
    v1: [Option<PathBuf>; 7],
}

/// Where a controller's files are, and of which version they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'l> {
    /// A hierarchy of its own.
    V1(&'l Path),
    /// The unified tree.
    V2(&'l Path),
}

/// Why there is no layout.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// No mount of any version.
    #[error(
        "find cgroups: no hierarchy is mounted at or below {base}; mount one, or name another base folder"
    )]
    None {
        /// Where they were looked for.
        base: PathBuf,
    },
    /// Mounts that cannot be read.
    #[error("find cgroups: {path}: {fault}")]
    Mounts {
        /// The list of mounts.
        path: PathBuf,
        /// What is wrong with it.
        fault: parse::Fault,
    },
}

impl Layout {
    /// Of a list of mounts, those at or below a base folder first.
    ///
    /// # Errors
    /// When a line of the list is no mount, or no hierarchy is mounted anywhere.
    pub fn of_mounts(mountinfo: &str, base: &Path) -> Result<Self, LayoutError> {
        let fault = |fault| LayoutError::Mounts { path: "mountinfo".into(), fault };
        let mut all = parse::mounts(mountinfo).collect::<Result<Vec<_>, _>>().map_err(fault)?;
        // Stable, so that of equals the first mount counts.
        all.sort_by_key(|it| (!Path::new(&*it.point).starts_with(base), it.root != "/"));
        let mut layout = Self { unified: None, v1: Default::default() };
        for Mount { point, options, .. } in &all {
            match options {
                None => drop(layout.unified.get_or_insert_with(|| PathBuf::from(&**point))),
                Some(options) => layout.bind(options, Path::new(&**point)),
            }
        }
        layout.some(base)
    }

    /// Of a folder that is laid out as hierarchies usually are mounted; `entries` are the names in it.
    ///
    /// # Errors
    /// When it holds neither a tree nor a folder of a controller.
    pub fn of_tree<'n>(base: &Path, entries: impl IntoIterator<Item = &'n str>) -> Result<Self, LayoutError> {
        let mut layout = Self { unified: None, v1: Default::default() };
        for name in entries {
            match name {
                "cgroup.controllers" => layout.unified = Some(base.to_owned()),
                "unified" if layout.unified.is_none() => layout.unified = Some(base.join(name)),
                _ => layout.bind(name, &base.join(name)),
            }
        }
        layout.some(base)
    }

    fn bind(&mut self, options: &str, point: &Path) {
        for (controller, place) in Controller::ALL.into_iter().zip(&mut self.v1) {
            if place.is_none() && options.split(',').any(|it| it == controller.v1_name()) {
                *place = Some(point.to_owned());
            }
        }
    }

    fn some(self, base: &Path) -> Result<Self, LayoutError> {
        if self.unified.is_none() && self.v1.iter().all(Option::is_none) {
            return Err(LayoutError::None { base: base.to_owned() });
        }
        Ok(self)
    }

    /// How they are mixed.
    #[must_use]
    pub fn version(&self) -> Version {
        match (&self.unified, self.v1.iter().any(Option::is_some)) {
            (Some(_), true) => Version::Hybrid,
            (Some(_), false) => Version::V2,
            (None, _) => Version::V1,
        }
    }

    /// Where a controller is.
    #[must_use]
    pub fn place(&self, controller: Controller) -> Option<Place<'_>> {
        match &self.v1[controller as usize] {
            Some(point) => Some(Place::V1(point)),
            None => self.unified().map(Place::V2),
        }
    }

    /// The unified tree.
    #[must_use]
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The tree whose folders are the cgroups: the first controller's of v1, else the unified one.
    #[must_use]
    pub fn walked(&self) -> &Path {
        let v1 = self.v1.iter().find_map(Option::as_deref);
        v1.or(self.unified()).unwrap_or(Path::new("/sys/fs/cgroup"))
    }

    /// Every hierarchy once, the walked one first.
    #[must_use]
    pub fn points(&self) -> Vec<&Path> {
        let mut points = vec![self.walked()];
        for point in self.v1.iter().flatten().chain(&self.unified) {
            if !points.contains(&point.as_path()) {
                points.push(point);
            }
        }
        points
    }
}

#[cfg(test)]
mod tests {
    use outrider_testkit::fixture;

    use super::*;

    fn of(file: &str) -> Layout {
        let text = fixture(&format!("collect/valid/mountinfo/{file}.txt"));
        Layout::of_mounts(&text, Path::new("/sys/fs/cgroup")).unwrap()
    }

    #[test]
    fn a_hybrid_host_is_read_as_both() {
        let layout = of("hybrid");
        assert_eq!(layout.version(), Version::Hybrid);
        let memory = Path::new("/sys/fs/cgroup/memory");
        assert_eq!(layout.place(Controller::Memory), Some(Place::V1(memory)));
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(layout.place(Controller::Hugetlb), Some(Place::V2(unified)), "bound to no v1 hierarchy");
        assert_eq!(layout.unified(), Some(unified));
        assert_eq!(layout.walked(), memory);
    }

    #[test]
    fn pure_hosts_are_told() {
        assert_eq!(of("v2").version(), Version::V2);
        assert_eq!(of("v2").place(Controller::Cpu), Some(Place::V2(Path::new("/sys/fs/cgroup"))));
        let v1 = of("v1");
        assert_eq!(v1.version(), Version::V1);
        let both = Some(Place::V1(Path::new("/sys/fs/cgroup/cpu,cpuacct")));
        assert_eq!((v1.place(Controller::Cpu), v1.place(Controller::Cpuacct)), (both, both));
        assert_eq!(v1.place(Controller::Hugetlb), None);
    }

    #[test]
    fn the_mount_below_the_base_counts() {
        let text = "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 c rw\n1 2 0:3 / /host/cgroup rw - cgroup2 c rw\n";
        let layout = Layout::of_mounts(text, Path::new("/host/cgroup")).unwrap();
        assert_eq!(layout.unified(), Some(Path::new("/host/cgroup")));
    }

    #[test]
    fn a_host_without_cgroups_is_told() {
        let error = Layout::of_mounts("", Path::new("/sys/fs/cgroup")).unwrap_err().to_string();
        assert!(error.contains("/sys/fs/cgroup") && error.contains("mount one"), "{error}");
    }

    #[test]
    fn a_folder_of_hierarchies_is_a_layout() {
        let base = Path::new("/b");
        let layout = Layout::of_tree(base, ["cpu,cpuacct", "memory", "unified", "x"]).unwrap();
        assert_eq!(layout.version(), Version::Hybrid);
        assert_eq!(layout.place(Controller::Cpuacct), Some(Place::V1(Path::new("/b/cpu,cpuacct"))));
        assert_eq!(Layout::of_tree(base, ["cgroup.controllers"]).unwrap().version(), Version::V2);
        assert!(Layout::of_tree(base, ["x"]).is_err());
    }
}
