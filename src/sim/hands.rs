//! What people, volumes and settings do to a node behind its agent's back.

use serde::Deserialize;

use super::database::{Database, Entry, SYSTEM, WRITE_BYTES};
use super::host::Task;
use super::world::{Event, World};
use crate::model::topology::Role;
use crate::model::{Lsn, Position, Span};

/// Which data a node finds in place of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// A database of another cluster, further than this one on the same timeline.
    OtherCluster,
    /// An older copy of its own.
    OlderBackup,
    /// An older copy of its own that somebody ran by hand, on the same timeline, until its log was
    /// longer than what it replaces.
    RunByHand,
}

/// A setting that a person changes under the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// `synchronous_commit = off`.
    SynchronousCommit,
    /// `synchronous_standby_names = ''`.
    SynchronousStandbyNames,
    /// `fsync = off`.
    Fsync,
}

impl Setting {
    /// Its name in the server.
    pub fn name(self) -> &'static str {
        match self {
            Setting::SynchronousCommit => "synchronous_commit",
            Setting::SynchronousStandbyNames => "synchronous_standby_names",
            Setting::Fsync => "fsync",
        }
    }
}

/// A restarted agent is there again after this.
const RESTART: Span = Span::millis(150);

impl World {
    /// Nobody does anything on a host that is off or stands still; where several nodes accept writes
    /// none of this is played.
    fn reaches_hand(&self, host: usize) -> bool {
        self.hosts[host].answers() && !self.has_several_writers()
    }

    /// `pg_promote()`, `pg_ctl promote`: the standby takes the next timeline.
    pub(super) fn promote_by_hand(&mut self, host: usize) {
        let db = &self.hosts[host].db;
        if !db.running || db.hung || db.primary || !self.reaches_hand(host) {
            return;
        }
        self.disconnect(host);
        let (others, k) = self.configured_sync(host);
        let here = &mut self.hosts[host];
        here.by_hand_at = self.now;
        here.db.sync = (others, k);
        let next = here.db.history.timeline + 1;
        here.db.promote(next);
        here.db.by_hand = true;
        let text = format!("promoted by hand: writable on timeline {next}");
        let name = self.name(host);
        self.fact(name, 0, text);
    }

    /// `pg_ctl start`, a unit that was left enabled: a former primary comes up writable.
    pub(super) fn start_by_hand(&mut self, host: usize) {
        let db = &self.hosts[host].db;
        if db.running || !db.has_data || !self.reaches_hand(host) {
            return;
        }
        let (others, k) = self.configured_sync(host);
        let here = &mut self.hosts[host];
        let writable = !here.db.is_standby;
        here.by_hand_at = self.now;
        here.db.start();
        here.db.primary = writable;
        here.db.by_hand = true;
        if writable {
            here.db.is_standby = false;
            here.db.sync = (others, k);
        }
        let how = if writable { "writable" } else { "as a standby" };
        let name = self.name(host);
        self.fact(name, 0, format!("its database is started by hand, {how}"));
    }

    /// What the files on that host say of the synchronous set.
    fn configured_sync(&self, host: usize) -> (Vec<usize>, usize) {
        let others: Vec<usize> = (0..self.hosts.len())
            .filter(|i| *i != host && self.hosts[*i].node.role != Role::Witness)
            .collect();
        let k = self.cluster.synchronous_standbys.min(others.len());
        (others, k)
    }

    /// The agent's process ends and its successor starts at once; its database goes on.
    pub(super) fn restart_agent(&mut self, host: usize) {
        if self.hosts[host].agent.take().is_some() {
            self.hosts[host].inbox.clear();
            self.hosts[host].frozen = false;
            self.note_loose(host);
            self.after(RESTART, Event::AgentStart { host });
        }
    }

    /// Somebody stops the database and puts another in its place.
    pub(super) fn replace_data(&mut self, host: usize, with: Replacement) {
        let here = &self.hosts[host];
        // A volume is restored under a host that is off, too.
        if here.node.role == Role::Witness || here.paused || self.has_several_writers() {
            return;
        }
        self.kill_database(host);
        let db = &mut self.hosts[host].db;
        match with {
            Replacement::OtherCluster => {
                // As far as its numbers tell, it is ahead of everybody.
                let (history, end) = (db.history.clone(), Lsn(db.end.0 + 500 * WRITE_BYTES));
                let log = vec![Entry { end, timeline: history.timeline, write: 0 }];
                *db = Database {
                    has_data: true,
                    system: SYSTEM + 1,
                    history,
                    log,
                    end,
                    flushed: end,
                    starts: db.starts,
                    rebuilt: db.rebuilt,
                    is_standby: false,
                    ..Database::empty()
                };
            }
            Replacement::OlderBackup | Replacement::RunByHand => {
                let keep = db.log.len() / 2;
                let (was, timeline) = (db.end, db.history.timeline);
                let end = db.log.get(keep.saturating_sub(1)).map_or(db.end, |e| e.end);
                db.cut_log(end);
                let same_line = db.log.last().is_some_and(|e| e.timeline == timeline);
                if with == Replacement::RunByHand && same_line {
                    // It may end before, at or after the end of what it replaces.
                    let most = (was.0 - end.0) / WRITE_BYTES + 10;
                    for _ in 0..=self.random.below(most) {
                        db.append(0);
                    }
                }
                let timeline = db.log.last().map_or(db.history.timeline, |e| e.timeline);
                while db.history.timeline > timeline {
                    match db.history.left.pop() {
                        Some((before, _)) => db.history.timeline = before,
                        None => db.history.timeline = timeline,
                    }
                }
                db.flushed = db.end;
                self.note_within_the_mark(host, end);
            }
        }
        self.hosts[host].durable_log = self.hosts[host].db.end;
        (self.hosts[host].stray, self.hosts[host].unknown_log) = (false, false);
        let text = format!("its data is another now, up to {}", self.hosts[host].db.position());
        let name = self.name(host);
        self.fact(name, 0, text);
    }

    /// A copy that is not older than the mark is not found out (docs/safety.md): what was
    /// acknowledged after it is outside of every account.
    fn note_within_the_mark(&mut self, host: usize, kept: Lsn) {
        let here = &self.hosts[host];
        let mark = &here.durable_record.data;
        let at = |lsn| Position { timeline: here.db.history.timeline, lsn };
        let differs =
            mark.print.is_some_and(|print| print.at > at(kept) && print.at <= at(here.db.end));
        if !differs && mark.high.is_none_or(|mark| mark <= at(here.db.end)) {
            self.oracle.excuse(&here.db);
        }
    }

    /// A person's change of a setting, and its correction.
    pub(super) fn set_wrong(&mut self, host: usize, setting: Setting, wrong: bool) {
        let since = wrong.then_some(self.now);
        let settings = &mut self.hosts[host].db.wrong;
        let slot = match setting {
            Setting::SynchronousCommit => &mut settings.commit,
            Setting::SynchronousStandbyNames => &mut settings.names,
            Setting::Fsync => &mut settings.fsync,
        };
        *slot = if wrong { slot.or(since) } else { None };
        self.confirm(host);
    }

    /// The directory of a running server is renamed: its processes go on with what they have open.
    pub(super) fn move_data_away(&mut self, host: usize) {
        let db = &mut self.hosts[host].db;
        if db.running {
            db.unlinked = true;
        } else {
            self.forget_data(host);
        }
    }

    /// The configuration names another volume: agent and database stop, and the agent starts with
    /// it. The same data is found there.
    pub(super) fn move_volume(&mut self, host: usize) {
        self.kill_database(host);
        self.hosts[host].volume += 1;
        self.restart_agent(host);
    }

    /// Nothing is left of the data that a path would lead to.
    pub(super) fn forget_data(&mut self, host: usize) {
        let db = &mut self.hosts[host].db;
        let (starts, rebuilt, wrong) = (db.starts, db.rebuilt, db.wrong);
        *db = Database { starts, rebuilt, wrong, ..Database::empty() };
        self.hosts[host].durable_log = Lsn(0);
        self.hosts[host].stray = false;
        self.note_all_gone();
    }

    /// No copy is left anywhere: what was acknowledged is nowhere.
    pub(super) fn note_all_gone(&mut self) {
        self.oracle.forgiven |= self.hosts.iter().all(|h| !h.db.has_data);
    }

    /// A person looks after what others left behind: data that is not this cluster's is moved away,
    /// settings are as they were, guards start again.
    pub(super) fn tidy(&mut self) {
        for host in 0..self.hosts.len() {
            self.hosts[host].can_guard = true;
            for setting in
                [Setting::SynchronousCommit, Setting::SynchronousStandbyNames, Setting::Fsync]
            {
                self.set_wrong(host, setting, false);
            }
            let db = &self.hosts[host].db;
            if db.has_data && db.system != SYSTEM && !db.primary {
                self.kill_database(host);
                self.forget_data(host);
                self.adapter_begins(host);
            }
        }
    }

    /// The adapter looks at its goal anew.
    fn adapter_begins(&mut self, host: usize) {
        let idle = self.hosts[host].agent.as_ref().is_some_and(|a| a.task == Task::Settled);
        if idle {
            self.next_step(host, Task::Begin, Span::millis(200));
        }
    }
}
