//! What the writer of an export and its sessions share.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::encode::{Counted, Encoder, write_out};
use crate::error::At;
use crate::files::{Stage, path};
use crate::fs::{Fs, Lock, create_below};
use crate::growing::Growing;
use crate::pool::Pool;
use crate::{Amount, Compression, Settings, SpoolError, store};

/// A buffer below this is not spilled for want of memory: a member should hold more than its own frame.
const SMALLEST_SPILL: usize = 16 << 10;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) settings: Settings,
    /// The spool's folder.
    spool: PathBuf,
    pub(crate) export: String,
    /// The export's folder.
    pub(crate) dir: PathBuf,
    /// What the buffers of all sessions take.
    memory: AtomicUsize,
    pub(crate) pool: Arc<Pool>,
    core: Mutex<Core>,
    /// Held as long as anyone may write.
    _lock: HeldLock,
}

pub(crate) struct HeldLock(pub(crate) Lock);

impl std::fmt::Debug for HeldLock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _: &Lock = &self.0;
        f.write_str("HeldLock")
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    encoder: Encoder,
    /// The next number of each model.
    next: HashMap<String, u64>,
    /// Models whose folder is known to be there, durably.
    folders: HashSet<String>,
    /// What waits in the whole spool: counted once, then what this export adds. An upper bound, since files leave.
    used: u64,
}

impl Shared {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        settings: Settings,
        spool: PathBuf,
        export: String,
        lock: Lock,
    ) -> Result<Self, SpoolError> {
        let used = store::waiting(&*fs, &spool)?.bytes;
        let core = Core {
            encoder: Encoder::new(settings.codec),
            next: HashMap::new(),
            folders: HashSet::new(),
            used,
        };
        let dir = spool.join(&export);
        let memory = AtomicUsize::new(0);
        let pool = Arc::new(Pool::new(settings.codec, settings.threads));
        let (core, lock) = (Mutex::new(core), HeldLock(lock));
        Ok(Self { fs, settings, spool, export, dir, memory, pool, core, _lock: lock })
    }

    /// The core. It is whole even after a panic of its last user: every user begins a member anew.
    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers below `next` are taken.
    pub(crate) fn reserve_numbers(&self, model: &str, next: u64) {
        let mut core = self.core();
        let known = core.next.entry(model.to_owned()).or_default();
        *known = (*known).max(next);
    }

    /// How this writer compresses. Files of an earlier writer of the export may be of the other kind.
    pub(crate) fn compression(&self) -> Compression {
        self.settings.codec.compression()
    }

    pub(crate) fn model_dir(&self, model: &str) -> PathBuf {
        self.dir.join(model)
    }

    /// Makes a file with a number of its own. Its entry in the folder is not synced yet.
    pub(crate) fn create(&self, model: &str, stage: Stage) -> Result<(u64, Growing), SpoolError> {
        let folder = self.model_dir(model);
        let mut core = self.core();
        if !core.folders.contains(model) {
            create_below(&*self.fs, &self.dir, &[model]).at("create folder", &folder)?;
            core.folders.insert(model.to_owned());
        }
        let next = core.next.entry(model.to_owned()).or_default();
        let number = *next;
        *next += 1;
        drop(core);
        let path = path(&folder, number, self.compression(), stage);
        let file = self.fs.append(&path).at("create", &path)?;
        Ok((number, Growing::new(path, file, Counted::default())))
    }

    /// Whether more may be taken: the spool holds less than it may.
    pub(crate) fn admit(&self) -> Result<(), SpoolError> {
        let mut core = self.core();
        if core.used >= self.settings.total_bytes {
            // Files have left meanwhile, or not.
            core.used = store::waiting(&*self.fs, &self.spool)?.bytes;
        }
        if core.used >= self.settings.total_bytes {
            let (used, limit) = (core.used, self.settings.total_bytes);
            return Err(SpoolError::Full { spool: self.spool.clone(), used, limit });
        }
        Ok(())
    }

    /// Writes a member at the end of a file. It is neither synced nor accepted.
    pub(crate) fn stage_packed(
        &self,
        file: &mut Growing,
        amount: Amount,
        member: &[u8],
    ) -> Result<(), SpoolError> {
        file.stage(amount, |sink| write_out(member, sink))
    }

    /// Compresses pieces to one member at the end of a file. It is neither synced nor accepted.
    pub(crate) fn stage<'a>(
        &self,
        file: &mut Growing,
        amount: Amount,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), SpoolError> {
        let mut core = self.core();
        file.stage(amount, |sink| core.encoder.member(pieces, sink))
    }

    /// Accepts what was staged.
    pub(crate) fn accept(&self, file: &mut Growing) {
        let added = file.accept();
        self.core().used += added;
    }

    /// A buffer has taken or given back memory.
    pub(crate) fn remember(&self, before: usize, after: usize) {
        if after >= before {
            self.memory.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.memory.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether a buffer of this size should be spilled, because all together take too much.
    pub(crate) fn is_pressed(&self, buffer: usize) -> bool {
        buffer >= SMALLEST_SPILL && self.memory.load(Ordering::Relaxed) >= self.settings.memory_bytes
    }

    pub(crate) fn sync_dir(&self, path: &Path) -> Result<(), SpoolError> {
        self.fs.sync_dir(path).at("sync folder", path)
    }
}
