//! Tars made header by header, so that they can lie.

/// An entry as it stands in the archive.
#[derive(Clone)]
pub(crate) struct Item {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u8,
    pub(crate) mode: u32,
    /// What the header says; the content's size when it is none.
    pub(crate) size: Option<u64>,
    pub(crate) content: Vec<u8>,
}

pub(crate) fn file(name: &str, content: &[u8]) -> Item {
    Item { name: name.into(), kind: b'0', mode: 0o644, size: None, content: content.into() }
}

/// An entry of another kind, without content.
pub(crate) fn of_kind(name: &str, kind: u8) -> Item {
    Item { kind, ..file(name, b"") }
}

/// The blocks of one entry.
pub(crate) fn blocks(item: &Item) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    let ustar = header.as_ustar_mut().unwrap();
    // Where the name goes on in front of its last 100 bytes.
    let cut = item.name.len().saturating_sub(100);
    let cut =
        if cut == 0 { 0 } else { cut + item.name[cut..].iter().position(|it| *it == b'/').unwrap() + 1 };
    ustar.name[..item.name.len() - cut].copy_from_slice(&item.name[cut..]);
    ustar.prefix[..cut.saturating_sub(1)].copy_from_slice(&item.name[..cut.saturating_sub(1)]);
    ustar.typeflag[0] = item.kind;
    if item.kind == b'1' || item.kind == b'2' {
        ustar.linkname[..11].copy_from_slice(b"/etc/passwd");
    }
    header.set_mode(item.mode);
    header.set_size(item.size.unwrap_or(item.content.len() as u64));
    header.set_mtime(315_532_800);
    header.set_cksum();
    let mut blocks = header.as_bytes().to_vec();
    blocks.extend(&item.content);
    blocks.resize(blocks.len().next_multiple_of(512), 0);
    blocks
}

pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut bytes: Vec<u8> = items.iter().flat_map(blocks).collect();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// A gzip member that stores its content, so that it depends on no library.
pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<_> = content.chunks(65_535).collect();
    for (place, block) in blocks.iter().enumerate() {
        let length = u16::try_from(block.len()).unwrap();
        bytes.push(u8::from(place + 1 == blocks.len()));
        bytes.extend(length.to_le_bytes());
        bytes.extend((!length).to_le_bytes());
        bytes.extend(*block);
    }
    bytes.extend(crc32fast::hash(content).to_le_bytes());
    bytes.extend(u32::try_from(content.len()).unwrap().to_le_bytes());
    bytes
}
