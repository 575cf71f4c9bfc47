//! Of processes: `/proc/PID/stat`, `/proc/PID/net/dev`, and when the machine started.

use super::{Fault, digits, lines};

/// `/proc` counts time in hundredths of a second.
pub const TICKS: u64 = 100;

/// The counters of a network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's names")]
pub struct Interface<'t> {
    pub name: &'t str,
    pub received_bytes: u64,
    pub received_packets: u64,
    pub received_errors: u64,
    pub received_dropped: u64,
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub sent_errors: u64,
    pub sent_dropped: u64,
}

/// The interfaces of `/proc/PID/net/dev`, below its two lines of headings.
///
/// # Errors
/// When the headings are missing; in each line of another form.
pub fn net_dev(text: &str) -> impl Iterator<Item = Result<Interface<'_>, Fault>> {
    const EXPECTED: &str = "an interface and 16 numbers";
    let missing = text.is_empty().then_some(Err(Fault::Empty { expected: "two lines of headings" }));
    let all = lines(text).filter_map(|line| match line {
        Ok((at @ ..=2, line)) => (!line.contains('|')).then(|| Err(Fault::line(at, "a heading", line))),
        Ok((at, line)) => Some(interface(line).ok_or_else(|| Fault::line(at, EXPECTED, line))),
        Err(fault) => Some(Err(fault)),
    });
    missing.into_iter().chain(all)
}

fn interface(line: &str) -> Option<Interface<'_>> {
    // An alias has a colon in its name.
    let (name, rest) = line.rsplit_once(':')?;
    let mut numbers = [0; 16];
    let mut words = rest.split_ascii_whitespace();
    for number in &mut numbers {
        *number = digits(words.next()?)?;
    }
    let [received_bytes, received_packets, received_errors, received_dropped, ..] = numbers;
    Some(Interface {
        name: name.trim_start(),
        received_bytes,
        received_packets,
        received_errors,
        received_dropped,
        sent_bytes: numbers[8],
        sent_packets: numbers[9],
        sent_errors: numbers[10],
        sent_dropped: numbers[11],
    })
}

/// What `/proc/PID/stat` says, in the kernel's units: ticks of a hundredth of a second, and pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat<'t> {
    /// The program's name, up to 15 bytes of it.
    pub name: &'t str,
    /// `Z` for one that has ended.
    pub state: char,
    /// Ticks in user mode.
    pub user: u64,
    /// Ticks in the kernel.
    pub system: u64,
    /// Threads.
    pub threads: u64,
    /// Ticks from the machine's start to the process's.
    pub started: u64,
    /// Resident pages.
    pub rss: u64,
}

/// `/proc/PID/stat`. The name may hold anything, parentheses and spaces as well.
///
/// # Errors
/// When it has another form.
pub fn process_stat(text: &str) -> Result<ProcessStat<'_>, Fault> {
    const EXPECTED: &str = "the fields of a process";
    // A name may hold line ends, so the text's own is the last one.
    let read = || {
        let text = text.strip_suffix('\n')?;
        let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
        let mut words = rest.split_ascii_whitespace();
        let state = words.next()?.chars().next()?;
        let mut words = words.skip(10);
        let (user, system) = (digits(words.next()?)?, digits(words.next()?)?);
        let threads = digits(words.nth(4)?)?;
        let started = digits(words.nth(1)?)?;
        let rss = digits(words.nth(1)?)?;
        words.next()?;
        Some(ProcessStat { name, state, user, system, threads, started, rss })
    };
    read().ok_or_else(|| Fault::line(1, EXPECTED, text))
}

/// Seconds of 1970 at which the machine started, of `/proc/stat`.
///
/// # Errors
/// When the line `btime` is missing or no number.
pub fn boot_time(text: &str) -> Result<u64, Fault> {
    let line = text.lines().find_map(|line| line.strip_prefix("btime "));
    let line = line.ok_or(Fault::Missing { key: "btime" })?;
    digits(line).ok_or_else(|| Fault::line(1, "a number of seconds", line))
}
