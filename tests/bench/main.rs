//! `cargo bench`: the speed and size of the built programs, each with its peer in the same run, as ratios. Machines are
//! shared and noisy: nothing here fails on a number, the table is for a person to read.
//!
//! `cargo bench -- start export` runs only those parts: `start`, `export`, `tools`, `sessions`, `big`, `git`, `idle`,
//! `unchanged`, `upgrade`, `cgroups`, `poller`, `aggregator`, `size`.

#![allow(clippy::disallowed_methods, reason = "a benchmark starts the built programs and their peers")]
#![allow(clippy::print_stdout, reason = "the table is the benchmark's result")]

mod aggregator;
mod big;
mod cgroups;
mod export;
mod git;
mod idle;
mod measure;
mod poller;
mod sessions;
mod start;
#[path = "../acceptance/support.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "what the acceptance tests set up serves here as well")]
mod support;
#[path = "../acceptance/upgrade/system.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "what the acceptance tests set up serves here as well")]
mod system;
mod tools;
mod unchanged;
mod upgrade;
#[path = "../acceptance/upgrade/world.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "what the acceptance tests set up serves here as well")]
mod world;

use measure::Table;

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    if let [part, base, seconds] = &asked[..]
        && part == cgroups::READER
    {
        return cgroups::reader::run(base, seconds.parse().unwrap_or(1));
    }
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|it| it == part);
    let mut table = Table::default();
    if wanted("start") {
        start::run(&mut table);
    }
    if wanted("export") {
        export::run(&mut table);
    }
    if wanted("tools") {
        tools::run(&mut table);
    }
    if wanted("sessions") {
        sessions::run(&mut table);
    }
    if wanted("big") {
        big::run(&mut table);
    }
    if wanted("git") {
        git::run(&mut table);
    }
    if wanted("idle") {
        idle::run(&mut table);
    }
    if wanted("unchanged") {
        unchanged::run(&mut table);
    }
    if wanted("upgrade") {
        upgrade::run(&mut table);
    }
    if wanted("cgroups") {
        cgroups::run(&mut table);
    }
    if wanted("poller") {
        poller::run(&mut table);
    }
    if wanted("aggregator") {
        aggregator::run(&mut table);
    }
    if wanted("size") {
        let size = std::fs::metadata(measure::OUTRIDER).map(|it| it.len()).unwrap_or_default();
        table.row("size of the outrider binary", format!("{:.1} MiB", measure::mib(size)), "below 15 MiB");
    }
    println!("{table}");
}
