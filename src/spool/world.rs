//! For tests: a spool on the faulty file system beside a model of what it promised, and a backend that takes each file once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::faulty::{Dice, FaultyFs};
use crate::hash::Hash;
use crate::{Codec, Compression, ExportWriter, Sealed, Session, Settings, Spool};

const ROOT: &str = "/spool";

/// Both kinds of compression.
pub(crate) const CODECS: [Codec; 2] = [Codec::Gzip { level: 1 }, Codec::Zstd { level: 1 }];

/// Small numbers, so that a few records reach every bound.
fn settings(codec: Codec, threads: usize) -> Settings {
    Settings {
        seal_bytes: 400,
        seal_age: Duration::from_secs(10),
        buffer_bytes: 200,
        memory_bytes: 1 << 20,
        total_bytes: 1 << 30,
        codec,
        threads,
    }
}

/// An open session and the numbers of the records in it.
#[derive(Debug)]
struct Opened {
    session: Session,
    ids: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) fs: FaultyFs,
    pub(crate) spool: Spool,
    pub(crate) dice: Dice,
    /// Of the next writer.
    codec: Codec,
    threads: usize,
    /// Ids are used once: after an export has expired, the next one begins.
    export: u32,
    writer: Option<ExportWriter>,
    sessions: Vec<Opened>,
    started: Instant,
    seconds: u64,
    last_id: u64,
    /// A commit has answered.
    promised: BTreeSet<u64>,
    /// Their commit failed: a session each, which is there as a whole or not at all.
    unsure: Vec<Vec<u64>>,
    /// What the backend took: by export, model and number, the hash and the records.
    backend: BTreeMap<(String, String, u64), (String, Vec<u64>)>,
}

impl World {
    pub(crate) fn new(seed: u64, codec: Codec) -> Self {
        let fs = FaultyFs::new(Path::new("/"));
        let threads = if seed.is_multiple_of(2) { 0 } else { 2 };
        let spool =
            Spool::open_on(Arc::new(fs.clone()), PathBuf::from(ROOT), settings(codec, threads)).unwrap();
        Self {
            codec,
            threads,
            fs,
            spool,
            dice: Dice::new(seed),
            export: 1,
            writer: None,
            sessions: Vec::new(),
            started: Instant::now(),
            seconds: 0,
            last_id: 0,
            promised: BTreeSet::new(),
            unsure: Vec::new(),
            backend: BTreeMap::new(),
        }
    }

    /// Every step may fail, since the disk may; then the model notes what that leaves.
    fn writer(&mut self) -> Option<&mut ExportWriter> {
        if self.writer.is_none() {
            self.writer = self.spool.export(&format!("run-{}", self.export)).ok();
        }
        self.writer.as_mut()
    }

    pub(crate) fn open(&mut self, origin: usize, model: usize) {
        let (origin, model) = (format!("origin{origin}"), format!("area.Model{model}"));
        if let Some(writer) = self.writer() {
            let session = writer.session(&origin, &model);
            self.sessions.push(Opened { session, ids: Vec::new() });
        }
    }

    /// Appends records of about `size` bytes, one by one or as lines.
    pub(crate) fn append(&mut self, which: usize, records: usize, size: usize, as_lines: bool) {
        if self.sessions.is_empty() {
            return;
        }
        let which = which % self.sessions.len();
        let opened = &mut self.sessions[which];
        let first = self.last_id + 1;
        self.last_id += records as u64;
        let mut made = Vec::new();
        for id in first..=self.last_id {
            // What cannot be compressed reaches the bounds soonest.
            let pad: String = (0..size).map(|_| char::from(b'a' + self.dice.byte(26))).collect();
            made.push((id, format!("{{\"id\":{id},\"pad\":\"{pad}\"}}")));
        }
        if as_lines {
            let text: String = made.iter().map(|(_, text)| format!("{text}\n")).collect();
            if opened.session.append_lines(text.as_bytes()).is_ok() {
                opened.ids.extend(made.iter().map(|(id, _)| id));
            }
        } else {
            for (id, text) in made {
                if opened.session.append(text.as_bytes()).is_ok() {
                    opened.ids.push(id);
                }
            }
        }
        assert_eq!(opened.session.amount().records, opened.ids.len() as u64);
    }

    /// Commits the sessions at these places together. Tells whether it was answered.
    pub(crate) fn commit(&mut self, which: &[usize]) -> bool {
        let mut group = Vec::new();
        for at in which {
            if !self.sessions.is_empty() {
                let at = at % self.sessions.len();
                group.push(self.sessions.swap_remove(at));
            }
        }
        let (sessions, ids): (Vec<_>, Vec<_>) = group.into_iter().map(|it| (it.session, it.ids)).unzip();
        let Some(writer) = &mut self.writer else { return false };
        match writer.commit_many(sessions) {
            Ok(committed) => {
                let counts: Vec<_> = committed.sessions.iter().map(|it| it.records).collect();
                assert_eq!(counts, ids.iter().map(|it| it.len() as u64).collect::<Vec<_>>());
                self.promised.extend(ids.into_iter().flatten());
                true
            }
            Err(_) => {
                self.unsure.extend(ids);
                false
            }
        }
    }

    pub(crate) fn roll_back(&mut self, which: usize) {
        if !self.sessions.is_empty() {
            let at = which % self.sessions.len();
            self.sessions.swap_remove(at).session.rollback();
        }
    }

    pub(crate) fn seal_due(&mut self, seconds: u64) {
        self.seconds += seconds;
        let now = self.started + Duration::from_secs(self.seconds);
        if let Some(writer) = &mut self.writer {
            drop(writer.seal_due(now));
        }
    }

    pub(crate) fn seal_all(&mut self) {
        if let Some(writer) = &mut self.writer {
            drop(writer.seal_all());
        }
    }

    /// Uploads up to `most` files and acknowledges them.
    pub(crate) fn upload(&mut self, most: usize) {
        let Ok(found) = self.spool.pending() else { return };
        for file in found.files.into_iter().take(most) {
            self.receive(&file);
            drop(self.spool.acknowledge(&file));
        }
    }

    pub(crate) fn expire(&mut self) {
        let end_of_time = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        drop(self.spool.expire_sent(Duration::ZERO, end_of_time, &[].into()));
        if self.writer.is_none() {
            self.export += 1;
        }
    }

    /// The disk needs room.
    pub(crate) fn shed(&mut self, bytes: u64) {
        drop(self.spool.shed_sent(bytes));
    }

    /// The process ends without a word, the disk stays as it is.
    pub(crate) fn kill(&mut self) {
        self.sessions.clear();
        self.writer = None;
    }

    /// The power is cut.
    pub(crate) fn cut(&mut self) {
        self.fs = self.fs.cut(&mut self.dice);
        self.kill();
        self.reopen();
    }

    fn reopen(&mut self) {
        let fs = Arc::new(self.fs.clone());
        self.spool = Spool::open_on(fs, PathBuf::from(ROOT), settings(self.codec, self.threads)).unwrap();
    }

    /// The process ends, and the next one goes on with the same export in the other kind of compression.
    pub(crate) fn recode(&mut self) {
        self.kill();
        self.codec = if self.codec == CODECS[0] { CODECS[1] } else { CODECS[0] };
        self.spool = self.spool.with(settings(self.codec, self.threads));
    }

    /// No writer lives any more and the disk is well: everything that was promised has to arrive.
    pub(crate) fn check(&mut self) {
        self.kill();
        self.fs.heal();
        let recovered = self.spool.recover().unwrap();
        assert!(recovered.failed.is_empty() && recovered.in_use.is_empty(), "{recovered:?}");
        for file in self.spool.pending().unwrap().files {
            self.receive(&file);
        }
        let mut seen = BTreeMap::new();
        for id in self.backend.values().flat_map(|(_, ids)| ids) {
            *seen.entry(*id).or_insert(0) += 1;
        }
        let twice: Vec<_> = seen.iter().filter(|(_, times)| **times != 1).collect();
        assert!(twice.is_empty(), "handed over more than once: {twice:?}");
        let lost: Vec<_> = self.promised.iter().filter(|id| !seen.contains_key(id)).collect();
        assert!(lost.is_empty(), "committed and lost: {lost:?}");
        let mut left: BTreeSet<_> = seen.into_keys().filter(|id| !self.promised.contains(id)).collect();
        for session in &self.unsure {
            let there = session.iter().filter(|id| left.remove(id)).count();
            assert!(there == 0 || there == session.len(), "half a session: {there} of {session:?}");
        }
        assert!(left.is_empty(), "never committed, and handed over: {left:?}");
        self.check_earlier();
        let leftovers: Vec<_> = self.leftovers();
        assert!(leftovers.is_empty(), "{leftovers:?}");
    }

    /// Whoever goes on with an export is told exactly what was handed over of it.
    fn check_earlier(&self) {
        for export in self.spool.exports().unwrap() {
            let mut arrived: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
            for ((_, model, _), (_, ids)) in self.backend.iter().filter(|((it, ..), _)| *it == export) {
                let of_model = arrived.entry(model).or_default();
                *of_model = (of_model.0 + 1, of_model.1 + ids.len() as u64);
            }
            let writer = self.spool.export(&export).unwrap();
            assert_eq!(writer.totals().unwrap(), writer.earlier(), "nothing was written since");
            let mut told: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
            for total in writer.earlier() {
                let of_model = told.entry(&total.model).or_default();
                *of_model = (of_model.0 + total.files, of_model.1 + total.amount.records);
            }
            // One that has expired, and whose folder a power cut brought back without its manifest. Nobody goes on with it.
            if told.is_empty() && export != format!("run-{}", self.export) {
                continue;
            }
            assert_eq!(told, arrived, "files and records of {export} by model");
        }
    }

    /// How many sessions whose commit failed are there all the same.
    pub(crate) fn unsure_and_there(&self) -> usize {
        let seen: BTreeSet<_> = self.backend.values().flat_map(|(_, ids)| ids).collect();
        self.unsure.iter().filter(|ids| !ids.is_empty() && ids.iter().all(|id| seen.contains(id))).count()
    }

    /// What recovery should not leave.
    fn leftovers(&self) -> Vec<String> {
        use crate::fs::{Fs, list_if_there};
        let fs: &dyn Fs = &self.fs;
        let folders = |dir: PathBuf| {
            let entries = list_if_there(fs, &dir).unwrap().into_iter().filter(|it| it.is_dir);
            entries.map(move |it| dir.join(it.name)).collect::<Vec<_>>()
        };
        let models = folders(self.spool.dir().to_owned()).into_iter().flat_map(&folders);
        models
            .flat_map(|model| list_if_there(fs, &model).unwrap())
            .filter(|file| {
                !file.is_dir && ![".json.gz", ".json.zst"].iter().any(|it| file.name.ends_with(it))
            })
            .map(|file| file.name)
            .collect()
    }

    /// The backend takes a file: it is what it says it is, and never changes.
    fn receive(&mut self, file: &Sealed) {
        let bytes = self.fs.contents(&file.path).unwrap();
        assert_eq!(file.bytes, bytes.len() as u64);
        assert_eq!(file.sha256, Hash::of(&bytes).hex());
        let text = unpack(&bytes, file.compression);
        assert_eq!(file.raw_bytes, text.len() as u64);
        let ids: Vec<u64> = text.lines().map(|line| id_of(line, file)).collect();
        assert_eq!(file.records, ids.len() as u64);
        let key = (file.export.clone(), file.model.clone(), file.number);
        let (sha256, _) = self.backend.entry(key).or_insert_with(|| (file.sha256.clone(), ids));
        assert_eq!(*sha256, file.sha256, "the number {} of {} was used twice", file.number, file.model);
    }
}

/// As somebody else's tool would do it.
pub(crate) fn unpack(bytes: &[u8], compression: Compression) -> String {
    use std::io::Read;
    let mut text = String::new();
    match compression {
        Compression::Gzip => flate2::read::MultiGzDecoder::new(bytes).read_to_string(&mut text),
        Compression::Zstd => zstd::Decoder::new(bytes).unwrap().read_to_string(&mut text),
    }
    .unwrap();
    text
}

fn id_of(line: &str, file: &Sealed) -> u64 {
    let value: serde_json::Value = serde_json::from_str(line).unwrap();
    assert!(file.origin.starts_with("origin"), "{file:?}");
    value["id"].as_u64().unwrap()
}
