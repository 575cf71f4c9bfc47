//! For a host without cgroups: its processes, each a source of its own.
//!
//! # Invariants
//! - A process is (number, start): a number that is used again is another source.
//! - Of more processes than are wanted the largest are measured, which is told once: their number goes up and down.
//! - Threads of the kernel have no memory and are left out.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::catalogue::{PROCESS_CPU_USAGE, PROCESS_CPU_USED, PROCESS_RSS, PROCESS_STARTED, PROCESS_THREADS};
use crate::collector::{Event, Trouble};
use crate::model::{Moment, Source, Tags};
use crate::parse;
use crate::points::{State, Taker};
use crate::reading::Tools;
use crate::settings::Settings;

const TICK_NANOS: u64 = 1_000_000_000 / parse::TICKS;
/// As many as there are containers on a large host.
const MOST: usize = 200;

/// Processes, from cycle to cycle.
#[derive(Debug)]
pub struct Processes {
    proc: PathBuf,
    tags: Vec<(String, String)>,
    tracked: HashMap<(u32, u64), (State, Arc<Source>)>,
    page: u64,
    tools: Tools,
    told: bool,
    many_told: bool,
}

struct Seen {
    pid: u32,
    name: Box<str>,
    cpu: u64,
    threads: u64,
    started: u64,
    pages: u64,
}

impl Processes {
    /// Of the folder that the settings name.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            proc: settings.proc_path.clone(),
            tags: settings.tags.clone(),
            tracked: HashMap::new(),
            page: page_size(),
            tools: Tools::new(),
            told: false,
            many_told: false,
        }
    }

    /// Looks at all processes.
    pub fn cycle(&mut self, moment: Moment, sink: &mut dyn FnMut(Event<'_>)) {
        let mut seen = match self.seen() {
            Ok(seen) => seen,
            Err(trouble) => {
                if !std::mem::replace(&mut self.told, true) {
                    sink(Event::Trouble(trouble));
                }
                return;
            }
        };
        self.told = false;
        let found = seen.len();
        if found > MOST && !std::mem::replace(&mut self.many_told, true) {
            sink(Event::Trouble(Trouble::ManyProcesses { found, most: MOST }));
        }
        seen.sort_by_key(|it| (std::cmp::Reverse(it.pages), it.pid));
        seen.truncate(MOST);
        let boot = std::fs::read_to_string(self.proc.join("stat")).ok();
        let boot = boot.and_then(|text| parse::boot_time(&text).ok());
        let mut before = std::mem::take(&mut self.tracked);
        for process in seen {
            let key = (process.pid, process.started);
            let (mut state, source) = before.remove(&key).unwrap_or_else(|| self.new_source(&process));
            self.tools.begin(&source, moment);
            let Tools { labels, sample, .. } = &mut self.tools;
            let mut taker = Taker { state: &mut state, labels, moment, points: &mut sample.points };
            let nanos = process.cpu.saturating_mul(TICK_NANOS);
            let grown = taker.count(&PROCESS_CPU_USAGE, 0, Tags::default(), nanos);
            taker.rate(&PROCESS_CPU_USED, grown.rate.map(|it| it / 1e6));
            taker.gauge(&PROCESS_RSS, Some(process.pages.saturating_mul(self.page)));
            taker.gauge(&PROCESS_THREADS, Some(process.threads));
            taker.gauge(&PROCESS_STARTED, boot.map(|it| it.saturating_add(process.started / parse::TICKS)));
            sink(Event::Sample(&self.tools.sample));
            self.tracked.insert(key, (state, source));
        }
    }

    fn new_source(&self, process: &Seen) -> (State, Arc<Source>) {
        let own =
            [("pid".to_owned(), process.pid.to_string()), ("process".to_owned(), process.name.to_string())];
        let tags = Tags::new(own.into_iter().chain(self.tags.iter().cloned()));
        let key = format!("{}#{}", process.pid, process.started).into();
        (State::default(), Arc::new(Source { key, tags }))
    }

    /// One that ends while it is looked at is none.
    fn seen(&self) -> Result<Vec<Seen>, Trouble> {
        let all = std::fs::read_dir(&self.proc)
            .map_err(|error| Trouble::Unread { path: self.proc.clone(), error })?;
        let pids = all.flatten().filter_map(|it| it.file_name().to_str()?.parse::<u32>().ok());
        let read = |pid: u32| {
            let bytes = std::fs::read(self.proc.join(pid.to_string()).join("stat")).ok()?;
            // A name is bytes of any kind.
            let text = String::from_utf8_lossy(&bytes);
            let stat = parse::process_stat(&text).ok()?;
            let cpu = stat.user.saturating_add(stat.system);
            let (name, threads, started, pages) = (stat.name.into(), stat.threads, stat.started, stat.rss);
            Some(Seen { pid, name, cpu, threads, started, pages })
        };
        Ok(pids.filter_map(read).filter(|it| it.pages > 0).collect())
    }
}

/// What the kernel tells each program as it starts: pairs of machine words, one of them the size of a page.
fn page_size() -> u64 {
    const PAGE_SIZE: u64 = 6;
    const USUAL: u64 = 4096;
    const WORD: usize = size_of::<usize>();
    let pairs = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let word = |bytes: &[u8]| bytes.try_into().map(|it| usize::from_ne_bytes(it) as u64).unwrap_or_default();
    let size = pairs.chunks_exact(2 * WORD).find(|pair| word(&pair[..WORD]) == PAGE_SIZE);
    size.map_or(USUAL, |pair| word(&pair[WORD..]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::model::{Number, Time};
    use crate::settings::Target;

    fn cycle(processes: &mut Processes, seconds: u64) -> (Vec<(String, Option<f64>)>, Vec<String>) {
        let (mut samples, mut troubles) = (Vec::new(), Vec::new());
        let moment = Moment { wall: Time::from_unix_nanos(0), monotonic: Duration::from_secs(seconds) };
        processes.cycle(moment, &mut |event| match event {
            Event::Sample(sample) => {
                let used = sample.number(&PROCESS_CPU_USED).map(Number::as_f64);
                samples.push((sample.source.key.to_string(), used));
            }
            Event::Trouble(trouble) => troubles.push(trouble.to_string()),
        });
        (samples, troubles)
    }

    fn write_stat(proc: &Path, pid: u64, (cpu, started, pages): (u64, u64, u64)) {
        let folder = proc.join(pid.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        let text =
            format!("{pid} (x y) S 1 7 7 0 -1 0 0 0 0 0 {cpu} 0 0 0 20 0 3 0 {started} 1 {pages} 9 0\n");
        std::fs::write(folder.join("stat"), text).unwrap();
    }

    fn of(proc: &Path) -> Processes {
        let mut settings = Settings::of(Target::Below("/".into()));
        settings.proc_path = proc.into();
        Processes::new(&settings)
    }

    #[test]
    fn processes_are_measured_and_told_apart_by_their_start() {
        let dir = tempfile::tempdir().unwrap();
        let stat = |cpu, started| write_stat(dir.path(), 7, (cpu, started, 363));
        stat(100, 50);
        std::fs::create_dir(dir.path().join("8")).unwrap();
        let mut processes = of(dir.path());
        assert_eq!(cycle(&mut processes, 1).0, [("7#50".to_owned(), None)]);
        stat(150, 50);
        assert_eq!(cycle(&mut processes, 2).0, [("7#50".to_owned(), Some(500.0))]);
        stat(900, 51);
        assert_eq!(cycle(&mut processes, 3).0, [("7#51".to_owned(), None)], "the number is used again");
    }

    #[test]
    fn that_some_processes_are_left_out_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        for pid in 1..=200 {
            write_stat(dir.path(), pid, (0, 1, 1000 - pid));
        }
        let mut processes = of(dir.path());
        let (samples, troubles) = cycle(&mut processes, 1);
        assert_eq!((samples.len(), troubles), (200, Vec::new()));
        write_stat(dir.path(), 201, (0, 1, 1000));
        let (samples, troubles) = cycle(&mut processes, 2);
        assert_eq!(troubles, ["201 processes are there, and the 200 largest are measured: 1 are left out"]);
        assert_eq!((samples.len(), &*samples[0].0, &*samples[199].0), (200, "201#1", "199#1"));
        std::fs::remove_dir_all(dir.path().join("7")).unwrap();
        assert_eq!(cycle(&mut processes, 3).0.len(), 200);
        write_stat(dir.path(), 7, (0, 1, 1000));
        let (samples, troubles) = cycle(&mut processes, 4);
        assert_eq!((samples.len(), troubles), (200, Vec::new()), "it was told");
    }

    #[test]
    fn this_process_is_among_those_of_this_host() {
        let mut processes = Processes::new(&Settings::of(Target::Below("/".into())));
        assert!(!cycle(&mut processes, 1).0.is_empty());
        assert!(page_size().is_power_of_two());
    }
}
