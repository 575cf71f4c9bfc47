//! Pressure stall information: `cpu.pressure`, `memory.pressure`, `io.pressure`.

use super::{Fault, digits, lines};

/// How long tasks waited.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Percent of the last 10 s.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last 5 minutes.
    pub avg300: f64,
    /// In all, in nanoseconds.
    pub total: u64,
}

/// One file of pressure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Stall,
    /// All of them waited; the processors' has it since Linux 5.13.
    pub full: Option<Stall>,
}

/// A `.pressure` file.
///
/// # Errors
/// When it has another form.
pub fn pressure(text: &str) -> Result<Pressure, Fault> {
    const EXPECTED: &str = "some or full, three averages and a total";
    let (mut some, mut full) = (None, None);
    for line in lines(text) {
        let (at, line) = line?;
        let fault = || Fault::line(at, EXPECTED, line);
        match line.split_once(' ') {
            Some(("some", rest)) => some = Some(stall(rest).ok_or_else(fault)?),
            Some(("full", rest)) => full = Some(stall(rest).ok_or_else(fault)?),
            _ => return Err(fault()),
        }
    }
    Ok(Pressure { some: some.ok_or(Fault::Missing { key: "some" })?, full })
}

fn stall(text: &str) -> Option<Stall> {
    let mut words = text.split(' ');
    let mut average = |name| percent(words.next()?.strip_prefix(name)?);
    let (avg10, avg60, avg300) = (average("avg10=")?, average("avg60=")?, average("avg300=")?);
    let total = digits(words.next()?.strip_prefix("total=")?)?.saturating_mul(1000);
    words.next().is_none().then_some(Stall { avg10, avg60, avg300, total })
}

/// Two digits after the point, as the kernel writes it.
#[expect(clippy::cast_precision_loss, reason = "five digits at the most")]
fn percent(text: &str) -> Option<f64> {
    let (whole, part) = text.split_once('.')?;
    let (whole, part) = (digits(whole)?, digits(part).filter(|it| *it < 100)?);
    (whole <= 100).then_some((whole * 100 + part) as f64 / 100.0)
}
