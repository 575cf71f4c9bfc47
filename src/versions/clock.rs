//! Time that no one can set: since the machine was started, together with which start that was.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use crate::error::FileError;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
const UPTIME: &str = "/proc/uptime";

/// Which start of the machine; empty where the system does not tell, and then all starts look like one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct BootId(pub String);

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A moment of one start of the machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Which start.
    pub boot: BootId,
    /// Milliseconds since then, also those that the machine slept.
    pub ms: u64,
}

/// What is left until a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// So much.
    Time(Duration),
    /// It has passed.
    Passed,
    /// The machine was restarted since the moment was set, so it means nothing now: set it again.
    OtherBoot,
}

impl Moment {
    /// The moment `after` this one.
    #[must_use]
    pub fn plus(&self, after: Duration) -> Self {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        Self { boot: self.boot.clone(), ms: self.ms.saturating_add(after) }
    }

    /// What is left until this moment at `now`.
    #[must_use]
    pub fn left(&self, now: &Self) -> Left {
        if self.boot != now.boot {
            return Left::OtherBoot;
        }
        match self.ms.checked_sub(now.ms) {
            None | Some(0) => Left::Passed,
            Some(ms) => Left::Time(Duration::from_millis(ms)),
        }
    }
}

/// Says what time it is; a test has one that jumps.
pub trait Clock: fmt::Debug {
    /// Now.
    ///
    /// # Errors
    /// When the system does not tell, naming the file that it tells it in.
    fn now(&self) -> Result<Moment, FileError>;
}

/// The machine's own clock: what `/proc` says, which counts the time asleep as `CLOCK_BOOTTIME` does.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Result<Moment, FileError> {
        let read =
            |path| std::fs::read_to_string(path).map_err(FileError::at("read the clock in", Path::new(path)));
        let uptime = read(UPTIME)?;
        let ms = milliseconds(&uptime).ok_or_else(|| {
            let found = format!("expected seconds since the start, found {uptime:?}");
            FileError::at("read the clock in", Path::new(UPTIME))(std::io::Error::other(found))
        })?;
        Ok(Moment { boot: BootId(read(BOOT_ID)?.trim().to_owned()), ms })
    }
}

/// `12537.96 5878.51`: the first number, which is seconds.
fn milliseconds(uptime: &str) -> Option<u64> {
    let (seconds, parts) = uptime.split_whitespace().next()?.split_once('.')?;
    let is_number = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
    if !is_number(seconds) || !is_number(parts) {
        return None;
    }
    let parts: u64 = format!("{parts:0<3}").get(..3)?.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_uptime() {
        assert_eq!(milliseconds("12537.96 5878.51\n"), Some(12_537_960));
        assert_eq!(milliseconds("0.00 0.00"), Some(0));
        for bad in ["", "x", "12", "-1.00", "1.", ".5", "99999999999999999999.00 1"] {
            assert_eq!(milliseconds(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_systems_clock_goes_forward_in_one_boot() {
        let [one, two] = [(); 2].map(|()| SystemClock.now().unwrap());
        assert_eq!(one.boot, two.boot);
        assert!(!one.boot.0.is_empty() && one.ms <= two.ms);
    }

    #[test]
    fn a_deadline_means_nothing_after_a_restart() {
        let at = |boot: &str, ms| Moment { boot: BootId(boot.into()), ms };
        let deadline = at("one", 5_000).plus(Duration::from_secs(10));
        assert_eq!(deadline.left(&at("one", 6_000)), Left::Time(Duration::from_secs(9)));
        assert_eq!(deadline.left(&at("one", 15_000)), Left::Passed);
        assert_eq!(deadline.left(&at("two", 99_000)), Left::OtherBoot);
    }
}
