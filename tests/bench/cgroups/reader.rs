//! The process that is measured: it reads the cgroups below a base folder, encodes what they say as lines of InfluxDB, and
//! says what that took, as one line of JSON.
//!
//! The benchmark starts itself again for it, so that the memory is the collector's alone.

use std::path::Path;
use std::time::{Duration, Instant};

use outrider_collect::detect::Layout;
use outrider_collect::encode::influx;
use outrider_collect::model::{Moment, Time};
use outrider_collect::settings::{Settings, Target};
use outrider_collect::{Budget, Collector, Event};

/// Reads for so many seconds at one cycle a second, then as many cycles without a pause.
pub(crate) fn run(base: &str, seconds: u32) {
    let base = Path::new(base);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let names: Vec<String> = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|it| it.file_name().into_string().ok())
        .collect();
    let mounted = base.starts_with("/sys").then(|| Layout::of_mounts(&mounts, base));
    let layout = mounted.unwrap_or_else(|| Layout::of_tree(base, names.iter().map(String::as_str)));
    let settings = Settings::of(Target::Below("/".into()));
    let mut collector =
        Collector::open(settings, layout.expect("cgroups"), Budget::raised()).expect("open the hierarchies");
    let (mut points, mut troubles) = (0_usize, 0_usize);
    let started = Instant::now();
    let mut cycle = |shift: Duration| {
        let moment = Moment { wall: Time::now(), monotonic: started.elapsed() + shift };
        points = 0;
        collector.cycle(moment, &mut |event| match event {
            Event::Sample(sample) => {
                let bodies = influx::encode(std::slice::from_ref(sample), "outrider", usize::MAX);
                points += std::hint::black_box(bodies).iter().map(|it| it.points).sum::<usize>();
            }
            Event::Trouble(_) => troubles += 1,
        });
        collector.count()
    };
    let count = cycle(Duration::ZERO);
    let before = cpu();
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        cycle(Duration::ZERO);
    }
    let paced = cpu() - before;
    let before = cpu();
    for at in 1..=seconds {
        cycle(Duration::from_secs(at.into()));
    }
    let hot = cpu() - before;
    let micros = |cpu: u64| cpu / 1000 / u64::from(seconds) / count.max(1) as u64;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).unwrap_or_default();
    let resident = resident.trim().trim_end_matches(" kB");
    println!(
        r#"{{"cgroups":{count},"points":{points},"troubles":{troubles},"paced_us":{},"hot_us":{},"paced_ms":{},"resident_kib":{resident}}}"#,
        micros(paced),
        micros(hot),
        paced / 1_000_000
    );
}

/// What this thread ran, in nanoseconds.
fn cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|it| it.parse().ok()).unwrap_or_default()
}
