//! The steps of an attempt, each written before it is done.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::act;
use crate::decide::{Act, decide};
use crate::error::{FileError, VersionsError};
use crate::fs::Fs;
use crate::journal::{self, Journal};
use crate::layout::{Layout, Link};
use crate::links::{self, Points, Seen};
use crate::lock::Lock;
use crate::name::VersionName;
use crate::phase::{Phase, Reason};
use crate::record::{REASON, REBOOTS, Record, TRIES, Told};
use crate::seal::{Condition, Seals};
use crate::trial;
use crate::untold;
use crate::versions::Versions;

/// What is kept free for a rollback on a full disk, in bytes: two records and a link, whatever the size of a block.
const RESERVE: usize = 64 * 1024;
/// More acts in a row than any state of the disk asks for.
const MOST_ACTS: usize = 16;

/// The sole right to change the journal, the links and the folders of versions, until it is dropped.
#[derive(Debug)]
pub struct Writer<'a> {
    pub(crate) versions: &'a Versions,
    /// What was looked at under this lock is not looked at again.
    looked: RefCell<BTreeMap<VersionName, Condition>>,
    troubles: RefCell<Vec<VersionsError>>,
    _lock: Lock,
}

/// What became of a wish to upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// A new attempt.
    New(Box<Record>),
    /// The same attempt, or the same command, was taken before: this is how far it is, or how it ended.
    Before(Box<Record>),
}

impl<'a> Writer<'a> {
    pub(crate) fn new(versions: &'a Versions, lock: Lock) -> Self {
        Self { versions, looked: RefCell::default(), troubles: RefCell::default(), _lock: lock }
    }

    pub(crate) fn fs(&self) -> &'a dyn Fs {
        &*self.versions.fs
    }

    pub(crate) fn layout(&self) -> &'a Layout {
        &self.versions.layout
    }

    fn record(&self) -> Result<Record, VersionsError> {
        match journal::read(self.fs(), self.layout()).journal {
            Journal::Attempt(record) => Ok(*record),
            Journal::Absent | Journal::Unreadable => Err(VersionsError::NoAttempt),
        }
    }

    /// Begins an attempt: `wanted` as [`Record::new`] makes it, with the settings changed as wished. Writes nothing where
    /// the answer is an error.
    ///
    /// # Errors
    /// [`VersionsError::Busy`] while another attempt is in progress; [`VersionsError::AlreadyCurrent`];
    /// [`VersionsError::FailedHere`] unless forced; [`VersionsError::NoCurrent`] where nothing is installed.
    pub fn begin(&self, wanted: Record) -> Result<Begun, VersionsError> {
        let seen = self.versions.see()?;
        let last = seen.journal.record();
        if let Some(last) = last {
            let same = last.attempt == wanted.attempt || is_same_command(last, &wanted);
            if same {
                return Ok(Begun::Before(Box::new(last.clone())));
            }
            if !last.phase.is_terminal() {
                return Err(VersionsError::Busy { attempt: last.attempt.clone(), phase: last.phase });
            }
        }
        if let Some(earlier) =
            untold::all(self.fs(), self.layout())?.into_iter().find(|it| is_same_command(it, &wanted))
        {
            return Ok(Begun::Before(Box::new(earlier)));
        }
        let Some(current) = seen.tree.whole(&seen.links.current) else {
            return Err(VersionsError::NoCurrent { path: self.layout().link(Link::Current) });
        };
        if *current == wanted.to {
            return Err(VersionsError::AlreadyCurrent { version: wanted.to });
        }
        if let Some(why) = self.versions.verdict(&wanted.to)?.filter(|_| !wanted.force) {
            return Err(VersionsError::FailedHere { version: wanted.to, why });
        }
        if seen.journal == Journal::Unreadable {
            journal::quarantine(self.fs(), self.layout())?;
        }
        if let Some(last) = last.filter(|it| it.told != Told::Acknowledged) {
            untold::keep(self.fs(), self.layout(), last)?;
        }
        // One whose end was cut short may have left it, and it is not of this attempt.
        trial::forget(self.fs(), self.layout())?;
        let record = Record { from: current.clone(), phase: Phase::Requested, told: Told::No, ..wanted };
        journal::write(self.fs(), self.layout(), &record)?;
        Ok(Begun::New(Box::new(record)))
    }

    /// Takes the attempt to its next phase, and says why where that is not as wanted.
    ///
    /// What else that means: to arm is to do as [`Writer::arm`]. The trial begins with all tries and its deadline. A version
    /// is noted as bad before it counts as rolled back. An end is written to both slots, so that the loss of either does not
    /// take it back.
    ///
    /// # Errors
    /// [`VersionsError::IllegalStep`] when the phases are not in that order; those of [`Writer::arm`].
    pub fn enter(&self, phase: Phase, why: Option<(Reason, &str)>) -> Result<Record, VersionsError> {
        let mut record = self.record()?;
        if phase == Phase::Armed {
            return self.arm(self.versions.seals(&record)?, |_| {});
        }
        let last = record.phase;
        if !last.may_become(phase) {
            return Err(VersionsError::IllegalStep { from: last, to: phase });
        }
        if let Some((reason, detail)) = why {
            record.reason = Some(reason);
            record.foreign.remove(REASON);
            detail.clone_into(&mut record.detail);
        }
        record.phase = phase;
        match phase {
            Phase::Probation => {
                (record.tries_left, record.reboots_left, record.tried_in) = (TRIES, REBOOTS, None);
                let bound = Duration::from_millis(record.bound_ms);
                record.deadline = self.versions.now().ok().map(|it| it.plus(bound));
            }
            Phase::RolledBack => self.with_room(|| act::condemn(self.fs(), self.layout(), &record))?,
            Phase::Committed => act::absolve(self.fs(), self.layout(), &record.to)?,
            _ => {}
        }
        if phase.is_terminal() && phase != Phase::Committed {
            record.ended_at = Some(last);
        }
        self.put(&record)?;
        if phase.is_terminal() {
            self.put(&record)?;
            // What is left of it takes little room, and the next attempt writes it again.
            drop(self.fs().remove(&self.layout().reserve()));
            // Else it is removed with the old versions.
            drop(trial::forget(self.fs(), self.layout()));
        }
        Ok(record)
    }

    /// Arms the version that is in place, and changes the settings of its trial: from here on the attempt is known even when
    /// the journal is lost, and what a rollback needs of the disk is reserved. One that was armed before is armed anew.
    ///
    /// The seals were taken a moment ago, so a [`Writer::switch`] under the same lock does not read the version again; the
    /// launcher does before its first start.
    ///
    /// # Errors
    /// [`VersionsError::IllegalStep`] when it is not staged; [`VersionsError::Incomplete`] when the version is not in place.
    pub fn arm(&self, seals: Seals, settings: impl FnOnce(&mut Record)) -> Result<Record, VersionsError> {
        let mut record = self.record()?;
        if record.phase != Phase::Armed && !record.phase.may_become(Phase::Armed) {
            return Err(VersionsError::IllegalStep { from: record.phase, to: Phase::Armed });
        }
        act::require_whole(self.fs(), self.layout(), &record.to)?;
        settings(&mut record);
        record.phase = Phase::Armed;
        (record.from_seal, record.to_seal) = (seals.from, Some(seals.to));
        if let Points::To(version) = links::points(self.fs(), self.layout(), Link::Previous)? {
            record.earlier = Some(version).filter(|it| *it != record.from);
        }
        let reserve = self.layout().reserve();
        self.fs().write(&reserve, &vec![b'.'; RESERVE]).map_err(FileError::at("reserve", &reserve))?;
        trial::keep(self.fs(), self.layout(), &record)?;
        self.put(&record)?;
        self.found(&record.to, Condition::AsSealed);
        Ok(record)
    }

    /// Changes the record of the attempt without a step: its settings, or what is known of it. The phase stays.
    ///
    /// # Errors
    /// [`VersionsError::NoAttempt`] when there is no record.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> Result<Record, VersionsError> {
        let mut record = self.record()?;
        let phase = record.phase;
        change(&mut record);
        record.phase = phase;
        self.put(&record)?;
        Ok(record)
    }

    /// Notes what the backend knows of an attempt that has ended, be it the latest or an earlier one. An attempt that is
    /// not known was acknowledged before: that is no error.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn tell(&self, attempt: &str, told: Told) -> Result<(), VersionsError> {
        match self.record() {
            Ok(record) if record.attempt == attempt && record.phase.is_terminal() => {
                self.update(|it| it.told = told).map(drop)
            }
            // There is nothing to tell yet.
            Ok(record) if record.attempt == attempt => Ok(()),
            _ if told == Told::Acknowledged => Ok(untold::forget(self.fs(), self.layout(), attempt)?),
            _ => Ok(()),
        }
    }

    /// The attempts that have ended and that the backend has not acknowledged, in no order.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn untold(&self) -> Result<Vec<Record>, VersionsError> {
        let mut all = untold::all(self.fs(), self.layout())?;
        let last = self.record().ok();
        all.extend(last.filter(|it| it.phase.is_terminal() && it.told != Told::Acknowledged));
        Ok(all)
    }

    /// Switches to the armed version. Afterwards it is on trial, and whoever starts the launcher runs it. Where it is not what
    /// it was when it was armed, nothing is switched and the attempt has failed.
    ///
    /// Whoever becomes the launcher next only has to [`Writer::enter`] `switched`: the launcher goes on.
    ///
    /// # Errors
    /// When a step fails. `current` then points to the old or the new version, and [`Writer::settle`] goes on.
    pub fn switch(&self) -> Result<Act, VersionsError> {
        self.enter(Phase::Switched, None)?;
        self.settle()
    }

    /// Takes a version back that is on trial, or is being switched to. Finishes also when begun before. Where there is
    /// nothing to go back to, or only what has changed since it ran, the version stays and the attempt has failed.
    ///
    /// # Errors
    /// When a step fails: [`Writer::settle`] goes on.
    pub fn roll_back(&self, reason: Reason, detail: &str) -> Result<Act, VersionsError> {
        if self.record()?.phase != Phase::RollingBack {
            self.enter(Phase::RollingBack, Some((reason, detail)))?;
        }
        self.settle()
    }

    /// The version on trial stays. It runs, so nothing has to be pointed anywhere.
    ///
    /// # Errors
    /// [`VersionsError::IllegalStep`] when none is on trial; [`VersionsError::NoCurrent`] when `current` is not it.
    pub fn commit(&self) -> Result<Record, VersionsError> {
        let record = self.record()?;
        if record.phase == Phase::Probation
            && links::points(self.fs(), self.layout(), Link::Current)? != Points::To(record.to)
        {
            return Err(VersionsError::NoCurrent { path: self.layout().link(Link::Current) });
        }
        self.enter(Phase::Committed, None)
    }

    /// The version on trial is being stopped on purpose: its start does not count as a crash. Where none is on trial,
    /// nothing is done.
    ///
    /// # Errors
    /// When the record cannot be written.
    pub fn stopped_on_purpose(&self) -> Result<(), VersionsError> {
        match self.record() {
            Ok(record) if record.phase == Phase::Probation => self.put(&record.uncounted()),
            _ => Ok(()),
        }
    }

    /// Does what is to be done, act by act, until the answer is what to run: [`Act::Run`], [`Act::Try`], which is *not*
    /// counted here, or [`Act::Nothing`].
    ///
    /// # Errors
    /// When an act fails. Done again, it goes on there.
    pub fn settle(&self) -> Result<Act, VersionsError> {
        let mut next = String::new();
        for _ in 0..MOST_ACTS {
            let seen = Seen { looked: self.looked.borrow().clone(), ..self.versions.see()? };
            match decide(&seen) {
                last @ (Act::Run(_) | Act::Try(..) | Act::Nothing) => return Ok(last),
                act => {
                    self.perform(&act, &seen)?;
                    next = format!("{act:?}");
                }
            }
        }
        Err(VersionsError::Unsettled { act: next })
    }

    /// Takes over what [`Versions::look`] found of a version shortly before this lock was taken, so that it is not read again
    /// under it: the launcher waits for the lock.
    pub fn found(&self, version: &VersionName, condition: Condition) {
        self.looked.borrow_mut().insert(version.clone(), condition);
    }

    /// As [`Versions::look`], once under this lock. What has changed is noted, and [`Writer::settle`] goes by it.
    pub fn look(&self, record: &Record, version: &VersionName) -> Option<Condition> {
        if let Some(condition) = self.looked.borrow().get(version) {
            return Some(*condition);
        }
        let condition = match self.versions.look(record, version)? {
            Ok(()) => Condition::AsSealed,
            Err(changed) => {
                self.troubles.borrow_mut().push(changed);
                Condition::Changed
            }
        };
        self.looked.borrow_mut().insert(version.clone(), condition);
        Some(condition)
    }

    /// What was found on the way and did not keep it from going on.
    pub(crate) fn take_troubles(&self) -> Vec<VersionsError> {
        self.troubles.take()
    }

    /// Counts a start of the version on trial, durably.
    pub(crate) fn count(&self, counted: &Record) -> Result<(), VersionsError> {
        self.put(counted)
    }

    fn perform(&self, act: &Act, seen: &Seen) -> Result<(), VersionsError> {
        match act {
            Act::Quarantine => Ok(journal::quarantine(self.fs(), self.layout())?),
            Act::Look(version) => {
                if let Some(record) = seen.journal.record() {
                    self.look(record, version);
                }
                Ok(())
            }
            Act::Enter(phase, reason) => {
                let why = reason.map(|it| (it, detail_of(it, seen.journal.record())));
                self.enter(*phase, why.as_ref().map(|(reason, detail)| (*reason, detail.as_str()))).map(drop)
            }
            Act::Switch(version) => {
                if let Some(from) = seen.tree.whole(&seen.links.current).filter(|it| *it != version) {
                    self.point(Link::Previous, from)?;
                }
                self.point(Link::Current, version)
            }
            Act::Point(link, version) => self.point(*link, version),
            Act::Try(..) | Act::Run(_) | Act::Nothing => Ok(()),
        }
    }

    pub(crate) fn point(&self, link: Link, version: &VersionName) -> Result<(), VersionsError> {
        self.with_room(|| act::point(self.fs(), self.layout(), link, version))
    }

    fn put(&self, record: &Record) -> Result<(), VersionsError> {
        self.with_room(|| journal::write(self.fs(), self.layout(), record))
    }

    /// Where the disk is full, gives up the reserve and tries once more.
    fn with_room<T>(&self, step: impl Fn() -> Result<T, VersionsError>) -> Result<T, VersionsError> {
        match step() {
            Err(VersionsError::File(err)) if err.is_disk_full() => {
                let reserve: PathBuf = self.layout().reserve();
                self.fs().remove(&reserve).map_err(|_| VersionsError::File(err))?;
                step()
            }
            other => other,
        }
    }
}

fn is_same_command(one: &Record, other: &Record) -> bool {
    !one.command.is_empty() && one.command == other.command
}

/// What the launcher knows about why; where a rollback was begun, with the reason for that.
fn detail_of(reason: Reason, record: Option<&Record>) -> String {
    let detail = match reason {
        Reason::CrashLoop => "the new version ended by itself at each of its starts",
        Reason::Reboots => {
            "the machine was restarted time and again before the new version had proved itself"
        }
        Reason::Missing => "the folder of the new version is not there, or not whole",
        Reason::Changed => "the files of the new version are not what they were when it was armed",
        Reason::Interfered => "somebody pointed `current` to another version meanwhile",
        Reason::RollbackImpossible => {
            "the new version failed, and there is nothing to go back to: the old one is not there, not whole, or not what \
             it was"
        }
        _ => "",
    };
    match record.and_then(|it| Some((it.reason_word()?, &it.detail))) {
        Some((first, why)) if reason == Reason::RollbackImpossible => format!("{detail} ({first}: {why})"),
        _ => detail.to_owned(),
    }
}
