//! Zips made record by record, so that they can lie.

/// An entry as it stands in the archive.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    /// In the local header, where it is another.
    pub(crate) local_name: Option<Vec<u8>>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// As it stands there, compressed or not.
    pub(crate) content: Vec<u8>,
    /// The size that is said of it, unpacked.
    pub(crate) size: u32,
    pub(crate) crc: u32,
    /// The type and permissions of a Unix.
    pub(crate) mode: u32,
    /// Shares the content of the entry before it.
    pub(crate) overlaps: bool,
    /// Is missing from the directory.
    pub(crate) hidden: bool,
}

/// A file that is stored.
pub(crate) fn file(name: &str, content: &[u8]) -> Item {
    Item {
        name: name.into(),
        local_name: None,
        method: 0,
        flags: 0,
        content: content.into(),
        size: u32::try_from(content.len()).unwrap(),
        crc: crc32fast::hash(content),
        mode: 0o100_644,
        overlaps: false,
        hidden: false,
    }
}

/// The fields that both headers have, from the flags to the size.
fn common(item: &Item, name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [20, item.flags, item.method, 0, 0x21] {
        bytes.extend(u16::to_le_bytes(field));
    }
    for field in [item.crc, u32::try_from(item.content.len()).unwrap(), item.size] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend(u16::try_from(name.len()).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

/// The records of the entries, and the directory.
fn records(items: &[Item]) -> (Vec<u8>, Vec<u8>) {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    let mut start = 0;
    for item in items {
        if !item.overlaps {
            start = bytes.len();
            let name = item.local_name.as_ref().unwrap_or(&item.name);
            bytes.extend(b"PK\x03\x04");
            bytes.extend(common(item, name));
            bytes.extend(name);
            bytes.extend(&item.content);
        }
        if !item.hidden {
            directory.extend(b"PK\x01\x02\x14\x03");
            directory.extend(common(item, &item.name));
            directory.extend([0; 6]);
            directory.extend((item.mode << 16).to_le_bytes());
            directory.extend(u32::try_from(start).unwrap().to_le_bytes());
            directory.extend(&item.name);
        }
    }
    (bytes, directory)
}

/// The record at the end.
pub(crate) fn end(entries: u16, directory: u32, start: u32) -> Vec<u8> {
    let mut bytes = b"PK\x05\x06\0\0\0\0".to_vec();
    bytes.extend([entries.to_le_bytes(), entries.to_le_bytes()].concat());
    bytes.extend([directory.to_le_bytes(), start.to_le_bytes()].concat());
    bytes.extend([0, 0]);
    bytes
}

pub(crate) fn zip(items: &[Item]) -> Vec<u8> {
    let (mut bytes, directory) = records(items);
    let start = u32::try_from(bytes.len()).unwrap();
    let entries = u16::try_from(items.iter().filter(|item| !item.hidden).count()).unwrap();
    bytes.extend(&directory);
    bytes.extend(end(entries, u32::try_from(directory.len()).unwrap(), start));
    bytes
}
