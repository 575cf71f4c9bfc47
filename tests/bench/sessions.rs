//! 100,000 sessions in one export: what one costs at the beginning and at the end, the store of checkpoints, memory.

use std::time::Duration;

use crate::measure::{Table, mib, run_export, size_below};

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let counts = [1_000_u32, 10_000, 100_000];
    let mut ran = Vec::new();
    for count in counts {
        let config = format!(
            r#"[{{"name":"mock","config":{{"organizations":1,"repos":{count},"pull_requests":1,"object_bytes":200}}}}]"#
        );
        ran.push(run_export(&config, "{}", &dir.path().join(count.to_string())));
    }
    let each = |time: fn(&crate::measure::Ran) -> Duration, from: usize| {
        let more = time(&ran[from + 1]).saturating_sub(time(&ran[from]));
        more.as_secs_f64() * 1e6 / f64::from(counts[from + 1] - counts[from])
    };
    let (early, late) = (each(|it| it.cpu, 0), each(|it| it.cpu, 1));
    let (early_wall, late_wall) = (each(|it| it.wall, 0), each(|it| it.wall, 1));
    table.row(
        "a session, from the 1,000th to the 10,000th and from there to the 100,000th",
        format!(
            "{early:.0} and {late:.0} µs of CPU, {:.2} ×; {early_wall:.0} and {late_wall:.0} µs in all, {:.2} ×",
            late / early,
            late_wall / early_wall
        ),
        "within 1.5 ×",
    );
    let store = size_below(&dir.path().join("100000/state"));
    table.row(
        "state after 100,000 sessions, checkpoints and report",
        format!("{:.1} MB", mib(store) * 1.048_576),
        "below 50 MB",
    );
    table.row(
        "peak memory of the action, 100,000 sessions",
        format!("{:.0} MiB", mib(ran[2].action_kib << 10)),
        "below 100 MiB",
    );
}
