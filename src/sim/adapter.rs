//! What an adapter does to reach a goal, step by step and with the time it takes.

use super::host::Task;
use super::world::{Event, World};
use crate::agent::machine::{Goal, Manner, Upstream};
use crate::model::loss::LossAccount;
use crate::model::observation::{Found, ResourceState, Setback, StopEvidence, WriteProof};
use crate::model::planted::{Bug, planted};
use crate::model::topology::Role;
use crate::model::{Lsn, Position, Span};

/// A graceful stop is forced after this.
const FAST_STOP_MAX: Span = Span::secs(15);
/// An error is looked at again after this.
const RETRY: Span = Span::millis(300);

impl World {
    pub(super) fn next_step(&mut self, host: usize, task: Task, after: Span) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.task = task;
        let (born, generation) = (agent.born, agent.generation);
        self.after(after, Event::Step { host, born, generation });
    }

    pub(super) fn adapter_step(&mut self, host: usize, born: u64, generation: u64) {
        let Some(agent) = self.hosts[host]
            .agent
            .as_ref()
            .filter(|a| a.born == born && a.generation == generation)
        else {
            return;
        };
        if self.hosts[host].node.role == Role::Witness {
            self.settle(host);
            self.agent_done(host);
            return;
        }
        let (goal, task) = (agent.goal.1.clone(), agent.task);
        match goal {
            Goal::Stopped(Manner::Kill) => self.step_kill(host, task),
            Goal::Stopped(Manner::Graceful) => self.step_stop(host, task),
            Goal::Standby { upstream, may_init } => {
                self.step_standby(host, task, upstream.as_ref(), may_init)
            }
            Goal::Sharing { units, .. } => self.step_sharing(host, task, units),
            Goal::Primary { epoch, sync } => {
                let members = sync.members.iter().filter_map(|m| self.index(&m.node)).collect();
                self.step_primary(
                    host,
                    task,
                    u32::try_from(epoch.0).unwrap_or(u32::MAX),
                    (members, sync.k),
                );
            }
        }
        self.agent_done(host);
    }

    pub(super) fn settle(&mut self, host: usize) {
        let Some(agent) = &mut self.hosts[host].agent else { return };
        agent.task = Task::Settled;
        agent.resource.settled = agent.goal.0;
        agent.resource.failure.clear();
        agent.trouble.clear();
        agent.setback = None;
        agent.report_due = true;
        self.observe(host);
    }

    pub(super) fn fail(&mut self, host: usize, why: &str) {
        let wall = self.wall();
        let primary = {
            let Some(agent) = &mut self.hosts[host].agent else { return };
            why.clone_into(&mut agent.resource.failure);
            why.clone_into(&mut agent.trouble);
            agent.setback = Some(Setback::after(agent.setback.take(), why, wall));
            agent.report_due = true;
            // A promotion is not tried twice by itself; a setting of one that is promoted already
            // is, as on PostgreSQL.
            matches!(agent.goal.1, Goal::Primary { .. }) && !self.hosts[host].db.primary
        };
        self.observe(host);
        if !primary {
            self.next_step(host, Task::Begin, RETRY);
        }
    }

    /// No process remains, and the proof of it.
    fn note_stopped(&mut self, host: usize, how: &str, killed: u32, end: Option<Position>) {
        let wall = self.wall();
        let timeline = self.hosts[host].db.history.timeline;
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let evidence = StopEvidence {
            at: wall,
            how: how.to_owned(),
            killed,
            remaining: 0,
            final_position: end,
            looked: String::new(),
        };
        agent.resource.writable = false;
        agent.resource.position = end;
        agent.resource.history = None;
        agent.resource.newest_timeline = Some(timeline);
        agent.resource.stopped = Some(evidence.clone());
        agent.resource.write_ok = None;
        agent.following = None;
        (agent.state, agent.since, agent.report_due) =
            (ResourceState::Stopped(evidence), self.now, true);
    }

    fn step_kill(&mut self, host: usize, task: Task) {
        let stopped = self.hosts[host].agent.as_ref().is_some_and(|a| a.resource.stopped.is_some());
        match task {
            Task::Begin if self.hosts[host].db.running => {
                let took = self.random.span(Span::millis(2), Span::millis(30));
                self.next_step(host, Task::Stopping(self.now), took);
            }
            _ => {
                if self.hosts[host].db.running || !stopped {
                    self.kill_by_identity(host);
                    self.note_stopped(host, "kill", 1, None);
                }
                self.settle(host);
            }
        }
    }

    fn step_stop(&mut self, host: usize, task: Task) {
        let db = &mut self.hosts[host].db;
        match task {
            _ if !db.running => {
                if self.hosts[host].agent.as_ref().is_none_or(|a| a.resource.stopped.is_none()) {
                    self.note_stopped(host, "found dead", 0, None);
                }
                self.settle(host);
            }
            Task::Stopping(since) => {
                let sent = db.senders.values().all(|s| s.flushed >= db.end) && db.flushed >= db.end;
                let late = self.now.since(since) >= FAST_STOP_MAX;
                if (sent && !db.hung) || late {
                    let end = (!late && db.primary).then(|| db.position());
                    self.kill_by_identity(host);
                    self.note_stopped(host, if late { "immediate" } else { "fast" }, 0, end);
                    self.settle(host);
                } else {
                    self.next_step(host, Task::Stopping(since), Span::millis(5));
                }
            }
            _ => {
                db.stopping = true;
                // Sessions end: commits that wait are neither confirmed nor undone.
                db.waiting.clear();
                if db.primary {
                    // The shutdown checkpoint is the last record.
                    db.append(0);
                }
                self.flush(host);
                let took = self.random.span(Span::millis(15), Span::millis(60));
                self.next_step(host, Task::Stopping(self.now), took);
            }
        }
    }

    fn step_standby(
        &mut self,
        host: usize,
        task: Task,
        upstream: Option<&Upstream>,
        may_init: bool,
    ) {
        let known = upstream.and_then(|u| u.history.as_ref());
        if self.is_foreign(host, upstream) {
            // Neither started, nor rewound, nor replaced.
            if !self.hosts[host].db.running {
                self.note_stopped(host, "not started: another cluster's data", 0, None);
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.resource.deaf = true;
                    agent.resource.stopped = None;
                }
            }
            return self.fail(host, "another cluster's data is here; nothing of it is touched");
        }
        if self.hosts[host].db.running && self.hosts[host].db.primary {
            // An old role is never trusted.
            self.kill_by_identity(host);
            self.note_stopped(host, "ran as primary without a lease", 1, None);
            self.fail(host, "it ran as primary without a lease; stopped");
            return;
        }
        if !self.hosts[host].db.running {
            return self.step_start(host, task, upstream, may_init);
        }
        if self.hosts[host].db.hung {
            return self.fail(host, "the database does not answer");
        }
        match (task, upstream) {
            (Task::Cutting, None) => self.settle(host),
            (_, None) => {
                self.disconnect(host);
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.following = None;
                    agent.resource.stopped = None;
                }
                let took = self.random.span(Span::millis(10), Span::millis(25));
                self.next_step(host, Task::Cutting, took);
            }
            (_, Some(upstream)) => {
                let position = self.hosts[host].db.position();
                let apart = self.hosts[host].stray || self.hosts[host].unknown_log;
                if known.is_some_and(|h| apart || !h.continues(position)) {
                    if self.source(host, upstream).is_none() {
                        return self.fail(host, "the source of the rebuild is not reachable");
                    }
                    // Stopped, rewound, started again.
                    self.kill_database(host);
                    self.next_step(host, Task::Begin, Span::millis(50));
                    return;
                }
                if let Some(agent) = &mut self.hosts[host].agent {
                    agent.following = Some(upstream.node.clone());
                    agent.resource.stopped = None;
                }
                if let Some(from) = self.index(&upstream.node) {
                    self.follow(host, from);
                }
                self.settle(host);
            }
        }
    }

    /// The server does not run: made, cloned, rewound or just started.
    fn step_start(&mut self, host: usize, task: Task, upstream: Option<&Upstream>, may_init: bool) {
        let known = upstream.and_then(|u| u.history.as_ref());
        let has_data = self.hosts[host].db.has_data;
        if self.hosts[host].disk.full {
            return self.fail(host, "could not start: no space left on device");
        }
        if self.hosts[host].disk.broken {
            return self.fail(host, "could not start: input/output error");
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.resource.deaf = upstream.is_none();
        }
        if task == Task::Starting {
            self.hosts[host].db.start();
            if let Some(agent) = &mut self.hosts[host].agent {
                agent.resource.stopped = None;
                agent.resource.writable = false;
                agent.resource.deaf = false;
            }
            return self.next_step(host, Task::Begin, Span::millis(5));
        }
        if task == Task::Rebuilding {
            let Some(source) = upstream.and_then(|u| self.source(host, u)) else {
                return self.fail(host, "the source of the rebuild is not reachable");
            };
            self.rebuild(host, source);
            let took = self.random.span(Span::millis(50), Span::millis(250));
            return self.next_step(host, Task::Starting, took);
        }
        let begin_rebuild = |world: &mut Self, host: usize, least: u64, most: u64| {
            if let Some(agent) = &mut world.hosts[host].agent {
                (agent.state, agent.report_due) = (ResourceState::Rebuilding, true);
            }
            let took = world.random.span(Span::millis(least), Span::millis(most));
            world.next_step(host, Task::Rebuilding, took);
        };
        if !has_data {
            return match known {
                Some(_) => begin_rebuild(self, host, 800, 2_500),
                None if may_init => {
                    let db = &mut self.hosts[host].db;
                    db.has_data = true;
                    (db.end, db.flushed) = (Lsn(0x0100_0000), Lsn(0x0100_0000));
                    db.log.push(super::database::Entry { end: db.end, timeline: 1, write: 0 });
                    let took = self.random.span(Span::millis(400), Span::millis(900));
                    self.next_step(host, Task::Starting, took);
                }
                None => {
                    // Nothing to run yet: waits for somebody to clone.
                    self.note_stopped(host, StopEvidence::NOTHING, 0, None);
                    if let Some(agent) = &mut self.hosts[host].agent {
                        agent.resource.stopped = None;
                    }
                    self.settle(host);
                }
            };
        }
        self.hosts[host].unknown_log = !self.is_known_log(host);
        let position = self.hosts[host].db.position();
        let apart = self.hosts[host].stray || self.hosts[host].unknown_log;
        let forked = known.is_some_and(|h| apart || !h.continues(position));
        if forked && upstream.is_some_and(|u| self.source(host, u).is_some()) {
            return begin_rebuild(self, host, 250, 1_200);
        }
        if let Some(agent) = &mut self.hosts[host].agent {
            (agent.state, agent.report_due) = (ResourceState::Starting, true);
        }
        let took = self.random.span(Span::millis(50), Span::millis(250));
        self.next_step(host, Task::Starting, took);
    }

    /// The data here is not that of the cluster that the voter, or the one to follow, answers for.
    fn is_foreign(&self, host: usize, upstream: Option<&Upstream>) -> bool {
        let here = &self.hosts[host];
        let expected = upstream.and_then(|u| u.system).or(here.record.data.system);
        let other = expected.is_some_and(|expected| expected != here.db.system);
        here.db.has_data && other && !planted(Bug::NoMark)
    }

    /// The primary to rebuild from, if it answers.
    fn source(&self, host: usize, upstream: &Upstream) -> Option<usize> {
        self.index(&upstream.node).filter(|s| {
            let there = &self.hosts[*s];
            let up = there.answers() && there.db.running && !there.db.hung && there.db.primary;
            up && self.net.passes(host, *s) && self.net.passes(*s, host)
        })
    }

    /// Rewound to where the logs part, or cloned where they share nothing; then everything the
    /// source has on disk.
    fn rebuild(&mut self, host: usize, source: usize) {
        let from = self.hosts[source].db.clone();
        let (stray, known) = (self.hosts[host].stray, self.is_known_log(host));
        let db = &mut self.hosts[host].db;
        // A stray is cloned: its line may bear the number of another.
        let shares = db.has_data && !stray && known;
        let fork = db.fork_from(&from.history).filter(|_| shares).unwrap_or(Lsn(0));
        db.cut_log(fork);
        let keep = from.log.partition_point(|e| e.end <= db.end);
        // What is before the fork is the same in both; a clone takes all of it.
        if fork == Lsn(0)
            || db.log.last().map(|e| e.end) != from.log.get(keep.wrapping_sub(1)).map(|e| e.end)
        {
            db.log.clone_from(&from.log);
        } else {
            db.log.extend_from_slice(&from.log[keep..]);
        }
        db.has_data = true;
        db.rebuilt += 1;
        db.history = from.history;
        db.end = from.end;
        db.cut_log(from.flushed);
        db.flushed = db.end;
        self.hosts[host].durable_log = self.hosts[host].db.end;
        (self.hosts[host].stray, self.hosts[host].unknown_log) = (false, false);
        let text =
            format!("rebuilt from {} up to {}", self.name(source), self.hosts[host].db.position());
        let name = self.name(host);
        self.fact(name, 0, text);
    }

    fn step_primary(&mut self, host: usize, task: Task, timeline: u32, sync: (Vec<usize>, usize)) {
        let (least, most) = self.conditions.promotion;
        let db = &mut self.hosts[host].db;
        if !db.running || db.hung {
            return self.fail(host, "the database is not running, so it cannot be promoted");
        }
        if db.primary {
            if let Task::Confirming(end) = task {
                let (members, k) = &db.sync;
                let have = members
                    .iter()
                    .filter(|m| db.senders.get(m).is_some_and(|s| s.flushed >= end))
                    .count();
                if have >= *k && db.flushed >= end {
                    self.settle(host);
                    return self.confirm(host);
                }
                return self.next_step(host, task, Span::millis(10));
            }
            let changed = db.sync != sync;
            db.sync = sync;
            if let Some(agent) = &mut self.hosts[host].agent {
                agent.resource.stopped = None;
            }
            if changed {
                let end = self.hosts[host].db.append(0);
                self.flush(host);
                return self.next_step(host, Task::Confirming(end), Span::millis(5));
            }
            self.settle(host);
            return self.confirm(host);
        }
        if task != Task::Promoting {
            let took = self.random.span(least, most);
            return self.next_step(host, Task::Promoting, took);
        }
        if db.history.timeline >= timeline {
            return self.fail(host, "its timeline is not older than the epoch");
        }
        self.disconnect(host);
        let db = &mut self.hosts[host].db;
        db.sync = sync;
        db.promote(timeline);
        db.cancelled = 0;
        let name = self.name(host);
        self.oracle.wrote(self.now, name.as_str(), timeline);
        let armed = self.hosts[host]
            .agent
            .as_ref()
            .and_then(|a| a.machine.armed())
            .filter(|a| a.epoch.is_some_and(|e| e.0 == u64::from(timeline)));
        let (account, fence) = armed.map_or((None, None), |a| (a.loss, a.fence));
        // A former holder that takes the role back after an override says "unknown", and two
        // persons accepted that.
        let overridden = self.hosts[host].record.unknown_accepted;
        let account = account.or_else(|| {
            overridden
                .then(|| LossAccount::Unknown { why: "voters were removed by override".into() })
        });
        let db = self.hosts[host].db.clone();
        self.oracle.promoted(self.now, name.as_str(), &db, account.as_ref(), fence);
        self.check_fenced(host, fence);
        self.fact(name, 0, format!("accepts writes on timeline {timeline}"));
        self.settle(host);
        self.check_overlap(host);
    }

    /// The server's processes are gone and the adapter notices.
    pub(super) fn adapter_died(&mut self, host: usize, born: u64) {
        let Some(agent) = self.hosts[host].agent.as_ref().filter(|a| a.born == born) else {
            return;
        };
        if self.hosts[host].db.running
            || agent.resource.stopped.is_some()
            || matches!(agent.task, Task::Starting | Task::Rebuilding)
        {
            return;
        }
        let goal = agent.goal.1.clone();
        let how = if matches!(goal, Goal::Stopped(_)) { "stopped" } else { "found dead" };
        self.note_stopped(host, how, 0, None);
        self.observe(host);
        if matches!(goal, Goal::Standby { .. } | Goal::Sharing { .. }) {
            self.next_step(host, Task::Begin, Span::millis(200));
        }
        self.agent_done(host);
    }

    /// It is proved to be the log that this node had.
    fn is_known_log(&self, host: usize) -> bool {
        let here = &self.hosts[host];
        let mark = &here.durable_record.data;
        let Some(had) = mark.print.filter(|_| !mark.pardoned && !planted(Bug::AnyLog)) else {
            return true;
        };
        here.db.print(had.at.lsn).is_some_and(|print| print.hash == had.hash)
    }

    /// Once of every server that was started: is its log the one that this node had?
    pub(super) fn compare_log(&mut self, host: usize) {
        let here = &mut self.hosts[host];
        let (db, Some(had)) = (&here.db, here.durable_record.data.print) else { return };
        let comparable = db.running && db.history.continues(had.at) && db.flushed >= had.at.lsn;
        if here.compared == db.starts || !comparable || planted(Bug::AnyLog) {
            return;
        }
        here.compared = db.starts;
        let differs = db.print(had.at.lsn).is_some_and(|print| print.hash != had.hash);
        let differs = differs || here.unknown_log;
        here.stray |= differs && !here.durable_record.data.pardoned;
    }

    /// A database found writable under any goal but primary, or under that one without being what
    /// this agent opened, is stopped at once.
    pub(super) fn mind_stray(&mut self, host: usize) {
        let here = &self.hosts[host];
        let (db, Some(agent)) = (&here.db, &here.agent) else { return };
        if db.running && db.unlinked && planted(Bug::StoppedByPath) {
            // No process has that working directory, as far as its path tells.
            if agent.resource.stopped.is_none() {
                self.note_stopped(host, "found dead", 0, None);
            }
            return;
        }
        let allowed = match &agent.goal.1 {
            Goal::Primary { .. } => !db.by_hand,
            Goal::Stopped(Manner::Graceful) => db.stopping || !db.by_hand,
            // On its way already.
            Goal::Stopped(Manner::Kill) => agent.task != Task::Settled,
            Goal::Sharing { .. } => true,
            Goal::Standby { .. } => false,
        };
        // One that a person started as a standby is not adopted: its settings are not the agent's.
        let strange = db.by_hand && !db.primary && agent.task == Task::Settled;
        if !db.running || !(db.primary && !allowed || strange) || planted(Bug::LeavesStrays) {
            return;
        }
        let (how, what) = if strange {
            ("started by somebody else", "a server that this agent did not start ran here")
        } else {
            ("ran writable without a lease", "its database accepted writes without a lease")
        };
        self.hosts[host].stray |= !strange;
        self.kill_by_identity(host);
        self.note_stopped(host, how, 1, None);
        let at = self.wall();
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.found.push(Found { at, what: what.into(), done: "stopped".into() });
        }
        let name = self.name(host);
        let said = if strange { what } else { "found writable without a lease: stopped" };
        self.fact(name, 0, said);
        if matches!(self.hosts[host].agent.as_ref().map(|a| &a.goal.1), Some(Goal::Standby { .. }))
        {
            self.next_step(host, Task::Begin, Span::millis(200));
        }
    }

    /// Kills what the host's own notes say is the server: its processes, by who they are.
    pub(super) fn kill_by_identity(&mut self, host: usize) {
        if !(self.hosts[host].db.unlinked && planted(Bug::StoppedByPath)) {
            self.kill_database(host);
        }
    }

    /// Every process of the server is gone, at once.
    pub(super) fn kill_database(&mut self, host: usize) {
        self.hosts[host].db.kill();
        self.hosts[host].loose = false;
        if self.hosts[host].db.unlinked {
            self.forget_data(host);
        }
        // Whoever was connected sees the connection end, if the network lets it.
        for other in 0..self.hosts.len() {
            if other == host {
                continue;
            }
            let reached = self.net.passes(host, other);
            let db = &mut self.hosts[other].db;
            db.senders.remove(&host);
            if reached && db.receiver.is_some_and(|r| r.from == host) {
                self.stream_ended(other, RETRY);
            }
        }
        if let Some(born) = self.hosts[host].agent.as_ref().map(|a| a.born) {
            let after = self.random.span(Span(500_000), Span::millis(4));
            self.after(after, Event::Died { host, born });
        }
    }

    /// Commits a real write and reads it back, once commits can be confirmed.
    pub(super) fn prove(&mut self, host: usize, asked: String) {
        let wall = self.wall();
        let here = &mut self.hosts[host];
        let k = here.db.sync.1;
        let works = here.db.running && here.db.primary && !here.db.hung && !here.disk.full;
        let confirmed =
            here.db.sync.0.iter().filter(|m| here.db.senders.contains_key(m)).count() >= k;
        let corrupt = here.disk.corrupt;
        let Some(agent) = &mut here.agent else { return };
        let (Goal::Primary { epoch, .. } | Goal::Sharing { epoch, .. }) = agent.goal.1 else {
            return;
        };
        if corrupt {
            agent.trouble = "the write read back is not what was written".into();
        } else if works && confirmed {
            self.proved_at = self.now;
            agent.proof = Some(WriteProof { epoch, took: Span::millis(3), at: wall, asked });
        } else {
            agent.trouble = "the write was not confirmed".into();
        }
        agent.report_due = true;
    }
}
