//! One cgroup in one cycle: each file that is due is read, and what it says becomes points.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::AtFlags;

use crate::catalogue::{RUNNING, STARTED};
use crate::collector::{Event, Trouble};
use crate::descriptors::{self, Budget, Unread};
use crate::detect::Layout;
use crate::discover::Found;
use crate::files::{self, At, Group, Spec, What, due};
use crate::labels::Labels;
use crate::model::{Moment, Number, Sample, Source, Tags, Time};
use crate::parse;
use crate::points::{State, Taker};
use crate::settings::{Intervals, Settings, Target};
use crate::surroundings;

/// A file of a cgroup.
#[derive(Debug, Default)]
pub(crate) struct File {
    pub(crate) kept: Option<OwnedFd>,
    /// It is not looked at until limits are due.
    resting: bool,
    told: bool,
}

impl File {
    /// Tells what is wrong with it the first time, and leaves it alone for a while.
    fn rests(&mut self, trouble: Trouble, sink: &mut dyn FnMut(Event<'_>)) {
        self.resting = true;
        if !std::mem::replace(&mut self.told, true) {
            sink(Event::Trouble(trouble));
        }
    }
}

/// A cgroup.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) found: Found,
    pub(crate) source: Arc<Source>,
    pub(crate) state: State,
    pub(crate) files: Vec<File>,
    pub(crate) last: Option<Duration>,
    pub(crate) surroundings_told: bool,
    pub(crate) is_container: bool,
}

/// What all cgroups use in turn.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) labels: Labels,
    pub(crate) sample: Sample,
    buffer: Vec<u8>,
    path: String,
}

impl Tools {
    pub(crate) fn new() -> Self {
        let source = Arc::new(Source { key: "".into(), tags: Tags::default() });
        let sample = Sample { source, time: Time::from_unix_nanos(0), points: Vec::new() };
        Self { labels: Labels::default(), sample, buffer: vec![0; 16 << 10], path: String::new() }
    }

    pub(crate) fn begin(&mut self, source: &Arc<Source>, moment: Moment) -> &mut Sample {
        self.sample.source = Arc::clone(source);
        self.sample.time = moment.wall;
        self.sample.points.clear();
        &mut self.sample
    }
}

/// A cycle, as one cgroup sees it.
#[derive(Debug)]
pub(crate) struct Reading<'c> {
    pub(crate) settings: &'c Settings,
    pub(crate) specs: &'c [Spec],
    pub(crate) roots: &'c [Arc<OwnedFd>],
    pub(crate) walked: &'c OwnedFd,
    pub(crate) layout: &'c Layout,
    pub(crate) keep: Group,
    pub(crate) budget: &'c mut Budget,
    pub(crate) tools: &'c mut Tools,
    pub(crate) moment: Moment,
}

/// Which groups are due of a cgroup in a cycle.
#[derive(Debug, Clone, Copy)]
struct Due {
    pressure: bool,
    details: bool,
    limits: bool,
    network: bool,
}

impl Due {
    fn of(tracked: &Tracked, intervals: &Intervals, now: Duration) -> Self {
        // Inodes that follow each other are spread over the interval by the golden ratio.
        let phase = tracked.found.inode.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        let is = |interval| due(interval, phase, tracked.last, now);
        Self {
            pressure: is(files::interval(intervals, Group::Pressure)),
            details: is(files::interval(intervals, Group::Details)),
            limits: is(files::interval(intervals, Group::Limits)),
            network: is(Duration::from_secs(intervals.network_s.into())),
        }
    }

    fn is(self, group: Group) -> bool {
        match group {
            Group::Each => true,
            Group::Pressure => self.pressure,
            Group::Details => self.details,
            Group::Limits => self.limits,
        }
    }
}

impl Reading<'_> {
    /// Reads what is due and hands out the sample; says whether the cgroup is still there.
    pub(crate) fn read(&mut self, tracked: &mut Tracked, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let due = Due::of(tracked, &self.settings.intervals, self.moment.monotonic);
        self.tools.begin(&tracked.source, self.moment);
        if tracked.files.iter().all(|it| it.kept.is_none()) && !self.is_there(&tracked.found) {
            return false;
        }
        self.take(tracked).push(&RUNNING, Number::Flag(true));
        for at in 0..self.specs.len() {
            let group = self.specs[at].group;
            let rests = !due.limits && (tracked.files[at].resting || self.is_still(at, tracked));
            if due.is(group) && !rests && !self.file(tracked, at, sink) {
                return false;
            }
        }
        if due.network || due.limits {
            self.surroundings(tracked, due, sink);
        }
        tracked.last = Some(self.moment.monotonic);
        sink(Event::Sample(&self.tools.sample));
        true
    }

    /// Whether a file cannot say anything new: v1's counts of throttling, where there is no quota.
    fn is_still(&self, at: usize, tracked: &Tracked) -> bool {
        let Spec { at, what, .. } = &self.specs[at];
        *what == What::CpuStat && matches!(at, At::V1(_)) && tracked.state.is_unlimited()
    }

    fn take<'t>(&'t mut self, tracked: &'t mut Tracked) -> Taker<'t> {
        let Tools { labels, sample, .. } = &mut *self.tools;
        Taker { state: &mut tracked.state, labels, moment: self.moment, points: &mut sample.points }
    }

    fn is_there(&self, found: &Found) -> bool {
        let stat = rustix::fs::statat(self.walked, relative(&found.path), AtFlags::empty());
        stat.is_ok_and(|it| it.st_ino == found.inode)
    }

    /// Reads one file; says whether the cgroup is still there.
    fn file(&mut self, tracked: &mut Tracked, at: usize, sink: &mut dyn FnMut(Event<'_>)) -> bool {
        let spec = &self.specs[at];
        let Tools { labels, sample, buffer, path } = &mut *self.tools;
        let file = &mut tracked.files[at];
        if file.kept.is_none() {
            path.clear();
            path.push_str(relative(&tracked.found.path));
            path.push('/');
            path.push_str(&spec.name);
        }
        let keep = spec.group <= self.keep;
        let text = descriptors::read(&mut file.kept, keep, (&self.roots[at], path), self.budget, buffer);
        let text = match text {
            Ok(text) => text,
            Err(unread) => return self.unread(tracked, at, unread, sink),
        };
        let mut taker =
            Taker { state: &mut tracked.state, labels, moment: self.moment, points: &mut sample.points };
        match taker.file(spec.what, spec.size.as_deref(), text) {
            Ok(()) => (file.resting, file.told) = (false, false),
            Err(fault) => {
                let path = self.whole(at, &tracked.found);
                file.rests(Trouble::Broken { path, fault }, sink);
            }
        }
        true
    }

    fn unread(
        &mut self,
        tracked: &mut Tracked,
        at: usize,
        unread: Unread,
        sink: &mut dyn FnMut(Event<'_>),
    ) -> bool {
        match unread {
            Unread::Gone => return false,
            Unread::Missing if !self.specs[at].needed || !self.is_expected(at, &tracked.found) => {
                tracked.files[at].resting = true;
            }
            unread => {
                let trouble = self.trouble(at, &tracked.found, unread);
                tracked.files[at].rests(trouble, sink);
            }
        }
        true
    }

    /// Whether a file that is not there should be: a cgroup need not be in every hierarchy of v1, and in the unified tree
    /// its parent says which controllers it has.
    fn is_expected(&self, at: usize, found: &Found) -> bool {
        let (root, path) = (&*self.roots[at], relative(&found.path));
        let Some(controller) = self.specs[at].at.unified_controller() else {
            return rustix::fs::statat(root, path, AtFlags::empty()).is_ok();
        };
        let point = files::root(self.layout, self.specs[at].at).unwrap_or(self.layout.walked());
        let text = std::fs::read_to_string(point.join(path).join("cgroup.controllers"));
        text.is_ok_and(|text| parse::controllers(&text).any(|it| it == controller))
    }

    fn trouble(&mut self, at: usize, found: &Found, unread: Unread) -> Trouble {
        let path = self.whole(at, found);
        let error = match unread {
            Unread::Binary(fault) => return Trouble::Broken { path, fault },
            Unread::Full => {
                self.budget.exhaust();
                rustix::io::Errno::MFILE
            }
            Unread::Missing | Unread::Gone => rustix::io::Errno::NOENT,
            Unread::Refused(errno) => errno,
        };
        Trouble::Unread { path, error: error.into() }
    }

    fn whole(&self, at: usize, found: &Found) -> PathBuf {
        let root = files::root(self.layout, self.specs[at].at).unwrap_or(self.layout.walked());
        root.join(relative(&found.path)).join(&*self.specs[at].name)
    }

    /// What is not in the cgroup's files: its namespace's network, its start, the disk.
    fn surroundings(&mut self, tracked: &mut Tracked, due: Due, sink: &mut dyn FnMut(Event<'_>)) {
        let proc = &self.settings.proc_path;
        let mut trouble = None;
        let one = !matches!(self.settings.target, Target::Below(_));
        let mount = self.settings.mount_path.as_deref().filter(|_| one);
        let folder = self.layout.walked().join(relative(&tracked.found.path));
        let pid = tracked.is_container.then(|| surroundings::first_process(&folder)).flatten();
        let mut taker = self.take(tracked);
        if let Some(path) = mount {
            trouble = surroundings::disk(path, &mut taker).err();
        }
        if let Some(pid) = pid {
            if due.limits {
                taker.gauge(&STARTED, surroundings::started(proc, pid));
            }
            let told = due.network.then(|| surroundings::network(proc, pid, &mut taker));
            trouble = trouble.or(told.and_then(Result::err));
        }
        if let Some(trouble) = trouble
            && !std::mem::replace(&mut tracked.surroundings_told, true)
        {
            sink(Event::Trouble(trouble));
        }
    }
}

/// Without the slash before it.
fn relative(path: &str) -> &str {
    match path.trim_start_matches('/') {
        "" => ".",
        path => path,
    }
}
