//! `.tar.gz`: one gzip member, in it one tar of plain headers. Nothing that gives the entry behind it another name or size
//! is taken, since readers disagree about such headers; paths of up to 255 bytes need none.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use tar::{Archive, EntryType};

use super::{Source, Stop, Visit};
use crate::gate::{Content, Gate, Header};
use crate::path::shortened;
use crate::path_set::Node;
use crate::refusal::{BadKind, Refusal};

/// What is read from the file at a time, in bytes.
const BUFFER: usize = 128 << 10;
/// The most zeros behind the end of a tar, in bytes: tools fill up to a block, of 10 KiB unless told otherwise.
const PADDING: u64 = 1 << 20;

pub(super) fn walk(source: Source<'_>, gate: &mut Gate, visit: &mut Visit<'_>) -> Result<(), Stop> {
    let mut tar = Archive::new(GzDecoder::new(BufReader::with_capacity(BUFFER, source)));
    let entries = tar.entries().map_err(|err| broken("the tar", err))?.raw(true);
    for entry in entries {
        gate.count()?;
        let mut entry = entry.map_err(|err| broken("the tar", err))?;
        let header = entry.header();
        let name = header.path_bytes().into_owned();
        let node = node(header.entry_type(), &name)?;
        let size = header.entry_size().map_err(|err| broken("a header", err))?;
        let mode = header.mode().map_err(|err| broken("a header", err))?;
        let admitted = gate.admit(&Header { name: &name, node, size, mode })?;
        let mut content = Content::new(&mut entry, size);
        visit(&admitted, &mut content)?;
        content.finish(&admitted)?;
    }
    end(tar.into_inner())
}

/// Behind the end there are zeros, then the end of the gzip member, then that of the file.
fn end(mut gzip: GzDecoder<BufReader<Source<'_>>>) -> Result<(), Stop> {
    let mut buffer = [0; 4096];
    let mut padding = 0;
    loop {
        let read = gzip.read(&mut buffer).map_err(|err| broken("the gzip", err))?;
        padding += read as u64;
        if read == 0 {
            break;
        }
        if padding > PADDING || buffer[..read].iter().any(|it| *it != 0) {
            return Err(Refusal::Trailing.into());
        }
    }
    let rest = gzip.into_inner().fill_buf().map_err(|err| broken("the gzip", err))?.len();
    if rest == 0 { Ok(()) } else { Err(Refusal::Trailing.into()) }
}

fn node(kind: EntryType, name: &[u8]) -> Result<Node, Refusal> {
    let kind = match kind {
        EntryType::Regular => return Ok(Node::File),
        EntryType::Directory => return Ok(Node::Folder),
        EntryType::Symlink => BadKind::SymbolicLink,
        EntryType::Link => BadKind::HardLink,
        EntryType::Char => BadKind::CharacterDevice,
        EntryType::Block => BadKind::BlockDevice,
        EntryType::Fifo => BadKind::Fifo,
        EntryType::GNUSparse => BadKind::Sparse,
        EntryType::GNULongName | EntryType::GNULongLink => BadKind::LongName,
        EntryType::XHeader | EntryType::XGlobalHeader => BadKind::Pax,
        _ => BadKind::Unknown,
    };
    Err(Refusal::Kind { name: shortened(&String::from_utf8_lossy(name)), kind })
}

fn broken(what: &'static str, err: io::Error) -> Refusal {
    Refusal::broken(what, err)
}
