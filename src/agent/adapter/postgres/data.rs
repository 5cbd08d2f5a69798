//! Which data is here: the system identifier, the line, and whether it ever went its own way. A
//! database that is found writable without a lease is stopped at once, and marked: its log may bear
//! the number of a line that somebody else wrote.

use std::path::{Path, PathBuf};

use super::files::{self, Control};
use super::sql::StandbyLook;
use super::stop::STARTED_BY_OTHERS;
use super::{Done, Driver, failed, reset};
use crate::agent::host;
use crate::agent::machine::{Goal, Upstream};
use crate::model::observation::{Found, ResourceState, StopEvidence};
use crate::model::{DataFound, Lsn, Position, TimelineHistory};

/// Inside the data directory of a database that was writable without a lease; a clone or rewind
/// takes it away with the data.
fn stray_mark(data_dir: &Path) -> PathBuf {
    data_dir.join("quorate.stray")
}

/// The first eight bytes of the control file are the system identifier, in every version
/// (`pg_control.h`, in the machine's byte order).
pub fn system_identifier(data_dir: &Path) -> Option<u64> {
    use std::io::Read as _;
    let mut bytes = [0; 8];
    let mut file = std::fs::File::open(data_dir.join("global/pg_control")).ok()?;
    file.read_exact(&mut bytes).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// Whether the control file says that the database is open for writing: `DBState`, at the same place
/// in every version (`pg_control.h`). A server says so before it takes its first write.
pub(in crate::agent) fn is_in_production(data_dir: &Path) -> bool {
    use std::os::unix::fs::FileExt as _;
    const STATE: u64 = 16;
    const IN_PRODUCTION: i32 = 6;
    let mut bytes = [0; 4];
    let file = std::fs::File::open(data_dir.join("global/pg_control"));
    let read = file.and_then(|file| file.read_exact_at(&mut bytes, STATE));
    read.is_ok() && i32::from_ne_bytes(bytes) == IN_PRODUCTION
}

impl Driver {
    /// No look succeeds: whether the server is open for writing needs none. `admits`: it answers as
    /// one does that has long replaced what the server before it left in the control file.
    pub(super) fn judge_unseen(&mut self, admits: bool) {
        let Some((pid, _)) = &self.exit else { return };
        let current = admits || self.recovering == Some(*pid);
        if current && !self.resource.writable && is_in_production(&self.setup.config.data_dir) {
            self.resource.writable = true;
            self.state(ResourceState::Primary);
        }
    }

    /// What is on the disk now; the flushed end is the look's matter.
    pub(super) fn find_data(&mut self) {
        let data_dir = &self.setup.config.data_dir;
        let mark = stray_mark(data_dir);
        if self.expected.borrow().pardoned && mark.exists() {
            // Two persons signed that this is the history, stray or not.
            match std::fs::remove_file(&mark) {
                Ok(()) => tracing::warn!("pardoned by two persons: {}", mark.display()),
                Err(error) => tracing::error!("{}: {error}", mark.display()),
            }
        }
        let known = &self.resource.data;
        self.resource.data = DataFound {
            system: system_identifier(data_dir),
            line: files::newest_timeline(data_dir).map(|t| files::history(data_dir, t)),
            stray: mark.exists(),
            flushed: known.flushed,
            print: known.print,
            rebuilt: known.rebuilt,
        };
    }

    /// A record boundary up to which a primary's log is on disk: where it inserted at the look
    /// before, once that is flushed.
    pub(super) fn note_flushed(&mut self, timeline: u32, inserted: Lsn, flushed: Lsn) {
        let before = self.inserted.replace(Position { timeline, lsn: inserted });
        if let Some(before) = before.filter(|b| b.timeline == timeline && b.lsn <= flushed) {
            self.resource.data.flushed = Some(before);
            self.take_print();
        }
    }

    /// The data was rewound or cloned: it is another now.
    pub(super) fn note_rebuilt(&mut self) -> Done {
        let mark = stray_mark(&self.setup.config.data_dir);
        if mark.exists() {
            std::fs::remove_file(mark)?;
        }
        self.resource.data.rebuilt += 1;
        (self.resource.data.flushed, self.resource.data.print) = (None, None);
        self.prints.rebuilt(&self.setup.config.data_dir, self.expected.borrow().print);
        self.find_data();
        Ok(())
    }

    /// Another cluster's data is neither started, nor rewound, nor replaced.
    pub(super) fn refuse_foreign(&mut self, upstream: Option<&Upstream>) -> Done {
        self.find_data();
        let expected = upstream.and_then(|u| u.system).or(self.expected.borrow().system);
        let (Some(found), Some(expected)) = (self.resource.data.system, expected) else {
            return Ok(());
        };
        if found == expected {
            return Ok(());
        }
        let fault = crate::model::DataFault::AnotherSystem { found, expected };
        let dir = self.setup.config.data_dir.display().to_string();
        if self.exit.is_none() {
            let evidence = StopEvidence {
                at: host::wall(),
                how: "not started: another cluster's data".into(),
                killed: 0,
                remaining: 0,
                looked: String::new(),
                final_position: None,
            };
            self.resource.deaf = true;
            self.resource.writable = false;
            self.resource.position = None;
            self.state(ResourceState::Stopped(evidence));
        }
        failed(format!("{dir} holds {fault}"))
    }

    /// Whether a line here bears a number of that history and is another.
    fn is_another_line(&self, history: &TimelineHistory) -> bool {
        let Some(line) = &self.resource.data.line else { return false };
        let same_number =
            line.timeline == history.timeline || history.left_at(line.timeline).is_some();
        let same_branches = line.left.iter().all(|(t, at)| history.left_at(*t) == Some(*at));
        same_number && !same_branches
    }

    /// Whether following that history takes a clone: `pg_rewind` compares the timelines of the last
    /// checkpoints, so it sees nothing to do where a line has the number of another, or where its
    /// first checkpoint never came (pg_rewind.c, `main`).
    pub(super) fn must_be_cloned(&mut self, history: &TimelineHistory, control: &Control) -> bool {
        let known = !self.prints.unknown && self.is_known_log();
        let data = &self.resource.data;
        let behind = |l: &TimelineHistory| l.timeline != control.checkpoint.timeline;
        data.stray
            || self.is_another_line(history)
            || data.line.as_ref().is_some_and(behind)
            || !known
    }

    /// Whether the data here is on the way of that history.
    pub(super) fn fits(&self, history: &TimelineHistory, position: Position) -> bool {
        !self.is_apart(history) && history.continues(position)
    }

    /// Its data went another way, wherever its log ends.
    pub(super) fn is_apart(&self, history: &TimelineHistory) -> bool {
        self.resource.data.stray || self.is_another_line(history)
    }

    /// What was ordered against what is found, at every look. True when the goal has to be reached
    /// again.
    pub(super) async fn keep_order(&mut self, goal: &Goal) -> bool {
        match goal {
            Goal::Standby { .. } if self.resource.writable => {
                self.stop_stray("it accepted writes without a lease (promoted or started by hand)")
                    .await;
                true
            }
            // What it wrote meanwhile continues its own log: whether that counts is the line's
            // matter.
            Goal::Stopped(_)
                if self.exit.is_none()
                    && host::postmaster(&self.setup.config.data_dir).is_some() =>
            {
                self.stop_found(STARTED_BY_OTHERS).await;
                false
            }
            Goal::Primary { epoch, .. } if self.resource.writable => {
                let found = self.facts.position.timeline;
                let accepted = self.expected.borrow().line.as_ref().map(|l| l.timeline);
                let right = u64::from(found) == epoch.0 || accepted.is_none_or(|t| t == found);
                if !right {
                    let why = format!(
                        "it accepts writes on timeline {found}, which epoch {epoch} did not open"
                    );
                    self.stop_stray(&why).await;
                }
                false
            }
            Goal::Standby { .. }
                if self.exit.is_none()
                    && host::postmaster(&self.setup.config.data_dir).is_some() =>
            {
                self.stop_found("a server that this agent did not start (or not record) runs here")
                    .await;
                true
            }
            Goal::Standby { .. }
            | Goal::Stopped(_)
            | Goal::Primary { .. }
            | Goal::Sharing { .. } => false,
        }
    }

    /// On the way to a goal nothing else looks.
    pub(super) async fn stop_if_promoted(&mut self, look: &StandbyLook) -> Done {
        if look.recovery {
            return Ok(());
        }
        let why = "it accepted writes without a lease (promoted by hand on its way to a goal)";
        self.stop_stray(why).await;
        failed(why)
    }

    /// Marks it first: whatever happens next, what it has is not the cluster's history.
    pub(super) async fn stop_stray(&mut self, why: &str) {
        self.mark_stray(why);
        self.stop_found(why).await;
    }

    fn mark_stray(&mut self, why: &str) {
        let mark = stray_mark(&self.setup.config.data_dir);
        // One that was opened but never wrote is a stray too: nobody can tell.
        if let Err(error) =
            host::write_durably(&mark, &format!("{}: {why}\n", host::wall().rfc3339()))
        {
            tracing::error!("{}: {error}", mark.display());
        }
    }

    /// A data directory that is not run now, but was opened for writing by somebody else since this
    /// node was a standby.
    pub(super) async fn mark_if_opened(&mut self) -> Done {
        let data_dir = self.setup.config.data_dir.clone();
        self.find_data();
        let pardoned = self.expected.borrow().pardoned;
        if self.resource.data.stray || pardoned || data_dir.join("backup_label").exists() {
            return Ok(());
        }
        let (line, own) = {
            let expected = self.expected.borrow();
            (expected.line.as_ref().map(|l| l.timeline), expected.own)
        };
        // Before anybody wrote anything there is nothing to go apart from.
        if line.is_none() {
            return Ok(());
        }
        if let Some(at) = reset::begun_anew(&data_dir) {
            self.give_up_line(format!(
                "its log was begun anew at {at} (pg_resetwal): what was in it before is gone, and \
                 what it has is not taken for the cluster's history"
            ));
            return Ok(());
        }
        let control = Control::read(&self.setup.programs, &data_dir).await?;
        // By its log, not by its last checkpoint: that comes minutes after a promotion, its own or
        // one by hand.
        let newest = self.resource.data.line.as_ref().map(|l| l.timeline);
        let wrote = own.is_some() && own == newest;
        if !control.was_standby() && !wrote {
            self.give_up_line(format!(
                "it was opened for writing, and not by this node as holder (its control file says \
                 {:?} on timeline {}; run by hand, or a backup of a primary): what it has is not \
                 taken for the cluster's history",
                control.state,
                newest.unwrap_or(control.checkpoint.timeline)
            ));
        }
        Ok(())
    }

    pub(super) fn give_up_line(&mut self, why: String) {
        tracing::error!("{why}");
        self.mark_stray(&why);
        self.note_found(why, "kept as a fork when it is rebuilt".into());
        self.find_data();
    }

    pub(super) async fn stop_found(&mut self, why: &str) {
        let data_dir = self.setup.config.data_dir.clone();
        let timeline = files::newest_timeline(&data_dir).unwrap_or_default();
        tracing::error!("{why}: stopping it");
        self.resource.stopped = None;
        let how = format!("stopped at once: {why}");
        let done = match self.kill(&how).await {
            Ok(()) => {
                "stopped at once; log that goes apart is kept as a fork when it is rebuilt".into()
            }
            Err(failure) => {
                self.facts.trouble = format!("{why}, and it cannot be stopped: {}", failure.0);
                format!("NOT stopped: {}", failure.0)
            }
        };
        let what = format!("{why}; timeline {timeline}");
        // One that cannot be stopped is found again at every look, and is one thing.
        let last = self.facts.found.last();
        let again = self.exit.is_some() || self.resource.stopped.is_none();
        if !(again && last.is_some_and(|f| f.what == what && f.done == done)) {
            self.note_found(what, done);
        }
        self.find_data();
    }

    /// For the report, and so for the audit.
    pub(super) fn note_found(&mut self, what: String, done: String) {
        let at = host::wall();
        self.facts.found.push(Found { at, what, done });
        let surplus = self.facts.found.len().saturating_sub(FOUND_MAX);
        self.facts.found.drain(..surplus);
    }

    /// The log of a line that a rebuild would erase, though it bears a number of the history that is
    /// followed.
    pub(super) fn keep_stray(&mut self, control: &Control) -> Done {
        let Some(line) = self.resource.data.line.clone() else { return Ok(()) };
        let from = line.left.last().map_or(Lsn(0), |(_, at)| *at);
        let (dir, forks) = (&self.setup.config.data_dir, self.fork_folder()?);
        let (folder, count) =
            files::keep_fork(dir, &forks, line.timeline, from, control.segment_bytes)?;
        tracing::warn!("kept {count} log segments of a stray line in {}", folder.display());
        let end = self.resource.position.filter(|p| p.timeline == line.timeline).map(|p| p.lsn);
        self.note_given_up(line.timeline, from, end, &folder, count);
        Ok(())
    }
}

/// Differences between what was ordered and what was found that a report carries.
const FOUND_MAX: usize = 8;
