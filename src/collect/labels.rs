//! The tags of devices, sizes and interfaces, each made once for all cgroups.

use std::collections::HashMap;

use crate::model::Tags;
use crate::parse::{Device, IoStat};

/// Tags that come again and again.
#[derive(Debug, Default)]
pub struct Labels {
    devices: HashMap<Device, Tags>,
    names: HashMap<Box<str>, (u64, Tags)>,
    /// Room for the devices of one file.
    pub(crate) found: Vec<(Device, IoStat)>,
}

impl Labels {
    pub(crate) fn of_device(&mut self, device: Device) -> Tags {
        let tags = self.devices.entry(device);
        tags.or_insert_with(|| Tags::new([("device", device.to_string())])).clone()
    }

    /// A number of its own and the tag of a name, which are the same ones each time.
    pub(crate) fn named(&mut self, tag: &'static str, name: &str) -> (u64, Tags) {
        if let Some(known) = self.names.get(name) {
            return known.clone();
        }
        let number = self.names.len() as u64 + 1;
        let made = (number, Tags::new([(tag, name)]));
        self.names.insert(name.into(), made.clone());
        made
    }
}
