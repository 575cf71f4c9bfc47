//! One object of 100 MB: what the processes on its way take in memory.

use crate::measure::{Table, mib, run_export};

const OBJECT: u64 = 100_000_000;

pub(crate) fn run(table: &mut Table) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let config = format!(
        r#"[{{"name":"mock","config":{{"organizations":1,"users":1,"repos":0,"object_bytes":{OBJECT}}}}}]"#
    );
    let wide = r#"{"limits":{"line_bytes":134217728,"object_bytes":134217728}}"#;
    let strict = r#"{"limits":{"line_bytes":134217728,"object_bytes":16777216}}"#;
    for (name, agent) in [("taken", wide), ("refused, too large for the agent", strict)] {
        let ran = run_export(&config, agent, &dir.path().join(name));
        let times = |kib: u64| mib(kib << 10) / mib(OBJECT);
        table.row(
            &format!("an object of 100 MB, {name}: peak memory of action and integration"),
            format!("{:.2} and {:.2} × the object", times(ran.action_kib), times(ran.integration_kib)),
            "at most 3 ×",
        );
    }
}
