//! What a host can be asked: its cgroups, or its processes where it has none.
//!
//! # Invariants
//! - Mounts at or below the base folder count; then the base folder itself, laid out as hierarchies are; then any mount.
//! - That there are only processes is said once, by whoever gets the reason from [`Sampler::open`].

use std::path::Path;

use crate::collector::{Collector, Event};
use crate::descriptors::Budget;
use crate::detect::{Layout, LayoutError};
use crate::discover::DiscoverError;
use crate::model::Moment;
use crate::parse;
use crate::processes::Processes;
use crate::settings::Settings;

/// The one or the other.
#[derive(Debug)]
pub enum Sampler {
    /// Cgroups.
    Cgroups(Box<Collector>),
    /// Processes.
    Processes(Box<Processes>),
}

impl Sampler {
    /// Looks at what the host has. With the processes comes the reason why it is only they.
    ///
    /// # Errors
    /// When there are hierarchies, and one cannot be opened.
    pub fn open(settings: Settings) -> Result<(Self, Option<LayoutError>), DiscoverError> {
        match layout(&settings) {
            Ok(layout) => {
                let collector = Collector::open(settings, layout, Budget::raised())?;
                Ok((Self::Cgroups(Box::new(collector)), None))
            }
            Err(reason) => Ok((Self::Processes(Box::new(Processes::new(&settings))), Some(reason))),
        }
    }

    /// Looks at all that is due.
    pub fn cycle(&mut self, moment: Moment, sink: &mut dyn FnMut(Event<'_>)) {
        match self {
            Self::Cgroups(collector) => collector.cycle(moment, sink),
            Self::Processes(processes) => processes.cycle(moment, sink),
        }
    }
}

fn layout(settings: &Settings) -> Result<Layout, LayoutError> {
    let base = settings.cgroup_path.as_path();
    let mounts = std::fs::read_to_string(settings.proc_path.join("self/mountinfo")).unwrap_or_default();
    let below = |point: &str| Path::new(point).starts_with(base);
    if parse::mounts(&mounts).flatten().any(|it| below(&it.point)) {
        return Layout::of_mounts(&mounts, base);
    }
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let names: Vec<_> = entries.filter_map(|it| it.file_name().into_string().ok()).collect();
    Layout::of_tree(base, names.iter().map(String::as_str)).or_else(|_| Layout::of_mounts(&mounts, base))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Target;

    fn open(proc: &Path, base: &Path) -> (Sampler, Option<LayoutError>) {
        let mut settings = Settings::of(Target::Below("/".into()));
        settings.proc_path = proc.into();
        settings.cgroup_path = base.into();
        Sampler::open(settings).unwrap()
    }

    #[test]
    fn a_host_without_cgroups_gives_its_processes_and_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let (sampler, reason) = open(dir.path(), dir.path());
        assert!(matches!(sampler, Sampler::Processes(_)));
        assert!(reason.unwrap().to_string().contains("no hierarchy is mounted"));
    }

    #[test]
    fn a_folder_that_is_laid_out_as_hierarchies_is_taken() {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/collect/valid/cgroup/hybrid");
        let (sampler, reason) = open(Path::new("/nowhere"), &base);
        assert!(matches!(sampler, Sampler::Cgroups(_)) && reason.is_none());
    }
}
