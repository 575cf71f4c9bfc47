//! One look at all cgroups of a target, again and again: finds them, reads what is due of each, hands out samples.
//!
//! # Invariants
//! - It has no thread and no clock: whoever calls [`Collector::cycle`] says when it is.
//! - A cgroup that went ends with one sample that says `running` is false. What comes back has another key.
//! - Of more cgroups than are wanted, those that are measured go on being measured; no sample says that others went.
//! - A file that is missing or broken is told once, with its path, and looked at again when limits are due.
//! - In its steady state a cycle allocates nothing: the sample that is handed out is the same one each time.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags};

use crate::catalogue::RUNNING;
use crate::descriptors::Budget;
use crate::detect::{Controller, Layout, Place};
use crate::discover::{self, DiscoverError, Found, Watch};
use crate::files::{self, Group, Spec};
use crate::identify;
use crate::model::{Moment, Number, Sample, Source, Tags};
use crate::parse::Fault;
use crate::points::{State, Taker};
use crate::reading::{File, Reading, Tools, Tracked};
use crate::settings::{Settings, Target};

/// With how many scans the sizes of huge pages are looked for again, where no cgroup has some.
const SIZES_EVERY: u32 = 64;

/// What a cycle hands out.
#[derive(Debug)]
pub enum Event<'e> {
    /// What was measured.
    Sample(&'e Sample),
    /// What could not be, said once.
    Trouble(Trouble),
}

/// What could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A file that was not read.
    #[error("read {path}: {error}")]
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A file that holds something else.
    #[error("read {path}: {fault}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A walk that did not begin.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// A target that is not there.
    #[error("find {0:?} below {1}: no such cgroup; it is looked for again")]
    Absent(Target, PathBuf),
    /// More cgroups than are wanted.
    #[error("{found} cgroups are there, and max_cgroups is {most}: {} are left out", found - most)]
    Many {
        /// So many are there.
        found: usize,
        /// So many are measured.
        most: usize,
    },
    /// More processes than are measured.
    #[error("{found} processes are there, and the {most} largest are measured: {} are left out", found - most)]
    ManyProcesses {
        /// So many are there.
        found: usize,
        /// So many are measured.
        most: usize,
    },
}

/// Cgroups of a target, from cycle to cycle.
#[derive(Debug)]
pub struct Collector {
    settings: Settings,
    layout: Layout,
    specs: Vec<Spec>,
    /// The folder of each file's hierarchy.
    roots: Vec<Arc<OwnedFd>>,
    walked: Arc<OwnedFd>,
    tracked: Vec<Tracked>,
    /// What the bound left out the last time, sorted.
    left_out: Vec<Found>,
    budget: Budget,
    watch: Option<Watch>,
    last_scan: Option<Duration>,
    scanned: bool,
    absent: bool,
    /// What stands for a container that was named, while it is not there.
    stand_in: Option<Arc<Source>>,
    many: bool,
    sizes_known: bool,
    /// How often that was looked for.
    sizes_looks: u32,
    /// The slowest files that keep their descriptors.
    keep: Group,
    tools: Tools,
}

impl Collector {
    /// Opens the hierarchies.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(settings: Settings, layout: Layout, budget: Budget) -> Result<Self, DiscoverError> {
        let walked = Arc::new(folder(layout.walked())?);
        let stand_in = match &settings.target {
            Target::Container(id) => {
                let tags = std::iter::once(("container".to_owned(), id.clone()));
                let tags = Tags::new(tags.chain(settings.tags.iter().cloned()));
                Some(Arc::new(Source { key: format!("container:{id}").into(), tags }))
            }
            Target::Path(_) | Target::Below(_) => None,
        };
        let mut collector = Self {
            settings,
            specs: Vec::new(),
            roots: Vec::new(),
            walked,
            tracked: Vec::new(),
            left_out: Vec::new(),
            budget,
            watch: Watch::new(),
            last_scan: None,
            scanned: false,
            absent: false,
            stand_in,
            many: false,
            sizes_known: false,
            sizes_looks: 0,
            keep: Group::Each,
            tools: Tools::new(),
            layout,
        };
        collector.take_specs(&[])?;
        Ok(collector)
    }

    /// How many cgroups are measured now.
    #[must_use]
    pub fn count(&self) -> usize {
        self.tracked.len()
    }

    /// What is tracked keeps its files: sizes of huge pages come after all others.
    fn take_specs(&mut self, sizes: &[String]) -> Result<(), DiscoverError> {
        let specs = files::specs(&self.layout, sizes.iter().map(String::as_str));
        let mut opened: HashMap<PathBuf, Arc<OwnedFd>> = HashMap::new();
        let mut roots = Vec::with_capacity(specs.len());
        for spec in &specs {
            let Some(root) = files::root(&self.layout, spec.at) else { continue };
            if !opened.contains_key(root) {
                opened.insert(root.to_owned(), Arc::new(folder(root)?));
            }
            roots.push(Arc::clone(&opened[root]));
        }
        for tracked in &mut self.tracked {
            tracked.files.resize_with(specs.len(), File::default);
        }
        (self.specs, self.roots) = (specs, roots);
        Ok(())
    }

    /// Looks at all that is due. Where a container was named and is not there, each cycle says so by a sample.
    pub fn cycle(&mut self, moment: Moment, sink: &mut dyn FnMut(Event<'_>)) {
        let was_empty = self.tracked.is_empty();
        if self.is_scan_due(moment.monotonic) {
            self.scan(moment, sink);
        }
        let mut at = 0;
        while at < self.tracked.len() {
            let tracked = &mut self.tracked[at];
            let mut reading = Reading {
                settings: &self.settings,
                specs: &self.specs,
                roots: &self.roots,
                walked: &self.walked,
                layout: &self.layout,
                keep: self.keep,
                budget: &mut self.budget,
                tools: &mut self.tools,
                moment,
            };
            if reading.read(tracked, sink) {
                at += 1;
            } else {
                let gone = self.tracked.remove(at);
                self.end(gone, moment, sink);
                self.last_scan = None;
            }
        }
        // In the cycle in which it goes, its own last sample says so.
        if was_empty
            && self.tracked.is_empty()
            && let Some(source) = self.stand_in.clone()
        {
            self.not_running(&source, State::since(None), moment, sink);
        }
    }

    fn is_scan_due(&mut self, now: Duration) -> bool {
        let changed = self.watch.as_mut().is_some_and(Watch::changed);
        let Some(last) = self.last_scan else { return true };
        let watched = self.watch.as_ref().is_some_and(Watch::is_whole);
        // The kernel's word may still be missed where a folder came before its watch.
        let interval =
            if watched { self.settings.rescan_s.saturating_mul(6) } else { self.settings.rescan_s };
        changed || now.saturating_sub(last) >= Duration::from_secs(interval.into())
    }

    fn scan(&mut self, moment: Moment, sink: &mut dyn FnMut(Event<'_>)) {
        let first = !std::mem::replace(&mut self.scanned, true);
        self.last_scan = Some(moment.monotonic);
        let watch = &mut self.watch;
        let found = discover::find(&self.layout, &self.settings.target, |folder| {
            if let Some(watch) = watch {
                watch.add(folder);
            }
        });
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if !std::mem::replace(&mut self.absent, true) {
                    sink(Event::Trouble(error.into()));
                }
                return;
            }
        };
        self.say_what_is_odd(&found, sink);
        self.learn_sizes(&found);
        // Sorted, as what is tracked is.
        let (stay, gone): (Vec<_>, Vec<_>) =
            self.tracked.drain(..).partition(|it| found.binary_search(&it.found).is_ok());
        self.tracked = stay;
        for tracked in gone {
            self.end(tracked, moment, sink);
        }
        self.take_in(found, (!first).then_some(moment));
        let kept = self.tracked.iter().flat_map(|it| &it.files).filter(|it| it.kept.is_some()).count();
        self.keep = files::kept(&self.specs, self.tracked.len(), self.budget.left() + kept as u64);
    }

    /// Up to the bound, what is measured already comes first: a newcomer ends no series, whatever its path. What is left
    /// out is still there, so no sample says otherwise; and it is older than the look that finds room for it.
    fn take_in(&mut self, found: Vec<Found>, since: Option<Moment>) {
        let most = self.settings.max_cgroups;
        for dropped in self.tracked.split_off(most.min(self.tracked.len())) {
            self.give_back(&dropped);
        }
        let is_new = |found: &Found| self.tracked.binary_search_by(|it| it.found.cmp(found)).is_err();
        let mut new: Vec<_> = found.into_iter().filter(is_new).collect();
        let left_out = new.split_off((most - self.tracked.len()).min(new.len()));
        for found in new {
            let since = since.filter(|_| self.left_out.binary_search(&found).is_err());
            let tracked = self.tracked(found, since);
            self.tracked.push(tracked);
        }
        self.left_out = left_out;
        self.tracked.sort_by(|one, other| one.found.cmp(&other.found));
    }

    fn say_what_is_odd(&mut self, found: &[Found], sink: &mut dyn FnMut(Event<'_>)) {
        let (count, most) = (found.len(), self.settings.max_cgroups);
        let absent = found.is_empty() && !matches!(self.settings.target, Target::Below(_));
        if absent && !std::mem::replace(&mut self.absent, true) {
            let root = self.layout.walked().to_owned();
            sink(Event::Trouble(Trouble::Absent(self.settings.target.clone(), root)));
        }
        self.absent &= found.is_empty();
        let many = count > most;
        if many && !self.many {
            sink(Event::Trouble(Trouble::Many { found: count, most }));
        }
        self.many = many;
    }

    /// The first cgroup that has files of huge pages says which sizes there are. Many have none, since their parents do not
    /// give them the controller; so nothing is known until one has some.
    fn learn_sizes(&mut self, found: &[Found]) {
        let place = self.layout.place(Controller::Hugetlb);
        let Some(Place::V1(point) | Place::V2(point)) = place.filter(|_| !self.sizes_known) else { return };
        // A host where none has them is looked through again and again, but not with every scan.
        self.sizes_looks = self.sizes_looks.saturating_add(1);
        if !self.sizes_looks.is_power_of_two() && !self.sizes_looks.is_multiple_of(SIZES_EVERY) {
            return;
        }
        let of = |it: &Found| discover::huge_sizes(&point.join(it.path.trim_start_matches('/')));
        let Some(sizes) = found.iter().map(of).find(|it| !it.is_empty()) else { return };
        self.sizes_known = self.take_specs(&sizes).is_ok();
    }

    fn tracked(&self, found: Found, since: Option<Moment>) -> Tracked {
        let container = identify::container(&found.path);
        let mut tags: Vec<(String, String)> = vec![("cgroup".into(), found.path.clone())];
        if let Some(container) = &container {
            tags.push(("container".into(), container.id.to_owned()));
            tags.push(("runtime".into(), container.runtime.to_owned()));
            tags.extend(container.pod.as_ref().map(|pod| ("pod".to_owned(), pod.clone().into_owned())));
        }
        tags.extend(self.settings.tags.iter().cloned());
        let key = format!("{}#{}", found.path, found.inode).into();
        let is_container = container.is_some() || matches!(self.settings.target, Target::Container(_));
        let files = self.specs.iter().map(|_| File::default()).collect();
        // What came while we watched counts from about now.
        let state = State::since(since.map(|it| it.wall));
        let source = Arc::new(Source { key, tags: Tags::new(tags) });
        Tracked { found, source, state, files, last: None, surroundings_told: false, is_container }
    }

    fn give_back(&mut self, tracked: &Tracked) {
        self.budget.give_back(tracked.files.iter().filter(|it| it.kept.is_some()).count() as u64);
    }

    fn end(&mut self, gone: Tracked, moment: Moment, sink: &mut dyn FnMut(Event<'_>)) {
        self.give_back(&gone);
        self.not_running(&gone.source, gone.state, moment, sink);
    }

    fn not_running(
        &mut self,
        source: &Arc<Source>,
        mut state: State,
        moment: Moment,
        sink: &mut dyn FnMut(Event<'_>),
    ) {
        self.tools.begin(source, moment);
        let Tools { labels, sample, .. } = &mut self.tools;
        let mut taker = Taker { state: &mut state, labels, moment, points: &mut sample.points };
        taker.push(&RUNNING, Number::Flag(false));
        sink(Event::Sample(&self.tools.sample));
    }
}

fn folder(path: &std::path::Path) -> Result<OwnedFd, DiscoverError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(CWD, path, flags, Mode::empty());
    opened.map_err(|error| DiscoverError { path: path.to_owned(), error: error.into() })
}

#[cfg(test)]
mod tests;
