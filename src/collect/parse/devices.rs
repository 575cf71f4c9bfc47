//! Block devices: v2's `io.stat`, v1's `blkio.throttle.io_service_bytes` and `io_serviced` with their `_recursive` kin.

use super::{Fault, digits, lines};

/// A block device, as the kernel numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device {
    /// Its kind.
    pub major: u32,
    /// Which of its kind.
    pub minor: u32,
}

impl Device {
    fn read(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once(':')?;
        Some(Self { major: digits(major)?.try_into().ok()?, minor: digits(minor)?.try_into().ok()? })
    }
}

impl std::fmt::Display for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// What passed to and from a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoStat {
    /// Bytes.
    pub bytes: IoBytes,
    /// Operations.
    pub operations: IoBytes,
}

/// Of one kind of count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoBytes {
    /// From the device.
    pub read: u64,
    /// To the device.
    pub write: u64,
    /// Given back to the device.
    pub discard: u64,
}

/// v2's `io.stat`, a call of `each` a device.
///
/// A line may name a device without any number, and kernels before 5.18 then forget to end it, so that the next device
/// stands in the same line; numbers belong to the device before them. Keys of other controllers (`cost.usage`) are passed.
///
/// # Errors
/// When a word is neither a device nor a key with its number, or a number has no device.
pub fn io_stat(text: &str, mut each: impl FnMut(Device, IoStat)) -> Result<(), Fault> {
    const EXPECTED: &str = "a device and key=number pairs";
    for line in lines(text) {
        let (at, line) = line?;
        let fault = || Fault::line(at, EXPECTED, line);
        let mut current: Option<(Device, Option<IoStat>)> = None;
        for word in line.split_ascii_whitespace() {
            let Some((key, value)) = word.split_once('=') else {
                let device = Device::read(word).ok_or_else(fault)?;
                if let Some((device, Some(stat))) = current.replace((device, None)) {
                    each(device, stat);
                }
                continue;
            };
            let (_, stat) = current.as_mut().ok_or_else(fault)?;
            let stat = stat.get_or_insert_default();
            let slot = match key {
                "rbytes" => &mut stat.bytes.read,
                "wbytes" => &mut stat.bytes.write,
                "dbytes" => &mut stat.bytes.discard,
                "rios" => &mut stat.operations.read,
                "wios" => &mut stat.operations.write,
                "dios" => &mut stat.operations.discard,
                _ => continue,
            };
            *slot = digits(value).ok_or_else(fault)?;
        }
        match current {
            Some((device, Some(stat))) => each(device, stat),
            Some((_, None)) => {}
            None => return Err(fault()),
        }
    }
    Ok(())
}

/// v1's counts, lines of a device, an operation and a number, then `Total`; a call of `each` a device.
///
/// # Errors
/// When a line is of another form, or the total is missing: then a part of the text is.
pub fn blkio(text: &str, mut each: impl FnMut(Device, IoBytes)) -> Result<(), Fault> {
    const EXPECTED: &str = "a device, an operation and a number";
    let mut current: Option<(Device, IoBytes)> = None;
    let mut whole = false;
    for line in lines(text) {
        let (at, line) = line?;
        let fault = || Fault::line(at, EXPECTED, line);
        let (first, rest) = line.split_once(' ').ok_or_else(fault)?;
        if first == "Total" {
            digits(rest).ok_or_else(fault)?;
            whole = true;
            continue;
        }
        let device = Device::read(first).ok_or_else(fault)?;
        let (operation, count) = rest.split_once(' ').ok_or_else(fault)?;
        let count = digits(count).ok_or_else(fault)?;
        if current.is_none_or(|(of, _)| of != device)
            && let Some((device, bytes)) = current.replace((device, IoBytes::default()))
        {
            each(device, bytes);
        }
        let Some((_, bytes)) = &mut current else { continue };
        match operation {
            "Read" => bytes.read = count,
            "Write" => bytes.write = count,
            "Discard" => bytes.discard = count,
            _ => {}
        }
    }
    if !whole {
        return Err(Fault::Missing { key: "Total" });
    }
    if let Some((device, bytes)) = current {
        each(device, bytes);
    }
    Ok(())
}
