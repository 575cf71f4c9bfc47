//! The tags of devices, sizes and interfaces, each made once for all cgroups.
//!
//! **Invariant:** names that are not seen any more are forgotten: a host on which interfaces come and go, as those of containers
//! do, has no more of them here than a bound.

use std::collections::HashMap;

use crate::model::Tags;
use crate::parse::{Device, IoStat};

/// The most names that are remembered. At it, the half that was not seen for longest is forgotten.
const MOST: usize = 16 << 10;

/// Tags that come again and again.
#[derive(Debug, Default)]
pub struct Labels {
    devices: HashMap<Device, Tags>,
    names: HashMap<Box<str>, Named>,
    /// How many names were made. A number is that of one name, for ever.
    made: u64,
    /// How often a name was asked for.
    asked: u64,
    /// Room for the devices of one file.
    pub(crate) found: Vec<(Device, IoStat)>,
}

#[derive(Debug)]
struct Named {
    number: u64,
    tags: Tags,
    /// When it was asked for last, in times of asking.
    asked: u64,
}

impl Labels {
    pub(crate) fn of_device(&mut self, device: Device) -> Tags {
        if self.devices.len() >= MOST {
            self.devices.clear();
        }
        let tags = self.devices.entry(device);
        tags.or_insert_with(|| Tags::new([("device", device.to_string())])).clone()
    }

    /// A number of its own and the tag of a name, which are the same ones each time.
    pub(crate) fn named(&mut self, tag: &'static str, name: &str) -> (u64, Tags) {
        self.asked += 1;
        if let Some(known) = self.names.get_mut(name) {
            known.asked = self.asked;
            return (known.number, known.tags.clone());
        }
        if self.names.len() >= MOST {
            self.forget();
        }
        self.made += 1;
        let made = Named { number: self.made, tags: Tags::new([(tag, name)]), asked: self.asked };
        let answer = (made.number, made.tags.clone());
        self.names.insert(name.into(), made);
        answer
    }

    fn forget(&mut self) {
        let mut asked: Vec<u64> = self.names.values().map(|it| it.asked).collect();
        let (_, middle, _) = asked.select_nth_unstable(MOST / 2);
        let middle = *middle;
        self.names.retain(|_, it| it.asked > middle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_come_and_go_are_forgotten_and_those_that_stay_keep_their_number() {
        let mut labels = Labels::default();
        let (number, tags) = labels.named("interface", "eth0");
        for at in 0..3 * MOST {
            labels.named("interface", &format!("veth{at}"));
            assert_eq!(labels.named("interface", "eth0"), (number, tags.clone()));
        }
        assert!(labels.names.len() <= MOST);
        assert_ne!(labels.named("interface", "veth0").0, number);
        assert_eq!(labels.made, 3 * MOST as u64 + 2, "one that comes again is another one");
    }
}
